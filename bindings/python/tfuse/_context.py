# SPDX-License-Identifier: Apache-2.0
"""The context that every call gets, and handles of the library's objects."""
from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import weakref
from concurrent.futures import Executor, wait
from typing import Any, Callable, NamedTuple, TypeVar

from . import _abi
from ._errors import CancelledError, OutOfMemoryError, error_of
from ._interrupt import interruptible
from ._library import c_path, lib, text

logger = logging.getLogger("tfuse")

_LEVELS = {_abi.TFUSE_LOG_ERROR: logging.ERROR, _abi.TFUSE_LOG_WARN: logging.WARNING, _abi.TFUSE_LOG_INFO: logging.INFO,
           _abi.TFUSE_LOG_DEBUG: logging.DEBUG}

ProgressFn = Callable[[str, int, int], Any]
LogFn = Callable[[int, str], Any]


class Memory(NamedTuple):
    """Bytes of the library's own: in use now, and the most at once so far."""

    live: int
    peak: int


class Caught:
    """The first exception of a callback, on its way through the library."""

    def __init__(self) -> None:
        self.exception: BaseException | None = None

    def keep(self, exception: BaseException) -> None:
        if self.exception is None:
            self.exception = exception

    def go_on(self) -> None:
        exception, self.exception = self.exception, None
        if exception is not None:
            raise exception


