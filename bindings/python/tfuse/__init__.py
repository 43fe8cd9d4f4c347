# SPDX-License-Identifier: Apache-2.0
"""libtfuse in Python: fuses independently trained networks into one by optimal transport.

    import tfuse
    fused = tfuse.fuse(a, b, calib=x)    # paths, dicts of arrays, state_dicts, modules, models of transformers; what goes in comes out

Models, graphs, policies, plans, statistics and solvers are objects: Model, Graph, Policy, Plan, Statistics, Solution. Errors are tfuse.Error and its
classes, with the library's text. `tfuse.keys()` lists every option.
"""
from . import _abi
from ._array import Array
from ._context import Context, Memory, default_context
from ._errors import (CallbackError, CancelledError, ConvergenceError, CorruptError, DtypeError, Error, ExistsError, FileError, FormatError, GraphError,
                      InternalError, InvalidArgumentError, NotFoundError, NumericError, OutOfMemoryError, OutOfRangeError, PolicyError, ShapeError,
                      StateError, UnsupportedError, VersionError)
from ._experts import generate, moe, moe_dense, moe_dry_run
from ._fusion import Fusion, Repair, dry_run, fuse, fuse_into, fusion, selfcheck
from ._graph import Graph, GraphBuilder
from ._library import lib as _lib
from ._model import Model, Tensor
from ._plan import Map, Plan, align, gauge
from ._policy import Key, Policy, keys
from ._run import Score, evaluate, run
from ._solver import Problem, Solution, Solved, add_solver, solve, solve_batch
from ._statistics import Statistics, Want

__version__ = _abi.TFUSE_VERSION_STRING


def library_version() -> str:
    """Version of the library that runs, which may be newer than this package."""
    v = int(_lib.tfuse_version())
    return f"{v // 10000}.{v // 100 % 100}.{v % 100}"


def has(part: str) -> bool:
    """Whether the library was built with an optional part: "lapack"."""
    return bool(_lib.tfuse_has(part.encode()))


def dtype_size(name: str) -> int:
    """Bytes of an element of a type as safetensors calls it, such as "BF16"; 0 for an unknown one."""
    return int(_lib.tfuse_dtype_size(getattr(_abi, f"TFUSE_{name}", 0)))


__all__ = ["Array", "CallbackError", "CancelledError", "Context", "ConvergenceError", "CorruptError", "DtypeError", "Error", "ExistsError", "FileError",
           "FormatError", "Fusion", "Graph", "GraphBuilder", "GraphError", "InternalError", "InvalidArgumentError", "Key", "Map", "Memory", "Model",
           "NotFoundError", "NumericError", "OutOfMemoryError", "OutOfRangeError", "Plan", "Policy", "PolicyError", "Problem", "Repair", "Score",
           "ShapeError", "Solution", "Solved", "StateError", "Statistics", "Tensor", "UnsupportedError", "VersionError", "Want", "add_solver", "align",
           "default_context", "dry_run", "dtype_size", "evaluate", "fuse", "fuse_into", "fusion", "gauge", "generate", "has", "keys", "library_version", "moe", "moe_dense",
           "moe_dry_run", "run",
           "selfcheck", "solve", "solve_batch"]
