/* SPDX-License-Identifier: Apache-2.0
 *
 * ffn.c: see ffn.h. That the network reads and writes one axis tells it from a head: a pooler and a classifier are two linears with a function between
 * them as well, but end on the classes.
 */
#include "arch/ffn.h"
#include "ops/common.h"
#include "ops/ops.h"

/* The class of channels that are one axis and nothing else; -1. */
static tf_id sole_class(const tf_graph *g, tf_id value)
{
    const tf_binding *b = g->values[value].rank ? tf_value_channels(g, value) : NULL;
    return b && b->n_segments == 1 && b->segments[0].n_factors == 1 && b->segments[0].factors[0].kind == TF_FACTOR_PORT
               ? tf_class_of(g, b->segments[0].factors[0].port)
               : -1;
}

static bool is_own_linear(const tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_params && n->op == &tf_op_linear; i++)
        if (n->params[i] >= 0 && !tf_param_is_private(g, n->params[i]))
            return false;
    return n->op == &tf_op_linear;
}

/* The linear whose output, read by nobody else, this value is. */
static tf_id made_by_linear(const tf_graph *g, tf_id value)
{
    const tf_id node = g->values[value].node;
    return tf_count_readers(g, value) == 1 && is_own_linear(g, node) ? node : -1;
}

/* The linear behind the function whose output this value is. */
static tf_id made_by_function(const tf_graph *g, tf_id value)
{
    const tf_node *n = &g->nodes[g->values[value].node];
    return n->op == &tf_op_activation && tf_count_readers(g, value) == 1 ? made_by_linear(g, n->inputs[0]) : -1;
}

static bool look(const tf_graph *g, tf_id down, tf_ffn *f)
{
    if (!is_own_linear(g, down))
        return false;
    const tf_id value = g->nodes[down].inputs[0];
    *f = (tf_ffn){.up = -1, .down = down, .hidden = g->values[value].node};
    const tf_node *n = &g->nodes[f->hidden];
    if (n->op == &tf_op_multiply && tf_count_readers(g, value) == 1) {
        f->key = made_by_function(g, n->inputs[0]);
        f->up = made_by_linear(g, n->inputs[1]);
        if (f->key < 0 || f->up < 0 || g->nodes[f->key].inputs[0] != g->nodes[f->up].inputs[0])
            return false;
    } else if ((f->key = made_by_function(g, value)) < 0) {
        return false;
    }
    const tf_id in = g->nodes[f->key].inputs[0], out = g->nodes[down].outputs[0], axis = sole_class(g, in);
    f->units = tf_value_channels(g, value)->extent;
    f->width = tf_value_channels(g, in)->extent;
    return sole_class(g, value) >= 0 && axis >= 0 && axis == sole_class(g, out) && g->output != out;
}

tfuse_status tf_ffn_find(tf_env *env, const tf_graph *g, tf_ffn **out, size_t *count)
{
    *count = 0;
    *out = tf_alloc_array(env, g->n_nodes + 1, sizeof **out);
    if (!*out)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < g->n_nodes; i++)
        *count += look(g, (tf_id)i, &(*out)[*count]);
    return TFUSE_OK;
}

/* ---- with a router ---- */

static tf_id linear_behind(const tf_graph *g, tf_id value)
{
    const tf_id node = g->values[value].node;
    return g->nodes[node].op == &tf_op_linear ? node : -1;
}

/* The node of this operation that reads a value; -1. */
static tf_id reader_of(const tf_graph *g, tf_id value, const tf_op *op)
{
    for (size_t i = 0; i < g->n_nodes && value >= 0; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].op == op && g->nodes[i].inputs[k] == value)
                return (tf_id)i;
    return -1;
}

static bool look_routed(const tf_graph *g, tf_id route, tf_routed *r)
{
    const tf_node *n = &g->nodes[route], *hidden = &g->nodes[g->values[n->inputs[0]].node];
    *r = (tf_routed){.route = route, .up = -1, .units = tf_value_channels(g, n->inputs[0])->extent,
                     .experts = tf_value_channels(g, n->inputs[1])->extent};
    tf_id value = n->inputs[0];
    if (hidden->op == &tf_op_multiply) {
        r->up = linear_behind(g, hidden->inputs[1]);
        value = hidden->inputs[0];
    }
    const tf_node *function = &g->nodes[g->values[value].node];
    r->key = function->op == &tf_op_activation ? linear_behind(g, function->inputs[0]) : -1;
    r->down = reader_of(g, n->outputs[0], &tf_op_linear);
    r->router = linear_behind(g, n->inputs[1]);
    const tf_id weights = reader_of(g, n->inputs[1], &tf_op_route_weights);
    r->bias = weights >= 0 ? reader_of(g, g->nodes[weights].outputs[0], &tf_op_linear) : -1;
    return r->key >= 0 && r->down >= 0;
}

tfuse_status tf_routed_find(tf_env *env, const tf_graph *g, tf_routed **out, size_t *count)
{
    *count = 0;
    *out = tf_alloc_array(env, g->n_nodes + 1, sizeof **out);
    if (!*out)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &tf_op_route)
            *count += look_routed(g, (tf_id)i, &(*out)[*count]);
    return TFUSE_OK;
}
