/* SPDX-License-Identifier: Apache-2.0
 *
 * gptj.c: GPT-J (Wang, Komatsuzaki 2021): attention and FFN side by side after one LayerNorm, the first units of each head turn, pairs beside each other; no
 * biases in attention, one on the head.
 */
#include "arch/decoder.h"

/* Keys under GPT-2's names. */
static tfuse_status read_sizes(tf_env *env, const tfuse_model *m, tf_decoder *d)
{
    TF_TRY(tf_config_int(env, m, "n_embd", 1, 1 << 20, &d->hidden));
    TF_TRY(tf_config_int(env, m, "n_layer", 1, 4096, &d->layers));
    TF_TRY(tf_config_int(env, m, "n_head", 1, 1 << 16, &d->heads));
    TF_TRY(tf_config_int_or(env, m, "n_inner", 1, 1 << 22, 4 * d->hidden, &d->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &d->vocab));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_epsilon", 1e-5, &d->eps));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", false, &d->tied));
    TF_TRY(tf_read_activation(env, m, "activation_function", "gelu_new", &d->activation));
    if (d->hidden % d->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: n_embd %lld is not divisible by n_head %lld", tf_model_label(m), (long long)d->hidden,
                       (long long)d->heads);
    d->kv = d->heads;
    d->inner = d->hidden / d->heads;
    TF_TRY(tf_config_int_or(env, m, "rotary_dim", 2, d->inner, d->inner, &d->rope_dims));
    return d->rope_dims % 2 == 0 ? TFUSE_OK : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: rotary_dim must be even", tf_model_label(m));
}

static const tf_name_rule names[] = {
    {"embeddings.weight", "transformer.wte.weight"},
    {"layer.%d/norm1.gain", "transformer.h.%d.ln_1.weight"},
    {"layer.%d/norm1.bias", "transformer.h.%d.ln_1.bias"},
    {"layer.%d/query.weight", "transformer.h.%d.attn.q_proj.weight"},
    {"layer.%d/key.weight", "transformer.h.%d.attn.k_proj.weight"},
    {"layer.%d/value.weight", "transformer.h.%d.attn.v_proj.weight"},
    {"layer.%d/output.weight", "transformer.h.%d.attn.out_proj.weight"},
    {"layer.%d/fc1.weight", "transformer.h.%d.mlp.fc_in.weight"},
    {"layer.%d/fc1.bias", "transformer.h.%d.mlp.fc_in.bias"},
    {"layer.%d/fc2.weight", "transformer.h.%d.mlp.fc_out.weight"},
    {"layer.%d/fc2.bias", "transformer.h.%d.mlp.fc_out.bias"},
    {"norm.gain", "transformer.ln_f.weight"},
    {"norm.bias", "transformer.ln_f.bias"},
};

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    tf_decoder d = {.layernorm = true, .norm_bias = true, .parallel = true, .plain = true, .interleaved = true, .mlp_bias = true, .head_bias = true,
                    .own = names, .n_own = TF_LEN(names), .rope = {"rope=1 rope_theta=10000"}};
    TF_TRY(read_sizes(env, m, &d));
    TF_TRY(tf_graph_buffer(env, g, "transformer.h.*.attn.bias"));
    TF_TRY(tf_graph_buffer(env, g, "transformer.h.*.attn.masked_bias"));
    return tf_decoder_build(env, m, g, &d);
}

const tf_arch tf_arch_gptj = {"gptj", "GPTJForCausalLM", build, NULL};
