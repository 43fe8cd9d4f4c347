/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/plan.h: aligning models, and the plan that results: maps, and where each applies.
 *
 * A map carries the units of one model's axis (n of them) onto the anchor's (m). Its coupling P is n × m with mass; on the side that is produced a
 * weight becomes diag(1 / column sums) P' W, on the side that is consumed W diag(1 / row sums) P:
 * for a permutation that is the permutation and its inverse.
 */
#ifndef TFUSE_PLAN_H
#define TFUSE_PLAN_H

#include <tfuse/array.h>
#include <tfuse/graph.h>
#include <tfuse/model.h>
#include <tfuse/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_plan tfuse_plan;

/**
 * Aligns models to the first one, the anchor.
 * @param policy  in: align.*, matching.*, otfusion.*, solver.*, calib.*, run.*.
 * @param models  in: n_models sealed models, the anchor first; at least two. Borrowed for the call.
 * @param calib   in: calibration inputs (tfuse/run.h); NULL: none, or what causal language models generate (tfuse_generate). The first calib.samples
 *                are used, of generated ones all unless that is set.
 * @param out     out: release with tfuse_plan_free. It keeps nothing of the models.
 * Errors: TFUSE_EGRAPH (models that do not pair; the text names the axis or node), TFUSE_EINVAL (a method that needs calibration
 * and has none), TFUSE_ESHAPE, TFUSE_ENUMERIC, TFUSE_EKEY, TFUSE_ECONVERGE, TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_align(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *const *models,
                                   size_t n_models, const tfuse_array *calib, tfuse_plan **out);

/**
 * Calibration inputs that causal language models draw from themselves, by their own probabilities, in turn: what tfuse_align and tfuse_repair_new make
 * when calib is NULL. To make them once for both calls, give them the array, with calib.samples at least their number.
 * @param policy  in: calib.generate sequences of calib.length tokens, run.seed; unless calib.generate is set, whether any (that key's help).
 * @param plan    in: that they will be used with; NULL: the models will be aligned.
 * @param models  in: as in tfuse_align, borrowed for the call.
 * @param out     out: sequences × tokens, int32, release with tfuse_array_free; NULL when by the policy nothing is generated. Equal seeds give equal
 *                ones, for any number of threads. Each starts with the config's bos_token_id, without one with a token drawn from all alike.
 * Cost: about one pass of one model over all tokens; its weights in float32 are held.
 * Errors: TFUSE_EUNSUPPORTED (calib.generate is set, but a model is no causal language model), TFUSE_ENUMERIC (outputs that are not finite),
 * TFUSE_ERANGE (run.memory), TFUSE_ECANCELLED, TFUSE_ENOMEM, and those of tfuse_graph_infer and of pairing in tfuse_align.
 */
TFUSE_API tfuse_status tfuse_generate(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                      size_t n_models, tfuse_array **out);

