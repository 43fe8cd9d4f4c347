/* SPDX-License-Identifier: Apache-2.0 */
#include "t_pair.h"
#include <math.h>
#include <stdio.h>

START_TEST(model_with_itself_comes_back)
{
    t_pair p;
    t_pair_open(&p, "bb");
    for (int calib = 0; calib < 2; calib++) {
        t_ok(p.env, t_pair_align(&p, calib));
        t_ok(p.env, t_pair_fuse(&p));
        for (size_t i = 0; i < p.plan->n_maps; i++)
            if (strcmp(p.plan->maps[i].name, "embeddings/class_token")) /* scalars and signs: many optima */
                ck_assert_msg(tf_map_off_identity(p.plan->maps[i].map) == 0, "%s is not the identity", p.plan->maps[i].name);
        /* Averages of equal numbers, in float32. */
        const tf_tensor *c = tf_model_find(p.fused, "vit.embeddings.cls_token"), *own = tf_model_find(p.models[0], c->name);
        union { const uint8_t *in; uint8_t *out; } to = {c->data};
        memcpy(to.out, own->data, (size_t)c->size);
        ck_assert_double_le(t_model_diff(p.env, p.fused, p.models[0]), 1e-6);
    }
    t_pair_close(&p);
}
END_TEST

/* Moves the hidden units of one layer of model k by i -> (i + 1) mod n, in a copy of its own. */
static tfuse_model *rotate_hidden(tf_env *env, const tfuse_model *m, int64_t n)
{
    tfuse_model *copy;
    t_ok(env, tf_model_new(env, m->config_text, &copy));
    for (size_t i = 0; i < m->count; i++) {
        tf_tensor t = m->tensors[i];
        uint8_t *data = tf_arena_alloc(env, &copy->arena, (size_t)t.size);
        bool rows = strstr(t.name, "layer.1.intermediate.dense") != NULL;
        bool cols = strstr(t.name, "layer.1.output.dense.weight") != NULL;
        int64_t width = rows && t.rank == 2 ? t.shape[1] : 1, outer = cols ? t.shape[0] : 1;
        memcpy(data, t.data, (size_t)t.size);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t u = 0; (rows || cols) && u < n; u++)
                memcpy(data + (o * n + (u + 1) % n) * width * 4, t.data + (o * n + u) * width * 4, (size_t)width * 4);
        t.data = data;
        t.file = -1;
        t_ok(env, tf_model_add(env, copy, &t));
    }
    t_ok(env, tf_model_seal(env, copy));
    return copy;
}

START_TEST(planted_permutation_is_found)
{
    t_pair p;
    t_pair_open(&p, "bb");
    tfuse_model *moved = rotate_hidden(p.env, p.models[1], 128);
    tf_model_free(p.models[1]);
    p.models[1] = moved;
    t_pair_set(&p, "otfusion.cost", "weights");
    t_ok(p.env, t_pair_align(&p, false));
    for (size_t i = 0; i < p.plan->n_maps; i++)
        if (!strcmp(p.plan->maps[i].name, "layer.1/fc1"))
            for (int64_t j = 0; j < 128; j++)
                ck_assert_int_eq(p.plan->maps[i].map->source[j], (j + 1) % 128);
    t_pair_close(&p);
}
END_TEST

/* Every produced column of every map sums to one, whatever the options: outputs are means of units. */
static void check_columns(const t_pair *p)
{
    for (size_t i = 0; i < p->plan->n_maps; i++) {
        const tf_map *map = p->plan->maps[i].map;
        float *t = tf_alloc_array(p->env, (size_t)(map->n * map->m), sizeof *t);
        tf_map_matrix(map, t);
        for (int64_t j = 0; j < map->m; j++) {
            double sum = 0;
            for (int64_t u = 0; u < map->n; u++)
                sum += (double)t[u * map->m + j];
            ck_assert_msg(fabs(sum - 1) < 1e-5, "%s: column %lld sums to %g", p->plan->maps[i].name, (long long)j, sum);
        }
        tf_free(&p->env->mem, t);
    }
}

