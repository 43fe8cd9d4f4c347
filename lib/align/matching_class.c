/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_class.c: the map of one class that agrees best with its evidence, given the maps of the others. With X the inner products of the
 * model's units with the anchor's, sum_ij T_ij X_ij is largest
 *   over rotations         for the polar factor of X (Schoenemann 1966),
 *   over those that fix 1  for the polar factor of X on the complement of 1, and 1 on 1,
 *   over turns of pairs    for the angle atan2(X_ij - X_ji, X_ii + X_jj) of pair (i, j),
 *   over signs of pairs    for the sign of X_ii + X_jj,
 *   over permutations      by assignment; with signs on |X|.
 * Between unequal extents the polar factor is that of the rectangular X: it has orthonormal rows or columns, whichever are fewer. Fixing 1 then
 * means 1/sqrt(n) onto 1/sqrt(m).
 */
#include "align/matching.h"
#include "base/rng.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

static tfuse_status replace(matching *mt, tf_id cls, int64_t instance, tf_map *map)
{
    tf_map_free(mt->maps[cls].maps[instance]);
    mt->maps[cls].maps[instance] = map;
    return TFUSE_OK;
}

/* ---- permutations --------------------------------------------------------------------------------------------- */

/* Gains as costs of a square problem. Rows are the model's units, `copies` times over, columns the anchor's and then such as take what goes nowhere: first
 * copies shun these by more than any gain could make good, so each unit goes somewhere where it can. */
static void fill_costs(int64_t n, int64_t m, int64_t size, const float *gain, float *cost)
{
    float most = -INFINITY, least = INFINITY;
    for (int64_t i = 0; i < n * m; i++) {
        most = fmaxf(most, gain[i]);
        least = fminf(least, gain[i]);
    }
    const float shunned = n < m ? 1.25f * (most - least) + 1e-20f : 0;
    for (int64_t i = 0; i < size; i++) {
        for (int64_t j = 0; j < m; j++)
            cost[i * size + j] = most - gain[i % n * m + j];
        for (int64_t j = m; j < size; j++)
            cost[i * size + j] = i < n ? shunned : 0;
    }
}

tfuse_status mt_assign(matching *mt, int64_t n, int64_t m, const float *gain, int64_t *source, double *gap)
{
    const int64_t size = n < m ? n * ((m + n - 1) / n) : n;
    float *cost = tf_alloc_array(mt->env, (size_t)(size * size), sizeof *cost);
    tf_solution s = {0};
    if (!cost)
        return TFUSE_ENOMEM;
    fill_costs(n, m, size, gain, cost);
    const tf_ot_options options = {.strict = true};
    tfuse_status status = tf_ot_solve(mt->env, mt->job->solvers, tf_policy_text(mt->job->policy, "solver.name"), &options, size, size, cost, NULL,
                                      NULL, &s);
    if (status == TFUSE_OK && s.kind != TF_COUPLING_PERMUTATION)
        status = tf_fail(mt->env, TFUSE_EUNSUPPORTED, "solver.name=%s gives no permutation, which matching needs; use exact",
                         tf_policy_text(mt->job->policy, "solver.name"));
    for (int64_t i = 0; i < size && status == TFUSE_OK; i++)
        if (s.perm[i] < m)
            source[s.perm[i]] = i % n;
    *gap = s.gap * (double)size; /* of the sum, where masses are 1 / size */
    tf_solution_free(&s);
    tf_free(&mt->env->mem, cost);
    return status;
}

static tfuse_status make_units(matching *mt, int64_t n, int64_t m, const int64_t *source, const float *sign, tf_map **out)
{
    if (n != m)
        return tf_map_selection(mt->env, n, m, source, sign, out);
    return sign ? tf_map_scaled(mt->env, n, source, sign, out) : tf_map_permutation(mt->env, n, source, out);
}

tfuse_status mt_set_permutation(matching *mt, tf_id cls, int64_t instance, const int64_t *source)
{
    tf_map *map = NULL;
    TF_TRY(make_units(mt, mt_extent(mt, MT_MODEL, cls), mt_extent(mt, MT_ANCHOR, cls), source, NULL, &map));
    return replace(mt, cls, instance, map);
}

