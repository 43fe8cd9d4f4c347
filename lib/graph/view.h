/* SPDX-License-Identifier: Apache-2.0
 *
 * view.h: a model seen through its graph and a chain of passes. A pass changes how logical tensors read, never what is stored:
 * each level holds at most one short expression a tensor, whose operands are read from the level below, and everything is evaluated
 * tensor by tensor in float32 (sums in float64) when it is read.
 */
#ifndef TF_GRAPH_VIEW_H
#define TF_GRAPH_VIEW_H

#include "graph/graph.h"

typedef enum tf_step_kind {
    TF_STEP_NONE,
    TF_STEP_SCALE,      /* x[.., i, ..] *= operand[i] along dim */
    TF_STEP_CENTRE,     /* subtract the mean along dim */
    TF_STEP_FILL,       /* every element = value */
    TF_STEP_ADD_PRODUCT /* x[r] += sum_c matrix[r, c] * operand[c]: a vector fed by a matrix and a vector of the level below */
} tf_step_kind;

typedef struct tf_step {
    tf_step_kind kind;
    int dim;
    tf_id operand; /* parameter: vector */
    tf_id matrix;  /* parameter: ADD_PRODUCT */
    double value;  /* FILL */
    struct tf_step *next; /* further steps of this level, applied after */
} tf_step;

typedef struct tf_view {
    tf_arena arena;
    tf_mem mem;
    const tf_graph *g;      /* borrowed */
    const tfuse_model *m;   /* borrowed */
    const struct tf_view *base; /* borrowed; NULL: the stored tensors */
    const char *pass;       /* "fold-norms.1": name and version; "" at the root */
    tf_step **steps;        /* one list a parameter */
} tf_view;

/* The stored tensors. Checks nothing: tf_graph_check_model did. */
tfuse_status tf_view_root(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_view **out);
/* A level above `base`, to which steps are added. */
tfuse_status tf_view_above(tf_env *env, const tf_view *base, const char *pass, tf_view **out);
tfuse_status tf_view_add(tf_env *env, tf_view *v, tf_id param, const tf_step *step);
void tf_view_free(tf_view *v); /* this level only */
tfuse_status tf_view_read(tf_env *env, const tf_view *v, tf_id param, float *dst);
/* As tf_view_read into new memory (tf_free). */
tfuse_status tf_view_load(tf_env *env, const tf_view *v, tf_id param, float **out);

/* Whether the tensor's rows (along its first dimension) can be read without the rest. */
bool tf_view_has_rows(const tf_view *v, tf_id param);
/* Rows rows[0..n-1] of such a tensor, one after the other. */
tfuse_status tf_view_read_rows(tf_env *env, const tf_view *v, tf_id param, const int64_t *rows, int64_t n, float *dst);

/* group.c: the group of every class: the meet of what the operations permit given the tensors of the view (NULL view: given none).
 * Pinned classes are TF_GROUP_PINNED. `out` has g->n_classes places. */
tfuse_status tf_groups(tf_env *env, const tf_graph *g, const tf_view *v, tf_group *out);

#endif
