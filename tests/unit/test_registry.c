/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of solvers and tf_ot_solve: solvers of the caller's, bad problems, memory.
 */
#include "ot_cases.h"
#include <stdio.h>

/* ---- a caller's solver -------------------------------------------------------------------------- */

typedef enum act { INDEPENDENT, SHIFTED, SHIFTED_PRICED, SHIFTED_OPTIMAL, UNPROVED, NOT_A_NUMBER, NEGATIVE, TOO_MUCH, BAD_PRICE, FAILS, CANCELS } act;

typedef struct script {
    tf_env *env;
    act act;
    int calls;
} script;

static void prices_of_exact(tf_env *env, const tfuse_problem *p, tfuse_result *result)
{
    tf_solution exact;
    t_ok(env, tf_transport(env, p->n, p->m, p->cost, p->mu, p->nu, NULL, &exact));
    memcpy(result->u, exact.u, (size_t)p->n * sizeof *exact.u);
    memcpy(result->v, exact.v, (size_t)p->m * sizeof *exact.v);
    result->has_potentials = 1;
    tf_solution_free(&exact);
}

static tfuse_status scripted(void *user, const tfuse_problem *p, tfuse_result *result, int32_t (*cancelled)(const void *env),
                             const void *env)
{
    script *s = user;
    s->calls++;
    ck_assert_uint_eq(p->struct_size, sizeof *p);
    ck_assert_double_eq(p->reg, 0.25);
    for (int64_t k = 0; k < p->n * p->m; k++) {
        ck_assert(result->coupling[k] == 0);
        result->coupling[k] = (float)(p->mu[k / p->m] * p->nu[k % p->m]);
    }
    for (int64_t k = 0; (s->act == SHIFTED || s->act == SHIFTED_PRICED || s->act == SHIFTED_OPTIMAL) && k < p->n * p->m; k++)
        result->coupling[k] = k % p->m == (k / p->m + 1) % p->m ? (float)p->mu[k / p->m] : 0;
    if (s->act == SHIFTED_PRICED || s->act == SHIFTED_OPTIMAL || s->act == BAD_PRICE)
        prices_of_exact(s->env, p, result);
    if (s->act == BAD_PRICE)
        result->v[1] = NAN;
    if (s->act == NOT_A_NUMBER)
        result->coupling[p->m + 2] = NAN;
    if (s->act == NEGATIVE)
        result->coupling[2 * p->m] = -0.5F;
    if (s->act == TOO_MUCH)
        result->coupling[0] += 0.5F;
    if (s->act == CANCELS)
        atomic_store(&s->env->cancelled, 1);
    result->converged = 1;
    result->optimal = s->act == SHIFTED_OPTIMAL || s->act == UNPROVED;
    result->iterations = 42;
    if (cancelled(env))
        return TFUSE_ECANCELLED;
    return s->act == FAILS ? -12345 : TFUSE_OK;
}

static const tfuse_solver_ops scripted_ops = {sizeof(tfuse_solver_ops), "my-solver_1", scripted};

static tfuse_status run_script(tf_env *env, act what, const problem *p, tf_solution *s)
{
    tf_solver_registry registry;
    script plan = {env, what, 0};
    tf_ot_options options = {.reg = 0.25};
    tfuse_status status = tf_solvers_init(env, &registry);
    if (status == TFUSE_OK)
        status = tf_solvers_add(env, &registry, &scripted_ops, &plan);
    if (status == TFUSE_OK)
        status = tf_ot_solve(env, &registry, "my-solver_1", &options, p->n, p->m, p->cost, p->mu, p->nu, s);
    tf_solvers_free(&registry);
    return status;
}

START_TEST(a_callers_solver_is_measured)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 8, 8, 1);
    tf_solution s;
    t_ok(env, run_script(env, INDEPENDENT, &p, &s));
    double mean = 0;
    for (int k = 0; k < 64; k++)
        mean += (double)p.cost[k] / 64;
    ck_assert_int_eq(s.kind, TF_COUPLING_DENSE);
    ck_assert_double_le(fabs(s.cost - mean), 1e-12); /* masses 1/64 are exact in float32 */
    ck_assert(isnan(s.gap) && s.u == NULL && s.v == NULL && s.converged && s.iterations == 42);
    ck_assert_double_le(s.error, 1e-15);
    tf_solution_free(&s);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

