/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn.h: the kernel of the log-domain solver and what its files do with it.
 *
 * K_ij = exp((g_j - C_ij) / reg - top_i) lies in float32, each row's largest entry being 1; the coupling is a_i K_ij b_j with a, b in float64. Sums are in
 * float64 throughout. A pass reads each row once: the product with a vector, and the row's share of a sum over rows while
 * it is in cache. Rows are cut into blocks by the size of the problem and the blocks' shares are added in order, so threads do not change a bit.
 */
#ifndef TF_OT_SINKHORN_H
#define TF_OT_SINKHORN_H

#include "ot/internal.h"

typedef struct tf_kernel {
    const tf_env *env; /* passes end early, and give nothing of worth, once it is cancelled */
    int64_t n, m;
    const float *cost;
    double offset; /* smallest cost: taken out, so that a large constant costs no digits */
    double reg;
    const double *mu, *nu;
    float *k;        /* n*m; the solution's own array, which the coupling takes in the end */
    double *f, *g;   /* n, m: potentials that K was made with */
    double *a, *b;   /* n, m */
    double *a_made;  /* n: a as K was made */
    double *t;       /* m: sum_i of what a pass gives row i, times K_ij */
    double *partial; /* blocks × m */
    double *row;     /* blocks × m: one row in float64 */
    int64_t block_rows;
    uint32_t blocks;
} tf_kernel;

tfuse_status tf_kernel_init(tf_env *env, tf_arena *arena, tf_kernel *k);
/* K from g, with f, a (row sums exact), b = 1 and t = K'a, each entry by an exponential in float64; t is summed before K is rounded. */
void tf_kernel_make(tf_env *env, tf_kernel *k);
/* The same, but K becomes the coupling itself; returns its cost, of the entries before rounding. */
double tf_kernel_finish(tf_env *env, tf_kernel *k);
/* a_i = mu_i / sum_j K_ij b_j, t = K'a. */
void tf_kernel_scale(tf_env *env, tf_kernel *k);
/* t = K' diag(w) K x for weights w of rows. */
void tf_kernel_gram(tf_env *env, tf_kernel *k, const double *w, const double *x);

/* sum_j |b_j t_j - nu_j|; rows are exact after make and scale. */
double tf_kernel_error(const tf_kernel *k);
/* Do a and b leave K's zeros negligible? */
bool tf_kernel_carries(const tf_kernel *k);
/* b into g; K is to be made again. */
void tf_kernel_absorb(tf_kernel *k);

/* sinkhorn_newton.c: one Newton step on b after make or scale. passes: incremented by the readings of K. Where no step gains, b, a and t
 * are as they were. work: TF_NEWTON_COLUMNS × m + n doubles. */
enum { TF_NEWTON_COLUMNS = 6 };
tfuse_status tf_sinkhorn_newton(tf_env *env, tf_kernel *k, double *work, int64_t *passes, int64_t most, bool *gained);

#endif
