/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_match.c: from a ground cost to a map, by the policy's solver or a control.
 */
#include "align/otfusion.h"
#include "base/rng.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Random control: the optimal assignment for independent uniform costs, which is a uniformly random permutation (or coupling). */
float *otf_random_cost(otf *o, const char *name, int64_t n, int64_t m)
{
    float *cost = tf_alloc_array(o->env, (size_t)(n * m), sizeof *cost);
    char stream[384]; /* one for each model and each set of units */
    snprintf(stream, sizeof stream, "%zu/%s", o->k, name);
    tf_rng rng = tf_rng_make(o->opt.seed, stream);
    for (int64_t e = 0; cost && e < n * m; e++)
        cost[e] = (float)tf_rng_uniform(&rng);
    return cost;
}

static tfuse_status uniform_map(otf *o, int64_t n, int64_t m, tf_plan_map *row)
{
    float *mass = tf_alloc_array(o->env, (size_t)(n * m), sizeof *mass);
    if (!mass)
        return TFUSE_ENOMEM;
    for (int64_t e = 0; e < n * m; e++)
        mass[e] = (float)(1.0 / ((double)n * (double)m));
    tfuse_status status = tf_map_dense_own(o->env, TF_MAP_COUPLING, n, m, mass, &row->map);
    row->solver = "uniform";
    row->cost = row->gap = (double)NAN;
    row->error = 0;
    row->converged = true;
    return status;
}

static tfuse_status permutation_map(otf *o, const tf_solution *s, tf_map **out)
{
    int64_t *source = tf_alloc_array(o->env, (size_t)s->m, sizeof *source);
    if (!source)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < s->n; i++)
        source[s->perm[i]] = i;
    tfuse_status status = tf_map_permutation(o->env, s->n, source, out);
    tf_free(&o->env->mem, source);
    return status;
}

/* A dense solution's coupling becomes the map's: it is not held twice. */
static tfuse_status solution_map(otf *o, tf_solution *s, tf_map **out)
{
    if (s->kind == TF_COUPLING_PERMUTATION)
        return permutation_map(o, s, out);
    size_t count = (size_t)(s->n * s->m);
    float *dense = s->dense;
    s->dense = NULL;
    if (!dense) {
        if (!(dense = tf_alloc_array(o->env, count, sizeof *dense)))
            return TFUSE_ENOMEM;
        tf_solution_dense(s, dense);
    }
    for (size_t e = 0; o->opt.compat && e < count; e++)
        dense[e] *= (float)s->n;
    return tf_map_dense_own(o->env, o->opt.compat ? TF_MAP_RAW : TF_MAP_COUPLING, s->n, s->m, dense, out);
}

tfuse_status otf_match(otf *o, const char *name, int64_t n, int64_t m, const float *cost, tf_plan_map *row)
{
    if (o->opt.control == OTF_UNIFORM)
        return uniform_map(o, n, m, row);
    float *random = NULL;
    bool is_random = o->opt.control == OTF_RANDOM;
    if (is_random && !(random = otf_random_cost(o, name, n, m)))
        return TFUSE_ENOMEM;
    tf_solution s;
    row->solver = is_random ? "random" : o->opt.solver;
    tfuse_status status = tf_ot_solve(o->env, o->job->solvers, is_random ? "exact" : o->opt.solver, &o->opt.ot, n, m,
                                      is_random ? random : cost, NULL, NULL, &s);
    tf_free(&o->env->mem, random);
    TF_TRY(status);
    row->cost = is_random ? (double)NAN : s.cost;
    row->gap = is_random ? (double)NAN : s.gap;
    row->error = s.error;
    row->iterations = s.iterations;
    row->converged = s.converged;
    status = solution_map(o, &s, &row->map);
    tf_solution_free(&s);
    return status;
}

/* ---- heads by themselves ------------------------------------------------------------------------ */

static void copy_block(const float *cost, int64_t m, int64_t row, int64_t col, int64_t rows, int64_t cols, float *out)
{
    for (int64_t i = 0; cost && i < rows; i++)
        memcpy(out + i * cols, cost + (row + i) * m + col, (size_t)cols * sizeof *out);
}

tfuse_status otf_head_costs(otf *o, int64_t heads_n, int64_t heads_m, int64_t n, int64_t m, const float *cost,
                            double *head_cost)
{
    int64_t in = n / heads_n, im = m / heads_m;
    tf_ot_options exact = {0};
    float *block = tf_alloc_array(o->env, (size_t)(in * im), sizeof *block);
    tfuse_status status = block ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t e = 0; e < heads_n * heads_m && status == TFUSE_OK; e++) {
        tf_solution s;
        copy_block(cost, m, e / heads_m * in, e % heads_m * im, in, im, block);
        status = tf_ot_solve(o->env, o->job->solvers, "exact", &exact, in, im, block, NULL, NULL, &s);
        if (status == TFUSE_OK) {
            head_cost[e] += s.cost;
            tf_solution_free(&s);
        }
    }
    tf_free(&o->env->mem, block);
    return status;
}

/* Adds a head's numbers to the row of all: masses sum to one over the heads, so costs are means. */
static void add_head(tf_plan_map *row, const tf_plan_map *head, int64_t heads)
{
    row->solver = head->solver;
    row->cost += head->cost / (double)heads;
    row->gap += head->gap / (double)heads;
    row->error += head->error / (double)heads;
    row->iterations += head->iterations;
    row->converged &= head->converged;
}

tfuse_status otf_match_blocks(otf *o, const char *name, int64_t heads_n, int64_t heads_m, const int64_t *source, int64_t n,
                              int64_t m, const float *cost, tf_plan_map *row)
{
    int64_t in = n / heads_n, im = m / heads_m, done = 0;
    float *block = tf_alloc_array(o->env, (size_t)(in * im), sizeof *block);
    tf_map **inner = tf_calloc(o->env, (size_t)heads_m, sizeof *inner);
    tfuse_status status = block && inner ? TFUSE_OK : TFUSE_ENOMEM;
    row->cost = row->gap = row->error = 0;
    row->converged = true;
    for (; done < heads_m && status == TFUSE_OK; done++) {
        tf_plan_map head = {0};
        char stream[320];
        snprintf(stream, sizeof stream, "%s#%lld", name, (long long)done);
        copy_block(cost, m, source[done] * in, done * im, in, im, block);
        status = otf_match(o, stream, in, im, block, &head);
        if (status != TFUSE_OK)
            break;
        inner[done] = head.map;
        add_head(row, &head, heads_m);
    }
    if (status == TFUSE_OK)
        status = tf_map_block(o->env, heads_n, heads_m, source, inner, &row->map);
    else
        for (int64_t g = 0; inner && g < done; g++)
            tf_map_free(inner[g]);
    tf_free(&o->env->mem, inner);
    tf_free(&o->env->mem, block);
    return status;
}
