/* SPDX-License-Identifier: Apache-2.0
 *
 * evaluator.c: runs a graph forward. Parameters are read through a view once; nodes run in graph order, each on a shard of samples;
 * shards run side by side, a lane of the thread pool with a slab of memory each.
 *
 * Shards lie on the grid of multiples of their size, counted from sample 0, and always run whole, with zeros in place of samples that
 * were not asked for: so a sample meets matrix products of the same shape, at the same row, whatever batch it came in.
 */
#include "run/run.h"
#include "run/schedule.h"
#include "base/pool.h"
#include "graph/naming.h"
#include <string.h>

typedef struct lane {
    float *slab;
    tf_batch *batch; /* the schedule's, with data */
} lane;

struct tf_evaluator {
    tf_mem mem;
    tf_arena arena;
    const tf_graph *g;
    tf_id *nodes; /* those that run */
    size_t n_nodes;
    const tf_id *keep;
    size_t n_keep;
    int32_t *first_keep; /* a value: index into keep, -1: none */
    int32_t *next_keep;  /* a kept one: the next of the same value, -1: none */
    const float **param; /* a parameter: NULL when no node that runs has it */
    float **owned;       /* a parameter: what is to be freed */
    bool planned;
    tf_schedule plan;
    int64_t input[TF_MAX_DIMS]; /* extents that the plan was made for */
    lane *lanes;
    size_t n_lanes;
};

/* ---- parameters --------------------------------------------------------------------------------------------------- */

/* The stored tensor itself, where it lies in memory and is exactly what reading would give; NULL otherwise, and then reading gives the error
 * if there is one. A mapped one is read: its file may be cut short at any time. */
static const float *in_place(const tf_view *view, tf_id id)
{
    const tf_param *p = &view->g->params[id];
    if (view->base || (view->steps && view->steps[id]) || (p->source && p->source->kind != TF_SOURCE_STORED))
        return NULL;
    const tf_tensor *t = tf_model_find(view->m, p->source ? p->source->stored : p->name);
    uint64_t count = 1;
    for (int d = 0; d < p->rank; d++)
        count *= (uint64_t)p->shape[d];
    if (!t || t->file >= 0 || t->strides || t->dtype != TFUSE_F32 || !t->data || (uintptr_t)t->data % sizeof(float) || t->count != count)
        return NULL;
    const float *data = (const float *)(const void *)t->data;
    return tf_find_nonfinite(data, (size_t)count) < 0 ? data : NULL;
}

static tfuse_status load_params(tf_env *env, tf_evaluator *ev, const tf_view *view)
{
    for (size_t i = 0; i < ev->n_nodes; i++) {
        const tf_node *n = &ev->g->nodes[ev->nodes[i]];
        for (int k = 0; k < n->n_params; k++) {
            const tf_id id = n->params[k];
            if (id < 0 || ev->param[id])
                continue;
            ev->param[id] = in_place(view, id);
            if (!ev->param[id]) {
                TF_TRY(tf_view_load(env, view, id, &ev->owned[id]));
                ev->param[id] = ev->owned[id];
            }
        }
    }
    return TFUSE_OK;
}

/* ---- making ----------------------------------------------------------------------------------------------------------- */

static void free_lanes(tf_evaluator *ev)
{
    for (size_t i = 0; i < ev->n_lanes; i++) {
        tf_free(&ev->mem, ev->lanes[i].slab);
        tf_free(&ev->mem, ev->lanes[i].batch);
    }
    tf_free(&ev->mem, ev->lanes);
    ev->lanes = NULL;
    ev->n_lanes = 0;
}

void tf_evaluator_free(tf_evaluator *ev)
{
    if (!ev)
        return;
    free_lanes(ev);
    tf_schedule_free(&ev->plan);
    for (size_t p = 0; ev->owned && p < ev->g->n_params; p++)
        tf_free(&ev->mem, ev->owned[p]);
    tf_free(&ev->mem, ev->nodes);
    tf_arena_free(&ev->arena);
    tf_free(&ev->mem, ev);
}

