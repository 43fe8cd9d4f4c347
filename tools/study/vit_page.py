#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every method and control on real pairs of Vision Transformers, as one page with pictures: both orders of each pair, data-free and with calibration images, the
stages of repair one by one, unequal widths, more than two parents, the loss along the path, and fine-tuning (where finetune.py has run). Run by `make study`.

    vit_page.py TFUSE WORK OUT_DIR PAIR... [--wide A,W] [--many A,B,C]... [--tuned DIR]

PAIR: two model directories with a comma between. SAMPLES (100 600 3000): numbers of calibration images; they are the first training images, unlabelled. Every
choice was made on validation images (the last 5,000 training images); the test images choose nothing."""
import argparse
import glob
import gzip
import json
import os

import numpy as np

import chart
from measure import Tool, Unmeasured, name_of, short

DATA = os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
INPUTS, LABELS = f"{DATA}/t10k-images-idx3-ubyte.gz", f"{DATA}/t10k-labels-idx1-ubyte.gz"
TEST = ["--inputs", INPUTS, "--labels", LABELS]
SAMPLES = [int(n) for n in os.environ.get("SAMPLES", "100 600 3000").split()]
STAGES = 600  # calibration images of the table in which repair's stages stand one by one
SOFT = ["--solver", "sinkhorn", "--reg"]
PAPER = ["--align", "otfusion"]
PAPER_BEST = [*PAPER, *SOFT, "0.01", "--set", "otfusion.residual=skip"]


def calibrated(n):
    return ["--calib", f"{DATA}/train-images-idx3-ubyte.gz", "--samples", str(n)]


def free_rows():
    yield "controls", None
    yield "plain average", ["--align", "none"]
    yield "half-anchor", [*PAPER, "--control", "half-anchor"]
    yield "uniform maps", [*PAPER, "--control", "uniform"]
    yield "random permutations", [*PAPER, "--control", "random"]
    yield "from weights only", None
    yield "paper, exact", PAPER
    yield "paper, Sinkhorn 0.06", [*PAPER, *SOFT, "0.06"]
    yield "matching, permuted stream", ["--set", "matching.stream=permutation"]
    yield "matching, no repair", ["--repair", "none"]
    yield "matching + circuits (auto)", []


def calibrated_rows(n):
    """With STAGES images every stage by itself, with other numbers the rows that say how much more images help. Rows of ONE_ORDER are measured in the first order
    alone: matching gives both nearly the same."""
    yield f"{n} calibration images", None
    if n == STAGES:
        yield "paper, exact", [*PAPER, *calibrated(n)]
        yield "paper, Sinkhorn 0.08 (authors' default)", [*PAPER, *SOFT, "0.08", *calibrated(n)]
    if n <= STAGES:
        yield "paper, Sinkhorn 0.01, skip (its best)", [*PAPER_BEST, *calibrated(n)]
    yield "matching, no repair", [*calibrated(n), "--repair", "none"]
    if n == STAGES:
        for name, stages in STAGED.items():
            yield name, [*calibrated(n), "--repair", stages]
    yield AUTO, calibrated(n)
    yield LEAD, [*calibrated(n), "--repair", "mix,head", "--set", "repair.lead=1"]
    if n == STAGES:
        yield ALONE, calibrated(n)


AUTO = "matching + repair (auto)"
LEAD = "control: leading model alone, head refitted"
ALONE = "control: each parent with its own gauged copy"
STAGED = {f"matching + {stages.replace(',', ', ')}": stages for stages in (
    "statistics", "regmean", "circuits", "refit", "refit,head", "select,refit", "select,refit,head", "circuits,refit,head")}
ONE_ORDER = {*STAGED, LEAD}


class Page:
    def __init__(self, tool, pairs):
        self.tool, self.pairs, self.lines = tool, pairs, []

    def score(self, model):
        return self.tool.evaluated(model, *TEST)

    def ensemble(self, models):
        """accuracy of the mean of the models' logits"""
        with_labels = labels()
        mean = sum(self.tool.logits(m, INPUTS).astype(np.float64) for m in models) / len(models)
        return 100 * float((mean.argmax(1) == with_labels).mean())

    def orders(self, pair, name, options):
        """[[accuracy, loss]] of both orders; of the row ALONE: of both models; empty when the time was over"""
        try:
            return self.measured_orders(pair, name, options)
        except Unmeasured:
            return []

    def measured_orders(self, pair, name, options):
        if name == ALONE:
            return [self.tool.fused((m, self.tool.gauged(m)), options, self.score) for m in pair]
        return [self.tool.fused(order, options, self.score) for order in ((pair,) if name in ONE_ORDER else (pair, pair[::-1]))]

    def once(self, models, options):
        """accuracy (loss) as a cell"""
        try:
            return "{:.2f} ({:.3f})".format(*self.tool.fused(models, options, self.score))
        except Unmeasured:
            return "–"

    def row(self, name, cells):
        if any(c != "–" for c in cells):
            self.say(f"| {name} | " + " | ".join(cells) + " |")

    def say(self, *lines):
        self.lines.extend(lines)
        print("\n".join(lines), flush=True)


