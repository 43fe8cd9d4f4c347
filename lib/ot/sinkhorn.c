/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn.c: entropic transport in the log domain (Cuturi 2013), stabilised by absorbing the scalings into the potentials
 * (Chizat, Peyré, Schmitzer & Vialard 2018; Schmitzer 2019).
 *
 * The coupling is P_ij = exp((f_i + g_j - C_ij) / reg). K is made from g with each row's maximum taken out (sinkhorn_kernel.c); from there plain
 * scaling of K converges to the same fixed point at a fraction of the cost. As soon as a scaling leaves what K carries it is absorbed
 * into g and K is made again. Where scaling contracts slowly, Newton steps take over (sinkhorn_newton.c).
 *
 * K is float32, which moves the fixed point by about 1e-7: errors below ROUNDED are those of K made anew, in float64, and so is the result.
 *
 * With reg well below the range of the costs it comes down in stages, each starting from the potentials of the one before.
 */
#include "ot/sinkhorn.h"

#include <math.h>

enum { MOST_ITERATIONS = 10000, STAGE_ITERATIONS = 30, WINDOW = 8, PATIENCE = 40, REST = 32 };
#define TOLERANCE 1e-9       /* L1 error of the marginals */
#define ROUNDED 3e-7         /* error to which float32 is believed */
#define STAGE_TOLERANCE 1e-2 /* of a stage but the last */
#define STAGE_FACTOR 5.0
#define FIRST_STAGE 0.1 /* of the cost range */
#define NEAR 0.5        /* error, of at most 2, after which stages would only lead away */
#define SMALLEST_REG 1e-10

typedef struct state {
    tf_kernel k;
    double range;
    double *work;       /* of Newton */
    int64_t iterations, most;
    double past[WINDOW]; /* the latest errors, by iteration modulo WINDOW */
    int64_t since;       /* iterations since the last jump: Newton step or failure of one */
} state;

static void cost_range(const tf_env *env, state *p)
{
    const float *cost = p->k.cost;
    float low = cost[0], high = cost[0];
    for (int64_t i = 0; i < p->k.n && !tf_polled(env, i); i++)
        for (int64_t e = i * p->k.m; e < (i + 1) * p->k.m; e++) {
            low = cost[e] < low ? cost[e] : low;
            high = cost[e] > high ? cost[e] : high;
        }
    p->k.offset = (double)low;
    p->range = (double)high - (double)low;
}

/* Would scaling need more than PATIENCE further iterations at the rate of the last WINDOW? */
static bool is_slow(const state *p, double error, double tolerance)
{
    if (p->since <= WINDOW)
        return false;
    const double rate = log(error / p->past[p->iterations % WINDOW]) / WINDOW;
    return !(rate < 0) || log(tolerance / error) / rate > PATIENCE;
}

static void note(state *p, double error)
{
    p->past[p->iterations % WINDOW] = error;
    p->iterations++;
    p->since++;
}

static void jump(state *p, int64_t since)
{
    p->since = since;
}

/* b = nu / t */
static void update_columns(tf_kernel *k)
{
    for (int64_t j = 0; j < k->m; j++)
        if (k->nu[j] > 0)
            k->b[j] = k->nu[j] / k->t[j];
}

/* From the error of the present a, b to the next ones. *again: K must be made again. */
static tfuse_status advance(tf_env *env, state *p, double error, double goal, bool *again)
{
    *again = false;
    if (is_slow(p, error, goal) && p->iterations + WINDOW < p->most) {
        TF_TRY(tf_sinkhorn_newton(env, &p->k, p->work, &p->iterations, p->most, again));
        jump(p, *again ? 0 : -REST);
    }
    if (!*again)
        update_columns(&p->k);
    return TFUSE_OK;
}

