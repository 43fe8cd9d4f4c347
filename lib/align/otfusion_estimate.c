/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_estimate.c: what aligning would take, from headers alone. The walk is the strategy's own; where it would read weights or solve,
 * it tallies the arrays instead and leaves a hollow map: its kind and extents without numbers, a permutation as an identity.
 */
#include "align/otfusion.h"
#include "base/pool.h"
#include <string.h>

/* The most entries of a hollow map that are not zero; 0: unknown. */
static int64_t entries_of(const tf_map *map)
{
    return map->kind == TF_MAP_IDENTITY ? map->n : map->entries;
}

/* entries: of a coupling, the most that are not zero; 0: any. */
static tfuse_status hollow_map(otf *o, bool permutation, int64_t n, int64_t m, int64_t entries, tf_map **out)
{
    const uint64_t bytes = permutation ? tf_area(n, 1, sizeof(int64_t)) : tf_area(n, m, sizeof(float));
    TF_TRY(tf_map_identity(o->env, n, out));
    (*out)->m = m;
    if (!permutation) {
        (*out)->kind = TF_MAP_COUPLING;
        (*out)->entries = entries;
    }
    tf_tally_take(&o->job->tally->memory, bytes);
    o->job->tally->maps += bytes;
    return TFUSE_OK;
}

/* ---- costs ------------------------------------------------------------------------------------ */

/* Moving the inputs of a weight of `count` floats through maps, to `moved` floats. */
static void tally_inputs(otf *o, const tf_node *n, uint64_t count, uint64_t moved)
{
    tf_tally *t = &o->job->tally->memory;
    uint64_t most = 0;
    const otf_value *v = n->n_inputs ? &o->values[n->inputs[0]] : NULL;
    for (int i = 0; v && v->map && i < v->n; i++) {
        const tf_map *map = v->map[i] < 0 ? NULL : o->plan->maps[v->map[i]].map;
        const uint64_t sparse = map ? tf_map_sparse_bytes(map, tf_threads(o->env)) : 0;
        const uint64_t bytes = !map || map->kind == TF_MAP_IDENTITY ? 0 : sparse ? sparse : tf_area(map->n, map->m, sizeof(float)) + count + moved;
        most = bytes > most ? bytes : most;
    }
    if (!v || !v->map)
        return;
    tf_tally_spike(t, moved + most);
}

/* One set's features of one model, which stay: units × width; returns their bytes and width. */
static uint64_t tally_features(otf *o, const otf_units *u, bool of_model, const tf_part *part, int64_t *width)
{
    tf_tally *t = &o->job->tally->memory;
    const tf_node *n = of_model ? otf_model_node(o, u->node) : u->node;
    const tf_param *p = &(of_model ? o->model : o->anchor)->params[n->params[0]];
    const tf_param *pa = &o->anchor->params[u->node->params[0]];
    const uint64_t count = tf_area(tf_param_count(p), 1, sizeof(float));
    const int dim = otf_produced_dim(of_model ? o->model : o->anchor, p);
    int64_t moved = 1;
    *width = 1;
    for (int d = 0; d < p->rank; d++) {
        const int64_t extent = of_model && pa->use[d] == TF_USE_CONSUMED ? pa->shape[d] : p->shape[d];
        moved *= extent;
        *width *= d == dim ? 1 : extent;
    }
    const uint64_t after = tf_area(moved, 1, sizeof(float)), kept = tf_area(part->size, *width, sizeof(float));
    tf_tally_take(t, count);
    if (of_model)
        tally_inputs(o, u->node, count, after);
    tf_tally_drop(t, count);
    tf_tally_spike(t, after + kept); /* the moved weight, until its rows are copied */
    tf_tally_take(t, kept);
    return kept;
}

static void tally_weight_cost(otf *o, const otf_units *units, int n_sets, const tf_part *from, const tf_part *to)
{
    tf_tally *t = &o->job->tally->memory;
    uint64_t held = 0;
    int64_t width = 0;
    for (int side = 0; side < 2; side++) {
        uint64_t joined = 0;
        width = 0;
        for (int s = 0; s < n_sets; s++) {
            int64_t own;
            const uint64_t bytes = tally_features(o, &units[s], side == 0, side == 0 ? from : to, &own);
            if (s > 0)
                tf_tally_spike(t, joined + bytes);
            joined += bytes;
            width += own;
        }
        held += joined;
    }
    tf_tally_spike(t, tf_area(from->size, to->size, sizeof(float)) + tf_cost_features_bytes(from->size, to->size, width));
    tf_tally_drop(t, held);
}

static void tally_cost(otf *o, const otf_units *units, int n_sets, const tf_part *from, const tf_part *to)
{
    tf_tally *t = &o->job->tally->memory;
    const uint64_t cost = tf_area(from->size, to->size, sizeof(float));
    if (o->requests.solve[units[0].node - o->anchor->nodes] >= 0)
        tf_tally_spike(t, 3 * cost + tf_area(from->size + to->size, 1, sizeof(double))); /* products in float64, and the cost */
    else if (otf_is_table(o, units, n_sets))
        tf_tally_spike(t, 4 * cost + tf_area(from->size + to->size, OTF_TABLE_ROWS, sizeof(float)));
    else
        tally_weight_cost(o, units, n_sets, from, to);
    tf_tally_take(t, cost);
}

