/* SPDX-License-Identifier: Apache-2.0
 *
 * generate.c: sequences that a causal language model draws from itself, a token at a time by its own probabilities (ancestral sampling).
 *
 * Every operation of a causal graph is tokenwise or causal attention (tf_graph_is_causal). So one token of each sequence goes through the graph at a
 * time, and what attention reads beside the query, its keys, values and mask, is kept for all tokens so far: T tokens cost about what
 * one pass over T tokens costs. Places of later tokens hold zeros, which causal attention does not look at.
 *
 * Sequences are cut into shards of a fixed size, padded to it, and the number that draws token t of sequence i is the generator's at counter (i, t):
 * the bits depend on neither the number of threads nor how many sequences there are.
 */
#include "base/pool.h"
#include "base/rng.h"
#include "ops/common.h"
#include "ops/ops.h"
#include "run/run.h"
#include "run/schedule.h"
#include <math.h>
#include <string.h>

enum { SHARD = 16, QUERY = 0 };

typedef struct generation {
    tf_env *env;
    const tf_generate *what;
    const tf_graph *g;
    tf_id *nodes;
    size_t n_nodes;
    tf_schedule plan;    /* of one token */
    float **param;
    int64_t *kept_at;    /* of each value: where its tokens lie among what is kept, in floats; -1: it is not kept */
    int64_t kept, scratch;
    float **slab;        /* of each thread: values of one token, scratch, what is kept */
    bool *broken;        /* of each shard: logits that are not finite */
    tf_rng rng;
} generation;

/* ---- one token ---------------------------------------------------------------------------------------------------- */

static tf_batch whole_sequence(const generation *s, const float *slab, tf_id v, const tf_batch *one)
{
    tf_batch b = *one;
    union {
        const float *in;
        float *out;
    } at = {slab + s->plan.slab + s->scratch + s->kept_at[v]}; /* only ever read */
    b.extent[0] = s->what->length;
    b.data = at.out;
    return b;
}

static void fill_input(const generation *s, const tf_node *n, int64_t first, int64_t t, tf_batch *out)
{
    const int number = tf_input_number(s->g, n);
    const int32_t otherwise = (int32_t)tf_node_int_at(n, "default", 0);
    for (int64_t i = 0; i < SHARD; i++) {
        const bool is_there = first + i < s->what->n;
        const int32_t id = number > 0 ? otherwise : is_there ? s->what->ids[(first + i) * s->what->stride + t] : 0;
        memcpy(out->data + i, &id, sizeof id);
    }
}

/* Copies the value's token t to the place where all tokens of its sequences lie. */
static void keep(const generation *s, float *slab, tf_id v, int64_t t, const tf_batch *one)
{
    const int64_t size = tf_batch_stride(one);
    float *to = slab + s->plan.slab + s->scratch + s->kept_at[v];
    for (int64_t i = 0; i < SHARD; i++)
        memcpy(to + (i * s->what->length + t) * size, one->data + i * size, (size_t)size * sizeof *to);
}

static void run_node(const generation *s, float *slab, size_t step, int64_t first, int64_t t)
{
    const tf_node *n = &s->g->nodes[s->nodes[step]];
    tf_forward f = {.env = s->env, .g = s->g, .scratch = slab + s->plan.slab, .past = t};
    tf_batch in[TF_MAX_NODE_IO], out[TF_MAX_NODE_IO];
    for (int k = 0; k < n->n_inputs; k++) {
        const tf_id v = n->inputs[k];
        in[k] = s->plan.batch[v];
        in[k].data = slab + s->plan.offset[v];
        if (!n->op->tokenwise && k != QUERY)
            in[k] = whole_sequence(s, slab, v, &s->plan.batch[v]);
        f.in[k] = &in[k];
    }
    for (int k = 0; k < n->n_outputs; k++) {
        out[k] = s->plan.batch[n->outputs[k]];
        out[k].data = slab + s->plan.offset[n->outputs[k]];
        f.out[k] = &out[k];
    }
    for (int k = 0; k < n->n_params; k++)
        f.param[k] = n->params[k] < 0 ? NULL : s->param[n->params[k]];
    if (tf_input_number(s->g, n) >= 0)
        fill_input(s, n, first, t, &out[0]);
    else
        n->op->forward(&f, n);
    for (int k = 0; k < n->n_outputs; k++)
        if (s->kept_at[n->outputs[k]] >= 0)
            keep(s, slab, n->outputs[k], t, &out[k]);
}

