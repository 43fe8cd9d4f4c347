/* SPDX-License-Identifier: Apache-2.0
 *
 * vit_timm.c: timm's VisionTransformer: the graph of vit.h under other names, queries, keys and values in one tensor. Its config states little, so that
 * sizes, and which parts there are, come from the tensors' shapes and names: class and register tokens, positions of all tokens or of the patches alone, a
 * norm before the blocks, LayerScale, a norm behind the pooling.
 */
#include "arch/vit.h"
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const tf_name_rule timm_names[] = {
    {"embeddings/patch.weight", "patch_embed.proj.weight"},
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
    {"classifier.weight", "head.weight"},
    {"classifier.bias", "head.bias"},
};

static const tf_name_rule timm_qkv_bias_names[] = {
    {"layer.%d/query.bias", "part(blocks.%d.attn.qkv.bias,0,0,3)"},
    {"layer.%d/key.bias", "part(blocks.%d.attn.qkv.bias,0,1,3)"},
    {"layer.%d/value.bias", "part(blocks.%d.attn.qkv.bias,0,2,3)"},
};

static const tf_name_rule norm_names[] = {{"norm.gain", "norm.weight"}, {"norm.bias", "norm.bias"}};
static const tf_name_rule late_norm_names[] = {{"norm.gain", "fc_norm.weight"}, {"norm.bias", "fc_norm.bias"}};
static const tf_name_rule pre_norm_names[] = {{"embeddings/norm.gain", "norm_pre.weight"}, {"embeddings/norm.bias", "norm_pre.bias"}};
static const tf_name_rule patch_bias_names[] = {{"embeddings/patch.bias", "patch_embed.proj.bias"}};
static const tf_name_rule scale_names[] = {{"layer.%d/scale1.gain", "blocks.%d.ls1.gamma"}, {"layer.%d/scale2.gain", "blocks.%d.ls2.gamma"}};

/* ---- sizes ---- */

