/* SPDX-License-Identifier: Apache-2.0
 *
 * statistics.c: runs two models in lock-step over calibration inputs and gathers the moments that an alignment asked for.
 *
 * A batch is as many samples as fit a fixed budget: it does not depend on the number of threads. Where fewer samples than there are are enough, groups
 * of them run that are spread over all.
 */
#include "run/lockstep.h"
#include <string.h>

typedef struct side {
    const tf_view *view;
    tf_inputs in;
    tf_evaluator *ev;
    float **batch; /* one a request */
    float **dst;   /* the same, NULL where this sweep does not want it */
} side;

typedef struct gather {
    tf_env *env;
    tf_lockstep lock;
    side side[TF_SIDES];
    tf_stats_batches batches;
    uint8_t *flags;         /* a batch's tokens: 0, padding; NULL: the inputs have no mask */
    int64_t *seen;          /* numbers of those that are not */
    uint64_t done, total; /* progress: groups over all sweeps */
} gather;

static tfuse_status open_side(gather *g, int k, const tf_view *view, const tfuse_array *calib, int64_t samples)
{
    tf_env *env = g->env;
    side *s = &g->side[k];
    tf_source *sources = g->lock.source[k];
    tf_id *keep = NULL;
    tfuse_status status;
    s->view = view;
    TF_TRY_OUT(tf_inputs_make(env, view->g, view->m, calib, samples, &s->in));
    tf_inputs_warn(env, view->m, &s->in);
    s->batch = tf_calloc(env, g->lock.n, sizeof *s->batch);
    s->dst = tf_calloc(env, g->lock.n, sizeof *s->dst);
    keep = tf_alloc_array(env, g->lock.n, sizeof *keep);
    if (!s->batch || !s->dst || !keep) {
        status = TFUSE_ENOMEM;
        goto out;
    }
    for (size_t i = 0; i < g->lock.n; i++)
        keep[i] = sources[i].value;
    TF_TRY_OUT(tf_evaluator_new(env, s->view, keep, g->lock.n, &s->ev));
    TF_TRY_OUT(tf_evaluator_prepare(env, s->ev, &s->in));
    for (size_t i = 0; i < g->lock.n; i++)
        sources[i].tokens = tf_evaluator_size(s->ev, sources[i].value) / sources[i].units;
out:
    tf_free(&env->mem, keep);
    return status;
}

static tf_stats_batches choose_batches(const gather *g, const tf_token_filter *filter)
{
    const tf_evaluator *a = g->side[TF_ANCHOR].ev, *m = g->side[TF_MODEL].ev;
    const size_t bytes = tf_evaluator_bytes_per_sample(a) + tf_evaluator_bytes_per_sample(m);
    const int64_t shard = tf_evaluator_shard(a) > tf_evaluator_shard(m) ? tf_evaluator_shard(a) : tf_evaluator_shard(m);
    return tf_stats_cut(bytes, shard, g->side[TF_ANCHOR].in.n, filter->samples);
}

/* Both models have the same inputs, so the same padding. */
static tfuse_status make_seen(gather *g)
{
    const side *s = &g->side[TF_ANCHOR];
    const size_t tokens = (size_t)(g->batches.samples * s->in.sample);
    if (!tf_inputs_are_masked(s->view->g, &s->in))
        return TFUSE_OK;
    g->flags = tf_alloc_array(g->env, tokens, sizeof *g->flags);
    g->seen = tf_alloc_array(g->env, tokens, sizeof *g->seen);
    return g->flags && g->seen ? TFUSE_OK : TFUSE_ENOMEM;
}

static void list_seen(gather *g, int64_t first, int64_t count)
{
    const side *s = &g->side[TF_ANCHOR];
    if (!g->seen)
        return;
    g->lock.seen = g->seen;
    g->lock.n_seen = 0;
    g->lock.seen_tokens = s->in.sample;
    tf_inputs_seen(s->view->g, &s->in, first, count, g->flags);
    for (int64_t t = 0; t < count * s->in.sample; t++)
        if (g->flags[t])
            g->seen[g->lock.n_seen++] = t;
}

static tfuse_status make_buffers(gather *g)
{
    for (int k = 0; k < TF_SIDES; k++) {
        for (size_t i = 0; i < g->lock.n; i++) {
            tf_source *s = &g->lock.source[k][i];
            size_t floats;
            if (!tf_mul_size((size_t)g->batches.samples, (size_t)(s->tokens * s->units), &floats))
                return tf_fail(g->env, TFUSE_ENOMEM, "out of memory");
            g->side[k].batch[i] = tf_alloc_array(g->env, floats, sizeof **g->side[k].batch);
            if (!g->side[k].batch[i])
                return TFUSE_ENOMEM;
            s->batch = g->side[k].dst[i] = g->side[k].batch[i];
        }
    }
    return TFUSE_OK;
}

