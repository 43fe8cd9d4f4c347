/* SPDX-License-Identifier: Apache-2.0
 *
 * sorted.c: a start where costs come from one number a row and one a column, such as (x_i - y_j)^2 or x_i y_j. With rows and columns
 * sorted, 2x2 minors c_ij + c_kl - c_il - c_kj then all have one sign (Monge's condition), and filling masses in order, from the
 * first row and column on, is optimal (Hoffman 1963). Such costs are the worst case of augmenting paths and of pivots. Rows are sorted by the
 * difference of two columns, columns by that of two rows; anything that is not of this kind shows it by a few minors. Costs that are nearly so give
 * a nearly optimal start, which is all that it needs to be.
 */
#include "ot/internal.h"

#include <math.h>
#include <stdlib.h>

enum { PROBES = 64, FROM = 32 };
#define ROUNDING 1e-6 /* of the largest cost: what float32 costs leave of a minor that is zero */

typedef struct keyed {
    double key;
    int64_t index;
} keyed;

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key < y->key || x->key > y->key)
        return x->key < y->key ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

typedef struct table {
    int64_t n, m;
    const float *cost;
    keyed *row, *col;
} table;

static double at(const table *s, int64_t i, int64_t j)
{
    return (double)s->cost[i * s->m + j];
}

static void extremes(const keyed *k, int64_t n, int64_t *low, int64_t *high)
{
    *low = *high = 0;
    for (int64_t i = 1; i < n; i++) {
        *low = k[i].key < k[*low].key ? i : *low;
        *high = k[i].key > k[*high].key ? i : *high;
    }
}

/* The farthest two columns of the first row, then the farthest two rows by these columns. */
static void make_keys(table *s)
{
    int64_t low, high;
    for (int64_t j = 0; j < s->m; j++)
        s->col[j] = (keyed){at(s, 0, j), j};
    extremes(s->col, s->m, &low, &high);
    for (int64_t i = 0; i < s->n; i++)
        s->row[i] = (keyed){at(s, i, high) - at(s, i, low), i};
    extremes(s->row, s->n, &low, &high);
    for (int64_t j = 0; j < s->m; j++)
        s->col[j] = (keyed){at(s, high, j) - at(s, low, j), j};
}

static double minor(const table *s, int64_t i, int64_t k, int64_t j, int64_t l)
{
    return at(s, i, j) + at(s, k, l) - at(s, i, l) - at(s, k, j);
}

/* The common sign of minors in key order; 0 where there is none. */
static int sign_of_minors(const table *s, double rounding)
{
    uint64_t state = 1;
    int found = 0;
    for (int p = 0; p < PROBES; p++) {
        int64_t pick[4];
        for (int q = 0; q < 4; q++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            pick[q] = (int64_t)((state >> 33) % (uint64_t)(q < 2 ? s->n : s->m));
        }
        double x = minor(s, pick[0], pick[1], pick[2], pick[3]);
        double rows = s->row[pick[0]].key - s->row[pick[1]].key, cols = s->col[pick[2]].key - s->col[pick[3]].key;
        if (fabs(x) <= rounding || !(fabs(rows) > rounding) || !(fabs(cols) > rounding))
            continue;
        int sign = (x > 0) == ((rows > 0) == (cols > 0)) ? 1 : -1;
        if (found && sign != found)
            return 0;
        found = sign;
    }
    return found;
}

static double largest_key(const table *s)
{
    double top = 0;
    for (int64_t i = 0; i < s->n; i++)
        top = fmax(top, fabs(s->row[i].key));
    for (int64_t j = 0; j < s->m; j++)
        top = fmax(top, fabs(s->col[j].key));
    return top;
}

tfuse_status tf_sorted_lines(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, tf_sorted *lines, bool *found)
{
    *found = false;
    if (n < FROM || m < FROM)
        return TFUSE_OK;
    table s = {n, m, cost, tf_arena_array(env, arena, (size_t)n, sizeof(keyed)), tf_arena_array(env, arena, (size_t)m, sizeof(keyed))};
    lines->row = tf_arena_array(env, arena, (size_t)n, sizeof *lines->row);
    lines->col = tf_arena_array(env, arena, (size_t)m, sizeof *lines->col);
    if (!s.row || !s.col || !lines->row || !lines->col)
        return TFUSE_ENOMEM;
    make_keys(&s);
    lines->rounding = ROUNDING * largest_key(&s);
    const int sign = sign_of_minors(&s, lines->rounding);
    if (sign == 0)
        return TFUSE_OK;
    qsort(s.row, (size_t)n, sizeof *s.row, by_key);
    qsort(s.col, (size_t)m, sizeof *s.col, by_key);
    for (int64_t i = 0; i < n; i++)
        lines->row[i] = s.row[i].index;
    for (int64_t j = 0; j < m; j++)
        lines->col[j] = s.col[sign > 0 ? m - 1 - j : j].index;
    *found = true;
    return TFUSE_OK;
}

/* u along the diagonal: with u_k + v_k = c_kk, neighbours leave each next u an interval, which is empty where minors have the wrong sign. */
tfuse_status tf_sorted_start(tf_env *env, tf_arena *arena, int64_t n, const float *cost, double *u, bool *found)
{
    tf_sorted lines;
    TF_TRY(tf_sorted_lines(env, arena, n, n, cost, &lines, found));
    if (!*found)
        return TFUSE_OK;
    double now = 0;
    u[lines.row[0]] = 0;
    for (int64_t k = 0; k + 1 < n; k++) {
        const float *row = cost + lines.row[k] * n, *below = cost + lines.row[k + 1] * n;
        const int64_t j = lines.col[k], right = lines.col[k + 1];
        double low = (double)below[right] - (double)row[right], high = (double)below[j] - (double)row[j];
        *found = *found && low <= high + lines.rounding;
        now += (low + high) / 2;
        u[lines.row[k + 1]] = now;
    }
    return TFUSE_OK;
}
