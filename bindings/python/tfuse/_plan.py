# SPDX-License-Identifier: Apache-2.0
"""Aligning models, and the plan that results: maps, and where each applies."""
from __future__ import annotations

import ctypes
import json
import os
from typing import Any, Iterator

import numpy as np

from . import _abi
from ._array import Array, optional
from ._context import Context, Handle, ProgressFn, default_context, progress_shown
from ._library import c_path, lib, taken_text, text
from ._model import ConfigLike, ModelLike, handles, model_of, models_of
from ._policy import PolicyLike, policy_of


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("plotting needs matplotlib: pip install matplotlib") from None
    return pyplot.subplots()[1]


class Map:
    """One map of a plan: how a model's units (n) become the anchor's (m).

    Attributes:
        name, axis, kind: where it arises, the axes that it acts on, identity, permutation, coupling, orthogonal, ...
        model: index of the model that it moves.
        n, m: units of the model, of the anchor.
        cost, gap, error: of the transport problem; NaN where none was solved.
        identity: mass off the diagonal, 0 to 1.
        entropy: exp of the mean entropy of a column's shares; 1 for a permutation.
        iterations, converged: of the solver.
        heads_n, heads_m: heads, where units lie head by head; else 0.
        correlation: of the anchor's units with those that they receive, by what the cost was made of; NaN where nothing was compared.
        kept: part of the model's weights on the axis that is left when they are carried there and back; 1 where nothing is lost.
    """

    def __init__(self, plan: Plan, index: int) -> None:
        info = _abi.tfuse_map_info()
        plan._ctx._settle(lib.tfuse_plan_map(plan._raw, index, ctypes.byref(info)), f"map {index} of {len(plan)}")
        self.plan, self.index = plan, index
        self.name, self.axis, self.kind = text(info.name), text(info.axis), text(info.kind)
        self.model, self.n, self.m = int(info.model), int(info.n), int(info.m)
        self.cost, self.gap, self.error = float(info.cost), float(info.gap), float(info.error)
        self.identity, self.entropy = float(info.identity), float(info.entropy)
        self.iterations, self.converged = int(info.iterations), bool(info.converged)
        self.heads_n, self.heads_m = int(info.heads_n), int(info.heads_m)
        self.correlation, self.kept = float(info.correlation), float(info.kept)

    def numpy(self) -> np.ndarray[Any, Any]:
        """n × m float32: column j says what unit j of the anchor receives; columns sum to one, but for a raw map's."""
        ctx, raw = self.plan._ctx, ctypes.POINTER(_abi.tfuse_array)()
        ctx._call(lib.tfuse_plan_matrix, self.plan, self.index, ctypes.byref(raw))
        return Array(raw, ctx).numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        matrix = self.numpy()
        return matrix if dtype is None else matrix.astype(dtype)

    def plot(self, ax: Any = None) -> Any:
        """Draws the matrix, heads parted by lines; returns matplotlib's axes."""
        ax = _axes(ax)
        matrix = self.numpy()
        if (matrix < 0).any():
            top = float(np.abs(matrix).max()) or 1.0
            image = ax.imshow(matrix, cmap="RdBu", vmin=-top, vmax=top, interpolation="nearest", aspect="auto")
        else:
            image = ax.imshow(matrix, cmap="Greys", vmin=0, interpolation="nearest", aspect="auto")
        for count, units, line in ((self.heads_n, self.n, ax.axhline), (self.heads_m, self.m, ax.axvline)):
            for k in range(1, count):
                line(k * units / count - 0.5, color="tab:orange", linewidth=0.5)
        ax.set_title(f"{self.name} ({self.kind})", fontsize="small")
        ax.set_xlabel("units of the anchor")
        ax.set_ylabel(f"units of model {self.model}")
        ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.02)
        return ax

    def __repr__(self) -> str:
        return f"<tfuse.Map {self.name}: {self.kind}, model {self.model}, {self.n} × {self.m}, on {self.axis}>"