static tfuse_status match_units(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram, double *gap)
{
    const int64_t n = gram->n, m = gram->m;
    const int64_t at = (instance - gram->first) * n * m;
    const float *x = gram->x + at, *neutral = gram->neutral ? gram->neutral + at : NULL;
    const bool has_signs = mt->classes[cls].shape == MT_SIGNED_UNITS;
    float *gain = tf_alloc_array(mt->env, (size_t)(n * m + m), sizeof *gain), *sign = gain + n * m;
    int64_t *source = tf_alloc_array(mt->env, (size_t)m, sizeof *source);
    tf_map *map = NULL;
    tfuse_status status = gain && source ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n * m && status == TFUSE_OK; i++)
        gain[i] = (has_signs ? fabsf(x[i]) : x[i]) + (neutral ? neutral[i] : 0);
    if (status == TFUSE_OK && mt->soft)
        status = mt_soft_units(mt, n, gain, x, has_signs, &map);
    else if (status == TFUSE_OK)
        status = mt_assign(mt, n, m, gain, source, gap);
    for (int64_t j = 0; j < m && status == TFUSE_OK && !mt->soft; j++)
        sign[j] = x[source[j] * m + j] < 0 ? -1.0f : 1.0f;
    if (status == TFUSE_OK && !mt->soft)
        status = make_units(mt, n, m, source, has_signs ? sign : NULL, &map);
    if (status == TFUSE_OK)
        status = replace(mt, cls, instance, map);
    tf_free(&mt->env->mem, gain);
    tf_free(&mt->env->mem, source);
    return status;
}

tfuse_status mt_first_map(matching *mt, tf_id cls, tf_map **out)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls);
    if (n == m)
        return tf_map_identity(mt->env, n, out);
    int64_t *source = tf_alloc_array(mt->env, (size_t)m, sizeof *source);
    if (!source)
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < m; j++)
        source[j] = j % n;
    const tfuse_status status = tf_map_selection(mt->env, n, m, source, NULL, out);
    tf_free(&mt->env->mem, source);
    return status;
}

/* ---- rotations -------------------------------------------------------------------------------------------------- */

/* x (n×m) without its part along the ones vectors on either side, and with a multiple of 1 1' in its place. */
static void keep_ones(double *x, int64_t n, int64_t m)
{
    double size = 0;
    for (int64_t i = 0; i < n; i++) {
        double mean = 0;
        for (int64_t j = 0; j < m; j++)
            mean += x[i * m + j] / (double)m;
        for (int64_t j = 0; j < m; j++)
            x[i * m + j] -= mean;
    }
    for (int64_t j = 0; j < m; j++) {
        double mean = 0;
        for (int64_t i = 0; i < n; i++)
            mean += x[i * m + j] / (double)n;
        for (int64_t i = 0; i < n; i++)
            x[i * m + j] -= mean;
    }
    for (int64_t i = 0; i < n * m; i++)
        size += x[i] * x[i];
    for (int64_t i = 0; i < n * m; i++)
        x[i] += (size > 0 ? sqrt(size) : 1) / sqrt((double)n * (double)m);
}

/* The factor U V' of x = U S V' (n×m). work: n k + k + k m with k the smaller extent. */
static tfuse_status polar(tf_env *env, int64_t n, int64_t m, const double *x, double *work, double *q)
{
    const int64_t k = n < m ? n : m;
    double *u = work, *s = u + n * k, *vt = s + k;
    if (n == m)
        return tf_polar(env, n, x, q);
    TF_TRY(tf_svd(env, n, m, x, u, s, vt));
    tf_dgemm(env, 1, (tf_dmat){u, n, k, k, 1}, (tf_dmat){vt, k, m, m, 1}, 0, (tf_dmat){q, n, m, m, 1});
    return TFUSE_OK;
}

static tfuse_status match_rotation(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram)
{
    const int64_t n = gram->n, m = gram->m;
    const size_t count = (size_t)(n * m);
    const size_t work = n == m ? 0 : (size_t)((n + m + 1) * (n < m ? n : m));
    double *x = tf_alloc_array(mt->env, 2 * count + work, sizeof *x);
    float *t = tf_alloc_array(mt->env, count, sizeof *t);
    tf_map *map = NULL;
    tfuse_status status = x && t ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        x[i] = (double)gram->x[(size_t)(instance - gram->first) * count + i];
    if (status == TFUSE_OK && mt->classes[cls].shape == MT_ROTATION_ONES)
        keep_ones(x, n, m);
    if (status == TFUSE_OK)
        status = polar(mt->env, n, m, x, x + 2 * count, x + count);
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        t[i] = (float)x[count + i];
    if (status == TFUSE_OK)
        status = n == m ? tf_map_square(mt->env, TF_MAP_ORTHOGONAL, n, t, &map) : tf_map_rectangular(mt->env, n, m, t, t, &map);
    if (status == TFUSE_OK)
        status = replace(mt, cls, instance, map);
    tf_free(&mt->env->mem, x);
    tf_free(&mt->env->mem, t);
    return status;
}

