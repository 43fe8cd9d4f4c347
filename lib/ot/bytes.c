/* SPDX-License-Identifier: Apache-2.0
 *
 * bytes.c: what solving takes, from the sizes alone: the largest arrays of each solver. What it leaves out is of the order of n + m
 * a few times.
 */
#include "ot/cost.h"
#include "ot/internal.h"
#include "base/meter.h"
#include <string.h>

uint64_t tf_cost_features_bytes(int64_t n, int64_t m, int64_t width)
{
    const int64_t slice = width < TF_COST_SLICE ? width : TF_COST_SLICE;
    return tf_area(n + m, slice, sizeof(float)) + tf_area(width, 1, sizeof(float) + sizeof(double)) + tf_area(n + m, 1, sizeof(double));
}

bool tf_ot_is_permutation(const char *name, int64_t n, int64_t m)
{
    return !strcmp(name, "exact") && n == m;
}

tf_ot_bytes tf_ot_bytes_of(const char *name, int64_t n, int64_t m)
{
    const uint64_t dense = tf_area(n, m, sizeof(float)), lines = tf_area(n + m, 1, sizeof(double));
    if (tf_ot_is_permutation(name, n, m))
        return (tf_ot_bytes){.work = 5 * lines + tf_assignment_lists_bytes(n), .kept = 2 * lines};
    if (!strcmp(name, "exact"))
        return (tf_ot_bytes){.work = 12 * lines + tf_transport_lists_bytes(n, m), .kept = 4 * lines};
    if (!strcmp(name, "sinkhorn")) /* its kernel lies where the coupling will; a tenth for the entries that Newton keeps apart */
        return (tf_ot_bytes){.work = dense / 10 + tf_kernel_lines_bytes(n, m), .kept = dense + lines};
    if (!strcmp(name, "sinkhorn-scaling"))
        return (tf_ot_bytes){.work = 2 * dense + tf_scaling_lines_bytes(n, m), .kept = dense + lines};
    return (tf_ot_bytes){.work = lines, .kept = dense + lines}; /* a solver of the caller's: the problem and the answer */
}
