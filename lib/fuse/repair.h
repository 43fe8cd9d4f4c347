/* SPDX-License-Identifier: Apache-2.0
 *
 * repair.h: weights from a plan, models and calibration inputs: what the files of repair share.
 *
 * Lanes. All samples go through the anchor's graph node by node, in one lane for each parent (in canonical form, carried to the anchor's coordinates by
 * the plan) and one for the merged network. A parent of which the plan's maps lose something runs through its own graph instead, and its values
 * are carried, each by the map of its axis (repair_own.c). When the merged lane comes to a linear, that linear is fitted on the merged network's own inputs
 * towards the mean of the parents' outputs; so later linears see, and make good, what earlier ones left. A plan must have one map an axis
 * (plan->carries): only then do the parents' values share coordinates.
 */
#ifndef TF_FUSE_REPAIR_H
#define TF_FUSE_REPAIR_H

#include "fuse/fuse.h"
#include "passes/passes.h"

enum { RP_SELECT = 1, RP_REGMEAN = 2, RP_REFIT = 4, RP_STATISTICS = 8, RP_HEAD = 16, RP_MIX = 32, RP_CIRCUITS = 64, RP_UNASKED = 128 };
/* RP_UNASKED: nobody asked for circuits by name: those with rotary positions stay, where merging was not found to gain. */

/* Every fifth sample is held out where strengths and mixes are chosen. */
enum { RP_FOLD = 5 };
static inline bool rp_is_held(int64_t samples, int64_t s) { return samples >= RP_FOLD && s % RP_FOLD == RP_FOLD - 1; }

typedef struct rp_lane {
    tf_fuse_job job;
    double *only;       /* weights of the job: one for this parent */
    tf_fusion *fusion;
    tf_inputs inputs;
    tf_batch *values;   /* of all samples; data NULL where it is not live */
    size_t *spilled;    /* bytes of those that lie in a file; 0: in memory */
    size_t next;        /* step that runs next */
    const tf_graph *g;  /* that it runs through: the anchor's */
    struct rp_own *own; /* NULL, or what runs in place of this lane, whose values are then carried from there */
} rp_lane;

/* A parent in its own graph. */
typedef struct rp_own {
    rp_lane lane;       /* values of that graph */
    tf_canonical form;
} rp_own;

/* Blocks of units that may come from any parent: the axis that a write to the stream reads, and the linears that feed it. */
typedef struct rp_block {
    tf_id write;        /* linear node */
    tf_id cls;          /* heads, or hidden units */
    int64_t units;      /* of the class */
    size_t first;       /* step of the first of the linears that feed it */
    tf_id *feeds;       /* those nodes */
    int n_feeds;
    int32_t *owner;     /* after selection: parent of each unit; NULL before */
    int64_t *from;      /* and its unit there */
} rp_block;

/* One of the two linears whose products are a circuit (graph/op.h). */
typedef struct rp_side {
    tf_id node, weight, bias; /* bias -1: none, or no part of it, as on a side that is read */
    tf_id in;                 /* value whose second moments weigh it; -1: none */
    bool is_read;             /* a unit is a column of the linear's weight, not a row */
    int64_t length;           /* of a unit: the linear's inputs, and one for a bias; its outputs */
} rp_side;

typedef struct rp_circuit {
    tf_id node;
    tf_circuit c;
    rp_side a, b;
    size_t first; /* step of the first of the two linears */
} rp_circuit;

/* Grams of inputs (with a column of ones when there is a bias) and targets, of samples to fit by and held out. */
typedef struct rp_grams {
    int64_t n, m;            /* columns of the inputs, ones included; targets */
    double *xx[2], *xy[2];   /* n×n, n×m: fitted, held out */
    double *yy[2];           /* squares of each target: m */
} rp_grams;

