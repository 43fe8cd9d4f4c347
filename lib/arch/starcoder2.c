/* SPDX-License-Identifier: Apache-2.0
 *
 * starcoder2.c: StarCoder 2 (Lozhkov et al. 2024): LayerNorm, grouped queries, an FFN without a gate, biases everywhere, a window, a tied head.
 */
#include "arch/decoder.h"

static const tf_name_rule names[] = {
    {"layer.%d/fc1.weight", "model.layers.%d.mlp.c_fc.weight"},
    {"layer.%d/fc2.weight", "model.layers.%d.mlp.c_proj.weight"},
    {"layer.%d/fc1.bias", "model.layers.%d.mlp.c_fc.bias"},
    {"layer.%d/fc2.bias", "model.layers.%d.mlp.c_proj.bias"},
};

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.layernorm = true, .norm_bias = true, .plain = true, .tied = true, .own = names};
    bool bias = false;
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu_pytorch_tanh", &d.activation));
    TF_TRY(tf_config_real_or(env, m, "norm_epsilon", 1e-5, &d.eps));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d.window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, &d));
    TF_TRY(tf_config_bool_or(env, m, "use_bias", true, &bias));
    d.qkv_bias = d.out_bias = d.mlp_bias = bias;
    d.n_own = bias ? TF_LEN(names) : TF_LEN(names) / 2;
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_starcoder2 = {"starcoder2", "Starcoder2ForCausalLM", build, NULL};
