# SPDX-License-Identifier: Apache-2.0
"""What a call that failed raises: one class a status, with the library's text."""
from __future__ import annotations

from . import _abi


class Error(Exception):
    """A call of the library failed. The text is the library's: one line that names the file, tensor or key and says what to do.

    Attributes:
        status: the negative code, one of TFUSE_E... in base.h.
    """

    status: int = 0

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status


class InvalidArgumentError(Error, ValueError):
    """An argument that the caller could have checked."""

    status = _abi.TFUSE_EINVAL


class OutOfMemoryError(Error, MemoryError):
    """No memory."""

    status = _abi.TFUSE_ENOMEM


class OutOfRangeError(Error, ValueError):
    """A number out of its bounds."""

    status = _abi.TFUSE_ERANGE


class StateError(Error, RuntimeError):
    """Not now: a sealed model, an unfinished graph, a call on a context from a callback of the same."""

    status = _abi.TFUSE_ESTATE


class UnsupportedError(Error, NotImplementedError):
    """Known, but not by this build or not for this input."""

    status = _abi.TFUSE_EUNSUPPORTED


class CancelledError(Error):
    """`Context.cancel`, or a progress callback, said so."""

    status = _abi.TFUSE_ECANCELLED


class CallbackError(Error):
    """A function of the caller's failed without an exception, or returned what it may not."""

    status = _abi.TFUSE_ECALLBACK


class PolicyError(Error, ValueError):
    """An unknown policy key, or a value that the key does not take."""

    status = _abi.TFUSE_EKEY


class FileError(Error):
    """The operating system refused."""

    status = _abi.TFUSE_EIO


class FormatError(Error, ValueError):
    """A file that is not what it should be."""

    status = _abi.TFUSE_EFORMAT


class CorruptError(FormatError):
    """A file whose checksum or sizes are wrong."""

    status = _abi.TFUSE_ECORRUPT


class VersionError(FormatError):
    """A file or table of a newer version."""

    status = _abi.TFUSE_EVERSION


class ExistsError(Error):
    """The output exists: pass force=True, or another path."""

    status = _abi.TFUSE_EEXIST


class NotFoundError(Error, LookupError):
    """No such file, tensor, node or name."""

    status = _abi.TFUSE_ENOTFOUND


class ShapeError(Error, ValueError):
    """Shapes that do not fit."""

    status = _abi.TFUSE_ESHAPE


class DtypeError(Error, TypeError):
    """A data type that is not taken here."""

    status = _abi.TFUSE_EDTYPE


class GraphError(Error, ValueError):
    """A graph that contradicts itself, or graphs that do not pair."""

    status = _abi.TFUSE_EGRAPH


class NumericError(Error, ArithmeticError):
    """NaN or infinity, a factorisation that failed, a self-check that was not passed."""

    status = _abi.TFUSE_ENUMERIC


class ConvergenceError(Error, ArithmeticError):
    """An iteration that did not reach its tolerance, under solver.strict."""

    status = _abi.TFUSE_ECONVERGE


class InternalError(Error):
    """A defect of the library: please report it."""

    status = _abi.TFUSE_EINTERNAL


def _classes(base: type[Error]) -> dict[int, type[Error]]:
    found: dict[int, type[Error]] = {}
    for one in base.__subclasses__():
        found[one.status] = one
        found.update(_classes(one))
    return found


BY_STATUS = _classes(Error)


def error_of(status: int, text: str) -> Error:
    """The exception for a status; codes of newer libraries are plain Errors."""
    return BY_STATUS.get(status, Error)(text, status)
