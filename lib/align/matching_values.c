/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_values.c: evidence from activations: for a value, the second moments of the model's units with the anchor's over samples and tokens.
 *
 * Of the residual stream the outputs of norms are looked at, token vectors of one length, not centred over tokens; where no norm reads it, the sums
 * themselves. Other axes are looked at where a linear, an attention or a gate makes them, centred. Rotations are found from covariances; units
 * to be assigned are compared by correlations, so that loud ones do not drown others.
 */
#include "align/carry.h"
#include "align/matching.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

/* ---- which values ------------------------------------------------------------------------------------------------ */

static bool is_read_by_norm(const tf_graph *g, tf_id value)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] == value && g->nodes[i].op->normalises)
                return true;
    return false;
}

/* Channels that a map can move and that are nobody else's: activations' outputs follow from their inputs. */
static bool is_wanted(const tf_graph *g, const tf_node *n)
{
    const tf_value *v = &g->values[n->outputs[0]];
    const tf_op *op = n->op;
    if (v->integer || n->outputs[0] == g->output)
        return false;
    if (op == &tf_op_add)
        return !is_read_by_norm(g, n->outputs[0]);
    return op->normalises || op == &tf_op_linear || op == &tf_op_attention || op == &tf_op_multiply;
}

static tfuse_status has_free_part(tf_env *env, const tf_graph *g, tf_id value, bool of_stream, bool *has)
{
    tf_part *parts;
    int count;
    *has = false;
    TF_TRY(tf_binding_parts(env, g, tf_value_channels(g, value), &parts, &count));
    for (int i = 0; i < count; i++)
        for (int f = 0; f < parts[i].n_factors; f++) {
            const tf_id cls = tf_class_of(g, parts[i].port[f]);
            *has = *has || (cls >= 0 && !tf_class_pinned(g, cls) && (of_stream || !tf_class_is_stream(g, cls)));
        }
    tf_free(&env->mem, parts);
    return TFUSE_OK;
}

tfuse_status mt_values_wanted(tf_env *env, const tf_graph *g, tf_stat_wants *out)
{
    out->items = tf_calloc(env, g->n_nodes + 1, sizeof *out->items);
    out->n = 0;
    out->filter = (tf_token_filter){TF_TOKENS_ALL, 0};
    if (!out->items)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        bool has;
        if (!n->n_outputs || !is_wanted(g, n))
            continue;
        /* what a branch writes to the stream is in the sums */
        TF_TRY(has_free_part(env, g, n->outputs[0], n->op->normalises || n->op == &tf_op_add, &has));
        if (has)
            out->items[out->n++] = (tf_stat_request){.value = g->values[n->outputs[0]].name, .cross = true};
    }
    return TFUSE_OK;
}

/* ---- their moments, balanced --------------------------------------------------------------------------------------- */

static double second(const tf_moments *m, int64_t u, bool centred)
{
    return m->var[u] * (double)(m->rows - 1) + (centred ? 0 : (double)m->rows * m->mean[u] * m->mean[u]);
}

static bool is_centred(const matching *mt, tf_id value)
{
    return !mt->g->nodes[mt->g->values[value].node].op->normalises;
}

/* Whether the value's units are compared one by one: its innermost class is assigned. */
static bool is_by_unit(const matching *mt, const tf_part *part)
{
    const tf_id cls = tf_class_of(mt->g, part->port[part->n_factors - 1]);
    return cls >= 0 && mt->classes[cls].shape >= MT_UNITS;
}

static void fill_part(const tf_stat *s, const tf_part *part, bool by_unit, bool centred, int64_t n, int64_t m, float *cross)
{
    double a = 0, b = 0;
    for (int64_t u = 0; u < part->size; u++) {
        const int64_t i = tf_part_index(part, u);
        a += second(&s->anchor, i, centred);
        b += second(&s->model, i, centred);
    }
    for (int64_t u = 0; u < part->size; u++)
        for (int64_t v = 0; v < part->size; v++) {
            const int64_t i = tf_part_index(part, u), j = tf_part_index(part, v);
            const double x = s->cross[i * m + j] + (centred ? 0 : (double)s->anchor.rows * s->model.mean[i] * s->anchor.mean[j]);
            const double most = by_unit ? sqrt(second(&s->model, i, centred) * second(&s->anchor, j, centred)) * (double)part->size
                                        : sqrt(a * b);
            cross[i * m + j] = most > 0 ? (float)(x / most) : 0;
        }
    (void)n;
}

