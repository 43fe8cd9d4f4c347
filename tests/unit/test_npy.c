/* SPDX-License-Identifier: Apache-2.0
 *
 * .npy arrays: types, orders, versions, hostile headers, and writing.
 */
#include "hostile.h"
#include "io/io.h"
#include <stdio.h>
#include <string.h>

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
    tfuse_status status = tf_npy_parse(e, "x.npy", &(tf_blob){data, 0, size, -1}, &a);
    ck_assert_int_eq(status == TFUSE_OK, a != NULL);
    tf_array_free(a);
    return status;
}

/* A file of format `version` with this literal and data. */
static size_t make(uint8_t *file, int version, const char *literal, const void *data, size_t size)
{
    size_t len = strlen(literal), start = version == 1 ? 10 : 12;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)version;
    memset(file + 7, 0, 5);
    file[8] = (uint8_t)len;
    file[9] = (uint8_t)(len >> 8);
    memcpy(file + start, literal, len);
    if (size)
        memcpy(file + start + len, data, size);
    return start + len + size;
}

static tfuse_array *read_ok(int version, const char *literal, const void *data, size_t size)
{
    uint8_t file[1024];
    tfuse_array *a = NULL;
    size_t n = make(file, version, literal, data, size);
    t_ok(env, tf_npy_parse(env, "x.npy", &(tf_blob){file, 0, n, -1}, &a));
    return a;
}

START_TEST(types)
{
    static const struct {
        const char *code;
        tfuse_dtype dtype;
        size_t size;
    } rows[] = {{"<f2", TFUSE_F16, 2}, {"<f4", TFUSE_F32, 4}, {"<f8", TFUSE_F64, 8}, {"|i1", TFUSE_I8, 1},  {"<i2", TFUSE_I16, 2},
                {"<i4", TFUSE_I32, 4}, {"<i8", TFUSE_I64, 8}, {"|u1", TFUSE_U8, 1},  {"<u2", TFUSE_U16, 2}, {"<u4", TFUSE_U32, 4},
                {"<u8", TFUSE_U64, 8}, {"|b1", TFUSE_BOOL, 1}, {"=f4", TFUSE_F32, 4}};
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    char literal[100];
    for (size_t i = 0; i < TF_LEN(rows); i++) {
        snprintf(literal, sizeof literal, "{'descr': '%s', 'fortran_order': False, 'shape': (), }\n", rows[i].code);
        tfuse_array *a = read_ok(1, literal, bytes, rows[i].size);
        ck_assert_int_eq(a->dtype, rows[i].dtype);
        ck_assert_mem_eq(a->data, bytes, rows[i].size);
        tf_array_free(a);
        if (rows[i].code[0] != '<')
            continue;
        snprintf(literal, sizeof literal, "{'descr': '>%s', 'fortran_order': False, 'shape': (1,), }\n", rows[i].code + 1);
        a = read_ok(2, literal, bytes, rows[i].size);
        for (size_t b = 0; b < rows[i].size; b++)
            ck_assert_uint_eq(((uint8_t *)a->data)[b], bytes[rows[i].size - 1 - b]);
        tf_array_free(a);
    }
}
END_TEST

START_TEST(orders)
{
    /* numpy: asfortranarray(arange(24).reshape(2, 3, 4)) has this memory */
    uint8_t data[24];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++)
                data[i + 2 * (j + 3 * k)] = (uint8_t)(12 * i + 4 * j + k);
    tfuse_array *a = read_ok(3, "{'shape':(2,3,4),'fortran_order':True,\"descr\":\"|u1\"}", data, 24);
    ck_assert_uint_eq(a->rank, 3);
    for (uint8_t i = 0; i < 24; i++)
        ck_assert_uint_eq(((uint8_t *)a->data)[i], i);
    tf_array_free(a);
    const int16_t big[4] = {0x0100, 0x0200, 0x0300, 0x0400};
    a = read_ok(1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2), }", big, 8);
    const int16_t want[4] = {1, 3, 2, 4};
    ck_assert_mem_eq(a->data, want, 8);
    tf_array_free(a);
    a = read_ok(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 0), }", NULL, 0);
    ck_assert_uint_eq(a->count, 0);
    tf_array_free(a);
}
END_TEST

#define LITERAL(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"