/* A feasible but wrong coupling with honest prices: the certificate says by how much. */
START_TEST(the_certificate_catches_a_wrong_coupling)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 8, 8, 1);
    tf_solution exact, s;
    t_ok(env, solve_named(env, "exact", 0, &p, &exact));
    t_ok(env, run_script(env, SHIFTED_PRICED, &p, &s));
    ck_assert_double_gt(s.gap, 0.1);
    ck_assert_double_le(fabs(s.gap - (s.cost - exact.cost)), 1e-12);
    tf_solution_free(&s);
    t_ok(env, run_script(env, SHIFTED, &p, &s));
    ck_assert(isnan(s.gap));
    tf_solution_free(&s);
    tf_solution_free(&exact);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

START_TEST(a_callers_solver_is_not_believed)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 8, 8, 1);
    tf_solution s;
    t_fails(env, run_script(env, NOT_A_NUMBER, &p, &s), TFUSE_ENUMERIC, "'my-solver_1' returned coupling[1, 2] = nan");
    t_fails(env, run_script(env, NEGATIVE, &p, &s), TFUSE_ENUMERIC, "coupling[2, 0] = -0.5");
    t_fails(env, run_script(env, BAD_PRICE, &p, &s), TFUSE_ENUMERIC, "v[1] = nan");
    t_fails(env, run_script(env, FAILS, &p, &s), TFUSE_ECALLBACK, "failed with status -12345");
    t_fails(env, run_script(env, TOO_MUCH, &p, &s), TFUSE_ENUMERIC, "marginals are off by 1 (L1)"); /* half a unit, in a row and a column */
    t_fails(env, run_script(env, SHIFTED_OPTIMAL, &p, &s), TFUSE_ENUMERIC, "says that its coupling is optimal, but its cost");
    t_fails(env, run_script(env, UNPROVED, &p, &s), TFUSE_ENUMERIC, "no potentials to prove it");
    t_fails(env, run_script(env, CANCELS, &p, &s), TFUSE_ECANCELLED, "cancelled");
    free_problem(&p);
    t_env_free(env);
}
END_TEST

/* ---- the table --------------------------------------------------------------------------------- */

typedef struct longer_ops {
    tfuse_solver_ops ops;
    void (*newer)(void);
} longer_ops;

static void newer_function(void)
{
}

START_TEST(the_table_takes_good_rows_only)
{
    tf_env *env = t_env(1);
    tf_solver_registry registry;
    char names[128], tiny[8];
    t_ok(env, tf_solvers_init(env, &registry));
    t_ok(env, tf_solvers_names(env, &registry, names, sizeof names));
    ck_assert_str_eq(names, "exact, sinkhorn, sinkhorn-scaling");
    t_fails(env, tf_solvers_names(env, &registry, tiny, sizeof tiny), TFUSE_ERANGE, "8 bytes");
    t_ok(env, tf_solvers_add(env, &registry, &scripted_ops, NULL));
    ck_assert(tf_solvers_has(&registry, "my-solver_1") && !tf_solvers_has(&registry, "my-solver"));
    t_fails(env, tf_solvers_add(env, &registry, &scripted_ops, NULL), TFUSE_EINVAL, "taken");
    static const struct {
        tfuse_solver_ops ops;
        tfuse_status status;
    } bad[] = {
        {{sizeof(tfuse_solver_ops), "exact", scripted}, TFUSE_EINVAL},  {{sizeof(tfuse_solver_ops), NULL, scripted}, TFUSE_EINVAL},
        {{sizeof(tfuse_solver_ops), "", scripted}, TFUSE_EINVAL},       {{sizeof(tfuse_solver_ops), "a b", scripted}, TFUSE_EINVAL},
        {{sizeof(tfuse_solver_ops), "caf\xc3\xa9", scripted}, TFUSE_EINVAL}, {{sizeof(tfuse_solver_ops), "x", NULL}, TFUSE_EINVAL},
        {{8, "x", scripted}, TFUSE_EVERSION},
    };
    for (size_t k = 0; k < TF_LEN(bad); k++)
        t_fails(env, tf_solvers_add(env, &registry, &bad[k].ops, NULL), bad[k].status, "solver");
    t_fails(env, tf_solvers_add(env, &registry, NULL, NULL), TFUSE_EINVAL, "NULL");
    longer_ops longer = {{sizeof longer, "longer", scripted}, newer_function};
    t_fails(env, tf_solvers_add(env, &registry, &longer.ops, NULL), TFUSE_EVERSION, "struct_size");
    longer.newer = NULL;
    t_ok(env, tf_solvers_add(env, &registry, &longer.ops, NULL));
    for (int k = 0; k < 40; k++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", k);
        t_ok(env, tf_solvers_add(env, &registry, &(tfuse_solver_ops){sizeof(tfuse_solver_ops), name, scripted}, NULL));
    }
    ck_assert(tf_solvers_has(&registry, "s0") && tf_solvers_has(&registry, "s39"));
    tf_solvers_free(&registry);
    t_env_free(env);
}
END_TEST

