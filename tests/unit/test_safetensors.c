/* SPDX-License-Identifier: Apache-2.0
 *
 * Headers of safetensors files: what is taken, what is refused, and that damage never passes.
 */
#include "hostile.h"
#include "io/model.h"
#include "num/num.h"
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

/* A file of header and `data` zero bytes in a block of exactly its size. */
static uint8_t *make(const char *header, size_t header_len, size_t data, size_t *size)
{
    uint64_t n = header_len;
    *size = 8 + header_len + data;
    uint8_t *file = calloc(1, *size);
    ck_assert_ptr_nonnull(file);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, header_len);
    return file;
}

static tfuse_status parse(tf_env *e, const uint8_t *data, uint64_t size)
{
    tfuse_model *m;
    t_ok(e, tf_model_new(e, NULL, &m));
    tfuse_status status = tf_safetensors_parse(e, "x.safetensors", &(tf_blob){data, 0, size, -1}, -1, m);
    if (status == TFUSE_OK)
        status = tf_model_seal(e, m);
    for (size_t i = 0; status == TFUSE_OK && i < m->count; i++)
        for (uint64_t b = 0; b < m->tensors[i].size; b++) /* every byte is inside the file */
            ck_assert_uint_le(m->tensors[i].data[b], 255);
    tf_model_free(m);
    return status;
}

static tfuse_status parse_header(const char *header, size_t data)
{
    size_t size;
    uint8_t *file = make(header, strlen(header), data, &size);
    tfuse_status status = parse(env, file, size);
    free(file);
    return status;
}

