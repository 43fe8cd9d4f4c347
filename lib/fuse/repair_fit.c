/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_fit.c: ridge regression from Grams. Blocks of rows are multiplied in float32 and summed in float64; the solution is by Cholesky in float64.
 *
 * The strength rho, in units of the mean diagonal of X'X, is chosen from a grid by the error on every fifth sample, left out of the fit for
 * that, over at most RP_TRIAL targets spread evenly; the weights are then fitted on all. Errors follow from the Grams:
 * |Y - X W|² = Y'Y - 2 <W, X'Y> + <W, X'X W>. They are differences of large numbers: below ROUNDING of Y'Y they say nothing, and a fit to them
 * would be one to rounding, which the smallest strength amplifies wherever the samples do not reach.
 */
#include "base/pool.h"
#include "fuse/repair.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 64 }; /* rows gathered by one body */

/* What float32 sums over RP_ROWS rows leave of an error, as a share of the targets' square: 2^-24 sqrt(RP_ROWS) for signs by chance, five times that for
 * samples that are all alike. */
#define ROUNDING 1e-5

static const double grid[] = {1e-4, 1e-3, 1e-2, 1e-1, 1};

/* ---- Grams ---------------------------------------------------------------------------------------------------------------- */

typedef struct gathering {
    repair *r;
    const rp_rows *rows;
    rp_rows_fn input, target;
    const void *input_arg, *target_arg;
    rp_grams *out;
    int set;
    bool given; /* X'X is there already */
    float *x, *y, *tile; /* RP_ROWS × n, RP_ROWS × m, a product for each thread */
    int64_t row[RP_ROWS];   /* those that are gathered */
    int64_t filled;
} gathering;

static void fill_chunk(void *arg, uint32_t i)
{
    const gathering *w = arg;
    const int64_t n = w->out->n, m = w->out->m, first = (int64_t)i * CHUNK, left = w->filled - first, count = left < CHUNK ? left : CHUNK;
    float *x = w->x + first * n, *y = w->y + first * m;
    w->input(w->r, w->input_arg, w->row + first, count, x);
    w->target(w->r, w->target_arg, w->row + first, count, y);
    for (int64_t k = 0; k < count; k++) {
        const float root = rp_root(w->rows, w->row[first + k]);
        for (int64_t j = 0; j < n; j++)
            x[k * n + j] *= root;
        for (int64_t j = 0; j < m; j++)
            y[k * m + j] *= root;
    }
}

static int64_t tiles(int64_t extent, int64_t size)
{
    return (extent + size - 1) / size;
}

/* sum += X' Z over a tile. */
static void add_tile(const gathering *w, float *z, int64_t cols, int64_t i0, int64_t j0, float *tile, double *sum)
{
    const int64_t n = w->out->n, down = n - i0 < RP_TILE_ROWS ? n - i0 : RP_TILE_ROWS, across = cols - j0 < RP_TILE_COLS ? cols - j0 : RP_TILE_COLS;
    tf_gemm_sum(w->r->env, (tf_mat){w->x + i0, down, w->filled, 1, n}, (tf_mat){z + j0, w->filled, across, cols, 1}, across, tile,
                (tf_dmat){sum + i0 * cols + j0, down, across, cols, 1});
}

/* Of X'X the tiles that reach the diagonal or lie right of it, then X'Y. */
static void product_tile(void *arg, uint32_t t, uint32_t thread)
{
    const gathering *w = arg;
    const int64_t n = w->out->n, m = w->out->m, wide = tiles(n, RP_TILE_COLS), square = tiles(n, RP_TILE_ROWS) * wide, i = (int64_t)t;
    float *tile = w->tile + (int64_t)thread * RP_TILE_ROWS * RP_TILE_COLS;
    if (i >= square) {
        const int64_t k = i - square, across = tiles(m, RP_TILE_COLS);
        add_tile(w, w->y, m, k / across * RP_TILE_ROWS, k % across * RP_TILE_COLS, tile, w->out->xy[w->set]);
    } else if (!w->given && (i % wide + 1) * RP_TILE_COLS > i / wide * RP_TILE_ROWS) {
        add_tile(w, w->x, n, i / wide * RP_TILE_ROWS, i % wide * RP_TILE_COLS, tile, w->out->xx[w->set]);
    }
}

