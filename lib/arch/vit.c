/* SPDX-License-Identifier: Apache-2.0
 *
 * vit.c: the Vision Transformer (Dosovitskiy et al. 2021) as Hugging Face's ViTForImageClassification: pre-norm blocks, a class token
 * before the patches, learned positions, a linear head on the class token, no pooler. The graph is every Vision Transformer's (vit.h).
 */
#include "arch/vit.h"
#include <stdio.h>
#include <string.h>

/* ---- config.json ---- */

/* An integer, or a list of height and width. */
static tfuse_status read_size(tf_env *env, const tfuse_model *m, const char *key, int64_t most, int64_t out[2])
{
    const json_t *value = json_object_get(m->config, key);
    if (json_array_size(value) != 2) {
        TF_TRY(tf_config_int(env, m, key, 1, most, &out[0]));
        out[1] = out[0];
        return TFUSE_OK;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(value, i);
        out[i] = json_is_integer(item) ? json_integer_value(item) : 0;
        if (out[i] < 1 || out[i] > most)
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: %s is not a pair of integers in 1..%lld", tf_model_label(m),
                           key, (long long)most);
    }
    return TFUSE_OK;
}

tfuse_status vit_check(tf_env *env, const tfuse_model *m, const vit_config *c)
{
    if (c->hidden % c->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld",
                       tf_model_label(m), (long long)c->hidden, (long long)c->heads);
    for (int i = 0; i < 2; i++)
        if (c->image[i] % c->patch[i] != 0)
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: image_size %lld is not divisible by patch_size %lld",
                           tf_model_label(m), (long long)c->image[i], (long long)c->patch[i]);
    return TFUSE_OK;
}

static tfuse_status read_config(tf_env *env, const tfuse_model *m, vit_config *c)
{
    *c = (vit_config){.class_token = true, .patch_bias = true};
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &c->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &c->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &c->heads));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &c->ffn));
    TF_TRY(tf_config_int_or(env, m, "num_channels", 1, 1024, 3, &c->channels));
    TF_TRY(read_size(env, m, "image_size", 1 << 16, c->image));
    TF_TRY(read_size(env, m, "patch_size", 1 << 16, c->patch));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-12, &c->eps));
    TF_TRY(tf_config_bool_or(env, m, "qkv_bias", true, &c->qkv_bias));
    TF_TRY(tf_read_classes(env, m, &c->classes));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu", &c->activation));
    return vit_check(env, m, c);
}

/* ---- the model ---- */

int64_t vit_prefix(const vit_config *c)
{
    return c->class_token + c->registers;
}

int64_t vit_positions(const vit_config *c)
{
    return c->image[0] / c->patch[0] * (c->image[1] / c->patch[1]) + (c->positions_first ? 0 : vit_prefix(c));
}

/* Class token, registers, then `patches`, as one sequence. */
static tfuse_status join(tf_env *env, tf_graph *g, const vit_config *c, const char *patches, const char *name)
{
    char inputs[128];
    snprintf(inputs, sizeof inputs, "%s%s%s", c->class_token ? "embeddings/class_token " : "", c->registers ? "embeddings/registers " : "", patches);
    return tf_graph_add(env, g, "concat_tokens", name, inputs, "");
}

static tfuse_status place(tf_env *env, tf_graph *g, const char *tokens, const char *name)
{
    char inputs[96];
    snprintf(inputs, sizeof inputs, "%s embeddings/positions", tokens);
    return tf_graph_add(env, g, "add", name, inputs, "residual=embeddings/positions");
}

