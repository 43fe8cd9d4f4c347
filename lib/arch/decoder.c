/* SPDX-License-Identifier: Apache-2.0
 *
 * decoder.c: see decoder.h.
 */
#include "arch/decoder.h"
#include <stdio.h>
#include <string.h>

enum { MOST_EXPERTS = 1 << 17 };

/* ---- config ---- */

static tfuse_status check_sizes(tf_env *env, const tfuse_model *m, const tf_decoder *d, bool states_inner)
{
    if (!states_inner && d->hidden % d->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld, and there is no head_dim",
                       tf_model_label(m), (long long)d->hidden, (long long)d->heads);
    if (d->heads % d->kv != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: num_attention_heads %lld is not divisible by num_key_value_heads %lld",
                       tf_model_label(m), (long long)d->heads, (long long)d->kv);
    return TFUSE_OK;
}

tfuse_status tf_decoder_read(tf_env *env, const tfuse_model *m, tf_graph *g, tf_decoder *d)
{
    double theta = 0;
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &d->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &d->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &d->heads));
    TF_TRY(tf_config_int_or(env, m, "num_key_value_heads", 1, 1 << 16, d->heads, &d->kv));
    TF_TRY(tf_config_int_or(env, m, "head_dim", 1, 1 << 13, d->hidden / d->heads > 0 ? d->hidden / d->heads : 1, &d->inner));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &d->ffn));
    TF_TRY(tf_config_int(env, m, "vocab_size", 1, 1 << 24, &d->vocab));
    TF_TRY(tf_config_real_or(env, m, "rms_norm_eps", 1e-6, &d->eps));
    TF_TRY(tf_config_real_or(env, m, "rope_theta", 10000.0, &theta));
    TF_TRY(tf_config_bool_or(env, m, "tie_word_embeddings", d->tied, &d->tied));
    TF_TRY(check_sizes(env, m, d, tf_config_has(m, "head_dim")));
    TF_TRY(tf_rope_dims(env, m, "rope_parameters", 1, d->inner, &d->rope_dims));
    return tf_rope_read(env, m, g, "rope_parameters", theta, d->rope_dims, &d->rope[TF_FULL]);
}

tfuse_status tf_decoder_read_layers(tf_env *env, const tfuse_model *m, tf_graph *g, int64_t pattern, tf_decoder *d)
{
    char shown[64];
    bool *sliding = tf_arena_array(env, &g->arena, (size_t)d->layers, sizeof *sliding);
    if (!sliding)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < d->layers && d->window > 0; i++) {
        const char *type = tf_config_item(m, "layer_types", i);
        if (!type && tf_config_has(m, "layer_types"))
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: layer_types says nothing of layer %lld", tf_model_label(m), (long long)i);
        sliding[i] = type ? !strcmp(type, "sliding_attention") : pattern == 1 || (pattern > 1 && (i + 1) % pattern != 0);
        if (type && !sliding[i] && strcmp(type, "full_attention"))
            return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: layer_types: '%s' is not known; full_attention and sliding_attention are",
                           tf_model_label(m), tf_printable(shown, sizeof shown, type));
    }
    d->sliding = sliding;
    if (!d->rope[TF_SLIDING])
        d->rope[TF_SLIDING] = d->rope[TF_FULL];
    return TFUSE_OK;
}

/* ---- the model ---- */

static tfuse_status norm(const tf_block *b, const tf_decoder *d, const char *name, const char *input)
{
    return tf_block_addf(b, "rmsnorm", name, input, "eps=%s offset=%d", tf_real(d->eps).text, d->gain_offset);
}

/* "qk:64", or "(rot:16|pass:48)" where a part of the units turns. */
static void write_inner(const tf_decoder *d, char *out, size_t size)
{
    if (d->rope_dims < d->inner)
        snprintf(out, size, "(rot:%lld|pass:%lld)", (long long)d->rope_dims, (long long)(d->inner - d->rope_dims));
    else
        snprintf(out, size, "qk:%lld", (long long)d->inner);
}

static tfuse_status projections(const tf_block *b, const tf_decoder *d)
{
    char inner[64], query[64];
    write_inner(d, inner, sizeof inner);
    if (d->heads > d->kv)
        snprintf(query, sizeof query, "kv:%lld*group:%lld", (long long)d->kv, (long long)(d->heads / d->kv));
    else
        snprintf(query, sizeof query, "kv:%lld", (long long)d->kv);
    TF_TRY(tf_block_addf(b, "linear", "~/query", "~/norm1", "out=%s*%s bias=%d", query, inner, d->qkv_bias));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "~/norm1", "out=kv:%lld*%s bias=%d", (long long)d->kv, inner, d->qkv_bias));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "~/norm1", "out=kv:%lld*vo:%lld bias=%d", (long long)d->kv, (long long)d->inner, d->qkv_bias));
    if (!d->qk_norm)
        return TFUSE_OK;
    TF_TRY(tf_block_addf(b, "rmsnorm", "~/query_norm", "~/query", "per_head=1 eps=%s offset=%d", tf_real(d->eps).text, d->gain_offset));
    return tf_block_addf(b, "rmsnorm", "~/key_norm", "~/key", "per_head=1 eps=%s offset=%d", tf_real(d->eps).text, d->gain_offset);
}

