/* SPDX-License-Identifier: Apache-2.0
 *
 * solution.c: the three forms of a coupling, and what can be measured on each: its cost and how far its marginals are from the
 * wanted ones. All sums are in float64 and in order of rows, then columns.
 */
#include "ot/internal.h"

#include <math.h>
#include <string.h>

void tf_solution_init(tf_env *env, int64_t n, int64_t m, tf_solution *s)
{
    memset(s, 0, sizeof *s);
    s->mem = env->mem;
    s->n = n;
    s->m = m;
    s->cost = s->gap = s->error = NAN;
}

void tf_solution_free(tf_solution *s)
{
    if (!s)
        return;
    tf_free(&s->mem, s->perm);
    tf_free(&s->mem, s->rows);
    tf_free(&s->mem, s->cols);
    tf_free(&s->mem, s->mass);
    tf_free(&s->mem, s->dense);
    tf_free(&s->mem, s->u);
    tf_free(&s->mem, s->v);
    memset(s, 0, sizeof *s);
}

tfuse_status tf_solution_alloc_dense(tf_env *env, tf_solution *s)
{
    s->kind = TF_COUPLING_DENSE;
    s->dense = tf_alloc_array(env, (size_t)s->n * (size_t)s->m, sizeof *s->dense);
    s->u = tf_calloc(env, (size_t)s->n, sizeof *s->u);
    s->v = tf_calloc(env, (size_t)s->m, sizeof *s->v);
    if (!s->dense || !s->u || !s->v)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < s->n && !tf_polled(env, i); i++)
        memset(s->dense + i * s->m, 0, (size_t)s->m * sizeof *s->dense);
    return tf_check_cancel(env);
}

void tf_solution_dense(const tf_solution *s, float *out)
{
    size_t count = (size_t)s->n * (size_t)s->m;
    if (s->kind == TF_COUPLING_DENSE) {
        memcpy(out, s->dense, count * sizeof *out);
        return;
    }
    memset(out, 0, count * sizeof *out);
    if (s->kind == TF_COUPLING_PERMUTATION) {
        for (int64_t i = 0; i < s->n; i++)
            out[i * s->m + s->perm[i]] = (float)(1.0 / (double)s->n);
        return;
    }
    for (int64_t k = 0; k < s->nnz; k++)
        out[s->rows[k] * s->m + s->cols[k]] = (float)s->mass[k];
}

/* Calls add(arg, i, j, mass) for every entry that is not zero. */
static void for_each_entry(const tf_solution *s, void (*add)(void *arg, int64_t i, int64_t j, double mass), void *arg)
{
    switch (s->kind) {
    case TF_COUPLING_PERMUTATION:
        for (int64_t i = 0; i < s->n; i++)
            add(arg, i, s->perm[i], 1.0 / (double)s->n);
        break;
    case TF_COUPLING_SPARSE:
        for (int64_t k = 0; k < s->nnz; k++)
            add(arg, s->rows[k], s->cols[k], s->mass[k]);
        break;
    case TF_COUPLING_DENSE:
        for (int64_t i = 0; i < s->n; i++)
            for (int64_t j = 0; j < s->m; j++)
                if (s->dense[i * s->m + j] != 0)
                    add(arg, i, j, (double)s->dense[i * s->m + j]);
        break;
    }
}

typedef struct measure {
    const float *cost;
    int64_t m;
    double total;
    double *row, *col; /* what is missing of each marginal */
} measure;

static void measure_entry(void *arg, int64_t i, int64_t j, double mass)
{
    measure *s = arg;
    s->total += mass * (double)s->cost[i * s->m + j];
    s->row[i] -= mass;
    s->col[j] -= mass;
}

tfuse_status tf_solution_measure(tf_env *env, const float *cost, const double *mu, const double *nu, tf_solution *s)
{
    if (!isnan(s->cost) && !isnan(s->error))
        return TFUSE_OK;
    tfuse_status status = TFUSE_ENOMEM;
    measure sums = {cost, s->m, 0, NULL, NULL};
    sums.row = tf_alloc_array(env, (size_t)s->n, sizeof *sums.row);
    sums.col = tf_alloc_array(env, (size_t)s->m, sizeof *sums.col);
    if (!sums.row || !sums.col)
        goto out;
    memcpy(sums.row, mu, (size_t)s->n * sizeof *mu);
    memcpy(sums.col, nu, (size_t)s->m * sizeof *nu);
    for_each_entry(s, measure_entry, &sums);
    double error = 0;
    for (int64_t i = 0; i < s->n; i++)
        error += fabs(sums.row[i]);
    for (int64_t j = 0; j < s->m; j++)
        error += fabs(sums.col[j]);
    s->cost = isnan(s->cost) ? sums.total : s->cost;
    s->error = isnan(s->error) ? error : s->error;
    status = TFUSE_OK;
out:
    tf_free(&env->mem, sums.row);
    tf_free(&env->mem, sums.col);
    return status;
}
