/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing checkpoints, and reading them back.
 */
#include "io/model.h"
#include "num/num.h"
#include "t.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tf_env *env;
static char *dir;
static char out[4096];

static void setup(void)
{
    env = t_env(1);
    dir = t_mkdtemp();
    snprintf(out, sizeof out, "%s/out", dir);
}

static void teardown(void)
{
    t_rmdir(dir);
    t_env_free(env);
}

enum { COUNT = 5 };
static const float values[6] = {0, 1, -2.5f, 0.333251953125f, 65504, -1.0f / 1024};
static const int64_t ids[2] = {-1, INT64_C(1) << 60};
static const tf_tensor layout[COUNT] = {
    {.name = "w.b", .dtype = TFUSE_F32, .rank = 2, .shape = {2, 3}},
    {.name = "w.a", .dtype = TFUSE_F16, .rank = 1, .shape = {6}},
    {.name = "n", .dtype = TFUSE_BF16, .rank = 3, .shape = {1, 6, 1}},
    {.name = "empty", .dtype = TFUSE_F32, .rank = 2, .shape = {0, 6}},
    {.name = "ids", .dtype = TFUSE_I64, .rank = 1, .shape = {2}},
};

static tfuse_status write_model(const char *path, const tf_write_options *options)
{
    tf_writer *w;
    TF_TRY(tf_writer_open(env, path, options, layout, COUNT, &w));
    t_ok(env, tf_writer_put_raw(env, w, 4, ids)); /* any order */
    for (size_t i = 0; i < 4; i++)
        t_ok(env, tf_writer_put(env, w, i, values));
    return tf_writer_commit(env, w);
}

static void check_model(const char *path, size_t files)
{
    tfuse_model *m;
    float x[6];
    t_ok(env, tf_model_open(env, path, 0, &m));
    ck_assert_uint_eq(m->count, COUNT);
    ck_assert_uint_eq(m->n_files, files);
    for (size_t i = 0; i < COUNT; i++) {
        const tf_tensor *t = tf_model_find(m, layout[i].name);
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->dtype, layout[i].dtype);
        ck_assert_int_eq(t->rank, layout[i].rank);
        ck_assert_mem_eq(t->shape, layout[i].shape, (size_t)t->rank * sizeof(int64_t));
        ck_assert_uint_eq((uintptr_t)t->data % tf_dtype_size(t->dtype), 0);
        if (t->dtype == TFUSE_I64) {
            ck_assert_mem_eq(t->data, ids, sizeof ids);
            continue;
        }
        t_ok(env, tf_tensor_read(env, m, t, x));
        for (size_t k = 0; k < t->count; k++) /* BF16 keeps 8 bits: half a unit in the last place is at most 2^-8 relative */
            ck_assert(fabsf(x[k] - values[k]) <= (t->dtype == TFUSE_BF16 ? fabsf(values[k]) * 0x1p-8f : 0));
    }
    tf_model_free(m);
}

static size_t count_entries(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void read_text(const char *name, tf_buf *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", out, name);
    t_ok(env, tf_read_file(env, path, 1 << 20, text));
}

START_TEST(one_file)
{
    json_t *meta = json_pack("{s:s}", "made", "from \"a\"\n");
    tf_write_options o = {.metadata = meta, .config_text = "{\"x\": 1}\n"};
    t_ok(env, write_model(out, &o));
    check_model(out, 1);
    ck_assert_uint_eq(count_entries(out), 2);
    ck_assert_uint_eq(count_entries(dir), 1);
    tf_buf text;
    read_text("config.json", &text);
    ck_assert_str_eq(text.data, "{\"x\": 1}\n");
    tf_buf_free(&text);
    read_text("model.safetensors", &text);
    uint64_t n;
    memcpy(&n, text.data, 8);
    ck_assert_uint_eq(n % 8, 0);
    static const char head[] = "{\"__metadata__\":{\"made\":\"from \\\"a\\\"\\n\",\"format\":\"pt\"},"
                               "\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                               "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,6],\"data_offsets\":[16,16]},"
                               "\"w.b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[16,40]},"
                               "\"n\":{\"dtype\":\"BF16\",\"shape\":[1,6,1],\"data_offsets\":[40,52]},"
                               "\"w.a\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[52,64]}}";
    ck_assert_int_eq(strncmp(text.data + 8, head, strlen(head)), 0);
    ck_assert_uint_eq(text.len, 8 + n + 64);
    tf_buf_free(&text);
    json_decref(meta);
}
END_TEST