static tfuse_status list_kept(tf_env *env, tf_evaluator *ev, const tf_id *keep, size_t n_keep)
{
    const tf_graph *g = ev->g;
    tf_id *copy = tf_arena_array(env, &ev->arena, n_keep + 1, sizeof *copy); /* the last one: the output */
    ev->first_keep = tf_arena_array(env, &ev->arena, g->n_values, sizeof *ev->first_keep);
    ev->next_keep = tf_arena_array(env, &ev->arena, n_keep + 1, sizeof *ev->next_keep);
    ev->param = tf_arena_array(env, &ev->arena, g->n_params + 1, sizeof *ev->param);
    ev->owned = tf_arena_array(env, &ev->arena, g->n_params + 1, sizeof *ev->owned);
    if (!copy || !ev->first_keep || !ev->next_keep || !ev->param || !ev->owned)
        return TFUSE_ENOMEM;
    for (size_t v = 0; v < g->n_values; v++)
        ev->first_keep[v] = -1;
    for (size_t k = 0; k < n_keep; k++) {
        copy[k] = keep[k];
        ev->next_keep[k] = ev->first_keep[keep[k]];
        ev->first_keep[keep[k]] = (int32_t)k;
    }
    copy[n_keep] = g->output;
    ev->keep = copy;
    ev->n_keep = n_keep;
    return TFUSE_OK;
}

static tfuse_status plan_for(tf_env *env, tf_evaluator *ev, const int64_t *input)
{
    free_lanes(ev);
    tf_schedule_free(&ev->plan);
    ev->planned = false;
    TF_TRY(tf_schedule_make(env, ev->g, ev->nodes, ev->n_nodes, input, &ev->plan));
    memcpy(ev->input, input, sizeof ev->input);
    ev->planned = true;
    return TFUSE_OK;
}

/* Plans at once where the graph alone says how large everything is. */
static tfuse_status plan_static(tf_env *env, tf_evaluator *ev)
{
    const tf_value *v = &ev->g->values[ev->g->inputs[0]];
    int64_t input[TF_MAX_DIMS] = {0};
    for (int d = 0; d < v->rank; d++) {
        if (v->extent[d] == 0)
            return TFUSE_OK;
        input[d] = v->extent[d];
    }
    return plan_for(env, ev, input);
}

tfuse_status tf_evaluator_new(tf_env *env, const tf_view *view, const tf_id *keep, size_t n_keep, tf_evaluator **out)
{
    *out = NULL;
    const tf_graph *g = view->g;
    if (!tf_graph_runs(g))
        return tf_fail(env, TFUSE_EGRAPH, "the graph of model '%s' needs an output to run, and one input, or defaults for the others",
                       tf_model_label(view->m));
    tf_evaluator *ev = tf_calloc(env, 1, sizeof *ev);
    if (!ev)
        return TFUSE_ENOMEM;
    ev->mem = env->mem;
    ev->g = g;
    tf_arena_init(&ev->arena, &env->mem);
    tfuse_status status;
    TF_TRY_OUT(list_kept(env, ev, keep, n_keep));
    TF_TRY_OUT(tf_schedule_nodes(env, g, ev->keep, n_keep + 1, &ev->nodes, &ev->n_nodes));
    TF_TRY_OUT(plan_static(env, ev));
    TF_TRY_OUT(load_params(env, ev, view));
    *out = ev;
    return TFUSE_OK;
out:
    tf_evaluator_free(ev);
    return status;
}

