/* SPDX-License-Identifier: Apache-2.0
 *
 * api_fuse.c: tfuse/fuse.h.
 */
#include "api/api.h"
#include "fuse/fuse.h"

/* Into a checkpoint when `path` is given, else into memory. */
static tfuse_status fuse(tf_env *env, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                         size_t n, const char *path, tfuse_model **fused)
{
    tf_graph **graphs = NULL;
    if (n != plan->n_models)
        return tf_fail(env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", plan->n_models, n);
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    const tf_fuse_job job = {.policy = policy, .plan = plan, .models = models, .graphs = graphs, .n = n};
    tfuse_status status = path ? tf_fuse_to_checkpoint(env, &job, path) : tf_fuse_to_model(env, &job, fused);
    tf_api_graphs_free(env, graphs, n);
    return status;
}

tfuse_status tfuse_fuse(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models,
                        size_t n_models, const char *out)
{
    TF_ENTER(ctx, TF_ARG(plan), TF_ARG(models), TF_ARG(out));
    return tf_api_leave(ctx, fuse(&ctx->env, policy, plan, models, n_models, out, NULL));
}

tfuse_status tfuse_fuse_model(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan,
                              const tfuse_model *const *models, size_t n_models, tfuse_model **fused)
{
    TF_OUT(fused);
    TF_ENTER(ctx, TF_ARG(plan), TF_ARG(models), TF_ARG(fused));
    return tf_api_leave(ctx, fuse(&ctx->env, policy, plan, models, n_models, NULL, fused));
}
