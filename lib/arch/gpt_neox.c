/* SPDX-License-Identifier: Apache-2.0
 *
 * gpt_neox.c: GPT-NeoX and Pythia (Black et al. 2022, Biderman et al. 2023): attention and FFN read the stream side by side, a part of each head
 * turns with its position, and query, key and value lie inside each head of one tensor.
 */
#include "arch/decoder.h"
#include <stdio.h>

typedef struct config {
    int64_t hidden, layers, heads, inner, ffn, vocab, rope_dims;
    const char *rope, *activation;
    double eps;
    bool parallel, bias, tied;
} config;

static tfuse_status read_config(tf_env *env, const tfuse_model *m, tf_graph *g, config *c)
{
    double theta = 0, part = 0;
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &c->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &c->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &c->heads));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &c->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &c->vocab));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-5, &c->eps));
    TF_TRY(tf_config_real_or(env, m, "rotary_emb_base", 10000.0, &theta));
    TF_TRY(tf_config_real_or(env, m, "rotary_pct", 0.25, &part));
    TF_TRY(tf_config_bool_or(env, m, "use_parallel_residual", true, &c->parallel));
    TF_TRY(tf_config_bool_or(env, m, "attention_bias", true, &c->bias));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", false, &c->tied));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu", &c->activation));
    if (c->hidden % c->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld", tf_model_label(m),
                       (long long)c->hidden, (long long)c->heads);
    c->inner = c->hidden / c->heads;
    TF_TRY(tf_rope_dims(env, m, "rope_parameters", part, c->inner, &c->rope_dims));
    return tf_rope_read(env, m, g, "rope_parameters", theta, c->rope_dims, &c->rope);
}

static tfuse_status attention(const tf_block *b, const config *c)
{
    char inner[64], partial[48] = "";
    snprintf(inner, sizeof inner, "qk:%lld", (long long)c->inner);
    if (c->rope_dims < c->inner) {
        snprintf(inner, sizeof inner, "(rot:%lld|pass:%lld)", (long long)c->rope_dims, (long long)(c->inner - c->rope_dims));
        snprintf(partial, sizeof partial, " rope_dims=%lld", (long long)c->rope_dims);
    }
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm1", "^", "eps=%s", tf_real(c->eps).text));
    TF_TRY(tf_block_addf(b, "linear", "~/query", "~/norm1", "out=heads:%lld*%s bias=%d", (long long)c->heads, inner, c->bias));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "~/norm1", "out=heads:%lld*%s bias=%d", (long long)c->heads, inner, c->bias));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "~/norm1", "out=heads:%lld*vo:%lld bias=%d", (long long)c->heads, (long long)c->inner, c->bias));
    TF_TRY(tf_block_addf(b, "attention", "~/attention", "~/query ~/key ~/value", "causal=1 %s%s", c->rope, partial));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld bias=%d", (long long)c->hidden, c->bias));
    return tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from);
}

/* With parallel residuals the FFN reads what the attention read. */
static tfuse_status ffn(const tf_block *b, const config *c)
{
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm2", c->parallel ? "^" : "~/residual1", "eps=%s", tf_real(c->eps).text));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm2", "out=ffn:%lld", (long long)c->ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", c->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld", (long long)c->hidden));
    return tf_block_addf(b, "add", "~/residual2", "~/residual1 ~/fc2", "residual=%s/residual1", b->scope);
}

static tfuse_status nodes(tf_env *env, tf_graph *g, const config *c)
{
    char scope[32], from[48] = "embeddings";
    TF_TRY(tf_graph_add(env, g, "input", "tokens", "", "kind=tokens"));
    TF_TRY(tf_addf(env, g, "embedding", "embeddings", "tokens", "rows=!/vocab:%lld of=/stream:%lld", (long long)c->vocab, (long long)c->hidden));
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(attention(&b, c));
        TF_TRY(ffn(&b, c));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    TF_TRY(tf_addf(env, g, "layernorm", "norm", from, "eps=%s", tf_real(c->eps).text));
    TF_TRY(tf_addf(env, g, "linear", "head", "norm", "out=!/vocab:%lld bias=0%s", (long long)c->vocab, c->tied ? " weight=@embeddings.weight" : ""));
    return tf_graph_output(env, g, "head");
}

static const tf_name_rule names[] = {
    {"embeddings.weight", "gpt_neox.embed_in.weight"},
    {"layer.%d/norm1.gain", "gpt_neox.layers.%d.input_layernorm.weight"},
    {"layer.%d/norm1.bias", "gpt_neox.layers.%d.input_layernorm.bias"},
    {"layer.%d/output.weight", "gpt_neox.layers.%d.attention.dense.weight"},
    {"layer.%d/norm2.gain", "gpt_neox.layers.%d.post_attention_layernorm.weight"},
    {"layer.%d/norm2.bias", "gpt_neox.layers.%d.post_attention_layernorm.bias"},
    {"layer.%d/fc1.weight", "gpt_neox.layers.%d.mlp.dense_h_to_4h.weight"},
    {"layer.%d/fc1.bias", "gpt_neox.layers.%d.mlp.dense_h_to_4h.bias"},
    {"layer.%d/fc2.weight", "gpt_neox.layers.%d.mlp.dense_4h_to_h.weight"},
    {"layer.%d/fc2.bias", "gpt_neox.layers.%d.mlp.dense_4h_to_h.bias"},
    {"norm.gain", "gpt_neox.final_layer_norm.weight"},
    {"norm.bias", "gpt_neox.final_layer_norm.bias"},
};
static const tf_name_rule bias_names[] = {
    {"layer.%d/output.bias", "gpt_neox.layers.%d.attention.dense.bias"},
};

/* query, key, value: the i-th of three within each head. */
static tfuse_status store_fused(tf_env *env, tf_graph *g, const config *c, const char *end)
{
    static const char *const roles[] = {"query", "key", "value"};
    char logical[64], text[128];
    for (int64_t layer = 0; layer < c->layers; layer++)
        for (int i = 0; i < 3; i++) {
            snprintf(logical, sizeof logical, "layer.%lld/%s.%s", (long long)layer, roles[i], end);
            snprintf(text, sizeof text, "within(gpt_neox.layers.%lld.attention.query_key_value.%s,%lld,%d,3)", (long long)layer, end,
                     (long long)c->heads, i);
            TF_TRY(tf_graph_store(env, g, logical, text));
        }
    return TFUSE_OK;
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    static const char *const buffers[] = {"gpt_neox.layers.*.attention.rotary_emb.inv_freq", "gpt_neox.layers.*.attention.bias",
                                          "gpt_neox.layers.*.attention.masked_bias"};
    config c;
    TF_TRY(read_config(env, m, g, &c));
    TF_TRY(nodes(env, g, &c));
    TF_TRY(tf_apply_names(env, g, names, TF_LEN(names), c.layers));
    TF_TRY(store_fused(env, g, &c, "weight"));
    if (c.bias) {
        TF_TRY(tf_apply_names(env, g, bias_names, TF_LEN(bias_names), c.layers));
        TF_TRY(store_fused(env, g, &c, "bias"));
    }
    if (!c.tied)
        TF_TRY(tf_graph_store(env, g, "head.weight", "embed_out.weight"));
    for (size_t i = 0; i < TF_LEN(buffers); i++)
        TF_TRY(tf_graph_buffer(env, g, buffers[i]));
    return TFUSE_OK;
}

const tf_arch tf_arch_gpt_neox = {"gpt_neox", "GPTNeoXForCausalLM", build, NULL};
