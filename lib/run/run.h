/* SPDX-License-Identifier: Apache-2.0
 *
 * run.h: the evaluator, and the statistics that it gathers.
 */
#ifndef TF_RUN_RUN_H
#define TF_RUN_RUN_H

#include "graph/op.h"
#include "graph/view.h"
#include "num/array.h"

/* ---- inputs (inputs.c) ------------------------------------------------------------------------
 * Inputs of one model, checked against its graph's input (shape, type, channels, range of ids) before anything runs: uint8 images N×H×W or
 * N×C×H×W are rescaled and normalised by the model's preprocessor_config.json, floats N×C×H×W (or N×H×W when C is 1) are
 * taken as they are, integers are token ids. Never resized. */
enum { TF_MAX_INPUTS = 4 };
typedef struct tf_inputs {
    const tfuse_array *array; /* borrowed */
    int64_t n;                /* samples taken: the first ones */
    int64_t total;            /* samples that the array holds */
    int64_t sample;           /* elements of one */
    int rank;                 /* of one sample, as the graph sees it */
    int64_t extent[TF_MAX_DIMS];
    bool integer;
    /* uint8: value = (float(raw * rescale) - mean[c]) / std[c] in float32, as transformers' image processors compute it */
    double rescale;
    const tfuse_array *side[TF_MAX_INPUTS]; /* of the graph's further inputs; NULL: not given, the default is taken */
    int32_t otherwise[TF_MAX_INPUTS];
    int channels;
    int64_t plane;            /* elements of one channel */
    float mean[16], std[16];
    bool unstated; /* uint8, and nothing says how they are normalised */
} tf_inputs;
/* limit: the first samples only; 0 or less: all. Owns nothing. */
tfuse_status tf_inputs_make(tf_env *env, const tf_graph *g, const tfuse_model *m, const tfuse_array *array, int64_t limit,
                            tf_inputs *out);
/* Warns where pixels are taken as they are for want of a preprocessor_config.json. */
void tf_inputs_warn(tf_env *env, const tfuse_model *m, const tf_inputs *in);
/* Rows of the smallest table that the ids of an input index. */
int64_t tf_inputs_vocabulary(const tf_graph *g, tf_id value);
/* Samples first..first+count-1 as the graph's input number k. */
void tf_inputs_fill(const tf_inputs *in, int k, int64_t first, int64_t count, float *dst);
/* The number of the graph's input that the node is; -1: none. */
int tf_input_number(const tf_graph *g, const tf_node *n);
/* Whether a graph can be run: an output, and every input after the first has a default. */
bool tf_graph_runs(const tf_graph *g);
/* Elements first..first+count-1 of an array of any integer type (not bool); U64 beyond int64 gives INT64_MAX. False: another type. */
bool tf_array_integers(const tfuse_array *a, size_t first, size_t count, int64_t *dst);

/* ---- the evaluator (evaluator.c, schedule.c) -----------------------------------------------------
 * Samples are cut into shards that run independently, each on one thread with buffers of its own. A shard's size follows from the
 * graph alone, shards lie on a fixed grid of sample numbers, and a partial one is padded: a sample's bits depend neither
 * on the number of threads nor on the batch it is in. Buffers are reused as soon as the last reader of a value has run. */
typedef struct tf_evaluator tf_evaluator;
/* Loads the parameters through the view (float32; float32 tensors of a root view that lie in memory are used in place) and plans the buffers.
 * `keep` lists values that are wanted beside the output. */
tfuse_status tf_evaluator_new(tf_env *env, const tf_view *view, const tf_id *keep, size_t n_keep, tf_evaluator **out);
void tf_evaluator_free(tf_evaluator *ev);
/* Plans for the extents of these inputs. tf_evaluator_run does it itself; called before it only where the graph has
 * extents that are known when it runs (length of a sequence) and the functions below are to see them. */
tfuse_status tf_evaluator_prepare(tf_env *env, tf_evaluator *ev, const tf_inputs *in);
/* Elements of one sample of a kept value (or the output). */
int64_t tf_evaluator_size(const tf_evaluator *ev, tf_id value);
/* Samples of a shard: a power of two. */
int64_t tf_evaluator_shard(const tf_evaluator *ev);
/* Bytes that a batch takes for each of its samples, kept values and output: what its size is chosen by. */
size_t tf_evaluator_bytes_per_sample(const tf_evaluator *ev);
/* Runs samples first..first+count-1. dst[k] (of the k-th kept value, count × size floats) and out (count × output size) may be NULL. */
tfuse_status tf_evaluator_run(tf_env *env, tf_evaluator *ev, const tf_inputs *in, int64_t first, int64_t count,
                              float *const *dst, float *out);

