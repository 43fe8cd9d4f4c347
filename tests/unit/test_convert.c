/* SPDX-License-Identifier: Apache-2.0
 *
 * Element types: all 65,536 halves, rounding at and beside every tie, unaligned memory, refusals.
 */
#include "t.h"

#include "num/num.h"

#include <math.h>

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* The value by the definition of the format. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return h & 0x8000 ? -v : v;
}

START_TEST(test_every_half)
{
    static uint16_t in[65536], back[65536];
    static float wide[65536];
    for (uint32_t h = 0; h < 65536; h++)
        in[h] = (uint16_t)h;
    ck_assert(tf_to_f32(TFUSE_F16, in, wide, 65536));
    ck_assert(tf_from_f32(TFUSE_F16, wide, back, 65536));
    for (uint32_t h = 0; h < 65536; h++) {
        float f = tf_f16_to_f32((uint16_t)h);
        ck_assert_uint_eq(bits_of(f), bits_of(wide[h]));
        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff))
            ck_assert(isnan(f));
        else if ((h & 0x7c00) == 0x7c00)
            ck_assert(isinf(f) && !signbit(f) == !(h & 0x8000));
        else
            ck_assert((double)f == half_value((uint16_t)h) && !signbit(f) == !(h & 0x8000));
        ck_assert_uint_eq(back[h], h); /* the payload of a NaN as well */
    }
}
END_TEST

/* Between two neighbours: the tie goes to the even one, one float beside it to the nearer. */
START_TEST(test_half_rounding)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double mid = (half_value((uint16_t)h) + half_value((uint16_t)(h + 1))) / 2;
        float tie = (float)mid;
        ck_assert((double)tie == mid);
        ck_assert_uint_eq(tf_f32_to_f16(tie), h + (h & 1));
        ck_assert_uint_eq(tf_f32_to_f16(nextafterf(tie, 0)), h);
        ck_assert_uint_eq(tf_f32_to_f16(nextafterf(tie, 1e9f)), h + 1);
        ck_assert_uint_eq(tf_f32_to_f16(-tie), 0x8000 | (h + (h & 1)));
    }
    ck_assert_uint_eq(tf_f32_to_f16(65519.996f), 0x7bff);
    ck_assert_uint_eq(tf_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(tf_f32_to_f16(3e38f), 0x7c00);
    ck_assert_uint_eq(tf_f32_to_f16(-INFINITY), 0xfc00);
    ck_assert_uint_eq(tf_f32_to_f16(1e-45f), 0);
    ck_assert_uint_eq(tf_f32_to_f16(-0.0f), 0x8000);
    ck_assert_uint_eq(tf_f32_to_f16(float_of(0x7f800001)), 0x7e00); /* not infinity */
}
END_TEST

START_TEST(test_bf16)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = tf_bf16_to_f32((uint16_t)h);
        ck_assert_uint_eq(bits_of(f), h << 16);
        ck_assert_uint_eq(tf_f32_to_bf16(f), h);
        if ((h & 0x7f80) == 0x7f80)
            continue;
        ck_assert_uint_eq(tf_f32_to_bf16(float_of(h << 16 | 0x8000)), h + (h & 1));
        ck_assert_uint_eq(tf_f32_to_bf16(float_of(h << 16 | 0x7fff)), h);
        ck_assert_uint_eq(tf_f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
    }
    ck_assert_uint_eq(tf_f32_to_bf16(float_of(0x7f800001)), 0x7fc0);
    ck_assert_uint_eq(tf_f32_to_bf16(float_of(0xffffffff)), 0xffff);
}
END_TEST

