/* SPDX-License-Identifier: Apache-2.0
 *
 * fuse.h: combining: reads a plan and models, yields weights in the anchor's form.
 */
#ifndef TF_FUSE_FUSE_H
#define TF_FUSE_FUSE_H

#include "align/align.h"
#include <tfuse/fuse.h>

typedef struct tf_fuse_job {
    const tfuse_policy *policy;
    const tfuse_plan *plan;
    const tfuse_model *const *models;
    tf_graph *const *graphs;
    size_t n;
    const double *weights; /* in place of the policy's, summing to one; NULL */
    bool quiet; /* do not say again that weights are others than the plan's; tensors stay float32, whatever is asked for */
    float *const *fitted; /* of each logical tensor of the anchor what is written in its place, made by tf_repair; NULL: none */
    bool dry; /* nothing will be computed: no weight is looked at, the plan's maps may be hollow */
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
/* The map that moves a part of a tensor's dimension in model k; NULL: none. */
const tf_map *tf_fusion_map(const tf_fusion *f, size_t k, tf_id param, int dim, int part);
/* The combined tensor, of the anchor's logical shape. */
tfuse_status tf_fusion_param(tf_env *env, const tf_fusion *f, tf_id param, float *dst);

/* Whether rows (along the first dimension) of the combined tensor can be made without the rest: in no model does a dense map move them. */
tfuse_status tf_fusion_has_rows(tf_env *env, const tf_fusion *f, tf_id param, bool *out);
/* Rows first..first+n-1 of such a tensor. Tiles are of TF_TILE_ROWS, whatever memory there is, and a multiple of what matrix
 * products are cut into: what is written depends on neither. */
enum { TF_TILE_ROWS = 1024 };
tfuse_status tf_fusion_rows(tf_env *env, const tf_fusion *f, tf_id param, int64_t first, int64_t n, float *dst);

/* output.c: every stored tensor of the anchor, assembled from logical ones, to a checkpoint or into a model in memory. */
struct tf_piece; /* graph/naming.h */
/* Whether a stored tensor, of these pieces, is made by rows. */
tfuse_status tf_fuse_is_tileable(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const struct tf_piece *pieces, int count, bool *out);
/* Bytes of the checkpoint without the files that go along with it. */
tfuse_status tf_fuse_output_bytes(tf_env *env, const tf_fuse_job *job, uint64_t *out);
tfuse_status tf_fuse_to_checkpoint(tf_env *env, const tf_fuse_job *job, const char *out_dir);
tfuse_status tf_fuse_to_model(tf_env *env, const tf_fuse_job *job, tfuse_model **out);
/* Into memory of the caller's (tfuse/fuse.h). */
tfuse_status tf_fuse_to_sink(tf_env *env, const tf_fuse_job *job, const tfuse_sink *theirs);

/* selfcheck.c: runs each model's canonical form, and with invertible maps its aligned form, beside the original, and then the fused network, on the
 * first of the calibration inputs or (NULL) on random ones. TFUSE_ENUMERIC when a form that must compute the same does not, or outputs are NaN
 * or infinite. *report: {"result", "exact", "tolerance", "samples", "probe", "fused", "models": [{"name", "canonical", "aligned"}]}. */
tfuse_status tf_fuse_selfcheck(tf_env *env, const tf_fuse_job *job, const tfuse_array *calib, json_t **report);
/* float32 forward passes over rotated and rescaled weights differ by some 1e-5 of the largest output, of maps of condition 10 by 1e-4; a
 * map that is wrong anywhere moves outputs by their own size. */
#define TF_SELFCHECK_TOLERANCE 1e-3
/* The probe: at most so many samples of at most these extents (TF_MAX_DIMS places). */
enum { TF_SELFCHECK_SAMPLES = 4 };
void tf_selfcheck_extents(const tf_graph *g, int64_t *out);
tfuse_status tf_selfcheck_probe(tf_env *env, const tf_graph *g, tfuse_array **out); /* random inputs of a graph */
/* Whether model k has an aligned form to be run: maps, all of them invertible. */
bool tf_selfcheck_aligns(const tfuse_plan *plan, size_t k);

/* repair.c: weights fitted on calibration inputs (repair.h). Which stages the policy asks for (0: none), TFUSE_EINVAL when they cannot be had. */
tfuse_status tf_repair_stages(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, bool calibrated, int *stages);
/* *fitted: one a logical tensor of the anchor, NULL where it stays as it is combined; freed by tf_fitted_free. *report: {"stages", "samples",
 * "mix", "mixes": [{"lead", "share", "kl"}], "kl_refit", "kl_fused", "kl_anchor", "worse", "circuits": [{"name", "circuit", "kept", "dropped"}],
 * "linears": [{"name", "ridge", "before", "after"}], "selected": [{"axis", "units"}]}. */
tfuse_status tf_repair(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, float ***fitted, json_t **report);
/* repair_estimate.c: what tf_repair takes; the fitted tensors stay in the tally. */
tfuse_status tf_repair_estimate(tf_env *env, const tf_fuse_job *job, int stages, const tfuse_array *calib, tf_tally *t);
void tf_fitted_free(tf_env *env, const tf_graph *g, float **fitted);

/* estimate.c: what fusing takes at most, beside models and plan. */
tfuse_status tf_fuse_estimate(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, tf_tally *t);
/* What is held at most: models, graphs and all else that is live now, then the work of fusing by a plan, or (NULL) of aligning, saving the
 * plan if it is `saved`, and fusing. maps: bytes of the maps' numbers. */
tfuse_status tf_fuse_peak(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool saved, uint64_t *peak, uint64_t *maps);
/* What would do where run.memory is less than `peak`: ", or ..." for a message, "" if nothing would or it is enough. out: TF_ADVICE; beside: bytes of
 * the peak that are held besides. */
enum { TF_ADVICE = 128 };
tfuse_status tf_fuse_advise(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool saved, uint64_t peak, uint64_t beside, char *out);
/* TFUSE_ERANGE, naming the least that would do, when that is more than run.memory. plan NULL: before aligning; in_memory: the result is
 * held too. */
tfuse_status tf_fuse_check_memory(tf_env *env, const tf_align_job *align, const tfuse_plan *plan, bool in_memory);

/* dry_run.c: every problem that the headers show, a line each, and what a run takes. */
typedef struct tf_dry_run {
    const tfuse_policy *policy;
    const tf_solver_registry *solvers;
    const char *const *models;
    size_t n;
    const char *calib, *plan, *save_plan, *out; /* paths; NULL: not given */
} tf_dry_run;
tfuse_status tf_fuse_dry_run(tf_env *env, const tf_dry_run *what, json_t **report);

#endif
