/* SPDX-License-Identifier: Apache-2.0
 *
 * scale.c: a value times a number that is not a tensor (a branch's share of the stream, a factor of logits). Every linear map passes.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    double by = 0;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    TF_TRY(tf_node_real(env, &g->nodes[node], "by", 0, &by));
    if (!isfinite(by) || by == 0)
        return tf_fail(env, TFUSE_ERANGE, "scale '%s': by must be a number other than 0", g->nodes[node].name);
    return tf_output_like(env, g, node, input, tf_value_channels(g, input));
}

static void forward(tf_forward *f, const tf_node *n)
{
    const float by = (float)tf_node_real_at(n, "by", 1.0), *x = f->in[0]->data;
    float *y = f->out[0]->data;
    const int64_t count = f->in[0]->n * tf_batch_stride(f->in[0]);
    for (int64_t i = 0; i < count; i++)
        y[i] = by * x[i];
}

const tf_op tf_op_scale = {
    .name = "scale",
    .help = "each unit times a number: by=",
    .attrs = "by",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .elementwise = true,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
