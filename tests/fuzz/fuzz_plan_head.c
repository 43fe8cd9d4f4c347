/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_plan_head.c: what lies inside the checksummed, compressed chunks of a plan file, where changed bytes of the file seldom come: the head, up to the first
 * zero byte, then the numbers of the maps. A plan that is taken can be told of.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/plan.h"
#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t length = end ? (size_t)(end - data) : size;
    const tf_chunk head = {"HEAD", data, length}, numbers = {"DATA", data + length + (end != NULL), size - length - (end != NULL)};
    tfuse_plan *plan = NULL;
    json_t *report = NULL;
    TF_TRY(tf_plan_decode(env, "x.plan", &head, &numbers, &plan));
    tf_plan_map_bytes(plan);
    for (size_t k = 1; k < plan->n_models; k++)
        tf_plan_is_lossless(plan, k);
    if (tf_plan_report(env, plan, &report) != TFUSE_OK) {
        fprintf(stderr, "fuzz: the report of a plan that was read: %s\n", env->error);
        abort();
    }
    json_decref(report);
    tf_plan_free(plan);
    return TFUSE_OK;
}
