/* SPDX-License-Identifier: Apache-2.0
 *
 * lockstep.c: adds batches of two models' values to the moments that an alignment asked for.
 *
 * Every request adds its rows in order; requests run side by side. The order of no sum depends on the number of threads.
 */
#include "run/lockstep.h"
#include "base/pool.h"
#include <string.h>

enum { CHUNK_ROWS = TF_STATS_CHUNK_ROWS }; /* rows that are centred, and multiplied, at a time */

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
        for (int k = 0; k < TF_SIDES; k++)
            tf_free(&s->mem, stat->self[k]);
    }
}

void tf_stats_free(tf_stats *s)
{
    if (!s->borrowed)
        drop_items(s, 0);
    tf_free(&s->mem, s->items);
    memset(s, 0, sizeof *s);
}

/* ---- setting up ---------------------------------------------------------------------------------------------------- */

static int64_t units_of(const tf_value *v)
{
    return v->extent[v->rank - 1];
}

static tfuse_status find_value(const tf_lockstep *l, int which, const char *name, tf_id *out)
{
    const tf_graph *g = l->graph[which];
    *out = tf_graph_find_value(g, name);
    if (*out < 0)
        return tf_fail(l->env, TFUSE_ENOTFOUND, "model '%s' has no value '%s' to gather statistics of", l->label[which], name);
    if (g->values[*out].integer || units_of(&g->values[*out]) == 0)
        return tf_fail(l->env, TFUSE_EGRAPH, "value '%s' of model '%s' has no channels of real numbers, so no statistics", name,
                       l->label[which]);
    return TFUSE_OK;
}

/* Appends a request of its own for each value that is added to another: its moments are needed to standardise it. */
static tfuse_status expand(tf_lockstep *l, const tf_stat_request *requests, size_t n)
{
    l->requests = tf_alloc_array(l->env, 2 * n, sizeof *l->requests);
    l->plus = tf_alloc_array(l->env, 2 * n, sizeof *l->plus);
    if (!l->requests || !l->plus)
        return TFUSE_ENOMEM;
    memcpy(l->requests, requests, n * sizeof *requests);
    l->n = n;
    for (size_t i = 0; i < n; i++) {
        l->plus[i] = -1;
        if (!requests[i].plus || !requests[i].abs_dev)
            continue;
        l->plus[i] = (int32_t)l->n;
        l->plus[l->n] = -1;
        l->requests[l->n++] = (tf_stat_request){.value = requests[i].plus, .abs_dev = true, .whole = requests[i].whole};
    }
    return TFUSE_OK;
}

