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

/* A stream over memory of any size; zlib counts in unsigned ints. */
typedef struct stream {
    z_stream z;
    const uint8_t *next;
    uint64_t left; /* not yet handed to zlib */
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

static tfuse_status start(tf_env *env, const char *label, stream *s, const uint8_t *data, uint64_t size, int window)
{
    memset(s, 0, sizeof *s);
    s->next = data;
    s->left = size;
    s->z.zalloc = tf_zalloc;
    s->z.zfree = tf_zfree;
    s->z.opaque = &env->mem;
    int code = inflateInit2(&s->z, window);
    if (code == Z_OK)
        return TFUSE_OK;
    return tf_fail(env, code == Z_MEM_ERROR ? TFUSE_ENOMEM : TFUSE_EINTERNAL, "%s: decompression cannot start (zlib %d)", label, code);
}

static uint64_t unread(const stream *s)
{
    return s->left + s->z.avail_in;
}

/* Inflates until dst is full (Z_OK), the stream ends (Z_STREAM_END), or an error; Z_BUF_ERROR: the data end too early. */
static int pump(stream *s, uint8_t *dst, uint64_t cap, uint64_t *got)
{
    int code = Z_OK;
    *got = 0;
    while (code == Z_OK && *got < cap) {
        if (s->z.avail_in == 0 && s->left > 0) {
            uint64_t part = s->left < UINT_MAX ? s->left : UINT_MAX;
            s->z.next_in = (Bytef *)(uintptr_t)s->next; /* zlib only reads */
            s->z.avail_in = (uInt)part;
            s->next += part;
            s->left -= part;
        }
        uInt room = (uInt)(cap - *got < UINT_MAX ? cap - *got : UINT_MAX);
        s->z.next_out = dst + *got;
        s->z.avail_out = room;
        code = inflate(&s->z, Z_NO_FLUSH);
        *got += room - s->z.avail_out;
        if (code == Z_BUF_ERROR && (s->left > 0 || s->z.avail_out == 0))
            code = Z_OK;
    }
    return code;
}

static tfuse_status fail_code(tf_env *env, const char *label, int code)
{
    if (code == Z_MEM_ERROR)
        return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory while decompressing", label);
    return tf_fail(env, TFUSE_ECORRUPT, "%s: %s", label,
                   code == Z_BUF_ERROR ? "the compressed data are truncated" : "the compressed data are damaged");
}

static tfuse_status inflate_exact(tf_env *env, const char *label, int window, const uint8_t *data, uint64_t size, uint8_t *dst,
                                  uint64_t dst_size)
{
    stream s;
    uint64_t done = 0, got = 0, extra;
    uint8_t beyond;
    int code = Z_OK;
    TF_TRY(start(env, label, &s, data, size, window));
    while (code == Z_OK && done < dst_size && !tf_cancelled(env)) {
        code = pump(&s, dst + done, dst_size - done < CHUNK ? dst_size - done : CHUNK, &got);
        done += got;
    }
    if (code == Z_OK && !tf_cancelled(env)) {
        code = pump(&s, &beyond, 1, &extra); /* the end marker may still be ahead */
        done += extra;
    }
    uint64_t rest = unread(&s);
    inflateEnd(&s.z);
    TF_TRY(tf_check_cancel(env));
    if (code != Z_OK && code != Z_STREAM_END)
        return fail_code(env, label, code);
    if (done != dst_size || rest != 0)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the compressed data do not give the %llu bytes that the file promises", label,
                       (unsigned long long)dst_size);
    return TFUSE_OK;
}

tfuse_status tf_inflate_raw(tf_env *env, const char *label, const uint8_t *data, uint64_t size, uint8_t *dst, uint64_t dst_size)
{
    return inflate_exact(env, label, RAW, data, size, dst, dst_size);
}

tfuse_status tf_inflate_zlib(tf_env *env, const char *label, const uint8_t *data, uint64_t size, uint8_t *dst, uint64_t dst_size)
{
    return inflate_exact(env, label, ZLIB, data, size, dst, dst_size);
}

tfuse_status tf_gunzip_head(tf_env *env, const char *label, const uint8_t *data, uint64_t size, uint8_t *dst, size_t cap, size_t *got)
{
    stream s;
    uint64_t n;
    *got = 0;
    TF_TRY(start(env, label, &s, data, size, GZIP));
    int code = pump(&s, dst, cap, &n);
    inflateEnd(&s.z);
    *got = (size_t)n;
    return code == Z_OK || code == Z_STREAM_END ? TFUSE_OK : fail_code(env, label, code);
}

/* Members follow one another, as `cat a.gz b.gz` makes them. */
static tfuse_status gunzip_all(tf_env *env, const char *label, stream *s, uint64_t limit, tf_buf *out)
{
    for (;;) {
        uint64_t got, room = limit - out->len;
        uint64_t cap = room < CHUNK ? room + 1 : CHUNK; /* one more than allowed shows an excess */
        TF_TRY(tf_check_cancel(env));
        TF_TRY(tf_buf_reserve(env, out, (size_t)cap));
        int code = pump(s, (uint8_t *)out->data + out->len, cap, &got);
        if (got > room)
            return tf_fail(env, TFUSE_ECORRUPT, "%s: holds more than the %llu bytes that its header promises", label,
                           (unsigned long long)limit);
        out->len += (size_t)got;
        out->data[out->len] = 0;
        if (code != Z_OK && code != Z_STREAM_END)
            return fail_code(env, label, code);
        if (code == Z_STREAM_END) {
            if (unread(s) == 0)
                return TFUSE_OK;
            inflateReset(&s->z);
        }
    }
}

tfuse_status tf_gunzip(tf_env *env, const char *label, const uint8_t *data, uint64_t size, uint64_t limit, tf_buf *out)
{
    stream s;
    tf_buf_init(out, &env->mem);
    if (limit > SIZE_MAX / 2)
        return tf_fail(env, TFUSE_ENOMEM, "%s: %llu bytes cannot be held in memory", label, (unsigned long long)limit);
    TF_TRY(start(env, label, &s, data, size, GZIP));
    uint64_t bound = tf_inflate_bound(size);
    tfuse_status status = tf_buf_reserve(env, out, (size_t)(limit < bound ? limit : bound) + 1);
    if (status == TFUSE_OK)
        status = gunzip_all(env, label, &s, limit, out);
    inflateEnd(&s.z);
    if (status != TFUSE_OK)
        tf_buf_free(out);
    return status;
}
