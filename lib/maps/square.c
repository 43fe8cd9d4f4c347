/* SPDX-License-Identifier: Apache-2.0
 *
 * square.c: invertible maps: permutations with scale, orthogonal and linear ones, blocks of them; inverse, composition, neutral part.
 *
 * The inverse of a linear T comes from its singular value decomposition in float64, which also tells its condition number; beyond
 * 10^5 float32 weights that went there and back would keep no digits worth having, so such a T is refused.
 */
#include "maps/map.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

#define MOST_CONDITION 1e5

tfuse_status tf_map_scaled(tf_env *env, int64_t n, const int64_t *source, const float *scale, tf_map **out)
{
    for (int64_t j = 0; j < n; j++)
        if (!isnormal(scale[j])) {
            *out = NULL;
            return tf_fail(env, TFUSE_EINVAL, "unit %lld of a permutation with scale has factor %g", (long long)j, (double)scale[j]);
        }
    TF_TRY(tf_map_permutation(env, n, source, out));
    (*out)->kind = TF_MAP_SCALED;
    if (!((*out)->scale = tf_alloc_array(env, (size_t)n, sizeof *scale))) {
        tf_map_free(*out);
        *out = NULL;
        return TFUSE_ENOMEM;
    }
    memcpy((*out)->scale, scale, (size_t)n * sizeof *scale);
    return TFUSE_OK;
}

/* inv = T^-T = U diag(1/s) V' of T = U diag(s) V'. */
static tfuse_status invert_transposed(tf_env *env, int64_t n, const float *t, float *inv)
{
    const size_t count = (size_t)n * (size_t)n;
    double *x = tf_alloc_array(env, 4 * count + (size_t)n, sizeof *x);
    if (!x)
        return TFUSE_ENOMEM;
    double *u = x + count, *vt = u + count, *y = vt + count, *s = y + count;
    for (size_t i = 0; i < count; i++)
        x[i] = (double)t[i];
    tfuse_status status = tf_svd(env, n, n, x, u, s, vt);
    if (status == TFUSE_OK && !(s[n - 1] * MOST_CONDITION > s[0]))
        status = tf_fail(env, TFUSE_EINVAL, "a linear map of %lld units cannot be inverted: its condition number is %.2g",
                         (long long)n, s[n - 1] > 0 ? s[0] / s[n - 1] : INFINITY);
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        u[i] /= s[i % (size_t)n];
    if (status == TFUSE_OK)
        tf_dgemm(env, 1, (tf_dmat){u, n, n, n, 1}, (tf_dmat){vt, n, n, n, 1}, 0, (tf_dmat){y, n, n, n, 1});
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        inv[i] = (float)y[i];
    tf_free(&env->mem, x);
    return status;
}

static tfuse_status check_orthogonal(tf_env *env, int64_t n, const float *t)
{
    const size_t count = (size_t)n * (size_t)n;
    float *x = tf_alloc_array(env, 2 * count, sizeof *x), worst = 0;
    if (!x)
        return TFUSE_ENOMEM;
    memcpy(x, t, count * sizeof *t);
    tf_gemm(env, 1, tf_mat_t(tf_mat_rows(x, n, n)), tf_mat_rows(x, n, n), 0, tf_mat_rows(x + count, n, n));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            worst = fmaxf(worst, fabsf(x[count + (size_t)(i * n + j)] - (float)(i == j)));
    tf_free(&env->mem, x);
    return worst <= 1e-4f ? TFUSE_OK : tf_fail(env, TFUSE_EINVAL, "a map of %lld units is not orthogonal", (long long)n);
}

tfuse_status tf_map_square(tf_env *env, tf_map_kind kind, int64_t n, const float *matrix, tf_map **out)
{
    TF_TRY(tf_map_dense(env, kind, n, n, matrix, out));
    tfuse_status status = TFUSE_OK;
    if (kind == TF_MAP_ORTHOGONAL)
        status = check_orthogonal(env, n, matrix);
    else if (!((*out)->inverse = tf_alloc_array(env, (size_t)(n * n), sizeof *matrix)))
        status = TFUSE_ENOMEM;
    else
        status = invert_transposed(env, n, matrix, (*out)->inverse);
    if (status != TFUSE_OK) {
        tf_map_free(*out);
        *out = NULL;
    }
    return status;
}

bool tf_map_invertible(const tf_map *map)
{
    if (map->kind == TF_MAP_COUPLING || map->kind == TF_MAP_RAW || map->kind == TF_MAP_SELECTION || map->kind == TF_MAP_RECTANGULAR ||
        map->n != map->m || map->share)
        return false;
    for (int64_t b = 0; map->kind == TF_MAP_BLOCK && b < map->blocks_m; b++)
        if (!map->inner[b] || !tf_map_invertible(map->inner[b]))
            return false;
    return true;
}

/* ---- inverse, composition ------------------------------------------------------------------------------------ */

