/* SPDX-License-Identifier: Apache-2.0
 *
 * map.h: maps of one model's units (n) onto the anchor's (m), and what they do to weights.
 *
 * A map has a produced operator, m×n, which takes the n rows of a weight to m, and a consumed operator, n×m, which takes n columns to m. For a coupling P
 * (n×m, mass) the produced operator is diag(1/column sums) P' and the consumed one diag(1/row sums) P, so that outputs are means
 * of merged units and inputs sums over them; a unit without mass gets nothing. A raw matrix T acts as T' and T.
 * An invertible T (orthogonal, linear, permutation with scale) produces by T' and consumes by T^-T, and T^-T is also what the dual side
 * (keys against queries) is produced by; a coupling has no inverse, and moves a dual side as it moves the other. Between unequal extents a selection or
 * a rectangular map stands in an invertible one's place (unequal.c): it has an operator of its own for the other side.
 */
#ifndef TF_MAPS_MAP_H
#define TF_MAPS_MAP_H

#include "base/env.h"
#include "graph/graph.h"

typedef enum tf_map_kind {
    TF_MAP_IDENTITY,    /* n == m */
    TF_MAP_PERMUTATION, /* source[j] = i: unit i of the model becomes unit j of the anchor; n == m */
    TF_MAP_COUPLING,    /* dense n×m, mass */
    TF_MAP_RAW,         /* dense n×m, T itself on both sides */
    TF_MAP_SCALED,      /* PERMUTATION with a factor: anchor's unit j = scale[j] * unit source[j] */
    TF_MAP_ORTHOGONAL,  /* dense n×n, T with T'T = 1 */
    TF_MAP_LINEAR,      /* dense n×n, invertible T */
    TF_MAP_BLOCK,       /* blocks: source block block_source[b] becomes block b through inner map b */
    TF_MAP_SELECTION,   /* source[j] = i, -1: nothing; unit i may become several units or none, perhaps with a factor as in SCALED */
    TF_MAP_RECTANGULAR  /* dense n×m with an operator for each side */
} tf_map_kind;

typedef struct tf_map {
    tf_mem mem;
    tf_map_kind kind;
    int64_t n, m;
    int64_t *source;      /* PERMUTATION, SCALED, SELECTION: m */
    float *scale;         /* SCALED, and SELECTION unless NULL: m, none zero */
    float *dense;         /* COUPLING, RAW, ORTHOGONAL, LINEAR, RECTANGULAR: n×m row-major */
    float *inverse;       /* LINEAR: T^-T; RECTANGULAR: the consumed operator; n×m */
    int64_t blocks_n, blocks_m; /* BLOCK: n = blocks_n * inner n */
    int64_t *block_source; /* blocks_m entries; -1: nothing comes here */
    struct tf_map **inner; /* blocks_m maps; NULL where block_source is -1 */
    int64_t entries;       /* of a hollow matrix, made to be counted: the most that are not zero; 0: any */
    float *share;          /* BLOCK: blocks_m factors of the consumed side: a block that was copied is summed over its copies; NULL: ones */
} tf_map;

const char *tf_map_kind_name(tf_map_kind kind);
/* A map of a kind without its numbers: for the files of this folder. */
tfuse_status tf_map_new(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, tf_map **out);
tfuse_status tf_map_identity(tf_env *env, int64_t n, tf_map **out);
tfuse_status tf_map_permutation(tf_env *env, int64_t n, const int64_t *source, tf_map **out);
/* kind COUPLING or RAW; the matrix is copied. */
tfuse_status tf_map_dense(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, const float *matrix, tf_map **out);
/* The same without a copy: takes the matrix over, also on failure. */
tfuse_status tf_map_dense_own(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, float *matrix, tf_map **out);
/* Any kind that has a matrix; it and the consumed operator (NULL: none) are copied, and taken for what the kind says. For the files of this folder. */
tfuse_status tf_map_dense_pair(tf_env *env, tf_map_kind kind, int64_t n, int64_t m, const float *matrix, const float *inverse, tf_map **out);
tfuse_status tf_map_scaled(tf_env *env, int64_t n, const int64_t *source, const float *scale, tf_map **out);
/* kind ORTHOGONAL or LINEAR; the matrix is copied. TFUSE_EINVAL when it is not orthogonal (to 1e-4), or not well enough conditioned to be inverted. */
tfuse_status tf_map_square(tf_env *env, tf_map_kind kind, int64_t n, const float *matrix, tf_map **out);
/* Takes the inner maps over, also on failure. */
tfuse_status tf_map_block(tf_env *env, int64_t blocks_n, int64_t blocks_m, const int64_t *block_source, tf_map **inner, tf_map **out);
/* unequal.c. source as in the enum; scale NULL: none. Both are copied. */
tfuse_status tf_map_selection(tf_env *env, int64_t n, int64_t m, const int64_t *source, const float *scale, tf_map **out);
/* Both n×m, copied. */
tfuse_status tf_map_rectangular(tf_env *env, int64_t n, int64_t m, const float *produced, const float *consumed, tf_map **out);
/* Rectangular: unit i goes into unit into[i] (-1: nowhere), produced with the one factor and consumed with the other. */
tfuse_status tf_map_merge(tf_env *env, int64_t n, int64_t m, const int64_t *into, const float *produced, const float *consumed, tf_map **out);
/* Of such a map, and of a rectangular one of equally many units, tf_map_neutral. */
tfuse_status tf_map_neutral_merge(tf_env *env, const tf_map *map, tf_map **out);
/* How many units each of a selection's n becomes, or blocks each of a block map's blocks_n; freed by tf_free. */
tfuse_status tf_map_copies(tf_env *env, const tf_map *map, int64_t **out);
/* Whether the consumed operator is the other side of the produced one (all kinds but couplings and raw matrices, and blocks of those). */
bool tf_map_is_sided(const tf_map *map);
/* Whether consuming undoes producing, as far as its kind and extents tell: of a rectangular map onto more units it is taken to, onto as many, which is a
 * coupling with factors, not. */
