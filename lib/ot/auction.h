/* SPDX-License-Identifier: Apache-2.0
 *
 * auction.h: near-optimal prices and flow for a transport problem, quickly.
 */
#ifndef TF_OT_AUCTION_H
#define TF_OT_AUCTION_H

#include "ot/lists.h"

/* Part of a column that a row holds. */
typedef struct tf_piece {
    double price, amount;
    int32_t row;  /* -1: nobody yet */
    int32_t next; /* of the same column, price not smaller; -1: last */
} tf_piece;

typedef struct tf_auction {
    int64_t n, m;
    double eps;       /* a bid exceeds what would be enough by this */
    double *v;        /* m: minus the lowest price in each column */
    double *left;     /* n: mass that holds nothing yet */
    int32_t *first;   /* m: cheapest piece */
    tf_piece *pieces; /* capacity of them */
    int32_t used, capacity, unused; /* unused: a list of pieces given back */
    int64_t bids;   /* made so far */
    int32_t *queue; /* rows with mass left, a ring of n */
    bool *queued;
} tf_auction;

/* Runs the auction until little mass is left or the bids are used up: what it leaves is a start for an exact method and needs no proof.
 * start: column potentials (m) of a neighbouring problem, where bidding begins; NULL: at the columns' minima.
 * scale: largest |C|. */
tfuse_status tf_auction_run(tf_env *env, tf_arena *arena, tf_lists *lists, const double *mu, const double *nu, const double *start,
                            double scale, tf_auction *a);

#endif
