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

/* The costs of the lines that are left: `cost` itself when all are. */
static const float *reduced_cost(tf_env *env, tf_arena *arena, const tf_positive *l, int64_t n, int64_t m, const float *cost)
{
    if (l->n == n && l->m == m)
        return cost;
    float *part = tf_arena_array(env, arena, (size_t)l->n * (size_t)l->m, sizeof *part);
    if (!part)
        return NULL;
    for (int64_t i = 0; i < l->n; i++)
        for (int64_t j = 0; j < l->m; j++)
            part[i * l->m + j] = cost[l->row[i] * m + l->col[j]];
    return part;
}

tfuse_status tf_positive_lines(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, const double *mu,
                               const double *nu, tf_positive *l, const float **part)
{
    TF_TRY(keep_positive(env, arena, n, mu, &l->row, &l->mu, &l->n));
    TF_TRY(keep_positive(env, arena, m, nu, &l->col, &l->nu, &l->m));
    *part = reduced_cost(env, arena, l, n, m, cost);
    return *part ? TFUSE_OK : TFUSE_ENOMEM;
}
