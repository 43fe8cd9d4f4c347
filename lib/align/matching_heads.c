/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_heads.c: classes that stand outside of others: heads with the units inside them, groups of queries of one key head, experts. Blocks
 * are assigned before what is inside of them is known, so blocks are compared by what no map inside can change.
 *
 * Let S0(b, a) be the inner products of the units of the model's block b with those of the anchor's block a where they are produced (queries,
 * values), S1(b, a) where they are consumed or dual (keys, output). Then <S0, S1> is the inner product of the two blocks' circuits Q'K and
 * O V, which every invertible inner map leaves as it is. Under rotary positions it is sum_p |z_p|, z_p being the complex sum of pair p's
 * products. Where one side alone is there, |S|_F; where inner units are assigned, each unit's best partner.
 *
 * Weights and activations each give a table of gains over blocks, scaled to norm one; they are added. Blocks inside blocks (group in key head)
 * are assigned for each pair of outer blocks first, and that assignment's gain is the pair's.
 */
#include "align/matching.h"
#include "num/num.h"
#include "ops/common.h"
#include <math.h>
#include <string.h>

enum { FROM_WEIGHTS, FROM_ACTIVATIONS, KINDS, MOST_TERMS = 16 };

/* Inner products of all pairs of blocks of one inner class: the model's blocks × the anchor's × n × m. */
typedef struct term {
    tf_id cls;
    int kind, side;
    int64_t blocks[2]; /* of the anchor, of the model */
    float *s;
} term;

typedef struct outer {
    tf_id cls, mid; /* mid: the class of blocks inside its blocks; -1 */
    int64_t heads[2], group[2], blocks[2]; /* of the anchor, of the model; blocks at full depth: heads × group */
    term terms[MOST_TERMS];
    int n_terms;
    float *direct[KINDS]; /* the model's heads × the anchor's: of tensors with a number a head */
    tf_id now;            /* inner class that is being gathered */
} outer;

static bool is_inside(const tf_graph *g, tf_id cls, tf_id of)
{
    for (tf_id up = tf_class_parent(g, cls); up >= 0; up = tf_class_parent(g, up))
        if (up == of)
            return true;
    return false;
}

static tfuse_status find_term(matching *mt, outer *o, int kind, int side, int64_t blocks, int64_t blocks_n, term **out)
{
    for (int i = 0; i < o->n_terms; i++) {
        term *t = &o->terms[i];
        *out = t;
        if (t->cls == o->now && t->kind == kind && t->side == side && t->blocks[0] == blocks)
            return TFUSE_OK;
    }
    if (o->n_terms == MOST_TERMS)
        return tf_fail(mt->env, TFUSE_EUNSUPPORTED, "%s holds more kinds of tensors than matching takes", mt->g->class_name[o->cls]);
    const int64_t size = mt_extent(mt, MT_MODEL, o->now) * mt_extent(mt, MT_ANCHOR, o->now);
    term *t = &o->terms[o->n_terms];
    *t = (term){o->now, kind, side, {blocks, blocks_n}, tf_calloc(mt->env, (size_t)(blocks * blocks_n * size), sizeof *t->s)};
    if (!t->s)
        return TFUSE_ENOMEM;
    o->n_terms++;
    *out = t;
    return TFUSE_OK;
}

/* full: all units of the model's part × all of the anchor's, in rows of `stride`; adds its blocks. parts NULL: the units are the part's alone. */
static void add_full(const matching *mt, term *t, const tf_part *const *parts, const float *full, int64_t stride)
{
    const int64_t n = mt_extent(mt, MT_MODEL, t->cls), m = mt_extent(mt, MT_ANCHOR, t->cls);
    for (int64_t b = 0; b < t->blocks[MT_MODEL]; b++)
        for (int64_t a = 0; a < t->blocks[MT_ANCHOR]; a++) {
            float *s = t->s + (b * t->blocks[MT_ANCHOR] + a) * n * m;
            for (int64_t u = 0; u < n; u++)
                for (int64_t v = 0; v < m; v++)
                    s[u * m + v] += full[(parts ? tf_part_index(parts[MT_MODEL], b * n + u) : b * n + u) * stride +
                                         (parts ? tf_part_index(parts[MT_ANCHOR], a * m + v) : a * m + v)];
        }
}