static const char *const variants[][2] = {
    {"otfusion.metric", "sqeuclidean"}, {"otfusion.metric", "cosine"}, {"otfusion.normalise", "mean"},
    {"otfusion.normalise", "median"}, {"otfusion.normalise", "none"}, {"otfusion.standardise", "centre"},
    {"otfusion.standardise", "norm"}, {"otfusion.standardise", "none"}, {"otfusion.residual", "scalar"},
    {"otfusion.residual", "matrix"}, {"otfusion.residual", "branch"}, {"otfusion.residual", "skip"},
    {"otfusion.residual", "identity"}, {"otfusion.qk", "common"}, {"otfusion.heads", "within"},
    {"otfusion.tokens", "class"}, {"otfusion.tokens", "window3"}, {"solver.name", "sinkhorn"},
    {"align.control", "uniform"}, {"align.control", "random"}, {"otfusion.compat", "1"},
};

/* A control inside heads looks at no weights either. */
START_TEST(controls_inside_heads)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.heads", "within");
    for (int random = 0; random < 2; random++) {
        t_pair_set(&p, "align.control", random ? "random" : "uniform");
        t_ok(p.env, t_pair_align(&p, false));
        for (size_t i = 0; i < p.plan->n_maps; i++) {
            const tf_map *map = p.plan->maps[i].map;
            for (int64_t g = 0; map->kind == TF_MAP_BLOCK && !random && g < map->blocks_m; g++)
                ck_assert_int_eq(map->block_source[g], g);
        }
        t_ok(p.env, t_pair_fuse(&p));
    }
    t_pair_close(&p);
}
END_TEST

START_TEST(every_option_makes_a_model)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, variants[_i][0], variants[_i][1]);
    for (int calib = 0; calib < 2; calib++) {
        bool weighs = !strcmp(variants[_i][1], "scalar") || !strcmp(variants[_i][1], "matrix");
        if (weighs && !calib) {
            t_fails(p.env, t_pair_align(&p, false), TFUSE_EINVAL, "--calib");
            continue;
        }
        t_ok(p.env, t_pair_align(&p, calib));
        check_columns(&p);
        t_ok(p.env, t_pair_fuse(&p));
        ck_assert_double_gt(t_model_diff(p.env, p.fused, p.models[0]), 1e-3);
    }
    t_pair_close(&p);
}
END_TEST

START_TEST(queries_and_keys_share_one_map)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.qk", "common");
    t_ok(p.env, t_pair_align(&p, true));
    int32_t query = -1, key = -1;
    for (size_t i = 0; i < p.plan->n_entries; i++) {
        const tf_plan_entry *e = &p.plan->entries[i];
        if (!strcmp(e->param, "layer.2/query.bias"))
            query = e->map;
        if (!strcmp(e->param, "layer.2/key.bias"))
            key = e->map;
    }
    ck_assert_int_ge(query, 0);
    ck_assert_int_eq(query, key);
    t_pair_close(&p);
}
END_TEST

START_TEST(heads_stay_together)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.heads", "within");
    t_ok(p.env, t_pair_align(&p, true));
    const tf_map *first = NULL;
    for (size_t i = 0; i < p.plan->n_maps; i++) {
        const tf_plan_map *row = &p.plan->maps[i];
        bool attends = !strcmp(row->name, "layer.0/query") || !strcmp(row->name, "layer.0/key") || !strcmp(row->name, "layer.0/value");
        if (!attends)
            continue;
        ck_assert_int_eq(row->map->kind, TF_MAP_BLOCK);
        if (first)
            ck_assert_mem_eq(first->block_source, row->map->block_source, 4 * sizeof(int64_t));
        first = row->map;
    }
    ck_assert_ptr_nonnull(first);
    t_pair_close(&p);
}
END_TEST

