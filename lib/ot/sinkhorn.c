/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn.c: entropic transport in the log domain (Cuturi 2013), stabilised by absorbing the scalings into the potentials
 * (Chizat, Peyré, Schmitzer & Vialard 2018; Schmitzer 2019).
 *
 * The coupling is P_ij = exp((f_i + g_j - C_ij) / reg). A sweep computes f from g with each row's maximum taken out, and keeps the row as
 * K_ij = P_ij: one exponential an entry, row sums exact, nothing overflows. From there plain scaling of K converges to the same
 * fixed point at a fraction of the cost. As soon as a scaling factor leaves [1/FAR, FAR] it is absorbed into g and the next sweep starts.
 * Entries below exp(LOWEST) of their row's maximum are taken as zero; LOWEST is so far under FAR^2 that they could not
 * matter before the next sweep.
 *
 * With reg well below the range of the costs it comes down in stages, each starting from the potentials of the one before.
 */
#include "ot/internal.h"

#include "base/pool.h"
#include <math.h>

enum { LANES = 8, MOST_ITERATIONS = 10000, STAGE_ITERATIONS = 30 };
#define TOLERANCE 1e-9       /* L1 error of the marginals */
#define STAGE_TOLERANCE 1e-2 /* the same, of a stage but the last */
#define STAGE_FACTOR 5.0
#define FIRST_STAGE 0.1 /* of the cost range */
#define SMALLEST_REG 1e-10
#define FAR 1e50
#define LOWEST -700.0

typedef struct state {
    tf_scaling s;
    const float *cost;
    double offset; /* smallest cost: taken out, so that a large constant costs no digits */
    double range;
    double reg;
    double *f, *g;
    int64_t iterations, most;
} state;

static void cost_range(state *p)
{
    float low = p->cost[0], high = p->cost[0];
    for (int64_t k = 0; k < p->s.n * p->s.m; k++) {
        low = p->cost[k] < low ? p->cost[k] : low;
        high = p->cost[k] > high ? p->cost[k] : high;
    }
    p->offset = (double)low;
    p->range = (double)high - (double)low;
}

/* row_j = (g_j - C_j) / reg; returns the maximum. */
static double exponents(const state *p, const float *restrict cost, double *restrict row)
{
    const double *restrict g = p->g;
    double lane[LANES], scale = 1 / p->reg, offset = p->offset;
    int64_t m = p->s.m, j = 0;
    for (int l = 0; l < LANES; l++)
        lane[l] = -INFINITY;
    for (; j + LANES <= m; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            double x = (g[j + l] - ((double)cost[j + l] - offset)) * scale;
            row[j + l] = x;
            lane[l] = x > lane[l] ? x : lane[l];
        }
    }
    for (; j < m; j++) {
        row[j] = (g[j] - ((double)cost[j] - offset)) * scale;
        lane[0] = row[j] > lane[0] ? row[j] : lane[0];
    }
    for (int l = 1; l < LANES; l++)
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

static void sweep_row(state *p, int64_t i, double *acc)
{
    int64_t m = p->s.m;
    double *row = p->s.k + i * m, mu = p->s.mu[i];
    double top = exponents(p, p->cost + i * m, row);
    for (int64_t j = 0; j < m; j++)
        row[j] = row[j] - top > LOWEST ? exp(row[j] - top) : 0;
    double sum = tf_sum(row, m), factor = mu / sum;
    for (int64_t j = 0; j < m; j++)
        row[j] *= factor;
    p->f[i] = p->reg * (log(mu) - top - log(sum)); /* -INFINITY for an empty row */
    p->s.a[i] = 1;
    tf_axpy(1, row, acc, m);
}

static void sweep_block(void *arg, uint32_t block)
{
    state *p = arg;
    double *acc = p->s.partial + (int64_t)block * p->s.m;
    int64_t from = (int64_t)block * p->s.block_rows;
    for (int64_t j = 0; j < p->s.m; j++)
        acc[j] = 0;
    for (int64_t i = from; i < from + p->s.block_rows && i < p->s.n; i++)
        sweep_row(p, i, acc);
}

/* f from g, K, and the column sums of K. */
static void sweep(tf_env *env, state *p)
{
    for (int64_t j = 0; j < p->s.m; j++)
        p->s.b[j] = 1;
    tf_parallel_for(env, p->s.blocks, sweep_block, p);
    tf_scaling_reduce(&p->s);
}

static double column_error(const tf_scaling *s)
{
    double sum = 0;
    for (int64_t j = 0; j < s->m; j++)
        sum += fabs(s->b[j] * s->t[j] - s->nu[j]);
    return sum;
}

static bool near_one(double x)
{
    return x > 1 / FAR && x < FAR;
}

