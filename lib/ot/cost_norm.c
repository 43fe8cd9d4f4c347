/* SPDX-License-Identifier: Apache-2.0
 *
 * cost_norm.c: a cost matrix divided by its maximum, its mean or its median, so that a solver's reg means the same everywhere.
 */
#include "ot/internal.h"

#include <math.h>
#include <string.h>

enum { HISTOGRAM = 1 << 16 };

/* Floats as integers of the same order. */
static uint32_t ordered(float x)
{
    union { float f; uint32_t u; } bits = {x};
    return bits.u & 0x80000000u ? ~bits.u : bits.u | 0x80000000u;
}

static float from_ordered(uint32_t key)
{
    union { uint32_t u; float f; } bits = {key & 0x80000000u ? key & 0x7fffffffu : ~key};
    return bits.f;
}

/* Entries from `at` on that are gone over before a request to cancel is looked for; none once there was one. */
static size_t portion(const tf_env *env, size_t at, size_t count)
{
    const size_t left = count - at;
    return tf_cancelled(env) ? 0 : left < TF_POLL_ENTRIES ? left : TF_POLL_ENTRIES;
}

/* The bin that the element of rank *rank falls into; *rank becomes its rank within the bin. */
static uint32_t find_bin(const uint64_t *bins, uint64_t *rank)
{
    uint32_t bin = 0;
    while (bin + 1 < HISTOGRAM && *rank >= bins[bin])
        *rank -= bins[bin++];
    return bin;
}

/* The element of a rank from 0: upper halves of the keys are counted, then lower halves within one upper half. */
static float select_rank(const tf_env *env, const float *x, size_t count, uint64_t rank, uint64_t *bins)
{
    memset(bins, 0, HISTOGRAM * sizeof *bins);
    for (size_t k = 0, step; k < count && (step = portion(env, k, count)) > 0; k += step)
        for (size_t e = k; e < k + step; e++)
            bins[ordered(x[e]) >> 16]++;
    uint32_t high = find_bin(bins, &rank);
    memset(bins, 0, HISTOGRAM * sizeof *bins);
    for (size_t k = 0, step; k < count && (step = portion(env, k, count)) > 0; k += step)
        for (size_t e = k; e < k + step; e++)
            if (ordered(x[e]) >> 16 == high)
                bins[ordered(x[e]) & 0xffffu]++;
    return from_ordered(high << 16 | find_bin(bins, &rank));
}

/* Of the positive entries: where most units coincide (signs, dead units) the median of all is zero and no scale. */
static tfuse_status median(tf_env *env, const float *x, size_t count, double *out)
{
    uint64_t *bins = tf_alloc_array(env, HISTOGRAM, sizeof *bins);
    if (!bins)
        return TFUSE_ENOMEM;
    size_t skip = 0;
    for (size_t k = 0, step; k < count && (step = portion(env, k, count)) > 0; k += step)
        for (size_t e = k; e < k + step; e++)
            skip += !(x[e] > 0);
    size_t left = count - skip;
    double low = left ? (double)select_rank(env, x, count, skip + (left - 1) / 2, bins) : 0;
    double high = left % 2 || !left ? low : (double)select_rank(env, x, count, skip + left / 2, bins);
    *out = (low + high) / 2;
    tf_free(&env->mem, bins);
    return TFUSE_OK;
}

static tfuse_status norm_of(tf_env *env, tf_cost_norm norm, const float *cost, size_t count, double *out)
{
    *out = 0;
    if (norm == TF_COST_MEDIAN)
        return median(env, cost, count, out);
    for (size_t k = 0, step; k < count && (step = portion(env, k, count)) > 0; k += step) {
        if (norm == TF_COST_MAX)
            *out = fmax(*out, (double)tf_max_f32(cost + k, step));
        for (size_t e = k; norm != TF_COST_MAX && e < k + step; e++)
            *out += (double)cost[e];
    }
    if (norm == TF_COST_MEAN)
        *out /= (double)count;
    return TFUSE_OK;
}

tfuse_status tf_cost_normalise(tf_env *env, tf_cost_norm norm, int64_t n, int64_t m, float *cost, double *by)
{
    static const char *const names[] = {"maximum", "mean", "median"};
    size_t count = (size_t)n * (size_t)m;
    int64_t bad = -1;
    bool zero = true;
    if (by)
        *by = 1;
    for (size_t k = 0, step; bad < 0 && k < count && (step = portion(env, k, count)) > 0; k += step) {
        bad = tf_find_nonfinite(cost + k, step);
        bad += bad < 0 ? 0 : (int64_t)k;
        for (size_t e = k; zero && e < k + step; e++)
            zero = cost[e] == 0;
    }
    TF_TRY(tf_check_cancel(env));
    if (bad >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "cost[%lld, %lld] is %g: costs must be finite", (long long)(bad / m),
                       (long long)(bad % m), (double)cost[bad]);
    if (norm == TF_COST_NONE || zero)
        return TFUSE_OK;
    double divisor;
    TF_TRY(norm_of(env, norm, cost, count, &divisor));
    TF_TRY(tf_check_cancel(env));
    if (!(divisor > 0))
        return tf_fail(env, TFUSE_ENUMERIC, "cost: the %s is %g, so costs cannot be divided by it; take another normalisation",
                       names[norm], divisor);
    for (size_t k = 0, step; k < count && (step = portion(env, k, count)) > 0; k += step)
        tf_div_f32(cost + k, divisor, step);
    if (by)
        *by = divisor;
    return tf_check_cancel(env);
}
