/* SPDX-License-Identifier: Apache-2.0 */
#include "ot/ot.h"
#include "t.h"
#include <math.h>
#include <stdlib.h>

static const tf_metric metrics[] = {TF_METRIC_EUCLIDEAN, TF_METRIC_SQEUCLIDEAN, TF_METRIC_COSINE};

static double plain_distance(tf_metric metric, tf_mat x, int64_t i, tf_mat y, int64_t j)
{
    double sq = 0, xx = 0, yy = 0, xy = 0;
    for (int64_t k = 0; k < x.cols; k++) {
        double a = (double)x.data[i * x.rs + k * x.cs], b = (double)y.data[j * y.rs + k * y.cs];
        sq += (a - b) * (a - b);
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    if (metric == TF_METRIC_COSINE)
        return xx > 0 && yy > 0 ? 1 - xy / (sqrt(xx) * sqrt(yy)) : xx > 0 || yy > 0;
    return metric == TF_METRIC_EUCLIDEAN ? sqrt(sq) : sq;
}

/* float32 products of d <= 300 terms are off by about 1e-7 of |x|^2 + |y|^2; entries under 1/128 of that are summed
 * directly, so 1e-4 relative is certain; typical entries are far better. */
static void check_features(tf_env *env, tf_metric metric, tf_mat x, tf_mat y, double relative, double absolute)
{
    float *out = malloc((size_t)(x.rows * y.rows) * sizeof *out);
    t_ok(env, tf_cost_features(env, metric, x, y, out));
    for (int64_t i = 0; i < x.rows; i++) {
        for (int64_t j = 0; j < y.rows; j++) {
            double want = plain_distance(metric, x, i, y, j), got = (double)out[i * y.rows + j];
            if (!(fabs(got - want) <= relative * want + absolute))
                ck_abort_msg("metric %d [%d, %d]: %.9g is not %.9g", (int)metric, (int)i, (int)j, got, want);
        }
    }
    free(out);
}

START_TEST(distances_match_plain_sums)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 2}, {40, 33, 17}, {257, 300, 65}, {20, 700, 300}};
    tf_env *env = t_env(1);
    for (size_t s = 0; s < TF_LEN(sizes); s++) {
        int64_t n = sizes[s][0], m = sizes[s][1], d = sizes[s][2];
        float *x = malloc((size_t)(n * d) * sizeof *x), *y = malloc((size_t)(m * d) * sizeof *y);
        t_fill(x, (size_t)(n * d), 1);
        t_fill(y, (size_t)(m * d), 2);
        for (size_t k = 0; k < TF_LEN(metrics); k++)
            check_features(env, metrics[k], tf_mat_rows(x, n, d), tf_mat_rows(y, m, d), d == 1 || d == 2 ? 1e-4 : 1e-5, 1e-12);
        free(x);
        free(y);
    }
    t_env_free(env);
}
END_TEST

/* Rows that nearly agree, far from the origin: the textbook formula in float32 gives noise of 100 %. */
START_TEST(near_twins_keep_their_distance)
{
    enum { N = 30, D = 64 };
    static float x[N * D], y[N * D];
    tf_env *env = t_env(1);
    t_fill(x, N * D, 3);
    for (int k = 0; k < N * D; k++) {
        x[k] += 50;
        y[k] = x[k] + (k % 7 == 0 ? 1e-3F : 0);
    }
    for (size_t k = 0; k < TF_LEN(metrics); k++)
        for (int64_t i = 0; i < N; i++)
            check_features(env, metrics[k], tf_mat_rows(x + i * D, 1, D), tf_mat_rows(y, N, D), 1e-4, 1e-14);
    memcpy(y, x, sizeof y);
    float out[N * N];
    t_ok(env, tf_cost_features(env, TF_METRIC_EUCLIDEAN, tf_mat_rows(x, N, D), tf_mat_rows(y, N, D), out));
    for (int i = 0; i < N; i++)
        ck_assert(out[i * N + i] == 0);
    t_env_free(env);
}
END_TEST

/* Copies with noise of any size: small costs are as true as large ones, on both sides of where they are summed directly. Of 512 rows and 500 features
 * BLIS packs, and adds terms in another order. */
