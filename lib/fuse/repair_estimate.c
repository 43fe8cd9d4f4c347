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

/* When values come to be, and which parents run through their own graphs: found once, since every step asks. */
typedef struct lives {
    size_t *made; /* of each value: the step that makes it */
    bool *own;    /* of each parent */
    int64_t tokens;
} lives;

static tfuse_status lives_make(const repair *r, int64_t tokens, lives *out)
{
    *out = (lives){.made = tf_alloc_array(r->env, r->g->n_values + 1, sizeof *out->made), .own = tf_calloc(r->env, r->n, sizeof *out->own), .tokens = tokens};
    if (!out->made || !out->own)
        return TFUSE_ENOMEM;
    for (size_t v = 0; v < r->g->n_values; v++)
        out->made[v] = r->n_nodes;
    for (size_t s = r->n_nodes; s-- > 0;)
        for (int k = 0; k < r->g->nodes[r->nodes[s]].n_outputs; k++)
            out->made[r->g->nodes[r->nodes[s]].outputs[k]] = s;
    for (size_t k = 0; k < r->n; k++)
        out->own[k] = !tf_plan_is_lossless(r->job->plan, k);
    return TFUSE_OK;
}

static void lives_free(const repair *r, lives *l)
{
    tf_free(&r->env->mem, l->made);
    tf_free(&r->env->mem, l->own);
}

/* The step up to which parents have run when the merged lane is at `step`: the end of a block that is selected, or of a circuit. */
static size_t parents_at(const repair *r, const lives *l, size_t step)
{
    size_t at = step;
    for (size_t b = 0; b < r->n_blocks; b++) {
        const size_t end = l->made[r->g->nodes[r->blocks[b].write].outputs[0]];
        at = r->blocks[b].first <= step && end < r->n_nodes && end > at ? end : at;
    }
    for (size_t i = 0; i < r->n_circuits; i++) {
        const size_t end = l->made[r->g->nodes[r->circuits[i].node].outputs[0]];
        at = r->circuits[i].first <= step && end < r->n_nodes && end > at ? end : at;
    }
    return at;
}

/* What of that is in memory. */
static uint64_t held_bytes(const repair *r, const tf_graph *g, tf_id value, int64_t tokens)
{
    const uint64_t whole = value_bytes(r, g, value, tokens);
    return r->spill && whole >= RP_SPILL_BYTES ? 0 : whole;
}

/* The same value in all parents' lanes, and as it is in the graphs of those that run through their own. */
static uint64_t parents_bytes(const repair *r, const lives *l, tf_id value)
{
    uint64_t bytes = (uint64_t)r->n * held_bytes(r, r->g, value, l->tokens);
    for (size_t k = 0; k < r->n; k++) {
        const tf_graph *g = r->job->graphs[k];
        if (l->own[k])
            bytes += held_bytes(r, g, tf_graph_find_value(g, r->g->values[value].name), l->tokens);
    }
    return bytes;
}

/* What the output of a step does not take beside its input: in lanes that are there with the walk, and run through the anchor's graph. */
static uint64_t overwritten_bytes(const repair *r, const lives *l, size_t step, size_t ahead)
{
    const tf_id over = r->samples > 0 ? rp_overwritten(r, step) : -1;
    if (over < 0)
        return 0;
    size_t lanes = 1;
    for (size_t k = 0; k < r->n; k++)
        lanes += ahead == step && (step == 0 || parents_at(r, l, step - 1) < step) && !l->own[k];
    return lanes * held_bytes(r, r->g, over, l->tokens);
}

static uint64_t live_at(const repair *r, const lives *l, size_t step)
{
    const size_t ahead = parents_at(r, l, step);
    uint64_t bytes = 0;
    for (size_t v = 0; v < r->g->n_values && r->samples > 0; v++) {
        const size_t made = l->made[v];
        if (made >= r->n_nodes || r->last[v] < step)
            continue;
        bytes += (made <= step ? held_bytes(r, r->g, (tf_id)v, l->tokens) : 0) + (made <= ahead ? parents_bytes(r, l, (tf_id)v) : 0);
    }
    return bytes - overwritten_bytes(r, l, step, ahead);
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

/* What the last linear holds beside its fit: where it was, and rows of it and of both outputs. */
static uint64_t head_bytes(const repair *r, int64_t n, int64_t m)
{
    return r->stages & RP_HEAD ? doubles(n, m) + doubles(RP_HEAD_ROWS, n + 2 * m) : 0;
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
        most = fit_bytes(r, shape[1] + 1, shape[0]) + (n->outputs[0] == r->g->output ? head_bytes(r, shape[1] + 1, shape[0]) : 0);
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

static void tally(const repair *r, const lives *l, tf_tally *t)
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
            tf_tally_spike(t, kept + live_at(r, l, s) + (work > 5 * largest ? work : 5 * largest)); /* 5: a tensor carried, and its sum */
    }
    tf_tally_take(t, kept);
}

tfuse_status tf_repair_estimate(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, tf_tally *t)
{
    repair r = {.env = env, .job = job, .g = job->graphs[0], .stages = stages, .n = job->n};
    tf_inputs in = {0};
    lives l = {0};
    if (calib ? !tf_graph_runs(r.g) : r.g->output < 0)
        return TFUSE_OK; /* said when it is asked for */
    if (calib)
        TF_TRY(tf_inputs_make(env, r.g, job->models[0], calib, tf_policy_int(job->policy, "calib.samples"), &in));
    r.samples = calib ? in.n : 0;
    if (calib && tf_inputs_are_masked(r.g, &in))
        tf_tally_take(t, tf_area(in.n, in.sample, 1));
    r.spill = tf_policy_int(job->policy, "run.memory") > 0;
    tfuse_status status = tf_schedule_nodes(env, r.g, &r.g->output, 1, &r.nodes, &r.n_nodes);
    if (status == TFUSE_OK)
        status = rp_lives_make(&r);
    if (status == TFUSE_OK && (stages & RP_CIRCUITS))
        status = rp_circuits_make(&r);
    if (status == TFUSE_OK && (stages & RP_SELECT))
        status = rp_blocks_make(&r);
    if (status == TFUSE_OK)
        status = lives_make(&r, calib ? in.extent[0] : 0, &l);
    if (status == TFUSE_OK)
        tally(&r, &l, t);
    if (calib && tf_inputs_are_masked(r.g, &in))
        tf_tally_drop(t, tf_area(in.n, in.sample, 1));
    lives_free(&r, &l);
    rp_blocks_free(&r);
    rp_circuits_free(&r);
    tf_free(&env->mem, r.last);
    tf_free(&env->mem, r.nodes);
    return status;
}