/* All units of a place, the model's against the anchor's, freed by tf_free. */
static tfuse_status full_products(matching *mt, const mt_place *at, float **out)
{
    const tf_param *p = &mt->g->params[at->param];
    const int64_t n = at->part[MT_MODEL]->size, m = at->part[MT_ANCHOR]->size, width = tf_param_count(p) / p->shape[at->dim];
    float *a = NULL, *b = NULL, *rows = tf_alloc_array(mt->env, (size_t)((n + m) * width), sizeof *rows);
    *out = tf_alloc_array(mt->env, (size_t)(n * m), sizeof **out);
    tfuse_status status = rows && *out ? mt_moved(mt, at->param, at->dim, &b) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = mt_take(mt, MT_ANCHOR, at->param, &a);
    if (status == TFUSE_OK) {
        tf_part_rows(p, mt_param(mt, MT_MODEL, at->param)->shape[at->dim], b, at->dim, at->part[MT_MODEL], 0, n, rows);
        tf_part_rows(p, p->shape[at->dim], a, at->dim, at->part[MT_ANCHOR], 0, m, rows + n * width);
        tf_gemm(mt->env, (float)mt->weight[p->node], tf_mat_rows(rows, n, width), tf_mat_t(tf_mat_rows(rows + n * width, m, width)), 0,
                tf_mat_rows(*out, n, m));
        mt_give(mt, MT_ANCHOR, at->param, a);
    }
    tf_free(&mt->env->mem, b);
    tf_free(&mt->env->mem, rows);
    if (status != TFUSE_OK) {
        tf_free(&mt->env->mem, *out);
        *out = NULL;
    }
    return status;
}

static tfuse_status add_inner(matching *mt, const mt_place *at, void *arg)
{
    outer *o = arg;
    float *full;
    term *t = NULL;
    const tf_part *part = at->part[MT_ANCHOR], *own = at->part[MT_MODEL];
    if (at->factor + 1 != part->n_factors || part->n_factors < 2)
        return TFUSE_OK;
    TF_TRY(tf_check_cancel(mt->env));
    const tf_use use = tf_param_use(mt->g, at->param, at->dim, part->port[at->factor]);
    TF_TRY(find_term(mt, o, FROM_WEIGHTS, use == TF_USE_CONSUMED || use == TF_USE_DUAL, part->size / part->extent[at->factor],
                     own->size / own->extent[at->factor], &t));
    TF_TRY(full_products(mt, at, &full));
    add_full(mt, t, NULL, full, part->size);
    tf_free(&mt->env->mem, full);
    return TFUSE_OK;
}

/* Tensors in which the class itself stands innermost: a number or a row for each head. */
static tfuse_status add_direct(matching *mt, const mt_place *at, void *arg)
{
    outer *o = arg;
    float *full;
    if (at->factor + 1 != at->part[MT_ANCHOR]->n_factors || at->part[MT_ANCHOR]->n_factors != 1)
        return TFUSE_OK;
    TF_TRY(full_products(mt, at, &full));
    for (int64_t i = 0; i < o->heads[MT_ANCHOR] * o->heads[MT_MODEL]; i++)
        o->direct[FROM_WEIGHTS][i] += full[i];
    tf_free(&mt->env->mem, full);
    return TFUSE_OK;
}

static tfuse_status add_value(matching *mt, const mt_value *v, outer *o)
{
    tf_part *parts[2] = {NULL, NULL};
    int count = 0;
    tfuse_status status = mt_value_parts(mt, v, parts, &count);
    for (int i = 0; i < count && status == TFUSE_OK; i++) {
        const tf_part *both[2] = {&parts[0][i], &parts[1][i]};
        const int last = both[0]->n_factors - 1;
        const tf_id port = both[0]->port[last];
        term *t = NULL;
        if (last < 1 || tf_class_of(mt->g, port) != o->now)
            continue;
        status = find_term(mt, o, FROM_ACTIVATIONS, mt->g->class_dual[port], both[0]->size / both[0]->extent[last],
                           both[1]->size / both[1]->extent[last], &t);
        if (status == TFUSE_OK)
            add_full(mt, t, both, v->cross, tf_value_channels(mt->g, v->value[MT_ANCHOR])->extent);
    }
    tf_free(&mt->env->mem, parts[0]);
    tf_free(&mt->env->mem, parts[1]);
    return status;
}

/* ---- gains ----------------------------------------------------------------------------------------------------------- */

/* Sum of a side's terms at blocks b and a (numbered at full depth) into s; false when there are none. */
static bool side_at(const outer *o, tf_id cls, int kind, int side, int64_t b, int64_t a, int64_t size, float *s)
{
    bool any = false;
    memset(s, 0, (size_t)size * sizeof *s);
    for (int i = 0; i < o->n_terms; i++) {
        const term *t = &o->terms[i];
        if (t->cls != cls || t->kind != kind || t->side != side)
            continue;
        const int64_t row = b / (o->blocks[MT_MODEL] / t->blocks[MT_MODEL]), col = a / (o->blocks[MT_ANCHOR] / t->blocks[MT_ANCHOR]);
        const float *from = t->s + (row * t->blocks[MT_ANCHOR] + col) * size;
        for (int64_t u = 0; u < size; u++)
            s[u] += from[u];
        any = true;
    }
    return any;
}