/* Moves one side of the matrix by maps of classes. */
static tfuse_status move_side(matching *mt, const mt_value *v, const tf_class_map *maps, int dim, const bool *still, float **x)
{
    tf_env *env = mt->env;
    const tf_binding *b = tf_value_channels(mt->g, v->value);
    const int64_t n = b->extent, shape[2] = {n, n};
    tf_class_map *some = tf_alloc_array(env, mt->g->n_classes, sizeof *some);
    float *moved = tf_calloc(env, (size_t)(n * n), sizeof *moved);
    tf_part *parts = NULL;
    int count = 0;
    tfuse_status status = some && moved ? tf_binding_parts(env, mt->g, b, &parts, &count) : TFUSE_ENOMEM;
    for (size_t c = 0; c < mt->g->n_classes && some; c++) {
        some[c] = maps[c];
        if (still && still[c])
            some[c].instances = 0;
    }
    for (int i = 0; i < count && status == TFUSE_OK; i++) {
        tf_map *map = NULL;
        bool dual = false;
        for (int f = 0; f < parts[i].n_factors; f++)
            dual = dual || (parts[i].port[f] >= 0 && mt->g->class_dual[parts[i].port[f]]);
        if (tf_class_moves(mt->g, some, &parts[i]))
            status = tf_class_part_map(env, mt->g, some, &parts[i], &map);
        if (status == TFUSE_OK)
            status = tf_carry_part(env, map, dual ? TF_USE_DUAL : TF_USE_PRODUCED, true, *x, 2, shape, dim, &parts[i], &parts[i], n, moved);
        tf_map_free(map);
    }
    tf_free(&env->mem, parts);
    tf_free(&env->mem, some);
    tf_free(&env->mem, *x);
    *x = status == TFUSE_OK ? moved : NULL;
    if (status != TFUSE_OK)
        tf_free(&env->mem, moved);
    return status;
}

static tfuse_status make_value(matching *mt, const tf_stat *s, mt_value *out)
{
    const tf_binding *b = tf_value_channels(mt->g, out->value);
    const bool centred = is_centred(mt, out->value);
    bool by_unit = true;
    tf_part *parts;
    int count;
    if (!(out->cross = tf_calloc(mt->env, (size_t)(b->extent * b->extent), sizeof *out->cross)))
        return TFUSE_ENOMEM;
    TF_TRY(tf_binding_parts(mt->env, mt->g, b, &parts, &count));
    for (int i = 0; i < count; i++) {
        by_unit = by_unit && is_by_unit(mt, &parts[i]);
        fill_part(s, &parts[i], is_by_unit(mt, &parts[i]), centred, s->model.units, s->anchor.units, out->cross);
    }
    tf_free(&mt->env->mem, parts);
    if (by_unit) /* correlations know no scale */
        return TFUSE_OK;
    TF_TRY(move_side(mt, out, mt->side[MT_MODEL].balance, 0, NULL, &out->cross));
    return move_side(mt, out, mt->side[MT_ANCHOR].balance, 1, NULL, &out->cross);
}

tfuse_status mt_values_make(matching *mt, const tf_stats *stats, const tf_stat_wants *wants)
{
    if (!(mt->values = tf_calloc(mt->env, wants->n + 1, sizeof *mt->values)))
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < wants->n; i++) {
        mt->values[i].value = tf_graph_find_value(mt->g, wants->items[i].value);
        mt->n_values = i + 1;
        TF_TRY(make_value(mt, &stats->items[i], &mt->values[i]));
    }
    return TFUSE_OK;
}

