/* SPDX-License-Identifier: Apache-2.0
 *
 * align.h: strategies: each makes a plan from graphs, views of the weights and statistics. One file a strategy.
 */
#ifndef TF_ALIGN_ALIGN_H
#define TF_ALIGN_ALIGN_H

#include "align/plan.h"
#include "base/meter.h"
#include "graph/view.h"
#include "num/array.h"
#include "ot/ot.h"
#include "policy/policy.h"
#include "run/run.h"

/* What aligning would take. */
typedef struct tf_align_tally {
    tf_tally memory; /* live: the maps, at the end */
    uint64_t maps;   /* bytes of the maps' numbers */
} tf_align_tally;

/* What a strategy works on; model 0 is the anchor. Borrowed. */
typedef struct tf_align_job {
    const tfuse_policy *policy;
    const tf_solver_registry *solvers;
    const tfuse_model *const *models;
    tf_graph *const *graphs;
    size_t n;
    const tfuse_array *calib; /* NULL: none */
    bool fed;                 /* a host feeds the values instead */
    tf_feed *feed;            /* theirs; NULL while it is asked what it will have to hold */
    tf_buf *problems;         /* not NULL: checks append what they find, a line each, and go on */
    tf_align_tally *tally;    /* not NULL: nothing is computed and no weight is looked at; the plan's maps are hollow (no numbers) */
} tf_align_job;

static inline bool tf_align_calibrated(const tf_align_job *job)
{
    return job->calib || job->fed;
}

typedef struct tf_strategy {
    const char *name;
    bool exact;                /* its plans are (plan.h), and are checked for it, unless align says otherwise */
    const char *const *passes; /* names, NULL at the end: the form in which it works and its result is */
    /* Checks before anything runs: that the models pair, that calibration is there if needed. */
    tfuse_status (*needs)(tf_env *env, const tf_align_job *job);
    /* The statistics that model k's maps want, items freed by tf_free; they point into the graphs. NULL: none ever. */
    tfuse_status (*wants)(tf_env *env, const tf_align_job *job, size_t k, tf_stat_wants *out);
    /* Adds maps and entries for every model but the anchor. views: the models in the form of `passes`. */
    tfuse_status (*align)(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan);
} tf_strategy;

/* What a check makes of a failure: itself, or TFUSE_OK when it is listed among the job's problems. */
tfuse_status tf_align_note(tf_env *env, const tf_align_job *job, tfuse_status status);

extern const tf_strategy tf_strategy_none, tf_strategy_otfusion, tf_strategy_matching;
/* TFUSE_EKEY when unknown. */
tfuse_status tf_strategy_find(tf_env *env, const char *name, const tf_strategy **out);

/* align.c: graphs of all models, checks, strategy, provenance. */
/* What can be checked before anything runs: strategy, pairing, what it needs. */
tfuse_status tf_align_check(tf_env *env, const tf_align_job *job);
tfuse_status tf_align(tf_env *env, const tf_align_job *job, tfuse_plan **out);
/* What a host has to feed for this job (job->fed, job->feed NULL). */
tfuse_status tf_align_feed(tf_env *env, const tf_align_job *job, tf_feed **out);

/* kept.c: measures what each lossy map of the plan leaves of its model's weights; views as in tf_strategy. Under a tally only what it would take. */
tfuse_status tf_plan_measure_kept(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan);

/* pairing.c: graphs pair node by node: the same names and operations, and pinned axes of equal extent (vocabulary, classes). */
tfuse_status tf_pair_graphs(tf_env *env, const tf_align_job *job, size_t k);
/* Also every free axis of equal extent: what plain averaging needs. */
tfuse_status tf_pair_extents(tf_env *env, const tf_align_job *job, size_t k);

#endif
