/* SPDX-License-Identifier: Apache-2.0
 *
 * api_array.c: tfuse/array.h.
 */
#include "api/api.h"
#include "io/io.h"

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

tfuse_status tfuse_array_save(tfuse_ctx *ctx, const tfuse_array *array, const char *path)
{
    TF_ENTER(ctx, TF_ARG(array), TF_ARG(path));
    return tf_api_leave(ctx, tf_array_save(&ctx->env, array, path));
}

tfuse_dtype tfuse_array_dtype(const tfuse_array *array)
{
    return array ? array->dtype : 0;
}

size_t tfuse_array_rank(const tfuse_array *array)
{
    return array ? array->rank : 0;
}

const int64_t *tfuse_array_shape(const tfuse_array *array)
{
    return array ? array->shape : NULL;
}

const void *tfuse_array_data(const tfuse_array *array)
{
    return array ? array->data : NULL;
}

void tfuse_array_free(tfuse_array *array)
{
    tf_array_free(array);
}
