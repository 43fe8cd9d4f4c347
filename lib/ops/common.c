/* SPDX-License-Identifier: Apache-2.0
 *
 * common.c: see common.h.
 */
#include "ops/common.h"
#include "graph/naming.h"
#include <string.h>

tfuse_status tf_node_flag(tf_env *env, const tf_node *n, const char *key, bool fallback, bool *out)
{
    int64_t value = 0;
    TF_TRY(tf_node_int(env, n, key, 0, 1, fallback, &value));
    *out = value != 0;
    return TFUSE_OK;
}

tfuse_status tf_node_has_bias(tf_env *env, const tf_node *n, bool *out)
{
    const char *text = tf_node_attr(n, "bias");
    *out = true;
    return text && text[0] == '@' ? TFUSE_OK : tf_node_flag(env, n, "bias", true, out);
}

tfuse_status tf_need_channels(tf_env *env, const tf_graph *g, const tf_node *n, int input)
{
    const tf_value *v = &g->values[n->inputs[input]];
    if (v->integer)
        return tf_fail(env, TFUSE_EGRAPH, "%s '%s': its input '%s' holds token ids; put an embedding between", n->op->name,
                       n->name, v->name);
    if (v->rank > 2)
        return tf_fail(env, TFUSE_EGRAPH, "%s '%s': its input '%s' is an image; put a patchify between", n->op->name,
                       n->name, v->name);
    return TFUSE_OK;
}

tfuse_status tf_need_token(tf_env *env, const tf_graph *g, const tf_node *n, const char *key)
{
    const tf_value *v = &g->values[n->inputs[0]];
    int64_t index = 0;
    TF_TRY(tf_need_channels(env, g, n, 0));
    if (v->rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "%s '%s': its input '%s' has no tokens", n->op->name, n->name, v->name);
    return tf_node_int(env, n, key, 0, v->extent[0] > 0 ? v->extent[0] - 1 : INT32_MAX, 0, &index);
}

tfuse_status tf_need_token_of(tf_env *env, const tf_node *n, const char *key, const tf_batch *in)
{
    const int64_t index = tf_node_int_at(n, key, 0);
    return index < in->extent[0] ? TFUSE_OK
                                 : tf_fail(env, TFUSE_ESHAPE, "%s '%s': %s=%lld, but there are %lld tokens", n->op->name, n->name, key,
                                           (long long)index, (long long)in->extent[0]);
}

tfuse_status tf_output_channels(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_value v = g->values[g->nodes[node].inputs[0]];
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, 1, &v.extent[1], &v.dims[1], &out);
}

tfuse_status tf_output_rows(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value tokens = g->values[n->inputs[0]];
    const char *rows = tf_node_attr(n, "rows"), *of = tf_node_attr(n, "of");
    if (!rows || !of)
        return tf_fail(env, TFUSE_EGRAPH, "%s '%s': %s=BINDING is missing", n->op->name, n->name, rows ? "of" : "rows");
    const tf_binding *dims[2] = {NULL, NULL};
    const tf_use uses[2] = {TF_USE_PRODUCED, TF_USE_PRODUCED};
    TF_TRY(tf_node_ports(env, g, node, rows, &dims[0]));
    TF_TRY(tf_node_ports(env, g, node, of, &dims[1]));
    TF_TRY(tf_node_param(env, g, node, 0, "weight", 2, dims, uses));
    const int64_t extent[2] = {tokens.extent[0], dims[1]->extent};
    const tf_binding *out_dims[2] = {tokens.dims[0], dims[1]};
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, 2, extent, out_dims, &out);
}

tfuse_status tf_output_like(tf_env *env, tf_graph *g, tf_id node, tf_id like, const tf_binding *channels)
{
    const tf_value shape = g->values[like];
    int64_t extent[TF_MAX_DIMS];
    const tf_binding *dims[TF_MAX_DIMS];
    memcpy(extent, shape.extent, sizeof extent);
    memcpy(dims, shape.dims, sizeof dims);
    extent[shape.rank - 1] = channels->extent;
    dims[shape.rank - 1] = channels;
    tf_id out = -1;
    TF_TRY(tf_node_output(env, g, node, NULL, shape.rank, extent, dims, &out));
    g->values[out].class_tokens = shape.class_tokens;
    g->values[out].grid_h = shape.grid_h;
    g->values[out].grid_w = shape.grid_w;
    return TFUSE_OK;
}

tfuse_status tf_binding_of(tf_env *env, tf_graph *g, const tf_factor *factors, int n_factors, const tf_binding **out)
{
    tf_binding *b = tf_arena_alloc(env, &g->arena, sizeof *b);
    tf_segment *s = tf_arena_alloc(env, &g->arena, sizeof *s);
    tf_factor *copy = tf_arena_array(env, &g->arena, (size_t)n_factors, sizeof *copy);
    if (!b || !s || !copy)
        return TFUSE_ENOMEM;
    memcpy(copy, factors, (size_t)n_factors * sizeof *copy);
    s->label = "";
    s->factors = copy;
    s->n_factors = n_factors;
    s->extent = 1;
    for (int i = 0; i < n_factors; i++)
        s->extent *= factors[i].extent;
    b->segments = s;
    b->n_segments = 1;
    b->extent = s->extent;
    *out = b;
    return TFUSE_OK;
}

void tf_permits_linear(tf_permits *p, const tf_node *n)
{
    (void)p, (void)n;
}

tfuse_status tf_flow_pass(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)g;
    return f->ops->pass(f, n->inputs[0], n->outputs[0]);
}

tfuse_status tf_flow_solve(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)g;
    return f->ops->solve(f, n);
}

tfuse_status tf_flow_norm(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    TF_TRY(tf_flow_pass(f, g, n));
    for (int slot = 0; slot < 2; slot++)
        if (tf_node_slot(n, slot) >= 0)
            TF_TRY(f->ops->move(f, n, slot, 0, n->outputs[0]));
    return TFUSE_OK;
}

tfuse_status tf_extents_like(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                             tf_batch *const *out)
{
    (void)env, (void)g, (void)n;
    for (int i = 0; i + 1 < out[0]->rank; i++)
        out[0]->extent[i] = in[0]->extent[i];
    return TFUSE_OK;
}

tf_mat tf_mat_const(const float *data, int64_t rows, int64_t cols, int64_t rs)
{
    union {
        const float *in;
        float *out;
    } p = {data};
    tf_mat m = {p.out, rows, cols, rs, 1};
    return m;
}

void tf_affine(tf_env *env, const float *x, int64_t rows, int64_t k, const float *w, const float *b, int64_t n, float *y)
{
    for (int64_t r = 0; b && r < rows; r++)
        memcpy(y + r * n, b, (size_t)n * sizeof *y);
    tf_gemm(env, 1.0f, tf_mat_const(x, rows, k, k), tf_mat_t(tf_mat_const(w, n, k, k)), b ? 1.0f : 0.0f,
            tf_mat_rows(y, rows, n));
}

size_t tf_take_input(const tf_forward *f)
{
    const size_t count = (size_t)(f->in[0]->n * tf_batch_stride(f->in[0]));
    if (f->out[0]->data != f->in[0]->data)
        memcpy(f->out[0]->data, f->in[0]->data, count * sizeof(float));
    return count;
}

int tf_count_readers(const tf_graph *g, tf_id value)
{
    return g->values[value].readers + (g->output == value);
}

bool tf_param_is_private(const tf_graph *g, tf_id param)
{
    return g->params[param].holders == 1 && !g->params[param].aliased;
}
