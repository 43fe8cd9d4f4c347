/* SPDX-License-Identifier: Apache-2.0
 *
 * rmsnorm.c: x / sqrt(mean(x^2) + eps) * gain over the channels (Zhang, Sennrich 2019), or * (1 + gain) with offset=1. With an effective
 * gain of one it commutes with every rotation; otherwise with signed permutations, the gain being permuted. With per_head=1 it is taken over the
 * units inside each head, and all heads share the gain.
 */
#include "ops/common.h"
#include "ops/ops.h"

/* What the norm goes over: the channels, or with per_head=1 the innermost factor of each head, for which there is one gain. */
static tfuse_status normed(tf_env *env, tf_graph *g, const tf_node *n, const tf_binding **out)
{
    bool per_head = false;
    TF_TRY(tf_node_flag(env, n, "per_head", false, &per_head));
    *out = tf_value_channels(g, n->inputs[0]);
    if (!per_head)
        return TFUSE_OK;
    const tf_segment *s = &(*out)->segments[0];
    if ((*out)->n_segments != 1 || s->n_factors < 2 || s->factors[s->n_factors - 1].kind == TF_FACTOR_FIXED)
        return tf_fail(env, TFUSE_EGRAPH, "rmsnorm '%s': per_head=1, but the channels of '%s' are not heads*inner", n->name,
                       g->values[n->inputs[0]].name);
    return tf_binding_of(env, g, &s->factors[s->n_factors - 1], 1, out);
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_id input = g->nodes[node].inputs[0];
    const tf_binding *over = NULL;
    bool offset = false;
    double eps = 0;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], 0));
    TF_TRY(tf_node_flag(env, &g->nodes[node], "offset", false, &offset));
    TF_TRY(tf_node_real(env, &g->nodes[node], "eps", 1e-6, &eps));
    if (!(eps >= 0))
        return tf_fail(env, TFUSE_ERANGE, "rmsnorm '%s': eps is negative", g->nodes[node].name);
    const tf_use use = TF_USE_NEUTRAL;
    TF_TRY(normed(env, g, &g->nodes[node], &over));
    TF_TRY(tf_node_param(env, g, node, 0, "gain", 1, &over, &use));
    return tf_output_like(env, g, node, input, tf_value_channels(g, input));
}

static void permits(tf_permits *p, const tf_node *n)
{
    const float one = tf_node_int_at(n, "offset", 0) ? 0.0f : 1.0f;
    const tf_binding *channels = p->g->params[n->params[0]].dims[0];
    float *gain = tf_permit_param(p, n, 0);
    bool plain = gain != NULL;
    for (int64_t i = 0; plain && i < channels->extent; i++)
        plain = gain[i] == one;
    tf_free(&p->env->mem, gain);
    tf_permit_binding(p, channels, plain ? TF_GROUP_ORTHO : TF_GROUP_PERM_SIGN);
}

/* The paper's maps of queries and keys mix heads, which one gain for all heads cannot follow: it stays. */
static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    return tf_node_int_at(n, "per_head", 0) ? tf_flow_pass(f, g, n) : tf_flow_norm(f, g, n);
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    (void)in;
    return tf_node_int_at(n, "offset", 0) ? g->params[n->params[0]].shape[0] : 0;
}

static void forward(tf_forward *f, const tf_node *n)
{
    const float eps = (float)tf_node_real_at(n, "eps", 1e-6);
    const int64_t c = f->g->params[n->params[0]].shape[0], rows = tf_batch_rows(f->in[0]) * (tf_batch_channels(f->in[0]) / c);
    const float *gain = f->param[0];
    if (tf_node_int_at(n, "offset", 0)) {
        for (int64_t i = 0; i < c; i++)
            f->scratch[i] = 1.0f + f->param[0][i];
        gain = f->scratch;
    }
    for (int64_t r = 0; r < rows; r++)
        tf_rmsnorm_row(f->in[0]->data + r * c, gain, eps, f->out[0]->data + r * c, (size_t)c);
}

const tf_op tf_op_rmsnorm = {
    .name = "rmsnorm",
    .help = "RMSNorm over the channels: [eps=1e-6] [offset=0|1, the gain is 1 + the tensor] [per_head=0|1, over the inner units of each head]",
    .attrs = "eps offset per_head gain",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .normalises = true,
    .shape = shape,
    .permits = permits,
    .flow = flow,
    .extents = tf_extents_like,
    .scratch_size = scratch_size,
    .forward = forward,
};
