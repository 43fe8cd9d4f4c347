/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_idx.c: an array file recognised by its content, among them IDX, plain and gzipped.
 */
#include "fuzz.h"

#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_array *a = NULL;
    tfuse_status status = tf_array_open(env, fuzz_file(data, size), &a);
    tf_array_free(a);
    return status;
}
