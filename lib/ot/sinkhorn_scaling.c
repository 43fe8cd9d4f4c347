/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn_scaling.c: matrix scaling (Sinkhorn & Knopp 1967; Cuturi 2013): a and b such that a_i K_ij b_j has the wanted marginals. The solver
 * "sinkhorn-scaling" is the plain iteration, with the starting point and the stopping schedule of Python Optimal Transport's
 * ot.sinkhorn, which the published experiments used.
 *
 * A pass reads each row of K once: the product with b, the row's new a, and its share of K'a while the row is in cache. Rows are cut into
 * blocks by the size of the problem, and the blocks' shares are added in order, so threads do not change a bit.
 */
#include "ot/internal.h"

#include "base/meter.h"
#include "base/pool.h"
#include <math.h>

enum { LANES = 8, MIN_BLOCK_ROWS = 32, MOST_BLOCKS = 64 };
enum { MOST_ITERATIONS = 1000, CHECK_EVERY = 10 };
#define THRESHOLD 1e-9

typedef struct scaling {
    tf_env *env;
    int64_t n, m;
    const double *mu, *nu;
    double *k;       /* n*m */
    double *a, *b;   /* n, m: the coupling is a_i K_ij b_j */
    double *t;       /* m: sum_i a_i K_ij */
    double *partial; /* blocks × m: the addends of t, a row for each block of rows */
    int64_t block_rows;
    uint32_t blocks;
} scaling;

static int64_t rows_of_block(int64_t n)
{
    const int64_t rows = (n + MOST_BLOCKS - 1) / MOST_BLOCKS;
    return rows < MIN_BLOCK_ROWS ? MIN_BLOCK_ROWS : rows;
}

uint64_t tf_scaling_lines_bytes(int64_t n, int64_t m)
{
    return tf_area((n - 1) / rows_of_block(n) + 3, m, sizeof(double)) + tf_area(n, 1, sizeof(double));
}

static tfuse_status scaling_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const double *mu, const double *nu,
                             scaling *s)
{
    *s = (scaling){.env = env, .n = n, .m = m, .mu = mu, .nu = nu};
    s->block_rows = rows_of_block(n);
    s->blocks = (uint32_t)((n + s->block_rows - 1) / s->block_rows);
    s->k = tf_alloc_array(env, (size_t)n * (size_t)m, sizeof *s->k); /* not cleared, unlike an arena's */
    s->a = tf_arena_array(env, arena, (size_t)n, sizeof *s->a);
    s->b = tf_arena_array(env, arena, (size_t)m, sizeof *s->b);
    s->t = tf_arena_array(env, arena, (size_t)m, sizeof *s->t);
    s->partial = tf_arena_array(env, arena, (size_t)s->blocks * (size_t)m, sizeof *s->partial);
    if (!s->k || !s->a || !s->b || !s->t || !s->partial)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        s->a[i] = 1;
    for (int64_t j = 0; j < m; j++)
        s->b[j] = 1;
    return TFUSE_OK;
}

