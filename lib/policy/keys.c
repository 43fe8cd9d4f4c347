/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c: the key table: every option of a policy with its type, bounds, default and a line of
 * explanation. The command, recipes and bindings read the same table, so a key that is not here does not exist.
 * Integers are bounded by 2^53, up to which the table's doubles are exact.
 */
#include "policy/policy.h"

#define MOST 9007199254740992.0

#define CHOICE(key, words, fallback, help) {key, TFUSE_KEY_CHOICE, words, 0, 0, fallback, help}
#define NAME(key, fallback, help) {key, TFUSE_KEY_NAME, NULL, 0, 0, fallback, help}
#define FLAG(key, fallback, help) {key, TFUSE_KEY_FLAG, NULL, 0, 1, fallback, help}
#define INT(key, min, max, fallback, help) {key, TFUSE_KEY_INT, NULL, min, max, fallback, help}
#define REAL(key, min, max, fallback, help) {key, TFUSE_KEY_REAL, NULL, min, max, fallback, help}
#define SET(key, words, fallback, help) {key, TFUSE_KEY_SET, words, 0, 0, fallback, help}
#define REALS(key, min, max, fallback, help) {key, TFUSE_KEY_REALS, NULL, min, max, fallback, help}

const tf_key tf_keys[] = {
    CHOICE("align.strategy", "matching | otfusion | none", "matching",
           "how units are aligned: the transport of Imfeld et al. 2024, one map an axis that keeps the function, or not at all"),
    CHOICE("align.control", "none | half-anchor | uniform | random", "none",
           "a baseline in place of the maps: the others times 0, uniform couplings, random permutations"),
    NAME("solver.name", "exact", "the transport solver: exact, sinkhorn, sinkhorn-scaling, or a registered name"),
    REAL("solver.reg", 1e-30, 1e30, "0.05", "sinkhorn's entropic regulariser, absolute; in aligning, of the normalised costs"),
    FLAG("solver.strict", "0", "1: a solver that does not converge is an error"),
    INT("solver.max_iterations", 0, MOST, "0", "most iterations of a solver; 0: the solver's own limit"),
    REAL("solver.tolerance", 0, 1, "0", "wanted L1 error of the marginals; 0: the solver's own"),
    CHOICE("otfusion.cost", "auto | activations | weights", "auto",
           "what units are compared by; auto: activations if calibration inputs are given, else weights"),
    CHOICE("otfusion.metric", "euclidean | sqeuclidean | cosine", "euclidean", "distance between two units"),
    CHOICE("otfusion.normalise", "max | mean | median | none", "max", "statistic that a cost matrix is divided by"),
    CHOICE("otfusion.standardise", "unit | centre | norm | none", "unit",
           "activations before they are compared: z-score of each unit, centred, scaled to length one, as they are"),
    CHOICE("otfusion.residual", "mean | scalar | matrix | branch | skip | identity", "mean",
           "how an addition combines the maps of its inputs"),
    CHOICE("otfusion.qk", "separate | common", "separate", "one map for queries and one for keys, or one for both"),
    CHOICE("otfusion.heads", "cross | within", "cross", "whether a unit may move to another attention head"),
    NAME("otfusion.tokens", "all",
         "tokens whose activations count: all, class, or windowN (the class token and the centre N x N)"),
    FLAG("otfusion.compat", "0", "1: compute what the authors' published code computes, its deviations included"),
    CHOICE("matching.use", "auto | both | weights | activations", "auto",
           "what axes are matched by; auto: both if calibration inputs are given, else weights"),
    CHOICE("matching.stream", "orthogonal | permutation | none", "orthogonal",
           "maps of the residual stream; orthogonal: where its norms permit rotations, else as permutation"),
    CHOICE("matching.inner", "procrustes | permutation | none", "procrustes",
           "maps inside heads: the best rotation that attention permits, a permutation, or none"),
    INT("matching.rows", 0, MOST, "16384",
        "rows (samples × tokens) over which activations are compared; of more calibration inputs some, evenly spread, are used for that; 0: all"),
    INT("matching.rounds", 1, 1000, "1", "most sweeps over all axes; they end before when nothing is gained; each costs what the first does"),
    INT("matching.starts", 1, 1000, "1",
        "ascents, of which the best is kept: from the stream's own evidence, from the models' own coordinates, then from random streams by run.seed"),
    FLAG("matching.merge", "1", "onto fewer hidden units: those left over are added to the ones that they are most like (1) or dropped (0)"),
    CHOICE("matching.coupling", "exact | sinkhorn", "exact",
           "hidden units in the end: assigned one to one, or shared by sinkhorn's couplings of solver.reg, which keep the function no more"),
    FLAG("matching.unshrink", "1", "means of units that are shared are scaled to the length of their units (1) or left as short as they come out (0)"),
    FLAG("matching.mean", "1", "more than two models: each is matched to the mean of all others in turn (1) or to the anchor alone (0)"),
    CHOICE("gauge.stream", "orthogonal | permutation | none", "orthogonal",
           "what gauge does to the residual stream; orthogonal: in the canonical form; the others keep norm gains"),
    CHOICE("combine.method", "linear", "linear", "how aligned weights are combined: linear, their weighted sum"),
    REALS("combine.weights", -1e30, 1e30, "equal", "one weight a model, the anchor's first, or equal"),
    SET("repair", "auto | none | mix | circuits | select | regmean | refit | statistics | head", "auto",
        "what is fitted, a list; auto, where the maps keep the functions: mix,select,refit,head with calibration inputs, circuits without"),
    REAL("repair.ridge", 0, 1e6, "0", "strength of the ridge in units of the inputs' mean square; 0: the best on held-out samples"),
    REAL("repair.lead", 0.5, 1, "0.8",
         "under mix, share of a leading model in what is fitted before the last linear; half of the way to 1 is tried too; 1: it alone, a control"),
    FLAG("repair.alone", "1",
         "under mix and head, each model alone, its last linear fitted to the ensemble, is tried too, and taken where it is nearest; 0: always a mix"),
    REAL("repair.class_tokens", 1e-6, 1e6, "10", "weight of class tokens in every fit, other tokens' being 1"),
    INT("moe.experts", 0, 65536, "0", "experts that moe cuts every feed-forward network into; there is no default"),
    INT("moe.top_k", 0, 65536, "0", "experts that each token goes to; there is no default"),
    NAME("moe.layout", "emoe", "what moe writes: emoe, for any model, or the model_type of a mixture of experts that transformers has"),
    CHOICE("moe.split", "clustered | contiguous | random", "clustered",
           "which hidden units make an expert; all but the first are controls: runs of units as they lie, or in a random order"),
    INT("moe.starts", 1, 1000, "4", "starts of the clustering of keys; the tightest is kept"),
    FLAG("fuse.selfcheck", "1",
         "1: before anything is written each model's canonical and aligned form runs beside the model as it is; 0: not"),
    INT("calib.samples", 1, MOST, "200", "how many calibration inputs are used, from the first on"),
    INT("calib.generate", 0, 1 << 20, "128",
        "where none are given, how many sequences causal language models draw from themselves as calibration inputs; 0: none. Unless it is set, "
        "only under matching and repair, and where 2 x parameters x tokens is at most 3e11"),
    INT("calib.length", 2, 1 << 20, "64", "tokens of each, or fewer where the models take no more"),
    INT("run.seed", 0, MOST, "0", "seed of everything random"),
    INT("run.batch", 0, MOST, "0", "inputs a batch of the evaluator; 0: by memory"),
    INT("run.memory", 0, MOST, "0",
        "most bytes of memory, K, M or G behind the number; 0: no limit; too few for the work are refused before it starts"),
    CHOICE("io.dtype", "keep | F32 | F16 | BF16", "keep", "type of floating-point tensors in the output"),
    INT("io.shard_size", 0, MOST, "0", "most bytes of tensors in one output file; 0: one file"),
    CHOICE("io.extra", "error | copy", "error", "tensors that the architecture does not know: refused, or the anchor's copied"),
    FLAG("io.force", "0", "1: an existing output is replaced"),
};

const size_t tf_key_count = TF_LEN(tf_keys);
