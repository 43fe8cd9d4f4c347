/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_heads.c: otfusion.heads=within: heads are matched as wholes, units inside matched heads. The cost of two heads is the optimal cost of
 * matching their units, summed over all that the attention's heads produced (queries, keys, values), so it depends on no order of units.
 * Equally many heads meet one to one, and the map is a block map. Otherwise the heads' optimal coupling H has uniform marginals, and the map
 * is the coupling H(s,g) P(s,g) over pairs that meet, P(s,g) being that of their units: its marginals are uniform too.
 */
#include "align/otfusion.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void copy_block(const float *cost, int64_t m, int64_t row, int64_t col, int64_t rows, int64_t cols, float *out)
{
    for (int64_t i = 0; cost && i < rows; i++)
        memcpy(out + i * cols, cost + (row + i) * m + col, (size_t)cols * sizeof *out);
}

/* ---- heads with heads ---------------------------------------------------------------------------- */

/* Adds to sum (n heads × m heads) the optimal cost inside each pair; cost is over their units, of `in` and `im` a head. */
static tfuse_status add_inner_costs(otf *o, const otf_heads *h, int64_t in, int64_t im, const float *cost, double *sum)
{
    tf_ot_options exact = {0};
    float *block = tf_alloc_array(o->env, (size_t)(in * im), sizeof *block);
    tfuse_status status = block ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t e = 0; e < h->n * h->m && status == TFUSE_OK; e++) {
        tf_solution s;
        copy_block(cost, h->m * im, e / h->m * in, e % h->m * im, in, im, block);
        status = tf_ot_solve(o->env, o->job->solvers, "exact", &exact, in, im, block, NULL, NULL, &s);
        if (status == TFUSE_OK) {
            sum[e] += s.cost;
            tf_solution_free(&s);
        }
    }
    tf_free(&o->env->mem, block);
    return status;
}

static tfuse_status add_port_costs(otf *o, tf_id port, const otf_heads *h, double *sum)
{
    otf_units units;
    TF_TRY(otf_units_of_port(o, port, &units));
    if (!units.node)
        return TFUSE_OK;
    otf_ground ground;
    TF_TRY(otf_cost(o, &units, 1, &ground));
    tfuse_status status = add_inner_costs(o, h, ground.n / h->n, ground.m / h->m, ground.cost, sum);
    otf_ground_free(o, &ground);
    return status;
}

/* Controls look at no weights: heads meet those of the same place under uniform maps, any other at random. */
static tfuse_status control_costs(otf *o, const char *name, const otf_heads *h, double *sum)
{
    char stream[320];
    snprintf(stream, sizeof stream, "%s:heads", name);
    float *cost = otf_random_cost(o, stream, h->n, h->m);
    for (int64_t e = 0; cost && e < h->n * h->m; e++)
        sum[e] = o->opt.control == OTF_RANDOM ? (double)cost[e]
                                              : fabs(((double)(e / h->m) + 0.5) / (double)h->n - ((double)(e % h->m) + 0.5) / (double)h->m);
    tfuse_status status = cost ? TFUSE_OK : TFUSE_ENOMEM;
    tf_free(&o->env->mem, cost);
    return status;
}

static tfuse_status solve_heads(otf *o, const float *cost, otf_heads *h)
{
    tf_ot_options exact = {0};
    tf_solution s;
    int64_t *source = tf_arena_array(o->env, &o->arena, (size_t)h->m, sizeof *source);
    float *mass = tf_arena_array(o->env, &o->arena, (size_t)(h->n * h->m), sizeof *mass);
    if (!source || !mass)
        return TFUSE_ENOMEM;
    TF_TRY(tf_ot_solve(o->env, o->job->solvers, "exact", &exact, h->n, h->m, cost, NULL, NULL, &s));
    tf_solution_dense(&s, mass);
    for (int64_t i = 0; s.kind == TF_COUPLING_PERMUTATION && i < h->n; i++)
        source[s.perm[i]] = i;
    h->source = s.kind == TF_COUPLING_PERMUTATION ? source : NULL;
    h->mass = mass;
    tf_solution_free(&s);
    return TFUSE_OK;
}

tfuse_status otf_assign_heads(otf *o, const tf_part *from, const tf_part *to, const otf_heads **out)
{
    const tf_graph *g = o->anchor;
    const tf_id cls = tf_class_of(g, to->port[0]);
    otf_heads *h = &o->heads[cls];
    *out = h;
    if (h->mass || o->job->tally)
        return h->mass ? TFUSE_OK : otf_estimate_heads(o, from, to);
    h->n = from->extent[0];
    h->m = to->extent[0];
    const size_t pairs = (size_t)(h->n * h->m);
    double *sum = tf_calloc(o->env, pairs, sizeof *sum);
    float *single = tf_alloc_array(o->env, pairs, sizeof *single);
    tfuse_status status = sum && single ? TFUSE_OK : TFUSE_ENOMEM;
    const bool control = otf_is_control(o);
    if (status == TFUSE_OK && control)
        status = control_costs(o, g->class_name[cls], h, sum);
    for (size_t i = 0; i < g->n_ports && status == TFUSE_OK && !control; i++)
        if (g->class_of[i] == cls)
            status = add_port_costs(o, (tf_id)i, h, sum);
    for (size_t e = 0; status == TFUSE_OK && e < pairs; e++)
        single[e] = (float)sum[e];
    if (status == TFUSE_OK)
        status = solve_heads(o, single, h);
    tf_free(&o->env->mem, sum);
    tf_free(&o->env->mem, single);
    return status;
}

