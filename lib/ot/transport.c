/* SPDX-License-Identifier: Apache-2.0
 *
 * transport.c: the transport problem with any marginals, by the primal simplex method on the dense bipartite graph
 * (Dantzig 1951; tree form after Ahuja, Magnanti & Orlin, Network Flows, 1993, chapter 11).
 *
 * Basis. A spanning tree of rows 0..n-1 and columns n..n+m-1; a node other than the root carries the flow between it and its
 * parent. The first tree is made by the row-minimum rule, so there are no artificial arcs: on costs less their column minima or,
 * from SPARSE_FROM entries on, first along the flow of an auction (auction.h) and then at its prices.
 *
 * Pricing. Then also only the best arcs of each row at those prices are searched; when none of them enters any more, all
 * arcs are priced, and the violated ones join the list, until there are none.
 *
 * Termination. Masses become integers, so that flows are exact, and every node but one column supplies one unit more than its mass,
 * where the mass is a multiple of 2^k > n + m. No proper part of the nodes then balances, so every basic flow is positive,
 * every pivot lowers the cost, and no basis comes twice. These are the pivots of Cunningham's strongly feasible trees (1976), which
 * are the bases that stay feasible under this perturbation. In the end flows are rebuilt from the true masses
 * on the final tree, where they are exactly zero or more.
 *
 * Prices are sums and differences of costs along tree paths, rebuilt every n + m pivots and at the end. An arc enters when
 * its reduced cost is below -PRICE_TOLERANCE relative to the largest cost or price, so above rounding.
 */
#include "ot/auction.h"
#include "ot/internal.h"
#include "base/meter.h"

#include <math.h>
#include <string.h>

__extension__ typedef __int128 units;

enum { MASS_BITS = 90, CANCEL_EVERY = 256, MIN_BLOCK = 64, SPARSE_FROM = 1024, PRICE_BLOCK = 2048, ARCS_PER_PLACE = 3 };
#define PRICE_TOLERANCE 1e-13
#define BALANCE_TOLERANCE 1e-9
/* Shares of a row or column below this are rounding errors of the marginals that were given. */
#define DUST 0x1p-48

typedef struct arc {
    int32_t row, col;
    float cost;
} arc;

typedef struct simplex {
    int64_t n, m, nodes;
    const float *cost;
    double scale; /* largest |C| */
    double tolerance;
    double *price; /* u (n), then v (m): u_i + v_j = C_ij on the tree */
    double *open;  /* m: scratch of the first tree */
    units *mass;   /* of every node, true */
    units *flow;   /* between a node and its parent */
    int64_t *parent, *child, *next, *prev, *depth; /* -1 for none */
    int64_t root;
    int64_t next_row, block_rows; /* pricing of all arcs */
    bool sparse;                  /* arcs are priced from a list, and all only to prove the optimum */
    arc *arcs;
    int64_t arc_count, arc_room, next_arc;
    tf_lists lists;
    tf_auction auction;
    double supply; /* of all rows */
} simplex;

static tfuse_status simplex_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, simplex *s)
{
    *s = (simplex){.n = n, .m = m, .nodes = n + m, .cost = cost, .scale = tf_max_abs(cost, n * m)};
    size_t count = (size_t)s->nodes;
    s->price = tf_arena_array(env, arena, count, sizeof *s->price);
    s->open = tf_arena_array(env, arena, (size_t)m, sizeof *s->open);
    s->mass = tf_arena_array(env, arena, count, sizeof *s->mass);
    s->flow = tf_arena_array(env, arena, count, sizeof *s->flow);
    s->parent = tf_arena_array(env, arena, count, sizeof *s->parent);
    s->child = tf_arena_array(env, arena, count, sizeof *s->child);
    s->next = tf_arena_array(env, arena, count, sizeof *s->next);
    s->prev = tf_arena_array(env, arena, count, sizeof *s->prev);
    s->depth = tf_arena_array(env, arena, count, sizeof *s->depth);
    if (!s->price || !s->open || !s->mass || !s->flow || !s->parent || !s->child || !s->next || !s->prev || !s->depth)
        return TFUSE_ENOMEM;
    int64_t block = (int64_t)sqrt((double)n * (double)m);
    block = block < MIN_BLOCK ? MIN_BLOCK : block;
    s->block_rows = 1 + (block - 1) / m;
    return TFUSE_OK;
}

