/* SPDX-License-Identifier: Apache-2.0
 *
 * patchify.c: an image (channels × height × width) to tokens × channels: a convolution whose windows tile the image, or overlap
 * when a stride is given. Tokens are in row-major order of the grid. By im2col and one product.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

enum { WEIGHT, BIAS };

typedef struct window {
    int64_t k[2], stride[2], grid[2]; /* height, width */
} window;

/* One number for both directions, or two with a comma. */
static tfuse_status pair(tf_env *env, const tf_node *n, const char *key, int64_t out[2])
{
    int64_t v[2];
    int count = 0;
    TF_TRY(tf_node_ints(env, n, key, v, 2, &count));
    if (count < 1 || v[0] < 1 || (count == 2 && v[1] < 1))
        return tf_fail(env, TFUSE_EGRAPH, "patchify '%s': %s is not a positive number, or two with a comma", n->name, key);
    out[0] = v[0];
    out[1] = v[count - 1];
    return TFUSE_OK;
}

static tfuse_status read_window(tf_env *env, const tf_node *n, const tf_value *image, window *w)
{
    TF_TRY(pair(env, n, "kernel", w->k));
    TF_TRY(pair(env, n, tf_node_attr(n, "stride") ? "stride" : "kernel", w->stride));
    for (int i = 0; i < 2; i++) {
        const char *what = i == 0 ? "height" : "width";
        const long long size = (long long)image->extent[1 + i];
        if (w->k[i] > size)
            return tf_fail(env, TFUSE_ESHAPE, "patchify '%s': patch %s %lld is larger than the image's %lld", n->name, what,
                           (long long)w->k[i], size);
        if ((size - w->k[i]) % w->stride[i] != 0)
            return tf_fail(env, TFUSE_ESHAPE,
                           "patchify '%s': image %s %lld is not divisible into patches of %lld with stride %lld", n->name,
                           what, size, (long long)w->k[i], (long long)w->stride[i]);
        w->grid[i] = (size - w->k[i]) / w->stride[i] + 1;
    }
    return TFUSE_OK;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value image = g->values[n->inputs[0]];
    const char *spec = tf_node_attr(n, "out");
    bool has_bias = true;
    window w;
    if (image.rank != 3)
        return tf_fail(env, TFUSE_EGRAPH, "patchify '%s': its input '%s' is not an image", n->name, image.name);
    if (!spec)
        return tf_fail(env, TFUSE_EGRAPH, "patchify '%s': out=BINDING is missing", n->name);
    TF_TRY(read_window(env, n, &image, &w));
    TF_TRY(tf_node_has_bias(env, n, &has_bias));
    const tf_binding *dims[4] = {NULL, image.dims[0], NULL, NULL};
    const tf_use uses[4] = {TF_USE_PRODUCED, TF_USE_CONSUMED, TF_USE_NEUTRAL, TF_USE_NEUTRAL};
    TF_TRY(tf_node_ports(env, g, node, spec, &dims[0]));
    TF_TRY(tf_binding_fixed(env, g, w.k[0], &dims[2]));
    TF_TRY(tf_binding_fixed(env, g, w.k[1], &dims[3]));
    TF_TRY(tf_node_param(env, g, node, WEIGHT, "weight", 4, dims, uses));
    if (has_bias)
        TF_TRY(tf_node_param(env, g, node, BIAS, "bias", 1, dims, uses));
    const int64_t extent[2] = {w.grid[0] * w.grid[1], dims[0]->extent};
    const tf_binding *out_dims[2] = {NULL, dims[0]};
    TF_TRY(tf_binding_fixed(env, g, extent[0], &out_dims[0]));
    tf_id out = -1;
    TF_TRY(tf_node_output(env, g, node, NULL, 2, extent, out_dims, &out));
    g->values[out].grid_h = w.grid[0];
    g->values[out].grid_w = w.grid[1];
    return TFUSE_OK;
}

/* The window again, from what shape found: the kernel from the weight, the strides from grid and image. */
static window known_window(const tf_graph *g, const tf_node *n)
{
    const tf_param *weight = &g->params[n->params[WEIGHT]];
    const tf_value *image = &g->values[n->inputs[0]], *out = &g->values[n->outputs[0]];
    window w = {{weight->shape[2], weight->shape[3]}, {1, 1}, {out->grid_h, out->grid_w}};
    for (int i = 0; i < 2; i++)
        if (w.grid[i] > 1)
            w.stride[i] = (image->extent[1 + i] - w.k[i]) / (w.grid[i] - 1);
    return w;
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    const window w = known_window(g, n);
    return w.grid[0] * w.grid[1] * in[0]->extent[0] * w.k[0] * w.k[1];
}

static void im2col(const float *image, const int64_t *extent, const window *w, float *dst)
{
    const int64_t plane = extent[1] * extent[2];
    for (int64_t gy = 0; gy < w->grid[0]; gy++)
        for (int64_t gx = 0; gx < w->grid[1]; gx++)
            for (int64_t c = 0; c < extent[0]; c++)
                for (int64_t y = 0; y < w->k[0]; y++, dst += w->k[1])
                    memcpy(dst, image + c * plane + (gy * w->stride[0] + y) * extent[2] + gx * w->stride[1],
                           (size_t)w->k[1] * sizeof *dst);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const tf_batch *in = f->in[0], *out = f->out[0];
    const window w = known_window(f->g, n);
    const int64_t taps = in->extent[0] * w.k[0] * w.k[1];
    for (int64_t s = 0; s < in->n; s++) {
        im2col(in->data + s * tf_batch_stride(in), in->extent, &w, f->scratch);
        tf_affine(f->env, f->scratch, w.grid[0] * w.grid[1], taps, f->param[WEIGHT], f->param[BIAS],
                  tf_batch_channels(out), out->data + s * tf_batch_stride(out));
    }
}

const tf_op tf_op_patchify = {
    .name = "patchify",
    .help = "convolution of an image to tokens: out=BINDING kernel=K[,K] [stride=S[,S]] [bias=0|1]",
    .attrs = "out kernel stride bias weight",
    .min_inputs = 1,
    .max_inputs = 1,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_solve,
    .scratch_size = scratch_size,
    .forward = forward,
};
