#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The experiment of Imfeld et al. 2024 (Transformer Fusion with Optimal Transport, ICLR) on two small Vision Transformers: fuse two parents, then fine-tune
the parents and the fused model at one budget (steps, order of images, optimiser, schedule, learning rate) and compare on the test set.

    python headline.py PARENT PARENT [--images 55000] [--epochs 1] [--rate 5e-4] [--curves curves.png]

The first parent is the anchor. The plain average of the two is fine-tuned too, as a control: what it recovers is the fine-tuning's doing and not the fusion's.
The ensemble of the parents (twice the cost) stands beside it. Needs torch, transformers, matplotlib, and Fashion-MNIST (Debian: dataset-fashion-mnist).
"""
import argparse
import gzip
import json
import os
import time

import numpy as np
import torch
import transformers

import tfuse

DATA = "/usr/share/datasets/fashion-mnist/"
HELD = 5000  # the last training images, of which some are the calibration inputs: nothing else sees them


def read(name, offset):
    with gzip.open(os.path.join(DATA, name)) as f:
        return np.frombuffer(f.read(), np.uint8, offset=offset)


def dataset(which, preprocessor):
    images = torch.from_numpy(read(f"{which}-images-idx3-ubyte.gz", 16).copy()).reshape(-1, 1, 28, 28).float()
    images = (images * preprocessor["rescale_factor"] - preprocessor["image_mean"][0]) / preprocessor["image_std"][0]
    return images, torch.from_numpy(read(f"{which}-labels-idx1-ubyte.gz", 8).astype(np.int64))


@torch.no_grad()
def logits(model, images):
    model.eval()
    return torch.cat([model(batch).logits for batch in images.split(500)])


def score(given, labels):
    """(accuracy in percent, mean loss)"""
    return 100 * (given.argmax(1) == labels).float().mean().item(), torch.nn.functional.cross_entropy(given, labels).item()


def fine_tune(model, train, test, options):
    """[(step, accuracy, loss)] on the test set, before the first step and after each half epoch."""
    images, labels = train
    batches = len(images) // options.batch
    steps = options.epochs * batches
    optimiser = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=steps, pct_start=0.1)
    order = torch.Generator().manual_seed(options.seed)
    curve = [(0, *score(logits(model, test[0]), test[1]))]
    step = 0
    for _ in range(options.epochs):
        for batch in torch.randperm(len(images), generator=order)[: batches * options.batch].split(options.batch):
            model.train()
            loss = torch.nn.functional.cross_entropy(model(images[batch]).logits, labels[batch])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            if step % max(1, batches // 2) == 0 or step == steps:
                curve.append((step, *score(logits(model, test[0]), test[1])))
    return curve


def draw(curves, ensemble, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for column, what in ((1, "test accuracy, %"), (2, "test loss, nats")):
        axes = figure.add_subplot(1, 2, column)
        for name, curve in curves.items():
            axes.plot([c[0] for c in curve], [c[column] for c in curve], label=name, marker=".", linestyle="--" if "average" in name else "-")
        axes.axhline(ensemble[column - 1], color="grey", linewidth=1, label="ensemble of the parents, not tuned")
        floor = sorted(c[column] for name, curve in curves.items() if "average" not in name for c in curve)
        margin = 0.3 * (floor[-1] - floor[0]) + 1e-3
        axes.set_ylim(min(floor[0], ensemble[column - 1]) - margin, max(floor[-1], ensemble[column - 1]) + margin)
        axes.set_xlabel("steps of fine-tuning")
        axes.set_ylabel(what)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description="two parents, fused, then all fine-tuned at one budget")
    parser.add_argument("parents", nargs=2, help="checkpoints of ViTForImageClassification; the first is the anchor")
    parser.add_argument("--images", type=int, default=55000, help="training images of fine-tuning")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--calib", type=int, default=600, help="unlabelled images that fusion sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", default="curves.png")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    with open(os.path.join(options.parents[0], "preprocessor_config.json"), encoding="utf-8") as f:
        preprocessor = json.load(f)
    (images, labels), test = dataset("train", preprocessor), dataset("t10k", preprocessor)
    train, calib = (images[: options.images], labels[: options.images]), images[-HELD:][: options.calib]

    first, second = (transformers.ViTForImageClassification.from_pretrained(p).eval() for p in options.parents)
    began = time.monotonic()
    fused = tfuse.fuse(first, second, calib=calib, samples=options.calib)
    print(f"fused in {time.monotonic() - began:.1f} s from {options.calib} unlabelled images", flush=True)
    ensemble = score((logits(first, test[0]) + logits(second, test[0])) / 2, test[1])
    models = {"first parent": first, "second parent": second, "fused": fused, "plain average": tfuse.fuse(first, second, align="none")}
    curves = {}
    for name, model in models.items():
        curves[name] = fine_tune(model, train, test, options)
        print(f"{name}: fine-tuned for {curves[name][-1][0]} steps", flush=True)

    print(f"\n{'':16}{'as it is':>20}{'fine-tuned':>20}")
    for name, curve in curves.items():
        print(f"{name:16}{curve[0][1]:10.2f} %{curve[0][2]:8.4f}{curve[-1][1]:10.2f} %{curve[-1][2]:8.4f}")
    print(f"{'ensemble':16}{ensemble[0]:10.2f} %{ensemble[1]:8.4f}")
    draw(curves, ensemble, options.curves)
    print(f"\ncurves: {options.curves}")


if __name__ == "__main__":
    main()