/* Iterates at one reg until the error is at most `tolerance` or the count reaches `most`. */
static tfuse_status run_stage(tf_env *env, state *p, double tolerance, int64_t most, double *error)
{
    tf_kernel *k = &p->k;
    bool made = true;
    jump(p, 0);
    tf_kernel_make(env, k);
    for (;;) {
        *error = tf_kernel_error(k);
        note(p, *error);
        TF_TRY(tf_progress(env, "solving", (uint64_t)p->iterations, 0));
        if (p->iterations >= most || *error <= (made ? tolerance : tolerance - ROUNDED))
            return TFUSE_OK;
        TF_TRY(advance(env, p, *error, tolerance, &made));
        made = made || *error <= ROUNDED || !tf_kernel_carries(k);
        if (made) {
            tf_kernel_absorb(k);
            tf_kernel_make(env, k);
            continue;
        }
        tf_kernel_scale(env, k);
        if (!tf_kernel_carries(k)) {
            tf_kernel_absorb(k);
            tf_kernel_make(env, k);
            made = true;
        }
    }
}

static tfuse_status anneal(tf_env *env, state *p, double reg)
{
    double error;
    for (p->k.reg = FIRST_STAGE * p->range; p->k.reg > STAGE_FACTOR * reg; p->k.reg /= STAGE_FACTOR) {
        int64_t most = p->iterations + STAGE_ITERATIONS;
        if (most >= p->most)
            break;
        TF_TRY(run_stage(env, p, STAGE_TOLERANCE, most, &error));
        tf_kernel_absorb(&p->k);
    }
    p->k.reg = reg;
    return TFUSE_OK;
}

static tfuse_status state_init(tf_env *env, tf_arena *arena, const tf_ot_options *options, const float *cost, tf_solution *out,
                               const double *mu, const double *nu, state *p)
{
    *p = (state){.k = {.n = out->n, .m = out->m, .cost = cost, .mu = mu, .nu = nu},
                 .most = options->max_iterations > 0 ? options->max_iterations : MOST_ITERATIONS};
    cost_range(env, p);
    TF_TRY(tf_check_cancel(env));
    if (!(options->reg > 0) || !isfinite(options->reg))
        return tf_fail(env, TFUSE_ERANGE, "solver.reg is %g: sinkhorn needs a finite number above 0", options->reg);
    if (options->reg < SMALLEST_REG * p->range)
        return tf_fail(env, TFUSE_ERANGE, "solver.reg is %g, below %g of the cost range %g: take solver.name exact", options->reg,
                       SMALLEST_REG, p->range);
    TF_TRY(tf_solution_alloc_dense(env, out));
    p->k.k = out->dense;
    p->k.f = out->u;
    p->k.g = out->v;
    TF_TRY(tf_kernel_init(env, arena, &p->k));
    p->work = tf_arena_array(env, arena, (size_t)(TF_NEWTON_COLUMNS * out->m + out->n), sizeof *p->work);
    if (!p->work)
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < out->m; j++)
        p->k.g[j] = !(nu[j] > 0) ? -INFINITY : options->v ? options->v[j] : 0;
    return TFUSE_OK;
}

/* Are the potentials that were given near enough to go without the stages? */
static bool starts_near(tf_env *env, state *p, const tf_ot_options *options)
{
    p->k.reg = options->reg;
    if (!options->v)
        return false;
    tf_kernel_make(env, &p->k);
    return tf_kernel_error(&p->k) <= NEAR;
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
    if (!starts_near(env, &p, options))
        TF_TRY_OUT(anneal(env, &p, options->reg));
    TF_TRY_OUT(run_stage(env, &p, tolerance, p.most, &out->error));
    tf_kernel_absorb(&p.k);
    out->cost = tf_kernel_finish(env, &p.k);
    TF_TRY_OUT(tf_check_cancel(env));
    out->error = tf_kernel_error(&p.k);
    out->iterations = p.iterations;
    out->converged = out->error <= tolerance;
    if (!isfinite(out->cost) || !isfinite(out->error))
        status = tf_fail(env, TFUSE_ENUMERIC, "sinkhorn: the coupling is not finite; take a larger solver.reg");
    for (int64_t i = 0; i < n; i++)
        out->u[i] += p.k.offset;
out:
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
