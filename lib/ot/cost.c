/* SPDX-License-Identifier: Apache-2.0
 *
 * cost.c: ground costs between rows of features: one float32 product X Y' whose tiles become distances while they are in cache.
 *
 * |x|^2 + |y|^2 - 2 x.y loses all digits where x and y nearly agree. A float32 product is off by up to about 4e-7 |x| |y| (where BLIS adds a slice's
 * terms one after the other), so a squared distance by about 4e-7 of |x|^2 + |y|^2, and relative to itself by less than 1e-4 where it is at least CANCELS =
 * 1/128 of that. Smaller ones
 * are summed from the features as given, in float64: for units at random there are none, for a permuted copy of a network one a row. Features
 * are first moved to a common centre, which no distance notices and which makes |x|^2 + |y|^2 as small as it can be, and scaled by a power
 * of two, so that no square over- or underflows; entries whose norms are below TINY even so are summed directly as well.
 *
 * Features are taken a slice of at most SLICE at a time: what is centred or scaled then stays small, in cache from one tile to the next, and the
 * product adds slice to slice, as it would among its own.
 *
 * Cosine: 1 - x.y / (|x| |y|) on rows of unit length, with the same direct sum where it is below CANCELS. A row of zeros is at distance
 * 1 from others and at 0 from another row of zeros.
 */
#include "ot/cost.h"

#include "base/pool.h"
#include <math.h>
#include <string.h>

/* Tiles are those of the matrix product, and stay in a core's second-level cache. */
enum { TALL_TILE = 512, LOW_TILE = 128, TILE_COLS = 256, SLICE = TF_COST_SLICE, CHUNK = 64, ROW_BLOCK = 64 };
#define BITS_OF_INFINITY 0x7f800000u
#define CANCELS (1.0 / 128)
#define TINY 0x1p-100

typedef struct features {
    tf_env *env;
    tf_metric metric;
    tf_mat x, y;         /* as given */
    int64_t slice, width; /* the first feature of the slice, and how many */
    tf_mat from_x, from_y; /* the slice with dense rows: as given, or copied to xs, ys */
    float *rows;         /* of xs, ys */
    tf_mat xs, ys;       /* the slice, centred and scaled, or of rows of unit length */
    double *x_sq, *y_sq; /* squared lengths of all slices of xs, ys so far; cosine: of x, y */
    double *sum;         /* of columns */
    float *centre;       /* times scale */
    uint32_t *top;       /* of each chunk of a slice's columns: bits of the largest number */
    float scale, unscale; /* xs = scale * (x - centre); unscale^2 scale = 1 */
    float *out;
    int64_t tile_rows, tiles_across;
} features;

/* ---- preparing the features ------------------------------------------------------------------- */

static float at(tf_mat a, int64_t i, int64_t k)
{
    return a.data[i * a.rs + k * a.cs];
}

static tf_mat dense_rows(const tf_env *env, tf_mat a, tf_mat copy)
{
    if (a.cs == 1)
        return a;
    for (int64_t i = 0; i < a.rows && !tf_polled(env, i); i++)
        for (int64_t k = 0; k < a.cols; k++)
            copy.data[i * copy.rs + k] = at(a, i, k);
    return copy;
}

static uint32_t add_rows(const tf_env *env, tf_mat a, int64_t from, int64_t count, double *sum, uint32_t top)
{
    for (int64_t i = 0; i < a.rows && !tf_polled(env, i); i++)
        top = tf_cost_add_row(a.data + i * a.rs + from, count, sum, top);
    return top;
}

/* Slices are of about one width, whether rows are dense or not. */
static int64_t slice_width(int64_t d)
{
    const int64_t slices = (d + SLICE - 1) / SLICE;
    return (d + slices - 1) / slices;
}

static tf_mat columns(tf_mat a, int64_t from, int64_t count)
{
    return (tf_mat){a.data + from * a.cs, a.rows, count, a.rs, a.cs};
}

static void take_slice(features *f, int64_t from)
{
    const int64_t n = f->x.rows, m = f->y.rows, d = f->x.cols, most = slice_width(d);
    f->slice = from;
    f->width = d - from < most ? d - from : most;
    f->xs = tf_mat_rows(f->rows, n, f->width);
    f->ys = tf_mat_rows(f->rows + n * f->width, m, f->width);
    f->from_x = dense_rows(f->env, columns(f->x, from, f->width), f->xs);
    f->from_y = dense_rows(f->env, columns(f->y, from, f->width), f->ys);
}

/* Sums of a chunk of the slice's columns, rows in order. */
static void chunk_sums(void *arg, uint32_t chunk)
{
    const features *f = arg;
    const int64_t from = (int64_t)chunk * CHUNK, left = f->width - from, count = left < CHUNK ? left : CHUNK;
    double *sum = f->sum + f->slice + from;
    f->top[chunk] = add_rows(f->env, f->from_y, from, count, sum, add_rows(f->env, f->from_x, from, count, sum, f->top[chunk]));
}

