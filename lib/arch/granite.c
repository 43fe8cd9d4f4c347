/* SPDX-License-Identifier: Apache-2.0
 *
 * granite.c: Granite 3 (Granite team 2024): Llama with constants that multiply the embeddings, the scores, what each branch adds, and the logits.
 */
#include "arch/decoder.h"

static tfuse_status read_factors(tf_env *env, const tfuse_model *m, tf_decoder *d)
{
    double divisor = 0;
    TF_TRY(tf_config_real_or(env, m, "embedding_multiplier", 1, &d->embed_scale));
    TF_TRY(tf_config_real_or(env, m, "attention_multiplier", 1, &d->score_scale));
    TF_TRY(tf_config_real_or(env, m, "residual_multiplier", 1, &d->branch_scale));
    TF_TRY(tf_config_real_or(env, m, "logits_scaling", 1, &divisor));
    if (!(d->embed_scale > 0) || !(d->score_scale > 0) || !(d->branch_scale > 0) || !(divisor > 0))
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: embedding_multiplier, attention_multiplier, residual_multiplier and logits_scaling "
                       "must be positive", tf_model_label(m));
    d->logit_scale = 1 / divisor;
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(read_factors(env, m, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    TF_TRY(tf_config_bool_or(env, m, "mlp_bias", false, &d.mlp_bias));
    d.out_bias = d.qkv_bias;
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_granite = {"granite", "GraniteForCausalLM", build, NULL};