/* The first token up to which the probabilities sum to more than u; -1: the logits are not finite. */
static int32_t draw(const float *x, int64_t classes, double u)
{
    double most = -INFINITY, sum = 0;
    if (tf_find_nonfinite(x, (size_t)classes) >= 0)
        return -1;
    for (int64_t c = 0; c < classes; c++)
        most = fmax(most, (double)x[c]);
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)x[c] - most);
    u *= sum;
    int64_t last = 0;
    for (int64_t c = 0; c < classes; c++) {
        const double p = exp((double)x[c] - most);
        last = p > 0 ? c : last;
        u -= p;
        if (u < 0)
            break;
    }
    return (int32_t)last;
}

static void draw_all(const generation *s, uint32_t shard, const float *logits, int64_t t)
{
    const int64_t first = (int64_t)shard * SHARD, classes = tf_batch_channels(&s->plan.batch[s->g->output]);
    for (int64_t i = first; i < first + SHARD && i < s->what->n; i++) {
        const uint64_t at = (uint64_t)(s->what->first + i * s->what->step) << 32 | (uint64_t)t;
        const int32_t id = draw(logits + (i - first) * classes, classes, (double)(tf_rng_at(&s->rng, at) >> 11) * 0x1p-53);
        s->broken[shard] = s->broken[shard] || id < 0;
        s->what->ids[i * s->what->stride + t] = id < 0 ? 0 : id;
    }
}

static void run_shard(void *arg, uint32_t shard, uint32_t lane)
{
    const generation *s = arg;
    float *slab = s->slab[lane];
    const int64_t first = (int64_t)shard * SHARD;
    memset(slab + s->plan.slab + s->scratch, 0, (size_t)s->kept * sizeof *slab);
    for (int64_t t = 0; t + 1 < s->what->length && !s->broken[shard]; t++) {
        if (tf_cancelled(s->env))
            return;
        for (size_t step = 0; step < s->n_nodes; step++)
            run_node(s, slab, step, first, t);
        draw_all(s, shard, slab + s->plan.offset[s->g->output], t + 1);
    }
}

/* ---- making ------------------------------------------------------------------------------------------------------------ */

static tfuse_status load(generation *s, const tf_view *view)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        const tf_node *n = &s->g->nodes[s->nodes[i]];
        for (int k = 0; k < n->n_params; k++)
            if (n->params[k] >= 0 && !s->param[n->params[k]])
                TF_TRY(tf_view_load(s->env, view, n->params[k], &s->param[n->params[k]]));
    }
    return TFUSE_OK;
}

/* What attention reads of other tokens, and the scratch of whatever runs: the most that one query on all keys takes. */
static void place(generation *s)
{
    for (size_t v = 0; v < s->g->n_values; v++)
        s->kept_at[v] = -1;
    for (size_t i = 0; i < s->n_nodes; i++) {
        const tf_node *n = &s->g->nodes[s->nodes[i]];
        tf_batch in[TF_MAX_NODE_IO];
        const tf_batch *at[TF_MAX_NODE_IO] = {0};
        for (int k = 0; k < n->n_inputs; k++) {
            const tf_id v = n->inputs[k];
            in[k] = s->plan.batch[v];
            at[k] = &in[k];
            if (n->op->tokenwise || k == QUERY)
                continue;
            if (s->kept_at[v] < 0) {
                s->kept_at[v] = s->kept;
                s->kept += SHARD * s->what->length * tf_batch_stride(&in[k]);
            }
            in[k].extent[0] = s->what->length;
        }
        const int64_t size = n->op->scratch_size ? n->op->scratch_size(s->g, n, at) : 0;
        s->scratch = size > s->scratch ? size : s->scratch;
    }
}

