/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels against the C library's functions in float64. ULP is half the last place of a float32 result,
 * which no float32 kernel can avoid; what is allowed beyond it stands at each test.
 */
#include "t.h"

#include "num/num.h"

#include <math.h>
#include <stdlib.h>

static const double ULP = 6e-8;

static double gelu_erf(double x)
{
    return 0.5 * x * erfc(-x / sqrt(2));
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu_tanh(double x)
{
    return x * sigmoid(2 * 0.79788456080286536 * (x + 0.044715 * x * x * x));
}

static double quick_gelu(double x)
{
    return x * sigmoid(1.702 * x);
}

static double silu(double x)
{
    return x * sigmoid(x);
}

static double relu(double x)
{
    return x > 0 ? x : 0;
}

typedef struct function {
    const char *name;
    void (*kernel)(float *x, size_t n);
    double (*exact)(double x);
    double absolute, relative; /* allowed beyond ULP */
} function;

/* The sigmoid has a relative error of 2e-7, and its argument is rounded as well, which costs
 * |y| e^-|y| of it, below 0.4 ULP. */
static const function functions[] = {
    {"gelu_erf", tf_gelu_erf, gelu_erf, 1.5e-7, 0},      {"gelu_tanh", tf_gelu_tanh, gelu_tanh, 1e-7, 2e-7},
    {"quick_gelu", tf_quick_gelu, quick_gelu, 1e-7, 2e-7}, {"silu", tf_silu, silu, 1e-7, 2e-7},
    {"relu", tf_relu, relu, 0, 0},                     {"tanh", tf_tanh, tanh, 0, 2e-7},
};

START_TEST(test_elementwise)
{
    enum { COUNT = 200003 }; /* odd, so that the tails of vector loops run */
    float *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
    for (size_t f = 0; f < TF_LEN(functions); f++) {
        const function *fn = &functions[f];
        for (int i = 0; i < COUNT; i++)
            x[i] = y[i] = (float)((i - COUNT / 2) * (i % 7 == 0 ? 1e-3 : 1e-4));
        fn->kernel(y, COUNT);
        for (int i = 0; i < COUNT; i++) {
            double want = fn->exact((double)x[i]);
            double allowed = fn->absolute + (ULP + fn->relative) * fabs(want);
            ck_assert_msg(fabs((double)y[i] - want) <= allowed, "%s(%.9g) = %.9g, not %.9g", fn->name, (double)x[i],
                          (double)y[i], want);
        }
        float edge[] = {NAN, INFINITY, 1e30f, -1e30f, 0, -0.0f};
        fn->kernel(edge, 6);
        ck_assert(isnan(edge[0]));
        ck_assert((double)edge[1] == (fn->exact == tanh ? 1.0 : (double)INFINITY));
        ck_assert(edge[2] == (fn->exact == tanh ? 1.0f : 1e30f));
        ck_assert(edge[3] == (fn->exact == tanh ? -1.0f : 0.0f));
        ck_assert(edge[4] == 0 && edge[5] == 0);
    }
    free(x), free(y);
}
END_TEST

/* The error function that tf_gelu_erf implies, over [-10, 10]. */
START_TEST(test_gelu_against_erf)
{
    double worst = 0;
    for (int i = -100000; i <= 100000; i++) {
        float x = (float)i * 1e-4f, y = x;
        tf_gelu_erf(&y, 1);
        double want = 0.5 * (double)x * (1 + erf((double)x / sqrt(2)));
        double e = fabs((double)y - want) - ULP * fabs(want);
        worst = e > worst ? e : worst;
    }
    ck_assert_double_le(worst, 1.5e-7);
}
END_TEST

START_TEST(test_softmax)
{
    for (size_t n = 1; n < 100; n += 3) {
        float x[100], y[100];
        double total = 0, sum = 0;
        t_fill(x, n, n);
        for (size_t i = 0; i < n; i++) {
            x[i] *= 30;
            y[i] = x[i];
            total += exp((double)x[i]);
        }
        tf_softmax_row(y, n);
        for (size_t i = 0; i < n; i++) {
            double want = exp((double)x[i]) / total;
            /* x - max is rounded: up to 60 * 2^-24 relative, besides 3e-7 of the exponential and the scaling */
            ck_assert_double_le(fabs((double)y[i] - want), 4e-6 * want);
            sum += (double)y[i];
        }
        ck_assert_double_le(fabs(sum - 1), 1e-6);
    }
}
END_TEST

START_TEST(test_softmax_edges)
{
    float masked[20], huge[3] = {3e38f, 3e38f, -3e38f}, bad[40], one[1] = {-1e30f};
    for (int i = 0; i < 20; i++)
        masked[i] = i == 3 || i == 18 ? 5 : -INFINITY;
    tf_softmax_row(masked, 20);
    for (int i = 0; i < 20; i++)
        ck_assert(masked[i] == (i == 3 || i == 18 ? 0.5f : 0.0f)); /* what is masked is exactly 0 */
    tf_softmax_row(huge, 3);
    ck_assert(huge[0] == 0.5f && huge[1] == 0.5f && huge[2] == 0);
    for (int i = 0; i < 40; i++)
        bad[i] = i == 17 ? NAN : 1;
    tf_softmax_row(bad, 40);
    for (int i = 0; i < 40; i++)
        ck_assert(isnan(bad[i]));
    tf_softmax_row(one, 1);
    ck_assert(one[0] == 1);
    tf_softmax_row(one, 0);
}
END_TEST

/* Against the formula in float64. The output has a handful of roundings: 4e-7 of |x| gain + |bias|. */
static void check_norm(size_t n, float offset, int form)
{
    float x[400], gain[400], bias[400], y[400], z[400];
    const float *g = form & 1 ? gain : NULL, *b = form & 2 ? bias : NULL;
    t_fill(x, n, n);
    t_fill(gain, n, n + 1);
    t_fill(bias, n, n + 2);
    double mean = 0, var = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] += offset;
        mean += (double)x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
        square += (double)x[i] * (double)x[i] / (double)n;
    }
    tf_layernorm_row(x, g, b, 1e-5f, y, n);
    tf_rmsnorm_row(x, g, 1e-5f, z, n);
    for (size_t i = 0; i < n; i++) {
        double w = g ? (double)g[i] : 1, c = b ? (double)b[i] : 0;
        double ln = ((double)x[i] - mean) / sqrt(var + (double)1e-5f), rms = (double)x[i] / sqrt(square + (double)1e-5f);
        ck_assert_double_le(fabs((double)y[i] - (ln * w + c)), 4e-7 * (fabs(ln * w) + fabs(c) + 1e-3));
        ck_assert_double_le(fabs((double)z[i] - rms * w), 4e-7 * fabs(rms * w));
    }
    tf_layernorm_row(x, g, b, 1e-5f, x, n); /* in place */
    ck_assert_mem_eq(x, y, n * sizeof *x);
}

