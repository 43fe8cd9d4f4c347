/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/run.h: running a model on inputs, in float32, batched, in bounded memory.
 *
 * Inputs: uint8 images N×H×W or N×C×H×W, rescaled and normalised by the model's preprocessor_config.json (without one divided by 255, and
 * the log warns) and never resized; floats as they are; integers are token ids.
 */
#ifndef TFUSE_RUN_H
#define TFUSE_RUN_H

#include <tfuse/array.h>
#include <tfuse/graph.h>
#include <tfuse/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Result of tfuse_eval. */
typedef struct tfuse_score {
    size_t struct_size;
    int64_t n;       /**< samples that were run */
    int64_t scored;  /**< labels that are not -100 */
    int64_t correct; /**< scored ones whose largest logit (the first on a tie) is the label's */
    double loss;     /**< mean cross-entropy over the scored ones, nats; NaN without labels */
} tfuse_score;

/**
 * Accuracy and mean loss.
 * @param graph   in: NULL: inferred from the model.
 * @param inputs  in.
 * @param labels  in: integers, one for each prediction (sample, or token of one); -100 is ignored. NULL: a causal language model is scored on its
 *                 next tokens, another model's samples are only run; scored is 0 and loss NaN.
 * @param limit   in: the first so many samples; 0 for all.
 * @param score   in, out: set struct_size before.
 * Errors: TFUSE_ESHAPE (inputs that do not fit), TFUSE_ERANGE (a label that is no class, a negative limit), TFUSE_ENUMERIC, TFUSE_ECANCELLED, TFUSE_ENOMEM, and
 * those of tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_eval(tfuse_ctx *ctx, const tfuse_model *model, const tfuse_graph *graph,
                                  const tfuse_array *inputs, const tfuse_array *labels, int64_t limit,
                                  tfuse_score *score);

/**
 * Outputs (logits), float32, samples first.
 * @param out  out: release with tfuse_array_free.
 * Errors: as tfuse_eval.
 */
TFUSE_API tfuse_status tfuse_run(tfuse_ctx *ctx, const tfuse_model *model, const tfuse_graph *graph,
                                 const tfuse_array *inputs, int64_t limit, tfuse_array **out);

#ifdef __cplusplus
}
#endif
#endif