typedef tfuse_status (*add_fn)(tf_lockstep *l, int64_t count);

static tfuse_status run_group(gather *g, int64_t first, int64_t end, add_fn add)
{
    for (int64_t at = first; at < end; at += g->batches.samples) {
        const int64_t left = end - at, count = left < g->batches.samples ? left : g->batches.samples;
        for (int k = 0; k < TF_SIDES; k++)
            TF_TRY(tf_evaluator_run(g->env, g->side[k].ev, &g->side[k].in, at, count, g->side[k].dst, NULL));
        list_seen(g, at, count);
        TF_TRY(add(&g->lock, count));
    }
    return TFUSE_OK;
}

static tfuse_status sweep(gather *g, add_fn add)
{
    const tf_stats_batches *b = &g->batches;
    for (int64_t i = 0; i < b->wanted; i++) {
        const int64_t first = i * b->all / b->wanted * b->group, left = g->side[TF_ANCHOR].in.n - first;
        TF_TRY(run_group(g, first, first + (left < b->group ? left : b->group), add));
        TF_TRY(tf_progress(g->env, "statistics", ++g->done, g->total));
    }
    return TFUSE_OK;
}

/* The second sweep: only the requests that want deviations from the final means. */
static tfuse_status deviations(gather *g)
{
    for (size_t i = 0; i < g->lock.n; i++)
        if (!g->lock.requests[i].abs_dev)
            for (int k = 0; k < TF_SIDES; k++)
                g->side[k].dst[i] = NULL;
    TF_TRY(sweep(g, tf_lockstep_add_dev));
    tf_lockstep_finish_dev(&g->lock);
    return TFUSE_OK;
}

static tfuse_status run_sweeps(gather *g)
{
    const bool dev = tf_lockstep_wants_dev(&g->lock);
    g->total = (uint64_t)g->batches.wanted * (dev ? 2 : 1);
    TF_TRY(tf_progress(g->env, "statistics", 0, g->total));
    TF_TRY(sweep(g, tf_lockstep_add));
    for (size_t i = 0; i < g->lock.n; i++)
        if (g->lock.out->items[i].anchor.rows == 0)
            return tf_fail(g->env, TFUSE_ERANGE, "no token is left of value '%s': the mask of %s hides all of them", g->lock.requests[i].value,
                           tf_array_label(g->side[TF_ANCHOR].in.array, "the calibration inputs"));
    tf_lockstep_finish(&g->lock);
    return dev ? deviations(g) : TFUSE_OK;
}

static void close_side(const gather *g, side *s)
{
    for (size_t i = 0; s->batch && i < g->lock.n; i++)
        tf_free(&g->env->mem, s->batch[i]);
    tf_free(&g->env->mem, s->batch);
    tf_free(&g->env->mem, s->dst);
    tf_evaluator_free(s->ev);
}

tfuse_status tf_stats_gather(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib,
                             int64_t samples, const tf_token_filter *filter, const tf_stat_request *requests, size_t n,
                             tf_stats *out)
{
    gather g = {.env = env};
    tfuse_status status;
    memset(out, 0, sizeof *out);
    out->mem = env->mem;
    if (n == 0)
        return TFUSE_OK;
    TF_TRY_OUT(tf_lockstep_open(env, (const tf_graph *[]){anchor->g, model->g},
                                (const char *[]){tf_model_label(anchor->m), tf_model_label(model->m)}, filter, requests, n, out,
                                &g.lock));
    TF_TRY_OUT(open_side(&g, TF_ANCHOR, anchor, calib, samples));
    TF_TRY_OUT(open_side(&g, TF_MODEL, model, calib, samples));
    g.batches = choose_batches(&g, filter);
    TF_TRY_OUT(make_buffers(&g));
    TF_TRY_OUT(make_seen(&g));
    status = run_sweeps(&g);
out:
    for (int k = 0; k < TF_SIDES; k++)
        close_side(&g, &g.side[k]);
    tf_free(&env->mem, g.flags);
    tf_free(&env->mem, g.seen);
    tf_lockstep_close(&g.lock);
    if (status != TFUSE_OK)
        tf_stats_free(out);
    return status;
}
