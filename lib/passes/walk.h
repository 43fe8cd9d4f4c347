/* SPDX-License-Identifier: Apache-2.0
 *
 * walk.h: what the passes ask of a graph: who reads a value, and what may be rewritten there.
 */
#ifndef TF_PASSES_WALK_H
#define TF_PASSES_WALK_H

#include "graph/view.h"
#include "ops/common.h"
#include "ops/ops.h"

/* A level above `base`, filled by `rewrite`, which finds the base below it; nothing is left of it on failure. */
typedef tfuse_status (*tf_rewrite_fn)(tf_env *env, tf_view *level);
tfuse_status tf_walk_level(tf_env *env, const tf_view *base, const char *pass, tf_rewrite_fn rewrite, tf_view **out);

/* The linear nodes that read a value, directly or as one token of it or the mean of its tokens, in graph order. False when anything else reads it, or when
 * it is the output, or when a reader's tensors serve other nodes too: then nothing may be moved into the readers. *out (tf_free) and
 * *count are set in either case. */
tfuse_status tf_walk_linears(tf_env *env, const tf_graph *g, tf_id value, bool *all, tf_id **out, size_t *count);
/* The linear node that made a value which one node alone reads, and whose tensors are its own; -1: none such. */
tf_id tf_walk_sole_linear(const tf_graph *g, tf_id value);
/* True when the parameter is absent (-1) or all its elements are zero in the view. */
tfuse_status tf_walk_is_zero(tf_env *env, const tf_view *view, tf_id param, bool *zero);

#endif