/* ---- running without holding the weights (lazy.c) ------------------------------------------------------------------------ */
/* Where weights come from, a tensor at a time; rows of large ones that have_rows says can be made without the rest. */
typedef struct tf_weights {
    void *arg;
    tfuse_status (*whole)(tf_env *env, void *arg, tf_id param, float **x); /* freed by tf_free */
    tfuse_status (*have_rows)(tf_env *env, void *arg, tf_id param, bool *out);
    tfuse_status (*rows)(tf_env *env, void *arg, tf_id param, int64_t first, int64_t n, float *dst);
} tf_weights;
/* Weights of a view; the view is borrowed. */
tf_weights tf_weights_of_view(const tf_view *view);
/* The output of all samples, *count floats freed by tf_free, each node on all of them before the next: for few samples and any model. */
tfuse_status tf_run_lazily(tf_env *env, const tf_graph *g, const tf_weights *weights, const tf_inputs *in, float **out, size_t *count);
/* What that takes, values and one node's weights, given which parameters have rows (n_params). */
tfuse_status tf_run_lazily_bytes(tf_env *env, const tf_graph *g, const bool *has_rows, const int64_t *input, int64_t samples, uint64_t *bytes);

/* Batch size for a budget of memory, at least 1, at most n, whole shards where there is more than one. */
int64_t tf_batch_size(const tf_evaluator *ev, int64_t n, size_t budget);
/* The same from the bytes of a sample (not 0) and a shard's samples. */
int64_t tf_batch_fit(uint64_t sample_bytes, int64_t shard, int64_t n, uint64_t budget);

/* evaluator_bytes.c: what an evaluator takes. */
typedef struct tf_evaluator_cost {
    uint64_t params;         /* bytes of weights */
    uint64_t slab;           /* bytes of a thread's buffer */
    int64_t shard;           /* samples */
    uint64_t sample, output; /* floats of one sample: of the n values, and of the output */
    int64_t tokens;          /* of one sample, of that of the n values which has most */
} tf_evaluator_cost;
/* From the extents of the inputs. values: wanted beside the output. in_place: parameters that are not copied (n_params); NULL: none. */
tfuse_status tf_evaluator_measure(tf_env *env, const tf_graph *g, const bool *in_place, const int64_t *input, const tf_id *values, size_t n,
                                  tf_evaluator_cost *out);

/* ---- scoring (score.c) ------------------------------------------------------------------------------- */
typedef struct tf_score {
    int64_t n, correct;   /* scored rows (label -100 is ignored), and those whose largest logit is the label's (first on ties) */
    double loss_sum;      /* nats, summed in float64 */
    int64_t nonfinite;    /* rows with NaN or infinite logits */
} tf_score;
/* labels: n int64; rows of `classes` logits. loss = log(sum exp(logits)) - logits[label]. A row that is not finite counts as wrong
 * and adds nothing to loss_sum: nonfinite > 0 means that there is no loss. */
void tf_score_add(tf_score *s, const float *logits, int64_t rows, int64_t classes, const int64_t *labels);
/* The first n labels of an array of integers (whether it has as many as the inputs is the caller's to see), checked: 0..classes-1 or
 * -100 (TFUSE_ERANGE naming the index and value). */
tfuse_status tf_labels_make(tf_env *env, const tfuse_array *array, int64_t n, int64_t classes, int64_t **out);

/* Whether the outputs are predictions of the next token: ids in, as many classes as ids, and no token sees a later one. */
bool tf_graph_is_causal(const tf_graph *g);
/* The labels of such a model: each token's next one, -100 for a sample's last. n × tokens, freed by tf_free. */
tfuse_status tf_labels_next(tf_env *env, const tf_inputs *in, int64_t **out);

/* ---- sequences that models draw from themselves (generate.c) ------------------------------------------------------ */
typedef struct tf_generate {
    int64_t n, length;   /* sequences, tokens of each */
    int32_t *ids;        /* sequence i at ids + i * stride: its first token is given, the others are drawn */
    int64_t stride;
    int64_t first, step; /* sequence i is number first + i * step among all: by that its random numbers are counted */
} tf_generate;
/* Draws by the probabilities of a causal model (tf_graph_is_causal). What is drawn depends on the weights, the seed, the first token and the
 * sequence's number alone. TFUSE_ERANGE, TFUSE_EUNSUPPORTED: longer than the model's positions; TFUSE_ENUMERIC: outputs that are not finite. */
