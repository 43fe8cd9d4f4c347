/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays and models: borrowing, releasing, files, sealing.
 */
#include "api.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void count_release(void *owner)
{
    ++*(int *)owner;
}

START_TEST(test_wrap_releases_once)
{
    tfuse_ctx *ctx = api_new();
    const int64_t shape[] = {2, 3}, bad[] = {2, -3};
    const float data[6] = {1, 2, 3, 4, 5, 6};
    tfuse_array *a = NULL;
    int released = 0;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, shape, data, count_release, &released, &a));
    ck_assert_ptr_eq(tfuse_array_data(a), data);
    ck_assert_int_eq(released, 0);
    tfuse_array_free(a);
    ck_assert_int_eq(released, 1);
    api_fails(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, bad, data, count_release, &released, &a), TFUSE_ESHAPE, "negative");
    ck_assert_int_eq(released, 2);
    api_fails(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, NULL, data, count_release, &released, &a), TFUSE_EINVAL, "shape");
    ck_assert_int_eq(released, 3);
    ck_assert_int_eq(tfuse_array_wrap(NULL, TFUSE_F32, 2, shape, data, count_release, &released, &a), TFUSE_EINVAL);
    ck_assert_int_eq(released, 4);
    api_done(ctx);
}
END_TEST

START_TEST(test_array_file)
{
    tfuse_ctx *ctx = api_new();
    const int64_t shape[] = {2, 0, 3}, full[] = {2, 3};
    const int32_t data[6] = {1, -2, 3, INT32_MAX, 5, 6};
    char *path = api_path("a.npy");
    tfuse_array *a = NULL, *b = NULL;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_I32, 2, full, data, NULL, NULL, &a));
    api_ok(ctx, tfuse_array_save(ctx, a, path));
    api_ok(ctx, tfuse_array_open(ctx, path, &b));
    ck_assert_int_eq(tfuse_array_dtype(b), TFUSE_I32);
    ck_assert_uint_eq(tfuse_array_rank(b), 2);
    ck_assert_int_eq(tfuse_array_shape(b)[1], 3);
    ck_assert_int_eq(memcmp(tfuse_array_data(b), data, sizeof data), 0);
    tfuse_array_free(a);
    tfuse_array_free(b);
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F64, 3, shape, NULL, NULL, NULL, &a));
    api_ok(ctx, tfuse_array_save(ctx, a, path));
    api_ok(ctx, tfuse_array_open(ctx, path, &b));
    ck_assert_uint_eq(tfuse_array_rank(b), 3);
    tfuse_array_free(a);
    tfuse_array_free(b);
    api_remove(path);
    api_done(ctx);
}
END_TEST

START_TEST(test_file_save)
{
    tfuse_ctx *ctx = api_new();
    char *path = api_path("page.html"), text[8] = "";
    api_ok(ctx, tfuse_file_save(ctx, path, "first", 5, 0));
    ck_assert_int_eq(tfuse_file_save(ctx, path, "second", 6, 0), TFUSE_EEXIST);
    ck_assert_ptr_nonnull(strstr(tfuse_ctx_error(ctx), "page.html"));
    api_ok(ctx, tfuse_file_save(ctx, path, "third", 5, 1));
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(text, 1, sizeof text, f), 5);
    fclose(f);
    ck_assert_int_eq(memcmp(text, "third", 5), 0);
    ck_assert_int_eq(tfuse_file_save(ctx, "no/such/directory/page.html", "x", 1, 0), TFUSE_EIO);
    ck_assert_int_eq(tfuse_file_save(ctx, path, NULL, 0, 1), TFUSE_EINVAL);
    api_remove(path);
    api_done(ctx);
}
END_TEST

START_TEST(test_output_check)
{
    tfuse_ctx *ctx = api_new();
    char *path = api_path("out");
    api_ok(ctx, tfuse_output_check(ctx, path, 0, 0));
    api_ok(ctx, tfuse_output_check(ctx, path, 1, 0));
    ck_assert_int_ne(access(path, F_OK), 0);
    api_ok(ctx, tfuse_file_save(ctx, path, "text", 4, 0));
    ck_assert_int_eq(tfuse_output_check(ctx, path, 0, 0), TFUSE_EEXIST);
    api_ok(ctx, tfuse_output_check(ctx, path, 0, 1));
    ck_assert_int_eq(tfuse_output_check(ctx, path, 1, 1), TFUSE_EEXIST);
    ck_assert_int_eq(tfuse_output_check(ctx, "/dev/null", 0, 1), TFUSE_EEXIST);
    ck_assert_int_eq(tfuse_output_check(ctx, "no/such/directory/out", 1, 0), TFUSE_EIO);
    ck_assert_ptr_nonnull(strstr(tfuse_ctx_error(ctx), "no/such/directory"));
    ck_assert_int_eq(tfuse_output_check(ctx, NULL, 1, 0), TFUSE_EINVAL);
    api_remove(path);
    api_done(ctx);
}
END_TEST

