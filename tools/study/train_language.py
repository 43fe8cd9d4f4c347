#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small language models on the King James Bible (tools/kjv.py makes the tokens): Llamas on the next token, BERTs on masked ones. One seed makes one model.

    train_language.py TOKENS.npy llama|bert OUT=SEED... [--steps 2000] [--rate 2e-3] [--batch 32]

The last twentieth of the tokens is held out."""
import argparse
import os
import time

import numpy as np
import torch

import language
import training

LENGTH = 64
SHORT = 16  # a BERT's windows in the first half of training, anywhere among the positions: with few tokens to attend to it finds the neighbours much sooner
MASKED = 0.25  # share of a BERT's tokens to be told in training; more than in validation, since it is short


def held_out(tokens, kind):
    windows = tokens[-(len(tokens) // 20):][: 512 * LENGTH + 1].unfold(0, LENGTH + 1, LENGTH)
    return language.next_tokens(windows) if kind == "llama" else language.masked(windows[:, :LENGTH], torch.Generator().manual_seed(0))


@torch.no_grad()
def validate(net, p, config, held):
    logits = torch.cat([net.logits(p, config, part) for part in held[0].split(64)])
    return language.loss_of(logits, held[1]).item()


def train(tokens, kind, out, seed, options):
    net, generator = language.KINDS[kind], torch.Generator().manual_seed(seed)
    config = net.config()
    p, held, text = net.new(config, generator), held_out(tokens, kind), tokens[: -(len(tokens) // 20)]
    began = time.monotonic()

    def windows(count, length):
        starts = torch.randint(0, len(text) - length, (count, 1), generator=generator)
        return text[starts + torch.arange(length)]

    def llama_loss(_):
        inputs, labels = language.next_tokens(windows(options.batch, LENGTH + 1))
        return language.loss_of(net.logits(p, config, inputs), labels)

    def bert_loss(step):
        length = SHORT if step < options.steps // 2 else LENGTH
        inputs, labels = language.masked(windows(options.batch * LENGTH // length, length), generator, MASKED)
        first = int(torch.randint(0, LENGTH - length + 1, (), generator=generator))
        return language.loss_of(net.logits(p, config, inputs, first), labels)

    def after(step, loss):
        if (step + 1) % 100 == 0:
            print(f"{out}: step {step + 1}: {loss:.3f} nats, {(step + 1) / (time.monotonic() - began):.2f} steps/s", flush=True)

    training.optimise(p, llama_loss if kind == "llama" else bert_loss, options.steps, options.rate, after=after)
    loss = validate(net, p, config, held)
    print(f"{out}: held out {loss:.4f} nats", flush=True)
    training.save(out, p, config, train_log={"seed": seed, "steps": options.steps, "rate": options.rate, "batch": options.batch, "held_out": loss})


def main():
    parser = argparse.ArgumentParser(description="small language models, a seed each")
    parser.add_argument("tokens")
    parser.add_argument("kind", choices=sorted(language.KINDS))
    parser.add_argument("models", nargs="+", metavar="OUT=SEED")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens = torch.from_numpy(np.load(options.tokens).astype(np.int64))
    for out, seed in (m.rsplit("=", 1) for m in options.models):
        if not os.path.exists(out):
            train(tokens, options.kind, out, int(seed), options)


if __name__ == "__main__":
    main()
