/* SPDX-License-Identifier: Apache-2.0
 *
 * Inputs: shapes, types and ranges against a graph's input, and what they are filled with.
 */
#include "t.h"
#include <math.h>
#include <stdio.h>
#include "io/io.h"
#include "run/run.h"

typedef struct fix {
    tf_env *env;
    tf_graph *g;
    tfuse_model *m;
} fix;

/* A graph with the input and one reader of it, and a model without tensors. */
static fix fixture(const char *input, const char *op, const char *attrs)
{
    fix f = {t_env(1), NULL, NULL};
    t_ok(f.env, tf_graph_new(f.env, "", &f.g));
    t_ok(f.env, tf_graph_add(f.env, f.g, "input", "pixels", "", input));
    t_ok(f.env, tf_graph_add(f.env, f.g, op, "reader", "pixels", attrs));
    t_ok(f.env, tf_graph_output(f.env, f.g, "reader"));
    t_ok(f.env, tf_graph_finish(f.env, f.g));
    t_ok(f.env, tf_model_new(f.env, NULL, &f.m));
    t_ok(f.env, tf_model_seal(f.env, f.m));
    return f;
}

static fix image_fixture(const char *shape)
{
    char attrs[64];
    snprintf(attrs, sizeof attrs, "kind=image shape=%s", shape);
    return fixture(attrs, "patchify", "kernel=2 out=stream:4");
}

static void close_fix(fix *f)
{
    tf_model_free(f->m);
    tf_graph_free(f->g);
    t_env_free(f->env);
}

static tfuse_array *array(const fix *f, tfuse_dtype dtype, const void *data, size_t rank, const int64_t *shape)
{
    tfuse_array *a = NULL;
    t_ok(f->env, tf_array_wrap(f->env, dtype, rank, shape, data, NULL, NULL, &a));
    return a;
}
#define ARRAY(f, dtype, data, ...) \
    array(f, dtype, data, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

START_TEST(test_bytes_without_preprocessor)
{
    fix f = image_fixture("1,2,2");
    const uint8_t raw[] = {0, 1, 128, 255, 7, 8, 9, 10, 1, 1, 1, 1};
    tfuse_array *flat = ARRAY(&f, TFUSE_U8, raw, 3, 2, 2), *full = ARRAY(&f, TFUSE_U8, raw, 3, 1, 2, 2);
    tf_inputs in;
    float x[8], y[8];
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, flat, 0, &in));
    ck_assert_int_eq(in.n, 3);
    ck_assert_int_eq(in.sample, 4);
    tf_inputs_fill(&in, 0, 0, 2, x);
    for (int i = 0; i < 8; i++)
        ck_assert(x[i] == (float)(raw[i] * (1.0 / 255)));
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, full, 2, &in));
    ck_assert_int_eq(in.n, 2);
    ck_assert_int_eq(in.total, 3);
    tf_inputs_fill(&in, 0, 1, 1, y);
    ck_assert_mem_eq(y, x + 4, 4 * sizeof *y);
    tf_array_free(flat);
    tf_array_free(full);
    close_fix(&f);
}
END_TEST

/* A model in a directory with the given preprocessor. */
static void with_preprocessor(fix *f, char *dir, const char *json)
{
    tf_model_free(f->m);
    t_write_file(dir, "config.json", "{}", 2);
    t_write_file(dir, "preprocessor_config.json", json, strlen(json));
    t_ok(f->env, tf_model_open(f->env, dir, TFUSE_OPEN_CONFIG_ONLY, &f->m));
}

START_TEST(test_preprocessor)
{
    fix f = image_fixture("3,2,2");
    char *dir = t_mkdtemp();
    uint8_t raw[24];
    float x[12];
    tf_inputs in;
    for (int i = 0; i < 24; i++)
        raw[i] = (uint8_t)(i * 11);
    tfuse_array *a = ARRAY(&f, TFUSE_U8, raw, 2, 3, 2, 2);
    with_preprocessor(&f, dir, "{\"rescale_factor\": 0.01, \"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [0.5, 0.25, 2]}");
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in));
    tf_inputs_fill(&in, 0, 1, 1, x);
    const float mean[] = {0.1f, 0.2f, 0.3f}, std[] = {0.5f, 0.25f, 2};
    for (int i = 0; i < 12; i++)
        ck_assert(x[i] == ((float)(raw[12 + i] * 0.01) - mean[i / 4]) / std[i / 4]);
    with_preprocessor(&f, dir, "{\"image_mean\": [0.1, 0.2], \"image_std\": [0.5, 0.25]}");
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ESHAPE, "2 values in image_mean");
    with_preprocessor(&f, dir, "{\"image_mean\": [0.1], \"image_std\": [1e-60]}");
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ENUMERIC, "preprocessor_config.json");
    tf_array_free(a);
    t_rmdir(dir);
    close_fix(&f);
}
END_TEST