static tfuse_status embeddings(tf_env *env, tf_graph *g, const vit_config *c)
{
    const long long width = c->hidden;
    const bool joined = vit_prefix(c) > 0, late = joined && c->positions_first;
    TF_TRY(tf_addf(env, g, "input", "pixels", "", "kind=image shape=%lld,%lld,%lld", (long long)c->channels,
                   (long long)c->image[0], (long long)c->image[1]));
    TF_TRY(tf_addf(env, g, "patchify", "embeddings/patch", "pixels", "out=/stream:%lld kernel=%lld,%lld bias=%d", width,
                   (long long)c->patch[0], (long long)c->patch[1], c->patch_bias));
    if (c->class_token)
        TF_TRY(tf_addf(env, g, "parameter", "embeddings/class_token", "", "rows=1 of=/stream:%lld", width));
    if (c->registers)
        TF_TRY(tf_addf(env, g, "parameter", "embeddings/registers", "", "rows=%lld of=/stream:%lld", (long long)c->registers, width));
    if (joined && !late)
        TF_TRY(join(env, g, c, "embeddings/patch", "embeddings/tokens"));
    TF_TRY(tf_addf(env, g, "parameter", "embeddings/positions", "", "rows=%lld of=/stream:%lld", (long long)vit_positions(c), width));
    TF_TRY(place(env, g, joined && !late ? "embeddings/tokens" : "embeddings/patch", late ? "embeddings/placed" : "embeddings"));
    if (late)
        TF_TRY(join(env, g, c, "embeddings/placed", "embeddings"));
    if (!c->pre_norm)
        return TFUSE_OK;
    const tf_real_text eps = tf_real(c->eps);
    return tf_addf(env, g, "layernorm", "embeddings/norm", "embeddings", "eps=%s", eps.text);
}

/* What a branch adds to the stream: its last linear's output, times LayerScale's gains where there are some. */
static tfuse_status branch(const tf_block *b, const vit_config *c, const char *scale, const char *linear, const char **out)
{
    *out = c->scales ? scale : linear;
    return c->scales ? tf_block_addf(b, "layerscale", scale, linear, "%s", "") : TFUSE_OK;
}

static tfuse_status block(const tf_block *b, const vit_config *c)
{
    const long long width = c->hidden, heads = c->heads, inner = c->hidden / c->heads, ffn = c->ffn;
    const tf_real_text eps = tf_real(c->eps);
    const int bias = c->qkv_bias;
    const char *from;
    char inputs[64];
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm1", "^", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/query", "~/norm1", "out=heads:%lld*qk:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "~/norm1", "out=heads:%lld*qk:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "~/norm1", "out=heads:%lld*vo:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "attention", "~/attention", "~/query ~/key ~/value", "causal=0"));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld", width));
    TF_TRY(branch(b, c, "~/scale1", "~/output", &from));
    snprintf(inputs, sizeof inputs, "^ %s", from);
    TF_TRY(tf_block_addf(b, "add", "~/residual1", inputs, "residual=%s", b->from));
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm2", "~/residual1", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm2", "out=ffn:%lld", ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/gelu", "~/fc1", "kind=%s", c->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/gelu", "out=/stream:%lld", width));
    TF_TRY(branch(b, c, "~/scale2", "~/fc2", &from));
    snprintf(inputs, sizeof inputs, "~/residual1 %s", from);
    return tf_block_addf(b, "add", "~/residual2", inputs, "residual=%s/residual1", b->scope);
}

static tfuse_status pool(tf_env *env, tf_graph *g, const vit_config *c, const char *from)
{
    if (c->average)
        return tf_addf(env, g, "mean_tokens", "class", from, "first=%lld", (long long)vit_prefix(c));
    return tf_graph_add(env, g, "token", "class", from, "index=0");
}

static tfuse_status head(tf_env *env, tf_graph *g, const vit_config *c, const char *from)
{
    const tf_real_text eps = tf_real(c->eps);
    if (c->late_norm)
        TF_TRY(pool(env, g, c, from));
    TF_TRY(tf_addf(env, g, "layernorm", "norm", c->late_norm ? "class" : from, "eps=%s", eps.text));
    if (!c->late_norm)
        TF_TRY(pool(env, g, c, "norm"));
    TF_TRY(tf_addf(env, g, "linear", "classifier", c->late_norm ? "norm" : "class", "out=!/classes:%lld", (long long)c->classes));
    return tf_graph_output(env, g, "classifier");
}

