/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_balance.c: coordinates in which what produces an axis and what consumes it have equal Grams.
 *
 * Let P be the Gram of the rows that produce the n units (queries, values) and C that of the columns that consume them, or are dual to them
 * (keys, output). A map G takes P to G' P G and C to G^-1 C G^-T; they are equal for S = G G' with S P S = C, that is for the geometric mean
 * S = P^-1/2 (P^1/2 C P^1/2)^1/2 P^-1/2, of which G is the symmetric root. What is left is a rotation. Where only scales are
 * permitted, unit by unit (or pair by pair) s^4 = c / p. A tensor that another axis still to be balanced touches would bring that axis's coordinates
 * into the Grams, so an axis is balanced by the others alone, as soon as there are some on both of its sides (keys of relative positions lie between two such
 * axes: queries and keys come first, then the table of positions). Both Grams are kept from being singular by 1e-4 of their mean diagonal, so that
 * dead units keep finite maps.
 */
#include "align/matching.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

#define FLOOR 1e-4

typedef struct grams {
    int side;
    int64_t n, size; /* size: numbers of an instance, n × n, or the n of the diagonal, which is all that scales are made of */
    double *p, *c;   /* instances × size */
} grams;

/* Adds the Gram of n rows, or its diagonal. g: room for n × n. */
static void add_gram(const matching *mt, const grams *to, float *rows, int64_t width, float *g, double *sum)
{
    const int64_t n = to->n;
    for (int64_t u = 0; u < n && to->size == n; u++)
        sum[u] += tf_sum_sq(rows + u * width, (size_t)width);
    if (to->size == n)
        return;
    tf_gemm_sum(mt->env, tf_mat_rows(rows, n, width), tf_mat_t(tf_mat_rows(rows, n, width)), n, g, (tf_dmat){sum, n, n, n, 1});
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    grams *to = arg;
    const tf_graph *own = mt->side[to->side].g;
    const tf_param *p = mt_param(mt, to->side, at->param);
    const tf_part *part = at->part[to->side];
    const int64_t n = to->n, width = tf_param_count(p) / p->shape[at->dim];
    if (at->factor + 1 != part->n_factors || p->use[at->dim] == TF_USE_NEUTRAL)
        return TFUSE_OK;
    const tf_use use = tf_param_use(mt->g, at->param, at->dim, at->part[MT_ANCHOR]->port[at->factor]);
    float *x = NULL, *rows = tf_alloc_array(mt->env, (size_t)(n * width + to->size), sizeof *rows);
    tfuse_status status = rows ? mt_take(mt, to->side, at->param, &x) : TFUSE_ENOMEM;
    for (int64_t block = 0; block < part->size / n && status == TFUSE_OK; block++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(part, at->factor, block, units);
        const int64_t i = tf_class_instance(own, part, at->factor, units);
        double *sum = (use == TF_USE_PRODUCED ? to->p : to->c) + i * to->size;
        tf_part_rows(p, p->shape[at->dim], x, at->dim, part, block * n, n, rows);
        add_gram(mt, to, rows, width, rows + n * width, sum);
    }
    if (x)
        mt_give(mt, to->side, at->param, x);
    tf_free(&mt->env->mem, rows);
    return status;
}

static tf_dmat square(double *x, int64_t n)
{
    return (tf_dmat){x, n, n, n, 1};
}

/* x (n×n, symmetric and positive) to the power 1/2 or, inverse, -1/2. work: 3 n² + n. */
static tfuse_status root(tf_env *env, int64_t n, const double *x, bool inverse, double *work, double *out)
{
    double *u = work, *vt = u + n * n, *w = vt + n * n, *s = w + n * n;
    TF_TRY(tf_svd(env, n, n, x, u, s, vt));
    for (int64_t i = 0; i < n * n; i++)
        w[i] = u[i] * (inverse ? 1 / sqrt(s[i % n]) : sqrt(s[i % n]));
    tf_dgemm(env, 1, square(w, n), (tf_dmat){u, n, n, 1, n}, 0, square(out, n));
    return TFUSE_OK;
}

/* Of n numbers on a diagonal, `step` apart. */
static double lift(double *x, int64_t n, int64_t step)
{
    double trace = 0;
    for (int64_t i = 0; i < n; i++)
        trace += x[i * step];
    for (int64_t i = 0; i < n; i++)
        x[i * step] += FLOOR * trace / (double)n;
    return trace;
}

