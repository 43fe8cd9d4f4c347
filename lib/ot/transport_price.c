/* SPDX-License-Identifier: Apache-2.0
 *
 * transport_price.c: which arc enters the basis. Large problems search a list: the best arcs of each row at the auction's prices; when none
 * of them enters any more, all arcs are priced, and the violated ones join the list, until there are none. Small ones
 * search all arcs, a block of rows at a time.
 */
#include "ot/transport.h"

#include <math.h>

enum { PRICE_BLOCK = 1024 };

/* Block search over the list of arcs. */
static bool price_list(tf_simplex *s, int64_t *row, int64_t *col, double *reduced)
{
    const double *u = s->price, *v = s->price + s->n;
    const tf_arc *best = NULL;
    double low = -s->tolerance;
    for (int64_t seen = 0; seen < s->arc_count && !best;) {
        if (s->next_arc >= s->arc_count)
            s->next_arc = 0;
        int64_t end = s->next_arc + PRICE_BLOCK < s->arc_count ? s->next_arc + PRICE_BLOCK : s->arc_count;
        seen += end - s->next_arc;
        for (; s->next_arc < end; s->next_arc++) {
            const tf_arc *a = &s->arcs[s->next_arc];
            double r = (double)a->cost - v[a->col] - u[a->row];
            if (r < low) {
                low = r;
                best = a;
            }
        }
    }
    if (!best)
        return false;
    *row = best->row;
    *col = s->n + best->col;
    *reduced = low;
    return true;
}

/* Adds the arcs of a row's list that are below `limit` against u_i. */
static void add_arcs(tf_simplex *s, int64_t i, double limit)
{
    const int32_t *col = s->lists.col + i * TF_LIST_ROOM;
    const float *c = s->lists.c + i * TF_LIST_ROOM;
    const double *v = s->price + s->n;
    for (int32_t k = 0; k < s->lists.count[i] && s->arc_count < s->arc_room; k++)
        if ((double)c[k] - v[col[k]] - s->price[i] < limit)
            s->arcs[s->arc_count++] = (tf_arc){(int32_t)i, col[k], c[k]};
}

/* Prices all arcs, and lists those that violate: true if there are any. That none is there proves the optimum. */
static tfuse_status price_all(tf_env *env, tf_simplex *s, bool *found)
{
    const double *v = s->price + s->n;
    if (s->arc_room - s->arc_count < s->n * TF_LIST_ROOM)
        s->arc_count = 0; /* the list starts again from what violates now */
    int64_t before = s->arc_count;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t at;
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
        if (tf_row_min(s->cost + i * s->m, v, s->m, &at) - s->price[i] >= -s->tolerance)
            continue;
        tf_lists_build(&s->lists, i, v);
        add_arcs(s, i, -s->tolerance);
    }
    s->next_arc = before;
    *found = s->arc_count > before;
    return TFUSE_OK;
}

/* Block search: the most negative reduced cost among a block of rows, starting where the last search ended. */
static bool price_arcs(tf_simplex *s, int64_t *row, int64_t *col, double *reduced)
{
    const double *v = s->price + s->n;
    int64_t in_block = 0;
    *reduced = -s->tolerance;
    *row = -1;
    for (int64_t seen = 0; seen < s->n; seen++) {
        int64_t i = s->next_row, at;
        s->next_row = i + 1 == s->n ? 0 : i + 1;
        double low = tf_row_min(s->cost + i * s->m, v, s->m, &at) - s->price[i];
        if (low < *reduced) {
            *reduced = low;
            *row = i;
            *col = s->n + at;
        }
        if (++in_block == s->block_rows) {
            if (*row >= 0)
                break;
            in_block = 0;
        }
    }
    return *row >= 0;
}

tfuse_status tf_simplex_list_arcs(tf_env *env, tf_simplex *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
        tf_lists_build(&s->lists, i, s->auction.v);
        add_arcs(s, i, INFINITY);
    }
    return TFUSE_OK;
}

tfuse_status tf_simplex_entering(tf_env *env, tf_simplex *s, int64_t *row, int64_t *col, double *reduced, bool *found)
{
    *found = s->sparse ? price_list(s, row, col, reduced) : price_arcs(s, row, col, reduced);
    if (*found)
        return TFUSE_OK;
    tf_simplex_prices(s);
    if (!s->sparse) {
        *found = price_arcs(s, row, col, reduced);
        return TFUSE_OK;
    }
    TF_TRY(price_all(env, s, found));
    if (*found)
        *found = price_list(s, row, col, reduced);
    return TFUSE_OK;
}
