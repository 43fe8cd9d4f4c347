/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_soft.c: matching.coupling=sinkhorn: after the ascent hidden units are not assigned one to one but shared, by the entropic coupling P of their gains
 * (costs scaled to 0..1, solver.reg of that). What is produced by T = P diag(1 / column sums) is a mean of units, which is shorter than they are, and so is
 * what is consumed by C = diag(1 / row sums) P. Where matching.unshrink is set each mean row of the anchor's unit j gets the length that its units have in
 * the mean,
 *     f_j^2 = sum_i T_ij |b_i|^2 / |sum_i T_ij b_i|^2,
 * on each side for itself, so that answers are as strong as the parents'. f_j is at most sqrt(n), its value for unlike units under the uniform coupling. Heads
 * and experts move as wholes and stay assigned, and so do axes of unequal extents.
 */
#include "align/matching.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

bool mt_is_soft(const matching *mt, tf_id cls)
{
    const mt_class *c = &mt->classes[cls];
    return tf_policy_is(mt->job->policy, "matching.coupling", "sinkhorn") && c->shape >= MT_UNITS && !c->outer && !c->stream &&
           mt_extent(mt, MT_MODEL, cls) == mt_extent(mt, MT_ANCHOR, cls);
}

/* ---- couplings ------------------------------------------------------------------------------------------------------- */

static void gains_to_costs(int64_t n, const float *gain, float *cost)
{
    float most = -INFINITY, least = INFINITY;
    for (int64_t i = 0; i < n * n; i++) {
        most = fmaxf(most, gain[i]);
        least = fminf(least, gain[i]);
    }
    for (int64_t i = 0; i < n * n; i++)
        cost[i] = most > least ? (most - gain[i]) / (most - least) : 0;
}

/* Both operators of a coupling, n×n each; sign: of x. */
static void operators(int64_t n, const float *p, const float *x, bool has_signs, double *sums, float *produced, float *consumed)
{
    memset(sums, 0, (size_t)(2 * n) * sizeof *sums);
    for (int64_t i = 0; i < n * n; i++) {
        sums[i / n] += (double)p[i];
        sums[n + i % n] += (double)p[i];
    }
    for (int64_t i = 0; i < n * n; i++) {
        const double mass = has_signs && x[i] < 0 ? -(double)p[i] : (double)p[i];
        produced[i] = sums[n + i % n] > 0 ? (float)(mass / sums[n + i % n]) : 0;
        consumed[i] = sums[i / n] > 0 ? (float)(mass / sums[i / n]) : 0;
    }
}

tfuse_status mt_soft_units(matching *mt, int64_t n, const float *gain, const float *x, bool has_signs, tf_map **out)
{
    const tfuse_policy *p = mt->job->policy;
    const tf_ot_options options = {.reg = tf_policy_real(p, "solver.reg"), .max_iterations = tf_policy_int(p, "solver.max_iterations"),
                                   .tolerance = tf_policy_real(p, "solver.tolerance"), .strict = tf_policy_flag(p, "solver.strict")};
    float *work = tf_alloc_array(mt->env, (size_t)(4 * n * n), sizeof *work);
    double *sums = tf_alloc_array(mt->env, (size_t)(2 * n), sizeof *sums);
    tf_solution s = {0};
    tfuse_status status = work && sums ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        gains_to_costs(n, gain, work);
        status = tf_ot_solve(mt->env, mt->job->solvers, "sinkhorn", &options, n, n, work, NULL, NULL, &s);
    }
    if (status == TFUSE_OK) {
        tf_solution_dense(&s, work + n * n);
        operators(n, work + n * n, x, has_signs, sums, work + 2 * n * n, work + 3 * n * n);
        status = tf_map_rectangular(mt->env, n, n, work + 2 * n * n, work + 3 * n * n, out);
    }
    tf_solution_free(&s);
    tf_free(&mt->env->mem, work);
    tf_free(&mt->env->mem, sums);
    return status;
}

/* ---- what they shrink --------------------------------------------------------------------------------------------------- */

typedef struct shrinkage {
    int64_t n;
    double *mixed, *made; /* instances × sides × n: squared lengths that units have in the mean, and of their mean; produced first */
    double all, lost;     /* as in kept.c */
} shrinkage;

