/* SPDX-License-Identifier: Apache-2.0
 *
 * io.h: arrays in files, inputs of models, and the container of plans.
 */
#ifndef TF_IO_IO_H
#define TF_IO_IO_H

#include "base/buf.h"
#include "base/blob.h"
#include "num/array.h"
#include "io/model.h"

/* array_file.c: "x.npy", "x.npz:key", "x-idx3-ubyte(.gz)", recognised by content. Header checked against the size before anything is allocated;
 * npz members stored or deflated, with a bound on what a member may inflate to (its directory entry, checked). */
tfuse_status tf_array_open(tf_env *env, const char *path, tfuse_array **out);
tfuse_status tf_array_save(tf_env *env, const tfuse_array *a, const char *path);
/* npy.c; `label` names the source in errors */
tfuse_status tf_npy_parse(tf_env *env, const char *label, const tf_blob *src, tfuse_array **out);
/* The beginning of an .npy file that holds `a`: everything before its data. */
tfuse_status tf_npy_header(tf_env *env, const tfuse_array *a, tf_buf *out);
/* npz.c: key NULL: the only member. */
tfuse_status tf_npz_parse(tf_env *env, const char *label, const tf_blob *src, const char *key, tfuse_array **out);
/* idx.c: LeCun's IDX, plain. */
tfuse_status tf_idx_parse(tf_env *env, const char *label, const tf_blob *src, tfuse_array **out);
/* Bytes of an IDX header, and what it promises. */
#define TF_IDX_HEADER_MAX (4 + 4 * TFUSE_MAX_RANK)
typedef struct tf_idx_header {
    tfuse_dtype dtype;
    size_t rank, offset; /* offset: where the elements begin */
    int64_t shape[TFUSE_MAX_RANK];
    uint64_t total;      /* bytes of the whole file */
} tf_idx_header;
/* `size` may be that of a beginning only. */
tfuse_status tf_idx_header_parse(tf_env *env, const char *label, const uint8_t *data, uint64_t size, tf_idx_header *out);
/* npy.c: reverses the bytes of each of count elements. */
void tf_swap_bytes(void *data, size_t count, size_t width);

/* A little-endian unsigned integer of 1 to 8 bytes. */
static inline uint64_t tf_get_le(const uint8_t *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

/* inflate.c. All fail with TFUSE_ECORRUPT on truncated, damaged or longer data than told. */
/* A stream of `size` bytes cannot hold more than this (deflate's ratio is at most 1032). */
uint64_t tf_inflate_bound(uint64_t size);
/* A gzip file, all its members, to memory; fails past `limit` bytes. */
tfuse_status tf_gunzip(tf_env *env, const char *label, const tf_blob *src, uint64_t limit, tf_buf *out);
/* The first bytes of what a gzip file holds, at most cap. */
tfuse_status tf_gunzip_head(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, size_t cap, size_t *got);
/* Raw deflate (zip members) and zlib's format to exactly dst_size bytes. */
tfuse_status tf_inflate_raw(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, uint64_t dst_size);
tfuse_status tf_inflate_zlib(tf_env *env, const char *label, const tf_blob *src, uint8_t *dst, uint64_t dst_size);
/* CRC-32 of any length. */
uint32_t tf_crc32(const void *data, uint64_t size);
tfuse_status tf_blob_crc32(tf_env *env, const char *label, const tf_blob *src, uint32_t *out);
/* zlib's allocation hooks on an environment's allocator: `opaque` is a tf_mem. */
void *tf_zalloc(void *opaque, unsigned items, unsigned size);
void tf_zfree(void *opaque, void *ptr);

/* container.c: the plan file: magic "TFUSEPLN", version, then chunks (4-byte name, sizes, CRC-32, zlib stream); see docs/plan-format.md. */
typedef struct tf_chunk {
    char name[5];
    const void *data;
    uint64_t size;
} tf_chunk;
tfuse_status tf_container_save(tf_env *env, const char *path, const tf_chunk *chunks, size_t count);
typedef struct tf_container {
    tf_mem mem;
    tf_chunk *chunks; /* data owned */
    size_t count;
} tf_container;
tfuse_status tf_container_load(tf_env *env, const char *path, tf_container *out);
tfuse_status tf_container_parse(tf_env *env, const char *label, const tf_blob *src, tf_container *out);
const tf_chunk *tf_container_find(const tf_container *c, const char *name);
void tf_container_free(tf_container *c);

/* preprocess.c: a model's preprocessor_config.json (beside config.json): do_rescale, rescale_factor, do_normalize, image_mean, image_std.
 * Absent: {1/255, mean 0, std 1} only matters for uint8 input. */
typedef struct tf_preprocess {
    double rescale;
    int channels;          /* of mean and std; 1 broadcasts */
    double mean[16], std[16];
    bool stated;           /* by a file, or by timm's pretrained_cfg; or there is no directory to have a file */
} tf_preprocess;
tfuse_status tf_preprocess_read(tf_env *env, const tfuse_model *m, tf_preprocess *out);
/* The file's text alone. */
tfuse_status tf_preprocess_parse(tf_env *env, const char *label, const char *text, size_t size, tf_preprocess *out);

#endif
