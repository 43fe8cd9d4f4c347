/* SPDX-License-Identifier: Apache-2.0
 *
 * decoder_names.c: the tensors of decoder.h's models as LlamaForCausalLM names them.
 */
#include "arch/decoder.h"
#include <stdio.h>
#include <string.h>

static const tf_name_rule common_names[] = {
    {"layer.%d/output.weight", "model.layers.%d.self_attn.o_proj.weight"},
    {"norm.gain", "model.norm.weight"},
};
static const tf_name_rule norm1_names[] = {
    {"layer.%d/norm1.gain", "model.layers.%d.input_layernorm.weight"},
};
static const tf_name_rule projection_names[] = {
    {"layer.%d/query.weight", "model.layers.%d.self_attn.q_proj.weight"},
    {"layer.%d/key.weight", "model.layers.%d.self_attn.k_proj.weight"},
    {"layer.%d/value.weight", "model.layers.%d.self_attn.v_proj.weight"},
};
static const tf_name_rule gate_up_names[] = {
    {"layer.%d/gate.weight", "model.layers.%d.mlp.gate_proj.weight"},
    {"layer.%d/up.weight", "model.layers.%d.mlp.up_proj.weight"},
};
static const tf_name_rule down_names[] = {
    {"layer.%d/down.weight", "model.layers.%d.mlp.down_proj.weight"},
};
static const tf_name_rule norm2_names[] = {
    {"layer.%d/norm2.gain", "model.layers.%d.post_attention_layernorm.weight"},
};
static const tf_name_rule around_names[] = {
    {"layer.%d/norm1_after.gain", "model.layers.%d.post_attention_layernorm.weight"},
    {"layer.%d/norm2.gain", "model.layers.%d.pre_feedforward_layernorm.weight"},
    {"layer.%d/norm2_after.gain", "model.layers.%d.post_feedforward_layernorm.weight"},
};
static const tf_name_rule after_names[] = {
    {"layer.%d/norm1_after.gain", "model.layers.%d.post_attention_layernorm.weight"},
    {"layer.%d/norm2_after.gain", "model.layers.%d.post_feedforward_layernorm.weight"},
};
static const tf_name_rule norm_bias_names[] = {
    {"layer.%d/norm1.bias", "model.layers.%d.input_layernorm.bias"},
    {"norm.bias", "model.norm.bias"},
};
static const tf_name_rule norm2_bias_names[] = {
    {"layer.%d/norm2.bias", "model.layers.%d.post_attention_layernorm.bias"},
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
static const tf_name_rule plain_names[] = {
    {"layer.%d/fc1.weight", "model.layers.%d.mlp.fc1.weight"},
    {"layer.%d/fc2.weight", "model.layers.%d.mlp.fc2.weight"},
};
static const tf_name_rule plain_bias_names[] = {
    {"layer.%d/fc1.bias", "model.layers.%d.mlp.fc1.bias"},
    {"layer.%d/fc2.bias", "model.layers.%d.mlp.fc2.bias"},
};
static const tf_name_rule head_bias_names[] = {
    {"head.bias", "lm_head.bias"},
};
static const tf_name_rule head_names[] = {
    {"head.weight", "lm_head.weight"},
};


static bool is_own(const tf_decoder *d, const char *logical)
{
    for (size_t i = 0; i < d->n_own; i++)
        if (!strcmp(d->own[i].logical, logical))
            return true;
    return false;
}

static tfuse_status apply(tf_env *env, tf_graph *g, const tf_decoder *d, const tf_name_rule *rules, size_t count, int64_t layers)
{
    for (size_t i = 0; i < count; i++)
        if (!is_own(d, rules[i].logical))
            TF_TRY(tf_apply_names(env, g, &rules[i], 1, layers));
    return TFUSE_OK;
}

/* Rows first..first+count-1 of all `rows`. */
static tfuse_status store_rows(tf_env *env, tf_graph *g, int64_t layer, const char *logical, const char *stored, int64_t first, int64_t count,
                               int64_t rows)
{
    char name[64], text[160];
    snprintf(name, sizeof name, "layer.%lld/%s.weight", (long long)layer, logical);
    snprintf(text, sizeof text, "slice(model.layers.%lld.%s.weight,0,%lld,%lld,%lld)", (long long)layer, stored, (long long)first,
             (long long)count, (long long)rows);
    return tf_graph_store(env, g, name, text);
}

static tfuse_status store_fused(tf_env *env, tf_graph *g, const tf_decoder *d, int64_t layer)
{
    const int64_t q = d->heads * d->inner, kv = d->kv * d->inner, rows = q + 2 * kv;
    if (d->fused_qkv) {
        TF_TRY(store_rows(env, g, layer, "query", "self_attn.qkv_proj", 0, q, rows));
        TF_TRY(store_rows(env, g, layer, "key", "self_attn.qkv_proj", q, kv, rows));
        TF_TRY(store_rows(env, g, layer, "value", "self_attn.qkv_proj", q + kv, kv, rows));
    }
    if (d->fused_ffn) {
        TF_TRY(store_rows(env, g, layer, "gate", "mlp.gate_up_proj", 0, d->ffn, 2 * d->ffn));
        TF_TRY(store_rows(env, g, layer, "up", "mlp.gate_up_proj", d->ffn, d->ffn, 2 * d->ffn));
    }
    return TFUSE_OK;
}

static tfuse_status store_layer(tf_env *env, tf_graph *g, const tf_name_rule *rules, size_t count, int64_t layer)
{
    char logical[64], stored[96];
    for (size_t i = 0; i < count; i++)
        TF_TRY(tf_graph_store(env, g, tf_with_layer(rules[i].logical, layer, logical, sizeof logical),
                              tf_with_layer(rules[i].stored, layer, stored, sizeof stored)));
    return TFUSE_OK;
}

/* Of mixtures some layers are dense. */
static tfuse_status name_ffn(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d, int64_t layer)
{
    TF_TRY(store_fused(env, g, d, layer));
    if (d->moe.sparse && d->moe.sparse[layer])
        return tf_moe_names(env, m, g, d, layer);
    if (d->plain)
        return TFUSE_OK;
    if (!d->fused_ffn)
        TF_TRY(store_layer(env, g, gate_up_names, TF_LEN(gate_up_names), layer));
    return store_layer(env, g, down_names, TF_LEN(down_names), layer);
}

#define TABLE(on, rules) {on, rules, TF_LEN(rules)}

tfuse_status tf_decoder_names(tf_env *env, const tfuse_model *m, tf_graph *g, const tf_decoder *d)
{
    const bool first = d->norms != TF_NORMS_AFTER, second = first && !d->parallel, bias = d->layernorm && d->norm_bias;
    const struct {
        bool on;
        const tf_name_rule *rules;
        size_t count;
    } tables[] = {
        TABLE(true, common_names),
        TABLE(first, norm1_names),
        TABLE(d->norms == TF_NORMS_BEFORE && second, norm2_names),
        TABLE(d->norms == TF_NORMS_AROUND, around_names),
        TABLE(d->norms == TF_NORMS_AFTER, after_names),
        TABLE(bias, norm_bias_names),
        TABLE(bias && second, norm2_bias_names),
        TABLE(!d->fused_qkv, projection_names),
        TABLE(d->qk_norm != TF_QK_NORM_NONE, qk_norm_names),
        TABLE(d->qkv_bias, qkv_bias_names),
        TABLE(d->out_bias, out_bias_names),
        TABLE(d->mlp_bias && !d->plain, mlp_bias_names),
        TABLE(d->plain, plain_names),
        TABLE(d->plain && d->mlp_bias, plain_bias_names),
        TABLE(!d->tied, head_names),
        TABLE(d->head_bias, head_bias_names),
    };
    TF_TRY(tf_apply_names(env, g, d->own, d->n_own, d->layers));
    for (size_t i = 0; i < TF_LEN(tables); i++)
        if (tables[i].on)
            TF_TRY(apply(env, g, d, tables[i].rules, tables[i].count, d->layers));
    for (int64_t i = 0; i < d->layers; i++)
        TF_TRY(name_ffn(env, m, g, d, i));
    if (is_own(d, "embeddings.weight"))
        return TFUSE_OK;
    TF_TRY(d->tied ? tf_store_tied(env, g, m, "embeddings.weight", "model.embed_tokens.weight", "lm_head.weight")
                   : tf_graph_store(env, g, "embeddings.weight", "model.embed_tokens.weight"));
    return tf_graph_buffer(env, g, "model.layers.*.self_attn.rotary_emb.inv_freq");
}
