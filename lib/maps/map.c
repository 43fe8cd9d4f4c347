/* SPDX-License-Identifier: Apache-2.0
 *
 * map.c: making maps, and their operators as matrices.
 *
 * A coupling's operators divide by its own sums, not by the marginals that were asked for: an unconverged Sinkhorn iterate then still averages
 * (columns that sum to one) where it produces. Sums are in float64.
 */
#include "maps/map.h"
#include <string.h>

const char *tf_map_kind_name(tf_map_kind kind)
{
    static const char *const names[] = {"identity", "permutation", "coupling", "raw", "scaled", "orthogonal", "linear", "block", "selection", "rectangular"};
    return (size_t)kind < TF_LEN(names) ? names[kind] : "?";
}

tfuse_status tf_map_new(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, tf_map **out)
{
    *out = NULL;
    if (n < 1 || m < 1)
        return tf_fail(env, TFUSE_ESHAPE, "a map of %lld units onto %lld is empty", (long long)n, (long long)m);
    tf_map *map = tf_calloc(env, 1, sizeof *map);
    if (!map)
        return TFUSE_ENOMEM;
    map->mem = env->mem;
    map->kind = kind;
    map->n = n;
    map->m = m;
    *out = map;
    return TFUSE_OK;
}

tfuse_status tf_map_identity(tf_env *env, int64_t n, tf_map **out)
{
    return tf_map_new(env, TF_MAP_IDENTITY, n, n, out);
}

tfuse_status tf_map_permutation(tf_env *env, int64_t n, const int64_t *source, tf_map **out)
{
    tf_map *map;
    *out = NULL;
    TF_TRY(tf_map_new(env, TF_MAP_PERMUTATION, n, n, &map));
    map->source = tf_alloc_array(env, (size_t)n, sizeof *map->source);
    bool *seen = tf_calloc(env, (size_t)n, sizeof *seen);
    tfuse_status status = map->source && seen ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t j = 0; j < n && status == TFUSE_OK; j++) {
        if (source[j] < 0 || source[j] >= n || seen[source[j]])
            status = tf_fail(env, TFUSE_EINVAL, "unit %lld of a permutation of %lld has source %lld", (long long)j,
                             (long long)n, (long long)source[j]);
        else
            seen[source[j]] = true, map->source[j] = source[j];
    }
    tf_free(&env->mem, seen);
    if (status != TFUSE_OK)
        tf_map_free(map);
    else
        *out = map;
    return status;
}

tfuse_status tf_map_dense(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, const float *matrix, tf_map **out)
{
    tf_map *map;
    size_t count;
    *out = NULL;
    TF_TRY(tf_map_new(env, kind, n, m, &map));
    if (!tf_mul_size((size_t)n, (size_t)m, &count) || !(map->dense = tf_alloc_array(env, count, sizeof *map->dense))) {
        tf_map_free(map);
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a map of %lld × %lld", (long long)n, (long long)m);
    }
    memcpy(map->dense, matrix, count * sizeof *matrix);
    *out = map;
    return TFUSE_OK;
}

tfuse_status tf_map_dense_pair(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, const float *matrix, const float *inverse, tf_map **out)
{
    TF_TRY(tf_map_dense(env, kind, n, m, matrix, out));
    if (!inverse)
        return TFUSE_OK;
    if (!((*out)->inverse = tf_alloc_array(env, (size_t)(n * m), sizeof *inverse))) {
        tf_map_free(*out);
        *out = NULL;
        return TFUSE_ENOMEM;
    }
    memcpy((*out)->inverse, inverse, (size_t)(n * m) * sizeof *inverse);
    return TFUSE_OK;
}

tfuse_status tf_map_dense_own(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, float *matrix, tf_map **out)
{
    tfuse_status status = tf_map_new(env, kind, n, m, out);
    if (status == TFUSE_OK)
        (*out)->dense = matrix;
    else
        tf_free(&env->mem, matrix);
    return status;
}

/* The inner maps all have the shape of the first one that is there. */
static tfuse_status check_blocks(tf_env *env, int64_t blocks_n, int64_t blocks_m, const int64_t *source, tf_map **inner,
                                 const tf_map **shape)
{
    *shape = NULL;
    for (int64_t b = 0; b < blocks_m; b++) {
        if (source[b] < -1 || source[b] >= blocks_n || (source[b] >= 0) != (inner[b] != NULL))
            return tf_fail(env, TFUSE_EINVAL, "block %lld has source %lld of %lld", (long long)b, (long long)source[b],
                           (long long)blocks_n);
        if (!inner[b])
            continue;
        if (!*shape)
            *shape = inner[b];
        if (inner[b]->n != (*shape)->n || inner[b]->m != (*shape)->m)
            return tf_fail(env, TFUSE_ESHAPE, "block %lld has another shape than the first", (long long)b);
    }
    return *shape ? TFUSE_OK : tf_fail(env, TFUSE_EINVAL, "a block map without blocks");
}

