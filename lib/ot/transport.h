/* SPDX-License-Identifier: Apache-2.0
 *
 * transport.h: what the files of the network simplex share: transport.c (masses, start, loop), transport_tree.c (the basis and its pivots),
 * transport_price.c (which arc enters), transport_result.c (coupling and potentials).
 */
#ifndef TF_OT_TRANSPORT_H
#define TF_OT_TRANSPORT_H

#include "ot/auction.h"
#include "ot/internal.h"

__extension__ typedef __int128 tf_units;

typedef struct tf_arc {
    int32_t row, col;
    float cost;
} tf_arc;

typedef struct tf_simplex {
    int64_t n, m, nodes; /* rows, columns, and the root: n + m + 1 */
    const float *cost;
    double scale; /* largest |C| */
    double tolerance;
    double *price;  /* u (n), then v (m): u_i + v_j = C_ij on the tree; 0 at the root */
    tf_units *mass; /* of rows and columns, true */
    tf_units *flow; /* between a node and its parent: from rows, to columns */
    int64_t *parent, *child, *next, *prev, *depth; /* -1 for none */
    int64_t root;
    double *hang;   /* cost of the artificial arc between a node and the root, */
    double penalty; /* which holds this much more than a price */
    int64_t next_row, block_rows; /* pricing of all arcs */
    bool sparse;                  /* arcs are priced from a list, and all only to prove the optimum */
    tf_arc *arcs;                 /* arc_room, owned */
    int64_t arc_count, arc_room, next_arc;
    tf_lists lists;
    tf_auction auction;
    double supply; /* of all rows */
} tf_simplex;

static inline bool tf_simplex_is_row(const tf_simplex *s, int64_t node)
{
    return node < s->n;
}

/* ---- transport_tree.c ---- */
void tf_simplex_link(tf_simplex *s, int64_t node, int64_t parent);
/* The node after `node` in preorder within the subtree of `top`; -1 after the last. */
int64_t tf_simplex_preorder(const tf_simplex *s, int64_t node, int64_t top);
/* Prices, depths and the tolerance from the tree alone. */
void tf_simplex_prices(tf_simplex *s);
/* The arc from `row` to the node `col` enters, with its reduced cost. */
void tf_simplex_pivot(tf_simplex *s, int64_t row, int64_t col, double reduced);

/* ---- transport_price.c ---- */
/* Lists the arcs that the auction's prices make look good. */
tfuse_status tf_simplex_list_arcs(tf_env *env, tf_simplex *s);
/* An arc that enters, if there is one. That none is left of the list rebuilds prices and prices all arcs. */
tfuse_status tf_simplex_entering(tf_env *env, tf_simplex *s, int64_t *row, int64_t *col, double *reduced, bool *found);

/* ---- transport_result.c ---- */
/* The coupling of the final tree (its links become scratch), and potentials of all lines of the problem, the empty ones too. */
tfuse_status tf_simplex_result(tf_env *env, tf_simplex *s, const tf_positive *l, const float *cost, const double *mu,
                               const double *nu, tf_solution *out);

#endif
