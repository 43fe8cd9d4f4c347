# SPDX-License-Identifier: Apache-2.0
"""Running a model on inputs."""
from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from . import _abi
from ._array import Array, optional
from ._context import Context, ProgressFn, default_context, progress_shown
from ._graph import Graph
from ._library import lib
from ._model import ConfigLike, ModelLike, model_of


class Score(NamedTuple):
    """Samples run, labels scored, how many were right, mean cross-entropy in nats (NaN without labels)."""

    n: int
    scored: int
    correct: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of the scored labels that were right; NaN without any."""
        return self.correct / self.scored if self.scored else float("nan")


def evaluate(model: ModelLike, inputs: Any, labels: Any = None, *, limit: int = 0, config: ConfigLike = None, graph: Graph | None = None,
             progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> Score:
    """Accuracy and mean loss.

    Args:
        inputs: as calib of tfuse.align.
        labels: integers, one for each prediction; -100 is ignored; None: a causal language model is scored on its next tokens.
        limit: the first so many samples; 0: all.
    """
    ctx = ctx or default_context()
    of = model_of(model, config, ctx)
    given = Array.of(inputs, ctx, "inputs")
    wanted = optional(labels, ctx, "labels")
    score = _abi.tfuse_score()
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_eval, of, graph, given, wanted, limit, ctypes.byref(score))
    return Score(int(score.n), int(score.scored), int(score.correct), float(score.loss))


def run(model: ModelLike, inputs: Any, *, limit: int = 0, config: ConfigLike = None, graph: Graph | None = None,
        progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> np.ndarray[Any, Any]:
    """The model's output, float32: logits N×C, or N×T×C of a language model."""
    ctx = ctx or default_context()
    of = model_of(model, config, ctx)
    given = Array.of(inputs, ctx, "inputs")
    raw = ctypes.POINTER(_abi.tfuse_array)()
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_run, of, graph, given, limit, ctypes.byref(raw))
    return Array(raw, ctx).numpy()
