# SPDX-License-Identifier: Apache-2.0
"""Memory of NumPy's and of other frameworks', lent to the library where it lies; and the library's, seen by NumPy."""
from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

import numpy as np

from . import _abi
from ._library import lib, text

NAMES = {"float32": _abi.TFUSE_F32, "float16": _abi.TFUSE_F16, "bfloat16": _abi.TFUSE_BF16, "float64": _abi.TFUSE_F64, "int64": _abi.TFUSE_I64,
         "int32": _abi.TFUSE_I32, "uint8": _abi.TFUSE_U8, "int8": _abi.TFUSE_I8, "int16": _abi.TFUSE_I16, "uint16": _abi.TFUSE_U16,
         "uint32": _abi.TFUSE_U32, "uint64": _abi.TFUSE_U64, "bool": _abi.TFUSE_BOOL}
DTYPES = {code: name for name, code in NAMES.items()}


def dtype_name(code: int) -> str:
    """A type's name as in safetensors, such as "BF16"."""
    return text(lib.tfuse_dtype_name(code))


class Lent(NamedTuple):
    """Memory as the library takes it."""

    code: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    address: int


def lent_ndarray(name: str, array: np.ndarray[Any, Any]) -> Lent:
    """Describes an array where it lies. `name` is the argument's or tensor's, for errors."""
    code = NAMES.get(array.dtype.name)
    if code is None:
        raise TypeError(f"{name} has dtype {array.dtype}, which libtfuse does not know: convert it, e.g. by .astype(numpy.float32)")
    if not array.dtype.isnative and array.dtype.itemsize > 1:
        raise TypeError(f"{name} has the other byte order ({array.dtype.str}): convert it by .astype({name}.dtype.newbyteorder('='))")
    if array.ndim > _abi.TFUSE_MAX_RANK:
        raise ValueError(f"{name} has {array.ndim} dimensions; at most {_abi.TFUSE_MAX_RANK} are taken")
    size = array.dtype.itemsize
    if any(s % size for s in array.strides):
        raise ValueError(f"{name} has strides {array.strides} that are no multiples of its elements' {size} bytes: pass numpy.ascontiguousarray({name})")
    return Lent(code, array.shape, tuple(s // size for s in array.strides), array.__array_interface__["data"][0])


class _View:
    """Memory of the library's with what keeps it alive, for numpy.asarray."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: object) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (address, True), "shape": shape, "typestr": dtype.str}


def view(address: int, shape: tuple[int, ...], code: int, owner: object) -> np.ndarray[Any, Any]:
    """A read-only array over memory that lives as long as `owner`. bfloat16, which NumPy has not, comes as its bits: uint16."""
    dtype = np.dtype("uint16" if code == _abi.TFUSE_BF16 else DTYPES[code])
    if 0 in shape or not address:
        return np.empty(shape, dtype)
    return np.asarray(_View(address, shape, dtype, owner))


# ---- other frameworks, by DLPack; torch is never imported here, only recognised


def is_torch(x: Any) -> bool:
    """Whether it is a tensor of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def torch_dtype(code: int) -> Any:
    """PyTorch's type for a code."""
    return getattr(sys.modules["torch"], DTYPES[code])


_get = ctypes.pythonapi.PyCapsule_GetPointer
_get.restype, _get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_is = ctypes.pythonapi.PyCapsule_IsValid
_is.restype, _is.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]

# A capsule's name is not copied: these live as long as the module.
_TAKEN = ctypes.create_string_buffer(b"used_dltensor")
_TAKEN_VERSIONED = ctypes.create_string_buffer(b"used_dltensor_versioned")


class Capsule:
    """A DLPack capsule of `x` that has not been taken over yet."""

    def __init__(self, name: str, x: Any) -> None:
        try:
            kind, *_ = x.__dlpack_device__() if hasattr(x, "__dlpack_device__") else (1, 0)
        except (ValueError, RuntimeError, NotImplementedError):  # a device that DLPack has not, such as PyTorch's "meta"
            kind = 0
        if kind not in (1, 3, 11):  # kDLCPU, kDLCUDAHost, kDLROCMHost
            raise TypeError(f"{name} lies on {getattr(x, 'device', f'device kind {int(kind)}')}: move it to the CPU first")
        try:
            if is_torch(x):
                x = x.detach().resolve_conj().resolve_neg()
            try:
                self.object = x.__dlpack__(max_version=(1, 0))
            except TypeError:
                self.object = x.__dlpack__()
        except (BufferError, RuntimeError, NotImplementedError, ValueError) as e:
            raise TypeError(f"{name}: {e}") from e
        self.versioned = bool(_is(self.object, b"dltensor_versioned"))
        if not self.versioned and not _is(self.object, b"dltensor"):
            raise TypeError(f"{name}: __dlpack__ gave no capsule of DLPack")

    def take(self) -> Any:
        """The table, which the library takes over: the capsule no longer owns it."""
        kind = _abi.DLManagedTensorVersioned if self.versioned else _abi.DLManagedTensor
        address = _get(self.object, b"dltensor_versioned" if self.versioned else b"dltensor")
        _rename(self.object, ctypes.cast(_TAKEN_VERSIONED if self.versioned else _TAKEN, ctypes.c_char_p))
        return ctypes.cast(address, ctypes.POINTER(kind))
