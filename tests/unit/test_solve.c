/* SPDX-License-Identifier: Apache-2.0
 *
 * What holds of every solver at the door to them: starts from potentials, batches, cancelling, threads.
 */
#include "ot_cases.h"

typedef struct setting {
    const char *solver;
    double reg;
    int64_t n, m;
    int mass;
} setting;

static const setting settings[] = {
    {"exact", 0, 120, 120, MASS_EVEN},       {"exact", 0, 700, 700, MASS_EVEN},      {"exact", 0, 90, 130, MASS_EVEN},
    {"exact", 0, 160, 160, MASS_WEIGHTS},    {"exact", 0, 140, 90, MASS_ZEROS},      {"sinkhorn", 0.02, 120, 120, MASS_EVEN},
    {"sinkhorn", 0.005, 90, 130, MASS_WEIGHTS}, {"sinkhorn", 0.02, 70, 80, MASS_ZEROS},
};

static tfuse_status solve_from(tf_env *env, const setting *s, const problem *p, const double *u, const double *v, tf_solution *out)
{
    tf_solver_registry registry;
    tf_ot_options options = {.u = u, .v = v, .reg = s->reg};
    tfuse_status status = tf_solvers_init(env, &registry);
    if (status == TFUSE_OK)
        status = tf_ot_solve(env, &registry, s->solver, &options, p->n, p->m, p->cost, p->mu, p->nu, out);
    tf_solvers_free(&registry);
    return status;
}

/* The problem with every cost moved a little. */
static void disturb(problem *p, double amount, uint64_t seed)
{
    for (int64_t k = 0; k < p->n * p->m; k++)
        p->cost[k] += (float)(amount * draw_unit(&seed));
}

/* Exact results agree to rounding; Sinkhorn stops at an error of 1e-9, which moves the cost by about as much. */
static void check_same(const setting *s, const problem *p, const tf_solution *cold, const tf_solution *warm)
{
    const bool exact = !strcmp(s->solver, "exact");
    ck_assert_msg(fabs(cold->cost - warm->cost) <= (exact ? 1e-12 : 1e-8) * largest_cost(p), "%s %d x %d: %.17g from potentials, not %.17g",
                  s->solver, (int)s->n, (int)s->m, warm->cost, cold->cost);
    if (exact)
        check_optimal(p, warm);
    ck_assert(warm->converged);
}

START_TEST(potentials_of_a_neighbour_save_work)
{
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(settings); k++) {
        const setting *s = &settings[k];
        problem p = make_problem(COST_UNIFORM, s->mass, s->n, s->m, 3);
        tf_solution before, cold, warm, other;
        t_ok(env, solve_from(env, s, &p, NULL, NULL, &before));
        disturb(&p, 1e-5, 5);
        t_ok(env, solve_from(env, s, &p, NULL, NULL, &cold));
        t_ok(env, solve_from(env, s, &p, before.u, before.v, &warm));
        check_same(s, &p, &cold, &warm);
        ck_assert_msg(warm.iterations * 5 < cold.iterations * 4, "%s %d x %d: %lld steps from potentials, %lld without", s->solver, (int)s->n,
                      (int)s->m, (long long)warm.iterations, (long long)cold.iterations);
        ck_assert_ptr_nonnull(strstr(warm.method, "from potentials"));
        t_ok(env, solve_from(env, s, &p, before.u, NULL, &other)); /* one side is enough */
        check_same(s, &p, &cold, &other);
        tf_solution_free(&before);
        tf_solution_free(&cold);
        tf_solution_free(&warm);
        tf_solution_free(&other);
        free_problem(&p);
    }
    t_env_free(env);
}
END_TEST