START_TEST(equal_bytes)
{
    char other[4096];
    tf_write_options o = {.config_text = "{}"};
    tf_buf a, b;
    snprintf(other, sizeof other, "%s/other", dir);
    t_ok(env, write_model(out, &o));
    t_ok(env, write_model(other, &o));
    read_text("model.safetensors", &a);
    memcpy(out, other, sizeof out);
    read_text("model.safetensors", &b);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    tf_buf_free(&a);
    tf_buf_free(&b);
}
END_TEST

START_TEST(shards)
{
    tf_write_options o = {.config_text = "{}", .shard_size = 24};
    tf_buf text;
    t_ok(env, write_model(out, &o));
    /* by name: empty 0 + ids 16 | n 12 + w.a 12 | w.b 24 */
    check_model(out, 3);
    ck_assert_uint_eq(count_entries(out), 5);
    read_text("model.safetensors.index.json", &text);
    ck_assert_ptr_nonnull(strstr(text.data, "\"w.b\": \"model-00003-of-00003.safetensors\""));
    ck_assert_ptr_nonnull(strstr(text.data, "\"total_size\": 64"));
    tf_buf_free(&text);
    o.shard_size = 1; /* every tensor is larger: one each, the empty one with the next */
    o.force = true;
    t_ok(env, write_model(out, &o));
    check_model(out, 4);
    o.shard_size = 64;
    t_ok(env, write_model(out, &o));
    check_model(out, 1);
    ck_assert_uint_eq(count_entries(out), 2);
}
END_TEST

START_TEST(existing_output)
{
    tf_write_options o = {.config_text = "{}"};
    t_ok(env, write_model(out, &o));
    o.config_text = "{\"new\": 1}";
    t_fails(env, write_model(out, &o), TFUSE_EEXIST, "out: exists");
    ck_assert_uint_eq(count_entries(dir), 1);
    o.force = true;
    t_ok(env, write_model(out, &o));
    tf_buf text;
    read_text("config.json", &text);
    ck_assert_str_eq(text.data, "{\"new\": 1}");
    tf_buf_free(&text);
    ck_assert_uint_eq(count_entries(dir), 1);
}
END_TEST

START_TEST(missing_parent)
{
    char path[4200];
    tf_writer *w;
    tf_write_options o = {.config_text = "{}"};
    snprintf(path, sizeof path, "%s/none/out", dir);
    t_fails(env, tf_writer_open(env, path, &o, layout, COUNT, &w), TFUSE_EIO, "/none");
    ck_assert_ptr_null(w);
    ck_assert_uint_eq(count_entries(dir), 0);
}
END_TEST

START_TEST(abort_leaves_nothing)
{
    tf_writer *w;
    tf_write_options o = {.config_text = "{}"};
    t_ok(env, tf_writer_open(env, out, &o, layout, COUNT, &w));
    t_ok(env, tf_writer_put(env, w, 0, values));
    tf_writer_abort(env, w);
    ck_assert_uint_eq(count_entries(dir), 0);
    tf_writer_abort(env, NULL);
    t_ok(env, tf_writer_open(env, out, &o, layout, COUNT, &w));
    t_ok(env, tf_writer_put(env, w, 0, values));
    t_fails(env, tf_writer_commit(env, w), TFUSE_EINTERNAL, "never written");
    ck_assert_uint_eq(count_entries(dir), 0);
}
END_TEST

START_TEST(values_that_do_not_fit)
{
    tf_writer *w;
    tf_write_options o = {.config_text = "{}"};
    float x[6] = {0, 0, 0, 65519, 0, 0};
    t_ok(env, tf_writer_open(env, out, &o, layout, COUNT, &w));
    t_ok(env, tf_writer_put(env, w, 1, x)); /* rounds to 65504 */
    t_fails(env, tf_writer_put(env, w, 1, x), TFUSE_EINTERNAL, "written twice");
    t_fails(env, tf_writer_put(env, w, COUNT, x), TFUSE_EINTERNAL, "5 of 5");
    x[3] = 3.4e38f;
    t_fails(env, tf_writer_put(env, w, 2, x), TFUSE_ENUMERIC, "'n': element 3");
    x[3] = 0.5f;
    t_fails(env, tf_writer_put(env, w, 4, x + 3), TFUSE_EDTYPE, "'ids'");
    x[3] = NAN;
    t_fails(env, tf_writer_put(env, w, 0, x), TFUSE_ENUMERIC, "'w.b': element 3");
    tf_writer_abort(env, w);
    t_ok(env, tf_writer_open(env, out, &o, layout, COUNT, &w));
    x[3] = -65520;
    t_fails(env, tf_writer_put(env, w, 1, x), TFUSE_ENUMERIC, "io.dtype");
    tf_writer_abort(env, w);
}
END_TEST

