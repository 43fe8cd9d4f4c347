/* SPDX-License-Identifier: Apache-2.0
 *
 * class_plan.c: see class_plan.h.
 *
 * A part of a tensor is a product of factors. All but the innermost are permuted as blocks, by the product of their permutations; the innermost
 * moves by its class's map in each block. Parts of the same classes share one map of the plan, on whichever side they use it.
 */
#include "align/class_plan.h"
#include "graph/naming.h"
#include <math.h>
#include <string.h>

int64_t tf_class_instances(const tf_graph *g, tf_id cls)
{
    int64_t count = 1;
    for (tf_id c = tf_class_parent(g, cls); c >= 0; c = tf_class_parent(g, c))
        count *= tf_class_extent(g, c);
    return count;
}

tfuse_status tf_class_is_outer(tf_env *env, const tf_graph *g, tf_id cls, bool *outer)
{
    *outer = false;
    for (size_t i = 0; i < g->n_params; i++)
        for (int d = 0; d < g->params[i].rank; d++) {
            tf_part *parts;
            int count;
            TF_TRY(tf_binding_parts(env, g, g->params[i].dims[d], &parts, &count));
            for (int p = 0; p < count; p++)
                for (int f = 0; f + 1 < parts[p].n_factors; f++)
                    *outer = *outer || (parts[p].port[f] >= 0 && tf_class_of(g, parts[p].port[f]) == cls);
            tf_free(&env->mem, parts);
        }
    return TFUSE_OK;
}

void tf_part_units(const tf_part *part, int n, int64_t index, int64_t *units)
{
    for (int f = n - 1; f >= 0; f--) {
        units[f] = index % part->extent[f];
        index /= part->extent[f];
    }
}

int64_t tf_class_instance(const tf_graph *g, const tf_part *part, int f, const int64_t *units)
{
    int64_t instance = 0, stride = 1;
    for (tf_id up = tf_class_parent(g, tf_class_of(g, part->port[f])); up >= 0; up = tf_class_parent(g, up)) {
        for (int k = 0; k < f; k++)
            if (tf_class_of(g, part->port[k]) == up)
                instance += units[k] * stride;
        stride *= tf_class_extent(g, up);
    }
    return instance;
}

int64_t tf_class_source(const tf_graph *g, const tf_class_map *maps, tf_id cls, int64_t instance)
{
    int64_t source = 0, stride = 1;
    for (tf_id up = tf_class_parent(g, cls); up >= 0; up = tf_class_parent(g, up)) {
        const int64_t extent = tf_class_extent(g, up), unit = instance % extent;
        instance /= extent;
        const tf_map *map = maps[up].instances ? maps[up].maps[instance] : NULL; /* what is left numbers the units around it */
        source += (map && map->source ? map->source[unit] : unit) * stride;
        stride *= extent;
    }
    return source;
}

/* The map of factor f where the factors before it are at `units`; NULL: the identity. */
static const tf_map *map_at(const tf_graph *g, const tf_class_map *maps, const tf_part *part, int f, const int64_t *units)
{
    const tf_id cls = tf_class_of(g, part->port[f]);
    if (cls < 0 || !maps[cls].instances)
        return NULL;
    return maps[cls].maps[tf_class_instance(g, part, f, units)];
}

static tfuse_status block_source(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *part, const int64_t *units,
                                 int64_t *source)
{
    *source = 0;
    for (int f = 0; f + 1 < part->n_factors; f++) {
        const tf_map *map = map_at(g, maps, part, f, units);
        if (map && map->kind != TF_MAP_PERMUTATION && map->kind != TF_MAP_IDENTITY)
            return tf_fail(env, TFUSE_EINTERNAL, "blocks of an axis move by a %s map", tf_map_kind_name(map->kind));
        *source = *source * part->extent[f] + (map && map->source ? map->source[units[f]] : units[f]);
    }
    return TFUSE_OK;
}

static tfuse_status make_blocks(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *part, int64_t blocks,
                                int64_t *source, tf_map **inner)
{
    const int last = part->n_factors - 1;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(part, last, b, units);
        TF_TRY(block_source(env, g, maps, part, units, &source[b]));
        const tf_map *map = map_at(g, maps, part, last, units);
        TF_TRY(map ? tf_map_clone(env, map, &inner[b]) : tf_map_identity(env, part->extent[last], &inner[b]));
    }
    return TFUSE_OK;
}