START_TEST(test_floats)
{
    fix f = image_fixture("1,2,2");
    double wide[] = {0.5, -1.25, 3, 4, 5, 6, 7, 8};
    float x[4];
    tf_inputs in;
    tfuse_array *a = ARRAY(&f, TFUSE_F64, wide, 2, 2, 2);
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in));
    tf_inputs_fill(&in, 0, 1, 1, x);
    for (int i = 0; i < 4; i++)
        ck_assert(x[i] == (float)wide[4 + i]);
    tf_array_free(a);
    wide[6] = 1e300; /* infinite as float32 */
    a = ARRAY(&f, TFUSE_F64, wide, 2, 2, 2);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ENUMERIC, "element 2 of sample 1");
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, a, 1, &in)); /* not among the first */
    tf_array_free(a);
    close_fix(&f);
}
END_TEST

START_TEST(test_refused)
{
    fix f = image_fixture("1,2,2");
    const int64_t zeros[64] = {0};
    tf_inputs in;
    tfuse_array *a = ARRAY(&f, TFUSE_U8, zeros, 2, 3, 2, 2);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ESHAPE, "[2, 3, 2, 2]");
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ESHAPE, "[N, 1, 2, 2] or [N, 2, 2]");
    tf_array_free(a);
    a = ARRAY(&f, TFUSE_U8, zeros, 4, 4);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ESHAPE, "[4, 4]");
    tf_array_free(a);
    a = ARRAY(&f, TFUSE_U8, zeros, 0, 2, 2);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ESHAPE, "no samples");
    tf_array_free(a);
    a = ARRAY(&f, TFUSE_I64, zeros, 2, 2, 2);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_EDTYPE, "I64");
    tf_array_free(a);
    close_fix(&f);
}
END_TEST

static void check_ids(const fix *f, tfuse_dtype dtype, const void *data, size_t n)
{
    const int64_t shape[] = {2, (int64_t)n / 2};
    tfuse_array *a = array(f, dtype, data, 2, shape);
    tf_inputs in;
    int32_t ids[4];
    t_ok(f->env, tf_inputs_make(f->env, f->g, f->m, a, 0, &in));
    ck_assert(in.integer);
    ck_assert_int_eq(in.extent[0], 2);
    tf_inputs_fill(&in, 0, 0, 2, (float *)(void *)ids);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(ids[i], i * 3);
    tf_array_free(a);
}

START_TEST(test_token_ids)
{
    fix f = fixture("kind=tokens", "embedding", "rows=!vocab:10 of=stream:4");
    check_ids(&f, TFUSE_U8, (const uint8_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_I8, (const int8_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_U16, (const uint16_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_I16, (const int16_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_U32, (const uint32_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_I32, (const int32_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_U64, (const uint64_t[]){0, 3, 6, 9}, 4);
    check_ids(&f, TFUSE_I64, (const int64_t[]){0, 3, 6, 9}, 4);
    const int32_t ids[] = {0, 1, 2, 3, 10, -1};
    tf_inputs in;
    tfuse_array *a = ARRAY(&f, TFUSE_I32, ids, 2, 3), *b = ARRAY(&f, TFUSE_I32, ids + 4, 2, 1), *c = ARRAY(&f, TFUSE_F32, ids, 2, 3);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, a, 0, &in), TFUSE_ERANGE, "token id 10 at element 1 of sample 1");
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, a, 1, &in));
    ck_assert_int_eq(in.extent[0], 3);
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, b, 0, &in), TFUSE_ERANGE, "0 to 9");
    t_fails(f.env, tf_inputs_make(f.env, f.g, f.m, c, 0, &in), TFUSE_EDTYPE, "integers");
    tf_array_free(a);
    tf_array_free(b);
    tf_array_free(c);
    close_fix(&f);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("inputs");
    T_ADD(test_bytes_without_preprocessor);
    T_ADD(test_preprocessor);
    T_ADD(test_floats);
    T_ADD(test_refused);
    T_ADD(test_token_ids);
    return t_suite;
}
