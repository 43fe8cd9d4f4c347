/* SPDX-License-Identifier: Apache-2.0
 *
 * stats_bytes.c: the memory of gathering statistics, from the graphs and the shape of the inputs: parameters that cannot be used where they
 * lie, a slab a thread, the batch of wanted values, and the moments.
 */
#include "base/meter.h"
#include "base/pool.h"
#include "graph/naming.h"
#include "run/run.h"
#include "run/schedule.h"

typedef struct side {
    const tf_view *view;
    tf_id *values; /* one a request, then those of its `plus`, then the output */
    tf_id *nodes;
    size_t n_nodes;
    tf_schedule plan;
    tf_inputs in;
    uint64_t params; /* bytes of copies */
    uint64_t sample; /* floats of one, over all wanted values */
} side;

/* A float32 tensor that lies in memory and that no pass changes is used in place. */
static bool is_copied(const tf_view *v, tf_id id)
{
    const tf_param *p = &v->g->params[id];
    if (v->base || v->steps[id] || !p->source || p->source->kind != TF_SOURCE_STORED)
        return true;
    const tf_tensor *t = tf_model_find(v->m, p->source->stored);
    return !t || t->file >= 0 || t->strides || t->dtype != TFUSE_F32 || (uintptr_t)t->data % sizeof(float);
}

static tfuse_status count_params(tf_env *env, side *s)
{
    const tf_graph *g = s->view->g;
    bool *seen = tf_calloc(env, g->n_params + 1, sizeof *seen);
    if (!seen)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < s->n_nodes; i++) {
        const tf_node *n = &g->nodes[s->nodes[i]];
        for (int k = 0; k < n->n_params; k++) {
            const tf_id id = n->params[k];
            if (id < 0 || seen[id])
                continue;
            seen[id] = true;
            s->params += is_copied(s->view, id) ? tf_area(tf_param_count(&g->params[id]), 1, sizeof(float)) : 0;
        }
    }
    tf_free(&env->mem, seen);
    return TFUSE_OK;
}

static tfuse_status list_values(tf_env *env, side *s, const tf_stat_request *requests, size_t n, size_t *count)
{
    const tf_graph *g = s->view->g;
    s->values = tf_alloc_array(env, 2 * n + 1, sizeof *s->values);
    if (!s->values)
        return TFUSE_ENOMEM;
    *count = 0;
    for (size_t i = 0; i < 2 * n; i++) {
        const tf_stat_request *r = &requests[i % n];
        const char *name = i < n ? r->value : r->abs_dev ? r->plus : NULL;
        const tf_id value = name ? tf_graph_find_value(g, name) : -1;
        if (name && value < 0)
            return tf_fail(env, TFUSE_ENOTFOUND, "model '%s' has no value '%s' to gather statistics of", tf_model_label(s->view->m), name);
        if (name)
            s->values[(*count)++] = value;
    }
    s->values[*count] = g->output;
    return TFUSE_OK;
}

static tfuse_status open_side(tf_env *env, side *s, const tf_view *view, const tfuse_array *calib, int64_t samples,
                              const tf_stat_request *requests, size_t n, size_t *count)
{
    s->view = view;
    TF_TRY(tf_inputs_make(env, view->g, view->m, calib, samples, &s->in));
    TF_TRY(list_values(env, s, requests, n, count));
    TF_TRY(tf_schedule_nodes(env, view->g, s->values, *count + 1, &s->nodes, &s->n_nodes));
    TF_TRY(tf_schedule_make(env, view->g, s->nodes, s->n_nodes, s->in.extent, &s->plan));
    for (size_t i = 0; i <= *count; i++)
        s->sample += (uint64_t)tf_batch_stride(&s->plan.batch[s->values[i]]);
    return count_params(env, s);
}

static void close_side(tf_env *env, side *s)
{
    tf_free(&env->mem, s->values);
    tf_free(&env->mem, s->nodes);
    if (s->plan.batch)
        tf_schedule_free(&s->plan);
}

static int64_t units_of(const side *s, size_t i)
{
    const tf_value *v = &s->view->g->values[s->values[i]];
    return v->extent[v->rank - 1];
}

/* Samples of a batch, as tf_stats_gather chooses them. */
static uint64_t batch_of(const side *a, const side *m)
{
    const uint64_t bytes = (a->sample + m->sample) * sizeof(float), fit = bytes ? TF_STATS_BATCH_BYTES / bytes : 1;
    const uint64_t shard = (uint64_t)(a->plan.shard > m->plan.shard ? a->plan.shard : m->plan.shard), n = (uint64_t)a->in.n;
    return fit >= n ? n : fit >= shard ? fit / shard * shard : fit ? fit : 1;
}

static void add_up(tf_env *env, const side *a, const side *m, const tf_stat_request *requests, size_t n, size_t count, uint64_t *work,
                   uint64_t *kept)
{
    const uint64_t threads = tf_threads(env), batch = batch_of(a, m);
    const side *sides[] = {a, m};
    int64_t widest = 1;
    *kept = *work = 0;
    for (size_t i = 0; i < count; i++) {
        const int64_t u = units_of(a, i), v = units_of(m, i);
        widest = u > widest ? u : widest;
        widest = v > widest ? v : widest;
        *kept += tf_area(u + v, 4, sizeof(double));
        *kept += i < n && requests[i].cross ? tf_area(u, v, sizeof(double)) : 0;
    }
    for (int k = 0; k < 2; k++) {
        const uint64_t output = (uint64_t)tf_batch_stride(&sides[k]->plan.batch[sides[k]->values[count]]);
        *work += sides[k]->params + threads * tf_area(sides[k]->plan.slab, 1, sizeof(float));
        *work += tf_area((int64_t)(sides[k]->sample - output), (int64_t)batch, sizeof(float));
    }
    *work += threads * tf_area(2 * TF_STATS_CHUNK_ROWS, widest, sizeof(double));
}

tfuse_status tf_stats_bytes(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib, int64_t samples,
                            const tf_stat_request *requests, size_t n, uint64_t *work, uint64_t *kept)
{
    side a = {0}, m = {0};
    size_t count = 0;
    *work = *kept = 0;
    if (n == 0)
        return TFUSE_OK;
    tfuse_status status;
    TF_TRY_OUT(open_side(env, &a, anchor, calib, samples, requests, n, &count));
    TF_TRY_OUT(open_side(env, &m, model, calib, samples, requests, n, &count));
    add_up(env, &a, &m, requests, n, count, work, kept);
out:
    close_side(env, &a);
    close_side(env, &m);
    return status;
}
