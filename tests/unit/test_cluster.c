/* SPDX-License-Identifier: Apache-2.0
 *
 * Clusters of equal size, against every partition there is.
 */
#include <math.h>
#include "moe/cluster.h"
#include "t.h"

static tf_solver_registry solvers_of(tf_env *env)
{
    tf_solver_registry r;
    t_ok(env, tf_solvers_init(env, &r));
    return r;
}

/* The tightest of all partitions of p->count points into equal clusters, point by point into clusters that have room, the first empty one standing for all. */
static void every_partition(tf_env *env, const tf_points *p, int64_t at, int64_t *of, int64_t *sizes, double *best)
{
    if (at == p->count) {
        double spread;
        t_ok(env, tf_cluster_spread(env, p, of, &spread));
        *best = fmin(*best, spread);
        return;
    }
    for (int64_t e = 0; e < p->clusters; e++) {
        if (sizes[e] == p->count / p->clusters)
            continue;
        of[at] = e;
        sizes[e]++;
        every_partition(env, p, at + 1, of, sizes, best);
        if (--sizes[e] == 0)
            break;
    }
}

START_TEST(as_tight_as_the_tightest)
{
    enum { N = 9, D = 4, E = 3, CASES = 25 };
    tf_env *env = t_env(1);
    tf_solver_registry solvers = solvers_of(env);
    for (uint64_t seed = 0; seed < CASES; seed++) {
        float x[N * D];
        int64_t of[N], again[N], sizes[E] = {0}, counts[E] = {0};
        double best = INFINITY, spread;
        tf_cluster_result r;
        t_fill(x, N * D, 100 + seed);
        const tf_points p = {x, N, D, E};
        every_partition(env, &p, 0, of, sizes, &best);
        t_ok(env, tf_cluster(env, &solvers, &p, seed, "test", 8, of, &r));
        t_ok(env, tf_cluster_spread(env, &p, of, &spread));
        ck_assert_msg(spread <= best * (1 + 1e-9), "seed %d: %.12g, the tightest is %.12g", (int)seed, spread, best);
        ck_assert_double_eq(spread, r.spread);
        for (int i = 0; i < N; i++)
            counts[of[i]]++;
        for (int e = 0; e < E; e++)
            ck_assert_int_eq(counts[e], N / E);
        t_ok(env, tf_cluster(env, &solvers, &p, seed, "test", 8, again, &r));
        ck_assert_mem_eq(of, again, sizeof of);
    }
    tf_solvers_free(&solvers);
    t_env_free(env);
}
END_TEST

/* Clusters that are there are found, with any number of threads the same. */
START_TEST(planted_clusters)
{
    enum { N = 48, D = 6, E = 4 };
    int64_t of[2][N];
    for (uint32_t threads = 1; threads <= 2; threads++) {
        tf_env *env = t_env(threads);
        tf_solver_registry solvers = solvers_of(env);
        float x[N * D];
        tf_cluster_result r;
        t_fill(x, N * D, 7);
        for (int i = 0; i < N; i++)
            for (int k = 0; k < D; k++)
                x[i * D + k] = 0.05f * x[i * D + k] + (float)(i % E == k);
        const tf_points p = {x, N, D, E};
        t_ok(env, tf_cluster(env, &solvers, &p, 1, "planted", 2, of[threads - 1], &r));
        for (int i = 0; i < N; i++)
            ck_assert_int_eq(of[threads - 1][i], i % E);
        tf_solvers_free(&solvers);
        t_env_free(env);
    }
    ck_assert_mem_eq(of[0], of[1], sizeof of[0]);
}
END_TEST

START_TEST(one_cluster_and_one_point_each)
{
    enum { N = 6, D = 3 };
    tf_env *env = t_env(1);
    tf_solver_registry solvers = solvers_of(env);
    float x[N * D];
    int64_t of[N];
    tf_cluster_result r;
    t_fill(x, N * D, 3);
    const tf_points one = {x, N, D, 1}, each = {x, N, D, N};
    t_ok(env, tf_cluster(env, &solvers, &one, 1, "one", 1, of, &r));
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(of[i], 0);
    t_ok(env, tf_cluster(env, &solvers, &each, 1, "each", 1, of, &r));
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(of[i], i);
    ck_assert_double_eq_tol(r.spread, 0, 1e-14);
    memset(x, 0, sizeof x); /* points that are all the same */
    const tf_points same = {x, N, D, 3};
    t_ok(env, tf_cluster(env, &solvers, &same, 1, "same", 2, of, &r));
    ck_assert_double_eq(r.spread, 0);
    tf_solvers_free(&solvers);
    t_env_free(env);
}
END_TEST

START_TEST(exchanges_tighten)
{
    enum { N = 24, D = 3, E = 4 };
    tf_env *env = t_env(1);
    float x[N * D];
    double gram[N * N], before, after;
    int64_t of[N], swaps = 0, again = 0, counts[E] = {0};
    t_fill(x, N * D, 11);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            gram[i * N + j] = 0;
            for (int k = 0; k < D; k++)
                gram[i * N + j] += (double)x[i * D + k] * (double)x[j * D + k];
        }
    for (int i = 0; i < N; i++)
        of[i] = i % E;
    const tf_points p = {x, N, D, E};
    t_ok(env, tf_cluster_spread(env, &p, of, &before));
    t_ok(env, tf_exchange(env, &p, gram, of, &swaps));
    t_ok(env, tf_cluster_spread(env, &p, of, &after));
    ck_assert_int_gt(swaps, 0);
    ck_assert_double_lt(after, before);
    for (int i = 0; i < N; i++)
        counts[of[i]]++;
    for (int e = 0; e < E; e++)
        ck_assert_int_eq(counts[e], N / E);
    for (int a = 0; a < N; a++) /* no exchange of two points is left that gains */
        for (int b = 0; b < a; b++) {
            double spread;
            const int64_t keep = of[a];
            of[a] = of[b], of[b] = keep;
            t_ok(env, tf_cluster_spread(env, &p, of, &spread));
            ck_assert_double_ge(spread, after * (1 - 1e-9));
            of[b] = of[a], of[a] = keep;
        }
    t_ok(env, tf_exchange(env, &p, gram, of, &again));
    ck_assert_int_eq(again, 0);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("cluster");
    T_ADD(as_tight_as_the_tightest);
    T_ADD(planted_clusters);
    T_ADD(one_cluster_and_one_point_each);
    T_ADD(exchanges_tighten);
    return t_suite;
}
