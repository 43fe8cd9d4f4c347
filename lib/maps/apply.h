/* SPDX-License-Identifier: Apache-2.0
 *
 * apply.h: what the two ways of moving a dimension share.
 */
#ifndef TF_MAPS_APPLY_H
#define TF_MAPS_APPLY_H

#include "maps/map.h"

typedef struct tf_move {
    const tf_part *src_part, *dst_part;
    const float *src;
    float *dst;
    int64_t outer, inner, src_extent, dst_extent;
    int64_t first, n, dst_first, m; /* units of the parts: from `first` n of the source, from `dst_first` m of the other */
} tf_move;

/* Where units first..first+n-1 of a part lie in its dimension. Freed by tf_free. */
tfuse_status tf_part_places(tf_env *env, const tf_part *part, int64_t first, int64_t n, int64_t **out);

/* Sums of what is not zero are faster where it is at most one entry in so many. */
enum { TF_MAP_FEW = 12 };
/* apply_sparse.c, for maps that are matrices: how many entries are not zero, and moving by these alone. */
size_t tf_map_entries(const tf_map *map, bool produced);
tfuse_status tf_move_sparse(tf_env *env, const tf_move *mv, const tf_map *map, bool produced, size_t nonzero);

#endif
