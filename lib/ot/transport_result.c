/* SPDX-License-Identifier: Apache-2.0
 *
 * transport_result.c: what the final basis of the network simplex says: flows from the true masses, so that they are exact, sorted into
 * triplets, and potentials.
 */
#include "ot/transport.h"

#include <math.h>
#include <string.h>

/* Shares of a row or column below this are rounding errors of the marginals that were given. */
#define DUST 0x1p-48

/* The flows of the final tree for the true masses: what a subtree has too much goes up. */
static void rebuild_flows(tf_simplex *s)
{
    int64_t *order = s->depth, count = 0;
    for (int64_t x = s->root; x >= 0; x = tf_simplex_preorder(s, x, s->root))
        order[count++] = x;
    s->flow[s->root] = 0;
    for (int64_t x = 0; x < s->root; x++)
        s->flow[x] = tf_simplex_is_row(s, x) ? s->mass[x] : -s->mass[x];
    for (int64_t k = count - 1; k > 0; k--)
        s->flow[s->parent[order[k]]] += s->flow[order[k]];
    for (int64_t x = s->n; x < s->root; x++)
        s->flow[x] = -s->flow[x];
}

/* Stable counting sort of tree nodes by the row (or column) of their arc. */
static void sort_nodes(const tf_simplex *s, bool by_row, int64_t *first, const int64_t *in, int64_t count, int64_t *out)
{
    int64_t keys = by_row ? s->n : s->m;
    memset(first, 0, (size_t)keys * sizeof *first);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t k = 0; k < count; k++) {
            int64_t x = in[k], key = tf_simplex_is_row(s, x) == by_row ? x : s->parent[x];
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

static tfuse_status emit(tf_env *env, tf_simplex *s, const tf_positive *l, tf_solution *out)
{
    int64_t *some = s->child, *sorted = s->next, *scratch = s->prev, count = 0;
    double total = 0;
    for (int64_t i = 0; i < s->n; i++)
        total += (double)s->mass[i];
    rebuild_flows(s);
    for (int64_t x = 0; x < s->root; x++) {
        if (s->parent[x] == s->root || s->flow[x] <= 0)
            continue;
        int64_t i = tf_simplex_is_row(s, x) ? x : s->parent[x], j = tf_simplex_is_row(s, x) ? s->parent[x] - s->n : x - s->n;
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
        out->rows[k] = l->row[tf_simplex_is_row(s, x) ? x : up];
        out->cols[k] = l->col[(tf_simplex_is_row(s, x) ? up : x) - s->n];
        out->mass[k] = (double)s->flow[x] / total;
    }
    return TFUSE_OK;
}

/* Potentials of all lines: those of the tree, and for empty columns, then empty rows, the largest that are feasible. */
static tfuse_status emit_potentials(tf_env *env, const tf_simplex *s, const tf_positive *l, const float *cost, const double *mu, const double *nu,
                            tf_solution *out)
{
    for (int64_t i = 0; i < l->n; i++)
        out->u[l->row[i]] = s->price[i];
    for (int64_t j = 0; j < l->m; j++)
        out->v[l->col[j]] = s->price[s->n + j];
    for (int64_t j = 0; j < out->m; j++)
        out->v[j] = nu[j] > 0 ? out->v[j] : INFINITY;
    for (int64_t i = 0; i < l->n && l->m < out->m && !tf_polled(env, i); i++) {
        const float *row = cost + l->row[i] * out->m;
        for (int64_t j = 0; j < out->m; j++)
            if (!(nu[j] > 0))
                out->v[j] = fmin(out->v[j], (double)row[j] - out->u[l->row[i]]);
    }
    for (int64_t i = 0, at; i < out->n && !tf_polled(env, i); i++)
        if (!(mu[i] > 0))
            out->u[i] = tf_row_min(cost + i * out->m, out->v, out->m, &at);
    return tf_check_cancel(env);
}

tfuse_status tf_simplex_result(tf_env *env, tf_simplex *s, const tf_positive *l, const float *cost, const double *mu,
                               const double *nu, tf_solution *out)
{
    out->u = tf_alloc_array(env, (size_t)out->n, sizeof *out->u);
    out->v = tf_alloc_array(env, (size_t)out->m, sizeof *out->v);
    if (!out->u || !out->v)
        return TFUSE_ENOMEM;
    TF_TRY(emit_potentials(env, s, l, cost, mu, nu, out));
    return emit(env, s, l, out);
}