static tfuse_status find_sources(tf_lockstep *l, int which, const tf_token_filter *filter)
{
    tf_env *env = l->env;
    const tf_graph *g = l->graph[which];
    bool *class_only = NULL, *follows = NULL;
    tfuse_status status = tf_value_class_only(env, g, &class_only);
    if (status == TFUSE_OK)
        status = tf_value_follows_tokens(env, g, &follows);
    for (size_t i = 0; status == TFUSE_OK && i < l->n; i++) {
        tf_source *from = &l->source[which][i];
        TF_TRY_OUT(find_value(l, which, l->requests[i].value, &from->value));
        const bool only = class_only[from->value] && !l->requests[i].whole;
        TF_TRY_OUT(tf_token_positions(env, g, from->value, filter, only, &from->positions, &from->kept));
        from->units = units_of(&g->values[from->value]);
        from->follows = follows[from->value];
        from->shift = tf_calloc(env, (size_t)from->units, sizeof *from->shift);
        if (!from->shift)
            status = TFUSE_ENOMEM;
        if (from->units > l->widest)
            l->widest = from->units;
    }
out:
    tf_free(&env->mem, class_only);
    tf_free(&env->mem, follows);
    return status;
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

static tfuse_status make_self(tf_lockstep *l, size_t i)
{
    for (int k = 0; k < TF_SIDES; k++) {
        const int64_t block = l->requests[i].self[k], units = l->source[k][i].units;
        if (block && !(l->out->items[i].self[k] = tf_calloc(l->env, (size_t)(units * block), sizeof(double))))
            return TFUSE_ENOMEM;
    }
    return TFUSE_OK;
}

static tfuse_status make_results(tf_lockstep *l)
{
    l->out->items = tf_calloc(l->env, l->n, sizeof *l->out->items);
    if (!l->out->items)
        return TFUSE_ENOMEM;
    l->out->n = l->n;
    for (size_t i = 0; i < l->n; i++) {
        const tf_stat_request *want = &l->requests[i];
        tf_stat *stat = &l->out->items[i];
        const int64_t a = l->source[TF_ANCHOR][i].units, m = l->source[TF_MODEL][i].units;
        size_t cells;
        TF_TRY(make_moments(l->env, &stat->anchor, a, want->abs_dev));
        TF_TRY(make_moments(l->env, &stat->model, m, want->abs_dev));
        TF_TRY(make_self(l, i));
        if (!want->cross)
            continue;
        if (!tf_mul_size((size_t)a, (size_t)m, &cells))
            return tf_fail(l->env, TFUSE_ENOMEM, "out of memory");
        stat->cross = tf_calloc(l->env, cells, sizeof *stat->cross);
        if (!stat->cross)
            return TFUSE_ENOMEM;
    }
    return TFUSE_OK;
}

tfuse_status tf_lockstep_open(tf_env *env, const tf_graph *const graph[TF_SIDES], const char *const label[TF_SIDES],
                              const tf_token_filter *filter, const tf_stat_request *requests, size_t n, tf_stats *out,
                              tf_lockstep *l)
{
    *l = (tf_lockstep){.env = env, .asked = n, .widest = 1, .first = true, .out = out};
    memset(out, 0, sizeof *out);
    out->mem = env->mem;
    TF_TRY(expand(l, requests, n));
    l->bad = tf_calloc(env, l->n, sizeof *l->bad);
    if (!l->bad)
        return TFUSE_ENOMEM;
    for (int k = 0; k < TF_SIDES; k++) {
        l->graph[k] = graph[k];
        l->label[k] = label[k];
        l->source[k] = tf_calloc(env, l->n, sizeof *l->source[k]);
        if (!l->source[k])
            return TFUSE_ENOMEM;
        TF_TRY(find_sources(l, k, filter));
    }
    return make_results(l);
}

void tf_lockstep_close(tf_lockstep *l)
{
    if (!l->env)
        return;
    const tf_mem *mem = &l->env->mem;
    for (int k = 0; k < TF_SIDES; k++) {
        for (size_t i = 0; l->source[k] && i < l->n; i++) {
            tf_free(mem, l->source[k][i].positions);
            tf_free(mem, l->source[k][i].shift);
        }
        tf_free(mem, l->source[k]);
    }
    tf_free(mem, l->requests);
    tf_free(mem, l->plus);
    tf_free(mem, l->bad);
    memset(l, 0, sizeof *l);
}

/* ---- accumulating ---------------------------------------------------------------------------------------------------- */

/* A running body's scratch memory. */
typedef struct lane {
    tf_env *env;
    float *chunk[TF_SIDES], *panel;
} lane;

static lane lane_of(const tf_lockstep *l, uint32_t number)
{
    float *at = l->scratch + number * tf_stats_scratch(l->widest);
    const int64_t size = CHUNK_ROWS * l->widest;
    return (lane){l->env, {at, at + size}, at + 2 * size};
}

static int64_t kept_of(const tf_source *s)
{
    return s->positions ? s->kept : s->tokens;
}

/* Whether the value has all tokens of the inputs, in both models: of some, such as the class token, none is padding. */
static bool has_all_tokens(const tf_lockstep *l, size_t i)
{
    bool all = true;
    for (int k = 0; k < TF_SIDES; k++)
        all = all && l->source[k][i].follows && l->source[k][i].tokens == l->seen_tokens && kept_of(&l->source[k][i]) == l->seen_tokens;
    return all;
}

static tf_rows rows_of(const tf_lockstep *l, int which, size_t i)
{
    const tf_source *s = &l->source[which][i];
    const bool listed = l->seen && has_all_tokens(l, i);
    return (tf_rows){s->batch, l->count, s->tokens, s->units, s->positions, kept_of(s), listed ? l->seen : NULL, listed ? l->n_seen : 0};
}

static tf_moments *moments_of(tf_lockstep *l, int which, size_t i)
{
    return which == TF_ANCHOR ? &l->out->items[i].anchor : &l->out->items[i].model;
}

/* Adds x'y to `sum`. x, y: rows × units, or part of them. */
static void add_products(const lane *s, tf_mat x, tf_mat y, double *sum)
{
    tf_gemm_sum(s->env, tf_mat_t(x), y, TF_STATS_PANEL, s->panel, (tf_dmat){sum, x.cols, y.cols, y.cols, 1});
}

/* Adds each block's products of centred rows. */
static void add_self(const lane *s, double *self, int64_t block, tf_mat rows)
{
    for (int64_t at = 0; at < rows.cols; at += block) {
        const tf_mat own = {rows.data + at, rows.rows, block, rows.rs, 1};
        add_products(s, own, own, self + at * block);
    }
}

/* Adds rows of both sides; 0, or 1 + the side that is not finite. */
static signed char add_rows(tf_lockstep *l, size_t i, const tf_rows rows[TF_SIDES], int64_t first, int64_t count, const lane *s)
{
    const tf_stat *stat = &l->out->items[i];
    for (int k = 0; k < TF_SIDES; k++)
        if (!tf_moments_add(moments_of(l, k, i), l->source[k][i].shift, &rows[k], first, count, s->chunk[k]))
            return (signed char)(1 + k);
    tf_mat centred[TF_SIDES];
    for (int k = 0; k < TF_SIDES; k++) {
        centred[k] = tf_mat_rows(s->chunk[k], count, rows[k].units);
        if (stat->self[k])
            add_self(s, stat->self[k], l->requests[i].self[k], centred[k]);
    }
    if (stat->cross)
        add_products(s, centred[TF_MODEL], centred[TF_ANCHOR], stat->cross);
    return 0;
}

static void accumulate(void *arg, uint32_t i, uint32_t number)
{
    tf_lockstep *l = arg;
    const tf_rows rows[TF_SIDES] = {rows_of(l, TF_ANCHOR, i), rows_of(l, TF_MODEL, i)};
    const int64_t total = tf_rows_count(&rows[TF_ANCHOR]);
    const lane s = lane_of(l, number);
    if (l->first)
        for (int k = 0; k < TF_SIDES; k++)
            tf_rows_mean(&rows[k], l->source[k][i].shift);
    const int64_t chunks = (total + CHUNK_ROWS - 1) / CHUNK_ROWS;
    for (int64_t c = 0, at = 0, next; c < chunks && !l->bad[i] && !tf_cancelled(l->env); c++, at = next) {
        next = total * (c + 1) / chunks; /* all alike: a few rows are slow to multiply */
        l->bad[i] = add_rows(l, i, rows, at, next - at, &s);
    }
}

static void accumulate_dev(void *arg, uint32_t i, uint32_t number)
{
    tf_lockstep *l = arg;
    double *scratch = (double *)(void *)(l->scratch + number * tf_stats_scratch(l->widest)); /* far more than two rows */
    for (int k = 0; k < TF_SIDES && l->requests[i].abs_dev; k++) {
        const tf_rows x = rows_of(l, k, i);
        if (l->plus[i] < 0) {
            tf_moments_add_dev(moments_of(l, k, i), &x);
            continue;
        }
        const size_t other = (size_t)l->plus[i];
        const tf_rows y = rows_of(l, k, other);
        tf_moments_add_sum_dev(moments_of(l, k, i), &x, moments_of(l, k, other), &y, scratch);
    }
}

static tfuse_status check_finite(const tf_lockstep *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->bad[i])
            return tf_fail(l->env, TFUSE_ENUMERIC, "value '%s' of model '%s' becomes NaN or infinite",
                           l->requests[i].value, l->label[l->bad[i] - 1]);
    return TFUSE_OK;
}

