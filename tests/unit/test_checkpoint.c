/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening checkpoints: directories, shards, single files, configs alone, and everything that is none of these.
 */
#include "io/model.h"
#include "t.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static tf_env *env;
static char *dir;
static tfuse_model *m;

static void setup(void)
{
    env = t_env(1);
    dir = t_mkdtemp();
    m = NULL;
}

static void teardown(void)
{
    tf_model_free(m);
    t_rmdir(dir);
    t_env_free(env);
}

static void text(const char *name, const char *content)
{
    t_write_file(dir, name, content, strlen(content));
}

/* A safetensors file of one-byte tensors whose names are the letters of `names`; the byte is the letter. */
static void weights(const char *file, const char *names)
{
    char header[1024];
    uint8_t bytes[2048];
    int len = sprintf(header, "{");
    for (int i = 0; names[i]; i++)
        len += sprintf(header + len, "%s\"%c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", names[i], i, i + 1);
    len += sprintf(header + len, "}");
    uint64_t n = (uint64_t)len;
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    memcpy(bytes + 8 + n, names, strlen(names));
    t_write_file(dir, file, bytes, 8 + n + strlen(names));
}

static const char *at(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static tfuse_status try_open(const char *path, uint32_t flags)
{
    tf_model_free(m);
    m = NULL;
    return tf_model_open(env, path, flags, &m);
}

START_TEST(single_directory)
{
    text("config.json", "{\"model_type\":\"vit\"}");
    weights("model.safetensors", "cab");
    t_ok(env, try_open(dir, 0));
    ck_assert_uint_eq(m->count, 3);
    ck_assert(m->sealed);
    ck_assert_str_eq(m->tensors[0].name, "a");
    ck_assert_uint_eq(m->tensors[0].data[0], 'a');
    ck_assert_str_eq(m->config_text, "{\"model_type\":\"vit\"}");
    ck_assert_str_eq(m->path, dir);
    ck_assert_str_eq(tf_tensor_file(m, &m->tensors[0]), at("model.safetensors"));
    char slash[4096];
    snprintf(slash, sizeof slash, "%s/", dir);
    t_ok(env, try_open(slash, TFUSE_OPEN_CONFIG_ONLY));
    ck_assert_uint_eq(m->count, 3); /* weights are taken where they are */
    t_ok(env, try_open(at("model.safetensors"), 0));
    ck_assert_str_eq(m->dir, dir);
    t_fails(env, try_open(dir, 64), TFUSE_EINVAL, "flags");
}
END_TEST

START_TEST(config_alone)
{
    text("config.json", "{\"a\":1}");
    t_ok(env, try_open(dir, TFUSE_OPEN_CONFIG_ONLY));
    ck_assert_uint_eq(m->count, 0);
    t_ok(env, try_open(at("config.json"), TFUSE_OPEN_CONFIG_ONLY));
    int64_t n;
    t_fails(env, tf_config_int(env, m, "b", 0, 1, &n), TFUSE_EFORMAT, at("config.json"));
    t_fails(env, try_open(at("config.json"), 0), TFUSE_EFORMAT, "no weights");
    t_fails(env, try_open(dir, 0), TFUSE_ENOTFOUND, "neither model.safetensors nor");
    t_ok(env, try_open(dir, TFUSE_OPEN_CONFIG_ONLY));
    t_fails(env, tf_config_int(env, m, "b", 0, 1, &n), TFUSE_EFORMAT, at("config.json"));
    text("config.json", "{\"a\":1,\"a\":2}");
    t_fails(env, try_open(dir, TFUSE_OPEN_CONFIG_ONLY), TFUSE_EFORMAT, "config.json");
}
END_TEST

START_TEST(none_of_these)
{
    t_fails(env, try_open(at("missing"), 0), TFUSE_ENOTFOUND, "missing: cannot open");
    t_fails(env, try_open(at("missing.safetensors"), 0), TFUSE_ENOTFOUND, "cannot open");
    t_fails(env, try_open("", 0), TFUSE_ENOTFOUND, "cannot open");
    t_fails(env, try_open(dir, 0), TFUSE_ENOTFOUND, "no config.json");
    weights("model.safetensors", "a");
    t_fails(env, try_open(at("model.safetensors"), 0), TFUSE_ENOTFOUND, "no config.json");
    text("config.json", "{}");
    text("notes.txt", "x");
    t_fails(env, try_open(at("notes.txt"), 0), TFUSE_EFORMAT, "neither a checkpoint directory nor");
    text("pytorch_model.bin", "x");
    t_fails(env, try_open(at("pytorch_model.bin"), 0), TFUSE_EFORMAT, "convert them to safetensors");
    remove(at("model.safetensors"));
    t_fails(env, try_open(dir, 0), TFUSE_EFORMAT, "pickle");
    t_write_file(dir, "model.safetensors", "", 0);
    t_fails(env, try_open(dir, 0), TFUSE_EFORMAT, "0 bytes");
}
END_TEST

static void shards(const char *map)
{
    char index[1024];
    snprintf(index, sizeof index, "{\"metadata\":{\"total_size\":4},\"weight_map\":%s}", map);
    text("model.safetensors.index.json", index);
}

START_TEST(sharded)
{
    text("config.json", "{}");
    weights("m-2.safetensors", "bd");
    weights("m-1.safetensors", "ac");
    shards("{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\",\"d\":\"m-2.safetensors\"}");
    t_ok(env, try_open(dir, 0));
    ck_assert_uint_eq(m->count, 4);
    ck_assert_uint_eq(m->n_files, 2);
    for (size_t i = 0; i < 4; i++)
        ck_assert_uint_eq(m->tensors[i].data[0], (unsigned)('a' + (int)i));
    ck_assert_str_eq(tf_tensor_file(m, tf_model_find(m, "d")), at("m-2.safetensors"));
    t_fails(env, try_open(at("model.safetensors.index.json"), 0), TFUSE_EFORMAT, "give the directory");
}
END_TEST

START_TEST(shards_that_disagree)
{
    static const struct {
        const char *map, *piece;
    } bad[] = {
        {"{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-2.safetensors\",\"d\":\"m-2.safetensors\"}", "'c': is not in 'm-2"},
        {"{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"}", "'d': is in"},
        {"{\"a\":\"m-1.safetensors\",\"c\":\"m-1.safetensors\",\"x\":\"m-1.safetensors\"}", "'x': is not in"},
        {"{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}", "m-3.safetensors"},
        {"{\"a\":\"m-1.safetensors\",\"b\":\"dup.safetensors\"}", "'a': is in"},
        {"{\"a\":\"../m-1.safetensors\"}", "plain name"},
        {"{\"a\":\"sub/m-1.safetensors\"}", "plain name"},
        {"{\"a\":\"sub\\\\m-1.safetensors\"}", "plain name"},
        {"{\"a\":\".hidden.safetensors\"}", "plain name"},
        {"{\"a\":\".safetensors\"}", "plain name"},
        {"{\"a\":\"pytorch_model-1.bin\"}", "plain name"},
        {"{\"a\":\"\"}", "plain name"},
        {"{\"a\":1}", "plain name"},
        {"{\"a\":\"m-1.safetensors\",\"a\":\"m-1.safetensors\"}", "duplicate"},
        {"{}", "weight_map"},
        {"[]", "weight_map"},
    };
    text("config.json", "{}");
    weights("m-1.safetensors", "ac");
    weights("m-2.safetensors", "bd");
    weights("dup.safetensors", "ab");
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        shards(bad[i].map);
        tfuse_status status = try_open(dir, 0);
        ck_assert_msg(status == TFUSE_EFORMAT || status == TFUSE_ENOTFOUND, "%s gave %d", bad[i].map, (int)status);
        ck_assert_msg(strstr(env->error, bad[i].piece), "%s: no '%s' in: %s", bad[i].map, bad[i].piece, env->error);
    }
    text("model.safetensors.index.json", "{}");
    t_fails(env, try_open(dir, 0), TFUSE_EFORMAT, "weight_map");
    text("model.safetensors.index.json", "{");
    t_fails(env, try_open(dir, 0), TFUSE_EFORMAT, "index.json");
}
END_TEST

