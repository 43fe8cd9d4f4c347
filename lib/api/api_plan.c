/* SPDX-License-Identifier: Apache-2.0
 *
 * api_plan.c: tfuse/plan.h.
 */
#include "align/align.h"
#include "align/gauge.h"
#include "api/api.h"
#include "fuse/calibration.h"

#include <stdlib.h>

enum { MIN_MODELS = 2 };

static tfuse_status align(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *const *models, size_t n,
                          const tfuse_array *calib, tfuse_plan **out)
{
    tf_env *env = &ctx->env;
    tf_graph **graphs = NULL;
    if (n < MIN_MODELS)
        return tf_fail(env, TFUSE_EINVAL, "%zu models cannot be aligned; give the anchor and at least one more", n);
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    tf_align_job job = {.policy = policy, .solvers = &ctx->solvers, .models = models, .graphs = graphs, .n = n, .calib = calib};
    tf_calibration own = {0};
    tfuse_status status = tf_calibrate(env, &job, NULL, true, &own);
    if (status == TFUSE_OK)
        status = tf_align(env, &job, out);
    tf_calibration_free(&own);
    tf_api_graphs_free(env, graphs, n);
    return status;
}

tfuse_status tfuse_align(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *const *models, size_t n_models,
                         const tfuse_array *calib, tfuse_plan **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(models), TF_ARG(out), TF_MAYBE(policy, POLICY), TF_MAYBE(calib, ARRAY));
    return tf_api_leave(ctx, align(ctx, policy, models, n_models, calib, out));
}

static tfuse_status generate(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n,
                             tfuse_array **out)
{
    tf_env *env = &ctx->env;
    tf_graph **graphs = NULL;
    if (n < MIN_MODELS || (plan && n != plan->n_models))
        return tf_fail(env, TFUSE_EINVAL, "%zu models are not those of a fusion%s; give the anchor and at least one more", n, plan ? " by this plan" : "");
    TF_TRY(tf_api_models(env, models, n));
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    tf_align_job job = {.policy = policy, .solvers = &ctx->solvers, .models = models, .graphs = graphs, .n = n};
    tf_calibration own = {0};
    tfuse_status status = tf_calibrate(env, &job, plan, false, &own);
    if (status == TFUSE_OK) {
        *out = own.array;
        own.array = NULL;
    }
    tf_calibration_free(&own);
    tf_api_graphs_free(env, graphs, n);
    return status;
}

tfuse_status tfuse_generate(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_plan *plan, const tfuse_model *const *models, size_t n_models,
                            tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(models), TF_ARG(out), TF_MAYBE(policy, POLICY), TF_MAYBE(plan, PLAN));
    return tf_api_leave(ctx, generate(ctx, policy, plan, models, n_models, out));
}

static tfuse_status gauge(tf_env *env, const tfuse_policy *policy, const tfuse_model *model, tfuse_plan **out)
{
    tf_graph **graphs = NULL;
    TF_TRY(tf_api_models(env, &model, 1));
    TF_TRY(tf_api_graphs(env, &model, 1, tf_policy_is(policy, "io.extra", "copy"), &graphs));
    tfuse_status status = tf_gauge(env, policy, model, graphs[0], out);
    tf_api_graphs_free(env, graphs, 1);
    return status;
}

tfuse_status tfuse_gauge(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *model, tfuse_plan **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(out), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, gauge(&ctx->env, policy, model, out));
}

tfuse_status tfuse_plan_save(tfuse_ctx *ctx, const tfuse_plan *plan, const char *path, int32_t force)
{
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(path));
    return tf_api_leave(ctx, tf_plan_save(&ctx->env, plan, path, force != 0));
}

tfuse_status tfuse_plan_load(tfuse_ctx *ctx, const char *path, tfuse_plan **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(path), TF_ARG(out));
    return tf_api_leave(ctx, tf_plan_load(&ctx->env, path, out));
}

size_t tfuse_plan_count(const tfuse_plan *plan)
{
    return TF_IS_A(plan, PLAN) ? plan->n_maps : 0;
}

tfuse_status tfuse_plan_map(const tfuse_plan *plan, size_t index, tfuse_map_info *info)
{
    if (!TF_IS_A(plan, PLAN))
        return TFUSE_EINVAL;
    if (index >= plan->n_maps)
        return TFUSE_ERANGE;
    const tf_plan_map *row = &plan->maps[index];
    tfuse_map_info ours = {.name = row->name, .axis = row->axis, .kind = tf_map_kind_name(row->map->kind),
                           .model = row->model, .n = row->map->n, .m = row->map->m, .cost = row->cost, .gap = row->gap,
                           .error = row->error, .identity = tf_map_off_identity(row->map), .entropy = tf_map_spread(row->map),
                           .iterations = row->iterations, .converged = row->converged, .heads_n = row->heads_n,
                           .heads_m = row->heads_m, .correlation = row->correlation, .kept = row->kept};
    return tf_api_snapshot(info, &ours, sizeof ours);
}

static tfuse_status matrix(tf_env *env, const tfuse_plan *plan, size_t index, tfuse_array **out)
{
    if (index >= plan->n_maps)
        return tf_fail(env, TFUSE_ERANGE, "the plan has %zu maps, so there is none of index %zu", plan->n_maps, index);
    const tf_map *map = plan->maps[index].map;
    int64_t shape[2] = {map->n, map->m};
    TF_TRY(tf_array_new(env, TFUSE_F32, 2, shape, out));
    tf_map_matrix(map, (*out)->data);
    return TFUSE_OK;
}

tfuse_status tfuse_plan_matrix(tfuse_ctx *ctx, const tfuse_plan *plan, size_t index, tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(out));
    return tf_api_leave(ctx, matrix(&ctx->env, plan, index, out));
}

static tfuse_status report(tf_env *env, const tfuse_plan *plan, char **out)
{
    json_t *object = NULL;
    TF_TRY(tf_plan_report(env, plan, &object));
    return tf_api_report(env, object, JSON_INDENT(1) | JSON_REAL_PRECISION(17), out);
}

tfuse_status tfuse_plan_report(tfuse_ctx *ctx, const tfuse_plan *plan, char **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(plan, PLAN), TF_ARG(out));
    return tf_api_leave(ctx, report(&ctx->env, plan, out));
}

void tfuse_plan_free(tfuse_plan *plan)
{
    if (TF_IS_A(plan, PLAN))
        tf_plan_free(plan);
}