START_TEST(test_model_building)
{
    tfuse_ctx *ctx = api_new();
    const int64_t shape[] = {2}, negative[] = {-2}, many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float data[2] = {1, 2};
    int released = 0;
    tfuse_model *m = NULL;
    tfuse_graph *g = NULL;
    tfuse_tensor_info info = {.struct_size = sizeof info};
    api_fails(ctx, tfuse_model_new(ctx, "[1]", count_release, &released, &m), TFUSE_EFORMAT, "config");
    ck_assert_int_eq(released, 1);
    released = 0;
    api_ok(ctx, tfuse_model_new(ctx, "{}", count_release, &released, &m));
    api_ok(ctx, tfuse_model_add(ctx, m, "z", TFUSE_F32, 1, shape, data));
    api_ok(ctx, tfuse_model_add(ctx, m, "a", TFUSE_F32, 0, NULL, data));
    api_fails(ctx, tfuse_model_add(ctx, m, "z", TFUSE_F32, 1, shape, data), TFUSE_EINVAL, "'z'");
    api_fails(ctx, tfuse_model_add(ctx, m, "n", TFUSE_F32, 1, negative, data), TFUSE_ESHAPE, "'n'");
    api_fails(ctx, tfuse_model_add(ctx, m, "r", TFUSE_F32, 9, many, data), TFUSE_ESHAPE, "'r'");
    api_fails(ctx, tfuse_model_add(ctx, m, "t", 99, 1, shape, data), TFUSE_EDTYPE, "'t'");
    api_fails(ctx, tfuse_graph_infer(ctx, m, &g), TFUSE_ESTATE, "seal");
    api_ok(ctx, tfuse_model_seal(ctx, m));
    api_fails(ctx, tfuse_model_add(ctx, m, "late", TFUSE_F32, 1, shape, data), TFUSE_ESTATE, "sealed");
    ck_assert_uint_eq(tfuse_model_count(m), 2);
    ck_assert_int_eq(tfuse_model_tensor(m, 0, &info), TFUSE_OK);
    ck_assert_str_eq(info.name, "a");
    ck_assert_uint_eq(info.size, 4);
    ck_assert_int_eq(tfuse_model_tensor(m, 2, &info), TFUSE_ERANGE);
    ck_assert_int_eq(tfuse_model_find(m, "z"), 1);
    ck_assert_int_eq(tfuse_model_find(m, "q"), -1);
    ck_assert_str_eq(tfuse_model_path(m), "");
    ck_assert_str_eq(tfuse_model_config(m), "{}");
    tfuse_model_free(m);
    ck_assert_int_eq(released, 1);
    api_done(ctx);
}
END_TEST

START_TEST(test_open_checkpoint)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *m = NULL;
    api_ok(ctx, tfuse_model_open(ctx, "tests/data/vit-fmnist-a", 0, &m));
    ck_assert_uint_eq(tfuse_model_count(m), 72);
    ck_assert_str_eq(tfuse_model_path(m), "tests/data/vit-fmnist-a");
    ck_assert_ptr_nonnull(strstr(tfuse_model_config(m), "hidden_size"));
    tfuse_model_free(m);
    api_fails(ctx, tfuse_model_open(ctx, "tests/data/vit-fmnist-a/config.json", 0, &m), TFUSE_EFORMAT, "config.json");
    ck_assert_ptr_null(m);
    api_ok(ctx, tfuse_model_open(ctx, "tests/data/vit-fmnist-a/config.json", TFUSE_OPEN_CONFIG_ONLY, &m));
    ck_assert_uint_eq(tfuse_model_count(m), 0);
    tfuse_model_free(m);
    api_done(ctx);
}
END_TEST

/* ---- handles of another kind ---------------------------------------------------------------------------------------- */

