/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_cost.c: the cost stage beside the bare product of the same sizes, in turn, on one thread and on two: medians, and their ratio.
 *
 *     bench_cost [ROUNDS]
 */
#include "base/pool.h"
#include "ot/ot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void fill(float *x, size_t count, uint64_t state)
{
    for (size_t k = 0; k < count; k++) {
        double sum = -6;
        for (int i = 0; i < 12; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (double)(state >> 40) / 16777216.0;
        }
        x[k] = (float)sum;
    }
}

/* y: what is like a permuted copy of x, or nothing like it. */
static void bench(tf_env *env, int64_t n, int64_t d, bool copy, tf_metric metric, const char *name, int rounds)
{
    const size_t size = (size_t)(n * d);
    float *x = malloc(size * sizeof *x), *y = malloc(size * sizeof *y), *out = malloc((size_t)(n * n) * sizeof *out);
    double product[MOST], cost[MOST];
    if (!x || !y || !out)
        exit(1);
    fill(x, size, 1);
    fill(y, size, 2);
    for (size_t k = 0; copy && k < size; k++)
        y[k] = x[(k + 5 * (size_t)d) % size] + 0.1F * y[k];
    tf_mat a = tf_mat_rows(x, n, d), b = tf_mat_rows(y, n, d);
    for (int r = 0; r < rounds; r++) {
        double start = now();
        tf_gemm(env, 1, a, tf_mat_t(b), 0, tf_mat_rows(out, n, n));
        product[r] = now() - start;
        start = now();
        if (tf_cost_features(env, metric, a, b, out) != TFUSE_OK)
            exit(1);
        cost[r] = now() - start;
    }
    double p = median(product, rounds), c = median(cost, rounds);
    printf("%u thread%s  %5lld x %5lld x %5lld  %-9s %-12s  product %8.2f ms  cost %8.2f ms  ratio %.3f\n", (unsigned)tf_threads(env),
           tf_threads(env) > 1 ? "s" : " ", (long long)n, (long long)n, (long long)d, copy ? "recovery" : "gauss", name, 1e3 * p, 1e3 * c,
           c / p);
    free(x);
    free(y);
    free(out);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 7;
    rounds = rounds < 1 ? 1 : rounds > MOST ? MOST : rounds;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        tf_env env;
        tf_env_init(&env, NULL);
        if (threads > 1 && tf_pool_new(&env, threads, &env.pool) != TFUSE_OK)
            return 1;
        bench(&env, 3072, 2048, false, TF_METRIC_EUCLIDEAN, "euclidean", rounds);
        bench(&env, 3072, 2048, true, TF_METRIC_EUCLIDEAN, "euclidean", rounds);
        bench(&env, 3072, 2048, false, TF_METRIC_COSINE, "cosine", rounds);
        bench(&env, 768, 768, false, TF_METRIC_SQEUCLIDEAN, "sqeuclidean", rounds);
        bench(&env, 256, 512, false, TF_METRIC_EUCLIDEAN, "euclidean", rounds);
        tf_pool_free(env.pool);
    }
    return 0;
}
