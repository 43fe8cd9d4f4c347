/* SPDX-License-Identifier: Apache-2.0
 *
 * kernel.c: elementwise and reduction kernels.
 *
 * Plain loops over branch-free expressions, which compilers vectorise at -O3 without any flag that relaxes
 * IEEE arithmetic. A reduction keeps LANES partial sums, which are added in a fixed order,
 * so it neither depends on the vector width nor waits for itself.
 *
 * The exponential is for arguments <= 0 only, which is all that softmax, sigmoid and the normal distribution
 * need when they are written in terms of -|x|; so it cannot overflow. Constants: exp by Cody and
 * Waite's reduction and the polynomial of Cephes' expf, tanh near 0 from Cephes' tanhf (S. Moshier).
 */
#include "num/num.h"

#include <math.h>
#include <string.h>

/* The default of gcc, to keep the exceptions that a program without any handler never sees, costs the
 * vectorisation of every selection; values are the same. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

/* One version a vector width, chosen when the library is loaded. Sanitizers are not ready yet when
 * that choice runs. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) &&           \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(TF_NO_CLONES)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, SCAN = 1024 };

INLINE uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

INLINE float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

INLINE double add_lanes(const double *sum)
{
    double part[8];
    for (int j = 0; j < 8; j++)
        part[j] = sum[j] + sum[j + 8];
    for (int j = 0; j < 4; j++)
        part[j] += part[j + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}

/* exp(x) for x <= 0, relative error below 1.2e-7; 0 below -87.7; NaN stays NaN.
 * n = round(x / ln 2) is found by adding 1.5 * 2^23, and is then in the low bits of t; with n = -127 the
 * factor 2^n comes out as 0. */
INLINE float exp_neg(float x)
{
    x = x < -88.0f ? -88.0f : x;
    float t = x * 1.44269504088896341f + 12582912.0f;
    float n = t - 12582912.0f;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * float_of((bits_of(t) + 127u) << 23);
}

/* 1 / (1 + exp(-x)). */
INLINE float sigmoid(float x)
{
    float e = exp_neg(-fabsf(x));
    float top = x < 0.0f ? e : 1.0f;
    return top / (1.0f + e);
}

/* x Phi(x), Phi the normal distribution function. With a = |x|, a Phi(-a) = a exp(-a^2/2) P(1 / (1 + 0.35 a)),
 * where P was fitted to exp(a^2/2) Phi(-a) on 0 <= a <= 9, relative error 3.9e-7; a Phi(-a) <= 0.17. */
INLINE float gelu(float x)
{
    float a = fabsf(x);
    a = a > 20.0f ? 20.0f : a;
    float t = 1.0f / (1.0f + 0.35f * a);
    float p = 0.04660985563295139f;
    p = p * t - 0.1925259713910145f;
    p = p * t + 0.22425476738967207f;
    p = p * t - 0.001987109380701212f;
    p = p * t + 0.14797130732354946f;
    p = p * t + 0.13580992630351663f;
    p = p * t + 0.1398670518283595f;
    float tail = a * (p * t) * exp_neg(-0.5f * a * a);
    float high = x < 0.0f ? 0.0f : x;
    return high - tail;
}

INLINE float tanh_of(float x)
{
    float a = fabsf(x), z = x * x;
    float e = exp_neg(-2.0f * a);
    float far = copysignf((1.0f - e) / (1.0f + e), x);
    z = a < 0.625f ? z : 0.0f;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float near = p * z * x + x;
    return a < 0.625f ? near : far;
}

CLONES void tf_gelu_erf(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = gelu(x[i]);
}

/* 0.5 x (1 + tanh(y)) = x sigmoid(2 y), y = sqrt(2/pi) (x + 0.044715 x^3). */
CLONES void tf_gelu_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i];
        x[i] = v * sigmoid(1.5957691216057308f * (v + 0.044715f * v * v * v));
    }
}

CLONES void tf_quick_gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * sigmoid(1.702f * x[i]);
}

CLONES void tf_silu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * sigmoid(x[i]);
}

/* NaN stays NaN. */
CLONES void tf_relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
}

CLONES void tf_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = tanh_of(x[i]);
}

CLONES void tf_softcap(float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = cap * tanh_of(x[i] / cap);
}

/* A block that has no exponent of all ones is finite; only one that has is searched. */
CLONES int64_t tf_find_nonfinite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i += SCAN) {
        size_t end = count - i < SCAN ? count : i + SCAN;
        uint32_t bad = 0;
        for (size_t j = i; j < end; j++)
            bad |= (bits_of(x[j]) & 0x7f800000u) == 0x7f800000u;
        for (size_t j = i; bad && j < end; j++) {
            if (!isfinite(x[j]))
                return (int64_t)j;
        }
    }
    return -1;
}

CLONES float tf_dot_f32(const float *x, const float *y, size_t n)
{
    double sum[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            sum[j] += (double)x[i + j] * (double)y[i + j];
    }
    for (; i < n; i++)
        rest += (double)x[i] * (double)y[i];
    return (float)(add_lanes(sum) + rest);
}

/* Sum of (x - mean)^2. */
INLINE double sum_squares(const float *x, size_t n, double mean)
{
    double sum[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double d = (double)x[i + j] - mean;
            sum[j] += d * d;
        }
    }
    for (; i < n; i++)
        rest += ((double)x[i] - mean) * ((double)x[i] - mean);
    return add_lanes(sum) + rest;
}

INLINE double sum_of(const float *x, size_t n)
{
    double sum[LANES] = {0}, rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            sum[j] += (double)x[i + j];
    }
    for (; i < n; i++)
        rest += (double)x[i];
    return add_lanes(sum) + rest;
}

