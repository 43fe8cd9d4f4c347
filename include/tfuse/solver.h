/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/solver.h: optimal transport by itself, and solvers of the caller's.
 *
 * A problem: minimise sum_ij cost_ij P_ij over P >= 0 whose rows sum to mu and whose columns sum to nu (Kantorovich). The exact solver
 * returns an optimal P with a certificate; "sinkhorn" adds reg * sum P_ij (log P_ij - 1) (Cuturi 2013) and returns a
 * dense one.
 */
#ifndef TFUSE_SOLVER_H
#define TFUSE_SOLVER_H

#include <tfuse/array.h>
#include <tfuse/base.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a solver is given. Borrowed for the call. */
typedef struct tfuse_problem {
    size_t struct_size;
    int64_t n;          /**< rows: units of the model that is moved */
    int64_t m;          /**< columns: units of the anchor */
    const float *cost;  /**< n × m, row-major, finite */
    const double *mu;   /**< n row masses, >= 0, sum 1; never NULL */
    const double *nu;   /**< m column masses, >= 0, sum 1; never NULL */
    double reg;         /**< solver.reg */
    double tolerance;   /**< wanted L1 error of the marginals; 0: the solver's own */
    int64_t max_iterations; /**< 0: the solver's own */
    const double *u;    /**< n potentials to start from, those of a neighbouring problem, with u_i + v_j <= cost_ij; NULL: none */
    const double *v;    /**< m of them; NULL just where u is */
} tfuse_problem;

/**
 * What a solver fills in. The arrays belong to the library and are zeroed before the call. What is said of the result is checked: a
 * coupling that is said to have converged must have its marginals to 1e-3 (L1), and one that is said to be optimal must come with potentials that
 * prove it, sum mu_i u_i + sum nu_j v_j being its cost to 1e-6 of the largest cost; else the solve fails with TFUSE_ENUMERIC.
 */
typedef struct tfuse_result {
    size_t struct_size;
    float *coupling;    /**< n × m, row-major: the coupling; entries >= 0 */
    double *u;          /**< n potentials; leave at zero with has_potentials = 0 */
    double *v;          /**< m potentials */
    int32_t has_potentials; /**< 1 when u and v are set */
    int32_t converged;  /**< 1 when the solver reached its tolerance */
    int64_t iterations;
    int32_t optimal;    /**< 1 when u and v prove that the coupling is optimal */
} tfuse_result;

/**
 * A solver of the caller's. `solve` returns TFUSE_OK or a negative status; it is called by one
 * thread at a time per context, the calling one, also for batches. `cancelled(env)` of the library's says whether to give up
 * (then return TFUSE_ECANCELLED).
 */
typedef struct tfuse_solver_ops {
    size_t struct_size;
    const char *name;   /**< letters, digits, '-', '_'; copied */
    tfuse_status (*solve)(void *user, const tfuse_problem *problem, tfuse_result *result,
                          int32_t (*cancelled)(const void *env), const void *env);
} tfuse_solver_ops;

/**
 * Adds a solver to the context's table; policies then take its name in solver.name.
 * @param ops   in: copied with its name.
 * @param user  in: first argument of solve; must live as long as the context.
 * Errors: TFUSE_EINVAL (no name, no function, or the name is taken), TFUSE_EVERSION, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_ctx_add_solver(tfuse_ctx *ctx, const tfuse_solver_ops *ops, void *user);

/** A solved problem. */
typedef struct tfuse_solution tfuse_solution;

/** Numbers of a solution. */
typedef struct tfuse_solution_info {
    size_t struct_size;
    int64_t n, m;
    double cost;       /**< sum of coupling × cost; masses sum to one */
    double gap;        /**< primal minus a certified dual bound: 0 up to rounding is a proof; NaN where there is no bound */
    double error;      /**< L1 deviation of the marginals, rows and columns together */
    int64_t iterations; /**< bids and augmenting paths, bids and pivots, or scalings, by the method */
    double seconds;    /**< the solve alone */
    int32_t converged;
} tfuse_solution_info;

/**
 * Solves one problem with the policy's solver (solver.name, solver.reg, solver.strict).
 * @param cost   in: n × m, any float type; read as float32; must be finite.
 * @param mu,nu  in: n and m masses, >= 0, equal totals (1e-6 relative), scaled to sum to one; NULL for uniform.
 * @param out    out: release with tfuse_solution_free.
 * Errors: TFUSE_ESHAPE, TFUSE_EDTYPE (not floating point), TFUSE_ENUMERIC (NaN, infinite or negative mass, unequal totals), TFUSE_EKEY (unknown solver),
 * TFUSE_ECONVERGE (only with solver.strict), TFUSE_ECANCELLED, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_solve(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_array *cost,
                                   const tfuse_array *mu, const tfuse_array *nu, tfuse_solution **out);

/** One of several problems: what tfuse_solve takes, and potentials to start from. Borrowed for the call. */
typedef struct tfuse_task {
    size_t struct_size;
    const tfuse_array *cost; /**< n × m */
    const tfuse_array *mu;   /**< n masses; NULL: uniform */
    const tfuse_array *nu;   /**< m masses; NULL: uniform */
    const tfuse_array *u;    /**< n potentials of a neighbouring problem; used only without v; NULL: none */
    const tfuse_array *v;    /**< m potentials of a neighbouring problem; NULL: none */
} tfuse_task;

/**
 * Solves problems that do not depend on each other, side by side on the context's threads: heads, layers, a schedule of changing costs. One
 * task is tfuse_solve with potentials to start from.
 *
 * Potentials are a hint: whatever finite numbers they are, the result is as right and as certified as without; near those of
 * the solution they save most of the work. tfuse_solution_potentials gives them in the same layout.
 *
 * @param tasks  in: count of them, each with the same struct_size, which is also their distance in memory.
 * @param out    out: count solutions in the order of the tasks, the same bits for any number of threads; all NULL on failure.
 * Errors: those of tfuse_solve, of the first task in order that fails ("problem K: ..."); TFUSE_ENUMERIC (a potential that is NaN or infinite;
 * -inf is taken where the mass is 0), TFUSE_EINVAL, TFUSE_EVERSION (tasks), TFUSE_ERANGE (more than 2^32 - 1).
 * A solver of the caller's gets the tasks one after the other.
 */
TFUSE_API tfuse_status tfuse_solve_batch(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_task *tasks, size_t count,
                                         tfuse_solution **out);

/** Fills min(info->struct_size, ours) bytes; set info->struct_size before. */
TFUSE_API tfuse_status tfuse_solution_get(const tfuse_solution *solution, tfuse_solution_info *info);

/** The coupling as an n × m float32 array of its own; release with tfuse_array_free. Errors: TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_solution_coupling(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **out);

/**
 * The potentials as float64 arrays of their own; release with tfuse_array_free. An exact solver's are feasible, u_i + v_j <= cost_ij up to
 * rounding, with equality where the coupling has mass; Sinkhorn's are those of coupling_ij = exp((u_i + v_j - cost_ij) / reg), -inf where a mass is 0.
 * @param u,v  out: n and m numbers; either may be NULL.
 * Errors: TFUSE_ENOTFOUND (the solver gave none), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_solution_potentials(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **u, tfuse_array **v);

/** How it was solved and why so, e.g. "assignment: square, uniform masses". Borrowed; "" for NULL. */
TFUSE_API const char *tfuse_solution_method(const tfuse_solution *solution);

TFUSE_API void tfuse_solution_free(tfuse_solution *solution);

#ifdef __cplusplus
}
#endif
#endif
