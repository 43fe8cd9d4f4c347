# SPDX-License-Identifier: Apache-2.0
"""What the scripts that train the study's models share: parameters as a dict of tensors under Hugging Face's names, one optimiser and schedule, checkpoints.
A network is a function of (parameters, config, inputs), so a fused checkpoint is trained on by the same code as a parent. PyTorch 1.13 (Debian) or later."""
import gzip
import json
import math
import os
import shutil
import struct

import numpy as np
import torch

FASHION = os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
HELD_OUT = 5000  # the last training images: every choice is made on them, nothing is trained on them


def linear(p, name, x):
    return torch.nn.functional.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))


def layer_norm(p, name, x, eps):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps)


def attend(q, k, v, causal=False):
    """Scaled dot-product attention of N x heads x T x width, by PyTorch's own kernel where it has one."""
    if hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
    return scores.softmax(-1) @ v


def normal(generator, *shape, std=0.02):
    return (torch.randn(*shape, generator=generator) * std).clamp_(-2 * std, 2 * std)


def new_linear(p, generator, name, out, inside, bias=True, std=0.02):
    p[f"{name}.weight"] = normal(generator, out, inside, std=std)
    if bias:
        p[f"{name}.bias"] = torch.zeros(out)


def new_norm(p, name, width):
    p[f"{name}.weight"], p[f"{name}.bias"] = torch.ones(width), torch.zeros(width)


def fashion(which):
    """(images as uint8 N x 28 x 28, labels) of "train" or "t10k"."""
    def read(kind, offset):
        with gzip.open(f"{FASHION}/{which}-{kind}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=offset)

    return torch.from_numpy(read("images-idx3", 16).copy()).reshape(-1, 28, 28), torch.from_numpy(read("labels-idx1", 8).astype(np.int64))


def shifted_and_flipped(images, generator, reach=2):
    """Each image of N x H x W moved by up to `reach` pixels both ways, zeros moving in, and mirrored or not."""
    n, h, w = images.shape
    rows = torch.arange(h) + torch.randint(0, 2 * reach + 1, (n, 1), generator=generator)
    columns = torch.arange(w) + torch.randint(0, 2 * reach + 1, (n, 1), generator=generator)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def optimise(p, loss_of, steps, rate, decay=0.05, warmup=0.1, after=None):
    """AdamW over `steps` calls of loss_of(step): the rate rises in a line over the first `warmup` of them and falls to zero by a cosine; norms and biases are not
    decayed; gradients are clipped to norm 1. after(step, loss) is called once each step has been taken. p's tensors are changed in place."""
    for t in p.values():
        t.requires_grad_(True)
    optimiser = torch.optim.AdamW([{"params": [t for t in p.values() if t.dim() > 1], "weight_decay": decay},
                                   {"params": [t for t in p.values() if t.dim() <= 1], "weight_decay": 0.0}], lr=rate)
    rise = max(1, round(warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: (s + 1) / rise if s < rise else 0.5 * (1 + math.cos(math.pi * (s - rise) / max(1, steps - rise))))
    for step in range(steps):
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        optimiser.step()
        schedule.step()
        if after:
            after(step, loss.item())


def epochs_of(n, batch, generator):
    """Index batches without end: every epoch a new order, the incomplete last batch left out."""
    while True:
        yield from torch.randperm(n, generator=generator)[: n // batch * batch].split(batch)


def save(directory, p, config, **files):
    """A checkpoint as Hugging Face lays it out; files: further JSON files by their stem. The directory appears whole or not at all."""
    part = f"{directory}.part"
    os.makedirs(part, exist_ok=True)
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, t in p.items():
        blob = t.detach().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{part}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    for stem, content in {"config": config, **files}.items():
        with open(f"{part}/{stem}.json", "w", encoding="utf-8") as f:
            json.dump(content, f, indent=1)
    if os.path.isdir(directory):
        shutil.rmtree(directory)
    os.rename(part, directory)


def load(directory):
    """(parameters, config) of a float32 checkpoint."""
    with open(f"{directory}/model.safetensors", "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    p = {}
    for name, about in header.items():
        if about["dtype"] != "F32":
            raise SystemExit(f"{directory}: {name} is {about['dtype']}: only F32 checkpoints are trained on")
        begin, end = about["data_offsets"]
        p[name] = torch.from_numpy(np.frombuffer(data[begin:end], "<f4").reshape(about["shape"]).copy())
    with open(f"{directory}/config.json", encoding="utf-8") as f:
        return p, json.load(f)
