/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_cost.c: the cost stage beside the bare product of the same sizes, in turn, on one thread and on two. Each round gives ratios of its own; their
 * medians are printed: cost by product, and the gain of two threads for each. One thread by processor time, two by the clock.
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

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
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

typedef struct task {
    int64_t n, d;
    bool copy; /* y is like a permuted copy of x, so near that one distance a row is summed directly; or nothing like it */
    tf_metric metric;
    const char *name;
    tf_mat x, y;
    float *out;
} task;

static void run(tf_env *env, const task *t, bool product)
{
    if (product)
        tf_gemm(env, 1, t->x, tf_mat_t(t->y), 0, tf_mat_rows(t->out, t->n, t->n));
    else if (tf_cost_features(env, t->metric, t->x, t->y, t->out) != TFUSE_OK)
        exit(1);
}

typedef struct seconds {
    double processor, clock;
} seconds;

static seconds timed(tf_env *env, const task *t, bool product)
{
    seconds s = {now(CLOCK_PROCESS_CPUTIME_ID), now(CLOCK_MONOTONIC)};
    run(env, t, product);
    return (seconds){now(CLOCK_PROCESS_CPUTIME_ID) - s.processor, now(CLOCK_MONOTONIC) - s.clock};
}

static void make(task *t)
{
    const size_t size = (size_t)(t->n * t->d);
    float *x = malloc(size * sizeof *x), *y = malloc(size * sizeof *y);
    t->out = malloc((size_t)(t->n * t->n) * sizeof *t->out);
    if (!x || !y || !t->out)
        exit(1);
    fill(x, size, 1);
    fill(y, size, 2);
    for (size_t k = 0; t->copy && k < size; k++)
        y[k] = x[(k + 5 * (size_t)t->d) % size] + 0.03F * y[k];
    t->x = tf_mat_rows(x, t->n, t->d);
    t->y = tf_mat_rows(y, t->n, t->d);
}

static void bench(tf_env env[2], task t, int rounds)
{
    double ratio[MOST], pair[MOST], product[MOST], gain_product[MOST], gain_cost[MOST], share[MOST];
    make(&t);
    for (int r = 0; r < rounds; r++) {
        seconds p1 = timed(&env[0], &t, true), c1 = timed(&env[0], &t, false), c2 = timed(&env[1], &t, false), p2 = timed(&env[1], &t, true);
        product[r] = p1.processor;
        ratio[r] = c1.processor / p1.processor;
        pair[r] = c2.clock / p2.clock;
        gain_product[r] = p1.clock / p2.clock;
        gain_cost[r] = c1.clock / c2.clock;
        share[r] = gain_cost[r] / gain_product[r];
    }
    printf("%5lld x %5lld x %5lld  %-9s %-12s  product %8.2f ms  cost/product %.3f; two threads: cost/product %.3f, gains %.2f and %.2f: %.2f of it\n",
           (long long)t.n, (long long)t.n, (long long)t.d, t.copy ? "recovery" : "gauss", t.name, 1e3 * median(product, rounds),
           median(ratio, rounds), median(pair, rounds), median(gain_cost, rounds), median(gain_product, rounds), median(share, rounds));
    fflush(stdout);
    free(t.x.data);
    free(t.y.data);
    free(t.out);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 7;
    rounds = rounds < 1 ? 1 : rounds > MOST ? MOST : rounds;
    tf_env env[2];
    tf_env_init(&env[0], NULL);
    tf_env_init(&env[1], NULL);
    if (tf_pool_new(&env[1], 2, &env[1].pool) != TFUSE_OK)
        return 1;
    bench(env, (task){.n = 3072, .d = 2048, .copy = false, .metric = TF_METRIC_EUCLIDEAN, .name = "euclidean"}, rounds);
    bench(env, (task){.n = 3072, .d = 2048, .copy = true, .metric = TF_METRIC_EUCLIDEAN, .name = "euclidean"}, rounds);
    bench(env, (task){.n = 3072, .d = 2048, .copy = false, .metric = TF_METRIC_COSINE, .name = "cosine"}, rounds);
    bench(env, (task){.n = 768, .d = 768, .copy = false, .metric = TF_METRIC_SQEUCLIDEAN, .name = "sqeuclidean"}, rounds);
    bench(env, (task){.n = 256, .d = 512, .copy = false, .metric = TF_METRIC_EUCLIDEAN, .name = "euclidean"}, rounds);
    tf_pool_free(env[1].pool);
    return 0;
}
