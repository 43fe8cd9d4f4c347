/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm.c: matrix products on BLIS; the only file that includes <blis.h>.
 *
 * The typed, serial API of BLIS is called on tiles of C that are cut by the sizes alone, each with the
 * whole inner dimension, so every element is the same sum for any number of threads. BLIS ends the
 * process on arguments that it does not take (empty sizes, strides that overlap): these are
 * handled here first.
 *
 * BLIS 0.9 reads beyond the end of its operands: float32 kernels for small products read a row too many where
 * the inner dimension is not a multiple of 8, and a vector too wide at the end of a line of C whose length is
 * not one of 4. What is read is not used, but at the end of a mapped file it is a fault. So the
 * last columns of A and rows of B go through a copy that is padded with zeros, and the last line of C
 * through a copy with room behind it.
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

/* Products with fewer than TALL_TILE rows are cut finer, so that several cores have work. Products below SMALL_FLOPS take less time than waking
 * a thread.
 *
 * BLIS packs its operands where all sizes are some hundreds, and multiplies smaller ones from where they lie. That is fast where the rows of both
 * are dense; half as fast where A lies column by column (x'y of tokens), and where B does (tokens times weights), unless it is so small that
 * it can be turned first, or strides are multiples of 4096 bytes. So float32 operands are packed where A lies so, and from PACKED numbers of C and PACKED_INNER
 * terms on where B does. With fewer terms BLIS's own way also rounds less, which costs count on (ot/cost.c). Measured on Zen 3 over sizes of 16 to 3072:
 * packing gains up to 2.2 there, and loses nowhere more than a tenth. */
enum { MANY_ROWS = 64, PANEL = 8192, PACKED = 8192, PACKED_ROWS = 32, PACKED_COLS = 64, PACKED_INNER = 513 };
enum { TALL_TILE = 512, LOW_TILE = 128, TILE_COLS = 256, SMALL_FLOPS = 2000000, INNER_STEP = 8, LINE_STEP = 4 };

typedef struct view {
    char *data;
    int64_t rows, cols, rs, cs;
} view;

typedef struct product {
    bool is_double, plain; /* plain: strides that BLIS does not take */
    double alpha, beta;
    view a, b, c;
    int64_t tile_rows, tiles_across;
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

static void put(const product *p, const view *v, int64_t i, int64_t j, double value)
{
    void *x = at(p, v, i, j);
    if (p->is_double)
        *(double *)x = value;
    else
        *(float *)x = (float)value;
}

/* Is every element at a place of its own, row after row or column after column, as BLIS asks? Settled strides. */
static bool strides_fit(const view *v)
{
    return v->rs >= 1 && v->cs >= 1 && (v->rs / v->cs >= v->cols || v->cs / v->rs >= v->rows);
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

static view part(const product *p, const view *v, int64_t i, int64_t j, int64_t rows, int64_t cols)
{
    view w = {at(p, v, i, j), rows, cols, v->rs, v->cs};
    return w;
}

/* C = alpha A B + beta C, element by element. */
static void multiply_plain(const product *p, view a, view b, view c)
{
    for (int64_t i = 0; i < c.rows; i++) {
        for (int64_t j = 0; j < c.cols; j++) {
            double sum = 0;
            for (int64_t k = 0; k < a.cols; k++)
                sum += get(p, &a, i, k) * get(p, &b, k, j);
            double old = p->beta == 0 ? 0 : p->beta * get(p, &c, i, j);
            put(p, &c, i, j, a.cols > 0 ? old + p->alpha * sum : old);
        }
    }
}

static bool worth_packing(const view *a, const view *b, const view *c)
{
    const bool enough = c->rows >= PACKED_ROWS && c->cols >= PACKED_COLS;
    return enough && (a->cs != 1 || (b->cs != 1 && c->rows * c->cols >= PACKED && a->cols >= PACKED_INNER));
}

static void call_blis(const product *p, view a, view b, double beta, view c)
{
    float alpha_f = (float)p->alpha, beta_f = (float)beta;
    double alpha_d = p->alpha;
    rntm_t how;
    bli_rntm_init(&how);
    bli_rntm_set_num_threads(1, &how);
    if (!p->is_double && worth_packing(&a, &b, &c))
        bli_rntm_disable_l3_sup(&how);
    if (p->is_double)
        bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &alpha_d, (void *)a.data, a.rs, a.cs,
                     (void *)b.data, b.rs, b.cs, &beta, (void *)c.data, c.rs, c.cs, NULL, &how);
    else
        bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, c.rows, c.cols, a.cols, &alpha_f, (void *)a.data, a.rs, a.cs,
                     (void *)b.data, b.rs, b.cs, &beta_f, (void *)c.data, c.rs, c.cs, NULL, &how);
}

/* Copies `from` to `to`, which is as large or larger; what is beyond becomes 0. */
static void copy_padded(const product *p, view from, view to)
{
    for (int64_t i = 0; i < to.rows; i++) {
        for (int64_t j = 0; j < to.cols; j++)
            put(p, &to, i, j, i < from.rows && j < from.cols ? get(p, &from, i, j) : 0);
    }
}