static uint32_t row_blocks(const features *f)
{
    return (uint32_t)((f->x.rows + f->y.rows + ROW_BLOCK - 1) / ROW_BLOCK);
}

/* Calls body for the rows of a block of both sides: the slice's row as it is and as it becomes, and its squared length so far. */
static void for_rows(const features *f, uint32_t block, void (*body)(const features *f, const float *from, float *to, double *sq))
{
    const int64_t n = f->x.rows, from = (int64_t)block * ROW_BLOCK;
    for (int64_t r = from; r < from + ROW_BLOCK && r < n + f->y.rows && !tf_polled(f->env, r); r++) {
        const int64_t i = r < n ? r : r - n;
        const tf_mat source = r < n ? f->from_x : f->from_y, to = r < n ? f->xs : f->ys;
        body(f, source.data + i * source.rs, to.data + i * to.rs, (r < n ? f->x_sq : f->y_sq) + i);
    }
}

static void measure_row(const features *f, const float *from, float *to, double *sq)
{
    (void)to;
    *sq += tf_cost_sq_length(from, f->width);
}

static void measure_block(void *arg, uint32_t block)
{
    for_rows(arg, block, measure_row);
}

static void prepare_row(const features *f, const float *from, float *to, double *sq)
{
    if (f->metric == TF_METRIC_COSINE)
        tf_cost_scale_row(from, *sq > 0 ? 1 / sqrt(*sq) : 0, f->width, to);
    else
        *sq += tf_cost_centre_row(from, f->scale, f->centre + f->slice, f->width, to);
}

static void prepare_block(void *arg, uint32_t block)
{
    for_rows(arg, block, prepare_row);
}

static tfuse_status name_bad(tf_env *env, const char *name, tf_mat a)
{
    for (int64_t i = 0; i < a.rows; i++)
        for (int64_t k = 0; k < a.cols; k++)
            if (!isfinite(at(a, i, k)))
                return tf_fail(env, TFUSE_ENUMERIC, "cost: feature %lld of row %lld of %s is %g; features must be finite",
                               (long long)k, (long long)i, name, (double)at(a, i, k));
    return TFUSE_OK;
}

/* Checks that the features are finite; the centre, and the power of two that brings the largest below one. */
static tfuse_status find_centre(tf_env *env, features *f)
{
    const int64_t d = f->x.cols, most = slice_width(d), chunks = (most + CHUNK - 1) / CHUNK;
    uint32_t top = 0;
    for (int64_t from = 0; from < d; from += most) {
        take_slice(f, from);
        tf_parallel_for(env, (uint32_t)((f->width + CHUNK - 1) / CHUNK), chunk_sums, f);
        if (f->metric == TF_METRIC_COSINE)
            tf_parallel_for(env, row_blocks(f), measure_block, f);
        TF_TRY(tf_check_cancel(env));
    }
    for (int64_t c = 0; c < chunks; c++)
        top = f->top[c] > top ? f->top[c] : top;
    if (top >= BITS_OF_INFINITY) {
        TF_TRY(name_bad(env, "the first model", f->x));
        return name_bad(env, "the second model", f->y);
    }
    float largest;
    int exponent = 0;
    memcpy(&largest, &top, sizeof largest);
    (void)frexpf(largest, &exponent);
    exponent += exponent & 1; /* even, so that unscale is a power of two */
    exponent = exponent < -124 ? -124 : exponent;
    f->scale = ldexpf(1, -exponent);
    f->unscale = ldexpf(1, exponent / 2);
    for (int64_t k = 0; k < d; k++)
        f->centre[k] = (float)(f->sum[k] / (double)(f->x.rows + f->y.rows) * (double)f->scale);
    return TFUSE_OK;
}

static tfuse_status features_init(tf_env *env, tf_arena *arena, features *f)
{
    const int64_t n = f->x.rows, m = f->y.rows, d = f->x.cols;
    f->rows = tf_alloc_array(env, (size_t)n + (size_t)m, (size_t)slice_width(d) * sizeof *f->rows); /* not cleared, unlike an arena's */
    f->sum = tf_arena_array(env, arena, (size_t)d, sizeof *f->sum);
    f->centre = tf_arena_array(env, arena, (size_t)d, sizeof *f->centre);
    f->top = tf_arena_array(env, arena, SLICE / CHUNK + 1, sizeof *f->top);
    f->x_sq = tf_arena_array(env, arena, (size_t)n, sizeof *f->x_sq);
    f->y_sq = tf_arena_array(env, arena, (size_t)m, sizeof *f->y_sq);
    if (!f->rows || !f->sum || !f->centre || !f->top || !f->x_sq || !f->y_sq)
        return TFUSE_ENOMEM;
    f->tile_rows = n >= TALL_TILE ? TALL_TILE : LOW_TILE;
    f->tiles_across = (m + TILE_COLS - 1) / TILE_COLS;
    return find_centre(env, f);
}

/* ---- tiles ------------------------------------------------------------------------------------ */

