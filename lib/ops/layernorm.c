/* SPDX-License-Identifier: Apache-2.0
 *
 * layernorm.c: (x - mean) / sqrt(var + eps) * gain + bias over the channels (Ba, Kiros, Hinton 2016). With gain one and bias zero it
 * commutes with every rotation that fixes the ones vector, since that keeps mean and variance; otherwise with permutations.
 */
#include "ops/common.h"
#include "ops/ops.h"

enum { GAIN, BIAS };

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    bool has_bias = true;
    double eps = 0;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    TF_TRY(tf_node_has_bias(env, &g->nodes[node], &has_bias));
    TF_TRY(tf_node_real(env, &g->nodes[node], "eps", 1e-5, &eps));
    if (!(eps >= 0))
        return tf_fail(env, TFUSE_ERANGE, "layernorm '%s': eps is negative", g->nodes[node].name);
    const tf_binding *channels = tf_value_channels(g, input);
    const tf_use use = TF_USE_NEUTRAL;
    TF_TRY(tf_node_param(env, g, node, GAIN, "gain", 1, &channels, &use));
    if (has_bias)
        TF_TRY(tf_node_param(env, g, node, BIAS, "bias", 1, &channels, &use));
    return tf_output_like(env, g, node, input, channels);
}

/* Every element of an absent parameter is `value`; of an unknown one none is. */
static bool all_equal(tf_permits *p, const tf_node *n, int slot, float value)
{
    const tf_id id = tf_node_slot(n, slot);
    if (id < 0)
        return true;
    float *x = tf_permit_param(p, n, slot);
    bool equal = x != NULL;
    for (int64_t i = 0; equal && i < p->g->params[id].shape[0]; i++)
        equal = x[i] == value;
    tf_free(&p->env->mem, x);
    return equal;
}

static void permits(tf_permits *p, const tf_node *n)
{
    const bool plain = all_equal(p, n, GAIN, 1.0f) && all_equal(p, n, BIAS, 0.0f);
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[0]), plain ? TF_GROUP_ORTHO_ONES : TF_GROUP_PERM);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const float eps = (float)tf_node_real_at(n, "eps", 1e-5);
    const int64_t rows = tf_batch_rows(f->in[0]), c = tf_batch_channels(f->in[0]);
    for (int64_t r = 0; r < rows; r++)
        tf_layernorm_row(f->in[0]->data + r * c, f->param[GAIN], f->param[BIAS], eps, f->out[0]->data + r * c, (size_t)c);
}

const tf_op tf_op_layernorm = {
    .name = "layernorm",
    .help = "LayerNorm over the channels: [eps=1e-5] [bias=0|1]",
    .attrs = "eps gain bias",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .normalises = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_norm,
    .extents = tf_extents_like,
    .forward = forward,
};
