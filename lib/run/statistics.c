/* SPDX-License-Identifier: Apache-2.0
 *
 * statistics.c: runs two models in lock-step over calibration inputs and accumulates the moments that an alignment asked for.
 *
 * A batch is as many samples as fit a fixed budget with the wanted values of both models. After each batch every request adds its rows, in
 * order, in float64; requests run side by side. Neither the batch nor the order of any sum depends on the number of threads.
 */
#include "run/moments.h"
#include "base/pool.h"
#include <string.h>

enum {
    BATCH_BYTES = 64 << 20, /* wanted values of both models */
    CHUNK_ROWS = 256        /* rows that are centred, and multiplied, at a time */
};

enum { ANCHOR, MODEL, SIDES };

/* One request's value in one model. */
typedef struct source {
    tf_id value;
    int64_t *positions; /* kept tokens; NULL: all */
    int64_t kept, tokens, units;
    float *batch;       /* samples × tokens × units */
    double *shift;
} source;

typedef struct side {
    const tf_view *view;
    tf_inputs in;
    tf_evaluator *ev;
    source *sources; /* one a request */
    float **dst;     /* one a request: its batch, or NULL when this sweep does not want it */
} side;

typedef struct gather {
    tf_env *env;
    tf_stat_request *requests; /* the caller's, then one for each value that is a `plus` */
    int32_t *plus;             /* a request: index of the one for its `plus`; -1 */
    size_t n;                  /* of all */
    side side[SIDES];
    int64_t batch, count; /* samples of a whole batch, of this one */
    bool first;           /* of the sweep: sets the shifts */
    double *chunks;       /* a lane: SIDES × CHUNK_ROWS × widest */
    int64_t widest;
    signed char *bad;     /* a request: 1 + the side whose rows are not finite */
    uint64_t done, total; /* progress: samples over all sweeps */
    tf_stats *out;
} gather;

/* ---- results -------------------------------------------------------------------------------------------------------- */

static void free_moments(const tf_mem *mem, tf_moments *m)
{
    tf_free(mem, m->mean);
    tf_free(mem, m->var);
    tf_free(mem, m->abs_mean);
    tf_free(mem, m->abs_dev);
}

/* Frees all but the first n. */
static void drop_items(tf_stats *s, size_t n)
{
    for (; s->n > n; s->n--) {
        tf_stat *stat = &s->items[s->n - 1];
        free_moments(&s->mem, &stat->anchor);
        free_moments(&s->mem, &stat->model);
        tf_free(&s->mem, stat->cross);
    }
}

void tf_stats_free(tf_stats *s)
{
    drop_items(s, 0);
    tf_free(&s->mem, s->items);
    memset(s, 0, sizeof *s);
}

/* ---- setting up ---------------------------------------------------------------------------------------------------- */

static int64_t units_of(const tf_value *v)
{
    return v->extent[v->rank - 1];
}

static tfuse_status find_value(tf_env *env, const tf_view *view, const char *name, tf_id *out)
{
    *out = tf_graph_find_value(view->g, name);
    if (*out < 0)
        return tf_fail(env, TFUSE_ENOTFOUND, "model '%s' has no value '%s' to gather statistics of",
                       tf_model_label(view->m), name);
    if (view->g->values[*out].integer || units_of(&view->g->values[*out]) == 0)
        return tf_fail(env, TFUSE_EGRAPH, "value '%s' of model '%s' has no channels of real numbers, so no statistics", name,
                       tf_model_label(view->m));
    return TFUSE_OK;
}

/* Appends a request of its own for each value that is added to another: its moments are needed to standardise it. */
static tfuse_status expand(gather *g, const tf_stat_request *requests, size_t n)
{
    g->requests = tf_alloc_array(g->env, 2 * n, sizeof *g->requests);
    g->plus = tf_alloc_array(g->env, 2 * n, sizeof *g->plus);
    if (!g->requests || !g->plus)
        return TFUSE_ENOMEM;
    memcpy(g->requests, requests, n * sizeof *requests);
    g->n = n;
    for (size_t i = 0; i < n; i++) {
        g->plus[i] = -1;
        if (!requests[i].plus || !requests[i].abs_dev)
            continue;
        g->plus[i] = (int32_t)g->n;
        g->plus[g->n] = -1;
        g->requests[g->n++] = (tf_stat_request){.value = requests[i].plus, .abs_dev = true, .whole = requests[i].whole};
    }
    return TFUSE_OK;
}