static void check_small(int64_t n, int64_t m, int64_t d, const float *noise, size_t count)
{
    float *x = malloc((size_t)(n * d) * sizeof *x), *y = malloc((size_t)(m * d) * sizeof *y);
    tf_env *env = t_env(1);
    for (size_t s = 0; s < count; s++) {
        t_fill(x, (size_t)(n * d), 21);
        t_fill(y, (size_t)(m * d), 22);
        for (int64_t k = 0; k < m * d; k++)
            y[k] = x[k] + noise[s] * y[k];
        for (size_t k = 0; k < TF_LEN(metrics); k++)
            check_features(env, metrics[k], tf_mat_rows(x, n, d), tf_mat_rows(y, m, d), 1e-4, 1e-14);
    }
    free(x);
    free(y);
    t_env_free(env);
}

START_TEST(small_costs_are_true)
{
    static const float noise[] = {1e-6F, 1e-4F, 1e-2F, 0.03F, 0.06F, 0.1F, 0.3F};
    check_small(140, 140, 300, noise, TF_LEN(noise));
    check_small(512, 256, 500, noise + 4, 1);
}
END_TEST

/* Rows from 1e-20 to 1e15 in one problem: float32 products of the small ones vanish beside the large ones. */
START_TEST(ranges_within_one_problem)
{
    enum { N = 24, D = 40 };
    float x[N * D], y[N * D];
    tf_env *env = t_env(1);
    t_fill(x, N * D, 31);
    t_fill(y, N * D, 32);
    for (int k = 0; k < N * D; k++) {
        x[k] *= powf(10, (float)(k / D % 8 * 5 - 20));
        y[k] *= powf(10, (float)(k / D % 8 * 5 - 20));
    }
    for (size_t k = 0; k < TF_LEN(metrics); k++)
        check_features(env, metrics[k], tf_mat_rows(x, N, D), tf_mat_rows(y, N, D), 1e-4, 1e-37);
    t_env_free(env);
}
END_TEST

/* Against long double, within the bound that cost_gram.c states. */
START_TEST(grams_keep_their_bound)
{
    enum { N = 9, K = 5000 };
    double *x = calloc(N * K, sizeof *x), *y = calloc(N * K, sizeof *y), xx[N] = {0}, yy[N] = {0}, xy[N * N] = {0};
    float out[N * N];
    uint64_t state = 77;
    tf_env *env = t_env(1);
    for (int k = 0; k < N * K; k++) {
        x[k] = (double)t_rand(&state);
        y[k] = k / K % 2 ? (double)t_rand(&state) : x[k] * (1 + 1e-9 * (double)t_rand(&state));
    }
    for (int e = 0; e < N * N * K; e++)
        xy[e / K] += x[e / K / N * K + e % K] * y[e / K % N * K + e % K];
    for (int k = 0; k < N * K; k++) {
        xx[k / K] += x[k] * x[k];
        yy[k / K] += y[k] * y[k];
    }
    t_ok(env, tf_cost_gram(env, TF_METRIC_SQEUCLIDEAN, N, N, xx, yy, xy, out));
    for (int e = 0; e < N * N; e++) {
        long double sq = 0;
        for (int k = 0; k < K; k++) {
            long double d = (long double)x[e / N * K + k] - (long double)y[e % N * K + k];
            sq += d * d;
        }
        double bound = 2 * (K + 2) * 0x1p-53 * (xx[e / N] + yy[e % N]);
        ck_assert(out[e] >= 0 && fabs((double)out[e] - (double)sq) <= bound + 0x1p-23 * (double)sq);
    }
    free(x);
    free(y);
    t_env_free(env);
}
END_TEST