START_TEST(directories_in_odd_places)
{
    text("config.json", "{}");
    ck_assert_int_eq(mkdir(at("x.safetensors"), 0777), 0);
    t_fails(env, try_open(at("x.safetensors"), 0), TFUSE_ENOTFOUND, "no config.json");
    ck_assert_int_eq(mkdir(at("model.safetensors"), 0777), 0);
    t_fails(env, try_open(dir, 0), TFUSE_ENOTFOUND, "neither");
}
END_TEST

/* Fingerprints are kept for as long as the file is the same: taken again from nothing but its size and time when it is, and from its bytes when it is not. */
START_TEST(fingerprints_of_files)
{
    char h[17], first[17], again[17];
    text("config.json", "{}");
    weights("model.safetensors", "cab");
    t_ok(env, try_open(dir, 0));
    t_ok(env, tf_model_hash(env, m, h, first));
    atomic_store(&env->cancelled, 1); /* reading would be noticed */
    t_ok(env, tf_model_hash(env, m, h, again));
    atomic_store(&env->cancelled, 0);
    ck_assert_str_eq(first, again);
    FILE *f = fopen(at("model.safetensors"), "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, -1, SEEK_END), 0);
    ck_assert_int_eq(fputc('z', f), 'z');
    ck_assert_int_eq(fclose(f), 0);
    const struct timespec later[2] = {{2000000000, 0}, {2000000000, 0}}; /* clocks of file systems are coarse */
    ck_assert_int_eq(utimensat(AT_FDCWD, at("model.safetensors"), later, 0), 0);
    t_ok(env, tf_model_hash(env, m, h, again));
    ck_assert_str_ne(first, again);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("checkpoint");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(single_directory);
    T_ADD(config_alone);
    T_ADD(none_of_these);
    T_ADD(sharded);
    T_ADD(shards_that_disagree);
    T_ADD(directories_in_odd_places);
    T_ADD(fingerprints_of_files);
    return t_suite;
}
