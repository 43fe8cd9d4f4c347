#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The evaluator beside PyTorch: images a second of one Vision Transformer in float32, the same weights, inputs and threads, in turns (ABAB),
medians. Both outputs are compared.

Ours is the whole call of tfuse_run: loading the weights, which it does each time, is part of it. PyTorch's model is loaded once and runs under
inference_mode in the batch that is fastest for it among the sizes tried first.

    bench_forward.py libtfuse.so WORK [--rounds 5] [--only SIZE]

Needs torch and transformers; WORK holds the models of make_vit.py, which are made there when they are missing.
"""
import argparse
import ctypes
import os
import statistics
import time

import numpy as np
import torch
from transformers import ViTForImageClassification
from transformers.utils import logging

import make_vit

IMAGES = {"test": 2048, "small": 16, "base": 8}
BATCHES = {"test": (16, 64, 256), "small": (1, 4, 16), "base": (1, 2, 8)}
WANTED = 0.7
TOLERANCE = 1e-4  # of the largest logit: float32, sums in another order


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def keep(_):
    """Borrowed memory stays with numpy."""


class Ours:
    def __init__(self, path):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        for name in ("tfuse_array_free", "tfuse_model_free"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p]
        self.lib.tfuse_ctx_error.restype = ctypes.c_char_p
        self.lib.tfuse_dtype_name.restype = ctypes.c_char_p
        self.lib.tfuse_array_data.restype = ctypes.c_void_p
        self.f32 = next(i for i in range(1, 32) if self.lib.tfuse_dtype_name(i) == b"F32")
        self.ctx = ctypes.c_void_p()
        self.check(self.lib.tfuse_ctx_new(None, ctypes.byref(self.ctx)))

    def check(self, status):
        if status:
            raise SystemExit(self.lib.tfuse_ctx_error(self.ctx).decode())

    def open(self, path):
        model = ctypes.c_void_p()
        self.check(self.lib.tfuse_model_open(self.ctx, path.encode(), ctypes.c_uint32(0), ctypes.byref(model)))
        return model

    def wrap(self, x):
        out = ctypes.c_void_p()
        self.check(self.lib.tfuse_array_wrap(self.ctx, self.f32, ctypes.c_size_t(x.ndim), (ctypes.c_int64 * x.ndim)(*x.shape),
                                             x.ctypes.data_as(ctypes.c_void_p), keep, None, ctypes.byref(out)))
        return out

    def run(self, model, inputs, shape, threads):
        self.check(self.lib.tfuse_ctx_set_threads(self.ctx, ctypes.c_uint32(threads)))
        out = ctypes.c_void_p()
        start = time.perf_counter()
        self.check(self.lib.tfuse_run(self.ctx, model, None, inputs, ctypes.c_int64(0), ctypes.byref(out)))
        seconds = time.perf_counter() - start
        size = int(np.prod(shape))
        data = (ctypes.c_float * size).from_address(self.lib.tfuse_array_data(out))
        logits = np.array(data).reshape(shape)
        self.lib.tfuse_array_free(out)
        return seconds, logits


def run_torch(net, x, batch, threads):
    torch.set_num_threads(threads)
    start = time.perf_counter()
    with torch.inference_mode():
        logits = torch.cat([net(x[i:i + batch]).logits for i in range(0, len(x), batch)])
    return time.perf_counter() - start, logits.numpy()


def compare(ours, size, work, rounds):
    _, _, _, _, image, _, channels, classes = make_vit.SIZES[size]
    path = f"{work}/{size}-1"
    if not os.path.exists(f"{path}/model.safetensors"):
        make_vit.write(path, size, 1)
    x = np.random.default_rng(3).standard_normal((IMAGES[size], channels, image, image), dtype=np.float32)
    net = ViTForImageClassification.from_pretrained(path, dtype=torch.float32).eval()
    model, inputs, tensor, shape = ours.open(path), ours.wrap(x), torch.from_numpy(x), (len(x), classes)
    for threads in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
        batch = min(BATCHES[size], key=lambda b: run_torch(net, tensor, b, threads)[0])
        mine, theirs = [], []
        for _ in range(rounds):
            seconds, a = ours.run(model, inputs, shape, threads)
            mine.append(len(x) / seconds)
            seconds, b = run_torch(net, tensor, batch, threads)
            theirs.append(len(x) / seconds)
        error = np.abs(a - b).max() / np.abs(b).max()
        if not error <= TOLERANCE:
            raise SystemExit(f"{size}: logits differ by {error:.1e} of the largest")
        ours_rate, torch_rate = statistics.median(mine), statistics.median(theirs)
        ratio = ours_rate / torch_rate
        print(f"forward {size:<6}{threads:>3} thread{'s' if threads > 1 else ' '}{ours_rate:>10.1f} images/s   torch (batch {batch:>4})"
              f"{torch_rate:>10.1f} images/s   ratio {ratio:.2f}  (must: {WANTED})  {'ok' if ratio >= WANTED else 'BELOW'}", flush=True)
    ours.lib.tfuse_array_free(inputs)
    ours.lib.tfuse_model_free(model)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(IMAGES))
    args = parser.parse_args()
    logging.disable_progress_bar()
    ours = Ours(args.library)
    for size in [args.only] if args.only else list(IMAGES):
        compare(ours, size, args.work, args.rounds)


if __name__ == "__main__":
    main()