START_TEST(zero_rows_extremes_and_strides)
{
    static const float scales[] = {1e-30F, 1e-6F, 1, 1e17F};
    enum { N = 12, D = 9 };
    float x[N * D], y[N * D];
    tf_env *env = t_env(1);
    for (size_t s = 0; s < TF_LEN(scales); s++) {
        t_fill(x, N * D, 4);
        t_fill(y, N * D, 5);
        for (int k = 0; k < N * D; k++) {
            x[k] = k / D % 4 == 0 ? 0 : x[k] * scales[s];
            y[k] = k / D % 3 == 0 ? 0 : y[k] * scales[s];
        }
        for (size_t k = 0; k < TF_LEN(metrics); k++) {
            check_features(env, metrics[k], tf_mat_rows(x, N, D), tf_mat_rows(y, N, D), 1e-4, 1e-37);
            check_features(env, metrics[k], tf_mat_t(tf_mat_rows(x, N, D)), tf_mat_t(tf_mat_rows(y, N, D)), 1e-4, 1e-37);
        }
    }
    t_env_free(env);
}
END_TEST

START_TEST(bad_features_are_named)
{
    float x[6] = {1, 2, 3, 4, NAN, 6}, y[6] = {0}, out[9];
    tf_env *env = t_env(1);
    t_fails(env, tf_cost_features(env, TF_METRIC_COSINE, tf_mat_rows(x, 2, 3), tf_mat_rows(y, 2, 3), out), TFUSE_ENUMERIC,
            "feature 1 of row 1 of the first model is nan");
    t_fails(env, tf_cost_features(env, TF_METRIC_COSINE, tf_mat_rows(y, 3, 2), tf_mat_rows(x, 3, 2), out), TFUSE_ENUMERIC,
            "feature 0 of row 2 of the second model");
    t_fails(env, tf_cost_features(env, TF_METRIC_COSINE, tf_mat_rows(x, 2, 3), tf_mat_rows(y, 3, 2), out), TFUSE_ESHAPE, "3 features");
    t_fails(env, tf_cost_features(env, TF_METRIC_COSINE, tf_mat_rows(x, 0, 3), tf_mat_rows(y, 2, 3), out), TFUSE_ESHAPE, "nothing");
    t_env_free(env);
}
END_TEST

START_TEST(grams_give_the_same_distances)
{
    enum { N = 14, M = 11, D = 6 };
    float x[N * D], y[M * D], a[N * M];
    double xx[N] = {0}, yy[M] = {0}, xy[N * M] = {0};
    tf_env *env = t_env(1);
    t_fill(x, N * D, 6);
    t_fill(y, M * D, 7);
    memset(x, 0, D * sizeof *x);
    memset(y, 0, D * sizeof *y);
    memcpy(x + 3 * D, y + 2 * D, D * sizeof *x);
    for (int k = 0; k < N * M * D; k++)
        xy[k / D] += (double)x[k / D / M * D + k % D] * (double)y[k / D % M * D + k % D];
    for (int k = 0; k < N * D; k++)
        xx[k / D] += (double)x[k] * (double)x[k];
    for (int k = 0; k < M * D; k++)
        yy[k / D] += (double)y[k] * (double)y[k];
    xx[3] -= 1e-9; /* rounding that would make a squared distance negative */
    for (size_t k = 0; k < TF_LEN(metrics); k++) {
        t_ok(env, tf_cost_gram(env, metrics[k], N, M, xx, yy, xy, a));
        for (int i = 0; i < N * M; i++) {
            double want = plain_distance(metrics[k], tf_mat_rows(x, N, D), i / M, tf_mat_rows(y, M, D), i % M);
            ck_assert(a[i] >= 0 && fabs((double)a[i] - want) <= 1e-6);
        }
        ck_assert(a[3 * M + 2] == 0);
    }
    xy[5 * M + 4] = INFINITY;
    t_fails(env, tf_cost_gram(env, TF_METRIC_COSINE, N, M, xx, yy, xy, a), TFUSE_ENUMERIC, "[5, 4] is inf");
    t_env_free(env);
}
END_TEST

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

