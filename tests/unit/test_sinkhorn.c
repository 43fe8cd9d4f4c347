/* SPDX-License-Identifier: Apache-2.0 */
#include "ot_cases.h"
#include "ot_reference.h"
#include <pthread.h>
#include <unistd.h>

static tf_solution run(tf_env *env, const char *name, const problem *p, tf_ot_options options)
{
    tf_solver_registry registry;
    tf_solution s;
    t_ok(env, tf_solvers_init(env, &registry));
    t_ok(env, tf_ot_solve(env, &registry, name, &options, p->n, p->m, p->cost, p->mu, p->nu, &s));
    tf_solvers_free(&registry);
    return s;
}

/* Finite everywhere, rows exact to float32's rounding (6e-8 relative), and every entry the one that the potentials say. */
static void check_coupling(const problem *p, const tf_solution *s, double reg)
{
    ck_assert_int_eq(s->kind, TF_COUPLING_DENSE);
    for (int64_t i = 0; i < p->n; i++) {
        double row = 0;
        for (int64_t j = 0; j < p->m; j++) {
            double x = (double)s->dense[i * p->m + j];
            double want = exp((s->u[i] + s->v[j] - (double)p->cost[i * p->m + j]) / reg);
            /* 1e-6: float32, and potentials near 1e4 reg, whose rounding is 1e-12, over reg */
            if (!(x >= 0 && fabs(x - want) <= 1e-6 * want + 1e-30))
                ck_abort_msg("entry %g, potentials say %g", x, want);
            row += x;
        }
        ck_assert_double_le(fabs(row - p->mu[i]), 1e-7 * p->mu[i]);
        ck_assert(p->mu[i] > 0 ? isfinite(s->u[i]) : s->u[i] < 0);
    }
}

START_TEST(the_same_cost_as_pot)
{
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(sinkhorn_references); k++) {
        const sinkhorn_reference *r = &sinkhorn_references[k];
        problem p = make_problem(r->kind, r->mass, r->n, r->m, r->seed);
        tf_solution s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = r->reg, .tolerance = 1e-13, .max_iterations = 200000});
        ck_assert(s.converged);
        ck_assert_msg(fabs(s.cost - r->cost) <= 1e-9 * r->cost, "row %zu: %.17g, reference %.17g", k, s.cost, r->cost);
        check_coupling(&p, &s, r->reg);
        tf_solution_free(&s);
        free_problem(&p);
    }
    t_env_free(env);
}
END_TEST

/* The plain iteration has to stop at the same count as POT's, so its cost agrees to rounding, not only to the tolerance. */
START_TEST(scaling_stops_where_pot_stops)
{
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(sinkhorn_references); k++) {
        const sinkhorn_reference *r = &sinkhorn_references[k];
        problem p = make_problem(r->kind, r->mass, r->n, r->m, r->seed);
        tf_solution s = run(env, "sinkhorn-scaling", &p, (tf_ot_options){.reg = r->reg});
        ck_assert_int_eq(s.iterations, r->scaling_iterations);
        ck_assert_msg(fabs(s.cost - r->scaling_cost) <= 1e-13 * r->scaling_cost, "row %zu: %.17g, reference %.17g", k, s.cost,
                      r->scaling_cost);
        tf_solution_free(&s);
        free_problem(&p);
    }
    t_env_free(env);
}
END_TEST

START_TEST(scaling_keeps_the_iterate_at_its_cap)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 40, 40, 4);
    tf_solution s = run(env, "sinkhorn-scaling", &p, (tf_ot_options){.reg = 0.003});
    ck_assert_int_eq(s.iterations, 1000);
    ck_assert(!s.converged && s.error > 1e-9 && s.error < 1);
    tf_solution_free(&s);
    t_fails(env, solve_named(env, "sinkhorn-scaling", 1e-4, &p, &s), TFUSE_ENUMERIC, "take solver.name sinkhorn");
    t_fails(env, solve_named(env, "sinkhorn-scaling", 0, &p, &s), TFUSE_ERANGE, "solver.reg");
    free_problem(&p);
    t_env_free(env);
}
END_TEST

