# SPDX-License-Identifier: Apache-2.0
"""The choices: how to align, which solver, how to combine."""
from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Iterator, NamedTuple, Union

from . import _abi
from ._context import Context, Handle, default_context
from ._errors import PolicyError
from ._library import c_text, lib, text

_TYPES = {_abi.TFUSE_KEY_CHOICE: "choice", _abi.TFUSE_KEY_INT: "integer", _abi.TFUSE_KEY_REAL: "number", _abi.TFUSE_KEY_FLAG: "flag",
          _abi.TFUSE_KEY_NAME: "name", _abi.TFUSE_KEY_REALS: "numbers", _abi.TFUSE_KEY_SET: "set"}


class Key(NamedTuple):
    """A row of the table of keys."""

    name: str
    type: str
    values: tuple[str, ...]
    min: float
    max: float
    default: str
    help: str


def keys() -> dict[str, Key]:
    """Every key with its type, values or bounds, default, and a line of explanation."""
    table = {}
    for i in range(lib.tfuse_key_count()):
        row = _abi.tfuse_key_info()
        lib.tfuse_key_get(i, ctypes.byref(row))
        words = tuple(text(row.values).split(" | ")) if row.values else ()
        key = Key(text(row.name), _TYPES.get(row.type, "?"), words, row.min, row.max, text(row.default_value), text(row.help))
        table[key.name] = key
    return table


def as_text(key: str, value: Any) -> str:
    """A value as the library reads it: True is 1, sequences have commas between."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return repr(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return as_text(key, value.item())
    try:
        return ",".join(as_text(key, v) for v in value)
    except TypeError:
        raise TypeError(f"{key} is a {type(value).__name__}: a str, a number, a bool or a sequence of them is wanted") from None


class Policy(Handle):
    """A set of keyed options. `policy["solver.reg"] = 0.1` sets one; unknown keys and values out of bounds raise PolicyError.

    >>> policy = Policy({"align.strategy": "matching"}, run_seed=3)
    >>> policy["run.seed"]
    '3'

    Args:
        options: keys and values.
        more: the same as keywords, with `_` for the first dot.
    """

    _free = "tfuse_policy_free"

    def __init__(self, options: Mapping[str, Any] | None = None, *, ctx: Context | None = None, **more: Any) -> None:
        ctx = ctx or default_context()
        raw = ctypes.POINTER(_abi.tfuse_policy)()
        ctx._call(lib.tfuse_policy_new, ctypes.byref(raw))
        super().__init__(raw, ctx)
        for key, value in (options or {}).items():
            self[key] = value
        for key, value in more.items():
            self[key.replace("_", ".", 1)] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self._ctx._call(lib.tfuse_policy_set, self, c_text("key", key), c_text(key, as_text(key, value)))

    def __getitem__(self, key: str) -> str:
        value = lib.tfuse_policy_get(self._raw, c_text("key", key))
        if value is None:
            raise PolicyError(f"there is no key '{key}': tfuse.keys() lists them")
        return text(value)

    def __contains__(self, key: str) -> bool:
        return lib.tfuse_policy_get(self._raw, c_text("key", key)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(keys())

    def is_set(self, key: str) -> bool:
        """Whether the key was set; False when it has its default."""
        return bool(lib.tfuse_policy_is_set(self._raw, c_text("key", key)))

    def copy(self) -> Policy:
        """Another one with the same settings."""
        return Policy(self.settings, ctx=self._ctx)

    @property
    def settings(self) -> dict[str, str]:
        """What was set."""
        return {key: self[key] for key in keys() if self.is_set(key)}

    def __repr__(self) -> str:
        if self.closed:
            return "<tfuse.Policy closed>"
        return f"tfuse.Policy({self.settings})" if self.settings else "tfuse.Policy()"


PolicyLike = Union[Policy, "Mapping[str, Any]", None]

# Short names of the arguments that functions take beside a policy.
SHORT = {"align": "align.strategy", "weights": "combine.weights", "solver": "solver.name", "reg": "solver.reg", "samples": "calib.samples",
         "seed": "run.seed", "memory": "run.memory", "dtype": "io.dtype", "repair": "repair", "force": "io.force"}


def policy_of(given: PolicyLike, ctx: Context, **short: Any) -> Policy:
    """The policy of a call: what was given, and on top of it the short arguments that are not None."""
    more = {SHORT[k]: v for k, v in short.items() if v is not None}
    if isinstance(given, Policy):
        if not more:
            return given
        given = given.settings
    elif given is not None and not isinstance(given, Mapping):
        raise TypeError(f"policy is a {type(given).__name__}: a tfuse.Policy or a mapping of keys is wanted")
    return Policy({**(given or {}), **more}, ctx=ctx)
