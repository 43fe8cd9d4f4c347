/* SPDX-License-Identifier: Apache-2.0
 *
 * stats_bytes.c: the memory of gathering statistics, from the graphs and the shape of the inputs: parameters that cannot be used where they
 * lie, a slab a thread, the batch of wanted values, and the moments.
 */
#include "base/meter.h"
#include "base/pool.h"
#include "graph/naming.h"
#include "run/run.h"

typedef struct side {
    const tf_view *view;
    tf_id *values; /* one a request, then those of its `plus` */
    tf_inputs in;
    tf_evaluator_cost cost;
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

static tfuse_status list_values(tf_env *env, side *s, const tf_stat_request *requests, size_t n, size_t *count)
{
    const tf_graph *g = s->view->g;
    s->values = tf_alloc_array(env, 2 * n, sizeof *s->values);
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
    return TFUSE_OK;
}

static tfuse_status open_side(tf_env *env, side *s, const tf_view *view, const tfuse_array *calib, int64_t samples,
                              const tf_stat_request *requests, size_t n, size_t *count)
{
    s->view = view;
    TF_TRY(tf_inputs_make(env, view->g, view->m, calib, samples, &s->in));
    TF_TRY(list_values(env, s, requests, n, count));
    const tf_graph *g = view->g;
    bool *in_place = tf_calloc(env, g->n_params + 1, sizeof *in_place);
    for (size_t p = 0; in_place && p < g->n_params; p++)
        in_place[p] = !is_copied(view, (tf_id)p);
    const tfuse_status status = in_place ? tf_evaluator_measure(env, g, in_place, s->in.extent, s->values, *count, &s->cost) : TFUSE_ENOMEM;
    tf_free(&env->mem, in_place);
    return status;
}

static int64_t units_of(const side *s, size_t i)
{
    const tf_value *v = &s->view->g->values[s->values[i]];
    return v->extent[v->rank - 1];
}

tf_stats_batches tf_stats_cut(uint64_t sample_bytes, int64_t shard, int64_t n, int64_t enough)
{
    /* Two samples of a large model run side by side, and a few hundred rows are multiplied at twice the speed of half of them. */
    int64_t batch = sample_bytes ? tf_batch_fit(sample_bytes, shard, n, TF_STATS_BATCH_BYTES) : 1;
    batch = batch < 2 && n >= 2 ? 2 : batch;
    if (enough <= 0 || enough >= n) {
        const int64_t all = n > 0 ? (n - 1) / batch + 1 : 0;
        return (tf_stats_batches){batch, batch, all, all};
    }
    const int64_t shards = (enough - 1) / shard + 1, group = (shards < TF_STATS_SPREAD ? shards : TF_STATS_SPREAD) * shard;
    return (tf_stats_batches){batch < group ? batch : group, group, (n - 1) / group + 1, (enough - 1) / group + 1};
}

tfuse_status tf_stats_enough(tf_env *env, const tf_view *view, const tfuse_array *calib, int64_t samples, const tf_stat_request *requests, size_t n,
                             int64_t rows, int64_t *out)
{
    side s = {0};
    size_t count = 0;
    *out = 0;
    if (rows == 0 || n == 0)
        return TFUSE_OK;
    const tfuse_status status = open_side(env, &s, view, calib, samples, requests, n, &count);
    if (status == TFUSE_OK && s.cost.tokens > 0)
        *out = (rows - 1) / s.cost.tokens + 1;
    if (*out >= s.in.n)
        *out = 0;
    tf_free(&env->mem, s.values);
    return status;
}

/* Samples of a batch, as tf_stats_gather cuts them. */
static int64_t batch_of(const tf_evaluator_cost *a, const tf_evaluator_cost *m, int64_t n, const tf_token_filter *filter)
{
    const uint64_t bytes = (a->sample + a->output + m->sample + m->output) * sizeof(float);
    return tf_stats_cut(bytes, a->shard > m->shard ? a->shard : m->shard, n, filter->samples).samples;
}

static void add_up(tf_env *env, const side *a, const side *m, const tf_token_filter *filter, const tf_stat_request *requests, size_t n, size_t count,
                   uint64_t *work, uint64_t *kept)
{
    const uint64_t threads = tf_threads(env);
    const int64_t batch = batch_of(&a->cost, &m->cost, a->in.n, filter);
    const side *sides[] = {a, m};
    int64_t widest = 1;
    *kept = *work = 0;
    for (size_t i = 0; i < count; i++) {
        const int64_t u = units_of(a, i), v = units_of(m, i);
        widest = u > widest ? u : widest;
        widest = v > widest ? v : widest;
        *kept += tf_area(u + v, 4, sizeof(double));
        *kept += i < n && requests[i].cross ? tf_area(u, v, sizeof(double)) : 0;
        *kept += i < n ? tf_area(u, requests[i].self[0], sizeof(double)) + tf_area(v, requests[i].self[1], sizeof(double)) : 0;
    }
    for (int k = 0; k < 2; k++) {
        *work += sides[k]->cost.params + threads * sides[k]->cost.slab;
        *work += tf_area((int64_t)sides[k]->cost.sample, batch, sizeof(float));
    }
    *work += threads * tf_area(1, tf_stats_scratch(widest), sizeof(float));
    *work += tf_inputs_are_masked(a->view->g, &a->in) ? tf_area(batch, a->in.sample, sizeof(int64_t) + 1) : 0;
}

tfuse_status tf_stats_bytes(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib, int64_t samples,
                            const tf_token_filter *filter, const tf_stat_request *requests, size_t n, uint64_t *work, uint64_t *kept)
{
    side a = {0}, m = {0};
    size_t count = 0;
    *work = *kept = 0;
    if (n == 0)
        return TFUSE_OK;
    tfuse_status status;
    TF_TRY_OUT(open_side(env, &a, anchor, calib, samples, requests, n, &count));
    TF_TRY_OUT(open_side(env, &m, model, calib, samples, requests, n, &count));
    add_up(env, &a, &m, filter, requests, n, count, work, kept);
out:
    tf_free(&env->mem, a.values);
    tf_free(&env->mem, m.values);
    return status;
}
