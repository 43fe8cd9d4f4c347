/* SPDX-License-Identifier: Apache-2.0
 *
 * .npz archives. The two embedded ones were written by NumPy 2.4: savez(a=int16 [1, 2, 3], T/00/w=float32 [0.5, -2]) and
 * savez_compressed(only=float32 zeros of shape [100]).
 */
#include "hostile.h"
#include "io/io.h"
#include <stdio.h>
#include <string.h>

static const uint8_t stored_npz[] = {
    80, 75, 3, 4, 45, 0, 0, 0, 0, 0, 0, 0, 33, 0, 96, 130, 0, 145, 255, 255, 255, 255, 255, 255,
    255, 255, 5, 0, 20, 0, 97, 46, 110, 112, 121, 1, 0, 16, 0, 134, 0, 0, 0, 0, 0, 0, 0, 134, 0, 0,
    0, 0, 0, 0, 0, 147, 78, 85, 77, 80, 89, 1, 0, 118, 0, 123, 39, 100, 101, 115, 99, 114, 39, 58,
    32, 39, 60, 105, 50, 39, 44, 32, 39, 102, 111, 114, 116, 114, 97, 110, 95, 111, 114, 100, 101,
    114, 39, 58, 32, 70, 97, 108, 115, 101, 44, 32, 39, 115, 104, 97, 112, 101, 39, 58, 32, 40, 51,
    44, 41, 44, 32, 125, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32,
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32,
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 10, 1, 0, 2, 0, 3, 0, 80,
    75, 3, 4, 45, 0, 0, 0, 0, 0, 0, 0, 33, 0, 98, 93, 163, 20, 255, 255, 255, 255, 255, 255, 255,
    255, 10, 0, 20, 0, 84, 47, 48, 48, 47, 119, 46, 110, 112, 121, 1, 0, 16, 0, 136, 0, 0, 0, 0, 0,
    0, 0, 136, 0, 0, 0, 0, 0, 0, 0, 147, 78, 85, 77, 80, 89, 1, 0, 118, 0, 123, 39, 100, 101, 115,
    99, 114, 39, 58, 32, 39, 60, 102, 52, 39, 44, 32, 39, 102, 111, 114, 116, 114, 97, 110, 95, 111,
    114, 100, 101, 114, 39, 58, 32, 70, 97, 108, 115, 101, 44, 32, 39, 115, 104, 97, 112, 101, 39,
    58, 32, 40, 50, 44, 41, 44, 32, 125, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32,
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32,
    32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 10, 0, 0, 0,
    63, 0, 0, 0, 192, 80, 75, 1, 2, 45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 33, 0, 96, 130, 0, 145, 134, 0,
    0, 0, 134, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 1, 0, 0, 0, 0, 97, 46, 110, 112,
    121, 80, 75, 1, 2, 45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 33, 0, 98, 93, 163, 20, 136, 0, 0, 0, 136, 0,
    0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 1, 189, 0, 0, 0, 84, 47, 48, 48, 47, 119, 46,
    110, 112, 121, 80, 75, 5, 6, 0, 0, 0, 0, 2, 0, 2, 0, 107, 0, 0, 0, 129, 1, 0, 0, 0, 0,
};
static const uint8_t deflated_npz[] = {
    80, 75, 3, 4, 45, 0, 0, 0, 8, 0, 0, 0, 33, 0, 239, 185, 125, 27, 255, 255, 255, 255, 255, 255,
    255, 255, 8, 0, 20, 0, 111, 110, 108, 121, 46, 110, 112, 121, 1, 0, 16, 0, 16, 2, 0, 0, 0, 0, 0,
    0, 75, 0, 0, 0, 0, 0, 0, 0, 155, 236, 23, 234, 27, 16, 201, 200, 80, 198, 80, 173, 158, 146, 90,
    156, 92, 164, 110, 165, 160, 110, 147, 102, 162, 174, 163, 160, 158, 150, 95, 84, 82, 148, 152,
    23, 159, 95, 148, 146, 10, 18, 119, 75, 204, 41, 78, 5, 138, 23, 103, 36, 22, 164, 2, 249, 26,
    134, 6, 6, 58, 154, 58, 10, 181, 10, 100, 3, 46, 134, 81, 48, 168, 0, 0, 80, 75, 1, 2, 45, 3,
    45, 0, 0, 0, 8, 0, 0, 0, 33, 0, 239, 185, 125, 27, 75, 0, 0, 0, 16, 2, 0, 0, 8, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 128, 1, 0, 0, 0, 0, 111, 110, 108, 121, 46, 110, 112, 121, 80, 75, 5, 6, 0, 0,
    0, 0, 1, 0, 1, 0, 54, 0, 0, 0, 133, 0, 0, 0, 0, 0,
};

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