static double pair_gain(const matching *mt, tf_id cls, const float *s, int64_t n)
{
    const bool beside = tf_class_is_interleaved(mt->g, cls);
    double sum = 0;
    for (int64_t p = 0; p < n / 2; p++) {
        const int64_t i = beside ? 2 * p : p, j = beside ? 2 * p + 1 : p + n / 2;
        const double across = mt->classes[cls].group & TF_G_PAIR_ROT ? (double)s[i * n + j] - (double)s[j * n + i] : 0;
        sum += hypot((double)s[i * n + i] + (double)s[j * n + j], across);
    }
    return sum;
}

static double best_partners(const float *s, int64_t n, int64_t m, bool has_signs)
{
    double sum = 0;
    for (int64_t j = 0; j < m; j++) {
        double best = -INFINITY;
        for (int64_t i = 0; i < n; i++)
            best = fmax(best, has_signs ? fabs((double)s[i * m + j]) : (double)s[i * m + j]);
        sum += best;
    }
    return sum;
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* What inner class `cls` says of blocks b and a. Activations of one side stand beside weights of the other. */
static double inner_gain(const matching *mt, const outer *o, tf_id cls, int kind, int64_t b, int64_t a, float *work)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls), size = n * m;
    float *s0 = work, *s1 = work + size;
    bool has0 = side_at(o, cls, kind, 0, b, a, size, s0), has1 = side_at(o, cls, kind, 1, b, a, size, s1);
    const mt_shape shape = mt->classes[cls].shape;
    if (!has0 && !has1)
        return 0;
    if (shape == MT_ROTATION || shape == MT_ROTATION_ONES) {
        has0 = has0 || side_at(o, cls, FROM_WEIGHTS, 0, b, a, size, s0);
        has1 = has1 || side_at(o, cls, FROM_WEIGHTS, 1, b, a, size, s1);
        return has0 && has1 ? dot(s0, s1, size) : sqrt(dot(has0 ? s0 : s1, has0 ? s0 : s1, size));
    }
    for (int64_t i = 0; i < size; i++)
        s0[i] += s1[i];
    if (shape == MT_PAIRS)
        return pair_gain(mt, cls, s0, n);
    if (shape == MT_FIXED) {
        double trace = 0;
        for (int64_t i = 0; i < n; i++)
            trace += (double)s0[i * n + i];
        return trace;
    }
    return best_partners(s0, n, m, shape == MT_SIGNED_UNITS);
}

static void add_scaled(double *sum, const double *table, int64_t count)
{
    double size = 0;
    for (int64_t i = 0; i < count; i++)
        size += table[i] * table[i];
    for (int64_t i = 0; i < count && size > 0; i++)
        sum[i] += table[i] / sqrt(size);
}

static bool is_by_unit(const matching *mt, tf_id cls)
{
    return mt->classes[cls].shape >= MT_UNITS;
}

static tfuse_status pair_gains(matching *mt, const outer *o, tf_id cls, const mt_blocks *blocks, double *table)
{
    const int64_t cols = o->blocks[MT_ANCHOR], size = blocks->n * blocks->m;
    float *s = tf_alloc_array(mt->env, (size_t)size, sizeof *s);
    tfuse_status status = s ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < o->blocks[MT_MODEL] * cols && status == TFUSE_OK; i++) {
        memset(s, 0, (size_t)size * sizeof *s);
        for (int k = 0; k < blocks->count; k++) {
            const mt_block_place *p = &blocks->places[k];
            const int64_t own = p->part[MT_MODEL].size / blocks->n, all = p->part[MT_ANCHOR].size / blocks->m;
            mt_blocks_add(mt, blocks, p, i / cols / (o->blocks[MT_MODEL] / own), i % cols / (cols / all), s);
        }
        table[i] = best_partners(s, blocks->n, blocks->m, mt->classes[cls].shape == MT_SIGNED_UNITS);
        status = tf_check_cancel(mt->env);
    }
    tf_free(&mt->env->mem, s);
    return status;
}

