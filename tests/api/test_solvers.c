/* SPDX-License-Identifier: Apache-2.0
 *
 * Transport by itself, and solvers of the caller's.
 */
#include "api.h"
#include <math.h>
#include <stdlib.h>

static tfuse_array *matrix(tfuse_ctx *ctx, tfuse_dtype dtype, size_t rank, int64_t n, int64_t m, const void *data)
{
    tfuse_array *a = NULL;
    api_ok(ctx, tfuse_array_wrap(ctx, dtype, rank, (int64_t[]){n, m}, data, NULL, NULL, &a));
    return a;
}

static tfuse_solution_info info_of(const tfuse_solution *s)
{
    tfuse_solution_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(tfuse_solution_get(s, &info), TFUSE_OK);
    return info;
}

static const double cost3[9] = {4, 1, 3, 2, 0, 5, 3, 2, 2}; /* optimum 1 + 2 + 2, rows to columns 1, 0, 2 */

START_TEST(test_exact)
{
    tfuse_ctx *ctx = api_new();
    tfuse_array *cost = matrix(ctx, TFUSE_F64, 2, 3, 3, cost3), *coupling = NULL;
    tfuse_solution *s = NULL;
    api_ok(ctx, tfuse_solve(ctx, NULL, cost, NULL, NULL, &s));
    tfuse_solution_info info = info_of(s);
    ck_assert_double_eq_tol(info.cost, 5.0 / 3, 1e-12);
    ck_assert(info.gap >= 0 && info.gap < 1e-12);
    ck_assert_int_eq(info.converged, 1);
    api_ok(ctx, tfuse_solution_coupling(ctx, s, &coupling));
    const float *p = tfuse_array_data(coupling);
    static const int where[3] = {1, 0, 2};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            ck_assert_float_eq_tol(p[3 * i + j], where[i] == j ? 1.0f / 3 : 0, 1e-7f);
    tfuse_array_free(coupling);
    tfuse_solution_free(s);
    tfuse_array_free(cost);
    api_done(ctx);
}
END_TEST

START_TEST(test_marginals)
{
    tfuse_ctx *ctx = api_new();
    const double mu[3] = {2, 0, 2}, nu[3] = {1, 2, 1}, less[3] = {1, 1, 1}, negative[3] = {2, -1, 3};
    tfuse_array *cost = matrix(ctx, TFUSE_F64, 2, 3, 3, cost3), *a = matrix(ctx, TFUSE_F64, 1, 3, 0, mu);
    tfuse_array *b = matrix(ctx, TFUSE_F64, 1, 3, 0, nu), *c = matrix(ctx, TFUSE_F64, 1, 3, 0, less);
    tfuse_array *d = matrix(ctx, TFUSE_F64, 1, 3, 0, negative);
    tfuse_solution *s = NULL;
    api_ok(ctx, tfuse_solve(ctx, NULL, cost, a, b, &s));
    /* row 0 sends 1/2 to column 1; row 2 sends 1/4 to columns 0 and 2: 1/2 + 3/4 + 2/4 */
    ck_assert_double_eq_tol(info_of(s).cost, 1.75, 1e-12);
    tfuse_solution_free(s);
    api_fails(ctx, tfuse_solve(ctx, NULL, cost, a, c, &s), TFUSE_ENUMERIC, "totals");
    ck_assert_ptr_null(s);
    api_fails(ctx, tfuse_solve(ctx, NULL, cost, d, b, &s), TFUSE_ENUMERIC, "mu");
    api_fails(ctx, tfuse_solve(ctx, NULL, a, NULL, NULL, &s), TFUSE_ESHAPE, "matrix");
    api_fails(ctx, tfuse_solve(ctx, NULL, cost, cost, NULL, &s), TFUSE_ESHAPE, "mu");
    tfuse_array_free(cost);
    tfuse_array_free(a);
    tfuse_array_free(b);
    tfuse_array_free(c);
    tfuse_array_free(d);
    api_done(ctx);
}
END_TEST

START_TEST(test_sinkhorn)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    tfuse_array *cost = matrix(ctx, TFUSE_F64, 2, 3, 3, cost3);
    tfuse_solution *s = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.name", "sinkhorn"));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.reg", "0.01"));
    api_ok(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s));
    ck_assert_double_eq_tol(info_of(s).cost, 5.0 / 3, 1e-6); /* entropy weighs e^-100 here */
    tfuse_solution_free(s);
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.max_iterations", "1"));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.reg", "0.5"));
    api_ok(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s));
    ck_assert_int_eq(info_of(s).converged, 0);
    tfuse_solution_free(s);
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.strict", "1"));
    api_fails(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s), TFUSE_ECONVERGE, "");
    tfuse_policy_free(policy);
    tfuse_array_free(cost);
    api_done(ctx);
}
END_TEST

