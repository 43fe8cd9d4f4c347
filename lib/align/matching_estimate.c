/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_estimate.c: what matching would take, from headers alone, array by array of the other files; the plan's maps are hollow. Groups depend
 * on weights, which are not looked at: the largest that the policy and the operations leave are assumed.
 */
#include "align/matching.h"
#include "graph/naming.h"
#include "ops/common.h"

enum { MOST_TERMS = 16 };

static uint64_t floats(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(float));
}

static uint64_t doubles(int64_t a, int64_t b)
{
    return tf_area(a, b, sizeof(double));
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Rotations, not assignments: by the largest groups that there may be. */
static bool is_dense(const matching *mt, tf_id cls)
{
    return mt->classes[cls].shape != MT_FIXED && mt->classes[cls].shape < MT_UNITS;
}

/* ---- maps ------------------------------------------------------------------------------------------------------ */

/* R of all instances. */
static uint64_t found_bytes(const matching *mt, tf_id cls)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls);
    const bool sides = mt_is_soft(mt, cls) || (is_dense(mt, cls) && n != m);
    const uint64_t one = sides ? 2 * floats(n, m) : is_dense(mt, cls) ? floats(n, m) : tf_area(m, 1, sizeof(int64_t) + sizeof(float));
    return (uint64_t)tf_class_instances(mt->g, cls) * one;
}

/* G of one side. */
static uint64_t balance_bytes(const matching *mt, int side, tf_id cls)
{
    const int64_t n = mt_extent(mt, side, cls);
    if (mt->classes[cls].shape == MT_FIXED || mt->classes[cls].outer || !mt_is_balanced(&mt->classes[cls]))
        return 0;
    const uint64_t one = mt->classes[cls].shape == MT_ROTATION ? 2 * floats(n, n) : tf_area(n, 1, sizeof(int64_t) + sizeof(float));
    return (uint64_t)tf_class_instances(mt->side[side].g, cls) * one;
}

/* G R G^-1, which has the inverse beside it where that is not the transpose. */
static uint64_t planned_bytes(const matching *mt, tf_id cls)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls);
    const bool square = is_dense(mt, cls) && (n != m || balance_bytes(mt, MT_ANCHOR, cls));
    return square || mt_is_merged(mt, cls) ? (uint64_t)tf_class_instances(mt->g, cls) * 2 * floats(n, m) : found_bytes(mt, cls);
}

