/* SPDX-License-Identifier: Apache-2.0
 *
 * positions.c: rows of a table by position, for inputs whose length is known only when they run: row offset + t for token t. With pad=ID
 * tokens of that id are not counted and get row ID, the others row ID + 1, ID + 2, ... (Liu et al. 2019).
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_value *tokens = &g->values[n->inputs[0]];
    int64_t number = 0;
    if (tokens->rank > 2 || (!tokens->integer && tokens->rank != 2))
        return tf_fail(env, TFUSE_EGRAPH, "positions '%s': its input '%s' has no tokens", n->name, tokens->name);
    TF_TRY(tf_node_int(env, n, "offset", 0, INT32_MAX, 0, &number));
    TF_TRY(tf_node_int(env, n, "pad", 0, INT32_MAX, 0, &number));
    if (tf_node_attr(n, "pad") && !tokens->integer)
        return tf_fail(env, TFUSE_EGRAPH, "positions '%s': pad= goes with token ids", n->name);
    return tf_output_rows(env, g, node);
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_binding(p, p->g->params[n->params[0]].dims[0], TF_GROUP_PINNED);
}

/* The row before the first one that is used. */
static int64_t base_of(const tf_node *n)
{
    return tf_node_attr(n, "pad") ? tf_node_int_at(n, "pad", 0) : tf_node_int_at(n, "offset", 0) - 1;
}

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    const int64_t rows = g->params[n->params[0]].shape[0], most = rows - 1 - base_of(n);
    out[0]->extent[0] = in[0]->extent[0];
    return out[0]->extent[0] <= most ? TFUSE_OK
                                     : tf_fail(env, TFUSE_ERANGE, "positions '%s': sequences of %lld tokens; the model has positions for %lld",
                                               n->name, (long long)out[0]->extent[0], (long long)most);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t tokens = f->out[0]->extent[0], base = base_of(n), pad = tf_node_attr(n, "pad") ? base : -1;
    const size_t c = (size_t)tf_batch_channels(f->out[0]);
    for (int64_t s = 0; s < f->in[0]->n; s++) {
        int64_t row = base + f->past;
        for (int64_t t = 0; t < tokens; t++) {
            int32_t id = -1;
            if (pad >= 0)
                memcpy(&id, f->in[0]->data + s * tokens + t, sizeof id);
            const int64_t at = pad >= 0 && id == pad ? pad : ++row;
            memcpy(f->out[0]->data + (size_t)(s * tokens + t) * c, f->param[0] + (size_t)at * c, c * sizeof(float));
        }
    }
}

const tf_op tf_op_positions = {
    .name = "positions",
    .help = "rows of a table by position in the sequence: rows=BINDING of=BINDING [offset=0 | pad=ID]",
    .attrs = "rows of offset pad weight",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = permits,
    .flow = tf_flow_solve,
    .extents = extents,
    .forward = forward,
};
