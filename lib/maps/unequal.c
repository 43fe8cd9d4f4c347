/* SPDX-License-Identifier: Apache-2.0
 *
 * unequal.c: maps between axes of unequal extents that have an operator of their own on each side, as invertible maps have.
 *
 * Let P (n×m) produce, by P', and C (n×m) consume. What a weight W reads of the model's units x it reads of P'x as W C, so the function is kept when
 * C P' = 1, which takes m >= n: an orthogonal embedding (P P' = 1, C = P) and copies of units (P picks, C divides by how many there are) do.
 * Onto fewer units C P' is a projection, and what it takes away is lost. Units that are merged into one have P_ij C_ij summing to one over them: then
 * P' C = 1, and units that are multiples of one another are lost no more than copies are. Where neither side's factor may act (gates) they
 * are averaged by those products.
 */
#include "maps/map.h"
#include <math.h>
#include <string.h>

static tfuse_status fill_selection(tf_env *env, tf_map *map, const int64_t *source, const float *scale)
{
    map->source = tf_alloc_array(env, (size_t)map->m, sizeof *map->source);
    map->scale = scale ? tf_alloc_array(env, (size_t)map->m, sizeof *map->scale) : NULL;
    if (!map->source || (scale && !map->scale))
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < map->m; j++) {
        if (source[j] < -1 || source[j] >= map->n)
            return tf_fail(env, TFUSE_EINVAL, "unit %lld of a selection from %lld has source %lld", (long long)j, (long long)map->n, (long long)source[j]);
        if (scale && !isnormal(scale[j]))
            return tf_fail(env, TFUSE_EINVAL, "unit %lld of a selection has factor %g", (long long)j, (double)scale[j]);
    }
    memcpy(map->source, source, (size_t)map->m * sizeof *source);
    if (scale)
        memcpy(map->scale, scale, (size_t)map->m * sizeof *scale);
    return TFUSE_OK;
}

tfuse_status tf_map_selection(tf_env *env, int64_t n, int64_t m, const int64_t *source, const float *scale, tf_map **out)
{
    TF_TRY(tf_map_new(env, TF_MAP_SELECTION, n, m, out));
    const tfuse_status status = fill_selection(env, *out, source, scale);
    if (status != TFUSE_OK) {
        tf_map_free(*out);
        *out = NULL;
    }
    return status;
}

tfuse_status tf_map_rectangular(tf_env *env, int64_t n, int64_t m, const float *produced, const float *consumed, tf_map **out)
{
    return tf_map_dense_pair(env, TF_MAP_RECTANGULAR, n, m, produced, consumed, out);
}

tfuse_status tf_map_merge(tf_env *env, int64_t n, int64_t m, const int64_t *into, const float *produced, const float *consumed, tf_map **out)
{
    float *both = tf_calloc(env, (size_t)(2 * n * m), sizeof *both);
    tfuse_status status = both ? TFUSE_OK : TFUSE_ENOMEM;
    *out = NULL;
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        if (into[i] < -1 || into[i] >= m)
            status = tf_fail(env, TFUSE_EINVAL, "unit %lld is merged into unit %lld of %lld", (long long)i, (long long)into[i], (long long)m);
        else if (into[i] >= 0) {
            both[i * m + into[i]] = produced[i];
            both[(n + i) * m + into[i]] = consumed[i];
        }
    }
    if (status == TFUSE_OK)
        status = tf_map_rectangular(env, n, m, both, both + n * m, out);
    tf_free(&env->mem, both);
    return status;
}

/* Of a coupling P of equally many units, with factors on either side: both operators are P times what depends on a row or on a column alone, and so is the
 * root of their product; with columns that sum to one it is P's. */
