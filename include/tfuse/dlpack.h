/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/dlpack.h: tensors of frameworks, in DLPack's form (https://dmlc.github.io/dlpack), without a copy: what tensor.__dlpack__(), DLPack's
 * headers and the C++ interfaces of frameworks give. Its two tables are DLPack's own and are defined there.
 *
 * A function here takes the tensor over: its deleter is called once, when what was made of it is freed, or before the function returns on failure.
 * Tensors must lie in memory that this process reads as its own (CPU, pinned CUDA or ROCm memory); types are those of tfuse_dtype, one lane.
 */
#ifndef TFUSE_DLPACK_H
#define TFUSE_DLPACK_H

#include <tfuse/array.h>
#include <tfuse/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/** DLPack's table, before its version 1. */
struct DLManagedTensor;
/** DLPack's table since its version 1. */
struct DLManagedTensorVersioned;

/**
 * Adds a tensor to a model that is being built, with any strides: as tfuse_model_add_strided.
 * @param tensor  in: taken over, also on failure.
 * Errors: as tfuse_model_add_strided; TFUSE_EUNSUPPORTED (memory of a device), TFUSE_EDTYPE (a type that tfuse_dtype has not, more than one
 * lane), TFUSE_EVERSION (tables of another major version), TFUSE_EINVAL.
 */
TFUSE_API tfuse_status tfuse_model_add_dlpack(tfuse_ctx *ctx, tfuse_model *model, const char *name, struct DLManagedTensor *tensor);
TFUSE_API tfuse_status tfuse_model_add_dlpack_versioned(tfuse_ctx *ctx, tfuse_model *model, const char *name,
                                                        struct DLManagedTensorVersioned *tensor);

/**
 * An array of a tensor: borrowed where it is row-major, otherwise copied and given back at once.
 * @param tensor  in: taken over, also on failure.
 * @param out     out: release with tfuse_array_free.
 * Errors: as tfuse_model_add_dlpack.
 */
TFUSE_API tfuse_status tfuse_array_from_dlpack(tfuse_ctx *ctx, struct DLManagedTensor *tensor, tfuse_array **out);
TFUSE_API tfuse_status tfuse_array_from_dlpack_versioned(tfuse_ctx *ctx, struct DLManagedTensorVersioned *tensor, tfuse_array **out);

#ifdef __cplusplus
}
#endif
#endif
