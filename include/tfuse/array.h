/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/array.h: arrays that go in and out: inputs, labels, costs, logits, maps. Row-major and contiguous.
 */
#ifndef TFUSE_ARRAY_H
#define TFUSE_ARRAY_H

#include <tfuse/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_array tfuse_array;

/**
 * Reads an array from a file: .npy, "file.npz:key" (the key may be left out when the file holds one array), or IDX, gzipped or not
 * (recognised by content). Without a key, of a file that holds `input_ids` and other arrays these ids are read, and the others but `labels` are
 * attached to them. Fortran order and big-endian files are converted.
 * @param path  in.   @param out  out: release with tfuse_array_free.
 * Errors: TFUSE_EIO, TFUSE_EFORMAT, TFUSE_ECORRUPT (sizes or checksums), TFUSE_EDTYPE, TFUSE_EVERSION, TFUSE_EUNSUPPORTED (a ZIP
 * method), TFUSE_ENOTFOUND (no such file or key), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_array_open(tfuse_ctx *ctx, const char *path, tfuse_array **out);

/**
 * Borrows memory of the caller's, or copies it.
 * @param shape    in: rank extents, each >= 0.
 * @param data     in: row-major; must stay as it is until `release` is called.
 * @param release  in: called once with `owner`, on tfuse_array_free or on failure; NULL: the data are copied.
 * Errors: TFUSE_EINVAL, TFUSE_EDTYPE, TFUSE_ESHAPE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_array_wrap(tfuse_ctx *ctx, tfuse_dtype dtype, size_t rank, const int64_t *shape,
                                        const void *data, tfuse_release_fn release, void *owner, tfuse_array **out);

/**
 * Lets a named array go along with another one as inputs of a model: "attention_mask" (1: seen, 0: padding) and "token_type_ids" beside token ids.
 * Each has the shape of the ids. Of calibration inputs padding counts in no statistic, fit or comparison. What a model takes beside its ids,
 * tfuse_graph_describe lists as its inputs.
 * @param array  in, out.   @param name  in: copied.
 * @param other  in: the array takes it over and releases it, also when this fails (not when it belongs to an array already).
 * Errors: TFUSE_EINVAL (a name that is taken, an array that goes with another), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_array_attach(tfuse_ctx *ctx, tfuse_array *array, const char *name, tfuse_array *other);

/** Writes an array as .npy, replacing `path` in one step. Errors: TFUSE_EIO, TFUSE_EDTYPE (BF16 has no .npy form). */
TFUSE_API tfuse_status tfuse_array_save(tfuse_ctx *ctx, const tfuse_array *array, const char *path);

TFUSE_API tfuse_dtype tfuse_array_dtype(const tfuse_array *array);
TFUSE_API size_t tfuse_array_rank(const tfuse_array *array);
/** tfuse_array_rank extents. Borrowed from the array. */
TFUSE_API const int64_t *tfuse_array_shape(const tfuse_array *array);
/** The elements, row-major. Borrowed from the array. */
TFUSE_API const void *tfuse_array_data(const tfuse_array *array);
TFUSE_API void tfuse_array_free(tfuse_array *array);

#ifdef __cplusplus
}
#endif
#endif
