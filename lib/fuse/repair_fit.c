/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_fit.c: ridge regression from Grams. Blocks of rows are multiplied in float32 and summed in float64; the solution is by Cholesky in float64.
 *
 * The strength rho, in units of the mean diagonal of X'X, is chosen from a grid by the error on every fifth sample, left out of the fit for
 * that; the weights are then fitted on all. Errors follow from the Grams: |Y - X W|² = Y'Y - 2 <W, X'Y> + <W, X'X W>.
 */
#include "fuse/repair.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

enum { ROWS = 1024 };

static const double grid[] = {1e-4, 1e-3, 1e-2, 1e-1, 1};

/* ---- Grams ---------------------------------------------------------------------------------------------------------------- */

typedef struct gathering {
    float *x, *y, *g; /* ROWS × n, ROWS × m, and a product */
    int64_t filled;
} gathering;

static void add_product(repair *r, tf_mat a, tf_mat b, float *work, double *sum)
{
    tf_gemm(r->env, 1, tf_mat_t(a), b, 0, tf_mat_rows(work, a.cols, b.cols));
    for (int64_t i = 0; i < a.cols * b.cols; i++)
        sum[i] += (double)work[i];
}

static void flush(repair *r, gathering *w, rp_grams *out, int set)
{
    const tf_mat x = tf_mat_rows(w->x, w->filled, out->n), y = tf_mat_rows(w->y, w->filled, out->m);
    if (!w->filled)
        return;
    add_product(r, x, x, w->g, out->xx[set]);
    add_product(r, x, y, w->g, out->xy[set]);
    out->yy[set] += tf_sum_sq(w->y, (size_t)(w->filled * out->m));
    w->filled = 0;
}

static void add_row(repair *r, gathering *w, const rp_grams *out, rp_row_fn input, const void *input_arg, rp_row_fn target,
                    const void *target_arg, int64_t row, float root)
{
    float *x = w->x + w->filled * out->n, *y = w->y + w->filled * out->m;
    input(r, input_arg, row, x);
    target(r, target_arg, row, y);
    for (int64_t i = 0; i < out->n; i++)
        x[i] *= root;
    for (int64_t i = 0; i < out->m; i++)
        y[i] *= root;
    w->filled++;
}

static tfuse_status gather_set(repair *r, const rp_rows *rows, rp_row_fn input, const void *input_arg, rp_row_fn target,
                               const void *target_arg, gathering *w, rp_grams *out, int set)
{
    for (int64_t s = 0; s < r->samples; s++) {
        if (rp_is_held(r->samples, s) != (set == 1))
            continue;
        for (int64_t t = 0; t < rows->tokens; t++) {
            if (rows->root[t] <= 0)
                continue;
            add_row(r, w, out, input, input_arg, target, target_arg, s * rows->tokens + t, rows->root[t]);
            if (w->filled == ROWS)
                flush(r, w, out, set);
        }
        TF_TRY(tf_check_cancel(r->env));
    }
    flush(r, w, out, set);
    return TFUSE_OK;
}

tfuse_status rp_grams_make(repair *r, const rp_rows *rows, int64_t n, rp_row_fn input, const void *input_arg, int64_t m, rp_row_fn target,
                           const void *target_arg, rp_grams *out)
{
    const int64_t wide = n > m ? n : m;
    gathering w = {tf_alloc_array(r->env, (size_t)(ROWS * n), sizeof(float)), tf_alloc_array(r->env, (size_t)(ROWS * m), sizeof(float)),
                   tf_alloc_array(r->env, (size_t)(n * wide), sizeof(float)), 0};
    tfuse_status status = w.x && w.y && w.g ? TFUSE_OK : TFUSE_ENOMEM;
    *out = (rp_grams){.n = n, .m = m};
    for (int set = 0; set < 2 && status == TFUSE_OK; set++) {
        out->xx[set] = tf_calloc(r->env, (size_t)(n * n), sizeof(double));
        out->xy[set] = tf_calloc(r->env, (size_t)(n * m), sizeof(double));
        status = out->xx[set] && out->xy[set] ? gather_set(r, rows, input, input_arg, target, target_arg, &w, out, set) : TFUSE_ENOMEM;
    }
    tf_free(&r->env->mem, w.x);
    tf_free(&r->env->mem, w.y);
    tf_free(&r->env->mem, w.g);
    return status;
}

void rp_grams_free(repair *r, rp_grams *g)
{
    for (int set = 0; set < 2; set++) {
        tf_free(&r->env->mem, g->xx[set]);
        tf_free(&r->env->mem, g->xy[set]);
    }
}

/* ---- ridge ------------------------------------------------------------------------------------------------------------------ */

static tf_dmat dmat(const double *x, int64_t rows, int64_t cols)
{
    union { const double *c; double *m; } p = {x}; /* read alone */
    return (tf_dmat){p.m, rows, cols, cols, 1};
}

/* |Y - X W|² of a set; work: n×m. */
static double error_of(repair *r, const rp_grams *g, int set, const double *w, double *work)
{
    double sum = g->yy[set];
    tf_dgemm(r->env, 1, dmat(g->xx[set], g->n, g->n), dmat(w, g->n, g->m), 0, dmat(work, g->n, g->m));
    for (int64_t i = 0; i < g->n * g->m; i++)
        sum += w[i] * (work[i] - 2 * g->xy[set][i]);
    return sum;
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

/* A strength at which the Gram is not positive is passed over; where none is better than the base, the base stays. */
tfuse_status rp_ridge(repair *r, const rp_grams *g, double *w, double *rho, double *before, double *after)
{
    const int64_t n = g->n, m = g->m;
    const int held = g->yy[1] > 0;
    double *work = tf_alloc_array(r->env, (size_t)(n * n + 2 * n * m), sizeof *work), *now = work + n * n + n * m;
    if (!work)
        return TFUSE_ENOMEM;
    const double size = g->yy[held] > 0 ? g->yy[held] : 1;
    *before = error_of(r, g, held, w, work) / size;
    *after = *before;
    *rho = INFINITY;
    tfuse_status status = TFUSE_OK;
    for (size_t i = 0; i < (r->ridge > 0 ? 1 : TF_LEN(grid)) && status == TFUSE_OK; i++) {
        const double strength = r->ridge > 0 ? r->ridge : grid[i];
        status = solve(r, g, false, strength, w, work, now);
        if (status == TFUSE_ENUMERIC) {
            status = TFUSE_OK;
            continue;
        }
        const double error = status == TFUSE_OK && is_finite(now, n * m) ? error_of(r, g, held, now, work) / size : INFINITY;
        if (error < *after || (r->ridge > 0 && isfinite(error))) {
            *after = error;
            *rho = strength;
        }
    }
    if (status == TFUSE_OK && isfinite(*rho)) {
        status = solve(r, g, r->all, *rho, w, work, now);
        if (status == TFUSE_OK && is_finite(now, n * m))
            memcpy(w, now, (size_t)(n * m) * sizeof *w);
    }
    tf_free(&r->env->mem, work);
    return status;
}
