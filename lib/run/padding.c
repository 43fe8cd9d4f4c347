/* SPDX-License-Identifier: Apache-2.0
 *
 * padding.c: tokens that are there only to make sequences equally long. Where the inputs come with a mask, what a model computes at a token that the mask
 * hides is nobody's business: it reaches no other token, and no statistic or fit counts it.
 */
#include "ops/ops.h"
#include "run/run.h"

static tf_id mask_of(const tf_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        if (n->op->mask > 0 && n->op->mask < n->n_inputs && tf_input_number(g, &g->nodes[g->values[n->inputs[n->op->mask]].node]) > 0)
            return n->inputs[n->op->mask];
    }
    return -1;
}

static const tfuse_array *mask_array(const tf_graph *g, const tf_inputs *in)
{
    const tf_id mask = mask_of(g);
    return mask >= 0 ? in->side[tf_input_number(g, &g->nodes[g->values[mask].node])] : NULL;
}

bool tf_inputs_are_masked(const tf_graph *g, const tf_inputs *in)
{
    return mask_array(g, in) != NULL;
}

void tf_inputs_seen(const tf_graph *g, const tf_inputs *in, int64_t first, int64_t count, uint8_t *dst)
{
    const tfuse_array *mask = mask_array(g, in);
    for (int64_t i = 0; i < count * in->sample; i++) {
        int64_t seen = 1;
        if (mask)
            tf_array_integers(mask, (size_t)(first * in->sample + i), 1, &seen);
        dst[i] = seen != 0;
    }
}

/* Whether an output has a row for each token of an input that has: mixing tokens leaves each row its token, picking one or averaging does not. */
static bool keeps_tokens(const tf_graph *g, const tf_node *n, const bool *follows, const tf_value *out)
{
    for (int k = 0; k < (n->op->tokenwise ? n->n_inputs : n->n_inputs > 0); k++)
        if (follows[n->inputs[k]] && out->rank == 2 && out->extent[0] == g->values[n->inputs[k]].extent[0])
            return true;
    return false;
}

tfuse_status tf_value_follows_tokens(tf_env *env, const tf_graph *g, bool **out)
{
    bool *follows = *out = tf_calloc(env, g->n_values + 1, sizeof *follows);
    if (!follows)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_outputs; k++) {
            const tf_value *v = &g->values[n->outputs[k]];
            follows[n->outputs[k]] = n->op == &tf_op_input ? v->integer && v->rank == 1 : keeps_tokens(g, n, follows, v);
        }
    }
    return TFUSE_OK;
}
