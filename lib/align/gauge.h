/* SPDX-License-Identifier: Apache-2.0
 *
 * gauge.h: a random member of a graph's symmetry group, as a plan of a model onto itself.
 */
#ifndef TF_ALIGN_GAUGE_H
#define TF_ALIGN_GAUGE_H

#include "align/class_plan.h"
#include "graph/view.h"
#include "policy/policy.h"

/* Draws a member of each class's group; groups: one a class, TF_GROUP_PINNED leaves it. The numbers depend on seed and the class's name alone. */
tfuse_status tf_gauge_draw(tf_env *env, const tf_graph *g, const tf_group *groups, uint64_t seed, tf_class_map **out);
/* A plan of two models, the model twice: the second one moved by the drawn maps, in the form of gauge.stream. */
tfuse_status tf_gauge(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const tf_graph *g, tfuse_plan **out);

#endif
