/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/model.h: a model is named tensors and a config. It is opened from a checkpoint (mapped, not copied), or built by
 * the caller from tensors in memory (borrowed, not copied).
 */
#ifndef TFUSE_MODEL_H
#define TFUSE_MODEL_H

#include <tfuse/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_model tfuse_model;

/** One tensor. */
typedef struct tfuse_tensor_info {
    size_t struct_size;
    const char *name;                 /**< borrowed from the model */
    tfuse_dtype dtype;
    int32_t rank;
    int64_t shape[TFUSE_MAX_RANK];
    const void *data;                 /**< row-major, little-endian, any alignment; NULL when only headers were read, and where the caller's strides
                                           are others: tfuse_model_read gives the elements */
    uint64_t size;                    /**< bytes */
} tfuse_tensor_info;

enum { TFUSE_OPEN_CONFIG_ONLY = 1 /**< a config.json alone will do: the model has no tensors then */ };

/**
 * Opens a checkpoint: a directory with config.json and model.safetensors, or with model.safetensors.index.json and its
 * shards; a .safetensors file with config.json beside it; with TFUSE_OPEN_CONFIG_ONLY also a config.json or a directory that has only that.
 * Files are mapped read-only and headers are checked in full: tensors must tile the file exactly, names be unique.
 * @param flags  in: 0 or TFUSE_OPEN_CONFIG_ONLY.
 * @param out    out: a sealed model; release with tfuse_model_free. Files must not be truncated while it lives.
 * Errors: TFUSE_EIO, TFUSE_ENOTFOUND, TFUSE_EFORMAT, TFUSE_EDTYPE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_model_open(tfuse_ctx *ctx, const char *path, uint32_t flags, tfuse_model **out);

/**
 * An empty model to which tensors are added.
 * @param config   in: the text of a config.json, copied; NULL when a graph will be built by hand.
 * @param release  in: called once with owner: when the model is freed, or before this returns on failure; may be NULL.
 * Errors: TFUSE_EFORMAT (not a JSON object), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_model_new(tfuse_ctx *ctx, const char *config, tfuse_release_fn release, void *owner,
                                       tfuse_model **out);

/**
 * Adds a tensor: borrows `data` (row-major) until the model is freed.
 * Errors: TFUSE_ESTATE (sealed), TFUSE_EINVAL (the name is taken), TFUSE_ESHAPE, TFUSE_EDTYPE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_model_add(tfuse_ctx *ctx, tfuse_model *model, const char *name, tfuse_dtype dtype,
                                       size_t rank, const int64_t *shape, const void *data);

/**
 * Adds a tensor that lies in memory in its own way, and is given back by itself: a transposed or sliced one, one of a framework's. It is read where it
 * lies, whenever it is read: its elements may change between calls (weights in training), its memory may not move.
 * @param strides  in: rank distances between neighbours along each dimension, in elements, of any sign, 0 to broadcast; NULL: row-major.
 * @param data     in: the element whose indices are all zero; any alignment.
 * @param release  in: called once with `owner`: when the model is freed, or before this returns on failure; NULL: nothing is called.
 * Errors: as tfuse_model_add; TFUSE_ESHAPE also where strides reach beyond any memory.
 */
TFUSE_API tfuse_status tfuse_model_add_strided(tfuse_ctx *ctx, tfuse_model *model, const char *name, tfuse_dtype dtype, size_t rank,
                                               const int64_t *shape, const int64_t *strides, const void *data, tfuse_release_fn release,
                                               void *owner);

/** Ends building. A sealed model never changes and may be read by any number of threads. */
TFUSE_API tfuse_status tfuse_model_seal(tfuse_ctx *ctx, tfuse_model *model);

TFUSE_API size_t tfuse_model_count(const tfuse_model *model);
/** Fills min(info->struct_size, ours) bytes with tensor `index`, in order of names. Errors: TFUSE_ERANGE. */
TFUSE_API tfuse_status tfuse_model_tensor(const tfuse_model *model, size_t index, tfuse_tensor_info *info);
/**
 * Copies a tensor into memory of the caller's, row-major.
 * @param index  in: 0..count-1.
 * @param dtype  in: element type to copy as: the tensor's own for its bytes as they are, or a floating-point type, rounded to nearest even.
 * @param dst    out: `size` bytes, any alignment.
 * @param size   in: bytes there; must be just those of the tensor in that type.
 * Errors: TFUSE_ERANGE, TFUSE_ESHAPE (size), TFUSE_EDTYPE, TFUSE_ENUMERIC (NaN or infinity, when converted), TFUSE_EIO, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_model_read(tfuse_ctx *ctx, const tfuse_model *model, size_t index, tfuse_dtype dtype, void *dst, size_t size);
/** Index of a name, or -1. */
TFUSE_API int64_t tfuse_model_find(const tfuse_model *model, const char *name);
/** The path that it was opened from, or "". */
TFUSE_API const char *tfuse_model_path(const tfuse_model *model);
/** The config as JSON text, or "". */
TFUSE_API const char *tfuse_model_config(const tfuse_model *model);
TFUSE_API void tfuse_model_free(tfuse_model *model);

#ifdef __cplusplus
}
#endif
#endif
