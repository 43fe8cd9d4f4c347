/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json, typed; preprocessor_config.json; models built in memory.
 */
#include "hostile.h"
#include "io/io.h"
#include <stdio.h>
#include <string.h>

static tf_env *env;

static void setup(void)
{
    env = t_env(1);
}

static void teardown(void)
{
    t_env_free(env);
}

START_TEST(typed)
{
    tfuse_model *m;
    int64_t i;
    double r;
    bool b;
    const char *s;
    t_ok(env, tf_model_new(env, "{\"n\": 12, \"r\": 0.5, \"b\": true, \"s\": \"vit\", \"z\": null, \"big\": 1e300}", &m));
    t_ok(env, tf_config_int(env, m, "n", 1, 12, &i));
    ck_assert_int_eq(i, 12);
    t_fails(env, tf_config_int(env, m, "n", 1, 11, &i), TFUSE_EFORMAT, "'n' must be an integer from 1 to 11");
    t_fails(env, tf_config_int(env, m, "r", 0, 11, &i), TFUSE_EFORMAT, "'r'");
    t_fails(env, tf_config_int(env, m, "z", 0, 11, &i), TFUSE_EFORMAT, "'z' is missing");
    t_fails(env, tf_config_int(env, m, "none", 0, 11, &i), TFUSE_EFORMAT, "'none' is missing");
    t_ok(env, tf_config_int_or(env, m, "z", 0, 11, 7, &i));
    ck_assert_int_eq(i, 7);
    t_fails(env, tf_config_int_or(env, m, "big", 0, 11, 7, &i), TFUSE_EFORMAT, "'big'");
    t_ok(env, tf_config_real_or(env, m, "n", 1, &r)); /* an integer is a number */
    ck_assert_double_eq(r, 12);
    t_ok(env, tf_config_real_or(env, m, "none", 0.25, &r));
    ck_assert_double_eq(r, 0.25);
    t_fails(env, tf_config_real_or(env, m, "s", 1, &r), TFUSE_EFORMAT, "'s' must be a number");
    t_ok(env, tf_config_bool_or(env, m, "b", false, &b));
    ck_assert(b);
    t_ok(env, tf_config_bool_or(env, m, "z", true, &b));
    ck_assert(b);
    t_fails(env, tf_config_bool_or(env, m, "n", false, &b), TFUSE_EFORMAT, "true or false");
    t_ok(env, tf_config_text_or(env, m, "s", NULL, &s));
    ck_assert_str_eq(s, "vit");
    t_ok(env, tf_config_text_or(env, m, "none", "gelu", &s));
    ck_assert_str_eq(s, "gelu");
    t_fails(env, tf_config_text_or(env, m, "none", NULL, &s), TFUSE_EFORMAT, "missing");
    t_fails(env, tf_config_text_or(env, m, "n", "x", &s), TFUSE_EFORMAT, "must be a string");
    ck_assert_str_eq(tf_model_label(m), "(in memory)");
    t_fails(env, tf_config_real_or(env, m, "n.factor", 1, &r), TFUSE_EFORMAT, "'n' must be an object");
    t_fails(env, tf_config_text_or(env, m, "s.type", "x", &s), TFUSE_EFORMAT, "'s' must be an object");
    t_ok(env, tf_config_real_or(env, m, "z.factor", 3, &r)); /* null is absent */
    ck_assert_double_eq(r, 3);
    tf_model_free(m);
}
END_TEST

/* The text is parsed inside of another one (json.c): lines and columns are its own, and what ends that one early is an error. */
START_TEST(json_inside)
{
    static const struct {
        const char *text, *says;
    } bad[] = {{"{} {}", "line 1"}, {"{}, {}", "more than one value"}, {"{}]", "line 1"}, {"{}], [{}", "line 1"}, {"", "is empty"}, {" \n", "is empty"},
               {"{\n\n  \"a\": x}", "line 3, column 8"}};
    char long_text[3000];
    json_t *root;
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        t_fails(env, tf_json_object(env, "f", bad[i].text, strlen(bad[i].text), &root), TFUSE_EFORMAT, bad[i].says);
        ck_assert_ptr_null(root);
    }
    t_fails(env, tf_json_object(env, "f", "[{}]", 4, &root), TFUSE_EFORMAT, "not a JSON object");
    for (int n = 1; n < 2900; n += n < 140 ? 1 : 97) { /* tokens of all lengths around those at which a buffer grows */
        snprintf(long_text, sizeof long_text, "{\"%0*d\": \"\\u00e9%0*d\"}", n % 70 + 1, 1, n, 7);
        t_ok(env, tf_json_object(env, "f", long_text, strlen(long_text), &root));
        ck_assert_uint_eq(json_string_length(json_object_iter_value(json_object_iter(root))), (size_t)n + 2);
        ck_assert_uint_eq(strlen(json_object_iter_key(json_object_iter(root))), (size_t)(n % 70 + 1));
        json_decref(root);
    }
}
END_TEST

