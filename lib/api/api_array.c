/* SPDX-License-Identifier: Apache-2.0
 *
 * api_array.c: tfuse/array.h, and the arrays of tfuse/dlpack.h.
 */
#include "api/api.h"
#include "io/dlpack.h"
#include "io/io.h"
#include "num/array.h"
#include "num/num.h"

tfuse_status tfuse_array_open(tfuse_ctx *ctx, const char *path, tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(path), TF_ARG(out));
    return tf_api_leave(ctx, tf_array_open(&ctx->env, path, out));
}

static tfuse_status wrap(tfuse_ctx *ctx, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                         tfuse_release_fn release, void *owner, tfuse_array **out, bool *passed_on)
{
    TF_ENTER(ctx, TF_ARG(out));
    if (rank > 0 && !shape)
        return tf_api_leave(ctx, tf_fail(&ctx->env, TFUSE_EINVAL, "shape is NULL"));
    *passed_on = true;
    return tf_api_leave(ctx, tf_array_wrap(&ctx->env, dtype, rank, shape, data, release, owner, out));
}

tfuse_status tfuse_array_wrap(tfuse_ctx *ctx, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                              tfuse_release_fn release, void *owner, tfuse_array **out)
{
    bool passed_on = false;
    TF_OUT(out);
    tfuse_status status = wrap(ctx, dtype, rank, shape, data, release, owner, out, &passed_on);
    if (!passed_on && release)
        release(owner);
    return status;
}

/* *kept: the array gives the tensor back. */
static tfuse_status from_dlpack(tf_env *env, const tf_dlpack *d, tfuse_array **out, bool *kept)
{
    tf_tensor t = {.name = "array"};
    const int64_t *strides = d->tensor ? d->tensor->strides : NULL;
    size_t count;
    tf_span span;
    TF_TRY(tf_dlpack_tensor(env, d, &t));
    TF_TRY(tf_shape_count(env, t.dtype, (size_t)t.rank, t.shape, &count, NULL));
    if (!strides || tf_strides_are_row_major(t.rank, t.shape, strides)) {
        *kept = true;
        return tf_array_wrap(env, t.dtype, (size_t)t.rank, t.shape, t.data, d->release, d->owner, out);
    }
    TF_TRY(tf_strides_span(env, tf_dtype_size(t.dtype), t.rank, t.shape, strides, &span));
    if (!t.data && count)
        return tf_fail(env, TFUSE_EINVAL, "DLPack's data is NULL");
    TF_TRY(tf_array_new(env, t.dtype, (size_t)t.rank, t.shape, out));
    tf_gather(tf_dtype_size(t.dtype), t.rank, t.shape, strides, t.data, 0, count, (*out)->data);
    return TFUSE_OK;
}

static tfuse_status take(tfuse_ctx *ctx, const tf_dlpack *d, tfuse_array **out, bool *kept)
{
    TF_ENTER(ctx, {d->owner, "tensor", 0, false}, TF_ARG(out));
    return tf_api_leave(ctx, from_dlpack(&ctx->env, d, out, kept));
}

static tfuse_status from_managed(tfuse_ctx *ctx, const tf_dlpack *d, tfuse_array **out)
{
    bool kept = false;
    TF_OUT(out);
    tfuse_status status = take(ctx, d, out, &kept);
    if (!kept && d->owner)
        d->release(d->owner);
    return status;
}

tfuse_status tfuse_array_from_dlpack(tfuse_ctx *ctx, struct DLManagedTensor *tensor, tfuse_array **out)
{
    const tf_dlpack d = tf_dlpack_of(tensor);
    return from_managed(ctx, &d, out);
}

tfuse_status tfuse_array_from_dlpack_versioned(tfuse_ctx *ctx, struct DLManagedTensorVersioned *tensor, tfuse_array **out)
{
    const tf_dlpack d = tf_dlpack_of_versioned(tensor);
    return from_managed(ctx, &d, out);
}

tfuse_status tfuse_array_save(tfuse_ctx *ctx, const tfuse_array *array, const char *path)
{
    TF_ENTER(ctx, TF_IS(array, ARRAY), TF_ARG(path));
    return tf_api_leave(ctx, tf_array_save(&ctx->env, array, path));
}

/* *taken: `other` is the library's business now. */
static tfuse_status attach(tfuse_ctx *ctx, tfuse_array *array, const char *name, tfuse_array *other, bool *taken)
{
    TF_ENTER(ctx, TF_IS(array, ARRAY), TF_ARG(name), TF_IS(other, ARRAY));
    *taken = true;
    return tf_api_leave(ctx, tf_array_attach(&ctx->env, array, name, other));
}

tfuse_status tfuse_array_attach(tfuse_ctx *ctx, tfuse_array *array, const char *name, tfuse_array *other)
{
    bool taken = false;
    tfuse_status status = attach(ctx, array, name, other, &taken);
    if (!taken && TF_IS_A(other, ARRAY) && other != array && !other->name)
        tf_array_free(other);
    return status;
}

tfuse_dtype tfuse_array_dtype(const tfuse_array *array)
{
    return TF_IS_A(array, ARRAY) ? array->dtype : 0;
}

size_t tfuse_array_rank(const tfuse_array *array)
{
    return TF_IS_A(array, ARRAY) ? array->rank : 0;
}

const int64_t *tfuse_array_shape(const tfuse_array *array)
{
    return TF_IS_A(array, ARRAY) ? array->shape : NULL;
}

const void *tfuse_array_data(const tfuse_array *array)
{
    return TF_IS_A(array, ARRAY) ? array->data : NULL;
}

void tfuse_array_free(tfuse_array *array)
{
    if (TF_IS_A(array, ARRAY))
        tf_array_free(array);
}
