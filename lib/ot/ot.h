/* SPDX-License-Identifier: Apache-2.0
 *
 * ot.h: optimal transport: minimise sum_ij C_ij P_ij over couplings P >= 0 with row sums mu and column sums nu, exactly or with the
 * entropic term reg * sum_ij P_ij (log P_ij - 1). Knows matrices, not networks.
 */
#ifndef TF_OT_OT_H
#define TF_OT_OT_H

#include "base/env.h"
#include "num/num.h"
#include <tfuse/solver.h>

/* A problem as solvers see it: tfuse_problem of the public header. cost is n×m row-major float32; mu, nu are float64 and sum to one.
 * Only tf_ot_solve takes NULL for uniform ones and scales others; the solvers below it are given both. */

typedef enum tf_coupling_kind {
    TF_COUPLING_PERMUTATION, /* n == m, uniform: perm[i] = j, mass 1/n each */
    TF_COUPLING_SPARSE,      /* nnz triplets sorted by row then column */
    TF_COUPLING_DENSE        /* n×m float32 row-major */
} tf_coupling_kind;

/* What a solver returns; owned by the caller, freed by tf_solution_free. Masses sum to one. */
typedef struct tf_solution {
    tf_mem mem;
    int64_t n, m;
    tf_coupling_kind kind;
    int64_t *perm;           /* n */
    int64_t nnz;
    int64_t *rows, *cols;    /* nnz */
    double *mass;            /* nnz */
    float *dense;            /* n*m */
    double *u, *v;           /* potentials, n and m; NULL when the solver has none */
    double cost;             /* sum of P * C in float64 */
    double gap;              /* primal - dual from float64 potentials made feasible, of exact solvers and of a caller's that gives
                              * potentials; NAN where there is none. Below 0 only if the marginals are off (error) */
    double error;            /* L1 deviation of the marginals, rows and columns together */
    int64_t iterations;      /* bids and augmenting paths, bids and pivots, or scalings, by the method */
    bool converged;
    double seconds;
    char method[256];        /* how it was solved, and where there was a choice, why so */
} tf_solution;

void tf_solution_free(tf_solution *s); /* a zeroed one is harmless */

/* Element (i, j) of any kind is written into out (n×m float32, row-major). */
void tf_solution_dense(const tf_solution *s, float *out);

typedef struct tf_ot_options {
    const double *u, *v;    /* n, m: potentials of a neighbouring problem to start from; v is enough, and u is used where v is NULL.
                             * Finite, or -INFINITY where the mass is 0 */
    double reg;             /* Sinkhorn: strength of the entropy, in units of the cost */
    int64_t max_iterations; /* 0: the solver's own */
    double tolerance;       /* 0: the solver's own */
    bool strict;            /* not converging is an error */
    double scale;           /* largest |C|; tf_ot_solve sets it for the solvers */
} tf_ot_options;

/* The registry: built-in solvers and those of the caller, in one table. It belongs to a context. */
typedef struct tf_solver_registry {
    tf_mem mem;
    struct tf_solver_entry *entries;
    size_t count, cap;
} tf_solver_registry;

tfuse_status tf_solvers_init(tf_env *env, tf_solver_registry *reg); /* with "exact", "sinkhorn", "sinkhorn-scaling" */
void tf_solvers_free(tf_solver_registry *reg);
/* Name must be new (TFUSE_EINVAL otherwise). ops is copied with its name. */
tfuse_status tf_solvers_add(tf_env *env, tf_solver_registry *reg, const tfuse_solver_ops *ops, void *user);
bool tf_solvers_has(const tf_solver_registry *reg, const char *name);
/* Names joined with ", " for error texts. */
tfuse_status tf_solvers_names(tf_env *env, const tf_solver_registry *reg, char *out, size_t size);

/* Checks the problem (NaN, infinities, negative mass, unequal total mass beyond 1e-6 relative, zero total, empty, potentials), normalises
 * the marginals to one, runs the named solver, fills in cost, gap and error where it gave none, and checks what a foreign solver returned
 * (masses, marginals and optimality where it claims them). mu, nu NULL: uniform. An unknown name is TFUSE_EKEY and lists the known ones. */
tfuse_status tf_ot_solve(tf_env *env, const tf_solver_registry *reg, const char *name, const tf_ot_options *options,
                         int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, tf_solution *out);

/* One of several problems that do not depend on each other. */
typedef struct tf_ot_problem {
    int64_t n, m;
    const float *cost;
    const double *mu, *nu; /* NULL: uniform */
    const double *u, *v;   /* as in tf_ot_options, whose own are not used; NULL: none */
} tf_ot_problem;

/* batch.c: solves them side by side on the threads of env, out[k] being the solution of the k-th. When one fails, all are freed, and the
 * status and text are those of the first in order that does ("problem K: ..."). A solver of the caller's gets them one after the other. */