tfuse_status tf_generate_run(tf_env *env, const tf_view *view, uint64_t seed, const tf_generate *what);
/* What that holds, weights included. */
tfuse_status tf_generate_bytes(tf_env *env, const tf_graph *g, int64_t n, int64_t length, uint64_t *bytes);

/* ---- statistics (statistics.c) --------------------------------------------------------------------------- */
typedef enum tf_tokens { TF_TOKENS_ALL, TF_TOKENS_CLASS, TF_TOKENS_WINDOW } tf_tokens;
typedef struct tf_token_filter {
    tf_tokens kind;
    int64_t window; /* class token and the centre window × window of the grid */
    int64_t samples; /* so many, spread over all, are enough; 0: all of them */
} tf_token_filter;
/* "all", "class", "window5"; otherwise TFUSE_EKEY. */
tfuse_status tf_token_filter_parse(tf_env *env, const char *text, tf_token_filter *out);
/* Positions in the token dimension of a value that a filter keeps, ascending. A value without class token keeps all, under a window one
 * without grid too; one whose length is known only when it runs keeps all, and *out is NULL and *count 0. Where only the class
 * token reaches the output from there (tf_value_class_only) all but that are dropped under class and window filters. A window wider than
 * the grid is TFUSE_ERANGE. */
tfuse_status tf_token_positions(tf_env *env, const tf_graph *g, tf_id value, const tf_token_filter *filter, bool class_only,
                                int64_t **out, int64_t *count);
/* Padding (padding.c): tokens that the mask among the inputs hides. True for each value that has a row for each token of the inputs. out: n_values. */
tfuse_status tf_value_follows_tokens(tf_env *env, const tf_graph *g, bool **out);
/* Whether the inputs come with a mask, and for samples first..first+count-1 what it says: 1 seen, 0 padding (count × in->sample); without one all are seen. */
bool tf_inputs_are_masked(const tf_graph *g, const tf_inputs *in);
void tf_inputs_seen(const tf_graph *g, const tf_inputs *in, int64_t first, int64_t count, uint8_t *dst);
/* True for each value whose tokens other than the class token cannot reach the output. out: n_values. */
tfuse_status tf_value_class_only(tf_env *env, const tf_graph *g, bool **out);

/* Moments of one value of one model over samples × kept tokens, in float64. */
typedef struct tf_moments {
    int64_t rows, units;
    double *mean;     /* units */
    double *var;      /* units: sum of squared deviations / (rows - 1); 0 for one row */
    double *abs_mean; /* units: mean |x| */
    double *abs_dev;  /* units: mean |x - mean|; NULL unless asked for (second sweep) */
} tf_moments;

typedef struct tf_stat_request {
    const char *value;     /* name; the same in both graphs */
    bool cross;            /* cross-covariance with the anchor's value */
    bool abs_dev;
    const char *plus;      /* NULL, or a second value of as many units: abs_dev is then mean |z(x) + z(y)| of the two standardised values,
                            * z(x) = (x - mean) / (standard deviation + 1e-9); no cross */
    bool whole;            /* keep the filter's tokens even where only the class token reaches the output */
    int64_t self[2];       /* of the anchor's and of the model's units: second moments within each block of so many; 0: none. It divides the units */
} tf_stat_request;

typedef struct tf_stat {
    tf_moments anchor, model;
    double *cross;  /* model units × anchor units: sum of (x - mean)(y - mean)' over rows; NULL if not asked for */
    double *self[2]; /* of the anchor and of the model, units × block: row i has the same sums of unit i with those of its block; NULL if not asked for */
} tf_stat;

typedef struct tf_stats {
    tf_mem mem;
    size_t n;
    tf_stat *items; /* in the order of the requests */
    bool borrowed;  /* what the items hold is a feed's */
} tf_stats;

/* Runs both models on the same inputs in lock-step and accumulates. Memory does not grow with samples. A value that becomes NaN or
 * infinite is TFUSE_ENUMERIC, naming it and the model. Padding does not count; TFUSE_ERANGE where all is. samples: at most, 0 for all;
 * filter->samples may make them fewer. */
tfuse_status tf_stats_gather(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib,
                             int64_t samples, const tf_token_filter *filter, const tf_stat_request *requests, size_t n,
                             tf_stats *out);
void tf_stats_free(tf_stats *s);

/* stats_bytes.c. Wanted values of a batch of both models; rows that are multiplied in float32 at a time, and columns of what comes of it; shards
 * that lie side by side at most where not all samples are wanted. */