static tfuse_status plan(generation *s)
{
    const int64_t all[TF_MAX_DIMS] = {s->what->length}, one[TF_MAX_DIMS] = {1};
    tf_env *env = s->env;
    tf_schedule whole = {0};
    TF_TRY(tf_schedule_nodes(env, s->g, &s->g->output, 1, &s->nodes, &s->n_nodes));
    /* whether the model takes sequences of that length at all: positions, frequencies */
    const tfuse_status status = tf_schedule_make(env, s->g, s->nodes, s->n_nodes, all, &whole);
    tf_schedule_free(&whole);
    TF_TRY(status);
    TF_TRY(tf_schedule_make_of(env, s->g, s->nodes, s->n_nodes, one, SHARD, &s->plan));
    if (!(s->kept_at = tf_alloc_array(env, s->g->n_values + 1, sizeof *s->kept_at)))
        return TFUSE_ENOMEM;
    place(s);
    return TFUSE_OK;
}

static uint64_t slab_floats(const generation *s)
{
    return (uint64_t)(s->plan.slab + s->scratch + s->kept);
}

static tfuse_status make_slabs(generation *s, uint32_t shards)
{
    const uint32_t threads = tf_threads(s->env);
    s->slab = tf_calloc(s->env, threads, sizeof *s->slab);
    s->broken = tf_calloc(s->env, shards + 1, sizeof *s->broken);
    if (!s->slab || !s->broken)
        return TFUSE_ENOMEM;
    for (uint32_t i = 0; i < threads && i < shards; i++)
        if (!(s->slab[i] = tf_calloc(s->env, (size_t)slab_floats(s), sizeof **s->slab)))
            return TFUSE_ENOMEM;
    return TFUSE_OK;
}

static tfuse_status run(generation *s, const tf_view *view)
{
    const uint32_t shards = (uint32_t)((s->what->n + SHARD - 1) / SHARD);
    TF_TRY(plan(s));
    if (!(s->param = tf_calloc(s->env, s->g->n_params + 1, sizeof *s->param)))
        return TFUSE_ENOMEM;
    TF_TRY(load(s, view));
    TF_TRY(make_slabs(s, shards));
    tf_parallel_lanes(s->env, shards, run_shard, s);
    TF_TRY(tf_check_cancel(s->env));
    for (uint32_t i = 0; i < shards; i++)
        if (s->broken[i])
            return tf_fail(s->env, TFUSE_ENUMERIC, "%s: its outputs become NaN or infinite on a sequence that it generates",
                           tf_model_label(view->m));
    return TFUSE_OK;
}

static void release(generation *s)
{
    for (size_t p = 0; s->param && p < s->g->n_params; p++)
        tf_free(&s->env->mem, s->param[p]);
    for (uint32_t i = 0; s->slab && i < tf_threads(s->env); i++)
        tf_free(&s->env->mem, s->slab[i]);
    tf_free(&s->env->mem, s->param);
    tf_free(&s->env->mem, s->slab);
    tf_free(&s->env->mem, s->broken);
    tf_free(&s->env->mem, s->kept_at);
    tf_free(&s->env->mem, s->nodes);
    tf_schedule_free(&s->plan);
}

tfuse_status tf_generate_run(tf_env *env, const tf_view *view, uint64_t seed, const tf_generate *what)
{
    generation s = {.env = env, .what = what, .g = view->g, .rng = tf_rng_make(seed, "calib.generate")};
    const tfuse_status status = run(&s, view);
    release(&s);
    return status;
}

tfuse_status tf_generate_bytes(tf_env *env, const tf_graph *g, int64_t n, int64_t length, uint64_t *bytes)
{
    const tf_generate what = {.n = n, .length = length};
    generation s = {.env = env, .what = &what, .g = g};
    const int64_t shards = (n + SHARD - 1) / SHARD, threads = (int64_t)tf_threads(env);
    const tfuse_status status = plan(&s);
    *bytes = 0;
    for (size_t i = 0; i < s.n_nodes && status == TFUSE_OK; i++)
        for (int k = 0; k < g->nodes[s.nodes[i]].n_params; k++)
            if (g->nodes[s.nodes[i]].params[k] >= 0)
                *bytes += (uint64_t)tf_param_count(&g->params[g->nodes[s.nodes[i]].params[k]]) * sizeof(float);
    *bytes += slab_floats(&s) * sizeof(float) * (uint64_t)(threads < shards ? threads : shards);
    release(&s);
    return status;
}