tfuse_status tf_ot_solve_batch(tf_env *env, const tf_solver_registry *reg, const char *name, const tf_ot_options *options,
                               size_t count, const tf_ot_problem *problems, tf_solution *out);

/* ---- memory (bytes.c): from sizes alone ---- */
typedef struct tf_ot_bytes {
    uint64_t work; /* while it solves, beside what it returns and the cost */
    uint64_t kept; /* of the solution */
} tf_ot_bytes;
tf_ot_bytes tf_ot_bytes_of(const char *name, int64_t n, int64_t m);
/* Whether uniform masses make the solver's coupling a permutation. */
bool tf_ot_is_permutation(const char *name, int64_t n, int64_t m);
/* What tf_cost_features takes beside its operands and the cost, for rows of `width` features. */
uint64_t tf_cost_features_bytes(int64_t n, int64_t m, int64_t width);

/* ---- exact solvers ------------------------------------------------------------------------ */

/* assignment.c: square, uniform. Jonker & Volgenant 1987: column reduction, augmenting row reduction, shortest augmenting
 * paths, over short lists of candidates for large n; potentials in float64. perm[i] = j; u (n), v (n) with u_i + v_j <= C_ij, equality on the matching.
 * start: row potentials (n) of a neighbouring problem, of about the size of the costs; NULL: none. *largest: of |cost|; NAN, without a start, for costs that
 * may not be finite: it is found here, or TFUSE_ENUMERIC. steps: bids and augmenting paths. */
tfuse_status tf_assignment(tf_env *env, int64_t n, const float *cost, const double *start, double *largest, int64_t *perm, double *u, double *v,
                           int64_t *steps);

/* transport.c: any marginals (zeros allowed): network simplex (Cunningham's strongly feasible trees, block pricing), from an auction's flow
 * over short lists of arcs, with all arcs priced in the end. Result sparse. start: column potentials (m) of a neighbouring
 * problem, of about the size of the costs; NULL: none. */
tfuse_status tf_transport(tf_env *env, int64_t n, int64_t m, const float *cost, const double *mu, const double *nu,
                          const double *start, tf_solution *out);

/* Dual value sum mu_i u_i + sum nu_j v_j after lowering u so that every u_i + v_j <= C_ij: a certified lower bound, in float64.
 * Nothing of worth once env is cancelled. */
double tf_dual_bound(const tf_env *env, int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, double *u, const double *v);

/* ---- Sinkhorn ------------------------------------------------------------------------------ */

/* sinkhorn.c: log domain; dense coupling, potentials (-INFINITY where a mass is 0). Never NaN; not converging is reported in the result.
 * TFUSE_ERANGE for reg <= 0 and for reg under 1e-10 of the cost range, where float64 no longer tells it from 0. */
tfuse_status tf_sinkhorn_log(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                             const double *mu, const double *nu, tf_solution *out);
/* sinkhorn_scaling.c: the plain scaling iteration u = mu / K v, v = nu / K' u on K = exp(-C / reg) in float64 with the stopping schedule
 * that the published experiments used (at most 1,000 iterations, error looked at every tenth, threshold 1e-9, the iterate is
 * kept when the cap is reached); only for otfusion.compat. Underflow of K is TFUSE_ENUMERIC and says to take "sinkhorn". */
tfuse_status tf_sinkhorn_scaling(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                                 const double *mu, const double *nu, tf_solution *out);

/* ---- costs (cost.c, cost_gram.c, cost_norm.c) ------------------------------------------------------------------------- */

typedef enum tf_metric { TF_METRIC_EUCLIDEAN, TF_METRIC_SQEUCLIDEAN, TF_METRIC_COSINE } tf_metric;
typedef enum tf_cost_norm { TF_COST_MAX, TF_COST_MEAN, TF_COST_MEDIAN, TF_COST_NONE } tf_cost_norm;

/* Distances between rows of x (n×d) and y (m×d), n×m into out, true to 5e-5 relative: one product whose tiles become distances; entries with d^2 <
 * (|x|^2 + |y|^2) / 256, where cancellation would leave noise, are recomputed by direct differences in float64. */
tfuse_status tf_cost_features(tf_env *env, tf_metric metric, tf_mat x, tf_mat y, float *out);
/* Distances from Grams in float64: xx (n) and yy (m) squared norms, xy (n×m) inner products. Squared distances are
 * off by at most 2 (k + 2) 2^-53 (|x|^2 + |y|^2) for sums of k products in float64. */
tfuse_status tf_cost_gram(tf_env *env, tf_metric metric, int64_t n, int64_t m, const double *xx, const double *yy,
                          const double *xy, float *out);
/* Divides by the maximum, the mean, or the median of the positive entries; a matrix of zeros stays. by: that number, 1 where nothing was divided;
 * NULL: not asked for. */
tfuse_status tf_cost_normalise(tf_env *env, tf_cost_norm norm, int64_t n, int64_t m, float *cost, double *by);

#endif