/* ---- masses -------------------------------------------------------------------------------- */

/* Masses as integers with equal totals: uniform ones exactly, others in units of 2^-MASS_BITS (a positive mass has at least
 * one), where the difference of the totals goes to the largest column. */
static tfuse_status set_masses(tf_env *env, simplex *s, const double *mu, const double *nu)
{
    units *row = s->mass, *col = s->mass + s->n, balance = 0;
    if (tf_all_equal(mu, s->n) && tf_all_equal(nu, s->m)) {
        for (int64_t i = 0; i < s->n; i++)
            row[i] = s->m;
        for (int64_t j = 0; j < s->m; j++)
            col[j] = s->n;
        return TFUSE_OK;
    }
    int64_t largest = 0;
    for (int64_t i = 0; i < s->n; i++) {
        units x = (units)ldexp(mu[i], MASS_BITS);
        row[i] = x > 0 ? x : 1;
        balance += row[i];
    }
    for (int64_t j = 0; j < s->m; j++) {
        units x = (units)ldexp(nu[j], MASS_BITS);
        col[j] = x > 0 ? x : 1;
        balance -= col[j];
        largest = col[j] > col[largest] ? j : largest;
    }
    col[largest] += balance;
    if (fabs((double)balance) > ldexp(BALANCE_TOLERANCE, MASS_BITS) || col[largest] <= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "transport: the row masses sum to %.17g more than the column masses",
                       ldexp((double)balance, -MASS_BITS));
    return TFUSE_OK;
}

static bool is_row(const simplex *s, int64_t node)
{
    return node < s->n;
}

/* What the first tree has to move: the masses and their perturbation, whose sink is the last column. */
static void perturb(const simplex *s, units *supply)
{
    int shift = 0;
    while (((int64_t)1 << shift) <= s->nodes)
        shift++;
    for (int64_t x = 0; x < s->nodes; x++)
        supply[x] = s->mass[x] * ((units)1 << shift) + (is_row(s, x) ? 1 : -1);
    supply[s->nodes - 1] += s->nodes;
}

/* ---- the tree ------------------------------------------------------------------------------ */

static void link_child(simplex *s, int64_t node, int64_t parent)
{
    s->parent[node] = parent;
    s->prev[node] = -1;
    s->next[node] = s->child[parent];
    if (s->next[node] >= 0)
        s->prev[s->next[node]] = node;
    s->child[parent] = node;
}

static void unlink_child(simplex *s, int64_t node)
{
    if (s->prev[node] >= 0)
        s->next[s->prev[node]] = s->next[node];
    else
        s->child[s->parent[node]] = s->next[node];
    if (s->next[node] >= 0)
        s->prev[s->next[node]] = s->prev[node];
}

/* The node after `node` in preorder within the subtree of `top`; -1 after the last. */
static int64_t preorder_next(const simplex *s, int64_t node, int64_t top)
{
    if (s->child[node] >= 0)
        return s->child[node];
    while (node != top && s->next[node] < 0)
        node = s->parent[node];
    return node == top ? -1 : s->next[node];
}

static double arc_cost(const simplex *s, int64_t a, int64_t b)
{
    return (double)(is_row(s, a) ? s->cost[a * s->m + (b - s->n)] : s->cost[b * s->m + (a - s->n)]);
}