/* ---- units inside heads that meet ---------------------------------------------------------------- */

/* Adds the numbers of one pair of heads to the row of all; the masses of the pairs sum to one. */
static void add_pair(tf_plan_map *row, const tf_plan_map *pair, double mass)
{
    row->solver = pair->solver;
    row->cost += pair->cost * mass;
    row->gap += pair->gap * mass;
    row->error += pair->error * mass;
    row->iterations += pair->iterations;
    row->converged &= pair->converged;
}

/* The map of the units of a pair of heads. */
static tfuse_status match_pair(otf *o, const char *name, const otf_heads *h, int64_t s, int64_t g, int64_t in, int64_t im,
                               const float *cost, float *block, tf_plan_map *row, tf_map **map)
{
    tf_plan_map pair = {0};
    char stream[384];
    if (h->source)
        snprintf(stream, sizeof stream, "%s#%lld", name, (long long)g);
    else
        snprintf(stream, sizeof stream, "%s#%lld-%lld", name, (long long)s, (long long)g);
    copy_block(cost, h->m * im, s * in, g * im, in, im, block);
    TF_TRY(otf_match(o, stream, in, im, block, &pair));
    add_pair(row, &pair, (double)h->mass[s * h->m + g]);
    *map = pair.map;
    return TFUSE_OK;
}

static tfuse_status match_blocks(otf *o, const char *name, const otf_heads *h, int64_t in, int64_t im, const float *cost, float *block,
                                 tf_plan_map *row)
{
    int64_t done = 0;
    tf_map **inner = tf_calloc(o->env, (size_t)h->m, sizeof *inner);
    tfuse_status status = inner ? TFUSE_OK : TFUSE_ENOMEM;
    for (; done < h->m && status == TFUSE_OK; done++)
        status = match_pair(o, name, h, h->source[done], done, in, im, cost, block, row, &inner[done]);
    if (status == TFUSE_OK)
        status = tf_map_block(o->env, h->n, h->m, h->source, inner, &row->map);
    else
        for (int64_t g = 0; inner && g < done; g++)
            tf_map_free(inner[g]);
    tf_free(&o->env->mem, inner);
    return status;
}

/* dst, with `stride` numbers a row, becomes `mass` times the coupling of a map (mass one; RAW: of as much mass as the map has rows). */
static void put_coupling(const tf_map *map, float mass, int64_t stride, float *dst)
{
    for (int64_t j = 0; map->source && j < map->m; j++)
        dst[map->source[j] * stride + j] = mass / (float)map->m;
    for (int64_t e = 0; map->dense && e < map->n * map->m; e++)
        dst[e / map->m * stride + e % map->m] = mass * map->dense[e];
}

static tfuse_status match_coupled(otf *o, const char *name, const otf_heads *h, int64_t in, int64_t im, const float *cost, float *block,
                                  tf_plan_map *row)
{
    const bool raw = o->opt.compat && o->opt.control != OTF_UNIFORM;
    const int64_t n = h->n * in, m = h->m * im;
    float *dense = tf_calloc(o->env, (size_t)(n * m), sizeof *dense);
    tfuse_status status = dense ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t e = 0; e < h->n * h->m && status == TFUSE_OK; e++) {
        const int64_t s = e / h->m, g = e % h->m;
        tf_map *map = NULL;
        if (!(h->mass[e] > 0))
            continue;
        status = match_pair(o, name, h, s, g, in, im, cost, block, row, &map);
        if (status == TFUSE_OK) /* one pair's raw matrix has mass `in`, the whole n */
            put_coupling(map, raw && map->kind == TF_MAP_RAW ? h->mass[e] * (float)h->n : raw ? h->mass[e] * (float)n : h->mass[e], m,
                         dense + s * in * m + g * im);
        tf_map_free(map);
    }
    if (status == TFUSE_OK)
        return tf_map_dense_own(o->env, raw ? TF_MAP_RAW : TF_MAP_COUPLING, n, m, dense, &row->map);
    tf_free(&o->env->mem, dense);
    return status;
}

tfuse_status otf_match_heads(otf *o, const char *name, const otf_heads *h, int64_t n, int64_t m, const float *cost, tf_plan_map *row)
{
    const int64_t in = n / h->n, im = m / h->m;
    float *block = tf_alloc_array(o->env, (size_t)(in * im), sizeof *block);
    row->cost = row->gap = row->error = 0;
    row->converged = true;
    if (!block)
        return TFUSE_ENOMEM;
    tfuse_status status = h->source ? match_blocks(o, name, h, in, im, cost, block, row) : match_coupled(o, name, h, in, im, cost, block, row);
    tf_free(&o->env->mem, block);
    return status;
}
