#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""End to end: the command fuses two Vision Transformers of random weights on one thread, from weights, exactly, beside the stand-in in
otfusion_numpy.py, in turns, medians of whole processes (of the size of ViT-B/16 the stand-in runs once, in the middle); and by Sinkhorn,
which is held to limits of its own. The ratio is of processor time, user's and system's, which other programs disturb little. The fused weights
of both are compared.

    bench_fuse.py TFUSE WORK [--size base] [--rounds 3] [--no-peer]

Memory is the largest RssAnon seen while the process ran, read every 10 ms. Needs numpy and POT.
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

import make_vit
import otfusion_numpy

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
MOST_SECONDS, MOST_MIB, MUST, STRETCH = 60, 1228.8, 6, 12
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BLIS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def anonymous(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return next((int(line.split()[1]) / 1024 for line in f if line.startswith("RssAnon:")), 0)
    except OSError:
        return 0


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(args, env=None, stdout=subprocess.DEVNULL):
    """Seconds, processor seconds and peak MiB of anonymous memory of a process."""
    start, worked, peak = time.perf_counter(), children_seconds(), 0
    with subprocess.Popen(args, env=env, stdout=stdout) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.01)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(args)} failed")
    return seconds, children_seconds() - worked, peak


def compare(ours, theirs):
    """The first block must agree to rounding. Further on one near-tie that two exact solvers settle differently changes the costs of all
    that follows, so there is only a share to tell; the class token's units are single numbers, of which scaling leaves signs: all ties."""
    a, b = otfusion_numpy.load(ours), otfusion_numpy.load(theirs)
    if sorted(a) != sorted(b):
        raise SystemExit("the two results have other tensors")
    off = {name: np.count_nonzero(np.abs(a[name] - b[name]) > 1e-4) for name in a if "cls_token" not in name}
    for name, count in off.items():
        if count and (".embeddings." in name or ".layer.0." in name):
            raise SystemExit(f"the two results differ at {name}")
    return sum(off.values()) / sum(a[name].size for name in off)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tfuse")
    parser.add_argument("work")
    parser.add_argument("--size", choices=list(make_vit.SIZES), default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    args = parser.parse_args()
    models = make_vit.pair(args.work, args.size)
    out, peer = f"{args.work}/fused", f"{args.work}/peer"
    os.makedirs(peer, exist_ok=True)
    command = [args.tfuse, "fuse", *models, "-o", out, "--align", "otfusion", "--threads", "1", "--force", "--quiet"]
    stand_in = [sys.executable, f"{HERE}/otfusion_numpy.py", *models, f"{peer}/model.safetensors"]
    runs = {"exact": [], "peer": [], "sinkhorn": []}
    for i in range(args.rounds):
        runs["sinkhorn"].append(measure(command + ["--solver", "sinkhorn"], ONE_THREAD))
        runs["exact"].append(measure(command, ONE_THREAD))
        if not args.no_peer and (i == args.rounds // 2 or args.size != "base"):
            runs["peer"].append(measure(stand_in, ONE_THREAD))
    seconds = {name: statistics.median(s for s, _, _ in r) for name, r in runs.items() if r}
    work = {name: statistics.median(w for _, w, _ in r) for name, r in runs.items() if r}
    memory = {name: max(m for _, _, m in r) for name, r in runs.items() if r}
    for name in ("exact", "sinkhorn"):
        good = seconds[name] <= MOST_SECONDS and memory[name] <= MOST_MIB
        print(f"fuse {args.size} {name:<9} {seconds[name]:>8.2f} s, of the processor {work[name]:>7.2f} s {memory[name]:>6.0f} MiB anonymous   "
              f"(must: {MOST_SECONDS} s, {MOST_MIB:.0f} MiB)  {'ok' if good else 'BELOW'}", flush=True)
    if "peer" in seconds:
        ratio = work["peer"] / work["exact"]
        verdict = "stretch" if ratio >= STRETCH else "must" if ratio >= MUST else "BELOW"
        print(f"fuse {args.size} NumPy+POT {seconds['peer']:>8.2f} s, of the processor {work['peer']:>7.2f} s {memory['peer']:>6.0f} MiB anonymous   "
              f"ratio {ratio:.1f}x (must: {MUST}x, stretch: {STRETCH}x)  {verdict}; "
              f"{100 * (1 - compare(out, peer)):.1f} % of the fused weights are equal to rounding")


if __name__ == "__main__":
    main()