CLONES double tf_sum_sq(const float *x, size_t n)
{
    return sum_squares(x, n, 0.0);
}

/* Integers in the order of the floats, since compilers vectorise the maximum of those alone; NaN is beyond an infinity of its sign. */
INLINE int32_t rank_of(float x)
{
    const int32_t b = (int32_t)bits_of(x);
    return b < 0 ? b ^ 0x7fffffff : b;
}

INLINE void max_into(int32_t *most, const float *x)
{
    for (size_t j = 0; j < LANES; j++)
        most[j] = rank_of(x[j]) > most[j] ? rank_of(x[j]) : most[j];
}

INLINE int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

INLINE float max_lanes(const int32_t *most)
{
    int32_t part[8];
    for (int j = 0; j < 8; j++)
        part[j] = larger(most[j], most[j + 8]);
    for (int j = 0; j < 4; j++)
        part[j] = larger(part[j], part[j + 4]);
    const int32_t best = larger(larger(part[0], part[2]), larger(part[1], part[3]));
    return float_of((uint32_t)(best < 0 ? best ^ 0x7fffffff : best));
}

/* The last n % LANES of a row with -infinity behind them. */
INLINE void fill_last(float *last, const float *x, size_t n)
{
    const size_t tail = n % LANES;
    for (size_t j = 0; j < LANES; j++)
        last[j] = -INFINITY;
    if (tail)
        memcpy(last, x + n - tail, tail * sizeof *x);
}

INLINE float max_of(const float *x, size_t n, const float *last)
{
    int32_t most[LANES];
    for (size_t j = 0; j < LANES; j++)
        most[j] = rank_of(last[j]);
    for (size_t i = 0; i + LANES <= n; i += LANES)
        max_into(most, x + i);
    return max_lanes(most);
}

CLONES size_t tf_count_nonzero(const float *x, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i += SCAN) {
        const size_t end = n - i < SCAN ? n : i + SCAN;
        uint32_t here = 0;
        for (size_t j = i; j < end; j++)
            here += x[j] != 0.0f;
        count += here;
    }
    return count;
}

CLONES float tf_max_f32(const float *x, size_t n)
{
    float last[LANES];
    fill_last(last, x, n);
    return max_of(x, n, last);
}

CLONES void tf_transpose(const float *src, size_t rows, size_t cols, size_t stride, float *dst, size_t dst_stride)
{
    size_t i = 0;
    for (; i + LANES <= rows; i += LANES)
        for (size_t j = 0; j < cols; j++)
            for (size_t l = 0; l < LANES; l++)
                dst[j * dst_stride + i + l] = src[(i + l) * stride + j];
    for (; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            dst[j * dst_stride + i] = src[i * stride + j];
}

CLONES void tf_div_f32(float *x, double by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / by);
}

CLONES void tf_weighted_sum(const float *x, const int64_t *at, const float *w, size_t count, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        float sum[LANES] = {0};
        for (size_t k = 0; k < count; k++) {
            const float *from = x + at[k] + i;
            for (size_t j = 0; j < LANES; j++)
                sum[j] += w[k] * from[j];
        }
        memcpy(y + i, sum, sizeof sum);
    }
    for (; i < n; i++) {
        float sum = 0;
        for (size_t k = 0; k < count; k++)
            sum += w[k] * x[at[k] + (int64_t)i];
        y[i] = sum;
    }
}

INLINE void exp_into(float *x, float most, double *sum)
{
    for (size_t j = 0; j < LANES; j++) {
        x[j] = exp_neg(x[j] - most);
        sum[j] += (double)x[j];
    }
}

/* What fills up the last lanes becomes 0. A NaN makes all the row NaN, through the maximum or the sum. */
CLONES void tf_softmax_row(float *x, size_t n)
{
    float last[LANES];
    double sum[LANES] = {0};
    const size_t tail = n % LANES, whole = n - tail;
    fill_last(last, x, n);
    const float most = max_of(x, n, last);
    for (size_t i = 0; i < whole; i += LANES)
        exp_into(x + i, most, sum);
    if (tail)
        exp_into(last, most, sum);
    const float scale = (float)(1.0 / add_lanes(sum));
    for (size_t i = 0; i < whole; i++)
        x[i] *= scale;
    for (size_t j = 0; j < LANES; j++)
        last[j] *= scale;
    if (tail)
        memcpy(x + whole, last, tail * sizeof *x);
}

/* y = (x - mean) * scale * gain + bias. The mean is split in two floats, so that nothing is lost where it is
 * large beside the differences. */
INLINE void normalise(const float *x, double mean, float scale, const float *gain, const float *bias, float *y,
                      size_t n)
{
    float high = (float)mean, low = (float)(mean - (double)high);
    if (gain && bias) {
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - high - low) * scale * gain[i] + bias[i];
        return;
    }
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - high - low) * scale;
    for (size_t i = 0; gain && i < n; i++)
        y[i] *= gain[i];
    for (size_t i = 0; bias && i < n; i++)
        y[i] += bias[i];
}

CLONES void tf_layernorm_row(const float *x, const float *gain, const float *bias, float eps, float *y, size_t n)
{
    double mean = sum_of(x, n) / (double)n;
    double var = sum_squares(x, n, mean) / (double)n;
    normalise(x, mean, (float)(1.0 / sqrt(var + (double)eps)), gain, bias, y, n);
}

CLONES void tf_rmsnorm_row(const float *x, const float *gain, float eps, float *y, size_t n)
{
    double mean_sq = sum_squares(x, n, 0.0) / (double)n;
    normalise(x, 0.0, (float)(1.0 / sqrt(mean_sq + (double)eps)), gain, NULL, y, n);
}
