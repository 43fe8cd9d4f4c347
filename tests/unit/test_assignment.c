/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "ot/internal.h"
#include "ot_cases.h"

static double best_of_all(const problem *p, int64_t i, unsigned used)
{
    double best = i == p->n ? 0 : INFINITY;
    for (int64_t j = 0; i < p->n && j < p->m; j++)
        if (!(used >> j & 1u))
            best = fmin(best, (double)p->cost[i * p->m + j] + best_of_all(p, i + 1, used | 1u << j));
    return best;
}

static double check_assignment(tf_env *env, const problem *p)
{
    tf_solution s;
    t_ok(env, solve_named(env, "exact", 0, p, &s));
    ck_assert_int_eq(s.kind, TF_COUPLING_PERMUTATION);
    bool *taken = calloc((size_t)p->n, sizeof *taken);
    for (int64_t i = 0; i < p->n; i++) {
        if (s.perm[i] < 0 || s.perm[i] >= p->n || taken[s.perm[i]])
            ck_abort_msg("row %d of %d is given column %d", (int)i, (int)p->n, (int)s.perm[i]);
        taken[s.perm[i]] = true;
    }
    free(taken);
    check_optimal(p, &s);
    double cost = s.cost;
    tf_solution_free(&s);
    return cost;
}

START_TEST(small_sizes_match_brute_force)
{
    tf_env *env = t_env(1);
    for (int64_t n = 1; n <= 7; n++) {
        for (int kind = 0; kind < COST_KINDS; kind++) {
            for (unsigned seed = 0; seed < (n < 7 ? 20u : 3u); seed++) {
                problem p = make_problem(kind, MASS_EVEN, n, n, seed);
                double want = best_of_all(&p, 0, 0) / (double)n, got = check_assignment(env, &p);
                ck_assert_msg(fabs(got - want) <= 1e-13 * largest_cost(&p), "n %d kind %d: %.17g, best %.17g", (int)n, kind, got, want);
                free_problem(&p);
            }
        }
    }
    t_env_free(env);
}
END_TEST

START_TEST(every_size_is_certified)
{
    tf_env *env = t_env(1);
    for (int64_t n = 1; n <= 40; n++) {
        for (int kind = 0; kind < COST_KINDS; kind++) {
            problem p = make_problem(kind, MASS_EVEN, n, n, (unsigned)(100 * n + kind));
            check_assignment(env, &p);
            free_problem(&p);
        }
    }
    t_env_free(env);
}
END_TEST

/* Sizes that do not divide the blocks of the kernels, and one from which on short lists are used. */
START_TEST(large_sizes_are_certified)
{
    static const int64_t sizes[] = {255, 256, 257, 300, 1103};
    tf_env *env = t_env(1);
    ck_assert(tf_assignment_lists(1103) && !tf_assignment_lists(300));
    for (size_t k = 0; k < TF_LEN(sizes); k++) {
        for (int kind = 0; kind < COST_KINDS; kind++) {
            problem p = make_problem(kind, MASS_EVEN, sizes[k], sizes[k], (unsigned)kind);
            check_assignment(env, &p);
            free_problem(&p);
        }
    }
    t_env_free(env);
}
END_TEST

enum { ROW = 203, BLOCKS = ROW / TF_LIST_BLOCK };

typedef struct kernel_results {
    double low, low1, low2, nearest, key[ROW], minima[BLOCKS], from[ROW];
    float column[ROW];
    int64_t at, at1, nearest_at, from_at[ROW];
    int32_t column_at[ROW];
    uint32_t bits;
} kernel_results;

static void run_kernels(const tf_kernels *k, const float *cost, const double *v, int64_t m, kernel_results *r)
{
    memset(r, 0, sizeof *r);
    r->low = k->row_min(cost, v, m, &r->at);
    r->low1 = k->row_min2(cost, v, m, &r->at1, &r->low2);
    for (int64_t j = 0; j < m; j++) {
        r->key[j] = j % 3 ? 0.5 : INFINITY;
        r->column[j] = 0.5F;
        r->from[j] = 0.25;
    }
    r->nearest = k->row_relax(cost, v, m, 0.125, r->key, &r->nearest_at);
    k->block_minima(cost, v, m / TF_LIST_BLOCK, r->minima);
    k->column_min(cost, m, 9, r->column, r->column_at);
    k->column_min_from(cost, m, 0.125, 9, r->from, r->from_at);
    r->bits = k->max_bits(cost, m);
}

