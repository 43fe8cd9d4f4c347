/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn_kernel.c: making the kernel and passing over it (sinkhorn.h).
 *
 * exp(x) for x <= 0 in float64: Cody and Waite's reduction, 2^n out of the bits of the shifted argument, and the Taylor polynomial to degree 13, which on
 * |r| <= ln 2 / 2 leaves 4e-18: a few last places in all. Below LOWEST it is 0: so far under a row's largest entry that FAR^2
 * does not bring it back, and above the smallest normal float32.
 */
#include "ot/sinkhorn.h"

#include "base/meter.h"
#include "base/pool.h"
#include "num/clones.h"
#include <math.h>
#include <string.h>

/* See num/kernel.c: without it gcc keeps selections scalar. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

enum { LANES = 32, MIN_BLOCK_ROWS = 32, MOST_BLOCKS = 64 };
#define FAR 1e6
#define LOWEST -80.0

/* ---- rows ------------------------------------------------------------------------------------------- */

TF_INLINE double exp_neg(double x)
{
    const double kept = x < LOWEST ? LOWEST : x;
    const double shifted = kept * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52 */
    const double n = shifted - 6755399441055744.0;
    const double r = (kept - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < LOWEST ? 0 : p * scale;
}

TF_INLINE double total(const double *lane)
{
    double sum = 0;
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

/* row_j = (g_j - C_j) / reg; returns the largest. */
TF_CLONES static double exponents(const float *restrict cost, const double *restrict g, double offset, double scale,
                                  double *restrict row, int64_t m)
{
    double lane[LANES];
    int64_t j = 0;
    for (int l = 0; l < LANES; l++)
        lane[l] = -INFINITY;
    for (; j + LANES <= m; j += LANES)
        for (int l = 0; l < LANES; l++) {
            const double x = (g[j + l] - ((double)cost[j + l] - offset)) * scale;
            row[j + l] = x;
            lane[l] = x > lane[l] ? x : lane[l];
        }
    for (; j < m; j++) {
        row[j] = (g[j] - ((double)cost[j] - offset)) * scale;
        lane[0] = row[j] > lane[0] ? row[j] : lane[0];
    }
    for (int l = 1; l < LANES; l++)
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

/* row_j = exp(row_j - top), also rounded into k; returns their sum. */
TF_CLONES static double exponentials(double *restrict row, double top, float *restrict k, int64_t m)
{
    double lane[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= m; j += LANES)
        for (int l = 0; l < LANES; l++) {
            const double e = exp_neg(row[j + l] - top);
            row[j + l] = e;
            k[j + l] = (float)e;
            lane[l] += e;
        }
    for (; j < m; j++) {
        row[j] = exp_neg(row[j] - top);
        k[j] = (float)row[j];
        lane[0] += row[j];
    }
    return total(lane);
}

TF_CLONES static double dot(const float *restrict k, const double *restrict x, int64_t m)
{
    double lane[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= m; j += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += (double)k[j + l] * x[j + l];
    for (; j < m; j++)
        lane[0] += (double)k[j] * x[j];
    return total(lane);
}

TF_CLONES static void add_row(double w, const float *restrict k, double *restrict acc, int64_t m)
{
    for (int64_t j = 0; j < m; j++)
        acc[j] += w * (double)k[j];
}

TF_CLONES static void add_wide(double w, const double *restrict row, double *restrict acc, int64_t m)
{
    for (int64_t j = 0; j < m; j++)
        acc[j] += w * row[j];
}

/* The coupling's row out of the exponentials; its cost. */
TF_CLONES static double masses(double w, const double *restrict row, const float *restrict cost, float *restrict k, int64_t m)
{
    double lane[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= m; j += LANES)
        for (int l = 0; l < LANES; l++) {
            k[j + l] = (float)(w * row[j + l]);
            lane[l] += w * row[j + l] * (double)cost[j + l];
        }
    for (; j < m; j++) {
        k[j] = (float)(w * row[j]);
        lane[0] += w * row[j] * (double)cost[j];
    }
    return total(lane);
}

/* ---- passes ------------------------------------------------------------------------------------------- */

typedef struct pass {
    tf_kernel *k;
    bool finish;       /* of make: the coupling takes K's place */
    const double *w, *x; /* of gram */
    double *cost;      /* of finish: one a block */
} pass;

static int64_t rows_of_block(int64_t n)
{
    const int64_t rows = (n + MOST_BLOCKS - 1) / MOST_BLOCKS;
    return rows < MIN_BLOCK_ROWS ? MIN_BLOCK_ROWS : rows;
}

uint64_t tf_kernel_lines_bytes(int64_t n, int64_t m)
{
    const int64_t blocks = (n - 1) / rows_of_block(n) + 1;
    return tf_area(2 * blocks + 2 + TF_NEWTON_COLUMNS, m, sizeof(double)) + tf_area(3 * n, 1, sizeof(double));
}

tfuse_status tf_kernel_init(tf_env *env, tf_arena *arena, tf_kernel *k)
{
    const size_t n = (size_t)k->n, m = (size_t)k->m;
    k->env = env;
    k->block_rows = rows_of_block(k->n);
    k->blocks = (uint32_t)((k->n + k->block_rows - 1) / k->block_rows);
    k->a = tf_arena_array(env, arena, n, sizeof *k->a);
    k->a_made = tf_arena_array(env, arena, n, sizeof *k->a_made);
    k->b = tf_arena_array(env, arena, m, sizeof *k->b);
    k->t = tf_arena_array(env, arena, m, sizeof *k->t);
    k->partial = tf_arena_array(env, arena, k->blocks * m, sizeof *k->partial);
    k->row = tf_arena_array(env, arena, k->blocks * m, sizeof *k->row);
    return k->a && k->a_made && k->b && k->t && k->partial && k->row ? TFUSE_OK : TFUSE_ENOMEM;
}

static int64_t block_end(const tf_kernel *k, uint32_t block)
{
    const int64_t end = ((int64_t)block + 1) * k->block_rows;
    return end < k->n ? end : k->n;
}

static double *block_sums(const tf_kernel *k, uint32_t block)
{
    double *acc = k->partial + (int64_t)block * k->m;
    memset(acc, 0, (size_t)k->m * sizeof *acc);
    return acc;
}

static void run(tf_env *env, pass *p, void (*body)(void *arg, uint32_t block))
{
    tf_kernel *k = p->k;
    tf_parallel_for(env, k->blocks, body, p);
    memset(k->t, 0, (size_t)k->m * sizeof *k->t);
    for (uint32_t block = 0; block < k->blocks; block++)
        add_wide(1, k->partial + (int64_t)block * k->m, k->t, k->m);
}

static void make_block(void *arg, uint32_t block)
{
    const pass *p = arg;
    tf_kernel *k = p->k;
    double *acc = block_sums(k, block), *row = k->row + (int64_t)block * k->m, cost = 0;
    for (int64_t i = (int64_t)block * k->block_rows; i < block_end(k, block) && !tf_polled(k->env, i); i++) {
        const double top = exponents(k->cost + i * k->m, k->g, k->offset, 1 / k->reg, row, k->m);
        const double sum = exponentials(row, top, k->k + i * k->m, k->m);
        k->a[i] = k->a_made[i] = k->mu[i] / sum;
        k->f[i] = k->reg * (log(k->mu[i]) - top - log(sum)); /* -INFINITY for an empty row */
        add_wide(k->a[i], row, acc, k->m);
        if (p->finish)
            cost += masses(k->a[i], row, k->cost + i * k->m, k->k + i * k->m, k->m);
    }
    if (p->finish)
        p->cost[block] = cost;
}

static void start_columns(tf_kernel *k)
{
    for (int64_t j = 0; j < k->m; j++)
        k->b[j] = 1;
}

void tf_kernel_make(tf_env *env, tf_kernel *k)
{
    pass p = {.k = k};
    run(env, &p, make_block);
    start_columns(k);
}

double tf_kernel_finish(tf_env *env, tf_kernel *k)
{
    double cost[MOST_BLOCKS] = {0}, sum = 0;
    pass p = {.k = k, .finish = true, .cost = cost};
    run(env, &p, make_block);
    start_columns(k);
    for (uint32_t block = 0; block < k->blocks; block++)
        sum += cost[block];
    return sum;
}

static void scale_block(void *arg, uint32_t block)
{
    const pass *p = arg;
    tf_kernel *k = p->k;
    double *acc = block_sums(k, block);
    for (int64_t i = (int64_t)block * k->block_rows; i < block_end(k, block) && !tf_polled(k->env, i); i++) {
        const float *row = k->k + i * k->m;
        k->a[i] = k->mu[i] > 0 ? k->mu[i] / dot(row, k->b, k->m) : 0;
        add_row(k->a[i], row, acc, k->m);
    }
}

void tf_kernel_scale(tf_env *env, tf_kernel *k)
{
    pass p = {.k = k};
    run(env, &p, scale_block);
}

static void gram_block(void *arg, uint32_t block)
{
    const pass *p = arg;
    const tf_kernel *k = p->k;
    double *acc = block_sums(k, block);
    for (int64_t i = (int64_t)block * k->block_rows; i < block_end(k, block) && !tf_polled(k->env, i); i++) {
        const float *row = k->k + i * k->m;
        if (p->w[i] > 0)
            add_row(p->w[i] * dot(row, p->x, k->m), row, acc, k->m);
    }
}

void tf_kernel_gram(tf_env *env, tf_kernel *k, const double *w, const double *x)
{
    pass p = {.k = k, .w = w, .x = x};
    run(env, &p, gram_block);
}

/* ---- columns -------------------------------------------------------------------------------------------- */

double tf_kernel_error(const tf_kernel *k)
{
    double sum = 0;
    for (int64_t j = 0; j < k->m; j++)
        sum += fabs(k->b[j] * k->t[j] - k->nu[j]);
    return sum;
}

static bool near(double x)
{
    return x > 1 / FAR && x < FAR;
}

bool tf_kernel_carries(const tf_kernel *k)
{
    bool all = true;
    for (int64_t j = 0; j < k->m; j++)
        all = all && (!(k->nu[j] > 0) || near(k->b[j]));
    for (int64_t i = 0; i < k->n; i++)
        all = all && (!(k->mu[i] > 0) || near(k->a[i] / k->a_made[i]));
    return all;
}

/* g_j that gives column j its mass, in the log domain: for columns whose entries have all underflowed. */
static double exact_potential(const tf_kernel *k, int64_t j)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < k->n; i++)
        top = fmax(top, (k->f[i] - ((double)k->cost[i * k->m + j] - k->offset)) / k->reg);
    for (int64_t i = 0; i < k->n; i++)
        sum += exp((k->f[i] - ((double)k->cost[i * k->m + j] - k->offset)) / k->reg - top);
    return k->reg * (log(k->nu[j]) - top - log(sum));
}

void tf_kernel_absorb(tf_kernel *k)
{
    for (int64_t j = 0; j < k->m && !tf_polled(k->env, j); j++) {
        if (!(k->nu[j] > 0))
            continue;
        if (k->t[j] > 0 && isfinite(k->b[j]) && k->b[j] > 0)
            k->g[j] += k->reg * log(k->b[j]);
        else
            k->g[j] = exact_potential(k, j);
        k->b[j] = 1;
    }
}
