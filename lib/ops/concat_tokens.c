/* SPDX-License-Identifier: Apache-2.0
 *
 * concat_tokens.c: joins values along their tokens: class tokens before a grid of patches. Its inputs share one channel axis. In the
 * paper's flow the grid's map goes on; a class token's map is used for itself alone.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

/* The input that has the grid, or the last one. */
static int grid_input(const tf_graph *g, const tf_node *n)
{
    for (int i = 0; i < n->n_inputs; i++)
        if (g->values[n->inputs[i]].grid_h > 0)
            return i;
    return n->n_inputs - 1;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const int main = grid_input(g, n);
    const tf_value source = g->values[n->inputs[main]];
    int64_t tokens = 0, before = 0;
    bool known = true;
    for (int i = 0; i < n->n_inputs; i++) {
        const tf_value *v = &g->values[n->inputs[i]];
        TF_TRY(tf_need_channels(env, g, n, i));
        if (v->rank != 2)
            return tf_fail(env, TFUSE_EGRAPH, "concat_tokens '%s': its input '%s' has no tokens", n->name, v->name);
        if (i < main)
            before += v->extent[0];
        known = known && v->extent[0] > 0;
        if (__builtin_add_overflow(tokens, v->extent[0], &tokens))
            return tf_fail(env, TFUSE_ERANGE, "concat_tokens '%s': too many tokens", n->name);
    }
    const int64_t extent[2] = {known ? tokens : 0, source.extent[1]};
    const tf_binding *dims[2] = {NULL, source.dims[1]};
    if (known)
        TF_TRY(tf_binding_fixed(env, g, tokens, &dims[0]));
    tf_id out = -1;
    TF_TRY(tf_node_output(env, g, node, NULL, 2, extent, dims, &out));
    if (source.grid_h > 0) {
        g->values[out].class_tokens = before + source.class_tokens;
        g->values[out].grid_h = source.grid_h;
        g->values[out].grid_w = source.grid_w;
    }
    return TFUSE_OK;
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_inputs; i++)
        TF_TRY(tf_tie_bindings(env, g, node, tf_value_channels(g, n->outputs[0]), tf_value_channels(g, n->inputs[i])));
    return TFUSE_OK;
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    return f->ops->pass(f, n->inputs[grid_input(g, n)], n->outputs[0]);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                            tf_batch *const *out)
{
    (void)env, (void)g;
    out[0]->extent[0] = 0;
    for (int i = 0; i < n->n_inputs; i++)
        out[0]->extent[0] += in[i]->extent[0];
    return TFUSE_OK;
}

static void forward(tf_forward *f, const tf_node *n)
{
    float *dst = f->out[0]->data;
    for (int64_t s = 0; s < f->out[0]->n; s++)
        for (int i = 0; i < n->n_inputs; i++) {
            const size_t stride = (size_t)tf_batch_stride(f->in[i]);
            memcpy(dst, f->in[i]->data + (size_t)s * stride, stride * sizeof *dst);
            dst += stride;
        }
}

const tf_op tf_op_concat_tokens = {
    .name = "concat_tokens",
    .help = "joins two or more values along their tokens",
    .attrs = "",
    .min_inputs = 2,
    .max_inputs = TF_MAX_NODE_IO,
    .shape = shape,
    .tie = tie,
    .permits = tf_permits_linear,
    .flow = flow,
    .extents = extents,
    .forward = forward,
};
