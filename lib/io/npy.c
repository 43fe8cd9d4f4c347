/* SPDX-License-Identifier: Apache-2.0
 *
 * npy.c: NumPy's array files, format versions 1 to 3 (numpy.lib.format): magic, version, header length, a Python dictionary
 * literal, data. The literal is read by a parser of exactly the three known keys; nothing is evaluated. Big-endian and
 * Fortran-order data are converted. Objects (pickles), structures, strings and dates are refused.
 */
#include "io/io.h"
#include "num/num.h"
#include <stdio.h>
#include <string.h>

enum {
    BLOCK = 1 << 18,
    HEADER_MAX = 1 << 20, /* version 1 allows 64 KiB; beyond that there would be fields of a structure, which are refused */
};

typedef struct cursor {
    const char *at, *end;
} cursor;

typedef struct header {
    char descr[16];
    bool has_descr, has_order, has_shape;
    bool fortran, swap;
    tfuse_dtype dtype;
    size_t rank;
    int64_t shape[TFUSE_MAX_RANK];
} header;

/* ---- the literal ------------------------------------------------------------------------------ */

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

/* The character, after white space, if it is next. */
static bool take(cursor *c, char ch)
{
    skip_space(c);
    if (c->at == c->end || *c->at != ch)
        return false;
    c->at++;
    return true;
}

/* A quoted string without escapes, into buffer; false when there is none or it is too long. */
static bool take_string(cursor *c, char *buffer, size_t size)
{
    skip_space(c);
    char quote = take(c, '\'') ? '\'' : take(c, '"') ? '"' : 0;
    size_t len = 0;
    if (!quote)
        return false;
    for (; c->at < c->end && *c->at != quote; c->at++) {
        if (len + 1 >= size || *c->at == '\\' || *c->at < ' ')
            return false;
        buffer[len++] = *c->at;
    }
    buffer[len] = 0;
    return c->at++ < c->end;
}

static bool take_word(cursor *c, const char *word)
{
    size_t len = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
        return false;
    c->at += len;
    return true;
}

static bool take_extent(cursor *c, int64_t *out)
{
    skip_space(c);
    const char *first = c->at;
    *out = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *c->at - '0', out))
            return false;
    return c->at > first;
}

/* "()", "(3,)", "(3, 4)" or "(3, 4,)". A single extent needs its comma, as in Python. */
static bool take_shape(cursor *c, header *h)
{
    h->rank = 0;
    if (!take(c, '('))
        return false;
    if (take(c, ')'))
        return true;
    for (;;) {
        if (h->rank == TFUSE_MAX_RANK || !take_extent(c, &h->shape[h->rank]))
            return false;
        h->rank++;
        bool comma = take(c, ',');
        if (take(c, ')'))
            return comma || h->rank > 1;
        if (!comma)
            return false;
    }
}

static bool take_value(cursor *c, const char *key, header *h)
{
    if (strcmp(key, "descr") == 0 && !h->has_descr)
        return h->has_descr = take_string(c, h->descr, sizeof h->descr);
    if (strcmp(key, "shape") == 0 && !h->has_shape)
        return h->has_shape = take_shape(c, h);
    if (strcmp(key, "fortran_order") != 0 || h->has_order)
        return false;
    h->fortran = take_word(c, "True");
    return h->has_order = h->fortran || take_word(c, "False");
}

static bool take_header(cursor c, header *h)
{
    char key[24];
    if (!take(&c, '{'))
        return false;
    while (!take(&c, '}')) {
        if (!take_string(&c, key, sizeof key) || !take(&c, ':') || !take_value(&c, key, h))
            return false;
        if (take(&c, ','))
            continue;
        if (!take(&c, '}'))
            return false;
        break;
    }
    skip_space(&c);
    return c.at == c.end && h->has_descr && h->has_order && h->has_shape;
}

/* ---- types ------------------------------------------------------------------------------------ */

static const struct {
    char code[3];
    tfuse_dtype dtype;
} types[] = {
    {"f4", TFUSE_F32}, {"f2", TFUSE_F16}, {"f8", TFUSE_F64}, {"i8", TFUSE_I64}, {"i4", TFUSE_I32}, {"i2", TFUSE_I16},
    {"i1", TFUSE_I8},  {"u1", TFUSE_U8},  {"u2", TFUSE_U16}, {"u4", TFUSE_U32}, {"u8", TFUSE_U64}, {"b1", TFUSE_BOOL},
};

static tfuse_status take_dtype(tf_env *env, const char *label, header *h)
{
    char order = h->descr[0];
    if (order == '|' || order == '<' || order == '>' || order == '=')
        for (size_t i = 0; i < TF_LEN(types); i++)
            if (strcmp(h->descr + 1, types[i].code) == 0)
                h->dtype = types[i].dtype;
    if (h->dtype == 0 || (order == '|' && tf_dtype_size(h->dtype) > 1))
        return tf_fail(env, TFUSE_EDTYPE, "%s: elements of NumPy type '%s' are not read; save numbers", label, h->descr);
    h->swap = order == '>';
    return TFUSE_OK;
}

/* ---- data ------------------------------------------------------------------------------------- */

void tf_swap_bytes(void *data, size_t count, size_t width)
{
    uint8_t *p = data;
    for (size_t i = 0; i < count; i++, p += width)
        for (size_t b = 0; b < width / 2; b++) {
            uint8_t kept = p[b];
            p[b] = p[width - 1 - b];
            p[width - 1 - b] = kept;
        }
}

