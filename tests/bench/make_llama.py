#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Llama of a given size in bf16, in shards, for measurements: weights random, or holes in the files that take no room (--holes: what reads headers
alone must not touch them).

    make_llama.py DIR SIZE [--seed N] [--holes]      SIZE: 1b or 70b
"""
import argparse
import json
import os

import numpy as np

SIZES = {  # hidden, layers, heads, key/value heads, FFN, vocabulary, tied
    "1b": (2048, 16, 32, 8, 8192, 128256, True),
    "70b": (8192, 80, 64, 8, 28672, 128256, False),
}
SHARD = 5 << 30


def tensors(size):
    hidden, layers, heads, kv, ffn, vocab, tied = SIZES[size]
    inner = hidden // heads
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "self_attn.q_proj.weight", (heads * inner, hidden)
        yield p + "self_attn.k_proj.weight", (kv * inner, hidden)
        yield p + "self_attn.v_proj.weight", (kv * inner, hidden)
        yield p + "self_attn.o_proj.weight", (hidden, heads * inner)
        yield p + "post_attention_layernorm.weight", (hidden,)
        yield p + "mlp.gate_proj.weight", (ffn, hidden)
        yield p + "mlp.up_proj.weight", (ffn, hidden)
        yield p + "mlp.down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (vocab, hidden)


def random_bf16(rng, shape):
    if len(shape) == 1:
        return np.full(shape, 0x3f80, np.uint16)
    x = rng.standard_normal(shape, dtype=np.float32) * np.float32(shape[1] ** -0.5)
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def write_shard(path, items, rng):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in items:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        if rng is None:
            f.truncate(8 + len(text) + at)
            return
        for _, shape in items:
            random_bf16(rng, shape).tofile(f)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--holes", action="store_true")
    args = parser.parse_args()
    hidden, layers, heads, kv, ffn, vocab, tied = SIZES[args.size]
    os.makedirs(args.dir, exist_ok=True)
    with open(f"{args.dir}/config.json", "w", encoding="ascii") as f:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
                   "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": ffn, "vocab_size": vocab, "rms_norm_eps": 1e-5,
                   "rope_theta": 500000.0, "tie_word_embeddings": tied, "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}, f, indent=1)
    shards, held = [[]], 0
    for name, shape in tensors(args.size):
        size = 2 * int(np.prod(shape))
        if held + size > SHARD and shards[-1]:
            shards.append([])
            held = 0
        shards[-1].append((name, shape))
        held += size
    rng = None if args.holes else np.random.default_rng(args.seed)
    index = {}
    for i, items in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        write_shard(f"{args.dir}/{file}", items, rng)
        index.update((name, file) for name, _ in items)
    if len(shards) > 1:
        with open(f"{args.dir}/model.safetensors.index.json", "w", encoding="ascii") as f:
            json.dump({"metadata": {}, "weight_map": index}, f)


if __name__ == "__main__":
    main()
