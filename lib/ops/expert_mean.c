/* SPDX-License-Identifier: Apache-2.0
 *
 * expert_mean.c: the mean of each expert's units, which come as experts*hidden: the logits of a router whose rows are the means of the experts' keys
 * (avg-k, Liu et al. 2023; Qiu et al. 2024), where no tensor holds them. The mean is over the experts' own units, so it commutes with permutations
 * inside them, and where they are a gate, whose rows keep their scale whatever their partner's do, it limits nothing else.
 */
#include "ops/common.h"
#include "ops/ops.h"

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    TF_TRY(tf_need_channels(env, g, n, 0));
    const tf_factor *experts = tf_experts_of(tf_value_channels(g, n->inputs[0]));
    if (!experts)
        return tf_fail(env, TFUSE_EGRAPH, "expert_mean '%s': the channels of '%s' are not experts*hidden", n->name, g->values[n->inputs[0]].name);
    const tf_binding *out = NULL;
    TF_TRY(tf_binding_of(env, g, experts, 1, &out));
    return tf_output_like(env, g, node, n->inputs[0], out);
}

static void permits(tf_permits *p, const tf_node *n)
{
    const tf_binding *channels = tf_value_channels(p->g, n->inputs[0]);
    tf_permit_port(p, tf_experts_of(channels)->port, TF_GROUP_PERM);
    if (!tf_value_is_gate(p->g, n->inputs[0]))
        tf_permit_binding(p, channels, TF_GROUP_PERM);
}

/* What it puts out chooses experts and no tensor reads it, so no map is asked of it. */
static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)f, (void)g, (void)n;
    return TFUSE_OK;
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const int64_t rows = tf_batch_rows(f->in[0]), experts = tf_batch_channels(f->out[0]);
    const int64_t hidden = tf_batch_channels(f->in[0]) / experts;
    const float *x = f->in[0]->data;
    for (int64_t i = 0; i < rows * experts; i++, x += hidden) {
        double sum = 0;
        for (int64_t h = 0; h < hidden; h++)
            sum += (double)x[h];
        f->out[0]->data[i] = (float)(sum / (double)hidden);
    }
}

const tf_op tf_op_expert_mean = {
    .name = "expert_mean",
    .help = "the mean of each expert's units, of experts*hidden",
    .attrs = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = permits,
    .flow = flow,
    .extents = tf_extents_like,
    .forward = forward,
};
