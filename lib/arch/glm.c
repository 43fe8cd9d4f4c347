/* SPDX-License-Identifier: Apache-2.0
 *
 * glm.c: GLM-4 of 2024 (GLM team 2024): Llama with biases on queries, keys and values, of whose units one half turns, pairs beside each other, gate and up
 * in one tensor; GLM-4 of 2025 with a norm on each branch's output too.
 */
#include "arch/decoder.h"

static tfuse_status build_any(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    d->interleaved = d->fused_ffn = true;
    d->rope_part = 0.5;
    TF_TRY(tf_decoder_read(env, m, g, d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d->activation));
    TF_TRY(tf_config_real_or(env, m, "rms_norm_eps", 1.5625e-7, &d->eps));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", true, &d->qkv_bias));
    return tf_decoder_build(env, m, g, d);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    return build_any(env, m, g, &(tf_decoder){0});
}

static tfuse_status build_later(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    static const tf_name_rule own[] = {
        {"layer.%d/norm1_after.gain", "model.layers.%d.post_self_attn_layernorm.weight"},
        {"layer.%d/norm2.gain", "model.layers.%d.post_attention_layernorm.weight"},
        {"layer.%d/norm2_after.gain", "model.layers.%d.post_mlp_layernorm.weight"},
    };
    return build_any(env, m, g, &(tf_decoder){.norms = TF_NORMS_AROUND, .own = own, .n_own = TF_LEN(own)});
}

const tf_arch tf_arch_glm = {"glm", "GlmForCausalLM", build, NULL};
const tf_arch tf_arch_glm4 = {"glm4", "Glm4ForCausalLM", build_later, NULL};