START_TEST(bad_problems_are_named)
{
    tf_env *env = t_env(1);
    tf_solver_registry registry;
    tf_ot_options options = {.reg = 0.1};
    tf_solution s;
    float cost[6] = {1, 2, 3, 4, 5, 6};
    double mu[2] = {1, 1}, nu[3] = {1, 0.5, 0.5};
    t_ok(env, tf_solvers_init(env, &registry));
#define SOLVE(name, n, m) tf_ot_solve(env, &registry, name, &options, n, m, cost, mu, nu, &s)
    t_fails(env, SOLVE("nearest", 2, 3), TFUSE_EKEY, "'nearest' is not a solver; there are: exact, sinkhorn, sinkhorn-scaling");
    t_fails(env, SOLVE("exact", 0, 3), TFUSE_ESHAPE, "0 x 3");
    t_fails(env, SOLVE("exact", 2, -3), TFUSE_ESHAPE, "2 x -3");
    t_fails(env, SOLVE("exact", INT64_C(1) << 40, INT64_C(1) << 40), TFUSE_ESHAPE, "too large");
    cost[5] = NAN;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "cost[1, 2] is nan");
    cost[5] = 6;
    cost[1] = -INFINITY;
    t_fails(env, SOLVE("sinkhorn", 2, 3), TFUSE_ENUMERIC, "cost[0, 1] is -inf");
    cost[1] = 2;
    mu[1] = -0.25;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "mu[1] is -0.25");
    mu[1] = INFINITY;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "mu[1] is inf");
    mu[1] = 1.00001;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "mu sums to 2.00001 and nu to 2");
    mu[1] = 1.0000001; /* within 1e-6: scaled away */
    t_ok(env, SOLVE("exact", 2, 3));
    tf_solution_free(&s);
    mu[0] = mu[1] = 0;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "mu sums to 0");
    mu[0] = mu[1] = 1;
    nu[2] = NAN;
    t_fails(env, SOLVE("exact", 2, 3), TFUSE_ENUMERIC, "nu[2] is nan");
    ck_assert_ptr_null(s.dense);
#undef SOLVE
    tf_solvers_free(&registry);
    t_env_free(env);
}
END_TEST

static void keep_line(void *user, int32_t level, const char *line)
{
    if (level == TFUSE_LOG_INFO)
        snprintf(user, 200, "%s", line);
}

static void check_choice(tf_env *env, const char *line, int64_t n, int64_t m, const double *mu, tf_coupling_kind kind, const char *why)
{
    float cost[12] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    tf_solver_registry registry;
    tf_ot_options options = {0};
    tf_solution s;
    t_ok(env, tf_solvers_init(env, &registry));
    t_ok(env, tf_ot_solve(env, &registry, "exact", &options, n, m, cost, mu, NULL, &s));
    ck_assert_int_eq(s.kind, kind);
    ck_assert_msg(strstr(line, why) != NULL, "'%s' does not say '%s'", line, why);
    tf_solution_free(&s);
    tf_solvers_free(&registry);
}

START_TEST(exact_chooses_and_says_why)
{
    static const double even[] = {5, 5, 5}, uneven[] = {1, 2, 3};
    char line[200] = "";
    tf_env *env = t_env(1);
    env->log = keep_line;
    env->log_user = line;
    env->log_level = TFUSE_LOG_INFO;
    check_choice(env, line, 3, 3, NULL, TF_COUPLING_PERMUTATION, "assignment: square, uniform masses");
    check_choice(env, line, 3, 3, even, TF_COUPLING_PERMUTATION, "assignment");
    check_choice(env, line, 3, 3, uneven, TF_COUPLING_SPARSE, "network simplex: row masses are not uniform");
    check_choice(env, line, 3, 4, NULL, TF_COUPLING_SPARSE, "network simplex: n differs from m");
    t_env_free(env);
}
END_TEST

