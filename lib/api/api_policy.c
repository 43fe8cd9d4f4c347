/* SPDX-License-Identifier: Apache-2.0
 *
 * api_policy.c: tfuse/policy.h.
 */
#include "api/api.h"
#include "policy/policy.h"

size_t tfuse_key_count(void)
{
    return tf_key_count;
}

tfuse_status tfuse_key_get(size_t index, tfuse_key_info *info)
{
    if (index >= tf_key_count)
        return TFUSE_ERANGE;
    const tf_key *key = &tf_keys[index];
    tfuse_key_info ours = {sizeof ours, key->name, key->type, key->values, key->min, key->max, key->fallback, key->help};
    return tf_api_snapshot(info, &ours, sizeof ours);
}

tfuse_status tfuse_policy_new(tfuse_ctx *ctx, tfuse_policy **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(out));
    return tf_api_leave(ctx, tf_policy_new(&ctx->env, out));
}

tfuse_status tfuse_policy_set(tfuse_ctx *ctx, tfuse_policy *policy, const char *key, const char *value)
{
    TF_ENTER(ctx, TF_IS(policy, POLICY), TF_ARG(key), TF_ARG(value));
    return tf_api_leave(ctx, tf_policy_set(&ctx->env, policy, key, value));
}

const char *tfuse_policy_get(const tfuse_policy *policy, const char *key)
{
    return TF_IS_A(policy, POLICY) && key && tf_key_find(key) ? tf_policy_text(policy, key) : NULL;
}

int32_t tfuse_policy_is_set(const tfuse_policy *policy, const char *key)
{
    return TF_IS_A(policy, POLICY) && key && tf_policy_was_set(policy, key);
}

void tfuse_policy_free(tfuse_policy *policy)
{
    if (TF_IS_A(policy, POLICY))
        tf_policy_free(policy);
}