START_TEST(bad_json)
{
    static const char *const bad[] = {"", "[]", "3", "{\"a\":1,}", "{\"a\":1,\"a\":1}", "{\"a\":1} x", "{\"a\":1e999}",
                                      "{\"a\":99999999999999999999}", "{\"\xff\":1}", "{\"a\":NaN}", "nul"};
    tfuse_model *m;
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        t_fails(env, tf_model_new(env, bad[i], &m), TFUSE_EFORMAT, "config");
        ck_assert_ptr_null(m);
    }
}
END_TEST

START_TEST(no_config)
{
    tfuse_model *m;
    int64_t i;
    t_ok(env, tf_model_new(env, NULL, &m));
    t_fails(env, tf_config_int(env, m, "n", 1, 12, &i), TFUSE_EFORMAT, "'n' is missing");
    t_ok(env, tf_config_int_or(env, m, "n", 1, 12, 3, &i));
    ck_assert_int_eq(i, 3);
    tf_model_free(m);
}
END_TEST

START_TEST(tensors_in_memory)
{
    tfuse_model *m;
    float x[6] = {0};
    tf_tensor t = {.name = "b", .dtype = TFUSE_F32, .rank = 2, .shape = {2, 3}, .data = (const uint8_t *)x, .file = -1};
    t_ok(env, tf_model_new(env, NULL, &m));
    t_ok(env, tf_model_add(env, m, &t));
    t_fails(env, tf_model_add(env, m, &t), TFUSE_EINVAL, "'b': is in the model already");
    t.name = "a";
    t.data = NULL;
    t_fails(env, tf_model_add(env, m, &t), TFUSE_EINVAL, "no data");
    t.data = (const uint8_t *)x;
    t.shape[1] = -3;
    t_fails(env, tf_model_add(env, m, &t), TFUSE_ESHAPE, "'a'");
    t.shape[1] = 3;
    t.dtype = 0;
    t_fails(env, tf_model_add(env, m, &t), TFUSE_EDTYPE, "'a'");
    t.dtype = TFUSE_F32;
    t_ok(env, tf_model_add(env, m, &t));
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%03d", 299 - i);
        t.name = name; /* copied */
        t_ok(env, tf_model_add(env, m, &t));
    }
    t_ok(env, tf_model_seal(env, m));
    t_fails(env, tf_model_seal(env, m), TFUSE_ESTATE, "sealed");
    t.name = "c";
    t_fails(env, tf_model_add(env, m, &t), TFUSE_ESTATE, "sealed");
    ck_assert_uint_eq(m->count, 302);
    for (size_t i = 1; i < m->count; i++)
        ck_assert_int_lt(strcmp(m->tensors[i - 1].name, m->tensors[i].name), 0);
    ck_assert_uint_eq(tf_model_find(m, "a")->size, 24);
    tf_model_free(m);
}
END_TEST

static void hash(const float *x, const char *name, int64_t rows, char head[17], char body[17])
{
    tfuse_model *m;
    tf_tensor t = {.name = name, .dtype = TFUSE_F32, .rank = 2, .shape = {rows, 6 / rows}, .data = (const uint8_t *)x, .file = -1};
    t_ok(env, tf_model_new(env, NULL, &m));
    t_ok(env, tf_model_add(env, m, &t));
    t_ok(env, tf_model_seal(env, m));
    t_ok(env, tf_model_hash(env, m, head, body));
    tf_model_free(m);
}

