/* SPDX-License-Identifier: Apache-2.0
 *
 * gauge.c: see gauge.h.
 *
 * Groups come from what the operations permit on the canonical form (gauge.stream=orthogonal) or on the stored weights, where kept norm
 * gains leave permutations. A linear map is U diag(s) V' with s in [10^-1/2, 10^1/2] and random orthogonal U and V, so its condition number is at most 10.
 * An orthogonal one is the Q of a Gaussian matrix (Stewart 1980); to fix the ones vector it acts on that vector's complement, reached by the
 * Householder reflection H that takes e_0 to it: H diag(1, Q) H. Under rotary positions each pair turns by an angle of its own and
 * is scaled. Seeds name the class, so a class's map does not depend on the others.
 */
#include "align/gauge.h"
#include "base/rng.h"
#include "graph/build.h"
#include "num/num.h"
#include "ops/common.h"
#include "ops/ops.h"
#include "passes/passes.h"
#include <math.h>
#include <string.h>

#define SPREAD 1.1512925464970229 /* ln(10) / 2 */

typedef struct draw {
    tf_env *env;
    const tf_graph *g;
    tf_rng rng;
    tf_id cls;
    int64_t n;
} draw;

static double factor(draw *d)
{
    return exp((2 * tf_rng_uniform(&d->rng) - 1) * SPREAD);
}

static tfuse_status draw_units(draw *d, tf_group group, tf_map **out)
{
    int64_t *source = tf_alloc_array(d->env, (size_t)d->n, sizeof *source);
    float *scale = tf_alloc_array(d->env, (size_t)d->n, sizeof *scale);
    tfuse_status status = source && scale ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        tf_rng_permutation(&d->rng, d->n, source);
    for (int64_t j = 0; j < d->n && status == TFUSE_OK; j++) {
        source[j] = group & TF_G_PERM ? source[j] : j;
        scale[j] = group & TF_G_POS ? (float)factor(d) : 1;
        scale[j] *= group & TF_G_SIGN && tf_rng_next(&d->rng) & 1 ? -1.0f : 1.0f;
    }
    if (status == TFUSE_OK)
        status = group & (TF_G_POS | TF_G_SIGN) ? tf_map_scaled(d->env, d->n, source, scale, out)
                                                : tf_map_permutation(d->env, d->n, source, out);
    tf_free(&d->env->mem, source);
    tf_free(&d->env->mem, scale);
    return status;
}

/* q: n×n orthogonal, freed by tf_free. */
static tfuse_status random_orthogonal(draw *d, int64_t n, double **q)
{
    const size_t count = (size_t)n * (size_t)n;
    double *x = tf_alloc_array(d->env, 2 * count + 1, sizeof *x);
    *q = tf_alloc_array(d->env, count + 1, sizeof **q);
    tfuse_status status = x && *q ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        x[i] = tf_rng_normal(&d->rng);
    if (status == TFUSE_OK && n > 0)
        status = tf_qr(d->env, n, n, x, *q, x + count);
    tf_free(&d->env->mem, x);
    if (status != TFUSE_OK)
        tf_free(&d->env->mem, *q), *q = NULL;
    return status;
}

static tfuse_status make_square(draw *d, tf_map_kind kind, const double *t, tf_map **out)
{
    const size_t count = (size_t)d->n * (size_t)d->n;
    float *x = tf_alloc_array(d->env, count, sizeof *x);
    if (!x)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < count; i++)
        x[i] = (float)t[i];
    const tfuse_status status = tf_map_square(d->env, kind, d->n, x, out);
    tf_free(&d->env->mem, x);
    return status;
}

/* x <- H x for the columns of x, or x H for its rows, with H = 1 - 2 v v' / v'v. */
static void reflect(double *x, int64_t n, const double *v, double norm, bool columns)
{
    const int64_t step = columns ? n : 1, next = columns ? 1 : n;
    for (int64_t k = 0; k < n; k++) {
        double dot = 0;
        for (int64_t i = 0; i < n; i++)
            dot += v[i] * x[k * next + i * step];
        for (int64_t i = 0; i < n; i++)
            x[k * next + i * step] -= 2 * dot / norm * v[i];
    }
}

