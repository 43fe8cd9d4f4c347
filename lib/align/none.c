/* SPDX-License-Identifier: Apache-2.0
 *
 * none.c: identity maps: plain averaging. An axis without an entry in the plan moves by the identity, so the plan is empty.
 */
#include "align/align.h"

static tfuse_status none_needs(tf_env *env, const tf_align_job *job)
{
    for (size_t k = 1; k < job->n; k++)
        TF_TRY(tf_pair_extents(env, job, k));
    if (tf_policy_is(job->policy, "align.control", "uniform") || tf_policy_is(job->policy, "align.control", "random"))
        return tf_align_note(env, job, tf_fail(env, TFUSE_EINVAL,
            "align.control=%s replaces maps and align.strategy=none has none; use otfusion", tf_policy_text(job->policy, "align.control")));
    return TFUSE_OK;
}

static tfuse_status none_align(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan)
{
    (void)env, (void)job, (void)views, (void)plan;
    return TFUSE_OK;
}

static const char *const none_passes[] = {NULL};

const tf_strategy tf_strategy_none = {"none", true, none_passes, none_needs, NULL, none_align};
