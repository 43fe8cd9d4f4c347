/* SPDX-License-Identifier: Apache-2.0
 *
 * feed.c: statistics of values that a host computed, in lock-step over all models.
 *
 * A slot holds the batch of one value of one model; the pairs of the anchor with each model read the slots, so that the anchor's values are fed
 * once however many models there are. The stages go one way: first sweep, second sweep (only where deviations from the means are wanted),
 * sealed; a failure inside a sum ends it for good, since part of the batch is in.
 */
#include "num/num.h"
#include "run/lockstep.h"
#include <string.h>

typedef enum stage { FIRST, SECOND, SEALED, BROKEN } stage;

/* The anchor and model k. */
typedef struct pair {
    tf_lockstep lock;
    tf_stats stats;
    tf_stat_request *requests;
    tf_token_filter filter;
} pair;

struct tf_feed {
    tf_env *env; /* of the context that made it */
    tf_graph *const *graphs;
    const tfuse_model *const *models;
    size_t n_models;
    pair *pairs; /* n_models; the first is not used */
    tf_feed_slot *slots;
    size_t n_slots;
    stage stage;
    int64_t samples[2]; /* of each sweep */
};

/* ---- making ------------------------------------------------------------------------------------------------- */

static tf_feed_slot *find_slot(const tf_feed *f, size_t model, tf_id value)
{
    for (size_t i = 0; i < f->n_slots; i++)
        if (f->slots[i].model == model && f->slots[i].value == value)
            return &f->slots[i];
    return NULL;
}

static void add_slot(tf_feed *f, size_t model, const tf_source *s)
{
    if (find_slot(f, model, s->value))
        return;
    const tf_value *v = &f->graphs[model]->values[s->value];
    int64_t tokens = 1;
    for (int d = 0; d < v->rank - 1; d++)
        tokens = v->extent[d] > 0 ? tokens * v->extent[d] : 0;
    f->slots[f->n_slots++] = (tf_feed_slot){.model = model, .value = s->value, .tokens = tokens, .units = s->units};
}

/* The anchor's values before any model's, as a reader expects them. */
static tfuse_status make_slots(tf_feed *f)
{
    size_t cap = 0;
    for (size_t k = 1; k < f->n_models; k++)
        cap += TF_SIDES * f->pairs[k].lock.n;
    f->slots = tf_alloc_array(f->env, cap ? cap : 1, sizeof *f->slots);
    if (!f->slots)
        return TFUSE_ENOMEM;
    for (int side = 0; side < TF_SIDES; side++)
        for (size_t k = 1; k < f->n_models; k++)
            for (size_t i = 0; i < f->pairs[k].lock.n; i++)
                add_slot(f, side == TF_ANCHOR ? 0 : k, &f->pairs[k].lock.source[side][i]);
    return TFUSE_OK;
}

static tfuse_status open_pair(tf_feed *f, size_t k, const tf_stat_wants *wants)
{
    pair *p = &f->pairs[k];
    p->filter = wants->filter;
    if (!wants->n)
        return TFUSE_OK;
    p->requests = tf_alloc_array(f->env, wants->n, sizeof *p->requests);
    if (!p->requests)
        return TFUSE_ENOMEM;
    memcpy(p->requests, wants->items, wants->n * sizeof *p->requests);
    return tf_lockstep_open(f->env, (const tf_graph *[]){f->graphs[0], f->graphs[k]},
                            (const char *[]){tf_model_label(f->models[0]), tf_model_label(f->models[k])}, &p->filter, p->requests,
                            wants->n, &p->stats, &p->lock);
}

