/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_lane.c: all samples through one node after another. Work is cut into shards of samples of a fixed size, so that results do not depend on
 * the number of threads.
 */
#include "base/pool.h"
#include "base/spill.h"
#include "fuse/repair.h"
#include "graph/op.h"
#include "ops/common.h"
#include "run/schedule.h"
#include <string.h>

enum { SHARD = 16 };

/* ---- one node ------------------------------------------------------------------------------------------------------- */

typedef struct node_job {
    repair *r;
    rp_lane *lane;
    const tf_node *n;
    tf_id over;           /* input that lies where the output will; -1: none */
    const float *param[TF_MAX_NODE_IO];
    float *scratch;       /* a piece for each thread */
    int64_t scratch_size;
} node_job;

static tf_batch piece(const tf_batch *all, int64_t first, int64_t count)
{
    tf_batch b = *all;
    b.n = count;
    b.data = all->data + first * tf_batch_stride(all);
    return b;
}

static void run_shard(void *arg, uint32_t i, uint32_t thread)
{
    const node_job *j = arg;
    const repair *r = j->r;
    const int64_t first = (int64_t)i * SHARD, left = r->samples - first, count = left < SHARD ? left : SHARD;
    tf_batch in[TF_MAX_NODE_IO], out[TF_MAX_NODE_IO];
    tf_forward f = {.env = r->env, .g = j->lane->g, .scratch = j->scratch + (int64_t)thread * j->scratch_size};
    if (tf_cancelled(r->env))
        return;
    for (int k = 0; k < j->n->n_inputs; k++) {
        const tf_id value = j->n->inputs[k];
        in[k] = piece(&j->lane->values[value == j->over ? j->n->outputs[0] : value], first, count);
        f.in[k] = &in[k];
    }
    for (int k = 0; k < j->n->n_outputs; k++) {
        out[k] = piece(&j->lane->values[j->n->outputs[k]], first, count);
        f.out[k] = &out[k];
    }
    for (int k = 0; k < j->n->n_params; k++)
        f.param[k] = j->param[k];
    const int input = tf_input_number(j->lane->g, j->n);
    if (input >= 0)
        tf_inputs_fill(&j->lane->inputs, input, first, count, out[0].data);
    else
        j->n->op->forward(&f, j->n);
}

static void free_value(repair *r, rp_lane *lane, size_t v)
{
    if (lane->own)
        free_value(r, &lane->own->lane, (size_t)tf_graph_find_value(lane->own->lane.g, r->g->values[v].name));
    if (lane->spilled[v])
        tf_spill_free(lane->values[v].data, lane->spilled[v]);
    else
        tf_free(&r->env->mem, lane->values[v].data);
    lane->spilled[v] = 0;
    lane->values[v].data = NULL;
}

tfuse_status rp_make_value(repair *r, rp_lane *lane, tf_id v, const tf_node *n)
{
    tf_batch *b = &lane->values[v];
    size_t count;
    b->n = r->samples;
    if (!tf_mul_size((size_t)r->samples, (size_t)tf_batch_stride(b), &count) || count > SIZE_MAX / sizeof(float))
        return tf_fail(r->env, TFUSE_ENOMEM, "%s of %lld calibration samples is too large; give fewer --samples", n->name, (long long)r->samples);
    if (r->spill && count * sizeof(float) >= RP_SPILL_BYTES) {
        void *data;
        TF_TRY(tf_spill_new(r->env, count * sizeof(float), &data));
        b->data = data;
        lane->spilled[v] = count * sizeof(float);
        return TFUSE_OK;
    }
    b->data = tf_alloc_array(r->env, count, sizeof(float));
    return b->data ? TFUSE_OK
                   : tf_fail(r->env, TFUSE_ENOMEM, "out of memory for %s of %lld calibration samples; give fewer --samples, or --memory, under "
                             "which they go to files", n->name, (long long)r->samples);
}

