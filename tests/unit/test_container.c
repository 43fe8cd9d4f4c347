/* SPDX-License-Identifier: Apache-2.0
 *
 * The container of plans: written, read back, damaged in every small way.
 */
#include "hostile.h"
#include "io/io.h"
#include <stdio.h>
#include <string.h>

static tf_env *env;
static char *dir;
static char path[4096];

static void setup(void)
{
    env = t_env(1);
    dir = t_mkdtemp();
    snprintf(path, sizeof path, "%s/a.plan", dir);
}

static void teardown(void)
{
    t_rmdir(dir);
    t_env_free(env);
}

static tfuse_status parse(tf_env *e, const uint8_t *data, uint64_t size)
{
    tf_container c;
    tfuse_status status = tf_container_parse(e, "a.plan", &(tf_blob){data, 0, size, -1}, &c);
    ck_assert(status == TFUSE_OK || c.count == 0);
    tf_container_free(&c);
    return status;
}

static const tf_chunk sample[] = {
    {"HEAD", "{\"a\": 1}", 8},
    {"MAPS", "abcabcabcabcabcabcabcabcabcabc", 30},
    {"MAPS", "", 0},
};

/* Succeeds only with the sample's contents, or fails as the parser does. */
static tfuse_status parse_sample(tf_env *e, const uint8_t *data, uint64_t size)
{
    tf_container c;
    tfuse_status status = tf_container_parse(e, "a.plan", &(tf_blob){data, 0, size, -1}, &c);
    ck_assert_uint_eq(c.count, status == TFUSE_OK ? TF_LEN(sample) : 0);
    for (size_t i = 0; i < c.count; i++) {
        ck_assert_str_eq(c.chunks[i].name, sample[i].name);
        ck_assert_uint_eq(c.chunks[i].size, sample[i].size);
        ck_assert(memcmp(c.chunks[i].data, sample[i].data, sample[i].size) == 0);
    }
    tf_container_free(&c);
    return status;
}

static void save_sample(tf_buf *bytes)
{
    t_ok(env, tf_container_save(env, path, sample, TF_LEN(sample)));
    t_ok(env, tf_read_file(env, path, 1 << 20, bytes));
}

START_TEST(round_trip)
{
    tf_container c;
    t_ok(env, tf_container_save(env, path, sample, TF_LEN(sample)));
    t_ok(env, tf_container_load(env, path, &c));
    ck_assert_uint_eq(c.count, 3);
    const tf_chunk *maps = tf_container_find(&c, "MAPS");
    ck_assert_ptr_eq(maps, &c.chunks[1]);
    ck_assert_uint_eq(maps->size, 30);
    ck_assert_mem_eq(maps->data, sample[1].data, 30);
    ck_assert_uint_eq(c.chunks[2].size, 0);
    ck_assert_ptr_null(tf_container_find(&c, "NONE"));
    tf_container_free(&c);
    tf_container_free(&c);
    t_ok(env, tf_container_save(env, path, NULL, 0)); /* replaces */
    t_ok(env, tf_container_load(env, path, &c));
    ck_assert_uint_eq(c.count, 0);
    tf_container_free(&c);
}
END_TEST

