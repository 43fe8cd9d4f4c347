/* SPDX-License-Identifier: Apache-2.0
 *
 * convert.c: element types, and conversion of arrays of them to and from float32.
 *
 * The 16-bit formats are converted with integer arithmetic and selections only, so that the
 * loops vectorise and do not depend on how the processor treats denormal numbers (but for the one addition in
 * tf_f32_to_f16, whose operands are normal). Memory is read and written with memcpy: tensors in a
 * file start on any byte.
 */
#include "num/num.h"

#include <math.h>
#include <string.h>

typedef struct dtype_info {
    const char *name;
    size_t size;
} dtype_info;

static const dtype_info dtypes[] = {
    [TFUSE_F32] = {"F32", 4}, [TFUSE_F16] = {"F16", 2}, [TFUSE_BF16] = {"BF16", 2}, [TFUSE_F64] = {"F64", 8},
    [TFUSE_I64] = {"I64", 8}, [TFUSE_I32] = {"I32", 4}, [TFUSE_U8] = {"U8", 1},     [TFUSE_I8] = {"I8", 1},
    [TFUSE_I16] = {"I16", 2}, [TFUSE_U16] = {"U16", 2}, [TFUSE_U32] = {"U32", 4},   [TFUSE_U64] = {"U64", 8},
    [TFUSE_BOOL] = {"BOOL", 1},
};

static bool known(tfuse_dtype t)
{
    return t > 0 && (size_t)t < TF_LEN(dtypes);
}

size_t tf_dtype_size(tfuse_dtype t)
{
    return known(t) ? dtypes[t].size : 0;
}

const char *tf_dtype_name(tfuse_dtype t)
{
    return known(t) ? dtypes[t].name : "?";
}

tfuse_dtype tf_dtype_parse(const char *name)
{
    for (size_t t = 1; t < TF_LEN(dtypes); t++) {
        if (strcmp(dtypes[t].name, name) == 0)
            return (tfuse_dtype)t;
    }
    return 0;
}

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* A subnormal half is its fraction times 2^-24, exactly. */
static inline float widen_f16(uint16_t h)
{
    uint32_t fraction = h & 0x3ffu, exponent = h & 0x7c00u;
    uint32_t normal = ((h & 0x7fffu) << 13) + 0x38000000u;
    uint32_t special = 0x7f800000u | fraction << 13;
    uint32_t tiny = bits_of((float)(int32_t)fraction * 0x1p-24f);
    uint32_t u = exponent == 0 ? tiny : exponent == 0x7c00u ? special : normal;
    return float_of(u | (uint32_t)(h & 0x8000u) << 16);
}

/* Normal results: add half of the last place kept, less one unless that place is odd, and cut. Subnormal ones:
 * added to 1/2, whose last place is 2^-24, the value is rounded by the processor. */
static inline uint16_t narrow_f16(float f)
{
    uint32_t u = bits_of(f), x = u & 0x7fffffffu;
    uint32_t normal = (x - 0x38000000u + 0xfffu + ((x >> 13) & 1u)) >> 13;
    uint32_t small = x < 0x38800000u ? x : 0;
    uint32_t tiny = bits_of(float_of(small) + 0.5f) - 0x3f000000u;
    uint32_t payload = (x >> 13) & 0x3ffu;
    uint32_t nan = 0x7c00u | (payload == 0 ? 0x200u : payload);
    uint32_t h = x < 0x38800000u ? tiny : x >= 0x477ff000u ? 0x7c00u : normal;
    h = x > 0x7f800000u ? nan : h;
    return (uint16_t)(h | (u >> 16 & 0x8000u));
}

