/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: one token of each sample, such as the class token before the head.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    TF_TRY(tf_need_token(env, g, &g->nodes[node], "index"));
    return tf_output_channels(env, g, node);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    (void)g, (void)out;
    return tf_need_token_of(env, n, "index", in[0]);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t c = tf_batch_channels(f->in[0]), stride = tf_batch_stride(f->in[0]);
    const float *src = f->in[0]->data + tf_node_int_at(n, "index", 0) * c;
    for (int64_t s = 0; s < f->in[0]->n; s++)
        memcpy(f->out[0]->data + s * c, src + s * stride, (size_t)c * sizeof(float));
}

const tf_op tf_op_token = {
    .name = "token",
    .help = "one token of each sample: [index=0]",
    .attrs = "index",
    .min_inputs = 1,
    .max_inputs = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = extents,
    .forward = forward,
};
