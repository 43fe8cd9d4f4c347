#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints tests/unit/ot_reference.h: optimal costs of SciPy's linear_sum_assignment and of Python Optimal Transport
for the matrices that tests/unit/ot_cases.h makes too.

Needs numpy, scipy and POT:  tests/tools/ot_reference.py > tests/unit/ot_reference.h
"""
import warnings

import numpy as np
import ot
from scipy.optimize import linear_sum_assignment

MASK = (1 << 64) - 1
UNIFORM, TIES, GRID, HEAVY, PRODUCT, TWINS, DEAD = range(7)
EVEN, WEIGHTS, ZEROS, TINY = range(4)


class Draws:
    def __init__(self, seed):
        self.state = (seed * 2654435769 + 12345) & MASK

    def __call__(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return self.state >> 40


def cost_matrix(kind, n, m, draw):
    unit = 1.0 / (1 << 24)
    c = np.zeros((n, m))
    if kind == GRID:
        points = [(draw() >> 16, draw() >> 16) for _ in range(n + m)]
        for i in range(n):
            for j in range(m):
                (a, b), (x, y) = points[i], points[n + j]
                c[i, j] = (a - x) ** 2 + (b - y) ** 2
        return c
    for i in range(n):
        for j in range(m):
            if kind == PRODUCT:
                c[i, j] = (i + 1) * (j + 1)
            elif kind == TWINS and (i % 3 or j % 2):
                c[i, j] = c[i - i % 3, j - j % 2]
            elif kind == DEAD and i % 5 == 0:
                c[i, j] = 0.5
            elif kind == TIES:
                c[i, j] = draw() >> 21
            elif kind == HEAVY:
                x = draw() * unit
                c[i, j] = x * x * x * x * x * x
            else:
                c[i, j] = draw() * unit
    return c.astype(np.float32).astype(np.float64)


def masses(kind, n, draw):
    w = np.ones(n)
    for i in range(n):
        if kind == EVEN:
            continue
        k = draw() >> 8
        w[i] = 1 + k % 1000
        if kind == ZEROS and i and k % 3 == 0:
            w[i] = 0
        if kind == TINY and i % 4 == 3:
            w[i] = 1e-12
    return w / w.sum()


def problem(kind, mass, n, m, seed):
    draw = Draws(seed)
    c = cost_matrix(kind, n, m, draw)
    return c, masses(mass, n, draw), masses(mass, m, draw)


SIZES = [(1, 1), (1, 7), (7, 1), (2, 2), (7, 7), (12, 18), (18, 12), (40, 40), (37, 41), (64, 64), (64, 48), (100, 99)]


def exact_rows():
    seed = 0
    for n, m in SIZES:
        for kind in range(7):
            seed += 1
            mass = EVEN if n == m and kind % 2 == 0 else seed % 4
            c, mu, nu = problem(kind, mass, n, m, seed)
            value = float((ot.emd(mu, nu, c, numItermax=10**7) * c).sum())
            if n == m and mass == EVEN:
                rows, cols = linear_sum_assignment(c)
                assigned = float(c[rows, cols].sum()) / n
                assert abs(assigned - value) <= 1e-12 * max(1, abs(value))
                value = assigned
            yield f"    {{{n}, {m}, {kind}, {mass}, {seed}, {value!r}}},"


def sinkhorn_rows():
    cases = [(5, 5), (20, 30), (30, 20), (64, 64)]
    for seed, (n, m) in enumerate(cases * 2, start=1000):
        kind = (UNIFORM, HEAVY)[seed % 2]
        mass = (EVEN, WEIGHTS, EVEN)[seed % 3]
        c, mu, nu = problem(kind, mass, n, m, seed)
        for reg in (1.0, 0.1, 0.05):
            p = ot.bregman.sinkhorn_log(mu, nu, c, reg, numItermax=200000, stopThr=1e-15, warn=False)
            q, log = ot.sinkhorn(mu, nu, c, reg, log=True, warn=False)
            yield (f"    {{{n}, {m}, {kind}, {mass}, {seed}, {reg}, {float((p * c).sum())!r}, "
                   f"{float((q * c).sum())!r}, {log['niter'] + 1}}},")


def main():
    warnings.simplefilter("ignore")
    print("/* SPDX-License-Identifier: Apache-2.0")
    print(" *")
    print(" * ot_reference.h: written by tests/tools/ot_reference.py (SciPy's linear_sum_assignment, POT's emd,")
    print(" * sinkhorn_log and sinkhorn). The columns are fields of the structs in ot_cases.h.")
    print(" */")
    print("static const exact_reference exact_references[] = {")
    print("\n".join(exact_rows()))
    print("};\n\nstatic const sinkhorn_reference sinkhorn_references[] = {")
    print("\n".join(sinkhorn_rows()))
    print("};")


if __name__ == "__main__":
    main()
