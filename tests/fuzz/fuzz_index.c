/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_index.c: the index of a sharded checkpoint; its shards lie in the corpus of fuzz_safetensors.
 */
#include "fuzz.h"

#include "io/model.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_model *m;
    TF_TRY(tf_model_new(env, NULL, &m));
    tfuse_status status = tf_shards_open(env, "tests/fuzz/corpus/safetensors", fuzz_file(data, size), m);
    if (status == TFUSE_OK)
        status = tf_model_seal(env, m);
    tf_model_free(m);
    return status;
}
