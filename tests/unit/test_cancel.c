/* SPDX-License-Identifier: Apache-2.0
 *
 * Cancelling while costs are made and solved: how much work there is between two questions whether to go on, counted rather than timed, and
 * that a yes to any one of them ends the call with nothing left behind (t_env_free counts).
 */
#include "ot_cases.h"
#include "ot/internal.h"

#include <stdatomic.h>

typedef struct stage {
    const char *name; /* of a solver, or what else */
    double reg;
    int cost, mass;
    int64_t n, m;
    int passes; /* over all entries, at least */
} stage;

/* Passes as they are when every loop over the problem's entries asks: one that does not would be missing here. */
static const stage stages[] = {
    {"exact", 0, COST_UNIFORM, MASS_EVEN, 300, 300, 6},
    {"exact", 0, COST_HEAVY, MASS_EVEN, 900, 900, 13},
    {"exact", 0, COST_UNIFORM, MASS_WEIGHTS, 300, 310, 30},
    {"exact", 0, COST_UNIFORM, MASS_ZEROS, 300, 310, 23},
    {"sinkhorn", 0.1, COST_UNIFORM, MASS_EVEN, 300, 200, 15},
    {"sinkhorn", 0.001, COST_UNIFORM, MASS_WEIGHTS, 200, 210, 400},
    {"sinkhorn-scaling", 0.1, COST_UNIFORM, MASS_EVEN, 300, 200, 18},
    {"features", 0, COST_UNIFORM, MASS_EVEN, 300, 280, 7},
    {"turned features", 0, COST_UNIFORM, MASS_EVEN, 300, 280, 9},
    {"twins", 0, COST_UNIFORM, MASS_EVEN, 300, 280, 7},
    {"maximum", 0, COST_TIES, MASS_EVEN, 700, 700, 3},
    {"median", 0, COST_TIES, MASS_EVEN, 700, 700, 6},
};

/* Features are those of the problem's costs as rows, or as columns of their transpose; twins are all the same. */
static tfuse_status make_costs(tf_env *env, const stage *s, const problem *p, float *out)
{
    const int64_t d = 128;
    const bool turned = strcmp(s->name, "turned features") == 0;
    float *x = calloc((size_t)((s->n + s->m) * d), sizeof *x);
    for (int64_t k = 0; k < (s->n + s->m) * d; k++)
        x[k] = strcmp(s->name, "twins") == 0 ? 1 : p->cost[k % (s->n * s->m)];
    tf_mat a = {x, s->n, d, turned ? 1 : d, turned ? s->n : 1}, b = {x + s->n * d, s->m, d, turned ? 1 : d, turned ? s->m : 1};
    tfuse_status status = tf_cost_features(env, TF_METRIC_EUCLIDEAN, a, b, out);
    free(x);
    return status;
}

static tfuse_status run(tf_env *env, const stage *s)
{
    problem p = make_problem(s->cost, s->mass, s->n, s->m, 3);
    tf_solution out = {.n = 0};
    tfuse_status status;
    if (strcmp(s->name, "maximum") == 0 || strcmp(s->name, "median") == 0) {
        status = tf_cost_normalise(env, strcmp(s->name, "median") == 0 ? TF_COST_MEDIAN : TF_COST_MAX, s->n, s->m, p.cost, NULL);
    } else if (!strncmp(s->name, "exact", 5) || !strncmp(s->name, "sinkhorn", 8)) {
        status = solve_named(env, s->name, s->reg, &p, &out);
    } else {
        float *cost = calloc((size_t)(s->n * s->m), sizeof *cost);
        status = make_costs(env, s, &p, cost);
        free(cost);
    }
    tf_solution_free(&out);
    free_problem(&p);
    return status;
}

/* How often it is asked when nobody ever cancels. */
static long long questions(const stage *s)
{
    tf_env *env = t_env(1);
    atomic_llong patience;
    atomic_init(&patience, INT64_C(1) << 60);
    env->patience = &patience;
    t_ok(env, run(env, s));
    t_env_free(env);
    return (INT64_C(1) << 60) - atomic_load(&patience);
}

/* A pass goes by rows, or by entries where a matrix is but a row of numbers. */
static int64_t per_pass(const stage *s)
{
    return s->cost == COST_TIES ? s->n * s->m / TF_POLL_ENTRIES : s->n / TF_POLL_ROWS;
}

START_TEST(every_pass_asks)
{
    for (size_t k = 0; k < TF_LEN(stages); k++) {
        const long long asked = questions(&stages[k]);
        ck_assert_msg(asked >= stages[k].passes * per_pass(&stages[k]), "%s %d x %d asks %lld times", stages[k].name, (int)stages[k].n,
                      (int)stages[k].m, asked);
    }
}
END_TEST

/* At most some thirty places of each, spread over all of it, and the first and last few. */
START_TEST(any_yes_ends_it)
{
    for (size_t k = 0; k < TF_LEN(stages); k++) {
        const long long asked = questions(&stages[k]);
        for (long long at = 0; at < asked; at += at < 5 || at + 6 > asked ? 1 : at + 5 + asked / 20 < asked ? 1 + asked / 20 : asked - 5 - at) {
            tf_env *env = t_env(at % 2 ? 1 : 2);
            atomic_llong patience;
            atomic_init(&patience, at);
            env->patience = &patience;
            tfuse_status status = run(env, &stages[k]);
            ck_assert_msg(status == TFUSE_ECANCELLED, "%s, question %lld of %lld: %d", stages[k].name, at, asked, (int)status);
            t_env_free(env);
        }
    }
}
END_TEST


Suite *make_suite(void)
{
    T_SUITE("cancel");
    T_ADD(every_pass_asks);
    T_ADD(any_yes_ends_it);
    return t_suite;
}
