/* SPDX-License-Identifier: Apache-2.0
 *
 * The Vision Transformer: its graph from a trained model and from bare configs, its names, axes and groups, and what is refused.
 */
#include "t_graph.h"
#include "arch/arch.h"
#include "passes/passes.h"

#define VIT "tests/data/vit-fmnist-a"

typedef struct fix {
    tf_env *env;
    tfuse_model *m;
    tf_graph *g;
} fix;

static fix from_config(const char *config)
{
    fix f = {.env = t_env(1)};
    t_ok(f.env, tf_model_new(f.env, config, &f.m));
    t_ok(f.env, tf_model_seal(f.env, f.m));
    t_ok(f.env, tf_graph_build(f.env, f.m, false, &f.g));
    return f;
}

static fix from_file(void)
{
    fix f = {.env = t_env(1)};
    t_ok(f.env, tf_model_open(f.env, VIT, 0, &f.m));
    t_ok(f.env, tf_graph_build(f.env, f.m, false, &f.g));
    return f;
}

static void close_fix(fix *f)
{
    tf_graph_free(f->g);
    tf_model_free(f->m);
    t_env_free(f->env);
}

START_TEST(test_shape)
{
    fix f = from_file();
    const tf_graph *g = f.g;
    ck_assert_str_eq(g->arch, "vit");
    ck_assert_uint_eq(g->n_params, 72); /* 16 a layer, 4 of embeddings, 2 of the norm, 2 of the head */
    ck_assert_uint_eq(g->n_params, f.m->count);
    ck_assert_uint_eq(g->n_classes, 4 * 4 + 3); /* a layer: heads, qk, vo, ffn; and stream, classes, channels */
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "stream")), 64);
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "layer.3/heads")), 4);
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "layer.0/qk")), 16);
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "layer.0/vo")), 16);
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "layer.2/ffn")), 128);
    ck_assert_int_eq(tf_class_extent(g, t_class(g, "classes")), 10);
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "layer.1/qk")), t_class(g, "layer.1/heads"));
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "layer.1/vo")), t_class(g, "layer.1/heads"));
    close_fix(&f);
}
END_TEST

START_TEST(test_values)
{
    static const char *const names[] = {
        "embeddings/patch", "embeddings/class_token", "embeddings/tokens", "embeddings/positions", "embeddings",
        "layer.0/norm1", "layer.0/query", "layer.0/key", "layer.0/value", "layer.0/attention", "layer.0/output",
        "layer.0/residual1", "layer.0/norm2", "layer.0/fc1", "layer.0/gelu", "layer.0/fc2", "layer.3/residual2",
        "norm", "class", "classifier"};
    fix f = from_file();
    for (size_t i = 0; i < TF_LEN(names); i++)
        ck_assert_msg(tf_graph_find_value(f.g, names[i]) >= 0, "no value %s", names[i]);
    const tf_value *v = &f.g->values[tf_graph_find_value(f.g, "layer.3/residual2")];
    ck_assert_int_eq(v->extent[0], 50);
    ck_assert_int_eq(v->class_tokens, 1);
    ck_assert_int_eq(v->grid_h, 7);
    ck_assert_int_eq(v->grid_w, 7);
    close_fix(&f);
}
END_TEST

START_TEST(test_groups)
{
    fix f = from_file();
    tf_view *root = NULL, *folded = NULL;
    t_ok(f.env, tf_view_root(f.env, f.g, f.m, &root));
    t_ok(f.env, tf_pass_fold_norms(f.env, root, &folded));
    for (int after = 0; after < 2; after++) {
        const tf_view *view = after ? folded : root;
        t_group_is(f.env, f.g, view, "stream", after ? "orthogonal fixing ones" : "permutation");
        t_group_is(f.env, f.g, view, "layer.1/heads", "permutation");
        t_group_is(f.env, f.g, view, "layer.1/qk", "general linear");
        t_group_is(f.env, f.g, view, "layer.1/vo", "general linear");
        t_group_is(f.env, f.g, view, "layer.1/ffn", "permutation");
        t_group_is(f.env, f.g, view, "classes", "pinned");
    }
    tf_view_free(folded);
    tf_view_free(root);
    close_fix(&f);
}
END_TEST

#define CONFIG(more) "{\"model_type\": \"vit\", \"hidden_size\": 12, \"num_hidden_layers\": 1, \"intermediate_size\": 20" more "}"
#define HEADS ", \"num_attention_heads\": 3"
#define IMAGE ", \"image_size\": [6, 9], \"patch_size\": [2, 3], \"num_channels\": 2"