START_TEST(wild_potentials_do_no_harm)
{
    enum { SCALE, ALTERNATE, HUGE_ONE, EXTREME, WRONG, CONSTANT, KINDS };
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(settings); k++) {
        setting s = settings[k];
        s.n = s.n > 150 ? 90 : s.n / 2;
        s.m = settings[k].n == settings[k].m ? s.n : s.m / 2;
        problem p = make_problem(COST_UNIFORM, s.mass, s.n, s.m, 4);
        tf_solution cold, warm;
        double v[200];
        t_ok(env, solve_from(env, &s, &p, NULL, NULL, &cold));
        for (int kind = 0; kind < KINDS; kind++) {
            uint64_t state = (uint64_t)kind + 9;
            for (int64_t j = 0; j < s.m; j++) {
                double x = draw_unit(&state) - 0.5;
                v[j] = kind == SCALE     ? 1e12 * x
                       : kind == ALTERNATE ? (j % 2 ? 1e300 : -1e300)
                       : kind == HUGE_ONE  ? (j == 3 ? 1e200 : x)
                       : kind == EXTREME   ? (j % 3 ? 1.7e308 : -1.7e308)
                       : kind == WRONG     ? -4 * x
                                           : 1e18;
            }
            t_ok(env, solve_from(env, &s, &p, NULL, v, &warm));
            check_same(&s, &p, &cold, &warm);
            tf_solution_free(&warm);
        }
        tf_solution_free(&cold);
        free_problem(&p);
    }
    t_env_free(env);
}
END_TEST

/* Whoever reads the costs first: the door, or column reduction on its way. */
START_TEST(costs_that_are_not_finite_are_named)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const char *const name[] = {"cost[17, 69] is ", "cost[17, 39] is "};
    static const setting s[] = {{"exact", 0, 70, 70, MASS_EVEN}, {"exact", 0, 70, 40, MASS_EVEN}};
    tf_env *env = t_env(2);
    for (size_t k = 0; k < TF_LEN(s); k++) {
        problem p = make_problem(COST_UNIFORM, MASS_EVEN, s[k].n, s[k].m, 1);
        double u[70] = {0}, v[70] = {0};
        tf_solution out;
        for (size_t i = 0; i < TF_LEN(bad); i++) {
            p.cost[17 * s[k].m + s[k].m - 1] = bad[i];
            t_fails(env, solve_from(env, &s[k], &p, NULL, NULL, &out), TFUSE_ENUMERIC, name[k]);
            t_fails(env, solve_from(env, &s[k], &p, u, v, &out), TFUSE_ENUMERIC, name[k]);
        }
        free_problem(&p);
    }
    t_env_free(env);
}
END_TEST

START_TEST(bad_potentials_are_named)
{
    static const setting s = {"exact", 0, 4, 5, MASS_EVEN};
    tf_env *env = t_env(1);
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, 4, 5, 1);
    double u[4] = {0, 0, 0, 0}, v[5] = {0, 0, 0, 0, 0};
    tf_solution out;
    u[2] = NAN;
    t_fails(env, solve_from(env, &s, &p, u, v, &out), TFUSE_ENUMERIC, "u[2] is nan");
    u[2] = 0;
    v[4] = INFINITY;
    t_fails(env, solve_from(env, &s, &p, u, v, &out), TFUSE_ENUMERIC, "v[4] is inf");
    v[4] = -INFINITY;
    t_fails(env, solve_from(env, &s, &p, NULL, v, &out), TFUSE_ENUMERIC, "v[4] is -inf");
    p.nu[0] += p.nu[4];
    p.nu[4] = 0;
    t_ok(env, solve_from(env, &s, &p, NULL, v, &out)); /* no mass, as entropic potentials have it */
    check_optimal(&p, &out);
    tf_solution_free(&out);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

/* ---- batches ------------------------------------------------------------------------------------- */

enum { TASKS = 12 };

typedef struct tasks {
    problem of[TASKS];
    tf_ot_problem row[TASKS];
    tf_solution out[TASKS];
    tf_solver_registry registry;
} tasks;

