#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two language models of different seeds, both orders: parents, ensemble, controls, the paper's method, matching from weights and with windows of calibration
text. Writes the table of docs/study-language.md.

    study_language.py TFUSE A B VAL.npy CALIB.npy OUT.md [WINDOWS...]

Losses are means over the next tokens of VAL, in nats. Needs numpy."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np


def tfuse(command, *args):
    done = subprocess.run([command, *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout


def loss_of(logits, ids):
    x, labels = logits[:, :-1].astype(np.float64), ids[:, 1:].astype(np.int64)
    top = x.max(-1, keepdims=True)
    chosen = np.take_along_axis(x, labels[..., None], -1)
    return float((np.log(np.exp(x - top).sum(-1, keepdims=True)) + top - chosen).mean())


def log_probabilities(logits):
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class Study:
    def __init__(self, command, a, b, val, calib):
        self.command, self.parents, self.val, self.calib = command, (a, b), val, calib
        self.ids = np.load(val)

    def logits(self, model, work):
        tfuse(self.command, "run", model, "--inputs", self.val, "-o", f"{work}/l.npy", "--force", "--quiet")
        return np.load(f"{work}/l.npy")

    def fused(self, work, order, *options):
        pair = self.parents if order == 0 else self.parents[::-1]
        tfuse(self.command, "fuse", *pair, "-o", f"{work}/f", "--force", "--quiet", *options)
        return loss_of(self.logits(f"{work}/f", work), self.ids)

    def rows(self, windows):
        with tempfile.TemporaryDirectory() as work:
            outputs = [self.logits(p, work) for p in self.parents]
            yield "the parents", [loss_of(x, self.ids) for x in outputs]
            mean = sum(np.exp(log_probabilities(x)) for x in outputs) / 2
            yield "their ensemble (mean of probabilities)", [loss_of(np.log(mean), self.ids)] * 2
            ways = [("plain average", ["--align", "none"]),
                    ("control: the anchor with halved weights", ["--align", "none", "--set", "align.control=half-anchor"]),
                    ("the paper's method, weights, exact", ["--align", "otfusion"]),
                    ("the paper's method, weights, Sinkhorn 0.05", ["--align", "otfusion", "--solver", "sinkhorn"]),
                    ("the paper's method, 128 windows, exact", ["--align", "otfusion", "--calib", self.calib, "--samples", "128"]),
                    ("matching, weights", [])]
            for n in windows:
                calib = ["--calib", self.calib, "--samples", str(n)]
                ways.append((f"matching, {n:,} windows, no repair", [*calib, "--repair", "none"]))
                ways.append((f"matching and repair, {n:,} windows", calib))
            for name, options in ways:
                yield name, [self.fused(work, order, *options) for order in (0, 1)]


def main():
    command, a, b, val, calib, out, *windows = sys.argv[1:]
    study = Study(command, a, b, val, calib)
    names = [os.path.basename(p.rstrip("/")) for p in (a, b)]
    lines = ["# Two language models, fused", "",
             f"`{names[0]}` and `{names[1]}`: Llamas of 505,000 parameters (96 wide, 4 layers, 4 heads, 2 key/value heads) of two seeds, trained on the same",
             f"text. Losses on {len(study.ids)} held-out windows, in nats, by `tools/study_language.py`; calibration text is unlabelled training text.", "",
             f"| | anchor {names[0]} | anchor {names[1]} | mean |", "|---|---|---|---|"]
    for name, losses in study.rows([int(w) for w in windows] or [128, 2048]):
        lines.append(f"| {name} | {losses[0]:.3f} | {losses[1]:.3f} | {sum(losses) / 2:.3f} |")
        print(json.dumps({"name": name, "losses": losses}), flush=True)
    with open(out, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
