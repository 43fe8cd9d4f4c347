/* SPDX-License-Identifier: Apache-2.0
 *
 * array_file.c: arrays from files, whose kind is told from their content, and arrays to .npy files.
 */
#include "base/file.h"
#include "io/io.h"
#include "num/num.h"
#include <string.h>

/* Splits "dir/x.npz:key" in place; NULL when there is no key. A file of that whole name comes first. */
static char *split_key(char *path)
{
    if (tf_is_file(path))
        return NULL;
    char *colon = strstr(path, ".npz:");
    if (!colon)
        return NULL;
    colon[4] = 0;
    return colon + 5;
}

/* The header says how much there may be, so a bomb is refused before it unfolds. */
static tfuse_status open_gzip(tf_env *env, const char *path, const tf_blob *src, tfuse_array **out)
{
    uint8_t head[TF_IDX_HEADER_MAX];
    size_t got;
    tf_idx_header h;
    tf_buf plain;
    TF_TRY(tf_gunzip_head(env, path, src, head, sizeof head, &got));
    TF_TRY(tf_idx_header_parse(env, path, head, got, &h));
    if (h.total > tf_inflate_bound(src->size))
        return tf_fail(env, TFUSE_ECORRUPT, "%s: its IDX header promises %llu bytes, more than a file of this size can hold", path,
                       (unsigned long long)h.total);
    TF_TRY(tf_gunzip(env, path, src, h.total, &plain));
    const tf_blob idx = tf_blob_memory(plain.data, plain.len);
    tfuse_status status = tf_idx_parse(env, path, &idx, out);
    tf_buf_free(&plain);
    return status;
}

static tfuse_status open_blob(tf_env *env, const char *path, const char *key, const tf_blob *src, tfuse_array **out)
{
    uint8_t p[6] = {0};
    const uint64_t n = src->size < sizeof p ? src->size : sizeof p;
    TF_TRY(tf_blob_read(env, path, src, 0, n, p));
    if (n >= 4 && (memcmp(p, "PK\3\4", 4) == 0 || memcmp(p, "PK\5\6", 4) == 0))
        return tf_npz_parse(env, path, src, key, out);
    if (key)
        return tf_fail(env, TFUSE_EFORMAT, "%s: is not an .npz archive", path);
    if (n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0)
        return tf_npy_parse(env, path, src, out);
    if (n >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return open_gzip(env, path, src, out);
    if (n >= 2 && p[0] == 0 && p[1] == 0)
        return tf_idx_parse(env, path, src, out);
    return tf_fail(env, TFUSE_EFORMAT, "%s: is none of .npy, .npz and IDX", path);
}

static tfuse_status set_path(tf_env *env, const char *path, tfuse_array **a)
{
    (*a)->path = tf_strdup(env, path);
    if ((*a)->path)
        return TFUSE_OK;
    tf_array_free(*a);
    *a = NULL;
    return TFUSE_ENOMEM;
}

tfuse_status tf_array_open(tf_env *env, const char *path, tfuse_array **out)
{
    tf_mapping map;
    *out = NULL;
    char *copy = tf_strdup(env, path);
    if (!copy)
        return TFUSE_ENOMEM;
    char *key = split_key(copy);
    tfuse_status status = tf_map_file(env, copy, &map);
    if (status == TFUSE_OK) {
        const tf_blob src = tf_blob_file(&map);
        status = open_blob(env, copy, key, &src, out);
        tf_unmap_file(&map);
    }
    if (status == TFUSE_OK)
        status = set_path(env, path, out);
    tf_free(&env->mem, copy);
    return status;
}

tfuse_status tf_array_save(tf_env *env, const tfuse_array *a, const char *path)
{
    tf_stage stage = {.lock_fd = -1};
    tf_buf header;
    tf_buf_init(&header, &env->mem);
    tfuse_status status = tf_npy_header(env, a, &header);
    if (status != TFUSE_OK)
        status = tf_fail_in(env, status, "%s", path);
    else
        status = tf_stage_open(env, path, false, true, &stage);
    if (status == TFUSE_OK)
        status = tf_write_all(env, stage.lock_fd, path, header.data, header.len);
    if (status == TFUSE_OK)
        status = tf_write_all(env, stage.lock_fd, path, a->data, a->count * tf_dtype_size(a->dtype));
    if (status == TFUSE_OK)
        status = tf_stage_commit(env, &stage);
    tf_stage_abort(env, &stage);
    tf_buf_free(&header);
    return status;
}
