/* SPDX-License-Identifier: Apache-2.0
 *
 * auction.c: the auction algorithm for transport problems (Bertsekas & Castanon, Annals of Operations Research 20, 1989). A column is a
 * pile of pieces, each with its price and the row that holds it. A row with mass left takes the cheapest piece of the column that is
 * best for it, at a price that makes its second choice as good, plus eps; who held that piece is out of it and bids in turn.
 * Prices only rise, so short lists (lists.h) serve, with v = -price.
 */
#include "ot/auction.h"
#include "ot/internal.h"

#include <math.h>

enum { BIDS_PER_LINE = 120, CANCEL_EVERY = 1024 };
#define EPS_OF_COST 1e-3   /* eps relative to the mean of the smallest costs */
#define MASS_LEFT 2e-3     /* mass that may stay unassigned in the end */
#define MASS_NONE 1e-13

static tfuse_status auction_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, tf_auction *a)
{
    *a = (tf_auction){.n = n, .m = m, .capacity = (int32_t)(4 * (n + m)), .unused = -1};
    a->v = tf_arena_array(env, arena, (size_t)m, sizeof *a->v);
    a->left = tf_arena_array(env, arena, (size_t)n, sizeof *a->left);
    a->first = tf_arena_array(env, arena, (size_t)m, sizeof *a->first);
    a->pieces = tf_arena_array(env, arena, (size_t)a->capacity, sizeof *a->pieces);
    a->queue = tf_arena_array(env, arena, (size_t)n, sizeof *a->queue);
    a->queued = tf_arena_array(env, arena, (size_t)n, sizeof *a->queued);
    return a->v && a->left && a->first && a->pieces && a->queue && a->queued ? TFUSE_OK : TFUSE_ENOMEM;
}

/* Every row costs at least its minimum: the mean above the smallest of all is the scale of what there is to decide. */
static double scale_of(const tf_lists *l, const double *zero)
{
    double total = 0, least = INFINITY;
    for (int64_t i = 0; i < l->n; i++) {
        int64_t at;
        double low = tf_row_min(l->cost + i * l->m, zero, l->m, &at);
        total += low;
        least = low < least ? low : least;
    }
    double scale = total / (double)l->n - least;
    return scale > 0 ? scale : tf_max_abs(l->cost, l->n * l->m);
}

/* Puts a piece into its column, in order of price. */
static void insert(tf_auction *a, int64_t col, int32_t piece)
{
    int32_t *link = &a->first[col];
    while (*link >= 0 && a->pieces[*link].price <= a->pieces[piece].price)
        link = &a->pieces[*link].next;
    a->pieces[piece].next = *link;
    *link = piece;
    a->v[col] = -a->pieces[a->first[col]].price;
}

static int32_t new_piece(tf_auction *a, tf_piece value)
{
    int32_t p = a->unused;
    if (p >= 0)
        a->unused = a->pieces[p].next;
    else
        p = a->used++;
    a->pieces[p] = value;
    return p;
}

static bool has_room(const tf_auction *a)
{
    return a->unused >= 0 || a->used < a->capacity;
}

/* One bid of a row. Returns the row that lost mass, or -1. */
static int32_t bid(tf_auction *a, tf_lists *l, int32_t row)
{
    int64_t at[2];
    double low[2];
    tf_lists_min2(l, row, a->v, at, low);
    int32_t p = a->first[at[0]];
    tf_piece *piece = &a->pieces[p];
    double second = low[1];
    if (piece->next >= 0)
        second = fmin(second, low[0] + (a->pieces[piece->next].price - piece->price));
    double price = piece->price + (isfinite(second) ? second - low[0] : 0) + a->eps, amount = fmin(a->left[row], piece->amount);
    int32_t loser = piece->row;
    a->left[row] -= amount;
    if (loser >= 0)
        a->left[loser] += amount;
    piece->amount -= amount;
    if (piece->amount <= MASS_NONE) {
        a->first[at[0]] = piece->next;
        piece->next = a->unused;
        a->unused = p;
    }
    insert(a, at[0], new_piece(a, (tf_piece){price, amount, row, -1}));
    return loser;
}

tfuse_status tf_auction_run(tf_env *env, tf_arena *arena, tf_lists *lists, const double *mu, const double *nu, const double *start,
                            tf_auction *a)
{
    int64_t n = lists->n, m = lists->m, head = 0, waiting = n, bids = BIDS_PER_LINE * (n + m);
    double unassigned = 1;
    TF_TRY(auction_init(env, arena, n, m, a));
    a->eps = EPS_OF_COST * scale_of(lists, a->v);
    for (int64_t j = 0; j < m; j++) {
        a->v[j] = start ? start[j] : 0;
        a->first[j] = new_piece(a, (tf_piece){-a->v[j], nu[j], -1, -1});
    }
    for (int64_t i = 0; i < n; i++) {
        a->left[i] = mu[i];
        a->queue[i] = (int32_t)i;
        a->queued[i] = true;
    }
    while (waiting > 0 && bids > 0 && unassigned > MASS_LEFT) {
        int32_t row = a->queue[head];
        head = head + 1 == n ? 0 : head + 1;
        waiting--;
        a->queued[row] = false;
        while (a->left[row] > MASS_NONE && bids-- > 0 && has_room(a)) {
            if (bids % CANCEL_EVERY == 0)
                TF_TRY(tf_progress(env, "solving", (uint64_t)(BIDS_PER_LINE * (n + m) - bids), 0));
            double before = a->left[row];
            int32_t loser = bid(a, lists, row);
            if (loser < 0) {
                unassigned -= before - a->left[row];
            } else if (!a->queued[loser]) {
                a->queue[(head + waiting++) % n] = loser;
                a->queued[loser] = true;
            }
        }
        if (!has_room(a))
            break;
    }
    return TFUSE_OK;
}
