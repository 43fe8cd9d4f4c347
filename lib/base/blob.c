/* SPDX-License-Identifier: Apache-2.0
 *
 * blob.c: see blob.h.
 */
#include "base/blob.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_MAX = 1 << 30 };

tf_blob tf_blob_part(const tf_blob *src, uint64_t offset, uint64_t size)
{
    return (tf_blob){src->data ? src->data + offset : NULL, src->offset + offset, size, src->fd};
}

tfuse_status tf_blob_read(tf_env *env, const char *label, const tf_blob *src, uint64_t offset, uint64_t size, void *dst)
{
    char *to = dst;
    if (src->fd < 0 && size)
        memcpy(dst, src->data + offset, (size_t)size);
    for (uint64_t done = 0; src->fd >= 0 && done < size;) {
        const uint64_t part = size - done < READ_MAX ? size - done : READ_MAX;
        const ssize_t n = pread(src->fd, to + done, (size_t)part, (off_t)(src->offset + offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tf_fail_errno(env, errno, "%s: cannot be read", label);
        if (n == 0)
            return tf_fail(env, TFUSE_EIO, "%s: has become shorter while it was in use; leave it as it is until the work is done", label);
        done += (uint64_t)n;
    }
    return TFUSE_OK;
}