static tfuse_status neutral_coupling(tf_env *env, const tf_map *map, tf_map **out)
{
    const int64_t n = map->n;
    float *share = tf_alloc_array(env, (size_t)(n * n), sizeof *share);
    if (!share)
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += sqrt(fabs((double)map->dense[i * n + j] * (double)map->inverse[i * n + j]));
        for (int64_t i = 0; i < n; i++)
            share[i * n + j] = sum > 0 ? (float)(sqrt(fabs((double)map->dense[i * n + j] * (double)map->inverse[i * n + j])) / sum) : 0;
    }
    const tfuse_status status = tf_map_rectangular(env, n, n, share, share, out);
    tf_free(&env->mem, share);
    return status;
}

tfuse_status tf_map_neutral_merge(tf_env *env, const tf_map *map, tf_map **out)
{
    const int64_t n = map->n, m = map->m;
    if (n == m)
        return neutral_coupling(env, map, out);
    int64_t *into = tf_alloc_array(env, (size_t)n, sizeof *into);
    float *share = tf_alloc_array(env, (size_t)(2 * n), sizeof *share), *ones = share + n;
    tfuse_status status = into && share ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        into[i] = -1;
        share[i] = ones[i] = 1;
        for (int64_t j = 0; j < m && status == TFUSE_OK; j++) {
            if (map->dense[i * m + j] == 0 && map->inverse[i * m + j] == 0)
                continue;
            if (into[i] >= 0)
                status = tf_fail(env, TFUSE_EINVAL, "a rectangular map of %lld units onto %lld moves what only a permutation may move", (long long)n,
                                 (long long)m);
            into[i] = j;
            share[i] = map->dense[i * m + j] * map->inverse[i * m + j];
        }
    }
    if (status == TFUSE_OK)
        status = tf_map_merge(env, n, m, into, share, ones, out);
    tf_free(&env->mem, into);
    tf_free(&env->mem, share);
    return status;
}

tfuse_status tf_map_copies(tf_env *env, const tf_map *map, int64_t **out)
{
    const bool blocks = map->kind == TF_MAP_BLOCK;
    const int64_t *source = blocks ? map->block_source : map->source, m = blocks ? map->blocks_m : map->m;
    if (!(*out = tf_calloc(env, (size_t)(blocks ? map->blocks_n : map->n), sizeof **out)))
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < m; j++)
        if (source[j] >= 0)
            (*out)[source[j]]++;
    return TFUSE_OK;
}

bool tf_map_is_sided(const tf_map *map)
{
    if (map->kind == TF_MAP_COUPLING || map->kind == TF_MAP_RAW)
        return false;
    for (int64_t b = 0; map->kind == TF_MAP_BLOCK && b < map->blocks_m; b++)
        if (map->inner[b] && !tf_map_is_sided(map->inner[b]))
            return false;
    return true;
}

/* Whether every one of n sources is among the m; by search, so that nothing is allocated: extents of blocks are small, and unequal ones rare. */
static bool takes_all(const int64_t *source, int64_t n, int64_t m)
{
    int64_t missing = n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            if (source[j] == i) {
                missing--;
                break;
            }
    return missing == 0;
}

bool tf_map_is_lossless(const tf_map *map)
{
    if (tf_map_invertible(map))
        return true;
    if (map->n > map->m || !tf_map_is_sided(map) || (map->kind == TF_MAP_RECTANGULAR && map->n == map->m))
        return false;
    if (map->kind == TF_MAP_SELECTION)
        return takes_all(map->source, map->n, map->m);
    for (int64_t b = 0; map->kind == TF_MAP_BLOCK && b < map->blocks_m; b++)
        if (!map->inner[b] || !tf_map_is_lossless(map->inner[b]))
            return false;
    return map->kind != TF_MAP_BLOCK || takes_all(map->block_source, map->blocks_n, map->blocks_m);
}

tfuse_status tf_map_share(tf_env *env, tf_map *map, const int64_t *copies)
{
    if (!(map->share = tf_alloc_array(env, (size_t)map->blocks_m, sizeof *map->share)))
        return TFUSE_ENOMEM;
    for (int64_t b = 0; b < map->blocks_m; b++)
        map->share[b] = map->block_source[b] < 0 ? 1 : 1 / (float)copies[map->block_source[b]];
    return TFUSE_OK;
}
