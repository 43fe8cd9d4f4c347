/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_rows.c: which rows of a value count, and what the merged network should give there.
 *
 * A linear that writes to the residual stream is fitted to the parents' mean stream after the write, less the merged stream before it: what earlier
 * layers left over is carried along, and later writes make it good.
 */
#include "fuse/repair.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

const uint8_t *rp_seen(const repair *r, tf_id value)
{
    return r->follows[value] && tf_batch_rows(rp_value(r, r->n - 1, value)) == r->samples * r->lanes[0].inputs.sample ? r->seen : NULL;
}

tfuse_status rp_rows_make(repair *r, tf_id value, tf_id reaches, rp_rows *out)
{
    const tf_batch *b = rp_value(r, r->n - 1, value);
    const int64_t classes = r->g->values[value].class_tokens;
    out->tokens = tf_batch_rows(b) / b->n;
    out->count = tf_batch_rows(b);
    out->seen = rp_seen(r, value);
    out->root = tf_alloc_array(r->env, (size_t)out->tokens, sizeof *out->root);
    if (!out->root)
        return TFUSE_ENOMEM;
    for (int64_t t = 0; t < out->tokens; t++) {
        const bool is_class = t < classes;
        const double weight = classes == 0 ? 1 : is_class ? r->token_weight : r->class_only[reaches] ? 0 : 1;
        out->root[t] = (float)sqrt(weight);
    }
    return TFUSE_OK;
}

tf_id rp_residual(const repair *r, tf_id value)
{
    for (size_t i = 0; i < r->g->n_nodes; i++) {
        const tf_node *n = &r->g->nodes[i];
        if (n->op != &tf_op_add || (n->inputs[0] != value && n->inputs[1] != value) || n->inputs[0] == n->inputs[1])
            continue;
        const tf_id other = n->inputs[n->inputs[0] == value];
        bool live = true;
        for (size_t k = 0; k <= r->n; k++)
            live = live && rp_value(r, k, other)->data;
        return live ? other : -1;
    }
    return -1;
}

void rp_target(const repair *r, tf_id value, tf_id residual, int64_t row, float *out)
{
    const int64_t m = tf_batch_channels(rp_value(r, 0, value));
    for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (size_t k = 0; k < r->n; k++) {
            const double own = (double)rp_value(r, k, value)->data[row * m + i];
            sum += (value == r->g->output ? r->weights : r->mix)[k] * (residual < 0 ? own : own + (double)rp_value(r, k, residual)->data[row * m + i]);
        }
        out[i] = (float)(residual < 0 ? sum : sum - (double)rp_value(r, r->n, residual)->data[row * m + i]);
    }
}