tfuse_status tf_feed_new(tf_env *env, tf_graph *const *graphs, const tfuse_model *const *models, size_t n_models,
                         const tf_stat_wants *wants, tf_feed **out)
{
    *out = NULL;
    tf_feed *f = tf_calloc(env, 1, sizeof *f);
    if (!f)
        return TFUSE_ENOMEM;
    *f = (tf_feed){.env = env, .graphs = graphs, .models = models, .n_models = n_models};
    f->pairs = tf_calloc(env, n_models, sizeof *f->pairs);
    tfuse_status status = f->pairs ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 1; k < n_models && status == TFUSE_OK; k++)
        status = open_pair(f, k, &wants[k]);
    if (status == TFUSE_OK)
        status = make_slots(f);
    if (status == TFUSE_OK)
        *out = f;
    else
        tf_feed_free(f);
    return status;
}

void tf_feed_free(tf_feed *f)
{
    if (!f)
        return;
    const tf_mem *mem = &f->env->mem;
    for (size_t k = 1; f->pairs && k < f->n_models; k++) {
        tf_lockstep_close(&f->pairs[k].lock);
        tf_stats_free(&f->pairs[k].stats);
        tf_free(mem, f->pairs[k].requests);
    }
    for (size_t i = 0; i < f->n_slots; i++)
        tf_free(mem, f->slots[i].data);
    tf_free(mem, f->slots);
    tf_free(mem, f->pairs);
    tf_free(mem, f);
}

size_t tf_feed_count(const tf_feed *f)
{
    return f->n_slots;
}

const tf_feed_slot *tf_feed_at(const tf_feed *f, size_t index)
{
    return &f->slots[index];
}

const char *tf_feed_name(const tf_feed *f, size_t index)
{
    return f->graphs[f->slots[index].model]->values[f->slots[index].value].name;
}

/* ---- feeding ------------------------------------------------------------------------------------------------- */

static tfuse_status check_open(tf_env *env, const tf_feed *f)
{
    if (f->stage == BROKEN)
        return tf_fail(env, TFUSE_ESTATE, "these statistics ended with an error; begin anew");
    if (f->stage == SEALED)
        return tf_fail(env, TFUSE_ESTATE, "these statistics have been used to align and take no more values; begin anew");
    return TFUSE_OK;
}

/* tokens and samples of a batch that has the value's form. */
static tfuse_status check_batch(tf_env *env, const tf_feed *f, const tf_feed_slot *s, const char *value, const tfuse_array *batch,
                                int64_t *tokens)
{
    char shown[128];
    const char *label = tf_model_label(f->models[s->model]);
    const int64_t samples = batch->rank ? batch->shape[0] : 0;
    if (batch->dtype != TFUSE_F32 && batch->dtype != TFUSE_F64 && batch->dtype != TFUSE_F16 && batch->dtype != TFUSE_BF16)
        return tf_fail(env, TFUSE_EDTYPE, "value '%s' of model '%s' is fed %s; give F32, F16, BF16 or F64", value, label,
                       tf_dtype_name(batch->dtype));
    if (samples < 1 || batch->rank < 2)
        return tf_fail(env, TFUSE_ESHAPE, "value '%s' of model '%s' is fed %s: give samples × tokens × units", value, label,
                       tf_shape_text(shown, sizeof shown, batch->rank, batch->shape));
    const int64_t each = (int64_t)batch->count / samples;
    *tokens = each / s->units;
    if (each == 0 || each % s->units || (s->tokens && *tokens != s->tokens))
        return tf_fail(env, TFUSE_ESHAPE, "value '%s' of model '%s' is fed %s: a sample has %lld numbers where %lld tokens of %lld units are wanted",
                       value, label, tf_shape_text(shown, sizeof shown, batch->rank, batch->shape), (long long)each,
                       (long long)(s->tokens ? s->tokens : *tokens), (long long)s->units);
    return TFUSE_OK;
}

