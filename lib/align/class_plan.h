/* SPDX-License-Identifier: Apache-2.0
 *
 * class_plan.h: a plan from one map for each class. A class inside others (units inside heads) may have a map for each unit of
 * those: its instances. The graph's bindings say where each applies, and its uses on which side.
 */
#ifndef TF_ALIGN_CLASS_PLAN_H
#define TF_ALIGN_CLASS_PLAN_H

#include "align/plan.h"
#include "graph/graph.h"

typedef struct tf_class_map {
    tf_map **maps;     /* one an instance; NULL: the identity. The permutations of the classes around act after it: instance i is the anchor's */
    int64_t instances; /* 0: the identity throughout */
} tf_class_map;

/* Product of the extents of the classes around a class. */
int64_t tf_class_instances(const tf_graph *g, tf_id cls);
/* Whether the class stands outside of another factor somewhere: only a permutation may then act on it. */
tfuse_status tf_class_is_outer(tf_env *env, const tf_graph *g, tf_id cls, bool *outer);
/* Adds the maps of a model, equal in structure to the anchor, and an entry for every part that they move. maps: one a class. */
tfuse_status tf_class_plan(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_class_map *maps);
void tf_class_maps_free(tf_env *env, const tf_graph *g, tf_class_map *maps);

#endif
