/* SPDX-License-Identifier: Apache-2.0
 *
 * embedding.c: token ids to rows of a table. An id outside the table, which the check of the inputs refuses, yields zeros here.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value *ids = &g->values[n->inputs[0]];
    double scale = 0;
    TF_TRY(tf_node_real(env, n, "scale", 1.0, &scale));
    if (!ids->integer || ids->rank != 1)
        return tf_fail(env, TFUSE_EGRAPH, "embedding '%s': its input '%s' does not hold token ids", n->name, ids->name);
    return tf_output_rows(env, g, node);
}

/* The values of ids are given by the outside. */
static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, p->g->params[n->params[0]].dims[0], TF_GROUP_PINNED);
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                            tf_batch *const *out)
{
    (void)env, (void)g, (void)n;
    out[0]->extent[0] = in[0]->extent[0];
    return TFUSE_OK;
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t rows = f->g->params[n->params[0]].shape[0];
    const float scale = (float)tf_node_real_at(n, "scale", 1.0);
    const size_t c = (size_t)tf_batch_channels(f->out[0]), count = (size_t)(f->in[0]->n * tf_batch_stride(f->in[0]));
    for (size_t i = 0; i < count; i++) {
        int32_t id;
        memcpy(&id, f->in[0]->data + i, sizeof id);
        float *dst = f->out[0]->data + i * c;
        if (id >= 0 && id < rows)
            memcpy(dst, f->param[0] + (size_t)id * c, c * sizeof *dst);
        else
            memset(dst, 0, c * sizeof *dst);
        for (size_t k = 0; scale != 1.0f && k < c; k++)
            dst[k] *= scale;
    }
}

const tf_op tf_op_embedding = {
    .name = "embedding",
    .help = "rows of a table by token id: rows=BINDING of=BINDING [scale=1, what they are multiplied by]",
    .attrs = "rows of scale weight",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_solve,
    .extents = extents,
    .forward = forward,
};