enum { TF_STATS_BATCH_BYTES = 64 << 20, TF_STATS_CHUNK_ROWS = 512, TF_STATS_PANEL = 256, TF_STATS_SPREAD = 4 };
/* What a sweep runs: some of the groups into which all samples are cut, evenly spread, each batch by batch. Which samples these are does not depend on
 * the size of the values that are wanted, so that those of a lot and those of all see the same. */
typedef struct tf_stats_batches {
    int64_t samples;      /* of a batch; a group's last may have fewer */
    int64_t group;        /* samples of one; the last may have fewer */
    int64_t all, wanted;  /* groups: the i-th that is wanted is number i × all / wanted */
} tf_stats_batches;
/* From the bytes of one sample's wanted values in both models, the larger shard, the samples, and how many are enough (0: all). */
tf_stats_batches tf_stats_cut(uint64_t sample_bytes, int64_t shard, int64_t n, int64_t enough);
/* Samples whose tokens in that of the requested values which has most amount to `rows`; 0: all of them (rows 0, or there are no more). */
tfuse_status tf_stats_enough(tf_env *env, const tf_view *view, const tfuse_array *calib, int64_t samples, const tf_stat_request *requests, size_t n,
                             int64_t rows, int64_t *out);
/* Numbers of scratch memory that a thread takes: rows of a chunk of both sides, and a panel of products. */
static inline int64_t tf_stats_scratch(int64_t widest) { return (2 * TF_STATS_CHUNK_ROWS + TF_STATS_PANEL) * widest; }
/* What tf_stats_gather would take with these arguments, weights and samples untouched: while it runs, and what `out` keeps. */
tfuse_status tf_stats_bytes(tf_env *env, const tf_view *anchor, const tf_view *model, const tfuse_array *calib, int64_t samples,
                            const tf_token_filter *filter, const tf_stat_request *requests, size_t n, uint64_t *work, uint64_t *kept);

/* ---- values fed by a host (feed.c) ---------------------------------------------------------------------------
 * The same statistics where a host runs the models: for every pair of the anchor and a model k the lists of requests, which
 * name the values that must be fed. A sweep is: values of every model for the same samples, step, and so on; a second one over the same
 * samples after tf_feed_rewind where deviations are wanted. */
typedef struct tf_stat_wants {
    tf_stat_request *items; /* what they point to is borrowed */
    size_t n;
    tf_token_filter filter;
} tf_stat_wants;
typedef struct tf_feed tf_feed;
/* graphs, labels and what wants[1..n_models-1] point to must live as long as the feed. */
tfuse_status tf_feed_new(tf_env *env, tf_graph *const *graphs, const tfuse_model *const *models, size_t n_models,
                         const tf_stat_wants *wants, tf_feed **out);
void tf_feed_free(tf_feed *feed);
/* The values that must be fed, each model's in turn, each once. */
typedef struct tf_feed_slot {
    size_t model;
    tf_id value;
    int64_t tokens, units; /* tokens: 0 if known only when it runs */
    float *data;           /* the batch; NULL: not fed since the last step */
    int64_t samples, fed_tokens;
} tf_feed_slot;
size_t tf_feed_count(const tf_feed *feed);
const tf_feed_slot *tf_feed_at(const tf_feed *feed, size_t index);
const char *tf_feed_name(const tf_feed *feed, size_t index);
/* batch: samples first, then tokens × units; copied. TFUSE_ENOTFOUND: a value that is not wanted; TFUSE_ESHAPE, TFUSE_EDTYPE; TFUSE_ESTATE: fed already. */
tfuse_status tf_feed_value(tf_env *env, tf_feed *feed, size_t model, const char *value, const tfuse_array *batch);
/* Adds the batch. TFUSE_ESTATE names a value that is missing, TFUSE_ESHAPE one of another number of samples. A feed whose step failed for
 * what the values hold (TFUSE_ENUMERIC) or was cancelled cannot be used any more. */
tfuse_status tf_feed_step(tf_env *env, tf_feed *feed);
bool tf_feed_two_sweeps(const tf_feed *feed);
tfuse_status tf_feed_rewind(tf_env *env, tf_feed *feed);
/* What tf_stats_gather would have gathered, borrowed from the feed, which takes no more values afterwards. TFUSE_ESTATE: the sweeps are not
 * complete, or something is asked for that was not when the feed was made (another policy). */
tfuse_status tf_feed_stats(tf_env *env, tf_feed *feed, size_t k, const tf_stat_wants *wants, tf_stats *out);

#endif
