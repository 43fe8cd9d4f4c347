/* SPDX-License-Identifier: Apache-2.0
 *
 * carry.h: one part of one dimension of a weight, moved by a map as its use says.
 */
#ifndef TF_ALIGN_CARRY_H
#define TF_ALIGN_CARRY_H

#include "maps/map.h"

/* The use of a part: dual when the graph says so of one of its ports, else the dimension's. */
tf_use tf_part_use(const tf_graph *g, const tf_param *p, int dim, const tf_part *part);
/* tf_map_apply with the operator that `use` asks for: an invertible map moves a dual side by T^-T and a neutral one by the permutation in T, and
 * leaves a constant vector (a gain of one, a bias of zero) under a rotation as it is. produced: on which side the part moves. map NULL: identity. */
tfuse_status tf_carry_part(tf_env *env, const tf_map *map, tf_use use, bool produced, const float *src, int rank, const int64_t *shape,
                           int dim, const tf_part *from, const tf_part *to, int64_t extent, float *dst);

/* Rows of unit after unit of the part from `first` on, n × K, of a tensor of p's extents but along `dim`, where there are `extent`. */
void tf_part_rows(const tf_param *p, int64_t extent, const float *x, int dim, const tf_part *part, int64_t first, int64_t n, float *rows);

#endif
