/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_own.c: a parent that has more units than the anchor, in its own graph. Carried weights would compute something else, of which the
 * merged network should learn nothing: it is the parent's own values, as they are, that are brought to the anchor's coordinates. One map of the plan moves each
 * part of a value's channels: the one that moves the tensors which make it, and it bears the names of the part's axes.
 */
#include "align/carry.h"
#include "align/class_plan.h"
#include "fuse/repair.h"
#include "ops/common.h"
#include <string.h>

enum { CARRY_ROWS = 4096 };

tfuse_status rp_own_make(repair *r, size_t lane, const tfuse_array *calib)
{
    const tf_fuse_job *job = r->job;
    const tf_graph *g = job->graphs[lane];
    rp_own *own = tf_calloc(r->env, 1, sizeof *own);
    if (!(r->lanes[lane].own = own))
        return TFUSE_ENOMEM;
    own->lane.g = g;
    own->lane.values = tf_calloc(r->env, g->n_values + 1, sizeof *own->lane.values);
    own->lane.spilled = tf_calloc(r->env, g->n_values + 1, sizeof *own->lane.spilled);
    if (!own->lane.values || !own->lane.spilled)
        return TFUSE_ENOMEM;
    TF_TRY(tf_canonical_make(r->env, g, job->models[lane], job->plan->passes, (int)job->plan->n_passes, &own->form));
    return calib ? tf_inputs_make(r->env, g, job->models[lane], calib, r->samples, &own->lane.inputs) : TFUSE_OK;
}

void rp_own_free(repair *r, rp_lane *lane)
{
    if (!lane->own)
        return;
    tf_canonical_free(&lane->own->form);
    tf_free(&r->env->mem, lane->own->lane.values);
    tf_free(&r->env->mem, lane->own->lane.spilled);
    tf_free(&r->env->mem, lane->own);
    lane->own = NULL;
}

const tf_node *rp_own_node(const repair *r, const rp_own *own, size_t step)
{
    return &own->lane.g->nodes[tf_graph_find_node(own->lane.g, r->g->nodes[r->nodes[step]].name)];
}

tfuse_status rp_own_param(repair *r, const rp_own *own, tf_id param, float **x)
{
    return tf_view_load(r->env, tf_canonical_top(&own->form), param, x);
}

/* ---- values ---- */

static tfuse_status find_map(repair *r, size_t lane, const tf_part *part, const tf_map **out)
{
    const tfuse_plan *plan = r->job->plan;
    tf_buf name;
    tf_buf_init(&name, &r->env->mem);
    tfuse_status status = tf_class_part_name(r->env, r->g, part, &name);
    *out = NULL;
    for (size_t i = 0; i < plan->n_maps && status == TFUSE_OK && !*out; i++)
        if ((size_t)plan->maps[i].model == lane && !strcmp(plan->maps[i].name, name.data))
            *out = plan->maps[i].map;
    tf_buf_free(&name);
    return status;
}

static bool is_dual(const tf_graph *g, const tf_part *part)
{
    bool dual = false;
    for (int f = 0; f < part->n_factors; f++)
        dual = dual || (part->port[f] >= 0 && g->class_dual[part->port[f]]);
    return dual;
}

/* One part of all rows of a value. */
static tfuse_status carry_part(repair *r, size_t lane, const tf_part *from, const tf_part *to, const tf_batch *src, tf_batch *dst)
{
    const tf_map *map;
    const int64_t n = tf_batch_channels(src), m = tf_batch_channels(dst), rows = tf_batch_rows(src);
    TF_TRY(find_map(r, lane, to, &map));
    for (int64_t first = 0; first < rows; first += CARRY_ROWS) {
        const int64_t shape[2] = {rows - first < CARRY_ROWS ? rows - first : CARRY_ROWS, n};
        TF_TRY(tf_carry_part(r->env, map, is_dual(r->g, to) ? TF_USE_DUAL : TF_USE_PRODUCED, true, src->data + first * n, 2, shape, 1, from, to, m,
                             dst->data + first * m));
        TF_TRY(tf_check_cancel(r->env));
    }
    return TFUSE_OK;
}

static tfuse_status carry_value(repair *r, size_t lane, const tf_node *n, tf_id value, const tf_batch *src)
{
    const tf_graph *of = r->lanes[lane].own->lane.g;
    const tf_binding *to = tf_value_channels(r->g, value), *from = tf_value_channels(of, tf_graph_find_value(of, r->g->values[value].name));
    tf_batch *dst = rp_value(r, lane, value);
    tf_part *parts = NULL, *own = NULL;
    int count = 0, n_own = 0;
    dst->rank = src->rank;
    memcpy(dst->extent, src->extent, sizeof dst->extent);
    if (to && from)
        dst->extent[dst->rank - 1] = to->extent;
    TF_TRY(rp_make_value(r, &r->lanes[lane], value, n));
    if (!to || !from) {
        memcpy(dst->data, src->data, (size_t)(src->n * tf_batch_stride(src)) * sizeof *dst->data);
        return TFUSE_OK;
    }
    memset(dst->data, 0, (size_t)(dst->n * tf_batch_stride(dst)) * sizeof *dst->data); /* parts need not cover it */
    tfuse_status status = tf_binding_parts(r->env, r->g, to, &parts, &count);
    if (status == TFUSE_OK)
        status = tf_binding_parts(r->env, of, from, &own, &n_own);
    for (int i = 0; i < count && i < n_own && status == TFUSE_OK; i++)
        status = carry_part(r, lane, &own[i], &parts[i], src, dst);
    tf_free(&r->env->mem, parts);
    tf_free(&r->env->mem, own);
    return status == TFUSE_OK ? status : tf_fail_in(r->env, status, "carrying %s of %s", r->g->values[value].name, tf_model_label(r->job->models[lane]));
}

tfuse_status rp_own_carry(repair *r, size_t lane, size_t step)
{
    const rp_own *own = r->lanes[lane].own;
    const tf_node *n = &r->g->nodes[r->nodes[step]], *theirs = rp_own_node(r, own, step);
    for (int k = 0; k < n->n_outputs; k++)
        TF_TRY(carry_value(r, lane, n, n->outputs[k], &own->lane.values[theirs->outputs[k]]));
    return TFUSE_OK;
}
