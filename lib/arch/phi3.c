/* SPDX-License-Identifier: Apache-2.0
 *
 * phi3.c: Phi-3 (Abdin et al. 2024): Llama with queries, keys and values in one tensor, gate and up in another.
 */
#include "arch/decoder.h"

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.fused_qkv = true, .fused_ffn = true};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d.window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, &d));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_phi3 = {"phi3", "Phi3ForCausalLM", build, NULL};
