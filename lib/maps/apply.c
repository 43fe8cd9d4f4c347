/* SPDX-License-Identifier: Apache-2.0
 *
 * apply.c: moving one dimension of a tensor by a map.
 *
 * Both sides are one formula: dst[o, j, i] = sum_u Op[u, j] src[o, u, i] with Op the n×m produced or consumed operator,
 * o what stands before the dimension and i what stands after it. One-to-one maps copy; the others gather the part, multiply
 * in float32 on BLIS, and scatter, or where few entries are not zero, sum those (apply_sparse.c). Of a block map each block is moved by
 * itself.
 */
#include "maps/apply.h"
#include "num/num.h"
#include <string.h>


typedef tf_move move;

tfuse_status tf_part_places(tf_env *env, const tf_part *part, int64_t first, int64_t n, int64_t **out)
{
    *out = tf_alloc_array(env, (size_t)n, sizeof **out);
    for (int64_t u = 0; *out && u < n; u++)
        (*out)[u] = tf_part_index(part, first + u);
    return *out ? TFUSE_OK : TFUSE_ENOMEM;
}

static void scale_unit(float *x, int64_t count, float scale, bool produced)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = produced ? x[i] * scale : x[i] / scale;
}

/* copies: NULL, or how many units each of the model's becomes, over which a consumer sums. */

static void copy_slice(const move *mv, const tf_map *map, bool produced, const int64_t *copies, int64_t o, const int64_t *from, const int64_t *to)
{
    const float *src = mv->src + o * mv->src_extent * mv->inner;
    float *dst = mv->dst + o * mv->dst_extent * mv->inner;
    for (int64_t j = 0; j < mv->m; j++) {
        const int64_t u = map && map->source ? map->source[j] : j;
        if (u < 0)
            memset(dst + to[j] * mv->inner, 0, (size_t)mv->inner * sizeof *dst);
        else if (mv->inner == 1)
            dst[to[j]] = src[from[u]];
        else
            memcpy(dst + to[j] * mv->inner, src + from[u] * mv->inner, (size_t)mv->inner * sizeof *dst);
        if (map && map->scale)
            scale_unit(dst + to[j] * mv->inner, mv->inner, map->scale[j], produced);
        if (copies && u >= 0 && copies[u] > 1)
            scale_unit(dst + to[j] * mv->inner, mv->inner, (float)copies[u], false);
    }
}

static tfuse_status copy_units(tf_env *env, const move *mv, const tf_map *map, bool produced)
{
    int64_t *from = NULL, *to = NULL, *copies = NULL;
    tfuse_status status = tf_part_places(env, mv->src_part, mv->first, mv->n, &from);
    if (status == TFUSE_OK)
        status = tf_part_places(env, mv->dst_part, mv->dst_first, mv->m, &to);
    if (status == TFUSE_OK && map && map->kind == TF_MAP_SELECTION && !produced)
        status = tf_map_copies(env, map, &copies);
    for (int64_t o = 0; o < mv->outer && status == TFUSE_OK; o++)
        copy_slice(mv, map, produced, copies, o, from, to);
    tf_free(&env->mem, copies);
    tf_free(&env->mem, from);
    tf_free(&env->mem, to);
    return status;
}

/* Copies between a part of a tensor and a dense [outer, size, inner] block. */
static void gather(const move *mv, float *block)
{
    const int64_t n = mv->n;
    for (int64_t o = 0; o < mv->outer; o++)
        for (int64_t u = 0; u < n; u++)
            memcpy(block + (o * n + u) * mv->inner,
                   mv->src + (o * mv->src_extent + tf_part_index(mv->src_part, mv->first + u)) * mv->inner,
                   (size_t)mv->inner * sizeof(float));
}

static void scatter(const move *mv, const float *block)
{
    const int64_t m = mv->m;
    for (int64_t o = 0; o < mv->outer; o++)
        for (int64_t j = 0; j < m; j++)
            memcpy(mv->dst + (o * mv->dst_extent + tf_part_index(mv->dst_part, mv->dst_first + j)) * mv->inner,
                   block + (o * m + j) * mv->inner, (size_t)mv->inner * sizeof(float));
}

static void clear_units(const move *mv)
{
    for (int64_t o = 0; o < mv->outer; o++)
        for (int64_t j = 0; j < mv->m; j++)
            memset(mv->dst + (o * mv->dst_extent + tf_part_index(mv->dst_part, mv->dst_first + j)) * mv->inner, 0,
                   (size_t)mv->inner * sizeof(float));
}