/* Pairs that may change their sign alone. */
static tfuse_status match_pair_signs(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram)
{
    const int64_t n = gram->n;
    const bool side = tf_class_is_interleaved(mt->g, cls);
    const float *x = gram->x + (instance - gram->first) * n * n;
    int64_t *source = tf_alloc_array(mt->env, (size_t)n, sizeof *source);
    float *sign = tf_alloc_array(mt->env, (size_t)n, sizeof *sign);
    tf_map *map = NULL;
    tfuse_status status = source && sign ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t p = 0; p < n / 2 && status == TFUSE_OK; p++) {
        const int64_t i = side ? 2 * p : p, j = side ? 2 * p + 1 : p + n / 2;
        source[i] = i;
        source[j] = j;
        sign[i] = sign[j] = (double)x[i * n + i] + (double)x[j * n + j] < 0 ? -1.0f : 1.0f;
    }
    if (status == TFUSE_OK)
        status = tf_map_scaled(mt->env, n, source, sign, &map);
    tf_free(&mt->env->mem, source);
    tf_free(&mt->env->mem, sign);
    return status == TFUSE_OK ? replace(mt, cls, instance, map) : status;
}

static tfuse_status match_pairs(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram)
{
    const int64_t n = gram->n;
    const bool side = tf_class_is_interleaved(mt->g, cls);
    const float *x = gram->x + (instance - gram->first) * n * n;
    float *t = tf_calloc(mt->env, (size_t)(n * n), sizeof *t);
    tf_map *map = NULL;
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t p = 0; p < n / 2; p++) {
        const int64_t i = side ? 2 * p : p, j = side ? 2 * p + 1 : p + n / 2;
        const double angle = atan2((double)x[i * n + j] - (double)x[j * n + i], (double)x[i * n + i] + (double)x[j * n + j]);
        t[i * n + i] = t[j * n + j] = (float)cos(angle);
        t[i * n + j] = (float)sin(angle);
        t[j * n + i] = -t[i * n + j];
    }
    tfuse_status status = tf_map_square(mt->env, TF_MAP_ORTHOGONAL, n, t, &map);
    tf_free(&mt->env->mem, t);
    return status == TFUSE_OK ? replace(mt, cls, instance, map) : status;
}

/* ---- one class ---------------------------------------------------------------------------------------------------- */

static tfuse_status match_instance(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram, double *gap)
{
    switch (mt->classes[cls].shape) {
    case MT_ROTATION:
    case MT_ROTATION_ONES:
        return match_rotation(mt, cls, instance, gram);
    case MT_PAIRS:
        return (mt->classes[cls].group & TF_G_PAIR_ROT ? match_pairs : match_pair_signs)(mt, cls, instance, gram);
    case MT_UNITS:
    case MT_SIGNED_UNITS:
        return match_units(mt, cls, instance, gram, gap);
    case MT_FIXED:
        break;
    }
    return TFUSE_OK;
}

