#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes checkpoints of one shape alike and says how good each is on the way: AdamW, cosine, shifts and flips, the 55,000 training images in one order.

    finetune.py OUT_DIR NAME=MODEL... [--rates 1e-3,5e-4,2e-4] [--epochs 3]

One run is one model at one rate. It leaves OUT_DIR/NAME@RATE.json: the accuracies and losses on the validation images (the last 5,000 training images, by which a
rate is to be chosen) and on the test images after 0, 0.5, 1, 2, ... epochs; and the logits of the test images beside it, .npy, for ensembles. A run that is there
already is not made again, so an interrupted study goes on where it was."""
import argparse
import hashlib
import json
import os
import time

import numpy as np
import torch

import training
import vit

SEED, BATCH = 0, 128


def digest(model):
    with open(f"{model}/model.safetensors", "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def points_of(epochs, each):
    """{step: epoch} at which a run is scored"""
    return {round(each * e): e for e in (0, 0.5, *range(1, epochs + 1))}


def run(model, rate, epochs, data):
    """(points, logits): points are {epoch, validation: [accuracy, loss], test: [accuracy, loss]}"""
    p, config = training.load(model)
    (images, labels), held, test = data
    generator = torch.Generator().manual_seed(SEED)
    batches, each = training.epochs_of(len(images), BATCH, generator), len(images) // BATCH
    at, points, logits = points_of(epochs, each), [], []

    def score(step):
        if step in at:
            logits.append(vit.all_logits(p, config, test[0]))
            points.append({"epoch": at[step], "validation": vit.score(vit.all_logits(p, config, held[0]), held[1]), "test": vit.score(logits[-1], test[1])})

    def loss_of(_):
        rows = next(batches)
        return torch.nn.functional.cross_entropy(
            vit.logits(p, config, vit.normalised(training.shifted_and_flipped(images[rows], generator))), labels[rows])

    score(0)
    training.optimise(p, loss_of, epochs * each, rate, after=lambda step, _: score(step + 1))
    return points, torch.stack(logits).numpy()


def finished(file, sha, epochs):
    """Whether the file is of a run of this very model and length"""
    if not os.path.exists(file):
        return False
    with open(file, encoding="utf-8") as f:
        about = json.load(f)
    return about["sha256"] == sha and about["epochs"] == epochs


def main():
    parser = argparse.ArgumentParser(description="fine-tunes checkpoints of one shape alike")
    parser.add_argument("out")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--rates", default="1e-3,5e-4,2e-4")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(options.out, exist_ok=True)
    images, labels = training.fashion("train")
    cut = len(images) - training.HELD_OUT
    data = (images[:cut], labels[:cut]), (images[cut:], labels[cut:]), training.fashion("t10k")
    for name, model in (m.split("=", 1) for m in options.models):
        for rate in options.rates.split(","):
            stem, sha = f"{options.out}/{name}@{rate}", digest(model)
            if finished(f"{stem}.json", sha, options.epochs):
                continue
            began = time.monotonic()
            points, logits = run(model, float(rate), options.epochs, data)
            np.save(f"{stem}.npy", logits)
            with open(f"{stem}.part", "w", encoding="utf-8") as f:
                json.dump({"sha256": sha, "rate": rate, "epochs": options.epochs, "points": points}, f, indent=1)
            os.rename(f"{stem}.part", f"{stem}.json")
            print(f"{name}, rate {rate}: " + ", ".join(f"{x['epoch']}: {x['test'][0]:.2f} %" for x in points) + f" ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
