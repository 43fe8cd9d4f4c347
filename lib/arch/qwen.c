/* SPDX-License-Identifier: Apache-2.0
 *
 * qwen.c: Qwen2 (Yang et al. 2024): biases on queries, keys and values; Qwen3 (2025): none, and a norm on each head's queries and keys. Both
 * may slide a window in the layers from max_window_layers on. Qwen2-MoE and Qwen3-MoE have experts in place of most FFNs, the former one more that
 * all tokens share.
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
    tf_decoder d = {.qk_norm = TF_QK_NORM_HEAD};
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    d.out_bias = d.qkv_bias;
    return build(env, m, g, &d);
}

/* ---- with experts ---- */

static bool listed(const tfuse_model *m, int64_t layer)
{
    const json_t *list = json_object_get(m->config, "mlp_only_layers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == layer)
            return true;
    return false;
}

static tfuse_status read_experts(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    int64_t step = 0, layers = 0;
    bool normalise = false;
    TF_TRY(tf_config_int(env, m, tf_config_has(m, "num_experts") ? "num_experts" : "num_local_experts", 1, 1 << 16, &d->moe.experts));
    TF_TRY(tf_config_int(env, m, "num_experts_per_tok", 1, d->moe.experts, &d->moe.top_k));
    TF_TRY(tf_config_int(env, m, "moe_intermediate_size", 1, 1 << 22, &d->moe.ffn));
    TF_TRY(tf_config_int_or(env, m, "decoder_sparse_step", 1, 4096, 1, &step));
    TF_TRY(tf_config_bool_or(env, m, "norm_topk_prob", false, &normalise));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &layers));
    bool *sparse = tf_arena_array(env, &g->arena, (size_t)layers, sizeof *sparse);
    for (int64_t i = 0; sparse && i < layers; i++)
        sparse[i] = (i + 1) % step == 0 && !listed(m, i);
    d->moe.sparse = sparse;
    d->moe.weights = normalise ? "chosen" : "all";
    d->moe.router = "mlp.gate.weight";
    d->moe.gate = "mlp.experts.%d.gate_proj.weight";
    d->moe.up = "mlp.experts.%d.up_proj.weight";
    d->moe.down = "mlp.experts.%d.down_proj.weight";
    return sparse ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status build_qwen2_moe(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {0};
    TF_TRY(read_experts(env, m, g, &d));
    TF_TRY(tf_config_int(env, m, "shared_expert_intermediate_size", 1, 1 << 22, &d.moe.shared));
    TF_TRY(tf_config_bool_or(env, m, "qkv_bias", true, &d.qkv_bias));
    return build(env, m, g, &d);
}

static tfuse_status build_qwen3_moe(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.qk_norm = TF_QK_NORM_HEAD};
    TF_TRY(read_experts(env, m, g, &d));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", false, &d.qkv_bias));
    d.out_bias = d.qkv_bias;
    return build(env, m, g, &d);
}

const tf_arch tf_arch_qwen2_moe = {"qwen2_moe", "Qwen2MoeForCausalLM", build_qwen2_moe, NULL};
const tf_arch tf_arch_qwen3_moe = {"qwen3_moe", "Qwen3MoeForCausalLM", build_qwen3_moe, NULL};
const tf_arch tf_arch_qwen2 = {"qwen2", "Qwen2ForCausalLM", build_qwen2, NULL};
const tf_arch tf_arch_qwen3 = {"qwen3", "Qwen3ForCausalLM", build_qwen3, NULL};