static tfuse_status general_map(tf_env *env, int64_t n, double *p, double *c, tf_map **out)
{
    const size_t count = (size_t)(n * n);
    double *work = tf_alloc_array(env, 8 * count + (size_t)n, sizeof *work);
    float *g = tf_alloc_array(env, count, sizeof *g);
    tfuse_status status = work && g ? TFUSE_OK : TFUSE_ENOMEM;
    double *half = work + 3 * count + n, *back = half + count, *x = back + count, *y = x + count, *z = y + count;
    if (status == TFUSE_OK)
        status = root(env, n, p, false, work, half);
    if (status == TFUSE_OK)
        status = root(env, n, p, true, work, back);
    if (status == TFUSE_OK) {
        tf_dgemm(env, 1, square(half, n), square(c, n), 0, square(y, n));
        tf_dgemm(env, 1, square(y, n), square(half, n), 0, square(x, n));
        status = root(env, n, x, false, work, y);
    }
    if (status == TFUSE_OK) {
        tf_dgemm(env, 1, square(back, n), square(y, n), 0, square(x, n));
        tf_dgemm(env, 1, square(x, n), square(back, n), 0, square(y, n));
        status = root(env, n, y, false, work, z);
    }
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        g[i] = (float)z[i];
    if (status == TFUSE_OK)
        status = tf_map_square(env, TF_MAP_LINEAR, n, g, out);
    tf_free(&env->mem, work);
    tf_free(&env->mem, g);
    return status;
}

/* The partner of a unit in its pair. */
static int64_t partner(const matching *mt, tf_id cls, int64_t n, int64_t i)
{
    return tf_class_is_interleaved(mt->g, cls) ? (i ^ 1) : i < n / 2 ? i + n / 2 : i - n / 2;
}

/* p, c: the diagonals. */
static tfuse_status scale_map(matching *mt, tf_id cls, int64_t n, const double *p, const double *c, tf_map **out)
{
    const bool pairs = mt->classes[cls].shape == MT_PAIRS;
    int64_t *source = tf_alloc_array(mt->env, (size_t)n, sizeof *source);
    float *scale = tf_alloc_array(mt->env, (size_t)n, sizeof *scale);
    tfuse_status status = source && scale ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        const int64_t j = pairs ? partner(mt, cls, n, i) : i;
        source[i] = i;
        scale[i] = (float)pow((c[i] + c[j]) / (p[i] + p[j]), 0.25);
    }
    if (status == TFUSE_OK)
        status = tf_map_scaled(mt->env, n, source, scale, out);
    tf_free(&mt->env->mem, source);
    tf_free(&mt->env->mem, scale);
    return status;
}

static bool on_both_sides(const grams *g, size_t count)
{
    bool p = false, c = false;
    for (size_t i = 0; i < count; i++) {
        p = p || g->p[i] != 0;
        c = c || g->c[i] != 0;
    }
    return p && c;
}

bool mt_is_balanced(const mt_class *c)
{
    return c->shape == MT_PAIRS ? c->group & TF_G_PAIR_SCALE : c->shape >= MT_UNITS ? c->group & TF_G_POS : c->group & TF_G_LINEAR;
}

/* Without `all`, *done is false, and nothing is changed, where the tensors that may count lie on one side only. */
static tfuse_status balance_class(matching *mt, int side, tf_id cls, bool all, bool *done)
{
    const bool general = mt->classes[cls].shape == MT_ROTATION;
    const int64_t n = mt_extent(mt, side, cls), instances = tf_class_instances(mt->side[side].g, cls), size = general ? n * n : n;
    const int64_t step = general ? n + 1 : 1;
    const size_t count = (size_t)(instances * size);
    tf_class_map *out = &mt->side[side].balance[cls];
    grams sum = {side, n, size, tf_calloc(mt->env, 2 * count, sizeof *sum.p), NULL};
    tf_map **maps = tf_calloc(mt->env, (size_t)instances, sizeof *maps);
    sum.c = sum.p + count;
    tfuse_status status = sum.p && maps ? mt_each_place(mt, cls, add_place, &sum) : TFUSE_ENOMEM;
    *done = all || (status == TFUSE_OK && on_both_sides(&sum, count));
    if (!*done) {
        tf_free(&mt->env->mem, sum.p);
        tf_free(&mt->env->mem, maps);
        return status;
    }
    for (int64_t i = 0; i < instances && status == TFUSE_OK; i++) {
        double *p = sum.p + i * size, *c = sum.c + i * size;
        if (!(lift(p, n, step) > 0) || !(lift(c, n, step) > 0)) /* nothing to balance */
            status = tf_map_identity(mt->env, n, &maps[i]);
        else if (general)
            status = general_map(mt->env, n, p, c, &maps[i]);
        else
            status = scale_map(mt, cls, n, p, c, &maps[i]);
    }
    tf_free(&mt->env->mem, sum.p);
    *out = (tf_class_map){.maps = maps, .instances = maps ? instances : 0};
    if (status != TFUSE_OK)
        status = tf_fail_in(mt->env, status, "balancing %s of %s", mt->g->class_name[cls], tf_model_label(mt->side[side].view->m));
    return status;
}