/* Weights w, by the definition: with identity maps W = sum w_k W_k / sum w_k, for three models. */
START_TEST(any_weights_any_number)
{
    t_pair p;
    t_pair_open(&p, "bab");
    t_pair_set(&p, "align.strategy", "none");
    t_pair_set(&p, "combine.weights", "3,1,4");
    t_ok(p.env, t_pair_align(&p, false));
    t_ok(p.env, t_pair_fuse(&p));
    const char *name = "vit.encoder.layer.2.output.dense.weight";
    const float *a = (const float *)(const void *)tf_model_find(p.models[1], name)->data;
    const float *b = (const float *)(const void *)tf_model_find(p.models[0], name)->data;
    const float *f = (const float *)(const void *)tf_model_find(p.fused, name)->data;
    for (int i = 0; i < 64 * 128; i++)
        ck_assert_float_eq_tol(f[i], b[i] * 7 / 8 + a[i] / 8, 1e-6f);
    t_pair_set(&p, "combine.weights", "1,1");
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EINVAL, "combine.weights has 2");
    t_pair_set(&p, "combine.weights", "1,-1,0");
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EINVAL, "zero");
    t_pair_close(&p);
}
END_TEST

START_TEST(half_anchor_keeps_norms)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "align.control", "half-anchor");
    t_ok(p.env, t_pair_align(&p, false));
    ck_assert_uint_eq(p.plan->n_maps, 0);
    t_ok(p.env, t_pair_fuse(&p));
    static const struct { const char *name; float factor; } tensors[] = {
        {"classifier.weight", .5f}, {"vit.embeddings.cls_token", .5f}, {"vit.layernorm.weight", 1},
        {"vit.encoder.layer.3.layernorm_after.bias", 1}, {"vit.encoder.layer.3.output.dense.bias", .5f}};
    for (size_t t = 0; t < TF_LEN(tensors); t++) {
        const tf_tensor *own = tf_model_find(p.models[0], tensors[t].name), *got = tf_model_find(p.fused, tensors[t].name);
        for (size_t i = 0; i < own->count; i++)
            ck_assert_float_eq(((const float *)(const void *)got->data)[i],
                               tensors[t].factor * ((const float *)(const void *)own->data)[i]);
    }
    t_pair_close(&p);
}
END_TEST

START_TEST(same_bits_for_any_number_of_threads)
{
    t_pair p;
    t_pair_open(&p, "ba");
    tf_pool_free(p.env->pool);
    p.env->pool = NULL;
    t_pair_set(&p, "solver.name", "sinkhorn");
    t_ok(p.env, t_pair_align(&p, true));
    t_ok(p.env, t_pair_fuse(&p));
    tfuse_model *single = p.fused;
    p.fused = NULL;
    t_ok(p.env, tf_pool_new(p.env, 7, &p.env->pool));
    t_ok(p.env, t_pair_align(&p, true));
    t_ok(p.env, t_pair_fuse(&p));
    for (size_t i = 0; i < single->count; i++)
        ck_assert_mem_eq(single->tensors[i].data, p.fused->tensors[i].data, (size_t)single->tensors[i].size);
    tf_model_free(single);
    t_pair_close(&p);
}
END_TEST

START_TEST(errors_name_what_to_do)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.cost", "activations");
    t_fails(p.env, t_pair_align(&p, false), TFUSE_EINVAL, "--calib");
    t_pair_set(&p, "otfusion.cost", "auto");
    t_pair_set(&p, "otfusion.tokens", "window9");
    t_fails(p.env, t_pair_align(&p, true), TFUSE_ERANGE, "window");
    t_pair_set(&p, "otfusion.tokens", "some");
    t_fails(p.env, t_pair_align(&p, true), TFUSE_EKEY, "some");
    t_pair_set(&p, "otfusion.tokens", "all");
    t_pair_set(&p, "solver.name", "magic");
    t_fails(p.env, t_pair_align(&p, false), TFUSE_EKEY, "sinkhorn");
    t_pair_set(&p, "solver.name", "exact");
    t_pair_set(&p, "otfusion.compat", "1");
    t_pair_set(&p, "combine.weights", "1,2");
    t_fails(p.env, t_pair_align(&p, false), TFUSE_EINVAL, "compat");
    t_pair_set(&p, "otfusion.compat", "0");
    t_pair_set(&p, "align.strategy", "none");
    t_pair_set(&p, "align.control", "random");
    t_fails(p.env, t_pair_align(&p, false), TFUSE_EINVAL, "align.control");
    t_pair_close(&p);
}
END_TEST