class Plan(Handle):
    """Maps that carry models onto the anchor: a sequence of Map. It keeps nothing of the models."""

    _free = "tfuse_plan_free"

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, ctx: Context | None = None) -> Plan:
        """Reads a plan."""
        ctx = ctx or default_context()
        raw = ctypes.POINTER(_abi.tfuse_plan)()
        ctx._call(lib.tfuse_plan_load, c_path("path", path), ctypes.byref(raw))
        return cls(raw, ctx)

    def save(self, path: str | os.PathLike[str], force: bool = False, repair: Handle | None = None) -> None:
        """Writes the plan in one step, with the owners of what a Repair selected; an existing file is refused (ExistsError) without `force`."""
        if repair is None:
            self._ctx._call(lib.tfuse_plan_save, self, c_path("path", path), int(force))
        else:
            self._ctx._call(lib.tfuse_plan_save_repaired, self, repair, c_path("path", path), int(force))

    def __len__(self) -> int:
        return int(lib.tfuse_plan_count(self._raw))

    def __getitem__(self, key: int | str) -> Map:
        """A map by its place, or by its name."""
        if isinstance(key, str):
            for one in self:
                if one.name == key:
                    return one
            raise KeyError(f"the plan has no map '{key}': {', '.join(m.name for m in self)}")
        index = key + len(self) if key < 0 else key
        if not 0 <= index < len(self):
            raise IndexError(f"map {key} of {len(self)}")
        return Map(self, index)

    def __iter__(self) -> Iterator[Map]:
        return (Map(self, i) for i in range(len(self)))

    @property
    def report(self) -> dict[str, Any]:
        """Strategy, policy, models, passes, and every map."""
        out = ctypes.c_void_p()
        self._ctx._call(lib.tfuse_plan_report, self, ctypes.byref(out))
        return dict(json.loads(taken_text(out)))

    def plot(self, path: str | os.PathLike[str] | None = None, columns: int = 4) -> Any:
        """Draws every map; saves the picture where a path is given; returns matplotlib's figure."""
        maps = list(self)
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("plotting needs matplotlib: pip install matplotlib") from None
        count = max(1, len(maps))
        columns = min(columns, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(3.4 * columns, 3.1 * rows), layout="constrained")
        for i, one in enumerate(maps):
            one.plot(figure.add_subplot(rows, columns, i + 1))
        if path is not None:
            figure.savefig(path)
        return figure

    def __repr__(self) -> str:
        if self.closed:
            return "<tfuse.Plan closed>"
        kinds: dict[str, int] = {}
        for one in self:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
        return f"<tfuse.Plan {self.report.get('strategy')}, {len(self)} maps: {', '.join(f'{v} {k}' for k, v in kinds.items())}>"


def align(*models: ModelLike, calib: Any = None, config: Any = None, policy: PolicyLike = None, align: str | None = None, solver: str | None = None,
          reg: float | None = None, samples: int | None = None, seed: int | None = None, memory: int | str | None = None,
          progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> Plan:
    """Aligns models to the first one, the anchor.

    Args:
        models: two or more; what `Model` takes.
        calib: calibration inputs: images N×H×W or N×C×H×W (uint8, or floats as the model takes them), token ids N×T, a tokenizer's output, a path.
        config: for models without one: one for all, or a list.
        policy: a Policy or a mapping of keys (`tfuse.keys()`); the arguments after it set align.strategy, solver.name, solver.reg, calib.samples,
            run.seed and run.memory.
        progress: a function (stage, done, total), True for tqdm, False for none; None: tqdm where it is installed and stderr is a terminal.
    """
    ctx = ctx or default_context()
    chosen = policy_of(policy, ctx, align=align, solver=solver, reg=reg, samples=samples, seed=seed, memory=memory)
    opened = models_of(models, config, ctx)
    inputs = optional(calib, ctx, "calib")
    raw = ctypes.POINTER(_abi.tfuse_plan)()
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_align, chosen, handles(opened), len(opened), inputs, ctypes.byref(raw))
    return Plan(raw, ctx)


def gauge(model: ModelLike, *, config: ConfigLike = None, policy: PolicyLike = None, seed: int | None = None, ctx: Context | None = None) -> Plan:
    """A random member of a model's symmetry group, as a plan of the model twice: fused with weights 0 and 1 it gives the same function with other
    weights."""
    ctx = ctx or default_context()
    of = model_of(model, config, ctx)
    raw = ctypes.POINTER(_abi.tfuse_plan)()
    ctx._call(lib.tfuse_gauge, policy_of(policy, ctx, seed=seed), of, ctypes.byref(raw))
    return Plan(raw, ctx)
