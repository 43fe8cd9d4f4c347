/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_plan.c: a plan file.
 */
#include "fuzz.h"

#include "align/plan.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_plan *plan = NULL;
    tfuse_status status = tf_plan_parse(env, "x.plan", data, size, &plan);
    tf_plan_free(plan);
    return status;
}
