/* SPDX-License-Identifier: Apache-2.0
 *
 * cost_gram.c: distances from inner products in float64.
 *
 * Sums of k products in float64 are off by at most k 2^-53 of sum |x||y| (Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1), so a
 * squared distance |x|^2 + |y|^2 - 2 x.y is off by at most 2 (k + 2) 2^-53 (|x|^2 + |y|^2): there are no features to take a difference of, and this
 * is all that can be had. For a million samples that is 2e-10, and distances below 1.5e-5 of the norms are noise. Centred data have the
 * smallest norms and so the smallest bound. What rounding makes negative is 0.
 */
#include "ot/cost.h"

#include "base/pool.h"
#include <math.h>

enum { BLOCK_ENTRIES = 1 << 16 };

typedef struct grams {
    tf_env *env;
    tf_metric metric;
    int64_t n, m, block_rows;
    const double *xx, *yy, *xy;
    float *out;
    atomic_bool bad;
} grams;

static float entry(const grams *g, int64_t i, int64_t j)
{
    const double xx = g->xx[i], yy = g->yy[j], xy = g->xy[i * g->m + j];
    if (g->metric == TF_METRIC_COSINE)
        return (float)tf_cosine_distance(xx, yy, xy);
    const double sq = fmax(xx + yy - 2 * xy, 0);
    return (float)(g->metric == TF_METRIC_EUCLIDEAN ? sqrt(sq) : sq);
}

static void block(void *arg, uint32_t b)
{
    grams *g = arg;
    const int64_t from = (int64_t)b * g->block_rows, to = from + g->block_rows < g->n ? from + g->block_rows : g->n;
    double sum = 0; /* times 0, so NaN just where a number is not finite */
    if (tf_cancelled(g->env))
        return;
    for (int64_t i = from; i < to; i++) {
        sum += g->xx[i] * 0;
        for (int64_t j = 0; j < g->m; j++) {
            sum += (g->xy[i * g->m + j] + g->yy[j]) * 0;
            g->out[i * g->m + j] = entry(g, i, j);
        }
    }
    if (isnan(sum))
        atomic_store(&g->bad, true);
}

static tfuse_status name_bad(tf_env *env, const grams *g)
{
    for (int64_t k = 0; k < g->n * g->m; k++) {
        const double xx = g->xx[k / g->m], yy = g->yy[k % g->m];
        if (!isfinite(xx) || !isfinite(yy) || !isfinite(g->xy[k]) || !isfinite(g->xy[k] + yy))
            return tf_fail(env, TFUSE_ENUMERIC, "cost: inner product [%lld, %lld] is %g with squared norms %g and %g", (long long)(k / g->m),
                           (long long)(k % g->m), g->xy[k], xx, yy);
    }
    return TFUSE_OK;
}

tfuse_status tf_cost_gram(tf_env *env, tf_metric metric, int64_t n, int64_t m, const double *xx, const double *yy,
                          const double *xy, float *out)
{
    grams g = {.env = env, .metric = metric, .n = n, .m = m, .xx = xx, .yy = yy, .xy = xy, .out = out,
               .block_rows = 1 + (BLOCK_ENTRIES - 1) / m};
    atomic_init(&g.bad, false);
    tf_parallel_for(env, (uint32_t)((n + g.block_rows - 1) / g.block_rows), block, &g);
    TF_TRY(tf_check_cancel(env));
    return atomic_load(&g.bad) ? name_bad(env, &g) : TFUSE_OK;
}