static void scale_units(const move *mv, float by)
{
    for (int64_t o = 0; o < mv->outer; o++)
        for (int64_t j = 0; j < mv->m; j++)
            scale_unit(mv->dst + (o * mv->dst_extent + tf_part_index(mv->dst_part, mv->dst_first + j)) * mv->inner, mv->inner, by, true);
}

static void multiply(tf_env *env, const move *mv, float *op, int64_t n, int64_t m, float *x, float *y)
{
    if (mv->inner == 1) {
        tf_gemm(env, 1, tf_mat_rows(x, mv->outer, n), tf_mat_rows(op, n, m), 0, tf_mat_rows(y, mv->outer, m));
        return;
    }
    for (int64_t o = 0; o < mv->outer; o++)
        tf_gemm(env, 1, tf_mat_t(tf_mat_rows(op, n, m)), tf_mat_rows(x + o * n * mv->inner, n, mv->inner), 0,
                tf_mat_rows(y + o * m * mv->inner, m, mv->inner));
}

static tfuse_status apply_full(tf_env *env, const move *mv, float *op)
{
    const size_t block = (size_t)(mv->outer * mv->inner);
    float *x = tf_alloc_array(env, block * (size_t)mv->n, sizeof *x);
    float *y = tf_alloc_array(env, block * (size_t)mv->m, sizeof *y);
    tfuse_status status = x && y ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        gather(mv, x);
        multiply(env, mv, op, mv->n, mv->m, x, y);
        scatter(mv, y);
    }
    tf_free(&env->mem, x);
    tf_free(&env->mem, y);
    return status;
}

static tfuse_status apply_dense(tf_env *env, const tf_map *map, bool produced, const move *mv)
{
    const size_t few = (size_t)(map->n * map->m) / TF_MAP_FEW, nonzero = tf_map_entries(map, produced);
    if (nonzero <= few)
        return tf_move_sparse(env, mv, map, produced, nonzero);
    float *op = tf_alloc_array(env, (size_t)(map->n * map->m), sizeof *op);
    if (!op)
        return TFUSE_ENOMEM;
    (produced ? tf_map_matrix : tf_map_consumed)(map, op);
    const tfuse_status status = apply_full(env, mv, op);
    tf_free(&env->mem, op);
    return status;
}

static tfuse_status apply(tf_env *env, const tf_map *map, bool produced, const move *mv)
{
    if (!map || map->kind == TF_MAP_IDENTITY || map->source)
        return copy_units(env, mv, map, produced);
    if (map->kind != TF_MAP_BLOCK)
        return apply_dense(env, map, produced, mv);
    for (int64_t b = 0; b < map->blocks_m; b++) {
        const tf_map *inner = map->inner[b];
        move one = *mv;
        one.m = mv->m / map->blocks_m;
        one.dst_first += b * one.m;
        if (!inner) { /* nothing comes here */
            clear_units(&one);
            continue;
        }
        one.first += map->block_source[b] * inner->n;
        one.n = inner->n;
        TF_TRY(apply(env, inner, produced, &one));
        if (map->share && !produced)
            scale_units(&one, map->share[b]);
    }
    return TFUSE_OK;
}

tfuse_status tf_map_apply(tf_env *env, const tf_map *map, bool produced, const float *src, int rank, const int64_t *shape,
                          int dim, const tf_part *src_part, const tf_part *dst_part, int64_t dst_extent, float *dst)
{
    move mv = {src_part, dst_part, src, dst, 1, 1, shape[dim], dst_extent, 0, src_part->size, 0, dst_part->size};
    for (int d = 0; d < rank; d++)
        if (d != dim)
            *(d < dim ? &mv.outer : &mv.inner) *= shape[d];
    if (map && (map->n != src_part->size || map->m != dst_part->size))
        return tf_fail(env, TFUSE_ESHAPE, "a map of %lld units onto %lld cannot move %lld onto %lld", (long long)map->n,
                       (long long)map->m, (long long)src_part->size, (long long)dst_part->size);
    if (!map && src_part->size != dst_part->size)
        return tf_fail(env, TFUSE_ESHAPE, "%lld units have no map onto %lld", (long long)src_part->size,
                       (long long)dst_part->size);
    return apply(env, map, produced, &mv);
}
