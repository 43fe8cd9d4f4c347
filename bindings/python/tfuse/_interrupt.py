# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C during a call of the library.

Python's handler of SIGINT runs when the main thread is back in Python, which is after the call. But at the signal itself Python writes a byte
to the descriptor of signal.set_wakeup_fd; a thread that waits for it cancels the call, which then returns within milliseconds, and the handler raises
KeyboardInterrupt as ever. Another user of the descriptor (asyncio) still gets the byte.
"""
from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import Callable, Iterator


class Watch:
    """The thread that waits, and the calls that it may cancel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: list[list[object]] = []  # [cancel, whether it was called]
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.former = -1
        self.pid = os.getpid()
        threading.Thread(target=self.wait, name="tfuse-interrupt", daemon=True).start()

    def wait(self) -> None:
        while True:
            got = self.reader.recv(64)
            if not got:
                return
            with self.lock:
                if self.former >= 0:
                    try:
                        os.write(self.former, got)
                    except OSError:
                        pass
                if signal.SIGINT in got:
                    for entry in self.running:
                        entry[1] = True
                        entry[0]()  # type: ignore[operator]


_watch: Watch | None = None


def _applies() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL, None)


@contextmanager
def interruptible(cancel: Callable[[], None], absorb: Callable[[], None]) -> Iterator[None]:
    """While the body runs in the main thread, SIGINT calls `cancel`; `absorb` takes a cancellation back that came too late for the call."""
    global _watch
    if not _applies():
        yield
        return
    if _watch is None or _watch.pid != os.getpid():
        _watch = Watch()
    watch = _watch
    entry: list[object] = [cancel, False]
    outermost = not watch.running
    if outermost:
        former = signal.set_wakeup_fd(watch.writer.fileno(), warn_on_full_buffer=False)
        with watch.lock:
            watch.former = former
    with watch.lock:
        watch.running.append(entry)
    try:
        yield
    finally:
        with watch.lock:
            watch.running.remove(entry)
        if outermost:
            signal.set_wakeup_fd(watch.former)
        if entry[1]:
            absorb()
