# SPDX-License-Identifier: Apache-2.0
"""Statistics of values that a training loop computes anyway."""
from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from . import _abi
from ._array import Array
from ._context import Context, Handle, ProgressFn, default_context, progress_shown
from ._library import c_text, lib, text
from ._model import ModelLike, handles, models_of
from ._plan import Plan
from ._policy import PolicyLike, policy_of


class Want(NamedTuple):
    """A value that each step needs: model (0 is the anchor), its name in the model's graph, rows of a sample (0: as many as each batch has), numbers in a
    row."""

    model: int
    value: str
    tokens: int
    units: int


class Statistics(Handle):
    """What an alignment wants to see of models, fed batch by batch.

    Args:
        models: the anchor first; weights may go on changing until `align`.
        policy: as for tfuse.align.
    """

    _free = "tfuse_stats_free"

    def __init__(self, *models: ModelLike, config: Any = None, policy: PolicyLike = None, align: str | None = None, ctx: Context | None = None) -> None:
        ctx = ctx or default_context()
        self._models = models_of(models, config, ctx)
        self._policy = policy_of(policy, ctx, align=align)
        raw = ctypes.POINTER(_abi.tfuse_stats)()
        ctx._call(lib.tfuse_stats_new, self._policy, handles(self._models), len(self._models), ctypes.byref(raw))
        super().__init__(raw, ctx)
        ctx._bound.add(self)

    @property
    def wants(self) -> list[Want]:
        """The values that each step needs."""
        made = []
        for i in range(lib.tfuse_stats_count(self._raw)):
            want = _abi.tfuse_stat_want()
            self._ctx._settle(lib.tfuse_stats_want(self._raw, i, ctypes.byref(want)), "")
            made.append(Want(int(want.model), text(want.value), int(want.tokens), int(want.units)))
        return made

    @property
    def sweeps(self) -> int:
        """1, or 2: then all batches are fed twice, with rewind() between."""
        return int(lib.tfuse_stats_sweeps(self._raw))

    def feed(self, model: int, value: str, batch: Any) -> None:
        """One value of one model on the batch that is under way: samples × tokens × units."""
        array = Array.of(batch, self._ctx, f"batch of {value}")
        if not isinstance(model, int) or model < 0:
            raise ValueError(f"model is {model!r}: an index, 0 for the anchor, is wanted")
        self._ctx._call(lib.tfuse_stats_feed, self, model, c_text("value", value), array)

    def step(self) -> None:
        """Adds the batch: every value has been fed."""
        self._ctx._call(lib.tfuse_stats_step, self)

    def rewind(self) -> None:
        """Begins the second sweep."""
        self._ctx._call(lib.tfuse_stats_rewind, self)

    def align(self, policy: PolicyLike = None, *, progress: ProgressFn | bool | None = None) -> Plan:
        """tfuse.align with these statistics in place of calibration inputs; may be called again with another solver or metric."""
        chosen = self._policy if policy is None else policy_of(policy, self._ctx)
        raw = ctypes.POINTER(_abi.tfuse_plan)()
        with progress_shown(self._ctx, progress):
            self._ctx._call(lib.tfuse_align_stats, chosen, self, ctypes.byref(raw))
        return Plan(raw, self._ctx)

    def __repr__(self) -> str:
        return "<tfuse.Statistics closed>" if self.closed else f"<tfuse.Statistics of {len(self._models)} models, {len(self.wants)} values a step>"
