/* SPDX-License-Identifier: Apache-2.0
 *
 * dry_run.c: a run looked at from headers alone. Every check goes on after a failure and appends a line to the list; what a
 * failure makes senseless (pairing a model that could not be opened) is left out.
 */
#include "arch/arch.h"
#include "fuse/calibration.h"
#include "fuse/dry.h"
#include "fuse/fuse.h"
#include "graph/naming.h"
#include "io/io.h"
#include "num/array.h"
#include "num/num.h"
#include "io/writer_files.h"
#include "run/run.h"

typedef struct dry {
    tf_env *env;
    const tf_dry_run *what;
    tf_buf problems;
    tfuse_model **models; /* NULL where one could not be opened */
    tf_graph **graphs;
    tf_mapping *zeros; /* of those that are a config alone */
    tfuse_array *calib;
    tf_calibration own; /* what the models will generate in its place */
    tfuse_plan *plan;
    uint64_t peak, read, write;
    bool fit;   /* tensors and calibration are what the graphs ask for */
    bool sized; /* peak and write are known */
} dry;

static tfuse_status note(dry *d, tfuse_status status)
{
    return tf_dry_note(d->env, &d->problems, status);
}

/* ---- models ----------------------------------------------------------------------------------- */

static tfuse_status check_model(dry *d, size_t k)
{
    tf_env *env = d->env;
    tfuse_status status = tf_model_open(env, d->what->models[k], TFUSE_OPEN_CONFIG_ONLY, &d->models[k]);
    if (status != TFUSE_OK)
        return note(d, status);
    for (size_t i = 0; i < d->models[k]->n_files; i++)
        d->read += d->models[k]->files[i].size;
    status = tf_graph_build_unchecked(env, d->models[k], &d->graphs[k]);
    if (status != TFUSE_OK)
        return note(d, status);
    if (d->models[k]->count == 0)
        return note(d, tf_dry_imagine(env, d->graphs[k], &d->models[k], &d->zeros[k], &d->read));
    const tfuse_model *m = d->models[k];
    return tf_graph_list_problems(env, d->graphs[k], m, tf_policy_is(d->what->policy, "io.extra", "copy"), &d->problems);
}

static tfuse_status check_models(dry *d)
{
    const size_t n = d->what->n;
    d->models = tf_calloc(d->env, n + 1, sizeof(tfuse_model *));
    d->graphs = tf_calloc(d->env, n + 1, sizeof(tf_graph *));
    d->zeros = tf_calloc(d->env, n + 1, sizeof *d->zeros);
    if (!d->models || !d->graphs || !d->zeros)
        return TFUSE_ENOMEM;
    for (size_t k = 0; k < n; k++)
        TF_TRY(check_model(d, k));
    return n > 1 ? TFUSE_OK : note(d, tf_fail(d->env, TFUSE_EINVAL, "fusing needs an anchor and at least one more model"));
}

/* ---- calibration, plan, weights ------------------------------------------------------------------ */

static tfuse_status plan_calibration(dry *d)
{
    const tf_align_job job = {.policy = d->what->policy, .models = (const tfuse_model *const *)d->models, .graphs = d->graphs, .n = d->what->n};
    for (size_t k = 0; k < d->what->n; k++)
        if (!d->graphs[k])
            return TFUSE_OK;
    return note(d, tf_calibration_plan(d->env, &job, d->plan, true, &d->own));
}