/* ---- a solver of the caller's: couples everything with everything ------------------------------------------ */

static tfuse_status solve_outer(void *user, const tfuse_problem *p, tfuse_result *r, int32_t (*cancelled)(const void *), const void *env)
{
    int *calls = user;
    ++*calls;
    if (cancelled(env))
        return TFUSE_ECANCELLED;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->m; j++)
            r->coupling[i * p->m + j] = (float)(p->mu[i] * p->nu[j]);
    r->converged = 1;
    r->iterations = 1;
    return TFUSE_OK;
}

static tfuse_status solve_badly(void *user, const tfuse_problem *p, tfuse_result *r, int32_t (*cancelled)(const void *), const void *env)
{
    (void)user, (void)cancelled, (void)env, (void)p;
    r->coupling[0] = NAN;
    return TFUSE_OK;
}

START_TEST(test_registered)
{
    tfuse_ctx *ctx = api_new();
    int calls = 0;
    tfuse_solver_ops ops = {sizeof ops, "outer", solve_outer}, bad = {sizeof bad, "bad", solve_badly};
    tfuse_policy *policy = NULL;
    tfuse_array *cost = matrix(ctx, TFUSE_F64, 2, 3, 3, cost3);
    tfuse_solution *s = NULL;
    tfuse_model *a = api_vit(ctx, 1, 1, NULL), *b = api_vit(ctx, 1, 2, NULL);
    const tfuse_model *models[] = {a, b};
    tfuse_plan *plan = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.name", "outer"));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "align.strategy", "otfusion"));
    api_fails(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s), TFUSE_EKEY, "outer");
    api_ok(ctx, tfuse_ctx_add_solver(ctx, &ops, &calls));
    api_fails(ctx, tfuse_ctx_add_solver(ctx, &ops, &calls), TFUSE_EINVAL, "outer");
    api_ok(ctx, tfuse_ctx_add_solver(ctx, &bad, NULL));
    api_ok(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s));
    ck_assert_double_eq_tol(info_of(s).cost, 22.0 / 9, 1e-6);
    ck_assert(isnan(info_of(s).gap));
    ck_assert_int_eq(calls, 1);
    tfuse_solution_free(s);
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, NULL, &plan)); /* the same way in aligning */
    ck_assert_int_gt(calls, 5);
    tfuse_plan_free(plan);
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.name", "bad"));
    ck_assert_int_ne(tfuse_solve(ctx, policy, cost, NULL, NULL, &s), TFUSE_OK);
    ck_assert_ptr_nonnull(strstr(tfuse_ctx_error(ctx), "bad"));
    bad.name = NULL;
    api_fails(ctx, tfuse_ctx_add_solver(ctx, &bad, NULL), TFUSE_EINVAL, "name");
    tfuse_model_free(a);
    tfuse_model_free(b);
    tfuse_policy_free(policy);
    tfuse_array_free(cost);
    api_done(ctx);
}
END_TEST

/* ---- batches, potentials, cancelling --------------------------------------------------------------------- */

enum { LARGE = 300 };