/* The sizes by which timm names its models; a config that says nothing else means these. */
typedef struct family {
    const char *prefix;
    int64_t width, layers, heads;
} family;
static const family families[] = {
    {"vit_tiny_patch", 192, 12, 3},      {"vit_small_patch", 384, 12, 6},    {"vit_medium_patch", 512, 12, 8}, {"vit_base_patch", 768, 12, 12},
    {"vit_large_patch", 1024, 24, 16},   {"vit_huge_patch", 1280, 32, 16},   {"vit_", 0, 0, 0},
    {"deit_tiny_patch", 192, 12, 3},     {"deit_small_patch", 384, 12, 6},   {"deit_base_patch", 768, 12, 12},
    {"deit3_small_patch", 384, 12, 6},   {"deit3_medium_patch", 512, 12, 8}, {"deit3_base_patch", 768, 12, 12},
    {"deit3_large_patch", 1024, 24, 16}, {"deit3_huge_patch", 1280, 32, 16},
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

/* What model_args says of a part, else whether the tensor is there; without tensors, `otherwise`. */
static bool timm_has(const tfuse_model *m, const char *key, const char *tensor, bool otherwise)
{
    const json_t *given = json_object_get(json_object_get(m->config, "model_args"), key);
    if (m->count > 0)
        return tf_model_find(m, tensor) != NULL;
    return given ? json_is_true(given) || json_integer_value(given) > 0 || json_real_value(given) > 0 : otherwise;
}

static int64_t side_of(int64_t square)
{
    int64_t side = 0;
    while (square > 0 && side * side < square)
        side++;
    return side * side == square ? side : 0;
}

/* Side of the images: the pretrained_cfg's input_size (channels, height, width), or a square that the positions fill, of all tokens or of patches alone. */
static int64_t timm_image(const tfuse_model *m, const vit_config *c)
{
    const json_t *input = json_object_get(json_object_get(m->config, "pretrained_cfg"), "input_size");
    const int64_t rows = extent_of(m, "pos_embed", 1), side = side_of(rows - vit_prefix(c));
    if (side || side_of(rows))
        return (side ? side : side_of(rows)) * c->patch[0];
    return json_array_size(input) == 3 ? (int64_t)json_integer_value(json_array_get(input, 1)) : 0;
}

static bool timm_positions_first(const tfuse_model *m, const vit_config *c)
{
    const int64_t rows = extent_of(m, "pos_embed", 1), patches = c->image[0] / c->patch[0] * (c->image[1] / c->patch[1]);
    const json_t *given = json_object_get(json_object_get(m->config, "model_args"), "no_embed_class");
    return rows ? rows == patches && vit_prefix(c) > 0 : json_is_true(given);
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

static tfuse_status timm_head(tf_env *env, const tfuse_model *m, vit_config *c)
{
    const char *pool = json_string_value(json_object_get(m->config, "global_pool"));
    if (!pool)
        pool = json_string_value(json_object_get(json_object_get(m->config, "model_args"), "global_pool"));
    c->classes = either(extent_of(m, "head.weight", 0), (int64_t)json_integer_value(json_object_get(m->config, "num_classes")));
    c->average = pool ? strcmp(pool, "avg") == 0 : !c->class_token;
    c->late_norm = timm_has(m, "fc_norm", "fc_norm.weight", c->average);
    if (tf_model_find(m, "dist_token"))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: has a distillation token and two heads; only models of one head are known", tf_model_label(m));
    if (pool && strcmp(pool, "token") != 0 && !c->average)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: global_pool is '%.20s'; 'token' and 'avg' are known", tf_model_label(m), pool);
    if (!c->average && !c->class_token)
        return tf_fail(env, TFUSE_EFORMAT, "%s: config.json: global_pool is 'token', but there is no cls_token", tf_model_label(m));
    return c->classes > 0 ? TFUSE_OK
                    : tf_fail(env, TFUSE_EUNSUPPORTED, "%s: there is no head (num_classes is 0); only classifiers are known", tf_model_label(m));
}

/* Which parts there are. What was trained as CLIP's image tower has a norm before its blocks, whose norms have PyTorch's eps, and at times its activation. */
static void timm_parts(const tfuse_model *m, vit_config *c)
{
    const char *name = json_string_value(json_object_get(m->config, "architecture"));
    const json_t *registers = json_object_get(json_object_get(m->config, "model_args"), "reg_tokens");
    c->class_token = timm_has(m, "class_token", "cls_token", true);
    c->registers = m->count ? extent_of(m, "reg_token", 1) : (int64_t)json_integer_value(registers);
    c->pre_norm = timm_has(m, "pre_norm", "norm_pre.weight", false);
    c->patch_bias = m->count ? tf_model_find(m, "patch_embed.proj.bias") != NULL : !c->pre_norm;
    c->qkv_bias = timm_has(m, "qkv_bias", "blocks.0.attn.qkv.bias", true);
    c->scales = timm_has(m, "init_values", "blocks.0.ls1.gamma", strncmp(name, "deit3_", 6) == 0);
    c->eps = c->pre_norm ? 1e-5 : 1e-6;
    c->activation = strstr(name, "quickgelu") ? "quick_gelu" : "gelu";
}

static tfuse_status read_timm(tf_env *env, const tfuse_model *m, vit_config *c)
{
    const family *f = timm_family(m);
    int64_t two[2];
    *c = (vit_config){.hidden = 0};
    timm_parts(m, c);
    TF_TRY(timm_size(env, m, "embed_dim", either(extent_of(m, "patch_embed.proj.weight", 0), f->width), two));
    c->hidden = two[0];
    TF_TRY(timm_size(env, m, "depth", either(timm_layers(m), f->layers), two));
    c->layers = two[0];
    TF_TRY(timm_size(env, m, "num_heads", c->hidden == f->width ? f->heads : 0, two));
    c->heads = two[0];
    TF_TRY(timm_size(env, m, "in_chans", either(extent_of(m, "patch_embed.proj.weight", 1), 3), two));
    c->channels = two[0];
    TF_TRY(timm_size(env, m, "patch_size", extent_of(m, "patch_embed.proj.weight", 2), c->patch));
    TF_TRY(timm_size(env, m, "img_size", timm_image(m, c), c->image));
    c->positions_first = timm_positions_first(m, c);
    TF_TRY(timm_head(env, m, c));
    c->ffn = either(extent_of(m, "blocks.0.mlp.fc1.weight", 0), 4 * c->hidden);
    return vit_check(env, m, c);
}

#define APPLY_IF(condition, table) \
    do { \
        if (condition) \
            TF_TRY(tf_apply_names(env, g, table, TF_LEN(table), c.layers)); \
    } while (0)

static tfuse_status build_timm(tf_env *env, const tfuse_model *m, tf_graph *g)
{
    vit_config c;
    TF_TRY(read_timm(env, m, &c));
    TF_TRY(vit_nodes(env, g, &c));
    APPLY_IF(true, timm_names);
    APPLY_IF(c.qkv_bias, timm_qkv_bias_names);
    APPLY_IF(c.patch_bias, patch_bias_names);
    APPLY_IF(c.pre_norm, pre_norm_names);
    APPLY_IF(c.scales, scale_names);
    APPLY_IF(c.late_norm, late_norm_names);
    APPLY_IF(!c.late_norm, norm_names);
    return vit_store(env, g, &c, "cls_token", "reg_token", "pos_embed");
}

const tf_arch tf_arch_vit_timm = {"vit", NULL, build_timm, timm_claims};
