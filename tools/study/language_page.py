#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pairs of language models of different seeds, both orders: parents, ensemble, controls, the paper's method, matching from weights and with windows of calibration
text. Writes docs/study-language.md. Run by `make study-language`.

    language_page.py TFUSE WORK OUT.md VAL.npy CALIB.npy PAIR... [--windows 128,2048]

PAIR: two model directories with a comma between; Llamas are scored on the next token, BERTs on the tokens that were masked. VAL and CALIB are windows of tokens."""
import argparse
import json

import numpy as np
import torch

import language
from measure import Tool, name_of, short


def log_probabilities(logits):
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def loss_of(log_p, labels):
    """mean over the labels that are not -100, in nats"""
    asked = labels != -100
    return float(-np.take_along_axis(log_p, np.where(asked, labels, 0)[..., None], -1)[..., 0][asked].mean())


class Task:
    """The files that a kind of model reads: held-out inputs with their labels, and calibration inputs."""

    def __init__(self, kind, work, val, calib):
        windows = np.load(val).astype(np.int64)
        self.kind, self.inputs, self.calib = kind, f"{work}/{kind}-inputs.npy", f"{work}/{kind}-calib.npy"
        text = np.load(calib).astype(np.int64)
        if kind == "bert":
            inputs, labels = self.mask(windows, 0)
            text = self.mask(text, 1)[0]
        else:
            inputs, labels = windows[:, :-1], windows[:, 1:]
        self.labels = labels
        np.save(self.inputs, inputs.astype(np.int32))
        np.save(self.calib, text.astype(np.int32))

    @staticmethod
    def mask(windows, seed):
        return (t.numpy() for t in language.masked(torch.from_numpy(windows), torch.Generator().manual_seed(seed)))


class Pair:
    def __init__(self, tool, models, task):
        self.tool, self.models, self.task = tool, models, task

    def loss(self, model):
        out = f"{self.tool.work}/logits.npy"
        self.tool.call("run", model, "--inputs", self.task.inputs, "-o", out, "--force", "--quiet")
        return loss_of(log_probabilities(np.load(out)), self.task.labels)

    def ensemble(self):
        mean = sum(np.exp(log_probabilities(self.tool.logits(m, self.task.inputs))) for m in self.models) / 2
        return loss_of(np.log(mean), self.task.labels)

    def fused(self, options):
        return [self.tool.fused(order, options, self.loss) for order in (self.models, self.models[::-1])]

    def rows(self, counts):
        yield "the parents", [loss_of(log_probabilities(self.tool.logits(m, self.task.inputs)), self.task.labels) for m in self.models]
        yield "their ensemble (mean of probabilities)", [self.ensemble()] * 2
        paper, first = ["--align", "otfusion"], ["--calib", self.task.calib, "--samples", str(counts[0])]
        soft = ["--solver", "sinkhorn"]
        ways = [("plain average", ["--align", "none"]),
                ("control: the anchor with halved weights", ["--align", "none", "--control", "half-anchor"]),
                ("the paper's method, weights, exact", paper),
                ("the paper's method, weights, Sinkhorn 0.05", [*paper, *soft]),
                (f"the paper's method, {counts[0]} windows, exact", [*paper, *first]),
                (f"the paper's method, {counts[0]} windows, Sinkhorn 0.05", [*paper, *soft, *first]),
                ("matching, weights", [])]
        for n in counts:
            calib = ["--calib", self.task.calib, "--samples", str(n)]
            ways.append((f"matching, {n:,} windows, no repair", [*calib, "--repair", "none"]))
            ways.append((f"matching and repair, {n:,} windows", calib))
            ways.append((f"control: a leading model alone, its head refitted, {n:,} windows", [*calib, "--repair", "mix,head", "--set", "repair.lead=1"]))
        for name, options in ways:
            yield name, self.fused(options)


def kind_of(model):
    with open(f"{model}/config.json", encoding="utf-8") as f:
        return json.load(f)["model_type"]


ABOUT = {"llama": ("Llamas of 505,000 parameters (96 wide, 4 layers, 4 heads, 2 key/value heads, 256 hidden units)", "the next token"),
         "bert": ("BERTs of 513,000 parameters (96 wide, 4 layers, 4 heads, 384 hidden units)", "the masked tokens, 15 % of all")}


def section(pair, counts):
    names = [name_of(m) for m in pair.models]
    what, task = ABOUT[pair.task.kind]
    yield from ("", f"## {names[0]} and {names[1]}", "", f"{what} of two seeds. Loss: {task}.", "",
                f"| | anchor {short(names[0])} | anchor {short(names[1])} | mean |", "|---|---|---|---|")
    for name, losses in pair.rows(counts):
        yield f"| {name} | {losses[0]:.3f} | {losses[1]:.3f} | {sum(losses) / 2:.3f} |"


def main():
    parser = argparse.ArgumentParser(description="the study's page of language models")
    for name in ("tfuse", "work", "out", "val", "calib"):
        parser.add_argument(name)
    parser.add_argument("pairs", nargs="+", metavar="A,B")
    parser.add_argument("--windows", default="128,2048", help="numbers of calibration windows")
    options = parser.parse_args()
    tool, counts, tasks = Tool(options.tfuse, options.work), [int(n) for n in options.windows.split(",")], {}
    lines = ["# Pairs of language models, fused", "",
             f"Models trained on the same text, the King James Bible in 512 tokens. Losses on {len(np.load(options.val))} held-out windows, in nats, written by",
             "`make study-language`; calibration text is unlabelled training text. In every row of one model's figures the anchor is the model named above; the parents stand",
             "below their own names."]
    for models in (tuple(p.split(",")) for p in options.pairs):
        kind = kind_of(models[0])
        if kind not in tasks:
            tasks[kind] = Task(kind, options.work, options.val, options.calib)
        for line in section(Pair(tool, models, tasks[kind]), counts):
            lines.append(line)
            print(line, flush=True)
    with open(options.out, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
