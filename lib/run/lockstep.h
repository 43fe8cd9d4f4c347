/* SPDX-License-Identifier: Apache-2.0
 *
 * lockstep.h: statistics of one pair of models from batches of their values, wherever these come from: the evaluator
 * (statistics.c) or a host that runs the models itself (feed.c).
 *
 *     open; { the batches of every source; add }...; finish; where deviations are wanted { the same batches again; add_dev }..., finish_dev
 */
#ifndef TF_RUN_LOCKSTEP_H
#define TF_RUN_LOCKSTEP_H

#include "run/moments.h"

enum { TF_ANCHOR, TF_MODEL, TF_SIDES };

/* One request's value in one model. */
typedef struct tf_source {
    tf_id value;
    int64_t *positions; /* kept tokens; NULL: all of them */
    int64_t kept;       /* 0 with all of them */
    int64_t tokens;     /* of a sample; set with the batch */
    bool follows;       /* it has a row for each token of the inputs */
    int64_t units;
    const float *batch; /* samples × tokens × units, borrowed */
    double *shift;
} tf_source;

typedef struct tf_lockstep {
    tf_env *env; /* of the call that is under way */
    const tf_graph *graph[TF_SIDES];
    const char *label[TF_SIDES];
    tf_stat_request *requests; /* the caller's, then one for each value that is a `plus` */
    int32_t *plus;             /* a request: index of the one for its `plus`; -1 */
    size_t n, asked;           /* of all; of the caller's */
    tf_source *source[TF_SIDES];
    int64_t count;             /* samples of the batch */
    const int64_t *seen;       /* its tokens that are no padding, borrowed; NULL: all of them */
    int64_t n_seen, seen_tokens; /* how many; tokens of a sample */
    bool first;                /* batch of all: sets the shifts */
    float *scratch;            /* a lane: tf_stats_scratch(widest) numbers */
    int64_t widest;
    signed char *bad;          /* a request: 1 + the side whose rows are not finite */
    tf_stats *out;
} tf_lockstep;

/* Values, kept tokens, empty results. What `requests` point to, graphs, labels and out are borrowed until close. On failure close all the same. */
tfuse_status tf_lockstep_open(tf_env *env, const tf_graph *const graph[TF_SIDES], const char *const label[TF_SIDES],
                              const tf_token_filter *filter, const tf_stat_request *requests, size_t n, tf_stats *out,
                              tf_lockstep *l);
/* Adds `count` samples of every source's batch. TFUSE_ESHAPE where the two models' tokens differ in number, TFUSE_ENUMERIC where a value
 * is NaN or infinite; nothing may be added after a failure. */
tfuse_status tf_lockstep_add(tf_lockstep *l, int64_t count);
void tf_lockstep_finish(tf_lockstep *l);
bool tf_lockstep_wants_dev(const tf_lockstep *l);
/* Sources of requests without deviations are not looked at. */
tfuse_status tf_lockstep_add_dev(tf_lockstep *l, int64_t count);
void tf_lockstep_finish_dev(tf_lockstep *l);
/* The results stay. */
void tf_lockstep_close(tf_lockstep *l);

#endif
