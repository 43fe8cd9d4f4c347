/* SPDX-License-Identifier: Apache-2.0
 *
 * align.c: from models to a plan: the strategy of the policy, its passes, and provenance.
 */
#include "align/align.h"
#include "passes/passes.h"
#include <string.h>

static const tf_strategy *const strategies[] = {&tf_strategy_matching, &tf_strategy_otfusion, &tf_strategy_none};

tfuse_status tf_strategy_find(tf_env *env, const char *name, const tf_strategy **out)
{
    for (size_t i = 0; i < TF_LEN(strategies); i++)
        if (!strcmp(strategies[i]->name, name)) {
            *out = strategies[i];
            return TFUSE_OK;
        }
    return tf_fail(env, TFUSE_EKEY, "align.strategy=%s is not known; see tfuse keys", name);
}

tfuse_status tf_align_note(tf_env *env, const tf_align_job *job, tfuse_status status)
{
    if (status == TFUSE_OK || status == TFUSE_ENOMEM || !job->problems)
        return status;
    char line[sizeof env->error];
    memcpy(line, env->error, sizeof line);
    return tf_buf_printf(env, job->problems, "%s\n", line);
}

/* Keys that were set and that bear on maps, in the plan; the others (io, batch) do not change it. */
static tfuse_status record_policy(tf_env *env, const tfuse_policy *policy, tfuse_plan *plan)
{
    static const char *const bearing[] = {"align.", "solver.", "otfusion.", "matching.", "calib.", "run.seed"};
    for (size_t i = 0; i < tf_key_count; i++)
        for (size_t b = 0; b < TF_LEN(bearing); b++)
            if (!strncmp(tf_keys[i].name, bearing[b], strlen(bearing[b])) && tf_policy_was_set(policy, tf_keys[i].name) &&
                json_object_set_new(plan->policy, tf_keys[i].name, json_string(tf_policy_text(policy, tf_keys[i].name))))
                return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    return TFUSE_OK;
}

static tfuse_status record_models(tf_env *env, const tf_align_job *job, tfuse_plan *plan)
{
    for (size_t k = 0; k < job->n && !job->tally; k++)
        TF_TRY(tf_plan_describe_model(env, &plan->arena, job->models[k], job->graphs[k], &plan->models[k]));
    for (size_t k = 0; k < job->n && job->tally; k++)
        tf_graph_signature(job->graphs[k], plan->models[k].signature);
    return TFUSE_OK;
}

static tfuse_status run_strategy(tf_env *env, const tf_align_job *job, const tf_strategy *strategy, tfuse_plan *plan)
{
    int n_passes = 0;
    for (; strategy->passes[n_passes]; n_passes++)
        TF_TRY(tf_plan_add_pass(env, plan, strategy->passes[n_passes]));
    tf_canonical *forms = tf_calloc(env, job->n, sizeof *forms);
    const tf_view **views = tf_calloc(env, job->n, sizeof *views);
    tfuse_status status = forms && views ? TFUSE_OK : TFUSE_ENOMEM;
    size_t made = 0;
    for (; made < job->n && status == TFUSE_OK; made++) {
        status = tf_canonical_make(env, job->graphs[made], job->models[made], strategy->passes, n_passes, &forms[made]);
        if (status != TFUSE_OK)
            break;
        views[made] = tf_canonical_top(&forms[made]);
    }
    if (status == TFUSE_OK)
        status = strategy->align(env, job, views, plan);
    if (status == TFUSE_OK)
        status = tf_plan_measure_kept(env, job, views, plan);
    for (size_t k = 0; k < made; k++)
        tf_canonical_free(&forms[k]);
    tf_free(&env->mem, forms);
    tf_free(&env->mem, views);
    return status;
}

static tfuse_status find_strategy(tf_env *env, const tf_align_job *job, const tf_strategy **out)
{
    if (job->n < 2)
        return tf_fail(env, TFUSE_EINVAL, "fusing needs an anchor and at least one more model");
    TF_TRY(tf_strategy_find(env, tf_policy_text(job->policy, "align.strategy"), out));
    return (*out)->needs(env, job);
}

tfuse_status tf_align_check(tf_env *env, const tf_align_job *job)
{
    const tf_strategy *strategy;
    return find_strategy(env, job, &strategy);
}

tfuse_status tf_align_feed(tf_env *env, const tf_align_job *job, tf_feed **out)
{
    const tf_strategy *strategy;
    *out = NULL;
    TF_TRY(find_strategy(env, job, &strategy));
    tf_stat_wants *wants = tf_calloc(env, job->n, sizeof *wants);
    tfuse_status status = wants ? TFUSE_OK : TFUSE_ENOMEM;
    const bool none = !strategy->wants || tf_policy_is(job->policy, "align.control", "half-anchor");
    for (size_t k = 1; k < job->n && !none && status == TFUSE_OK; k++)
        status = strategy->wants(env, job, k, &wants[k]);
    if (status == TFUSE_OK)
        status = tf_feed_new(env, job->graphs, job->models, job->n, wants, out);
    for (size_t k = 1; wants && k < job->n; k++)
        tf_free(&env->mem, wants[k].items);
    tf_free(&env->mem, wants);
    return status;
}

tfuse_status tf_align(tf_env *env, const tf_align_job *job, tfuse_plan **out)
{
    const tf_strategy *strategy;
    *out = NULL;
    TF_TRY(find_strategy(env, job, &strategy));
    tfuse_plan *plan;
    TF_TRY(tf_plan_new(env, strategy->name, job->n, &plan));
    plan->carries = plan->exact = strategy->exact;
    tfuse_status status = record_policy(env, job->policy, plan);
    if (status == TFUSE_OK)
        status = record_models(env, job, plan);
    /* The control is the anchor alone: there is nothing to align. */
    if (status == TFUSE_OK && !tf_policy_is(job->policy, "align.control", "half-anchor"))
        status = run_strategy(env, job, strategy, plan);
    if (status != TFUSE_OK)
        tf_plan_free(plan);
    else
        *out = plan;
    return status;
}
