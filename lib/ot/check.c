/* SPDX-License-Identifier: Apache-2.0
 *
 * check.c: the costs that a solver takes are finite, and how large they are. It is one pass over them; a method that begins with such a pass of its own
 * makes both at once (assignment.c), since a large matrix comes from memory as fast as it is looked through.
 */
#include "ot/internal.h"
#include "num/num.h"

#include <math.h>

tfuse_status tf_check_extents(tf_env *env, int64_t n, int64_t m)
{
    size_t count;
    if (n <= 0 || m <= 0)
        return tf_fail(env, TFUSE_ESHAPE, "cost is %lld x %lld: a transport problem has at least one row and one column",
                       (long long)n, (long long)m);
    if (!tf_mul_size((size_t)n, (size_t)m, &count) || count > PTRDIFF_MAX / sizeof(double))
        return tf_fail(env, TFUSE_ESHAPE, "cost is %lld x %lld: too large to be addressed", (long long)n, (long long)m);
    return TFUSE_OK;
}

tfuse_status tf_check_largest(tf_env *env, int64_t n, int64_t m, const float *cost, double largest)
{
    const int64_t at = largest < INFINITY ? -1 : tf_find_nonfinite(cost, (size_t)(n * m));
    if (at >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "cost[%lld, %lld] is %g: costs must be finite", (long long)(at / m),
                       (long long)(at % m), (double)cost[at]);
    return TFUSE_OK;
}

tfuse_status tf_check_costs(tf_env *env, int64_t n, int64_t m, const float *cost, double *largest)
{
    *largest = tf_max_abs(env, cost, n * m);
    TF_TRY(tf_check_cancel(env));
    return tf_check_largest(env, n, m, cost, *largest);
}
