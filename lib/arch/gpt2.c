/* SPDX-License-Identifier: Apache-2.0
 *
 * gpt2.c: GPT-2 (Radford et al. 2019) as Hugging Face's GPT2LMHeadModel: pre-norm blocks, learned positions, a tied head. Weights are stored
 * input-major (its Conv1D), queries, keys and values side by side in one.
 */
#include "arch/arch.h"
#include <math.h>
#include <stdio.h>

typedef struct config {
    int64_t hidden, layers, heads, ffn, vocab, positions;
    double eps;
    bool tied, scaled;
    const char *activation;
} config;

static tfuse_status read_config(tf_env *env, const tfuse_model *m, config *c)
{
    bool by_layer = false;
    TF_TRY(tf_config_int(env, m, "n_embd", 1, 1 << 20, &c->hidden));
    TF_TRY(tf_config_int(env, m, "n_layer", 1, 4096, &c->layers));
    TF_TRY(tf_config_int(env, m, "n_head", 1, 1 << 16, &c->heads));
    TF_TRY(tf_config_int_or(env, m, "n_inner", 1, 1 << 22, 4 * c->hidden, &c->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &c->vocab));
    TF_TRY(tf_config_int(env, m, "n_positions", 1, 1 << 24, &c->positions));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_epsilon", 1e-5, &c->eps));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", true, &c->tied));
    TF_TRY(tf_config_bool_or(env, m, "scale_attn_weights", true, &c->scaled));
    TF_TRY(tf_config_bool_or(env, m, "scale_attn_by_inverse_layer_idx", false, &by_layer));
    TF_TRY(tf_read_activation(env, m, "activation_function", "gelu_new", &c->activation));
    if (by_layer)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: scale_attn_by_inverse_layer_idx is not known", tf_model_label(m));
    return c->hidden % c->heads == 0 ? TFUSE_OK
                                     : tf_fail(env, TFUSE_EFORMAT, "%s: config.json: n_embd %lld is not divisible by n_head %lld",
                                               tf_model_label(m), (long long)c->hidden, (long long)c->heads);
}

static tfuse_status block(const tf_block *b, const config *c)
{
    const long long width = c->hidden, heads = c->heads, inner = c->hidden / c->heads;
    const tf_real_text eps = tf_real(c->eps);
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm1", "^", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/query", "~/norm1", "out=heads:%lld*qk:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "~/norm1", "out=heads:%lld*qk:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "~/norm1", "out=heads:%lld*vo:%lld", heads, inner));
    TF_TRY(tf_block_addf(b, "attention", "~/attention", "~/query ~/key ~/value", "causal=1 scale=%s",
                         tf_real(c->scaled ? 1 / sqrt((double)inner) : 1).text));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from));
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm2", "~/residual1", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm2", "out=ffn:%lld", (long long)c->ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/fc1", "kind=%s", c->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/activation", "out=/stream:%lld", width));
    return tf_block_addf(b, "add", "~/residual2", "~/residual1 ~/fc2", "residual=%s/residual1", b->scope);
}

static tfuse_status nodes(tf_env *env, tf_graph *g, const config *c)
{
    char scope[32], from[48] = "embeddings";
    TF_TRY(tf_graph_add(env, g, "input", "tokens", "", "kind=tokens"));
    TF_TRY(tf_addf(env, g, "embedding", "embeddings/tokens", "tokens", "rows=!/vocab:%lld of=/stream:%lld", (long long)c->vocab, (long long)c->hidden));
    TF_TRY(tf_addf(env, g, "positions", "embeddings/positions", "tokens", "rows=!positions:%lld of=/stream:%lld", (long long)c->positions,
                   (long long)c->hidden));
    TF_TRY(tf_graph_add(env, g, "add", "embeddings", "embeddings/tokens embeddings/positions", "residual=embeddings/positions"));
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        TF_TRY(block(&(tf_block){env, g, scope, from}, c));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    TF_TRY(tf_addf(env, g, "layernorm", "norm", from, "eps=%s", tf_real(c->eps).text));
    TF_TRY(tf_addf(env, g, "linear", "head", "norm", "out=!/vocab:%lld bias=0%s", (long long)c->vocab,
                   c->tied ? " weight=@embeddings/tokens.weight" : ""));
    return tf_graph_output(env, g, "head");
}

/* ---- names: with "transformer." before them, or, in the first checkpoints, without ---- */

static const tf_name_rule names[] = {
    {"embeddings/positions.weight", "transformer.wpe.weight"},
    {"layer.%d/norm1.gain", "transformer.h.%d.ln_1.weight"},
    {"layer.%d/norm1.bias", "transformer.h.%d.ln_1.bias"},
    {"layer.%d/query.weight", "transpose(part(transformer.h.%d.attn.c_attn.weight,1,0,3))"},
    {"layer.%d/key.weight", "transpose(part(transformer.h.%d.attn.c_attn.weight,1,1,3))"},
    {"layer.%d/value.weight", "transpose(part(transformer.h.%d.attn.c_attn.weight,1,2,3))"},
    {"layer.%d/query.bias", "part(transformer.h.%d.attn.c_attn.bias,0,0,3)"},
    {"layer.%d/key.bias", "part(transformer.h.%d.attn.c_attn.bias,0,1,3)"},
    {"layer.%d/value.bias", "part(transformer.h.%d.attn.c_attn.bias,0,2,3)"},
    {"layer.%d/output.weight", "transpose(transformer.h.%d.attn.c_proj.weight)"},
    {"layer.%d/output.bias", "transformer.h.%d.attn.c_proj.bias"},
    {"layer.%d/norm2.gain", "transformer.h.%d.ln_2.weight"},
    {"layer.%d/norm2.bias", "transformer.h.%d.ln_2.bias"},
    {"layer.%d/fc1.weight", "transpose(transformer.h.%d.mlp.c_fc.weight)"},
    {"layer.%d/fc1.bias", "transformer.h.%d.mlp.c_fc.bias"},
    {"layer.%d/fc2.weight", "transpose(transformer.h.%d.mlp.c_proj.weight)"},
    {"layer.%d/fc2.bias", "transformer.h.%d.mlp.c_proj.bias"},
    {"norm.gain", "transformer.ln_f.weight"},
    {"norm.bias", "transformer.ln_f.bias"},
};

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    config c;
    const char *prefix = m->count == 0 || tf_model_find(m, "transformer.wte.weight") ? "" : "transformer.";
    TF_TRY(read_config(env, m, &c));
    TF_TRY(nodes(env, g, &c));
    TF_TRY(tf_apply_names_without(env, g, names, TF_LEN(names), c.layers, prefix));
    const char *table = *prefix ? "wte.weight" : "transformer.wte.weight";
    TF_TRY(c.tied ? tf_store_tied(env, g, m, "embeddings/tokens.weight", table, "lm_head.weight")
                  : tf_graph_store(env, g, "embeddings/tokens.weight", table));
    if (!c.tied)
        TF_TRY(tf_graph_store(env, g, "head.weight", "lm_head.weight"));
    TF_TRY(tf_graph_buffer(env, g, *prefix ? "h.*.attn.bias" : "transformer.h.*.attn.bias"));
    return tf_graph_buffer(env, g, *prefix ? "h.*.attn.masked_bias" : "transformer.h.*.attn.masked_bias");
}

const tf_arch tf_arch_gpt2 = {"gpt2", "GPT2LMHeadModel", build, NULL};
