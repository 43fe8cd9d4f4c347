/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_solver.c: a transport problem of at most 40 × 40, so that short lists, auctions and sorted lines come up too. The exact solver must prove its
 * optimum whatever potentials it starts from, and find the same cost through the network simplex as through the assignment; Sinkhorn must be
 * finite and above it. Bytes: n, m, kind of costs, kind of masses, reg, then numbers, which start again when they run out.
 */
#include "fuzz.h"

#include "ot/ot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 40, HEAD = 5 };

typedef struct bytes {
    const uint8_t *data;
    size_t size, at;
} bytes;

static int next(bytes *b)
{
    return b->data[b->at++ % b->size];
}

enum { TIES, RANGES, NUMBERS, HUGE_ONES, PRODUCTS, SQUARES, NEARLY, KINDS };

static float next_cost(bytes *b, int kind)
{
    int x = next(b);
    return kind == TIES     ? (float)(x % 4)
           : kind == RANGES ? ldexpf((float)(x - 128), x % 200 - 100) /* 60 orders of magnitude */
           : kind == NUMBERS ? (float)(x * 256 + next(b))
                             : (float)x * 1e30F;
}

/* One number a line; nearly: all but for the last bits of some. */
static float line_cost(bytes *b, int kind, double x, double y)
{
    double cost = kind == PRODUCTS ? x * y : (x - y) * (x - y);
    return (float)(kind == NEARLY ? cost * (1 + 1e-6 * (next(b) % 5)) : cost);
}

static void fill_costs(bytes *b, int kind, int64_t n, int64_t m, float *cost)
{
    double x[MOST], y[MOST];
    for (int64_t i = 0; kind >= PRODUCTS && i < n; i++)
        x[i] = next(b) - 100;
    for (int64_t j = 0; kind >= PRODUCTS && j < m; j++)
        y[j] = next(b) - 100;
    for (int64_t k = 0; k < n * m; k++)
        cost[k] = kind >= PRODUCTS ? line_cost(b, kind, x[k / m], y[k % m]) : next_cost(b, kind);
}

static void masses(bytes *b, int kind, int64_t n, double *out)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += out[i] = kind % 3 == 0 ? 1 : kind % 3 == 1 ? next(b) % 3 : 1e-9 + next(b);
    out[0] += total > 0 ? 0 : 1;
    total += total > 0 ? 0 : 1;
    for (int64_t i = 0; i < n; i++)
        out[i] /= total;
}

static void demand(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

typedef struct setting {
    tf_solver_registry registry;
    tf_ot_problem p;
    tf_ot_options options;
    double scale;
} setting;

static void check_exact(tf_env *env, setting *s, const double *v)
{
    tf_solution cold, warm, other;
    s->options.v = NULL;
    demand(tf_ot_solve(env, &s->registry, "exact", &s->options, s->p.n, s->p.m, s->p.cost, s->p.mu, s->p.nu, &cold) == TFUSE_OK, env->error);
    s->options.v = v;
    demand(tf_ot_solve(env, &s->registry, "exact", &s->options, s->p.n, s->p.m, s->p.cost, s->p.mu, s->p.nu, &warm) == TFUSE_OK, env->error);
    demand(tf_transport(env, s->p.n, s->p.m, s->p.cost, s->p.mu, s->p.nu, NULL, &other) == TFUSE_OK, env->error);
    double total = 0;
    for (int64_t k = 0; k < other.nnz; k++)
        total += other.mass[k] * (double)s->p.cost[other.rows[k] * s->p.m + other.cols[k]];
    demand(cold.gap >= 0 && cold.gap <= 1e-9 * s->scale && warm.gap >= 0 && warm.gap <= 1e-9 * s->scale, "no proof");
    demand(fabs(cold.cost - warm.cost) <= 1e-9 * s->scale && fabs(cold.cost - total) <= 1e-9 * s->scale, "two optima");
    demand(cold.error <= 1e-9 && warm.error <= 1e-9, "wrong marginals");
    tf_solution_free(&cold);
    tf_solution_free(&warm);
    tf_solution_free(&other);
}

/* Not converging is allowed, NaN is not. */
static void check_sinkhorn(tf_env *env, setting *s)
{
    tf_solution out;
    s->options.v = NULL;
    demand(tf_ot_solve(env, &s->registry, "sinkhorn", &s->options, s->p.n, s->p.m, s->p.cost, s->p.mu, s->p.nu, &out) == TFUSE_OK, env->error);
    demand(isfinite(out.cost) && isfinite(out.error), "a cost that is not finite");
    for (int64_t k = 0; k < out.n * out.m; k++)
        demand(isfinite(out.dense[k]) && out.dense[k] >= 0, "a mass that is none");
    tf_solution_free(&out);
}

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    float cost[MOST * MOST];
    double mu[MOST], nu[MOST], v[MOST], low = INFINITY, high = -INFINITY;
    bytes b = {data, size, 0};
    if (size <= HEAD)
        return tf_fail(env, TFUSE_EFORMAT, "%zu bytes are no problem", size);
    setting s = {.p = {.n = 1 + next(&b) % MOST, .m = 1 + next(&b) % MOST, .cost = cost, .mu = mu, .nu = nu}};
    const int kind = next(&b) % KINDS, mass = next(&b), reg = next(&b);
    fill_costs(&b, kind, s.p.n, s.p.m, cost);
    for (int64_t k = 0; k < s.p.n * s.p.m; k++) {
        low = fmin(low, (double)cost[k]);
        high = fmax(high, (double)cost[k]);
    }
    masses(&b, mass, s.p.n, mu);
    masses(&b, mass / 3, s.p.m, nu);
    for (int64_t j = 0; j < s.p.m; j++)
        v[j] = ldexp(next(&b) - 128, 4 * next(&b) - 512);
    s.scale = fmax(fabs(low), fabs(high));
    s.options.reg = (high > low ? high - low : 1) * pow(10, -4.0 * reg / 255);
    s.options.max_iterations = 200;
    TF_TRY(tf_solvers_init(env, &s.registry));
    check_exact(env, &s, v);
    check_sinkhorn(env, &s);
    tf_solvers_free(&s.registry);
    return TFUSE_OK;
}
