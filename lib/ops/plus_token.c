/* SPDX-License-Identifier: Apache-2.0
 *
 * plus_token.c: each token plus one of them, such as the first, which stands for the whole (the head of He et al. 2023 for replaced tokens).
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    TF_TRY(tf_need_token(env, g, &g->nodes[node], "index"));
    return tf_output_like(env, g, node, input, tf_value_channels(g, input));
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    TF_TRY(tf_need_token_of(env, n, "index", in[0]));
    return tf_extents_like(env, g, n, in, out);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t c = tf_batch_channels(f->in[0]), stride = tf_batch_stride(f->in[0]), at = tf_node_int_at(n, "index", 0) * c;
    for (int64_t s = 0; s < f->in[0]->n; s++) {
        const float *x = f->in[0]->data + s * stride;
        float *y = f->out[0]->data + s * stride;
        for (int64_t i = 0; i < stride; i++)
            y[i] = x[i] + x[at + i % c];
    }
}

const tf_op tf_op_plus_token = {
    .name = "plus_token",
    .help = "each token plus one of them: [index=0]",
    .attrs = "index",
    .min_inputs = 1,
    .max_inputs = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = extents,
    .forward = forward,
};
