/* SPDX-License-Identifier: Apache-2.0
 *
 * dlpack.c: what a DLPack tensor says, checked: device, type, shape. Of a table of another major version nothing may be looked at but its deleter.
 */
#include "io/dlpack.h"

#include <string.h>

enum { CODE_INT = 0, CODE_UINT = 1, CODE_FLOAT = 2, CODE_BFLOAT = 4, CODE_BOOL = 6 };
enum { DEVICE_CPU = 1, DEVICE_CUDA_HOST = 3, DEVICE_ROCM_HOST = 11 };
enum { MAJOR = 1 };

static void release(void *owner)
{
    struct DLManagedTensor *managed = owner;
    if (managed->deleter)
        managed->deleter(managed);
}

static void release_versioned(void *owner)
{
    struct DLManagedTensorVersioned *managed = owner;
    if (managed->deleter)
        managed->deleter(managed);
}

tf_dlpack tf_dlpack_of(struct DLManagedTensor *managed)
{
    return (tf_dlpack){managed ? &managed->tensor : NULL, 0, 0, release, managed};
}

tf_dlpack tf_dlpack_of_versioned(struct DLManagedTensorVersioned *managed)
{
    if (!managed)
        return (tf_dlpack){NULL, 0, 0, release_versioned, NULL};
    return (tf_dlpack){managed->major == MAJOR ? &managed->tensor : NULL, managed->major, managed->minor, release_versioned, managed};
}

static tfuse_dtype dtype_of(const tf_dl_tensor *t)
{
    static const struct {
        uint8_t code, bits;
        tfuse_dtype dtype;
    } types[] = {{CODE_FLOAT, 32, TFUSE_F32}, {CODE_FLOAT, 16, TFUSE_F16}, {CODE_BFLOAT, 16, TFUSE_BF16}, {CODE_FLOAT, 64, TFUSE_F64},
                 {CODE_INT, 64, TFUSE_I64},   {CODE_INT, 32, TFUSE_I32},   {CODE_INT, 16, TFUSE_I16},     {CODE_INT, 8, TFUSE_I8},
                 {CODE_UINT, 64, TFUSE_U64},  {CODE_UINT, 32, TFUSE_U32},  {CODE_UINT, 16, TFUSE_U16},    {CODE_UINT, 8, TFUSE_U8},
                 {CODE_BOOL, 8, TFUSE_BOOL}};
    for (size_t i = 0; i < TF_LEN(types) && t->lanes == 1; i++)
        if (types[i].code == t->code && types[i].bits == t->bits)
            return types[i].dtype;
    return 0;
}

tfuse_status tf_dlpack_tensor(tf_env *env, const tf_dlpack *d, tf_tensor *out)
{
    const tf_dl_tensor *t = d->tensor;
    if (!t)
        return tf_fail(env, TFUSE_EVERSION, "DLPack %u.%u; this library knows %d", (unsigned)d->major, (unsigned)d->minor, MAJOR);
    if (t->device_type != DEVICE_CPU && t->device_type != DEVICE_CUDA_HOST && t->device_type != DEVICE_ROCM_HOST)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "lies on a device (DLPack's type %d); move it to the CPU first", (int)t->device_type);
    out->dtype = dtype_of(t);
    if (!out->dtype)
        return tf_fail(env, TFUSE_EDTYPE, "a DLPack type of code %u, %u bits and %u lanes is not taken; floats of 16, 32 and 64 bits, bfloat16 and "
                       "integers are", t->code, t->bits, t->lanes);
    if (t->ndim < 0 || t->ndim > TFUSE_MAX_RANK)
        return tf_fail(env, TFUSE_ESHAPE, "%d dimensions are not 0 to %d", (int)t->ndim, TFUSE_MAX_RANK);
    if (t->ndim > 0 && !t->shape)
        return tf_fail(env, TFUSE_EINVAL, "DLPack's shape is NULL");
    out->rank = t->ndim;
    if (t->ndim > 0)
        memcpy(out->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
    out->data = t->data ? (const uint8_t *)t->data + t->byte_offset : NULL;
    return TFUSE_OK;
}
