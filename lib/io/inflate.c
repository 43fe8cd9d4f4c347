/* SPDX-License-Identifier: Apache-2.0
 *
 * inflate.c: zlib behind bounds. A stream must end where its data end and give exactly as many bytes as the caller expects, so neither a
 * truncated file nor a decompression bomb passes. zlib allocates through the environment's allocator.
 */
#include "io/io.h"
#include <limits.h>
#include <string.h>
#include <zlib.h>

enum { CHUNK = 1 << 18, GZIP = 16 + MAX_WBITS, RAW = -MAX_WBITS, ZLIB = MAX_WBITS };

/* A stream over a blob of any size, of which CHUNK bytes at a time are in memory. */
typedef struct stream {
    z_stream z;
    tf_env *env;
    const char *label;
    const tf_blob *src;
    uint64_t at; /* of the next byte to be handed to zlib */
    uint8_t *block;
    tfuse_status status; /* of reading */
} stream;

void *tf_zalloc(void *opaque, unsigned items, unsigned size)
{
    size_t bytes;
    return tf_mul_size(items, size, &bytes) ? tf_mem_alloc(opaque, bytes) : NULL;
}

void tf_zfree(void *opaque, void *ptr)
{
    tf_free(opaque, ptr);
}

uint64_t tf_inflate_bound(uint64_t size)
{
    uint64_t bound;
    return __builtin_mul_overflow(size, UINT64_C(1032), &bound) ? UINT64_MAX : bound;
}

uint32_t tf_crc32(const void *data, uint64_t size)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, (size_t)size);
}

tfuse_status tf_blob_crc32(tf_env *env, const char *label, const tf_blob *src, uint32_t *out)
{
    *out = 0;
    uint8_t *block = tf_alloc(env, CHUNK);
    tfuse_status status = block ? tf_check_cancel(env) : TFUSE_ENOMEM;
    uLong crc = crc32_z(0, NULL, 0);
    for (uint64_t at = 0, part; at < src->size && status == TFUSE_OK; at += part) {
        part = src->size - at < CHUNK ? src->size - at : CHUNK;
        status = tf_blob_read(env, label, src, at, part, block);
        if (status == TFUSE_OK)
            crc = crc32_z(crc, block, (size_t)part);
    }
    *out = (uint32_t)crc;
    tf_free(&env->mem, block);
    return status;
}

static tfuse_status start(tf_env *env, const char *label, stream *s, const tf_blob *src, int window)
{
    memset(s, 0, sizeof *s);
    s->env = env;
    s->label = label;
    s->src = src;
    s->z.zalloc = tf_zalloc;
    s->z.zfree = tf_zfree;
    s->z.opaque = &env->mem;
    s->block = tf_alloc(env, src->size < CHUNK ? (size_t)src->size + 1 : CHUNK);
    if (!s->block)
        return TFUSE_ENOMEM;
    int code = inflateInit2(&s->z, window);
    if (code == Z_OK)
        return TFUSE_OK;
    tf_free(&env->mem, s->block);
    return tf_fail(env, code == Z_MEM_ERROR ? TFUSE_ENOMEM : TFUSE_EINTERNAL, "%s: decompression cannot start (zlib %d)", label, code);
}

static void stop(stream *s)
{
    inflateEnd(&s->z);
    tf_free(&s->env->mem, s->block);
}

static uint64_t left(const stream *s)
{
    return s->src->size - s->at;
}

static uint64_t unread(const stream *s)
{
    return left(s) + s->z.avail_in;
}

static bool refill(stream *s)
{
    const uint64_t part = left(s) < CHUNK ? left(s) : CHUNK;
    s->status = tf_blob_read(s->env, s->label, s->src, s->at, part, s->block);
    s->z.next_in = s->block;
    s->z.avail_in = (uInt)part;
    s->at += part;
    return s->status == TFUSE_OK;
}

/* Inflates until dst is full (Z_OK), the stream ends (Z_STREAM_END), or an error; Z_BUF_ERROR: the data end too early; Z_ERRNO: the blob
 * cannot be read. */
static int pump(stream *s, uint8_t *dst, uint64_t cap, uint64_t *got)
{
    int code = Z_OK;
    *got = 0;
    while (code == Z_OK && *got < cap) {
        if (s->z.avail_in == 0 && left(s) > 0 && !refill(s))
            return Z_ERRNO;
        uInt room = (uInt)(cap - *got < UINT_MAX ? cap - *got : UINT_MAX);
        s->z.next_out = dst + *got;
        s->z.avail_out = room;
        code = inflate(&s->z, Z_NO_FLUSH);
        *got += room - s->z.avail_out;
        if (code == Z_BUF_ERROR && (left(s) > 0 || s->z.avail_out == 0))
            code = Z_OK;
    }
    return code;
}

