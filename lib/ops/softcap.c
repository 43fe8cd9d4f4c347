/* SPDX-License-Identifier: Apache-2.0
 *
 * softcap.c: cap * tanh(x / cap), which bounds logits smoothly. Odd, so signed permutations pass.
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    double cap = 0;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    TF_TRY(tf_node_real(env, &g->nodes[node], "cap", 0, &cap));
    if (!(cap > 0))
        return tf_fail(env, TFUSE_ERANGE, "softcap '%s': cap must be positive", g->nodes[node].name);
    return tf_output_like(env, g, node, input, tf_value_channels(g, input));
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[0]), TF_GROUP_PERM_SIGN);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const size_t count = tf_take_input(f);
    tf_softcap(f->out[0]->data, (float)tf_node_real_at(n, "cap", 1.0), count);
}

const tf_op tf_op_softcap = {
    .name = "softcap",
    .help = "cap * tanh(x / cap) of each unit: cap=",
    .attrs = "cap",
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
