/* SPDX-License-Identifier: Apache-2.0
 *
 * cost.c: ground costs between rows of features. One float32 product X Y' and an epilogue in place.
 *
 * Euclidean: |x|^2 + |y|^2 - 2 x.y loses all digits where x and y nearly agree. Two remedies: features are first moved to a
 * common centre, which no distance notices, and entries with d^2 < CANCELS (|x|^2 + |y|^2) are summed directly from the features as
 * given, in float64. Features are also scaled by a power of two, so that no square over- or underflows.
 *
 * Cosine: 1 - x.y / (|x| |y|) on rows of unit length, with the same direct sum where it is small. A row of zeros is at distance
 * 1 from others and at 0 from another row of zeros.
 */
#include "ot/ot.h"

#include "base/pool.h"
#include <math.h>
#include <string.h>

enum { BLOCK_ENTRIES = 1 << 16, HISTOGRAM = 1 << 16 };
#define CANCELS 1e-3

typedef struct features {
    tf_metric metric;
    tf_mat x, y;             /* as given */
    tf_mat xs, ys;           /* centred and scaled, or of unit length */
    double *x_sq, *y_sq;     /* squared lengths of xs, ys; cosine: of x, y */
    double scale;            /* xs = scale * (x - centre) */
    float *out;
    int64_t block_rows;
} features;

static double at(tf_mat a, int64_t i, int64_t k)
{
    return (double)a.data[i * a.rs + k * a.cs];
}

/* ---- preparing the features ------------------------------------------------------------------- */

static tfuse_status check_finite(tf_env *env, const char *name, tf_mat a)
{
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t k = 0; k < a.cols; k++)
            if (!isfinite(at(a, i, k)))
                return tf_fail(env, TFUSE_ENUMERIC, "cost: feature %lld of row %lld of %s is %g; features must be finite",
                               (long long)k, (long long)i, name, at(a, i, k));
    return TFUSE_OK;
}

static void add_rows(tf_mat a, double *sum)
{
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t k = 0; k < a.cols; k++)
            sum[k] += at(a, i, k);
}

static double largest_offset(tf_mat a, const double *centre, double top)
{
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t k = 0; k < a.cols; k++)
            top = fmax(top, fabs(at(a, i, k) - centre[k]));
    return top;
}

static void centre_rows(tf_mat from, const double *centre, double scale, tf_mat to, double *sq)
{
    for (int64_t i = 0; i < from.rows; i++) {
        double sum = 0;
        for (int64_t k = 0; k < from.cols; k++) {
            float value = (float)((at(from, i, k) - centre[k]) * scale);
            to.data[i * to.rs + k] = value;
            sum += (double)value * (double)value;
        }
        sq[i] = sum;
    }
}

static void centre_features(features *f, double *centre)
{
    int64_t d = f->x.cols;
    memset(centre, 0, (size_t)d * sizeof *centre);
    add_rows(f->x, centre);
    add_rows(f->y, centre);
    for (int64_t k = 0; k < d; k++)
        centre[k] /= (double)(f->x.rows + f->y.rows);
    double top = largest_offset(f->y, centre, largest_offset(f->x, centre, 0));
    int exponent = 0;
    (void)frexp(top, &exponent);
    f->scale = top > 0 ? ldexp(1, -exponent) : 1;
    centre_rows(f->x, centre, f->scale, f->xs, f->x_sq);
    centre_rows(f->y, centre, f->scale, f->ys, f->y_sq);
}

static void unit_rows(tf_mat from, tf_mat to, double *sq)
{
    for (int64_t i = 0; i < from.rows; i++) {
        sq[i] = 0;
        for (int64_t k = 0; k < from.cols; k++)
            sq[i] += at(from, i, k) * at(from, i, k);
        double inverse = sq[i] > 0 ? 1 / sqrt(sq[i]) : 0;
        for (int64_t k = 0; k < from.cols; k++)
            to.data[i * to.rs + k] = (float)(at(from, i, k) * inverse);
    }
}

/* ---- epilogues ---------------------------------------------------------------------------------- */

static double direct_sq_distance(const features *f, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < f->x.cols; k++) {
        double d = at(f->x, i, k) - at(f->y, j, k);
        sum += d * d;
    }
    return sum;
}

