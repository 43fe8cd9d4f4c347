/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_merge.c: hidden units that an assignment onto fewer left over are merged into the taken ones that they are most like.
 *
 * For inputs that are white, as norms leave them nearly, the correlation of two units is the cosine r of the weights that produce them, under a
 * gate times that of the gates' weights. The best multiple of unit k in place of unit i is b = r |p_i| / |p_k|: so much of what consumes i is
 * added to what consumes k. What produces k becomes the mean of what produces the units i of its group over b, weighted by r^2 (k itself has
 * r = 1), so that producing by P and consuming by C = b has P' C = 1. Copies, with whatever factors their group permits, come together as the
 * one unit that they are; what is like nothing is left out as by the selection. Cosines below zero count only where signs are permitted. Where
 * scales are, the merged unit is balanced anew.
 */
#include "align/matching.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

/* One instance, in the model's balanced units. */
typedef struct likeness {
    int64_t *order;       /* the m units that were taken, in the anchor's order, then the others */
    double *norm, *gate;  /* n each, in that order: squares of what produces, and of what gates */
    float *dot, *gates;   /* (n - m) × m: inner products of the others with the taken */
    bool gated;
    int64_t *into;        /* where each of the n goes, in that order; -1: nowhere */
    float *factor;        /* n of what produces, n of what consumes */
    double *made[2];      /* m each: squares of what produces and of what consumes the merged units */
} likeness;

typedef struct gathering {
    tf_id cls;
    int64_t n, m;
    likeness *of; /* one an instance of the anchor's */
    bool chosen;  /* where units go is known: what they make is looked at */
} gathering;

/* What meets a dual, keys and queries, sums products of both: merging one side is no merging of the products. */
static bool has_dual(const tf_graph *g, tf_id cls)
{
    for (size_t p = 0; p < g->n_ports; p++)
        if (tf_class_of(g, (tf_id)p) == cls && g->class_dual[p])
            return true;
    return false;
}

bool mt_is_merged(const matching *mt, tf_id cls)
{
    const mt_class *c = &mt->classes[cls];
    return tf_policy_flag(mt->job->policy, "matching.merge") && c->shape >= MT_UNITS && !c->outer && !c->stream &&
           mt_extent(mt, MT_MODEL, cls) > mt_extent(mt, MT_ANCHOR, cls) &&
           !has_dual(mt->g, cls);
}

/* Adds a block's rows, n × width. work: as many numbers. */
static void add_rows(matching *mt, const gathering *to, likeness *l, bool neutral, const float *rows, int64_t width, float *work)
{
    const int64_t n = to->n, m = to->m;
    double *norm = neutral ? l->gate : l->norm;
    for (int64_t u = 0; u < n; u++) {
        const float *row = rows + l->order[u] * width;
        memcpy(work + u * width, row, (size_t)width * sizeof *work);
        norm[u] += tf_sum_sq(row, (size_t)width);
    }
    l->gated = l->gated || neutral;
    tf_gemm(mt->env, 1, tf_mat_rows(work + m * width, n - m, width), tf_mat_t(tf_mat_rows(work, m, width)), 1,
            tf_mat_rows(neutral ? l->gates : l->dot, n - m, m));
}

/* Squares of a block's merged rows, of n × width. work: m × width. */
static void add_made(const gathering *to, likeness *l, bool produced, const float *rows, int64_t width, float *work)
{
    memset(work, 0, (size_t)(to->m * width) * sizeof *work);
    for (int64_t u = 0; u < to->n; u++) {
        const float *row = rows + l->order[u] * width, by = l->factor[produced ? u : to->n + u];
        float *sum = work + l->into[u] * width;
        for (int64_t k = 0; l->into[u] >= 0 && k < width; k++)
            sum[k] += by * row[k];
    }
    for (int64_t j = 0; j < to->m; j++)
        l->made[produced ? 0 : 1][j] += tf_sum_sq(work + j * width, (size_t)width);
}

static void add_block(matching *mt, const mt_rows *b, void *arg)
{
    const gathering *to = arg;
    if (to->chosen)
        add_made(to, &to->of[b->instance], b->use == TF_USE_PRODUCED, b->rows, b->width, b->spare);
    else
        add_rows(mt, to, &to->of[b->instance], b->use == TF_USE_NEUTRAL, b->rows, b->width, b->spare);
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    const gathering *to = arg;
    const tf_use use = mt_place_use(mt, at);
    const bool counts = use == TF_USE_PRODUCED || (use == TF_USE_NEUTRAL) != to->chosen;
    return counts ? mt_each_block(mt, to->cls, at, 1, add_block, arg) : TFUSE_OK;
}

static tfuse_status likeness_make(matching *mt, const gathering *to, const tf_map *selection, likeness *l)
{
    const int64_t n = to->n, m = to->m;
    bool *taken = tf_calloc(mt->env, (size_t)n, sizeof *taken);
    l->order = tf_alloc_array(mt->env, (size_t)n, sizeof *l->order);
    l->norm = tf_calloc(mt->env, (size_t)(2 * n), sizeof *l->norm);
    l->dot = tf_calloc(mt->env, (size_t)(2 * (n - m) * m), sizeof *l->dot);
    l->into = tf_alloc_array(mt->env, (size_t)n, sizeof *l->into);
    l->factor = tf_calloc(mt->env, (size_t)(2 * n), sizeof *l->factor);
    l->made[0] = tf_calloc(mt->env, (size_t)(2 * m), sizeof *l->made[0]);
    const tfuse_status status = taken && l->order && l->norm && l->dot && l->into && l->factor && l->made[0] ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        int64_t next = m;
        l->made[1] = l->made[0] + m;
        l->gate = l->norm + n;
        l->gates = l->dot + (n - m) * m;
        for (int64_t j = 0; j < m; j++)
            taken[l->order[j] = selection->source[j]] = true;
        for (int64_t i = 0; i < n; i++)
            if (!taken[i])
                l->order[next++] = i;
    }
    tf_free(&mt->env->mem, taken);
    return status;
}

