/* SPDX-License-Identifier: Apache-2.0
 *
 * gemma.c: Gemma (2024): gains of 1 + w, embeddings times sqrt(width), a tied head; Gemma 2: norms on both sides of each branch, capped scores and
 * logits, a window in every other layer; Gemma 3: norms on queries and keys, a window in all layers but each sixth, with positions of their own.
 */
#include "arch/decoder.h"
#include <math.h>

static tfuse_status read_common(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    d->gain_offset = d->tied = true;
    TF_TRY(tf_decoder_read(env, m, g, d));
    d->embed_scale = sqrt((double)d->hidden);
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d->qkv_bias));
    d->out_bias = d->qkv_bias;
    return tf_read_activation(env, m, tf_config_has(m, "hidden_activation") ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh",
                              &d->activation);
}

static tfuse_status build_gemma(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(read_common(env, m, g, &d));
    d.activation = tf_config_has(m, "hidden_activation") ? d.activation : "gelu_pytorch_tanh"; /* the older key was never read */
    return tf_decoder_build(env, m, g, &d);
}

static tfuse_status read_later(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    double scalar = 0;
    d->norms = TF_NORMS_AROUND;
    TF_TRY(read_common(env, m, g, d));
    TF_TRY(tf_config_real_or(env, m, "query_pre_attn_scalar", 256, &scalar));
    TF_TRY(tf_config_real_or(env, m, "attn_logit_softcapping", 0, &d->score_cap));
    TF_TRY(tf_config_real_or(env, m, "final_logit_softcapping", 0, &d->logit_cap));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 4096, &d->window));
    if (!(scalar > 0) || d->score_cap < 0 || d->logit_cap < 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: query_pre_attn_scalar must be positive, caps not negative", tf_model_label(m));
    d->score_scale = 1 / sqrt(scalar);
    return TFUSE_OK;
}

static tfuse_status build_gemma2(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(read_later(env, m, g, &d));
    TF_TRY(tf_decoder_read_layers(env, m, g, 2, &d));
    return tf_decoder_build(env, m, g, &d);
}

/* Positions of the sliding layers have a base of their own and are never stretched. */
static tfuse_status read_positions(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    double theta = 0, local = 0;
    TF_TRY(tf_config_real_or(env, m, "rope_theta", 1e6, &theta));
    TF_TRY(tf_config_real_or(env, m, "rope_local_base_freq", 10000.0, &local));
    TF_TRY(tf_rope_read(env, m, g, "rope_parameters.full_attention", theta, d->rope_dims, &d->rope[TF_FULL]));
    TF_TRY(tf_config_real_or(env, m, "rope_parameters.sliding_attention.rope_theta", local, &local));
    d->rope[TF_SLIDING] = tf_arena_printf(env, &g->arena, "rope=1 rope_theta=%s", tf_real(local).text);
    return d->rope[TF_SLIDING] ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status build_gemma3(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.qk_norm = TF_QK_NORM_HEAD};
    int64_t pattern = 0;
    TF_TRY(read_later(env, m, g, &d));
    TF_TRY(read_positions(env, m, g, &d));
    TF_TRY(tf_config_int_or(env, m, "sliding_window_pattern", 1, 4096, 6, &pattern));
    TF_TRY(tf_decoder_read_layers(env, m, g, pattern, &d));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_gemma = {"gemma", "GemmaForCausalLM", build_gemma, NULL};
const tf_arch tf_arch_gemma2 = {"gemma2", "Gemma2ForCausalLM", build_gemma2, NULL};
const tf_arch tf_arch_gemma3 = {"gemma3_text", "Gemma3ForCausalLM", build_gemma3, NULL};
