# SPDX-License-Identifier: Apache-2.0
"""Optimal transport by itself, and solvers written in Python."""
from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np

from . import _abi
from ._array import Array, optional
from ._context import Context, Handle, ProgressFn, default_context, progress_shown
from ._errors import Error
from ._library import c_text, lib, text
from ._policy import PolicyLike, policy_of

Floats = np.ndarray[Any, Any]


class Solution(Handle):
    """A solved problem.

    Attributes:
        n, m: rows and columns.
        cost: sum of coupling × cost; masses sum to one.
        gap: cost less a certified lower bound; 0 up to rounding is a proof, NaN where there is no bound.
        error: L1 deviation of the marginals.
        iterations, seconds, converged: of the solve.
        method: how it was solved and why so.
    """

    _free = "tfuse_solution_free"

    def __init__(self, raw: Any, ctx: Context) -> None:
        super().__init__(raw, ctx)
        info = _abi.tfuse_solution_info()
        ctx._settle(lib.tfuse_solution_get(raw, ctypes.byref(info)), "")
        self.n, self.m = int(info.n), int(info.m)
        self.cost, self.gap, self.error = float(info.cost), float(info.gap), float(info.error)
        self.iterations, self.seconds, self.converged = int(info.iterations), float(info.seconds), bool(info.converged)
        self.method = text(lib.tfuse_solution_method(raw))

    @property
    def coupling(self) -> Floats:
        """n × m float32."""
        raw = ctypes.POINTER(_abi.tfuse_array)()
        self._ctx._call(lib.tfuse_solution_coupling, self, ctypes.byref(raw))
        return Array(raw, self._ctx).numpy()

    @property
    def potentials(self) -> tuple[Floats, Floats]:
        """u (n) and v (m), float64: of an exact solver u_i + v_j <= cost_ij, with equality where the coupling has mass."""
        u, v = ctypes.POINTER(_abi.tfuse_array)(), ctypes.POINTER(_abi.tfuse_array)()
        self._ctx._call(lib.tfuse_solution_potentials, self, ctypes.byref(u), ctypes.byref(v))
        return Array(u, self._ctx).numpy(), Array(v, self._ctx).numpy()

    def __repr__(self) -> str:
        if self.closed:
            return "<tfuse.Solution closed>"
        return f"<tfuse.Solution {self.n} × {self.m}, cost {self.cost:.6g}, gap {self.gap:.2g}, {self.method}>"


def solve(cost: Any, mu: Any = None, nu: Any = None, *, policy: PolicyLike = None, solver: str | None = None, reg: float | None = None,
          progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> Solution:
    """Minimises sum_ij cost_ij P_ij over P >= 0 whose rows sum to mu and whose columns sum to nu.

    Args:
        cost: n × m, floating point, finite.
        mu, nu: n and m masses of equal totals; None: uniform.
        solver: "exact", "sinkhorn" (with `reg`), "sinkhorn-scaling", or one that was added to `ctx`.
    """
    ctx = ctx or default_context()
    chosen = policy_of(policy, ctx, solver=solver, reg=reg)
    problem = Array.of(cost, ctx, "cost")
    rows = optional(mu, ctx, "mu")
    columns = optional(nu, ctx, "nu")
    raw = ctypes.POINTER(_abi.tfuse_solution)()
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_solve, chosen, problem, rows, columns, ctypes.byref(raw))
    return Solution(raw, ctx)