/* Every type there and back from an odd address. */
START_TEST(test_round_trip_unaligned)
{
    static const float small[] = {0, 1, 1, 0, 1, 0, 0, 1, 1};
    static const float whole[] = {0, 1, 2, 100, 127, 55, 3, 77, 13};
    enum { COUNT = TF_LEN(small) };
    for (tfuse_dtype t = TFUSE_F32; t <= TFUSE_BOOL; t++) {
        const float *from = t == TFUSE_BOOL ? small : whole;
        char raw[COUNT * 8 + 2];
        float back[COUNT];
        raw[1 + COUNT * tf_dtype_size(t)] = 42;
        ck_assert(tf_from_f32(t, from, raw + 1, COUNT));
        ck_assert(tf_to_f32(t, raw + 1, back, COUNT));
        ck_assert_mem_eq(back, from, sizeof back);
        ck_assert_int_eq(raw[1 + COUNT * tf_dtype_size(t)], 42);
        ck_assert(tf_to_f32(t, NULL, NULL, 0) && tf_from_f32(t, NULL, NULL, 0));
    }
    float x = 0;
    ck_assert(!tf_to_f32(0, &x, &x, 1) && !tf_from_f32(99, &x, &x, 1));
}
END_TEST

START_TEST(test_integers)
{
    struct {
        tfuse_dtype type;
        float low, high; /* the last that fit */
    } cases[] = {{TFUSE_I8, -128, 127},
                 {TFUSE_U8, 0, 255},
                 {TFUSE_I16, -32768, 32767},
                 {TFUSE_U16, 0, 65535},
                 {TFUSE_I32, -0x1p31f, 0x1.fffffep30f},
                 {TFUSE_U32, 0, 0x1.fffffep31f},
                 {TFUSE_I64, -0x1p63f, 0x1.fffffep62f},
                 {TFUSE_U64, 0, 0x1.fffffep63f},
                 {TFUSE_BOOL, 0, 1}};
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        char raw[8];
        float bad[] = {0.5f, NAN, INFINITY, -INFINITY, cases[i].low < 0 ? cases[i].low * 1.5f : -1.0f,
                       cases[i].high < 1e6f ? cases[i].high + 1 : nextafterf(cases[i].high, INFINITY)};
        float good[] = {cases[i].low, cases[i].high, -0.0f};
        for (size_t j = 0; j < TF_LEN(bad); j++)
            ck_assert_msg(!tf_from_f32(cases[i].type, &bad[j], raw, 1), "%zu took %g", i, (double)bad[j]);
        for (size_t j = 0; j < TF_LEN(good); j++) {
            float back;
            ck_assert(tf_from_f32(cases[i].type, &good[j], raw, 1));
            ck_assert(tf_to_f32(cases[i].type, raw, &back, 1));
            ck_assert(back == good[j]);
        }
    }
    int64_t big = INT64_C(16777217);
    double precise = 1 + 0x1p-24 + 0x1p-40;
    float f;
    ck_assert(tf_to_f32(TFUSE_I64, &big, &f, 1) && f == 16777216.0f);
    ck_assert(tf_to_f32(TFUSE_F64, &precise, &f, 1) && f == nextafterf(1, 2));
}
END_TEST

START_TEST(test_names)
{
    for (tfuse_dtype t = TFUSE_F32; t <= TFUSE_BOOL; t++) {
        ck_assert_int_eq(tf_dtype_parse(tf_dtype_name(t)), t);
        ck_assert_uint_gt(tf_dtype_size(t), 0);
    }
    ck_assert_int_eq(tf_dtype_parse("BF16"), TFUSE_BF16);
    ck_assert_int_eq(tf_dtype_parse("bf16"), 0);
    ck_assert_int_eq(tf_dtype_parse(""), 0);
    ck_assert_str_eq(tf_dtype_name(0), "?");
    ck_assert_str_eq(tf_dtype_name(-7), "?");
    ck_assert_uint_eq(tf_dtype_size(14), 0);
    ck_assert_uint_eq(tf_dtype_size(TFUSE_F64), 8);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("convert");
    T_ADD(test_every_half);
    T_ADD(test_half_rounding);
    T_ADD(test_bf16);
    T_ADD(test_round_trip_unaligned);
    T_ADD(test_integers);
    T_ADD(test_names);
    return t_suite;
}
