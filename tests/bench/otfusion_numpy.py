#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Transport fusion of two Vision Transformers in NumPy and POT, as one would write it from the formulas of the paper (Imfeld et al., ICLR 2024):
what `tfuse fuse --align otfusion` computes by default from weights alone, for the benchmark beside it.

A linear's input side takes the map of its input; its output units are matched with the anchor's by exact transport between rows of unit
length (euclidean distance over its maximum, uniform marginals); its rows move by that map; queries and keys are matched apart; a norm
takes the map of its input; a residual sum carries the mean of the two maps; then the two models are averaged.

    otfusion_numpy.py ANCHOR MODEL OUT.safetensors
"""
import json
import sys

import numpy as np
import ot


def load(path):
    with open(f"{path}/model.safetensors", "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start = f.tell()
        out = {}
        for name, t in header.items():
            if name != "__metadata__":
                f.seek(start + t["data_offsets"][0])
                out[name] = np.fromfile(f, np.float32, int(np.prod(t["shape"]))).reshape(t["shape"])
    return out


def save(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": t.shape, "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for t in tensors.values():
            t.tofile(f)


def solve(x, y):
    """The map from units of the model (rows of x) to those of the anchor: columns sum to one."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    cost = ot.dist(x, y, metric="euclidean")
    cost /= cost.max()
    n, m = cost.shape
    coupling = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), cost, numItermax=10 ** 8)
    return (coupling * m).astype(np.float32)


class Fusion:
    def __init__(self, anchor, model):
        self.anchor, self.model, self.out = anchor, model, {}

    def average(self, name, moved):
        self.out[name] = ((self.anchor[name] + moved) / 2).astype(np.float32)

    def linear(self, name, t_in, t_out=None):
        """Consumes t_in, matches the output units, moves and averages; returns the map of the output."""
        w, target = self.model[name + ".weight"], self.anchor[name + ".weight"]
        flat = w.reshape(len(w), -1)
        if t_in is not None:
            flat = flat @ t_in
        if t_out is None:
            t_out = solve(flat, target.reshape(len(target), -1))
        self.average(name + ".weight", (t_out.T @ flat).reshape(target.shape))
        self.average(name + ".bias", t_out.T @ self.model[name + ".bias"])
        return t_out

    def table(self, name):
        """A bare parameter: its columns are the units."""
        w, target = self.model[name][0], self.anchor[name][0]
        t = solve(w.T, target.T)
        self.average(name, (w @ t)[None])
        return t

    def norm(self, name, t):
        for end in (".weight", ".bias"):
            self.average(name + end, t.T @ self.model[name + end])

    def classifier(self, name, t):
        self.average(name + ".weight", self.model[name + ".weight"] @ t)
        self.average(name + ".bias", self.model[name + ".bias"])

    def block(self, p, t):
        self.norm(p + "layernorm_before", t)
        for part in ("query", "key"):
            self.linear(p + "attention.attention." + part, t)
        value = self.linear(p + "attention.attention.value", t)
        t = (t + self.linear(p + "attention.output.dense", value)) / 2
        self.norm(p + "layernorm_after", t)
        hidden = self.linear(p + "intermediate.dense", t)
        return (t + self.linear(p + "output.dense", hidden)) / 2

    def run(self):
        self.table("vit.embeddings.cls_token")
        patches = self.linear("vit.embeddings.patch_embeddings.projection", None)
        t = (patches + self.table("vit.embeddings.position_embeddings")) / 2
        layers = sum(name.endswith("layernorm_before.weight") for name in self.anchor)
        for i in range(layers):
            t = self.block(f"vit.encoder.layer.{i}.", t)
        self.norm("vit.layernorm", t)
        self.classifier("classifier", t)
        return self.out


if __name__ == "__main__":
    save(sys.argv[3], Fusion(load(sys.argv[1]), load(sys.argv[2])).run())
