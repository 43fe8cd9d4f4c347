/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_npz.c: an .npz file, its only member.
 */
#include "fuzz.h"

#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_array *a = NULL;
    tfuse_status status = tf_npz_parse(env, "x.npz", &(tf_blob){data, 0, size, -1}, NULL, &a);
    tf_array_free(a);
    return status;
}