START_TEST(every_form_unfolds_to_dense)
{
    static const char *const names[] = {"exact", "sinkhorn", "sinkhorn-scaling"};
    tf_env *env = t_env(1);
    for (int mass = 0; mass < 2; mass++) {
        problem p = make_problem(COST_UNIFORM, mass ? MASS_WEIGHTS : MASS_EVEN, 9, 9, 2);
        for (size_t k = 0; k < TF_LEN(names); k++) {
            tf_solution s;
            float dense[81];
            double cost = 0, total = 0;
            t_ok(env, solve_named(env, names[k], 0.2, &p, &s));
            tf_solution_dense(&s, dense);
            for (int i = 0; i < 81; i++) {
                cost += (double)dense[i] * (double)p.cost[i];
                total += (double)dense[i];
            }
            /* 1e-7: entries are rounded to float32 */
            ck_assert_double_le(fabs(cost - s.cost), 1e-7);
            ck_assert_double_le(fabs(total - 1), 1e-7);
            tf_solution_free(&s);
        }
        free_problem(&p);
    }
    tf_solution nothing = {0};
    tf_solution_free(&nothing);
    t_env_free(env);
}
END_TEST

START_TEST(the_dual_bound_is_feasible)
{
    float cost[6] = {4, 7, 1, 2, 9, 5};
    double mu[2] = {0.5, 0.5}, nu[3] = {0.25, 0.25, 0.5}, u[2] = {100, -50}, v[3] = {1, 2, -3};
    tf_env *env = t_env(1);
    double bound = tf_dual_bound(env, 2, 3, cost, mu, nu, u, v);
    t_env_free(env);
    ck_assert_double_eq(u[0], 3); /* min(4 - 1, 7 - 2, 1 + 3) */
    ck_assert_double_eq(u[1], -50); /* lower than needed stays */
    ck_assert_double_eq(bound, 0.5 * 3 - 0.5 * 50 + 0.25 + 0.5 - 1.5);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------ */

typedef struct short_memory {
    long left, live;
} short_memory;

static void *short_alloc(void *user, size_t size, size_t align)
{
    short_memory *m = user;
    if (m->left-- <= 0)
        return NULL;
    m->live++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void short_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)size, (void)align;
    ((short_memory *)user)->live--;
    free(ptr);
}

/* Solves again and again, with one more allocation granted each time. */
START_TEST(running_out_of_memory_leaves_nothing)
{
    static const char *const names[] = {"exact", "exact", "sinkhorn", "sinkhorn-scaling", NULL};
    for (size_t k = 0; k < TF_LEN(names); k++) {
        problem p = make_problem(COST_UNIFORM, k == 1 ? MASS_ZEROS : MASS_EVEN, 6, 6, 2);
        tfuse_status status = TFUSE_ENOMEM;
        for (long granted = 0; status != TFUSE_OK; granted++) {
            tf_env env;
            short_memory memory = {granted, 0};
            tf_mem mem = {sizeof mem, &memory, short_alloc, short_free};
            tf_env_init(&env, &mem);
            tf_solution s = {0};
            status = names[k] ? solve_named(&env, names[k], 0.2, &p, &s) : run_script(&env, INDEPENDENT, &p, &s);
            ck_assert_msg(status == TFUSE_OK || status == TFUSE_ENOMEM, "status %d: %s", (int)status, env.error);
            tf_solution_free(&s);
            ck_assert_msg(memory.live == 0, "%ld blocks left after %ld", memory.live, granted);
            ck_assert_int_lt(granted, 200);
        }
        free_problem(&p);
    }
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("registry");
    T_ADD(a_callers_solver_is_measured);
    T_ADD(the_certificate_catches_a_wrong_coupling);
    T_ADD(a_callers_solver_is_not_believed);
    T_ADD(the_table_takes_good_rows_only);
    T_ADD(bad_problems_are_named);
    T_ADD(exact_chooses_and_says_why);
    T_ADD(every_form_unfolds_to_dense);
    T_ADD(the_dual_bound_is_feasible);
    T_ADD(running_out_of_memory_leaves_nothing);
    return t_suite;
}
