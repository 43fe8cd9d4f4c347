/* SPDX-License-Identifier: Apache-2.0
 *
 * class_plan.h: a plan from one map for each class of two graphs of one structure: g is the anchor's, `of` the model's, whose axes may have other
 * extents. A class inside others (units inside heads) may have a map for each unit of those: its instances. The bindings say where
 * each applies, and its uses on which side.
 */
#ifndef TF_ALIGN_CLASS_PLAN_H
#define TF_ALIGN_CLASS_PLAN_H

#include "align/plan.h"
#include "graph/graph.h"

typedef struct tf_class_map {
    tf_map **maps;     /* one an instance; NULL: the identity. The permutations of the classes around act after it: instance i is the anchor's */
    int64_t instances; /* 0: the identity throughout */
    const char *solver; /* how they were found; NULL: they were not, and cost and gap say nothing. A string that outlives the plan */
    double cost, gap, correlation;
    bool is_soft;       /* couplings, of which `kept` (plan.h) was measured, NAN: was not */
    double kept;
} tf_class_map;

/* Product of the extents of the classes around a class. */
int64_t tf_class_instances(const tf_graph *g, tf_id cls);
/* Whether the class stands outside of another factor somewhere: only a permutation may then act on it. */
tfuse_status tf_class_is_outer(tf_env *env, const tf_graph *g, tf_id cls, bool *outer);
/* Whether it is the channels of an addition: the residual stream; and whether its rotary pairs lie side by side, as the attention that reads it
 * says, else half the units apart (class_kind.c). */
bool tf_class_is_stream(const tf_graph *g, tf_id cls);
bool tf_class_is_interleaved(const tf_graph *g, tf_id cls);
/* The axis of experts to which a router sends tokens. */
bool tf_class_is_routed(const tf_graph *g, tf_id cls);
/* Unit of each of the part's first n factors at block `index`, row-major over them. */
void tf_part_units(const tf_part *part, int n, int64_t index, int64_t *units);
/* The instance of the class of factor f where the factors before it are at `units`. */
int64_t tf_class_instance(const tf_graph *g, const tf_part *part, int f, const int64_t *units);
/* The model's instance that the maps of the classes around bring to the anchor's `instance`. */
int64_t tf_class_source(const tf_graph *g, const tf_graph *of, const tf_class_map *maps, tf_id cls, int64_t instance);
/* The block of the model's part `from` (by all its factors but the innermost) that becomes the block of the anchor's with these units. Factors
 * without a map stay where they are; -1: nothing comes there. */
int64_t tf_class_block_source(const tf_graph *g, const tf_class_map *maps, const tf_part *from, const tf_part *to, const int64_t *units);
/* Whether a class of the part has maps, and the map of the whole part: the model's `from` onto the anchor's `to`. */
bool tf_class_moves(const tf_graph *g, const tf_class_map *maps, const tf_part *part);
tfuse_status tf_class_part_map(tf_env *env, const tf_graph *g, const tf_class_map *maps, const tf_part *from, const tf_part *to, tf_map **out);
/* Adds the maps of a model, equal in structure to the anchor, and an entry for every part that they move. maps: one a class. */
tfuse_status tf_class_plan(tf_env *env, tfuse_plan *plan, int32_t model, const tf_graph *g, const tf_graph *of, const tf_class_map *maps);
/* "layer.0/heads*layer.0/qk": the name of the map of a part, of names of classes; ends in a NUL. */
tfuse_status tf_class_part_name(tf_env *env, const tf_graph *g, const tf_part *part, tf_buf *out);
void tf_class_maps_free(tf_env *env, const tf_graph *g, tf_class_map *maps);

#endif