START_TEST(test_norms)
{
    for (int form = 0; form < 4; form++) {
        for (size_t n = 1; n < 400; n += 13) {
            check_norm(n, 0, form);
            check_norm(n, 1000, form); /* a mean that is large beside the deviation */
        }
    }
}
END_TEST

START_TEST(test_sums)
{
    float x[1003], y[1003];
    t_fill(x, 1003, 1);
    t_fill(y, 1003, 2);
    x[0] = 1e4f;
    y[0] = 1e4f;
    for (size_t n = 0; n <= 1003; n += 59) {
        double dot = 0, square = 0;
        for (size_t i = 0; i < n; i++) {
            dot += (double)x[i] * (double)y[i];
            square += (double)x[i] * (double)x[i];
        }
        ck_assert_double_le(fabs((double)tf_dot_f32(x, y, n) - dot), ULP * fabs(dot));
        ck_assert_double_le(fabs(tf_sum_sq(x, n) - square), 1e-13 * square);
    }
}
END_TEST

START_TEST(test_find_nonfinite)
{
    enum { COUNT = 5000 };
    static float x[COUNT];
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    t_fill(x, COUNT, 1);
    x[7] = 3.4e38f;
    x[8] = 1e-45f;
    ck_assert_int_eq(tf_find_nonfinite(x, COUNT), -1);
    ck_assert_int_eq(tf_find_nonfinite(x, 0), -1);
    for (int i = COUNT - 1; i >= 0; i -= 333) {
        x[i] = bad[i % 3];
        ck_assert_int_eq(tf_find_nonfinite(x, COUNT), i);
    }
}
END_TEST

