/* SPDX-License-Identifier: Apache-2.0
 *
 * mean_tokens.c: the mean over the tokens of each sample from one of them on (global average pooling behind class and register tokens). It acts on each
 * channel alone and alike, so it commutes with every linear map of the channels.
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value v = g->values[n->inputs[0]];
    int64_t first = 0;
    TF_TRY(tf_need_channels(env, g, n, 0));
    if (v.rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "mean_tokens '%s': its input '%s' has no tokens", n->name, v.name);
    TF_TRY(tf_node_int(env, n, "first", 0, v.extent[0] > 0 ? v.extent[0] - 1 : INT32_MAX, 0, &first));
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, 1, &v.extent[1], &v.dims[1], &out);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    (void)g, (void)out;
    const int64_t first = tf_node_int_at(n, "first", 0);
    if (first >= in[0]->extent[0])
        return tf_fail(env, TFUSE_ESHAPE, "mean_tokens '%s': first=%lld, but there are %lld tokens", n->name, (long long)first,
                       (long long)in[0]->extent[0]);
    return TFUSE_OK;
}

/* One sample; float64 sums, channel after channel. */
static void mean_of(const float *src, int64_t tokens, int64_t channels, float *dst)
{
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t t = 0; t < tokens; t++)
            sum += (double)src[t * channels + c];
        dst[c] = (float)(sum / (double)tokens);
    }
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t first = tf_node_int_at(n, "first", 0), c = tf_batch_channels(f->in[0]), stride = tf_batch_stride(f->in[0]);
    for (int64_t s = 0; s < f->in[0]->n; s++)
        mean_of(f->in[0]->data + s * stride + first * c, f->in[0]->extent[0] - first, c, f->out[0]->data + s * c);
}

const tf_op tf_op_mean_tokens = {
    .name = "mean_tokens",
    .help = "the mean of each sample's tokens from one on: [first=0]",
    .attrs = "first",
    .min_inputs = 1,
    .max_inputs = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = extents,
    .forward = forward,
};
