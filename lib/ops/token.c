/* SPDX-License-Identifier: Apache-2.0
 *
 * token.c: one token of each sample, such as the class token before the head.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value v = g->values[n->inputs[0]];
    int64_t index = 0;
    TF_TRY(tf_need_channels(env, g, n, 0));
    if (v.rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "token '%s': its input '%s' has no tokens", n->name, v.name);
    TF_TRY(tf_node_int(env, n, "index", 0, v.extent[0] > 0 ? v.extent[0] - 1 : INT32_MAX, 0, &index));
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, 1, &v.extent[1], &v.dims[1], &out);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                            tf_batch *const *out)
{
    (void)g, (void)out;
    const int64_t index = tf_node_int_at(n, "index", 0);
    if (index >= in[0]->extent[0])
        return tf_fail(env, TFUSE_ESHAPE, "token '%s': index %lld, but there are %lld tokens", n->name, (long long)index,
                       (long long)in[0]->extent[0]);
    return TFUSE_OK;
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
