/* SPDX-License-Identifier: Apache-2.0
 *
 * arch.h: architectures: a file each, which builds the graph of a model from its config with the functions of the builder. No
 * architecture's name occurs outside this folder.
 */
#ifndef TF_ARCH_ARCH_H
#define TF_ARCH_ARCH_H

#include "graph/graph.h"

typedef struct tf_arch {
    const char *model_type;   /* config.json's */
    const char *architecture; /* one of config.json's architectures; NULL: any */
    tfuse_status (*build)(tf_env *env, const tfuse_model *m, tf_graph *g);
    bool (*claims)(const tfuse_model *m); /* NULL: by model_type; else asked of configs that have none */
} tf_arch;

extern const tf_arch tf_arch_vit, tf_arch_vit_timm;
extern const tf_arch tf_arch_llama, tf_arch_mistral, tf_arch_qwen2, tf_arch_qwen3, tf_arch_gemma, tf_arch_gemma2, tf_arch_gemma3, tf_arch_phi3;
extern const tf_arch tf_arch_gpt2, tf_arch_gpt_neox, tf_arch_mixtral, tf_arch_qwen2_moe, tf_arch_qwen3_moe;
extern const tf_arch tf_arch_gptj, tf_arch_phi, tf_arch_cohere, tf_arch_cohere2, tf_arch_glm, tf_arch_glm4, tf_arch_olmo2, tf_arch_granite;
extern const tf_arch tf_arch_smollm3, tf_arch_stablelm, tf_arch_starcoder2;
extern const tf_arch tf_arch_bert, tf_arch_roberta, tf_arch_distilbert, tf_arch_deberta, tf_arch_deberta_v2, tf_arch_deberta_pair;

/* registry.c. Builds and finishes the graph of a model, and checks the model's tensors against it (not when it has none: a
 * config alone). An unknown model_type is TFUSE_EUNSUPPORTED: says so, lists the known ones, names docs/adding-an-architecture.md. */
tfuse_status tf_graph_build(tf_env *env, const tfuse_model *m, bool extra_copy, tf_graph **out);
/* Without looking at the model's tensors. */
tfuse_status tf_graph_build_unchecked(tf_env *env, const tfuse_model *m, tf_graph **out);
/* The same before FFNs are split, as the config may say (ffn.h). */
tfuse_status tf_graph_build_dense(tf_env *env, const tfuse_model *m, tf_graph **out);

/* naming.c, for the tables of the files here: rules with %d for the layer, applied for i < layers when the pattern has one. */
typedef struct tf_name_rule {
    const char *logical, *stored;
} tf_name_rule;
/* `pattern` with the first %d replaced by the layer, in `buffer`, which is returned. */
const char *tf_with_layer(const char *pattern, int64_t layer, char *buffer, size_t size);
tfuse_status tf_apply_names(tf_env *env, tf_graph *g, const tf_name_rule *rules, size_t count, int64_t layers);

/* The same without `prefix` in the stored names. */
tfuse_status tf_apply_names_without(tf_env *env, tf_graph *g, const tf_name_rule *rules, size_t count, int64_t layers, const char *prefix);

/* A tensor that checkpoints may hold a second time under the name `again`, as tied weights were once saved. */
tfuse_status tf_store_tied(tf_env *env, tf_graph *g, const tfuse_model *m, const char *logical, const char *stored, const char *again);

/* The number of a classifier's classes, from id2label or num_labels. */
tfuse_status tf_read_classes(tf_env *env, const tfuse_model *m, int64_t *out);
/* The activation of a config's key, under the name that nodes take; TFUSE_EUNSUPPORTED for one that is not known. */
tfuse_status tf_read_activation(tf_env *env, const tfuse_model *m, const char *key, const char *fallback, const char **out);

/* printf-formatted attributes. */
tfuse_status tf_addf(tf_env *env, tf_graph *g, const char *op, const char *name, const char *inputs, const char *attrs, ...)
    TF_PRINTF(6, 7);

/* One block of a model, so that its definition reads like one: in `name` and `inputs` '~' stands for the scope ("layer.3") and '^' for
 * the value that the block starts from ("layer.2/residual2"). */
typedef struct tf_block {
    tf_env *env;
    tf_graph *g;
    const char *scope, *from;
} tf_block;
tfuse_status tf_block_addf(const tf_block *b, const char *op, const char *name, const char *inputs, const char *attrs, ...)
    TF_PRINTF(5, 6);

/* A number as text that reads back to the same value, with a point whatever the locale. */
typedef struct tf_real_text {
    char text[32];
} tf_real_text;
tf_real_text tf_real(double value);

#endif