START_TEST(bad_layouts)
{
    tf_writer *w;
    tf_write_options o = {.config_text = "{}"};
    tf_tensor two[2] = {{.name = "a", .dtype = TFUSE_F32, .rank = 1, .shape = {1}}, {.name = "a", .dtype = TFUSE_F16, .rank = 0}};
    t_fails(env, tf_writer_open(env, out, &o, two, 2, &w), TFUSE_EINVAL, "'a': is given twice");
    two[1].name = "__metadata__";
    t_fails(env, tf_writer_open(env, out, &o, two, 2, &w), TFUSE_EINVAL, "reserved");
    two[1].name = "b\xff";
    t_fails(env, tf_writer_open(env, out, &o, two, 2, &w), TFUSE_EINVAL, "UTF-8");
    two[1].name = "b";
    two[1].dtype = 77;
    t_fails(env, tf_writer_open(env, out, &o, two, 2, &w), TFUSE_EDTYPE, "'b'");
    o.metadata = json_pack("{s:i}", "k", 1);
    t_fails(env, tf_writer_open(env, out, &o, two, 1, &w), TFUSE_EINVAL, "'k'");
    json_decref((json_t *)(uintptr_t)o.metadata);
    ck_assert_uint_eq(count_entries(dir), 0);
    o.metadata = NULL;
    t_ok(env, tf_writer_open(env, out, &o, NULL, 0, &w));
    t_ok(env, tf_writer_commit(env, w));
}
END_TEST

START_TEST(companions)
{
    static const char *const files[] = {
        "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "merges.txt",
        "chat_template.jinja", "generation_config.json", "sentencepiece.bpe.model", /* these 9 go along */
        "README.md", "train_log.json", "pytorch_model.bin", "model.safetensors", "config.json", "optimizer.pt",
        "model.safetensors.index.json", "other.json", ".hidden",
    };
    char *from = t_mkdtemp();
    for (size_t i = 0; i < TF_LEN(files); i++)
        t_write_file(from, files[i], files[i], strlen(files[i]));
    tf_write_options o = {.config_text = "{}", .copy_from = from};
    t_ok(env, write_model(out, &o));
    ck_assert_uint_eq(count_entries(out), 9 + 2);
    tf_buf text;
    read_text("tokenizer.json", &text);
    ck_assert_str_eq(text.data, "tokenizer.json");
    tf_buf_free(&text);
    check_model(out, 1);
    o.copy_from = "/no/such/dir";
    o.force = true;
    t_fails(env, write_model(out, &o), TFUSE_ENOTFOUND, "/no/such/dir");
    check_model(out, 1); /* still there */
    t_rmdir(from);
}
END_TEST

START_TEST(more_than_one_chunk)
{
    enum { N = 700001 };
    tf_tensor t = {.name = "big", .dtype = TFUSE_F16, .rank = 1, .shape = {N}};
    tf_write_options o = {.config_text = "{}"};
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    tf_writer *w;
    tfuse_model *m;
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 2048 - 1024); /* exact in F16 */
    t_ok(env, tf_writer_open(env, out, &o, &t, 1, &w));
    t_ok(env, tf_writer_put(env, w, 0, x));
    t_ok(env, tf_writer_commit(env, w));
    t_ok(env, tf_model_open(env, out, 0, &m));
    t_ok(env, tf_tensor_read(env, m, &m->tensors[0], y));
    ck_assert_mem_eq(x, y, N * sizeof *x);
    tf_model_free(m);
    free(x);
    free(y);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("writer");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(one_file);
    T_ADD(equal_bytes);
    T_ADD(shards);
    T_ADD(existing_output);
    T_ADD(missing_parent);
    T_ADD(abort_leaves_nothing);
    T_ADD(values_that_do_not_fit);
    T_ADD(bad_layouts);
    T_ADD(companions);
    T_ADD(more_than_one_chunk);
    return t_suite;
}