/* The smallest values in plain loops, and the same bits at every vector width. */
START_TEST(kernels_agree_to_the_bit)
{
    uint64_t state = 77;
    for (int64_t m = 1; m <= ROW; m++) {
        float cost[ROW];
        double v[ROW], low = INFINITY, second = INFINITY;
        int64_t at = -1;
        for (int64_t j = 0; j < m; j++) {
            cost[j] = m % 2 ? (float)(draw(&state) >> 20) : (float)draw_unit(&state) - 0.5F; /* odd m: ties */
            v[j] = m % 2 ? (double)(draw(&state) >> 22) : draw_unit(&state) / 3;
            if (m % 5 == 0 && j % 4 < 2)
                v[j] = -INFINITY; /* taken out */
            double x = (double)cost[j] - v[j];
            second = x < low ? low : fmin(x, second);
            at = x < low ? j : at;
            low = fmin(x, low);
        }
        static kernel_results wide, other;
        run_kernels(tf_kernels_at(2), cost, v, m, &wide);
        ck_assert(wide.low == low && wide.low1 == low && wide.low2 == second && wide.at == at && wide.at1 == at);
        double nearest = INFINITY;
        for (int64_t j = 0; j < m; j++) {
            double key = fmin((double)cost[j] - v[j] + 0.125, j % 3 ? 0.5 : INFINITY), from = fmin((double)cost[j] - 0.125, 0.25);
            nearest = fmin(nearest, key);
            ck_assert(wide.key[j] == key && wide.from[j] == from && wide.from_at[j] == (from < 0.25 ? 9 : 0));
        }
        ck_assert(wide.nearest == nearest && wide.key[wide.nearest_at] == nearest);
        for (int64_t j = 0; j < wide.nearest_at; j++)
            ck_assert(wide.key[j] > nearest);
        for (int level = 0; level < 2; level++) {
            run_kernels(tf_kernels_at(level), cost, v, m, &other);
            ck_assert_msg(memcmp(&wide, &other, sizeof wide) == 0, "level %d differs at m %d", level, (int)m);
        }
    }
}
END_TEST

START_TEST(a_hidden_permutation_is_recovered)
{
    enum { N = 97 };
    tf_env *env = t_env(1);
    uint64_t state = 5;
    problem p = make_problem(COST_UNIFORM, MASS_EVEN, N, N, 5);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < N; j++)
            p.cost[i * N + j] = (float)(j == (i * 31 + 7) % N ? 0.1 * draw_unit(&state) : 1 + draw_unit(&state));
    tf_solution s;
    t_ok(env, solve_named(env, "exact", 0, &p, &s));
    for (int64_t i = 0; i < N; i++)
        ck_assert_int_eq(s.perm[i], (i * 31 + 7) % N);
    tf_solution_free(&s);
    free_problem(&p);
    t_env_free(env);
}
END_TEST

START_TEST(constant_negative_and_extreme_costs)
{
    static const float scales[] = {0, -1, 1e-38F, 1e30F, -3e37F};
    tf_env *env = t_env(1);
    for (size_t k = 0; k < TF_LEN(scales); k++) {
        for (int flat = 0; flat < 2; flat++) {
            problem p = make_problem(COST_UNIFORM, MASS_EVEN, 33, 33, 9);
            for (int64_t i = 0; i < 33 * 33; i++)
                p.cost[i] = (flat ? 1 : p.cost[i]) * scales[k];
            check_assignment(env, &p);
            free_problem(&p);
        }
    }
    t_env_free(env);
}
END_TEST

/* What depends on one number a line is recognised in any order and nearly solved at once (other costs take tens of bids a row);
 * with noise it is still solved. */
START_TEST(costs_of_one_number_a_line)
{
    tf_env *env = t_env(1);
    for (int64_t n = 2; n <= 1000; n = n * 3 / 2 + 1) {
        for (int kind = 0; kind < 6; kind++) {
            problem p = make_problem(COST_UNIFORM, MASS_EVEN, n, n, (unsigned)n);
            double x[1000], y[1000];
            uint64_t state = (uint64_t)(n + kind);
            for (int64_t i = 0; i < n; i++) {
                x[i] = (double)(draw(&state) % 2000) - 1000;
                y[i] = (double)(draw(&state) % 2000) - 1000;
            }
            for (int64_t k = 0; k < n * n; k++) {
                double a = x[k / n], b = y[k % n], noise = kind >= 4 ? draw_unit(&state) * (kind == 4 ? 1e-3 : 1e5) : 0;
                p.cost[k] = (float)((kind == 0 ? a * b : kind == 1 ? fabs(a - b) : kind == 2 ? -a * b : (a - b) * (a - b)) + noise);
            }
            tf_solution s;
            t_ok(env, solve_named(env, "exact", 0, &p, &s));
            check_optimal(&p, &s);
            if (kind != 1 && kind < 4 && n >= 32)
                ck_assert_msg(s.iterations < n, "n %d kind %d: %d steps", (int)n, kind, (int)s.iterations);
            tf_solution_free(&s);
            free_problem(&p);
        }
    }
    t_env_free(env);
}
END_TEST

START_TEST(cancelling_ends_it)
{
    tf_env *env = t_env(1);
    problem p = make_problem(COST_PRODUCT, MASS_EVEN, 64, 64, 1);
    int64_t perm[64], steps;
    double u[64], v[64], largest = 1;
    atomic_store(&env->cancelled, 1);
    t_fails(env, tf_assignment(env, 64, p.cost, NULL, &largest, perm, u, v, &steps), TFUSE_ECANCELLED, "cancelled");
    free_problem(&p);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("assignment");
    T_ADD(small_sizes_match_brute_force);
    T_ADD(every_size_is_certified);
    T_ADD(large_sizes_are_certified);
    T_ADD(kernels_agree_to_the_bit);
    T_ADD(a_hidden_permutation_is_recovered);
    T_ADD(constant_negative_and_extreme_costs);
    T_ADD(costs_of_one_number_a_line);
    T_ADD(cancelling_ends_it);
    return t_suite;
}