/* One round over the classes that are not known; *left: how many stay so. */
static tfuse_status balance_round(matching *mt, int side, bool all, size_t *left, size_t *balanced)
{
    bool *due = tf_alloc_array(mt->env, mt->g->n_classes + 1, sizeof *due);
    tfuse_status status = due ? TFUSE_OK : TFUSE_ENOMEM;
    *left = *balanced = 0;
    for (size_t c = 0; due && c < mt->g->n_classes; c++)
        due[c] = !mt->classes[c].known;
    for (size_t c = 0; c < mt->g->n_classes && status == TFUSE_OK; c++) {
        bool done = false;
        if (!due[c])
            continue;
        status = balance_class(mt, side, (tf_id)c, all, &done);
        due[c] = !done;
        *(done ? balanced : left) += 1;
    }
    for (size_t c = 0; status == TFUSE_OK && c < mt->g->n_classes; c++) /* known from the next round on */
        mt->classes[c].known = !due[c];
    tf_free(&mt->env->mem, due);
    return status;
}

tfuse_status mt_balance(matching *mt, int side)
{
    size_t left = 1, balanced = 1;
    for (size_t c = 0; c < mt->g->n_classes; c++) /* a Gram of one side needs no other's maps */
        mt->classes[c].known = mt->classes[c].shape == MT_FIXED || mt->classes[c].outer || !mt_is_balanced(&mt->classes[c]);
    for (bool all = false; left > 0; all = balanced == 0) {
        TF_TRY(balance_round(mt, side, all, &left, &balanced));
        mt_forget_held(mt, side); /* it is not balanced */
    }
    for (size_t c = 0; c < mt->g->n_classes; c++)
        mt->classes[c].known = false;
    return TFUSE_OK;
}

/* ---- back to the coordinates that the models are in ----------------------------------------------------------- */

static const tf_map *balance_at(const matching *mt, int side, tf_id cls, int64_t instance)
{
    const tf_class_map *b = &mt->side[side].balance[cls];
    return b->instances ? b->maps[instance] : NULL;
}

/* R times a factor where it produces and one where it consumes, for unequal extents. A stream of m units has the RMS that the n had, so that norms with
 * their eps do the same, when it is produced by sqrt(m / n); scores, which are divided by the root of their width, are brought to what they
 * were on both of their sides alike. */
static tfuse_status scaled(matching *mt, tf_id cls, const tf_map *r, tf_map **out)
{
    const double n = (double)r->n, m = (double)r->m, score = mt_score_scale(mt, cls);
    const bool turned = mt->classes[cls].stream && mt->classes[cls].shape < MT_UNITS;
    const double produced = turned ? sqrt(m / n) : sqrt(score), consumed = turned ? sqrt(n / m) : sqrt(score);
    if (produced == 1 && consumed == 1)
        return tf_map_clone(mt->env, r, out);
    const size_t count = (size_t)(r->n * r->m);
    float *both = tf_alloc_array(mt->env, 2 * count, sizeof *both);
    if (!both)
        return TFUSE_ENOMEM;
    tf_map_matrix(r, both);
    tf_map_consumed(r, both + count);
    for (size_t i = 0; i < count; i++) {
        both[i] = (float)(produced * (double)both[i]);
        both[count + i] = (float)(consumed * (double)both[count + i]);
    }
    const tfuse_status status = tf_map_rectangular(mt->env, r->n, r->m, both, both + count, out);
    tf_free(&mt->env->mem, both);
    return status;
}

/* G_model R G_anchor^-1. */
static tfuse_status plan_map(matching *mt, tf_id cls, int64_t instance, tf_map **out)
{
    tf_env *env = mt->env;
    const int64_t source = tf_class_source(mt->g, mt->side[MT_MODEL].g, mt->maps, cls, instance);
    const tf_map *from = balance_at(mt, MT_MODEL, cls, source), *to = balance_at(mt, MT_ANCHOR, cls, instance);
    tf_map *r = NULL, *mid = NULL, *back = NULL;
    TF_TRY(scaled(mt, cls, mt->maps[cls].maps[instance], &r));
    if (!from || !to) {
        *out = r;
        return TFUSE_OK;
    }
    tfuse_status status = tf_map_compose(env, from, r, &mid);
    if (status == TFUSE_OK)
        status = tf_map_inverse(env, to, &back);
    if (status == TFUSE_OK)
        status = tf_map_compose(env, mid, back, out);
    tf_map_free(r);
    tf_map_free(mid);
    tf_map_free(back);
    return status;
}

tfuse_status mt_plan_maps(matching *mt, tf_class_map *out)
{
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        const tf_class_map *r = &mt->maps[c];
        if (!r->instances)
            continue;
        out[c] = *r;
        if (!(out[c].maps = tf_calloc(mt->env, (size_t)r->instances, sizeof *out[c].maps))) {
            out[c].instances = 0;
            return TFUSE_ENOMEM;
        }
        for (int64_t i = 0; i < r->instances; i++)
            TF_TRY(plan_map(mt, (tf_id)c, i, &out[c].maps[i]));
    }
    return TFUSE_OK;
}
