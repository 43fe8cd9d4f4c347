/* SPDX-License-Identifier: Apache-2.0
 *
 * blob.h: bytes to be parsed, in memory or in an open file, read piece by piece into the parser's own buffers. A file is read and never looked
 * at through its mapping, so one that is cut short at any moment is an error and not a SIGBUS for the host.
 */
#ifndef TF_BASE_BLOB_H
#define TF_BASE_BLOB_H

#include "base/file.h"

typedef struct tf_blob {
    const uint8_t *data; /* of a file: where it is mapped, which a parser may compute with but not look at */
    uint64_t offset;     /* of the first byte in the file */
    uint64_t size;
    int fd; /* -1: memory at data */
} tf_blob;

/* Both borrow what they are given. */
static inline tf_blob tf_blob_memory(const void *data, uint64_t size)
{
    return (tf_blob){data, 0, size, -1};
}

static inline tf_blob tf_blob_file(const tf_mapping *map)
{
    return (tf_blob){map->data, 0, map->size, map->base ? map->fd : -1};
}

/* Bytes offset..offset+size-1, which lie within `src`, as a blob of their own. */
tf_blob tf_blob_part(const tf_blob *src, uint64_t offset, uint64_t size);
/* Copies bytes offset..offset+size-1, which lie within `src`, to dst. A file that has become shorter is TFUSE_EIO, naming `label`. */
tfuse_status tf_blob_read(tf_env *env, const char *label, const tf_blob *src, uint64_t offset, uint64_t size, void *dst);

#endif