static double lanes_total(const double *lane)
{
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static double dot(const double *restrict x, const double *restrict y, int64_t n)
{
    double lane[LANES] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += x[j + l] * y[j + l];
    for (; j < n; j++)
        rest += x[j] * y[j];
    return lanes_total(lane) + rest;
}

static void axpy(double a, const double *x, double *acc, int64_t n)
{
    const double *restrict from = x;
    double *restrict to = acc;
    for (int64_t j = 0; j < n; j++)
        to[j] += a * from[j];
}

static void pass_block(void *arg, uint32_t block)
{
    scaling *s = arg;
    double *acc = s->partial + (int64_t)block * s->m;
    int64_t from = (int64_t)block * s->block_rows, to = from + s->block_rows < s->n ? from + s->block_rows : s->n;
    for (int64_t j = 0; j < s->m; j++)
        acc[j] = 0;
    for (int64_t i = from; i < to && !tf_polled(s->env, i); i++) {
        const double *row = s->k + i * s->m;
        s->a[i] = s->mu[i] > 0 ? s->mu[i] / dot(row, s->b, s->m) : 0;
        axpy(s->a[i], row, acc, s->m);
    }
}

static void reduce(scaling *s)
{
    for (int64_t j = 0; j < s->m; j++)
        s->t[j] = 0;
    for (uint32_t block = 0; block < s->blocks; block++)
        axpy(1, s->partial + (int64_t)block * s->m, s->t, s->m);
}

static void scaling_pass(tf_env *env, scaling *s)
{
    tf_parallel_for(env, s->blocks, pass_block, s);
    reduce(s);
}

typedef struct finish {
    const scaling *s;
    const float *cost;
    float *dense;
} finish;

/* The block's share of the cost goes to the first of its partial sums. */
static void finish_block(void *arg, uint32_t block)
{
    const finish *f = arg;
    const scaling *s = f->s;
    int64_t from = (int64_t)block * s->block_rows, to = from + s->block_rows < s->n ? from + s->block_rows : s->n;
    double total = 0;
    for (int64_t i = from; i < to && !tf_polled(s->env, i); i++) {
        for (int64_t j = 0; j < s->m; j++) {
            double mass = s->a[i] * s->k[i * s->m + j] * s->b[j];
            f->dense[i * s->m + j] = (float)mass;
            total += mass * (double)f->cost[i * s->m + j];
        }
    }
    s->partial[(int64_t)block * s->m] = total;
}

static tfuse_status scaling_finish(tf_env *env, const scaling *s, const float *cost, tf_solution *out)
{
    finish f = {s, cost, out->dense};
    tf_parallel_for(env, s->blocks, finish_block, &f);
    TF_TRY(tf_check_cancel(env));
    out->cost = 0;
    for (uint32_t block = 0; block < s->blocks; block++)
        out->cost += s->partial[(int64_t)block * s->m];
    return isfinite(out->cost) ? TFUSE_OK
                               : tf_fail(env, TFUSE_ENUMERIC, "sinkhorn: the coupling is not finite; take a larger solver.reg");
}

/* ---- the solver "sinkhorn-scaling" ------------------------------------------------------------ */

typedef struct kernel {
    scaling *s;
    const float *cost;
    double reg;
} kernel;

static void kernel_block(void *arg, uint32_t block)
{
    const kernel *p = arg;
    scaling *s = p->s;
    int64_t from = (int64_t)block * s->block_rows, to = from + s->block_rows < s->n ? from + s->block_rows : s->n;
    for (int64_t i = from; i < to && !tf_polled(s->env, i); i++)
        for (int64_t k = i * s->m; k < (i + 1) * s->m; k++)
            s->k[k] = exp((double)p->cost[k] / -p->reg);
}

/* K'a for the starting a = 1/n. */
static void start(scaling *s)
{
    for (int64_t j = 0; j < s->m; j++)
        s->t[j] = 0;
    for (int64_t i = 0; i < s->n && !tf_polled(s->env, i); i++) {
        s->a[i] = 1.0 / (double)s->n;
        axpy(s->a[i], s->k + i * s->m, s->t, s->m);
    }
}

/* b = nu / K'a; false when K has underflowed. */
static bool update_b(scaling *s)
{
    for (int64_t j = 0; j < s->m; j++) {
        s->b[j] = s->nu[j] / s->t[j];
        if (!(s->t[j] > 0) || !isfinite(s->b[j]))
            return false;
    }
    return true;
}

static bool a_is_finite(const scaling *s)
{
    for (int64_t i = 0; i < s->n; i++)
        if (!isfinite(s->a[i]))
            return false;
    return true;
}

/* The deviation of the column sums: in L2 for the published schedule, in L1 for reports. */
static double column_error(const scaling *s, bool l2)
{
    double sum = 0;
    for (int64_t j = 0; j < s->m; j++) {
        double d = s->b[j] * s->t[j] - s->nu[j];
        sum += l2 ? d * d : fabs(d);
    }
    return l2 ? sqrt(sum) : sum;
}

static void scaling_potentials(const scaling *s, double reg, tf_solution *out)
{
    for (int64_t i = 0; i < s->n; i++)
        out->u[i] = reg * log(s->a[i]);
    for (int64_t j = 0; j < s->m; j++)
        out->v[j] = reg * log(s->b[j]);
}

tfuse_status tf_sinkhorn_scaling(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                                 const double *mu, const double *nu, tf_solution *out)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tf_solution_init(env, n, m, out);
    int64_t most = options->max_iterations > 0 ? options->max_iterations : MOST_ITERATIONS;
    double threshold = options->tolerance > 0 ? options->tolerance : THRESHOLD;
    scaling s = {.k = NULL};
    kernel exponential = {&s, cost, options->reg};
    tfuse_status status;
    if (!(options->reg > 0) || !isfinite(options->reg)) {
        status = tf_fail(env, TFUSE_ERANGE, "solver.reg is %g: sinkhorn-scaling needs a finite number above 0", options->reg);
        goto out;
    }
    TF_TRY_OUT(tf_solution_alloc_dense(env, out));
    TF_TRY_OUT(scaling_init(env, &arena, n, m, mu, nu, &s));
    tf_parallel_for(env, s.blocks, kernel_block, &exponential);
    start(&s);
    while (out->iterations < most && !out->converged) {
        TF_TRY_OUT(tf_check_cancel(env));
        bool fine = update_b(&s);
        if (fine)
            scaling_pass(env, &s);
        TF_TRY_OUT(tf_check_cancel(env));
        if (!fine || !a_is_finite(&s)) {
            status = tf_fail(env, TFUSE_ENUMERIC,
                             "sinkhorn-scaling: exp(-cost / reg) underflows with solver.reg %g; take solver.name sinkhorn",
                             options->reg);
            goto out;
        }
        if (out->iterations++ % CHECK_EVERY == 0)
            out->converged = column_error(&s, true) < threshold;
    }
    out->error = column_error(&s, false);
    scaling_potentials(&s, options->reg, out);
    TF_TRY_OUT(scaling_finish(env, &s, cost, out));
out:
    tf_free(&env->mem, s.k);
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
