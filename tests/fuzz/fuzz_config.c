/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_config.c: config.json, through to the graph of the model that it describes.
 */
#include "fuzz.h"

#include "arch/arch.h"
#include "io/model.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tfuse_model *m;
    tf_graph *g = NULL;
    TF_TRY(tf_model_new(env, NULL, &m));
    tfuse_status status = tf_model_set_config(env, m, "config.json", (const char *)data, size);
    if (status == TFUSE_OK)
        status = tf_model_seal(env, m);
    if (status == TFUSE_OK)
        status = tf_graph_build(env, m, false, &g);
    tf_graph_free(g);
    tf_model_free(m);
    return status;
}
