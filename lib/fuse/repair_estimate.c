/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_estimate.c: the most that repair holds, from the graph and the number of samples, array by array of the other files.
 */
#include "base/pool.h"
#include "fuse/repair.h"
#include "ops/common.h"
#include "ops/ops.h"
#include "run/schedule.h"

static uint64_t doubles(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(double));
}

static uint64_t floats(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(float));
}

/* Bytes of a value of all samples; a length that is known only when it runs is the inputs'. */
static uint64_t value_bytes(const repair *r, const tf_graph *g, tf_id value, int64_t tokens)
{
    const tf_value *v = &g->values[value];
    uint64_t bytes = floats(r->samples, 1);
    for (int d = 0; d < v->rank; d++)
        bytes = tf_area((int64_t)bytes, v->extent[d] > 0 ? v->extent[d] : tokens, 1);
    return bytes;
}

/* The step up to which parents have run when the merged lane is at `step`: the end of a block that is selected, or of a circuit. */
static size_t parents_at(const repair *r, size_t step)
{
    size_t at = step;
    for (size_t b = 0; b < r->n_blocks; b++)
        for (size_t s = step; r->blocks[b].first <= step && s < r->n_nodes; s++)
            if (r->nodes[s] == r->blocks[b].write && s > at)
                at = s;
    for (size_t i = 0; i < r->n_circuits; i++)
        for (size_t s = step; r->circuits[i].first <= step && s < r->n_nodes; s++)
            if (r->nodes[s] == r->circuits[i].node && s > at)
                at = s;
    return at;
}

static size_t made_at(const repair *r, tf_id value)
{
    for (size_t s = 0; s < r->n_nodes; s++)
        for (int k = 0; k < r->g->nodes[r->nodes[s]].n_outputs; k++)
            if (r->g->nodes[r->nodes[s]].outputs[k] == value)
                return s;
    return r->n_nodes;
}

/* What of that is in memory. */
static uint64_t held_bytes(const repair *r, const tf_graph *g, tf_id value, int64_t tokens)
{
    const uint64_t whole = value_bytes(r, g, value, tokens);
    return r->spill && whole >= RP_SPILL_BYTES ? 0 : whole;
}

/* The same value in all parents' lanes, and as it is in the graphs of those that run through their own. */
static uint64_t parents_bytes(const repair *r, tf_id value, int64_t tokens)
{
    uint64_t bytes = (uint64_t)r->n * held_bytes(r, r->g, value, tokens);
    for (size_t k = 0; k < r->n; k++) {
        const tf_graph *g = r->job->graphs[k];
        if (!tf_plan_is_lossless(r->job->plan, k))
            bytes += held_bytes(r, g, tf_graph_find_value(g, r->g->values[value].name), tokens);
    }
    return bytes;
}

static uint64_t live_at(const repair *r, size_t step, int64_t tokens)
{
    const size_t ahead = parents_at(r, step);
    uint64_t bytes = 0;
    for (size_t v = 0; v < r->g->n_values; v++) {
        const size_t made = made_at(r, (tf_id)v);
        if (made >= r->n_nodes || r->last[v] < step)
            continue;
        bytes += (made <= step ? held_bytes(r, r->g, (tf_id)v, tokens) : 0) + (made <= ahead ? parents_bytes(r, (tf_id)v, tokens) : 0);
    }
    return bytes;
}

/* Grams, and what rows are gathered and multiplied in. */
static uint64_t gram_bytes(const repair *r, int64_t n, int64_t m)
{
    return 2 * doubles(n, n) + 2 * doubles(n, m) + 2 * doubles(m, 1) + floats(RP_ROWS, n) + floats(RP_ROWS, m) + doubles(RP_ROWS, 1) +
           floats(RP_TILE_ROWS, RP_TILE_COLS) * tf_threads(r->env);
}

/* Fitting a linear of n inputs to m outputs: Grams, and the larger of gathering rows and solving. */
static uint64_t fit_bytes(const repair *r, int64_t n, int64_t m)
{
    const uint64_t gather = gram_bytes(r, n, m), few = doubles(n, m < RP_TRIAL ? m : RP_TRIAL);
    const uint64_t solve = 4 * doubles(n, n) + 6 * doubles(n, m) + 3 * few;
    return doubles(n, m) + (gather > solve ? gather : solve);
}

/* What a side of a circuit holds: units of all parents and the merged ones, and second moments. */
static uint64_t side_bytes(const repair *r, const rp_side *s)
{
    const int64_t channels = r->g->params[s->weight].shape[s->is_read ? 1 : 0];
    return (r->n + 1) * floats(channels, s->length) + (s->in >= 0 && r->samples > 0 ? doubles(s->length + 1, s->length + 1) : 0);
}

