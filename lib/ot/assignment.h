/* SPDX-License-Identifier: Apache-2.0
 *
 * assignment.h: what assignment.c and assignment_paths.c share: the state of one assignment problem.
 */
#ifndef TF_OT_ASSIGNMENT_H
#define TF_OT_ASSIGNMENT_H

#include "ot/lists.h"

typedef struct tf_jv {
    int64_t n;
    const float *cost;
    double *v;
    int64_t *col_of; /* of a row; -1: free */
    int64_t *row_of; /* of a column; -1: free */
    int64_t *rows;   /* free rows, row_count of them */
    int64_t row_count;
    int64_t *cols; /* free columns */
    int64_t col_count;
    double *key;      /* shortest distance of a column that is not settled, INFINITY when it is */
    double *open;     /* v where a column is not settled, -INFINITY where it is: closes it to relaxing */
    int64_t *pred;    /* row before a column on a path */
    int64_t *settled; /* columns in the order in which they were settled, */
    double *dist;     /* and their distances */
    double *base;     /* a relaxed row makes distances base + C_ij - v_j: in that order, or by row where lists are used */
    bool use_lists;
    tf_lists lists;
    int32_t *heap; /* assignment_paths.c: events, */
    double *at;    /* their distances, */
    int32_t *slot; /* their places in the heap, -1 outside */
    int64_t events;
    int64_t scans; /* rows read whole by searches */
    int64_t steps; /* bids and augmenting paths */
} tf_jv;

tfuse_status tf_jv_paths_init(tf_env *env, tf_arena *arena, tf_jv *s);
/* The shortest augmenting path from a free row, over lists. */
tfuse_status tf_jv_augment(tf_env *env, tf_jv *s, int64_t start);
/* Matches along the path that ends at s->cols[end]. */
void tf_jv_flip(tf_jv *s, int64_t start, int64_t end);

#endif
