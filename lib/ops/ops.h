/* SPDX-License-Identifier: Apache-2.0
 *
 * ops.h: the operations, one file each. The passes name them where a rewriting is exact for one kind of node only.
 */
#ifndef TF_OPS_OPS_H
#define TF_OPS_OPS_H

#include "graph/op.h"

extern const tf_op tf_op_input;
extern const tf_op tf_op_linear;
extern const tf_op tf_op_patchify;
extern const tf_op tf_op_parameter;
extern const tf_op tf_op_embedding;
extern const tf_op tf_op_positions;
extern const tf_op tf_op_concat_tokens;
extern const tf_op tf_op_add;
extern const tf_op tf_op_layernorm;
extern const tf_op tf_op_rmsnorm;
extern const tf_op tf_op_activation;
extern const tf_op tf_op_multiply;
extern const tf_op tf_op_attention;
extern const tf_op tf_op_split;
extern const tf_op tf_op_token;
extern const tf_op tf_op_plus_token;
extern const tf_op tf_op_mean_tokens;
extern const tf_op tf_op_layerscale;
extern const tf_op tf_op_route;
extern const tf_op tf_op_route_weights;
extern const tf_op tf_op_expert_mean;
extern const tf_op tf_op_gate_tokens;
extern const tf_op tf_op_disentangled;
extern const tf_op tf_op_mask_tokens;
extern const tf_op tf_op_conv_tokens;
extern const tf_op tf_op_softcap;
extern const tf_op tf_op_scale;

#endif
