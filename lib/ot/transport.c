/* SPDX-License-Identifier: Apache-2.0
 *
 * transport.c: the transport problem with any marginals, by the primal simplex method on the dense bipartite graph
 * (Dantzig 1951; tree form after Ahuja, Magnanti & Orlin, Network Flows, 1993, chapter 11).
 *
 * Basis. A spanning tree of rows 0..n-1, columns n..n+m-1 and a root; a node other than the root carries the flow between it and its
 * parent. Unless the problem is small (exact.c), the first tree follows the flow of an auction (auction.h) as far as it goes; what is left of it, else all
 * nodes, hangs on the root by artificial arcs that cost as much as the auction's price and a penalty. Subtrees thus begin small and
 * nearly optimal. If any of these arcs still carries flow at an optimum, the penalty grows. Costs of one number a line (sorted.c), where the auction and
 * the pivots after it would take longest, are filled in order instead, which leaves one node.
 *
 * Pricing (transport_price.c). Then also from a list of arcs; all arcs are priced when none of these enters.
 *
 * Termination. Masses become integers, so that flows are exact, and every node but one column supplies one unit more than its mass,
 * where the mass is a multiple of 2^k > n + m. No proper part of the nodes then balances, so every basic flow is positive,
 * every pivot lowers the cost, and no basis comes twice. These are the pivots of Cunningham's strongly feasible trees (1976), which
 * are the bases that stay feasible under this perturbation. In the end one artificial arc is left, without flow, and flows are
 * rebuilt from the true masses on the final tree, where they are exactly zero or more.
 *
 * Prices are sums and differences of costs along tree paths, rebuilt every n + m pivots and at the end. An arc enters when
 * its reduced cost is below -1e-13 relative to the largest cost or price, so above rounding.
 */
#include "ot/transport.h"
#include "base/meter.h"

#include <math.h>
#include <stdio.h>

enum { MASS_BITS = 90, PIVOTS_A_REPORT = 16, MIN_BLOCK = 64, ARCS_PER_PLACE = 3 };
#define BALANCE_TOLERANCE 1e-9
/* The first penalty in steps of the auction, and its growth. */
#define PENALTY_OF_EPS 8.0
#define PENALTY_GROWTH 8.0

static tfuse_status simplex_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, tf_simplex *s)
{
    *s = (tf_simplex){.n = n, .m = m, .nodes = n + m + 1, .root = n + m, .cost = cost, .scale = tf_max_abs(env, cost, n * m)};
    size_t count = (size_t)s->nodes;
    s->price = tf_arena_array(env, arena, count, sizeof *s->price);
    s->hang = tf_arena_array(env, arena, count, sizeof *s->hang);
    s->mass = tf_arena_array(env, arena, count, sizeof *s->mass);
    s->flow = tf_arena_array(env, arena, count, sizeof *s->flow);
    s->parent = tf_arena_array(env, arena, count, sizeof *s->parent);
    s->child = tf_arena_array(env, arena, count, sizeof *s->child);
    s->next = tf_arena_array(env, arena, count, sizeof *s->next);
    s->prev = tf_arena_array(env, arena, count, sizeof *s->prev);
    s->depth = tf_arena_array(env, arena, count, sizeof *s->depth);
    if (!s->price || !s->hang || !s->mass || !s->flow || !s->parent || !s->child || !s->next || !s->prev || !s->depth)
        return TFUSE_ENOMEM;
    int64_t block = (int64_t)sqrt((double)n * (double)m);
    block = block < MIN_BLOCK ? MIN_BLOCK : block;
    s->block_rows = 1 + (block - 1) / m;
    return TFUSE_OK;
}

/* ---- masses -------------------------------------------------------------------------------- */

/* Masses as integers with equal totals: uniform ones exactly, others in tf_units of 2^-MASS_BITS (a positive mass has at least
 * one), where the difference of the totals goes to the largest column. */
