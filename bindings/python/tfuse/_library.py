# SPDX-License-Identifier: Apache-2.0
"""Finds the shared library and declares its functions."""
from __future__ import annotations

import ctypes
import itertools
import os
from typing import Any

from . import _abi

SONAME = f"libtfuse.so.{_abi.TFUSE_ABI}"


class Library:
    """The functions of the library as attributes, each with its types."""

    def __init__(self) -> None:
        own = os.path.join(os.path.dirname(os.path.abspath(__file__)), SONAME)
        self.path = os.environ.get("TFUSE_LIBRARY") or (own if os.path.exists(own) else SONAME)
        try:
            loaded = ctypes.CDLL(self.path)
        except OSError as e:
            raise ImportError(f"{e}: install libtfuse, or set TFUSE_LIBRARY to the path of {SONAME}") from e
        for name, (result, parameters) in _abi.FUNCTIONS.items():
            try:
                function = getattr(loaded, name)
            except AttributeError:
                raise ImportError(f"{self.path} has no {name}: this package needs libtfuse {_abi.TFUSE_VERSION_STRING} or newer") from None
            function.restype, function.argtypes = result, parameters
            setattr(self, name, function)
        if self.tfuse_version() < _abi.TFUSE_VERSION:
            raise ImportError(f"{self.path} is older than this package, which needs libtfuse {_abi.TFUSE_VERSION_STRING} or newer")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"libtfuse has no function {name}")


lib = Library()

_lent: dict[int, Any] = {}
_numbers = itertools.count(1)


def _release(owner: int | None) -> None:
    _lent.pop(owner or 0, None)


# Given to the library with memory of Python's: drops what kept the memory alive.
release = _abi.tfuse_release_fn(_release)


def lend(owner: Any) -> int:
    """Keeps an object alive until the library calls `release` with the number."""
    number = next(_numbers)
    _lent[number] = owner
    return number


def lent() -> int:
    """How many objects the library holds on to."""
    return len(_lent)


def text(given: bytes | None) -> str:
    """A text of the library's; file names that are no UTF-8 come through as os.fsdecode has them."""
    return (given or b"").decode("utf-8", "surrogateescape")


def c_text(name: str, given: str) -> bytes:
    """A text for the library. `name` is the argument's."""
    if not isinstance(given, str):
        raise TypeError(f"{name} is a {type(given).__name__}, not a str")
    if "\0" in given:
        raise ValueError(f"{name} contains a NUL")
    return given.encode("utf-8", "surrogateescape")


def c_path(name: str, given: str | os.PathLike[str]) -> bytes:
    """A path for the library."""
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{name} is a {type(given).__name__}, not a path")
    return c_text(name, os.fsdecode(given))


def taken_text(address: ctypes.c_void_p) -> str:
    """A text that the library handed over, which is released."""
    try:
        return text(ctypes.string_at(address.value or 0)) if address.value else ""
    finally:
        lib.tfuse_string_free(address)