/* sum_ij T_ij X_ij of what was found. */
static tfuse_status agreement(matching *mt, tf_id cls, int64_t instance, const mt_gram *gram, double *sum)
{
    const int64_t count = gram->n * gram->m, at = (instance - gram->first) * count;
    const float *x = gram->x + at, *neutral = gram->neutral ? gram->neutral + at : NULL;
    float *t = tf_alloc_array(mt->env, (size_t)count, sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    tf_map_matrix(mt->maps[cls].maps[instance], t);
    for (int64_t i = 0; i < count; i++)
        *sum += (double)t[i] * (double)x[i] + (neutral ? fabs((double)t[i]) * (double)neutral[i] : 0);
    tf_free(&mt->env->mem, t);
    return TFUSE_OK;
}

static bool has_evidence(const mt_gram *gram, int64_t i)
{
    return gram->most[i] > 0;
}

static tfuse_status copy_gram(matching *mt, const mt_gram *from, mt_gram *to)
{
    const size_t count = (size_t)(from->instances * from->n * from->m);
    *to = (mt_gram){.n = from->n, .m = from->m, .instances = from->instances};
    to->x = tf_alloc_array(mt->env, count, sizeof *to->x);
    to->neutral = from->neutral ? tf_alloc_array(mt->env, count, sizeof *to->neutral) : NULL;
    if (!to->x || (from->neutral && !to->neutral))
        return TFUSE_ENOMEM;
    memcpy(to->x, from->x, count * sizeof *to->x);
    if (to->neutral)
        memcpy(to->neutral, from->neutral, count * sizeof *to->neutral);
    return TFUSE_OK;
}

/* What all instances of a class come to. */
typedef struct found {
    double agreed, most, gap;
    bool any;
} found;

/* Matches the instances of a Gram. weights: of streams, the part of the Gram that is of weights. */
static tfuse_status match_instances(matching *mt, tf_id cls, const mt_gram *gram, const mt_gram *weights, found *f)
{
    for (int64_t i = 0; i < gram->instances; i++) {
        const int64_t instance = gram->first + i;
        double own = 0;
        if (!has_evidence(gram, i))
            continue;
        TF_TRY(match_instance(mt, cls, instance, gram, &own));
        TF_TRY(agreement(mt, cls, instance, gram, &f->agreed));
        if (weights->x)
            TF_TRY(agreement(mt, cls, instance, weights, &mt->stream_sum));
        f->most += gram->most[i];
        f->gap += own;
        f->any = true;
    }
    return TFUSE_OK;
}

static tfuse_status match_together(matching *mt, tf_id cls, found *f)
{
    const bool stream = tf_class_is_stream(mt->g, cls);
    mt_gram gram, weights = {0};
    tfuse_status status = mt_gram_make(mt, cls, 0, tf_class_instances(mt->g, cls), &gram);
    if (status == TFUSE_OK && mt->use_weights)
        status = mt_weights_gram(mt, cls, &gram);
    if (status == TFUSE_OK && stream && mt->use_weights)
        status = copy_gram(mt, &gram, &weights);
    if (status == TFUSE_OK && mt->use_activations)
        status = mt_values_gram(mt, cls, &gram);
    if (status == TFUSE_OK)
        status = match_instances(mt, cls, &gram, &weights, f);
    mt_gram_free(mt, &gram);
    mt_gram_free(mt, &weights);
    if (stream)
        mt_forget_streams(mt);
    return status;
}

/* Units of many blocks, one block after the other. */
static tfuse_status match_apart(matching *mt, tf_id cls, found *f)
{
    const mt_gram none = {0};
    mt_blocks blocks = {0};
    tfuse_status status = mt->use_weights ? mt_blocks_make(mt, cls, false, &blocks) : TFUSE_OK;
    for (int64_t i = 0; i < tf_class_instances(mt->g, cls) && status == TFUSE_OK; i++) {
        mt_gram gram;
        status = mt_gram_make(mt, cls, i, 1, &gram);
        if (status == TFUSE_OK)
            mt_blocks_gram(mt, &blocks, &gram);
        if (status == TFUSE_OK && mt->use_activations)
            status = mt_values_gram(mt, cls, &gram);
        if (status == TFUSE_OK)
            status = match_instances(mt, cls, &gram, &none, f);
        mt_gram_free(mt, &gram);
    }
    mt_blocks_free(mt, &blocks);
    return status;
}

tfuse_status mt_random_map(matching *mt, tf_id cls, int64_t number)
{
    tf_rng rng = tf_rng_make((uint64_t)tf_policy_int(mt->job->policy, "run.seed") + (uint64_t)number, mt->g->class_name[cls]);
    double gap = 0;
    mt_gram gram;
    tfuse_status status = mt_gram_make(mt, cls, 0, tf_class_instances(mt->g, cls), &gram);
    for (int64_t i = 0; status == TFUSE_OK && i < gram.instances * gram.n * gram.m; i++)
        gram.x[i] = (float)tf_rng_normal(&rng);
    for (int64_t i = 0; status == TFUSE_OK && i < gram.instances; i++)
        status = match_instance(mt, cls, i, &gram, &gap);
    mt_gram_free(mt, &gram);
    return status;
}

tfuse_status mt_match_class(matching *mt, tf_id cls)
{
    found f = {0};
    const bool apart = mt->classes[cls].shape >= MT_UNITS && tf_class_instances(mt->g, cls) > 1;
    const tfuse_status status = (apart ? match_apart : match_together)(mt, cls, &f);
    if (status != TFUSE_OK)
        return tf_fail_in(mt->env, status, "matching %s", mt->g->class_name[cls]);
    tf_class_map *out = &mt->maps[cls];
    out->solver = mt->classes[cls].shape >= MT_UNITS ? tf_policy_text(mt->job->policy, "solver.name") : "procrustes";
    out->cost = f.any ? 1 - f.agreed / f.most : NAN;
    out->gap = f.any ? f.gap / f.most : NAN;
    out->correlation = f.any ? f.agreed / f.most : NAN;
    mt->classes[cls].known = mt->classes[cls].known || f.any;
    return TFUSE_OK;
}