static inline uint16_t narrow_bf16(float f)
{
    uint32_t u = bits_of(f), high = u >> 16;
    uint32_t nan = (high & 0x7fu) == 0 ? high | 0x40u : high;
    uint32_t rounded = (u + 0x7fffu + (high & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

float tf_f16_to_f32(uint16_t h)
{
    return widen_f16(h);
}

uint16_t tf_f32_to_f16(float f)
{
    return narrow_f16(f);
}

uint16_t tf_f32_to_bf16(float f)
{
    return narrow_bf16(f);
}

/* dst[i] = EXPR of the element x. */
#define WIDEN(TYPE, EXPR)                                \
    do {                                                 \
        for (size_t i = 0; i < count; i++) {             \
            TYPE x;                                      \
            memcpy(&x, in + i * sizeof x, sizeof x);     \
            dst[i] = (EXPR);                             \
        }                                                \
    } while (0)

bool tf_to_f32(tfuse_dtype from, const void *src, float *dst, size_t count)
{
    const char *in = src;
    switch (from) {
    case TFUSE_F32:
        if (count)
            memcpy(dst, src, count * sizeof *dst);
        return true;
    case TFUSE_F16:
        WIDEN(uint16_t, widen_f16(x));
        return true;
    case TFUSE_BF16:
        WIDEN(uint16_t, tf_bf16_to_f32(x));
        return true;
    case TFUSE_F64:
        WIDEN(double, (float)x);
        return true;
    case TFUSE_I64:
        WIDEN(int64_t, (float)x);
        return true;
    case TFUSE_I32:
        WIDEN(int32_t, (float)x);
        return true;
    case TFUSE_U8:
        WIDEN(uint8_t, (float)x);
        return true;
    case TFUSE_I8:
        WIDEN(int8_t, (float)x);
        return true;
    case TFUSE_I16:
        WIDEN(int16_t, (float)x);
        return true;
    case TFUSE_U16:
        WIDEN(uint16_t, (float)x);
        return true;
    case TFUSE_U32:
        WIDEN(uint32_t, (float)x);
        return true;
    case TFUSE_U64:
        WIDEN(uint64_t, (float)x);
        return true;
    case TFUSE_BOOL:
        WIDEN(uint8_t, x ? 1.0f : 0.0f);
        return true;
    default:
        return false;
    }
}

/* The i-th element of out becomes EXPR of src[i]. */
#define NARROW(TYPE, EXPR)                               \
    do {                                                 \
        for (size_t i = 0; i < count; i++) {             \
            float x = src[i];                            \
            TYPE y = (EXPR);                             \
            memcpy(out + i * sizeof y, &y, sizeof y);    \
        }                                                \
    } while (0)

/* Is every value an integer with low <= x < end? Both bounds are exact in float32. */
static bool integral(const float *src, size_t count, float low, float end)
{
    for (size_t i = 0; i < count; i++) {
        if (!(src[i] >= low && src[i] < end && src[i] == truncf(src[i])))
            return false;
    }
    return true;
}

#define NARROW_INT(TYPE, LOW, END)                       \
    do {                                                 \
        if (!integral(src, count, LOW, END))             \
            return false;                                \
        NARROW(TYPE, (TYPE)x);                           \
        return true;                                     \
    } while (0)

bool tf_from_f32(tfuse_dtype to, const float *src, void *dst, size_t count)
{
    char *out = dst;
    switch (to) {
    case TFUSE_F32:
        if (count)
            memcpy(dst, src, count * sizeof *src);
        return true;
    case TFUSE_F16:
        NARROW(uint16_t, narrow_f16(x));
        return true;
    case TFUSE_BF16:
        NARROW(uint16_t, narrow_bf16(x));
        return true;
    case TFUSE_F64:
        NARROW(double, (double)x);
        return true;
    case TFUSE_I64:
        NARROW_INT(int64_t, -0x1p63f, 0x1p63f);
    case TFUSE_I32:
        NARROW_INT(int32_t, -0x1p31f, 0x1p31f);
    case TFUSE_U8:
        NARROW_INT(uint8_t, 0.0f, 0x1p8f);
    case TFUSE_I8:
        NARROW_INT(int8_t, -0x1p7f, 0x1p7f);
    case TFUSE_I16:
        NARROW_INT(int16_t, -0x1p15f, 0x1p15f);
    case TFUSE_U16:
        NARROW_INT(uint16_t, 0.0f, 0x1p16f);
    case TFUSE_U32:
        NARROW_INT(uint32_t, 0.0f, 0x1p32f);
    case TFUSE_U64:
        NARROW_INT(uint64_t, 0.0f, 0x1p64f);
    case TFUSE_BOOL:
        NARROW_INT(uint8_t, 0.0f, 2.0f);
    default:
        return false;
    }
}