void mt_values_free(matching *mt)
{
    for (size_t i = 0; i < mt->n_values; i++)
        tf_free(&mt->env->mem, mt->values[i].cross);
    tf_free(&mt->env->mem, mt->values);
}

/* ---- Grams of a class -------------------------------------------------------------------------------------------------- */

static void add_blocks(matching *mt, const float *x, int64_t units, const tf_part *part, double fraction, mt_gram *gram)
{
    const int last = part->n_factors - 1;
    const int64_t n = gram->n;
    for (int64_t block = 0; block < part->size / n; block++) {
        int64_t at[TF_MAX_FACTORS];
        tf_part_units(part, last, block, at);
        const int64_t i = tf_class_instance(mt->g, part, last, at);
        float *sum = gram->x + i * n * n;
        for (int64_t u = 0; u < n; u++)
            for (int64_t v = 0; v < n; v++)
                sum[u * n + v] += (float)mt->activation_weight *
                                  x[tf_part_index(part, block * n + u) * units + tf_part_index(part, block * n + v)];
        gram->most[i] += mt->activation_weight * fraction * (double)n / (double)part->size;
    }
}

static bool knows_blocks(const matching *mt, const tf_part *part)
{
    bool known = true;
    for (int f = 0; f + 1 < part->n_factors; f++) {
        const tf_id cls = tf_class_of(mt->g, part->port[f]);
        known = known && (cls < 0 || mt->classes[cls].known || mt->classes[cls].shape == MT_FIXED);
    }
    return known;
}

static tfuse_status add_value(matching *mt, const mt_value *v, tf_id cls, bool *still, mt_gram *gram)
{
    const tf_binding *b = tf_value_channels(mt->g, v->value);
    float *x = NULL;
    tf_part *parts;
    int count;
    TF_TRY(tf_binding_parts(mt->env, mt->g, b, &parts, &count));
    tfuse_status status = TFUSE_OK;
    for (int i = 0; i < count && status == TFUSE_OK; i++) {
        if (tf_class_of(mt->g, parts[i].port[parts[i].n_factors - 1]) != cls || !knows_blocks(mt, &parts[i]))
            continue;
        if (!x) {
            if (!(x = tf_alloc_array(mt->env, (size_t)(b->extent * b->extent), sizeof *x)))
                status = TFUSE_ENOMEM;
            else
                memcpy(x, v->cross, (size_t)(b->extent * b->extent) * sizeof *x);
            if (status == TFUSE_OK)
                status = move_side(mt, v, mt->maps, 0, still, &x);
        }
        if (status == TFUSE_OK)
            add_blocks(mt, x, b->extent, &parts[i], 1.0, gram);
    }
    tf_free(&mt->env->mem, parts);
    tf_free(&mt->env->mem, x);
    return status;
}

tfuse_status mt_values_gram(matching *mt, tf_id cls, mt_gram *gram)
{
    bool *still = tf_calloc(mt->env, mt->g->n_classes, sizeof *still);
    tfuse_status status = still ? TFUSE_OK : TFUSE_ENOMEM;
    if (still)
        still[cls] = true;
    for (size_t i = 0; i < mt->n_values && status == TFUSE_OK; i++)
        status = add_value(mt, &mt->values[i], cls, still, gram);
    tf_free(&mt->env->mem, still);
    return status;
}

tfuse_status mt_values_objective(matching *mt, double *sum, double *count)
{
    for (size_t i = 0; i < mt->n_values; i++) {
        const mt_value *v = &mt->values[i];
        const int64_t n = tf_value_channels(mt->g, v->value)->extent;
        float *x = tf_alloc_array(mt->env, (size_t)(n * n), sizeof *x);
        if (!x)
            return TFUSE_ENOMEM;
        memcpy(x, v->cross, (size_t)(n * n) * sizeof *x);
        TF_TRY(move_side(mt, v, mt->maps, 0, NULL, &x));
        for (int64_t u = 0; u < n; u++)
            *sum += mt->activation_weight * (double)x[u * n + u];
        *count += mt->activation_weight;
        tf_free(&mt->env->mem, x);
    }
    return TFUSE_OK;
}