static tfuse_status check_pair(const tf_lockstep *l, size_t i)
{
    const tf_source *a = &l->source[TF_ANCHOR][i], *m = &l->source[TF_MODEL][i];
    for (int k = 0; k < TF_SIDES && l->plus[i] >= 0; k++) {
        const tf_source *x = &l->source[k][i], *y = &l->source[k][l->plus[i]];
        if (kept_of(x) != kept_of(y) || x->units != y->units)
            return tf_fail(l->env, TFUSE_ESHAPE, "values '%s' and '%s' of model '%s' differ in shape: they cannot be added",
                           l->requests[i].value, l->requests[i].plus, l->label[k]);
    }
    if (kept_of(a) == kept_of(m))
        return TFUSE_OK;
    return tf_fail(l->env, TFUSE_ESHAPE, "value '%s' has %lld tokens in model '%s' but %lld in '%s': they cannot be compared",
                   l->requests[i].value, (long long)kept_of(a), l->label[TF_ANCHOR], (long long)kept_of(m),
                   l->label[TF_MODEL]);
}

/* One batch, by a body that runs once a request. */
static tfuse_status add(tf_lockstep *l, int64_t count, bool dev)
{
    tf_env *env = l->env;
    l->count = count;
    for (size_t i = 0; i < l->n; i++)
        if (!dev || l->requests[i].abs_dev)
            TF_TRY(check_pair(l, i));
    l->scratch = tf_alloc_array(env, (size_t)tf_stats_scratch(l->widest) * tf_threads(env), sizeof *l->scratch);
    if (!l->scratch)
        return TFUSE_ENOMEM;
    tf_parallel_lanes(env, (uint32_t)l->n, dev ? accumulate_dev : accumulate, l);
    tf_free(&env->mem, l->scratch);
    l->scratch = NULL;
    l->first = false;
    return check_finite(l);
}

