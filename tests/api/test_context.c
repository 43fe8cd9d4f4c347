/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts: errors, tables with a size, cancelling, callbacks, names.
 */
#include "api.h"
#include <stdio.h>
#include <stdlib.h>

START_TEST(test_has)
{
    ck_assert_int_eq(tfuse_has("lapack"), 1);
    ck_assert_int_eq(tfuse_has("a part of a later version"), 0);
    ck_assert_int_eq(tfuse_has(NULL), 0);
}
END_TEST

START_TEST(test_version)
{
    char text[32];
    ck_assert_uint_eq(tfuse_version(), TFUSE_VERSION);
    snprintf(text, sizeof text, "%d.%d.%d", TFUSE_VERSION / 10000, TFUSE_VERSION / 100 % 100, TFUSE_VERSION % 100);
    ck_assert_str_eq(text, TFUSE_VERSION_STRING);
}
END_TEST

START_TEST(test_names)
{
    ck_assert_str_eq(tfuse_status_name(TFUSE_OK), "TFUSE_OK");
    ck_assert_str_eq(tfuse_status_name(TFUSE_EFORMAT), "TFUSE_EFORMAT");
    ck_assert_str_eq(tfuse_status_name(TFUSE_EINTERNAL), "TFUSE_EINTERNAL");
    ck_assert_str_eq(tfuse_status_name(-12345), "TFUSE_E?");
    ck_assert_str_eq(tfuse_dtype_name(TFUSE_BF16), "BF16");
    ck_assert_str_eq(tfuse_dtype_name(77), "?");
    ck_assert_uint_eq(tfuse_dtype_size(TFUSE_F64), 8);
    ck_assert_uint_eq(tfuse_dtype_size(0), 0);
}
END_TEST

START_TEST(test_null_arguments)
{
    tfuse_ctx *ctx = api_new();
    tfuse_array *array = NULL;
    tfuse_model *model = NULL;
    ck_assert_int_eq(tfuse_ctx_new(NULL, NULL), TFUSE_EINVAL);
    ck_assert_int_eq(tfuse_array_open(NULL, "x", &array), TFUSE_EINVAL);
    api_fails(ctx, tfuse_array_open(ctx, NULL, &array), TFUSE_EINVAL, "path is NULL");
    api_fails(ctx, tfuse_array_open(ctx, "x", NULL), TFUSE_EINVAL, "out is NULL");
    api_fails(ctx, tfuse_model_open(ctx, "x", 1u << 20, &model), TFUSE_EINVAL, "flags");
    ck_assert_str_eq(tfuse_ctx_error(NULL), "");
    ck_assert_uint_eq(tfuse_model_count(NULL), 0);
    ck_assert_int_eq(tfuse_model_find(NULL, "x"), -1);
    ck_assert_ptr_null(tfuse_policy_get(NULL, "solver.reg"));
    tfuse_ctx_free(NULL);
    tfuse_array_free(NULL);
    tfuse_model_free(NULL);
    tfuse_graph_free(NULL);
    tfuse_policy_free(NULL);
    tfuse_plan_free(NULL);
    tfuse_solution_free(NULL);
    tfuse_string_free(NULL);
    tfuse_ctx_cancel(NULL);
    api_done(ctx);
}
END_TEST

START_TEST(test_error_is_cleared)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    tfuse_array *array = (tfuse_array *)(void *)ctx;
    api_fails(ctx, tfuse_array_open(ctx, "/nowhere/at/all.npy", &array), TFUSE_ENOTFOUND, "/nowhere/at/all.npy");
    ck_assert_ptr_null(array);
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    tfuse_policy_free(policy);
    api_done(ctx);
}
END_TEST

/* A table may be larger than ours when the rest is zero, and never smaller. */
typedef struct larger {
    tfuse_allocator alloc;
    void *more;
} larger;

static void *plain_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void plain_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    free(ptr);
}

START_TEST(test_table_sizes)
{
    larger table = {{sizeof table, NULL, plain_alloc, plain_free}, NULL};
    tfuse_ctx *ctx = NULL;
    ck_assert_int_eq(tfuse_ctx_new(&table.alloc, &ctx), TFUSE_OK);
    tfuse_ctx_free(ctx);
    table.more = &table;
    ck_assert_int_eq(tfuse_ctx_new(&table.alloc, &ctx), TFUSE_EVERSION);
    ck_assert_ptr_null(ctx);
    table.alloc.struct_size = sizeof table.alloc - 1;
    ck_assert_int_eq(tfuse_ctx_new(&table.alloc, &ctx), TFUSE_EINVAL);
    table.alloc.struct_size = sizeof table.alloc;
    table.alloc.free = NULL;
    ck_assert_int_eq(tfuse_ctx_new(&table.alloc, &ctx), TFUSE_EINVAL);
}
END_TEST

