#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Optimal transport: ours beside SciPy's linear_sum_assignment and POT's emd and sinkhorn_log on the same matrices, in turns, in one run,
on one core, everybody as often; then ours on two threads beside a probe of what two threads gain on this machine.

Times on one thread are processor time, so that what else runs on the machine takes nothing away; caches and memory are still shared with it. Ours gets the float32 matrix through the public interface (the whole call, checks and certificate included); the others get float64, made
beforehand, since that is what they compute in. Prints a line for each case: medians over the seeds of the best of a few runs, ratios, the
wanted ratios. Sinkhorn is the whole call over its iterations, all setting up and finishing included.

    bench_ot.py libtfuse.so [--seeds 5] [--quick] [--large] [--only TEXT]

--quick leaves out sizes from 3072; --large adds one 14336 x 14336 problem with its memory, which nobody else is asked to solve.
Needs numpy, scipy and POT (Debian: python3-numpy python3-scipy python3-pot).
"""
import argparse
import ctypes
import os
import statistics
import threading
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"):
    os.environ[name] = "1"
import numpy as np  # noqa: E402



class Info(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("n", ctypes.c_int64), ("m", ctypes.c_int64), ("cost", ctypes.c_double),
                ("gap", ctypes.c_double), ("error", ctypes.c_double), ("iterations", ctypes.c_int64),
                ("seconds", ctypes.c_double), ("converged", ctypes.c_int32)]


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def keep(_):
    """Borrowed memory stays with numpy."""


class Task(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("cost", ctypes.c_void_p), ("mu", ctypes.c_void_p), ("nu", ctypes.c_void_p),
                ("u", ctypes.c_void_p), ("v", ctypes.c_void_p)]


class Ours:
    def __init__(self, path):
        self.lib = lib = ctypes.CDLL(os.path.abspath(path))
        for name in ("tfuse_array_free", "tfuse_solution_free"):
            getattr(lib, name).argtypes = [ctypes.c_void_p]
        lib.tfuse_ctx_error.restype = ctypes.c_char_p
        lib.tfuse_dtype_name.restype = ctypes.c_char_p
        self.dtype = {lib.tfuse_dtype_name(i): i for i in range(1, 32)}
        self.ctx, self.policy = ctypes.c_void_p(), ctypes.c_void_p()
        self.clock = time.process_time
        self.check(lib.tfuse_ctx_new(None, ctypes.byref(self.ctx)))
        self.check(lib.tfuse_policy_new(self.ctx, ctypes.byref(self.policy)))

    def check(self, status):
        if status:
            raise SystemExit(self.lib.tfuse_ctx_error(self.ctx).decode())

    def set(self, key, value):
        self.check(self.lib.tfuse_policy_set(self.ctx, self.policy, key.encode(), str(value).encode()))

    def threads(self, count):
        self.check(self.lib.tfuse_ctx_set_threads(self.ctx, ctypes.c_uint32(count)))

    def wrap(self, a):
        out = ctypes.c_void_p()
        shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        dtype = self.dtype[b"F32" if a.dtype == np.float32 else b"F64"]
        self.check(self.lib.tfuse_array_wrap(self.ctx, dtype, ctypes.c_size_t(a.ndim), shape,
                                             a.ctypes.data_as(ctypes.c_void_p), keep, None, ctypes.byref(out)))
        return out

    def batch(self, costs):
        """Seconds of independent problems in one call."""
        arrays = [self.wrap(c) for c in costs]
        tasks = (Task * len(costs))(*(Task(struct_size=ctypes.sizeof(Task), cost=a) for a in arrays))
        out = (ctypes.c_void_p * len(costs))()
        start = self.clock()
        self.check(self.lib.tfuse_solve_batch(self.ctx, self.policy, tasks, ctypes.c_size_t(len(costs)), out))
        seconds = self.clock() - start
        for a, solution in zip(arrays, out):
            self.lib.tfuse_solution_free(solution)
            self.lib.tfuse_array_free(a)
        return seconds

    def solve(self, cost, mu=None, nu=None):
        """Seconds and numbers of one solution."""
        arrays = [self.wrap(a) if a is not None else None for a in (cost, mu, nu)]
        solution, info = ctypes.c_void_p(), Info(struct_size=ctypes.sizeof(Info))
        start = self.clock()
        self.check(self.lib.tfuse_solve(self.ctx, self.policy, *arrays, ctypes.byref(solution)))
        seconds = self.clock() - start
        self.check(self.lib.tfuse_solution_get(solution, ctypes.byref(info)))
        self.lib.tfuse_solution_free(solution)
        for a in arrays:
            self.lib.tfuse_array_free(a)
        return seconds, info


# ---- the problems -------------------------------------------------------------------------------------------------------

def distances(x, y, squared=False):
    d = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * x @ y.T
    np.maximum(d, 0, out=d)
    return d if squared else np.sqrt(d, out=d)


def gauss(rng, n, m):
    return distances(rng.standard_normal((n, 200)), rng.standard_normal((m, 200)))


def recovery(rng, n, m):
    x = rng.standard_normal((max(n, m), 200))
    y = x[rng.permutation(len(x))] + 0.1 * rng.standard_normal(x.shape)
    return distances(x[:n], y[:m])


def structured(rng, n, m):
    centres = rng.standard_normal((64, 24))
    basis = rng.standard_normal((24, 512)) * np.arange(1, 513) ** -0.7

    def network(count):
        z = 0.7 * centres[rng.integers(0, 64, count)] + rng.standard_normal((count, 24))
        a = np.exp(0.8 * rng.standard_normal(count))[:, None] * (z @ basis)
        return a + 0.05 * a.std() * rng.standard_normal(a.shape)

    return distances(network(n), network(m), squared=True)


def ties(rng, n, m):
    c = gauss(rng, n, m)
    return np.round(c * (255 / c.max()))


def dead(rng, n, m):
    x, y = rng.standard_normal((n, 200)), rng.standard_normal((m, 200))
    x[:n // 5] = y[:m // 5] = 0
    return distances(x, y)


def duplicated(rng, n, m):
    return distances(np.repeat(rng.standard_normal((n // 4, 200)), 4, 0), np.repeat(rng.standard_normal((m // 4, 200)), 4, 0))


def line(rng, n, m):
    return (rng.standard_normal(n)[:, None] - rng.standard_normal(m)[None]) ** 2


def product(_, n, m):
    return np.outer(np.arange(1.0, n + 1), np.arange(1.0, m + 1))


# name, kind, n, m, weighted, {peer: (must, stretch)}; "best" is the faster of the two
CASES = [
    ("square", gauss, 256, 256, False, {"scipy": (5, 10)}),
    ("square", gauss, 768, 768, False, {"scipy": (10, 20)}),
    ("square", structured, 768, 768, False, {"scipy": (25, 60)}),
    ("square", gauss, 3072, 3072, False, {"scipy": (30, 80), "pot": (30, 90)}),
    ("square", recovery, 3072, 3072, False, {"scipy": (10, 20), "pot": (60, 150)}),
    ("square", structured, 3072, 3072, False, {"scipy": (100, 400), "pot": (25, 80)}),
] + [("adversarial" if not weighted else "adv.weight", kind, 1024, m, weighted, {"best": (0.5, 1)})
     for m, weighted in ((1024, False), (768, False), (1024, True)) for kind in (ties, dead, duplicated, line, product)] + [
    ("uniform", kind, n, m, False, {"pot": want})
    for n, m, wants in ((768, 512, ((7, 15), (5, 10), (4, 10))), (768, 1024, ((7, 15), (5, 10), (4, 10))),
                        (3072, 2048, ((18, 40), (10, 30), (9, 20))))
    for kind, want in zip((gauss, recovery, structured), wants)
] + [("weighted", kind, 3072, 3072, True, {"pot": want})
     for kind, want in zip((gauss, recovery, structured), ((8, 20), (10, 25), (4, 10)))]


def problem(case, seed):
    _, kind, n, m, weighted, _ = case
    rng = np.random.default_rng(seed)
    c = kind(rng, n, m)
    c = (c / c.max()).astype(np.float32)
    mu = nu = None
    if weighted:
        mu, nu = rng.gamma(2, 1, n), rng.gamma(2, 1, m)
        mu, nu = mu / mu.sum(), nu / nu.sum()
    return c, mu, nu


# ---- measuring ------------------------------------------------------------------------------------------------------------

def timed(f, clock=time.process_time):
    start = clock()
    value = f()
    return clock() - start, value


def repeats(n):
    return 3 if n <= 1024 else 2


def best(f, times):
    """The fastest of a few runs, and what that one gave."""
    return min((f() for _ in range(times)), key=lambda run: run[0])


def run_peers(c, mu, nu, times_each=1):
    import ot
    from scipy.optimize import linear_sum_assignment
    c = c.astype(np.float64)
    n, m = c.shape
    times, costs = {}, []
    if mu is None and n == m:
        times["scipy"], (rows, cols) = best(lambda: timed(lambda: linear_sum_assignment(c)), times_each)
        costs.append(c[rows, cols].sum() / n)
    a = np.full(n, 1 / n) if mu is None else mu
    b = np.full(m, 1 / m) if nu is None else nu
    times["pot"], plan = best(lambda: timed(lambda: ot.emd(a, b, c, numItermax=10 ** 8)), times_each)
    costs.append(float((plan * c).sum()))
    times["best"] = min(times.values())
    return times, costs


def run_case(ours, case, seeds):
    group, kind, n, m, _, wants = case
    mine, theirs = [], {}
    for seed in range(1, seeds + 1):
        c, mu, nu = problem(case, seed)
        seconds, info = best(lambda: ours.solve(c, mu, nu), repeats(n))
        mine.append(seconds)
        times, costs = run_peers(c, mu, nu, repeats(n))
        for cost in costs:
            if abs(cost - info.cost) > 1e-9 * abs(cost):
                raise SystemExit(f"{group} {kind.__name__} {n}x{m} seed {seed}: cost {info.cost!r}, a peer has {cost!r}")
        for name, t in times.items():
            theirs.setdefault(name, []).append(t)
    for name, want in wants.items():
        print_row(group, kind, n, m, mine, name, theirs[name], *want)


def print_row(group, kind, n, m, mine, name, theirs, must, stretch):
    own, other = statistics.median(mine), statistics.median(theirs)
    ratio = other / own
    verdict = "stretch" if ratio >= stretch else "must" if ratio >= must else "BELOW"
    print(f"{group:<12}{kind.__name__:<12}{n:>6} x {m:<6}{own * 1e3:>10.2f}  {name:<6}"
          f"{other * 1e3:>10.1f}{ratio:>9.1f}x  {must:>5}x {stretch:>5}x  {verdict}", flush=True)


def run_sinkhorn(ours, n, reg, want, seeds):
    """Milliseconds an iteration."""
    import ot
    mine, theirs, most = [], [], 10
    ours.set("solver.name", "sinkhorn")
    ours.set("solver.reg", reg)
    ours.set("solver.tolerance", 1e-6)
    for seed in range(1, seeds + 1):
        c = problem((None, gauss, n, n, False, None), seed)[0]
        seconds, info = best(lambda: ours.solve(c), repeats(n))
        mine.append(seconds / info.iterations)
        a, wide = np.full(n, 1 / n), c.astype(np.float64)
        theirs.append(best(lambda: timed(lambda: ot.bregman.sinkhorn_log(a, a, wide, reg, numItermax=most, stopThr=0)), repeats(n))[0] / most)
    for key, value in (("name", "exact"), ("reg", 0.05), ("tolerance", 0)):
        ours.set(f"solver.{key}", value)
    print_row("sinkhorn", gauss, n, n, mine, "pot", theirs, *want)


def both(work):
    """work(k) on two threads at once; it lets go of Python's lock."""
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def run_threads(ours, rounds=15):
    """Gains of two threads by the clock, each round beside a probe: reading memory for Sinkhorn, computing in cache for a batch. What else runs on the
    machine shifts both; so each round gives one ratio, and rows tell when the probe says that there was no second core to gain from."""
    large = [np.ones(8 << 20, np.float32) for _ in range(2)]
    small = [np.linspace(-1, 0, 1 << 16) for _ in range(2)]
    c = problem((None, gauss, 3072, 3072, False, None), 1)[0]
    heads = [problem((None, gauss, 256, 256, False, None), seed)[0] for seed in range(1, 33)]
    layers = [problem((None, gauss, 768, 768, False, None), seed)[0] for seed in range(1, 13)]

    def sinkhorn():
        ours.set("solver.name", "sinkhorn")
        ours.set("solver.reg", 0.01)
        ours.solve(c)
        ours.set("solver.name", "exact")

    def on_threads(count, run):
        ours.threads(count)
        return timed(run, time.perf_counter)[0]

    cases = (("sinkhorn 3072", sinkhorn, lambda k: [large[k].max() for _ in range(8)]),
             ("batch of 32 x 256", lambda: ours.batch(heads), lambda k: [np.exp(small[k]) for _ in range(40)]),
             ("batch of 12 x 768", lambda: ours.batch(layers), lambda k: [np.exp(small[k]) for _ in range(80)]))
    for name, run, work in cases:
        gains, probes = [], []
        for _ in range(rounds):
            alone = timed(lambda: (work(0), work(1)), time.perf_counter)[0]
            one, two = on_threads(1, run), on_threads(2, run)
            together = timed(lambda: both(work), time.perf_counter)[0]
            gains.append(one / two)
            probes.append(min(alone / together, 2))  # above it is not a gain of two threads but what disturbed the first
        gain, possible = statistics.median(gains), statistics.median(probes)
        share = statistics.median(g / p for g, p in zip(gains, probes))
        verdict = "no second core to be had: proves nothing" if possible < 1.4 else "must" if share >= 0.85 else "BELOW"
        print(f"two threads {name:<20} gain {gain:.2f}x, probe {possible:.2f}x: {share:.2f} of it (must: 0.85)  {verdict}", flush=True)
    ours.threads(1)


