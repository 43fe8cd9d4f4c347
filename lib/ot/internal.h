/* SPDX-License-Identifier: Apache-2.0
 *
 * internal.h: what the files of this folder share and nobody else needs.
 */
#ifndef TF_OT_INTERNAL_H
#define TF_OT_INTERNAL_H

#include "base/env.h"
#include "ot/ot.h"

#include <string.h>

/* Cancelling. A pass over a large problem asks every TF_POLL_ROWS rows (TF_POLL_ENTRIES entries) whether it is to go on. Where it cannot fail it
 * just ends; whoever called it asks again before the result is used. */
enum { TF_POLL_ROWS = 32, TF_POLL_ENTRIES = 1 << 16 };

static inline bool tf_polled(const tf_env *env, int64_t row)
{
    return row % TF_POLL_ROWS == 0 && tf_cancelled(env);
}

/* A solver of the library's. mu and nu are never NULL. It leaves what it does not know (cost, gap, error) at NAN. */
typedef tfuse_status (*tf_native_solver)(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m,
                                         const float *cost, const double *mu, const double *nu, tf_solution *out);

/* A row of the solver table: a built-in solver (native) or one of the caller's (ops, user). */
struct tf_solver_entry {
    char *name;
    tf_native_solver native; /* NULL: ops */
    bool checks;             /* it finds out itself whether costs are finite, and how large, where options->scale is NAN */
    tfuse_solver_ops ops;
    void *user;
};

/* registry.c. NULL if there is none of this name. */
const struct tf_solver_entry *tf_solvers_find(const tf_solver_registry *reg, const char *name);

/* foreign.c: runs a solver of the caller's and checks what it returned. */
tfuse_status tf_run_foreign(tf_env *env, const struct tf_solver_entry *entry, const tf_ot_options *options, int64_t n, int64_t m,
                            const float *cost, const double *mu, const double *nu, tf_solution *out);

/* check.c. Extents that make a problem; then that costs are finite: TFUSE_ENUMERIC names one that is not. *largest: of |cost|. */
tfuse_status tf_check_extents(tf_env *env, int64_t n, int64_t m);
tfuse_status tf_check_costs(tf_env *env, int64_t n, int64_t m, const float *cost, double *largest);
tfuse_status tf_check_largest(tf_env *env, int64_t n, int64_t m, const float *cost, double largest); /* the same, `largest` being known (tf_max_bits) */

/* start.c: checks the potentials in *options, whose masses are mu and nu, and puts in their place, in the arena, a feasible pair of about the
 * size of the costs: v as given where it is that already, u_i = min_j (C_ij - v_j). Nothing where there are none. */
tfuse_status tf_start_potentials(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, const double *mu,
                                 const double *nu, tf_ot_options *options);

/* exact.c: gap = primal - dual. A coupling whose marginals are off by `error` may lie below the bound by about error * scale; such negative
 * numbers, rounding included, are 0. */
void tf_certify(const tf_env *env, const float *cost, const double *mu, const double *nu, double scale, tf_solution *s);
/* Log lines about a solution; `where` goes before them. */
void tf_solution_announce(tf_env *env, const char *where, const char *name, const tf_solution *s);

/* exact.c: the solver "exact", and whether its methods go over short lists. */
bool tf_assignment_lists(int64_t n);
bool tf_auction_lists(int64_t m);
bool tf_transport_lists(int64_t n, int64_t m);
tfuse_status tf_exact(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                      const double *mu, const double *nu, tf_solution *out);

/* solution.c */
void tf_solution_init(tf_env *env, int64_t n, int64_t m, tf_solution *s);
/* Allocates the coupling of a dense solution (cleared) and both potentials. */
tfuse_status tf_solution_alloc_dense(tf_env *env, tf_solution *s);
/* Fills in cost and error where they are NAN. */
tfuse_status tf_solution_measure(tf_env *env, const float *cost, const double *mu, const double *nu, tf_solution *s);

