/* SPDX-License-Identifier: Apache-2.0
 *
 * auction.c: the auction algorithm for transport problems (Bertsekas & Castanon, Annals of Operations Research 20, 1989). A column is a
 * pile of pieces, each with its price and the row that holds it. A row with mass left takes the cheapest piece of the column that is
 * best for it, at a price that makes its second choice as good, plus eps; who held that piece is out of it and bids in turn. What a row
 * already holds of a column joins its new piece, so pieces stay few. Phases with a falling eps each start from the prices of the one before.
 * Prices only rise, so for long rows short lists (lists.h) serve, with v = -price.
 */
#include "ot/auction.h"
#include "ot/internal.h"

#include <math.h>
#include <string.h>

enum { BIDS_PER_LINE = 12, BIDS_A_CHECK = 256 };
#define FIRST_EPS 3e-3 /* eps of the first phase relative to the largest cost */
#define LAST_EPS 1e-2  /* of the last, relative to the mean of the rows' smallest costs above the least */
#define LEAST_EPS 1e-6 /* relative to the largest cost: bounds the phases where costs range over many orders */
#define EPS_STEP 5.0
#define MASS_LEFT 2e-2 /* mass that may stay unassigned in the end */
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
static double spread(const tf_env *env, const tf_lists *l, const double *zero)
{
    double total = 0, least = INFINITY;
    for (int64_t i = 0; i < l->n && !tf_polled(env, i); i++) {
        int64_t at;
        double low = tf_row_min(l->cost + i * l->m, zero, l->m, &at);
        total += low;
        least = low < least ? low : least;
    }
    return total / (double)l->n - least;
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

static void drop(tf_auction *a, int32_t *link)
{
    int32_t p = *link;
    *link = a->pieces[p].next;
    a->pieces[p].next = a->unused;
    a->unused = p;
}

/* What the row already holds in the column, which is given up: it comes back at the new price. */
static double take_own(tf_auction *a, int64_t col, int32_t row)
{
    double own = 0;
    for (int32_t *link = &a->first[col]; *link >= 0;) {
        tf_piece *p = &a->pieces[*link];
        if (p->row == row) {
            own += p->amount;
            drop(a, link);
        } else {
            link = &p->next;
        }
    }
    return own;
}

/* One bid of a row. Returns the row that lost mass, or -1. */
static int32_t bid(tf_auction *a, tf_lists *l, int32_t row)
{
    int64_t at[2];
    double low[2];
    a->bids++;
    if (tf_auction_lists(l->m))
        tf_lists_min2(l, row, a->v, at, low);
    else
        low[0] = tf_row_min2(l->cost + row * l->m, a->v, l->m, &at[0], &low[1]);
    double own = take_own(a, at[0], row), base = low[0] + a->v[at[0]], amount = 0, second = low[1];
    int32_t *first = &a->first[at[0]], loser = -1;
    if (*first >= 0) {
        tf_piece *piece = &a->pieces[*first];
        amount = fmin(a->left[row], piece->amount);
        loser = piece->row;
        if (amount < a->left[row] && piece->next >= 0)
            second = fmin(second, base + a->pieces[piece->next].price);
        a->left[row] -= amount;
        if (loser >= 0)
            a->left[loser] += amount;
        piece->amount -= amount;
        if (piece->amount <= MASS_NONE)
            drop(a, first);
    }
    double price = (isfinite(second) ? second - base : -a->v[at[0]]) + a->eps;
    insert(a, at[0], new_piece(a, (tf_piece){price, own + amount, row, -1}));
    return loser;
}

/* All mass is free again; every column is one piece at its lowest price so far. */
static void clear(tf_auction *a, const double *mu, const double *nu)
{
    a->used = 0;
    a->unused = -1;
    for (int64_t j = 0; j < a->m; j++)
        a->first[j] = new_piece(a, (tf_piece){-a->v[j], nu[j], -1, -1});
    for (int64_t i = 0; i < a->n; i++) {
        a->left[i] = mu[i];
        a->queue[i] = (int32_t)i;
        a->queued[i] = true;
    }
}

/* Bidding at one eps. */
static tfuse_status phase(tf_env *env, tf_lists *lists, const double *mu, const double *nu, tf_auction *a)
{
    int64_t n = a->n, head = 0, waiting = n, bids = BIDS_PER_LINE * (n + a->m);
    double unassigned = 1;
    clear(a, mu, nu);
    while (waiting > 0 && bids > 0 && unassigned > MASS_LEFT && has_room(a)) {
        int32_t row = a->queue[head];
        head = head + 1 == n ? 0 : head + 1;
        waiting--;
        a->queued[row] = false;
        while (a->left[row] > MASS_NONE && bids-- > 0 && has_room(a)) {
            if (bids % BIDS_A_CHECK == 0)
                TF_TRY(tf_progress(env, "solving", (uint64_t)(BIDS_PER_LINE * (n + a->m) - bids), 0));
            double before = a->left[row];
            int32_t loser = bid(a, lists, row);
            if (loser < 0) {
                unassigned -= before - a->left[row];
            } else if (!a->queued[loser]) {
                a->queue[(head + waiting++) % n] = loser;
                a->queued[loser] = true;
            }
        }
    }
    return TFUSE_OK;
}

/* The columns' smallest costs as prices: a row or column that is far from all others costs all the same, and need not bid its way there. */
static tfuse_status first_prices(tf_env *env, tf_arena *arena, const tf_lists *l, tf_auction *a)
{
    float *low = tf_arena_array(env, arena, (size_t)l->m, sizeof *low);
    int32_t *at = tf_arena_array(env, arena, (size_t)l->m, sizeof *at);
    if (!low || !at)
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < l->m; j++)
        low[j] = INFINITY;
    for (int64_t i = 0; i < l->n; i++) {
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
        tf_column_min(l->cost + i * l->m, l->m, (int32_t)i, low, at);
    }
    for (int64_t j = 0; j < l->m; j++)
        a->v[j] = (double)low[j];
    return TFUSE_OK;
}

tfuse_status tf_auction_run(tf_env *env, tf_arena *arena, tf_lists *lists, const double *mu, const double *nu, const double *start,
                            double scale, tf_auction *a)
{
    TF_TRY(auction_init(env, arena, lists->n, lists->m, a));
    double last = fmax(LAST_EPS * spread(env, lists, a->v), LEAST_EPS * scale);
    if (start)
        memcpy(a->v, start, (size_t)lists->m * sizeof *start);
    else
        TF_TRY(first_prices(env, arena, lists, a));
    for (a->eps = start ? last : fmax(FIRST_EPS * scale, last);; a->eps = fmax(a->eps / EPS_STEP, last)) {
        TF_TRY(phase(env, lists, mu, nu, a));
        if (a->eps <= last)
            return TFUSE_OK;
    }
}