/** Writes a plan (docs/plan-format.md), in one step. `force` replaces an existing file. Errors: TFUSE_EEXIST, TFUSE_EIO, TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_plan_save(tfuse_ctx *ctx, const tfuse_plan *plan, const char *path, int32_t force);
/** Reads a plan. Errors: TFUSE_EIO, TFUSE_EFORMAT, TFUSE_ECORRUPT (checksum), TFUSE_EVERSION, TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_plan_load(tfuse_ctx *ctx, const char *path, tfuse_plan **out);

/** One map of a plan. Strings are borrowed from the plan. */
typedef struct tfuse_map_info {
    size_t struct_size;
    const char *name;      /**< where it arises: "layer.0/fc1", "layer.0/residual1" */
    const char *axis;      /**< axes that it acts on: "layer.0/ffn", "layer.0/heads*layer.0/qk" */
    const char *kind;      /**< identity, permutation, coupling, block; scaled, orthogonal, linear under matching and of gauge, between unequal extents
                            * selection, rectangular, the latter under matching.coupling=sinkhorn too; raw under otfusion.compat=1 */
    int64_t model;         /**< index of the model that it moves: 1, 2, ... */
    int64_t n, m;          /**< units of the model, units of the anchor */
    double cost;           /**< of the transport problem, mass one; NaN where none was solved (joins) */
    double gap;            /**< certified gap of an exact solve; NaN otherwise */
    double error;          /**< L1 deviation of the marginals */
    double identity;       /**< mass that is off the diagonal, 0 to 1; NaN when n != m */
    double entropy;        /**< exp of the mean entropy of a column's shares: 1 for a permutation */
    int64_t iterations;
    int32_t converged;
    int64_t heads_n, heads_m; /**< heads of the model and of the anchor, whose units lie head by head; 0 where units are in no heads */
    double correlation;    /**< matched correlation: of the anchor's units with those that they receive, by what the cost was made of (since 0.2).
                            * otfusion: the mean over the anchor's units of sum_i T_ij r_ij, r_ij being the correlation of two units' features
                            * (centred where they are: z-scored and centred activations), and the T_ij of a unit summing to one. matching:
                            * <A, R B> / (|A| |B|) over all tensors and values that the axis is matched by, weighted as in the objective, which is
                            * 1 less the cost. NaN: nothing was compared */
    double kept;           /**< variance kept: 1 - |B - B~|^2 / |B|^2 over the model's weights on the axis (in the form of the plan's passes), B~ being
                            * what is left of B when it is carried to the anchor by the one side of the map and back by the other (since 0.2). It
                            * is the part of the units' variance that survives for inputs that are white, as norms leave them nearly. Of wide
                            * tensors 256 columns count, evenly spread. 1 for maps that lose nothing, by their kind; below 0 where a map distorts
                            * more than it keeps. NaN: it moves nothing that counts */
} tfuse_map_info;

TFUSE_API size_t tfuse_plan_count(const tfuse_plan *plan);
/** Fills min(info->struct_size, ours) bytes; set info->struct_size before. Errors: TFUSE_ERANGE. */
TFUSE_API tfuse_status tfuse_plan_map(const tfuse_plan *plan, size_t index, tfuse_map_info *info);
/**
 * A map as an n × m float32 array T whose columns say what each unit of the anchor receives; they sum to one, but for a raw map's, which
 * acts as it is. Release with tfuse_array_free. Errors: TFUSE_ERANGE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_plan_matrix(tfuse_ctx *ctx, const tfuse_plan *plan, size_t index, tfuse_array **out);

/** The plan as one JSON object: {"strategy", "exact" (each model carried alone computes what it did), "carries" (every axis has one map), "policy",
 * "objective": for each model the strategy's objective after each round (matching: the mean correlation of what is matched),
 * "models": [{"name", "graph", "header", "weights"}], "passes", "maps": [...], "table": [...], "owners" and "repair": what tfuse_repair_report told
 * where the plan was saved by tfuse_plan_save_repaired, else [] and null}; tfuse_string_free. A map of heads
 * has "heads": for each head of the anchor the shares that each head of the model has in it. */
TFUSE_API tfuse_status tfuse_plan_report(tfuse_ctx *ctx, const tfuse_plan *plan, char **out);

/**
 * Draws a random member of a model's symmetry group (gauge.stream, run.seed) as a plan of two models, the model twice, that carries the second onto
 * other coordinates: tfuse_fuse with {model, model} and combine.weights=0,1 gives the same function with moved weights. What may
 * move comes from what the graph's operations permit: orthogonal maps of the stream (fixing the ones vector under LayerNorm), heads, inner
 * maps of condition number at most 10, hidden units. Equal seeds give equal maps. Needs LAPACK (TFUSE_EUNSUPPORTED without).
 * @param policy  in: NULL for defaults.
 * @param out     out: release with tfuse_plan_free.
 * Thread-safety: as of every call on ctx; the model may be shared.
 * Errors: TFUSE_EGRAPH, TFUSE_EINVAL, TFUSE_ENUMERIC, TFUSE_ENOMEM, and those of tfuse_graph_infer.
 */
TFUSE_API tfuse_status tfuse_gauge(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, tfuse_plan **out);

TFUSE_API void tfuse_plan_free(tfuse_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
