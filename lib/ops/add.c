/* SPDX-License-Identifier: Apache-2.0
 *
 * add.c: the sum of two values, which makes their channels one axis. One side is the residual stream, the other what a branch writes
 * to it: the paper's flow combines the maps of the two.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

/* Which input is the residual; 2 when the attribute names neither. */
static int residual(const tf_graph *g, const tf_node *n)
{
    const char *name = tf_node_attr(n, "residual");
    if (!name)
        return 0;
    int i = 0;
    while (i < 2 && strcmp(g->values[n->inputs[i]].name, name) != 0)
        i++;
    return i;
}

/* How much of a value's token dimension is known: the output is like the side that knows more. */
static int known(const tf_value *v)
{
    return (v->extent[0] > 0) + (v->grid_h > 0);
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const int side = residual(g, n);
    const tf_value *a = &g->values[n->inputs[0]], *b = &g->values[n->inputs[1]];
    TF_TRY(tf_need_channels(env, g, n, 0));
    TF_TRY(tf_need_channels(env, g, n, 1));
    if (side > 1)
        return tf_fail(env, TFUSE_EGRAPH, "add '%s': residual=%s is none of its inputs '%s' and '%s'", n->name,
                       tf_node_attr(n, "residual"), a->name, b->name);
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->extent[i] == b->extent[i] || a->extent[i] == 0 || b->extent[i] == 0;
    if (!same)
        return tf_fail(env, TFUSE_ESHAPE, "add '%s': its inputs '%s' and '%s' differ in shape", n->name, a->name, b->name);
    const int like = known(b) > known(a);
    return tf_output_like(env, g, node, n->inputs[like], tf_value_channels(g, n->inputs[side]));
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    return tf_tie_bindings(env, g, node, tf_value_channels(g, n->inputs[0]), tf_value_channels(g, n->inputs[1]));
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    const int side = residual(g, n);
    return f->ops->join(f, n, n->inputs[side], n->inputs[1 - side], n->outputs[0]);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                            tf_batch *const *out)
{
    if (tf_batch_stride(in[0]) != tf_batch_stride(in[1]))
        return tf_fail(env, TFUSE_ESHAPE, "add '%s': its inputs have %lld and %lld tokens", n->name,
                       (long long)in[0]->extent[0], (long long)in[1]->extent[0]);
    return tf_extents_like(env, g, n, in, out);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const float *a = f->in[0]->data, *b = f->in[1]->data;
    float *dst = f->out[0]->data;
    const int64_t count = f->out[0]->n * tf_batch_stride(f->out[0]);
    for (int64_t i = 0; i < count; i++)
        dst[i] = a[i] + b[i];
}

const tf_op tf_op_add = {
    .name = "add",
    .help = "the sum of two values: [residual=VALUE, default the first]",
    .attrs = "residual",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .elementwise = true,
    .shape = shape,
    .tie = tie,
    .permits = tf_permits_linear,
    .flow = flow,
    .extents = extents,
    .forward = forward,
};