def solve_batch(tasks: Iterable[Any], *, policy: PolicyLike = None, solver: str | None = None, reg: float | None = None,
                progress: ProgressFn | bool | None = None, ctx: Context | None = None) -> list[Solution]:
    """Solves independent problems side by side. A task is a cost, or a mapping with "cost" and any of "mu", "nu", "u", "v"; potentials are a hint that
    saves work near a solution."""
    ctx = ctx or default_context()
    chosen = policy_of(policy, ctx, solver=solver, reg=reg)
    given = [t if isinstance(t, Mapping) else {"cost": t} for t in tasks]
    kept: list[Any] = []
    table = (_abi.tfuse_task * max(1, len(given)))()
    for i, (row, task) in enumerate(zip(table, given)):
        unknown = set(task) - {"cost", "mu", "nu", "u", "v"}
        if unknown or "cost" not in task:
            raise ValueError(f"task {i}: {'there is no cost' if not unknown else 'unknown ' + ', '.join(sorted(unknown))}")
        row.struct_size = ctypes.sizeof(_abi.tfuse_task)
        for key, value in task.items():
            array = optional(value, ctx, f"task {i}: {key}")
            if array is not None:
                kept.append(array)
                setattr(row, key, array._raw)
    out = (ctypes.POINTER(_abi.tfuse_solution) * max(1, len(given)))()
    with progress_shown(ctx, progress):
        ctx._call(lib.tfuse_solve_batch, chosen, table, len(given), out)
    return [Solution(ctypes.cast(out[i], ctypes.POINTER(_abi.tfuse_solution)), ctx) for i in range(len(given))]


@dataclass
class Problem:
    """What a solver of Python's is given: arrays of its own.

    Attributes:
        cost: n × m float32.
        mu, nu: n and m masses, float64, each summing to one.
        reg, tolerance, max_iterations: the policy's; 0: the solver's own.
        u, v: potentials to start from, or None.
        cancelled: says whether to give up.
    """

    cost: Floats
    mu: Floats
    nu: Floats
    reg: float
    tolerance: float
    max_iterations: int
    u: Floats | None
    v: Floats | None
    cancelled: Callable[[], bool]


@dataclass
class Solved:
    """What a solver of Python's may return in place of the coupling alone. What it says is checked: a converged coupling must have its marginals to
    1e-3, and an optimal one come with potentials that prove it."""

    coupling: Any
    u: Any = None
    v: Any = None
    converged: bool = True
    optimal: bool = False
    iterations: int = 0


SolverFn = Callable[[Problem], Union[Solved, Any]]


def _copied(address: Any, *shape: int) -> Floats:
    return np.ctypeslib.as_array(address, shape).copy()


def _fill(where: Any, given: Any, name: str, *shape: int) -> None:
    array = np.asarray(given)
    if array.shape != shape:
        raise ValueError(f"the solver's {name} has shape {array.shape}: {shape} is wanted")
    np.ctypeslib.as_array(where, shape)[...] = array


def add_solver(name: str, solve: SolverFn, *, ctx: Context | None = None) -> None:
    """Adds a solver written in Python to a context; policies of calls on it then take the name in solver.name.

    Args:
        solve: gets a Problem, returns the coupling (n × m) or a Solved. What it raises comes out of the call that wanted the solution.
    """
    ctx = ctx or default_context()
    caught = ctx._caught

    def run(_user: int | None, problem: Any, result: Any, cancelled: Callable[[Any], int], env: int | None) -> int:
        try:
            p, r = problem.contents, result.contents
            n, m = int(p.n), int(p.m)
            got = solve(Problem(_copied(p.cost, n, m), _copied(p.mu, n), _copied(p.nu, m), p.reg, p.tolerance, int(p.max_iterations),
                                _copied(p.u, n) if p.u else None, _copied(p.v, m) if p.v else None, lambda: bool(cancelled(env))))
            solved = got if isinstance(got, Solved) else Solved(got)
            _fill(r.coupling, solved.coupling, "coupling", n, m)
            if solved.u is not None and solved.v is not None:
                _fill(r.u, solved.u, "u", n)
                _fill(r.v, solved.v, "v", m)
                r.has_potentials = 1
            r.converged, r.optimal, r.iterations = int(solved.converged), int(solved.optimal), int(solved.iterations)
            return 0
        except BaseException as e:  # pylint: disable=broad-except
            caught.keep(e)
            return e.status if isinstance(e, Error) and e.status < 0 else _abi.TFUSE_ECALLBACK

    table = _abi.tfuse_solver_ops(name=c_text("name", name))
    table.solve = type(table.solve)(run)
    ctx._call(lib.tfuse_ctx_add_solver, ctypes.byref(table), None)
    ctx._hooks[f"solver {name}"] = table
