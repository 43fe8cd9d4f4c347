/* SPDX-License-Identifier: Apache-2.0
 *
 * api_model.c: tfuse/model.h.
 */
#include "api/api.h"
#include "io/model.h"

#include <string.h>

tfuse_status tfuse_model_open(tfuse_ctx *ctx, const char *path, uint32_t flags, tfuse_model **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(path), TF_ARG(out));
    if (flags & ~(uint32_t)TFUSE_OPEN_CONFIG_ONLY)
        return tf_api_leave(ctx, tf_fail(&ctx->env, TFUSE_EINVAL, "flags 0x%x are not known to this version", (unsigned)flags));
    return tf_api_leave(ctx, tf_model_open(&ctx->env, path, flags, out));
}

tfuse_status tfuse_model_new(tfuse_ctx *ctx, const char *config, tfuse_release_fn release, void *owner, tfuse_model **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(out));
    tfuse_status status = tf_model_new(&ctx->env, config, out);
    if (status == TFUSE_OK) {
        (*out)->release = release;
        (*out)->owner = owner;
    }
    return tf_api_leave(ctx, status);
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
    TF_ENTER(ctx, TF_ARG(model), TF_ARG(name));
    return tf_api_leave(ctx, add(&ctx->env, model, name, dtype, rank, shape, data));
}

tfuse_status tfuse_model_seal(tfuse_ctx *ctx, tfuse_model *model)
{
    TF_ENTER(ctx, TF_ARG(model));
    return tf_api_leave(ctx, tf_model_seal(&ctx->env, model));
}

size_t tfuse_model_count(const tfuse_model *model)
{
    return model ? model->count : 0;
}

tfuse_status tfuse_model_tensor(const tfuse_model *model, size_t index, tfuse_tensor_info *info)
{
    if (!model)
        return TFUSE_EINVAL;
    if (index >= model->count)
        return TFUSE_ERANGE;
    const tf_tensor *t = &model->tensors[index];
    tfuse_tensor_info ours = {.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = t->data, .size = t->size};
    memcpy(ours.shape, t->shape, sizeof ours.shape);
    return tf_api_snapshot(info, &ours, sizeof ours);
}

int64_t tfuse_model_find(const tfuse_model *model, const char *name)
{
    const tf_tensor *t = model && name ? tf_model_find(model, name) : NULL;
    return t ? t - model->tensors : -1;
}

const char *tfuse_model_path(const tfuse_model *model)
{
    return model ? model->path : "";
}

const char *tfuse_model_config(const tfuse_model *model)
{
    return model && model->config_text ? model->config_text : "";
}

void tfuse_model_free(tfuse_model *model)
{
    tf_model_free(model);
}

tfuse_status tf_api_models(tf_env *env, const tfuse_model *const *models, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!models[i])
            return tf_fail(env, TFUSE_EINVAL, "models[%zu] is NULL", i);
        if (!models[i]->sealed)
            return tf_fail(env, TFUSE_ESTATE, "models[%zu] is not sealed: call tfuse_model_seal first", i);
    }
    return TFUSE_OK;
}
