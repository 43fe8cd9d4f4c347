// SPDX-License-Identifier: Apache-2.0
//! Optimal transport by itself, and solvers of the caller's.

use crate::array::{slice, Array};
use crate::context::{Caught, Context};
use crate::error::{c_string, text, Result, Status};
use crate::plan::raw_array;
use crate::policy::Policy;
use crate::sys;
use std::fmt;
use std::mem::size_of;
use std::os::raw::c_void;
use std::ptr;

/// What a solver is given: minimise the sum of cost × coupling over couplings with row sums mu and column sums nu.
#[derive(Clone, Copy)]
pub struct Problem<'p> {
    /// Rows: units of the model that is moved.
    pub n: usize,
    /// Columns: units of the anchor.
    pub m: usize,
    /// n × m, row-major, finite.
    pub cost: &'p [f32],
    /// n row masses that sum to 1.
    pub mu: &'p [f64],
    /// m column masses that sum to 1.
    pub nu: &'p [f64],
    /// `solver.reg`.
    pub reg: f64,
    /// Wanted L1 error of the marginals; 0: the solver's own.
    pub tolerance: f64,
    /// 0: the solver's own.
    pub max_iterations: i64,
    /// Potentials of a neighbouring problem to start from.
    pub start: Option<(&'p [f64], &'p [f64])>,
    cancelled: (Option<unsafe extern "C" fn(*const c_void) -> i32>, *const c_void),
}

impl Problem<'_> {
    /// Whether to give up: return an error of [`Status::ECANCELLED`] then.
    pub fn cancelled(&self) -> bool {
        self.cancelled.0.map_or(false, |ask| unsafe { ask(self.cancelled.1) } != 0)
    }
}

/// What a solver fills in; zeroed before. What is said of it is checked: a coupling must have its marginals, and an optimum potentials that prove it.
pub struct Coupling<'p> {
    /// n × m, row-major; entries of 0 or more.
    pub matrix: &'p mut [f32],
    /// n potentials.
    pub u: &'p mut [f64],
    /// m potentials.
    pub v: &'p mut [f64],
    /// Whether `u` and `v` are set.
    pub has_potentials: bool,
    /// Whether the solver reached its tolerance.
    pub converged: bool,
    /// Whether `u` and `v` prove that the coupling is optimal.
    pub optimal: bool,
    /// As the solver counts them.
    pub iterations: i64,
}

type SolverFn = Box<dyn FnMut(&Problem<'_>, &mut Coupling<'_>) -> Result<()> + Send>;

struct Own {
    caught: Caught,
    body: SolverFn,
}

unsafe extern "C" fn solve_own(
    user: *mut c_void,
    problem: *const sys::tfuse_problem,
    result: *mut sys::tfuse_result,
    cancelled: Option<unsafe extern "C" fn(*const c_void) -> i32>,
    env: *const c_void,
) -> sys::tfuse_status {
    let own = &mut *(user as *mut Own);
    let (p, r) = (&*problem, &mut *result);
    let (n, m) = (p.n as usize, p.m as usize);
    let given = Problem {
        n,
        m,
        cost: slice(p.cost, n * m),
        mu: slice(p.mu, n),
        nu: slice(p.nu, m),
        reg: p.reg,
        tolerance: p.tolerance,
        max_iterations: p.max_iterations,
        start: (!p.u.is_null() && !p.v.is_null()).then(|| (slice(p.u, n), slice(p.v, m))),
        cancelled: (cancelled, env),
    };
    let mut coupling = Coupling {
        matrix: slice_mut(r.coupling, n * m),
        u: slice_mut(r.u, n),
        v: slice_mut(r.v, m),
        has_potentials: false,
        converged: false,
        optimal: false,
        iterations: 0,
    };
    let body = &mut own.body;
    match own.caught.guard(|| body(&given, &mut coupling)) {
        Some(Ok(())) => {
            r.has_potentials = coupling.has_potentials as i32;
            r.converged = coupling.converged as i32;
            r.optimal = coupling.optimal as i32;
            r.iterations = coupling.iterations;
            sys::TFUSE_OK
        }
        Some(Err(error)) => {
            let status = error.status();
            own.caught.keep_error(error);
            if status.0 < 0 {
                status.0
            } else {
                sys::TFUSE_ECALLBACK
            }
        }
        None => Status::ECALLBACK.0,
    }
}

