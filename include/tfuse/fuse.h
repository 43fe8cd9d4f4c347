/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/fuse.h: combining aligned models into one.
 */
#ifndef TFUSE_FUSE_H
#define TFUSE_FUSE_H

#include <tfuse/model.h>
#include <tfuse/plan.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Fuses models by a plan and writes a checkpoint, tensor by tensor: W = sum_k w_k (W_k carried to the anchor), with the weights of
 * combine.weights. OUT is a directory with the anchor's config.json, its preprocessor and tokenizer files, and
 * safetensors with provenance in the metadata; it appears whole, by one rename, or not at all.
 * @param plan    in: of these models, or of models with the same graphs; other weights are reported in the log.
 * @param models  in: as in tfuse_align.
 * @param out     in: path of the directory; an existing one is refused unless io.force is 1; one in which a model of the call
 *                lies, or that is no checkpoint (directories in it, or files and no .safetensors), always.
 * Errors: TFUSE_EEXIST, TFUSE_EIO, TFUSE_EGRAPH (another graph than the plan's), TFUSE_EINVAL (combine.weights that do not fit),
 * TFUSE_ENUMERIC, TFUSE_ECANCELLED, TFUSE_ENOMEM, TFUSE_ERANGE (run.memory is too little), TFUSE_ENOTFOUND (a pass of
 * the plan that this library has not), and those of tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_fuse(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                  const tfuse_model *const *models, size_t n_models, const char *out);

/**
 * Holds a plan to what it says, on a few random inputs: each model's canonical form (the passes that the plan names), and where all its maps are
 * invertible its aligned form (its own weights carried by the maps), run beside the model as it is; and then the fused network, whose outputs
 * must be finite. tfuse_fuse does this before it writes unless fuse.selfcheck is 0; tfuse_fuse_model does not.
 * @param policy  in: NULL: defaults.
 * @param report  out: JSON, release with tfuse_string_free: {"result": "passed" or "nothing to compare" (no passes, and soft maps or none, or maps
 *                of a plan that does not claim to be exact), "exact": whether the plan claims that each model carried alone computes
 *                what it did, "tolerance", "samples", "probe": "random" or "calibration", "fused": "finite" (both null for a graph without
 *                an output), "models": [{"name", "canonical", "aligned"}]}. The last two are deviations: the largest difference of
 *                outputs over the largest output; null where there was nothing to run. Under a plan that is not exact the aligned
 *                one is told and judges nothing.
 * Errors: TFUSE_ENUMERIC when a form that must compute the same deviates by more than the tolerance (1e-3: float32 over rotated weights stays
 * below 1e-4), naming the model and the deviation, when the plan claims to be exact and has a map without an inverse, naming it, when outputs
 * of a model or of the fused network become NaN or infinite, and those of tfuse_fuse_model. Holds the values of a few samples and one node's
 * weights beside the models given.
 */
TFUSE_API tfuse_status tfuse_selfcheck(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                       const tfuse_model *const *models, size_t n_models, char **report);

/**
 * The same on real inputs.
 * @param calib  in: inputs as in tfuse_align, of which the first four samples are taken, of sequences their first 16 tokens; each model normalises
 *               images as its own preprocessor says. NULL: random ones.
 * Errors: those of tfuse_selfcheck; TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ERANGE when the inputs do not fit.
 */
TFUSE_API tfuse_status tfuse_selfcheck_on(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                          const tfuse_model *const *models, size_t n_models, const tfuse_array *calib, char **report);

/**
 * The same into memory.
 * @param fused  out: a sealed model with tensors of its own, the anchor's config, and the anchor's preprocessor_config.json where that lies; release with
 *               tfuse_model_free.
 */
TFUSE_API tfuse_status tfuse_fuse_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                        const tfuse_model *const *models, size_t n_models, tfuse_model **fused);

/**
 * Where fused tensors go when they stay in the caller's hands: buffers of a framework, a device, a format of its own. Both functions are called on the
 * calling thread, tensor by tensor in order of names; strings and shapes are borrowed for the call.
 */
typedef struct tfuse_sink {
    size_t struct_size;
    void *user; /**< first argument of both */
    /** Memory for a tensor's elements, tensor->size bytes, row-major, of tensor->dtype (io.dtype), any alignment; tensor->data is NULL. It must overlap
     * no tensor of the models, which are still read, and be free for use until `done`. NULL ends the call with TFUSE_ECALLBACK. */
    void *(*place)(void *user, const tfuse_tensor_info *tensor);
    /** The tensor is complete, at tensor->data; the memory may be used for the next. Anything but 0 ends the call with TFUSE_ECALLBACK. May be NULL. */
    int32_t (*done)(void *user, const tfuse_tensor_info *tensor);
} tfuse_sink;

/** What a run reads and writes, by path. Zero the struct and set its size. */
typedef struct tfuse_run_paths {
    size_t struct_size;        /**< sizeof(tfuse_run_paths) */
    const char *const *models; /**< the anchor first */
    size_t n_models;
    const char *calib;         /**< calibration inputs; NULL: none */
    const char *plan;          /**< a plan to apply in place of aligning; NULL: none */
    const char *save_plan;     /**< where the plan goes too; NULL: nowhere */
    const char *out;           /**< where the fused checkpoint goes; NULL: nothing is checked about it */
} tfuse_run_paths;

/**
 * Looks at a run without doing it: opens the models, builds and pairs their graphs, and adds up arrays. No weight is looked at and nothing
 * is written. A model may be a config.json alone: sizes are then of the weights that it describes, in its dtype, and the log has a warning.
 * @param policy  in: as for the run; NULL: defaults.
 * @param paths   in: borrowed for the call.
 * @param report  out: JSON, release with tfuse_string_free: {"problems": [every problem that headers show, one line each],
 *                "peak_bytes", "read_bytes", "write_bytes"}. peak_bytes is the most anonymous memory that the run holds, on this context's
 *                threads: arrays of the library's, models open, 3 MiB for libraries' own pages and what malloc keeps, 1 MiB a thread for
 *                buffers of BLIS; mapped files do not count. read_bytes counts every file once, write_bytes a saved plan as if it could
 *                not be compressed. A number that problems hide is null.
 * Problems are no error: the status is TFUSE_OK. Errors: TFUSE_EINVAL, TFUSE_EVERSION (paths), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *paths, char **report);

#ifdef __cplusplus
}
#endif
#endif
