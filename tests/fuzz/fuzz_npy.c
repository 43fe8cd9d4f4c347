/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_npy.c: an .npy file.
 */
#include "fuzz.h"

#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_array *a = NULL;
    tfuse_status status = tf_npy_parse(env, "x.npy", &(tf_blob){data, 0, size, -1}, &a);
    tf_array_free(a);
    return status;
}
