#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every method and control on real pairs of models, as one page: accuracy and loss on test images of both orders of each pair, data-free and
with calibration images, and the loss along the path. Run by `make study`.

usage: study.py TFUSE OUT_DIR PAIR...   PAIR: two model directories with a comma between; the tables average both orders of a pair.

Calibration images are the first training images, unlabelled. Nothing is chosen by the test images.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

DATA = os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
TEST = ["--inputs", f"{DATA}/t10k-images-idx3-ubyte.gz", "--labels", f"{DATA}/t10k-labels-idx1-ubyte.gz"]
CALIB = ["--calib", f"{DATA}/train-images-idx3-ubyte.gz"]
SAMPLES = [int(n) for n in os.environ.get("SAMPLES", "100 600 3000").split()]


def methods():
    """(section, name, options) of every row."""
    yield "controls", "plain average", ["--align", "none"]
    yield "controls", "half-anchor", ["--align", "otfusion", "--control", "half-anchor"]
    yield "controls", "uniform maps", ["--align", "otfusion", "--control", "uniform"]
    yield "controls", "random permutations", ["--align", "otfusion", "--control", "random"]
    yield "data-free", "paper, exact", ["--align", "otfusion"]
    yield "data-free", "paper, Sinkhorn 0.06", ["--align", "otfusion", "--solver", "sinkhorn", "--reg", "0.06"]
    yield "data-free", "matching, permuted stream", ["--align", "matching", "--set", "matching.stream=permutation"]
    yield "data-free", "matching", ["--align", "matching"]
    for n in SAMPLES:
        with_n = [*CALIB, "--samples", str(n)]
        section = f"{n} calibration images"
        yield section, "paper, exact", ["--align", "otfusion", *with_n]
        yield section, "paper, Sinkhorn 0.08 (authors' default)", ["--align", "otfusion", *with_n, "--solver", "sinkhorn", "--reg", "0.08"]
        yield section, "paper, Sinkhorn 0.01, skip", ["--align", "otfusion", *with_n, "--solver", "sinkhorn", "--reg", "0.01",
                                                      "--set", "otfusion.residual=skip"]
        yield section, "matching", ["--align", "matching", *with_n, "--repair", "none"]
        yield section, "matching + regmean", ["--align", "matching", *with_n, "--repair", "regmean"]
        yield section, "matching + statistics", ["--align", "matching", *with_n, "--repair", "statistics"]
        yield section, "matching + refit, head", ["--align", "matching", *with_n, "--repair", "refit,head"]
        yield section, "matching + select, refit, head", ["--align", "matching", *with_n, "--repair", "select,refit,head"]
        yield section, "matching + mix, select, refit, head (auto)", ["--align", "matching", *with_n]
        yield section, "control: no fusion, a leading model with its head refitted", [
            "--align", "matching", *with_n, "--repair", "mix,head", "--set", "repair.lead=1"]


class Study:
    def __init__(self, tool, work):
        self.tool, self.work = tool, work

    def call(self, *args):
        done = subprocess.run([self.tool, *args], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"study: {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def score(self, model):
        result = json.loads(self.call("eval", model, *TEST, "--json", "--quiet"))
        return 100 * result["accuracy"], result["loss"]

    def fused(self, pair, options):
        out = os.path.join(self.work, "fused")
        self.call("fuse", *pair, *options, "-o", out, "--force", "--quiet")
        result = self.score(out)
        shutil.rmtree(out)
        return result

    def path(self, pair, options, file):
        self.call("path", *pair, *TEST, *options, "--limit", "2000", "-o", file, "--force", "--quiet")


def name_of(model):
    return os.path.basename(os.path.normpath(model))


def table(study, pairs):
    names = [" + ".join(name_of(m) for m in pair) for pair in pairs]
    parents = [[study.score(m) for m in pair] for pair in pairs]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(pairs)]
    lines.append("| parents | " + " | ".join(", ".join(f"{a:.2f}" for a, _ in p) for p in parents) + " |")
    section = None
    for kind, name, options in methods():
        if kind != section:
            section = kind
            lines.append(f"| **{kind}** |" + " |" * len(pairs))
        cells = []
        for pair in pairs:
            scores = [study.fused(order, options) for order in (pair, pair[::-1])]
            mean = sum(a for a, _ in scores) / 2
            cells.append(f"{mean:.2f} ± {abs(scores[0][0] - scores[1][0]) / 2:.2f} ({sum(l for _, l in scores) / 2:.3f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    tool, out, pairs = sys.argv[1], sys.argv[2], [tuple(p.split(",")) for p in sys.argv[3:]]
    with tempfile.TemporaryDirectory() as work:
        study = Study(tool, work)
        lines = table(study, pairs)
        study.path(pairs[0], ["--align", "matching", *CALIB, "--samples", "600"], os.path.join(out, "study-path.svg"))
    with open(os.path.join(out, "study.md"), "w", encoding="utf-8") as f:
        f.write("# A study of methods and controls\n\n"
                "Written by `make study`. Accuracy in percent on the 10,000 test images of Fashion-MNIST, the mean over both orders of a pair and half\n"
                "their difference; in parentheses the mean loss in nats. One shot: no labels, no gradients. Calibration images are the first training\n"
                "images. The controls are to be read first: half-anchor is one model with its weights halved, and the last row of each part\n"
                "is one model alone whose last layer was fitted to the ensemble.\n\n")
        f.write("\n".join(lines) + "\n\n## The straight line between the first pair\n\n"
                "Loss and accuracy between the two models, aligned by matching with 600 images and not aligned (2,000 test images).\n\n"
                "![loss and accuracy along the path](study-path.svg)\n")


if __name__ == "__main__":
    main()
