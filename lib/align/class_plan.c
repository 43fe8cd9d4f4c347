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

int64_t tf_class_source(const tf_graph *g, const tf_graph *of, const tf_class_map *maps, tf_id cls, int64_t instance)
{
    int64_t source = 0, stride = 1;
    for (tf_id up = tf_class_parent(g, cls); up >= 0; up = tf_class_parent(g, up)) {
        const int64_t extent = tf_class_extent(g, up), unit = instance % extent;
        instance /= extent;
        const tf_map *map = maps[up].instances ? maps[up].maps[instance] : NULL; /* what is left numbers the units around it */
        source += (map && map->source ? map->source[unit] : unit) * stride;
        stride *= tf_class_extent(of, up);
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

int64_t tf_class_block_source(const tf_graph *g, const tf_class_map *maps, const tf_part *from, const tf_part *to, const int64_t *units)
{
    int64_t source = 0;
    for (int f = 0; f + 1 < to->n_factors; f++) {
        const tf_map *map = map_at(g, maps, to, f, units);
        const int64_t unit = map && map->source ? map->source[units[f]] : units[f];
        if (unit < 0)
            return -1;
        source = source * from->extent[f] + unit;
    }
    return source;
}

/* Blocks are moved whole: by what has a source for each. */
static tfuse_status check_outer(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *part, const int64_t *units)
{
    for (int f = 0; f + 1 < part->n_factors; f++) {
        const tf_map *map = map_at(g, maps, part, f, units);
        if (map && !map->source && map->kind != TF_MAP_IDENTITY)
            return tf_fail(env, TFUSE_EINTERNAL, "blocks of an axis move by a %s map", tf_map_kind_name(map->kind));
    }
    return TFUSE_OK;
}

static tfuse_status make_blocks(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *from, const tf_part *to,
                                int64_t blocks, int64_t *source, tf_map **inner)
{
    const int last = to->n_factors - 1;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(to, last, b, units);
        TF_TRY(check_outer(env, g, maps, to, units));
        source[b] = tf_class_block_source(g, maps, from, to, units);
        const tf_map *map = map_at(g, maps, to, last, units);
        if (source[b] >= 0)
            TF_TRY(map ? tf_map_clone(env, map, &inner[b]) : tf_map_identity(env, to->extent[last], &inner[b]));
    }
    return TFUSE_OK;
}

/* Whether the innermost class of the part is summed over, block by block, where it is consumed. Where it only ever meets its own dual (keys against
 * queries) each block is for itself, and copies do not add up. */
static bool adds_up(const tf_graph *g, const tf_part *part)
{
    const tf_id cls = tf_class_of(g, part->port[part->n_factors - 1]);
    for (size_t p = 0; p < g->n_ports && cls >= 0; p++)
        if (tf_class_of(g, (tf_id)p) == cls && g->class_dual[p])
            return false;
    return true;
}

static tfuse_status share_copies(tf_env *env, tf_map *map)
{
    int64_t *copies = NULL;
    TF_TRY(tf_map_copies(env, map, &copies));
    bool any = false;
    for (int64_t b = 0; b < map->blocks_n; b++)
        any = any || copies[b] > 1;
    const tfuse_status status = any ? tf_map_share(env, map, copies) : TFUSE_OK;
    tf_free(&env->mem, copies);
    return status;
}

tfuse_status tf_class_part_map(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *from, const tf_part *to, tf_map **out)
{
    const int64_t blocks = to->size / to->extent[to->n_factors - 1], blocks_n = from->size / from->extent[from->n_factors - 1];
    int64_t *source = tf_alloc_array(env, (size_t)blocks, sizeof *source);
    tf_map **inner = tf_calloc(env, (size_t)blocks, sizeof *inner);
    tfuse_status status = source && inner ? make_blocks(env, g, maps, from, to, blocks, source, inner) : TFUSE_ENOMEM;
    *out = NULL;
    if (status == TFUSE_OK && blocks == 1 && blocks_n == 1)
        *out = inner[0];
    else if (status == TFUSE_OK)
        status = tf_map_block(env, blocks_n, blocks, source, inner, out);
    else
        for (int64_t b = 0; inner && b < blocks; b++)
            tf_map_free(inner[b]);
    if (*out && (*out)->kind == TF_MAP_BLOCK && blocks != blocks_n && adds_up(g, to))
        status = share_copies(env, *out);
    if (status != TFUSE_OK) {
        tf_map_free(*out);
        *out = NULL;
    }
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

tfuse_status tf_class_part_name(tf_env *env, const tf_graph *g, const tf_part *part, tf_buf *out)
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

static tfuse_status add_part(tf_env *env, tfuse_plan *plan, const tf_graph *g, const tf_class_map *maps, const tf_part *from,
                             const tf_part *part, tf_plan_entry entry)
{
    tf_buf name;
    tf_buf_init(&name, &env->mem);
    tfuse_status status = tf_class_part_name(env, g, part, &name);
    entry.map = -1;
    for (size_t i = 0; i < plan->n_maps && status == TFUSE_OK; i++)
        if (plan->maps[i].model == entry.model && !strcmp(plan->maps[i].name, name.data))
            entry.map = (int32_t)i;
    if (status == TFUSE_OK && entry.map < 0) {
        const tf_id port = part->port[part->n_factors - 1];
        const tf_class_map *how = port >= 0 ? &maps[tf_class_of(g, port)] : NULL;
        const bool solved = how && how->solver;
        tf_plan_map row = {.name = name.data, .axis = name.data, .model = entry.model, .solver = solved ? how->solver : "",
                           .cost = solved ? how->cost : NAN, .gap = solved ? how->gap : NAN, .error = NAN,
                           .correlation = solved ? how->correlation : NAN, .converged = true};
        const int64_t blocks[2] = {from->size / from->extent[from->n_factors - 1], part->size / part->extent[part->n_factors - 1]};
        if (blocks[0] != blocks[1]) { /* tell which come, and where */
            row.heads_n = blocks[0];
            row.heads_m = blocks[1];
        }
        status = tf_class_part_map(env, g, maps, from, part, &row.map);
        if (status == TFUSE_OK)
            status = tf_plan_add_map(env, plan, &row, &entry.map);
        if (status == TFUSE_OK && how && how->is_soft)
            plan->maps[entry.map].kept = how->kept;
    }
    if (status == TFUSE_OK)
        status = tf_plan_add_entry(env, plan, &entry);
    tf_buf_free(&name);
    return status;
}

static tfuse_status add_dim(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_graph *of, const tf_class_map *maps,
                            const tf_param *p, const tf_param *like, int dim)
{
    tf_part *parts, *from = NULL;
    int count, n_from = 0;
    TF_TRY(tf_binding_parts(env, g, p->dims[dim], &parts, &count));
    tfuse_status status = tf_binding_parts(env, of, like->dims[dim], &from, &n_from);
    for (int i = 0; i < count && i < n_from && status == TFUSE_OK; i++) {
        const tf_plan_entry entry = {model, p->name, dim, i, -1, p->use[dim] != TF_USE_CONSUMED};
        if (tf_class_moves(g, maps, &parts[i]))
            status = add_part(env, plan, g, maps, &from[i], &parts[i], entry);
    }
    tf_free(&env->mem, parts);
    tf_free(&env->mem, from);
    return status;
}

tfuse_status tf_class_plan(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_graph *of, const tf_class_map *maps)
{
    for (size_t i = 0; i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        const tf_id like = tf_graph_find_param(of, p->name);
        for (int d = 0; like >= 0 && d < p->rank && !(p->source && p->source->kind == TF_SOURCE_ALIAS); d++)
            TF_TRY(add_dim(env, plan, model, g, of, maps, p, &of->params[like], d));
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