static double direct_dot(const features *f, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < f->x.cols; k++)
        sum += at(f->x, i, k) * at(f->y, j, k);
    return sum;
}

static double cosine_distance(double xx, double yy, double xy)
{
    if (!(xx > 0) || !(yy > 0))
        return xx > 0 || yy > 0 ? 1 : 0;
    double cosine = xy / (sqrt(xx) * sqrt(yy));
    return fmin(fmax(1 - cosine, 0), 2);
}

static float finish_distance(tf_metric metric, double sq)
{
    double clamped = sq > 0 ? sq : 0;
    return (float)(metric == TF_METRIC_EUCLIDEAN ? sqrt(clamped) : clamped);
}

static float feature_entry(const features *f, int64_t i, int64_t j, double product)
{
    if (f->metric == TF_METRIC_COSINE) {
        if (!(f->x_sq[i] > 0) || !(f->y_sq[j] > 0))
            return (float)cosine_distance(f->x_sq[i], f->y_sq[j], 0);
        double distance = cosine_distance(1, 1, product);
        return (float)(distance < CANCELS ? cosine_distance(f->x_sq[i], f->y_sq[j], direct_dot(f, i, j)) : distance);
    }
    double total = f->x_sq[i] + f->y_sq[j], sq = total - 2 * product;
    double unscaled = sq < CANCELS * total ? direct_sq_distance(f, i, j) : sq / (f->scale * f->scale);
    return finish_distance(f->metric, unscaled);
}

static void feature_block(void *arg, uint32_t block)
{
    const features *f = arg;
    int64_t m = f->y.rows, from = (int64_t)block * f->block_rows;
    for (int64_t i = from; i < from + f->block_rows && i < f->x.rows; i++)
        for (int64_t j = 0; j < m; j++)
            f->out[i * m + j] = feature_entry(f, i, j, (double)f->out[i * m + j]);
}

static tfuse_status features_init(tf_env *env, tf_arena *arena, features *f)
{
    int64_t n = f->x.rows, m = f->y.rows, d = f->x.cols;
    float *xs = tf_arena_array(env, arena, (size_t)n * (size_t)d, sizeof *xs);
    float *ys = tf_arena_array(env, arena, (size_t)m * (size_t)d, sizeof *ys);
    double *centre = tf_arena_array(env, arena, (size_t)d, sizeof *centre);
    f->x_sq = tf_arena_array(env, arena, (size_t)n, sizeof *f->x_sq);
    f->y_sq = tf_arena_array(env, arena, (size_t)m, sizeof *f->y_sq);
    if (!xs || !ys || !centre || !f->x_sq || !f->y_sq)
        return TFUSE_ENOMEM;
    f->xs = tf_mat_rows(xs, n, d);
    f->ys = tf_mat_rows(ys, m, d);
    f->block_rows = 1 + (BLOCK_ENTRIES - 1) / m;
    if (f->metric == TF_METRIC_COSINE) {
        unit_rows(f->x, f->xs, f->x_sq);
        unit_rows(f->y, f->ys, f->y_sq);
    } else {
        centre_features(f, centre);
    }
    return TFUSE_OK;
}

tfuse_status tf_cost_features(tf_env *env, tf_metric metric, tf_mat x, tf_mat y, float *out)
{
    if (x.cols != y.cols)
        return tf_fail(env, TFUSE_ESHAPE, "cost: rows have %lld features in one model and %lld in the other", (long long)x.cols,
                       (long long)y.cols);
    if (x.rows <= 0 || y.rows <= 0 || x.cols <= 0)
        return tf_fail(env, TFUSE_ESHAPE, "cost: %lld and %lld rows of %lld features: nothing to compare", (long long)x.rows,
                       (long long)y.rows, (long long)x.cols);
    TF_TRY(check_finite(env, "the first model", x));
    TF_TRY(check_finite(env, "the second model", y));
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    features f = {.metric = metric, .x = x, .y = y, .out = out};
    tfuse_status status;
    TF_TRY_OUT(features_init(env, &arena, &f));
    tf_gemm(env, 1, f.xs, tf_mat_t(f.ys), 0, tf_mat_rows(out, x.rows, y.rows));
    tf_parallel_for(env, (uint32_t)((x.rows + f.block_rows - 1) / f.block_rows), feature_block, &f);
    status = tf_check_cancel(env);
out:
    tf_arena_free(&arena);
    return status;
}