bool tf_map_is_lossless(const tf_map *map);
/* Sets the factors of a block map's consumed side: 1 / copies of each block's source (tf_map_copies). */
tfuse_status tf_map_share(tf_env *env, tf_map *map, const int64_t *copies);
void tf_map_free(tf_map *map);
tfuse_status tf_map_clone(tf_env *env, const tf_map *map, tf_map **out);
/* What applying a hollow map by its entries takes; 0 where these are not so few that it is applied by them. */
uint64_t tf_map_sparse_bytes(const tf_map *map, uint32_t threads);

/* T, n×m: the transpose of the produced operator: columns sum to one wherever there is mass (RAW: as it is). */
void tf_map_matrix(const tf_map *map, float *out);
/* The consumed operator, n×m. */
void tf_map_consumed(const tf_map *map, float *out);

/* square.c: invertible maps. */
bool tf_map_invertible(const tf_map *map);
/* T^-1: the map back. TFUSE_EINVAL for couplings. */
tfuse_status tf_map_inverse(tf_env *env, const tf_map *map, tf_map **out);
/* First a (n onto k), then b (k onto m). Maps with both sides (tf_map_is_sided) only. */
tfuse_status tf_map_compose(tf_env *env, const tf_map *a, const tf_map *b, tf_map **out);
/* What the map does where only a permutation may act (norm gains, gates): without its scales; the mean of merged units. TFUSE_EINVAL for a
 * rotation or any other rectangular map. */
tfuse_status tf_map_neutral(tf_env *env, const tf_map *map, tf_map **out);

/* combine.c: residual joins. a, b: maps of the same n and m; weight of a for each anchor unit: wa[j] (m of them), of b: 1 - wa[j].
 * Couplings stay couplings (mixed column by column, masses scaled alike), `raw` asks for a RAW one. */
tfuse_status tf_map_mix(tf_env *env, const tf_map *a, const tf_map *b, const double *wa, bool raw, tf_map **out);

/* apply.c: moves one part of one dimension of a row-major tensor: dst (with the anchor's extents) from src (with the model's).
 * `shape` is src's shape; dimension `dim` has parts src_part (of the model) and dst_part (of the anchor); dst's shape is src's but for that
 * dimension, dst_extent. produced: use the produced operator (else the consumed). Only the part's entries of dst are written. */
tfuse_status tf_map_apply(tf_env *env, const tf_map *map, bool produced, const float *src, int rank, const int64_t *shape,
                          int dim, const tf_part *src_part, const tf_part *dst_part, int64_t dst_extent, float *dst);

/* Sums of columns first, first + 1, ... of a dense map's entries, at most TF_MAP_COLUMNS of them, side by side so that memory is read along its rows;
 * how many. */
enum { TF_MAP_COLUMNS = 64 };
int64_t tf_map_column_sums(const tf_map *map, int64_t first, double *sum);

/* measure.c */
/* Bytes of its numbers. */
uint64_t tf_map_bytes(const tf_map *map);
/* Mass off the diagonal, 0..1; NAN when n != m. */
double tf_map_off_identity(const tf_map *map);
/* exp of the mean entropy of the columns' shares: 1 for a permutation, n for uniform. */
double tf_map_spread(const tf_map *map);
/* Mean over the anchor's units of sum_i share_ij f(i, j), the shares of a unit summing to one: what a number that pairs of units have is for those
 * that meet. Units that nothing comes to do not count; NAN when nothing comes to any. */
typedef double (*tf_map_pair_fn)(const void *arg, int64_t i, int64_t j);
double tf_map_mean(const tf_map *map, tf_map_pair_fn f, const void *arg);
/* Where the heads of the anchor get their units from: shares[g * heads_n + s] of head g from the model's head s, summing to one over s
 * (0 for a head that gets nothing). Units lie head by head; heads_n divides n, heads_m divides m. */
void tf_map_head_shares(const tf_map *map, int64_t heads_n, int64_t heads_m, double *shares);

#endif
