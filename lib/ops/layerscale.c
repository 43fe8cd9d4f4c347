/* SPDX-License-Identifier: Apache-2.0
 *
 * layerscale.c: each channel times its gain (LayerScale, Touvron et al. 2021). With gains of one it is nothing and commutes with every linear map; otherwise
 * a permutation of the channels takes its gains along.
 */
#include "ops/common.h"
#include "ops/ops.h"

enum { GAIN };

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    const tf_binding *channels = tf_value_channels(g, input);
    const tf_use use = TF_USE_NEUTRAL;
    TF_TRY(tf_node_param(env, g, node, GAIN, "gain", 1, &channels, &use));
    return tf_output_like(env, g, node, input, channels);
}

static void permits(tf_permits *p, const tf_node *n)
{
    float *gain = tf_permit_param(p, n, GAIN);
    bool plain = gain != NULL;
    for (int64_t i = 0; plain && i < p->g->params[n->params[GAIN]].shape[0]; i++)
        plain = gain[i] == 1.0f;
    tf_free(&p->env->mem, gain);
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[0]), plain ? TF_GROUP_LINEAR : TF_GROUP_PERM);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const int64_t rows = tf_batch_rows(f->in[0]), c = tf_batch_channels(f->in[0]);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++)
            f->out[0]->data[r * c + i] = f->in[0]->data[r * c + i] * f->param[GAIN][i];
}

const tf_op tf_op_layerscale = {
    .name = "layerscale",
    .help = "each channel times its gain (LayerScale)",
    .attrs = "gain",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .elementwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_norm,
    .extents = tf_extents_like,
    .forward = forward,
};
