/* SPDX-License-Identifier: Apache-2.0
 *
 * ot_cases.h: transport problems for the tests of lib/ot, draw by draw those of tests/tools/ot_reference.py, and the
 * checks that every solution of an exact solver must pass.
 */
#ifndef OT_CASES_H
#define OT_CASES_H

#include <math.h>
#include <stdlib.h>
#include "ot/ot.h"
#include "t.h"

enum { COST_UNIFORM, COST_TIES, COST_GRID, COST_HEAVY, COST_PRODUCT, COST_TWINS, COST_DEAD, COST_KINDS };
enum { MASS_EVEN, MASS_WEIGHTS, MASS_ZEROS, MASS_TINY, MASS_KINDS };

typedef struct exact_reference {
    unsigned n, m;
    int kind, mass;
    unsigned seed;
    double cost;
} exact_reference;

typedef struct sinkhorn_reference {
    unsigned n, m;
    int kind, mass;
    unsigned seed;
    double reg, cost, scaling_cost;
    int scaling_iterations;
} sinkhorn_reference;

typedef struct problem {
    int64_t n, m;
    float *cost;
    double *mu, *nu; /* sum to one */
} problem;

static inline uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 40;
}

static inline double draw_unit(uint64_t *state)
{
    return (double)draw(state) / 16777216.0;
}

static inline void fill_grid(problem *p, uint64_t *state)
{
    double *points = calloc((size_t)(p->n + p->m) * 2, sizeof *points);
    for (int64_t k = 0; k < 2 * (p->n + p->m); k++)
        points[k] = (double)(draw(state) >> 16);
    for (int64_t i = 0; i < p->n; i++) {
        for (int64_t j = 0; j < p->m; j++) {
            double dx = points[2 * i] - points[2 * (p->n + j)], dy = points[2 * i + 1] - points[2 * (p->n + j) + 1];
            p->cost[i * p->m + j] = (float)(dx * dx + dy * dy);
        }
    }
    free(points);
}

static inline float draw_cost(const problem *p, int kind, int64_t i, int64_t j, uint64_t *state)
{
    if (kind == COST_PRODUCT)
        return (float)((i + 1) * (j + 1));
    if (kind == COST_TWINS && (i % 3 || j % 2))
        return p->cost[(i - i % 3) * p->m + (j - j % 2)];
    if (kind == COST_DEAD && i % 5 == 0)
        return 0.5F;
    if (kind == COST_TIES)
        return (float)(draw(state) >> 21);
    double x = draw_unit(state);
    return (float)(kind == COST_HEAVY ? x * x * x * x * x * x : x);
}

static inline double *draw_masses(int kind, int64_t n, uint64_t *state)
{
    double *w = calloc((size_t)n, sizeof *w), total = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t k = kind == MASS_EVEN ? 0 : draw(state) >> 8;
        w[i] = 1 + (double)(k % 1000);
        if (kind == MASS_ZEROS && i && k % 3 == 0)
            w[i] = 0;
        if (kind == MASS_TINY && i % 4 == 3)
            w[i] = 1e-12;
        total += w[i];
    }
    for (int64_t i = 0; i < n; i++)
        w[i] = kind == MASS_EVEN ? 1.0 / (double)n : w[i] / total;
    return w;
}

static inline problem make_problem(int kind, int mass, int64_t n, int64_t m, unsigned seed)
{
    problem p = {n, m, NULL, NULL, NULL};
    uint64_t state = seed * UINT64_C(2654435769) + 12345;
    p.cost = calloc((size_t)(n * m), sizeof *p.cost);
    if (kind == COST_GRID)
        fill_grid(&p, &state);
    for (int64_t k = 0; k < n * m && kind != COST_GRID; k++)
        p.cost[k] = draw_cost(&p, kind, k / m, k % m, &state);
    p.mu = draw_masses(mass, n, &state);
    p.nu = draw_masses(mass, m, &state);
    return p;
}

static inline void free_problem(problem *p)
{
    free(p->cost);
    free(p->mu);
    free(p->nu);
}

static inline double largest_cost(const problem *p)
{
    double top = 0;
    for (int64_t k = 0; k < p->n * p->m; k++)
        top = fmax(top, fabs((double)p->cost[k]));
    return top;
}

/* Feasible primal and dual of equal value, in plain loops that share no code with the library. 1e-12: sums of at most a few thousand
 * float64 terms, whose rounding is near 1e-15 of the largest cost; prices may exceed costs a few times. */
static inline void check_optimal(const problem *p, const tf_solution *s)
{
    double scale = largest_cost(p), primal = 0, dual = 0, off = 0, violated = -INFINITY;
    double *row = calloc((size_t)p->n, sizeof *row), *col = calloc((size_t)p->m, sizeof *col);
    int64_t count = s->kind == TF_COUPLING_PERMUTATION ? s->n : s->nnz;
    for (int64_t k = 0; k < count; k++) {
        bool perm = s->kind == TF_COUPLING_PERMUTATION;
        int64_t i = perm ? k : s->rows[k], j = perm ? s->perm[k] : s->cols[k];
        double mass = perm ? 1.0 / (double)s->n : s->mass[k];
        bool sorted = perm || k == 0 || s->rows[k - 1] < i || (s->rows[k - 1] == i && s->cols[k - 1] < j);
        if (!sorted || i < 0 || i >= p->n || j < 0 || j >= p->m || !(mass > 0))
            ck_abort_msg("entry %d: (%d, %d) with %g", (int)k, (int)i, (int)j, mass);
        primal += mass * (double)p->cost[i * p->m + j];
        row[i] += mass;
        col[j] += mass;
    }
    for (int64_t i = 0; i < p->n; i++) {
        off += fabs(row[i] - p->mu[i]);
        dual += p->mu[i] * s->u[i];
        for (int64_t j = 0; j < p->m; j++)
            violated = fmax(violated, s->u[i] + s->v[j] - (double)p->cost[i * p->m + j]);
    }
    for (int64_t j = 0; j < p->m; j++) {
        off += fabs(col[j] - p->nu[j]);
        dual += p->nu[j] * s->v[j];
    }
    free(row);
    free(col);
    ck_assert_msg(violated <= 1e-12 * scale, "u_i + v_j > C_ij by %g", violated);
    ck_assert_msg(off <= 1e-12 && s->error <= 1e-12, "marginals are off by %g (%g)", off, s->error);
    ck_assert_msg(fabs(primal - dual) <= 1e-12 * scale, "primal %.17g dual %.17g", primal, dual);
    ck_assert_msg(s->gap >= 0 && s->gap <= 1e-12 * scale, "gap %g", s->gap);
    ck_assert_msg(fabs(primal - s->cost) <= 1e-12 * scale && s->converged, "cost %.17g is %.17g", s->cost, primal);
}

static inline tfuse_status solve_named(tf_env *env, const char *name, double reg, const problem *p, tf_solution *s)
{
    tf_solver_registry registry;
    tf_ot_options options = {.reg = reg};
    tfuse_status status = tf_solvers_init(env, &registry);
    if (status == TFUSE_OK)
        status = tf_ot_solve(env, &registry, name, &options, p->n, p->m, p->cost, p->mu, p->nu, s);
    tf_solvers_free(&registry);
    return status;
}

#endif