tfuse_status tf_evaluator_prepare(tf_env *env, tf_evaluator *ev, const tf_inputs *in)
{
    if (ev->planned && !memcmp(ev->input, in->extent, sizeof ev->input))
        return TFUSE_OK;
    return plan_for(env, ev, in->extent);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------------- */

int64_t tf_evaluator_size(const tf_evaluator *ev, tf_id value)
{
    return tf_batch_stride(&ev->plan.batch[value]);
}

int64_t tf_evaluator_shard(const tf_evaluator *ev)
{
    return ev->plan.shard;
}

size_t tf_evaluator_bytes_per_sample(const tf_evaluator *ev)
{
    size_t bytes = 0;
    for (size_t k = 0; k <= ev->n_keep; k++)
        bytes += (size_t)tf_evaluator_size(ev, ev->keep[k]) * sizeof(float);
    return bytes;
}

int64_t tf_batch_fit(uint64_t sample_bytes, int64_t shard, int64_t n, uint64_t budget)
{
    const uint64_t fit = budget / sample_bytes;
    if (fit >= (uint64_t)n)
        return n;
    if (fit >= (uint64_t)shard)
        return (int64_t)fit / shard * shard;
    return fit ? (int64_t)fit : 1;
}

int64_t tf_batch_size(const tf_evaluator *ev, int64_t n, size_t budget)
{
    return tf_batch_fit(tf_evaluator_bytes_per_sample(ev), ev->plan.shard, n, budget);
}

/* ---- running ------------------------------------------------------------------------------------------------------------- */

typedef struct job {
    tf_env *env;
    const tf_evaluator *ev;
    const tf_inputs *in;
    int64_t first, count; /* samples asked for */
    float *const *dst;
    float *out;
} job;

/* The samples of a shard that were asked for, and its first sample on the grid. */
typedef struct span {
    int64_t base, from, to;
} span;

static void copy_out(const job *j, const span *s, const tf_batch *b, float *dst)
{
    const int64_t size = tf_batch_stride(b);
    memcpy(dst + (s->from - j->first) * size, b->data + (s->from - s->base) * size,
           (size_t)((s->to - s->from) * size) * sizeof(float));
}

static void deliver(const job *j, const span *s, tf_id value, const tf_batch *b)
{
    const tf_evaluator *ev = j->ev;
    for (int32_t k = j->dst ? ev->first_keep[value] : -1; k >= 0; k = ev->next_keep[k])
        if (j->dst[k])
            copy_out(j, s, b, j->dst[k]);
    if (j->out && value == ev->g->output)
        copy_out(j, s, b, j->out);
}

static void fill_input(const job *j, const span *s, int k, tf_batch *b)
{
    const int64_t size = tf_batch_stride(b);
    if (s->to - s->from < b->n)
        memset(b->data, 0, (size_t)(b->n * size) * sizeof(float));
    tf_inputs_fill(j->in, k, s->from, s->to - s->from, b->data + (s->from - s->base) * size);
}

static void run_node(const job *j, const span *s, const lane *l, size_t step)
{
    const tf_evaluator *ev = j->ev;
    const tf_node *n = &ev->g->nodes[ev->nodes[step]];
    tf_forward f = {.env = j->env, .g = ev->g, .scratch = l->slab + ev->plan.scratch[step]};
    for (int k = 0; k < n->n_inputs; k++)
        f.in[k] = &l->batch[n->inputs[k]];
    for (int k = 0; k < n->n_outputs; k++)
        f.out[k] = &l->batch[n->outputs[k]];
    for (int k = 0; k < n->n_params; k++)
        f.param[k] = n->params[k] < 0 ? NULL : ev->param[n->params[k]];
    const int input = tf_input_number(ev->g, n);
    if (input >= 0)
        fill_input(j, s, input, f.out[0]);
    else
        n->op->forward(&f, n);
    for (int k = 0; k < n->n_outputs; k++)
        deliver(j, s, n->outputs[k], f.out[k]);
}

static void run_shard(void *arg, uint32_t i, uint32_t which)
{
    const job *j = arg;
    const int64_t shard = j->ev->plan.shard, end = j->first + j->count;
    const int64_t base = (j->first / shard + i) * shard;
    const span s = {base, base > j->first ? base : j->first, base + shard < end ? base + shard : end};
    for (size_t step = 0; step < j->ev->n_nodes && !tf_cancelled(j->env); step++)
        run_node(j, &s, &j->ev->lanes[which], step);
}

static tfuse_status make_lanes(tf_env *env, tf_evaluator *ev)
{
    const size_t wanted = tf_threads(env), values = ev->g->n_values;
    if (ev->n_lanes >= wanted)
        return TFUSE_OK;
    free_lanes(ev);
    ev->lanes = tf_calloc(env, wanted, sizeof *ev->lanes);
    if (!ev->lanes)
        return TFUSE_ENOMEM;
    ev->n_lanes = wanted;
    for (size_t i = 0; i < wanted; i++) {
        lane *l = &ev->lanes[i];
        l->slab = tf_alloc_array(env, (size_t)ev->plan.slab, sizeof *l->slab);
        l->batch = tf_alloc_array(env, values, sizeof *l->batch);
        if (!l->slab || !l->batch) {
            free_lanes(ev);
            return TFUSE_ENOMEM;
        }
        memcpy(l->batch, ev->plan.batch, values * sizeof *l->batch);
        for (size_t v = 0; v < values; v++)
            l->batch[v].data = ev->plan.offset[v] < 0 ? NULL : l->slab + ev->plan.offset[v];
    }
    return TFUSE_OK;
}

tfuse_status tf_evaluator_run(tf_env *env, tf_evaluator *ev, const tf_inputs *in, int64_t first, int64_t count,
                              float *const *dst, float *out)
{
    TF_TRY(tf_evaluator_prepare(env, ev, in));
    TF_TRY(make_lanes(env, ev));
    const int64_t shard = ev->plan.shard;
    const int64_t shards = (first + count + shard - 1) / shard - first / shard;
    if (shards > UINT32_MAX)
        return tf_fail(env, TFUSE_ERANGE, "%lld samples are too many for one batch", (long long)count);
    job j = {env, ev, in, first, count, dst, out};
    if (count > 0)
        tf_parallel_lanes(env, (uint32_t)shards, run_shard, &j);
    return tf_check_cancel(env);
}