static tfuse_status parse_key(tf_env *e, const uint8_t *data, uint64_t size, const char *key)
{
    tfuse_array *a;
    tfuse_status status = tf_npz_parse(e, "x.npz", &(tf_blob){data, 0, size, -1}, key, &a);
    ck_assert_int_eq(status == TFUSE_OK, a != NULL);
    tf_array_free(a);
    return status;
}

static tfuse_status parse_w(tf_env *e, const uint8_t *data, uint64_t size)
{
    return parse_key(e, data, size, "T/00/w");
}

static tfuse_status parse_only(tf_env *e, const uint8_t *data, uint64_t size)
{
    return parse_key(e, data, size, NULL);
}

START_TEST(stored)
{
    tfuse_array *a;
    t_ok(env, tf_npz_parse(env, "x.npz", &(tf_blob){stored_npz, 0, sizeof stored_npz, -1}, "T/00/w", &a));
    ck_assert_int_eq(a->dtype, TFUSE_F32);
    ck_assert_float_eq(((float *)a->data)[1], -2);
    tf_array_free(a);
    t_ok(env, tf_npz_parse(env, "x.npz", &(tf_blob){stored_npz, 0, sizeof stored_npz, -1}, "a.npy", &a));
    ck_assert_int_eq(a->dtype, TFUSE_I16);
    ck_assert_int_eq(((int16_t *)a->data)[2], 3);
    tf_array_free(a);
    t_fails(env, parse_key(env, stored_npz, sizeof stored_npz, "b"), TFUSE_ENOTFOUND, "no array 'b'; it holds a, T/00/w");
    t_fails(env, parse_key(env, stored_npz, sizeof stored_npz, ""), TFUSE_ENOTFOUND, "no array ''");
    t_fails(env, parse_key(env, stored_npz, sizeof stored_npz, NULL), TFUSE_ENOTFOUND, "FILE.npz:KEY; it holds a, T/00/w");
}
END_TEST

START_TEST(deflated)
{
    tfuse_array *a;
    t_ok(env, tf_npz_parse(env, "x.npz", &(tf_blob){deflated_npz, 0, sizeof deflated_npz, -1}, NULL, &a));
    ck_assert_uint_eq(a->count, 100);
    ck_assert_float_eq(((float *)a->data)[99], 0);
    tf_array_free(a);
}
END_TEST

START_TEST(damage)
{
    hostile_truncate(env, parse_w, stored_npz, sizeof stored_npz);
    hostile_truncate(env, parse_only, deflated_npz, sizeof deflated_npz);
    hostile_flip(env, parse_w, stored_npz, sizeof stored_npz);
    hostile_flip(env, parse_only, deflated_npz, sizeof deflated_npz);
}
END_TEST

/* ---- archives made here ----------------------------------------------------------------------- */

typedef struct zip {
    uint8_t bytes[8192];
    size_t len, directory, entries;
    uint8_t listing[4096];
} zip;

static void put(uint8_t *to, size_t *len, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[(*len)++] = (uint8_t)(i < 8 ? value >> (8 * i) : 0);
}