static tfuse_status from_units(tf_env *env, int64_t n, const int64_t *source, const float *scale, tf_map **out)
{
    return scale ? tf_map_scaled(env, n, source, scale, out) : tf_map_permutation(env, n, source, out);
}

static tfuse_status invert_units(tf_env *env, const tf_map *map, tf_map **out)
{
    int64_t *source = tf_alloc_array(env, (size_t)map->n, sizeof *source);
    float *scale = tf_alloc_array(env, (size_t)map->n, sizeof *scale);
    tfuse_status status = source && scale ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t j = 0; j < map->n && status == TFUSE_OK; j++) {
        source[map->source[j]] = j;
        scale[map->source[j]] = map->scale ? 1 / map->scale[j] : 1;
    }
    if (status == TFUSE_OK)
        status = from_units(env, map->n, source, map->scale ? scale : NULL, out);
    tf_free(&env->mem, source);
    tf_free(&env->mem, scale);
    return status;
}

static tfuse_status invert_square(tf_env *env, const tf_map *map, tf_map **out)
{
    const int64_t n = map->n;
    const float *from = map->inverse ? map->inverse : map->dense;
    float *t = tf_alloc_array(env, (size_t)(n * n), sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < n * n; i++)
        t[i] = from[i % n * n + i / n];
    const tfuse_status status = tf_map_square(env, map->kind, n, t, out);
    tf_free(&env->mem, t);
    return status;
}

typedef tfuse_status (*make_fn)(tf_env *env, const tf_map *map, tf_map **out);

/* A block map whose blocks are made from this one's; `back`: block source[b] of it comes from b. */
static tfuse_status each_block(tf_env *env, const tf_map *map, bool back, make_fn make, tf_map **out)
{
    tf_map **inner = tf_calloc(env, (size_t)map->blocks_m, sizeof *inner);
    int64_t *source = tf_alloc_array(env, (size_t)map->blocks_m, sizeof *source);
    tfuse_status status = inner && source ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t b = 0; b < map->blocks_m && status == TFUSE_OK; b++) {
        const int64_t to = back ? map->block_source[b] : b;
        source[to] = back ? b : map->block_source[b];
        if (map->inner[b])
            status = make(env, map->inner[b], &inner[to]);
    }
    if (status == TFUSE_OK)
        status = tf_map_block(env, back ? map->blocks_m : map->blocks_n, back ? map->blocks_n : map->blocks_m, source, inner, out);
    else
        for (int64_t b = 0; inner && b < map->blocks_m; b++)
            tf_map_free(inner[b]);
    tf_free(&env->mem, inner);
    tf_free(&env->mem, source);
    return status;
}

tfuse_status tf_map_inverse(tf_env *env, const tf_map *map, tf_map **out)
{
    *out = NULL;
    if (!tf_map_invertible(map))
        return tf_fail(env, TFUSE_EINVAL, "a %s map of %lld units onto %lld has no inverse", tf_map_kind_name(map->kind),
                       (long long)map->n, (long long)map->m);
    if (map->kind == TF_MAP_BLOCK)
        return each_block(env, map, true, tf_map_inverse, out);
    if (map->kind == TF_MAP_IDENTITY)
        return tf_map_identity(env, map->n, out);
    return map->source ? invert_units(env, map, out) : invert_square(env, map, out);
}

tfuse_status tf_map_neutral(tf_env *env, const tf_map *map, tf_map **out)
{
    *out = NULL;
    if (map->kind == TF_MAP_BLOCK && tf_map_is_sided(map))
        return each_block(env, map, false, tf_map_neutral, out);
    if (map->kind == TF_MAP_IDENTITY)
        return tf_map_identity(env, map->n, out);
    if (map->kind == TF_MAP_SELECTION)
        return tf_map_selection(env, map->n, map->m, map->source, NULL, out);
    if (map->source)
        return tf_map_permutation(env, map->n, map->source, out);
    if (map->kind == TF_MAP_RECTANGULAR)
        return tf_map_neutral_merge(env, map, out);
    return tf_fail(env, TFUSE_EINVAL, "a map of %lld units, %s, moves what only a permutation may move", (long long)map->n,
                   tf_map_kind_name(map->kind));
}

static tfuse_status compose_units(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out)
{
    const bool selects = a->kind == TF_MAP_SELECTION || b->kind == TF_MAP_SELECTION;
    int64_t *source = tf_alloc_array(env, (size_t)b->m, sizeof *source);
    float *scale = tf_alloc_array(env, (size_t)b->m, sizeof *scale);
    tfuse_status status = source && scale ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t j = 0; j < b->m && status == TFUSE_OK; j++) {
        const int64_t k = b->source ? b->source[j] : j;
        source[j] = a->source && k >= 0 ? a->source[k] : k;
        scale[j] = (a->scale && k >= 0 ? a->scale[k] : 1) * (b->scale ? b->scale[j] : 1);
    }
    if (status == TFUSE_OK && selects)
        status = tf_map_selection(env, a->n, b->m, source, a->scale || b->scale ? scale : NULL, out);
    else if (status == TFUSE_OK)
        status = from_units(env, a->n, source, a->scale || b->scale ? scale : NULL, out);
    tf_free(&env->mem, source);
    tf_free(&env->mem, scale);
    return status;
}