tfuse_status tf_map_block(tf_env *env, int64_t blocks_n, int64_t blocks_m, const int64_t *block_source, tf_map **inner,
                          tf_map **out)
{
    const tf_map *shape;
    tf_map *map = NULL;
    *out = NULL;
    tfuse_status status = check_blocks(env, blocks_n, blocks_m, block_source, inner, &shape);
    if (status == TFUSE_OK)
        status = tf_map_new(env, TF_MAP_BLOCK, blocks_n * shape->n, blocks_m * shape->m, &map);
    if (status == TFUSE_OK) {
        map->block_source = tf_alloc_array(env, (size_t)blocks_m, sizeof *map->block_source);
        map->inner = tf_calloc(env, (size_t)blocks_m, sizeof *map->inner);
        if (!map->block_source || !map->inner)
            status = TFUSE_ENOMEM;
    }
    if (status != TFUSE_OK) {
        for (int64_t b = 0; b < blocks_m; b++)
            tf_map_free(inner[b]);
        tf_map_free(map);
        return status;
    }
    map->blocks_n = blocks_n;
    map->blocks_m = blocks_m;
    memcpy(map->block_source, block_source, (size_t)blocks_m * sizeof *block_source);
    memcpy(map->inner, inner, (size_t)blocks_m * sizeof(tf_map *));
    *out = map;
    return TFUSE_OK;
}

void tf_map_free(tf_map *map)
{
    if (!map)
        return;
    tf_mem mem = map->mem;
    for (int64_t b = 0; map->inner && b < map->blocks_m; b++)
        tf_map_free(map->inner[b]);
    tf_free(&mem, map->inner);
    tf_free(&mem, map->share);
    tf_free(&mem, map->block_source);
    tf_free(&mem, map->source);
    tf_free(&mem, map->scale);
    tf_free(&mem, map->inverse);
    tf_free(&mem, map->dense);
    tf_free(&mem, map);
}

static tfuse_status clone_block(tf_env *env, const tf_map *map, tf_map **out)
{
    tf_map **inner = tf_calloc(env, (size_t)map->blocks_m, sizeof(tf_map *));
    if (!inner)
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    for (int64_t b = 0; b < map->blocks_m && status == TFUSE_OK; b++)
        if (map->inner[b])
            status = tf_map_clone(env, map->inner[b], &inner[b]);
    if (status == TFUSE_OK)
        status = tf_map_block(env, map->blocks_n, map->blocks_m, map->block_source, inner, out);
    else
        for (int64_t b = 0; b < map->blocks_m; b++)
            tf_map_free(inner[b]);
    tf_free(&env->mem, inner);
    if (status != TFUSE_OK || !map->share)
        return status;
    if (!((*out)->share = tf_alloc_array(env, (size_t)map->blocks_m, sizeof *map->share))) {
        tf_map_free(*out);
        *out = NULL;
        return TFUSE_ENOMEM;
    }
    memcpy((*out)->share, map->share, (size_t)map->blocks_m * sizeof *map->share);
    return TFUSE_OK;
}

tfuse_status tf_map_clone(tf_env *env, const tf_map *map, tf_map **out)
{
    *out = NULL;
    switch (map->kind) {
    case TF_MAP_IDENTITY:
        return tf_map_identity(env, map->n, out);
    case TF_MAP_PERMUTATION:
        return tf_map_permutation(env, map->n, map->source, out);
    case TF_MAP_SCALED:
        return tf_map_scaled(env, map->n, map->source, map->scale, out);
    case TF_MAP_COUPLING:
    case TF_MAP_RAW:
    case TF_MAP_ORTHOGONAL:
    case TF_MAP_LINEAR:
    case TF_MAP_RECTANGULAR: /* what was found when it was made, that it is orthogonal or what its inverse is, is not found again */
        return tf_map_dense_pair(env, map->kind, map->n, map->m, map->dense, map->inverse, out);
    case TF_MAP_BLOCK:
        return clone_block(env, map, out);
    case TF_MAP_SELECTION:
        return tf_map_selection(env, map->n, map->m, map->source, map->scale, out);
    }
    return tf_fail(env, TFUSE_EINTERNAL, "a map of unknown kind %d", (int)map->kind);
}