static void flush(gathering *w)
{
    const rp_grams *g = w->out;
    tf_env *env = w->r->env;
    if (!w->filled)
        return;
    tf_parallel_for(env, (uint32_t)tiles(w->filled, CHUNK), fill_chunk, w);
    tf_parallel_lanes(env, (uint32_t)(tiles(g->n, RP_TILE_ROWS) * (tiles(g->n, RP_TILE_COLS) + tiles(g->m, RP_TILE_COLS))), product_tile, w);
    for (int64_t i = 0; i < w->filled; i++)
        for (int64_t j = 0; j < g->m; j++)
            g->yy[w->set][j] += (double)w->y[i * g->m + j] * (double)w->y[i * g->m + j];
    w->filled = 0;
}

static tfuse_status gather_set(gathering *w)
{
    repair *r = w->r;
    double *xx = w->out->xx[w->set];
    for (int64_t s = 0; s < r->samples; s++) {
        if (rp_is_held(r->samples, s) != (w->set == 1))
            continue;
        for (int64_t t = 0; t < w->rows->tokens; t++) {
            const int64_t row = s * w->rows->tokens + t;
            if (rp_root(w->rows, row) <= 0)
                continue;
            w->row[w->filled++] = row;
            if (w->filled == RP_ROWS)
                flush(w);
        }
        TF_TRY(tf_check_cancel(r->env));
    }
    flush(w);
    for (int64_t i = 0; i < w->out->n && !w->given; i++)
        for (int64_t j = 0; j < i; j++)
            xx[i * w->out->n + j] = xx[j * w->out->n + i];
    return TFUSE_OK;
}

tfuse_status rp_grams_make(repair *r, const rp_rows *rows, int64_t n, rp_rows_fn input, const void *input_arg, int64_t m, rp_rows_fn target,
                           const void *target_arg, rp_grams *out)
{
    tf_env *env = r->env;
    gathering *w = tf_calloc(env, 1, sizeof *w);
    if (!w)
        return TFUSE_ENOMEM;
    *w = (gathering){.r = r, .rows = rows, .input = input, .input_arg = input_arg, .target = target, .target_arg = target_arg, .out = out,
                      .given = out->xx[0] != NULL};
    w->x = tf_alloc_array(env, (size_t)(RP_ROWS * n), sizeof *w->x);
    w->y = tf_alloc_array(env, (size_t)(RP_ROWS * m), sizeof *w->y);
    w->tile = tf_alloc_array(env, (size_t)RP_TILE_ROWS * RP_TILE_COLS * tf_threads(env), sizeof *w->tile);
    tfuse_status status = w->x && w->y && w->tile ? TFUSE_OK : TFUSE_ENOMEM;
    *out = (rp_grams){.n = n, .m = m, .xx = {out->xx[0], out->xx[1]}};
    for (w->set = 0; w->set < 2 && status == TFUSE_OK; w->set++) {
        if (!w->given)
            out->xx[w->set] = tf_calloc(env, (size_t)(n * n), sizeof(double));
        out->xy[w->set] = tf_calloc(env, (size_t)(n * m), sizeof(double));
        out->yy[w->set] = tf_calloc(env, (size_t)m, sizeof(double));
        status = out->xx[w->set] && out->xy[w->set] && out->yy[w->set] ? gather_set(w) : TFUSE_ENOMEM;
    }
    tf_free(&env->mem, w->x);
    tf_free(&env->mem, w->y);
    tf_free(&env->mem, w->tile);
    tf_free(&env->mem, w);
    return status;
}

void rp_grams_free(repair *r, rp_grams *g)
{
    for (int set = 0; set < 2; set++) {
        tf_free(&r->env->mem, g->xx[set]);
        tf_free(&r->env->mem, g->xy[set]);
        tf_free(&r->env->mem, g->yy[set]);
    }
}

/* ---- ridge ------------------------------------------------------------------------------------------------------------------ */

static tf_dmat dmat(const double *x, int64_t rows, int64_t cols)
{
    union { const double *c; double *m; } p = {x}; /* read alone */
    return (tf_dmat){p.m, rows, cols, cols, 1};
}

static double total(const rp_grams *g, int set)
{
    double sum = 0;
    for (int64_t j = 0; j < g->m; j++)
        sum += g->yy[set][j];
    return sum;
}