/* The inner dimension in multiples of INNER_STEP, the last of them through padded copies. */
static void multiply_inner(const product *p, view a, view b, view c)
{
    int64_t k = a.cols, tail = k % INNER_STEP, whole = k - tail;
    if (whole > 0)
        call_blis(p, part(p, &a, 0, 0, a.rows, whole), part(p, &b, 0, 0, whole, b.cols), p->beta, c);
    if (tail == 0)
        return;
    double room_a[TALL_TILE * INNER_STEP], room_b[INNER_STEP * TILE_COLS];
    view last_a = {(char *)room_a, a.rows, INNER_STEP, INNER_STEP, 1};
    view last_b = {(char *)room_b, INNER_STEP, b.cols, TILE_COLS, 1};
    copy_padded(p, part(p, &a, 0, whole, a.rows, tail), last_a);
    copy_padded(p, part(p, &b, whole, 0, tail, b.cols), last_b);
    call_blis(p, last_a, last_b, whole > 0 ? 1 : p->beta, c);
}

/* The last line of C apart, where its length asks for it. A line is a row, or where columns are dense, a column. */
static void multiply_tile(const product *p, view a, view b, view c)
{
    bool by_rows = c.cs == 1;
    int64_t m = c.rows, n = c.cols, length = by_rows ? n : m;
    if (length % LINE_STEP == 0) {
        multiply_inner(p, a, b, c);
        return;
    }
    double room[TALL_TILE + INNER_STEP]; /* a row has at most TILE_COLS, which is less */
    int64_t head_m = by_rows ? m - 1 : m, head_n = by_rows ? n : n - 1;
    if (head_m > 0 && head_n > 0)
        multiply_inner(p, part(p, &a, 0, 0, head_m, a.cols), part(p, &b, 0, 0, b.rows, head_n),
                       part(p, &c, 0, 0, head_m, head_n));
    view last_a = by_rows ? part(p, &a, head_m, 0, 1, a.cols) : a;
    view last_b = by_rows ? b : part(p, &b, 0, head_n, b.rows, 1);
    view last_c = by_rows ? part(p, &c, head_m, 0, 1, n) : part(p, &c, 0, head_n, m, 1);
    view line = {(char *)room, last_c.rows, last_c.cols, by_rows ? n : 1, by_rows ? 1 : m};
    copy_padded(p, last_c, line);
    multiply_inner(p, last_a, last_b, line);
    copy_padded(p, line, last_c);
}

/* B of a product of many rows lies column by column and is small enough to be turned. */
static bool worth_turning(const product *p, int64_t rows, const view *b)
{
    return !p->is_double && !p->plain && rows >= MANY_ROWS && b->rs == 1 && b->cs > 1 && b->rows <= PANEL / b->cols;
}

static void multiply_turned(const product *p, view a, view b, view c)
{
    float room[PANEL + LINE_STEP * INNER_STEP];
    view turned = {(char *)room, b.rows, b.cols, b.cols, 1};
    tf_transpose((const float *)(const void *)b.data, (size_t)b.cols, (size_t)b.rows, (size_t)b.cs, room, (size_t)b.cols);
    multiply_tile(p, a, turned, c);
}

static void tile(const product *p, int64_t t)
{
    int64_t i0 = t / p->tiles_across * p->tile_rows, j0 = t % p->tiles_across * TILE_COLS;
    int64_t m = p->c.rows - i0, n = p->c.cols - j0, k = p->a.cols;
    m = m < p->tile_rows ? m : p->tile_rows;
    n = n < TILE_COLS ? n : TILE_COLS;
    const view b = part(p, &p->b, 0, j0, k, n);
    (p->plain ? multiply_plain : worth_turning(p, m, &b) ? multiply_turned : multiply_tile)(p, part(p, &p->a, i0, 0, m, k), b,
                                                                                           part(p, &p->c, i0, j0, m, n));
}

static void tile_body(void *arg, uint32_t t)
{
    tile(arg, t);
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
    p->tile_rows = m >= TALL_TILE ? TALL_TILE : LOW_TILE;
    int64_t down = (m - 1) / p->tile_rows + 1;
    p->tiles_across = (n - 1) / TILE_COLS + 1;
    if (2.0 * (double)m * (double)n * (double)k < SMALL_FLOPS || down > UINT32_MAX / p->tiles_across) {
        for (int64_t t = 0; t < down * p->tiles_across; t++)
            tile(p, t);
        return;
    }
    tf_parallel_for(env, (uint32_t)(down * p->tiles_across), tile_body, p);
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

void tf_gemm_sum(tf_env *env, tf_mat a, tf_mat b, int64_t panel, float *work, tf_dmat c)
{
    for (int64_t at = 0; at < b.cols; at += panel) {
        const int64_t cols = b.cols - at < panel ? b.cols - at : panel;
        tf_gemm(env, 1, a, (tf_mat){b.data + at * b.cs, b.rows, cols, b.rs, b.cs}, 0, tf_mat_rows(work, a.rows, cols));
        for (int64_t i = 0; i < a.rows; i++)
            for (int64_t j = 0; j < cols; j++)
                c.data[i * c.rs + at + j] += (double)work[i * cols + j];
    }
}
