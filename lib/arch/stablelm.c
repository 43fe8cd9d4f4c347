/* SPDX-License-Identifier: Apache-2.0
 *
 * stablelm.c: StableLM 2 (Bellagente et al. 2024) and StableLM 3B: Llama with LayerNorm, of whose heads a part turns; the two branches may stand side by side.
 */
#include "arch/decoder.h"

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.layernorm = true, .norm_bias = true, .rope_part = 0.25};
    bool norms = false;
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-5, &d.eps));
    TF_TRY(tf_config_bool_or(env, m, "use_qkv_bias", false, &d.qkv_bias));
    TF_TRY(tf_config_bool_or(env, m, "use_parallel_residual", false, &d.parallel));
    TF_TRY(tf_config_bool_or(env, m, "qk_layernorm", false, &norms));
    if (norms)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: qk_layernorm (a LayerNorm for each head's queries and keys) is not known",
                       tf_model_label(m));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_stablelm = {"stablelm", "StableLmForCausalLM", build, NULL};
