/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse.h: combining: reads a plan and models, yields weights in the anchor's form.
 */
#ifndef TF_FUSE_FUSE_H
#define TF_FUSE_FUSE_H

#include "align/align.h"

typedef struct tf_fuse_job {
    const tfuse_policy *policy;
    const tfuse_plan *plan;
    const tfuse_model *const *models;
    tf_graph *const *graphs;
    size_t n;
} tf_fuse_job;

/* Weights of the models from combine.weights and align.control, n of them (TFUSE_EINVAL if their number does not fit). */
tfuse_status tf_fuse_weights(tf_env *env, const tf_fuse_job *job, double *out);
/* Whether the plan was made for the control that takes the anchor alone. */
bool tf_fuse_is_half_anchor(const tf_fuse_job *job);

/* A fusion: one logical tensor at a time. */
typedef struct tf_fusion tf_fusion;
/* Checks the plan against the graphs, entry by entry (TFUSE_EGRAPH), and logs a warning when weights differ from the plan's. */
tfuse_status tf_fusion_new(tf_env *env, const tf_fuse_job *job, tf_fusion **out);
void tf_fusion_free(tf_fusion *f);
/* Name and fingerprints of model k as it is, which may be others than the plan was made from. */
const tf_plan_model *tf_fusion_model(const tf_fusion *f, size_t k);
/* The combined tensor, of the anchor's logical shape. */
tfuse_status tf_fusion_param(tf_env *env, const tf_fusion *f, tf_id param, float *dst);

/* Whether rows (along the first dimension) of the combined tensor can be made without the rest: in no model does a dense map move them. */
tfuse_status tf_fusion_has_rows(tf_env *env, const tf_fusion *f, tf_id param, bool *out);
/* Rows first..first+n-1 of such a tensor. Tiles are of TF_TILE_ROWS, whatever memory there is, and a multiple of what matrix
 * products are cut into: what is written depends on neither. */
enum { TF_TILE_ROWS = 1024 };
tfuse_status tf_fusion_rows(tf_env *env, const tf_fusion *f, tf_id param, int64_t first, int64_t n, float *dst);

/* output.c: every stored tensor of the anchor, assembled from logical ones, to a checkpoint or into a model in memory. */
tfuse_status tf_fuse_to_checkpoint(tf_env *env, const tf_fuse_job *job, const char *out_dir);
tfuse_status tf_fuse_to_model(tf_env *env, const tf_fuse_job *job, tfuse_model **out);

#endif
