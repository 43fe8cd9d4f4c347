/* SPDX-License-Identifier: Apache-2.0
 *
 * matching.h: what the files of the matching strategy share.
 *
 * Matching maximises, over one map R_c for each class c, the mean over all evidence e of the correlation
 *     <A_e, R B_e> / (|A_e| |B_e|)
 * of the anchor's tensors with the model's carried ones. Evidence is a node's weights, or a value's activations. Both models are in canonical form
 * and balanced: where an axis takes scales or any invertible map, its coordinates are changed to those in which what produces it and what
 * consumes it have equal Grams. That leaves rotations and permutations, for which each class has a best map in closed form given the others, or
 * by assignment. The map that the plan gets is G_model R G_anchor^-1, so the anchor's coordinates stay.
 *
 * Axes of unequal extents have rectangular maps: R with orthonormal rows or columns where rotations are permitted, a selection of units or blocks where
 * permutations are (unequal.c of maps says what each keeps). n is the model's extent, m the anchor's throughout.
 */
#ifndef TF_ALIGN_MATCHING_H
#define TF_ALIGN_MATCHING_H

#include "align/align.h"
#include "align/carry.h"
#include "align/class_plan.h"
#include "run/run.h"

typedef struct mt_model {
    const tf_graph *g;
    const tf_view *view;
    tf_id *param;          /* of each of the anchor's tensors */
    tf_class_map *balance; /* G, one a class of the anchor's graph */
    float **held;          /* balanced tensors in the side's own layout, as far as they are kept */
    float **streamed;      /* the same moved by the maps of streams, which all other classes see; forgotten when one changes */
    uint64_t bytes, streamed_bytes;
} mt_model;

/* Activations of one value: the second moments of the model's units with the anchor's, balanced, scaled so that equal ones give a trace of 1. */
typedef struct mt_value {
    tf_id value[2]; /* of the anchor's graph and of the model's */
    float *cross;   /* the model's units × the anchor's */
} mt_value;

typedef enum mt_shape { MT_FIXED, MT_ROTATION, MT_ROTATION_ONES, MT_PAIRS, MT_UNITS, MT_SIGNED_UNITS } mt_shape;

typedef struct mt_class {
    mt_shape shape; /* of R */
    tf_group group; /* what both models permit */
    bool outer;     /* stands outside of others, whose maps depend on its own */
    bool stream;    /* is a residual stream, and is matched */
    bool known;     /* has been matched once */
} mt_class;

typedef struct matching matching;
struct matching {
    tf_env *env;
    const tf_align_job *job;
    size_t k;
    const tf_graph *g; /* the anchor's */
    mt_model side[2];  /* anchor, model */
    mt_class *classes;
    tf_class_map *maps; /* R, one a class */
    double *weight;    /* of each node: 1 / (|A| |B|) of its tensors */
    mt_value *values;  /* of what the model is matched to */
    size_t n_values;
    mt_value *of_anchor, **of_peer; /* while that is a mean: the same of the anchor alone, and of each peer in its balanced units; NULL: unknown */
    bool use_weights, use_activations;
    double activation_weight;
    double stream_sum; /* agreement of weights at the last match of streams */
    matching **peers;  /* the other models: their mean with the anchor is what this one is matched to */
    size_t n_peers;
    bool soft;         /* units are shared by couplings, not assigned */
    /* Estimated. What is held of the model while others are matched to the anchor, while values of pairs are gathered, and while it is matched to the
     * mean; and beside that, what gathering a pair takes and matching a class. */
    uint64_t first_bytes, pairs_bytes, mean_bytes, pair_bytes, class_bytes;
};

enum { MT_ANCHOR, MT_MODEL };

static inline int64_t mt_extent(const matching *mt, int side, tf_id cls)
{
    return tf_class_extent(mt->side[side].g, cls);
}

/* ---- matching_tensors.c ---- */
/* Bytes of balanced tensors that are kept of one model; what does not fit is read again. */
#define MT_HELD_BYTES ((uint64_t)384 << 20)
/* Of models that are larger, so much: what is held is no more than read-ahead then. */
#define MT_HELD_OF_LARGE ((uint64_t)128 << 20)

/* Bytes of tensors that each of three caches may hold. */
uint64_t mt_held_bytes(const matching *mt);
tfuse_status mt_models_make(matching *mt, const tf_view *const *views);
void mt_models_free(matching *mt);
/* The parameter in a side's own graph that is the anchor's `param`. */
const tf_param *mt_param(const matching *mt, int side, tf_id param);
/* Whether the dimension is a stream's and no other's, so that its map acts before all others. */
bool mt_is_stream_dim(const matching *mt, const tf_binding *b);
/* Balanced, in the side's own layout; given back by mt_give. */
tfuse_status mt_take(matching *mt, int side, tf_id param, float **x);
void mt_give(matching *mt, int side, tf_id param, float *x);
void mt_forget_held(matching *mt, int side);
void mt_forget_streams(matching *mt);
/* The model's tensor, brought to the anchor's layout by all maps but along dimension `dim` (-1: none), which stays as it is; freed by tf_free. */
tfuse_status mt_moved(matching *mt, tf_id param, int dim, float **x);

