/* SPDX-License-Identifier: Apache-2.0
 *
 * dual.c: the dual side of a transport problem. For any v, u_i = min_j (C_ij - v_j) makes (u, v) feasible, and then
 * sum mu_i u_i + sum nu_j v_j is at most the optimal cost (weak duality): a bound that holds whoever made v.
 *
 * The minimum over a row is also the innermost loop of the exact solvers. It runs in LANES independent
 * minima, because compilers may not reorder a minimum of doubles by themselves, and in blocks, so that
 * the index is looked for in one block only.
 */
#include "ot/internal.h"

#include <math.h>

enum { LANES = 8, BLOCK = 256 };

static double block_min(const float *restrict cost, const double *restrict v, int64_t count)
{
    double lane[LANES];
    for (int l = 0; l < LANES; l++)
        lane[l] = INFINITY;
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            double reduced = (double)cost[j + l] - v[j + l];
            lane[l] = reduced < lane[l] ? reduced : lane[l];
        }
    }
    double low = INFINITY;
    for (int l = 0; l < LANES; l++)
        low = lane[l] < low ? lane[l] : low;
    for (; j < count; j++) {
        double reduced = (double)cost[j] - v[j];
        low = reduced < low ? reduced : low;
    }
    return low;
}

double tf_row_min(const float *cost, const double *v, int64_t m, int64_t *arg)
{
    double best = INFINITY;
    int64_t from = 0;
    for (int64_t j = 0; j < m; j += BLOCK) {
        double low = block_min(cost + j, v + j, m - j < BLOCK ? m - j : BLOCK);
        if (low < best) {
            best = low;
            from = j;
        }
    }
    int64_t at = from;
    while (at + 1 < m && (double)cost[at] - v[at] > best)
        at++;
    *arg = at;
    return best;
}

double tf_max_abs(const float *x, int64_t count)
{
    float lane[LANES] = {0}, top = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float a = fabsf(x[i + l]);
            lane[l] = a > lane[l] ? a : lane[l];
        }
    }
    for (int l = 0; l < LANES; l++)
        top = lane[l] > top ? lane[l] : top;
    for (; i < count; i++)
        top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return (double)top;
}

bool tf_all_equal(const double *x, int64_t count)
{
    for (int64_t i = 1; i < count; i++)
        if (x[i] != x[0])
            return false;
    return true;
}

double tf_dual_bound(int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, double *u, const double *v)
{
    double bound = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at;
        double low = tf_row_min(cost + i * m, v, m, &at);
        u[i] = low < u[i] ? low : u[i];
        bound += mu[i] * u[i];
    }
    for (int64_t j = 0; j < m; j++)
        bound += nu[j] * v[j];
    return bound;
}