unsafe fn slice_mut<'a, T>(data: *mut T, count: usize) -> &'a mut [T] {
    if data.is_null() || count == 0 {
        &mut []
    } else {
        std::slice::from_raw_parts_mut(data, count)
    }
}

impl Context {
    /// Adds a solver to the context's table; policies then take its name in `solver.name`. An error that the closure returns is what the solve
    /// fails with.
    ///
    /// ```
    /// # fn main() -> tfuse::Result<()> {
    /// let mut ctx = tfuse::Context::new()?;
    /// ctx.add_solver("independent", |p, c| {
    ///     for i in 0..p.n {
    ///         for j in 0..p.m {
    ///             c.matrix[i * p.m + j] = (p.mu[i] * p.nu[j]) as f32;
    ///         }
    ///     }
    ///     c.converged = true;
    ///     Ok(())
    /// })?;
    /// let mut policy = tfuse::Policy::new(&ctx)?;
    /// policy.set(&ctx, "solver.name", "independent")?;
    /// let cost = tfuse::Array::own(&ctx, &[2, 2], vec![0f32, 1.0, 1.0, 0.0])?;
    /// assert_eq!(tfuse::solve(&ctx, &policy, &cost, None, None)?.info().cost, 0.5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_solver(&mut self, name: &str, solver: impl FnMut(&Problem<'_>, &mut Coupling<'_>) -> Result<()> + Send + 'static) -> Result<()> {
        let name = c_string("the solver's name", name)?;
        let own = Own { caught: self.caught.clone(), body: Box::new(solver) };
        self.keep(own, |ctx, at| {
            let ops = sys::tfuse_solver_ops { struct_size: size_of::<sys::tfuse_solver_ops>(), name: name.as_ptr(), solve: Some(solve_own) };
            ctx.check(unsafe { sys::tfuse_ctx_add_solver(ctx.raw(), &ops, at as *mut c_void) })
        })
    }
}

/// A solved problem.
pub struct Solution {
    raw: *mut sys::tfuse_solution,
}

// It never changes.
unsafe impl Send for Solution {}
unsafe impl Sync for Solution {}

/// Numbers of a solution.
#[derive(Clone, Copy, Debug)]
pub struct SolutionInfo {
    /// Rows.
    pub n: i64,
    /// Columns.
    pub m: i64,
    /// Sum of coupling × cost.
    pub cost: f64,
    /// Cost less a certified bound: 0 up to rounding is a proof; NaN where there is no bound.
    pub gap: f64,
    /// L1 deviation of the marginals.
    pub error: f64,
    /// By the method.
    pub iterations: i64,
    /// The solve alone.
    pub seconds: f64,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Solves one problem with the policy's solver; masses are uniform where none are given.
///
/// ```
/// # fn main() -> tfuse::Result<()> {
/// let ctx = tfuse::Context::new()?;
/// let cost = tfuse::Array::own(&ctx, &[3, 3], vec![4f32, 1.0, 3.0, 2.0, 0.0, 5.0, 3.0, 2.0, 2.0])?;
/// let solution = tfuse::solve(&ctx, &tfuse::Policy::new(&ctx)?, &cost, None, None)?;
/// assert!((solution.info().cost - 5.0 / 3.0).abs() < 1e-6 && solution.info().gap < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn solve(ctx: &Context, policy: &Policy, cost: &Array<'_>, mu: Option<&Array<'_>>, nu: Option<&Array<'_>>) -> Result<Solution> {
    let mut raw = ptr::null_mut();
    ctx.check(unsafe { sys::tfuse_solve(ctx.raw(), policy.raw(), cost.raw(), raw_array(mu), raw_array(nu), &mut raw) })?;
    Ok(Solution { raw })
}

