/* SPDX-License-Identifier: Apache-2.0
 *
 * registry.c: the table of operations.
 */
#include "ops/ops.h"
#include <string.h>

static const tf_op *const table[] = {
    &tf_op_input,     &tf_op_linear,     &tf_op_patchify, &tf_op_parameter, &tf_op_embedding,
    &tf_op_concat_tokens, &tf_op_add,    &tf_op_layernorm, &tf_op_rmsnorm,  &tf_op_activation,
    &tf_op_multiply,  &tf_op_attention,  &tf_op_split,    &tf_op_token,     &tf_op_route,
    &tf_op_positions, &tf_op_softcap,    &tf_op_scale,    &tf_op_gate_tokens,
    &tf_op_disentangled, &tf_op_mask_tokens, &tf_op_conv_tokens, &tf_op_plus_token,
    &tf_op_route_weights, &tf_op_expert_mean,
    &tf_op_mean_tokens, &tf_op_layerscale,
};

const tf_op *tf_op_at(size_t index)
{
    return index < TF_LEN(table) ? table[index] : NULL;
}

const tf_op *tf_op_find(const char *name)
{
    for (size_t i = 0; i < TF_LEN(table); i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}
