/* SPDX-License-Identifier: Apache-2.0
 *
 * cluster.h: points cut into clusters of equal size, as tight as can be found. Knows points, not networks.
 */
#ifndef TF_MOE_CLUSTER_H
#define TF_MOE_CLUSTER_H

#include "ot/ot.h"

typedef struct tf_points {
    const float *x;      /* count × width, row-major */
    int64_t count, width;
    int64_t clusters;    /* divides count */
} tf_points;

/* Mean squared distance of a point to the centre of its cluster, in float64. of[i]: the cluster of point i. */
tfuse_status tf_cluster_spread(tf_env *env, const tf_points *p, const int64_t *of, double *out);

typedef struct tf_cluster_result {
    double spread;      /* as above */
    int64_t iterations; /* assignments solved, over all starts */
    int64_t swaps;      /* exchanges made, over all starts */
} tf_cluster_result;
/* Several starts by seed and name; the tightest is kept, the first of equals. `of` gets count places. Clusters are numbered by their first points. */
tfuse_status tf_cluster(tf_env *env, const tf_solver_registry *solvers, const tf_points *p, uint64_t seed, const char *name, int64_t starts, int64_t *of,
                        tf_cluster_result *out);
/* What that takes. */
uint64_t tf_cluster_bytes(int64_t count, int64_t width, int64_t clusters);

/* exchange.c: pairs of points of two clusters change places as long as that makes them tighter. gram: count × count inner products. */
tfuse_status tf_exchange(tf_env *env, const tf_points *p, const double *gram, int64_t *of, int64_t *swaps);
uint64_t tf_exchange_bytes(int64_t count, int64_t clusters);

#endif