/* sorted.c: rows and columns in orders such that filling masses in order is optimal up to `rounding`, of a problem whose costs come from
 * one number a line, as (x - y)^2 or x y; found: whether they seem to. */
typedef struct tf_sorted {
    int64_t *row, *col; /* n, m */
    double rounding;
} tf_sorted;
tfuse_status tf_sorted_lines(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, tf_sorted *lines, bool *found);
/* Row potentials (n) of such a problem that is square and uniform. */
tfuse_status tf_sorted_start(tf_env *env, tf_arena *arena, int64_t n, const float *cost, double *u, bool *found);

/* kernels.c, all with the smallest index among ties. Smallest cost[j] - v[j] over a row of m > 0. An entry v[j] of -INFINITY takes
 * column j out. */
double tf_row_min(const float *cost, const double *v, int64_t m, int64_t *arg);
/* As well the second smallest, equal to it under ties. */
double tf_row_min2(const float *cost, const double *v, int64_t m, int64_t *arg, double *second);
/* Dijkstra's step: key_j = min(key_j, cost_j - open_j + base); the smallest key. */
double tf_row_relax(const float *cost, const double *open, int64_t m, double base, double *key, int64_t *arg);
/* low_j = min(low_j, cost_j), at_j = row where that is smaller. */
void tf_column_min(const float *cost, int64_t m, int32_t row, float *low, int32_t *at);
/* The same over cost_j - u. */
void tf_column_min_from(const float *cost, int64_t m, double u, int64_t row, double *low, int64_t *at);
/* The smallest cost[j] - v[j] of each of `blocks` blocks of TF_LIST_BLOCK. */
enum { TF_LIST_BLOCK = 16 };
void tf_block_minima(const float *cost, const double *v, int64_t blocks, double *low);
/* The bits of the largest |x|; 0x7f800000 and above if one is not finite. */
uint32_t tf_max_bits(const float *x, int64_t count);
static inline double tf_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* The same as a table, by the widest vectors of the processor up to a level: 0 any machine, 1 AVX2, 2 AVX-512. All give the same bits. */
typedef struct tf_kernels {
    double (*row_min)(const float *cost, const double *v, int64_t m, int64_t *arg);
    double (*row_min2)(const float *cost, const double *v, int64_t m, int64_t *arg, double *second);
    double (*row_relax)(const float *cost, const double *open, int64_t m, double base, double *key, int64_t *arg);
    void (*block_minima)(const float *cost, const double *v, int64_t blocks, double *low);
    void (*column_min)(const float *cost, int64_t m, int32_t row, float *low, int32_t *at);
    void (*column_min_from)(const float *cost, int64_t m, double u, int64_t row, double *low, int64_t *at);
    uint32_t (*max_bits)(const float *x, int64_t count);
} tf_kernels;
const tf_kernels *tf_kernels_at(int level);

/* positive.c: where the lines of a problem without its empty rows and columns were, and their masses. *part is `cost` itself where
 * there are none, else owned, which the caller frees. */
typedef struct tf_positive {
    int64_t n, m;
    int64_t *row, *col;
    double *mu, *nu;
    float *owned;
} tf_positive;
tfuse_status tf_positive_lines(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, const double *mu,
                               const double *nu, tf_positive *l, const float **part);

/* dual.c */
double tf_max_abs(const tf_env *env, const float *x, int64_t count);
bool tf_all_equal(const double *x, int64_t count);

/* What sinkhorn-scaling and sinkhorn allocate beside matrices of the problem's size. */
/* What the exact solvers' short lists take where the sizes call for them; else 0. */
uint64_t tf_assignment_lists_bytes(int64_t n);
uint64_t tf_transport_lists_bytes(int64_t n, int64_t m);
uint64_t tf_scaling_lines_bytes(int64_t n, int64_t m);
uint64_t tf_kernel_lines_bytes(int64_t n, int64_t m);

#endif
