/* SPDX-License-Identifier: Apache-2.0
 *
 * ffn.h: the feed-forward networks of a graph, whatever architecture it is of: two linears with a function between, one axis in and out.
 */
#ifndef TF_ARCH_FFN_H
#define TF_ARCH_FFN_H

#include "graph/graph.h"

/* Nodes. A plain one is down(f(key(x))); in a gated one key is the gate: down(f(key(x)) * up(x)). */
typedef struct tf_ffn {
    tf_id key, up, down; /* linears; up is -1 in a plain one */
    tf_id hidden;        /* whose output `down` reads: the function or the product */
    int64_t units, width; /* hidden units; channels in and out */
} tf_ffn;

/* In the order of the nodes. The hidden units are one axis without others around it, every value between is read once, and the linears' tensors are their
 * own. *out is freed by tf_free. */
tfuse_status tf_ffn_find(tf_env *env, const tf_graph *g, tf_ffn **out, size_t *count);

/* A mixture of experts (ops/route.c): the same network with a router between its sides. */
typedef struct tf_routed {
    tf_id key, up, down; /* as above; their hidden units come as experts*hidden */
    tf_id router;        /* the linear whose outputs are the logits; -1: they are the means of the keys' outputs */
    tf_id bias;          /* the linear on the experts' weights that adds a bias of each expert's own; -1 */
    tf_id route;
    int64_t experts, units;
} tf_routed;
tfuse_status tf_routed_find(tf_env *env, const tf_graph *g, tf_routed **out, size_t *count);

/* emoe.c: emergent mixtures of experts (Qiu et al. 2024): a dense model whose FFNs are split, as its config says in the keys of the authors' models. */
typedef struct tf_emoe {
    int64_t experts, top_k;
    int64_t start, every; /* FFN number i is split when i >= start and (i - start) % every == 0 */
} tf_emoe;
/* *is: whether the config asks for it. */
tfuse_status tf_emoe_read(tf_env *env, const tfuse_model *m, bool *is, tf_emoe *out);
/* Builds and finishes the graph of a dense one with those FFNs routed. A gated one keeps its tensors, and logits are its keys' means; of a plain one the
 * tensors are stacked by experts, with a router. Each chosen expert weighs one. TFUSE_ESHAPE when the units cannot be cut into so many. */
tfuse_status tf_emoe_graph(tf_env *env, const char *label, const tf_graph *dense, const tf_emoe *how, tf_graph **out);

#endif
