/* SPDX-License-Identifier: Apache-2.0
 *
 * multiply.c: the product of a gate and its partner, unit by unit (GLU, Shazeer 2020). Both sides are one axis. A scale s of a unit of
 * the partner comes out as s whatever the gate, so the axis takes a scale with any sign if the gate keeps its own: its rows are neutral.
 * That is possible when the gate comes from one linear, through activations at most, and nothing else reads it on the way;
 * otherwise permutations are left.
 */
#include "ops/common.h"
#include "ops/ops.h"

enum { GATE, UP };

/* Readers that ask of the gate's rows only that they keep their own scale, as they do. */
static int count_means(const tf_graph *g, tf_id value)
{
    int count = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        count += g->nodes[i].op == &tf_op_expert_mean && g->nodes[i].inputs[0] == value;
    return count;
}

tf_id tf_gate_source(const tf_graph *g, tf_id value)
{
    for (;;) {
        const tf_id node = g->values[value].node;
        const tf_node *n = &g->nodes[node];
        const int readers = tf_count_readers(g, value);
        if (readers != 1 && readers - count_means(g, value) != 1)
            return -1;
        if (n->op == &tf_op_activation) {
            value = n->inputs[0];
            continue;
        }
        if (n->op != &tf_op_linear)
            return -1;
        for (int i = 0; i < n->n_params; i++)
            if (n->params[i] >= 0 && !tf_param_is_private(g, n->params[i]))
                return -1;
        return node;
    }
}

bool tf_value_is_gate(const tf_graph *g, tf_id value)
{
    const tf_id source = tf_gate_source(g, value);
    return source >= 0 && g->params[g->nodes[source].params[0]].use[0] == TF_USE_NEUTRAL;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value *gate = &g->values[n->inputs[GATE]], *up = &g->values[n->inputs[UP]];
    TF_TRY(tf_need_channels(env, g, n, GATE));
    TF_TRY(tf_need_channels(env, g, n, UP));
    bool same = gate->rank == up->rank;
    for (int i = 0; same && i < up->rank; i++)
        same = gate->extent[i] == up->extent[i];
    if (!same)
        return tf_fail(env, TFUSE_ESHAPE, "multiply '%s': its inputs '%s' and '%s' differ in shape", n->name, gate->name,
                       up->name);
    return tf_output_like(env, g, node, n->inputs[UP], tf_value_channels(g, n->inputs[UP]));
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    TF_TRY(tf_tie_bindings(env, g, node, tf_value_channels(g, n->inputs[UP]), tf_value_channels(g, n->inputs[GATE])));
    const tf_id source = tf_gate_source(g, n->inputs[GATE]);
    for (int i = 0; source >= 0 && i < g->nodes[source].n_params; i++)
        if (g->nodes[source].params[i] >= 0)
            g->params[g->nodes[source].params[i]].use[0] = TF_USE_NEUTRAL;
    return TFUSE_OK;
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, tf_value_channels(p->g, n->inputs[UP]),
                      tf_value_is_gate(p->g, n->inputs[GATE]) ? TF_GROUP_PERM_SCALE : TF_GROUP_PERM);
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    if (tf_value_is_gate(g, n->inputs[GATE]))
        TF_TRY(f->ops->follow(f, &g->nodes[tf_gate_source(g, n->inputs[GATE])], n->inputs[UP]));
    return f->ops->pass(f, n->inputs[UP], n->outputs[0]);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const float *gate = f->in[GATE]->data, *up = f->in[UP]->data;
    float *dst = f->out[0]->data;
    const int64_t count = f->out[0]->n * tf_batch_stride(f->out[0]);
    for (int64_t i = 0; i < count; i++)
        dst[i] = gate[i] * up[i];
}

const tf_op tf_op_multiply = {
    .name = "multiply",
    .help = "the product of a gate (first) and its partner (second), unit by unit",
    .attrs = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .elementwise = true,
    .shape = shape,
    .tie = tie,
    .permits = permits,
    .flow = flow,
    .extents = tf_extents_like,
    .forward = forward,
};