START_TEST(test_batch)
{
    tfuse_ctx *ctx = api_new();
    const double mu[3] = {2, 0, 2}, nu[3] = {1, 2, 1}, bad[3] = {1, NAN, 1};
    tfuse_array *cost = matrix(ctx, TFUSE_F64, 2, 3, 3, cost3), *a = matrix(ctx, TFUSE_F64, 1, 3, 0, mu);
    tfuse_array *b = matrix(ctx, TFUSE_F64, 1, 3, 0, nu), *c = matrix(ctx, TFUSE_F64, 1, 3, 0, bad), *u = NULL, *v = NULL;
    tfuse_task tasks[3] = {{.struct_size = sizeof tasks[0], .cost = cost}, {.struct_size = sizeof tasks[0], .cost = cost, .mu = a, .nu = b},
                           {.struct_size = sizeof tasks[0], .cost = cost}};
    tfuse_solution *s[3];
    api_ok(ctx, tfuse_ctx_set_threads(ctx, 2));
    api_ok(ctx, tfuse_solve_batch(ctx, NULL, tasks, 3, s));
    ck_assert_double_eq_tol(info_of(s[0]).cost, 5.0 / 3, 1e-12);
    ck_assert_double_eq_tol(info_of(s[1]).cost, 1.75, 1e-12);
    ck_assert_str_eq(tfuse_solution_method(s[0]), "assignment: square, uniform masses; whole rows, being short");
    ck_assert_str_eq(tfuse_solution_method(s[1]), "network simplex: row masses are not uniform; all arcs, few enough");
    api_ok(ctx, tfuse_solution_potentials(ctx, s[0], &u, &v));
    const double *x = tfuse_array_data(u), *y = tfuse_array_data(v);
    double dual = 0;
    for (int k = 0; k < 9; k++)
        ck_assert(x[k / 3] + y[k % 3] <= cost3[k] + 1e-12);
    for (int k = 0; k < 3; k++)
        dual += (x[k] + y[k]) / 3;
    ck_assert_double_eq_tol(dual, 5.0 / 3, 1e-12);
    for (int k = 0; k < 3; k++)
        tfuse_solution_free(s[k]);
    tasks[2].u = u;
    tasks[2].v = v;
    api_ok(ctx, tfuse_solve_batch(ctx, NULL, tasks + 2, 1, s));
    ck_assert_double_eq_tol(info_of(s[0]).cost, 5.0 / 3, 1e-12);
    ck_assert_str_eq(tfuse_solution_method(s[0]), "assignment: square, uniform masses; whole rows, being short, from potentials");
    tfuse_solution_free(s[0]);
    tasks[2].v = c;
    api_fails(ctx, tfuse_solve_batch(ctx, NULL, tasks, 3, s), TFUSE_ENUMERIC, "problem 2: v[1] is nan");
    ck_assert(!s[0] && !s[1] && !s[2]);
    tasks[2].v = cost;
    api_fails(ctx, tfuse_solve_batch(ctx, NULL, tasks, 3, s), TFUSE_ESHAPE, "problem 2: v holds 9 numbers");
    tasks[2].cost = NULL;
    api_fails(ctx, tfuse_solve_batch(ctx, NULL, tasks, 3, s), TFUSE_EINVAL, "problem 2: the cost is NULL");
    tasks[1].struct_size = 8;
    api_fails(ctx, tfuse_solve_batch(ctx, NULL, tasks, 3, s), TFUSE_EINVAL, "problem 1: struct_size");
    api_fails(ctx, tfuse_solve_batch(ctx, NULL, NULL, 3, s), TFUSE_EINVAL, "tasks");
    api_ok(ctx, tfuse_solve_batch(ctx, NULL, NULL, 0, NULL));
    tfuse_array_free(u);
    tfuse_array_free(v);
    tfuse_array_free(cost);
    tfuse_array_free(a);
    tfuse_array_free(b);
    tfuse_array_free(c);
    api_done(ctx);
}
END_TEST

/* Counts calls, and refuses to go on at one of them. */
typedef struct watcher {
    int calls, stop_at;
} watcher;

static int32_t watch(void *user, const tfuse_progress *progress)
{
    watcher *w = user;
    ck_assert_str_eq(progress->stage, "solving");
    return ++w->calls == w->stop_at;
}

/* The callback is called at the beginning, at the end, and meanwhile when that takes long enough. */
START_TEST(test_cancelled_from_progress)
{
    static const char *const names[] = {"exact", "sinkhorn"};
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    float *data = api_numbers((size_t)LARGE * LARGE, 7);
    tfuse_array *cost = matrix(ctx, TFUSE_F32, 2, LARGE, LARGE, data);
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.reg", "0.002"));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.tolerance", "1e-4"));
    for (int k = 0; k < 2; k++) {
        for (int stop_at = 1; stop_at <= 3; stop_at++) {
            watcher w = {0, stop_at};
            tfuse_task tasks[2] = {{.struct_size = sizeof tasks[0], .cost = cost}, {.struct_size = sizeof tasks[0], .cost = cost}};
            tfuse_solution *s[2] = {NULL, NULL};
            api_ok(ctx, tfuse_policy_set(ctx, policy, "solver.name", names[k]));
            api_ok(ctx, tfuse_ctx_set_progress(ctx, watch, &w));
            tfuse_status status = tfuse_solve(ctx, policy, cost, NULL, NULL, &s[0]);
            ck_assert_msg(status == (w.calls >= stop_at ? TFUSE_ECANCELLED : TFUSE_OK), "%s", tfuse_status_name(status));
            ck_assert(stop_at > 2 || w.calls == stop_at);
            tfuse_solution_free(s[0]);
            w.calls = 0;
            status = tfuse_solve_batch(ctx, policy, tasks, 2, s);
            ck_assert_int_eq(status, w.calls >= stop_at ? TFUSE_ECANCELLED : TFUSE_OK);
            tfuse_solution_free(s[0]);
            tfuse_solution_free(s[1]);
            w = (watcher){0, 0}; /* and the context is as good as new */
            api_ok(ctx, tfuse_solve(ctx, policy, cost, NULL, NULL, &s[0]));
            ck_assert_int_ge(w.calls, 2);
            tfuse_solution_free(s[0]);
        }
    }
    tfuse_policy_free(policy);
    tfuse_array_free(cost);
    free(data);
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api solvers");
    API_ADD(test_exact);
    API_ADD(test_marginals);
    API_ADD(test_sinkhorn);
    API_ADD(test_registered);
    API_ADD(test_batch);
    API_ADD(test_cancelled_from_progress);
    return api_suite;
}