static void make_tasks(tf_env *env, tasks *t)
{
    t_ok(env, tf_solvers_init(env, &t->registry));
    for (int k = 0; k < TASKS; k++) {
        t->of[k] = make_problem(k % COST_KINDS, k % MASS_KINDS, 20 + 7 * (k % 5), 30 + 5 * (k % 4), (unsigned)k + 1);
        t->row[k] = (tf_ot_problem){t->of[k].n, t->of[k].m, t->of[k].cost, t->of[k].mu, t->of[k].nu, NULL, NULL};
    }
}

static void free_tasks(tasks *t)
{
    for (int k = 0; k < TASKS; k++)
        free_problem(&t->of[k]);
    tf_solvers_free(&t->registry);
}

static tfuse_status solve_tasks(tf_env *env, tasks *t, const char *name)
{
    tf_ot_options options = {.reg = 0.05, .tolerance = 1e-6};
    return tf_ot_solve_batch(env, &t->registry, name, &options, TASKS, t->row, t->out);
}

static void check_same_bits(const tf_solution *a, const tf_solution *b)
{
    ck_assert(a->kind == b->kind && a->n == b->n && a->m == b->m && a->nnz == b->nnz && a->iterations == b->iterations);
    ck_assert_mem_eq(&a->cost, &b->cost, sizeof a->cost);
    ck_assert_mem_eq(&a->gap, &b->gap, sizeof a->gap);
    ck_assert_mem_eq(a->u, b->u, (size_t)a->n * sizeof *a->u);
    ck_assert_mem_eq(a->v, b->v, (size_t)a->m * sizeof *a->v);
    float *x = calloc((size_t)(a->n * a->m), sizeof *x), *y = calloc((size_t)(a->n * a->m), sizeof *y);
    tf_solution_dense(a, x);
    tf_solution_dense(b, y);
    ck_assert_mem_eq(x, y, (size_t)(a->n * a->m) * sizeof *x);
    free(x);
    free(y);
}

START_TEST(batches_give_the_bits_of_single_solves)
{
    static const char *const names[] = {"exact", "sinkhorn"};
    static const uint32_t threads[] = {1, 2, 7};
    for (size_t name = 0; name < TF_LEN(names); name++) {
        for (size_t k = 0; k < TF_LEN(threads); k++) {
            tf_env *env = t_env(threads[k]);
            tasks t;
            make_tasks(env, &t);
            t_ok(env, solve_tasks(env, &t, names[name]));
            for (int i = 0; i < TASKS; i++) {
                tf_solution single;
                tf_ot_options options = {.reg = 0.05, .tolerance = 1e-6};
                t_ok(env, tf_ot_solve(env, &t.registry, names[name], &options, t.of[i].n, t.of[i].m, t.of[i].cost, t.of[i].mu, t.of[i].nu,
                                      &single));
                check_same_bits(&single, &t.out[i]);
                tf_solution_free(&single);
                tf_solution_free(&t.out[i]);
            }
            free_tasks(&t);
            t_env_free(env);
        }
    }
}
END_TEST

/* A single problem large enough that its loops are cut into pieces. */
START_TEST(threads_do_not_change_a_bit)
{
    static const setting large[] = {{"exact", 0, 900, 900, MASS_EVEN}, {"exact", 0, 260, 310, MASS_WEIGHTS}, {"sinkhorn", 0.01, 300, 280, MASS_EVEN}};
    static const uint32_t threads[] = {2, 7};
    for (size_t k = 0; k < TF_LEN(large); k++) {
        problem p = make_problem(COST_UNIFORM, large[k].mass, large[k].n, large[k].m, 8);
        tf_env *one = t_env(1);
        tf_solution first, other;
        t_ok(one, solve_from(one, &large[k], &p, NULL, NULL, &first));
        for (size_t l = 0; l < TF_LEN(threads); l++) {
            tf_env *env = t_env(threads[l]);
            t_ok(env, solve_from(env, &large[k], &p, NULL, NULL, &other));
            check_same_bits(&first, &other);
            tf_solution_free(&other);
            t_env_free(env);
        }
        tf_solution_free(&first);
        t_env_free(one);
        free_problem(&p);
    }
}
END_TEST

