/* SPDX-License-Identifier: Apache-2.0
 *
 * cost_kernel.c: the inner loops of the cost stage: plain loops over branch-free expressions, compiled for each vector width. A reduction keeps
 * LANES partial sums, added in a fixed order, so its value does not depend on the width.
 */
#include "ot/cost.h"

#include "num/clones.h"
#include <math.h>
#include <string.h>

/* The default of gcc, to keep the exceptions that a program without any handler never sees, costs the vectorisation of every
 * selection; values are the same. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

enum { LANES = 16 };

TF_INLINE double add_lanes(const double *sum)
{
    double total = 0;
    for (int l = 0; l < LANES; l++)
        total += sum[l];
    return total;
}

TF_CLONES uint32_t tf_cost_add_row(const float *row, int64_t d, double *sum, uint32_t top)
{
    for (int64_t k = 0; k < d; k++) {
        uint32_t bits;
        memcpy(&bits, &row[k], sizeof bits);
        bits &= 0x7fffffffu;
        top = bits > top ? bits : top;
        sum[k] += (double)row[k];
    }
    return top;
}

TF_CLONES double tf_cost_centre_row(const float *from, float scale, const float *centre, int64_t d, float *to)
{
    double sum[LANES] = {0}, rest = 0;
    int64_t k = 0;
    for (; k + LANES <= d; k += LANES)
        for (int l = 0; l < LANES; l++) {
            float x = from[k + l] * scale - centre[k + l];
            to[k + l] = x;
            sum[l] += (double)x * (double)x;
        }
    for (; k < d; k++) {
        to[k] = from[k] * scale - centre[k];
        rest += (double)to[k] * (double)to[k];
    }
    return add_lanes(sum) + rest;
}

TF_CLONES void tf_cost_scale_row(const float *from, double factor, int64_t d, float *to)
{
    for (int64_t k = 0; k < d; k++)
        to[k] = (float)((double)from[k] * factor);
}

TF_CLONES double tf_cost_dot(const float *x, const float *y, int64_t d)
{
    double sum[LANES] = {0}, rest = 0;
    int64_t k = 0;
    for (; k + LANES <= d; k += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += (double)x[k + l] * (double)y[k + l];
    for (; k < d; k++)
        rest += (double)x[k] * (double)y[k];
    return add_lanes(sum) + rest;
}

double tf_cost_sq_length(const float *x, int64_t d)
{
    return tf_cost_dot(x, x, d);
}

TF_CLONES double tf_cost_sq_distance(const float *x, const float *y, int64_t d)
{
    double sum[LANES] = {0}, rest = 0;
    int64_t k = 0;
    for (; k + LANES <= d; k += LANES)
        for (int l = 0; l < LANES; l++) {
            double e = (double)x[k + l] - (double)y[k + l];
            sum[l] += e * e;
        }
    for (; k < d; k++)
        rest += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
    return add_lanes(sum) + rest;
}

TF_CLONES bool tf_cost_finish_row(bool root, double xx, const double *yy, float unscale, double cancels, double tiny, int64_t m, float *row)
{
    int any = 0;
    for (int64_t j = 0; j < m; j++) {
        double t = xx + yy[j], sq = t - 2 * (double)row[j], least = cancels * t;
        int near = (sq < least) | (t < tiny);
        float x = (float)(sq > 0 ? sq : 0);
        x = root ? sqrtf(x) : x * unscale * unscale;
        x = x * unscale * unscale;
        row[j] = near ? TF_COST_NEAR : x;
        any |= near;
    }
    return any != 0;
}

TF_CLONES bool tf_cost_finish_cosine(float cancels, int64_t m, float *row)
{
    int any = 0;
    for (int64_t j = 0; j < m; j++) {
        float x = 1.0f - row[j];
        int near = x < cancels;
        x = x > 2.0f ? 2.0f : x;
        row[j] = near ? TF_COST_NEAR : x;
        any |= near;
    }
    return any != 0;
}
