# SPDX-License-Identifier: Apache-2.0
"""Models: named tensors and a config, of a checkpoint or of memory."""
from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from typing import Any, Iterator, NamedTuple, Union

import numpy as np

from . import _abi, _pytorch
from ._context import Context, Handle, default_context
from ._errors import NotFoundError
from ._library import c_path, c_text, lend, lib, release, text
from ._memory import DTYPES, NAMES, Capsule, dtype_name, is_torch, lent_ndarray, view

ConfigLike = Union["Mapping[str, Any]", str, "os.PathLike[str]", None]


class Tensor(NamedTuple):
    """Name, type as in safetensors, extents and bytes of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, info: Any) -> Tensor:
        return cls(text(info.name), dtype_name(info.dtype), tuple(info.shape[: info.rank]), info.size)


def config_text(config: Any) -> str | None:
    """The text of a config.json: of a mapping, of JSON text, of a path of the file or its directory, of what has to_dict()."""
    if config is None:
        return None
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return json.dumps(config, default=str)
    if isinstance(config, str) and config.lstrip().startswith("{"):
        return config
    if isinstance(config, (str, os.PathLike)):
        path = os.fspath(config)
        with open(os.path.join(path, "config.json") if os.path.isdir(path) else path, encoding="utf-8") as f:
            return f.read()
    raise TypeError(f"config is a {type(config).__name__}: a mapping, JSON text or the path of a config.json is wanted")


class Model(Handle):
    """A sealed model: `model["name"]` is a tensor as a NumPy array, `model.config` its config.

    Args:
        source: a path of a checkpoint; a mapping of names to NumPy arrays or tensors (a state_dict), with `config`; a module of PyTorch or a
            model of `transformers`. Memory is shared, not copied, and must not move while the Model lives; its elements may change between calls.
        config: for a mapping or a module of another kind than `transformers`': a config.json's content or path.
        config_only: the path of a config.json alone will do; the model has no tensors then.
    """

    _free = "tfuse_model_free"

    def __init__(self, source: Any, config: ConfigLike = None, *, config_only: bool = False, ctx: Context | None = None, name: str = "model") -> None:
        ctx = ctx or default_context()
        ctx._check_open()
        if isinstance(source, (str, os.PathLike)):
            raw = ctypes.POINTER(_abi.tfuse_model)()
            flags = _abi.TFUSE_OPEN_CONFIG_ONLY if config_only else 0
            ctx._call(lib.tfuse_model_open, c_path(name, source), flags, ctypes.byref(raw))
            super().__init__(raw, ctx)
            return
        if _pytorch.is_module(source):
            tensors, own = _pytorch.tensors_of(source)
            config = config if config is not None else own
        elif isinstance(source, Mapping):
            tensors = source
        else:
            raise TypeError(f"{name} is a {type(source).__name__}: a path, a mapping of arrays, a module of PyTorch or a tfuse.Model is wanted")
        self._build(tensors, config, ctx, name)

    def _build(self, tensors: Mapping[str, Any], config: ConfigLike, ctx: Context, name: str) -> None:
        if config is None:
            raise TypeError(f"{name} has no config: pass config=, a mapping or the path of a config.json")
        given, kept = config_text(config), []  # type: tuple[str | None, list[Any]]
        raw = ctypes.POINTER(_abi.tfuse_model)()
        ctx._call(lib.tfuse_model_new, c_text("config", given) if given is not None else None, release, lend(kept), ctypes.byref(raw))
        super().__init__(raw, ctx)
        try:
            for key, tensor in tensors.items():
                self._add(f"{name}[{key!r}]", key, tensor, kept)
            ctx._call(lib.tfuse_model_seal, raw)
        except BaseException:
            self.close()
            raise

    def _add(self, where: str, key: str, tensor: Any, kept: list[Any]) -> None:
        name, ctx = c_text("a tensor's name", key), self._ctx
        if is_torch(tensor) or (hasattr(tensor, "__dlpack__") and not isinstance(tensor, np.ndarray)):
            capsule = Capsule(where, tensor)
            add = lib.tfuse_model_add_dlpack_versioned if capsule.versioned else lib.tfuse_model_add_dlpack
            ctx._call(add, self, name, capsule.take())
            return
        if not isinstance(tensor, (np.ndarray, np.generic)):
            raise TypeError(f"{where} is a {type(tensor).__name__}: a NumPy array or a tensor is wanted")
        array = np.asarray(tensor)
        lent = lent_ndarray(where, array)
        extents = ctypes.c_int64 * max(1, array.ndim)
        if array.flags.c_contiguous:
            kept.append(array)
            ctx._call(lib.tfuse_model_add, self, name, lent.code, array.ndim, extents(*lent.shape), lent.address)
        else:
            ctx._call(lib.tfuse_model_add_strided, self, name, lent.code, array.ndim, extents(*lent.shape), extents(*lent.strides), lent.address,
                      release, lend(array))

    @classmethod
    def _from(cls, raw: Any, ctx: Context) -> Model:
        made = cls.__new__(cls)
        Handle.__init__(made, raw, ctx)
        return made

    # ---- tensors

    def __len__(self) -> int:
        return int(lib.tfuse_model_count(self._raw))

    def _info(self, index: int) -> Any:
        info = _abi.tfuse_tensor_info()
        status = lib.tfuse_model_tensor(self._raw, index, ctypes.byref(info))
        if status:
            raise IndexError(f"tensor {index} of {len(self)}")
        return info

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, by name."""
        return [Tensor.of(self._info(i)) for i in range(len(self))]

    def __iter__(self) -> Iterator[str]:
        return (t.name for t in self.tensors)

    def keys(self) -> list[str]:
        """Names of its tensors: dict(model) is a mapping of arrays."""
        return list(self)

    def _index(self, name: str) -> int:
        index = int(lib.tfuse_model_find(self._raw, c_text("name", name)))
        if index < 0:
            raise NotFoundError(f"{self.path or 'the model'} has no tensor '{name}'")
        return index

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and lib.tfuse_model_find(self._raw, c_text("name", name)) >= 0

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor: a read-only view where it lies row-major; a copy where it is strided. bfloat16, which NumPy has not, is converted to float32."""
        index = self._index(name)
        info = self._info(index)
        shape = tuple(info.shape[: info.rank])
        if info.dtype != _abi.TFUSE_BF16 and info.data:
            return view(info.data, shape, info.dtype, self)
        return self._read(index, shape, _abi.TFUSE_F32 if info.dtype == _abi.TFUSE_BF16 else info.dtype)

    def _read(self, index: int, shape: tuple[int, ...], code: int) -> np.ndarray[Any, Any]:
        out = np.empty(shape, DTYPES[code])
        self._ctx._call(lib.tfuse_model_read, self, index, code, out.ctypes.data, out.nbytes)
        return out

    def read(self, name: str, dtype: Any = None) -> np.ndarray[Any, Any]:
        """A copy of a tensor, of its own type or converted to a floating-point one."""
        index = self._index(name)
        info = self._info(index)
        code = info.dtype if dtype is None else NAMES.get(np.dtype(dtype).name)
        if code is None:
            raise TypeError(f"dtype {dtype}: libtfuse does not know it")
        return self._read(index, tuple(info.shape[: info.rank]), _abi.TFUSE_F32 if code == _abi.TFUSE_BF16 else code)

    def state_dict(self) -> dict[str, Any]:
        """Its tensors as PyTorch's, copied, each of its own type."""
        torch = _pytorch.torch()
        made = {}
        for i, tensor in enumerate(self.tensors):
            info = self._info(i)
            out = torch.empty(tensor.shape, dtype=getattr(torch, DTYPES[info.dtype]))
            self._ctx._call(lib.tfuse_model_read, self, i, info.dtype, out.data_ptr(), tensor.size)
            made[tensor.name] = out
        return made

    # ---- the rest

    @property
    def path(self) -> str:
        """The path that it was opened from; "" for one of memory."""
        return text(lib.tfuse_model_path(self._raw))

    @property
    def config(self) -> dict[str, Any]:
        """Its config."""
        return dict(json.loads(text(lib.tfuse_model_config(self._raw)) or "{}"))

    def __repr__(self) -> str:
        if self.closed:
            return "<tfuse.Model closed>"
        kind = self.config.get("model_type") or self.config.get("architecture") or "no model_type"
        count = sum(int(np.prod(t.shape)) for t in self.tensors)
        return f"<tfuse.Model {kind}, {len(self)} tensors, {count:,} numbers{', ' + self.path if self.path else ''}>"


ModelLike = Any


def models_of(given: Any, config: Any, ctx: Context) -> list[Model]:
    """The models of a call, the anchor first. `config` is one for all, or a list of one for each."""
    if len(given) == 1 and isinstance(given[0], (list, tuple)):
        given = given[0]
    if len(given) < 2:
        raise TypeError(f"{len(given)} model was given: at least two are fused" if given else "no models were given")
    configs = config if isinstance(config, (list, tuple)) else [config] * len(given)
    if len(configs) != len(given):
        raise ValueError(f"{len(configs)} configs for {len(given)} models")
    return [m if isinstance(m, Model) else Model(m, c, ctx=ctx, name=f"model {i}") for i, (m, c) in enumerate(zip(given, configs))]


def model_of(given: Any, config: Any, ctx: Context) -> Model:
    """The model of a call on one."""
    return given if isinstance(given, Model) else Model(given, config, ctx=ctx)


def handles(models: list[Model]) -> Any:
    """What the library takes for a list of models."""
    return (ctypes.POINTER(_abi.tfuse_model) * len(models))(*[m._raw for m in models])