START_TEST(fingerprints)
{
    float x[6] = {1, 2, 3, 4, 5, 6}, y[6];
    char h0[17], w0[17], h[17], w[17];
    hash(x, "a", 2, h0, w0);
    ck_assert_uint_eq(strlen(h0), 16);
    hash(x, "a", 2, h, w);
    ck_assert_str_eq(h, h0);
    ck_assert_str_eq(w, w0);
    hash(x, "a", 3, h, w);
    ck_assert_str_ne(h, h0);
    ck_assert_str_eq(w, w0);
    hash(x, "b", 2, h, w);
    ck_assert_str_ne(h, h0);
    /* any subset of flipped signs shows; so do swaps */
    for (int mask = 1; mask < 64; mask++) {
        for (int i = 0; i < 6; i++)
            y[i] = mask >> i & 1 ? -x[i] : x[i];
        hash(y, "a", 2, h, w);
        ck_assert_str_ne(w, w0);
    }
    memcpy(y, x, sizeof y);
    y[0] = x[2], y[1] = x[3], y[2] = x[0], y[3] = x[1];
    hash(y, "a", 2, h, w);
    ck_assert_str_ne(w, w0);
    atomic_store(&env->cancelled, 1);
    tfuse_model *m;
    t_ok(env, tf_model_new(env, NULL, &m));
    t_fails(env, tf_model_hash(env, m, h, w), TFUSE_ECANCELLED, "cancelled");
    atomic_store(&env->cancelled, 0);
    tf_model_free(m);
}
END_TEST

static tfuse_status preprocess(const char *text, tf_preprocess *out)
{
    char *dir = t_mkdtemp();
    tfuse_model *m;
    t_write_file(dir, "config.json", "{}", 2);
    if (text)
        t_write_file(dir, "preprocessor_config.json", text, strlen(text));
    t_ok(env, tf_model_open(env, dir, TFUSE_OPEN_CONFIG_ONLY, &m));
    tfuse_status status = tf_preprocess_read(env, m, out);
    tf_model_free(m);
    t_rmdir(dir);
    return status;
}

START_TEST(preprocessor)
{
    tf_preprocess p;
    t_ok(env, preprocess(NULL, &p));
    ck_assert_double_eq(p.rescale, 1.0 / 255);
    ck_assert_int_eq(p.channels, 1);
    ck_assert_double_eq(p.std[0], 1);
    t_ok(env, preprocess("{\"do_rescale\":true,\"rescale_factor\":0.5,\"do_normalize\":true,\"image_mean\":[0.1,0.2,0.3],"
                         "\"image_std\":[1,2,4]}", &p));
    ck_assert_double_eq(p.rescale, 0.5);
    ck_assert_int_eq(p.channels, 3);
    ck_assert_double_eq(p.mean[1], 0.2);
    ck_assert_double_eq(p.std[2], 4);
    t_ok(env, preprocess("{\"do_rescale\":false,\"image_mean\":0.5,\"image_std\":[1,2]}", &p));
    ck_assert_double_eq(p.rescale, 1);
    ck_assert_int_eq(p.channels, 2);
    ck_assert_double_eq(p.mean[1], 0.5);
    t_ok(env, preprocess("{\"do_normalize\":false,\"image_mean\":[0.1],\"image_std\":[0.5]}", &p));
    ck_assert_double_eq(p.mean[0], 0);
    static const char *const bad[] = {
        "[]", "{\"do_rescale\":1}", "{\"rescale_factor\":\"x\"}", "{\"do_normalize\":true}",
        "{\"image_mean\":[0.1,0.2],\"image_std\":[1,1,1]}", "{\"image_mean\":[],\"image_std\":[]}", "{\"image_mean\":0,\"image_std\":0}",
        "{\"image_mean\":0,\"image_std\":-1}", "{\"image_mean\":[\"a\"],\"image_std\":1}", "{\"image_mean\":0.5}",
        "{\"image_mean\":0,\"image_std\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}",
    };
    for (size_t i = 0; i < TF_LEN(bad); i++)
        t_fails(env, preprocess(bad[i], &p), TFUSE_EFORMAT, "preprocessor_config.json");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("config");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(typed);
    T_ADD(json_inside);
    T_ADD(bad_json);
    T_ADD(no_config);
    T_ADD(tensors_in_memory);
    T_ADD(fingerprints);
    T_ADD(preprocessor);
    return t_suite;
}
