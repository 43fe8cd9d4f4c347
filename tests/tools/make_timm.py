#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/timm-*: small Vision Transformers by timm (1.0.31) and what timm computes with them on x.npy. Needs torch, safetensors and timm;
torchvision, which timm imports for its data loading alone, is stood in for where it is missing.

    make_timm.py OUT
"""
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from functools import partial

import numpy as np
import torch
from safetensors.torch import save_file


class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class Stub(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {"__init__": lambda self, *a, **k: None, "__call__": lambda self, *a, **k: None})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.insert(0, Finder())
from timm.layers import LayerNorm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

KINDS = {
    "average": {"global_pool": "avg", "reg_tokens": 2, "no_embed_class": True, "init_values": 0.5, "qkv_bias": False},
    "patches": {"global_pool": "avg", "class_token": False, "fc_norm": False},
    "clip": {"pre_norm": True, "reg_tokens": 3, "fc_norm": True, "norm_layer": partial(LayerNorm, eps=1e-5)},
}


def main(out):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8)
    for name, options in KINDS.items():
        path = os.path.join(out, "timm-" + name)
        os.makedirs(path, exist_ok=True)
        model = VisionTransformer(img_size=8, patch_size=2, in_chans=3, num_classes=5, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, **options).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.3)
            np.save(os.path.join(path, "logits.npy"), model(x).numpy())
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, os.path.join(path, "model.safetensors"))
        with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
            json.dump({"architecture": "vit_pico_patch2_8", "num_classes": 5, "global_pool": options.get("global_pool", "token"),
                       "model_args": {"num_heads": 2}}, f)
            f.write("\n")
        np.save(os.path.join(path, "x.npy"), x.numpy())


main(sys.argv[1])
