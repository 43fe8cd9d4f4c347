/* SPDX-License-Identifier: Apache-2.0
 *
 * smollm3.c: SmolLM3 (Hugging Face 2025): Llama without positions in some layers, as a rule each fourth, and a tied head.
 */
#include "arch/decoder.h"

/* no_rope_layers says 1 for a layer with positions; else each no_rope_layer_interval-th has none. */
static tfuse_status read_unplaced(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    const json_t *list = json_object_get(m->config, "no_rope_layers");
    int64_t interval = 0;
    TF_TRY(tf_config_int_or(env, m, "no_rope_layer_interval", 1, 4096, 4, &interval));
    if (json_is_array(list) && json_array_size(list) != (size_t)d->layers)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: no_rope_layers has %zu numbers for %lld layers", tf_model_label(m), json_array_size(list),
                       (long long)d->layers);
    bool *unplaced = tf_arena_array(env, &g->arena, (size_t)d->layers, sizeof *unplaced);
    for (int64_t i = 0; unplaced && i < d->layers; i++)
        unplaced[i] = json_is_array(list) ? json_integer_value(json_array_get(list, (size_t)i)) == 0 : (i + 1) % interval == 0;
    d->unplaced = unplaced;
    return unplaced ? TFUSE_OK : TFUSE_ENOMEM;
}

/* A window, where there is one, is in the layers without positions. */
static tfuse_status read_window(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    bool slides = false;
    TF_TRY(tf_config_bool_or(env, m, "use_sliding_window", false, &slides));
    if (slides)
        TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d->window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 0, d));
    if (d->window > 0 && !tf_config_has(m, "layer_types"))
        d->sliding = d->unplaced;
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.tied = true};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(read_unplaced(env, m, g, &d));
    TF_TRY(read_window(env, m, g, &d));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    TF_TRY(tf_config_bool_or(env, m, "mlp_bias", false, &d.mlp_bias));
    d.out_bias = d.qkv_bias;
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_smollm3 = {"smollm3", "SmolLM3ForCausalLM", build, NULL};