START_TEST(large_and_incompressible)
{
    enum { N = 3000001 };
    uint8_t *x = malloc(N);
    uint64_t state = 1;
    tf_container c;
    for (size_t i = 0; i < N; i++)
        x[i] = (uint8_t)((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
    tf_chunk chunks[] = {{"DATA", x, N}, {"ZERO", NULL, N}};
    chunks[1].data = calloc(1, N);
    t_ok(env, tf_container_save(env, path, chunks, 2));
    t_ok(env, tf_container_load(env, path, &c));
    ck_assert_mem_eq(tf_container_find(&c, "DATA")->data, x, N);
    ck_assert_mem_eq(tf_container_find(&c, "ZERO")->data, chunks[1].data, N);
    tf_container_free(&c);
    free((void *)(uintptr_t)chunks[1].data);
    free(x);
}
END_TEST

START_TEST(equal_bytes)
{
    tf_buf a, b;
    save_sample(&a);
    save_sample(&b);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    ck_assert_mem_eq(a.data, "TFUSEPLN\1\0\0\0HEAD", 16);
    tf_buf_free(&a);
    tf_buf_free(&b);
}
END_TEST

START_TEST(damage)
{
    tf_buf bytes;
    save_sample(&bytes);
    const uint8_t *data = (const uint8_t *)bytes.data;
    hostile_truncate(env, parse, data, bytes.len);
    /* only the padding bits behind each deflate stream may change unnoticed: no content with them */
    ck_assert_uint_lt(hostile_flip(env, parse_sample, data, bytes.len), 4 * 4 + 1);
    t_ok(env, tf_buf_add(env, &bytes, "x", 1));
    t_fails(env, parse(env, (const uint8_t *)bytes.data, bytes.len), TFUSE_ECORRUPT, "after the end");
    tf_buf_free(&bytes);
}
END_TEST

/* Changes bytes of the first chunk's header and makes its checksum right again. */
static tfuse_status forge(size_t at, uint64_t value, size_t size)
{
    tf_buf bytes;
    save_sample(&bytes);
    uint8_t *header = (uint8_t *)bytes.data + 12;
    memcpy(header + at, &value, size);
    uint32_t crc = tf_crc32(header, 28);
    memcpy(header + 28, &crc, 4);
    tfuse_status status = parse(env, (const uint8_t *)bytes.data, bytes.len);
    tf_buf_free(&bytes);
    return status;
}

START_TEST(forged_headers)
{
    t_fails(env, forge(4, 1, 4), TFUSE_EVERSION, "flags");
    t_fails(env, forge(8, UINT64_MAX, 8), TFUSE_ECORRUPT, "size");
    t_fails(env, forge(8, UINT64_C(1) << 40, 8), TFUSE_ECORRUPT, "size");
    t_fails(env, forge(8, 9, 8), TFUSE_ECORRUPT, "do not give the 9 bytes");
    t_fails(env, forge(8, 7, 8), TFUSE_ECORRUPT, "do not give the 7 bytes");
    t_fails(env, forge(16, UINT64_MAX, 8), TFUSE_ECORRUPT, "size");
    t_fails(env, forge(16, UINT64_MAX - 43, 8), TFUSE_ECORRUPT, "size");
    t_fails(env, forge(16, 3, 8), TFUSE_ECORRUPT, "truncated");
    t_fails(env, forge(24, 1, 4), TFUSE_ECORRUPT, "checksum of a chunk");
    t_fails(env, forge(0, 0x20202020, 4), TFUSE_ECORRUPT, "name");
    t_fails(env, forge(0, 0x21444e45, 4), TFUSE_ECORRUPT, "number of chunks"); /* END! */
}
END_TEST

START_TEST(other_files)
{
    tf_buf bytes;
    tf_container c;
    save_sample(&bytes);
    bytes.data[8] = 2;
    t_fails(env, parse(env, (const uint8_t *)bytes.data, bytes.len), TFUSE_EVERSION, "version 2 is newer than 1");
    bytes.data[8] = 0;
    t_fails(env, parse(env, (const uint8_t *)bytes.data, bytes.len), TFUSE_ECORRUPT, "version is 0");
    bytes.data[0] = 'X';
    t_fails(env, parse(env, (const uint8_t *)bytes.data, bytes.len), TFUSE_EFORMAT, "not a plan file");
    tf_buf_free(&bytes);
    t_fails(env, tf_container_load(env, dir, &c), TFUSE_EIO, "directory");
    t_fails(env, tf_container_save(env, "/no/such/a.plan", sample, 1), TFUSE_EIO, "/no/such");
    tf_chunk end = {"END!", "", 0}, space = {"A B ", "", 0};
    remove(path);
    t_fails(env, tf_container_save(env, path, &end, 1), TFUSE_EINTERNAL, "END!");
    t_fails(env, tf_container_save(env, path, &space, 1), TFUSE_EINTERNAL, "A B");
    ck_assert(!tf_is_file(path));
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("container");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(round_trip);
    T_ADD(large_and_incompressible);
    T_ADD(equal_bytes);
    T_ADD(damage);
    T_ADD(forged_headers);
    T_ADD(other_files);
    return t_suite;
}
