/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_tokens.c: a convolution along tokens, as many out as in: y_t = b + sum_k W_k x_{t + k - (kernel - 1) / 2}, zero beyond the ends. Every
 * invertible map passes on either side, as through a linear.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

enum { WEIGHT, BIAS };

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const char *spec = tf_node_attr(n, "out");
    int64_t kernel = 0;
    bool has_bias = true;
    const tf_binding *dims[3] = {NULL, tf_value_channels(g, n->inputs[0]), NULL};
    const tf_use uses[3] = {TF_USE_PRODUCED, TF_USE_CONSUMED, TF_USE_NEUTRAL};
    TF_TRY(tf_need_channels(env, g, n, 0));
    TF_TRY(tf_node_has_bias(env, n, &has_bias));
    TF_TRY(tf_node_int_required(env, n, "kernel", 1, 4096, &kernel));
    if (!spec || kernel % 2 == 0 || g->values[n->inputs[0]].rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "conv_tokens '%s': %s", n->name,
                       !spec ? "out=BINDING is missing" : kernel % 2 == 0 ? "kernel must be odd" : "its input has no tokens");
    TF_TRY(tf_node_ports(env, g, node, spec, &dims[0]));
    TF_TRY(tf_binding_fixed(env, g, kernel, &dims[2]));
    TF_TRY(tf_node_param(env, g, node, WEIGHT, "weight", 3, dims, uses));
    if (has_bias)
        TF_TRY(tf_node_param(env, g, node, BIAS, "bias", 1, dims, uses));
    return tf_output_like(env, g, node, n->inputs[0], dims[0]);
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)g;
    TF_TRY(f->ops->move(f, n, WEIGHT, 1, n->inputs[0]));
    return f->ops->solve(f, n);
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    return in[0]->extent[0] * tf_batch_channels(in[0]) * g->params[n->params[WEIGHT]].shape[2];
}

/* Row t: the window around token t, channel by channel, as the weight's rows are laid out. */
static void unfold(const float *x, int64_t tokens, int64_t c, int64_t kernel, float *rows)
{
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < c; i++)
            for (int64_t k = 0; k < kernel; k++) {
                const int64_t at = t + k - (kernel - 1) / 2;
                *rows++ = at < 0 || at >= tokens ? 0 : x[at * c + i];
            }
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t kernel = f->g->params[n->params[WEIGHT]].shape[2], tokens = f->in[0]->extent[0];
    const int64_t c = tf_batch_channels(f->in[0]), out = tf_batch_channels(f->out[0]);
    for (int64_t s = 0; s < f->in[0]->n; s++) {
        unfold(f->in[0]->data + s * tokens * c, tokens, c, kernel, f->scratch);
        tf_affine(f->env, f->scratch, tokens, c * kernel, f->param[WEIGHT], f->param[BIAS], out, f->out[0]->data + s * tokens * out);
    }
}

const tf_op tf_op_conv_tokens = {
    .name = "conv_tokens",
    .help = "a convolution along tokens: out=BINDING kernel=K [bias=0|1]",
    .attrs = "out kernel bias weight",
    .min_inputs = 1,
    .max_inputs = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = flow,
    .extents = tf_extents_like,
    .scratch_size = scratch_size,
    .forward = forward,
};