static tfuse_status hollow(matching *mt, tf_id cls, tf_class_map *out)
{
    const int64_t instances = tf_class_instances(mt->g, cls);
    if (!(out->maps = tf_calloc(mt->env, (size_t)instances, sizeof *out->maps)))
        return TFUSE_ENOMEM;
    out->instances = instances;
    for (int64_t i = 0; i < instances; i++)
        TF_TRY(mt_first_map(mt, cls, &out->maps[i]));
    return TFUSE_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static bool is_alias(const tf_param *p)
{
    return p->source && p->source->kind == TF_SOURCE_ALIAS;
}

static uint64_t tensor_bytes(const matching *mt, int side, tf_id param)
{
    return floats(tf_param_count(mt_param(mt, side, param)), 1);
}

/* The model's tensor, moved along the dimensions that are streams'. */
static uint64_t streamed_bytes(const matching *mt, tf_id param)
{
    const tf_param *to = &mt->g->params[param], *from = mt_param(mt, MT_MODEL, param);
    int64_t count = 1;
    for (int d = 0; d < to->rank; d++)
        count *= mt_is_stream_dim(mt, to->dims[d]) ? to->shape[d] : from->shape[d];
    return floats(count, 1);
}

/* Whether another class than a stream is matched in the tensor, which is when it is kept moved by those. With peers, all are. */
static tfuse_status is_streamed(matching *mt, tf_id param, bool *out)
{
    const tf_param *p = &mt->g->params[param];
    *out = mt->job->n > 2;
    for (int d = 0; d < p->rank && !*out; d++) {
        tf_part *parts;
        int count;
        TF_TRY(tf_binding_parts(mt->env, mt->g, p->dims[d], &parts, &count));
        for (int q = 0; q < count; q++)
            for (int f = 0; f < parts[q].n_factors; f++) {
                const tf_id cls = tf_class_of(mt->g, parts[q].port[f]);
                *out = *out || (cls >= 0 && mt->classes[cls].shape != MT_FIXED && !mt->classes[cls].stream);
            }
        tf_free(&mt->env->mem, parts);
    }
    return TFUSE_OK;
}

typedef struct sizes {
    uint64_t held[3]; /* balanced tensors of the anchor and of the model, and streamed ones, as far as they are kept */
    bool all[2];      /* every tensor of the side is kept */
} sizes;

static tfuse_status measure(matching *mt, sizes *out)
{
    const uint64_t most = mt_held_bytes(mt);
    *out = (sizes){0};
    for (size_t p = 0; p < mt->g->n_params; p++) {
        bool streamed;
        if (is_alias(&mt->g->params[p]) || mt_is_table(mt, (tf_id)p))
            continue;
        TF_TRY(is_streamed(mt, (tf_id)p, &streamed));
        for (int s = 0; s < 2; s++)
            out->held[s] += tensor_bytes(mt, s, (tf_id)p);
        out->held[2] += streamed ? streamed_bytes(mt, (tf_id)p) : 0;
    }
    for (int s = 0; s < 3; s++) {
        if (s < 2)
            out->all[s] = out->held[s] <= most;
        out->held[s] = out->held[s] < most ? out->held[s] : most;
    }
    return TFUSE_OK;
}

/* ---- evidence from weights: a place at a time --------------------------------------------------------------------- */

/* A part of a tensor with a class innermost. */
typedef struct place {
    tf_id param;
    int dim;
    tf_part part[2]; /* of the anchor, of the model */
} place;

typedef tfuse_status (*place_fn)(matching *mt, const place *at, void *arg);

static tfuse_status each_place(matching *mt, tf_id cls, place_fn fn, void *arg)
{
    tfuse_status status = TFUSE_OK;
    for (size_t i = 0; i < mt->g->n_params && status == TFUSE_OK; i++)
        for (int d = 0; d < mt->g->params[i].rank && !is_alias(&mt->g->params[i]) && status == TFUSE_OK; d++) {
            tf_part *parts[2] = {NULL, NULL};
            int count[2] = {0, 0};
            for (int s = 0; s < 2 && status == TFUSE_OK; s++)
                status = tf_binding_parts(mt->env, mt->side[s].g, mt_param(mt, s, (tf_id)i)->dims[d], &parts[s], &count[s]);
            for (int q = 0; q < count[0] && q < count[1] && status == TFUSE_OK; q++) {
                const tf_part *p = &parts[0][q];
                if (p->n_factors > 0 && tf_class_of(mt->g, p->port[p->n_factors - 1]) == cls)
                    status = fn(mt, &(place){(tf_id)i, d, {*p, parts[1][q]}}, arg);
            }
            tf_free(&mt->env->mem, parts[0]);
            tf_free(&mt->env->mem, parts[1]);
        }
    return status;
}

/* Moving the model's tensor and taking the anchor's, with `rows` bytes beside them: the tensor and what it becomes, or it and the rows. */
static uint64_t taking(const matching *mt, const sizes *z, tf_id param, uint64_t rows)
{
    const uint64_t own = tensor_bytes(mt, MT_MODEL, param), other = tensor_bytes(mt, MT_ANCHOR, param);
    const uint64_t moved = larger(larger(own, other), streamed_bytes(mt, param));
    const uint64_t move = 2 * moved + (z->all[MT_MODEL] ? 0 : own), take = moved + (z->all[MT_ANCHOR] ? rows : larger(2 * other, other + rows));
    return larger(move, take);
}

/* Rows of both sides: of a block with n and m units, or of all of them with both 0. */
static uint64_t rows_bytes(const matching *mt, const place *at, int64_t n, int64_t m)
{
    const tf_param *p = &mt->g->params[at->param];
    const int64_t width = tf_param_count(p) / p->shape[at->dim];
    return floats((n ? n : at->part[MT_MODEL].size) + (m ? m : at->part[MT_ANCHOR].size), width);
}

typedef struct evidence {
    const sizes *z;
    int64_t n, m;       /* units of the class */
    uint64_t rows;      /* of all places together */
    uint64_t work;      /* the most that one takes, its rows in the order of units among it */
    uint64_t balance;   /* the same while one side is balanced */
} evidence;

static tfuse_status add_evidence(matching *mt, const place *at, void *arg)
{
    evidence *e = arg;
    if (mt_is_table(mt, at->param)) {
        e->work = larger(e->work, floats(MT_TABLE_ROWS, e->m + e->n) + tf_area(e->n, e->m, sizeof(float) + sizeof(double)));
        return TFUSE_OK;
    }
    e->rows += rows_bytes(mt, at, 0, 0);
    e->work = larger(e->work, taking(mt, e->z, at->param, rows_bytes(mt, at, e->n, e->m)));
    for (int s = 0; s < 2; s++)
        e->balance = larger(e->balance, 2 * tensor_bytes(mt, s, at->param));
    return TFUSE_OK;
}

/* Inner products of all pairs of blocks, a table for every kind of what stands in them (matching_heads.c). */
typedef struct terms {
    const sizes *z;
    tf_id cls;
    struct {
        tf_id cls;
        int64_t blocks;
        bool back; /* consumed, or dual */
    } known[MOST_TERMS];
    int n;
    uint64_t bytes, work;
} terms;

static tfuse_status add_term(matching *mt, const place *at, void *arg)
{
    terms *t = arg;
    const tf_part *part = &at->part[MT_ANCHOR];
    const tf_use use = tf_param_use(mt->g, at->param, at->dim, part->port[part->n_factors - 1]);
    const bool back = use == TF_USE_CONSUMED || use == TF_USE_DUAL;
    const int64_t blocks = part->size / part->extent[part->n_factors - 1];
    const uint64_t full = floats(part->size, at->part[MT_MODEL].size);
    bool found = part->n_factors < 2 || mt_is_table(mt, at->param);
    if (!found)
        t->work = larger(t->work, rows_bytes(mt, at, 0, 0) + full + taking(mt, t->z, at->param, 0));
    for (int i = 0; i < t->n; i++)
        found = found || (t->known[i].cls == t->cls && t->known[i].blocks == blocks && t->known[i].back == back);
    if (found || t->n == MOST_TERMS)
        return TFUSE_OK;
    t->known[t->n].cls = t->cls;
    t->known[t->n].blocks = blocks;
    t->known[t->n++].back = back;
    t->bytes += (mt->use_weights ? full : 0) + (mt->use_activations ? full : 0);
    return TFUSE_OK;
}

/* Blocks are matched by what is inside of them, before that is. */
static tfuse_status tally_outer(matching *mt, tf_id cls, const sizes *z, tf_tally *tally)
{
    terms t = {.z = z};
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        bool inside = false;
        for (tf_id up = tf_class_parent(mt->g, (tf_id)c); up >= 0; up = tf_class_parent(mt->g, up))
            inside = inside || up == cls;
        t.cls = (tf_id)c;
        if (inside && !mt->classes[c].outer && mt->classes[c].shape < MT_UNITS)
            TF_TRY(each_place(mt, (tf_id)c, add_term, &t));
    }
    tf_tally_spike(tally, t.bytes + t.work);
    return TFUSE_OK;
}

