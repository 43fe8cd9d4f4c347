/* SPDX-License-Identifier: Apache-2.0
 *
 * api_statistics.c: tfuse/statistics.h.
 */
#include "align/align.h"
#include "api/api.h"

#include <string.h>

enum { MIN_MODELS = 2 };

struct tfuse_stats {
    uint32_t kind; /* TF_KIND_STATS */
    tfuse_ctx *ctx; /* that made it */
    const tfuse_model **models;
    tf_graph **graphs;
    size_t n;
    tf_feed *feed;
};

static tf_align_job job_of(const tfuse_stats *s, const tfuse_policy *policy)
{
    return (tf_align_job){.policy = policy, .solvers = &s->ctx->solvers, .models = s->models, .graphs = s->graphs, .n = s->n,
                          .fed = true, .feed = s->feed};
}

static tfuse_status make(tf_env *env, const tfuse_policy *policy, const tfuse_model *const *models, size_t n, tfuse_stats *s)
{
    if (n < MIN_MODELS)
        return tf_fail(env, TFUSE_EINVAL, "%zu models cannot be aligned; give the anchor and at least one more", n);
    TF_TRY(tf_api_models(env, models, n));
    s->models = tf_alloc_array(env, n, sizeof *s->models);
    if (!s->models)
        return TFUSE_ENOMEM;
    memcpy(s->models, models, n * sizeof *models);
    TF_TRY(tf_api_graphs(env, models, n, tf_policy_is(policy, "io.extra", "copy"), &s->graphs));
    s->n = n;
    const tf_align_job job = job_of(s, policy);
    return tf_align_feed(env, &job, &s->feed);
}

tfuse_status tfuse_stats_new(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_model *const *models, size_t n_models,
                             tfuse_stats **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(models), TF_ARG(out), TF_MAYBE(policy, POLICY));
    tfuse_stats *s = tf_calloc(&ctx->env, 1, sizeof *s);
    tfuse_status status = s ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        s->kind = TF_KIND_STATS;
        s->ctx = ctx;
        status = make(&ctx->env, policy, models, n_models, s);
    }
    if (status == TFUSE_OK)
        *out = s;
    else
        tfuse_stats_free(s);
    return tf_api_leave(ctx, status);
}

size_t tfuse_stats_count(const tfuse_stats *stats)
{
    return TF_IS_A(stats, STATS) ? tf_feed_count(stats->feed) : 0;
}

tfuse_status tfuse_stats_want(const tfuse_stats *stats, size_t index, tfuse_stat_want *want)
{
    if (!TF_IS_A(stats, STATS))
        return TFUSE_EINVAL;
    if (index >= tf_feed_count(stats->feed))
        return TFUSE_ERANGE;
    const tf_feed_slot *slot = tf_feed_at(stats->feed, index);
    const tfuse_stat_want ours = {.model = slot->model, .value = tf_feed_name(stats->feed, index), .tokens = slot->tokens,
                                  .units = slot->units};
    return tf_api_snapshot(want, &ours, sizeof ours);
}

int32_t tfuse_stats_sweeps(const tfuse_stats *stats)
{
    return TF_IS_A(stats, STATS) && tf_feed_two_sweeps(stats->feed) ? 2 : 1;
}

/* What every call on a context checks first. */
static tfuse_status check_owner(tfuse_ctx *ctx, const tfuse_stats *stats)
{
    if (stats->ctx == ctx)
        return TFUSE_OK;
    return tf_fail(&ctx->env, TFUSE_EINVAL, "the statistics belong to another context");
}

static tfuse_status feed(tfuse_ctx *ctx, tfuse_stats *stats, size_t model, const char *value, const tfuse_array *batch)
{
    TF_TRY(check_owner(ctx, stats));
    return tf_feed_value(&ctx->env, stats->feed, model, value, batch);
}

tfuse_status tfuse_stats_feed(tfuse_ctx *ctx, tfuse_stats *stats, size_t model, const char *value, const tfuse_array *batch)
{
    TF_ENTER(ctx, TF_IS(stats, STATS), TF_ARG(value), TF_IS(batch, ARRAY));
    return tf_api_leave(ctx, feed(ctx, stats, model, value, batch));
}

tfuse_status tfuse_stats_step(tfuse_ctx *ctx, tfuse_stats *stats)
{
    TF_ENTER(ctx, TF_IS(stats, STATS));
    tfuse_status status = check_owner(ctx, stats);
    return tf_api_leave(ctx, status == TFUSE_OK ? tf_feed_step(&ctx->env, stats->feed) : status);
}

tfuse_status tfuse_stats_rewind(tfuse_ctx *ctx, tfuse_stats *stats)
{
    TF_ENTER(ctx, TF_IS(stats, STATS));
    tfuse_status status = check_owner(ctx, stats);
    return tf_api_leave(ctx, status == TFUSE_OK ? tf_feed_rewind(&ctx->env, stats->feed) : status);
}

static tfuse_status align(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_stats *stats, tfuse_plan **out)
{
    TF_TRY(check_owner(ctx, stats));
    const tf_align_job job = job_of(stats, policy);
    return tf_align(&ctx->env, &job, out);
}

tfuse_status tfuse_align_stats(tfuse_ctx *ctx, const tfuse_policy *policy, tfuse_stats *stats, tfuse_plan **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(stats, STATS), TF_ARG(out), TF_MAYBE(policy, POLICY));
    return tf_api_leave(ctx, align(ctx, policy, stats, out));
}

void tfuse_stats_free(tfuse_stats *stats)
{
    if (!TF_IS_A(stats, STATS))
        return;
    tf_env *env = &stats->ctx->env;
    tf_feed_free(stats->feed);
    tf_api_graphs_free(env, stats->graphs, stats->n);
    tf_free(&env->mem, stats->models);
    tf_free(&env->mem, stats);
}