START_TEST(refused)
{
    static const struct {
        const char *literal;
        tfuse_status status;
    } bad[] = {
        {LITERAL("'|O'", "False", "(4,)"), TFUSE_EDTYPE},
        {LITERAL("'<U4'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'|V4'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'|f4'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'f4'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("''", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'<c8'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'<f4x'", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("[('a', '<f4')]", "False", "(1,)"), TFUSE_EDTYPE},
        {LITERAL("'<f4'", "false", "(1,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "0", "(1,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(1)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "[1]"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(-1,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(1,,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(1.0,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(0x1,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(99999999999999999999,)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(4611686018427387904,4)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(0,4611686018427387904,4)"), TFUSE_EFORMAT},
        {LITERAL("'<f4'", "False", "(2,)"), TFUSE_ECORRUPT},
        {LITERAL("'<f4'", "False", "(0,)"), TFUSE_ECORRUPT},
        {LITERAL("'<f4'", "False", "(1099511627776,)"), TFUSE_ECORRUPT},
        {"{'descr': '<f4', 'fortran_order': False}", TFUSE_EFORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,)}", TFUSE_EFORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", TFUSE_EFORMAT},
        {"{'descr': '<f4', 'fortran_order': False 'shape': (1,)}", TFUSE_EFORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", TFUSE_EFORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,),,}", TFUSE_EFORMAT},
        {"{'descr': '<f4", TFUSE_EFORMAT},
        {"__import__('os')", TFUSE_EFORMAT},
        {"", TFUSE_EFORMAT},
    };
    uint8_t file[1024];
    const float one = 1;
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        size_t n = make(file, 1, bad[i].literal, &one, 4);
        tfuse_status got = parse(env, file, n);
        ck_assert_msg(got == bad[i].status, "%s gave %d (%s)", bad[i].literal, (int)got, env->error);
        ck_assert_msg(strstr(env->error, "x.npy"), "no label: %s", env->error);
    }
    size_t n = make(file, 1, LITERAL("'<f4'", "False", "(1,)"), &one, 4);
    file[6] = 4;
    t_fails(env, parse(env, file, n), TFUSE_EVERSION, "version 4");
    file[6] = 0;
    t_fails(env, parse(env, file, n), TFUSE_EVERSION, "version 0");
}
END_TEST

START_TEST(damage)
{
    uint8_t file[256];
    const float x[3] = {1, 2, 3};
    for (int version = 1; version <= 2; version++) {
        size_t n = make(file, version, LITERAL("'<f4'", "False", "(3,)"), x, 12);
        hostile_truncate(env, parse, file, n);
        ck_assert_uint_gt(hostile_flip(env, parse, file, n), 4 * 12 - 1); /* the data have no checksum */
        file[n] = 0;
        t_fails(env, parse(env, file, n + 1), TFUSE_ECORRUPT, "12 bytes of data, but there are 13");
    }
}
END_TEST

static const char *at(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

START_TEST(saved)
{
    /* numpy.save of int16 [0, 1, 2] */
    static const char want[] = "\x93NUMPY\x01\x00v\x00{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }"
                               "                                                            \n\x00\x00\x01\x00\x02";
    const int16_t x[3] = {0, 1, 2};
    const int64_t three[] = {3}, shape[] = {1, 3};
    tfuse_array *a, *b;
    tf_buf text;
    t_ok(env, tf_array_wrap(env, TFUSE_I16, 1, three, x, NULL, NULL, &a));
    t_ok(env, tf_array_save(env, a, at("a.npy")));
    t_ok(env, tf_read_file(env, at("a.npy"), 1000, &text));
    ck_assert_uint_eq(text.len, sizeof want);
    ck_assert_mem_eq(text.data, want, sizeof want);
    tf_buf_free(&text);
    tf_array_free(a);
    t_ok(env, tf_array_wrap(env, TFUSE_I16, 2, shape, x, NULL, NULL, &a));
    t_ok(env, tf_array_save(env, a, at("a.npy"))); /* replaces */
    t_ok(env, tf_array_open(env, at("a.npy"), &b));
    ck_assert_uint_eq(b->rank, 2);
    ck_assert_int_eq(b->shape[1], 3);
    ck_assert_mem_eq(b->data, x, sizeof x);
    tf_array_free(b);
    t_fails(env, tf_array_save(env, a, at("none/a.npy")), TFUSE_EIO, "none");
    tf_array_free(a);
    t_ok(env, tf_array_new(env, TFUSE_F64, 0, NULL, &a));
    t_ok(env, tf_array_save(env, a, at("s.npy")));
    t_ok(env, tf_array_open(env, at("s.npy"), &b));
    ck_assert_uint_eq(b->rank, 0);
    tf_array_free(b);
    tf_array_free(a);
    t_ok(env, tf_array_new(env, TFUSE_BF16, 1, three, &a));
    t_fails(env, tf_array_save(env, a, at("b.npy")), TFUSE_EDTYPE, "BF16");
    tf_array_free(a);
    ck_assert(!tf_is_file(at("b.npy")));
}
END_TEST

START_TEST(not_arrays)
{
    tfuse_array *a;
    t_write_file(dir, "text", "hello", 5);
    t_write_file(dir, "empty", "", 0);
    t_fails(env, tf_array_open(env, at("text"), &a), TFUSE_EFORMAT, "none of .npy, .npz and IDX");
    t_fails(env, tf_array_open(env, at("empty"), &a), TFUSE_EFORMAT, "none of");
    t_fails(env, tf_array_open(env, at("none"), &a), TFUSE_ENOTFOUND, "none");
    t_fails(env, tf_array_open(env, dir, &a), TFUSE_EIO, "directory");
    t_fails(env, tf_array_open(env, "", &a), TFUSE_ENOTFOUND, "cannot open");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("npy");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(types);
    T_ADD(orders);
    T_ADD(refused);
    T_ADD(damage);
    T_ADD(saved);
    T_ADD(not_arrays);
    return t_suite;
}