/* Where units are assigned, both sides' products are one sum, and it is enough to have them for a pair of blocks at a time. */
static tfuse_status unit_gains(matching *mt, const outer *o, tf_id cls, double *table, double *gain)
{
    mt_blocks blocks = {0};
    const mt_class was = mt->classes[cls];
    mt->classes[cls].outer = true; /* as in gather */
    tfuse_status status = mt_blocks_make(mt, cls, true, &blocks);
    mt->classes[cls] = was;
    if (status == TFUSE_OK && blocks.count > 0) {
        status = pair_gains(mt, o, cls, &blocks, table);
        add_scaled(gain, table, status == TFUSE_OK ? o->blocks[MT_ANCHOR] * o->blocks[MT_MODEL] : 0);
    }
    mt_blocks_free(mt, &blocks);
    return status;
}

/* Gains of all pairs of blocks at full depth, the model's in rows. */
static tfuse_status all_gains(matching *mt, const outer *o, double *gain)
{
    const int64_t cols = o->blocks[MT_ANCHOR], count = o->blocks[MT_MODEL] * cols;
    double *table = tf_alloc_array(mt->env, (size_t)count, sizeof *table);
    tfuse_status status = table ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t c = 0; c < mt->g->n_classes && status == TFUSE_OK; c++) {
        if (mt->classes[c].outer || !is_inside(mt->g, (tf_id)c, o->cls))
            continue;
        float *work = tf_alloc_array(mt->env, (size_t)(2 * mt_extent(mt, MT_MODEL, (tf_id)c) * mt_extent(mt, MT_ANCHOR, (tf_id)c)), sizeof *work);
        status = work ? TFUSE_OK : TFUSE_ENOMEM;
        if (is_by_unit(mt, (tf_id)c) && status == TFUSE_OK)
            status = unit_gains(mt, o, (tf_id)c, table, gain);
        for (int kind = is_by_unit(mt, (tf_id)c) ? FROM_ACTIVATIONS : FROM_WEIGHTS; kind < KINDS && status == TFUSE_OK; kind++) {
            for (int64_t i = 0; i < count; i++)
                table[i] = inner_gain(mt, o, (tf_id)c, kind, i / cols, i % cols, work);
            add_scaled(gain, table, count);
        }
        tf_free(&mt->env->mem, work);
    }
    for (int kind = 0; kind < KINDS && status == TFUSE_OK; kind++) {
        for (int64_t i = 0; i < count; i++)
            table[i] = (double)o->direct[kind][(i / cols / o->group[MT_MODEL]) * o->heads[MT_ANCHOR] + i % cols / o->group[MT_ANCHOR]];
        add_scaled(gain, table, count);
    }
    tf_free(&mt->env->mem, table);
    return status;
}

/* ---- assignment ---------------------------------------------------------------------------------------------------------- */

/* Groups inside heads b and a: source (of the anchor's group) and its gain. */
static tfuse_status match_group(matching *mt, const outer *o, const double *gain, int64_t b, int64_t a, float *part, int64_t *source,
                                double *sum)
{
    const int64_t n = o->group[MT_MODEL], m = o->group[MT_ANCHOR];
    double gap;
    for (int64_t i = 0; i < n * m; i++)
        part[i] = (float)gain[(b * n + i / m) * o->blocks[MT_ANCHOR] + a * m + i % m];
    TF_TRY(mt_assign(mt, n, m, part, source, &gap));
    *sum = 0;
    for (int64_t j = 0; j < m; j++)
        *sum += (double)part[source[j] * m + j];
    return TFUSE_OK;
}

static tfuse_status assign(matching *mt, const outer *o, const double *gain)
{
    const int64_t n = o->heads[MT_MODEL], m = o->heads[MT_ANCHOR];
    float *table = tf_alloc_array(mt->env, (size_t)(n * m + o->group[MT_MODEL] * o->group[MT_ANCHOR]), sizeof *table);
    int64_t *source = tf_alloc_array(mt->env, (size_t)(m + o->group[MT_ANCHOR]), sizeof *source);
    double gap = 0, agreed = 0, most = 0;
    tfuse_status status = table && source ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n * m && status == TFUSE_OK; i++) {
        double sum = 0;
        status = match_group(mt, o, gain, i / m, i % m, table + n * m, source + m, &sum);
        table[i] = (float)sum;
    }
    if (status == TFUSE_OK)
        status = mt_assign(mt, n, m, table, source, &gap);
    for (int64_t j = 0; j < m && status == TFUSE_OK; j++) {
        double best = -INFINITY;
        for (int64_t i = 0; i < n; i++)
            best = fmax(best, (double)table[i * m + j]);
        agreed += (double)table[source[j] * m + j];
        most += best;
        if (o->mid < 0)
            continue;
        double sum;
        status = match_group(mt, o, gain, source[j], j, table + n * m, source + m, &sum);
        if (status == TFUSE_OK)
            status = mt_set_permutation(mt, o->mid, j, source + m);
    }
    if (status == TFUSE_OK)
        status = mt_set_permutation(mt, o->cls, 0, source);
    mt->maps[o->cls].solver = tf_policy_text(mt->job->policy, "solver.name");
    mt->maps[o->cls].cost = most > 0 ? 1 - agreed / most : NAN;
    mt->maps[o->cls].gap = most > 0 ? gap / most : NAN;
    mt->maps[o->cls].correlation = NAN; /* gains of blocks are no correlations */
    tf_free(&mt->env->mem, table);
    tf_free(&mt->env->mem, source);
    return status;
}