typedef struct repair {
    tf_env *env;
    const tf_fuse_job *job;
    const tf_graph *g;
    int stages;
    int64_t samples;
    double token_weight;
    double ridge;       /* 0: chosen on held-out samples */
    bool spill;         /* memory is bounded: large values go to files without a name */
    bool all;           /* what is held out is fitted to as well, in the end */
    size_t n;           /* parents; lane n is the merged one */
    double *weights;    /* of parents, summing to one: in the ensemble, whose logits the last linear is fitted to */
    double *mix;        /* and in all that comes before: values and weights that are fitted to, or averaged */
    rp_lane *lanes;
    tf_id *nodes;       /* that the output needs, in order: steps */
    size_t step;        /* at which the walk is; parents may be further */
    size_t n_nodes;
    size_t *last;       /* of each value: the step that reads it last */
    bool *class_only;   /* of each value */
    bool *follows;      /* of each value: it has a row for each token of the inputs */
    uint8_t *seen;      /* samples × tokens of the inputs: 0, padding; NULL: there is none */
    rp_block *blocks;
    size_t n_blocks;
    rp_circuit *circuits;
    size_t n_circuits;
    rp_grams shared;    /* xx of the input of a linear that others read as well; n 0: none */
    tf_id shared_in;
    bool shared_class;  /* of the class tokens alone */
    float **base;       /* of each parameter of the anchor that a circuit has: its part in the mean circuits; NULL: the parents' mean */
    float **fitted;     /* of each parameter of the anchor; NULL: as averaged */
    json_t *report;     /* rows of linears */
    json_t *selected;
    json_t *owners;     /* rows of selected axes, as in tfuse_plan */
    json_t *merged;     /* rows of circuits */
    json_t *mixes;      /* rows of mixes that were tried */
    double kl_refit;    /* from the ensemble before the last linear is fitted; NAN: it is not, or nobody looked */
} repair;

/* Values of at least this many bytes are spilled. */
enum { RP_SPILL_BYTES = 1 << 20 };

/* ---- repair_lane.c ---- */
/* last, of the nodes. */
tfuse_status rp_lives_make(repair *r);
/* calib NULL: lanes that hold weights and never advance. */
tfuse_status rp_lanes_make(repair *r, const tfuse_array *calib);
void rp_lanes_free(repair *r);
/* Runs a lane up to and with `step`. Values that nobody reads any more stay until rp_release. */
tfuse_status rp_advance(repair *r, size_t lane, size_t step);
void rp_release(repair *r, size_t step);
/* The input over which a step's output may be written, being read there for the last time; -1: none. */
tf_id rp_overwritten(const repair *r, size_t step);
/* A parameter of a lane: *owned is freed by the caller (NULL: it is not his). */
tfuse_status rp_param(repair *r, size_t lane, tf_id param, const float **x, float **owned);
static inline tf_batch *rp_value(const repair *r, size_t lane, tf_id value) { return &r->lanes[lane].values[value]; }

/* ---- repair_own.c ---- */
tfuse_status rp_own_make(repair *r, size_t lane, const tfuse_array *calib);
void rp_own_free(repair *r, rp_lane *lane);
/* The node of a step, and a parameter of it (freed by tf_free), as the parent has them. */
const tf_node *rp_own_node(const repair *r, const rp_own *own, size_t step);
tfuse_status rp_own_param(repair *r, const rp_own *own, tf_id param, float **x);
/* The values that a step has made, carried to the anchor's coordinates: into lane->values, whose memory rp_make_value gives. */
tfuse_status rp_own_carry(repair *r, size_t lane, size_t step);
tfuse_status rp_make_value(repair *r, rp_lane *lane, tf_id v, const tf_node *n);

/* ---- repair_rows.c: what is fitted to what ---- */
/* Rows of all samples of a value with a weight each: square roots, 0 for padding and where the token of the value `reaches` cannot reach the output,
 * more for class tokens. */
