/* SPDX-License-Identifier: Apache-2.0
 *
 * cohere.c: Command-R (Cohere 2024) and Command-R7B (2025): LayerNorm without a bias, attention and FFN side by side after one norm, pairs that turn beside
 * each other, logits times a constant, a tied head. In the second all layers but each fourth have a window, and those that see everything have
 * no positions.
 */
#include "arch/decoder.h"

static tfuse_status read(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    *d = (tf_decoder){.layernorm = true, .parallel = true, .interleaved = true, .tied = true};
    TF_TRY(tf_decoder_read(env, m, g, d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d->activation));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-5, &d->eps));
    TF_TRY(tf_config_real_or(env, m, "logit_scale", 0.0625, &d->logit_scale));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d->qkv_bias));
    d->out_bias = d->qkv_bias;
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d;
    bool norms = false;
    TF_TRY(read(env, m, g, &d));
    TF_TRY(tf_config_bool_or(env, m, "use_qk_norm", false, &norms));
    if (norms)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: use_qk_norm (a LayerNorm for each head's queries and keys) is not known",
                       tf_model_label(m));
    return tf_decoder_build(env, m, g, &d);
}

static tfuse_status build_second(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d;
    int64_t pattern = 0;
    TF_TRY(read(env, m, g, &d));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 1, INT32_MAX, 4096, &d.window));
    TF_TRY(tf_config_int_or(env, m, "sliding_window_pattern", 1, 4096, 4, &pattern));
    TF_TRY(tf_decoder_read_layers(env, m, g, pattern, &d));
    bool *unplaced = tf_arena_array(env, &g->arena, (size_t)d.layers, sizeof *unplaced);
    for (int64_t i = 0; unplaced && i < d.layers; i++)
        unplaced[i] = !d.sliding[i];
    d.unplaced = unplaced;
    return unplaced ? tf_decoder_build(env, m, g, &d) : TFUSE_ENOMEM;
}

const tf_arch tf_arch_cohere = {"cohere", "CohereForCausalLM", build, NULL};
const tf_arch tf_arch_cohere2 = {"cohere2", "Cohere2ForCausalLM", build_second, NULL};
