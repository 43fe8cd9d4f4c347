/* SPDX-License-Identifier: Apache-2.0
 *
 * start.c: potentials of a neighbouring problem as a start. Any v is feasible beside u_i = min_j (C_ij - v_j), one pass over the costs. Where v is
 * wilder than optimal potentials ever are, both sides are transformed: after v_j = min_i (C_ij - u_i) too, u and v vary by no more than the
 * costs do, whatever was given, so no digits are lost and every method still converges. Before that v is shifted to a largest of 0,
 * where differences of a wild v and a cost would not hold the cost.
 */
#include "ot/internal.h"

#include <math.h>
#include <string.h>

/* Optimal potentials vary by at most the range of the costs, entropic ones by a few times reg more. */
#define WILD 8.0

static tfuse_status check_potentials(tf_env *env, const char *name, int64_t count, const double *mass, const double *x)
{
    for (int64_t k = 0; x && k < count; k++)
        if (!isfinite(x[k]) && (isnan(x[k]) || x[k] > 0 || mass[k] > 0))
            return tf_fail(env, TFUSE_ENUMERIC, "%s[%lld] is %g: potentials to start from must be finite (or -inf where the mass is 0)",
                           name, (long long)k, x[k]);
    return TFUSE_OK;
}

/* x - max x; difference of the largest and the smallest finite one. */
static double shifted(int64_t count, const double *x, double *out)
{
    double top = -INFINITY, low = INFINITY;
    for (int64_t k = 0; k < count; k++) {
        top = fmax(top, x[k]);
        low = isfinite(x[k]) ? fmin(low, x[k]) : low;
    }
    for (int64_t k = 0; k < count; k++)
        out[k] = x[k] - top;
    return top - low;
}

/* v_j = min_i (C_ij - u_i), everywhere or where v is -INFINITY. */
static void transform_rows(const tf_env *env, int64_t n, int64_t m, const float *cost, const double *u, bool everywhere, double *low, double *v)
{
    for (int64_t j = 0; j < m; j++)
        low[j] = INFINITY;
    for (int64_t i = 0; i < n && !tf_polled(env, i); i++) {
        const float *row = cost + i * m;
        const double ui = u[i];
        for (int64_t j = 0; j < m; j++) {
            double r = (double)row[j] - ui;
            low[j] = r < low[j] ? r : low[j];
        }
    }
    for (int64_t j = 0; j < m; j++)
        if (everywhere || !isfinite(v[j]))
            v[j] = low[j];
}

static void transform_columns(const tf_env *env, int64_t n, int64_t m, const float *cost, const double *v, double *u)
{
    for (int64_t i = 0, at; i < n && !tf_polled(env, i); i++)
        u[i] = tf_row_min(cost + i * m, v, m, &at);
}

static bool all_finite(int64_t count, const double *x)
{
    for (int64_t k = 0; k < count; k++)
        if (!isfinite(x[k]))
            return false;
    return true;
}

tfuse_status tf_start_potentials(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, const double *mu,
                                 const double *nu, tf_ot_options *options)
{
    if (!options->u && !options->v)
        return TFUSE_OK;
    TF_TRY(check_potentials(env, "u", n, mu, options->u));
    TF_TRY(check_potentials(env, "v", m, nu, options->v));
    double *u = tf_arena_array(env, arena, (size_t)n, sizeof *u), *v = tf_arena_array(env, arena, (size_t)m, sizeof *v);
    double *low = tf_arena_array(env, arena, (size_t)m, sizeof *low);
    if (!u || !v || !low)
        return TFUSE_ENOMEM;
    const double most = WILD * 2 * tf_max_abs(env, cost, n * m);
    bool wild;
    if (options->v) {
        wild = !(shifted(m, options->v, v) <= most);
        transform_columns(env, n, m, cost, v, u);
    } else {
        wild = false;
        shifted(n, options->u, u);
        transform_rows(env, n, m, cost, u, true, low, v);
        transform_columns(env, n, m, cost, v, u);
    }
    if (wild || !all_finite(m, v))
        transform_rows(env, n, m, cost, u, wild, low, v);
    options->u = u;
    options->v = v;
    return tf_check_cancel(env);
}
