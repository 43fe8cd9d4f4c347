/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_spread.c: under grouped queries (Ainslie et al. 2023) each head of values comes out once for every query of its group: heads*units
 * becomes heads*group*units. A map T of the values becomes T x 1 over the group: unit (h, g, i) of the model goes where T sends (h, i), at the
 * same place g of the group.
 */
#include "align/otfusion.h"
#include <math.h>

/* Unit (h, g, i) of a side whose heads have `units` units. */
static int64_t place(int64_t unit, int64_t units, int64_t group, int64_t g)
{
    return (unit / units * group + g) * units + unit % units;
}

/* The sizes of the two sides' heads. */
typedef struct spread {
    int64_t group, from, to;
} spread;

static tfuse_status spread_units(tf_env *env, const tf_map *map, const spread *s, tf_map **out)
{
    const int64_t m = map->m * s->group;
    int64_t *source = tf_alloc_array(env, (size_t)m, sizeof *source);
    float *scale = tf_alloc_array(env, (size_t)m, sizeof *scale);
    tfuse_status status = source && scale ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t j = 0; j < map->m && status == TFUSE_OK; j++)
        for (int64_t g = 0; g < s->group; g++) {
            const int64_t at = place(j, s->to, s->group, g);
            source[at] = place(map->source[j], s->from, s->group, g);
            scale[at] = map->scale ? map->scale[j] : 1;
        }
    if (status == TFUSE_OK)
        status = map->scale ? tf_map_scaled(env, m, source, scale, out) : tf_map_permutation(env, m, source, out);
    tf_free(&env->mem, source);
    tf_free(&env->mem, scale);
    return status;
}

static tfuse_status spread_blocks(tf_env *env, const tf_map *map, const spread *s, tf_map **out)
{
    const int64_t blocks = map->blocks_m * s->group;
    int64_t *source = tf_alloc_array(env, (size_t)blocks, sizeof *source);
    tf_map **inner = tf_calloc(env, (size_t)blocks, sizeof *inner);
    tfuse_status status = source && inner ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t b = 0; b < blocks && status == TFUSE_OK; b++) {
        const int64_t from = map->block_source[b / s->group];
        source[b] = from < 0 ? -1 : from * s->group + b % s->group;
        if (from >= 0)
            status = tf_map_clone(env, map->inner[b / s->group], &inner[b]);
    }
    if (status == TFUSE_OK) {
        status = tf_map_block(env, map->blocks_n * s->group, blocks, source, inner, out);
    } else {
        for (int64_t b = 0; inner && b < blocks; b++)
            tf_map_free(inner[b]);
    }
    tf_free(&env->mem, inner);
    tf_free(&env->mem, source);
    return status;
}

static tfuse_status spread_dense(tf_env *env, const tf_map *map, const spread *s, tf_map **out)
{
    const int64_t n = map->n * s->group, m = map->m * s->group;
    size_t count;
    float *x = tf_mul_size((size_t)n, (size_t)m, &count) ? tf_calloc(env, count, sizeof *x) : NULL;
    if (!x)
        return TFUSE_ENOMEM;
    for (int64_t g = 0; g < s->group; g++)
        for (int64_t i = 0; i < map->n; i++)
            for (int64_t j = 0; j < map->m; j++)
                x[place(i, s->from, s->group, g) * m + place(j, s->to, s->group, g)] = map->dense[i * map->m + j];
    return tf_map_dense_own(env, map->kind, n, m, x, out);
}

static tfuse_status spread_map(otf *o, const tf_map *map, const spread *s, tf_map **out)
{
    if (o->job->tally)
        return otf_estimate_spread(o, map, s->group, out);
    if (map->kind == TF_MAP_IDENTITY)
        return tf_map_identity(o->env, map->n * s->group, out);
    if (map->source)
        return spread_units(o->env, map, s, out);
    return (map->kind == TF_MAP_BLOCK ? spread_blocks : spread_dense)(o->env, map, s, out);
}

/* to: heads*group*units of the anchor, of: the same of the model; from: heads*units of the anchor. */
static tfuse_status spread_part(otf *o, tf_id in, tf_id out, const tf_part *from, const tf_part *to, const tf_part *of, int32_t map, int32_t *index)
{
    const bool fits = from->n_factors == 2 && to->n_factors == 3 && of->n_factors == 3 && from->port[0] == to->port[0] && from->port[1] == to->port[2];
    if (!fits || to->extent[1] != of->extent[1])
        return tf_fail(o->env, TFUSE_EUNSUPPORTED, "%s: the map of %s cannot be carried to it under align.strategy=otfusion%s",
                       o->anchor->values[out].name, o->anchor->values[in].name,
                       fits ? ": groups of queries differ in size" : "");
    const spread s = {to->extent[1], of->extent[2], to->extent[2]};
    tf_plan_map row = {.name = o->anchor->values[out].name, .axis = o->plan->maps[map].axis, .model = (int32_t)o->k, .solver = "",
                       .cost = (double)NAN, .gap = (double)NAN, .error = (double)NAN, .correlation = (double)NAN, .converged = true};
    TF_TRY(spread_map(o, o->plan->maps[map].map, &s, &row.map));
    return tf_plan_add_map(o->env, o->plan, &row, index);
}

tfuse_status otf_spread(tf_flow *f, tf_id in, tf_id out)
{
    otf *o = (otf *)f;
    tf_part *from = NULL, *to = NULL, *of = NULL;
    int n_from = 0, n_to = 0, n_of = 0;
    const tf_node *node = &o->anchor->nodes[o->anchor->values[out].node];
    tfuse_status status = otf_parts(o, o->anchor, in, &from, &n_from);
    if (status == TFUSE_OK)
        status = otf_parts(o, o->anchor, out, &to, &n_to);
    if (status == TFUSE_OK)
        status = otf_parts(o, o->model, otf_model_node(o, node)->outputs[0], &of, &n_of);
    if (status == TFUSE_OK)
        status = otf_new_value(o, out, n_to);
    for (int i = 0; i < n_to && i < n_from && i < n_of && status == TFUSE_OK; i++)
        if (o->values[in].map && o->values[in].map[i] >= 0)
            status = spread_part(o, in, out, &from[i], &to[i], &of[i], o->values[in].map[i], &o->values[out].map[i]);
    tf_free(&o->env->mem, from);
    tf_free(&o->env->mem, to);
    tf_free(&o->env->mem, of);
    return status;
}