/* A snapshot of an older program is shorter, and what lies behind it stays. */
START_TEST(test_snapshot_sizes)
{
    tfuse_key_info info;
    memset(&info, 0x55, sizeof info);
    info.struct_size = offsetof(tfuse_key_info, values);
    ck_assert_int_eq(tfuse_key_get(0, &info), TFUSE_OK);
    ck_assert_str_eq(info.name, "align.strategy");
    ck_assert_int_eq(info.type, TFUSE_KEY_CHOICE);
    ck_assert_int_eq(((unsigned char *)&info.values)[0], 0x55);
    info.struct_size = 0;
    ck_assert_int_eq(tfuse_key_get(0, &info), TFUSE_EINVAL);
    info.struct_size = sizeof info;
    ck_assert_int_eq(tfuse_key_get(tfuse_key_count(), &info), TFUSE_ERANGE);
}
END_TEST

START_TEST(test_keys_and_policy)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    for (size_t i = 0; i < tfuse_key_count(); i++) {
        tfuse_key_info key = {.struct_size = sizeof key};
        ck_assert_int_eq(tfuse_key_get(i, &key), TFUSE_OK);
        ck_assert_str_eq(tfuse_policy_get(policy, key.name), key.default_value);
        ck_assert_int_eq(tfuse_policy_is_set(policy, key.name), 0);
        api_ok(ctx, tfuse_policy_set(ctx, policy, key.name, key.default_value));
        ck_assert_int_eq(tfuse_policy_is_set(policy, key.name), 1);
    }
    api_fails(ctx, tfuse_policy_set(ctx, policy, "solver.rge", "1"), TFUSE_EKEY, "solver.reg");
    api_fails(ctx, tfuse_policy_set(ctx, policy, "solver.reg", "-1"), TFUSE_EKEY, "solver.reg");
    ck_assert_ptr_null(tfuse_policy_get(policy, "solver.rge"));
    tfuse_policy_free(policy);
    api_done(ctx);
}
END_TEST

START_TEST(test_cancel_before)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *model = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 3, 1);
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_ctx_cancel(ctx);
    api_fails(ctx, tfuse_eval(ctx, model, NULL, images, NULL, 0, &score), TFUSE_ECANCELLED, "cancelled");
    api_ok(ctx, tfuse_eval(ctx, model, NULL, images, NULL, 0, &score)); /* one request ends one call */
    ck_assert_int_eq(score.n, 3);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

typedef struct watcher {
    tfuse_ctx *ctx;
    tfuse_status inner;
    int calls, stop_at;
    char stage[32];
} watcher;

static int32_t watch(void *user, const tfuse_progress *p)
{
    watcher *w = user;
    tfuse_array *array = NULL;
    snprintf(w->stage, sizeof w->stage, "%s", p->stage);
    w->inner = tfuse_array_open(w->ctx, "x", &array);
    return ++w->calls == w->stop_at;
}

START_TEST(test_progress)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *model = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 3, 1);
    tfuse_score score = {.struct_size = sizeof score};
    watcher w = {.ctx = ctx};
    api_ok(ctx, tfuse_ctx_set_progress(ctx, watch, &w));
    api_ok(ctx, tfuse_eval(ctx, model, NULL, images, NULL, 0, &score));
    ck_assert_int_ge(w.calls, 2);
    ck_assert_str_eq(w.stage, "evaluating");
    ck_assert_int_eq(w.inner, TFUSE_ESTATE); /* a call from a callback */
    w.calls = 0;
    w.stop_at = 1;
    api_fails(ctx, tfuse_eval(ctx, model, NULL, images, NULL, 0, &score), TFUSE_ECANCELLED, "cancelled");
    ck_assert_int_eq(w.calls, 1);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

/* Handles may outlive the context that made them. */
START_TEST(test_handles_outlive)
{
    tfuse_ctx *ctx = api_new(), *other = api_new();
    tfuse_model *model = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 2, 1);
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_ctx_free(ctx);
    api_ok(other, tfuse_eval(other, model, NULL, images, NULL, 0, &score));
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(other);
}
END_TEST

START_TEST(test_threads_bounds)
{
    tfuse_ctx *ctx = api_new();
    tfuse_executor none = {sizeof none, NULL, 1, NULL};
    api_fails(ctx, tfuse_ctx_set_threads(ctx, 1025), TFUSE_ERANGE, "1025");
    api_ok(ctx, tfuse_ctx_set_threads(ctx, 3));
    api_ok(ctx, tfuse_ctx_set_threads(ctx, 0));
    api_ok(ctx, tfuse_ctx_set_threads(ctx, 1));
    api_fails(ctx, tfuse_ctx_set_executor(ctx, &none), TFUSE_EINVAL, "parallel_for");
    api_ok(ctx, tfuse_ctx_set_executor(ctx, NULL));
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api context");
    API_ADD(test_has);
    API_ADD(test_version);
    API_ADD(test_names);
    API_ADD(test_null_arguments);
    API_ADD(test_error_is_cleared);
    API_ADD(test_table_sizes);
    API_ADD(test_snapshot_sizes);
    API_ADD(test_keys_and_policy);
    API_ADD(test_cancel_before);
    API_ADD(test_progress);
    API_ADD(test_handles_outlive);
    API_ADD(test_threads_bounds);
    return api_suite;
}
