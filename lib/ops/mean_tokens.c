/* SPDX-License-Identifier: Apache-2.0
 *
 * mean_tokens.c: the mean over the tokens of each sample from one of them on (global average pooling behind class and register tokens). It acts on each
 * channel alone and alike, so it commutes with every linear map of the channels.
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    TF_TRY(tf_need_token(env, g, &g->nodes[node], "first"));
    return tf_output_channels(env, g, node);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    (void)g, (void)out;
    return tf_need_token_of(env, n, "first", in[0]);
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