static tfuse_status draw_fixing_ones(draw *d, tf_map **out)
{
    const int64_t n = d->n;
    double *q = NULL, *t = tf_calloc(d->env, (size_t)(n * n + n), sizeof *t), norm = 0;
    tfuse_status status = t ? random_orthogonal(d, n - 1, &q) : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        double *v = t + n * n;
        for (int64_t i = 0; i < n; i++) {
            v[i] = (double)(i == 0) - 1 / sqrt((double)n);
            norm += v[i] * v[i];
        }
        t[0] = 1;
        for (int64_t i = 1; i < n; i++)
            memcpy(t + i * n + 1, q + (i - 1) * (n - 1), (size_t)(n - 1) * sizeof *t);
        for (int side = 0; side < 2 && n > 1; side++)
            reflect(t, n, v, norm, side);
        status = make_square(d, TF_MAP_ORTHOGONAL, t, out);
    }
    tf_free(&d->env->mem, q);
    tf_free(&d->env->mem, t);
    return status;
}

static tfuse_status draw_rotation(draw *d, tf_map **out)
{
    double *q = NULL;
    TF_TRY(random_orthogonal(d, d->n, &q));
    const tfuse_status status = make_square(d, TF_MAP_ORTHOGONAL, q, out);
    tf_free(&d->env->mem, q);
    return status;
}

static tfuse_status draw_linear(draw *d, tf_map **out)
{
    const int64_t n = d->n;
    double *u = NULL, *v = NULL, *t = tf_calloc(d->env, (size_t)(n * n), sizeof *t);
    tfuse_status status = t ? random_orthogonal(d, n, &u) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = random_orthogonal(d, n, &v);
    for (int64_t k = 0; k < n && status == TFUSE_OK; k++) {
        const double s = factor(d);
        for (int64_t i = 0; i < n; i++)
            u[i * n + k] *= s;
    }
    if (status == TFUSE_OK) {
        tf_dgemm(d->env, 1, (tf_dmat){u, n, n, n, 1}, (tf_dmat){v, n, n, n, 1}, 0, (tf_dmat){t, n, n, n, 1});
        status = make_square(d, TF_MAP_LINEAR, t, out);
    }
    tf_free(&d->env->mem, u);
    tf_free(&d->env->mem, v);
    tf_free(&d->env->mem, t);
    return status;
}

static tfuse_status draw_pairs(draw *d, tf_group group, tf_map **out)
{
    const int64_t n = d->n, half = n / 2;
    const bool side = tf_class_is_interleaved(d->g, d->cls);
    double *t = tf_calloc(d->env, (size_t)(n * n), sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t p = 0; p < half; p++) {
        const int64_t i = side ? 2 * p : p, j = side ? 2 * p + 1 : p + half;
        const double angle = 6.283185307179586 * tf_rng_uniform(&d->rng), c = group & TF_G_PAIR_SCALE ? factor(d) : 1;
        t[i * n + i] = t[j * n + j] = c * cos(angle);
        t[i * n + j] = c * sin(angle);
        t[j * n + i] = -c * sin(angle);
    }
    const tfuse_status status = make_square(d, group & TF_G_PAIR_SCALE ? TF_MAP_LINEAR : TF_MAP_ORTHOGONAL, t, out);
    tf_free(&d->env->mem, t);
    return status;
}

/* Under a norm with gains inside the head nothing turns a pair but by half a turn. */
static tfuse_status draw_pair_signs(draw *d, tf_map **out)
{
    const int64_t n = d->n, half = n / 2;
    const bool beside = tf_class_is_interleaved(d->g, d->cls);
    int64_t *source = tf_alloc_array(d->env, (size_t)n, sizeof *source);
    float *sign = tf_alloc_array(d->env, (size_t)n, sizeof *sign);
    tfuse_status status = source && sign ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        source[i] = i;
        sign[i] = 1;
    }
    for (int64_t p = 0; p < half && status == TFUSE_OK; p++)
        if (tf_rng_next(&d->rng) & 1)
            sign[beside ? 2 * p : p] = sign[beside ? 2 * p + 1 : p + half] = -1;
    if (status == TFUSE_OK)
        status = tf_map_scaled(d->env, n, source, sign, out);
    tf_free(&d->env->mem, source);
    tf_free(&d->env->mem, sign);
    return status;
}

