/* SPDX-License-Identifier: Apache-2.0
 *
 * lists.h: short lists of the best columns of each row, made when first needed. A list holds about TF_LIST_KEEP columns with the smallest
 * C_ij - v_j, and a bound tau: no other column of the row is below it. As prices v only fall, C_ij - v_j only grows, so the
 * bound holds until the end, and whatever a list shows below tau is true of the whole row.
 */
#ifndef TF_OT_LISTS_H
#define TF_OT_LISTS_H

#include "base/env.h"

enum { TF_LIST_KEEP = 24, TF_LIST_ROOM = 32 };

typedef struct tf_lists {
    int64_t n, m;
    const float *cost;
    int32_t *col;   /* n × TF_LIST_ROOM; owned, like c, and not cleared, which for long problems would take a while */
    float *c;       /* their costs */
    int32_t *count; /* n */
    double *tau;    /* n; -INFINITY: no list yet; INFINITY: the list holds the row */
    double *low, *spare, *value; /* scratch: minima of blocks, of the candidates */
    int32_t *place;
} tf_lists;

tfuse_status tf_lists_init(tf_env *env, tf_arena *arena, int64_t n, int64_t m, const float *cost, tf_lists *l);
void tf_lists_free(tf_env *env, tf_lists *l); /* what is not in the arena; a zeroed one is harmless */
/* Makes the list of row i anew for these prices. */
void tf_lists_build(tf_lists *l, int64_t i, const double *v);
/* Smallest and second smallest C_ij - v_j of row i and their columns; makes the list anew where it does not tell. With one column alone
 * the second is INFINITY at column -1. Ties go to either. */
void tf_lists_min2(tf_lists *l, int64_t i, const double *v, int64_t at[2], double low[2]);

#endif
