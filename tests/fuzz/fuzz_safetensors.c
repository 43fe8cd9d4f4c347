/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_safetensors.c: a safetensors file; every byte of every tensor must be inside it.
 */
#include "fuzz.h"

#include "io/model.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_model *m;
    TF_TRY(tf_model_new(env, NULL, &m));
    tfuse_status status = tf_safetensors_parse(env, "x.safetensors", &(tf_blob){data, 0, size, -1}, -1, m);
    if (status == TFUSE_OK)
        status = tf_model_seal(env, m);
    volatile uint8_t sum = 0;
    for (size_t i = 0; status == TFUSE_OK && i < m->count; i++)
        for (uint64_t b = 0; b < m->tensors[i].size; b++)
            sum = (uint8_t)(sum + m->tensors[i].data[b]);
    tf_model_free(m);
    return status;
}