tfuse_status tf_feed_value(tf_env *env, tf_feed *f, size_t model, const char *value, const tfuse_array *batch)
{
    char shown[128];
    TF_TRY(check_open(env, f));
    if (model >= f->n_models)
        return tf_fail(env, TFUSE_ERANGE, "there are %zu models, so there is none of index %zu", f->n_models, model);
    tf_feed_slot *s = find_slot(f, model, tf_graph_find_value(f->graphs[model], value));
    if (!s)
        return tf_fail(env, TFUSE_ENOTFOUND, "value '%s' of model '%s' is not among those that this alignment looks at",
                       tf_printable(shown, sizeof shown, value), tf_model_label(f->models[model]));
    if (s->data)
        return tf_fail(env, TFUSE_ESTATE, "value '%s' of model '%s' was fed already; step before the next batch", value,
                       tf_model_label(f->models[model]));
    int64_t tokens;
    TF_TRY(check_batch(env, f, s, value, batch, &tokens));
    s->data = tf_alloc_array(env, batch->count, sizeof *s->data);
    if (!s->data)
        return TFUSE_ENOMEM;
    tf_to_f32(batch->dtype, batch->data, s->data, batch->count);
    s->samples = batch->shape[0];
    s->fed_tokens = tokens;
    return TFUSE_OK;
}

/* ---- stepping --------------------------------------------------------------------------------------------------- */

static tfuse_status check_complete(tf_env *env, const tf_feed *f)
{
    for (size_t i = 0; i < f->n_slots; i++) {
        const tf_feed_slot *s = &f->slots[i];
        const char *label = tf_model_label(f->models[s->model]);
        if (!s->data)
            return tf_fail(env, TFUSE_ESTATE, "value '%s' of model '%s' has not been fed in this step", tf_feed_name(f, i), label);
        if (s->samples != f->slots[0].samples)
            return tf_fail(env, TFUSE_ESHAPE, "value '%s' of model '%s' has %lld samples, but '%s' of '%s' has %lld", tf_feed_name(f, i), label,
                           (long long)s->samples, tf_feed_name(f, 0), tf_model_label(f->models[f->slots[0].model]),
                           (long long)f->slots[0].samples);
    }
    return TFUSE_OK;
}

static void point_sources(tf_feed *f, size_t k)
{
    tf_lockstep *l = &f->pairs[k].lock;
    for (int side = 0; side < TF_SIDES; side++)
        for (size_t i = 0; i < l->n; i++) {
            tf_source *s = &l->source[side][i];
            const tf_feed_slot *slot = find_slot(f, side == TF_ANCHOR ? 0 : k, s->value);
            s->batch = slot->data;
            s->tokens = slot->fed_tokens;
        }
}

static tfuse_status add_batch(tf_env *env, tf_feed *f, int64_t samples)
{
    for (size_t k = 1; k < f->n_models; k++) {
        if (!f->pairs[k].requests)
            continue;
        point_sources(f, k);
        tf_lockstep *l = &f->pairs[k].lock;
        TF_TRY(f->stage == FIRST ? tf_lockstep_add(l, samples) : tf_lockstep_add_dev(l, samples));
    }
    return tf_check_cancel(env);
}

tfuse_status tf_feed_step(tf_env *env, tf_feed *f)
{
    TF_TRY(check_open(env, f));
    TF_TRY(check_complete(env, f));
    const int64_t samples = f->n_slots ? f->slots[0].samples : 0;
    tfuse_status status = add_batch(env, f, samples);
    for (size_t i = 0; i < f->n_slots; i++) {
        tf_free(&env->mem, f->slots[i].data);
        f->slots[i].data = NULL;
    }
    if (status != TFUSE_OK)
        f->stage = BROKEN;
    else
        f->samples[f->stage] += samples;
    return status;
}

bool tf_feed_two_sweeps(const tf_feed *f)
{
    bool two = false;
    for (size_t k = 1; k < f->n_models; k++)
        two |= f->pairs[k].requests && tf_lockstep_wants_dev(&f->pairs[k].lock);
    return two;
}

