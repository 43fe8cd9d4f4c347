/* SPDX-License-Identifier: Apache-2.0
 *
 * transport_tree.c: the basis of the network simplex: a spanning tree by parents and lists of children, its prices, and a pivot on it
 * (Ahuja, Magnanti & Orlin, Network Flows, 1993, chapter 11). The root never moves, so an artificial arc either stays or leaves for good.
 */
#include "ot/transport.h"

#include <math.h>

#define PRICE_TOLERANCE 1e-13

void tf_simplex_link(tf_simplex *s, int64_t node, int64_t parent)
{
    s->parent[node] = parent;
    s->prev[node] = -1;
    s->next[node] = s->child[parent];
    if (s->next[node] >= 0)
        s->prev[s->next[node]] = node;
    s->child[parent] = node;
}

static void unlink_child(tf_simplex *s, int64_t node)
{
    if (s->prev[node] >= 0)
        s->next[s->prev[node]] = s->next[node];
    else
        s->child[s->parent[node]] = s->next[node];
    if (s->next[node] >= 0)
        s->prev[s->next[node]] = s->prev[node];
}

int64_t tf_simplex_preorder(const tf_simplex *s, int64_t node, int64_t top)
{
    if (s->child[node] >= 0)
        return s->child[node];
    while (node != top && s->next[node] < 0)
        node = s->parent[node];
    return node == top ? -1 : s->next[node];
}

/* Cost of the arc between a node and its parent. */
static double arc_cost(const tf_simplex *s, int64_t node, int64_t up)
{
    if (up == s->root)
        return s->hang[node];
    return (double)(tf_simplex_is_row(s, node) ? s->cost[node * s->m + (up - s->n)] : s->cost[up * s->m + (node - s->n)]);
}

void tf_simplex_prices(tf_simplex *s)
{
    double top = s->scale;
    s->price[s->root] = 0;
    s->depth[s->root] = 0;
    for (int64_t x = tf_simplex_preorder(s, s->root, s->root); x >= 0; x = tf_simplex_preorder(s, x, s->root)) {
        int64_t up = s->parent[x];
        s->price[x] = arc_cost(s, x, up) - s->price[up];
        s->depth[x] = s->depth[up] + 1;
        top = fmax(top, fabs(s->price[x]));
    }
    s->tolerance = PRICE_TOLERANCE * top;
}

/* One side of the cycle, from a node up to the join: the arc with the smallest flow among those that lose flow. On the row's side
 * these are the arcs above rows, on the column's side those above columns. */
static void find_blocking(const tf_simplex *s, int64_t node, int64_t join, bool rows_lose, int64_t *blocking, tf_units *room)
{
    for (; node != join; node = s->parent[node]) {
        if (tf_simplex_is_row(s, node) == rows_lose && (*blocking < 0 || s->flow[node] < *room)) {
            *blocking = node;
            *room = s->flow[node];
        }
    }
}

static void add_flow(tf_simplex *s, int64_t node, int64_t join, bool rows_lose, tf_units amount)
{
    for (; node != join; node = s->parent[node])
        s->flow[node] += tf_simplex_is_row(s, node) == rows_lose ? -amount : amount;
}

/* Hangs the subtree that contains `node`, cut off above `cut`, on `above`: parents between the two turn round. */
static void rehang(tf_simplex *s, int64_t node, int64_t cut, int64_t above, tf_units flow)
{
    for (;;) {
        int64_t old_parent = s->parent[node];
        tf_units old_flow = s->flow[node];
        unlink_child(s, node);
        tf_simplex_link(s, node, above);
        s->flow[node] = flow;
        if (node == cut)
            return;
        above = node;
        flow = old_flow;
        node = old_parent;
    }
}

static void shift_prices(tf_simplex *s, int64_t top, double row_shift)
{
    for (int64_t x = top; x >= 0; x = tf_simplex_preorder(s, x, top)) {
        s->price[x] += tf_simplex_is_row(s, x) ? row_shift : -row_shift;
        s->depth[x] = s->depth[s->parent[x]] + 1;
    }
}

void tf_simplex_pivot(tf_simplex *s, int64_t row, int64_t col, double reduced)
{
    int64_t a = row, b = col;
    while (a != b) {
        if (s->depth[a] >= s->depth[b])
            a = s->parent[a];
        else
            b = s->parent[b];
    }
    int64_t join = a, row_side = -1, cut = -1;
    tf_units amount = 0;
    find_blocking(s, row, join, true, &row_side, &amount);
    cut = row_side;
    find_blocking(s, col, join, false, &cut, &amount);
    add_flow(s, row, join, true, amount);
    add_flow(s, col, join, false, amount);
    if (cut == row_side) {
        rehang(s, row, cut, col, amount);
        shift_prices(s, row, reduced);
    } else {
        rehang(s, col, cut, row, amount);
        shift_prices(s, col, -reduced);
    }
}