START_TEST(accepted)
{
    static const struct {
        const char *header;
        size_t data;
    } good[] = {
        {"{}", 0},
        {"  \n\t{}   ", 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        {"{\"__metadata__\":null}", 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0},
        /* out of order, misaligned, a zero-size tensor between, extra fields */
        {"{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]},"
         "\"z\":{\"dtype\":\"F32\",\"shape\":[4,0,2],\"data_offsets\":[1,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":{\"deep\":[{}]}}}", 5},
        {"{\"\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2},
        {"{\"../../etc/x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2},
    };
    for (size_t i = 0; i < TF_LEN(good); i++)
        ck_assert_msg(parse_header(good[i].header, good[i].data) == TFUSE_OK, "%s: %s", good[i].header, env->error);
}
END_TEST

#define ONE(dtype, shape, offsets) "{\"t.w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

START_TEST(refused)
{
    static const struct {
        const char *header;
        size_t data;
        tfuse_status status;
        const char *piece;
    } bad[] = {
        {"", 0, TFUSE_EFORMAT, "x.safetensors"},
        {"   ", 0, TFUSE_EFORMAT, "'{'"},
        {"[]", 0, TFUSE_EFORMAT, "'{'"},
        {"\xEF\xBB\xBF{}", 0, TFUSE_EFORMAT, "'{'"},
        {"{},", 0, TFUSE_EFORMAT, "JSON"},
        {"{}x", 0, TFUSE_EFORMAT, "JSON"},
        {"{\"a\":{},}", 0, TFUSE_EFORMAT, "JSON"},
        {"{}", 1, TFUSE_EFORMAT, "belong to no tensor"},
        {"{\"t.w\":[\"U8\",[1],[0,1]]}", 1, TFUSE_EFORMAT, "t.w"},
        {"{\"t.w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"t.w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "duplicate"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, TFUSE_EFORMAT, "duplicate"},
        {"{\"__metadata__\":{\"k\":1}}", 0, TFUSE_EFORMAT, "'k'"},
        {"{\"__metadata__\":{\"k\":\"v\",\"k\":\"v\"}}", 0, TFUSE_EFORMAT, "duplicate"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, TFUSE_EFORMAT, "duplicate"},
        {"{\"__metadata__\":[]}", 0, TFUSE_EFORMAT, "__metadata__"},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "JSON"},
        {"{\"a\\ud800\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "JSON"},
        {"{\"a\nb\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "JSON"},
        {"{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "JSON"},
        {ONE("\"U8\"", "[1.0]", "[0,1]"), 1, TFUSE_EFORMAT, "t.w"},
        {ONE("\"U8\"", "[1e0]", "[0,1]"), 1, TFUSE_EFORMAT, "t.w"},
        {ONE("\"U8\"", "[-1]", "[0,1]"), 1, TFUSE_EFORMAT, "t.w"},
        {ONE("\"U8\"", "[\"1\"]", "[0,1]"), 1, TFUSE_EFORMAT, "t.w"},
        {ONE("\"U8\"", "[01]", "[0,1]"), 1, TFUSE_EFORMAT, "JSON"},
        {ONE("\"U8\"", "1", "[0,1]"), 1, TFUSE_EFORMAT, "t.w"},
        {ONE("\"U8\"", "[99999999999999999999]", "[0,1]"), 1, TFUSE_EFORMAT, "integer"},
        {ONE("\"U8\"", "[1152921504606846976,1152921504606846976]", "[0,1]"), 1, TFUSE_EFORMAT, "too large"},
        {ONE("\"U8\"", "[0,9223372036854775807,2]", "[0,0]"), 0, TFUSE_EFORMAT, "too large"},
        {ONE("\"F32\"", "[1152921504606846976]", "[0,0]"), 0, TFUSE_EFORMAT, "offsets span 0"},
        {ONE("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, TFUSE_EFORMAT, "dimensions"},
        {ONE("\"U8\"", "[1]", "[0]"), 1, TFUSE_EFORMAT, "data_offsets"},
        {ONE("\"U8\"", "[1]", "[0,1,2]"), 1, TFUSE_EFORMAT, "data_offsets"},
        {ONE("\"U8\"", "[1]", "[0,1.0]"), 1, TFUSE_EFORMAT, "data_offsets"},
        {ONE("\"U8\"", "[1]", "[-1,0]"), 1, TFUSE_EFORMAT, "data_offsets"},
        {ONE("\"U8\"", "[1]", "[1,0]"), 1, TFUSE_EFORMAT, "end before"},
        {ONE("\"U8\"", "[1]", "[1,2]"), 2, TFUSE_EFORMAT, "hole"},
        {ONE("\"U8\"", "[2]", "[0,2]"), 1, TFUSE_EFORMAT, "truncated"},
        {ONE("\"U8\"", "[2]", "[0,2]"), 3, TFUSE_EFORMAT, "belong to no tensor"},
        {ONE("\"F32\"", "[2]", "[0,4]"), 4, TFUSE_EFORMAT, "takes 8 bytes"},
        {ONE("\"F8_E4M3\"", "[1]", "[0,1]"), 1, TFUSE_EDTYPE, "F8_E4M3"},
        {ONE("\"f32\"", "[1]", "[0,4]"), 4, TFUSE_EDTYPE, "t.w"},
        {ONE("\"\"", "[1]", "[0,4]"), 4, TFUSE_EDTYPE, "t.w"},
        {ONE("7", "[1]", "[0,4]"), 4, TFUSE_EFORMAT, "dtype"},
        {"{\"t.w\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "dtype"},
        {"{\"t.w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "shape"},
        {"{\"t.w\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, TFUSE_EFORMAT, "data_offsets"},
        {"{\"t.w\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TFUSE_EFORMAT, "duplicate"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, TFUSE_EFORMAT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, TFUSE_EFORMAT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, TFUSE_EFORMAT, "overlap"},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        tfuse_status got = parse_header(bad[i].header, bad[i].data);
        ck_assert_msg(got == bad[i].status, "%s gave %d (%s)", bad[i].header, (int)got, env->error);
        ck_assert_msg(strstr(env->error, bad[i].piece), "%s: no '%s' in: %s", bad[i].header, bad[i].piece, env->error);
        ck_assert_msg(strstr(env->error, "x.safetensors"), "no file in: %s", env->error);
    }
}
END_TEST

START_TEST(refused_lengths)
{
    size_t size;
    uint8_t *file = make("{}\0\0\0\0\0", 8, 0, &size); /* NUL padding */
    t_fails(env, parse(env, file, size), TFUSE_EFORMAT, "JSON");
    static const uint64_t lengths[] = {0, 9, 100000001, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
    for (size_t i = 0; i < TF_LEN(lengths); i++) {
        memcpy(file, &lengths[i], 8);
        ck_assert_int_eq(parse(env, file, size), TFUSE_EFORMAT);
    }
    free(file);
}
END_TEST

START_TEST(deep_nesting)
{
    enum { DEPTH = 100000 };
    char *header = malloc(2 * DEPTH + 64);
    ck_assert_ptr_nonnull(header);
    int n = sprintf(header, "{\"a\":");
    memset(header + n, '[', DEPTH);
    memset(header + n + DEPTH, ']', DEPTH);
    strcpy(header + n + 2 * DEPTH, "}");
    ck_assert_int_eq(parse_header(header, 0), TFUSE_EFORMAT);
    free(header);
}
END_TEST

static const char sample[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
    "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[16,22]}}";

START_TEST(damage)
{
    size_t size;
    uint8_t *file = make(sample, strlen(sample), 22, &size);
    hostile_truncate(env, parse, file, size);
    hostile_flip(env, parse, file, size);
    free(file);
}
END_TEST

START_TEST(values)
{
    static const char header[] = "{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                 "\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}";
    const float want[2] = {1.5f, -3};
    float got[2], bad[2] = {1, 0};
    size_t size;
    uint8_t *file = make(header, strlen(header), 9, &size);
    memcpy(file + size - 8, want, 8); /* at an odd offset */
    tfuse_model *m;
    t_ok(env, tf_model_new(env, NULL, &m));
    t_ok(env, tf_safetensors_parse(env, "x", &(tf_blob){file, 0, size, -1}, -1, m));
    t_ok(env, tf_model_seal(env, m));
    const tf_tensor *t = tf_model_find(m, "f");
    ck_assert_ptr_nonnull(t);
    ck_assert_uint_eq(t->count, 2);
    t_ok(env, tf_tensor_read(env, m, t, got));
    ck_assert_mem_eq(got, want, sizeof want);
    ck_assert_ptr_null(tf_model_find(m, "g"));
    uint32_t nan_bits = 0x7fc00000;
    memcpy(&bad[1], &nan_bits, 4);
    memcpy(file + size - 8, bad, 8);
    t_fails(env, tf_tensor_read(env, m, t, got), TFUSE_ENUMERIC, "'f': element 1");
    tf_model_free(m);
    free(file);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("safetensors");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(accepted);
    T_ADD(refused);
    T_ADD(refused_lengths);
    T_ADD(deep_nesting);
    T_ADD(damage);
    T_ADD(values);
    return t_suite;
}
