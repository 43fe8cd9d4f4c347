/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/moe.h: a dense model split into a mixture of experts, and back.
 */
#ifndef TFUSE_MOE_H
#define TFUSE_MOE_H

#include <tfuse/array.h>
#include <tfuse/fuse.h>
#include <tfuse/model.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Splits every feed-forward network of a dense model into moe.experts experts of equal size, of which each token goes to moe.top_k (emergent
 * mixtures of experts: Qiu et al., NAACL 2024), and writes a checkpoint. FFNs are found in the graph: two linears with a function between, one
 * axis in and out, gated or not.
 *
 * Hidden units are clustered by their keys, the rows of the first linear (of the gate) scaled to length one: a k-means whose assignment is the
 * exact optimal transport from n units of mass 1/n to E centres of mass 1/E (moe.starts starts by run.seed), improved by exchanges of two units
 * where n is at most 4096. An expert's row of the router is the mean of its keys as they are. With D_e, h_e an expert's columns and hidden units
 *     y = sum over the moe.top_k experts e with the largest mean(K_e) x of D_e h_e(x) + b,
 * which is the dense output when moe.top_k is moe.experts.
 *
 * moe.layout says what is written. emoe, for any model: the authors' layouts, with n_expert and topk in config.json. A gated FFN keeps its tensors,
 * units in the experts' order, so the dense model's framework loads the checkpoint as the dense model; a plain one is stored as Tutel's experts.
 * mixtral, qwen2_moe, qwen3_moe: checkpoints that transformers loads as such, for models whose graph is theirs but for the FFNs (Llama, Mistral and
 * Phi-3 as mixtral; Qwen2 and Llama as qwen2_moe; Qwen3 as qwen3_moe). These weigh experts by a softmax of the logits: the second linears are
 * multiplied by what undoes equal weights (moe.top_k, or moe.experts where the softmax is over all), and the router by a power of two that makes the
 * weights equal to about one part in 2^8 and keeps the choice to one part in 2^16 of the logits' spread; with moe.top_k = moe.experts they are equal,
 * and with moe.top_k = 1 under mixtral one.
 *
 * moe.split=contiguous and random write those splits in place of the clusters, as controls. Beside config.json lies tfuse_moe.json with the units'
 * order and the dense model's config, for tfuse_moe_dense.
 * @param policy  in: moe.*, run.seed, calib.samples, io.*, run.memory, fuse.selfcheck (every expert chosen, the split model runs beside the dense
 *                one on a few random inputs before anything is written). moe.experts and moe.top_k have no default.
 * @param model   in: dense, with weights; borrowed for the call.
 * @param calib   in: inputs as in tfuse_align for the report's errors; NULL: none.
 * @param out     in: path of the directory, which appears whole or not at all; an existing one is refused unless io.force is 1.
 * @param report  out: JSON, release with tfuse_string_free: {"layout", "split", "experts", "top_k", "weights": "one", "equal" or "nearly equal",
 *                "selfcheck": largest difference over the largest output, or null, "spread", "error", "output_error", "ffns": [{"name", "units",
 *                "iterations", "swaps", "spread", "error"}]}. spread, error and output_error are {"clustered", "contiguous", "random"}: the clusters
 *                beside runs of units as they lie and in a random order. spread: mean squared distance of a key of length one to its expert's centre
 *                (of the whole: the mean over FFNs). error: squared error of the routed output on the dense model's own values over the square of
 *                the dense output, output_error that of the whole model's output; null without calib.
 * Errors: TFUSE_EINVAL (moe.experts or moe.top_k not given, top_k above experts), TFUSE_ESHAPE (hidden units that cannot be cut so),
 * TFUSE_EUNSUPPORTED (no FFN, a mixture of experts already, or a layout that cannot say what the model computes, naming the node), TFUSE_EKEY
 * (moe.layout), TFUSE_ENUMERIC (the self-check), TFUSE_ERANGE (run.memory), TFUSE_EEXIST, TFUSE_EIO, TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of
 * tfuse_graph_infer and tfuse_run.
 * Thread-safety: as of every call on ctx; the model may be shared. Equal seeds give equal bytes for any number of threads.
 */
TFUSE_API tfuse_status tfuse_moe(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const tfuse_array *calib, const char *out,
                                 char **report);
/**
 * The same into memory.
 * @param made    out: a sealed model with tensors of its own; release with tfuse_model_free.
 */
TFUSE_API tfuse_status tfuse_moe_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const tfuse_array *calib, tfuse_model **made,
                                       char **report);

/**
 * Joins the experts of a split model into dense FFNs again, and writes a checkpoint with the dense model's config. With the tfuse_moe.json that
 * lies beside a split model's config hidden units go back to their places, and tensors are the dense model's own to the bit but for a second linear
 * or bias that was multiplied by what is no power of two (one rounding); without it (a checkpoint of the authors, or one that was fused since) they
 * stay in the experts' order, and the function is that of all experts together.
 * @param model   in: of the emoe layout, or of another with tfuse_moe.json beside it: the experts of other mixtures are no parts of one network.
 * @param report  out: JSON, release with tfuse_string_free: {"layout", "experts", "top_k", "ffns": how many, "ordered": whether units went back}.
 * Errors: TFUSE_EUNSUPPORTED (a dense model; a mixture that is not known to be a split one), TFUSE_EFORMAT (tfuse_moe.json does not fit the model), and
 * those of tfuse_moe.
 */
TFUSE_API tfuse_status tfuse_moe_dense(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const char *out, char **report);

/**
 * Every problem that tfuse_moe (or with `dense` 1 tfuse_moe_dense) would meet, from headers alone, and what it takes.
 * @param paths   in: one model; calib and out or NULL.
 * @param report  out: as of tfuse_dry_run.
 * Errors: TFUSE_EINVAL, TFUSE_EVERSION, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_moe_dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *paths, int32_t dense, char **report);

#ifdef __cplusplus
}
#endif
#endif
