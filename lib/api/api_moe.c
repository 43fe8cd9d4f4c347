/* SPDX-License-Identifier: Apache-2.0
 *
 * api_moe.c: tfuse/moe.h.
 */
#include "api/api.h"
#include "moe/moe.h"

static tfuse_status to_string(tf_env *env, json_t *report, void *arg)
{
    return tf_api_report(env, json_incref(report), JSON_COMPACT | JSON_REAL_PRECISION(17), arg);
}

/* A report of what was not written is none. */
static tfuse_status drop_unless(tfuse_status status, char **report)
{
    if (status != TFUSE_OK) {
        tfuse_string_free(*report);
        *report = NULL;
    }
    return status;
}

static tfuse_status need_model(tf_env *env, const tfuse_model *model)
{
    TF_TRY(tf_api_models(env, &model, 1));
    return model->count > 0 ? TFUSE_OK
                            : tf_fail(env, TFUSE_ENOTFOUND, "%s: there are no tensors beside config.json; put model.safetensors there",
                                      tf_model_label(model));
}

static tfuse_status split(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const tfuse_array *calib, const char *out,
                          tfuse_model **made, char **report)
{
    TF_TRY(need_model(&ctx->env, model));
    return drop_unless(tf_moe_split(&ctx->env, policy, &ctx->solvers, model, calib, out, made, to_string, report), report);
}

tfuse_status tfuse_moe(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const tfuse_array *calib, const char *out, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(out), TF_ARG(report), TF_MAYBE(policy, POLICY), TF_MAYBE(calib, ARRAY));
    return tf_api_leave(ctx, split(ctx, policy, model, calib, out, NULL, report));
}

tfuse_status tfuse_moe_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const tfuse_array *calib, tfuse_model **made,
                             char **report)
{
    TF_OUT(report);
    TF_OUT(made);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(made), TF_ARG(report), TF_MAYBE(policy, POLICY), TF_MAYBE(calib, ARRAY));
    return tf_api_leave(ctx, split(ctx, policy, model, calib, NULL, made, report));
}

static tfuse_status join(tf_env *env, const tfuse_policy *policy, const tfuse_model *model, const char *out, char **report)
{
    TF_TRY(need_model(env, model));
    return drop_unless(tf_moe_join(env, policy, model, out, NULL, to_string, report), report);
}

tfuse_status tfuse_moe_dense(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, const char *out, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(out), TF_ARG(report), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, join(&ctx->env, policy, model, out, report));
}

static tfuse_status dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *given, bool dense, char **report)
{
    json_t *object = NULL;
    tfuse_run_paths table;
    TF_TRY(TF_TABLE(given, &table, tfuse_run_paths, out));
    if (!table.models || table.n_models != 1 || !table.models[0])
        return tf_fail(&ctx->env, TFUSE_EINVAL, "paths->models is not one model");
    const tfuse_status status =
        tf_moe_dry_run(&ctx->env, policy, &ctx->solvers, table.models[0], table.calib, table.out, dense, &object);
    const tfuse_status told = status == TFUSE_OK ? to_string(&ctx->env, object, report) : status;
    json_decref(object);
    return told;
}

tfuse_status tfuse_moe_dry_run(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_run_paths *paths, int32_t dense, char **report)
{
    TF_OUT(report);
    TF_ENTER(ctx, TF_ARG(paths), TF_ARG(report), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, dry_run(ctx, policy, paths, dense != 0, report));
}
