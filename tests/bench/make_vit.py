#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes ViTForImageClassification checkpoints with random weights for the benchmarks: any size, nothing but numpy.

    make_vit.py OUT SIZE SEED        SIZE: test, wide (more of everything), small (ViT-S/16), base (ViT-B/16)
"""
import json
import os
import sys

import numpy as np

# width, layers, heads, hidden units, image, patch, channels, classes
SIZES = {
    "test": (64, 4, 4, 128, 28, 4, 1, 10),
    "wide": (96, 4, 6, 160, 28, 4, 1, 10),
    "small": (384, 12, 6, 1536, 224, 16, 3, 1000),
    "base": (768, 12, 12, 3072, 224, 16, 3, 1000),
}


def shapes(size):
    """Name and shape of each tensor."""
    d, layers, _, f, image, patch, channels, classes = SIZES[size]
    tokens = (image // patch) ** 2 + 1
    out = {"vit.embeddings.cls_token": (1, 1, d), "vit.embeddings.position_embeddings": (1, tokens, d)}

    def linear(name, rows, *cols):
        out[name + ".weight"], out[name + ".bias"] = (rows, *cols), (rows,)

    linear("vit.embeddings.patch_embeddings.projection", d, channels, patch, patch)
    for i in range(layers):
        p = f"vit.encoder.layer.{i}."
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"):
            linear(p + name, d, d)
        linear(p + "intermediate.dense", f, d)
        linear(p + "output.dense", d, f)
        for name in ("layernorm_before", "layernorm_after"):
            linear(p + name, d)
    linear("vit.layernorm", d)
    linear("classifier", classes, d)
    return out


def values(rng, name, shape):
    x = rng.standard_normal(shape, dtype=np.float32)
    if "layernorm" in name and name.endswith("weight"):
        return 1 + np.float32(0.1) * x
    return np.float32(0.02) * x


def write(out, size, seed):
    d, layers, heads, f, image, patch, channels, classes = SIZES[size]
    os.makedirs(out, exist_ok=True)
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": d, "num_hidden_layers": layers,
              "num_attention_heads": heads, "intermediate_size": f, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": image,
              "patch_size": patch, "num_channels": channels, "qkv_bias": True, "encoder_stride": patch,
              "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
              "id2label": {str(i): f"class {i}" for i in range(classes)}, "label2id": {f"class {i}": i for i in range(classes)}}
    with open(f"{out}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    header, at = {}, 0
    for name, shape in shapes(size).items():
        end = at + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    with open(f"{out}/model.safetensors.new", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes(size).items():
            values(rng, name, shape).tofile(file)
    os.replace(f"{out}/model.safetensors.new", f"{out}/model.safetensors")


def pair(work, size):
    """Two models of a size in `work`, made where they are missing."""
    models = [f"{work}/{size}-{seed}" for seed in (1, 2)]
    for seed, path in enumerate(models, 1):
        if not os.path.exists(f"{path}/model.safetensors"):
            write(path, size, seed)
    return models


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