/* A member with everything as stated, true or not. With wide, sizes and offset stand in zip64 fields. */
static void add(zip *z, const char *name, const void *data, size_t size, uint64_t raw, unsigned method, uint32_t crc, bool wide)
{
    size_t name_len = strlen(name), at = z->len, *d = &z->directory;
    put(z->bytes, &z->len, 0x04034b50, 4);
    put(z->bytes, &z->len, 0, 22); /* the directory counts */
    put(z->bytes, &z->len, name_len, 2);
    put(z->bytes, &z->len, 0, 2);
    memcpy(z->bytes + z->len, name, name_len);
    memcpy(z->bytes + z->len + name_len, data, size);
    z->len += name_len + size;
    put(z->listing, d, 0x02014b50, 4);
    put(z->listing, d, 0, 6);
    put(z->listing, d, method, 2);
    put(z->listing, d, 0, 4);
    put(z->listing, d, crc, 4);
    put(z->listing, d, wide ? UINT32_MAX : size, 4);
    put(z->listing, d, wide ? UINT32_MAX : raw, 4);
    put(z->listing, d, name_len, 2);
    put(z->listing, d, wide ? 34 : 0, 2);
    put(z->listing, d, 0, 10);
    put(z->listing, d, wide ? UINT32_MAX : at, 4);
    memcpy(z->listing + *d, name, name_len);
    *d += name_len;
    if (wide) {
        put(z->listing, d, 0x7777, 2); /* another field before it */
        put(z->listing, d, 2, 2);
        put(z->listing, d, 0, 2);
        put(z->listing, d, 1, 2);
        put(z->listing, d, 24, 2);
        put(z->listing, d, raw, 8);
        put(z->listing, d, size, 8);
        put(z->listing, d, at, 8);
    }
    z->entries++;
}

static void finish(zip *z, bool wide, const char *comment)
{
    size_t start = z->len;
    memcpy(z->bytes + z->len, z->listing, z->directory);
    z->len += z->directory;
    if (wide) {
        size_t at = z->len;
        put(z->bytes, &z->len, 0x06064b50, 4);
        put(z->bytes, &z->len, 44, 8);
        put(z->bytes, &z->len, 0, 8);
        put(z->bytes, &z->len, 0, 4);
        put(z->bytes, &z->len, z->entries, 8);
        put(z->bytes, &z->len, z->entries, 8);
        put(z->bytes, &z->len, z->directory, 8);
        put(z->bytes, &z->len, start, 8);
        put(z->bytes, &z->len, 0x07064b50, 4);
        put(z->bytes, &z->len, 0, 4);
        put(z->bytes, &z->len, at, 8);
        put(z->bytes, &z->len, 1, 4);
    }
    put(z->bytes, &z->len, 0x06054b50, 4);
    put(z->bytes, &z->len, 0, 4);
    put(z->bytes, &z->len, wide ? 0xffff : z->entries, 2);
    put(z->bytes, &z->len, wide ? 0xffff : z->entries, 2);
    put(z->bytes, &z->len, wide ? UINT32_MAX : z->directory, 4);
    put(z->bytes, &z->len, wide ? UINT32_MAX : start, 4);
    put(z->bytes, &z->len, strlen(comment), 2);
    memcpy(z->bytes + z->len, comment, strlen(comment));
    z->len += strlen(comment);
}

/* A 1-byte array; its CRC-32 into *crc. */
static size_t tiny(uint8_t npy[128], uint32_t *crc)
{
    static const char header[] = "\x93NUMPY\1\0\x36\0{'descr': '|u1', 'fortran_order': False, 'shape': ()}";
    memset(npy, ' ', 128);
    memcpy(npy, header, sizeof header - 1);
    npy[63] = '\n';
    npy[64] = 42;
    *crc = tf_crc32(npy, 65);
    return 65;
}

START_TEST(zip64_and_comment)
{
    uint8_t npy[128];
    uint32_t crc;
    size_t size = tiny(npy, &crc);
    zip z = {0};
    add(&z, "one.npy", npy, size, size, 0, crc, true);
    add(&z, "two.npy", npy, size, size, 0, crc, true);
    finish(&z, true, "a comment");
    tfuse_array *a;
    t_ok(env, tf_npz_parse(env, "x.npz", &(tf_blob){z.bytes, 0, z.len, -1}, "two", &a));
    ck_assert_uint_eq(((uint8_t *)a->data)[0], 42);
    tf_array_free(a);
}
END_TEST

