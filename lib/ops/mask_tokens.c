/* SPDX-License-Identifier: Apache-2.0
 *
 * mask_tokens.c: tokens whose mask is 0 become zero: what stands beside them (a convolution) must not see padding.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value *mask = &g->values[n->inputs[1]];
    TF_TRY(tf_need_channels(env, g, n, 0));
    if (!mask->integer || mask->rank != 1 || g->values[n->inputs[0]].rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "mask_tokens '%s': '%s' does not hold an integer for each token of '%s'", n->name, mask->name,
                       g->values[n->inputs[0]].name);
    return tf_output_like(env, g, node, n->inputs[0], tf_value_channels(g, n->inputs[0]));
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const int64_t rows = tf_batch_rows(f->in[0]), c = tf_batch_channels(f->in[0]);
    for (int64_t r = 0; r < rows; r++) {
        int32_t seen;
        memcpy(&seen, f->in[1]->data + r, sizeof seen);
        if (seen)
            memcpy(f->out[0]->data + r * c, f->in[0]->data + r * c, (size_t)c * sizeof(float));
        else
            memset(f->out[0]->data + r * c, 0, (size_t)c * sizeof(float));
    }
}

const tf_op tf_op_mask_tokens = {
    .name = "mask_tokens",
    .help = "tokens (first) whose mask (second) is 0 become zero",
    .attrs = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .mask = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
