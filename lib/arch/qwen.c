/* SPDX-License-Identifier: Apache-2.0
 *
 * qwen.c: Qwen2 (Yang et al. 2024): biases on queries, keys and values; Qwen3 (2025): none, and a norm on each head's queries and keys. Both
 * may slide a window in the layers from max_window_layers on.
 */
#include "arch/decoder.h"

/* Older configs do not list their layers: those before max_window_layers see everything. */
static tfuse_status read_window(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    bool slides = false;
    int64_t from = 0;
    TF_TRY(tf_config_bool_or(env, m, "use_sliding_window", false, &slides));
    if (slides)
        TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d->window));
    TF_TRY(tf_config_int_or(env, m, "max_window_layers", 0, INT32_MAX, 28, &from));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, d));
    if (d->window == 0 || tf_config_has(m, "layer_types"))
        return TFUSE_OK;
    bool *sliding = tf_arena_array(env, &g->arena, (size_t)d->layers, sizeof *sliding);
    for (int64_t i = 0; sliding && i < d->layers; i++)
        sliding[i] = i >= from;
    d->sliding = sliding;
    return sliding ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    TF_TRY(tf_decoder_read(env, m, g, d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d->activation));
    TF_TRY(read_window(env, m, g, d));
    return tf_decoder_build(env, m, g, d);
}

static tfuse_status build_qwen2(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    return build(env, m, g, &(tf_decoder){.qkv_bias = true});
}

static tfuse_status build_qwen3(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.qk_norm = true};
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    d.out_bias = d.qkv_bias;
    return build(env, m, g, &d);
}

const tf_arch tf_arch_qwen2 = {"qwen2", "Qwen2ForCausalLM", build_qwen2, NULL};
const tf_arch tf_arch_qwen3 = {"qwen3", "Qwen3ForCausalLM", build_qwen3, NULL};
