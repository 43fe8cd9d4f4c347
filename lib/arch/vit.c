/* SPDX-License-Identifier: Apache-2.0
 *
 * vit.c: the Vision Transformer (Dosovitskiy et al. 2021) as Hugging Face's ViTForImageClassification: pre-norm blocks, a class token
 * before the patches, learned positions, a linear head on the class token, no pooler.
 */
#include "arch/arch.h"
#include <stdio.h>
#include <string.h>

typedef struct config {
    int64_t hidden, layers, heads, ffn, channels, classes;
    int64_t image[2], patch[2]; /* height, width */
    double eps;
    bool qkv_bias;
    const char *activation;
} config;

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

static tfuse_status read_classes(tf_env *env, const tfuse_model *m, int64_t *out)
{
    const json_t *labels = json_object_get(m->config, "id2label");
    *out = (int64_t)json_object_size(labels);
    return *out > 0 ? TFUSE_OK : tf_config_int_or(env, m, "num_labels", 1, 1 << 24, 2, out);
}

static tfuse_status read_activation(tf_env *env, const tfuse_model *m, const char **out)
{
    static const char *const kinds[][2] = {
        {"gelu", "gelu"},           {"gelu_python", "gelu"}, {"gelu_new", "gelu_new"}, {"gelu_fast", "gelu_tanh"},
        {"gelu_accurate", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_pytorch_tanh"},    {"quick_gelu", "quick_gelu"},
        {"relu", "relu"},           {"silu", "silu"},        {"swish", "silu"},        {"tanh", "tanh"},
    };
    const char *name = NULL;
    char shown[64];
    TF_TRY(tf_config_text_or(env, m, "hidden_act", "gelu", &name));
    for (size_t i = 0; i < TF_LEN(kinds); i++)
        if (strcmp(kinds[i][0], name) == 0) {
            *out = kinds[i][1];
            return TFUSE_OK;
        }
    return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: hidden_act '%s' is not known; gelu, relu, silu, tanh and their kin are",
                   tf_model_label(m), tf_printable(shown, sizeof shown, name));
}

static tfuse_status read_config(tf_env *env, const tfuse_model *m, config *c)
{
    TF_TRY(tf_config_int(env, m, "hidden_size", 1, 1 << 20, &c->hidden));
    TF_TRY(tf_config_int(env, m, "num_hidden_layers", 1, 4096, &c->layers));
    TF_TRY(tf_config_int(env, m, "num_attention_heads", 1, 1 << 16, &c->heads));
    TF_TRY(tf_config_int(env, m, "intermediate_size", 1, 1 << 22, &c->ffn));
    TF_TRY(tf_config_int_or(env, m, "num_channels", 1, 1024, 3, &c->channels));
    TF_TRY(read_size(env, m, "image_size", 1 << 16, c->image));
    TF_TRY(read_size(env, m, "patch_size", 1 << 16, c->patch));
    TF_TRY(tf_config_real_or(env, m, "layer_norm_eps", 1e-12, &c->eps));
    TF_TRY(tf_config_bool_or(env, m, "qkv_bias", true, &c->qkv_bias));
    TF_TRY(read_classes(env, m, &c->classes));
    TF_TRY(read_activation(env, m, &c->activation));
    if (c->hidden % c->heads != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: hidden_size %lld is not divisible by num_attention_heads %lld",
                       tf_model_label(m), (long long)c->hidden, (long long)c->heads);
    for (int i = 0; i < 2; i++)
        if (c->image[i] % c->patch[i] != 0)
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: image_size %lld is not divisible by patch_size %lld",
                           tf_model_label(m), (long long)c->image[i], (long long)c->patch[i]);
    return TFUSE_OK;
}

/* ---- the model ---- */

