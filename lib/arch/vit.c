/* SPDX-License-Identifier: Apache-2.0
 *
 * vit.c: the Vision Transformer (Dosovitskiy et al. 2021) as Hugging Face's ViTForImageClassification: pre-norm blocks, a class token
 * before the patches, learned positions, a linear head on the class token, no pooler. timm's VisionTransformer is the same graph under other
 * names, queries, keys and values in one tensor; its config states little, so that sizes come from the tensors' shapes.
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

static tfuse_status check_sizes(tf_env *env, const tfuse_model *m, const config *c)
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
    TF_TRY(tf_read_classes(env, m, &c->classes));
    TF_TRY(tf_read_activation(env, m, "hidden_act", "gelu", &c->activation));
    return check_sizes(env, m, c);
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
static tfuse_status store_embeddings(tf_env *env, tf_graph *g, const config *c, const char *token, const char *positions)
{
    const long long tokens = 1 + c->image[0] / c->patch[0] * (c->image[1] / c->patch[1]);
    char text[96];
    snprintf(text, sizeof text, "shape(%s,1,1,%lld)", token, (long long)c->hidden);
    TF_TRY(tf_graph_store(env, g, "embeddings/class_token.weight", text));
    snprintf(text, sizeof text, "shape(%s,1,%lld,%lld)", positions, tokens, (long long)c->hidden);
    return tf_graph_store(env, g, "embeddings/positions.weight", text);
}

static tfuse_status nodes(tf_env *env, tf_graph *g, const config *c)
{
    TF_TRY(embeddings(env, g, c));
    char scope[32], from[48] = "embeddings";
    for (int64_t i = 0; i < c->layers; i++) {
        snprintf(scope, sizeof scope, "layer.%lld", (long long)i);
        const tf_block b = {env, g, scope, from};
        TF_TRY(block(&b, c));
        snprintf(from, sizeof from, "%s/residual2", scope);
    }
    return head(env, g, c, from);
}

static tfuse_status build(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    config c;
    TF_TRY(read_config(env, m, &c));
    TF_TRY(nodes(env, g, &c));
    TF_TRY(tf_apply_names(env, g, names, TF_LEN(names), c.layers));
    if (c.qkv_bias)
        TF_TRY(tf_apply_names(env, g, qkv_bias_names, TF_LEN(qkv_bias_names), c.layers));
    return store_embeddings(env, g, &c, "vit.embeddings.cls_token", "vit.embeddings.position_embeddings");
}

const tf_arch tf_arch_vit = {"vit", "ViTForImageClassification", build, NULL};

/* ---- timm ---- */

static const tf_name_rule timm_names[] = {
    {"embeddings/patch.weight", "patch_embed.proj.weight"},
    {"embeddings/patch.bias", "patch_embed.proj.bias"},
    {"layer.%d/norm1.gain", "blocks.%d.norm1.weight"},
    {"layer.%d/norm1.bias", "blocks.%d.norm1.bias"},
    {"layer.%d/query.weight", "part(blocks.%d.attn.qkv.weight,0,0,3)"},
    {"layer.%d/key.weight", "part(blocks.%d.attn.qkv.weight,0,1,3)"},
    {"layer.%d/value.weight", "part(blocks.%d.attn.qkv.weight,0,2,3)"},
    {"layer.%d/output.weight", "blocks.%d.attn.proj.weight"},
    {"layer.%d/output.bias", "blocks.%d.attn.proj.bias"},
    {"layer.%d/norm2.gain", "blocks.%d.norm2.weight"},
    {"layer.%d/norm2.bias", "blocks.%d.norm2.bias"},
    {"layer.%d/fc1.weight", "blocks.%d.mlp.fc1.weight"},
    {"layer.%d/fc1.bias", "blocks.%d.mlp.fc1.bias"},
    {"layer.%d/fc2.weight", "blocks.%d.mlp.fc2.weight"},
    {"layer.%d/fc2.bias", "blocks.%d.mlp.fc2.bias"},
    {"norm.gain", "norm.weight"},
    {"norm.bias", "norm.bias"},
    {"classifier.weight", "head.weight"},
    {"classifier.bias", "head.bias"},
};

static const tf_name_rule timm_qkv_bias_names[] = {
    {"layer.%d/query.bias", "part(blocks.%d.attn.qkv.bias,0,0,3)"},
    {"layer.%d/key.bias", "part(blocks.%d.attn.qkv.bias,0,1,3)"},
    {"layer.%d/value.bias", "part(blocks.%d.attn.qkv.bias,0,2,3)"},
};

/* The sizes by which timm names its models; a config that says nothing else means these. */
typedef struct family {
    const char *prefix;
    int64_t width, layers, heads;
} family;
static const family families[] = {
    {"vit_tiny_patch", 192, 12, 3},   {"vit_small_patch", 384, 12, 6},  {"vit_base_patch", 768, 12, 12},
    {"vit_large_patch", 1024, 24, 16}, {"vit_huge_patch", 1280, 32, 16}, {"vit_", 0, 0, 0},
};

