/* SPDX-License-Identifier: Apache-2.0
 *
 * route_weights.c: the weights themselves that `route` multiplies experts by, one for each expert: what a bias of each expert's own is taken by,
 *     sum_e w_e (D_e h_e + b_e) = D (w_1 h_1, ..., w_E h_E) + B w,  B = [b_1 ... b_E],
 * so that B is a linear on this value. Experts permute together with the logits.
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    TF_TRY(tf_need_channels(env, g, n, 0));
    const tf_binding *channels = tf_value_channels(g, n->inputs[0]);
    TF_TRY(tf_route_check(env, n, channels->extent));
    return tf_output_like(env, g, node, n->inputs[0], channels);
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[0]), TF_GROUP_PERM);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t rows = tf_batch_rows(f->in[0]), experts = tf_batch_channels(f->in[0]);
    for (int64_t r = 0; r < rows; r++)
        tf_route_weights(n, f->in[0]->data + r * experts, experts, f->out[0]->data + r * experts);
}

const tf_op tf_op_route_weights = {
    .name = "route_weights",
    .help = "the weights of experts by the router's logits: top_k= [weights=chosen|all|one]",
    .attrs = "top_k weights",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