tfuse_status tf_class_part_map(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *part, tf_map **out)
{
    const int64_t blocks = part->size / part->extent[part->n_factors - 1];
    int64_t *source = tf_alloc_array(env, (size_t)blocks, sizeof *source);
    tf_map **inner = tf_calloc(env, (size_t)blocks, sizeof *inner);
    tfuse_status status = source && inner ? make_blocks(env, g, maps, part, blocks, source, inner) : TFUSE_ENOMEM;
    *out = NULL;
    if (status == TFUSE_OK && blocks == 1)
        *out = inner[0];
    else if (status == TFUSE_OK)
        status = tf_map_block(env, blocks, blocks, source, inner, out);
    else
        for (int64_t b = 0; inner && b < blocks; b++)
            tf_map_free(inner[b]);
    tf_free(&env->mem, source);
    tf_free(&env->mem, inner);
    return status;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

bool tf_class_moves(const tf_graph *g, const tf_class_map *maps, const tf_part *part)
{
    for (int f = 0; f < part->n_factors; f++)
        if (part->port[f] >= 0 && maps[tf_class_of(g, part->port[f])].instances)
            return true;
    return false;
}

/* "layer.0/heads*layer.0/qk": names of classes, which are unique. */
static tfuse_status part_name(tf_env *env, const tf_graph *g, const tf_part *part, tf_buf *out)
{
    for (int f = 0; f < part->n_factors; f++) {
        const tf_id cls = tf_class_of(g, part->port[f]);
        if (f)
            TF_TRY(tf_buf_add(env, out, "*", 1));
        if (cls >= 0)
            TF_TRY(tf_buf_add(env, out, g->class_name[cls], strlen(g->class_name[cls])));
        else
            TF_TRY(tf_buf_printf(env, out, "%lld", (long long)part->extent[f]));
    }
    return tf_buf_add(env, out, "", 1);
}

static tfuse_status add_part(tf_env *env, tfuse_plan *plan, const tf_graph *g, const tf_class_map *maps, const tf_part *part,
                             tf_plan_entry entry)
{
    tf_buf name;
    tf_buf_init(&name, &env->mem);
    tfuse_status status = part_name(env, g, part, &name);
    entry.map = -1;
    for (size_t i = 0; i < plan->n_maps && status == TFUSE_OK; i++)
        if (plan->maps[i].model == entry.model && !strcmp(plan->maps[i].name, name.data))
            entry.map = (int32_t)i;
    if (status == TFUSE_OK && entry.map < 0) {
        const tf_id port = part->port[part->n_factors - 1];
        const tf_class_map *how = port >= 0 ? &maps[tf_class_of(g, port)] : NULL;
        const bool solved = how && how->solver;
        tf_plan_map row = {.name = name.data, .axis = name.data, .model = entry.model, .solver = solved ? how->solver : "",
                           .cost = solved ? how->cost : NAN, .gap = solved ? how->gap : NAN, .error = NAN, .converged = true};
        status = tf_class_part_map(env, g, maps, part, &row.map);
        if (status == TFUSE_OK)
            status = tf_plan_add_map(env, plan, &row, &entry.map);
    }
    if (status == TFUSE_OK)
        status = tf_plan_add_entry(env, plan, &entry);
    tf_buf_free(&name);
    return status;
}

static tfuse_status add_dim(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_class_map *maps,
                            const tf_param *p, int dim)
{
    tf_part *parts;
    int count;
    TF_TRY(tf_binding_parts(env, g, p->dims[dim], &parts, &count));
    tfuse_status status = TFUSE_OK;
    for (int i = 0; i < count && status == TFUSE_OK; i++) {
        const tf_plan_entry entry = {model, p->name, dim, i, -1, p->use[dim] != TF_USE_CONSUMED};
        if (tf_class_moves(g, maps, &parts[i]))
            status = add_part(env, plan, g, maps, &parts[i], entry);
    }
    tf_free(&env->mem, parts);
    return status;
}

tfuse_status tf_class_plan(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_class_map *maps)
{
    for (size_t i = 0; i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        for (int d = 0; d < p->rank && !(p->source && p->source->kind == TF_SOURCE_ALIAS); d++)
            TF_TRY(add_dim(env, plan, model, g, maps, p, d));
    }
    return TFUSE_OK;
}

void tf_class_maps_free(tf_env *env, const tf_graph *g, tf_class_map *maps)
{
    for (size_t c = 0; maps && c < g->n_classes; c++) {
        for (int64_t i = 0; maps[c].maps && i < maps[c].instances; i++)
            tf_map_free(maps[c].maps[i]);
        tf_free(&env->mem, maps[c].maps);
    }
    tf_free(&env->mem, maps);
}