/* Moves what row and column both have; the one that is used up hangs on the other. Supplies never tie before the last step. */
static void move_supply(simplex *s, units *supply, int64_t row, int64_t at)
{
    int64_t col = s->n + at;
    bool row_ends = supply[row] < supply[col];
    int64_t gone = row_ends ? row : col, stays = row_ends ? col : row;
    link_child(s, gone, stays);
    s->flow[gone] = supply[gone];
    supply[stays] -= supply[gone];
    supply[gone] = 0;
    if (!row_ends)
        s->open[at] = -INFINITY;
}

/* Smallest cost of each column. */
static void cheapest_rows(simplex *s)
{
    for (int64_t j = 0; j < s->m; j++)
        s->open[j] = INFINITY;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < s->m; j++)
            s->open[j] = fmin(s->open[j], (double)s->cost[i * s->m + j]);
}

/* The pieces of the auction that are at least `share` of what their row or column has left. */
static void follow_auction(simplex *s, units *supply, double share)
{
    const tf_auction *a = &s->auction;
    for (int64_t j = 0; j < s->m; j++) {
        for (int32_t p = a->first[j]; p >= 0; p = a->pieces[p].next) {
            int64_t i = a->pieces[p].row;
            if (i < 0 || supply[i] <= 0 || supply[s->n + j] <= 0)
                continue;
            units possible = supply[i] < supply[s->n + j] ? supply[i] : supply[s->n + j];
            if (a->pieces[p].amount * s->supply >= share * (double)possible)
                move_supply(s, supply, i, j);
        }
    }
}

/* The row-minimum rule: rows in turn fill their cheapest columns that have room. */
static void first_tree(simplex *s, units *supply)
{
    for (int64_t x = 0; x < s->nodes; x++)
        s->parent[x] = s->child[x] = s->next[x] = s->prev[x] = -1;
    if (s->sparse) {
        s->supply = 0;
        for (int64_t i = 0; i < s->n; i++)
            s->supply += (double)supply[i];
        memcpy(s->open, s->auction.v, (size_t)s->m * sizeof *s->open);
        follow_auction(s, supply, 0.99);
        follow_auction(s, supply, 0.5);
        follow_auction(s, supply, 0);
    } else {
        cheapest_rows(s);
    }
    for (int64_t i = 0; i < s->n; i++) {
        while (supply[i] > 0) {
            int64_t at;
            tf_row_min(s->cost + i * s->m, s->open, s->m, &at);
            move_supply(s, supply, i, at);
        }
    }
    s->root = 0;
    while (s->parent[s->root] >= 0)
        s->root = s->parent[s->root];
}

/* Prices and depths from the tree alone. */
static void rebuild_prices(simplex *s)
{
    double top = s->scale;
    s->price[s->root] = 0;
    s->depth[s->root] = 0;
    for (int64_t x = preorder_next(s, s->root, s->root); x >= 0; x = preorder_next(s, x, s->root)) {
        int64_t up = s->parent[x];
        s->price[x] = arc_cost(s, x, up) - s->price[up];
        s->depth[x] = s->depth[up] + 1;
        top = fmax(top, fabs(s->price[x]));
    }
    s->tolerance = PRICE_TOLERANCE * top;
}

/* ---- pivots -------------------------------------------------------------------------------- */

