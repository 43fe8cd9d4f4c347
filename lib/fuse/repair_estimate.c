/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_estimate.c: the most that repair holds, from the graph and the number of samples, array by array of the other files.
 */
#include "fuse/repair.h"
#include "ops/common.h"
#include "ops/ops.h"
#include "run/schedule.h"

enum { ROWS = 1024 };

static uint64_t doubles(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(double));
}

static uint64_t floats(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(float));
}

/* Bytes of a value of all samples; a length that is known only when it runs is the inputs'. */
static uint64_t value_bytes(const repair *r, tf_id value, int64_t tokens)
{
    const tf_value *v = &r->g->values[value];
    uint64_t bytes = floats(r->samples, 1);
    for (int d = 0; d < v->rank; d++)
        bytes = tf_area((int64_t)bytes, v->extent[d] > 0 ? v->extent[d] : tokens, 1);
    return bytes;
}

/* The step up to which parents have run when the merged lane is at `step`: the end of a block that is selected. */
static size_t parents_at(const repair *r, size_t step)
{
    size_t at = step;
    for (size_t b = 0; b < r->n_blocks; b++)
        for (size_t s = step; r->blocks[b].first <= step && s < r->n_nodes; s++)
            if (r->nodes[s] == r->blocks[b].write && s > at)
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

static uint64_t live_at(const repair *r, size_t step, int64_t tokens)
{
    const size_t ahead = parents_at(r, step);
    uint64_t bytes = 0;
    for (size_t v = 0; v < r->g->n_values; v++) {
        const size_t made = made_at(r, (tf_id)v);
        if (made >= r->n_nodes || r->last[v] < step)
            continue;
        const uint64_t whole = value_bytes(r, (tf_id)v, tokens), one = r->spill && whole >= RP_SPILL_BYTES ? 0 : whole;
        bytes += (made <= step ? one : 0) + (made <= ahead ? (uint64_t)r->n * one : 0);
    }
    return bytes;
}

/* Fitting a linear of n inputs to m outputs: Grams, and the larger of gathering rows and solving. */
static uint64_t fit_bytes(int64_t n, int64_t m)
{
    const int64_t wide = n > m ? n : m;
    const uint64_t gather = floats(ROWS, n) + floats(ROWS, m) + floats(n, wide), solve = 2 * doubles(n, n) + 4 * doubles(n, m);
    return doubles(n, m) + 2 * doubles(n, n) + 2 * doubles(n, m) + (gather > solve ? gather : solve);
}

/* Choosing among n features towards m targets: Grams, while rows are gathered. */
static uint64_t choice_bytes(int64_t n, int64_t m)
{
    return 2 * doubles(n, n) + 2 * doubles(n, m) + floats(ROWS, n) + floats(ROWS, m) + floats(n, n > m ? n : m);
}

static uint64_t step_bytes(const repair *r, size_t step)
{
    const tf_node *n = &r->g->nodes[r->nodes[step]];
    uint64_t most = 0;
    if (n->op == &tf_op_linear) {
        const int64_t *shape = r->g->params[n->params[0]].shape;
        most = fit_bytes(shape[1] + 1, shape[0]);
    }
    for (size_t b = 0; b < r->n_blocks; b++) {
        const int64_t *shape = r->g->params[r->g->nodes[r->blocks[b].write].params[0]].shape;
        const uint64_t choice = choice_bytes((int64_t)r->n * shape[1], shape[0]);
        if (r->blocks[b].first == step && choice > most)
            most = choice;
    }
    return most;
}

static tfuse_status tally(repair *r, int64_t tokens, tf_tally *t)
{
    uint64_t fitted = 0, largest = 0;
    for (size_t p = 0; p < r->g->n_params; p++) {
        const uint64_t bytes = floats(tf_param_count(&r->g->params[p]), 1);
        largest = bytes > largest ? bytes : largest;
    }
    for (size_t s = 0; s < r->n_nodes; s++) {
        const tf_node *n = &r->g->nodes[r->nodes[s]];
        const uint64_t work = step_bytes(r, s);
        for (int k = 0; k < n->n_params && n->op == &tf_op_linear; k++)
            if (n->params[k] >= 0)
                fitted += floats(tf_param_count(&r->g->params[n->params[k]]), 1);
        tf_tally_spike(t, fitted + live_at(r, s, tokens) + (work > 5 * largest ? work : 5 * largest)); /* 5: a tensor carried, and its sum */
    }
    tf_tally_take(t, fitted);
    return TFUSE_OK;
}

tfuse_status tf_repair_estimate(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, tf_tally *t)
{
    repair r = {.env = env, .job = job, .g = job->graphs[0], .stages = stages, .n = job->n};
    tf_inputs in;
    if (!tf_graph_runs(r.g))
        return TFUSE_OK; /* said when it is asked for */
    TF_TRY(tf_inputs_make(env, r.g, job->models[0], calib, tf_policy_int(job->policy, "calib.samples"), &in));
    r.samples = in.n;
    r.spill = tf_policy_int(job->policy, "run.memory") > 0;
    tfuse_status status = tf_schedule_nodes(env, r.g, &r.g->output, 1, &r.nodes, &r.n_nodes);
    if (status == TFUSE_OK)
        status = rp_lives_make(&r);
    if (status == TFUSE_OK && (stages & RP_SELECT))
        status = rp_blocks_make(&r);
    if (status == TFUSE_OK)
        status = tally(&r, in.extent[0], t);
    rp_blocks_free(&r);
    tf_free(&env->mem, r.last);
    tf_free(&env->mem, r.nodes);
    return status;
}
