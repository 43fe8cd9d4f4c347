/* SPDX-License-Identifier: Apache-2.0
 *
 * passes.h: function-preserving rewritings, one file a pass. Each takes a view and returns a level above it; where a node does not
 * permit the pass exactly, that node is left as it is, and the group of its axes then shows it.
 */
#ifndef TF_PASSES_PASSES_H
#define TF_PASSES_PASSES_H

#include "graph/view.h"

typedef tfuse_status (*tf_pass_fn)(tf_env *env, const tf_view *base, tf_view **out);

/* fold_norms.c: W <- W diag(gain), b <- b + W bias, gain 1, bias 0, for every norm all of whose readers are linears with a bias to
 * take it (or a norm bias of zero). */
tfuse_status tf_pass_fold_norms(tf_env *env, const tf_view *base, tf_view **out);
/* drop_key_bias.c: softmax ignores what is equal for all keys: b_K = 0. Not under rotary positions or a norm on keys. */
tfuse_status tf_pass_drop_key_bias(tf_env *env, const tf_view *base, tf_view **out);
/* move_value_bias.c: attention rows sum to one: b_O <- b_O + W_O b_V, b_V = 0. */
tfuse_status tf_pass_move_value_bias(tf_env *env, const tf_view *base, tf_view **out);
/* centre_writes.c: LayerNorm ignores the mean of the stream: every write to a stream that only LayerNorms (gain folded) read loses its mean over
 * the stream, and the reads' columns theirs. */
tfuse_status tf_pass_centre_writes(tf_env *env, const tf_view *base, tf_view **out);

typedef struct tf_pass {
    const char *name; /* with its version: "fold-norms.1" */
    tf_pass_fn run;
} tf_pass;
extern const tf_pass tf_passes[]; /* in the order of the canonical form; ends with a NULL name */
const tf_pass *tf_pass_find(const char *name);

/* Runs passes one above the other. views[0] is the root; freed by tf_canonical_free. */
typedef struct tf_canonical {
    tf_view *levels[16];
    int n;
} tf_canonical;
tfuse_status tf_canonical_make(tf_env *env, const tf_graph *g, const tfuse_model *m, const char *const *passes, int n_passes,
                               tf_canonical *out);
static inline const tf_view *tf_canonical_top(const tf_canonical *c) { return c->levels[c->n - 1]; }
void tf_canonical_free(tf_canonical *c);

#endif
