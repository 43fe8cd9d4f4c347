/* SPDX-License-Identifier: Apache-2.0
 *
 * mixtral.c: Mixtral (Jiang et al. 2024): Mistral whose FFNs are mixtures of experts.
 */
#include "arch/decoder.h"

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.moe = {.weights = "chosen", .router = "block_sparse_moe.gate.weight", .gate = "block_sparse_moe.experts.%d.w1.weight",
                            .up = "block_sparse_moe.experts.%d.w3.weight", .down = "block_sparse_moe.experts.%d.w2.weight"}};
    TF_TRY(tf_decoder_read(env, m, g, &d));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "silu", &d.activation));
    TF_TRY(tf_config_int_or(env, m, "sliding_window", 0, INT32_MAX, 0, &d.window));
    TF_TRY(tf_decoder_read_layers(env, m, g, 1, &d));
    TF_TRY(tf_config_int(env, m, "num_local_experts", 1, 1 << 16, &d.moe.experts));
    TF_TRY(tf_config_int(env, m, "num_experts_per_tok", 1, d.moe.experts, &d.moe.top_k));
    d.moe.ffn = d.ffn;
    bool *sparse = tf_arena_array(env, &g->arena, (size_t)d.layers, sizeof *sparse);
    for (int64_t i = 0; sparse && i < d.layers; i++)
        sparse[i] = true;
    d.moe.sparse = sparse;
    return sparse ? tf_decoder_build(env, m, g, &d) : TFUSE_ENOMEM;
}

const tf_arch tf_arch_mixtral = {"mixtral", "MixtralForCausalLM", build, NULL};