START_TEST(lies)
{
    uint8_t npy[128];
    uint32_t crc;
    size_t size = tiny(npy, &crc);
    zip z = {0};
    add(&z, "m.npy", npy, size, size, 0, crc ^ 1, false);
    finish(&z, false, "");
    t_fails(env, parse_only(env, z.bytes, z.len), TFUSE_ECORRUPT, "x.npz:m: its checksum");
    z = (zip){0};
    add(&z, "m.npy", npy, size, size + 1, 0, crc, false);
    finish(&z, false, "");
    t_fails(env, parse_only(env, z.bytes, z.len), TFUSE_ECORRUPT, "sizes are impossible");
    z = (zip){0};
    add(&z, "m.npy", npy, size, UINT64_C(1) << 60, 8, crc, true); /* a bomb of an exabyte */
    finish(&z, false, "");
    t_fails(env, parse_only(env, z.bytes, z.len), TFUSE_ECORRUPT, "sizes are impossible");
    z = (zip){0};
    add(&z, "m.npy", npy, size, size, 8, crc, false); /* not a deflate stream */
    finish(&z, false, "");
    ck_assert_int_eq(parse_only(env, z.bytes, z.len), TFUSE_ECORRUPT);
    z = (zip){0};
    add(&z, "m.npy", npy, size, size, 12, crc, false);
    finish(&z, false, "");
    t_fails(env, parse_only(env, z.bytes, z.len), TFUSE_EUNSUPPORTED, "method 12");
    z = (zip){0};
    add(&z, "m.npy", npy, size, size, 0, crc, false);
    add(&z, "m", npy, size, size, 0, crc, false);
    finish(&z, false, "");
    t_fails(env, parse_key(env, z.bytes, z.len, "m"), TFUSE_EFORMAT, "more than one array 'm'");
    z = (zip){0};
    finish(&z, false, "");
    t_fails(env, parse_only(env, z.bytes, z.len), TFUSE_ENOTFOUND, "it holds no array");
    z = (zip){0};
    for (int i = 0; i < 12; i++)
        add(&z, (char[]){(char)('a' + i), 0}, npy, size, size, 0, crc, false);
    finish(&z, false, "");
    t_fails(env, parse_key(env, z.bytes, z.len, "z"), TFUSE_ENOTFOUND, "it holds a, b, c, d, e, f, g, h, i, j, ...");
}
END_TEST

START_TEST(path_and_key)
{
    char path[4200];
    tfuse_array *a;
    t_write_file(dir, "x.npz", stored_npz, sizeof stored_npz);
    snprintf(path, sizeof path, "%s/x.npz:T/00/w", dir);
    t_ok(env, tf_array_open(env, path, &a));
    ck_assert_uint_eq(a->count, 2);
    tf_array_free(a);
    snprintf(path, sizeof path, "%s/x.npz:none", dir);
    t_fails(env, tf_array_open(env, path, &a), TFUSE_ENOTFOUND, "'none'");
    snprintf(path, sizeof path, "%s/y.npz:a", dir);
    t_fails(env, tf_array_open(env, path, &a), TFUSE_ENOTFOUND, "y.npz");
    snprintf(path, sizeof path, "%s/y.npy:a", dir); /* no key: ':' belongs to the name */
    t_write_file(dir, "y.npy:a", stored_npz, sizeof stored_npz);
    t_fails(env, tf_array_open(env, path, &a), TFUSE_ENOTFOUND, "it holds a");
    t_write_file(dir, "z.npz", "no zip", 6);
    snprintf(path, sizeof path, "%s/z.npz:a", dir);
    t_fails(env, tf_array_open(env, path, &a), TFUSE_EFORMAT, "not an .npz");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("npz");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(stored);
    T_ADD(deflated);
    T_ADD(damage);
    T_ADD(zip64_and_comment);
    T_ADD(lies);
    T_ADD(path_and_key);
    return t_suite;
}