/* ---- matches ---------------------------------------------------------------------------------- */

/* The map of one match of n units with m; its bytes stay. */
static tfuse_status tally_match(otf *o, int64_t n, int64_t m, tf_map **out)
{
    tf_tally *t = &o->job->tally->memory;
    const bool uniform = o->opt.control == OTF_UNIFORM, random = o->opt.control == OTF_RANDOM;
    const char *solver = random ? "exact" : o->opt.solver;
    const tf_ot_bytes ot = tf_ot_bytes_of(solver, n, m);
    const uint64_t cost = random ? tf_area(n, m, sizeof(float)) : 0;
    const bool permutation = !uniform && tf_ot_is_permutation(solver, n, m);
    if (!uniform)
        tf_tally_spike(t, cost + ot.work + ot.kept);
    return hollow_map(o, permutation, n, m, !uniform && !strcmp(solver, "exact") ? n + m : 0, out); /* a vertex has n + m - 1 */
}

tfuse_status otf_estimate_heads(otf *o, const tf_part *from, const tf_part *to)
{
    tf_tally_spike(&o->job->tally->memory, tf_area(from->size, to->size, sizeof(float)) +
                                               tf_area(from->extent[1], to->extent[1], sizeof(float)) +
                                               2 * tf_area(from->extent[0], to->extent[0], sizeof(double)));
    return TFUSE_OK;
}

/* Units inside heads: a map for each head, or one over all pairs that meet, a vertex of the transport polytope, pair after pair. */
static tfuse_status tally_heads(otf *o, const tf_part *from, const tf_part *to, tf_map **out)
{
    const int64_t heads = to->extent[0], in = from->extent[1], im = to->extent[1];
    tfuse_status status = TFUSE_OK;
    *out = NULL;
    if (from->extent[0] != heads) {
        const uint64_t before = o->job->tally->maps;
        TF_TRY(tally_match(o, in, im, out));
        const int64_t entries = (from->extent[0] + heads) * entries_of(*out);
        tf_map_free(*out);
        tf_tally_drop(&o->job->tally->memory, o->job->tally->maps - before);
        o->job->tally->maps = before;
        return hollow_map(o, false, from->size, to->size, entries, out);
    }
    for (int64_t h = 0; h < heads && status == TFUSE_OK; h++) {
        tf_map_free(*out);
        status = tally_match(o, in, im, out);
    }
    if (status == TFUSE_OK) { /* applied as one dense operator */
        (*out)->entries = heads * entries_of(*out);
        (*out)->kind = TF_MAP_COUPLING;
        (*out)->n = from->size;
        (*out)->m = to->size;
    }
    return status;
}

tfuse_status otf_estimate_part(otf *o, const otf_units *units, int n_sets, const tf_part *from, const tf_part *to, bool blocks,
                               tf_plan_map *row)
{
    const bool control = o->opt.control == OTF_UNIFORM || o->opt.control == OTF_RANDOM;
    tf_tally *t = &o->job->tally->memory;
    if (!control)
        tally_cost(o, units, n_sets, from, to);
    tfuse_status status = blocks ? tally_heads(o, from, to, &row->map) : tally_match(o, from->size, to->size, &row->map);
    if (!control)
        tf_tally_drop(t, tf_area(from->size, to->size, sizeof(float)));
    return status;
}

tfuse_status otf_estimate_spread(otf *o, const tf_map *like, int64_t group, tf_map **out)
{
    const bool one = like->kind == TF_MAP_IDENTITY;
    return hollow_map(o, one, like->n * group, like->m * group, group * entries_of(like), out);
}

tfuse_status otf_estimate_mix(otf *o, int32_t res, int32_t br, tf_map **out)
{
    const tf_map *like = o->plan->maps[res].map;
    const int64_t one = entries_of(like), other = entries_of(o->plan->maps[br].map);
    if (o->opt.residual == OTF_IDENTITY || res == br)
        return hollow_map(o, like->kind == TF_MAP_IDENTITY || o->opt.residual == OTF_IDENTITY, like->n, like->m, one, out);
    tf_tally_spike(&o->job->tally->memory, 2 * tf_area(like->n, like->m, sizeof(float)));
    return hollow_map(o, false, like->n, like->m, one && other ? one + other : 0, out);
}

tfuse_status otf_estimate_statistics(otf *o)
{
    uint64_t work, kept;
    if (!o->job->calib) /* a host feeds them, and holds them already */
        return TFUSE_OK;
    TF_TRY(tf_stats_bytes(o->env, o->anchor_view, o->model_view, o->job->calib, o->opt.samples, &o->opt.tokens, o->requests.items, o->requests.n,
                          &work, &kept));
    tf_tally_take(&o->job->tally->memory, kept);
    tf_tally_spike(&o->job->tally->memory, work);
    o->stats_bytes = kept;
    return TFUSE_OK;
}
