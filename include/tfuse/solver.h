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
} tfuse_problem;

/** What a solver fills in. The arrays belong to the library and are zeroed before the call. */
typedef struct tfuse_result {
    size_t struct_size;
    float *coupling;    /**< n × m, row-major: the coupling; entries >= 0 */
    double *u;          /**< n potentials; leave at zero with has_potentials = 0 */
    double *v;          /**< m potentials */
    int32_t has_potentials; /**< 1 when u and v are set */
    int32_t converged;  /**< 1 when the solver reached its tolerance */
    int64_t iterations;
} tfuse_result;

/**
 * A solver of the caller's. `solve` returns TFUSE_OK or a negative status; it may be called from one
 * thread at a time per context. `cancelled(env)` of the library's says whether to give up
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
    int64_t iterations;
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

/** Fills min(info->struct_size, ours) bytes; set info->struct_size before. */
TFUSE_API tfuse_status tfuse_solution_get(const tfuse_solution *solution, tfuse_solution_info *info);

/** The coupling as an n × m float32 array of its own; release with tfuse_array_free. Errors: TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_solution_coupling(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **out);

TFUSE_API void tfuse_solution_free(tfuse_solution *solution);

#ifdef __cplusplus
}
#endif
#endif