def memory_kib(field):
    with open("/proc/self/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith(field)).split()[1])


def run_large(ours):
    """One big problem; the cost is made in bands, so that the matrix is all the memory there is."""
    n = 14336
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((n, 200)).astype(np.float32) for _ in range(2))
    c = np.empty((n, n), np.float32)
    for i in range(0, n, 512):
        c[i:i + 512] = distances(x[i:i + 512], y)
    before = memory_kib("RssAnon:")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
        f.write("5")  # the peak starts here
    seconds, info = ours.solve(c)
    extra = max(0, memory_kib("VmHWM:") - memory_kib("RssFile:") - memory_kib("RssShmem:") - before)
    print(f"square      gauss        {n} x {n}  {seconds:.2f} s, gap {info.gap:.2g}, memory "
          f"{1 + extra * 1024 / c.nbytes:.3f} of the cost matrix (must: certified, 1.15; stretch: 5 s)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    ours = Ours(args.library)
    print(f"{'case':<12}{'costs':<12}{'size':>15}{'ours ms':>10}  {'peer':<6}{'peer ms':>10}{'ratio':>10}  {'must':>6} {'stretch':>6}")
    for case in CASES:
        if (args.quick and case[2] >= 3072) or args.only not in f"{case[0]} {case[1].__name__} {case[2]} {case[3]}":
            continue
        run_case(ours, case, args.seeds)
    for n, want in ((768, (25, 50)), (3072, (25, 50))):
        if args.only in f"sinkhorn {n}" and not (args.quick and n >= 3072):
            run_sinkhorn(ours, n, 0.01, want, args.seeds)
    if args.only in "threads" and not args.quick and len(cores) > 1:
        os.sched_setaffinity(0, cores)
        run_threads(ours)
    if args.large:
        run_large(ours)


if __name__ == "__main__":
    main()
