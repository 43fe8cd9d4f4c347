/* SPDX-License-Identifier: Apache-2.0
 *
 * dual.c: the dual side of a transport problem. For any v, u_i = min_j (C_ij - v_j) makes (u, v) feasible, and then
 * sum mu_i u_i + sum nu_j v_j is at most the optimal cost (weak duality): a bound that holds whoever made v.
 */
#include "ot/internal.h"

#include <math.h>

double tf_max_abs(const tf_env *env, const float *x, int64_t count)
{
    uint32_t bits = 0;
    for (int64_t k = 0; k < count && !tf_cancelled(env); k += TF_POLL_ENTRIES) {
        uint32_t here = tf_max_bits(x + k, count - k < TF_POLL_ENTRIES ? count - k : TF_POLL_ENTRIES);
        bits = here > bits ? here : bits;
    }
    return tf_float_of(bits);
}

bool tf_all_equal(const double *x, int64_t count)
{
    for (int64_t i = 1; i < count; i++)
        if (x[i] != x[0])
            return false;
    return true;
}

double tf_dual_bound(const tf_env *env, int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, double *u, const double *v)
{
    double bound = 0;
    for (int64_t i = 0; i < n && !tf_polled(env, i); i++) {
        int64_t at;
        double low = tf_row_min(cost + i * m, v, m, &at);
        u[i] = low < u[i] ? low : u[i];
        bound += mu[i] * u[i];
    }
    for (int64_t j = 0; j < m; j++)
        bound += nu[j] * v[j];
    return bound;
}