static tfuse_status set_masses(tf_env *env, tf_simplex *s, const double *mu, const double *nu)
{
    tf_units *row = s->mass, *col = s->mass + s->n, balance = 0;
    if (tf_all_equal(mu, s->n) && tf_all_equal(nu, s->m)) {
        for (int64_t i = 0; i < s->n; i++)
            row[i] = s->m;
        for (int64_t j = 0; j < s->m; j++)
            col[j] = s->n;
        return TFUSE_OK;
    }
    int64_t largest = 0;
    for (int64_t i = 0; i < s->n; i++) {
        tf_units x = (tf_units)ldexp(mu[i], MASS_BITS);
        row[i] = x > 0 ? x : 1;
        balance += row[i];
    }
    for (int64_t j = 0; j < s->m; j++) {
        tf_units x = (tf_units)ldexp(nu[j], MASS_BITS);
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

/* What the first tree has to move: the masses and their perturbation, whose sink is the last column. */
static void perturb(const tf_simplex *s, tf_units *supply)
{
    int shift = 0;
    while (((int64_t)1 << shift) <= s->root)
        shift++;
    for (int64_t x = 0; x < s->root; x++)
        supply[x] = s->mass[x] * ((tf_units)1 << shift) + (tf_simplex_is_row(s, x) ? 1 : -1);
    supply[s->root - 1] += s->root;
}

/* ---- the first tree ------------------------------------------------------------------------ */

/* Moves what row and column both have; the one that is used up hangs on the other. Supplies never tie before the last step. */
static void move_supply(tf_simplex *s, tf_units *supply, int64_t row, int64_t col)
{
    bool row_ends = supply[row] < supply[col];
    int64_t gone = row_ends ? row : col, stays = row_ends ? col : row;
    tf_simplex_link(s, gone, stays);
    s->flow[gone] = supply[gone];
    supply[stays] -= supply[gone];
    supply[gone] = 0;
}

/* The pieces of the auction that are at least `share` of what their row or column has left. */
static void follow_auction(tf_simplex *s, tf_units *supply, double share)
{
    const tf_auction *a = &s->auction;
    for (int64_t j = 0; j < s->m; j++) {
        for (int32_t p = a->first[j]; p >= 0; p = a->pieces[p].next) {
            int64_t i = a->pieces[p].row;
            if (i < 0 || supply[i] <= 0 || supply[s->n + j] <= 0)
                continue;
            tf_units possible = supply[i] < supply[s->n + j] ? supply[i] : supply[s->n + j];
            if (a->pieces[p].amount * s->supply >= share * (double)possible)
                move_supply(s, supply, i, s->n + j);
        }
    }
}

/* What no piece of the auction used up hangs on the root, at its own price there and the penalty. */
static void hang_rest(const tf_env *env, tf_simplex *s, const tf_units *supply)
{
    const bool bid = s->auction.v != NULL;
    s->penalty = bid ? PENALTY_OF_EPS * s->auction.eps : s->scale;
    if (!(s->penalty > 0))
        s->penalty = s->scale > 0 ? s->scale : 1;
    for (int64_t x = 0; x < s->root && !tf_polled(env, x); x++) {
        if (s->parent[x] >= 0)
            continue;
        int64_t at;
        double price = 0;
        if (bid)
            price = tf_simplex_is_row(s, x) ? tf_row_min(s->cost + x * s->m, s->auction.v, s->m, &at) : s->auction.v[x - s->n];
        tf_simplex_link(s, x, s->root);
        s->flow[x] = supply[x];
        s->hang[x] = price + s->penalty;
    }
}

/* The first row and column in order that have anything left, again and again. */
static void fill_in_order(tf_simplex *s, tf_units *supply, const tf_sorted *lines)
{
    for (int64_t i = 0, j = 0; i < s->n && j < s->m;) {
        const int64_t row = lines->row[i], col = s->n + lines->col[j];
        move_supply(s, supply, row, col);
        i += supply[row] == 0;
        j += supply[col] == 0;
    }
}

static void no_tree(tf_simplex *s)
{
    for (int64_t x = 0; x < s->nodes; x++)
        s->parent[x] = s->child[x] = s->next[x] = s->prev[x] = -1;
}

/* Pieces that use up most of a row or column go first: small ones might close its way to them. */
static tfuse_status first_tree(tf_env *env, tf_simplex *s, tf_units *supply)
{
    no_tree(s);
    if (s->auction.v) {
        s->supply = 0;
        for (int64_t i = 0; i < s->n; i++)
            s->supply += (double)supply[i];
        follow_auction(s, supply, 0.99);
        follow_auction(s, supply, 0.5);
        follow_auction(s, supply, 0);
    }
    hang_rest(env, s, supply);
    return tf_check_cancel(env);
}

/* At an optimum: true if the root's arcs changed. Several of them carry flow: they cost more. One alone carries none: it costs nothing,
 * which makes prices, and with them the tolerance, of the size of the costs. */
static bool settle_root(tf_simplex *s)
{
    int64_t only = s->child[s->root];
    if (s->next[only] < 0) {
        bool changed = s->hang[only] < 0 || s->hang[only] > 0;
        s->hang[only] = 0;
        return changed;
    }
    for (int64_t x = only; x >= 0; x = s->next[x])
        s->hang[x] += (PENALTY_GROWTH - 1) * s->penalty;
    s->penalty *= PENALTY_GROWTH;
    return true;
}

static tfuse_status optimise(tf_env *env, tf_simplex *s, int64_t *pivots)
{
    tf_simplex_prices(s);
    for (;;) {
        int64_t row, col;
        double reduced;
        bool found;
        TF_TRY(tf_simplex_entering(env, s, &row, &col, &reduced, &found));
        if (!found) {
            if (!settle_root(s))
                return TFUSE_OK;
            tf_simplex_prices(s);
            continue;
        }
        tf_simplex_pivot(s, row, col, reduced);
        ++*pivots;
        if (*pivots % s->nodes == 0)
            tf_simplex_prices(s);
        TF_TRY(*pivots % PIVOTS_A_REPORT ? tf_check_cancel(env) : tf_progress(env, "solving", (uint64_t)*pivots, 0));
    }
}

uint64_t tf_transport_lists_bytes(int64_t n, int64_t m)
{
    if (!tf_transport_lists(n, m))
        return 0;
    return tf_area(n, TF_LIST_ROOM, sizeof(int32_t) + sizeof(float) + ARCS_PER_PLACE * sizeof(tf_arc)) + tf_area(n, 3, sizeof(double)) +
           tf_area(m, 5, sizeof(double)) + 4 * (tf_area(n, 1, sizeof(tf_piece)) + tf_area(m, 1, sizeof(tf_piece)));
}

/* The tree that fills masses in order; found: whether the costs are such that it is optimal or nearly so. */
static tfuse_status sorted_tree(tf_env *env, tf_arena *arena, tf_simplex *s, tf_units *supply, bool *found)
{
    tf_sorted lines;
    TF_TRY(tf_sorted_lines(env, arena, s->n, s->m, s->cost, &lines, found));
    if (!*found)
        return TFUSE_OK;
    no_tree(s);
    perturb(s, supply);
    fill_in_order(s, supply, &lines);
    hang_rest(env, s, supply);
    tf_simplex_prices(s);
    for (int64_t i = 0, at; *found && i < s->n && !tf_polled(env, i); i++)
        *found = tf_row_min(s->cost + i * s->m, s->price + s->n, s->m, &at) - s->price[i] >= -lines.rounding;
    return tf_check_cancel(env);
}

/* The first tree, and for large problems the list of arcs: none from a sorted start, the auction's otherwise. */
static tfuse_status start_simplex(tf_env *env, tf_arena *arena, tf_simplex *s, const double *mu, const double *nu, const double *start)
{
    tf_units *supply = tf_arena_array(env, arena, (size_t)(s->n + s->m), sizeof *supply);
    if (!supply)
        return TFUSE_ENOMEM;
    s->sparse = tf_transport_lists(s->n, s->m);
    if (s->sparse) {
        bool found;
        s->arc_room = ARCS_PER_PLACE * s->n * TF_LIST_ROOM;
        s->arcs = tf_alloc_array(env, (size_t)s->arc_room, sizeof *s->arcs);
        if (!s->arcs)
            return TFUSE_ENOMEM;
        TF_TRY(tf_lists_init(env, arena, s->n, s->m, s->cost, &s->lists));
        TF_TRY(sorted_tree(env, arena, s, supply, &found));
        if (found)
            return TFUSE_OK;
        TF_TRY(tf_auction_run(env, arena, &s->lists, mu, nu, start, s->scale, &s->auction));
        TF_TRY(tf_simplex_list_arcs(env, s));
    }
    perturb(s, supply);
    return first_tree(env, s, supply);
}

tfuse_status tf_transport(tf_env *env, int64_t n, int64_t m, const float *cost, const double *mu, const double *nu,
                          const double *start, tf_solution *out)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tf_solution_init(env, n, m, out);
    tf_positive l = {.owned = NULL};
    tf_simplex s = {.n = 0};
    tfuse_status status;
    const float *part = NULL;
    TF_TRY_OUT(tf_positive_lines(env, &arena, n, m, cost, mu, nu, &l, &part));
    double *first = tf_arena_array(env, &arena, (size_t)l.m, sizeof *first);
    status = TFUSE_ENOMEM;
    if (!first)
        goto out;
    TF_TRY_OUT(simplex_init(env, &arena, l.n, l.m, part, &s));
    TF_TRY_OUT(set_masses(env, &s, l.mu, l.nu));
    for (int64_t j = 0; start && j < l.m; j++)
        first[j] = start[l.col[j]];
    TF_TRY_OUT(start_simplex(env, &arena, &s, l.mu, l.nu, start ? first : NULL));
    TF_TRY_OUT(optimise(env, &s, &out->iterations));
    out->iterations += s.auction.bids;
    snprintf(out->method, sizeof out->method, "%s", s.auction.v ? "listed arcs from an auction" : s.sparse ? "costs of one number a line, filled in order"
                                                                                                          : "all arcs, few enough");
    TF_TRY_OUT(tf_simplex_result(env, &s, &l, cost, mu, nu, out));
    out->converged = true;
out:
    tf_free(&env->mem, l.owned);
    tf_free(&env->mem, s.arcs);
    tf_lists_free(env, &s.lists);
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