/* |Y - X W|² of a set, 0 where rounding has it below; work: n×m. */
static double error_of(repair *r, const rp_grams *g, int set, const double *w, double *work)
{
    double sum = total(g, set);
    tf_dgemm(r->env, 1, dmat(g->xx[set], g->n, g->n), dmat(w, g->n, g->m), 0, dmat(work, g->n, g->m));
    for (int64_t i = 0; i < g->n * g->m; i++)
        sum += w[i] * (work[i] - 2 * g->xy[set][i]);
    return sum < 0 ? 0 : sum;
}

/* (X'X + rho) W = X'Y + rho base, of the first set or of both. work: n×n and n×m. */
static tfuse_status solve(repair *r, const rp_grams *g, bool all, double rho, const double *base, double *work, double *w)
{
    const int64_t n = g->n, m = g->m;
    double *a = work, *b = work + n * n, trace = 0;
    for (int64_t i = 0; i < n * n; i++)
        a[i] = g->xx[0][i] + (all ? g->xx[1][i] : 0);
    for (int64_t i = 0; i < n; i++)
        trace += a[i * n + i];
    const double add = rho * (trace > 0 ? trace / (double)n : 1);
    for (int64_t i = 0; i < n; i++)
        a[i * n + i] += add;
    for (int64_t i = 0; i < n * m; i++)
        b[i] = g->xy[0][i] + (all ? g->xy[1][i] : 0) + add * base[i];
    return tf_chol_solve(r->env, n, m, a, b, w);
}

static bool is_finite(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * 0;
    return sum == 0;
}

/* Some columns of a matrix of m, evenly spread: `count` of them. */
static void pick_columns(const double *x, int64_t rows, int64_t m, int64_t count, double *out)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < count; j++)
            out[i * count + j] = x[i * m + j * m / count];
}

/* The strength with the least error on held-out samples, to be better than the base by more than rounding. A strength at which the Gram is not
 * positive is passed over; where none is better than the base, *rho is infinite. g: of the targets that are tried; work: n² + 2 n m. */
static tfuse_status choose_strength(repair *r, const rp_grams *g, const double *base, double *work, double *rho, double *before, double *after)
{
    const int64_t n = g->n, m = g->m;
    const int held = total(g, 1) > 0;
    const double all = total(g, held), size = all > 0 ? all : 1;
    double *now = work + n * n + n * m;
    *before = *after = error_of(r, g, held, base, work) / size;
    double least = *before - ROUNDING;
    *rho = INFINITY;
    for (size_t i = 0; i < (r->ridge > 0 ? 1 : TF_LEN(grid)); i++) {
        const double strength = r->ridge > 0 ? r->ridge : grid[i];
        const tfuse_status status = solve(r, g, false, strength, base, work, now);
        if (status == TFUSE_ENUMERIC)
            continue;
        TF_TRY(status);
        const double error = is_finite(now, n * m) ? error_of(r, g, held, now, work) / size : INFINITY;
        if (error < least || (r->ridge > 0 && isfinite(error))) {
            least = *after = error;
            *rho = strength;
        }
    }
    return TFUSE_OK;
}

tfuse_status rp_ridge(repair *r, const rp_grams *g, double *w, double *rho, double *before, double *after)
{
    const int64_t n = g->n, m = g->m, few = m < RP_TRIAL ? m : RP_TRIAL;
    double *work = tf_alloc_array(r->env, (size_t)(n * n + 2 * n * m + 3 * n * few + 2 * few), sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    double *now = work + n * n + n * m, *base = now + n * m, *xy = base + n * few, *yy = xy + 2 * n * few;
    const rp_grams some = {n, few, {g->xx[0], g->xx[1]}, {xy, xy + n * few}, {yy, yy + few}};
    pick_columns(w, n, m, few, base);
    for (int set = 0; set < 2; set++) {
        pick_columns(g->xy[set], n, m, few, some.xy[set]);
        pick_columns(g->yy[set], 1, m, few, some.yy[set]);
    }
    tfuse_status status = choose_strength(r, &some, base, work, rho, before, after);
    if (status == TFUSE_OK && isfinite(*rho)) {
        status = solve(r, g, r->all, *rho, w, work, now);
        if (status == TFUSE_OK && is_finite(now, n * m))
            memcpy(w, now, (size_t)(n * m) * sizeof *w);
    }
    tf_free(&r->env->mem, work);
    return status;
}
