#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains Vision Transformers on Fashion-MNIST as those of tests/data were: 64 wide, 4 layers, 4 heads, 128 hidden units; AdamW, cosine, shifts and flips, 55,000
images. One seed makes one model (its initial weights, the order of the images, what is done to them). A model that is there already is left alone.

    train_vit.py OUT=SEED[:KIND]... [--epochs 8] [--rate 2e-3] [--batch 128]

KIND: low and high are specialists, which see all of classes 0 to 4 or 5 to 9 and one image in twenty of the others; wide has 128 units, 8 heads, 256 hidden units.
"""
import argparse
import os
import time

import torch

import training
import vit


def seen(labels, kind, generator):
    """the rows of the training images that a model of this kind sees"""
    if kind not in ("low", "high"):
        return torch.arange(len(labels))
    own = (labels < 5) == (kind == "low")
    return torch.nonzero(own | (torch.rand(len(labels), generator=generator) < 0.05))[:, 0]


def train(out, seed, kind, options):
    generator = torch.Generator().manual_seed(seed)
    config = vit.config_of(width=128, heads=8, hidden=256) if kind == "wide" else vit.config_of()
    p = vit.new(config, generator)
    images, labels = training.fashion("train")
    held = images[-training.HELD_OUT:], labels[-training.HELD_OUT:]
    rows = seen(labels[: -training.HELD_OUT], kind, generator)
    images, labels = images[rows], labels[rows]
    batches = training.epochs_of(len(images), options.batch, generator)
    each = len(images) // options.batch
    history, began = [], time.monotonic()

    def loss_of(_):
        rows = next(batches)
        given = vit.logits(p, config, vit.normalised(training.shifted_and_flipped(images[rows], generator)))
        return torch.nn.functional.cross_entropy(given, labels[rows])

    def after(step, _):
        if (step + 1) % each == 0:
            history.append(vit.score(vit.all_logits(p, config, held[0]), held[1]))
            print(f"{out}: epoch {len(history)}: validation {history[-1][0]:.2f} %, {history[-1][1]:.4f} nats, "
                  f"{(step + 1) * options.batch / (time.monotonic() - began):.0f} images/s", flush=True)

    training.optimise(p, loss_of, options.epochs * each, options.rate, after=after)
    test_images, test_labels = training.fashion("t10k")
    log = {"seed": seed, "kind": kind, "epochs": options.epochs, "rate": options.rate, "batch": options.batch, "validation": history,
           "test": vit.score(vit.all_logits(p, config, test_images), test_labels)}
    training.save(out, p, config, preprocessor_config=vit.PREPROCESSOR, train_log=log)


def main():
    parser = argparse.ArgumentParser(description="Vision Transformers on Fashion-MNIST, a seed each")
    parser.add_argument("models", nargs="+", metavar="OUT=SEED[:KIND]")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for out, recipe in (m.rsplit("=", 1) for m in options.models):
        seed, _, kind = recipe.partition(":")
        if kind not in ("", "low", "high", "wide"):
            parser.error(f"{recipe}: the kinds are low, high and wide")
        if not os.path.exists(out):
            train(out, int(seed), kind, options)


if __name__ == "__main__":
    main()