def labels():
    with gzip.open(LABELS) as f:
        return np.frombuffer(f.read(), np.uint8, offset=8)


def pair_name(pair):
    return ", ".join(short(m) for m in pair)


def mean(scores):
    return sum(a for a, _ in scores) / len(scores) if scores else None


def cell(scores):
    if not scores:
        return "–"
    spread = f" ± {abs(scores[0][0] - scores[1][0]) / 2:.2f}" if len(scores) == 2 else ""
    return f"{mean(scores):.2f}{spread} ({sum(l for _, l in scores) / len(scores):.3f})"


def trained(pairs):
    """a line on how long the models were trained, as far as they say"""
    logs = {}
    for model in dict.fromkeys(m for pair in pairs for m in pair):
        if os.path.exists(f"{model}/train_log.json"):
            with open(f"{model}/train_log.json", encoding="utf-8") as f:
                logs[short(model)] = json.load(f).get("epochs")
    known = [f"{name} {epochs}" for name, epochs in logs.items() if epochs]
    return [f"Epochs of training: {', '.join(known)}."] if known else []


def main_table(page):
    """the table; returns {(section, row): [mean accuracy by pair]}"""
    found, section = {}, None
    page.say("| | " + " | ".join(f"{pair_name(p)}" for p in page.pairs) + " |", "|---|" + "---|" * len(page.pairs))
    page.say("| parents | " + " | ".join(", ".join(f"{page.score(m)[0]:.2f}" for m in p) for p in page.pairs) + " |")
    page.say("| ensemble (mean of logits, twice the cost) | " + " | ".join(f"{page.ensemble(p):.2f}" for p in page.pairs) + " |")
    for name, options in [*free_rows(), *(r for n in SAMPLES for r in calibrated_rows(n))]:
        if options is None:
            section = name
            continue
        scores = [page.orders(pair, name, options) for pair in page.pairs]
        if not any(scores):
            continue
        if all(s != section for s, _ in found):
            page.say(f"| **{section}** |" + " |" * len(page.pairs))
        found[section, name] = [mean(s) for s in scores]
        page.say(f"| {name} | " + " | ".join(", ".join(f"{a:.2f}" for a, _ in s) if name == ALONE and s else cell(s) for s in scores) + " |")
    return found


def draw_methods(page, found, path):
    rows = []  # of what was measured
    for section in ("controls", "from weights only", f"{STAGES} calibration images"):
        rows.append((section, None))
        rows += [(name, values) for (s, name), values in found.items() if s == section]
    chart.dots(path, "Fused accuracy by method", "Fashion-MNIST, test images, mean over both orders; dashed: the better parent of the pair",
               [pair_name(p) for p in page.pairs], rows, (0, 95), "accuracy, %",
               [(i, max(page.score(m)[0] for m in pair)) for i, pair in enumerate(page.pairs)])


def draw_samples(page, found, path):
    pair = page.pairs[0]
    names = [AUTO, "matching, no repair", LEAD, "paper, Sinkhorn 0.01, skip (its best)"]
    known = {name: [(n, found.get((f"{n} calibration images", name), [None])[0]) for n in SAMPLES] for name in names}
    series = [(name, [p for p in known[name] if p[1] is not None], "bold" if name == AUTO else "") for name in names]
    wide = [SAMPLES[0], SAMPLES[-1]]
    series += [(f"parent {short(m)}", [(n, page.score(m)[0]) for n in wide], "level dash") for m in pair]
    series.append(("ensemble", [(n, page.ensemble(pair)) for n in wide], "level dash"))
    low, high = np.log(wide[0]), np.log(wide[1])
    chart.lines(path, f"What more calibration images give: {pair_name(pair)}", "Fashion-MNIST, 10,000 test images, mean over both orders", series,
                lambda n: (np.log(n) - low) / (high - low) if high > low else 0.5, [(n, f"{n:,}") for n in SAMPLES], (30, 92),
                "calibration images, unlabelled", "accuracy, %")


