/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/repair.h: weights of the fused network fitted on calibration inputs, without labels and without gradients.
 */
#ifndef TFUSE_REPAIR_H
#define TFUSE_REPAIR_H

#include <tfuse/array.h>
#include <tfuse/fuse.h>
#include <tfuse/model.h>
#include <tfuse/plan.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Fitted weights, for the models and the plan that they were made from. May be read from several threads at once. */
typedef struct tfuse_repair tfuse_repair;

/**
 * Walks the fused network from its input to its output, and fits each linear on the network's own inputs X to what the parents give there, carried to
 * the anchor's coordinates: W = (Y'X + rho W0)(X'X + rho)^-1 with W0 the combined weights and Y the parents' mean outputs; of a linear that
 * writes to the residual stream Y is the parents' mean stream after it less the network's own before it, so that errors are carried along and made
 * good. rho is chosen on every fifth sample, left out for that. Stages, of the key `repair`, always in this order:
 * mix (the parents' mean, or one parent that leads with the share repair.lead, or half of the way from there to all, or, unless repair.alone is 0, any
 * parent alone: whichever brings held-out samples nearest to the ensemble; for one alone select, regmean and refit have nothing to do where its maps lose
 * nothing, and the report's stages are without them),
 * circuits (the products Q'K and O V of aligned heads averaged, and cut back to the width of a head by their singular values, weighted by the second
 * moments of their inputs where there are samples; needs no calibration),
 * select (heads, unless circuits took them, and hidden units chosen from all parents by the energy that a ridge on them explains, in place of averages),
 * regmean (Jin et al. 2023), refit (every linear but the last), statistics (Jordan et al. 2023), head (the last linear, to the mean of the logits).
 * @param policy  in: repair, repair.*, calib.samples, combine.weights; NULL: defaults (repair=auto: where the plan's maps keep the models' functions,
 *                mix, select, refit and head with calibration, and without it circuits, but for rotary positions; otherwise nothing).
 * @param plan    in: must be exact (maps that keep the functions, such as those of align.strategy=matching) for any stage.
 * @param models  in: as in tfuse_align, borrowed for the call.
 * @param calib   in: unlabelled inputs as in tfuse_align; NULL: none, or what the models generate, as there.
 * @param out     out: release with tfuse_repair_free. It holds the fused network's fitted tensors in float32.
 * Memory while it runs: the live activations of calib.samples samples for each parent and the fused network, which go to files without a name under
 * /var/tmp when run.memory bounds it, and three Grams of the widest linear.
 * Errors: TFUSE_EINVAL (stages without calibration, or with a plan that is not exact), TFUSE_EKEY (an unknown stage), TFUSE_EUNSUPPORTED (a graph without
 * output), TFUSE_ENUMERIC (values that become NaN or infinite), TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_align and tfuse_fuse.
 */
TFUSE_API tfuse_status tfuse_repair_new(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                        size_t n_models, const tfuse_array *calib, tfuse_repair **out);
/**
 * What was done: JSON, owned by the handle: {"stages": [names], "samples", "mix": the share of each
 * parent, "mixes": [{"lead": parent, "share": its (both null: all by their weights), "kl": how far the network of that mix is from the ensemble on
 * held-out samples, in nats}] of all that were tried, "kl_refit": as kl_fused, but before the last linear is fitted (null where it is not),
 * "kl_fused", "kl_anchor": mean Kullback-Leibler divergence (nats) of the fused network and of the anchor alone from the ensemble, whose logits are
 * the parents' mean (null without samples); "worse": whether the fused network is the farther one, by more than 1e-4; "circuits": [{"name", "circuit",
 * "kept": share of the squared singular values, "dropped": singular values left out over the largest, mean over heads}]; "linears": [{"name",
 * "ridge" (null: nothing was better than what was there by 1e-5 of the target's square, to which errors are known), "before", "after": squared error
 * on held-out samples over the target's square}],
 * "selected": [{"axis", "units": how many of each parent}], "owners": [{"axis", "model": [...], "unit": [...]}]: of each unit of a selected axis the model
 * that it came from, the anchor being 0, and which unit it was there (-1: a mix of several, as between unequal widths)}. {"stages": []} when nothing was
 * asked for. NULL: NULL.
 */
TFUSE_API const char *tfuse_repair_report(const tfuse_repair *repair);
TFUSE_API void tfuse_repair_free(tfuse_repair *repair);

/**
 * tfuse_plan_save, and with it what the repair told: whose the units are that it selected ("owners"), and the rest of its report ("repair"), both of
 * which tfuse_plan_report then shows. Applying a plan does not look at them. repair NULL, or one that did nothing: what the plan holds is kept. Since
 * 0.2. Errors: as tfuse_plan_save.
 */
TFUSE_API tfuse_status tfuse_plan_save_repaired(tfuse_ctx *ctx, const tfuse_plan *plan, const tfuse_repair *repair, const char *path, int32_t force);

/**
 * tfuse_fuse and tfuse_fuse_model with the fitted weights in place of the combined ones. The policy's combine.weights hold for tensors that
 * were not fitted. Errors: also TFUSE_EGRAPH when the fitted weights are of another graph. repair NULL: none.
 */
TFUSE_API tfuse_status tfuse_fuse_repaired(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                           size_t n_models, const tfuse_repair *repair, const char *out);
TFUSE_API tfuse_status tfuse_fuse_model_repaired(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                                                 const tfuse_model *const *models, size_t n_models, const tfuse_repair *repair,
                                                 tfuse_model **fused);

/**
 * Fuses into memory of the caller's, one tensor at a time: at no time more than one is held besides. Before the first one each model is held to the plan
 * as by tfuse_fuse (fuse.selfcheck). The names, shapes and config are the anchor's.
 * @param repair  in: NULL: none.
 * @param sink    in: where each tensor goes; copied.
 * Errors: as tfuse_fuse_repaired without those of files; TFUSE_EINVAL (a table without `place`, a buffer that overlaps a model's tensor, which is
 * named), TFUSE_EVERSION, TFUSE_ECALLBACK. After an error what `done` has not seen may be half written.
 */
TFUSE_API tfuse_status tfuse_fuse_into(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                       size_t n_models, const tfuse_repair *repair, const tfuse_sink *sink);

#ifdef __cplusplus
}
#endif
#endif
