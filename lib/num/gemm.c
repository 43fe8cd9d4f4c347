/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm.c: matrix products on BLIS; the only file that includes <blis.h>.
 *
 * The typed, serial API of BLIS is called on tiles of C that are cut by the sizes alone, each with the
 * whole inner dimension, so every element is the same sum for any number of threads. BLIS ends the
 * process on arguments that it does not take (empty sizes, strides that overlap): these are
 * handled here first.
 */
#include "base/pool.h"
#include "num/num.h"

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#endif
#include <blis.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* A tile is large enough for BLIS to run at its full speed, small enough to give several cores work
 * in a product of a few hundred rows. Products below SMALL_FLOPS take less time than waking a thread. */
enum { TILE_ROWS = 128, TILE_COLS = 256, SMALL_FLOPS = 2000000 };

typedef struct view {
    char *data;
    int64_t rows, cols, rs, cs;
} view;

typedef struct product {
    bool is_double, plain; /* plain: strides that BLIS does not take */
    double alpha, beta;
    view a, b, c;
    int64_t tiles_across;
} product;

static char *at(const product *p, const view *v, int64_t i, int64_t j)
{
    return v->data + (i * v->rs + j * v->cs) * (int64_t)(p->is_double ? sizeof(double) : sizeof(float));
}

static double get(const product *p, const view *v, int64_t i, int64_t j)
{
    const void *x = at(p, v, i, j);
    return p->is_double ? *(const double *)x : (double)*(const float *)x;
}

static void put(const product *p, int64_t i, int64_t j, double value)
{
    void *x = at(p, &p->c, i, j);
    if (p->is_double)
        *(double *)x = value;
    else
        *(float *)x = (float)value;
}

/* Is every element at a place of its own, in the row-wise or column-wise order that BLIS asks for? */
static bool strides_fit(const view *v)
{
    int64_t rs = v->rs, cs = v->cs;
    if (rs < 1 || cs < 1)
        return false;
    return (cs == 1 || rs >= cs ? rs / cs >= v->cols || v->rows == 1 : false) ||
           (rs == 1 || cs >= rs ? cs / rs >= v->rows || v->cols == 1 : false);
}

/* A stride along an extent of one has no meaning; this gives it the value of a dense matrix. */
static void settle_strides(view *v)
{
    if (v->rows == 1 && v->cols == 1)
        v->rs = v->cs = 1;
    else if (v->rows == 1)
        v->rs = v->cs * v->cols;
    else if (v->cols == 1)
        v->cs = v->rs * v->rows;
}

/* C = beta C + alpha A B on rows i0.. and columns j0.., element by element. */
static void multiply_plain(const product *p, int64_t i0, int64_t j0, int64_t m, int64_t n)
{
    for (int64_t i = i0; i < i0 + m; i++) {
        for (int64_t j = j0; j < j0 + n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < p->a.cols; k++)
                sum += get(p, &p->a, i, k) * get(p, &p->b, k, j);
            double old = p->beta == 0 ? 0 : p->beta * get(p, &p->c, i, j);
            put(p, i, j, p->a.cols > 0 ? old + p->alpha * sum : old);
        }
    }
}

static void multiply(const product *p, int64_t i0, int64_t j0, int64_t m, int64_t n)
{
    if (p->plain) {
        multiply_plain(p, i0, j0, m, n);
        return;
    }
    void *a = at(p, &p->a, i0, 0), *b = at(p, &p->b, 0, j0), *c = at(p, &p->c, i0, j0);
    float alpha = (float)p->alpha, beta = (float)p->beta;
    double dalpha = p->alpha, dbeta = p->beta;
    if (p->is_double)
        bli_dgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, p->a.cols, &dalpha, a, p->a.rs, p->a.cs, b, p->b.rs,
                  p->b.cs, &dbeta, c, p->c.rs, p->c.cs);
    else
        bli_sgemm(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, p->a.cols, &alpha, a, p->a.rs, p->a.cs, b, p->b.rs,
                  p->b.cs, &beta, c, p->c.rs, p->c.cs);
}

static void tile_body(void *arg, uint32_t i)
{
    const product *p = arg;
    int64_t i0 = i / p->tiles_across * TILE_ROWS, j0 = i % p->tiles_across * TILE_COLS;
    int64_t m = p->c.rows - i0, n = p->c.cols - j0;
    multiply(p, i0, j0, m < TILE_ROWS ? m : TILE_ROWS, n < TILE_COLS ? n : TILE_COLS);
}

static void run(tf_env *env, product *p)
{
    int64_t m = p->c.rows, n = p->c.cols, k = p->a.cols;
    if (m <= 0 || n <= 0)
        return;
    settle_strides(&p->a);
    settle_strides(&p->b);
    settle_strides(&p->c);
    p->plain = k <= 0 || !strides_fit(&p->a) || !strides_fit(&p->b) || !strides_fit(&p->c);
    int64_t down = (m - 1) / TILE_ROWS + 1, across = (n - 1) / TILE_COLS + 1;
    if (2.0 * (double)m * (double)n * (double)k < SMALL_FLOPS || down > UINT32_MAX / across) {
        multiply(p, 0, 0, m, n);
        return;
    }
    p->tiles_across = across;
    tf_parallel_for(env, (uint32_t)(down * across), tile_body, p);
}

void tf_gemm(tf_env *env, float alpha, tf_mat a, tf_mat b, float beta, tf_mat c)
{
    product p = {.alpha = (double)alpha,
                 .beta = (double)beta,
                 .a = {(char *)a.data, a.rows, a.cols, a.rs, a.cs},
                 .b = {(char *)b.data, b.rows, b.cols, b.rs, b.cs},
                 .c = {(char *)c.data, c.rows, c.cols, c.rs, c.cs}};
    run(env, &p);
}

void tf_dgemm(tf_env *env, double alpha, tf_dmat a, tf_dmat b, double beta, tf_dmat c)
{
    product p = {.is_double = true,
                 .alpha = alpha,
                 .beta = beta,
                 .a = {(char *)a.data, a.rows, a.cols, a.rs, a.cs},
                 .b = {(char *)b.data, b.rows, b.cols, b.rs, b.cs},
                 .c = {(char *)c.data, c.rows, c.cols, c.rs, c.cs}};
    run(env, &p);
}