static tfuse_status embeddings(tf_env *env, tf_graph *g, const config *c)
{
    const long long width = c->hidden, tokens = 1 + c->image[0] / c->patch[0] * (c->image[1] / c->patch[1]);
    TF_TRY(tf_addf(env, g, "input", "pixels", "", "kind=image shape=%lld,%lld,%lld", (long long)c->channels,
                   (long long)c->image[0], (long long)c->image[1]));
    TF_TRY(tf_addf(env, g, "patchify", "embeddings/patch", "pixels", "out=/stream:%lld kernel=%lld,%lld", width,
                   (long long)c->patch[0], (long long)c->patch[1]));
    TF_TRY(tf_addf(env, g, "parameter", "embeddings/class_token", "", "rows=1 of=/stream:%lld", width));
    TF_TRY(tf_graph_add(env, g, "concat_tokens", "embeddings/tokens", "embeddings/class_token embeddings/patch", ""));
    TF_TRY(tf_addf(env, g, "parameter", "embeddings/positions", "", "rows=%lld of=/stream:%lld", tokens, width));
    return tf_graph_add(env, g, "add", "embeddings", "embeddings/tokens embeddings/positions", "residual=embeddings/positions");
}

static tfuse_status block(const tf_block *b, const config *c)
{
    const long long width = c->hidden, heads = c->heads, inner = c->hidden / c->heads, ffn = c->ffn;
    const tf_real_text eps = tf_real(c->eps);
    const int bias = c->qkv_bias;
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm1", "^", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/query", "~/norm1", "out=heads:%lld*qk:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "linear", "~/key", "~/norm1", "out=heads:%lld*qk:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "linear", "~/value", "~/norm1", "out=heads:%lld*vo:%lld bias=%d", heads, inner, bias));
    TF_TRY(tf_block_addf(b, "attention", "~/attention", "~/query ~/key ~/value", "causal=0"));
    TF_TRY(tf_block_addf(b, "linear", "~/output", "~/attention", "out=/stream:%lld", width));
    TF_TRY(tf_block_addf(b, "add", "~/residual1", "^ ~/output", "residual=%s", b->from));
    TF_TRY(tf_block_addf(b, "layernorm", "~/norm2", "~/residual1", "eps=%s", eps.text));
    TF_TRY(tf_block_addf(b, "linear", "~/fc1", "~/norm2", "out=ffn:%lld", ffn));
    TF_TRY(tf_block_addf(b, "activation", "~/gelu", "~/fc1", "kind=%s", c->activation));
    TF_TRY(tf_block_addf(b, "linear", "~/fc2", "~/gelu", "out=/stream:%lld", width));
    return tf_block_addf(b, "add", "~/residual2", "~/residual1 ~/fc2", "residual=%s/residual1", b->scope);
}

static tfuse_status head(tf_env *env, tf_graph *g, const config *c, const char *from)
{
    const tf_real_text eps = tf_real(c->eps);
    TF_TRY(tf_addf(env, g, "layernorm", "norm", from, "eps=%s", eps.text));
    TF_TRY(tf_addf(env, g, "token", "class", "norm", "index=0"));
    TF_TRY(tf_addf(env, g, "linear", "classifier", "class", "out=!/classes:%lld", (long long)c->classes));
    return tf_graph_output(env, g, "classifier");
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

/* The class token and the positions are stored with a leading batch of one. */
static tfuse_status store_embeddings(tf_env *env, tf_graph *g, const config *c)
{
    const long long tokens = 1 + c->image[0] / c->patch[0] * (c->image[1] / c->patch[1]);
    char text[96];
    snprintf(text, sizeof text, "shape(vit.embeddings.cls_token,1,1,%lld)", (long long)c->hidden);
    TF_TRY(tf_graph_store(env, g, "embeddings/class_token.weight", text));
    snprintf(text, sizeof text, "shape(vit.embeddings.position_embeddings,1,%lld,%lld)", tokens, (long long)c->hidden);
    return tf_graph_store(env, g, "embeddings/positions.weight", text);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    config c;
    TF_TRY(read_config(env, m, &c));
    TF_TRY(embeddings(env, g, &c));
    char scope[32], from[48] = "embeddings";
    for (int64_t i = 0; i < c.layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(block(&b, &c));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    TF_TRY(head(env, g, &c, from));
    TF_TRY(tf_apply_names(env, g, names, TF_LEN(names), c.layers));
    if (c.qkv_bias)
        TF_TRY(tf_apply_names(env, g, qkv_bias_names, TF_LEN(qkv_bias_names), c.layers));
    return store_embeddings(env, g, &c);
}

const tf_arch tf_arch_vit = {"vit", "ViTForImageClassification", build};