/* ---- a class ------------------------------------------------------------------------------------------------------ */

/* What finding a map takes beside the Gram: the factors and the workspace of a decomposition, or costs and the solver. */
static uint64_t solve_bytes(const matching *mt, tf_id cls)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls), k = n < m ? n : m;
    if (mt->classes[cls].shape == MT_PAIRS)
        return 4 * floats(n, n);
    if (is_dense(mt, cls))
        return 3 * doubles(n, m) + doubles(n + m, k) + 3 * doubles(k, k) + floats(n, m);
    const int64_t size = n < m ? n * ((m + n - 1) / n) : n;
    const tf_ot_bytes ot = tf_ot_bytes_of(tf_policy_text(mt->job->policy, "solver.name"), size, size);
    const tf_ot_bytes soft = mt_is_soft(mt, cls) ? tf_ot_bytes_of("sinkhorn", n, n) : (tf_ot_bytes){0, 0};
    return floats(n, m) + larger(floats(size, size) + ot.work + ot.kept, mt_is_soft(mt, cls) ? 6 * floats(n, n) + soft.work + soft.kept : 0);
}

/* Grams of both sides of what one model's balance is made of, and the roots of them. */
static uint64_t balance_work(const matching *mt, int side, tf_id cls)
{
    const int64_t n = mt_extent(mt, side, cls);
    if (!balance_bytes(mt, side, cls))
        return 0;
    if (mt->classes[cls].shape != MT_ROTATION)
        return doubles(4, n);
    return 2 * (uint64_t)tf_class_instances(mt->side[side].g, cls) * doubles(n, n) + 12 * doubles(n, n);
}

