/* SPDX-License-Identifier: Apache-2.0
 *
 * vit.h: the Vision Transformer's graph, whatever its tensors are called: what a reader of configs fills in, and the builder.
 */
#ifndef TF_ARCH_VIT_H
#define TF_ARCH_VIT_H

#include "arch/arch.h"

typedef struct vit_config {
    int64_t hidden, layers, heads, ffn, channels, classes;
    int64_t image[2], patch[2]; /* height, width */
    int64_t registers;          /* register tokens, behind the class token (Darcet et al. 2024) */
    double eps;
    const char *activation;
    bool qkv_bias, patch_bias;
    bool class_token;
    bool positions_first; /* of the patches alone, before the other tokens join them */
    bool pre_norm;        /* a norm on what the embeddings give */
    bool scales;          /* LayerScale behind both branches of a block */
    bool average;         /* the head reads the mean of the patches, not the class token */
    bool late_norm;       /* the last norm stands behind that choice */
} vit_config;

/* Tokens before the patches, and the rows of the table of positions. */
int64_t vit_prefix(const vit_config *c);
int64_t vit_positions(const vit_config *c);
/* TFUSE_EFORMAT when widths and heads, or images and patches, do not divide. */
tfuse_status vit_check(tf_env *env, const tfuse_model *m, const vit_config *c);
tfuse_status vit_nodes(tf_env *env, tf_graph *g, const vit_config *c);
/* Tokens and positions are stored with a leading batch of one; a name that the config has no use for is not looked at. */
tfuse_status vit_store(tf_env *env, tf_graph *g, const vit_config *c, const char *token, const char *registers, const char *positions);

#endif
