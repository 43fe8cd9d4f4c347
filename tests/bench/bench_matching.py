#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Matching and repair of two Vision Transformers of random weights: from weights on one thread; with calibration images (random ones) and the
linears refitted on two threads; the same with heads and hidden units selected. Each runs once: seconds, processor seconds, the peak of
anonymous memory, and what the report says the library held at most.

    bench_matching.py TFUSE WORK [--size base] [--images 256] [--only weights,refit,select]
"""
import argparse
import json
import os

import numpy as np

import make_vit
from bench_fuse import ONE_THREAD, measure

MOST_SECONDS = {"weights": 60, "refit": 600}
REPAIRS = {"refit": "refit,head", "select": "select,refit,head"}


def write_images(path, size, n):
    image, channels = make_vit.SIZES[size][4], make_vit.SIZES[size][6]
    np.save(path, np.random.default_rng(5).integers(0, 256, (n, channels, image, image), dtype=np.uint8))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tfuse")
    parser.add_argument("work")
    parser.add_argument("--size", choices=list(make_vit.SIZES), default="base")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--only", default="weights,refit,select")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    models = make_vit.pair(args.work, args.size)
    images = f"{args.work}/images-{args.size}-{args.images}.npy"
    if not os.path.exists(images):
        write_images(images, args.size, args.images)
    for name in args.only.split(","):
        out = f"{args.work}/matched"
        command = [args.tfuse, "fuse", *models, "-o", out, "--align", "matching", "--force", "--quiet", "--json"]
        command += ["--repair", "none", "--threads", "1"] if name == "weights" else [
            "--repair", REPAIRS[name], "--threads", "2", "--calib", images, "--samples", str(args.images)]
        said = f"{args.work}/said.json"
        with open(said, "w", encoding="utf-8") as to:
            seconds, work, peak = measure(command, ONE_THREAD if name == "weights" else None, to)
        with open(said, encoding="utf-8") as of:
            metered = json.load(of)["peak_bytes"] / 2**20
        most = MOST_SECONDS.get(name)
        verdict = "" if most is None or args.size != "base" else f"   (must: {most} s)  {'ok' if seconds <= most else 'BELOW'}"
        print(f"match {args.size} {name:<8} {seconds:>8.2f} s, of the processor {work:>8.2f} s {peak:>6.0f} MiB anonymous, "
              f"{metered:.0f} of them metered{verdict}", flush=True)


if __name__ == "__main__":
    main()