static tfuse_status gather(matching *mt, outer *o)
{
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        o->now = (tf_id)c;
        if (mt->classes[c].outer || !is_inside(mt->g, (tf_id)c, o->cls))
            continue;
        const mt_class was = mt->classes[c];
        mt->classes[c].outer = true; /* what stands around it is what is being matched: its places count as known */
        tfuse_status status = is_by_unit(mt, (tf_id)c) ? TFUSE_OK : mt_each_place(mt, (tf_id)c, add_inner, o);
        mt->classes[c] = was;
        for (size_t v = 0; v < mt->n_values && status == TFUSE_OK && mt->use_activations; v++)
            status = add_value(mt, &mt->values[v], o);
        TF_TRY(status);
    }
    o->now = o->cls;
    return mt_each_place(mt, o->cls, add_direct, o);
}

/* The classes inside change as a whole with the blocks: they start again from the identity. */
static tfuse_status reset_inside(matching *mt, const outer *o)
{
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        if (mt->classes[c].outer || !is_inside(mt->g, (tf_id)c, o->cls))
            continue;
        mt->classes[c].known = false;
        for (int64_t i = 0; i < mt->maps[c].instances; i++) {
            tf_map_free(mt->maps[c].maps[i]);
            mt->maps[c].maps[i] = NULL;
            TF_TRY(mt_first_map(mt, (tf_id)c, &mt->maps[c].maps[i]));
        }
    }
    return TFUSE_OK;
}

static tfuse_status prepare(matching *mt, outer *o)
{
    o->mid = -1;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        if (!is_inside(mt->g, (tf_id)c, o->cls) || !mt->classes[c].outer || mt->classes[c].shape == MT_FIXED)
            continue;
        if (o->mid >= 0)
            return tf_fail(mt->env, TFUSE_EUNSUPPORTED, "%s holds two axes of blocks, %s and %s, which matching does not take",
                           mt->g->class_name[o->cls], mt->g->class_name[o->mid], mt->g->class_name[c]);
        o->mid = (tf_id)c;
    }
    for (int s = 0; s < 2; s++) {
        o->heads[s] = mt_extent(mt, s, o->cls);
        o->group[s] = o->mid >= 0 ? mt_extent(mt, s, o->mid) : 1;
        o->blocks[s] = o->heads[s] * o->group[s];
    }
    for (int k = 0; k < KINDS; k++)
        if (!(o->direct[k] = tf_calloc(mt->env, (size_t)(o->heads[0] * o->heads[1]), sizeof *o->direct[k])))
            return TFUSE_ENOMEM;
    return TFUSE_OK;
}

tfuse_status mt_match_outer(matching *mt, tf_id cls)
{
    outer o = {.cls = cls};
    tfuse_status status = prepare(mt, &o);
    double *gain = tf_calloc(mt->env, (size_t)(o.blocks[0] * o.blocks[1]) + 1, sizeof *gain);
    if (status == TFUSE_OK && !gain)
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = gather(mt, &o);
    if (status == TFUSE_OK)
        status = all_gains(mt, &o, gain);
    if (status == TFUSE_OK)
        status = assign(mt, &o, gain);
    if (status == TFUSE_OK)
        status = reset_inside(mt, &o);
    mt->classes[cls].known = true;
    if (o.mid >= 0)
        mt->classes[o.mid].known = true;
    for (int k = 0; k < KINDS; k++)
        tf_free(&mt->env->mem, o.direct[k]);
    for (int i = 0; i < o.n_terms; i++)
        tf_free(&mt->env->mem, o.terms[i].s);
    tf_free(&mt->env->mem, gain);
    return status == TFUSE_OK ? status : tf_fail_in(mt->env, status, "matching %s", mt->g->class_name[cls]);
}
