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