/* ---- operators as matrices: n×m, written with a row stride so that blocks land in their corner -------- */

int64_t tf_map_column_sums(const tf_map *map, int64_t first, double *sum)
{
    const int64_t count = map->m - first < TF_MAP_COLUMNS ? map->m - first : TF_MAP_COLUMNS;
    memset(sum, 0, TF_MAP_COLUMNS * sizeof *sum);
    for (int64_t i = 0; i < map->n; i++)
        for (int64_t j = 0; j < count; j++)
            sum[j] += (double)map->dense[i * map->m + first + j];
    return count;
}

static void write_columns_scaled(const tf_map *map, float *out, int64_t stride)
{
    for (int64_t j0 = 0; j0 < map->m; j0 += TF_MAP_COLUMNS) {
        double sum[TF_MAP_COLUMNS];
        const int64_t count = tf_map_column_sums(map, j0, sum);
        const float *in = map->dense + j0;
        for (int64_t i = 0; i < map->n; i++)
            for (int64_t j = 0; j < count; j++)
                out[i * stride + j0 + j] = sum[j] > 0 ? (float)((double)in[i * map->m + j] / sum[j]) : 0;
    }
}

static void write_rows_scaled(const tf_map *map, float *out, int64_t stride)
{
    for (int64_t i = 0; i < map->n; i++) {
        const float *row = map->dense + i * map->m;
        double sum = 0;
        for (int64_t j = 0; j < map->m; j++)
            sum += (double)row[j];
        for (int64_t j = 0; j < map->m; j++)
            out[i * stride + j] = sum > 0 ? (float)((double)row[j] / sum) : 0;
    }
}

static void write_selection(const tf_map *map, bool produced, float *out, int64_t stride)
{
    for (int64_t j = 0; j < map->m; j++) {
        int64_t copies = 0;
        for (int64_t k = 0; k < map->m && !produced; k++)
            copies += map->source[k] == map->source[j];
        const float scale = map->scale ? map->scale[j] : 1;
        if (map->source[j] >= 0)
            out[map->source[j] * stride + j] = produced ? scale : 1 / (scale * (float)copies);
    }
}

static void scale_columns(float *out, int64_t stride, int64_t n, int64_t m, float by)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            out[i * stride + j] *= by;
}

/* Into zeroed memory; a map that is a matrix writes every entry. */
static void write_operator(const tf_map *map, bool produced, float *out, int64_t stride)
{
    switch (map->kind) {
    case TF_MAP_COUPLING:
        if (produced)
            write_columns_scaled(map, out, stride);
        else
            write_rows_scaled(map, out, stride);
        break;
    case TF_MAP_RAW:
    case TF_MAP_ORTHOGONAL:
    case TF_MAP_LINEAR:
    case TF_MAP_RECTANGULAR: {
        const float *op = map->inverse && !produced ? map->inverse : map->dense;
        for (int64_t i = 0; i < map->n; i++)
            memcpy(out + i * stride, op + i * map->m, (size_t)map->m * sizeof *out);
        break;
    }
    case TF_MAP_SCALED:
        for (int64_t j = 0; j < map->m; j++)
            out[map->source[j] * stride + j] = produced ? map->scale[j] : 1 / map->scale[j];
        break;
    case TF_MAP_IDENTITY:
    case TF_MAP_PERMUTATION:
        for (int64_t j = 0; j < map->m; j++)
            out[(map->source ? map->source[j] : j) * stride + j] = 1;
        break;
    case TF_MAP_BLOCK:
        for (int64_t b = 0; b < map->blocks_m; b++)
            if (map->inner[b]) {
                float *at = out + map->block_source[b] * map->inner[b]->n * stride + b * map->inner[b]->m;
                write_operator(map->inner[b], produced, at, stride);
                if (map->share && !produced)
                    scale_columns(at, stride, map->inner[b]->n, map->inner[b]->m, map->share[b]);
            }
        break;
    case TF_MAP_SELECTION:
        write_selection(map, produced, out, stride);
        break;
    }
}

void tf_map_matrix(const tf_map *map, float *out)
{
    if (!map->dense)
        memset(out, 0, (size_t)(map->n * map->m) * sizeof *out);
    write_operator(map, true, out, map->m);
}

void tf_map_consumed(const tf_map *map, float *out)
{
    if (!map->dense)
        memset(out, 0, (size_t)(map->n * map->m) * sizeof *out);
    write_operator(map, false, out, map->m);
}
