/* SPDX-License-Identifier: Apache-2.0
 *
 * moe.h: a dense model split into a mixture of experts, and back.
 */
#ifndef TF_MOE_MOE_H
#define TF_MOE_MOE_H

#include "arch/ffn.h"
#include "moe/cluster.h"
#include "num/array.h"
#include "policy/policy.h"
#include <jansson.h>

/* Beside config.json: the order of the hidden units and the config of the dense model, for the way back. */
#define TF_MOE_NOTES "tfuse_moe.json"

/* One FFN in both forms. */
typedef struct tf_moe_ffn {
    tf_ffn dense;     /* nodes of the dense graph */
    tf_routed routed; /* nodes of the routed one */
    int64_t *order;   /* unit j of the experts, whose e-th run is expert e, is unit order[j] of the dense FFN */
    double router;    /* what the mean keys are multiplied by */
} tf_moe_ffn;

/* A split, in either direction: names, tensors and config of the one form from those of the other. */
typedef struct tf_moe {
    const tfuse_policy *policy;
    const tf_solver_registry *solvers;
    const tfuse_model *model;  /* borrowed: dense, or with `back` routed */
    tf_graph *dense, *routed;
    bool back, ordered;        /* ordered: with `back`, the dense model's order of hidden units is known */
    const char *layout;
    tf_emoe how;
    tf_moe_ffn *ffns;
    size_t n;
    double down;               /* what the second linears are multiplied by, since a chosen expert weighs 1/down */
    json_t *config;            /* of what is written */
    json_t *notes;             /* of what goes beside it: NULL: nothing */
} tf_moe;

static inline const tf_graph *tf_moe_source(const tf_moe *s) { return s->back ? s->routed : s->dense; }
static inline const tf_graph *tf_moe_target(const tf_moe *s) { return s->back ? s->dense : s->routed; }

/* ---- split.c ---- */
/* From a dense model by moe.experts, moe.top_k and moe.layout, every order the identity. */
tfuse_status tf_moe_open(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const tfuse_model *m, tf_moe *out);
/* From a routed one (back.c): TFUSE_EUNSUPPORTED when it is none, or one whose weights are not known to be such that the experts side by side are the
 * same. */
tfuse_status tf_moe_open_back(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, tf_moe *out);
void tf_moe_close(tf_env *env, tf_moe *s);
/* The same split with so many experts chosen: shares nothing with the other. */
tfuse_status tf_moe_with_top_k(tf_env *env, const tf_moe *s, int64_t top_k, tf_moe *out);
/* Pairs the FFNs of both graphs, every order the identity; *n_routed of them are routed. */
tfuse_status tf_moe_pair(tf_env *env, tf_moe *s, size_t *n_routed);
/* Which FFN's experts a node of the target belongs to; NULL: none's. */
const tf_moe_ffn *tf_moe_ffn_of(const tf_moe *s, tf_id node);

/* ---- keys.c ---- */
enum { TF_CLUSTERED, TF_CONTIGUOUS, TF_RANDOM, TF_SPLITS };
extern const char *const tf_split_names[TF_SPLITS];
/* What is known of one FFN's splits. */
typedef struct tf_moe_found {
    int64_t *order[TF_SPLITS];
    double spread[TF_SPLITS];  /* of its keys, scaled to length one */
    double error[TF_SPLITS], size; /* squared error of the routed output and squares of the dense one, summed over calibration tokens */
    int64_t iterations, swaps;
} tf_moe_found;
/* Of every FFN, *out freed by tf_moe_found_free. */
tfuse_status tf_moe_find(tf_env *env, const tf_moe *s, tf_moe_found **out);
void tf_moe_found_free(tf_env *env, const tf_moe *s, tf_moe_found *found);
void tf_moe_take(tf_moe *s, const tf_moe_found *found, int kind);
/* units × width keys of an FFN as stored; freed by tf_free. */
tfuse_status tf_moe_keys(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float **out);

/* ---- tensors.c ---- */
/* A logical tensor of the target. */
tfuse_status tf_moe_param(tf_env *env, const tf_moe *s, tf_id param, float *dst);
/* What that takes beside dst. */
uint64_t tf_moe_param_bytes(const tf_moe *s, tf_id param);
/* Scales of the routers, from the keys and the orders. */
tfuse_status tf_moe_scale_routers(tf_env *env, tf_moe *s);

/* ---- write.c ---- */
/* Rows of what is written, count of them; freed by tf_free. Names are the graph's and the model's. */
tfuse_status tf_moe_rows(tf_env *env, const tf_moe *s, tf_tensor **out, size_t *count);
/* What writing them takes, beside a model in memory. */
uint64_t tf_moe_writing_bytes(const tf_moe *s, const tf_tensor *rows, size_t count);
tfuse_status tf_moe_to_checkpoint(tf_env *env, const tf_moe *s, const char *out);
tfuse_status tf_moe_to_model(tf_env *env, const tf_moe *s, tfuse_model **out);

/* ---- compare.c ---- */
enum { TF_MOE_BATCH_BYTES = 64 << 20, TF_MOE_TILE = 256 }; /* what is kept of a batch of samples; tokens of a tile */
/* The values that are compared: keys and hidden units of every FFN, 2n, freed by tf_free. */
tfuse_status tf_moe_compared(tf_env *env, const tf_moe *s, tf_id **out);
/* Fills error and size of each FFN, on the dense model's own values of calib.samples samples. */
tfuse_status tf_moe_errors(tf_env *env, const tf_moe *s, const tfuse_array *calib, tf_moe_found *found);
/* Squared error of the routed model's outputs over the squares of the dense one's, for every split; leaves s->ffns with the clustered orders. */
tfuse_status tf_moe_output_errors(tf_env *env, tf_moe *s, const tfuse_array *calib, const tf_moe_found *found, double out[TF_SPLITS]);
/* Largest difference of outputs over the largest one between the dense model and the split one with all experts chosen, on a few random inputs;
 * TFUSE_ENUMERIC beyond the tolerance. */
tfuse_status tf_moe_selfcheck(tf_env *env, const tf_moe *s, double *deviation);
/* Whether rows of a routed parameter are rows of the dense model's, so that they can be made without the rest. */
bool tf_moe_has_rows(const tf_moe *s, tf_id param);

/* ---- run.c: all of it. out NULL: into *made. ---- */
/* Is told the report of tfuse/moe.h, which it borrows, before anything is written: what it fails with is the end of it. */
typedef tfuse_status (*tf_moe_tell)(tf_env *env, json_t *report, void *arg);
tfuse_status tf_moe_split(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const tfuse_model *m, const tfuse_array *calib,
                          const char *out, tfuse_model **made, tf_moe_tell tell, void *arg);
tfuse_status tf_moe_join(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const char *out, tfuse_model **made, tf_moe_tell tell, void *arg);

/* ---- estimate.c ---- */
/* What that takes at most: all that is live now, and the work; and bytes of tensors written. calib NULL: none. */
tfuse_status tf_moe_peak(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory, uint64_t *peak, uint64_t *written);
tfuse_status tf_moe_check_memory(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory);

/* ---- dry_run.c: problems and sizes from headers alone, as tf_fuse_dry_run's. ---- */
tfuse_status tf_moe_dry_run(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const char *model, const char *calib,
                            const char *out, bool back, json_t **report);

#endif