static tfuse_status find_sources(gather *g, side *s, const tf_token_filter *filter)
{
    tf_env *env = g->env;
    bool *class_only = NULL;
    tf_id *keep = tf_alloc_array(env, g->n, sizeof *keep);
    tfuse_status status = keep ? TFUSE_OK : TFUSE_ENOMEM;
    if (!keep)
        goto out;
    TF_TRY_OUT(tf_value_class_only(env, s->view->g, &class_only));
    for (size_t i = 0; i < g->n; i++) {
        source *from = &s->sources[i];
        TF_TRY_OUT(find_value(env, s->view, g->requests[i].value, &from->value));
        const bool only = class_only[from->value] && !g->requests[i].whole;
        TF_TRY_OUT(tf_token_positions(env, s->view->g, from->value, filter, only, &from->positions, &from->kept));
        keep[i] = from->value;
    }
    status = tf_evaluator_new(env, s->view, keep, g->n, &s->ev);
out:
    tf_free(&env->mem, class_only);
    tf_free(&env->mem, keep);
    return status;
}

static tfuse_status open_side(gather *g, side *s, const tf_view *view, const tfuse_array *calib, int64_t samples,
                              const tf_token_filter *filter)
{
    tf_env *env = g->env;
    s->view = view;
    TF_TRY(tf_inputs_make(env, view->g, view->m, calib, samples, &s->in));
    s->sources = tf_calloc(env, g->n, sizeof *s->sources);
    s->dst = tf_calloc(env, g->n, sizeof *s->dst);
    if (!s->sources || !s->dst)
        return TFUSE_ENOMEM;
    TF_TRY(find_sources(g, s, filter));
    TF_TRY(tf_evaluator_prepare(env, s->ev, &s->in));
    for (size_t i = 0; i < g->n; i++) {
        source *from = &s->sources[i];
        const int64_t size = tf_evaluator_size(s->ev, from->value);
        from->units = units_of(&view->g->values[from->value]);
        from->tokens = size / from->units;
        if (!from->positions)
            from->kept = from->tokens;
        if (from->units > g->widest)
            g->widest = from->units;
    }
    return TFUSE_OK;
}

static tfuse_status check_pair(const gather *g, size_t i)
{
    const source *a = &g->side[ANCHOR].sources[i], *m = &g->side[MODEL].sources[i];
    for (int k = 0; k < SIDES && g->plus[i] >= 0; k++) {
        const source *x = &g->side[k].sources[i], *y = &g->side[k].sources[g->plus[i]];
        if (x->kept != y->kept || x->units != y->units)
            return tf_fail(g->env, TFUSE_ESHAPE, "values '%s' and '%s' of model '%s' differ in shape: they cannot be added",
                           g->requests[i].value, g->requests[i].plus, tf_model_label(g->side[k].view->m));
    }
    if (a->kept == m->kept)
        return TFUSE_OK;
    return tf_fail(g->env, TFUSE_ESHAPE, "value '%s' has %lld tokens in model '%s' but %lld in '%s': they cannot be compared",
                   g->requests[i].value, (long long)a->kept, tf_model_label(g->side[ANCHOR].view->m), (long long)m->kept,
                   tf_model_label(g->side[MODEL].view->m));
}

/* Both models' wanted values of a batch fit the budget; whole shards of both where there is room for one. */
static int64_t choose_batch(const gather *g)
{
    const tf_evaluator *a = g->side[ANCHOR].ev, *m = g->side[MODEL].ev;
    const size_t bytes = tf_evaluator_bytes_per_sample(a) + tf_evaluator_bytes_per_sample(m);
    const int64_t shard = tf_evaluator_shard(a) > tf_evaluator_shard(m) ? tf_evaluator_shard(a) : tf_evaluator_shard(m);
    const int64_t n = g->side[ANCHOR].in.n;
    int64_t fit = (int64_t)(BATCH_BYTES / bytes);
    if (fit >= n)
        return n;
    if (fit >= shard)
        return fit / shard * shard;
    return fit ? fit : 1;
}

