/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule.h: which nodes run, on how many samples at once, and where each value lies while it is needed.
 */
#ifndef TF_RUN_SCHEDULE_H
#define TF_RUN_SCHEDULE_H

#include "graph/op.h"

/* A piece of memory that is in use from step `first` to step `last`, both included. */
typedef struct tf_life {
    int64_t size; /* floats */
    int64_t first, last;
    int64_t offset; /* out: a multiple of 16 floats */
} tf_life;
/* Gives each piece the lowest free place (first fit), in the order given, which is by `first`. No two pieces that live at once overlap.
 * *total: floats in all. */
tfuse_status tf_life_place(tf_env *env, tf_life *lives, size_t n, int64_t *total);

typedef struct tf_schedule {
    tf_mem mem;
    int64_t shard;    /* samples that run at once: a power of two */
    int64_t slab;     /* floats of a lane's buffer */
    tf_batch *batch;  /* a value: extents of a shard (n = shard); data NULL */
    int64_t *offset;  /* a value: in the slab; -1: not computed */
    int64_t *scratch; /* a step: offset of the node's scratch memory */
} tf_schedule;

/* The nodes that the values `wanted` need, in graph order; *out freed by tf_free. */
tfuse_status tf_schedule_nodes(tf_env *env, const tf_graph *g, const tf_id *wanted, size_t n, tf_id **out, size_t *count);
/* Plans for an input of these extents (no zeros). */
tfuse_status tf_schedule_make(tf_env *env, const tf_graph *g, const tf_id *nodes, size_t n, const int64_t *input,
                              tf_schedule *out);
/* With a shard of that many samples in place of what caches suggest. */
tfuse_status tf_schedule_make_of(tf_env *env, const tf_graph *g, const tf_id *nodes, size_t n, const int64_t *input, int64_t shard,
                                 tf_schedule *out);
void tf_schedule_free(tf_schedule *s); /* a zeroed one is allowed */

#endif
