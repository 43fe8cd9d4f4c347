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
 * @param out     in: path of the directory; an existing one is refused unless io.force is 1.
 * Errors: TFUSE_EEXIST, TFUSE_EIO, TFUSE_EGRAPH (another graph than the plan's), TFUSE_EINVAL (combine.weights that do not fit),
 * TFUSE_ENUMERIC, TFUSE_ECANCELLED, TFUSE_ENOMEM, TFUSE_ENOTFOUND (a pass of the plan that this library has not), and those of
 * tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_fuse(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                  const tfuse_model *const *models, size_t n_models, const char *out);

/**
 * The same into memory.
 * @param fused  out: a sealed model with tensors of its own the anchor's config, and its preprocessor_config.json where it lies; release with tfuse_model_free.
 */
TFUSE_API tfuse_status tfuse_fuse_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                        const tfuse_model *const *models, size_t n_models, tfuse_model **fused);

#ifdef __cplusplus
}
#endif
#endif
