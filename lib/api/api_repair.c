/* SPDX-License-Identifier: Apache-2.0
 *
 * api_repair.c: tfuse/repair.h.
 */
#include "api/api.h"
#include "fuse/calibration.h"

#include <stdlib.h>
#include <string.h>

struct tfuse_repair {
    uint32_t kind; /* TF_KIND_REPAIR */
    tf_mem mem;
    tf_graph *graph; /* the anchor's, by which the tensors are counted; NULL: nothing was fitted */
    float **fitted;
    char signature[17];
    json_t *owners; /* of the units that were selected; NULL: none */
    json_t *told;   /* the rest of the report; NULL: nothing was done */
    char *report;
};

void tfuse_repair_free(tfuse_repair *repair)
{
    if (!TF_IS_A(repair, REPAIR))
        return;
    const tf_mem mem = repair->mem;
    for (size_t p = 0; repair->fitted && p < repair->graph->n_params; p++)
        tf_free(&mem, repair->fitted[p]);
    tf_free(&mem, repair->fitted);
    tf_graph_free(repair->graph);
    tfuse_string_free(repair->report);
    json_decref(repair->owners);
    json_decref(repair->told);
    tf_free(&mem, repair);
}

const char *tfuse_repair_report(const tfuse_repair *repair)
{
    return TF_IS_A(repair, REPAIR) ? repair->report : NULL;
}

static tfuse_status run(tf_env *env, const tf_fuse_job *job, tf_graph **graphs, const tfuse_array *calib, tfuse_repair *out)
{
    json_t *report = NULL;
    int stages;
    TF_TRY(tf_repair_stages(env, job->policy, job->plan, calib != NULL, &stages));
    tfuse_status status = TFUSE_OK;
    if (stages)
        status = tf_repair(env, job, stages, calib, &out->fitted, &report);
    else
        report = json_pack("{s:[]}", "stages");
    if (status == TFUSE_OK && stages) {
        out->graph = graphs[0];
        graphs[0] = NULL;
        tf_graph_signature(out->graph, out->signature);
    }
    if (status == TFUSE_OK)
        out->owners = json_incref(json_object_get(report, "owners"));
    if (status == TFUSE_OK && stages) {
        out->told = json_copy(report);
        if (json_object_size(out->told) != json_object_size(report)) /* json_copy leaves out what it has no memory for */
            status = tf_fail(env, TFUSE_ENOMEM, "out of memory for the report of repair");
        json_object_del(out->told, "owners");
    }
    if (status == TFUSE_OK)
        return tf_api_report(env, report, JSON_COMPACT | JSON_REAL_PRECISION(17), &out->report);
    json_decref(report);
    return status;
}

static tfuse_status repair_new(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n,
                               const tfuse_array *calib, tfuse_repair **out)
{
    tf_graph **graphs = NULL;
    if (n != plan->n_models)
        return tf_fail(env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", plan->n_models, n);
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    tfuse_repair *made = tf_calloc(env, 1, sizeof *made);
    tf_align_job sizes = {.policy = policy, .models = models, .graphs = graphs, .n = n, .calib = calib};
    tf_calibration own = {0};
    tfuse_status status = made ? tf_calibrate(env, &sizes, plan, false, &own) : TFUSE_ENOMEM;
    const tf_fuse_job job = {.policy = sizes.policy, .plan = plan, .models = models, .graphs = graphs, .n = n};
    if (made) {
        made->kind = TF_KIND_REPAIR;
        made->mem = env->mem;
    }
    if (status == TFUSE_OK)
        status = run(env, &job, graphs, sizes.calib, made);
    tf_calibration_free(&own);
    tf_api_graphs_free(env, graphs, n);
    if (status != TFUSE_OK)
        tfuse_repair_free(made);
    else
        *out = made;
    return status;
}

tfuse_status tfuse_repair_new(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                              size_t n_models, const tfuse_array *calib, tfuse_repair **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(out), TF_MAYBE(policy, POLICY), TF_MAYBE(calib, ARRAY));
    return tf_api_leave(ctx, repair_new(&ctx->env, policy, plan, models, n_models, calib, out));
}

static tfuse_status save_plan(tf_env *env, const tfuse_plan *plan, const tfuse_repair *repair, const char *path, bool force)
{
    tfuse_plan with = *plan;
    if (repair && repair->owners)
        with.owners = repair->owners;
    if (repair && repair->told)
        with.repair = repair->told;
    return tf_plan_save(env, &with, path, force);
}