START_TEST(the_median_is_that_of_sorting)
{
    tf_env *env = t_env(1);
    for (int64_t count = 1; count < 300; count++) {
        float cost[300], sorted[300];
        t_fill(cost, (size_t)count, (uint64_t)count);
        for (int64_t k = 0; k < count; k++)
            cost[k] = count % 3 == 0 ? floorf(cost[k] * 4 + 8) : cost[k] - (count % 3 == 1 ? 0.3F : -2.0F);
        memcpy(sorted, cost, sizeof sorted);
        qsort(sorted, (size_t)count, sizeof *sorted, by_value);
        int64_t skip = 0; /* the median is that of the positive entries */
        while (skip < count && sorted[skip] <= 0)
            skip++;
        int64_t left = count - skip;
        double median = left ? ((double)sorted[skip + (left - 1) / 2] + (double)sorted[skip + left / 2]) / 2 : 0;
        float first = cost[0];
        tfuse_status status = tf_cost_normalise(env, TF_COST_MEDIAN, 1, count, cost, NULL);
        if (median > 0)
            ck_assert(status == TFUSE_OK && cost[0] == (float)((double)first / median));
        else
            t_fails(env, status, TFUSE_ENUMERIC, "median");
    }
    t_env_free(env);
}
END_TEST

START_TEST(maximum_mean_none_and_zeros)
{
    float cost[4] = {1, 2, 0, 5}, zeros[4] = {0}, half[4] = {0, 0, 0, 1};
    tf_env *env = t_env(1);
    t_ok(env, tf_cost_normalise(env, TF_COST_NONE, 2, 2, cost, NULL));
    ck_assert(cost[0] == 1 && cost[3] == 5);
    t_ok(env, tf_cost_normalise(env, TF_COST_MEAN, 2, 2, cost, NULL));
    ck_assert(cost[0] == 0.5F && cost[3] == 2.5F);
    t_ok(env, tf_cost_normalise(env, TF_COST_MAX, 2, 2, cost, NULL));
    ck_assert(cost[0] == 0.2F && cost[3] == 1);
    for (int norm = TF_COST_MAX; norm <= TF_COST_NONE; norm++)
        t_ok(env, tf_cost_normalise(env, (tf_cost_norm)norm, 2, 2, zeros, NULL));
    ck_assert(zeros[0] == 0 && zeros[3] == 0);
    half[3] = 4;
    t_ok(env, tf_cost_normalise(env, TF_COST_MEDIAN, 2, 2, half, NULL));
    ck_assert(half[3] == 1 && half[0] == 0);
    half[2] = NAN;
    t_fails(env, tf_cost_normalise(env, TF_COST_MAX, 2, 2, half, NULL), TFUSE_ENUMERIC, "cost[1, 0] is nan");
    t_env_free(env);
}
END_TEST

START_TEST(threads_do_not_change_a_bit)
{
    enum { N = 600, M = 500, D = 300 };
    static const uint32_t threads[] = {2, 7};
    float *x = malloc(N * D * sizeof *x), *y = malloc(M * D * sizeof *y), *one = malloc(N * M * sizeof *one),
          *more = malloc(N * M * sizeof *more);
    t_fill(x, N * D, 8);
    t_fill(y, M * D, 9);
    for (size_t k = 0; k < TF_LEN(metrics); k++) {
        for (size_t t = 0; t < TF_LEN(threads); t++) {
            tf_env *a = t_env(1), *b = t_env(threads[t]);
            t_ok(a, tf_cost_features(a, metrics[k], tf_mat_rows(x, N, D), tf_mat_rows(y, M, D), one));
            t_ok(b, tf_cost_features(b, metrics[k], tf_mat_rows(x, N, D), tf_mat_rows(y, M, D), more));
            ck_assert_mem_eq(one, more, N * M * sizeof *one);
            t_env_free(a);
            t_env_free(b);
        }
    }
    free(x);
    free(y);
    free(one);
    free(more);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("cost");
    T_ADD(distances_match_plain_sums);
    T_ADD(near_twins_keep_their_distance);
    T_ADD(small_costs_are_true);
    T_ADD(ranges_within_one_problem);
    T_ADD(grams_keep_their_bound);
    T_ADD(zero_rows_extremes_and_strides);
    T_ADD(bad_features_are_named);
    T_ADD(grams_give_the_same_distances);
    T_ADD(the_median_is_that_of_sorting);
    T_ADD(maximum_mean_none_and_zeros);
    T_ADD(threads_do_not_change_a_bit);
    return t_suite;
}