static tfuse_status tally_class(matching *mt, tf_id cls, const sizes *z, tf_tally *t)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls), instances = tf_class_instances(mt->g, cls);
    const uint64_t signs = mt->classes[cls].shape == MT_SIGNED_UNITS ? 2 : 1, one = signs * floats(n, m);
    const bool apart = !is_dense(mt, cls) && instances > 1;
    evidence e = {.z = z, .n = n, .m = m};
    if (mt->classes[cls].outer)
        return tally_outer(mt, cls, z, t);
    TF_TRY(each_place(mt, cls, add_evidence, &e));
    if (apart) {
        tf_tally_spike(t, e.rows + larger(e.work, one + solve_bytes(mt, cls)));
    } else {
        const uint64_t gram = (uint64_t)instances * one, kept = mt->classes[cls].stream && mt->use_weights ? gram : 0;
        tf_tally_spike(t, gram + larger(e.work, kept + solve_bytes(mt, cls)));
    }
    if (mt_is_merged(mt, cls))
        tf_tally_spike(t, (uint64_t)instances * 2 * floats(n - m, m) + larger(e.work, e.balance));
    if (tf_class_parent(mt->g, cls) >= 0 && !is_dense(mt, cls)) /* blocks of it are compared before it is matched */
        tf_tally_spike(t, e.rows + larger(e.work, floats(n, m)));
    return TFUSE_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

/* Beside what is held of balances: balanced tensors are given back before values are gathered. */
static tfuse_status tally_values(matching *mt, const tf_stat_wants *wants, uint64_t *out)
{
    tf_tally *t = &mt->job->tally->memory;
    uint64_t values = 0, most = 0;
    tf_token_filter filter = wants->filter;
    if (mt->job->calib)
        TF_TRY(mt_values_filter(mt, mt->side[MT_ANCHOR].view, wants, &filter));
    for (size_t first = 0, n; first < wants->n; first += n) {
        uint64_t work = 0, kept = 0, lot = 0;
        n = mt_values_lot(mt, mt->g, wants, first);
        for (size_t i = first; i < first + n; i++) {
            const tf_graph *of = mt->side[MT_MODEL].g;
            const int64_t rows = tf_value_channels(of, tf_graph_find_value(of, wants->items[i].value))->extent;
            lot += floats(rows, tf_value_channels(mt->g, tf_graph_find_value(mt->g, wants->items[i].value))->extent);
        }
        if (mt->job->calib)
            TF_TRY(tf_stats_bytes(mt->env, mt->side[MT_ANCHOR].view, mt->side[MT_MODEL].view, mt->job->calib,
                                  tf_policy_int(mt->job->policy, "calib.samples"), &filter, wants->items + first, n, &work, &kept));
        most = larger(most, values + kept + larger(work, lot));
        values += lot;
    }
    mt->pair_bytes = most;
    tf_tally_spike(t, mt->pair_bytes);
    tf_tally_take(t, values);
    *out = values;
    return TFUSE_OK;
}

static void tally_balance(matching *mt, const sizes *z)
{
    tf_tally *t = &mt->job->tally->memory;
    for (int s = 0; s < 2; s++) {
        uint64_t work = 0, bytes = 0;
        for (size_t c = 0; c < mt->g->n_classes; c++) {
            work = larger(work, balance_work(mt, s, (tf_id)c));
            bytes += balance_bytes(mt, s, (tf_id)c);
        }
        if (bytes)
            tf_tally_spike(t, bytes + work + z->held[s]);
        tf_tally_take(t, bytes);
    }
}

tfuse_status mt_estimate(matching *mt, const tf_stat_wants *wants, tf_class_map *out)
{
    tf_tally *t = &mt->job->tally->memory;
    tf_tally classes = {0, 0};
    uint64_t maps = 0, found = 0, values = 0;
    const tf_tally was = *t;
    sizes z;
    TF_TRY(measure(mt, &z));
    for (size_t c = 0; c < mt->g->n_classes; c++)
        if (mt->classes[c].shape != MT_FIXED) {
            maps += planned_bytes(mt, (tf_id)c);
            found += found_bytes(mt, (tf_id)c);
        }
    tally_balance(mt, &z);
    TF_TRY(tally_values(mt, wants, &values));
    tf_tally_take(t, z.held[0] + z.held[1] + z.held[2] + 2 * found); /* R and the best so far */
    mt->first_bytes = t->live - was.live - found;
    mt->pairs_bytes = mt->first_bytes - z.held[0] - z.held[1] - z.held[2] + (mt->job->n - 2) * values;
    mt->mean_bytes = mt->first_bytes + found + (mt->job->n - 1) * values; /* against the anchor, the mean and each other model */
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        if (mt->classes[c].shape == MT_FIXED)
            continue;
        TF_TRY(hollow(mt, (tf_id)c, &out[c]));
        TF_TRY(tally_class(mt, (tf_id)c, &z, &classes));
    }
    tf_tally_spike(t, classes.peak);
    mt->class_bytes = classes.peak;
    tf_tally_drop(t, found);
    tf_tally_spike(t, 2 * maps); /* of the classes, and of the plan */
    t->live = was.live;
    tf_tally_take(t, maps);
    mt->job->tally->maps += maps;
    return TFUSE_OK;
}