tfuse_status tf_cost_gram(tf_env *env, tf_metric metric, int64_t n, int64_t m, const double *xx, const double *yy,
                          const double *xy, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < m; j++) {
            double product = xy[i * m + j];
            if (!isfinite(xx[i]) || !isfinite(yy[j]) || !isfinite(product))
                return tf_fail(env, TFUSE_ENUMERIC, "cost: inner product [%lld, %lld] is %g with squared norms %g and %g",
                               (long long)i, (long long)j, product, xx[i], yy[j]);
            out[i * m + j] = metric == TF_METRIC_COSINE ? (float)cosine_distance(xx[i], yy[j], product)
                                                        : finish_distance(metric, xx[i] + yy[j] - 2 * product);
        }
    }
    return TFUSE_OK;
}

/* ---- normalising -------------------------------------------------------------------------------- */

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

/* The bin that the element of rank *rank falls into; *rank becomes its rank within the bin. */
static uint32_t find_bin(const uint64_t *bins, uint64_t *rank)
{
    uint32_t bin = 0;
    while (*rank >= bins[bin])
        *rank -= bins[bin++];
    return bin;
}

/* The element of a rank from 0: upper halves of the keys are counted, then lower halves within one upper half. */
static float select_rank(const float *x, size_t count, uint64_t rank, uint64_t *bins)
{
    memset(bins, 0, HISTOGRAM * sizeof *bins);
    for (size_t k = 0; k < count; k++)
        bins[ordered(x[k]) >> 16]++;
    uint32_t high = find_bin(bins, &rank);
    memset(bins, 0, HISTOGRAM * sizeof *bins);
    for (size_t k = 0; k < count; k++)
        if (ordered(x[k]) >> 16 == high)
            bins[ordered(x[k]) & 0xffffu]++;
    return from_ordered(high << 16 | find_bin(bins, &rank));
}

/* Of the positive entries: where most units coincide (signs, dead units) the median of all is zero and no scale. */
static tfuse_status median(tf_env *env, const float *x, size_t count, double *out)
{
    uint64_t *bins = tf_alloc_array(env, HISTOGRAM, sizeof *bins);
    if (!bins)
        return TFUSE_ENOMEM;
    size_t skip = 0;
    for (size_t k = 0; k < count; k++)
        skip += !(x[k] > 0);
    size_t left = count - skip;
    double low = left ? (double)select_rank(x, count, skip + (left - 1) / 2, bins) : 0;
    double high = left % 2 || !left ? low : (double)select_rank(x, count, skip + left / 2, bins);
    *out = (low + high) / 2;
    tf_free(&env->mem, bins);
    return TFUSE_OK;
}

static tfuse_status norm_of(tf_env *env, tf_cost_norm norm, const float *cost, size_t count, double *out)
{
    *out = 0;
    if (norm == TF_COST_MEDIAN)
        return median(env, cost, count, out);
    for (size_t k = 0; k < count; k++)
        *out = norm == TF_COST_MAX ? fmax(*out, (double)cost[k]) : *out + (double)cost[k];
    if (norm == TF_COST_MEAN)
        *out /= (double)count;
    return TFUSE_OK;
}

tfuse_status tf_cost_normalise(tf_env *env, tf_cost_norm norm, int64_t n, int64_t m, float *cost)
{
    static const char *const names[] = {"maximum", "mean", "median"};
    size_t count = (size_t)n * (size_t)m;
    int64_t bad = tf_find_nonfinite(cost, count);
    if (bad >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "cost[%lld, %lld] is %g: costs must be finite", (long long)(bad / m),
                       (long long)(bad % m), (double)cost[bad]);
    bool zero = true;
    for (size_t k = 0; zero && k < count; k++)
        zero = cost[k] == 0;
    if (norm == TF_COST_NONE || zero)
        return TFUSE_OK;
    double divisor;
    TF_TRY(norm_of(env, norm, cost, count, &divisor));
    if (!(divisor > 0))
        return tf_fail(env, TFUSE_ENUMERIC, "cost: the %s is %g, so costs cannot be divided by it; take another normalisation",
                       names[norm], divisor);
    for (size_t k = 0; k < count; k++)
        cost[k] = (float)((double)cost[k] / divisor);
    return TFUSE_OK;
}