class Context:
    """Threads, log, progress and cancellation of calls. Most users need none: each thread has one of its own.

    A context is used by one thread at a time: another that calls on it waits.

    Args:
        threads: threads that calls may use, the calling one included; 0: one for each core. Results do not depend on it, to the bit.
        executor: a concurrent.futures.Executor whose threads are used instead (not one of processes), `workers` of them at once.
        workers: how many tasks the executor runs at once.
        progress: called with (stage, done, total) at most 20 times a second, on the calling thread; total is 0 where it is not known. What
            it raises comes out of the call, which is cancelled; returning False cancels too.
        log: called with (level, line), levels as in `logging`; None: lines go to the logger "tfuse".
    """

    def __init__(self, threads: int = 0, *, executor: Executor | None = None, workers: int = 0, progress: ProgressFn | None = None,
                 log: LogFn | None = None) -> None:
        raw = ctypes.POINTER(_abi.tfuse_ctx)()
        status = lib.tfuse_ctx_new(None, ctypes.byref(raw))
        if status:
            raise OutOfMemoryError("no context could be made", status)
        self._raw = raw
        self._lock = threading.RLock()
        self._caught = Caught()
        self._hooks: dict[str, Any] = {}
        self._bound: weakref.WeakSet[Handle] = weakref.WeakSet()  # what may not outlive it
        self._finalizer = weakref.finalize(self, lib.tfuse_ctx_free, raw)
        self._finalizer.atexit = False
        self._set_log(log)
        if executor is not None:
            self._set_executor(executor, workers)
        else:
            self.set_threads(threads)
        if progress is not None:
            self.set_progress(progress)

    # ---- calls

    def _call(self, function: Callable[..., int], *args: Any) -> None:
        """Calls a function of the library with this context, and raises what it returns. Objects stand for their handles, and live through the call."""
        self._settle(*self._attempt(function, *args))

    def _attempt(self, function: Callable[..., int], *args: Any) -> tuple[int, str]:
        with self._lock:
            self._check_open()
            raw = self._raw
            with interruptible(lambda: lib.tfuse_ctx_cancel(raw), self._absorb):
                status = function(raw, *[a._raw if isinstance(a, Handle) else a for a in args])
                line = text(lib.tfuse_ctx_error(raw)) if status else ""
            return status, line

    def _check_open(self) -> None:
        """Before memory is lent, which only the library gives back."""
        if not self._finalizer.alive:
            raise ValueError("this Context is closed")

    def _settle(self, status: int, line: str) -> None:
        self._caught.go_on()
        if status:
            raise error_of(status, line or text(lib.tfuse_status_name(status)))

    def _absorb(self) -> None:
        """A cancellation that no call has seen ends the next one: let that be this."""
        policy = ctypes.POINTER(_abi.tfuse_policy)()
        lib.tfuse_policy_new(self._raw, ctypes.byref(policy))
        lib.tfuse_policy_free(policy)

    def cancel(self) -> None:
        """Makes the call that runs on this context raise CancelledError, or the next one if none runs. Any thread may call it."""
        if self._finalizer.alive:
            lib.tfuse_ctx_cancel(self._raw)

    # ---- what a caller hangs on it

    def set_threads(self, n: int) -> None:
        """Threads that calls may use, the calling one included; 0: one for each core."""
        if not isinstance(n, int) or not 0 <= n <= 0xffffffff:
            raise ValueError(f"threads is {n!r}: an integer from 0 to 1024 is wanted")
        self._call(lib.tfuse_ctx_set_threads, n)

    def set_progress(self, progress: ProgressFn | None) -> None:
        """Sets or removes (None) the progress callback."""
        if progress is None:
            self._call(lib.tfuse_ctx_set_progress, _abi.tfuse_progress_fn(), None)
            self._hooks.pop("progress", None)
            return
        caught, wanted = self._caught, progress

        def step(_user: int | None, given: Any) -> int:
            try:
                p = given.contents
                return 1 if wanted(text(p.stage), p.done, p.total) is False else 0
            except BaseException as e:  # pylint: disable=broad-except
                caught.keep(e)
                return 1

        hook = _abi.tfuse_progress_fn(step)
        self._call(lib.tfuse_ctx_set_progress, hook, None)
        self._hooks["progress"] = hook

    def _set_log(self, log: LogFn | None) -> None:
        caught = self._caught
        write: LogFn = log or (lambda level, line: logger.log(level, "%s", line))

        def line_of(_user: int | None, level: int, line: bytes | None) -> None:
            try:
                write(_LEVELS.get(level, logging.DEBUG), text(line))
            except BaseException as e:  # pylint: disable=broad-except
                caught.keep(e)

        wanted = logging.DEBUG if log else logger.getEffectiveLevel()
        level = max((k for k, v in _LEVELS.items() if v >= wanted), default=_abi.TFUSE_LOG_ERROR)
        hook = _abi.tfuse_log_fn(line_of)
        self._call(lib.tfuse_ctx_set_log, hook, None, level)
        self._hooks["log"] = hook

    def _set_executor(self, executor: Executor, workers: int) -> None:
        workers = workers or getattr(executor, "_max_workers", 0) or os.cpu_count() or 1
        caught = self._caught
        table = _abi.tfuse_executor(concurrency=workers)

        def parallel_for(_user: int | None, n: int, body: Callable[[Any, int], None], arg: int | None) -> None:
            # Every index is run, whatever the executor does: what it refuses or drops is made up for here. Ctrl-C lands in the main thread, maybe
            # amidst this: the call then raises it in the end, and nothing may be under way when this returns.
            futures: list[Any] = []
            try:
                while len(futures) < n:
                    futures.append(executor.submit(body, arg, len(futures)))
            except BaseException as e:  # pylint: disable=broad-except
                caught.keep(e)
            while True:
                try:
                    wait(futures)
                    break
                except BaseException as e:  # pylint: disable=broad-except
                    caught.keep(e)
            for i in range(n):
                if i >= len(futures) or futures[i].cancelled():
                    body(arg, i)

        table.parallel_for = type(table.parallel_for)(parallel_for)
        self._call(lib.tfuse_ctx_set_executor, ctypes.byref(table))
        self._hooks["executor"] = table

    # ---- the rest

    @property
    def memory(self) -> Memory:
        """Bytes in use now and the most so far, of what the library allocates itself; mapped files are not in it."""
        live, peak = ctypes.c_uint64(), ctypes.c_uint64()
        lib.tfuse_ctx_memory(self._raw, ctypes.byref(live), ctypes.byref(peak))
        return Memory(live.value, peak.value)

    def save_file(self, path: str | os.PathLike[str], data: bytes, force: bool = False) -> None:
        """Writes a file that appears whole, by one rename, or not at all. An existing one is refused (ExistsError) without `force`."""
        self._call(lib.tfuse_file_save, c_path("path", path), data or b"\0", len(data), int(force))

    def check_output(self, path: str | os.PathLike[str], directory: bool = True, force: bool = False) -> None:
        """Raises what would keep a checkpoint (`directory`) or a file from being written there, before long work; nothing is made."""
        self._call(lib.tfuse_output_check, c_path("path", path), int(directory), int(force))

    def close(self) -> None:
        """Releases the context, its statistics too, and joins its threads. Other objects that were made through it live on."""
        with self._lock:
            for bound in list(self._bound):
                bound.close()
            self._finalizer()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._finalizer.alive:
            return "<tfuse.Context closed>"
        memory = self.memory
        return f"<tfuse.Context {memory.live:,} bytes in use, {memory.peak:,} at most>"


