/* SPDX-License-Identifier: Apache-2.0
 *
 * common.h: what several operations share: outputs that look like an input, flags, affine maps, activation functions, and the walk
 * behind a gate.
 */
#ifndef TF_OPS_COMMON_H
#define TF_OPS_COMMON_H

#include "graph/op.h"

/* ---- nodes and values ---- */
static inline const tf_binding *tf_value_channels(const tf_graph *g, tf_id value)
{
    const tf_value *v = &g->values[value];
    return v->dims[v->rank - 1];
}
static inline tf_id tf_node_id(const tf_graph *g, const tf_node *n) { return (tf_id)(n - g->nodes); }
/* Parameter in a slot; -1 when absent. */
static inline tf_id tf_node_slot(const tf_node *n, int slot) { return slot < n->n_params ? n->params[slot] : -1; }
/* An attribute that is 0 or 1. */
tfuse_status tf_node_flag(tf_env *env, const tf_node *n, const char *key, bool fallback, bool *out);
/* The flag `bias`; "bias=@tensor" is a yes. */
tfuse_status tf_node_has_bias(tf_env *env, const tf_node *n, bool *out);
/* Fails unless the input is floating and has tokens × channels or channels alone. */
tfuse_status tf_need_channels(tf_env *env, const tf_graph *g, const tf_node *n, int input);
/* Fails unless the input has tokens × channels, and the token of attribute `key`, 0 without it, is among them as far as their number is known. */
tfuse_status tf_need_token(tf_env *env, const tf_graph *g, const tf_node *n, const char *key);
/* The same of a batch, whose tokens are counted. */
tfuse_status tf_need_token_of(tf_env *env, const tf_node *n, const char *key, const tf_batch *in);
/* The node's first output: the input's channels without its tokens. */
tfuse_status tf_output_channels(tf_env *env, tf_graph *g, tf_id node);
/* The node's parameter and first output where it gives rows of a table, "rows" × "of" by its attributes, for the tokens of its input. */
tfuse_status tf_output_rows(tf_env *env, tf_graph *g, tf_id node);
/* The node's first output: extents and token layout of a value, with other channels. */
tfuse_status tf_output_like(tf_env *env, tf_graph *g, tf_id node, tf_id like, const tf_binding *channels);
/* A binding of one segment, for operations that make bindings from ports that exist. */
tfuse_status tf_binding_of(tf_env *env, tf_graph *g, const tf_factor *factors, int n_factors, const tf_binding **out);

/* ---- members that are the same for many operations ---- */
void tf_permits_linear(tf_permits *p, const tf_node *n); /* commutes with every invertible map on its channels */
tfuse_status tf_flow_pass(tf_flow *f, const tf_graph *g, const tf_node *n); /* the first input's maps */
tfuse_status tf_flow_solve(tf_flow *f, const tf_graph *g, const tf_node *n); /* nothing consumed, outputs solved */
tfuse_status tf_flow_norm(tf_flow *f, const tf_graph *g, const tf_node *n); /* as the first input; slots 0 and 1 move along */
/* Extents of the first input, but the channels. */
tfuse_status tf_extents_like(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                             tf_batch *const *out);

/* ---- arithmetic ---- */
/* y (rows × n) = x (rows × k) W' + b, W n × k row-major, b may be NULL. */
void tf_affine(tf_env *env, const float *x, int64_t rows, int64_t k, const float *w, const float *b, int64_t n, float *y);
/* The same input with both pointers to constants: a view for tf_gemm, which writes C alone. */
tf_mat tf_mat_const(const float *data, int64_t rows, int64_t cols, int64_t rs);

/* The first input's numbers in the first output, which may lie over it; how many. */
size_t tf_take_input(const tf_forward *f);

/* An activation function and the largest group that it commutes with. */
typedef struct tf_activation {
    const char *kind;
    tf_group group;
    void (*apply)(float *x, size_t n);
} tf_activation;
/* By the attribute `key`; NULL and an error when it is none. */
const tf_activation *tf_node_activation(tf_env *env, const tf_node *n, const char *key);
/* After shape has checked it. */
const tf_activation *tf_node_activation_at(const tf_node *n, const char *key);

/* ---- experts (route.c) ---- */
/* The factor of the experts in units that come as experts*hidden; NULL: they do not. */
const tf_factor *tf_experts_of(const tf_binding *b);
/* The attributes top_k and weights of a node that routes among so many experts. */
tfuse_status tf_route_check(tf_env *env, const tf_node *n, int64_t experts);
/* The weight that such a node gives each expert, from one row of logits; 0 for those not chosen. */
void tf_route_weights(const tf_node *n, const float *logits, int64_t experts, float *weights);

/* ---- gates (multiply.c) ---- */
/* The linear node that made a value, seen through activations, when each value on the way has one reader and the linear's tensors are
 * its own: then the value's units may keep their scale while a partner's change. -1: none such. */
tf_id tf_gate_source(const tf_graph *g, tf_id value);
/* True when that linear's rows were marked neutral: only permutations act on the value. */
bool tf_value_is_gate(const tf_graph *g, tf_id value);

/* Inputs of nodes that are this value; the graph's output counts as one more. */
int tf_count_readers(const tf_graph *g, tf_id value);
/* One node alone holds the parameter, and its storage is no other's. */
bool tf_param_is_private(const tf_graph *g, tf_id param);

#endif