double tf_cosine_distance(double xx, double yy, double xy)
{
    if (!(xx > 0) || !(yy > 0))
        return xx > 0 || yy > 0 ? 1 : 0;
    return fmin(fmax(1 - xy / (sqrt(xx) * sqrt(yy)), 0), 2);
}

/* The features of both rows as given, in float64: in dense rows, or element by element. */
static double direct_sum(const features *f, int64_t i, int64_t j)
{
    const bool product = f->metric == TF_METRIC_COSINE;
    const int64_t d = f->x.cols;
    if (f->x.cs == 1 && f->y.cs == 1)
        return (product ? tf_cost_dot : tf_cost_sq_distance)(f->x.data + i * f->x.rs, f->y.data + j * f->y.rs, d);
    double sum = 0;
    for (int64_t k = 0; k < d; k++) {
        const double x = (double)at(f->x, i, k), y = (double)at(f->y, j, k);
        sum += product ? x * y : (x - y) * (x - y);
    }
    return sum;
}

static float direct_entry(const features *f, int64_t i, int64_t j)
{
    if (f->metric == TF_METRIC_COSINE)
        return (float)tf_cosine_distance(f->x_sq[i], f->y_sq[j], direct_sum(f, i, j));
    const double sq = direct_sum(f, i, j);
    return (float)(f->metric == TF_METRIC_EUCLIDEAN ? sqrt(sq) : sq);
}

/* `count` products of row i with columns from j0 on become distances. */
static void finish_row(const features *f, int64_t i, int64_t j0, int64_t count, float *row)
{
    const bool cosine = f->metric == TF_METRIC_COSINE;
    bool any = cosine ? tf_cost_finish_cosine((float)CANCELS, count, row)
                      : tf_cost_finish_row(f->metric == TF_METRIC_EUCLIDEAN, f->x_sq[i], f->y_sq + j0, f->unscale, CANCELS, TINY, count, row);
    for (int64_t j = 0; any && j < count; j++)
        if (row[j] == TF_COST_NEAR)
            row[j] = direct_entry(f, i, j0 + j);
    for (int64_t j = 0; cosine && !(f->x_sq[i] > 0) && j < count; j++)
        row[j] = f->y_sq[j0 + j] > 0 ? 1 : 0;
}

/* Adds the slice's products to a tile, which the last slice finishes. */
static void add_tile(void *arg, uint32_t tile)
{
    const features *f = arg;
    const int64_t n = f->x.rows, m = f->y.rows, d = f->width;
    const int64_t i0 = tile / f->tiles_across * f->tile_rows, j0 = tile % f->tiles_across * TILE_COLS;
    const int64_t rows = n - i0 < f->tile_rows ? n - i0 : f->tile_rows, cols = m - j0 < TILE_COLS ? m - j0 : TILE_COLS;
    if (tf_cancelled(f->env))
        return;
    const tf_mat x = {f->xs.data + i0 * d, rows, d, d, 1}, y = {f->ys.data + j0 * d, cols, d, d, 1};
    const tf_mat out = {f->out + i0 * m + j0, rows, cols, m, 1};
    tf_gemm(f->env, 1, x, tf_mat_t(y), f->slice > 0, out);
    for (int64_t i = 0; f->slice + d == f->x.cols && i < rows && !tf_polled(f->env, i); i++) /* a row at a distance of nothing is all summed directly */
        finish_row(f, i0 + i, j0, cols, out.data + i * m);
}

tfuse_status tf_cost_features(tf_env *env, tf_metric metric, tf_mat x, tf_mat y, float *out)
{
    if (x.cols != y.cols)
        return tf_fail(env, TFUSE_ESHAPE, "cost: rows have %lld features in one model and %lld in the other", (long long)x.cols,
                       (long long)y.cols);
    if (x.rows <= 0 || y.rows <= 0 || x.cols <= 0)
        return tf_fail(env, TFUSE_ESHAPE, "cost: %lld and %lld rows of %lld features: nothing to compare", (long long)x.rows,
                       (long long)y.rows, (long long)x.cols);
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    features f = {.env = env, .metric = metric, .x = x, .y = y, .out = out};
    tfuse_status status;
    TF_TRY_OUT(features_init(env, &arena, &f));
    const int64_t tiles = (x.rows + f.tile_rows - 1) / f.tile_rows * f.tiles_across;
    if (tiles > UINT32_MAX)
        status = tf_fail(env, TFUSE_ESHAPE, "cost: %lld and %lld rows are too many", (long long)x.rows, (long long)y.rows);
    TF_TRY_OUT(status);
    for (int64_t from = 0; from < x.cols; from += f.width) {
        take_slice(&f, from);
        tf_parallel_for(env, row_blocks(&f), prepare_block, &f);
        tf_parallel_for(env, (uint32_t)tiles, add_tile, &f);
        TF_TRY_OUT(tf_check_cancel(env));
    }
out:
    tf_free(&env->mem, f.rows);
    tf_arena_free(&arena);
    return status;
}
