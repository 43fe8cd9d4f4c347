# SPDX-License-Identifier: Apache-2.0
"""Combining aligned models into one."""
from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from . import _abi, _pytorch
from ._array import optional
from ._context import Caught, Context, Handle, ProgressFn, default_context, progress_shown
from ._library import c_path, lib, taken_text, text
from ._memory import DTYPES, is_torch, torch_dtype
from ._model import Model, ModelLike, Tensor, handles, models_of
from ._plan import Plan
from ._policy import Policy, PolicyLike, policy_of

PathLike = "str | os.PathLike[str]"


class Repair(Handle):
    """Weights of the fused network, fitted on calibration inputs. `report` says what was done."""

    _free = "tfuse_repair_free"

    def __init__(self, plan: Plan, *models: ModelLike, calib: Any = None, config: Any = None, policy: PolicyLike = None,
                 progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> None:
        ctx = ctx or default_context()
        opened = models_of(models, config, ctx)
        inputs = optional(calib, ctx, "calib")
        raw = ctypes.POINTER(_abi.tfuse_repair)()
        with progress_shown(ctx, progress):
            ctx._call(lib.tfuse_repair_new, policy_of(policy, ctx), plan, handles(opened), len(opened), inputs, ctypes.byref(raw))
        super().__init__(raw, ctx)

    @property
    def report(self) -> dict[str, Any]:
        """Stages, samples, mix, divergences, fitted linears, selected units."""
        return dict(json.loads(text(lib.tfuse_repair_report(self._raw))))

    def __repr__(self) -> str:
        return "<tfuse.Repair closed>" if self.closed else f"<tfuse.Repair {', '.join(self.report['stages']) or 'nothing'}>"


@dataclass
class Fusion:
    """What a fusion gave.

    Attributes:
        model: the fused model, of the anchor's kind: a dict for a mapping, a module for a module, the path for `out`, else a Model.
        plan: the maps.
        repair: the fitted weights, None where nothing was fitted.
    """

    model: Any
    plan: Plan
    repair: Repair | None

    @property
    def report(self) -> dict[str, Any]:
        """The plan's report, and the repair's under "repair"."""
        return {**self.plan.report, "repair": self.repair.report if self.repair else None}


def fuse_into(place: Callable[[Tensor], Any], plan: Plan, *models: ModelLike, repair: Repair | None = None, config: Any = None,
              policy: PolicyLike = None, progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> None:
    """Fuses into memory of the caller's, one tensor at a time, in order of names.

    Args:
        place: gets a Tensor (name, dtype, shape, size); returns where it goes: a writable, contiguous NumPy array or CPU tensor of just as many
            bytes, none of the models'.
    """
    ctx = ctx or default_context()
    opened = models_of(models, config, ctx)
    _into(ctx, policy_of(policy, ctx), plan, opened, repair, lambda info: place(Tensor.of(info)), progress)


def _address(where: Any, name: str, size: int) -> int:
    if is_torch(where):
        if where.device.type != "cpu" or not where.is_contiguous():
            raise TypeError(f"the tensor for '{name}' is on {where.device} or not contiguous: a contiguous one on the CPU is wanted")
        have, address = where.numel() * where.element_size(), where.data_ptr()
    elif isinstance(where, np.ndarray):
        if not where.flags.c_contiguous or not where.flags.writeable:
            raise ValueError(f"the array for '{name}' is {'not contiguous' if where.flags.writeable else 'read-only'}: numpy.empty gives one that will do")
        have, address = where.nbytes, where.ctypes.data
    else:
        raise TypeError(f"the memory for '{name}' is a {type(where).__name__}: a NumPy array or a tensor is wanted")
    if have != size:
        raise ValueError(f"the memory for '{name}' has {have} bytes: {size} are wanted")
    return int(address) or 1


def _into(ctx: Context, policy: Policy, plan: Plan, models: list[Model], repair: Repair | None, place: Callable[[Any], Any],
          progress: ProgressFn | bool | None) -> None:
    caught: Caught = ctx._caught
    kept: list[Any] = []

    def where(_user: int | None, info: Any) -> int | None:
        try:
            tensor = info.contents
            memory = place(tensor)
            address = _address(memory, text(tensor.name), tensor.size)
            kept.append(memory)
            return address
        except BaseException as e:  # pylint: disable=broad-except
            caught.keep(e)
            return None

    sink = _abi.tfuse_sink()
    sink.place = type(sink.place)(where)
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_fuse_into, policy, plan, handles(models), len(models), repair, ctypes.byref(sink))


def _into_mapping(ctx: Context, policy: Policy, plan: Plan, models: list[Model], repair: Repair | None, source: Mapping[str, Any],
                  progress: ProgressFn | bool | None) -> dict[str, Any]:
    """Tensors of PyTorch where the anchor has them, otherwise arrays; in the anchor's order."""
    made: dict[str, Any] = {}

    def place(info: Any) -> Any:
        name, shape = text(info.name), tuple(info.shape[: info.rank])
        like = source[name] if name in source else None
        if is_torch(like):
            made[name] = _pytorch.torch().empty(shape, dtype=torch_dtype(info.dtype))
        elif info.dtype == _abi.TFUSE_BF16:
            kind = getattr(like, "dtype", None)
            if getattr(kind, "name", "") != "bfloat16":
                raise TypeError(f"'{name}' would be bfloat16, which NumPy has not: pass dtype='F32', or tensors of PyTorch")
            made[name] = np.empty(shape, kind)
        else:
            made[name] = np.empty(shape, DTYPES[info.dtype])
        return made[name]

    _into(ctx, policy, plan, models, repair, place, progress)
    return {name: made[name] for name in [n for n in source if n in made] + [n for n in made if n not in source]}


def fusion(*models: ModelLike, calib: Any = None, out: str | os.PathLike[str] | None = None, plan: Plan | str | os.PathLike[str] | None = None,
           config: Any = None, policy: PolicyLike = None, align: str | None = None, weights: Any = None, repair: Any = None, solver: str | None = None,
           reg: float | None = None, samples: int | None = None, seed: int | None = None, memory: int | str | None = None, dtype: str | None = None,
           force: bool | None = None, progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> Fusion:
    """tfuse.fuse, with the plan and the repair beside the model."""
    ctx = ctx or default_context()
    chosen = policy_of(policy, ctx, align=align, weights=weights, repair=repair, solver=solver, reg=reg, samples=samples, seed=seed, memory=memory,
                       dtype=dtype, force=force)
    given = list(models[0] if len(models) == 1 and isinstance(models[0], (list, tuple)) else models)
    opened = models_of(given, config, ctx)
    with progress_shown(ctx, progress):
        inputs = optional(calib, ctx, "calib")
        if plan is None:
            raw = ctypes.POINTER(_abi.tfuse_plan)()
            ctx._call(lib.tfuse_align, chosen, handles(opened), len(opened), inputs, ctypes.byref(raw))
            plan = Plan(raw, ctx)
        elif not isinstance(plan, Plan):
            plan = Plan.load(plan, ctx=ctx)
        fitted: Repair | None = Repair(plan, opened, calib=inputs, policy=chosen, progress=False, ctx=ctx)
        if fitted is not None and not fitted.report["stages"]:
            fitted.close()
            fitted = None
        return Fusion(_combined(ctx, chosen, plan, opened, fitted, given[0], out), plan, fitted)


def _combined(ctx: Context, policy: Policy, plan: Plan, models: list[Model], repair: Repair | None, anchor: Any, out: Any) -> Any:
    """The fused model in the anchor's kind."""
    table, count = handles(models), len(models)
    if out is not None:
        path = c_path("out", out)
        if repair is None:
            ctx._call(lib.tfuse_fuse, policy, plan, table, count, path)
        else:
            ctx._call(lib.tfuse_fuse_repaired, policy, plan, table, count, repair, path)
        return Path(os.fspath(out))
    if _pytorch.is_module(anchor):
        tensors, _config = _pytorch.tensors_of(anchor)
        return _pytorch.like(anchor, _into_mapping(ctx, policy, plan, models, repair, tensors, False))
    if isinstance(anchor, Mapping):
        return _into_mapping(ctx, policy, plan, models, repair, anchor, False)
    raw = ctypes.POINTER(_abi.tfuse_model)()
    selfcheck(plan, models, policy=policy, ctx=ctx) if policy["fuse.selfcheck"] == "1" else None
    if repair is None:
        ctx._call(lib.tfuse_fuse_model, policy, plan, table, count, ctypes.byref(raw))
    else:
        ctx._call(lib.tfuse_fuse_model_repaired, policy, plan, table, count, repair, ctypes.byref(raw))
    return Model._from(raw, ctx)


def fuse(*models: ModelLike, calib: Any = None, out: str | os.PathLike[str] | None = None, plan: Plan | str | os.PathLike[str] | None = None,
         config: Any = None, policy: PolicyLike = None, align: str | None = None, weights: Any = None, repair: Any = None, solver: str | None = None,
         reg: float | None = None, samples: int | None = None, seed: int | None = None, memory: int | str | None = None, dtype: str | None = None,
         force: bool | None = None, progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> Any:
    """Fuses models into one. What goes in comes out: a dict of arrays for a mapping of arrays, of tensors for a state_dict, a module for a module of
    PyTorch or `transformers` (a new one), a tfuse.Model for paths; with `out` a checkpoint is written there, and its path returned.

    Before anything is given back each model is held to the plan: carried by the maps alone it must compute what it did.

    Args:
        models: two or more, the anchor first: paths of checkpoints, mappings of arrays with `config`, modules, Models.
        calib: unlabelled calibration inputs, as of tfuse.align; without any, weights alone are compared and nothing is
            fitted, unless the models are causal language models, which then draw their own (the key calib.generate).
        out: directory of a checkpoint; an existing one is refused unless force=True.
        plan: a plan to apply in place of aligning, or its path.
        config: for models without one: a config.json's content or path, one for all or a list.
        policy: a Policy or a mapping of keys (tfuse.keys() lists them); the arguments after it are short for keys:
        align: align.strategy: "matching" (default), "otfusion" (the paper's), "none".
        weights: combine.weights: one number a model.
        repair: stages as text, such as "refit,head"; "none".
        solver, reg, samples, seed, memory, dtype: solver.name, solver.reg, calib.samples, run.seed, run.memory, io.dtype.
        progress: a function (stage, done, total), True for tqdm, False for none; None: tqdm where it is installed and stderr is a terminal.
        ctx: a Context; None: the thread's own.

    Raises:
        tfuse.Error: a class for each kind of failure, with the library's text.
    """
    return fusion(*models, calib=calib, out=out, plan=plan, config=config, policy=policy, align=align, weights=weights, repair=repair, solver=solver,
                  reg=reg, samples=samples, seed=seed, memory=memory, dtype=dtype, force=force, progress=progress, ctx=ctx).model


def selfcheck(plan: Plan, *models: ModelLike, calib: Any = None, config: Any = None, policy: PolicyLike = None,
              ctx: Context | None = None) -> dict[str, Any]:
    """Holds a plan to what it says: each model carried by its maps alone, run beside the model as it is, on the first of `calib` or on random inputs.
    Raises NumericError where they differ."""
    ctx = ctx or default_context()
    opened = models_of(models, config, ctx)
    out = ctypes.c_void_p()
    inputs = optional(calib, ctx, "calib")
    if inputs is None:
        ctx._call(lib.tfuse_selfcheck, policy_of(policy, ctx), plan, handles(opened), len(opened), ctypes.byref(out))
    else:
        ctx._call(lib.tfuse_selfcheck_on, policy_of(policy, ctx), plan, handles(opened), len(opened), inputs, ctypes.byref(out))
    return dict(json.loads(taken_text(out)))


def dry_run(*models: str | os.PathLike[str], calib: str | os.PathLike[str] | None = None, plan: str | os.PathLike[str] | None = None,
            save_plan: str | os.PathLike[str] | None = None, out: str | os.PathLike[str] | None = None, policy: PolicyLike = None,
            align: str | None = None, ctx: Context | None = None) -> dict[str, Any]:
    """Looks at a run of paths without doing it: {"problems": [...], "peak_bytes", "read_bytes", "write_bytes"}."""
    ctx = ctx or default_context()
    given = list(models[0] if len(models) == 1 and isinstance(models[0], (list, tuple)) else models)
    paths = (ctypes.c_char_p * max(1, len(given)))(*[c_path(f"model {i}", m) for i, m in enumerate(given)])
    table = _abi.tfuse_run_paths(models=paths, n_models=len(given))
    for name, path in (("calib", calib), ("plan", plan), ("save_plan", save_plan), ("out", out)):
        if path is not None:
            setattr(table, name, c_path(name, path))
    report = ctypes.c_void_p()
    ctx._call(lib.tfuse_dry_run, policy_of(policy, ctx, align=align), ctypes.byref(table), ctypes.byref(report))
    return dict(json.loads(taken_text(report)))
