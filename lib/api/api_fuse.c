/* SPDX-License-Identifier: Apache-2.0
 *
 * api_fuse.c: tfuse/fuse.h, but for fusing itself, which api_repair.c does with weights fitted or not.
 */
#include "api/api.h"
#include "fuse/fuse.h"

#include <stdlib.h>

static tfuse_status selfcheck(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n,
                              const tfuse_array *calib, char **out)
{
    tf_graph **graphs = NULL;
    json_t *report = NULL;
    if (n != plan->n_models)
        return tf_fail(env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", plan->n_models, n);
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    const tf_fuse_job job = {.policy = policy, .plan = plan, .models = models, .graphs = graphs, .n = n};
    tfuse_status status = tf_fuse_selfcheck(env, &job, calib, &report);
    tf_api_graphs_free(env, graphs, n);
    TF_TRY(status);
    return tf_api_report(env, report, JSON_COMPACT | JSON_REAL_PRECISION(17), out);
}

tfuse_status tfuse_selfcheck(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                             size_t n_models, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(report), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, selfcheck(&ctx->env, policy, plan, models, n_models, NULL, report));
}

tfuse_status tfuse_selfcheck_on(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                                size_t n_models, const tfuse_array *calib, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(models), TF_ARG(report), TF_MAYBE(policy, POLICY), TF_MAYBE(calib, ARRAY));
    return tf_api_leave(ctx, selfcheck(&ctx->env, policy, plan, models, n_models, calib, report));
}

static tfuse_status dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *given, char **report)
{
    tf_env *env = &ctx->env;
    json_t *object = NULL;
    tfuse_run_paths table, *paths = &table;
    TF_TRY(TF_TABLE(given, &table, tfuse_run_paths, out));
    if (!paths->models)
        return tf_fail(env, TFUSE_EINVAL, "paths->models is NULL");
    for (size_t k = 0; k < paths->n_models; k++)
        if (!paths->models[k])
            return tf_fail(env, TFUSE_EINVAL, "paths->models[%zu] is NULL", k);
    const tf_dry_run what = {policy, &ctx->solvers, paths->models, paths->n_models, paths->calib, paths->plan, paths->save_plan, paths->out};
    TF_TRY(tf_fuse_dry_run(env, &what, &object));
    return tf_api_report(env, object, JSON_COMPACT, report);
}

tfuse_status tfuse_dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *paths, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_ARG(paths), TF_ARG(report), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, dry_run(ctx, policy, paths, report));
}
