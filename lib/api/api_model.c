/* SPDX-License-Identifier: Apache-2.0
 *
 * api_model.c: tfuse/model.h, and the models of tfuse/dlpack.h.
 */
#include "api/api.h"
#include "io/dlpack.h"
#include "io/model.h"
#include "num/num.h"

#include <string.h>
#include <tfuse/dlpack.h>

tfuse_status tfuse_model_open(tfuse_ctx *ctx, const char *path, uint32_t flags, tfuse_model **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(path), TF_ARG(out));
    if (flags & ~(uint32_t)TFUSE_OPEN_CONFIG_ONLY)
        return tf_api_leave(ctx, tf_fail(&ctx->env, TFUSE_EINVAL, "flags 0x%x are not known to this version", (unsigned)flags));
    return tf_api_leave(ctx, tf_model_open(&ctx->env, path, flags, out));
}

static tfuse_status new_model(tfuse_ctx *ctx, const char *config, tfuse_model **out)
{
    TF_ENTER(ctx, TF_ARG(out));
    return tf_api_leave(ctx, tf_model_new(&ctx->env, config, out));
}

tfuse_status tfuse_model_new(tfuse_ctx *ctx, const char *config, tfuse_release_fn release, void *owner, tfuse_model **out)
{
    TF_OUT(out);
    tfuse_status status = new_model(ctx, config, out);
    if (status == TFUSE_OK) {
        (*out)->release = release;
        (*out)->owner = owner;
    } else if (release) {
        release(owner);
    }
    return status;
}

static tfuse_status add(tf_env *env, tfuse_model *model, const char *name, tfuse_dtype dtype, size_t rank,
                        const int64_t *shape, const void *data)
{
    if (rank > TFUSE_MAX_RANK)
        return tf_fail(env, TFUSE_ESHAPE, "tensor '%s': rank %zu is more than %d", name, rank, TFUSE_MAX_RANK);
    if (rank > 0 && !shape)
        return tf_fail(env, TFUSE_EINVAL, "shape is NULL");
    tf_tensor tensor = {.name = name, .dtype = dtype, .rank = (int)rank, .data = data, .file = -1};
    if (rank > 0)
        memcpy(tensor.shape, shape, rank * sizeof *shape);
    return tf_model_add(env, model, &tensor);
}

tfuse_status tfuse_model_add(tfuse_ctx *ctx, tfuse_model *model, const char *name, tfuse_dtype dtype, size_t rank,
                             const int64_t *shape, const void *data)
{
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(name));
    return tf_api_leave(ctx, add(&ctx->env, model, name, dtype, rank, shape, data));
}

/* *lent: the tensor's release is the model's business now. */
static tfuse_status add_strided(tfuse_ctx *ctx, tfuse_model *model, const tf_tensor *given, const int64_t *shape, const int64_t *strides,
                                tfuse_release_fn release, void *owner, bool *lent)
{
    tf_tensor tensor = *given;
    TF_ENTER(ctx, TF_IS(model, MODEL), {given->name, "name", 0, false});
    if (tensor.rank > TFUSE_MAX_RANK || tensor.rank < 0)
        return tf_api_leave(ctx, tf_fail(&ctx->env, TFUSE_ESHAPE, "tensor '%s': its rank is not 0 to %d", tensor.name, TFUSE_MAX_RANK));
    if (tensor.rank > 0 && !shape)
        return tf_api_leave(ctx, tf_fail(&ctx->env, TFUSE_EINVAL, "shape is NULL"));
    if (tensor.rank > 0)
        memcpy(tensor.shape, shape, (size_t)tensor.rank * sizeof *shape);
    tfuse_status status = tf_model_lend(&ctx->env, model, &tensor, strides, release, owner);
    *lent = status == TFUSE_OK;
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_model_add_strided(tfuse_ctx *ctx, tfuse_model *model, const char *name, tfuse_dtype dtype, size_t rank, const int64_t *shape,
                                     const int64_t *strides, const void *data, tfuse_release_fn release, void *owner)
{
    bool lent = false;
    const tf_tensor tensor = {.name = name, .dtype = dtype, .rank = rank > TFUSE_MAX_RANK ? -1 : (int)rank, .data = data, .file = -1};
    tfuse_status status = add_strided(ctx, model, &tensor, shape, strides, release, owner, &lent);
    if (!lent && release)
        release(owner);
    return status;
}

static tfuse_status add_dlpack(tfuse_ctx *ctx, tfuse_model *model, const char *name, const tf_dlpack *d, bool *lent)
{
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(name), {d->owner, "tensor", 0, false});
    tf_tensor tensor = {.name = name, .file = -1};
    tfuse_status status = tf_dlpack_tensor(&ctx->env, d, &tensor);
    if (status != TFUSE_OK)
        return tf_api_leave(ctx, tf_fail_in(&ctx->env, status, "tensor '%s'", name));
    status = tf_model_lend(&ctx->env, model, &tensor, d->tensor->strides, d->release, d->owner);
    *lent = status == TFUSE_OK;
    return tf_api_leave(ctx, status);
}