/* Adds a block's rows, n × width; there, back: as many numbers. */
static void add_rows(matching *mt, shrinkage *to, const tf_map *map, int64_t instance, bool produced, float *rows, int64_t width, float *there, float *back)
{
    const int64_t n = to->n, at = (2 * instance + !produced) * n;
    float *op = produced ? map->dense : map->inverse;
    tf_gemm(mt->env, 1, tf_mat_t(tf_mat_rows(op, n, n)), tf_mat_rows(rows, n, width), 0, tf_mat_rows(there, n, width));
    tf_gemm(mt->env, 1, tf_mat_rows(produced ? map->inverse : map->dense, n, n), tf_mat_rows(there, n, width), 0, tf_mat_rows(back, n, width));
    for (int64_t i = 0; i < n; i++) {
        const double length = tf_sum_sq(rows + i * width, (size_t)width);
        to->all += length;
        to->made[at + i] += tf_sum_sq(there + i * width, (size_t)width);
        for (int64_t j = 0; j < n; j++)
            to->mixed[at + j] += fabs((double)op[i * n + j]) * length;
    }
    for (int64_t k = 0; k < n * width; k++)
        to->lost += ((double)rows[k] - (double)back[k]) * ((double)rows[k] - (double)back[k]);
}

typedef struct places {
    tf_id cls;
    shrinkage *sum;
} places;

static void add_block(matching *mt, const mt_rows *b, void *arg)
{
    const places *to = arg;
    add_rows(mt, to->sum, mt->maps[to->cls].maps[b->instance], b->instance, b->use == TF_USE_PRODUCED, b->rows, b->width, b->spare,
             b->spare + to->sum->n * b->width);
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    const places *to = arg;
    return mt_place_use(mt, at) == TF_USE_NEUTRAL ? TFUSE_OK : mt_each_block(mt, to->cls, at, 2, add_block, arg);
}

static void unshrink(const shrinkage *sum, int64_t instance, tf_map *map)
{
    const int64_t n = sum->n;
    for (int side = 0; side < 2; side++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = (2 * instance + side) * n + j;
            const double f = sum->made[at] > 0 ? fmin(sqrt(sum->mixed[at] / sum->made[at]), sqrt((double)n)) : 1;
            float *op = side ? map->inverse : map->dense;
            for (int64_t i = 0; i < n; i++)
                op[i * n + j] = (float)(f * (double)op[i * n + j]);
        }
}

static tfuse_status soften_class(matching *mt, tf_id cls)
{
    tf_class_map *maps = &mt->maps[cls];
    const size_t count = (size_t)(2 * maps->instances * mt_extent(mt, MT_ANCHOR, cls));
    shrinkage sum = {.n = mt_extent(mt, MT_ANCHOR, cls), .mixed = tf_calloc(mt->env, 2 * count, sizeof(double))};
    sum.made = sum.mixed + count;
    tfuse_status status = sum.mixed ? mt_match_class(mt, cls) : TFUSE_ENOMEM;
    for (int64_t i = 0; i < maps->instances && status == TFUSE_OK; i++)
        if (maps->maps[i]->kind != TF_MAP_RECTANGULAR) /* no evidence: it stays as it is */
            goto out;
    if (status == TFUSE_OK)
        status = mt_each_place(mt, cls, add_place, &(places){cls, &sum});
    for (int64_t i = 0; i < maps->instances && status == TFUSE_OK && tf_policy_flag(mt->job->policy, "matching.unshrink"); i++)
        unshrink(&sum, i, maps->maps[i]);
    maps->solver = "sinkhorn";
    maps->gap = (double)NAN;
    maps->kept = sum.all > 0 ? 1 - sum.lost / sum.all : (double)NAN;
    maps->is_soft = true;
out:
    tf_free(&mt->env->mem, sum.mixed);
    return status;
}

tfuse_status mt_soften(matching *mt)
{
    tfuse_status status = TFUSE_OK;
    mt->soft = true;
    for (size_t c = 0; c < mt->g->n_classes && status == TFUSE_OK; c++)
        if (mt_is_soft(mt, (tf_id)c) && mt->maps[c].instances)
            status = soften_class(mt, (tf_id)c);
    mt->soft = false;
    return status;
}