def many_table(page, groups):
    page.say("", "## More than two parents", "", "The first is the anchor; equal weights.", "",
             "| | " + " | ".join(pair_name(g) for g in groups) + " |", "|---|" + "---|" * len(groups))
    page.say("| parents | " + " | ".join(", ".join(f"{page.score(m)[0]:.2f}" for m in g) for g in groups) + " |")
    page.say("| ensemble | " + " | ".join(f"{page.ensemble(g):.2f}" for g in groups) + " |")
    rows = [("plain average", ["--align", "none"]), (f"paper, {STAGES} images, its best", [*PAPER_BEST, *calibrated(STAGES)]),
            ("matching, from weights", []), ("the same, each to the anchor alone", ["--set", "matching.mean=0"]),
            (f"matching, {STAGES} images, no repair", [*calibrated(STAGES), "--repair", "none"]),
            *((f"{AUTO}, {n} images", calibrated(n)) for n in SAMPLES if n >= STAGES)]
    for name, options in rows:
        page.row(name, [page.once(g, options) for g in groups])


def wide_table(page, pair):
    narrow, wide = (short(m) for m in pair)
    page.say("", "## Unequal widths", "", f"`{narrow}` is 64 wide, `{wide}` is 128 wide with 8 heads. The result has the anchor's shape. The control takes the other model alone "
             "into that shape, which tells compression from fusion.", "",
             f"| | {wide} into {narrow}'s shape | {narrow} into {wide}'s shape |", "|---|---|---|")
    page.say(f"| the anchor, the other | {page.score(pair[0])[0]:.2f}, {page.score(pair[1])[0]:.2f} | {page.score(pair[1])[0]:.2f}, {page.score(pair[0])[0]:.2f} |")
    rows = [("half-anchor", [*PAPER, "--control", "half-anchor"]), ("paper, weights, Sinkhorn 0.06", [*PAPER, *SOFT, "0.06"]),
            (f"paper, {STAGES} images, its best", [*PAPER_BEST, *calibrated(STAGES)]), ("matching, from weights", []),
            (f"matching, {STAGES} images, no repair", [*calibrated(STAGES), "--repair", "none"]),
            *((f"{AUTO}, {n} images", calibrated(n)) for n in SAMPLES if n >= STAGES),
            (f"control: the other model alone, carried over, {STAGES} images", [*calibrated(STAGES), "--weights", "0,1", "--repair", "refit,head"])]
    for name, options in rows:
        page.row(name, [page.once(order, options) for order in (pair, pair[::-1])])


def best_rate(runs):
    """the run that is best on the validation images after the last epoch"""
    return max(runs, key=lambda r: r["points"][-1]["validation"][0])


def tuned_runs(folder):
    """{name: (chosen run, rates tried)} of what finetune.py left"""
    runs = {}
    for file in sorted(glob.glob(f"{folder}/*.json")):
        with open(file, encoding="utf-8") as f:
            runs.setdefault(name_of(file).split("@")[0], []).append({**json.load(f), "file": file})
    return {name: (best_rate(r), sorted((x["rate"] for x in r), key=float)) for name, r in runs.items()}


def tuned_ensemble(runs, parents):
    truth = labels()
    logits = [np.load(runs[p][0]["file"].replace(".json", ".npy")).astype(np.float64) for p in parents]
    return [100 * float((x.argmax(1) == truth).mean()) for x in sum(logits) / len(logits)]