START_TEST(any_reg_is_safe)
{
    static const double regs[] = {1e6, 1, 0.1, 1e-2, 1e-3, 1e-4, 1e-7};
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(regs); k++) {
        for (int mass = 0; mass < MASS_KINDS; mass++) {
            for (int kind = 0; kind < COST_KINDS; kind++) {
                problem p = make_problem(kind, mass, 23, 31, (unsigned)kind);
                double top = largest_cost(&p);
                for (int64_t i = 0; i < p.n * p.m; i++)
                    p.cost[i] = (float)((double)p.cost[i] / top);
                tf_solution s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = regs[k], .max_iterations = 300});
                ck_assert(isfinite(s.cost) && isfinite(s.error) && s.error < 2 && isnan(s.gap));
                if (regs[k] >= 1e-4)
                    check_coupling(&p, &s, regs[k]);
                tf_solution_free(&s);
                free_problem(&p);
            }
        }
    }
    t_env_free(env);
}
END_TEST

/* Column 0 costs 10,000 reg more than the others in every row, so it underflows in the first sweep; the optimum is mu nu'. The cap
 * leaves no room for stages of larger reg. */
START_TEST(a_far_column_gets_its_mass)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_WEIGHTS, 6, 5, 6);
    for (int64_t k = 0; k < 30; k++)
        p.cost[k] = k % 5 == 0;
    tf_solution s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 1e-4, .max_iterations = 10});
    ck_assert(s.converged);
    for (int64_t k = 0; k < 30; k++) {
        double want = p.mu[k / 5] * p.nu[k % 5];
        ck_assert_double_le(fabs((double)s.dense[k] - want), 1e-7 * want); /* float32 */
    }
    tf_solution_free(&s);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

/* Entropic optima lie within reg * log(n m) of the exact one. */
START_TEST(small_reg_approaches_the_exact_cost)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_WEIGHTS, 12, 9, 6);
    tf_solution exact = run(env, "exact", &p, (tf_ot_options){0});
    tf_solution s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 1e-3, .max_iterations = 1000000});
    ck_assert(s.converged);
    ck_assert_double_ge(s.cost, exact.cost - 1e-9);
    ck_assert_double_le(s.cost, exact.cost + 1e-3 * log(108));
    tf_solution_free(&exact);
    tf_solution_free(&s);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

/* Each point and its noisy copy: scaling alone contracts so slowly here that 2,000 iterations do not reach 1e-6. */
START_TEST(newton_ends_what_scaling_does_not)
{
    enum { N = 96, D = 40 };
    tf_env *env = t_env(1);
    float x[N * D], noise[N * D];
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, N, N, 1);
    t_fill(x, N * D, 11);
    t_fill(noise, N * D, 12);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sq = 0;
            for (int k = 0; k < D; k++) {
                double d = (double)x[i * D + k] - (double)x[j * D + k] - 0.1 * (double)noise[j * D + k];
                sq += d * d;
            }
            p.cost[i * N + j] = (float)(sqrt(sq) / 7);
        }
    tf_solution s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 0.05});
    ck_assert(s.converged);
    ck_assert_double_le(s.error, 1e-9);
    ck_assert_int_le(s.iterations, 300);
    check_coupling(&p, &s, 0.05);
    tf_solution_free(&s);
    for (int i = 0; i < N; i++) /* few entries matter: CG on those alone */
        for (int j = 0; j < N; j++)
            p.cost[i * N + j] = (float)fabs((double)(x[i] - x[N + j]));
    s = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 3e-3});
    ck_assert_msg(s.converged, "error %g after %lld", s.error, (long long)s.iterations);
    check_coupling(&p, &s, 3e-3);
    tf_solution_free(&s);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

START_TEST(a_constant_changes_nothing)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_TIES, MASS_WEIGHTS, 20, 20, 6);
    tf_solution a = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 0.5});
    for (int64_t k = 0; k < 400; k++)
        p.cost[k] += 1048576; /* exact in float32 */
    tf_solution b = run(env, "sinkhorn", &p, (tf_ot_options){.reg = 0.5});
    ck_assert_mem_eq(a.dense, b.dense, 400 * sizeof(float));
    tf_solution_free(&a);
    tf_solution_free(&b);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