tf_id rp_overwritten(const repair *r, size_t step)
{
    const tf_node *n = &r->g->nodes[r->nodes[step]];
    for (int k = 0; k < n->n_inputs && n->op->elementwise; k++)
        if (r->last[n->inputs[k]] == step)
            return n->inputs[k];
    return -1;
}

/* The input's memory becomes the output's. */
static void take_over(rp_lane *lane, tf_id from, tf_id to)
{
    lane->values[to].data = lane->values[from].data;
    lane->spilled[to] = lane->spilled[from];
    lane->values[from].data = NULL;
    lane->spilled[from] = 0;
}

/* Extents and memory of the node's outputs, and the scratch of a shard. */
static tfuse_status make_outputs(repair *r, rp_lane *lane, const tf_node *n, tf_id over, int64_t *scratch)
{
    const tf_batch *in[TF_MAX_NODE_IO] = {0};
    tf_batch *out[TF_MAX_NODE_IO] = {0};
    const bool is_input = tf_input_number(lane->g, n) >= 0;
    for (int k = 0; k < n->n_inputs; k++)
        in[k] = &lane->values[n->inputs[k]];
    for (int k = 0; k < n->n_outputs; k++) {
        const tf_value *v = &lane->g->values[n->outputs[k]];
        out[k] = &lane->values[n->outputs[k]];
        out[k]->rank = v->rank;
        out[k]->n = r->samples;
        memcpy(out[k]->extent, is_input ? lane->inputs.extent : v->extent, (size_t)v->rank * sizeof *v->extent);
    }
    if (n->op->extents && !is_input)
        TF_TRY(n->op->extents(r->env, lane->g, n, in, out));
    *scratch = n->op->scratch_size ? n->op->scratch_size(lane->g, n, in) : 0;
    if (over >= 0)
        take_over(lane, over, n->outputs[0]);
    for (int k = 0; k < n->n_outputs && over < 0; k++)
        TF_TRY(rp_make_value(r, lane, n->outputs[k], n));
    return TFUSE_OK;
}

tfuse_status rp_param(repair *r, size_t lane, tf_id param, const float **x, float **owned)
{
    *owned = NULL;
    if (lane == r->n && r->fitted[param]) {
        *x = r->fitted[param];
        return TFUSE_OK;
    }
    *owned = tf_alloc_array(r->env, (size_t)tf_param_count(&r->g->params[param]), sizeof **owned);
    const tfuse_status status = *owned ? tf_fusion_param(r->env, r->lanes[lane].fusion, param, *owned) : TFUSE_ENOMEM;
    *x = *owned;
    return status;
}

static tfuse_status run_node(repair *r, size_t which, size_t step)
{
    rp_own *own = r->lanes[which].own;
    rp_lane *lane = own ? &own->lane : &r->lanes[which];
    node_job j = {.r = r, .lane = lane, .n = own ? rp_own_node(r, own, step) : &r->g->nodes[r->nodes[step]],
                  .over = own || step != r->step ? -1 : rp_overwritten(r, step)};
    float *owned[TF_MAX_NODE_IO] = {0};
    tfuse_status status = make_outputs(r, lane, j.n, j.over, &j.scratch_size);
    for (int k = 0; k < j.n->n_params && status == TFUSE_OK; k++)
        if (j.n->params[k] >= 0 && own) {
            status = rp_own_param(r, own, j.n->params[k], &owned[k]);
            j.param[k] = owned[k];
        } else if (j.n->params[k] >= 0) {
            status = rp_param(r, which, j.n->params[k], &j.param[k], &owned[k]);
        }
    if (status == TFUSE_OK && j.scratch_size > 0 &&
        !(j.scratch = tf_alloc_array(r->env, (size_t)j.scratch_size * tf_threads(r->env), sizeof *j.scratch)))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        tf_parallel_lanes(r->env, (uint32_t)((r->samples + SHARD - 1) / SHARD), run_shard, &j);
        status = tf_check_cancel(r->env);
    }
    tf_free(&r->env->mem, j.scratch);
    for (int k = 0; k < j.n->n_params; k++)
        tf_free(&r->env->mem, owned[k]);
    return status == TFUSE_OK && own ? rp_own_carry(r, which, step) : status;
}

