/* SPDX-License-Identifier: Apache-2.0
 *
 * carry.c: see carry.h.
 */
#include "align/carry.h"
#include <string.h>

tf_use tf_part_use(const tf_graph *g, const tf_param *p, int dim, const tf_part *part)
{
    for (int i = 0; i < part->n_factors; i++)
        if (part->port[i] >= 0 && tf_param_use(g, (tf_id)(p - g->params), dim, part->port[i]) == TF_USE_DUAL)
            return TF_USE_DUAL;
    return p->use[dim];
}

/* A vector that is the same at every unit of the part, which rotations of the units' axis leave as it is. */
static bool is_constant(const float *x, int rank, const tf_part *part)
{
    bool same = rank == 1;
    for (int64_t u = 1; same && u < part->size; u++)
        same = x[tf_part_index(part, u)] == x[tf_part_index(part, 0)];
    return same;
}

tfuse_status tf_carry_part(tf_env *env, const tf_map *map, tf_use use, bool produced, const float *src, int rank, const int64_t *shape,
                           int dim, const tf_part *from, const tf_part *to, int64_t extent, float *dst)
{
    tf_map *neutral = NULL;
    if (map && tf_map_is_sided(map)) {
        if (use == TF_USE_NEUTRAL && map->dense && is_constant(src, rank, from)) {
            for (int64_t u = 0; u < to->size; u++)
                dst[tf_part_index(to, u)] = src[tf_part_index(from, 0)];
            return TFUSE_OK;
        }
        if (use == TF_USE_NEUTRAL) {
            TF_TRY(tf_map_neutral(env, map, &neutral));
            map = neutral;
        }
        produced = use != TF_USE_DUAL && produced;
    }
    const tfuse_status status = tf_map_apply(env, map, produced, src, rank, shape, dim, from, to, extent, dst);
    tf_map_free(neutral);
    return status;
}

void tf_part_rows(const tf_param *p, int64_t extent, const float *x, int dim, const tf_part *part, int64_t first, int64_t n, float *rows)
{
    int64_t before = 1, after = 1;
    for (int d = 0; d < p->rank; d++)
        if (d != dim)
            *(d < dim ? &before : &after) *= p->shape[d];
    for (int64_t u = 0; u < n; u++)
        for (int64_t o = 0; o < before; o++)
            memcpy(rows + (u * before + o) * after, x + (o * extent + tf_part_index(part, first + u)) * after, (size_t)after * sizeof *rows);
}