static tfuse_status draw_one(draw *d, tf_group group, tf_map **out)
{
    if (group & TF_G_LINEAR)
        return draw_linear(d, out);
    if (group & TF_G_ROT)
        return draw_rotation(d, out);
    if (group & TF_G_ROT_ONES)
        return draw_fixing_ones(d, out);
    if (group & (TF_G_PAIR_ROT | TF_G_PAIR_SCALE))
        return draw_pairs(d, group, out);
    return group == TF_GROUP_PAIR_SIGNS ? draw_pair_signs(d, out) : draw_units(d, group, out);
}

static tfuse_status draw_class(tf_env *env, const tf_graph *g, tf_id cls, tf_group group, uint64_t seed, tf_class_map *out)
{
    bool outer;
    TF_TRY(tf_class_is_outer(env, g, cls, &outer));
    if (outer)
        group &= TF_GROUP_PERM;
    if (group == TF_GROUP_PINNED)
        return TFUSE_OK;
    draw d = {env, g, tf_rng_make(seed, g->class_name[cls]), cls, tf_class_extent(g, cls)};
    const int64_t count = tf_class_instances(g, cls);
    if (!(out->maps = tf_calloc(env, (size_t)count, sizeof *out->maps)))
        return TFUSE_ENOMEM;
    out->instances = count;
    for (int64_t i = 0; i < count; i++)
        TF_TRY(draw_one(&d, group, &out->maps[i]));
    return TFUSE_OK;
}

tfuse_status tf_gauge_draw(tf_env *env, const tf_graph *g, const tf_group *groups, uint64_t seed, tf_class_map **out)
{
    tfuse_status status = TFUSE_OK;
    if (!(*out = tf_calloc(env, g->n_classes + 1, sizeof **out)))
        return TFUSE_ENOMEM;
    for (size_t c = 0; c < g->n_classes && status == TFUSE_OK; c++)
        status = draw_class(env, g, (tf_id)c, groups[c], seed, &(*out)[c]);
    if (status != TFUSE_OK) {
        tf_class_maps_free(env, g, *out);
        *out = NULL;
    }
    return status;
}

/* ---- the plan --------------------------------------------------------------------------------------------------------- */

static tfuse_status find_groups(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const tf_graph *g, tfuse_plan *plan,
                                tf_group *groups)
{
    tf_canonical form;
    TF_TRY(tf_canonical_make(env, g, m, plan->passes, (int)plan->n_passes, &form));
    const tfuse_status status = tf_groups(env, g, tf_canonical_top(&form), groups);
    tf_canonical_free(&form);
    for (size_t c = 0; c < g->n_classes && status == TFUSE_OK; c++)
        if (!tf_policy_is(policy, "gauge.stream", "orthogonal") && tf_class_is_stream(g, (tf_id)c))
            groups[c] &= tf_policy_is(policy, "gauge.stream", "none") ? TF_GROUP_PINNED : TF_GROUP_PERM_SIGN;
    return status;
}

static tfuse_status fill(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const tf_graph *g, tfuse_plan *plan)
{
    tf_class_map *maps = NULL;
    tf_group *groups = tf_alloc_array(env, g->n_classes + 1, sizeof *groups);
    tfuse_status status = groups ? TFUSE_OK : TFUSE_ENOMEM;
    for (int k = 0; k < 2 && status == TFUSE_OK; k++)
        status = tf_plan_describe_model(env, &plan->arena, m, g, &plan->models[k]);
    for (const tf_pass *p = tf_passes; p->name && status == TFUSE_OK && tf_policy_is(policy, "gauge.stream", "orthogonal"); p++)
        status = tf_plan_add_pass(env, plan, p->name);
    if (status == TFUSE_OK)
        status = find_groups(env, policy, m, g, plan, groups);
    if (status == TFUSE_OK)
        status = tf_gauge_draw(env, g, groups, (uint64_t)tf_policy_int(policy, "run.seed"), &maps);
    if (status == TFUSE_OK)
        status = tf_class_plan(env, plan, 1, g, g, maps);
    tf_class_maps_free(env, g, maps);
    tf_free(&env->mem, groups);
    return status;
}

tfuse_status tf_gauge(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const tf_graph *g, tfuse_plan **out)
{
    TF_TRY(tf_plan_new(env, "gauge", 2, out));
    (*out)->carries = (*out)->exact = true;
    const tfuse_status status = fill(env, policy, m, g, *out);
    if (status != TFUSE_OK) {
        tf_plan_free(*out);
        *out = NULL;
    }
    return status;
}