/* g_j that gives column j its mass, in the log domain: for columns whose entries have all underflowed. */
static double exact_potential(const state *p, int64_t j)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < p->s.n; i++)
        top = fmax(top, (p->f[i] - ((double)p->cost[i * p->s.m + j] - p->offset)) / p->reg);
    for (int64_t i = 0; i < p->s.n; i++)
        sum += exp((p->f[i] - ((double)p->cost[i * p->s.m + j] - p->offset)) / p->reg - top);
    return p->reg * (log(p->s.nu[j]) - top - log(sum));
}

/* b = nu / t; false, with b absorbed into g, when K can no longer carry it. */
static bool update_columns(state *p)
{
    tf_scaling *s = &p->s;
    bool carried = true;
    for (int64_t j = 0; j < s->m; j++) {
        if (!(s->nu[j] > 0))
            continue;
        s->b[j] = s->nu[j] / s->t[j];
        carried = carried && near_one(s->b[j]);
    }
    for (int64_t j = 0; !carried && j < s->m; j++) {
        if (s->nu[j] > 0 && s->t[j] > 0 && isfinite(s->b[j]))
            p->g[j] += p->reg * log(s->b[j]);
        else if (s->nu[j] > 0)
            p->g[j] = exact_potential(p, j);
    }
    return carried;
}

static bool rows_carried(const tf_scaling *s)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->mu[i] > 0 && !near_one(s->a[i]))
            return false;
    return true;
}

static void absorb_columns(state *p)
{
    for (int64_t j = 0; j < p->s.m; j++)
        if (p->s.nu[j] > 0)
            p->g[j] += p->reg * log(p->s.b[j]);
}

/* Iterates at one reg until the error is at most `tolerance` or the count reaches `most`. The error is that of the coupling a K b; its
 * row sums are exact throughout. */
static tfuse_status run_stage(tf_env *env, state *p, double tolerance, int64_t most, double *error)
{
    bool fresh = true;
    for (;;) {
        TF_TRY(tf_check_cancel(env));
        if (fresh) {
            sweep(env, p);
        } else {
            tf_scaling_pass(env, &p->s);
            if (!rows_carried(&p->s)) {
                absorb_columns(p);
                fresh = true;
                continue;
            }
        }
        p->iterations++;
        *error = column_error(&p->s);
        if (*error <= tolerance || p->iterations >= most)
            return TFUSE_OK;
        fresh = !update_columns(p);
    }
}

static tfuse_status anneal(tf_env *env, state *p, double reg)
{
    double error;
    for (p->reg = FIRST_STAGE * p->range; p->reg > STAGE_FACTOR * reg; p->reg /= STAGE_FACTOR) {
        int64_t most = p->iterations + STAGE_ITERATIONS;
        if (most >= p->most)
            break;
        TF_TRY(run_stage(env, p, STAGE_TOLERANCE, most, &error));
        absorb_columns(p);
    }
    p->reg = reg;
    return TFUSE_OK;
}

static tfuse_status state_init(tf_env *env, tf_arena *arena, const tf_ot_options *options, const float *cost, tf_solution *out,
                               const double *mu, const double *nu, state *p)
{
    *p = (state){.cost = cost, .most = options->max_iterations > 0 ? options->max_iterations : MOST_ITERATIONS};
    p->s.n = out->n;
    p->s.m = out->m;
    cost_range(p);
    if (!(options->reg > 0) || !isfinite(options->reg))
        return tf_fail(env, TFUSE_ERANGE, "solver.reg is %g: sinkhorn needs a finite number above 0", options->reg);
    if (options->reg < SMALLEST_REG * p->range)
        return tf_fail(env, TFUSE_ERANGE, "solver.reg is %g, below %g of the cost range %g: take solver.name exact", options->reg,
                       SMALLEST_REG, p->range);
    TF_TRY(tf_solution_alloc_dense(env, out));
    TF_TRY(tf_scaling_init(env, arena, out->n, out->m, mu, nu, &p->s));
    p->f = out->u;
    p->g = out->v;
    for (int64_t j = 0; j < out->m; j++)
        p->g[j] = nu[j] > 0 ? 0 : -INFINITY;
    return TFUSE_OK;
}

tfuse_status tf_sinkhorn_log(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                             const double *mu, const double *nu, tf_solution *out)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tf_solution_init(env, n, m, out);
    double tolerance = options->tolerance > 0 ? options->tolerance : TOLERANCE;
    state p;
    tfuse_status status;
    TF_TRY_OUT(state_init(env, &arena, options, cost, out, mu, nu, &p));
    TF_TRY_OUT(anneal(env, &p, options->reg));
    TF_TRY_OUT(run_stage(env, &p, tolerance, p.most, &out->error));
    out->iterations = p.iterations;
    out->converged = out->error <= tolerance;
    TF_TRY_OUT(tf_scaling_finish(env, &p.s, cost, out));
    absorb_columns(&p);
    for (int64_t i = 0; i < n; i++)
        out->u[i] += p.offset + (mu[i] > 0 ? p.reg * log(p.s.a[i]) : 0);
out:
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
