/* SPDX-License-Identifier: Apache-2.0
 *
 * llama.c: Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024) and Mistral (Jiang et al. 2023), which is Llama with a window in every layer.
 */
#include "arch/decoder.h"

static tfuse_status read_activation(tf_env *env, const tfuse_model *m, tf_decoder *d)
{
    return tf_read_activation(env, m, "hidden_act", "silu", &d->activation);
}

static tfuse_status build_llama(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(read_activation(env, m, &d));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    TF_TRY(tf_config_bool_or(env, m, "mlp_bias", false, &d.mlp_bias));
    d.out_bias = d.qkv_bias;
    return tf_decoder_build(env, m, g, &d);
}

static tfuse_status build_mistral(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(read_activation(env, m, &d));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d.window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, &d));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_llama = {"llama", "LlamaForCausalLM", build_llama, NULL};
const tf_arch tf_arch_mistral = {"mistral", "MistralForCausalLM", build_mistral, NULL};