_own = threading.local()


def default_context() -> Context:
    """This thread's own context, one thread for each core: what calls use that are given none."""
    ctx: Context | None = getattr(_own, "ctx", None)
    if ctx is None or not ctx._finalizer.alive:
        ctx = _own.ctx = Context()
    return ctx


def _free(function: Callable[[Any], None], raw: Any, _ctx: Context) -> None:
    """The context comes along so that it is there until the object is gone, in whatever order garbage is collected."""
    function(raw)


H = TypeVar("H", bound="Handle")


class Handle:
    """An object of the library's. It is released by close(), at the end of a `with` block, or with the last reference."""

    _free = ""

    def __init__(self, raw: Any, ctx: Context) -> None:
        self._handle = raw
        self._ctx = ctx
        self._finalizer = weakref.finalize(self, _free, getattr(lib, self._free), raw, ctx)
        self._finalizer.atexit = False

    @property
    def _raw(self) -> Any:
        if not self._finalizer.alive:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether it was released."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Releases the object; what was made of it lives on."""
        self._finalizer()

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bar:
    """Progress drawn by tqdm: a bar for each stage."""

    def __init__(self, tqdm: Any, shown: bool | None) -> None:
        self.tqdm, self.shown = tqdm, shown
        self.bar: Any = None
        self.stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.bar is None or stage != self.stage:
            self.close()
            self.bar = self.tqdm(total=total or None, desc=stage, leave=False, disable=None if self.shown is None else not self.shown)
            self.stage = stage
        self.bar.total = total or None
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class progress_shown:
    """For the length of a block the context's progress goes to a callback, to tqdm (True; None: where it is installed and stderr is a terminal),
    or nowhere (False). A callback that the context has already stays unless another is given."""

    def __init__(self, ctx: Context, progress: ProgressFn | bool | None) -> None:
        self.ctx = ctx
        self.bar: Bar | None = None
        self.wanted: ProgressFn | None = None
        if callable(progress):
            self.wanted = progress
        elif progress or (progress is None and "progress" not in ctx._hooks):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                if progress:
                    raise ImportError("progress=True needs tqdm: pip install tqdm") from None
            else:
                if progress or sys.stderr.isatty():
                    self.wanted = self.bar = Bar(tqdm, True)

    def __enter__(self) -> None:
        self.ctx._lock.acquire()
        try:
            self.former = self.ctx._hooks.get("progress")
            if self.wanted:
                self.ctx.set_progress(self.wanted)
        except BaseException:
            self.ctx._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            if self.bar:
                self.bar.close()
            if self.wanted:
                try:
                    self._restore()
                except CancelledError:  # a cancellation that came too late for the block
                    self._restore()
        finally:
            self.ctx._lock.release()

    def _restore(self) -> None:
        if self.former is None:
            self.ctx.set_progress(None)
        else:
            self.ctx._call(lib.tfuse_ctx_set_progress, self.former, None)
            self.ctx._hooks["progress"] = self.former
