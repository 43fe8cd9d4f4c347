/* SPDX-License-Identifier: Apache-2.0
 *
 * buf.c: a growing byte buffer. Its capacity doubles, so adding is linear in all that is added;
 * the byte after the last one is always a NUL, so text can be used as a string.
 */
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

enum { BUF_MIN = 64 };

void tf_buf_init(tf_buf *buf, const tf_mem *mem)
{
    memset(buf, 0, sizeof *buf);
    buf->mem = *mem;
}

void tf_buf_free(tf_buf *buf)
{
    tf_free(&buf->mem, buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

tfuse_status tf_buf_reserve(tf_env *env, tf_buf *buf, size_t extra)
{
    size_t need;
    if (!tf_add_size(buf->len, extra, &need) || !tf_add_size(need, 1, &need))
        return tf_fail(env, TFUSE_ENOMEM, "out of memory: a buffer of %zu more bytes cannot be addressed", extra);
    if (need <= buf->cap)
        return TFUSE_OK;
    size_t cap = buf->cap > SIZE_MAX / 2 ? need : buf->cap * 2;
    if (cap < need)
        cap = need;
    if (cap < BUF_MIN)
        cap = BUF_MIN;
    char *data = tf_mem_alloc(&buf->mem, cap);
    if (!data)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory: %zu bytes were refused", cap);
    if (buf->len)
        memcpy(data, buf->data, buf->len);
    data[buf->len] = '\0';
    tf_free(&buf->mem, buf->data);
    buf->data = data;
    buf->cap = cap;
    return TFUSE_OK;
}

tfuse_status tf_buf_add(tf_env *env, tf_buf *buf, const void *data, size_t size)
{
    TF_TRY(tf_buf_reserve(env, buf, size));
    if (size)
        memcpy(buf->data + buf->len, data, size);
    buf->len += size;
    buf->data[buf->len] = '\0';
    return TFUSE_OK;
}

tfuse_status tf_buf_printf(tf_env *env, tf_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    tfuse_status status;
    if (length < 0)
        status = tf_fail(env, TFUSE_EINTERNAL, "a text could not be formatted: %s", format);
    else
        status = tf_buf_reserve(env, buf, (size_t)length);
    if (status == TFUSE_OK) {
        vsnprintf(buf->data + buf->len, (size_t)length + 1, format, again);
        buf->len += (size_t)length;
    }
    va_end(again);
    return status;
}
