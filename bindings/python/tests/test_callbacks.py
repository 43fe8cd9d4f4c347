# SPDX-License-Identifier: Apache-2.0
"""Functions of Python's inside the library: progress, log, solvers, threads; exceptions come out again, Ctrl-C stops a call."""
import logging
import os
import signal
import sys
import threading
import types
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
from common import A, B, IMAGES, Folder, same

import tfuse

ENDLESS = {"solver.name": "sinkhorn", "solver.reg": 0.001, "solver.tolerance": 1e-300, "solver.max_iterations": 10**9}
COST = np.random.default_rng(0).random((200, 200))


class Odd(Exception):
    pass


class Callbacks(Folder):
    def test_progress(self):
        seen = []
        tfuse.align(B, A, calib=IMAGES, progress=lambda stage, done, total: seen.append((stage, done, total)))
        self.assertTrue(seen and all(isinstance(s, str) and 0 <= d <= t for s, d, t in seen if t))
        count = len(seen)
        tfuse.align(B, A, calib=IMAGES, progress=False)
        self.assertEqual(len(seen), count)
        kept = tfuse.Context(progress=lambda *step: seen.append(step))
        tfuse.align(B, A, calib=IMAGES, ctx=kept)
        self.assertGreater(len(seen), count)
        kept.set_progress(None)

    def test_progress_that_raises_or_says_no(self):
        def fail(*_):
            raise Odd("enough")
        with self.assertRaisesRegex(Odd, "enough"):
            tfuse.fuse(B, A, calib=IMAGES, progress=fail, out=self.path("out"))
        self.assertEqual(os.listdir(self.folder), [])
        with self.assertRaises(tfuse.CancelledError):
            tfuse.align(B, A, calib=IMAGES, progress=lambda *_: False)
        tfuse.align(B, A)

    def test_tqdm_shows_it(self):
        bars = []

        class Tqdm:
            def __init__(self, **given):
                self.given, self.n, self.total, self.closed = given, 0, given["total"], False
                bars.append(self)

            def update(self, n):
                self.n += n

            def close(self):
                self.closed = True

        with mock.patch.dict(sys.modules, {"tqdm": types.ModuleType("tqdm"), "tqdm.auto": types.SimpleNamespace(tqdm=Tqdm)}):
            tfuse.align(B, A, calib=IMAGES, progress=True)
        self.assertTrue(bars and all(b.closed and b.given["desc"] for b in bars) and any(b.n == b.total for b in bars))
        with mock.patch.dict(sys.modules, {"tqdm": None, "tqdm.auto": None}):
            tfuse.align(B, A)
            with self.assertRaisesRegex(ImportError, "pip install tqdm"):
                tfuse.align(B, A, progress=True)

    def test_solver(self):
        ctx = tfuse.Context(2)
        seen = []

        def by_scipys_way(problem):
            seen.append(problem)
            solution = tfuse.solve(problem.cost, problem.mu, problem.nu)
            u, v = solution.potentials
            return tfuse.Solved(solution.coupling, u, v, optimal=True, iterations=7)

        tfuse.add_solver("mine", by_scipys_way, ctx=ctx)
        got, exact = tfuse.solve(COST, solver="mine", ctx=ctx), tfuse.solve(COST)
        self.assertEqual((got.iterations, got.method.split(":")[0]), (7, "mine"))
        self.assertAlmostEqual(got.cost, exact.cost, places=7)  # the one of the coupling in float32, the other of the assignment
        self.assertFalse(seen[0].cancelled())
        maps = tfuse.align(B, A, align="otfusion", solver="mine", ctx=ctx)
        self.assertTrue(len(seen) > 3 and len(maps) > 3)
        with self.assertRaises(tfuse.Error):
            tfuse.add_solver("mine", by_scipys_way, ctx=ctx)

    def test_solver_that_fails(self):
        ctx = tfuse.Context()

        def raise_odd(_):
            raise Odd("no idea")
        tfuse.add_solver("odd", raise_odd, ctx=ctx)
        tfuse.add_solver("short", lambda p: np.zeros((1, 1)), ctx=ctx)
        tfuse.add_solver("liar", lambda p: np.zeros_like(p.cost), ctx=ctx)
        for name, error, what in (("odd", Odd, "no idea"), ("short", ValueError, "coupling has shape"), ("liar", tfuse.NumericError, "liar"),
                                  ("none", tfuse.PolicyError, "none")):
            with self.assertRaisesRegex(error, what):
                tfuse.solve(COST, solver=name, ctx=ctx)
        with self.assertRaises(Odd):
            tfuse.fuse(B, A, align="otfusion", solver="odd", ctx=ctx)

    def test_ctrl_c_stops_a_call(self):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            tfuse.solve(COST, policy=ENDLESS)
        self.assertLess(tfuse.solve(COST).gap, 1e-6)
        self.assertEqual(signal.set_wakeup_fd(-1), -1)

    def test_a_signal_that_python_does_not_raise_for(self):
        caught = []
        former = signal.signal(signal.SIGINT, lambda *_: caught.append(1))
        self.addCleanup(signal.signal, signal.SIGINT, former)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(tfuse.CancelledError):
            tfuse.solve(COST, policy=ENDLESS)
        self.assertEqual(caught, [1])

    def test_cancel_from_another_thread(self):
        ctx = tfuse.Context()
        threading.Timer(0.2, ctx.cancel).start()
        with self.assertRaises(tfuse.CancelledError):
            tfuse.solve(COST, policy=ENDLESS, ctx=ctx)
        ctx.cancel()
        ctx._absorb()
        tfuse.solve(COST, ctx=ctx)

    def test_log(self):
        lines = []
        ctx = tfuse.Context(log=lambda level, line: lines.append((level, line)))
        tfuse.align(B, A, calib=IMAGES, samples=3, ctx=ctx)
        self.assertTrue(lines and all(isinstance(level, int) and line and "\n" not in line for level, line in lines))
        with self.assertLogs("tfuse", logging.DEBUG):
            tfuse.align(B, A, calib=IMAGES, samples=3, ctx=tfuse.Context())

        def fail(*_):
            raise Odd("log")
        with self.assertRaises(Odd):
            tfuse.align(B, A, calib=IMAGES, samples=3, ctx=tfuse.Context(log=fail))

    def test_threads_do_not_change_a_bit(self):
        one = tfuse.fuse(B, A, calib=IMAGES, ctx=tfuse.Context(1))
        with ThreadPoolExecutor(3) as pool:
            other = tfuse.fuse(B, A, calib=IMAGES, ctx=tfuse.Context(executor=pool))
        gone = tfuse.Context(executor=pool)  # takes no more: the calling thread makes up for it, and the call says so
        with self.assertRaisesRegex(RuntimeError, "shutdown"):
            tfuse.fuse(B, A, calib=IMAGES, ctx=gone)
        self.assertTrue(same(dict(one), dict(other)))
        with self.assertRaises(ValueError):
            tfuse.Context(-1)
        with self.assertRaises(tfuse.OutOfRangeError):
            tfuse.Context(5000)

    def test_one_context_in_two_threads_waits(self):
        ctx, model, got = tfuse.Context(), tfuse.Model(A), []
        x = np.load(IMAGES)
        threads = [threading.Thread(target=lambda: got.append(tfuse.run(model, x, ctx=ctx))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertTrue(len(got) == 4 and all(np.array_equal(g, got[0]) for g in got))

    def test_a_call_from_a_callback_on_the_same_context(self):
        ctx = tfuse.Context()
        tfuse.add_solver("inner", lambda p: tfuse.solve(p.cost, ctx=ctx).coupling, ctx=ctx)
        with self.assertRaises(tfuse.StateError):
            tfuse.solve(COST, solver="inner", ctx=ctx)

    def test_files_and_memory(self):
        ctx = tfuse.Context()
        ctx.save_file(self.path("x.html"), b"<p>")
        with self.assertRaises(tfuse.ExistsError):
            ctx.save_file(self.path("x.html"), b"")
        ctx.save_file(self.path("x.html"), b"", force=True)
        self.assertEqual(os.path.getsize(self.path("x.html")), 0)
        ctx.check_output(self.path("new"))
        ctx.check_output(self.path("x.html"), directory=False, force=True)
        with self.assertRaises(tfuse.ExistsError):
            ctx.check_output(self.path("x.html"), force=True)
        self.assertFalse(os.path.exists(self.path("new")))
        self.assertGreater(ctx.memory.peak, 0)


if __name__ == "__main__":
    unittest.main()