/* Block search over the list of arcs. */
static bool price_list(simplex *s, int64_t *row, int64_t *col, double *reduced)
{
    const double *u = s->price, *v = s->price + s->n;
    const arc *best = NULL;
    double low = -s->tolerance;
    for (int64_t seen = 0; seen < s->arc_count && !best;) {
        if (s->next_arc >= s->arc_count)
            s->next_arc = 0;
        int64_t end = s->next_arc + PRICE_BLOCK < s->arc_count ? s->next_arc + PRICE_BLOCK : s->arc_count;
        seen += end - s->next_arc;
        for (; s->next_arc < end; s->next_arc++) {
            const arc *a = &s->arcs[s->next_arc];
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
static void add_arcs(simplex *s, int64_t i, double limit)
{
    const int32_t *col = s->lists.col + i * TF_LIST_ROOM;
    const float *c = s->lists.c + i * TF_LIST_ROOM;
    const double *v = s->price + s->n;
    for (int32_t k = 0; k < s->lists.count[i] && s->arc_count < s->arc_room; k++)
        if ((double)c[k] - v[col[k]] - s->price[i] < limit)
            s->arcs[s->arc_count++] = (arc){(int32_t)i, col[k], c[k]};
}

/* Prices all arcs, and lists those that violate: true if there are any. That none is there proves the optimum. */
static tfuse_status price_all(tf_env *env, simplex *s, bool *found)
{
    const double *v = s->price + s->n;
    if (s->arc_room - s->arc_count < s->n * TF_LIST_ROOM)
        s->arc_count = 0; /* the list starts again from what violates now */
    int64_t before = s->arc_count;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t at;
        if (i % CANCEL_EVERY == 0)
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
static bool price_arcs(simplex *s, int64_t *row, int64_t *col, double *reduced)
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

/* One side of the cycle, from a node up to the join: the arc with the smallest flow among those that lose flow. On the row's side
 * these are the arcs above rows, on the column's side those above columns. */
static void find_blocking(const simplex *s, int64_t node, int64_t join, bool rows_lose, int64_t *blocking, units *room)
{
    for (; node != join; node = s->parent[node]) {
        if (is_row(s, node) == rows_lose && (*blocking < 0 || s->flow[node] < *room)) {
            *blocking = node;
            *room = s->flow[node];
        }
    }
}

static void add_flow(simplex *s, int64_t node, int64_t join, bool rows_lose, units amount)
{
    for (; node != join; node = s->parent[node])
        s->flow[node] += is_row(s, node) == rows_lose ? -amount : amount;
}

/* Hangs the subtree that contains `node`, cut off above `cut`, on `above`: parents between the two turn round. */
static void rehang(simplex *s, int64_t node, int64_t cut, int64_t above, units flow)
{
    for (;;) {
        int64_t old_parent = s->parent[node];
        units old_flow = s->flow[node];
        unlink_child(s, node);
        link_child(s, node, above);
        s->flow[node] = flow;
        if (node == cut)
            return;
        above = node;
        flow = old_flow;
        node = old_parent;
    }
}

static void shift_prices(simplex *s, int64_t top, double row_shift)
{
    for (int64_t x = top; x >= 0; x = preorder_next(s, x, top)) {
        s->price[x] += is_row(s, x) ? row_shift : -row_shift;
        s->depth[x] = s->depth[s->parent[x]] + 1;
    }
}

static void pivot(simplex *s, int64_t row, int64_t col, double reduced)
{
    int64_t a = row, b = col;
    while (a != b) {
        if (s->depth[a] >= s->depth[b])
            a = s->parent[a];
        else
            b = s->parent[b];
    }
    int64_t join = a, row_side = -1, cut = -1;
    units amount = 0;
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

/* Whether an arc enters. After the list, all arcs are priced, and after new prices again. */
static tfuse_status next_pivot(tf_env *env, simplex *s, int64_t *row, int64_t *col, double *reduced, bool *found)
{
    *found = s->sparse ? price_list(s, row, col, reduced) : price_arcs(s, row, col, reduced);
    if (*found || !s->sparse)
        return TFUSE_OK;
    rebuild_prices(s);
    TF_TRY(price_all(env, s, found));
    if (*found)
        *found = price_list(s, row, col, reduced);
    return TFUSE_OK;
}

static tfuse_status optimise(tf_env *env, simplex *s, int64_t *pivots)
{
    bool rebuilt = true;
    rebuild_prices(s);
    for (;;) {
        int64_t row, col;
        double reduced;
        bool found;
        TF_TRY(next_pivot(env, s, &row, &col, &reduced, &found));
        if (!found) {
            if (rebuilt || s->sparse)
                return TFUSE_OK;
            rebuild_prices(s);
            rebuilt = true;
            continue;
        }
        pivot(s, row, col, reduced);
        ++*pivots;
        rebuilt = *pivots % s->nodes == 0;
        if (rebuilt)
            rebuild_prices(s);
        if (*pivots % CANCEL_EVERY == 0)
            TF_TRY(tf_progress(env, "solving", (uint64_t)*pivots, 0));
    }
}

uint64_t tf_transport_lists_bytes(int64_t n, int64_t m)
{
    if (tf_area(n, m, 1) < SPARSE_FROM)
        return 0;
    return tf_area(n, TF_LIST_ROOM, sizeof(int32_t) + sizeof(float) + ARCS_PER_PLACE * sizeof(arc)) + tf_area(n, 3, sizeof(double)) +
           tf_area(m, 4, sizeof(double)) + 4 * (tf_area(n, 1, sizeof(tf_piece)) + tf_area(m, 1, sizeof(tf_piece)));
}

/* Prices and a flow from the auction, and the arcs that its prices make look good. */
static tfuse_status warm_start(tf_env *env, tf_arena *arena, simplex *s, const double *mu, const double *nu, const double *start)
{
    s->sparse = s->n * s->m >= SPARSE_FROM && s->nodes < INT32_MAX / 8;
    if (!s->sparse)
        return TFUSE_OK;
    s->arc_room = ARCS_PER_PLACE * s->n * TF_LIST_ROOM;
    s->arcs = tf_arena_array(env, arena, (size_t)s->arc_room, sizeof *s->arcs);
    if (!s->arcs)
        return TFUSE_ENOMEM;
    TF_TRY(tf_lists_init(env, arena, s->n, s->m, s->cost, &s->lists));
    TF_TRY(tf_auction_run(env, arena, &s->lists, mu, nu, start, &s->auction));
    for (int64_t i = 0; i < s->n; i++) {
        if (i % CANCEL_EVERY == 0)
            TF_TRY(tf_check_cancel(env));
        tf_lists_build(&s->lists, i, s->auction.v);
        add_arcs(s, i, INFINITY);
    }
    return TFUSE_OK;
}

/* ---- the result ---------------------------------------------------------------------------- */

/* The flows of the final tree for the true masses: what a subtree has too much goes up. */
static void rebuild_flows(simplex *s)
{
    int64_t *order = s->depth, count = 0;
    for (int64_t x = s->root; x >= 0; x = preorder_next(s, x, s->root))
        order[count++] = x;
    for (int64_t x = 0; x < s->nodes; x++)
        s->flow[x] = is_row(s, x) ? s->mass[x] : -s->mass[x];
    for (int64_t k = count - 1; k > 0; k--)
        s->flow[s->parent[order[k]]] += s->flow[order[k]];
    for (int64_t x = s->n; x < s->nodes; x++)
        s->flow[x] = -s->flow[x];
}

/* Stable counting sort of tree nodes by the row (or column) of their arc. */
static void sort_nodes(const simplex *s, bool by_row, int64_t *first, const int64_t *in, int64_t count, int64_t *out)
{
    int64_t keys = by_row ? s->n : s->m;
    memset(first, 0, (size_t)keys * sizeof *first);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < count; k++) {
            int64_t x = in[k], key = is_row(s, x) == by_row ? x : s->parent[x];
            key -= by_row ? 0 : s->n;
            if (pass == 0)
                first[key]++;
            else
                out[first[key]++] = x;
        }
        for (int64_t key = 0, at = 0; pass == 0 && key < keys; key++) {
            int64_t here = first[key];
            first[key] = at;
            at += here;
        }
    }
}

typedef tf_positive lines;

static tfuse_status emit(tf_env *env, simplex *s, const lines *l, tf_solution *out)
{
    int64_t *some = s->child, *sorted = s->next, *scratch = s->prev, count = 0;
    double total = 0;
    for (int64_t i = 0; i < s->n; i++)
        total += (double)s->mass[i];
    rebuild_flows(s);
    for (int64_t x = 0; x < s->nodes; x++) {
        if (x == s->root || s->flow[x] <= 0)
            continue;
        int64_t i = is_row(s, x) ? x : s->parent[x], j = is_row(s, x) ? s->parent[x] - s->n : x - s->n;
        if ((double)s->flow[x] / total >= DUST * fmin(l->mu[i], l->nu[j]))
            some[count++] = x;
    }
    sort_nodes(s, false, scratch, some, count, sorted);
    sort_nodes(s, true, scratch, sorted, count, some);
    out->kind = TF_COUPLING_SPARSE;
    out->nnz = count;
    out->rows = tf_alloc_array(env, (size_t)count, sizeof *out->rows);
    out->cols = tf_alloc_array(env, (size_t)count, sizeof *out->cols);
    out->mass = tf_alloc_array(env, (size_t)count, sizeof *out->mass);
    if (!out->rows || !out->cols || !out->mass)
        return TFUSE_ENOMEM;
    for (int64_t k = 0; k < count; k++) {
        int64_t x = some[k], up = s->parent[x];
        out->rows[k] = l->row[is_row(s, x) ? x : up];
        out->cols[k] = l->col[(is_row(s, x) ? up : x) - s->n];
        out->mass[k] = (double)s->flow[x] / total;
    }
    return TFUSE_OK;
}

/* Potentials of all lines: those of the tree, and for empty columns, then empty rows, the largest that are feasible. */
static void emit_potentials(const simplex *s, const lines *l, const float *cost, const double *mu, const double *nu,
                            tf_solution *out)
{
    for (int64_t i = 0; i < l->n; i++)
        out->u[l->row[i]] = s->price[i];
    for (int64_t j = 0; j < l->m; j++)
        out->v[l->col[j]] = s->price[s->n + j];
    for (int64_t j = 0; j < out->m; j++) {
        if (nu[j] > 0)
            continue;
        out->v[j] = INFINITY;
        for (int64_t i = 0; i < l->n; i++)
            out->v[j] = fmin(out->v[j], (double)cost[l->row[i] * out->m + j] - out->u[l->row[i]]);
    }
    for (int64_t i = 0, at; i < out->n; i++)
        if (!(mu[i] > 0))
            out->u[i] = tf_row_min(cost + i * out->m, out->v, out->m, &at);
}

tfuse_status tf_transport(tf_env *env, int64_t n, int64_t m, const float *cost, const double *mu, const double *nu,
                          const double *start, tf_solution *out)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tf_solution_init(env, n, m, out);
    lines l;
    simplex s;
    tfuse_status status;
    const float *part = NULL;
    TF_TRY_OUT(tf_positive_lines(env, &arena, n, m, cost, mu, nu, &l, &part));
    units *supply = tf_arena_array(env, &arena, (size_t)(l.n + l.m), sizeof *supply);
    out->u = tf_alloc_array(env, (size_t)n, sizeof *out->u);
    out->v = tf_alloc_array(env, (size_t)m, sizeof *out->v);
    status = TFUSE_ENOMEM;
    if (!supply || !out->u || !out->v)
        goto out;
    TF_TRY_OUT(simplex_init(env, &arena, l.n, l.m, part, &s));
    TF_TRY_OUT(set_masses(env, &s, l.mu, l.nu));
    for (int64_t j = 0; start && j < l.m; j++)
        s.open[j] = start[l.col[j]];
    TF_TRY_OUT(warm_start(env, &arena, &s, l.mu, l.nu, start ? s.open : NULL));
    perturb(&s, supply);
    first_tree(&s, supply);
    TF_TRY_OUT(optimise(env, &s, &out->iterations));
    emit_potentials(&s, &l, cost, mu, nu, out);
    TF_TRY_OUT(emit(env, &s, &l, out));
    out->converged = true;
out:
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