static tfuse_status attention(const tf_block *b, const tf_decoder *d, bool sliding)
{
    char partial[48] = "", scale[64] = "", cap[64] = "", window[48] = "";
    if (d->rope_dims < d->inner)
        snprintf(partial, sizeof partial, " rope_dims=%lld", (long long)d->rope_dims);
    if (d->score_scale > 0)
        snprintf(scale, sizeof scale, " scale=%s", tf_real(d->score_scale).text);
    if (d->score_cap > 0)
        snprintf(cap, sizeof cap, " softcap=%s", tf_real(d->score_cap).text);
    if (sliding)
        snprintf(window, sizeof window, " window=%lld", (long long)d->window);
    return tf_block_addf(b, "attention", "~/attention", d->qk_norm ? "~/query_norm ~/key_norm ~/value" : "~/query ~/key ~/value",
                         "causal=1 %s%s%s%s%s", d->rope[sliding ? TF_SLIDING : TF_FULL], partial, scale, cap, window);
}

static tfuse_status dense_ffn(const tf_block *b, const tf_decoder *d)
{
    TF_TRY(tf_block_addf(b, "linear", "~/gate", "~/norm2", "out=ffn:%lld bias=%d", (long long)d->ffn, d->mlp_bias));
    TF_TRY(tf_block_addf(b, "activation", "~/activation", "~/gate", "kind=%s", d->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/up", "~/norm2", "out=ffn:%lld bias=%d", (long long)d->ffn, d->mlp_bias));
    TF_TRY(tf_block_addf(b, "multiply", "~/gated", "~/activation ~/up", "%s", ""));
    return tf_block_addf(b, "linear", "~/down", "~/gated", "out=/stream:%lld bias=%d", (long long)d->hidden, d->mlp_bias);
}

static bool is_sparse(const tf_decoder *d, int64_t layer)
{
    return d->moe.sparse && d->moe.sparse[layer];
}

static tfuse_status ffn(const tf_block *b, const tf_decoder *d, int64_t layer)
{
    char sum[64];
    const char *out = "~/down";
    TF_TRY(norm(b, d, "~/norm2", "~/residual1"));
    TF_TRY(is_sparse(d, layer) ? tf_moe_nodes(b, d, &out) : dense_ffn(b, d));
    if (d->sandwich)
        TF_TRY(norm(b, d, "~/norm2_after", out));
    snprintf(sum, sizeof sum, "~/residual1 %s", d->sandwich ? "~/norm2_after" : out);
    return tf_block_addf(b, "add", "~/residual2", sum, "residual=%s/residual1", b->scope);
}

static tfuse_status block(const tf_block *b, const tf_decoder *d, int64_t layer)
{
    const bool sliding = d->sliding && d->sliding[layer];
    TF_TRY(norm(b, d, "~/norm1", "^"));
    TF_TRY(projections(b, d));
    TF_TRY(attention(b, d, sliding));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld bias=%d", (long long)d->hidden, d->out_bias));
    if (d->sandwich)
        TF_TRY(norm(b, d, "~/norm1_after", "~/output"));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", d->sandwich ? "^ ~/norm1_after" : "^ ~/output", "residual=%s", b->from));
    return ffn(b, d, layer);
}

static tfuse_status head(const tf_block *b, const tf_decoder *d)
{
    TF_TRY(norm(b, d, "norm", "^"));
    TF_TRY(tf_block_addf(b, "linear", "head", "norm", "out=!/vocab:%lld bias=0%s", (long long)d->vocab,
                         d->tied ? " weight=@embeddings.weight" : ""));
    if (d->logit_cap <= 0)
        return tf_graph_output(b->env, b->g, "head");
    TF_TRY(tf_block_addf(b, "softcap", "logits", "head", "cap=%s", tf_real(d->logit_cap).text));
    return tf_graph_output(b->env, b->g, "logits");
}

tfuse_status tf_decoder_nodes(tf_env *env, tf_graph *g, const tf_decoder *d)
{
    char scope[32], from[48] = "embeddings";
    TF_TRY(tf_graph_add(env, g, "input", "tokens", "", "kind=tokens"));
    TF_TRY(tf_addf(env, g, "embedding", "embeddings", "tokens", "rows=!/vocab:%lld of=/stream:%lld scale=%s", (long long)d->vocab,
                   (long long)d->hidden, tf_real(d->embed_scale > 0 ? d->embed_scale : 1).text));
    for (int64_t i = 0; i < d->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(block(&b, d, i));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    return head(&(tf_block){env, g, "", from}, d);
}

/* ---- names ---- */

static const tf_name_rule common_names[] = {
    {"layer.%d/norm1.gain", "model.layers.%d.input_layernorm.weight"},
    {"layer.%d/output.weight", "model.layers.%d.self_attn.o_proj.weight"},
    {"norm.gain", "model.norm.weight"},
};
static const tf_name_rule projection_names[] = {
    {"layer.%d/query.weight", "model.layers.%d.self_attn.q_proj.weight"},
    {"layer.%d/key.weight", "model.layers.%d.self_attn.k_proj.weight"},
    {"layer.%d/value.weight", "model.layers.%d.self_attn.v_proj.weight"},
};
static const tf_name_rule ffn_names[] = {
    {"layer.%d/gate.weight", "model.layers.%d.mlp.gate_proj.weight"},
    {"layer.%d/up.weight", "model.layers.%d.mlp.up_proj.weight"},
    {"layer.%d/down.weight", "model.layers.%d.mlp.down_proj.weight"},
};
static const tf_name_rule norm2_names[] = {
    {"layer.%d/norm2.gain", "model.layers.%d.post_attention_layernorm.weight"},
};
static const tf_name_rule sandwich_names[] = {
    {"layer.%d/norm1_after.gain", "model.layers.%d.post_attention_layernorm.weight"},
    {"layer.%d/norm2.gain", "model.layers.%d.pre_feedforward_layernorm.weight"},
    {"layer.%d/norm2_after.gain", "model.layers.%d.post_feedforward_layernorm.weight"},
};
static const tf_name_rule qk_norm_names[] = {
    {"layer.%d/query_norm.gain", "model.layers.%d.self_attn.q_norm.weight"},
    {"layer.%d/key_norm.gain", "model.layers.%d.self_attn.k_norm.weight"},
};
static const tf_name_rule qkv_bias_names[] = {
    {"layer.%d/query.bias", "model.layers.%d.self_attn.q_proj.bias"},
    {"layer.%d/key.bias", "model.layers.%d.self_attn.k_proj.bias"},
    {"layer.%d/value.bias", "model.layers.%d.self_attn.v_proj.bias"},
};
static const tf_name_rule out_bias_names[] = {
    {"layer.%d/output.bias", "model.layers.%d.self_attn.o_proj.bias"},
};
static const tf_name_rule mlp_bias_names[] = {
    {"layer.%d/gate.bias", "model.layers.%d.mlp.gate_proj.bias"},
    {"layer.%d/up.bias", "model.layers.%d.mlp.up_proj.bias"},
    {"layer.%d/down.bias", "model.layers.%d.mlp.down_proj.bias"},
};
static const tf_name_rule head_names[] = {
    {"head.weight", "lm_head.weight"},
};

#define TABLE(on, rules) {on, rules, TF_LEN(rules)}

/* `fused`: the file of the architecture names gate and up itself. */
static tfuse_status name_ffn(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d, int64_t layer, bool fused)
{
    char logical[64], stored[96];
    if (is_sparse(d, layer))
        return tf_moe_names(env, m, g, d, layer);
    for (size_t i = fused ? 2 : 0; i < TF_LEN(ffn_names); i++)
        TF_TRY(tf_graph_store(env, g, tf_with_layer(ffn_names[i].logical, layer, logical, sizeof logical),
                              tf_with_layer(ffn_names[i].stored, layer, stored, sizeof stored)));
    return TFUSE_OK;
}

tfuse_status tf_decoder_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d, bool fused)
{
    const struct {
        bool on;
        const tf_name_rule *rules;
        size_t count;
    } tables[] = {
        TABLE(true, common_names),       TABLE(!fused, projection_names),  TABLE(!d->sandwich, norm2_names), TABLE(d->sandwich, sandwich_names),
        TABLE(d->qk_norm, qk_norm_names), TABLE(d->qkv_bias, qkv_bias_names), TABLE(d->out_bias, out_bias_names),
        TABLE(d->mlp_bias, mlp_bias_names), TABLE(!d->tied, head_names),
    };
    for (size_t i = 0; i < TF_LEN(tables); i++)
        if (tables[i].on)
            TF_TRY(tf_apply_names(env, g, tables[i].rules, tables[i].count, d->layers));
    for (int64_t i = 0; i < d->layers; i++)
        TF_TRY(name_ffn(env, m, g, d, i, fused));
    TF_TRY(d->tied ? tf_store_tied(env, g, m, "embeddings.weight", "model.embed_tokens.weight", "lm_head.weight")
                   : tf_graph_store(env, g, "embeddings.weight", "model.embed_tokens.weight"));
    return tf_graph_buffer(env, g, "model.layers.*.self_attn.rotary_emb.inv_freq");
}

/* Each expert of each layer is a tensor or three by name: what a config may ask for is bounded by more than any model has. */
static tfuse_status check_experts(tf_env *env, const tfuse_model *m, const tf_decoder *d)
{
    return !d->moe.sparse || d->moe.experts <= MOST_EXPERTS / d->layers
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: %lld experts in each of %lld layers are more than the %d in all that are read",
                         tf_model_label(m), (long long)d->moe.experts, (long long)d->layers, MOST_EXPERTS);
}

tfuse_status tf_decoder_build(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d)
{
    TF_TRY(check_experts(env, m, d));
    TF_TRY(tf_decoder_nodes(env, g, d));
    return tf_decoder_names(env, m, g, d, false);
}
