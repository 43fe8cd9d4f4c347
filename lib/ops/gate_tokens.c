/* SPDX-License-Identifier: Apache-2.0
 *
 * gate_tokens.c: each token's channels times the sigmoid of one number of its own, as experts that all tokens share are weighed. A number times a
 * vector commutes with every linear map of it.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>

enum { TOKENS, GATE };

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    TF_TRY(tf_need_channels(env, g, n, TOKENS));
    TF_TRY(tf_need_channels(env, g, n, GATE));
    const tf_value *x = &g->values[n->inputs[TOKENS]], *gate = &g->values[n->inputs[GATE]];
    if (gate->rank != x->rank || gate->extent[gate->rank - 1] != 1 || (x->rank == 2 && x->extent[0] != gate->extent[0]))
        return tf_fail(env, TFUSE_ESHAPE, "gate_tokens '%s': '%s' is not one number for each token of '%s'", n->name, gate->name, x->name);
    return tf_output_like(env, g, node, n->inputs[TOKENS], tf_value_channels(g, n->inputs[TOKENS]));
}

/* The gate's sign and scale matter. */
static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[GATE]), TF_GROUP_PERM);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const int64_t rows = tf_batch_rows(f->in[TOKENS]), c = tf_batch_channels(f->in[TOKENS]);
    for (int64_t r = 0; r < rows; r++) {
        const float weight = 1 / (1 + expf(-f->in[GATE]->data[r]));
        for (int64_t i = 0; i < c; i++)
            f->out[0]->data[r * c + i] = weight * f->in[TOKENS]->data[r * c + i];
    }
}

const tf_op tf_op_gate_tokens = {
    .name = "gate_tokens",
    .help = "each token (first) times the sigmoid of its number (second)",
    .attrs = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
