/* SPDX-License-Identifier: Apache-2.0
 *
 * olmo.c: OLMo 2 (OLMo team 2025): norms on what the branches give instead of what they read, and on queries and keys over all heads at once.
 */
#include "arch/decoder.h"

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.norms = TF_NORMS_AFTER, .qk_norm = TF_QK_NORM_WHOLE};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_real_or(env, m, "rms_norm_eps", 1e-5, &d.eps));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    d.out_bias = d.qkv_bias;
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_olmo2 = {"olmo2", "Olmo2ForCausalLM", build, NULL};