START_TEST(test_configs)
{
    fix f = from_config(CONFIG(HEADS IMAGE ", \"qkv_bias\": false, \"hidden_act\": \"relu\""));
    ck_assert_int_eq(tf_graph_find_param(f.g, "layer.0/query.bias"), -1);
    ck_assert(tf_graph_find_param(f.g, "layer.0/output.bias") >= 0);
    ck_assert_int_eq(f.g->values[f.g->output].extent[0], 2);
    t_group_is(f.env, f.g, NULL, "layer.0/ffn", "permutation, positive scale");
    const tf_value *v = &f.g->values[tf_graph_find_value(f.g, "embeddings")];
    ck_assert_int_eq(v->extent[0], 10);
    ck_assert_int_eq(v->grid_h, 3);
    ck_assert_int_eq(v->grid_w, 3);
    ck_assert_int_eq(f.g->params[tf_graph_find_param(f.g, "embeddings/patch.weight")].shape[3], 3);
    close_fix(&f);
    f = from_config(CONFIG(HEADS IMAGE ", \"num_labels\": 7, \"architectures\": null"));
    ck_assert_int_eq(f.g->values[f.g->output].extent[0], 7);
    ck_assert(tf_graph_find_param(f.g, "layer.0/query.bias") >= 0);
    close_fix(&f);
    f = from_config(CONFIG(HEADS IMAGE ", \"num_labels\": 7, \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}"));
    ck_assert_int_eq(f.g->values[f.g->output].extent[0], 3);
    close_fix(&f);
}
END_TEST

static void refused(const char *config, tfuse_status status, const char *piece)
{
    tf_env *env = t_env(1);
    tfuse_model *m = NULL;
    tf_graph *g = NULL;
    t_ok(env, tf_model_new(env, config, &m));
    t_ok(env, tf_model_seal(env, m));
    t_fails(env, tf_graph_build(env, m, false, &g), status, piece);
    ck_assert_ptr_null(g);
    tf_model_free(m);
    t_env_free(env);
}

START_TEST(test_refused)
{
    refused("{}", TFUSE_EFORMAT, "model_type");
    refused("{\"model_type\": \"mamba\"}", TFUSE_EUNSUPPORTED, "docs/adding-an-architecture.md");
    refused("{\"model_type\": \"vit\", \"architectures\": [\"ViTModel\"]}", TFUSE_EUNSUPPORTED, "ViTForImageClassification");
    refused(CONFIG(IMAGE), TFUSE_EFORMAT, "num_attention_heads");
    refused(CONFIG(IMAGE ", \"num_attention_heads\": 5"), TFUSE_EFORMAT, "hidden_size 12 is not divisible by num_attention_heads 5");
    refused(CONFIG(HEADS ", \"image_size\": 7, \"patch_size\": 2"), TFUSE_EFORMAT, "image_size 7 is not divisible by patch_size 2");
    refused(CONFIG(HEADS ", \"image_size\": [6, 0], \"patch_size\": 2"), TFUSE_EFORMAT, "image_size");
    refused(CONFIG(HEADS ", \"image_size\": \"6\", \"patch_size\": 2"), TFUSE_EFORMAT, "image_size");
    refused(CONFIG(HEADS IMAGE ", \"hidden_act\": \"mish\""), TFUSE_EUNSUPPORTED, "hidden_act 'mish'");
    refused(CONFIG(HEADS IMAGE ", \"layer_norm_eps\": -1"), TFUSE_ERANGE, "eps");
    refused("{\"model_type\": \"vit\", \"hidden_size\": 12, \"num_hidden_layers\": 1000000000}", TFUSE_EFORMAT, "num_hidden_layers");
}
END_TEST

/* A config that disagrees with the tensors names the tensor and both shapes. */
START_TEST(test_disagreement)
{
    fix f = from_file();
    tf_graph *g = NULL;
    t_ok(f.env, json_object_set_new(f.m->config, "intermediate_size", json_integer(96)) == 0 ? TFUSE_OK : TFUSE_ENOMEM);
    t_fails(f.env, tf_graph_build(f.env, f.m, false, &g), TFUSE_ESHAPE, "intermediate.dense.weight");
    ck_assert_ptr_nonnull(strstr(f.env->error, "128"));
    ck_assert_ptr_nonnull(strstr(f.env->error, "96"));
    close_fix(&f);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("vit");
    T_ADD(test_shape);
    T_ADD(test_values);
    T_ADD(test_groups);
    T_ADD(test_configs);
    T_ADD(test_refused);
    T_ADD(test_disagreement);
    return t_suite;
}
