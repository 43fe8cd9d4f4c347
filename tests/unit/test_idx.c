/* SPDX-License-Identifier: Apache-2.0
 *
 * IDX arrays, plain and gzipped, and bombs.
 */
#include "hostile.h"
#include "io/io.h"
#include <stdio.h>
#include <string.h>
#include <zlib.h>

static tf_env *env;
static char *dir;

static void setup(void)
{
    env = t_env(1);
    dir = t_mkdtemp();
}

static void teardown(void)
{
    t_rmdir(dir);
    t_env_free(env);
}

static tfuse_status parse(tf_env *e, const uint8_t *data, uint64_t size)
{
    tfuse_array *a;
    tfuse_status status = tf_idx_parse(e, "x-idx", &(tf_blob){data, 0, size, -1}, &a);
    ck_assert_int_eq(status == TFUSE_OK, a != NULL);
    tf_array_free(a);
    return status;
}

/* Through a file, as gzip's reader is reached that way. */
static tfuse_status parse_file(tf_env *e, const uint8_t *data, uint64_t size)
{
    char path[4200];
    tfuse_array *a;
    t_write_file(dir, "x.gz", data, size);
    snprintf(path, sizeof path, "%s/x.gz", dir);
    tfuse_status status = tf_array_open(e, path, &a);
    ck_assert_int_eq(status == TFUSE_OK, a != NULL);
    tf_array_free(a);
    return status;
}

static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40};

static size_t gzip(const void *data, size_t size, uint8_t *out, size_t cap)
{
    z_stream z = {0};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t len = cap - z.avail_out;
    deflateEnd(&z);
    return len;
}

START_TEST(types)
{
    static const uint8_t bytes[8] = {0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18}; /* pi, big-endian */
    static const struct {
        uint8_t code, size;
        tfuse_dtype dtype;
    } rows[] = {{0x08, 1, TFUSE_U8}, {0x09, 1, TFUSE_I8}, {0x0B, 2, TFUSE_I16}, {0x0C, 4, TFUSE_I32}, {0x0D, 4, TFUSE_F32}, {0x0E, 8, TFUSE_F64}};
    for (size_t i = 0; i < TF_LEN(rows); i++) {
        uint8_t file[16] = {0, 0, rows[i].code, 1, 0, 0, 0, 1};
        tfuse_array *a;
        memcpy(file + 8, bytes, rows[i].size);
        t_ok(env, tf_idx_parse(env, "x", &(tf_blob){file, 0, 8u + rows[i].size, -1}, &a));
        ck_assert_int_eq(a->dtype, rows[i].dtype);
        for (size_t b = 0; b < rows[i].size; b++)
            ck_assert_uint_eq(((uint8_t *)a->data)[b], bytes[rows[i].size - 1 - b]);
        tf_array_free(a);
    }
}
END_TEST

START_TEST(shape)
{
    tfuse_array *a;
    t_ok(env, tf_idx_parse(env, "x", &(tf_blob){images, 0, sizeof images, -1}, &a));
    ck_assert_uint_eq(a->rank, 3);
    ck_assert_int_eq(a->shape[0], 2);
    ck_assert_int_eq(a->shape[2], 2);
    ck_assert_uint_eq(((uint8_t *)a->data)[3], 40);
    tf_array_free(a);
}
END_TEST

START_TEST(damage)
{
    static const uint8_t huge[] = {0, 0, 14, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0};
    static const uint8_t no_rank[] = {0, 0, 8, 0, 1}, rank_nine[] = {0, 0, 8, 9, 0, 0, 0, 1}, type[] = {0, 0, 10, 1, 0, 0, 0, 1, 1};
    uint8_t longer[sizeof images + 1] = {0};
    hostile_truncate(env, parse, images, sizeof images);
    hostile_flip(env, parse, images, sizeof images);
    memcpy(longer, images, sizeof images);
    t_fails(env, parse(env, longer, sizeof longer), TFUSE_ECORRUPT, "promises 20 bytes in all, but there are 21");
    t_fails(env, parse(env, huge, sizeof huge), TFUSE_EFORMAT, "too large");
    t_fails(env, parse(env, no_rank, sizeof no_rank), TFUSE_EFORMAT, "0 dimensions");
    t_fails(env, parse(env, rank_nine, sizeof rank_nine), TFUSE_EFORMAT, "9 dimensions");
    t_fails(env, parse(env, type, sizeof type), TFUSE_EFORMAT, "not an IDX");
}
END_TEST

START_TEST(gzipped)
{
    uint8_t packed[128];
    size_t n = gzip(images, sizeof images, packed, sizeof packed);
    hostile_truncate(env, parse_file, packed, n);
    hostile_flip(env, parse_file, packed, n);
    t_fails(env, parse_file(env, packed, n - 1), TFUSE_ECORRUPT, "truncated");
    packed[n - 5] ^= 1; /* the CRC */
    t_fails(env, parse_file(env, packed, n), TFUSE_ECORRUPT, "damaged");
    packed[n - 5] ^= 1;
    packed[n] = 'x';
    t_fails(env, parse_file(env, packed, n + 1), TFUSE_ECORRUPT, "x.gz");
    n = gzip("hello", 5, packed, sizeof packed);
    t_fails(env, parse_file(env, packed, n), TFUSE_EFORMAT, "not an IDX");
    /* two members, as of concatenated files */
    n = gzip(images, 7, packed, sizeof packed);
    n += gzip(images + 7, sizeof images - 7, packed + n, sizeof packed - n);
    t_fails(env, parse_file(env, packed, n), TFUSE_ECORRUPT, "header is truncated");
}
END_TEST

START_TEST(members)
{
    enum { N = 100 };
    uint8_t plain[16 + N], packed[512];
    memset(plain, 7, sizeof plain);
    memcpy(plain, (const uint8_t[]){0, 0, 8, 1, 0, 0, 0, N + 8}, 8);
    size_t n = gzip(plain, 60, packed, sizeof packed);
    n += gzip(plain + 60, sizeof plain - 60, packed + n, sizeof packed - n);
    t_ok(env, parse_file(env, packed, n));
}
END_TEST

START_TEST(bombs)
{
    enum { N = 8 << 20 };
    static uint8_t plain[N], packed[N / 100];
    /* the header promises little, the stream holds much */
    memcpy(plain, images, 16);
    size_t n = gzip(plain, N, packed, sizeof packed);
    t_fails(env, parse_file(env, packed, n), TFUSE_ECORRUPT, "more than the 20 bytes");
    /* the header promises what no stream of this size can hold */
    memcpy(plain, (const uint8_t[]){0, 0, 8, 2, 0, 255, 255, 255, 0, 255, 255, 255}, 12);
    n = gzip(plain, 100, packed, sizeof packed);
    t_fails(env, parse_file(env, packed, n), TFUSE_ECORRUPT, "more than a file of this size can hold");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("idx");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(types);
    T_ADD(shape);
    T_ADD(damage);
    T_ADD(gzipped);
    T_ADD(members);
    T_ADD(bombs);
    return t_suite;
}