static tfuse_status fail_code(const stream *s, int code)
{
    tf_env *env = s->env;
    const char *label = s->label;
    if (code == Z_ERRNO)
        return s->status;
    if (code == Z_MEM_ERROR)
        return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory while decompressing", label);
    return tf_fail(env, TFUSE_ECORRUPT, "%s: %s", label,
                   code == Z_BUF_ERROR ? "the compressed data are truncated" : "the compressed data are damaged");
}

static tfuse_status inflate_exact(tf_env *env, const char *label, int window, const tf_blob *src, uint8_t *dst, uint64_t dst_size)
{
    stream s;
    uint64_t done = 0, got = 0, extra;
    uint8_t beyond;
    int code = Z_OK;
    TF_TRY(start(env, label, &s, src, window));
    while (code == Z_OK && done < dst_size && !tf_cancelled(env)) {
        code = pump(&s, dst + done, dst_size - done < CHUNK ? dst_size - done : CHUNK, &got);
        done += got;
    }
    if (code == Z_OK && !tf_cancelled(env)) {
        code = pump(&s, &beyond, 1, &extra); /* the end marker may still be ahead */
        done += extra;
    }
    uint64_t rest = unread(&s);
    stop(&s);
    TF_TRY(tf_check_cancel(env));
    if (code != Z_OK && code != Z_STREAM_END)
        return fail_code(&s, code);
    if (done != dst_size || rest != 0)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the compressed data do not give the %llu bytes that the file promises", label,
                       (unsigned long long)dst_size);
    return TFUSE_OK;
}

tfuse_status tf_inflate_raw(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, uint64_t dst_size)
{
    return inflate_exact(env, label, RAW, src, dst, dst_size);
}

tfuse_status tf_inflate_zlib(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, uint64_t dst_size)
{
    return inflate_exact(env, label, ZLIB, src, dst, dst_size);
}

tfuse_status tf_gunzip_head(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, size_t cap, size_t *got)
{
    stream s;
    uint64_t n;
    *got = 0;
    TF_TRY(start(env, label, &s, src, GZIP));
    int code = pump(&s, dst, cap, &n);
    stop(&s);
    *got = (size_t)n;
    return code == Z_OK || code == Z_STREAM_END ? TFUSE_OK : fail_code(&s, code);
}

/* Members follow one another, as `cat a.gz b.gz` makes them. */
static tfuse_status gunzip_all(stream *s, uint64_t limit, tf_buf *out)
{
    tf_env *env = s->env;
    for (;;) {
        uint64_t got, room = limit - out->len;
        uint64_t cap = room < CHUNK ? room + 1 : CHUNK; /* one more than allowed shows an excess */
        TF_TRY(tf_check_cancel(env));
        TF_TRY(tf_buf_reserve(env, out, (size_t)cap));
        int code = pump(s, (uint8_t *)out->data + out->len, cap, &got);
        if (got > room)
            return tf_fail(env, TFUSE_ECORRUPT, "%s: holds more than the %llu bytes that its header promises", s->label,
                           (unsigned long long)limit);
        out->len += (size_t)got;
        out->data[out->len] = 0;
        if (code != Z_OK && code != Z_STREAM_END)
            return fail_code(s, code);
        if (code == Z_STREAM_END) {
            if (unread(s) == 0)
                return TFUSE_OK;
            inflateReset(&s->z);
        }
    }
}

tfuse_status tf_gunzip(tf_env *env, const char *label, const tf_blob *src, uint64_t limit, tf_buf *out)
{
    stream s;
    tf_buf_init(out, &env->mem);
    if (limit > SIZE_MAX / 2)
        return tf_fail(env, TFUSE_ENOMEM, "%s: %llu bytes cannot be held in memory", label, (unsigned long long)limit);
    TF_TRY(start(env, label, &s, src, GZIP));
    uint64_t bound = tf_inflate_bound(src->size);
    tfuse_status status = tf_buf_reserve(env, out, (size_t)(limit < bound ? limit : bound) + 1);
    if (status == TFUSE_OK)
        status = gunzip_all(&s, limit, out);
    stop(&s);
    if (status != TFUSE_OK)
        tf_buf_free(out);
    return status;
}
