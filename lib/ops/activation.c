/* SPDX-License-Identifier: Apache-2.0
 *
 * activation.c: one function on every unit. Permutations pass through all of them, positive scales through the ReLU, signs through odd
 * functions. On a gate only permutations act, whatever the axis's group, so there it adds no bound.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static const tf_activation table[] = {
    {"gelu", TF_GROUP_PERM, tf_gelu_erf},
    {"gelu_new", TF_GROUP_PERM, tf_gelu_tanh},
    {"gelu_tanh", TF_GROUP_PERM, tf_gelu_tanh},
    {"gelu_pytorch_tanh", TF_GROUP_PERM, tf_gelu_tanh},
    {"quick_gelu", TF_GROUP_PERM, tf_quick_gelu},
    {"silu", TF_GROUP_PERM, tf_silu},
    {"relu", TF_GROUP_PERM_POS, tf_relu},
    {"tanh", TF_GROUP_PERM_SIGN, tf_tanh},
};

const tf_activation *tf_node_activation_at(const tf_node *n, const char *key)
{
    const char *kind = tf_node_attr(n, key);
    for (size_t i = 0; kind && i < TF_LEN(table); i++)
        if (strcmp(table[i].kind, kind) == 0)
            return &table[i];
    return NULL;
}

const tf_activation *tf_node_activation(tf_env *env, const tf_node *n, const char *key)
{
    const tf_activation *a = tf_node_activation_at(n, key);
    const char *kind = tf_node_attr(n, key);
    if (!a)
        tf_fail(env, TFUSE_EGRAPH, "%s '%s': %s=%s is none of gelu, gelu_tanh, quick_gelu, silu, relu, tanh", n->op->name,
                n->name, key, kind ? kind : "");
    return a;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    if (!tf_node_activation(env, &g->nodes[node], "kind"))
        return TFUSE_EGRAPH;
    return tf_output_like(env, g, node, input, tf_value_channels(g, input));
}

static void permits(tf_permits *p, const tf_node *n)
{
    if (!tf_value_is_gate(p->g, n->inputs[0]))
        tf_permit_binding(p, tf_value_channels(p->g, n->inputs[0]), tf_node_activation_at(n, "kind")->group);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const size_t count = tf_take_input(f);
    tf_node_activation_at(n, "kind")->apply(f->out[0]->data, count);
}

const tf_op tf_op_activation = {
    .name = "activation",
    .help = "a function of each unit: kind=gelu|gelu_tanh|gelu_new|gelu_pytorch_tanh|quick_gelu|silu|relu|tanh",
    .attrs = "kind",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .elementwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
