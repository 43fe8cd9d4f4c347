/* SPDX-License-Identifier: Apache-2.0
 *
 * centre_writes.c: LayerNorm ignores the mean over the channels, so what only LayerNorms read may lose it: every write to such a
 * stream is centred over it. What a LayerNorm of gain one and bias zero puts out has mean zero, so the reads' columns lose
 * their mean too. Both parts are noise to whatever compares two models.
 *
 * An axis qualifies when its group is "orthogonal fixing ones" (its LayerNorms are folded), every value on it was written
 * by a node known to be linear in its tensors or follows from such by adding, joining, choosing or averaging tokens, and nothing but LayerNorms, and
 * those, reads it before a LayerNorm has.
 */
#include "passes/passes.h"
#include "passes/walk.h"

/* What a value is to the axis: not on it, on it, or on it and of mean zero. */
typedef enum place { OFF, RAW, NORMED } place;

/* The binding is this axis and nothing else. */
static bool is_axis(const tf_graph *g, const tf_binding *b, tf_id cls)
{
    return b && b->n_segments == 1 && b->segments[0].n_factors == 1 && b->segments[0].factors[0].kind == TF_FACTOR_PORT &&
           tf_class_of(g, b->segments[0].factors[0].port) == cls;
}

static bool is_writer(const tf_node *n)
{
    return n->op == &tf_op_linear || n->op == &tf_op_patchify || n->op == &tf_op_parameter || n->op == &tf_op_embedding || n->op == &tf_op_positions;
}

static bool keeps_stream(const tf_node *n)
{
    return n->op == &tf_op_add || n->op == &tf_op_concat_tokens || n->op == &tf_op_token || n->op == &tf_op_mean_tokens;
}

/* Places of all values; false when the axis does not qualify. */
static bool place_values(const tf_graph *g, tf_id cls, place *places)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        bool raw = false;
        for (int k = 0; k < n->n_inputs; k++)
            raw = raw || places[n->inputs[k]] == RAW;
        if (raw && n->op != &tf_op_layernorm && !keeps_stream(n))
            return false;
        for (int k = 0; k < n->n_outputs; k++) {
            if (!is_axis(g, tf_value_channels(g, n->outputs[k]), cls))
                continue;
            if (n->op != &tf_op_layernorm && !keeps_stream(n) && !is_writer(n))
                return false;
            places[n->outputs[k]] = n->op == &tf_op_layernorm || (keeps_stream(n) && !raw) ? NORMED : RAW;
        }
    }
    return g->output < 0 || places[g->output] != RAW;
}

static bool writes_here(const tf_graph *g, const tf_param *p, int dim, tf_id cls)
{
    return p->use[dim] == TF_USE_PRODUCED && is_axis(g, p->dims[dim], cls);
}

static bool writes_are_own(const tf_graph *g, tf_id cls)
{
    for (size_t i = 0; i < g->n_params; i++)
        for (int d = 0; d < g->params[i].rank; d++)
            if (writes_here(g, &g->params[i], d, cls) && !tf_param_is_private(g, (tf_id)i))
                return false;
    return true;
}

/* Node by node: all produced dimensions on the axis; the columns of a linear that reads a normalised value. */
static tfuse_status centre(tf_env *env, tf_view *out, tf_id cls, const place *places)
{
    const tf_graph *g = out->g;
    for (size_t i = 0; i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        const tf_node *n = &g->nodes[p->node];
        const bool read = n->op == &tf_op_linear && places[n->inputs[0]] == NORMED && p->rank == 2 &&
                          tf_param_is_private(g, (tf_id)i);
        for (int d = 0; d < p->rank; d++) {
            const tf_step step = {.kind = TF_STEP_CENTRE, .dim = d};
            if (writes_here(g, p, d, cls) || (read && d == 1))
                TF_TRY(tf_view_add(env, out, (tf_id)i, &step));
        }
    }
    return TFUSE_OK;
}

static tfuse_status centre_axes(tf_env *env, tf_view *out, tf_group *groups, place *places)
{
    const tf_graph *g = out->g;
    TF_TRY(tf_groups(env, g, out->base, groups));
    for (size_t c = 0; c < g->n_classes; c++) {
        for (size_t v = 0; v < g->n_values; v++)
            places[v] = OFF;
        if (groups[c] == TF_GROUP_ORTHO_ONES && place_values(g, (tf_id)c, places) && writes_are_own(g, (tf_id)c))
            TF_TRY(centre(env, out, (tf_id)c, places));
    }
    return TFUSE_OK;
}

static tfuse_status rewrite(tf_env *env, tf_view *level)
{
    tf_group *groups = tf_alloc_array(env, level->g->n_classes, sizeof *groups);
    place *places = tf_alloc_array(env, level->g->n_values, sizeof *places);
    const tfuse_status status = groups && places ? centre_axes(env, level, groups, places) : TFUSE_ENOMEM;
    tf_free(&env->mem, groups);
    tf_free(&env->mem, places);
    return status;
}

tfuse_status tf_pass_centre_writes(tf_env *env, const tf_view *base, tf_view **out)
{
    return tf_walk_level(env, base, "centre-writes.1", rewrite, out);
}
