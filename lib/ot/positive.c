/* SPDX-License-Identifier: Apache-2.0
 *
 * positive.c: a transport problem without its empty rows and columns, which no coupling uses.
 */
#include "ot/internal.h"

static tfuse_status keep_positive(tf_env *env, tf_arena *arena, int64_t count, const double *mass, int64_t **index,
                                  double **kept, int64_t *kept_count)
{
    *index = tf_arena_array(env, arena, (size_t)count, sizeof **index);
    *kept = tf_arena_array(env, arena, (size_t)count, sizeof **kept);
    if (!*index || !*kept)
        return TFUSE_ENOMEM;
    int64_t k = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!(mass[i] > 0))
            continue;
        (*index)[k] = i;
        (*kept)[k++] = mass[i];
    }
    *kept_count = k;
    return k > 0 ? TFUSE_OK : tf_fail(env, TFUSE_ENUMERIC, "transport: the total mass is 0");
}

/* The costs of the lines that are left. */
static tfuse_status reduce_cost(tf_env *env, int64_t m, const float *cost, tf_positive *l)
{
    l->owned = tf_alloc_array(env, (size_t)l->n * (size_t)l->m, sizeof *l->owned);
    if (!l->owned)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < l->n && !tf_polled(env, i); i++)
        for (int64_t j = 0; j < l->m; j++)
            l->owned[i * l->m + j] = cost[l->row[i] * m + l->col[j]];
    return tf_check_cancel(env);
}

tfuse_status tf_positive_lines(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, const double *mu,
                               const double *nu, tf_positive *l, const float **part)
{
    l->owned = NULL;
    TF_TRY(keep_positive(env, arena, n, mu, &l->row, &l->mu, &l->n));
    TF_TRY(keep_positive(env, arena, m, nu, &l->col, &l->nu, &l->m));
    *part = cost;
    if (l->n == n && l->m == m)
        return TFUSE_OK;
    TF_TRY(reduce_cost(env, m, cost, l));
    *part = l->owned;
    return TFUSE_OK;
}