static double cosine(double dot, double a, double b)
{
    return a > 0 && b > 0 ? dot / sqrt(a * b) : 0;
}

/* The taken unit that the u-th of the others is most like; *like: how much, 0: like none. */
static int64_t most_like(const gathering *to, const likeness *l, int64_t u, bool has_signs, double *like)
{
    int64_t best = -1;
    *like = 0;
    for (int64_t j = 0; j < to->m; j++) {
        const int64_t e = u * to->m + j, i = to->m + u;
        const double gate = l->gated ? cosine((double)l->gates[e], l->gate[i], l->gate[j]) : 1;
        const double r = cosine((double)l->dot[e], l->norm[i], l->norm[j]) * fmax(gate, 0);
        if (has_signs ? fabs(r) > fabs(*like) : r > *like) {
            *like = r;
            best = j;
        }
    }
    return best;
}

static tfuse_status choose(matching *mt, const gathering *to, likeness *l, bool has_signs, const tf_map *selection)
{
    const int64_t n = to->n, m = to->m;
    double *sum = tf_calloc(mt->env, (size_t)m, sizeof *sum);
    if (!sum)
        return TFUSE_ENOMEM;
    for (int64_t u = 0; u < n; u++) {
        double like = 1;
        const int64_t j = l->into[u] = u < m ? u : most_like(to, l, u - m, has_signs, &like);
        if (j < 0)
            continue;
        const double norms = u < m ? 1 : sqrt(l->norm[u] / l->norm[j]), sign = selection->scale ? (double)selection->scale[j] : 1;
        l->factor[u] = (float)(sign * like / norms); /* over the sum of squares, once that is known */
        l->factor[n + u] = (float)(sign * like * norms);
        sum[j] += like * like;
    }
    for (int64_t u = 0; u < n; u++)
        if (l->into[u] >= 0)
            l->factor[u] = (float)((double)l->factor[u] / sum[l->into[u]]);
    tf_free(&mt->env->mem, sum);
    return TFUSE_OK;
}

/* The map of one instance in place of its selection. */
static tfuse_status merge_instance(matching *mt, const gathering *to, const likeness *l, tf_map **map)
{
    const int64_t n = to->n, m = to->m;
    int64_t *into = tf_alloc_array(mt->env, (size_t)n, sizeof *into);
    float *factor = tf_calloc(mt->env, (size_t)(2 * n), sizeof *factor);
    tf_map *merged = NULL;
    tfuse_status status = into && factor ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t u = 0; u < n && status == TFUSE_OK; u++) {
        const int64_t i = l->order[u], j = into[i] = l->into[u];
        const bool both = j >= 0 && l->made[0][j] > 0 && l->made[1][j] > 0;
        const double scale = both ? pow(l->made[1][j] / l->made[0][j], 0.25) : 1;
        factor[i] = (float)((double)l->factor[u] * scale);
        factor[n + i] = (float)((double)l->factor[n + u] / scale);
    }
    if (status == TFUSE_OK)
        status = tf_map_merge(mt->env, n, m, into, factor, factor + n, &merged);
    if (status == TFUSE_OK) {
        tf_map_free(*map);
        *map = merged;
    }
    tf_free(&mt->env->mem, into);
    tf_free(&mt->env->mem, factor);
    return status;
}

static void likeness_free(matching *mt, likeness *l)
{
    tf_free(&mt->env->mem, l->order);
    tf_free(&mt->env->mem, l->norm);
    tf_free(&mt->env->mem, l->dot);
    tf_free(&mt->env->mem, l->into);
    tf_free(&mt->env->mem, l->factor);
    tf_free(&mt->env->mem, l->made[0]);
}

static tfuse_status merge_class(matching *mt, tf_id cls)
{
    const mt_class *c = &mt->classes[cls];
    tf_class_map *maps = &mt->maps[cls];
    gathering to = {cls, mt_extent(mt, MT_MODEL, cls), mt_extent(mt, MT_ANCHOR, cls), NULL, false};
    if (!(to.of = tf_calloc(mt->env, (size_t)maps->instances, sizeof *to.of)))
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    for (int64_t i = 0; i < maps->instances && status == TFUSE_OK; i++)
        status = likeness_make(mt, &to, maps->maps[i], &to.of[i]);
    if (status == TFUSE_OK)
        status = mt_each_place(mt, cls, add_place, &to);
    for (int64_t i = 0; i < maps->instances && status == TFUSE_OK; i++)
        status = choose(mt, &to, &to.of[i], c->shape == MT_SIGNED_UNITS, maps->maps[i]);
    to.chosen = true;
    if (status == TFUSE_OK && c->group & TF_G_POS)
        status = mt_each_place(mt, cls, add_place, &to);
    for (int64_t i = 0; i < maps->instances; i++) {
        if (status == TFUSE_OK)
            status = merge_instance(mt, &to, &to.of[i], &maps->maps[i]);
        likeness_free(mt, &to.of[i]);
    }
    tf_free(&mt->env->mem, to.of);
    return status;
}

tfuse_status mt_merge(matching *mt)
{
    for (size_t c = 0; c < mt->g->n_classes; c++)
        if (mt_is_merged(mt, (tf_id)c) && mt->maps[c].solver)
            TF_TRY(merge_class(mt, (tf_id)c));
    return TFUSE_OK;
}
