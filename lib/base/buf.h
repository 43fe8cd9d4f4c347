/* SPDX-License-Identifier: Apache-2.0
 *
 * buf.h: a growing byte buffer, always ending in a NUL that `len` does not count.
 */
#ifndef TF_BASE_BUF_H
#define TF_BASE_BUF_H

#include "base/env.h"

typedef struct tf_buf {
    tf_mem mem;
    char *data; /* NULL until something is added, be it of no bytes */
    size_t len, cap;
} tf_buf;

void tf_buf_init(tf_buf *buf, const tf_mem *mem);
void tf_buf_free(tf_buf *buf);
/* Room for `extra` more bytes and the NUL at data + len; len is left to the caller. */
tfuse_status tf_buf_reserve(tf_env *env, tf_buf *buf, size_t extra);
tfuse_status tf_buf_add(tf_env *env, tf_buf *buf, const void *data, size_t size);
tfuse_status tf_buf_printf(tf_env *env, tf_buf *buf, const char *format, ...) TF_PRINTF(3, 4);

#endif