/// One of several problems.
#[derive(Clone, Copy, Debug)]
pub struct Task<'t> {
    /// n × m.
    pub cost: &'t Array<'t>,
    /// n masses; None: uniform.
    pub mu: Option<&'t Array<'t>>,
    /// m masses; None: uniform.
    pub nu: Option<&'t Array<'t>>,
    /// n potentials of a neighbouring problem.
    pub u: Option<&'t Array<'t>>,
    /// m of them.
    pub v: Option<&'t Array<'t>>,
}

/// Solves problems that do not depend on each other, side by side on the context's threads; solutions in the order of the tasks.
pub fn solve_batch(ctx: &Context, policy: &Policy, tasks: &[Task<'_>]) -> Result<Vec<Solution>> {
    let table: Vec<sys::tfuse_task> = tasks
        .iter()
        .map(|t| sys::tfuse_task {
            struct_size: size_of::<sys::tfuse_task>(),
            cost: t.cost.raw(),
            mu: raw_array(t.mu),
            nu: raw_array(t.nu),
            u: raw_array(t.u),
            v: raw_array(t.v),
        })
        .collect();
    if table.is_empty() {
        return Ok(Vec::new());
    }
    let mut raw: Vec<*mut sys::tfuse_solution> = vec![ptr::null_mut(); table.len()];
    ctx.check(unsafe { sys::tfuse_solve_batch(ctx.raw(), policy.raw(), table.as_ptr(), table.len(), raw.as_mut_ptr()) })?;
    Ok(raw.into_iter().map(|raw| Solution { raw }).collect())
}

impl Solution {
    /// Its numbers.
    pub fn info(&self) -> SolutionInfo {
        let mut i = sys::tfuse_solution_info {
            struct_size: size_of::<sys::tfuse_solution_info>(),
            n: 0,
            m: 0,
            cost: f64::NAN,
            gap: f64::NAN,
            error: f64::NAN,
            iterations: 0,
            seconds: f64::NAN,
            converged: 0,
        };
        unsafe { sys::tfuse_solution_get(self.raw, &mut i) };
        SolutionInfo {
            n: i.n,
            m: i.m,
            cost: i.cost,
            gap: i.gap,
            error: i.error,
            iterations: i.iterations,
            seconds: i.seconds,
            converged: i.converged == 1,
        }
    }

    /// The coupling, n × m float32.
    pub fn coupling(&self, ctx: &Context) -> Result<Array<'static>> {
        let mut raw = ptr::null_mut();
        ctx.check(unsafe { sys::tfuse_solution_coupling(ctx.raw(), self.raw, &mut raw) })?;
        Ok(unsafe { Array::from_raw(raw) })
    }

    /// The potentials, n and m float64.
    pub fn potentials(&self, ctx: &Context) -> Result<(Array<'static>, Array<'static>)> {
        let (mut u, mut v) = (ptr::null_mut(), ptr::null_mut());
        ctx.check(unsafe { sys::tfuse_solution_potentials(ctx.raw(), self.raw, &mut u, &mut v) })?;
        Ok(unsafe { (Array::from_raw(u), Array::from_raw(v)) })
    }

    /// How it was solved and why so.
    pub fn method(&self) -> &str {
        unsafe { text(sys::tfuse_solution_method(self.raw)) }
    }
}

impl Drop for Solution {
    fn drop(&mut self) {
        unsafe { sys::tfuse_solution_free(self.raw) }
    }
}

impl fmt::Debug for Solution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Solution({:?}, {})", self.info(), self.method())
    }
}
