/* SPDX-License-Identifier: Apache-2.0
 *
 * linear.c: y = W x + b on the channels of every token. W's rows are produced, its columns consumed, so every invertible map on
 * either side passes. The weight may be another node's (weight=@tensor), such as an embedding that serves as the head.
 */
#include "ops/common.h"
#include "ops/ops.h"

enum { WEIGHT, BIAS };

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    const char *spec = tf_node_attr(&g->nodes[node], "out");
    bool has_bias = true;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    TF_TRY(tf_node_has_bias(env, &g->nodes[node], &has_bias));
    if (!spec)
        return tf_fail(env, TFUSE_EGRAPH, "linear '%s': out=BINDING is missing", g->nodes[node].name);
    const tf_binding *out = NULL;
    TF_TRY(tf_node_ports(env, g, node, spec, &out));
    const tf_binding *dims[2] = {out, tf_value_channels(g, input)};
    const tf_use uses[2] = {TF_USE_PRODUCED, TF_USE_CONSUMED};
    TF_TRY(tf_node_param(env, g, node, WEIGHT, "weight", 2, dims, uses));
    if (has_bias)
        TF_TRY(tf_node_param(env, g, node, BIAS, "bias", 1, dims, uses));
    return tf_output_like(env, g, node, input, out);
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    const tf_node *owner = &g->nodes[g->params[n->params[WEIGHT]].node];
    if (owner != n && owner->op == n->op) /* the same rows again, on other tokens */
        return f->ops->pass(f, owner->outputs[0], n->outputs[0]);
    TF_TRY(f->ops->move(f, n, WEIGHT, 1, n->inputs[0]));
    return tf_value_is_gate(g, n->outputs[0]) ? TFUSE_OK : f->ops->solve(f, n); /* a gate follows its partner, at the product */
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    tf_affine(f->env, f->in[0]->data, tf_batch_rows(f->in[0]), tf_batch_channels(f->in[0]), f->param[WEIGHT],
              f->param[BIAS], tf_batch_channels(f->out[0]), f->out[0]->data);
}

const tf_op tf_op_linear = {
    .name = "linear",
    .help = "y = W x + b on each token: out=BINDING [bias=0|1] [weight=@tensor]",
    .attrs = "out bias weight",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = flow,
    .extents = tf_extents_like,
    .forward = forward,
};