/* Column-major elements of the file to row-major data, a block at a time, so that there is no second copy of the array. */
static tfuse_status from_fortran(tf_env *env, const char *label, const tf_blob *src, tfuse_array *a)
{
    const size_t width = tf_dtype_size(a->dtype), step = BLOCK / width;
    size_t stride[TFUSE_MAX_RANK], at = 0, end = 1;
    int64_t index[TFUSE_MAX_RANK] = {0};
    uint8_t *block = tf_alloc(env, BLOCK);
    tfuse_status status = block ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t d = a->rank; d-- > 0; end *= (size_t)a->shape[d])
        stride[d] = end;
    for (size_t first = 0; first < a->count && status == TFUSE_OK; first += step) {
        const size_t n = a->count - first < step ? a->count - first : step;
        status = tf_blob_read(env, label, src, first * width, n * width, block);
        for (size_t i = 0; i < n && status == TFUSE_OK; i++) {
            memcpy((uint8_t *)a->data + at * width, block + i * width, width);
            for (size_t d = 0; d < a->rank; d++) {
                at += stride[d];
                if (++index[d] < a->shape[d])
                    break;
                at -= stride[d] * (size_t)a->shape[d];
                index[d] = 0;
            }
        }
    }
    tf_free(&env->mem, block);
    return status;
}

/* The dictionary's text, for the caller to free, and where the data begin. */
static tfuse_status read_literal(tf_env *env, const char *label, const tf_blob *src, char **text, size_t *len, uint64_t *data)
{
    uint8_t head[12] = {0};
    if (src->size >= 10)
        TF_TRY(tf_blob_read(env, label, src, 0, src->size < sizeof head ? src->size : sizeof head, head));
    if (src->size < 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: is not an .npy array", label);
    if (head[6] < 1 || head[6] > 3)
        return tf_fail(env, TFUSE_EVERSION, "%s: .npy format version %d is not known", label, head[6]);
    const uint64_t start = head[6] == 1 ? 10 : 12;
    *len = (size_t)tf_get_le(head + 8, head[6] == 1 ? 2 : 4);
    if (src->size < start || *len > src->size - start)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the header is longer than the file, which is truncated", label);
    if (*len > HEADER_MAX)
        return tf_fail(env, TFUSE_EFORMAT, "%s: a header of %zu bytes is more than the %d allowed", label, *len, HEADER_MAX);
    *data = start + *len;
    *text = tf_alloc(env, *len ? *len : 1);
    return *text ? tf_blob_read(env, label, src, start, *len, *text) : TFUSE_ENOMEM;
}

static tfuse_status read_header(tf_env *env, const char *label, const tf_blob *src, header *h, uint64_t *data)
{
    char *text = NULL;
    size_t len = 0;
    memset(h, 0, sizeof *h);
    tfuse_status status = read_literal(env, label, src, &text, &len, data);
    if (status == TFUSE_OK && !take_header((cursor){text, text + len}, h))
        status = tf_fail(env, h->has_descr || !memchr(text, '[', len) ? TFUSE_EFORMAT : TFUSE_EDTYPE,
                         "%s: the .npy header is not one of an array of numbers with at most %d dimensions", label, TFUSE_MAX_RANK);
    tf_free(&env->mem, text);
    return status;
}

tfuse_status tf_npy_parse(tf_env *env, const char *label, const tf_blob *src, tfuse_array **out)
{
    header h;
    size_t count, bytes;
    uint64_t start;
    *out = NULL;
    TF_TRY(read_header(env, label, src, &h, &start));
    TF_TRY(take_dtype(env, label, &h));
    if (tf_shape_count(env, h.dtype, h.rank, h.shape, &count, &bytes) != TFUSE_OK)
        return tf_fail_in(env, TFUSE_EFORMAT, "%s", label);
    if (bytes != src->size - start)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the header promises %zu bytes of data, but there are %llu", label, bytes,
                       (unsigned long long)(src->size - start));
    const tf_blob data = tf_blob_part(src, start, bytes);
    tfuse_array *a;
    TF_TRY(tf_array_new(env, h.dtype, h.rank, h.shape, &a));
    const tfuse_status status = h.fortran ? from_fortran(env, label, &data, a) : tf_blob_read(env, label, &data, 0, bytes, a->data);
    if (status != TFUSE_OK) {
        tf_array_free(a);
        return status;
    }
    if (h.swap)
        tf_swap_bytes(a->data, count, tf_dtype_size(h.dtype));
    *out = a;
    return TFUSE_OK;
}

/* ---- writing ---------------------------------------------------------------------------------- */

tfuse_status tf_npy_header(tf_env *env, const tfuse_array *a, tf_buf *out)
{
    const char *code = NULL;
    for (size_t i = 0; i < TF_LEN(types); i++)
        if (types[i].dtype == a->dtype)
            code = types[i].code;
    if (!code)
        return tf_fail(env, TFUSE_EDTYPE, "%s has no .npy form; convert to F32", tf_dtype_name(a->dtype));
    TF_TRY(tf_buf_add(env, out, "\x93NUMPY\1\0\0\0", 10));
    TF_TRY(tf_buf_printf(env, out, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                         tf_dtype_size(a->dtype) == 1 ? '|' : '<', code));
    for (size_t d = 0; d < a->rank; d++)
        TF_TRY(tf_buf_printf(env, out, "%s%lld", d ? ", " : "", (long long)a->shape[d]));
    TF_TRY(tf_buf_printf(env, out, "%s), }", a->rank == 1 ? "," : ""));
    while ((out->len + 1) % 64 != 0)
        TF_TRY(tf_buf_add(env, out, " ", 1));
    TF_TRY(tf_buf_add(env, out, "\n", 1));
    size_t len = out->len - 10;
    out->data[8] = (char)(len & 255);
    out->data[9] = (char)(len >> 8);
    return TFUSE_OK;
}
