/* SPDX-License-Identifier: Apache-2.0
 *
 * decoder.h: what decoders with rotary positions share: a norm before each branch, grouped queries, an FFN, no positions in the stream. As they stand
 * these are Llama's (RMSNorm, a gated FFN, one branch after the other). An architecture's file says how its own differs.
 */
#ifndef TF_ARCH_DECODER_H
#define TF_ARCH_DECODER_H

#include "arch/arch.h"
#include "base/buf.h"

enum { TF_FULL, TF_SLIDING }; /* kinds of attention layers */
typedef enum tf_norms { TF_NORMS_BEFORE, TF_NORMS_AROUND, TF_NORMS_AFTER } tf_norms; /* each branch: before it, on its output too, on that alone */
typedef enum tf_qk_norm { TF_QK_NORM_NONE, TF_QK_NORM_HEAD, TF_QK_NORM_WHOLE } tf_qk_norm; /* of each head, or of all together */

/* A mixture of experts in place of the FFN of some layers (moe.c). */
typedef struct tf_moe {
    const bool *sparse;      /* a layer; NULL: none */
    int64_t experts, top_k, ffn, shared; /* ffn: hidden units of an expert; shared: of the one that all tokens share, 0 for none */
    const char *weights;     /* the route operation's */
    const char *router, *up, *gate, *down; /* stored names without "model.layers.N.", an expert's with %d for it */
} tf_moe;

typedef struct tf_decoder {
    int64_t hidden, layers, heads, kv, inner, ffn, vocab;
    int64_t rope_dims;      /* units of a head that turn: all, or the first ones */
    double rope_part;       /* which part these are where the config does not say so; 0: all */
    int64_t window;         /* of the sliding layers; 0: there are none */
    const bool *sliding;    /* a layer; NULL: none */
    const bool *unplaced;   /* a layer without positions; NULL: none */
    const char *rope[2];    /* attributes of rotary positions, for full and sliding layers */
    bool interleaved;       /* units that turn together stand side by side */
    double eps, embed_scale, score_scale, score_cap, logit_cap; /* 0: none; score_scale 0: 1/sqrt(inner) */
    double branch_scale, logit_scale; /* factors of what a branch adds, and of the logits; 0: none */
    const char *activation;
    bool qkv_bias, out_bias, mlp_bias, head_bias, tied;
    bool fused_qkv, fused_ffn; /* stored in one: queries, keys and values; gate and up */
    tf_qk_norm qk_norm;
    tf_norms norms;
    bool layernorm, norm_bias; /* LayerNorm, with a bias, in place of RMSNorm */
    bool gain_offset;       /* gains are 1 + the tensor */
    bool parallel;          /* both branches read the block's one norm */
    bool plain;             /* fc1, activation, fc2: no gate */
    tf_moe moe;
    const tf_name_rule *own; /* names in place of tf_decoder_names's for the same tensors */
    size_t n_own;
} tf_decoder;

/* The keys that all share, under the names of Hugging Face's LlamaConfig, checked against each other. The activation is none of them. */
tfuse_status tf_decoder_read(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d);
/* Which layers slide: by the config's layer_types, else every layer for which (layer + 1) % pattern is not 0 (pattern 0: none; 1: all). */
tfuse_status tf_decoder_read_layers(tf_env *env, const tfuse_model *m, tf_graph *g, int64_t pattern, tf_decoder *d);
tfuse_status tf_decoder_nodes(tf_env *env, tf_graph *g, const tf_decoder *d);
/* decoder_names.c: LlamaForCausalLM's tensor names, with those of the options that are on, and the architecture's own. */
tfuse_status tf_decoder_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d);
/* read, nodes, names: the whole of an architecture that differs by its config alone. */
tfuse_status tf_decoder_build(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d);

/* moe.c: layer's FFN between "~/norm2" and the value that is named in `out`; its tensors, by expert or stacked as the model has them. */
tfuse_status tf_moe_nodes(const tf_block *b, const tf_decoder *d, const char **out);
tfuse_status tf_moe_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d, int64_t layer);

/* rope.c: attributes of rotary positions from the config's object under `key` ("rope_parameters"), or from the older keys rope_theta and
 * rope_scaling when it is absent. Frequencies are those of sequences up to the length that the model was first trained for, where the
 * config makes them depend on the length. dims: units of a head that turn. In the graph's memory. */
tfuse_status tf_rope_read(tf_env *env, const tfuse_model *m, tf_graph *g, const char *key, double theta, int64_t dims, const char **out);
/* Units of a head that turn: partial_rotary_factor of `inner`. */
tfuse_status tf_rope_dims(tf_env *env, const tfuse_model *m, const char *key, double fallback, int64_t inner, int64_t *out);

#endif