START_TEST(threads_do_not_change_a_bit)
{
    static const char *const names[] = {"sinkhorn", "sinkhorn-scaling"};
    problem p = make_problem(COST_GRID, MASS_WEIGHTS, 203, 101, 6);
    for (int64_t k = 0; k < p.n * p.m; k++)
        p.cost[k] /= 131072;
    for (size_t name = 0; name < TF_LEN(names); name++) {
        tf_solution first = {0};
        for (uint32_t threads = 1; threads <= 4; threads++) {
            tf_env *env = t_env(threads);
            tf_solution s = run(env, names[name], &p, (tf_ot_options){.reg = 0.02, .max_iterations = 50});
            if (threads == 1) {
                float *copy = malloc(203 * 101 * sizeof *copy);
                memcpy(copy, s.dense, 203 * 101 * sizeof *copy);
                first = s;
                first.dense = copy;
            } else {
                ck_assert_mem_eq(s.dense, first.dense, 203 * 101 * sizeof(float));
                ck_assert(s.cost == first.cost && s.error == first.error && s.iterations == first.iterations);
            }
            tf_solution_free(&s);
            t_env_free(env);
        }
        free(first.dense);
    }
    free_problem(&p);
}
END_TEST

START_TEST(not_converging_is_reported)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 30, 30, 6);
    tf_ot_options options = {.reg = 1e-3, .max_iterations = 7};
    tf_solution s = run(env, "sinkhorn", &p, options);
    ck_assert(!s.converged && s.error > 1e-9);
    ck_assert_int_eq(s.iterations, 7);
    tf_solution_free(&s);
    tf_solver_registry registry;
    t_ok(env, tf_solvers_init(env, &registry));
    options.strict = true;
    t_fails(env, tf_ot_solve(env, &registry, "sinkhorn", &options, 30, 30, p.cost, NULL, NULL, &s), TFUSE_ECONVERGE,
            "after 7 iterations");
    tf_solvers_free(&registry);
    t_fails(env, solve_named(env, "sinkhorn", 1e-12, &p, &s), TFUSE_ERANGE, "take solver.name exact");
    t_fails(env, solve_named(env, "sinkhorn", -1, &p, &s), TFUSE_ERANGE, "solver.reg");
    t_fails(env, solve_named(env, "sinkhorn", NAN, &p, &s), TFUSE_ERANGE, "solver.reg");
    free_problem(&p);
    t_env_free(env);
}
END_TEST

static void *cancel_soon(void *arg)
{
    tf_env *env = arg;
    usleep(50000);
    atomic_store(&env->cancelled, 1);
    return NULL;
}

START_TEST(cancelling_ends_it)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_WEIGHTS, 30, 30, 6);
    tf_solver_registry registry;
    tf_solution s;
    pthread_t thread;
    t_ok(env, tf_solvers_init(env, &registry));
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, env), 0);
    tf_ot_options endless = {.reg = 0.1, .tolerance = 1e-300, .max_iterations = INT64_MAX};
    t_fails(env, tf_ot_solve(env, &registry, "sinkhorn", &endless, 30, 30, p.cost, p.mu, p.nu, &s), TFUSE_ECANCELLED, "cancelled");
    ck_assert_ptr_null(s.dense);
    pthread_join(thread, NULL);
    tf_solvers_free(&registry);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    (void)exact_references;
    T_SUITE("sinkhorn");
    T_ADD(the_same_cost_as_pot);
    T_ADD(scaling_stops_where_pot_stops);
    T_ADD(scaling_keeps_the_iterate_at_its_cap);
    T_ADD(any_reg_is_safe);
    T_ADD(a_far_column_gets_its_mass);
    T_ADD(small_reg_approaches_the_exact_cost);
    T_ADD(newton_ends_what_scaling_does_not);
    T_ADD(a_constant_changes_nothing);
    T_ADD(threads_do_not_change_a_bit);
    T_ADD(not_converging_is_reported);
    T_ADD(cancelling_ends_it);
    return t_suite;
}