/* Sums of at most 6 products of numbers in [-1, 1): 6 roundings of half a last place of a sum below 6. */
START_TEST(test_weighted_sum)
{
    enum { ROWS = 6, N = 70 };
    static float x[ROWS * N], y[N + 1];
    const float w[ROWS] = {0.5f, -0.25f, 0.9f, 0, -1, 0.3f};
    const int64_t at[ROWS] = {3 * N, 0, 5 * N, N, 2 * N, 4 * N};
    t_fill(x, ROWS * N, 3);
    for (size_t count = 0; count <= ROWS; count++)
        for (size_t n = 0; n <= N; n++) {
            y[n] = 9;
            tf_weighted_sum(x, at, w, count, y, n);
            ck_assert(y[n] == 9);
            for (size_t i = 0; i < n; i++) {
                double want = 0;
                for (size_t k = 0; k < count; k++)
                    want += (double)w[k] * (double)x[(size_t)at[k] + i];
                ck_assert_double_le(fabs((double)y[i] - want), 36 * ULP);
            }
        }
}
END_TEST

START_TEST(test_counts_and_maxima)
{
    enum { N = 2100 };
    static float x[N];
    ck_assert(tf_max_f32(x, 0) == -INFINITY);
    ck_assert_uint_eq(tf_count_nonzero(x, N), 0);
    for (int i = 0; i < N; i++)
        x[i] = -0.0f;
    ck_assert_uint_eq(tf_count_nonzero(x, N), 0);
    for (size_t n = 1; n < N; n += 61) {
        for (size_t i = 0; i < n; i++)
            x[i] = -1 - (float)i;
        ck_assert_uint_eq(tf_count_nonzero(x, n), n);
        ck_assert(tf_max_f32(x, n) == -1);
        x[n - 1] = -0.5f;
        ck_assert(tf_max_f32(x, n) == -0.5f);
        x[n / 2] = 3;
        ck_assert(tf_max_f32(x, n) == 3);
        x[n / 3] = INFINITY;
        ck_assert(tf_max_f32(x, n) == INFINITY);
    }
}
END_TEST

START_TEST(test_transpose_and_division)
{
    enum { ROWS = 35, COLS = 21, WIDE = 24, TALL = 40 };
    static float x[ROWS * WIDE], y[COLS * TALL];
    for (size_t rows = 0; rows <= ROWS; rows++) {
        t_fill(x, ROWS * WIDE, 7);
        for (int i = 0; i < COLS * TALL; i++)
            y[i] = 9;
        tf_transpose(x, rows, COLS, WIDE, y, TALL);
        for (size_t i = 0; i < TALL; i++)
            for (size_t j = 0; j < COLS; j++)
                ck_assert(y[j * TALL + i] == (i < rows ? x[i * WIDE + j] : 9));
    }
    for (size_t n = 0; n < COLS * TALL; n += 37) {
        memcpy(x, y, sizeof x);
        tf_div_f32(x, 3.1, n);
        for (size_t i = 0; i < TF_LEN(x); i++)
            ck_assert(x[i] == (i < n ? (float)((double)y[i] / 3.1) : y[i]));
    }
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("kernel");
    T_ADD(test_elementwise);
    T_ADD(test_gelu_against_erf);
    T_ADD(test_softmax);
    T_ADD(test_softmax_edges);
    T_ADD(test_norms);
    T_ADD(test_sums);
    T_ADD(test_find_nonfinite);
    T_ADD(test_weighted_sum);
    T_ADD(test_counts_and_maxima);
    T_ADD(test_transpose_and_division);
    return t_suite;
}