typedef struct rp_rows {
    int64_t tokens, count; /* of a sample, of all */
    float *root;           /* tokens */
    const uint8_t *seen;   /* count: 0, padding; NULL: there is none */
} rp_rows;
static inline bool rp_is_padding(const rp_rows *rows, int64_t row) { return rows->seen && !rows->seen[row]; }
static inline float rp_root(const rp_rows *rows, int64_t row) { return rp_is_padding(rows, row) ? 0 : rows->root[row % rows->tokens]; }
/* Flags of all rows of a value, as rp_rows.seen. */
const uint8_t *rp_seen(const repair *r, tf_id value);
tfuse_status rp_rows_make(repair *r, tf_id value, tf_id reaches, rp_rows *out);
/* The other input of the addition that a linear writes to, where all lanes have it; -1: the linear writes to none. */
tf_id rp_residual(const repair *r, tf_id value);
/* One row of the target of a linear's output: the parents' mean, with the stream's error so far when it is a write. */
void rp_target(const repair *r, tf_id value, tf_id residual, int64_t row, float *out);

/* ---- repair_fit.c ---- */
/* Rows that are multiplied at a time; a tile of a product, one for each thread. */
enum { RP_ROWS = 1024, RP_TILE_ROWS = 512, RP_TILE_COLS = 256 };
/* Targets, spread evenly over all, by which a ridge's strength is chosen. */
enum { RP_TRIAL = 128 };
/* *out in: xx of the same rows and inputs, which is kept then, or zeros. `count` rows, of these indices, one after the other. */
typedef void (*rp_rows_fn)(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out);
tfuse_status rp_grams_make(repair *r, const rp_rows *rows, int64_t n, rp_rows_fn input, const void *input_arg, int64_t m, rp_rows_fn target,
                           const void *target_arg, rp_grams *out);
void rp_grams_free(repair *r, rp_grams *g);
/* W (n×m) of min |X W - Y|² + rho |W - base|², rho from held-out samples unless given; *base is replaced. before, after: relative squared
 * errors on held-out samples, of the targets by which rho is chosen. */
tfuse_status rp_ridge(repair *r, const rp_grams *g, double *w, double *rho, double *before, double *after);

/* ---- repair_head.c ---- */
/* Rows of the last linear's outputs that are looked at at once. */
enum { RP_HEAD_ROWS = 256 };
/* The last linear before and after its fit to the rows that are not held out, n×m as in rp_ridge. */
typedef struct rp_head {
    tf_id in;
    int64_t inputs, n, m; /* n: with the ones of a bias */
    const double *base, *fit;
} rp_head;
/* The part of the way from base to fit at which the network is nearest to the ensemble on held-out rows; 1 where none are held out. */
tfuse_status rp_head_step(repair *r, const rp_rows *rows, const rp_head *h, double *step);

/* Mean divergence (rp_divergence) of what `base` gives over all rows. */
tfuse_status rp_head_divergence(repair *r, const rp_rows *rows, const rp_head *h, double *kl);
/* Kullback-Leibler divergence of softmax(x) from the ensemble's, the softmax of the parents' mean logits, on one row. work: as many numbers. */
double rp_divergence(const repair *r, int64_t row, const double *x, int64_t n, double *work);

/* ---- stages ---- */
tfuse_status rp_fit_linear(repair *r, size_t step);                    /* repair_refit.c: base weights, regmean, refit, head, statistics */
tfuse_status rp_blocks_make(repair *r);                                /* repair_select.c */
void rp_blocks_free(repair *r);
tfuse_status rp_select(repair *r, size_t step);                        /* blocks whose first linear is this step */
const rp_block *rp_block_of(const repair *r, tf_id node, bool *write); /* the selected block that a linear feeds or writes from */
tfuse_status rp_circuits_make(repair *r);                              /* repair_circuits.c */
void rp_circuits_free(repair *r);
tfuse_status rp_merge_circuits(repair *r, size_t step);                /* those whose first linear is this step, into base */
/* Whether a linear makes a side of a circuit, or (*reads) reads one. */
bool rp_in_circuit(const repair *r, tf_id node, bool *reads);

#endif
