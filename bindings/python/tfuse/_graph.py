# SPDX-License-Identifier: Apache-2.0
"""The architecture of a model: nodes, values, and the axes that every dimension of every tensor is bound to."""
from __future__ import annotations

import ctypes
import json
from typing import Any

from . import _abi
from ._context import Context, Handle, default_context
from ._library import c_text, lib, taken_text
from ._model import ConfigLike, Model, ModelLike, model_of


class Graph(Handle):
    """The graph of a model. Built by hand with GraphBuilder, or read from JSON, it goes into a config as "tfuse_graph"."""

    _free = "tfuse_graph_free"

    @classmethod
    def infer(cls, model: ModelLike, config: ConfigLike = None, *, ctx: Context | None = None) -> Graph:
        """The graph of a model by its config; its tensors are checked against it."""
        ctx = ctx or default_context()
        of = model_of(model, config, ctx)
        raw = ctypes.POINTER(_abi.tfuse_graph)()
        ctx._call(lib.tfuse_graph_infer, of, ctypes.byref(raw))
        return cls(raw, ctx)

    @classmethod
    def from_json(cls, text: str | dict[str, Any], *, ctx: Context | None = None) -> Graph:
        """A graph from what to_json gave."""
        ctx = ctx or default_context()
        given = text if isinstance(text, str) else json.dumps(text)
        raw = ctypes.POINTER(_abi.tfuse_graph)()
        ctx._call(lib.tfuse_graph_from_json, c_text("text", given), ctypes.byref(raw))
        return cls(raw, ctx)

    def to_json(self) -> dict[str, Any]:
        """The graph as a dict (docs/graph-format.md)."""
        out = ctypes.c_void_p()
        self._ctx._call(lib.tfuse_graph_to_json, self, ctypes.byref(out))
        return dict(json.loads(taken_text(out)))

    def check(self, model: ModelLike, config: ConfigLike = None) -> None:
        """Raises what does not fit between a model's tensors and the graph."""
        of = model_of(model, config, self._ctx)
        self._ctx._call(lib.tfuse_graph_check, self, of)

    def describe(self, model: Model | None = None) -> dict[str, Any]:
        """Axes, tensors and nodes: {"architecture", "parameters", "signature", "axes", "tensors", "nodes", ...}. Groups of axes depend on weights; without
        a model the smaller group is given."""
        out = ctypes.c_void_p()
        self._ctx._call(lib.tfuse_graph_describe, self, model, ctypes.byref(out))
        return dict(json.loads(taken_text(out)))

    def __repr__(self) -> str:
        if self.closed:
            return "<tfuse.Graph closed>"
        d = self.describe()
        return f"<tfuse.Graph {d.get('architecture')}, {len(d['axes'])} axes, {len(d['tensors'])} tensors, {d['parameters']:,} parameters>"


class GraphBuilder:
    """Builds a graph node by node; operations are listed in docs/adding-an-architecture.md.

    >>> graph = (GraphBuilder().add("input", "x", attrs="kind=features shape=784").add("linear", "fc1", "x", "out=hidden:32 bias=1")
    ...          .add("activation", "act", "fc1", "kind=gelu").add("linear", "fc2", "act", "out=!class:10 bias=1").output("fc2").finish())
    >>> len(graph.describe()["tensors"])
    4
    """

    def __init__(self, *, ctx: Context | None = None) -> None:
        self._ctx = ctx or default_context()
        raw = ctypes.POINTER(_abi.tfuse_graph)()
        self._ctx._call(lib.tfuse_graph_new, ctypes.byref(raw))
        self._graph = Graph(raw, self._ctx)

    def add(self, op: str, name: str, inputs: str = "", attrs: str = "") -> GraphBuilder:
        """Adds a node: operation, name, names of values with spaces between, "key=value" with spaces between."""
        self._ctx._call(lib.tfuse_graph_add, self._graph, c_text("op", op), c_text("name", name), c_text("inputs", inputs), c_text("attrs", attrs))
        return self

    def store(self, logical: str, expression: str) -> GraphBuilder:
        """Says where a logical tensor is stored: a name, or an expression such as "part(qkv.weight,0,1,3)"."""
        self._ctx._call(lib.tfuse_graph_store, self._graph, c_text("logical", logical), c_text("expression", expression))
        return self

    def buffer(self, pattern: str) -> GraphBuilder:
        """Names a stored tensor (one '*' allowed) that is copied from the anchor as it is."""
        self._ctx._call(lib.tfuse_graph_buffer, self._graph, c_text("pattern", pattern))
        return self

    def output(self, value: str) -> GraphBuilder:
        """Names the model's output."""
        self._ctx._call(lib.tfuse_graph_output, self._graph, c_text("value", value))
        return self

    def finish(self) -> Graph:
        """The graph; the builder is spent."""
        self._ctx._call(lib.tfuse_graph_finish, self._graph)
        return self._graph