START_TEST(another_graph_is_refused_and_other_weights_reported)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "align.strategy", "none");
    t_ok(p.env, t_pair_align(&p, false));
    memcpy(p.plan->models[1].signature, "0123456789abcdef", 16);
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EGRAPH, "align again");
    t_pair_close(&p);
}
END_TEST

/* A row of the table that fits nothing is an error, never a tensor that silently stays where it is. */
START_TEST(a_table_that_does_not_fit_is_refused)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_ok(p.env, t_pair_align(&p, false));
    tf_plan_entry *e = &p.plan->entries[0], first = *e, second = p.plan->entries[1];
    e->param = "nosuch";
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EGRAPH, "'nosuch', and the models have no such tensor");
    *e = first;
    e->part = 7;
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EGRAPH, "does not fit");
    *e = first;
    e->produced = !first.produced;
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EGRAPH, "side");
    *e = second;
    t_fails(p.env, t_pair_fuse(&p), TFUSE_EGRAPH, "twice");
    *e = first;
    t_ok(p.env, t_pair_fuse(&p));
    t_pair_close(&p);
}
END_TEST

START_TEST(models_that_compute_differently_are_refused)
{
    t_pair p;
    t_pair_open(&p, "bb");
    tfuse_model *relu;
    const char *at = strstr(p.models[1]->config_text, "\"gelu\"");
    ck_assert_ptr_nonnull(at);
    char *config = tf_calloc(p.env, strlen(p.models[1]->config_text) + 1, 1);
    strcpy(config, p.models[1]->config_text);
    memcpy(config + (at - p.models[1]->config_text), "\"relu\"", 6);
    t_ok(p.env, tf_model_new(p.env, config, &relu));
    for (size_t i = 0; i < p.models[1]->count; i++) {
        tf_tensor t = p.models[1]->tensors[i];
        uint8_t *data = tf_arena_alloc(p.env, &relu->arena, (size_t)t.size);
        memcpy(data, t.data, (size_t)t.size);
        t.data = data;
        t.file = -1;
        t.file = -1;
        t_ok(p.env, tf_model_add(p.env, relu, &t));
    }
    t_ok(p.env, tf_model_seal(p.env, relu));
    tf_graph_free(p.graphs[1]);
    tf_model_free(p.models[1]);
    p.models[1] = relu;
    t_ok(p.env, tf_graph_build(p.env, relu, false, &p.graphs[1]));
    t_fails(p.env, t_pair_align(&p, false), TFUSE_EGRAPH, "relu");
    tf_free(&p.env->mem, config);
    t_pair_close(&p);
}
END_TEST

/* Random maps of two models are independent, or the two would stay aligned with one another. */
START_TEST(random_maps_differ_between_models)
{
    t_pair p;
    t_pair_open(&p, "baa");
    t_pair_set(&p, "align.control", "random");
    t_ok(p.env, t_pair_align(&p, false));
    size_t half = p.plan->n_maps / 2, same = 0;
    for (size_t i = 0; i < half; i++) {
        const tf_map *x = p.plan->maps[i].map, *y = p.plan->maps[half + i].map;
        ck_assert_str_eq(p.plan->maps[i].name, p.plan->maps[half + i].name);
        same += x->source && y->source && !memcmp(x->source, y->source, (size_t)x->m * sizeof *x->source);
    }
    ck_assert_uint_eq(same, 0);
    t_pair_close(&p);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("otfusion");
    T_ADD(model_with_itself_comes_back);
    T_ADD(planted_permutation_is_found);
    tcase_add_loop_test(t_case, every_option_makes_a_model, 0, (int)TF_LEN(variants));
    T_ADD(controls_inside_heads);
    T_ADD(queries_and_keys_share_one_map);
    T_ADD(heads_stay_together);
    T_ADD(any_weights_any_number);
    T_ADD(half_anchor_keeps_norms);
    T_ADD(same_bits_for_any_number_of_threads);
    T_ADD(errors_name_what_to_do);
    T_ADD(another_graph_is_refused_and_other_weights_reported);
    T_ADD(a_table_that_does_not_fit_is_refused);
    T_ADD(models_that_compute_differently_are_refused);
    T_ADD(random_maps_differ_between_models);
    return t_suite;
}