/* ---- lanes ----------------------------------------------------------------------------------------------------------- */

tfuse_status rp_advance(repair *r, size_t lane, size_t step)
{
    rp_lane *l = &r->lanes[lane];
    for (; l->next <= step; l->next++)
        TF_TRY(run_node(r, lane, l->next));
    return TFUSE_OK;
}

void rp_release(repair *r, size_t step)
{
    for (size_t v = 0; v < r->g->n_values; v++)
        for (size_t k = 0; k <= r->n && r->last[v] <= step; k++) {
            if (r->lanes[k].next > r->last[v])
                free_value(r, &r->lanes[k], v);
        }
}

static tfuse_status make_lane(repair *r, size_t k, const tfuse_array *calib)
{
    rp_lane *l = &r->lanes[k];
    const size_t parent = k < r->n ? k : 0;
    l->g = r->g;
    l->job = *r->job;
    l->job.quiet = true;
    l->job.fitted = NULL;
    l->only = tf_calloc(r->env, r->n, sizeof *l->only);
    l->values = tf_calloc(r->env, r->g->n_values + 1, sizeof *l->values);
    l->spilled = tf_calloc(r->env, r->g->n_values + 1, sizeof *l->spilled);
    if (!l->only || !l->values || !l->spilled)
        return TFUSE_ENOMEM;
    if (k < r->n) {
        l->only[k] = 1;
        l->job.weights = l->only;
    } else {
        l->job.weights = r->mix;
    }
    TF_TRY(tf_fusion_new(r->env, &l->job, &l->fusion));
    if (k < r->n && !tf_plan_is_lossless(r->job->plan, k))
        TF_TRY(rp_own_make(r, k, calib));
    if (!calib)
        return TFUSE_OK;
    return tf_inputs_make(r->env, r->job->graphs[parent], r->job->models[parent], calib, r->samples, &l->inputs);
}

tfuse_status rp_lives_make(repair *r)
{
    if (!(r->last = tf_calloc(r->env, r->g->n_values + 1, sizeof *r->last)))
        return TFUSE_ENOMEM;
    for (size_t s = 0; s < r->n_nodes; s++) {
        const tf_node *n = &r->g->nodes[r->nodes[s]];
        for (int k = 0; k < n->n_outputs; k++)
            r->last[n->outputs[k]] = s;
        for (int k = 0; k < n->n_inputs; k++)
            r->last[n->inputs[k]] = s;
    }
    r->last[r->g->output] = r->n_nodes; /* past the end: it is looked at when all have run */
    return TFUSE_OK;
}

tfuse_status rp_lanes_make(repair *r, const tfuse_array *calib)
{
    tf_env *env = r->env;
    r->lanes = tf_calloc(env, r->n + 1, sizeof *r->lanes);
    if (!r->lanes)
        return TFUSE_ENOMEM;
    TF_TRY(tf_schedule_nodes(env, r->g, &r->g->output, 1, &r->nodes, &r->n_nodes));
    TF_TRY(rp_lives_make(r));
    for (size_t k = 0; k <= r->n; k++)
        TF_TRY(make_lane(r, k, calib));
    r->samples = calib ? r->lanes[0].inputs.n : 0;
    return TFUSE_OK;
}

void rp_lanes_free(repair *r)
{
    for (size_t k = 0; r->lanes && k <= r->n; k++) {
        rp_lane *l = &r->lanes[k];
        for (size_t v = 0; l->values && l->spilled && v < r->g->n_values; v++)
            free_value(r, l, v);
        rp_own_free(r, l);
        tf_free(&r->env->mem, l->spilled);
        tf_free(&r->env->mem, l->values);
        tf_free(&r->env->mem, l->only);
        tf_fusion_free(l->fusion);
    }
    tf_free(&r->env->mem, r->lanes);
    tf_free(&r->env->mem, r->last);
    tf_free(&r->env->mem, r->nodes);
}
