/* SPDX-License-Identifier: Apache-2.0
 *
 * dry_run.c: a split looked at from headers alone. What a failure makes senseless is left out.
 */
#include "arch/arch.h"
#include "fuse/dry.h"
#include "graph/naming.h"
#include "io/io.h"
#include "io/writer_files.h"
#include "moe/moe.h"
#include "run/run.h"
#include <string.h>

typedef struct moe_dry {
    tf_env *env;
    const tfuse_policy *policy;
    const tf_solver_registry *solvers;
    const char *path, *calib_path, *out;
    bool back;
    tf_buf problems;
    tfuse_model *model;
    tf_graph *graph;
    tf_mapping zeros;
    tfuse_array *calib;
    tf_dry_sizes sizes;
} moe_dry;

static tfuse_status note(moe_dry *d, tfuse_status status)
{
    return tf_dry_note(d->env, &d->problems, status);
}

static tfuse_status check_model(moe_dry *d)
{
    tfuse_status status = tf_model_open(d->env, d->path, TFUSE_OPEN_CONFIG_ONLY, &d->model);
    if (status != TFUSE_OK)
        return note(d, status);
    for (size_t i = 0; i < d->model->n_files; i++)
        d->sizes.read += d->model->files[i].size;
    status = tf_graph_build_unchecked(d->env, d->model, &d->graph);
    if (status != TFUSE_OK)
        return note(d, status);
    if (d->model->count == 0)
        return note(d, tf_dry_imagine(d->env, d->graph, &d->model, &d->zeros, &d->sizes.read));
    return tf_graph_list_problems(d->env, d->graph, d->model, tf_policy_is(d->policy, "io.extra", "copy"), &d->problems);
}

static tfuse_status check_calibration(moe_dry *d)
{
    tf_inputs in;
    if (!d->calib_path)
        return TFUSE_OK;
    tfuse_status status = tf_array_open(d->env, d->calib_path, &d->calib);
    if (status != TFUSE_OK)
        return note(d, status);
    tf_dry_count_file(d->calib_path, &d->sizes.read);
    if (!d->graph || (status = tf_inputs_make(d->env, d->graph, d->model, d->calib, 0, &in)) == TFUSE_OK)
        return TFUSE_OK;
    tf_array_free(d->calib); /* there are no sizes without it */
    d->calib = NULL;
    return note(d, status);
}

static tfuse_status size_up(moe_dry *d, const tf_moe *s)
{
    TF_TRY(tf_moe_peak(d->env, s, d->calib, false, &d->sizes.peak, &d->sizes.write));
    d->sizes.write += d->model->dir ? tf_companions_bytes(d->model->dir) : 0;
    d->sizes.write += d->model->config_text ? strlen(d->model->config_text) : 0;
    d->sizes.known = true;
    if (d->out)
        TF_TRY(tf_dry_space(d->env, d->out, d->sizes.write, &d->problems));
    return tf_dry_memory(d->env, d->policy, d->sizes.peak, "", &d->problems);
}

static tfuse_status check_split(moe_dry *d)
{
    tf_moe s;
    if (!d->graph || !d->model || d->model->count == 0)
        return TFUSE_OK;
    tfuse_status status = d->back ? tf_moe_open_back(d->env, d->policy, d->model, &s) : tf_moe_open(d->env, d->policy, d->solvers, d->model, &s);
    if (status != TFUSE_OK)
        return note(d, status);
    if (!d->calib_path || d->calib)
        status = size_up(d, &s);
    tf_moe_close(d->env, &s);
    return status;
}

static tfuse_status look(moe_dry *d)
{
    TF_TRY(check_model(d));
    TF_TRY(check_calibration(d));
    TF_TRY(tf_dry_output(d->env, d->policy, d->out, true, &d->problems));
    if (d->out && tf_policy_flag(d->policy, "io.force"))
        TF_TRY(note(d, tf_check_apart(d->env, (const tfuse_model *const[]){d->model}, 1, d->out)));
    return check_split(d);
}

tfuse_status tf_moe_dry_run(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const char *model, const char *calib,
                            const char *out, bool back, json_t **report)
{
    moe_dry d = {.env = env, .policy = policy, .solvers = solvers, .path = model, .calib_path = calib, .out = out, .back = back};
    tf_buf_init(&d.problems, &env->mem);
    *report = NULL;
    tfuse_status status = look(&d);
    if (status == TFUSE_OK)
        status = tf_dry_report(env, &d.sizes, &d.problems, report);
    tf_graph_free(d.graph);
    tf_model_free(d.model);
    tf_unmap_file(&d.zeros);
    if (d.calib)
        tf_array_free(d.calib);
    tf_buf_free(&d.problems);
    return status;
}