tfuse_status vit_nodes(tf_env *env, tf_graph *g, const vit_config *c)
{
    TF_TRY(embeddings(env, g, c));
    char scope[32], from[48];
    snprintf(from, sizeof from, "%s", c->pre_norm ? "embeddings/norm" : "embeddings");
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(block(&b, c));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    return head(env, g, c, from);
}

static tfuse_status store_rows(tf_env *env, tf_graph *g, const vit_config *c, const char *logical, const char *stored, int64_t rows)
{
    char text[96];
    snprintf(text, sizeof text, "shape(%s,1,%lld,%lld)", stored, (long long)rows, (long long)c->hidden);
    return tf_graph_store(env, g, logical, text);
}

tfuse_status vit_store(tf_env *env, tf_graph *g, const vit_config *c, const char *token, const char *registers, const char *positions)
{
    if (c->class_token)
        TF_TRY(store_rows(env, g, c, "embeddings/class_token.weight", token, 1));
    if (c->registers)
        TF_TRY(store_rows(env, g, c, "embeddings/registers.weight", registers, c->registers));
    return store_rows(env, g, c, "embeddings/positions.weight", positions, vit_positions(c));
}

/* ---- names ---- */

static const tf_name_rule names[] = {
    {"embeddings/patch.weight", "vit.embeddings.patch_embeddings.projection.weight"},
    {"embeddings/patch.bias", "vit.embeddings.patch_embeddings.projection.bias"},
    {"layer.%d/norm1.gain", "vit.encoder.layer.%d.layernorm_before.weight"},
    {"layer.%d/norm1.bias", "vit.encoder.layer.%d.layernorm_before.bias"},
    {"layer.%d/query.weight", "vit.encoder.layer.%d.attention.attention.query.weight"},
    {"layer.%d/key.weight", "vit.encoder.layer.%d.attention.attention.key.weight"},
    {"layer.%d/value.weight", "vit.encoder.layer.%d.attention.attention.value.weight"},
    {"layer.%d/output.weight", "vit.encoder.layer.%d.attention.output.dense.weight"},
    {"layer.%d/output.bias", "vit.encoder.layer.%d.attention.output.dense.bias"},
    {"layer.%d/norm2.gain", "vit.encoder.layer.%d.layernorm_after.weight"},
    {"layer.%d/norm2.bias", "vit.encoder.layer.%d.layernorm_after.bias"},
    {"layer.%d/fc1.weight", "vit.encoder.layer.%d.intermediate.dense.weight"},
    {"layer.%d/fc1.bias", "vit.encoder.layer.%d.intermediate.dense.bias"},
    {"layer.%d/fc2.weight", "vit.encoder.layer.%d.output.dense.weight"},
    {"layer.%d/fc2.bias", "vit.encoder.layer.%d.output.dense.bias"},
    {"norm.gain", "vit.layernorm.weight"},
    {"norm.bias", "vit.layernorm.bias"},
    {"classifier.weight", "classifier.weight"},
    {"classifier.bias", "classifier.bias"},
};

static const tf_name_rule qkv_bias_names[] = {
    {"layer.%d/query.bias", "vit.encoder.layer.%d.attention.attention.query.bias"},
    {"layer.%d/key.bias", "vit.encoder.layer.%d.attention.attention.key.bias"},
    {"layer.%d/value.bias", "vit.encoder.layer.%d.attention.attention.value.bias"},
};

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    vit_config c;
    TF_TRY(read_config(env, m, &c));
    TF_TRY(vit_nodes(env, g, &c));
    TF_TRY(tf_apply_names(env, g, names, TF_LEN(names), c.layers));
    if (c.qkv_bias)
        TF_TRY(tf_apply_names(env, g, qkv_bias_names, TF_LEN(qkv_bias_names), c.layers));
    return vit_store(env, g, &c, "vit.embeddings.cls_token", NULL, "vit.embeddings.position_embeddings");
}

const tf_arch tf_arch_vit = {"vit", "ViTForImageClassification", build, NULL};