static tfuse_status make_buffers(gather *g)
{
    tf_env *env = g->env;
    g->batch = choose_batch(g);
    for (int k = 0; k < SIDES; k++) {
        for (size_t i = 0; i < g->n; i++) {
            source *s = &g->side[k].sources[i];
            size_t floats;
            if (!tf_mul_size((size_t)g->batch, (size_t)(s->tokens * s->units), &floats))
                return tf_fail(env, TFUSE_ENOMEM, "out of memory");
            s->batch = tf_alloc_array(env, floats, sizeof *s->batch);
            s->shift = tf_alloc_array(env, (size_t)s->units, sizeof *s->shift);
            if (!s->batch || !s->shift)
                return TFUSE_ENOMEM;
            g->side[k].dst[i] = s->batch;
        }
    }
    const size_t chunk = (size_t)SIDES * CHUNK_ROWS * (size_t)g->widest;
    g->chunks = tf_alloc_array(env, chunk * tf_threads(env), sizeof *g->chunks);
    g->bad = tf_calloc(env, g->n, sizeof *g->bad);
    return g->chunks && g->bad ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status make_items(gather *g)
{
    g->out->items = tf_calloc(g->env, g->n, sizeof *g->out->items);
    if (!g->out->items)
        return TFUSE_ENOMEM;
    g->out->n = g->n;
    return TFUSE_OK;
}

static tfuse_status make_moments(tf_env *env, tf_moments *m, int64_t units, bool dev)
{
    const size_t n = (size_t)units;
    m->units = units;
    m->mean = tf_calloc(env, n, sizeof *m->mean);
    m->var = tf_calloc(env, n, sizeof *m->var);
    m->abs_mean = tf_calloc(env, n, sizeof *m->abs_mean);
    m->abs_dev = dev ? tf_calloc(env, n, sizeof *m->abs_dev) : NULL;
    return m->mean && m->var && m->abs_mean && (!dev || m->abs_dev) ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status make_results(gather *g)
{
    for (size_t i = 0; i < g->n; i++) {
        const tf_stat_request *want = &g->requests[i];
        tf_stat *stat = &g->out->items[i];
        const int64_t a = g->side[ANCHOR].sources[i].units, m = g->side[MODEL].sources[i].units;
        size_t cells;
        TF_TRY(check_pair(g, i));
        TF_TRY(make_moments(g->env, &stat->anchor, a, want->abs_dev));
        TF_TRY(make_moments(g->env, &stat->model, m, want->abs_dev));
        if (!want->cross)
            continue;
        if (!tf_mul_size((size_t)a, (size_t)m, &cells))
            return tf_fail(g->env, TFUSE_ENOMEM, "out of memory");
        stat->cross = tf_calloc(g->env, cells, sizeof *stat->cross);
        if (!stat->cross)
            return TFUSE_ENOMEM;
    }
    return TFUSE_OK;
}

/* ---- accumulating ---------------------------------------------------------------------------------------------------- */

static tf_rows rows_of(const gather *g, int which, size_t i)
{
    const source *s = &g->side[which].sources[i];
    return (tf_rows){s->batch, g->count, s->tokens, s->units, s->positions, s->kept};
}

static tf_moments *moments_of(gather *g, int which, size_t i)
{
    return which == ANCHOR ? &g->out->items[i].anchor : &g->out->items[i].model;
}

/* Adds rows of both sides; 0, or 1 + the side that is not finite. */
static signed char add_rows(gather *g, size_t i, const tf_rows rows[SIDES], int64_t first, int64_t count, double *const chunk[SIDES])
{
    const tf_stat *stat = &g->out->items[i];
    for (int k = 0; k < SIDES; k++)
        if (!tf_moments_add(moments_of(g, k, i), g->side[k].sources[i].shift, &rows[k], first, count, chunk[k]))
            return (signed char)(1 + k);
    if (stat->cross) {
        const int64_t a = rows[ANCHOR].units, b = rows[MODEL].units;
        const tf_dmat x = {chunk[MODEL], b, count, 1, b}, y = {chunk[ANCHOR], count, a, a, 1}, c = {stat->cross, b, a, a, 1};
        tf_dgemm(g->env, 1, x, y, 1, c);
    }
    return 0;
}

static void accumulate(void *arg, uint32_t i, uint32_t lane)
{
    gather *g = arg;
    const tf_rows rows[SIDES] = {rows_of(g, ANCHOR, i), rows_of(g, MODEL, i)};
    const int64_t total = tf_rows_count(&rows[ANCHOR]), size = CHUNK_ROWS * g->widest;
    double *const chunk[SIDES] = {g->chunks + 2 * lane * size, g->chunks + (2 * lane + 1) * size};
    if (g->first)
        for (int k = 0; k < SIDES; k++)
            tf_rows_mean(&rows[k], g->side[k].sources[i].shift);
    for (int64_t at = 0; at < total && !g->bad[i] && !tf_cancelled(g->env); at += CHUNK_ROWS)
        g->bad[i] = add_rows(g, i, rows, at, total - at < CHUNK_ROWS ? total - at : CHUNK_ROWS, chunk);
}

static void accumulate_dev(void *arg, uint32_t i, uint32_t lane)
{
    gather *g = arg;
    double *scratch = g->chunks + 2 * lane * CHUNK_ROWS * g->widest; /* more than two rows */
    for (int k = 0; k < SIDES && g->requests[i].abs_dev; k++) {
        const tf_rows x = rows_of(g, k, i);
        if (g->plus[i] < 0) {
            tf_moments_add_dev(moments_of(g, k, i), &x);
            continue;
        }
        const size_t other = (size_t)g->plus[i];
        const tf_rows y = rows_of(g, k, other);
        tf_moments_add_sum_dev(moments_of(g, k, i), &x, moments_of(g, k, other), &y, scratch);
    }
}

static tfuse_status check_finite(const gather *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->bad[i])
            return tf_fail(g->env, TFUSE_ENUMERIC, "value '%s' of model '%s' becomes NaN or infinite on the calibration inputs",
                           g->requests[i].value, tf_model_label(g->side[g->bad[i] - 1].view->m));
    return TFUSE_OK;
}

static tfuse_status sweep(gather *g, void (*body)(void *arg, uint32_t i, uint32_t lane))
{
    const int64_t n = g->side[ANCHOR].in.n;
    g->first = true;
    for (int64_t at = 0; at < n; at += g->count) {
        g->count = n - at < g->batch ? n - at : g->batch;
        for (int k = 0; k < SIDES; k++)
            TF_TRY(tf_evaluator_run(g->env, g->side[k].ev, &g->side[k].in, at, g->count, g->side[k].dst, NULL));
        tf_parallel_lanes(g->env, (uint32_t)g->n, body, g);
        TF_TRY(check_finite(g));
        g->first = false;
        g->done += (uint64_t)g->count;
        TF_TRY(tf_progress(g->env, "statistics", g->done, g->total));
    }
    return TFUSE_OK;
}

static void finish(gather *g)
{
    for (size_t i = 0; i < g->n; i++) {
        tf_stat *stat = &g->out->items[i];
        if (stat->cross)
            tf_cross_finish(stat->cross, &stat->model, &stat->anchor);
        tf_moments_finish(&stat->anchor, g->side[ANCHOR].sources[i].shift);
        tf_moments_finish(&stat->model, g->side[MODEL].sources[i].shift);
    }
}

/* The second sweep: only the requests that want deviations from the final means. */
static tfuse_status deviations(gather *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (!g->requests[i].abs_dev)
            for (int k = 0; k < SIDES; k++)
                g->side[k].dst[i] = NULL;
    TF_TRY(sweep(g, accumulate_dev));
    for (size_t i = 0; i < g->n; i++) {
        if (!g->requests[i].abs_dev)
            continue;
        tf_moments_finish_dev(&g->out->items[i].anchor);
        tf_moments_finish_dev(&g->out->items[i].model);
    }
    return TFUSE_OK;
}

static void close_side(const gather *g, side *s)
{
    for (size_t i = 0; s->sources && i < g->n; i++) {
        tf_free(&g->env->mem, s->sources[i].positions);
        tf_free(&g->env->mem, s->sources[i].batch);
        tf_free(&g->env->mem, s->sources[i].shift);
    }
    tf_free(&g->env->mem, s->sources);
    tf_free(&g->env->mem, s->dst);
    tf_evaluator_free(s->ev);
}

static tfuse_status run_sweeps(gather *g)
{
    bool dev = false;
    for (size_t i = 0; i < g->n; i++)
        dev |= g->requests[i].abs_dev;
    g->total = (uint64_t)g->side[ANCHOR].in.n * (dev ? 2 : 1);
    TF_TRY(tf_progress(g->env, "statistics", 0, g->total));
    TF_TRY(sweep(g, accumulate));
    finish(g);
    return dev ? deviations(g) : TFUSE_OK;
}

tfuse_status tf_stats_gather(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib,
                             int64_t samples, const tf_token_filter *filter, const tf_stat_request *requests, size_t n,
                             tf_stats *out)
{
    gather g = {.env = env, .widest = 1, .out = out};
    tfuse_status status;
    memset(out, 0, sizeof *out);
    out->mem = env->mem;
    if (n == 0)
        return TFUSE_OK;
    TF_TRY_OUT(expand(&g, requests, n));
    TF_TRY_OUT(make_items(&g));
    TF_TRY_OUT(open_side(&g, &g.side[ANCHOR], anchor, calib, samples, filter));
    TF_TRY_OUT(open_side(&g, &g.side[MODEL], model, calib, samples, filter));
    TF_TRY_OUT(make_results(&g));
    TF_TRY_OUT(make_buffers(&g));
    TF_TRY_OUT(run_sweeps(&g));
    drop_items(out, n);
out:
    for (int k = 0; k < SIDES; k++)
        close_side(&g, &g.side[k]);
    tf_free(&env->mem, g.requests);
    tf_free(&env->mem, g.plus);
    tf_free(&env->mem, g.chunks);
    tf_free(&env->mem, g.bad);
    if (status != TFUSE_OK)
        tf_stats_free(out);
    return status;
}
