/* SPDX-License-Identifier: Apache-2.0
 *
 * phi.c: Phi 1 to 2 (Gunasekar et al. 2023; Li et al. 2023): attention and FFN side by side after one LayerNorm, biases everywhere, a part of each head turns
 * with its position.
 */
#include "arch/decoder.h"

static const tf_name_rule names[] = {
    {"layer.%d/output.weight", "model.layers.%d.self_attn.dense.weight"},
    {"layer.%d/output.bias", "model.layers.%d.self_attn.dense.bias"},
    {"norm.gain", "model.final_layernorm.weight"},
    {"norm.bias", "model.final_layernorm.bias"},
};

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.layernorm = true, .norm_bias = true, .parallel = true, .plain = true, .qkv_bias = true, .out_bias = true, .mlp_bias = true,
                    .head_bias = true, .own = names, .n_own = TF_LEN(names), .rope_part = 0.5};
    bool norms = false;
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu_new", &d.activation));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-5, &d.eps));
    TF_TRY(tf_config_bool_or(env, m, "qk_layernorm", false, &norms));
    if (norms)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: qk_layernorm is not known", tf_model_label(m));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_phi = {"phi", "PhiForCausalLM", build, NULL};
