# SPDX-License-Identifier: Apache-2.0
"""Dense models split into mixtures of experts, and back; calibration text that language models write themselves."""
from __future__ import annotations

import ctypes
import json
import os
from typing import Any

import numpy as np

from . import _abi
from ._array import Array, optional
from ._context import Context, default_context
from ._library import c_path, lib, taken_text
from ._model import Model, ModelLike, handles, model_of
from ._plan import Plan
from ._policy import PolicyLike, policy_of


def moe(model: ModelLike, *, out: str | os.PathLike[str] | None = None, calib: Any = None, config: Any = None, policy: PolicyLike = None,
        ctx: Context | None = None) -> tuple[Model | None, dict[str, Any]]:
    """Splits a dense model's feed-forward networks into experts by `policy`'s moe.* keys: the model in memory, or None with `out`, a directory that it is
    written to; and the report."""
    ctx = ctx or default_context()
    given, keys, inputs, report = model_of(model, config, ctx), policy_of(policy, ctx), optional(calib, ctx, "calib"), ctypes.c_void_p()
    if out is not None:
        ctx._call(lib.tfuse_moe, keys, given, inputs, c_path("out", out), ctypes.byref(report))
        return None, dict(json.loads(taken_text(report)))
    raw = ctypes.POINTER(_abi.tfuse_model)()
    ctx._call(lib.tfuse_moe_model, keys, given, inputs, ctypes.byref(raw), ctypes.byref(report))
    return Model._from(raw, ctx), dict(json.loads(taken_text(report)))


def moe_dense(model: ModelLike, out: str | os.PathLike[str], *, config: Any = None, policy: PolicyLike = None, ctx: Context | None = None) -> dict[str, Any]:
    """Joins the experts of a split model again and writes the dense checkpoint; the report."""
    ctx = ctx or default_context()
    report = ctypes.c_void_p()
    ctx._call(lib.tfuse_moe_dense, policy_of(policy, ctx), model_of(model, config, ctx), c_path("out", out), ctypes.byref(report))
    return dict(json.loads(taken_text(report)))


def moe_dry_run(model: str | os.PathLike[str], *, dense: bool = False, policy: PolicyLike = None, ctx: Context | None = None) -> dict[str, Any]:
    """Looks at a split (with `dense`, at joining) without doing it: {"problems": [...], "peak_bytes", ...}."""
    ctx = ctx or default_context()
    paths, report = (ctypes.c_char_p * 1)(c_path("model", model)), ctypes.c_void_p()
    table = _abi.tfuse_run_paths(models=paths, n_models=1)
    ctx._call(lib.tfuse_moe_dry_run, policy_of(policy, ctx), ctypes.byref(table), int(dense), ctypes.byref(report))
    return dict(json.loads(taken_text(report)))


def generate(*models: ModelLike, plan: Plan | None = None, config: Any = None, policy: PolicyLike = None,
             ctx: Context | None = None) -> np.ndarray[Any, Any]:
    """Token ids that causal language models write by turns (keys calib.generate, calib.length, run.seed), sequences × length."""
    ctx = ctx or default_context()
    opened = [model_of(m, config, ctx) for m in models]
    raw = ctypes.POINTER(_abi.tfuse_array)()
    ctx._call(lib.tfuse_generate, policy_of(policy, ctx), plan, handles(opened), len(opened), ctypes.byref(raw))
    return Array(raw, ctx).numpy()
