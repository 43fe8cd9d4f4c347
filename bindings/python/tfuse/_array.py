# SPDX-License-Identifier: Apache-2.0
"""Arrays that go in and out: inputs, labels, costs, logits, maps."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _abi
from ._context import Context, Handle, default_context
from ._library import c_path, c_text, lend, lib, release
from ._memory import Capsule, dtype_name, is_torch, lent_ndarray, view


class Array(Handle):
    """An array as the library has it. Functions take what `Array.of` takes, so that few programs need one.

    `numpy.asarray(array)` is a read-only view of the same memory (bfloat16 as its bits, uint16).
    """

    _free = "tfuse_array_free"

    @classmethod
    def open(cls, path: str | os.PathLike[str], ctx: Context | None = None) -> Array:
        """Reads .npy, "file.npz:key" or IDX, gzipped or not. Of an .npz with `input_ids` the other arrays go along with these."""
        ctx = ctx or default_context()
        raw = ctypes.POINTER(_abi.tfuse_array)()
        ctx._call(lib.tfuse_array_open, c_path("path", path), ctypes.byref(raw))
        return cls(raw, ctx)

    @classmethod
    def of(cls, x: Any, ctx: Context | None = None, name: str = "x") -> Array:
        """An array of a path, a NumPy array, a tensor of PyTorch or of another framework with DLPack, a nested list, or a mapping with "input_ids" (what
        tokenizers give). Memory is shared where it is row-major, and must then stay as it is while the Array lives.

        Args:
            name: what errors call it.
        """
        ctx = ctx or default_context()
        ctx._check_open()
        if isinstance(x, Array):
            return x
        if isinstance(x, (str, os.PathLike)):
            return cls.open(x, ctx)
        if isinstance(x, Mapping):
            return cls._of_mapping(x, ctx, name)
        if is_torch(x) or (hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray)):
            capsule = Capsule(name, x)
            raw = ctypes.POINTER(_abi.tfuse_array)()
            make = lib.tfuse_array_from_dlpack_versioned if capsule.versioned else lib.tfuse_array_from_dlpack
            ctx._call(make, capsule.take(), ctypes.byref(raw))
            return cls(raw, ctx)
        return cls._of_numpy(x, ctx, name)

    @classmethod
    def _of_numpy(cls, x: Any, ctx: Context, name: str) -> Array:
        array = np.asarray(x)
        if array.dtype == object or array.dtype.kind in "USV":
            raise TypeError(f"{name} is a {type(x).__name__} of {array.dtype}: an array of numbers is wanted")
        array = np.asarray(array, order="C")
        lent = lent_ndarray(name, array)
        shape = (ctypes.c_int64 * max(1, len(lent.shape)))(*lent.shape)
        raw = ctypes.POINTER(_abi.tfuse_array)()
        ctx._call(lib.tfuse_array_wrap, lent.code, len(lent.shape), shape, lent.address, release, lend(array), ctypes.byref(raw))
        return cls(raw, ctx)

    @classmethod
    def _of_mapping(cls, x: Mapping[str, Any], ctx: Context, name: str) -> Array:
        if "input_ids" not in x:
            raise ValueError(f"{name} is a mapping without 'input_ids': it has {', '.join(map(repr, x)) or 'nothing'}")
        ids = cls.of(x["input_ids"], ctx, f"{name}['input_ids']")
        for key, value in x.items():
            if key in ("input_ids", "labels") or value is None:
                continue
            other = cls.of(value, ctx, f"{name}['{key}']")
            # A mask that hides nothing says nothing; causal models take none.
            if key != "attention_mask" or not other.numpy().all():
                ids.attach(key, other)
        return ids

    def attach(self, name: str, other: Array) -> None:
        """Lets "attention_mask" or "token_type_ids" go along with token ids; `other` is taken over and closed."""
        handle = other._raw
        other._finalizer.detach()
        self._ctx._call(lib.tfuse_array_attach, self, c_text("name", name), handle)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .npy, in one step."""
        self._ctx._call(lib.tfuse_array_save, self, c_path("path", path))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        shape = lib.tfuse_array_shape(self._raw)
        return tuple(shape[i] for i in range(lib.tfuse_array_rank(self._raw)))

    @property
    def dtype(self) -> str:
        """Its element type as safetensors calls it, such as "F32"."""
        return dtype_name(lib.tfuse_array_dtype(self._raw))

    def numpy(self) -> np.ndarray[Any, Any]:
        """A read-only view, which keeps the memory alive."""
        return view(lib.tfuse_array_data(self._raw), self.shape, lib.tfuse_array_dtype(self._raw), self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("an array of no dimensions has no length")
        return shape[0]

    def __repr__(self) -> str:
        return "<tfuse.Array closed>" if self.closed else f"<tfuse.Array {self.dtype} {list(self.shape)}>"


def optional(x: Any, ctx: Context, name: str) -> Array | None:
    """The array of an argument that may be None."""
    return None if x is None else Array.of(x, ctx, name)
