/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/statistics.h: statistics of values that the caller computes: a training framework hands over the activations that pass through
 * its hands anyway, and no model is run twice.
 *
 *     tfuse_stats_new                      what does this policy want to see of these models?
 *     tfuse_stats_count, tfuse_stats_want  the values, by model and name
 *     { tfuse_stats_feed for each of them, on the same samples; tfuse_stats_step } for each batch
 *     tfuse_stats_rewind and the same batches again, where tfuse_stats_sweeps says 2
 *     tfuse_align_stats                    as tfuse_align does with calibration inputs
 *
 * Values are those of the models' graphs (tfuse inspect prints their names). Sums are kept in float64 about the mean of the first batch, so that memory does
 * not grow with samples; the plan is that of tfuse_align on the same samples, but for rounding.
 *
 * An object of this kind belongs to the context that made it, and is used by one thread at a time.
 */
#ifndef TFUSE_STATISTICS_H
#define TFUSE_STATISTICS_H

#include <tfuse/array.h>
#include <tfuse/model.h>
#include <tfuse/plan.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_stats tfuse_stats;

/** One value that must be fed. */
typedef struct tfuse_stat_want {
    size_t struct_size;
    size_t model;      /**< index of the model: 0 is the anchor */
    const char *value; /**< its name in the model's graph; borrowed from the statistics */
    int64_t tokens;    /**< rows of one sample, class token included; 1 where it has none; 0: as many as each batch has */
    int64_t units;     /**< numbers in a row */
} tfuse_stat_want;

/**
 * What an alignment wants to see. Only tensors' names and shapes are looked at: weights may go on changing until tfuse_align_stats.
 * @param policy    in: as for tfuse_align; NULL: defaults. Borrowed for the call.
 * @param models    in: n_models sealed models, the anchor first; at least two. They must live until tfuse_stats_free.
 * @param out       out: release with tfuse_stats_free.
 * Errors: TFUSE_EGRAPH (models that do not pair), TFUSE_EKEY, TFUSE_EINVAL, TFUSE_ESTATE, TFUSE_ENOMEM, and those of tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_stats_new(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *const *models,
                                       size_t n_models, tfuse_stats **out);

/** Number of values that each step needs; 0 where the policy looks at weights alone. */
TFUSE_API size_t tfuse_stats_count(const tfuse_stats *stats);
/** The index-th of them, index in 0..count-1; set want->struct_size before. Errors: TFUSE_ERANGE, TFUSE_EINVAL. */
TFUSE_API tfuse_status tfuse_stats_want(const tfuse_stats *stats, size_t index, tfuse_stat_want *want);
/** 1, or 2 where deviations from the final means are wanted (otfusion.compat=1 with residual=scalar or matrix): all batches must then be fed twice. */
TFUSE_API int32_t tfuse_stats_sweeps(const tfuse_stats *stats);

/**
 * One value of one model on the batch that is under way.
 * @param model  in: index of the model.
 * @param value  in: name.
 * @param batch  in: samples × tokens × units (any shape whose first extent is the samples and whose product fits), F32, F16, BF16 or
 *               F64; copied as float32, row-major.
 * Errors: TFUSE_ENOTFOUND (a value that is not wanted), TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ERANGE (no such model), TFUSE_ESTATE (fed already, or no more
 * is taken), TFUSE_ENOMEM. After an error the value is not fed, and may be.
 */
TFUSE_API tfuse_status tfuse_stats_feed(tfuse_ctx *ctx, tfuse_stats *stats, size_t model, const char *value,
                                        const tfuse_array *batch);
/**
 * Adds the batch: every wanted value of every model has been fed, on the same number of samples.
 * Errors: TFUSE_ESTATE (names a value that is missing) and TFUSE_ESHAPE (another number of samples) lose nothing;
 * TFUSE_ENUMERIC (NaN or infinity; names the value), TFUSE_ECANCELLED and TFUSE_ENOMEM end the statistics: begin anew.
 */
TFUSE_API tfuse_status tfuse_stats_step(tfuse_ctx *ctx, tfuse_stats *stats);
/** Begins the second sweep. Errors: TFUSE_ESTATE (there is none, or values are fed that no step has added). */
TFUSE_API tfuse_status tfuse_stats_rewind(tfuse_ctx *ctx, tfuse_stats *stats);

/**
 * tfuse_align with these statistics in place of calibration inputs. May be called again, with another solver or metric; the statistics take no
 * more values after the first call.
 * The models are those that the statistics were made for, with the weights that they have now.
 * @param policy  in: one that wants nothing that the statistics lack; NULL: defaults.
 * @param out     out: release with tfuse_plan_free.
 * Errors: as tfuse_align, and TFUSE_ESTATE (sweeps that are not complete, or a policy that wants more).
 */
TFUSE_API tfuse_status tfuse_align_stats(tfuse_ctx *ctx, const tfuse_policy *policy, tfuse_stats *stats, tfuse_plan **out);

/** Before the context's own release. NULL is allowed. */
TFUSE_API void tfuse_stats_free(tfuse_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
