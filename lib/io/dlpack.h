/* SPDX-License-Identifier: Apache-2.0
 *
 * dlpack.h: tensors in DLPack's form. The layouts are those of its specification, versions 0.8 and 1.x.
 */
#ifndef TF_IO_DLPACK_H
#define TF_IO_DLPACK_H

#include "io/model.h"
#include <tfuse/dlpack.h>

typedef struct tf_dl_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: row-major */
    uint64_t byte_offset;
} tf_dl_tensor;

struct DLManagedTensor {
    tf_dl_tensor tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
    uint32_t major, minor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    tf_dl_tensor tensor;
};

/* Either of them. */
typedef struct tf_dlpack {
    const tf_dl_tensor *tensor; /* NULL: a major version that this library has not */
    uint32_t major, minor;
    tfuse_release_fn release; /* of owner, the managed tensor; NULL only where owner is */
    void *owner;
} tf_dlpack;

tf_dlpack tf_dlpack_of(struct DLManagedTensor *managed);
tf_dlpack tf_dlpack_of_versioned(struct DLManagedTensorVersioned *managed);
/* Type, rank, shape and data of `out`; its name stays. The strides are d->tensor->strides. */
tfuse_status tf_dlpack_tensor(tf_env *env, const tf_dlpack *d, tf_tensor *out);

#endif