static tfuse_status check_calibration(dry *d)
{
    const tfuse_policy *p = d->what->policy;
    if (!d->what->calib)
        TF_TRY(plan_calibration(d));
    if (!d->what->calib && !d->own.array && !tf_policy_is(p, "repair", "auto") && !tf_policy_is(p, "repair", "none") &&
        !tf_policy_is(p, "repair", "circuits"))
        TF_TRY(note(d, tf_fail(d->env, TFUSE_EINVAL, "repair=%s fits to calibration inputs: give --calib FILE", tf_policy_text(p, "repair"))));
    if (!d->what->calib)
        return TFUSE_OK;
    tfuse_status status = tf_array_open(d->env, d->what->calib, &d->calib);
    if (status != TFUSE_OK)
        return note(d, status);
    tf_dry_count_file(d->what->calib, &d->read);
    for (size_t k = 0; k < d->what->n; k++) {
        tf_inputs in;
        if (d->graphs[k])
            TF_TRY(note(d, tf_inputs_make(d->env, d->graphs[k], d->models[k], d->calib, 0, &in)));
    }
    return TFUSE_OK;
}

static tfuse_status check_plan(dry *d)
{
    if (!d->what->plan)
        return TFUSE_OK;
    tfuse_status status = tf_plan_load(d->env, d->what->plan, &d->plan);
    if (status != TFUSE_OK)
        return note(d, status);
    tf_dry_count_file(d->what->plan, &d->read);
    if (d->plan->n_models == d->what->n)
        return TFUSE_OK;
    status = note(d, tf_fail(d->env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", d->plan->n_models, d->what->n));
    tf_plan_free(d->plan);
    d->plan = NULL;
    return status;
}

static tfuse_status check_weights(dry *d)
{
    tfuse_plan *empty = NULL;
    if (d->what->n == 0)
        return TFUSE_OK;
    double *weights = tf_alloc_array(d->env, d->what->n, sizeof *weights);
    tfuse_status status = weights ? tf_plan_new(d->env, "none", d->what->n, &empty) : TFUSE_ENOMEM;
    const tf_fuse_job job = {.policy = d->what->policy, .plan = empty, .n = d->what->n};
    if (status == TFUSE_OK)
        status = note(d, tf_fuse_weights(d->env, &job, weights));
    tf_plan_free(empty);
    tf_free(&d->env->mem, weights);
    return status;
}

/* ---- pairing and sizes ----------------------------------------------------------------------------- */

/* Pairs the models whose graphs are there; without the anchor's there is nothing to pair with. */
static tfuse_status check_pairing(dry *d, const tf_align_job *job)
{
    const tf_strategy *strategy;
    if (d->plan || job->n < 2)
        return TFUSE_OK;
    tfuse_status status = tf_strategy_find(d->env, tf_policy_text(job->policy, "align.strategy"), &strategy);
    return status == TFUSE_OK ? strategy->needs(d->env, job) : note(d, status);
}

static tfuse_status size_up(dry *d, tf_align_job *job)
{
    uint64_t maps;
    job->problems = NULL;
    tfuse_status status = tf_fuse_peak(d->env, job, d->plan, d->what->save_plan != NULL, &d->peak, &maps);
    if (status == TFUSE_OK && d->own.array) {
        uint64_t drawing = 0;
        status = tf_calibration_peak(d->env, job, &d->own, &drawing);
        d->peak = drawing > d->peak ? drawing : d->peak;
    }
    if (status != TFUSE_OK)
        return note(d, status);
    const tf_fuse_job fuse = {.policy = job->policy, .models = job->models, .graphs = job->graphs, .n = job->n, .dry = true};
    TF_TRY(tf_fuse_output_bytes(d->env, &fuse, &d->write));
    if (d->models[0]->dir)
        d->write += tf_companions_bytes(d->models[0]->dir);
    if (d->what->out)
        TF_TRY(tf_dry_space(d->env, d->what->out, d->write, &d->problems));
    if (d->what->save_plan) {
        TF_TRY(tf_dry_space(d->env, d->what->save_plan, maps, &d->problems));
        d->write += maps;
    }
    d->sized = true;
    char otherwise[TF_ADVICE];
    TF_TRY(tf_fuse_advise(d->env, job, d->plan, d->what->save_plan != NULL, d->peak, 0, otherwise));
    return tf_dry_memory(d->env, d->what->policy, d->peak, otherwise, &d->problems);
}

static tfuse_status check_models_together(dry *d)
{
    const tf_dry_run *w = d->what;
    const tfuse_model **models = tf_calloc(d->env, w->n + 1, sizeof *models);
    tf_graph **graphs = tf_calloc(d->env, w->n + 1, sizeof(tf_graph *));
    size_t n = 0;
    for (size_t k = 0; models && graphs && k < w->n && d->graphs[0]; k++) {
        if (!d->graphs[k])
            continue;
        models[n] = d->models[k];
        graphs[n++] = d->graphs[k];
    }
    tf_align_job job = {.policy = d->own.policy ? d->own.policy : w->policy, .solvers = w->solvers, .models = models, .graphs = graphs, .n = n,
                        .calib = d->own.array ? d->own.array : d->calib, .problems = &d->problems};
    const size_t before = d->problems.len;
    tfuse_status status = models && graphs ? check_pairing(d, &job) : TFUSE_ENOMEM;
    /* An output that is in the way changes no size; models that do not fit each other have none. */
    if (status == TFUSE_OK && n > 1 && n == w->n && d->fit && d->problems.len == before && (!w->plan || d->plan) && (!w->calib || d->calib))
        status = size_up(d, &job);
    tf_free(&d->env->mem, models);
    tf_free(&d->env->mem, graphs);
    return status;
}

/* Whether the run comes to a factorisation, which a library built without LAPACK has not. */
static tfuse_status check_lapack(dry *d)
{
    const tfuse_policy *p = d->what->policy;
    if (d->what->plan || !tf_policy_is(p, "align.strategy", "matching"))
        return TFUSE_OK;
    const bool maps = tf_policy_is(p, "matching.stream", "orthogonal") || tf_policy_is(p, "matching.inner", "procrustes");
    const bool given = d->what->calib || d->own.array;
    const bool fits = (given && !tf_policy_is(p, "repair", "none")) || tf_policy_is(p, "repair", "circuits");
    return maps || fits ? note(d, tf_lapack_check(d->env, maps ? "align.strategy=matching" : "repair")) : TFUSE_OK;
}

static tfuse_status look(dry *d)
{
    const tf_dry_run *w = d->what;
    TF_TRY(check_models(d));
    TF_TRY(check_plan(d)); /* without one that is given but cannot be read there is no size */
    TF_TRY(check_calibration(d));
    d->fit = d->problems.len == 0;
    TF_TRY(check_lapack(d));
    TF_TRY(check_weights(d));
    TF_TRY(tf_dry_output(d->env, w->policy, w->out, true, &d->problems));
    TF_TRY(tf_dry_output(d->env, w->policy, w->save_plan, false, &d->problems));
    if (w->out && tf_policy_flag(w->policy, "io.force"))
        TF_TRY(note(d, tf_check_apart(d->env, (const tfuse_model *const *)d->models, w->n, w->out)));
    return check_models_together(d);
}

tfuse_status tf_fuse_dry_run(tf_env *env, const tf_dry_run *what, json_t **report)
{
    dry d = {.env = env, .what = what};
    tf_buf_init(&d.problems, &env->mem);
    *report = NULL;
    tfuse_status status = look(&d);
    if (status == TFUSE_OK)
        status = tf_dry_report(env, &(tf_dry_sizes){d.sized, d.peak, d.read, d.write}, &d.problems, report);
    for (size_t k = 0; k < what->n; k++) {
        if (d.graphs)
            tf_graph_free(d.graphs[k]);
        if (d.models)
            tf_model_free(d.models[k]);
        if (d.zeros)
            tf_unmap_file(&d.zeros[k]);
    }
    tf_free(&env->mem, d.zeros);
    tf_free(&env->mem, d.graphs);
    tf_free(&env->mem, d.models);
    if (d.calib)
        tf_array_free(d.calib);
    tf_calibration_free(&d.own);
    tf_plan_free(d.plan);
    tf_buf_free(&d.problems);
    return status;
}
