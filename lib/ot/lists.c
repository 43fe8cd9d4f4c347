/* SPDX-License-Identifier: Apache-2.0
 *
 * lists.c: short lists of candidate columns. A row is cut into blocks; the TF_LIST_KEEP-th smallest of their minima is a threshold
 * with at least TF_LIST_KEEP columns at or below it, and only the blocks that reach it are looked at again.
 */
#include "ot/lists.h"
#include "ot/internal.h"

#include <math.h>
#include <string.h>

tfuse_status tf_lists_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, tf_lists *l)
{
    *l = (tf_lists){.n = n, .m = m, .cost = cost};
    size_t blocks = (size_t)(m / TF_LIST_BLOCK + 1), room = (size_t)n * TF_LIST_ROOM;
    l->col = tf_alloc_array(env, room, sizeof *l->col);
    l->c = tf_alloc_array(env, room, sizeof *l->c);
    l->count = tf_arena_array(env, arena, (size_t)n, sizeof *l->count);
    l->tau = tf_arena_array(env, arena, (size_t)n, sizeof *l->tau);
    l->low = tf_arena_array(env, arena, blocks, sizeof *l->low);
    l->spare = tf_arena_array(env, arena, blocks > (size_t)m ? blocks : (size_t)m, sizeof *l->spare);
    l->value = tf_arena_array(env, arena, (size_t)m, sizeof *l->value);
    l->place = tf_arena_array(env, arena, (size_t)m, sizeof *l->place);
    if (!l->col || !l->c || !l->count || !l->tau || !l->low || !l->spare || !l->value || !l->place)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        l->tau[i] = -INFINITY;
    return TFUSE_OK;
}

void tf_lists_free(tf_env *env, tf_lists *l)
{
    tf_free(&env->mem, l->col);
    tf_free(&env->mem, l->c);
}

/* The k-th smallest (from 0) of x, by Hoare's selection, in x itself. */
static double select_kth(double *x, int64_t count, int64_t k)
{
    int64_t lo = 0, hi = count - 1;
    while (lo < hi) {
        double pivot = x[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i <= j) {
                double t = x[i];
                x[i++] = x[j];
                x[j--] = t;
            }
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            break;
    }
    return x[k];
}

/* Collects the columns of [from, to) at or below `top`. */
static int64_t collect(tf_lists *l, const float *cost, const double *v, int64_t from, int64_t to, double top, int64_t count)
{
    for (int64_t j = from; j < to; j++) {
        double r = (double)cost[j] - v[j];
        l->value[count] = r;
        l->place[count] = (int32_t)j;
        count += r <= top;
    }
    return count;
}

/* All columns at or below a threshold that at least TF_LIST_KEEP reach; no other is below *tau. */
static int64_t candidates(tf_lists *l, const float *cost, const double *v, double *tau)
{
    int64_t blocks = l->m / TF_LIST_BLOCK, count = 0;
    double top = INFINITY;
    if (blocks > TF_LIST_KEEP) {
        tf_block_minima(cost, v, blocks, l->low);
        memcpy(l->spare, l->low, (size_t)blocks * sizeof *l->low);
        top = select_kth(l->spare, blocks, TF_LIST_KEEP - 1);
    }
    for (int64_t b = 0; b < blocks; b++)
        if (top == INFINITY || l->low[b] <= top)
            count = collect(l, cost, v, b * TF_LIST_BLOCK, (b + 1) * TF_LIST_BLOCK, top, count);
    *tau = top;
    /* The last few columns are in no block; room for one more value than is kept is there, since a column counts once. */
    return collect(l, cost, v, blocks * TF_LIST_BLOCK, l->m, top, count);
}

void tf_lists_build(tf_lists *l, int64_t i, const double *v)
{
    const float *cost = l->cost + i * l->m;
    int32_t *col = l->col + i * TF_LIST_ROOM, kept = 0;
    float *c = l->c + i * TF_LIST_ROOM;
    double tau;
    int64_t count = candidates(l, cost, v, &tau);
    double keep = INFINITY;
    int64_t ties = TF_LIST_ROOM;
    if (count > TF_LIST_ROOM) {
        /* Strictly smaller ones come first, whatever their order; then as many of those that tie at the limit as fit. */
        memcpy(l->spare, l->value, (size_t)count * sizeof *l->value);
        keep = select_kth(l->spare, count, TF_LIST_KEEP - 1);
        ties = TF_LIST_KEEP;
        for (int64_t k = 0; k < count; k++)
            ties -= l->value[k] < keep;
        tau = keep;
    }
    for (int64_t k = 0; k < count; k++) {
        bool in = l->value[k] < keep || (l->value[k] == keep && ties-- > 0);
        if (!in)
            continue;
        col[kept] = l->place[k];
        c[kept++] = cost[l->place[k]];
    }
    l->count[i] = kept;
    l->tau[i] = kept == l->m ? INFINITY : tau;
}

/* The first and second place of a list. */
static void list_min2(const tf_lists *l, int64_t i, const double *v, int64_t at[2], double low[2])
{
    const int32_t *col = l->col + i * TF_LIST_ROOM;
    const float *c = l->c + i * TF_LIST_ROOM;
    int32_t first = -1, second = -1;
    double a = INFINITY, b = INFINITY;
    for (int32_t k = 0; k < l->count[i]; k++) {
        double r = (double)c[k] - v[col[k]];
        if (r < b) {
            bool best = r < a;
            b = best ? a : r;
            second = best ? first : col[k];
            a = best ? r : a;
            first = best ? col[k] : first;
        }
    }
    at[0] = first;
    at[1] = second;
    low[0] = a;
    low[1] = b;
}

void tf_lists_min2(tf_lists *l, int64_t i, const double *v, int64_t at[2], double low[2])
{
    if (l->tau[i] != -INFINITY) {
        list_min2(l, i, v, at, low);
        if (low[1] <= l->tau[i])
            return;
    }
    tf_lists_build(l, i, v);
    list_min2(l, i, v, at, low);
}