START_TEST(test_foreign)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    tfuse_model *model = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 2, 1), *array = NULL;
    tfuse_plan *plan = NULL;
    tfuse_graph *graph = NULL;
    tfuse_stats *stats = NULL;
    tfuse_solution *solution = NULL;
    tfuse_model *fused = NULL;
    tfuse_repair *repair = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_map_info map = {.struct_size = sizeof map};
    char *text = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    /* What void * in another language, or a cast in C, makes of handles. */
    void *p = policy, *m = model, *c = ctx;
    const tfuse_model *models[] = {model, p}, *twice[] = {model, model};
    const int64_t square[] = {2, 2};
    const float numbers[4] = {0, 1, 1, 0};
#define FOREIGN(call, name) api_fails(ctx, call, TFUSE_EINVAL, name)
    FOREIGN(tfuse_align(ctx, NULL, models, 2, NULL, &plan), "models[1] is no tfuse_model");
    FOREIGN(tfuse_align(ctx, m, twice, 2, NULL, &plan), "policy is no tfuse_policy");
    FOREIGN(tfuse_align(ctx, NULL, twice, 2, m, &plan), "calib is no tfuse_array");
    ck_assert_ptr_null(plan);
    FOREIGN(tfuse_run(ctx, p, NULL, images, 0, &array), "model is no tfuse_model");
    FOREIGN(tfuse_run(ctx, model, p, images, 0, &array), "graph is no tfuse_graph");
    FOREIGN(tfuse_eval(ctx, model, NULL, p, NULL, 0, &score), "inputs is no tfuse_array");
    FOREIGN(tfuse_eval(ctx, model, NULL, images, m, 0, &score), "labels is no tfuse_array");
    FOREIGN(tfuse_graph_to_json(ctx, p, &text), "graph is no tfuse_graph");
    FOREIGN(tfuse_graph_infer(ctx, p, &graph), "model is no tfuse_model");
    FOREIGN(tfuse_plan_report(ctx, m, &text), "plan is no tfuse_plan");
    FOREIGN(tfuse_fuse_model(ctx, NULL, p, twice, 2, &fused), "plan is no tfuse_plan");
    FOREIGN(tfuse_repair_new(ctx, NULL, m, twice, 2, NULL, &repair), "plan is no tfuse_plan");
    FOREIGN(tfuse_policy_set(ctx, m, "run.seed", "1"), "policy is no tfuse_policy");
    FOREIGN(tfuse_stats_step(ctx, m), "stats is no tfuse_stats");
    FOREIGN(tfuse_stats_new(ctx, NULL, models, 2, &stats), "models[1]");
    FOREIGN(tfuse_solution_coupling(ctx, m, &array), "solution is no tfuse_solution");
    FOREIGN(tfuse_model_seal(ctx, p), "model is no tfuse_model");
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, square, numbers, NULL, NULL, &array));
    const tfuse_task task = {.struct_size = sizeof task, .cost = array, .mu = m};
    FOREIGN(tfuse_solve_batch(ctx, NULL, &task, 1, &solution), "mu is no tfuse_array");
    FOREIGN(tfuse_solve(ctx, NULL, p, NULL, NULL, &solution), "cost is no tfuse_array");
    FOREIGN(tfuse_array_attach(ctx, m, "attention_mask", array), "array is no tfuse_array"); /* and has released it */
    ck_assert_int_eq(tfuse_policy_set(m, policy, "run.seed", "1"), TFUSE_EINVAL);
    ck_assert_str_eq(tfuse_ctx_error(m), "");
    ck_assert_uint_eq(tfuse_model_count(p), 0);
    ck_assert_uint_eq(tfuse_plan_count(p), 0);
    ck_assert_ptr_null(tfuse_array_data(m));
    ck_assert_ptr_null(tfuse_policy_get(c, "run.seed"));
    ck_assert_int_eq(tfuse_plan_map(p, 0, &map), TFUSE_EINVAL);
    tfuse_array_free(m); /* nothing happens */
    tfuse_model_free(p);
    tfuse_plan_free(m);
    tfuse_policy_free(m);
    tfuse_graph_free(m);
    tfuse_stats_free(m);
    tfuse_repair_free(m);
    tfuse_solution_free(m);
    tfuse_ctx_free(m);
    tfuse_ctx_cancel(m);
    api_ok(ctx, tfuse_run(ctx, model, NULL, images, 0, &array));
    tfuse_array_free(array);
    tfuse_policy_free(policy);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api handles");
    API_ADD(test_foreign);
    API_ADD(test_wrap_releases_once);
    API_ADD(test_array_file);
    API_ADD(test_file_save);
    API_ADD(test_output_check);
    API_ADD(test_model_building);
    API_ADD(test_open_checkpoint);
    return api_suite;
}
