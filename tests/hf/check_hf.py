#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Against Hugging Face's transformers and safetensors: its models give the logits that `tfuse run` gives, whatever their shape and type, and
what `tfuse fuse` and `tfuse gauge` write loads there without a missing or unexpected key and gives the logits that `tfuse run` gives. TFUSE names the command."""
import json
import os
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from transformers import ViTConfig, ViTForImageClassification

from common import Tally, random_model, tfuse

PARENTS = ["tests/data/vit-fmnist-b", "tests/data/vit-fmnist-a"]
IMAGES = "tests/data/parity/images_n40.npy"
tally = Tally()
check = tally.check


def our_logits(model, inputs, work):
    tfuse("run", model, "--inputs", inputs, "-o", f"{work}/logits.npy", "--force", "--quiet")
    return np.load(f"{work}/logits.npy")


def their_logits(model, pixels):
    net, info = ViTForImageClassification.from_pretrained(model, output_loading_info=True, dtype=torch.float32)
    net.eval()
    with torch.no_grad():
        logits = net(torch.from_numpy(pixels)).logits.numpy()
    return logits, info


def compare(name, model, inputs, pixels, work):
    theirs, info = their_logits(model, pixels)
    ours = our_logits(model, inputs, work)
    missing, unexpected = list(info["missing_keys"]), list(info["unexpected_keys"])
    check(f"{name}: keys", not missing and not unexpected, f"missing {missing}, unexpected {unexpected}")
    tally.close(f"{name}: logits", ours, theirs)


def normalised(model, images):
    with open(f"{model}/preprocessor_config.json", encoding="utf-8") as f:
        how = json.load(f)
    mean, std = np.float32(how["image_mean"][0]), np.float32(how["image_std"][0])
    x = (images.astype(np.float64) * how["rescale_factor"]).astype(np.float32)
    return ((x - mean) / std)[:, None]


def gauged(name, model, inputs, pixels, work):
    before, out = our_logits(model, inputs, work), f"{work}/gauged"
    for stream in ("orthogonal", "permutation", "none"):
        tfuse("gauge", model, "--seed", "5", "--set", f"gauge.stream={stream}", "-o", out, "--force", "--quiet")
        compare(f"{name}, gauged, stream {stream}", out, inputs, pixels, work)
        tally.close(f"{name}, gauged, stream {stream}: the same function", our_logits(out, inputs, work), before)


def shapes(work):
    cases = {
        "wide": dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=6, intermediate_size=40, image_size=12, patch_size=3,
                     num_channels=3, num_labels=7),
        "no QKV bias, tanh GELU": dict(hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=36, image_size=8,
                                       patch_size=4, num_channels=1, num_labels=3, qkv_bias=False, hidden_act="gelu_new"),
        "one layer, ReLU": dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=5, image_size=6, patch_size=2,
                                num_channels=2, num_labels=2, hidden_act="relu", layer_norm_eps=1e-6),
    }
    for name, config in cases.items():
        pixels = np.random.default_rng(3).standard_normal(
            (5, config["num_channels"], config["image_size"], config["image_size"]), dtype=np.float32)
        np.save(f"{work}/pixels.npy", pixels)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            path = f"{work}/{config['hidden_size']}-{str(dtype).rsplit('.', maxsplit=1)[-1]}"
            random_model(ViTForImageClassification, ViTConfig(**config), path, dtype)
            compare(f"{name}, {dtype}", path, f"{work}/pixels.npy", pixels, work)
            if dtype == torch.float32:
                gauged(name, path, f"{work}/pixels.npy", pixels, work)


def fusions(work, pixels):
    ways = {
        "plain average": ["--align", "none"],
        "otfusion": ["--align", "otfusion", "--calib", IMAGES],
        "matching": ["--align", "matching"],
        "matching, repaired": ["--align", "matching", "--calib", IMAGES],
        "otfusion in bf16": ["--align", "otfusion", "--dtype", "BF16"],
        "otfusion in shards": ["--align", "otfusion", "--shard-size", "200000"],
    }
    for name, options in ways.items():
        out = f"{work}/fused"
        tfuse("fuse", *PARENTS, "-o", out, "--force", "--quiet", *options)
        compare(f"fused, {name}", out, IMAGES, pixels, work)
    tfuse("fuse", *PARENTS, "-o", out, "--force", "--quiet", "--align", "none")
    parts = [safe_open(f"{p}/model.safetensors", "np") for p in PARENTS]
    with safe_open(f"{out}/model.safetensors", "np") as fused:
        names = list(fused.keys())
        check("safetensors reads the same names", sorted(names) == sorted(parts[0].keys()), str(names[:3]))
        worst = max(np.abs(fused.get_tensor(n) - (parts[0].get_tensor(n) + parts[1].get_tensor(n)) / 2).max() for n in names)
        check("and the mean of the parents", worst <= 1e-6, f"off by {worst:.2e}")


def run():
    pixels = normalised(PARENTS[0], np.load(IMAGES))
    with tempfile.TemporaryDirectory() as work:
        for parent in PARENTS:
            compare(os.path.basename(parent), parent, IMAGES, pixels, work)
            gauged(os.path.basename(parent), parent, IMAGES, pixels, work)
        shapes(work)
        fusions(work, pixels)


if __name__ == "__main__":
    run()
    sys.exit(tally.finish())