/* ---- matching_weights.c ---- */
/* Sum over tensors of a class's evidence: inner products of the model's units (rows) with the anchor's (columns). */
typedef struct mt_gram {
    int64_t n, m, instances, first; /* first: of these instances */
    float *x;       /* instances × n × m */
    float *neutral; /* the same of what keeps its sign whatever the map's; NULL where no map has signs */
    double *most;   /* instances: what perfect agreement would give */
} mt_gram;
/* Of `instances` instances from `first` on. */
tfuse_status mt_gram_make(matching *mt, tf_id cls, int64_t first, int64_t instances, mt_gram *out);
void mt_gram_free(matching *mt, mt_gram *gram);

/* A part of a tensor in which a class is factor `factor`, of both sides. */
typedef struct mt_place {
    tf_id param;
    int dim;
    const tf_part *part[2];
    int factor;
} mt_place;
typedef tfuse_status (*mt_place_fn)(matching *mt, const mt_place *place, void *arg);
/* All places of a class whose other axes have known maps or are fixed. */
tfuse_status mt_each_place(matching *mt, tf_id cls, mt_place_fn fn, void *arg);

/* Evidence of the class from the innermost factor of all its places; gram is zeroed before. */
tfuse_status mt_weights_gram(matching *mt, tf_id cls, mt_gram *gram);
tfuse_status mt_node_weights(matching *mt);
/* Mean correlation of all nodes' tensors under the maps. Those that a stream moves are in the sums of its own match. */
tfuse_status mt_weights_objective(matching *mt, double *sum, double *count);

/* ---- matching_blocks.c: the same a block at a time ---- */
enum { MT_MOST_PLACES = 32 };
/* A place with its rows in order of units, the model's moved; the tensor's weight. */
typedef struct mt_block_place {
    tf_part part[2];
    int factor;
    int64_t width;
    double weight;
    bool neutral;
    float *rows[2];
} mt_block_place;
typedef struct mt_blocks {
    int64_t n, m; /* units of a block of the model, of the anchor */
    bool nested;  /* only places where the class is inside of another */
    mt_block_place places[MT_MOST_PLACES];
    int count;
} mt_blocks;
/* All places with the class innermost; freed by mt_blocks_free also on failure. */
tfuse_status mt_blocks_make(matching *mt, tf_id cls, bool nested, mt_blocks *out);
void mt_blocks_free(matching *mt, mt_blocks *blocks);
/* Adds to x (n × m) a place's products of the model's block b with the anchor's block a. */
void mt_blocks_add(matching *mt, const mt_blocks *blocks, const mt_block_place *p, int64_t b, int64_t a, float *x);
/* Evidence of the one instance of the Gram. */
void mt_blocks_gram(matching *mt, const mt_blocks *blocks, mt_gram *gram);

tf_use mt_place_use(const matching *mt, const mt_place *at);
/* The model's rows of one block of a place, in the model's balanced units. */
typedef struct mt_rows {
    int64_t instance; /* of the anchor's, to which the block comes */
    tf_use use;
    int64_t width;
    float *rows;      /* units × width */
    float *spare;      /* room for as many numbers, `spares` times */
} mt_rows;
typedef void (*mt_rows_fn)(matching *mt, const mt_rows *rows, void *arg);
/* Calls fn for every block of the model's that comes to one of the anchor's; for none where the class is not the innermost factor of the place. */
tfuse_status mt_each_block(matching *mt, tf_id cls, const mt_place *at, int spares, mt_rows_fn fn, void *arg);

/* ---- matching_balance.c: G of both models; the maps of the plan ---- */
tfuse_status mt_balance(matching *mt, int side);
/* Whether the class takes scales or any invertible map, so that there is something to balance. */
bool mt_is_balanced(const mt_class *c);
tfuse_status mt_plan_maps(matching *mt, tf_class_map *out);

/* ---- matching_values.c: activations ---- */
/* Of models `other` and k. */
tfuse_status mt_values_wanted(tf_env *env, const tf_align_job *job, size_t other, size_t k, tf_stat_wants *out);
void mt_values_free(matching *mt);
/* Parts of a value's channels on both sides (freed by tf_free, also on failure), equally many. */
tfuse_status mt_value_parts(matching *mt, const mt_value *v, tf_part **parts, int *count);
tfuse_status mt_values_gram(matching *mt, tf_id cls, mt_gram *gram);
tfuse_status mt_values_objective(matching *mt, double *sum, double *count);

/* values[first..] of the model from moments of the requests from `first` on, against those of `other` in its own balanced units (NULL: the anchor). */
tfuse_status mt_values_make(matching *mt, const matching *other, const tf_stats *stats, const tf_stat_wants *wants, size_t first, mt_value *values);
void mt_values_drop(matching *mt, mt_value *values);
/* Adds the peer's map to a matrix of the model's units × the peer's, so that its columns are the anchor's: shape and matrix are replaced. */
tfuse_status mt_value_columns(const matching *peer, size_t value, int64_t *shape, float **x);