def tuned_table(page, folder, path):
    runs = tuned_runs(folder)
    parents = [name for name in runs if name.startswith("parent")]
    epochs = [x["epoch"] for x in next(iter(runs.values()))[0]["points"]]
    page.say("", "## Fine-tuning", "", "Test accuracy in percent. Each candidate and each parent at its own learning rate, chosen by the validation images after the last epoch",
             "from those in brackets; AdamW, cosine, batches of 128, the same 55,000 training images in the same order. Written by `tools/study/finetune.py`.", "",
             "| epochs of fine-tuning | " + " | ".join(f"{e:g}" for e in epochs) + " | rate (tried) |", "|---|" + "---|" * (len(epochs) + 1))
    series = []
    if len(parents) == 2:
        levels = tuned_ensemble(runs, parents)
        page.say("| ensemble of the tuned parents | " + " | ".join(f"{a:.2f}" for a in levels) + " | |")
        series.append(("ensemble of the tuned parents", list(zip(epochs, levels)), "dash"))
    for name, (run, rates) in sorted(runs.items(), key=lambda r: -r[1][0]["points"][-1]["test"][0]):
        page.say(f"| {name} | " + " | ".join(f"{x['test'][0]:.2f}" for x in run["points"]) + f" | {run['rate']} ({', '.join(rates)}) |")
        series.append((name, [(x["epoch"], x["test"][0]) for x in run["points"]], "dash" if name in parents else "bold" if "matching" in name else ""))
    best = max(y for _, points, _ in series for _, y in points)
    chart.lines(path, "Fine-tuning alike", "test accuracy; what is below the picture begins there", series, lambda x: x / epochs[-1],
                [(e, f"{e:g}") for e in epochs], (round(best) - 5, round(best) + 0.8), "epochs of fine-tuning", "accuracy, %")
    page.say("", f"![fine-tuning]({name_of(path)})")


HEAD = """# A study of methods and controls

Written by `make study`. Vision Transformers of 139,018 parameters (64 wide, 4 layers, 4 heads) on Fashion-MNIST; the models of a pair differ in their seeds, s1 and
s2 also in what they saw: each all of one half of the classes and 5 % of the other. Accuracy in percent on the 10,000 test images, the mean over both orders of a
pair and half their difference (rows without one: one order), in parentheses the mean loss in nats; the standard error of one accuracy is about 0.3. One shot: no
labels, no gradients. Calibration images are the first training images. A dash, or a row left out: not measured in this run.

Read the controls first. Half-anchor is one model with its weights halved. The last rows of each part tell fusion from refitting: a leading model alone
with its last layer fitted to the ensemble, and each parent (two figures) through the whole repair with its own gauged copy in place of the other parent.
"""


def main():
    parser = argparse.ArgumentParser(description="the study's page of Vision Transformers")
    parser.add_argument("tfuse")
    parser.add_argument("work")
    parser.add_argument("out")
    parser.add_argument("pairs", nargs="+", metavar="A,B")
    parser.add_argument("--wide", metavar="A,W", help="two models of unequal widths")
    parser.add_argument("--many", action="append", default=[], metavar="A,B,C,...", help="more than two parents")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after them nothing more is measured: a dash stands for it")
    parser.add_argument("--tuned", help="what finetune.py left")
    options = parser.parse_args()
    page = Page(Tool(options.tfuse, options.work, options.minutes), [tuple(p.split(",")) for p in options.pairs])
    page.say(HEAD, *trained(page.pairs), "")
    found = main_table(page)
    draw_methods(page, found, f"{options.out}/study-methods.svg")
    draw_samples(page, found, f"{options.out}/study-samples.svg")
    page.say("", "![accuracy by method](study-methods.svg)", "", "![accuracy by number of calibration images](study-samples.svg)")
    if options.wide:
        wide_table(page, tuple(options.wide.split(",")))
    if options.many:
        many_table(page, [tuple(g.split(",")) for g in options.many])
    if options.tuned and glob.glob(f"{options.tuned}/*.json"):
        tuned_table(page, options.tuned, f"{options.out}/study-tuned.svg")
    page.tool.call("path", *page.pairs[0], *TEST, *calibrated(STAGES), "--limit", "2000", "-o", f"{options.out}/study-path.svg", "--force", "--quiet")
    page.say("", "## The straight line between the first pair", "",
             f"Loss and accuracy between the two models, aligned by matching with {STAGES} images and not aligned (2,000 test images).", "",
             "![loss and accuracy along the path](study-path.svg)")
    with open(f"{options.out}/study.md", "w", encoding="utf-8") as f:
        f.write("\n".join(page.lines) + "\n")


if __name__ == "__main__":
    main()
