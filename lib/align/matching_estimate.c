/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_estimate.c: what matching would take, from headers alone, array by array of the other files; the plan's maps are hollow. Groups depend
 * on weights, which are not looked at: the largest that the policy and the operations leave are assumed.
 */
#include "align/matching.h"
#include "ops/common.h"

static uint64_t square_of(int64_t n, size_t size)
{
    return tf_area(n, n, size);
}

/* Rotations, not assignments: by the largest groups that there may be. */
static bool is_dense(const matching *mt, tf_id cls)
{
    return mt->classes[cls].shape != MT_FIXED && mt->classes[cls].shape < MT_UNITS;
}

/* Of the class's maps: their bytes. */
static uint64_t map_bytes(const matching *mt, tf_id cls)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls);
    const uint64_t one = is_dense(mt, cls) || mt_is_merged(mt, cls) ? 2 * tf_area(n, m, sizeof(float)) : tf_area(m, 1, sizeof(int64_t));
    return (uint64_t)tf_class_instances(mt->g, cls) * one;
}

static tfuse_status hollow(matching *mt, tf_id cls, tf_class_map *out)
{
    const int64_t instances = tf_class_instances(mt->g, cls);
    if (!(out->maps = tf_calloc(mt->env, (size_t)instances, sizeof *out->maps)))
        return TFUSE_ENOMEM;
    out->instances = instances;
    for (int64_t i = 0; i < instances; i++)
        TF_TRY(mt_first_map(mt, cls, &out->maps[i]));
    return TFUSE_OK;
}

/* Tensors in which the class stands innermost: *all bytes of both sides' rows, *squares of the products of all units of the largest with each other. */
static tfuse_status places_of(matching *mt, tf_id cls, uint64_t *all, uint64_t *square)
{
    *all = *square = 0;
    for (size_t i = 0; i < mt->g->n_params; i++)
        for (int d = 0; d < mt->g->params[i].rank; d++) {
            const tf_param *p = &mt->g->params[i];
            tf_part *parts;
            int count;
            TF_TRY(tf_binding_parts(mt->env, mt->g, p->dims[d], &parts, &count));
            for (int q = 0; q < count; q++) {
                const uint64_t one = square_of(parts[q].size, sizeof(float));
                if (parts[q].n_factors == 0 || tf_class_of(mt->g, parts[q].port[parts[q].n_factors - 1]) != cls)
                    continue;
                *all += 2 * tf_area(parts[q].size, tf_param_count(p) / p->shape[d], sizeof(float));
                *square = one > *square ? one : *square;
            }
            tf_free(&mt->env->mem, parts);
        }
    return TFUSE_OK;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* largest: of one tensor, which is loaded, moved along each dimension, and gathered in rows. */
static tfuse_status tally_class(matching *mt, tf_id cls, uint64_t largest)
{
    const int64_t own = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls), instances = tf_class_instances(mt->g, cls);
    const int64_t n = own < m ? own * ((m + own - 1) / own) : own; /* of a square problem */
    const tf_ot_bytes ot = tf_ot_bytes_of(tf_policy_text(mt->job->policy, "solver.name"), n, n);
    const uint64_t one = tf_area(own, m, sizeof(float)), rotate = 8 * square_of(n, sizeof(double));
    const uint64_t assign = 2 * square_of(n, sizeof(float)) + ot.work + ot.kept;
    const bool inside = tf_class_parent(mt->g, cls) >= 0, apart = !is_dense(mt, cls) && instances > 1;
    uint64_t rows = 0, square = 0;
    tf_tally *t = &mt->job->tally->memory;
    TF_TRY(places_of(mt, cls, &rows, &square));
    const uint64_t signs = mt->classes[cls].shape == MT_SIGNED_UNITS ? 2 : 1, gram = (apart ? 1 : (uint64_t)instances) * one * signs;
    tf_tally_spike(t, gram + (apart ? rows : 0) + larger(4 * largest, is_dense(mt, cls) ? rotate : assign));
    if (mt_is_merged(mt, cls))
        tf_tally_spike(t, (uint64_t)instances * 2 * tf_area(own - m, m, sizeof(float)) + 4 * largest);
    if (inside && !mt->classes[cls].outer) /* blocks with it inside are compared before it is matched */
        tf_tally_spike(t, 4 * largest + (is_dense(mt, cls) ? 4 * square : rows + one));
    return TFUSE_OK;
}

static tfuse_status tally_values(matching *mt, const tf_view *anchor, const tf_view *model, const tf_stat_wants *wants, uint64_t *out)
{
    tf_tally *t = &mt->job->tally->memory;
    uint64_t work = 0, kept = 0, values = 0;
    for (size_t i = 0; i < wants->n; i++) {
        const tf_graph *of = mt->side[MT_MODEL].g;
        const int64_t n = tf_value_channels(of, tf_graph_find_value(of, wants->items[i].value))->extent;
        values += tf_area(n, tf_value_channels(mt->g, tf_graph_find_value(mt->g, wants->items[i].value))->extent, sizeof(float));
    }
    if (wants->n && mt->job->calib)
        TF_TRY(tf_stats_bytes(mt->env, anchor, model, mt->job->calib, tf_policy_int(mt->job->policy, "calib.samples"), wants->items, wants->n,
                              &work, &kept));
    tf_tally_spike(t, work + kept);
    tf_tally_spike(t, kept + values);
    tf_tally_take(t, values);
    *out = values;
    return TFUSE_OK;
}

tfuse_status mt_estimate(matching *mt, const tf_stat_wants *wants, tf_class_map *out)
{
    tf_tally *t = &mt->job->tally->memory;
    uint64_t held = 0, largest = 0, maps = 0, values = 0;
    const tf_tally was = *t;
    for (size_t p = 0; p < mt->g->n_params; p++) {
        const int64_t count[2] = {tf_param_count(&mt->g->params[p]), tf_param_count(mt_param(mt, MT_MODEL, (tf_id)p))};
        const uint64_t bytes = tf_area(count[0] > count[1] ? count[0] : count[1], 1, sizeof(float));
        held += bytes;
        if (!mt_is_table(mt, (tf_id)p)) /* of tables, a tile of rows of each side */
            largest = bytes > largest ? bytes : largest;
    }
    for (size_t c = 0; c < mt->g->n_classes; c++)
        if (mt->classes[c].shape != MT_FIXED)
            maps += map_bytes(mt, (tf_id)c);
    TF_TRY(tally_values(mt, mt->side[MT_ANCHOR].view, mt->side[MT_MODEL].view, wants, &values));
    tf_tally_take(t, 3 * (held < mt_held_bytes(mt) ? held : mt_held_bytes(mt)) + 3 * maps); /* R, the best so far, the balance */
    mt->open_bytes = t->live - was.live + (mt->job->n - 1) * values;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        if (mt->classes[c].shape == MT_FIXED)
            continue;
        TF_TRY(hollow(mt, (tf_id)c, &out[c]));
        TF_TRY(tally_class(mt, (tf_id)c, largest));
    }
    t->live = was.live;
    tf_tally_take(t, maps);
    mt->job->tally->maps += maps;
    return TFUSE_OK;
}