tfuse_status tf_lockstep_add(tf_lockstep *l, int64_t count)
{
    return add(l, count, false);
}

tfuse_status tf_lockstep_add_dev(tf_lockstep *l, int64_t count)
{
    return add(l, count, true);
}

bool tf_lockstep_wants_dev(const tf_lockstep *l)
{
    bool dev = false;
    for (size_t i = 0; i < l->n; i++)
        dev |= l->requests[i].abs_dev;
    return dev;
}

void tf_lockstep_finish(tf_lockstep *l)
{
    for (size_t i = 0; i < l->n; i++) {
        tf_stat *stat = &l->out->items[i];
        if (stat->cross)
            tf_cross_finish(stat->cross, &stat->model, &stat->anchor);
        for (int k = 0; k < TF_SIDES; k++)
            if (stat->self[k])
                tf_self_finish(stat->self[k], l->requests[i].self[k], moments_of(l, k, i));
        tf_moments_finish(&stat->anchor, l->source[TF_ANCHOR][i].shift);
        tf_moments_finish(&stat->model, l->source[TF_MODEL][i].shift);
    }
}

void tf_lockstep_finish_dev(tf_lockstep *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (!l->requests[i].abs_dev)
            continue;
        tf_moments_finish_dev(&l->out->items[i].anchor);
        tf_moments_finish_dev(&l->out->items[i].model);
    }
    drop_items(l->out, l->asked);
}