static tfuse_status add_managed(tfuse_ctx *ctx, tfuse_model *model, const char *name, const tf_dlpack *d)
{
    bool lent = false;
    tfuse_status status = add_dlpack(ctx, model, name, d, &lent);
    if (!lent && d->owner)
        d->release(d->owner);
    return status;
}

tfuse_status tfuse_model_add_dlpack(tfuse_ctx *ctx, tfuse_model *model, const char *name, struct DLManagedTensor *tensor)
{
    const tf_dlpack d = tf_dlpack_of(tensor);
    return add_managed(ctx, model, name, &d);
}

tfuse_status tfuse_model_add_dlpack_versioned(tfuse_ctx *ctx, tfuse_model *model, const char *name, struct DLManagedTensorVersioned *tensor)
{
    const tf_dlpack d = tf_dlpack_of_versioned(tensor);
    return add_managed(ctx, model, name, &d);
}

tfuse_status tfuse_model_seal(tfuse_ctx *ctx, tfuse_model *model)
{
    TF_ENTER(ctx, TF_IS(model, MODEL));
    return tf_api_leave(ctx, tf_model_seal(&ctx->env, model));
}

size_t tfuse_model_count(const tfuse_model *model)
{
    return TF_IS_A(model, MODEL) ? model->count : 0;
}

tfuse_status tfuse_model_tensor(const tfuse_model *model, size_t index, tfuse_tensor_info *info)
{
    if (!TF_IS_A(model, MODEL))
        return TFUSE_EINVAL;
    if (index >= model->count)
        return TFUSE_ERANGE;
    const tf_tensor *t = &model->tensors[index];
    tfuse_tensor_info ours = {.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = t->strides ? NULL : t->data, .size = t->size};
    memcpy(ours.shape, t->shape, sizeof ours.shape);
    return tf_api_snapshot(info, &ours, sizeof ours);
}

static tfuse_status read(tf_env *env, const tfuse_model *model, size_t index, tfuse_dtype dtype, void *dst, size_t size)
{
    if (index >= model->count)
        return tf_fail(env, TFUSE_ERANGE, "index %zu is not one of %zu tensors", index, model->count);
    const tf_tensor *t = &model->tensors[index];
    if (tf_dtype_size(dtype) == 0)
        return tf_fail(env, TFUSE_EDTYPE, "unknown data type %d", (int)dtype);
    if (size / tf_dtype_size(dtype) != t->count || size % tf_dtype_size(dtype))
        return tf_fail(env, TFUSE_ESHAPE, "tensor '%s': %zu bytes are not those of %llu elements of %s", t->name, size, (unsigned long long)t->count,
                       tf_dtype_name(dtype));
    if (dtype == t->dtype)
        return tf_tensor_bytes(env, model, t, 0, t->size, dst);
    if (dtype != TFUSE_F32 && dtype != TFUSE_F16 && dtype != TFUSE_BF16 && dtype != TFUSE_F64)
        return tf_fail(env, TFUSE_EDTYPE, "tensor '%s' is %s; it can be read as that or as a floating-point type", t->name, tf_dtype_name(t->dtype));
    if (dtype == TFUSE_F32 && (uintptr_t)dst % sizeof(float) == 0)
        return tf_tensor_read(env, model, t, dst);
    float *values = tf_alloc_array(env, t->count ? (size_t)t->count : 1, sizeof *values);
    tfuse_status status = values ? tf_tensor_read(env, model, t, values) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        tf_from_f32(dtype, values, dst, (size_t)t->count);
    tf_free(&env->mem, values);
    return status;
}

tfuse_status tfuse_model_read(tfuse_ctx *ctx, const tfuse_model *model, size_t index, tfuse_dtype dtype, void *dst, size_t size)
{
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(dst));
    return tf_api_leave(ctx, read(&ctx->env, model, index, dtype, dst, size));
}

int64_t tfuse_model_find(const tfuse_model *model, const char *name)
{
    const tf_tensor *t = TF_IS_A(model, MODEL) && name ? tf_model_find(model, name) : NULL;
    return t ? t - model->tensors : -1;
}

const char *tfuse_model_path(const tfuse_model *model)
{
    return TF_IS_A(model, MODEL) ? model->path : "";
}

const char *tfuse_model_config(const tfuse_model *model)
{
    return TF_IS_A(model, MODEL) && model->config_text ? model->config_text : "";
}

void tfuse_model_free(tfuse_model *model)
{
    if (TF_IS_A(model, MODEL))
        tf_model_free(model);
}

tfuse_status tf_api_models(tf_env *env, const tfuse_model *const *models, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!models[i])
            return tf_fail(env, TFUSE_EINVAL, "models[%zu] is NULL", i);
        if (!TF_IS_A(models[i], MODEL))
            return tf_fail(env, TFUSE_EINVAL, "models[%zu] is no tfuse_model, or one that was freed", i);
        if (!models[i]->sealed)
            return tf_fail(env, TFUSE_ESTATE, "models[%zu] is not sealed: call tfuse_model_seal first", i);
    }
    return TFUSE_OK;
}