static const family *timm_family(const tfuse_model *m)
{
    const char *name = json_string_value(json_object_get(m->config, "architecture"));
    for (size_t i = 0; name && i < TF_LEN(families); i++)
        if (strncmp(name, families[i].prefix, strlen(families[i].prefix)) == 0)
            return &families[i];
    return NULL;
}

static bool timm_claims(const tfuse_model *m)
{
    return timm_family(m) != NULL;
}

/* An extent of a tensor; 0 when there is none. */
static int64_t extent_of(const tfuse_model *m, const char *tensor, int dim)
{
    const tf_tensor *t = tf_model_find(m, tensor);
    return t && dim < t->rank ? t->shape[dim] : 0;
}

/* What model_args says, else what the tensors or the name say (`otherwise`); 0 is an error that names the key. */
static tfuse_status timm_size(tf_env *env, const tfuse_model *m, const char *key, int64_t otherwise, int64_t out[2])
{
    const json_t *given = json_object_get(json_object_get(m->config, "model_args"), key);
    const bool pair = json_array_size(given) == 2;
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = pair ? json_array_get(given, i) : given;
        out[i] = json_is_integer(item) ? json_integer_value(item) : given ? 0 : otherwise;
        if (out[i] < 1 || out[i] > 1 << 24)
            return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: model_args.%s %s", tf_model_label(m), key,
                           given ? "is not a positive integer" : "is stated nowhere and does not follow from the tensors; add it");
    }
    return TFUSE_OK;
}

/* Side of the images: the pretrained_cfg's input_size (channels, height, width), or a square that the positions fill. */
static int64_t timm_image(const tfuse_model *m, int64_t patch)
{
    const json_t *input = json_object_get(json_object_get(m->config, "pretrained_cfg"), "input_size");
    const int64_t patches = extent_of(m, "pos_embed", 1) - 1;
    int64_t side = 0;
    while (patches > 0 && side * side < patches)
        side++;
    if (side * side == patches && side > 0)
        return side * patch;
    return json_array_size(input) == 3 ? (int64_t)json_integer_value(json_array_get(input, 1)) : 0;
}

static int64_t timm_layers(const tfuse_model *m)
{
    char name[48];
    int64_t count = 0;
    do
        snprintf(name, sizeof name, "blocks.%lld.norm1.weight", (long long)count);
    while (tf_model_find(m, name) && ++count < 4096);
    return count;
}

static int64_t either(int64_t a, int64_t b)
{
    return a ? a : b;
}

static tfuse_status timm_classes(tf_env *env, const tfuse_model *m, int64_t *out)
{
    const char *pool = json_string_value(json_object_get(m->config, "global_pool"));
    *out = either(extent_of(m, "head.weight", 0), (int64_t)json_integer_value(json_object_get(m->config, "num_classes")));
    if (pool && strcmp(pool, "token") != 0)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: global_pool is not 'token'; only a head on the class token is known",
                       tf_model_label(m));
    return *out > 0 ? TFUSE_OK
                    : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: there is no head (num_classes is 0); only classifiers are known", tf_model_label(m));
}

static tfuse_status read_timm(tf_env *env, const tfuse_model *m, config *c)
{
    const family *f = timm_family(m);
    int64_t two[2];
    *c = (config){.eps = 1e-6, .activation = "gelu"};
    TF_TRY(timm_size(env, m, "embed_dim", either(extent_of(m, "patch_embed.proj.weight", 0), f->width), two));
    c->hidden = two[0];
    TF_TRY(timm_size(env, m, "depth", either(timm_layers(m), f->layers), two));
    c->layers = two[0];
    TF_TRY(timm_size(env, m, "num_heads", c->hidden == f->width ? f->heads : 0, two));
    c->heads = two[0];
    TF_TRY(timm_size(env, m, "in_chans", either(extent_of(m, "patch_embed.proj.weight", 1), 3), two));
    c->channels = two[0];
    TF_TRY(timm_size(env, m, "patch_size", extent_of(m, "patch_embed.proj.weight", 2), c->patch));
    TF_TRY(timm_size(env, m, "img_size", timm_image(m, c->patch[0]), c->image));
    TF_TRY(timm_classes(env, m, &c->classes));
    c->ffn = either(extent_of(m, "blocks.0.mlp.fc1.weight", 0), 4 * c->hidden);
    c->qkv_bias = m->count == 0 || tf_model_find(m, "blocks.0.attn.qkv.bias") != NULL;
    return check_sizes(env, m, c);
}

static tfuse_status build_timm(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    config c;
    TF_TRY(read_timm(env, m, &c));
    TF_TRY(nodes(env, g, &c));
    TF_TRY(tf_apply_names(env, g, timm_names, TF_LEN(timm_names), c.layers));
    if (c.qkv_bias)
        TF_TRY(tf_apply_names(env, g, timm_qkv_bias_names, TF_LEN(timm_qkv_bias_names), c.layers));
    return store_embeddings(env, g, &c, "cls_token", "pos_embed");
}

const tf_arch tf_arch_vit_timm = {"vit", NULL, build_timm, timm_claims};