tfuse_status tfuse_plan_save_repaired(tfuse_ctx *ctx, const tfuse_plan *plan, const tfuse_repair *repair, const char *path, int32_t force)
{
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_MAYBE(repair, REPAIR), TF_ARG(path));
    return tf_api_leave(ctx, save_plan(&ctx->env, plan, repair, path, force != 0));
}

/* Where a fused model goes: one of them is set. */
typedef struct target {
    const char *path;
    const tfuse_sink *sink;
    tfuse_model **fused;
} target;

static tfuse_status write_out(tf_env *env, const tf_fuse_job *job, const target *to)
{
    if (to->path)
        return tf_fuse_to_checkpoint(env, job, to->path);
    return to->sink ? tf_fuse_to_sink(env, job, to->sink) : tf_fuse_to_model(env, job, to->fused);
}

static tfuse_status fuse(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n,
                         const tfuse_repair *repair, const target *to)
{
    tf_graph **graphs = NULL;
    json_t *report = NULL;
    char signature[17];
    if (n != plan->n_models)
        return tf_fail(env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", plan->n_models, n);
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    tf_fuse_job job = {.policy = policy, .plan = plan, .models = models, .graphs = graphs, .n = n};
    const tf_align_job sizes = {.policy = policy, .models = models, .graphs = graphs, .n = n};
    tfuse_status status = tf_fuse_check_memory(env, &sizes, plan, to->fused != NULL);
    tf_graph_signature(graphs[0], signature);
    if (status == TFUSE_OK && repair && repair->graph && strcmp(signature, repair->signature))
        status = tf_fail(env, TFUSE_EGRAPH, "the fitted weights are of graph %s and %s has %s; repair again", repair->signature,
                         tf_model_label(models[0]), signature);
    job.fitted = repair ? repair->fitted : NULL;
    if (status == TFUSE_OK && !to->fused && tf_policy_flag(policy, "fuse.selfcheck"))
        status = tf_fuse_selfcheck(env, &job, NULL, &report);
    json_decref(report);
    if (status == TFUSE_OK)
        status = write_out(env, &job, to);
    tf_api_graphs_free(env, graphs, n);
    return status;
}

tfuse_status tfuse_fuse_repaired(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                 size_t n_models, const tfuse_repair *repair, const char *out)
{
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(out), TF_MAYBE(policy, POLICY), TF_MAYBE(repair, REPAIR));
    return tf_api_leave(ctx, fuse(&ctx->env, policy, plan, models, n_models, repair, &(target){.path = out}));
}

tfuse_status tfuse_fuse_model_repaired(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                       size_t n_models, const tfuse_repair *repair, tfuse_model **fused)
{
    TF_OUT(fused);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(fused), TF_MAYBE(policy, POLICY), TF_MAYBE(repair, REPAIR));
    return tf_api_leave(ctx, fuse(&ctx->env, policy, plan, models, n_models, repair, &(target){.fused = fused}));
}

static tfuse_status fuse_into(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n,
                              const tfuse_repair *repair, const tfuse_sink *sink)
{
    tfuse_sink table;
    tfuse_status status = TF_TABLE(sink, &table, tfuse_sink, done);
    if (status != TFUSE_OK)
        return tf_fail(env, status, "sink: struct_size is not that of a tfuse_sink of this version");
    if (!table.place)
        return tf_fail(env, TFUSE_EINVAL, "sink: place is NULL");
    return fuse(env, policy, plan, models, n, repair, &(target){.sink = &table});
}

tfuse_status tfuse_fuse_into(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n_models,
                             const tfuse_repair *repair, const tfuse_sink *sink)
{
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(sink), TF_MAYBE(policy, POLICY), TF_MAYBE(repair, REPAIR));
    return tf_api_leave(ctx, fuse_into(&ctx->env, policy, plan, models, n_models, repair, sink));
}

tfuse_status tfuse_fuse(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n_models,
                        const char *out)
{
    return tfuse_fuse_repaired(ctx, policy, plan, models, n_models, NULL, out);
}

tfuse_status tfuse_fuse_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                              size_t n_models, tfuse_model **fused)
{
    return tfuse_fuse_model_repaired(ctx, policy, plan, models, n_models, NULL, fused);
}
