/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion.h: what the files of the otfusion strategy share: the state of aligning one model with the anchor.
 */
#ifndef TF_ALIGN_OTFUSION_H
#define TF_ALIGN_OTFUSION_H

#include "align/align.h"
#include "graph/op.h"
#include "run/run.h"

/* In the order of the key table's words. */
typedef enum otf_residual { OTF_MEAN, OTF_SCALAR, OTF_MATRIX, OTF_BRANCH, OTF_SKIP, OTF_IDENTITY } otf_residual;
typedef enum otf_standardise { OTF_UNIT, OTF_CENTRE, OTF_NORM, OTF_RAW } otf_standardise;
typedef enum otf_control { OTF_NO_CONTROL, OTF_HALF_ANCHOR, OTF_UNIFORM, OTF_RANDOM } otf_control;

typedef struct otf_options {
    bool activations, common_qk, within_heads, compat;
    tf_metric metric;
    tf_cost_norm normalise;
    otf_standardise standardise;
    otf_residual residual;
    otf_control control;
    const char *solver;
    tf_ot_options ot;
    tf_token_filter tokens;
    int64_t samples;
    uint64_t seed;
} otf_options;

/* Maps that a value carries, one for each part of its channels; -1 where the part is fixed from outside. */
typedef struct otf_value {
    int32_t *map; /* NULL until it is known */
    int n;
} otf_value;

/* Indices into the statistics, -1 for none, for each node of the anchor's graph. */
typedef struct otf_requests {
    tf_stat_request *items;
    size_t n, cap;
    int32_t *solve, *residual, *branch;
    int32_t *passed; /* value → the value whose maps it carries on; -1 */
} otf_requests;

/* How the n heads of an attention of the model meet the anchor's m. In the arena. */
typedef struct otf_heads {
    int64_t n, m;
    const float *mass;     /* n×m, uniform marginals */
    const int64_t *source; /* for each anchor head the model's, where they meet one to one; NULL */
} otf_heads;

/* One model beside the anchor. Node and value ids are the anchor's. */
typedef struct otf {
    tf_flow flow; /* first: what operations get */
    tf_env *env;
    const tf_align_job *job;
    size_t k;
    const tf_graph *anchor, *model;
    const tf_view *anchor_view, *model_view;
    tfuse_plan *plan;
    otf_options opt;
    tf_arena arena;
    otf_value *values;
    otf_requests requests;
    tf_stats stats;
    int32_t *common;       /* class → map shared by queries and keys; -1 */
    otf_heads *heads;      /* class of heads → which of them meet; mass NULL until it is known */
    uint64_t stats_bytes;  /* of an estimate */
} otf;

/* The parts of a value's channels, freed by tf_free. */
tfuse_status otf_parts(otf *o, const tf_graph *g, tf_id value, tf_part **out, int *n);
/* Maps look at neither weights nor activations. */
bool otf_is_control(const otf *o);
/* The node and value of the model's graph with the name of the anchor's. */
const tf_node *otf_model_node(const otf *o, const tf_node *n);

/* otfusion_evidence.c ------------------------------------------------------------------------------------- */
/* Lists what the statistics must hold, by letting every operation's flow run against a collector. */
tfuse_status otf_collect(otf *o);
/* Units to be matched: one part of what a node produced. */
typedef struct otf_units {
    const tf_node *node; /* of the anchor's graph */
    int part;
} otf_units;
/* What the producer of a port made of it: the part of its output that holds the port; node NULL if there is none. (otfusion.c) */
tfuse_status otf_units_of_port(otf *o, tf_id port, otf_units *out);
/* Ground cost of n units of the model and m of the anchor, normalised by the policy. */
typedef struct otf_ground {
    int64_t n, m;
    float *cost;     /* n×m; NULL: nobody looked, as under controls */
    double unit;     /* that a cost of one was before */
    double *lengths; /* of the features: the n, then the m */
} otf_ground;
/* Room for costs and lengths. */
tfuse_status otf_ground_make(otf *o, int64_t n, int64_t m, otf_ground *out);
/* Several sets: their evidence is joined, as if their features stood side by side. */
tfuse_status otf_cost(otf *o, const otf_units *units, int n_sets, otf_ground *out);
/* Mean correlation of the features of units that meet under a map; NAN where nobody looked. */
double otf_correlation(const otf *o, const otf_ground *ground, const tf_map *map);
void otf_ground_free(otf *o, otf_ground *ground);

/* otfusion_table.c: the same for the columns of large tables, rows of which are read a tile at a time. */
enum { OTF_TABLE_ROWS = 4096 };
bool otf_is_table(const otf *o, const otf_units *units, int n_sets);
tfuse_status otf_table_cost(otf *o, const otf_units *units, otf_ground *out);

/* otfusion_match.c: from a ground cost to a map and its row of the report. Controls look at no cost: it may be NULL then. */
tfuse_status otf_match(otf *o, const char *name, int64_t n, int64_t m, const float *cost, tf_plan_map *row);
/* Independent uniform numbers, n×m; freed by tf_free; NULL on ENOMEM. */
float *otf_random_cost(otf *o, const char *name, int64_t n, int64_t m);

/* otfusion_heads.c: heads as wholes, then units inside them. */
/* How the heads meet that parts (heads × units) of the model and of the anchor belong to; solved once for an attention. */
tfuse_status otf_assign_heads(otf *o, const tf_part *from, const tf_part *to, const otf_heads **out);
/* Matches the units of heads that meet; cost is n×m, heads × units on both sides. */
tfuse_status otf_match_heads(otf *o, const char *name, const otf_heads *heads, int64_t n, int64_t m, const float *cost, tf_plan_map *row);

/* The dimension of a weight along which its node's units lie. */
int otf_produced_dim(const tf_graph *g, const tf_param *p);

/* otfusion_estimate.c: in place of the real thing when the job has a tally --------------------------------------- */
tfuse_status otf_estimate_statistics(otf *o);
tfuse_status otf_estimate_heads(otf *o, const tf_part *from, const tf_part *to);
tfuse_status otf_estimate_part(otf *o, const otf_units *units, int n_sets, const tf_part *from, const tf_part *to, bool blocks,
                               tf_plan_map *row);
tfuse_status otf_estimate_spread(otf *o, const tf_map *like, int64_t group, tf_map **out);
tfuse_status otf_estimate_mix(otf *o, int32_t res, int32_t br, tf_map **out);

/* otfusion_spread.c: the map of values that groups of queries share. */
tfuse_status otf_spread(tf_flow *f, tf_id in, tf_id out);

/* A value's maps, none known yet: n parts. (otfusion.c) */
tfuse_status otf_new_value(otf *o, tf_id value, int n);

/* otfusion_join.c: the residual policy. */
tfuse_status otf_join(tf_flow *f, const tf_node *n, tf_id residual, tf_id branch, tf_id out);

#endif