/* ---- matching_gather.c: where their moments come from ---- */
/* How many of the requests from `first` on are gathered together, the model's values against those of another's graph. */
size_t mt_values_lot(const matching *mt, const tf_graph *other, const tf_stat_wants *wants, size_t first);
/* The requests' filter with the samples whose tokens make up matching.rows, of all requests together whatever the lots; `of`: either model. */
tfuse_status mt_values_filter(const matching *mt, const tf_view *of, const tf_stat_wants *wants, tf_token_filter *out);
/* Values of the model against those of `other` (NULL: the anchor) over the calibration inputs; *out is freed by mt_values_drop. */
tfuse_status mt_values_gather(matching *mt, const matching *other, const tf_view *const *views, const tf_stat_wants *wants, mt_value **out);
/* mt->values, against the anchor's, from what a host has fed. */
tfuse_status mt_values_fed(matching *mt, const tf_stat_wants *wants);

/* ---- matching.c ---- */
/* One round over all classes but the first, from the maps as they are. */
tfuse_status mt_sweep(matching *mt);
tfuse_status mt_objective(matching *mt, double *out);
tfuse_status mt_clone_maps(matching *mt, tf_class_map **out);

/* ---- matching_mean.c: more than two models ---- */
/* Matches each of the n models to the mean of all others until that gains nothing. */
tfuse_status mt_match_to_mean(matching *all, size_t n, const tf_view *const *views, const tf_stat_wants *wants, tfuse_plan *plan);

/* ---- matching_class.c: the best map of one class, given the others ---- */
/* source[j]: the row i that column j gets, so that the sum of gain (n×m) is largest; *gap as certified. Of more rows than columns some go
 * nowhere; of fewer each goes to one column at least, and to ceil(m / n) at most. */
tfuse_status mt_assign(matching *mt, int64_t n, int64_t m, const float *gain, int64_t *source, double *gap);
/* A map to begin with: the identity, or as much of it as there is. */
tfuse_status mt_first_map(matching *mt, tf_id cls, tf_map **out);
tfuse_status mt_match_class(matching *mt, tf_id cls);
/* The best map for evidence that is independent normal numbers: a rotation is uniformly distributed. By run.seed, `number` and the class's name. */
tfuse_status mt_random_map(matching *mt, tf_id cls, int64_t number);
tfuse_status mt_set_permutation(matching *mt, tf_id cls, int64_t instance, const int64_t *source);

/* ---- matching_merge.c: onto fewer hidden units ---- */
/* The selections that were found become maps that also carry what was left over, as far as it is like what was taken. */
tfuse_status mt_merge(matching *mt);
bool mt_is_merged(const matching *mt, tf_id cls);

/* ---- matching_soft.c: couplings of hidden units ---- */
/* In place of the assignments that were found. */
tfuse_status mt_soften(matching *mt);
bool mt_is_soft(const matching *mt, tf_id cls);
/* The map of n units with gains n×n, whose evidence is x. */
tfuse_status mt_soft_units(matching *mt, int64_t n, const float *gain, const float *x, bool has_signs, tf_map **out);

/* ---- matching_table.c: tables of the outside (words, positions) that are too large to be held: read some rows at a time ---- */
enum { MT_TABLE_ROWS = 4096 }; /* that are read at a time */
bool mt_is_table(const matching *mt, tf_id param);
/* Adds the sum of squares of side s's. */
tfuse_status mt_table_square(matching *mt, int s, tf_id param, double *sum);
/* Adds weight * B'A of the model's and the anchor's columns to the class's Gram. */
tfuse_status mt_table_gram(matching *mt, tf_id param, double weight, mt_gram *gram);

/* ---- matching_heads.c: outer classes (heads, groups of queries, experts), before what is inside of them ---- */
tfuse_status mt_match_outer(matching *mt, tf_id cls);

/* ---- matching_shape.c ---- */
/* What each class may do, given the groups of all models; mt->classes. */
tfuse_status mt_classes_make(matching *mt, const tf_view *const *views);
/* Of each class of the anchor's graph whether a general linear map may balance it, as far as graphs and policy tell; freed by tf_free. */
tfuse_status mt_may_be_linear(tf_env *env, const tf_align_job *job, bool **out);
/* TFUSE_EGRAPH where axes have unequal extents for which there is no map. */
tfuse_status mt_check_extents(tf_env *env, const tf_align_job *job, size_t k);
/* What scores of queries and keys are multiplied by as the axis goes to the anchor's extent: scores are divided by the root of that. */
double mt_score_scale(const matching *mt, tf_id cls);
/* Whether the model, carried alone, computes what it did, as far as the extents tell. */
bool mt_is_exact(const matching *mt);

/* ---- matching_estimate.c ---- */
/* Hollow maps for the plan, and what matching one model takes. */
tfuse_status mt_estimate(matching *mt, const tf_stat_wants *wants, tf_class_map *out);

#endif