static bool is_units(const tf_map *map)
{
    return map->kind == TF_MAP_IDENTITY || map->source;
}

static bool is_orthogonal(const tf_map *map)
{
    bool all = map->kind == TF_MAP_IDENTITY || map->kind == TF_MAP_PERMUTATION || map->kind == TF_MAP_ORTHOGONAL;
    if (map->kind == TF_MAP_BLOCK) {
        all = true;
        for (int64_t b = 0; b < map->blocks_m; b++)
            all = all && is_orthogonal(map->inner[b]);
    }
    return all;
}

/* The rows of a rectangular map as units with scales say, and the columns: no products of matrices. */
static tfuse_status compose_rows(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out)
{
    const int64_t n = a->n, m = b->m;
    float *t = tf_alloc_array(env, (size_t)(2 * n * m), sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t k = 0; k < n; k++) {
        const int64_t i = a->source ? a->source[k] : k;
        const float by = a->scale ? a->scale[k] : 1;
        for (int64_t j = 0; j < m; j++) {
            t[i * m + j] = by * b->dense[k * m + j];
            t[(n + i) * m + j] = b->inverse[k * m + j] / by;
        }
    }
    const tfuse_status status = tf_map_rectangular(env, n, m, t, t + n * m, out);
    tf_free(&env->mem, t);
    return status;
}

static tfuse_status compose_columns(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out)
{
    const int64_t n = a->n, m = b->m;
    float *t = tf_alloc_array(env, (size_t)(2 * n * m), sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            const int64_t k = b->source ? b->source[j] : j;
            const float by = b->scale ? b->scale[j] : 1;
            t[i * m + j] = by * a->dense[i * m + k];
            t[(n + i) * m + j] = a->inverse[i * m + k] / by;
        }
    const tfuse_status status = tf_map_rectangular(env, n, m, t, t + n * m, out);
    tf_free(&env->mem, t);
    return status;
}

/* Of unequal extents: each side's operators in turn. */
static tfuse_status compose_sides(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out)
{
    const int64_t n = a->n, k = a->m, m = b->m;
    float *ta = tf_alloc_array(env, (size_t)(n * k + k * m + 2 * n * m), sizeof *ta);
    if (!ta)
        return TFUSE_ENOMEM;
    float *tb = ta + n * k, *t = tb + k * m;
    for (int side = 0; side < 2; side++) {
        (side ? tf_map_consumed : tf_map_matrix)(a, ta);
        (side ? tf_map_consumed : tf_map_matrix)(b, tb);
        tf_gemm(env, 1, tf_mat_rows(ta, n, k), tf_mat_rows(tb, k, m), 0, tf_mat_rows(t + side * n * m, n, m));
    }
    const tfuse_status status = tf_map_rectangular(env, n, m, t, t + n * m, out);
    tf_free(&env->mem, ta);
    return status;
}

/* Produced operators: y = T_b' T_a' x, so T = T_a T_b. */
tfuse_status tf_map_compose(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out)
{
    *out = NULL;
    if (a->m != b->n || !tf_map_is_sided(a) || !tf_map_is_sided(b))
        return tf_fail(env, TFUSE_EINVAL, "a %s and a %s map do not compose", tf_map_kind_name(a->kind), tf_map_kind_name(b->kind));
    if (is_units(a) && is_units(b))
        return compose_units(env, a, b, out);
    if (is_units(a) && tf_map_invertible(a) && b->kind == TF_MAP_RECTANGULAR)
        return compose_rows(env, a, b, out);
    if (a->kind == TF_MAP_RECTANGULAR && is_units(b) && tf_map_invertible(b))
        return compose_columns(env, a, b, out);
    if (!tf_map_invertible(a) || !tf_map_invertible(b))
        return compose_sides(env, a, b, out);
    const int64_t n = a->n;
    float *ta = tf_alloc_array(env, (size_t)(3 * n * n), sizeof *ta);
    if (!ta)
        return TFUSE_ENOMEM;
    float *tb = ta + n * n, *t = tb + n * n;
    tf_map_matrix(a, ta);
    tf_map_matrix(b, tb);
    tf_gemm(env, 1, tf_mat_rows(ta, n, n), tf_mat_rows(tb, n, n), 0, tf_mat_rows(t, n, n));
    const tf_map_kind kind = is_orthogonal(a) && is_orthogonal(b) ? TF_MAP_ORTHOGONAL : TF_MAP_LINEAR;
    const tfuse_status status = tf_map_square(env, kind, n, t, out);
    tf_free(&env->mem, ta);
    return status;
}
