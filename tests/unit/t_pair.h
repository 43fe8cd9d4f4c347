/* SPDX-License-Identifier: Apache-2.0
 *
 * t_pair.h: the two trained Vision Transformers of tests/data, opened with all that aligning them needs.
 */
#ifndef T_PAIR_H
#define T_PAIR_H

#include "align/align.h"
#include "arch/arch.h"
#include "fuse/fuse.h"
#include "io/io.h"
#include "t.h"

typedef struct t_pair {
    tf_env *env;
    size_t n;
    tfuse_model *models[3];
    tf_graph *graphs[3];
    tfuse_array *images; /* 40, uint8 */
    tf_solver_registry solvers;
    tfuse_policy *policy;
    tfuse_plan *plan;   /* NULL, or what t_pair_align made */
    tfuse_model *fused; /* NULL, or what t_pair_fuse made */
} t_pair;

/* names: n letters, 'a', 'b' or 'w', which is twice as wide and in float16, the anchor first. */
void t_pair_open(t_pair *p, const char *names);
void t_pair_close(t_pair *p);
void t_pair_set(t_pair *p, const char *key, const char *value);
/* With calibration images or without; frees an earlier result. */
tfuse_status t_pair_align(t_pair *p, bool calib);
tfuse_status t_pair_fuse(t_pair *p);
/* Largest absolute difference between two models over all tensors. */
double t_model_diff(tf_env *env, const tfuse_model *x, const tfuse_model *y);

#endif