static uint64_t circuit_bytes(const repair *r, const rp_circuit *c)
{
    const int64_t rows = (c->c.pairs ? 2 : c->c.count) * (int64_t)r->n, longest = c->a.length > c->b.length ? c->a.length : c->b.length;
    const uint64_t product = 18 * doubles(rows, rows) + 2 * doubles(rows, longest), gather = r->samples > 0 ? gram_bytes(r, longest + 1, 1) : 0;
    return side_bytes(r, &c->a) + side_bytes(r, &c->b) + (gather > product ? gather : product);
}

static uint64_t step_bytes(const repair *r, size_t step)
{
    const tf_node *n = &r->g->nodes[r->nodes[step]];
    uint64_t most = 0;
    if (n->op == &tf_op_linear && r->samples > 0) {
        const int64_t *shape = r->g->params[n->params[0]].shape;
        most = fit_bytes(r, shape[1] + 1, shape[0]);
    }
    for (size_t b = 0; b < r->n_blocks; b++) {
        const int64_t *shape = r->g->params[r->g->nodes[r->blocks[b].write].params[0]].shape;
        const uint64_t choice = gram_bytes(r, (int64_t)r->n * shape[1], shape[0]);
        if (r->blocks[b].first == step && choice > most)
            most = choice;
    }
    for (size_t i = 0; i < r->n_circuits; i++)
        if (r->circuits[i].first == step && circuit_bytes(r, &r->circuits[i]) > most)
            most = circuit_bytes(r, &r->circuits[i]);
    return most;
}

/* Tensors that a step leaves: what it fitted, and the base of circuits that begin with it. */
static uint64_t kept_bytes(const repair *r, size_t step)
{
    const tf_node *n = &r->g->nodes[r->nodes[step]];
    uint64_t kept = 0;
    for (int k = 0; k < n->n_params && (n->op == &tf_op_linear || (r->stages & RP_MIX)) && r->samples > 0; k++)
        if (n->params[k] >= 0)
            kept += floats(tf_param_count(&r->g->params[n->params[k]]), 1);
    for (size_t i = 0; i < r->n_circuits; i++) {
        const rp_circuit *c = &r->circuits[i];
        const tf_id params[] = {c->a.weight, c->a.bias, c->b.weight, c->b.bias};
        for (int k = 0; k < 4 && c->first == step && c->c.first == 0; k++)
            if (params[k] >= 0)
                kept += floats(tf_param_count(&r->g->params[params[k]]), 1);
    }
    return kept;
}

static tfuse_status tally(repair *r, int64_t tokens, tf_tally *t)
{
    uint64_t kept = 0, largest = 0;
    for (size_t k = 0; k < r->n; k++)
        for (size_t p = 0; p < r->job->graphs[k]->n_params; p++) {
            const uint64_t bytes = floats(tf_param_count(&r->job->graphs[k]->params[p]), 1);
            largest = bytes > largest ? bytes : largest;
        }
    for (size_t s = 0; s < r->n_nodes; s++) {
        const uint64_t work = step_bytes(r, s);
        kept += kept_bytes(r, s);
        if (work || r->samples > 0)
            tf_tally_spike(t, kept + live_at(r, s, tokens) + (work > 5 * largest ? work : 5 * largest)); /* 5: a tensor carried, and its sum */
    }
    tf_tally_take(t, kept);
    return TFUSE_OK;
}

tfuse_status tf_repair_estimate(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, tf_tally *t)
{
    repair r = {.env = env, .job = job, .g = job->graphs[0], .stages = stages, .n = job->n};
    tf_inputs in = {0};
    if (calib ? !tf_graph_runs(r.g) : r.g->output < 0)
        return TFUSE_OK; /* said when it is asked for */
    if (calib)
        TF_TRY(tf_inputs_make(env, r.g, job->models[0], calib, tf_policy_int(job->policy, "calib.samples"), &in));
    r.samples = calib ? in.n : 0;
    r.spill = tf_policy_int(job->policy, "run.memory") > 0;
    tfuse_status status = tf_schedule_nodes(env, r.g, &r.g->output, 1, &r.nodes, &r.n_nodes);
    if (status == TFUSE_OK)
        status = rp_lives_make(&r);
    if (status == TFUSE_OK && (stages & RP_CIRCUITS))
        status = rp_circuits_make(&r);
    if (status == TFUSE_OK && (stages & RP_SELECT))
        status = rp_blocks_make(&r);
    if (status == TFUSE_OK)
        status = tally(&r, calib ? in.extent[0] : 0, t);
    rp_blocks_free(&r);
    rp_circuits_free(&r);
    tf_free(&env->mem, r.last);
    tf_free(&env->mem, r.nodes);
    return status;
}
