/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_preprocess.c: preprocessor_config.json.
 */
#include "fuzz.h"

#include "io/io.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tf_preprocess p;
    return tf_preprocess_parse(env, "preprocessor_config.json", (const char *)data, size, &p);
}
