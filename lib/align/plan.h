/* SPDX-License-Identifier: Apache-2.0
 *
 * plan.h: the result of aligning: maps, and a table of where each applies. Applying a plan reads this alone; nothing here knows which strategy
 * made it.
 */
#ifndef TF_ALIGN_PLAN_H
#define TF_ALIGN_PLAN_H

#include "base/buf.h"
#include "maps/map.h"
#include <jansson.h>
#include <tfuse/plan.h>

typedef struct tf_plan_map {
    const char *name, *axis; /* in the plan's arena */
    int32_t model;           /* 1.. */
    tf_map *map;
    const char *solver;      /* "" where none was solved */
    double cost, gap, error; /* NAN where unknown */
    double correlation;      /* of the units that meet, by what the cost is made of; NAN: none was */
    double kept;             /* see kept.c; tf_plan_add_map sets it: 1 for lossless maps, else NAN until it is measured */
    int64_t iterations;
    bool converged;
    int64_t heads_n, heads_m; /* heads of the model and of the anchor, whose units lie head by head; 0: the units are in no heads */
} tf_plan_map;

/* Part `part` of dimension `dim` of logical tensor `param` of model `model` moves by map `map`. */
typedef struct tf_plan_entry {
    int32_t model;
    const char *param;
    int32_t dim, part;
    int32_t map;
    bool produced;
} tf_plan_entry;

typedef struct tf_plan_model {
    const char *label;      /* base name of its path: no directories, so that equal inputs give equal bytes */
    char signature[17];     /* of its graph */
    char header[17], weights[17];
} tf_plan_model;

struct tfuse_plan {
    uint32_t kind; /* TF_KIND_PLAN */
    tf_mem mem;
    tf_arena arena;
    const char *strategy;
    bool carries;           /* one map an axis, the right operator on every side: values of the models can be brought to the anchor's coordinates */
    bool exact;             /* and nothing is lost there: each model, carried alone, computes what it did */
    json_t *policy;         /* keys that were set when it was made: name → text */
    json_t *objective;      /* for each model the strategy's objective after each round, [] where it has none, as for the anchor */
    json_t *owners;         /* of selected axes: [{"axis", "model": [...], "unit": [...]}], for each unit of the anchor whose it is; nothing that is applied */
    json_t *repair;         /* what repair told of the weights that were made with it, but for the owners; null: nothing. Nothing that is applied */
    const char **passes;    /* by name and version, in order */
    size_t n_passes;
    tf_plan_model *models;  /* the anchor first */
    size_t n_models;
    tf_plan_map *maps;
    size_t n_maps, cap_maps;
    tf_plan_entry *entries;
    size_t n_entries, cap_entries;
};

tfuse_status tf_plan_new(tf_env *env, const char *strategy, size_t n_models, tfuse_plan **out);
void tf_plan_free(tfuse_plan *plan);
/* Takes the map over, also on failure. Strings are copied. *index may be NULL. */
tfuse_status tf_plan_add_map(tf_env *env, tfuse_plan *plan, const tf_plan_map *row, int32_t *index);
tfuse_status tf_plan_add_entry(tf_env *env, tfuse_plan *plan, const tf_plan_entry *entry);
tfuse_status tf_plan_add_pass(tf_env *env, tfuse_plan *plan, const char *pass);
/* What the strategy's objective is for a model after another round. */
tfuse_status tf_plan_add_round(tf_env *env, tfuse_plan *plan, int32_t model, double objective);
/* Name and fingerprints of a model; the name in the arena. */
tfuse_status tf_plan_describe_model(tf_env *env, tf_arena *arena, const tfuse_model *m, const tf_graph *g, tf_plan_model *out);
tfuse_status tf_plan_report(tf_env *env, const tfuse_plan *plan, json_t **out); /* {"strategy", ..., "maps": [...]} */

/* Whether none of model k's maps loses anything, as far as kinds and extents tell (tf_map_is_lossless). */
bool tf_plan_is_lossless(const tfuse_plan *plan, size_t k);
/* Bytes of the numbers of all maps. */
uint64_t tf_plan_map_bytes(const tfuse_plan *plan);

/* plan_file.c: see docs/plan-format.md */
tfuse_status tf_plan_save(tf_env *env, const tfuse_plan *plan, const char *path, bool force);
tfuse_status tf_plan_load(tf_env *env, const char *path, tfuse_plan **out);
tfuse_status tf_plan_parse(tf_env *env, const char *label, const uint8_t *data, uint64_t size, tfuse_plan **out);
/* From the head, JSON, and the numbers, as they lie in the file's chunks. */
struct tf_chunk;
tfuse_status tf_plan_decode(tf_env *env, const char *label, const struct tf_chunk *head, const struct tf_chunk *data, tfuse_plan **out);

#endif
