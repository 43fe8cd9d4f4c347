/* SPDX-License-Identifier: Apache-2.0
 *
 * parameter.c: a tensor that is a value: a class token, positions. rows × channels, the same for every sample.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const char *spec = tf_node_attr(&g->nodes[node], "of");
    int64_t rows = 0;
    TF_TRY(tf_node_int_required(env, &g->nodes[node], "rows", 1, (int64_t)1 << 24, &rows));
    if (!spec)
        return tf_fail(env, TFUSE_EGRAPH, "parameter '%s': of=BINDING is missing", g->nodes[node].name);
    const tf_binding *dims[2] = {NULL, NULL};
    const tf_use uses[2] = {TF_USE_PRODUCED, TF_USE_PRODUCED};
    TF_TRY(tf_binding_fixed(env, g, rows, &dims[0]));
    TF_TRY(tf_node_ports(env, g, node, spec, &dims[1]));
    TF_TRY(tf_node_param(env, g, node, 0, "weight", 2, dims, uses));
    const int64_t extent[2] = {rows, dims[1]->extent};
    tf_id out = -1;
    return tf_node_output(env, g, node, NULL, 2, extent, dims, &out);
}

static void forward(tf_forward *f, const tf_node *n)
{
    (void)n;
    const size_t stride = (size_t)tf_batch_stride(f->out[0]);
    for (int64_t s = 0; s < f->out[0]->n; s++)
        memcpy(f->out[0]->data + (size_t)s * stride, f->param[0], stride * sizeof(float));
}

const tf_op tf_op_parameter = {
    .name = "parameter",
    .help = "a tensor as a value: rows=N of=BINDING",
    .attrs = "rows of weight",
    .min_inputs = 0,
    .max_inputs = 0,
    .tokenwise = true,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_solve,
    .forward = forward,
};