/* Ends the sweep that is under way. */
static void finish(tf_feed *f)
{
    for (size_t k = 1; k < f->n_models; k++) {
        tf_lockstep *l = &f->pairs[k].lock;
        if (!f->pairs[k].requests)
            continue;
        if (f->stage == FIRST)
            tf_lockstep_finish(l);
        else if (tf_lockstep_wants_dev(l))
            tf_lockstep_finish_dev(l);
    }
}

static tfuse_status check_between(tf_env *env, const tf_feed *f)
{
    for (size_t i = 0; i < f->n_slots; i++)
        if (f->slots[i].data)
            return tf_fail(env, TFUSE_ESTATE, "value '%s' of model '%s' was fed after the last step; step first", tf_feed_name(f, i),
                           tf_model_label(f->models[f->slots[i].model]));
    if (f->n_slots && !f->samples[f->stage])
        return tf_fail(env, TFUSE_ESTATE, "no values have been fed");
    return TFUSE_OK;
}

tfuse_status tf_feed_rewind(tf_env *env, tf_feed *f)
{
    TF_TRY(check_open(env, f));
    TF_TRY(check_between(env, f));
    if (f->stage == SECOND || !tf_feed_two_sweeps(f))
        return tf_fail(env, TFUSE_ESTATE, "there is no further sweep over the samples");
    finish(f);
    f->stage = SECOND;
    return TFUSE_OK;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static tfuse_status seal(tf_env *env, tf_feed *f)
{
    if (f->stage == SEALED)
        return TFUSE_OK;
    TF_TRY(check_open(env, f));
    TF_TRY(check_between(env, f));
    if (f->stage == FIRST && tf_feed_two_sweeps(f))
        return tf_fail(env, TFUSE_ESTATE, "deviations from the means are wanted: rewind, and feed the same samples again");
    if (f->stage == SECOND && f->samples[FIRST] != f->samples[SECOND])
        return tf_fail(env, TFUSE_ESTATE, "the second sweep fed %lld samples, the first one %lld", (long long)f->samples[SECOND],
                       (long long)f->samples[FIRST]);
    finish(f);
    f->stage = SEALED;
    return TFUSE_OK;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool has_self(const tf_stat_request *have, const tf_stat_request *want)
{
    bool has = true;
    for (int k = 0; k < TF_SIDES; k++)
        has = has && (!want->self[k] || have->self[k] == want->self[k]);
    return has;
}

/* A request that holds at least what is asked for. */
static const tf_stat *find_stat(const pair *p, const tf_stat_request *want)
{
    for (size_t i = 0; p->requests && i < p->lock.asked; i++) {
        const tf_stat_request *have = &p->requests[i];
        if (!strcmp(have->value, want->value) && same_text(have->plus, want->plus) && have->whole == want->whole &&
            have->cross >= want->cross && have->abs_dev >= want->abs_dev && has_self(have, want))
            return &p->stats.items[i];
    }
    return NULL;
}

tfuse_status tf_feed_stats(tf_env *env, tf_feed *f, size_t k, const tf_stat_wants *wants, tf_stats *out)
{
    const pair *p = &f->pairs[k];
    memset(out, 0, sizeof *out);
    TF_TRY(seal(env, f));
    if (wants->filter.kind != p->filter.kind || wants->filter.window != p->filter.window)
        return tf_fail(env, TFUSE_ESTATE, "the statistics were gathered from other tokens; begin anew with this policy");
    *out = (tf_stats){.mem = env->mem, .borrowed = true};
    out->items = tf_calloc(env, wants->n ? wants->n : 1, sizeof *out->items);
    if (!out->items)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < wants->n; i++) {
        const tf_stat *s = find_stat(p, &wants->items[i]);
        if (!s) {
            tf_stats_free(out);
            return tf_fail(env, TFUSE_ESTATE, "the statistics lack what this policy wants of value '%s'; begin anew with it",
                           wants->items[i].value);
        }
        out->items[out->n++] = *s;
    }
    return TFUSE_OK;
}
