/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_npz.c: an .npz file, its only member.
 */
#include "fuzz.h"

#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    const tf_blob src = {data, 0, size, -1};
    tfuse_array *a = NULL;
    tf_npz_parse(env, "x.npz", &src, "x", &a); /* by name, then what needs none */
    tf_array_free(a);
    const tfuse_status status = tf_npz_parse(env, "x.npz", &src, NULL, &a);
    tf_array_free(a);
    return status;
}
