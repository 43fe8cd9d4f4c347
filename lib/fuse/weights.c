/* SPDX-License-Identifier: Apache-2.0
 *
 * weights.c: how much each model counts.
 */
#include "fuse/fuse.h"
#include <math.h>
#include <string.h>

#define MAX_WEIGHTS 4096

static const char *plan_key(const tfuse_plan *plan, const char *key)
{
    const char *text = json_string_value(json_object_get(plan->policy, key));
    return text ? text : "";
}

bool tf_fuse_is_half_anchor(const tf_fuse_job *job)
{
    return !strcmp(plan_key(job->plan, "align.control"), "half-anchor");
}

tfuse_status tf_fuse_weights(tf_env *env, const tf_fuse_job *job, double *out)
{
    if (job->weights) {
        memcpy(out, job->weights, job->n * sizeof *out);
        return TFUSE_OK;
    }
    size_t given = tf_policy_reals(job->policy, "combine.weights", NULL, 0);
    if (given && given != job->n)
        return tf_fail(env, TFUSE_EINVAL, "combine.weights has %zu numbers and there are %zu models; give one for each", given,
                       job->n);
    if (given)
        tf_policy_reals(job->policy, "combine.weights", out, job->n);
    double sum = 0;
    for (size_t k = 0; k < job->n; k++) {
        if (!given)
            out[k] = 1;
        sum += out[k];
    }
    if (!(fabs(sum) > 1e-12))
        return tf_fail(env, TFUSE_EINVAL, "combine.weights sum to zero; they are scaled to sum to one");
    for (size_t k = 0; k < job->n; k++)
        out[k] = k > 0 && tf_fuse_is_half_anchor(job) ? 0 : out[k] / sum;
    return TFUSE_OK;
}