START_TEST(the_first_failure_of_a_batch_is_reported)
{
    static const uint32_t threads[] = {1, 2, 7};
    for (size_t k = 0; k < TF_LEN(threads); k++) {
        tf_env *env = t_env(threads[k]);
        tasks t;
        make_tasks(env, &t);
        t.of[9].cost[3] = NAN;
        t.of[4].cost[1] = INFINITY;
        t.of[11].mu[0] = -1;
        t_fails(env, solve_tasks(env, &t, "exact"), TFUSE_ENUMERIC, "problem 4: cost[0, 1] is inf");
        for (int i = 0; i < TASKS; i++)
            ck_assert(!t.out[i].u && !t.out[i].perm && !t.out[i].rows);
        t_fails(env, solve_tasks(env, &t, "nothing"), TFUSE_EKEY, "problem 0: solver.name 'nothing'");
        free_tasks(&t);
        t_env_free(env);
    }
}
END_TEST

/* ---- cancelling ---------------------------------------------------------------------------------- */

typedef struct watcher {
    int calls, stop_at;
} watcher;

static int32_t watch(void *user, const tfuse_progress *progress)
{
    watcher *w = user;
    ck_assert_str_eq(progress->stage, "solving");
    ck_assert(progress->total == 0 || progress->done <= progress->total);
    return ++w->calls >= w->stop_at;
}

/* Refusing in the callback ends a solve wherever it is, and leaves nothing: t_env_free counts. */
START_TEST(refusing_in_the_callback_cancels)
{
    static const setting slow[] = {{"exact", 0, 700, 700, MASS_EVEN}, {"exact", 0, 300, 310, MASS_WEIGHTS}, {"sinkhorn", 0.001, 200, 200, MASS_EVEN}};
    for (size_t k = 0; k < TF_LEN(slow); k++) {
        tf_env *env = t_env(2);
        watcher w = {0, 1};
        env->progress = watch;
        env->progress_user = &w;
        problem p = make_problem(COST_UNIFORM, slow[k].mass, slow[k].n, slow[k].m, 6);
        tf_solution out;
        t_fails(env, solve_from(env, &slow[k], &p, NULL, NULL, &out), TFUSE_ECANCELLED, "cancelled");
        ck_assert_int_eq(w.calls, 1);
        free_problem(&p);
        t_env_free(env);
    }
}
END_TEST

START_TEST(refusing_in_the_callback_cancels_a_batch)
{
    static const uint32_t threads[] = {1, 2, 7};
    for (size_t k = 0; k < TF_LEN(threads); k++) {
        for (int stop_at = 1; stop_at < 3; stop_at++) {
            tf_env *env = t_env(threads[k]);
            watcher w = {0, stop_at};
            tasks t;
            make_tasks(env, &t);
            env->progress = watch;
            env->progress_user = &w;
            t_fails(env, solve_tasks(env, &t, "sinkhorn"), TFUSE_ECANCELLED, "cancelled");
            for (int i = 0; i < TASKS; i++)
                ck_assert(!t.out[i].dense);
            env->progress = NULL;
            atomic_store(&env->cancelled, 1); /* as from another thread, before it begins */
            t_fails(env, solve_tasks(env, &t, "exact"), TFUSE_ECANCELLED, "cancelled");
            free_tasks(&t);
            t_env_free(env);
        }
    }
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("solve");
    T_ADD(potentials_of_a_neighbour_save_work);
    T_ADD(wild_potentials_do_no_harm);
    T_ADD(costs_that_are_not_finite_are_named);
    T_ADD(bad_potentials_are_named);
    T_ADD(batches_give_the_bits_of_single_solves);
    T_ADD(threads_do_not_change_a_bit);
    T_ADD(the_first_failure_of_a_batch_is_reported);
    T_ADD(refusing_in_the_callback_cancels);
    T_ADD(refusing_in_the_callback_cancels_a_batch);
    return t_suite;
}
