/* SPDX-License-Identifier: Apache-2.0
 *
 * api_file.c: tfuse_file_save and tfuse_output_check of tfuse/base.h.
 */
#include "api/api.h"
#include "base/file.h"

static tfuse_status save(tf_env *env, const char *path, const void *data, size_t size, bool force)
{
    tf_stage stage = {.lock_fd = -1};
    TF_TRY(tf_stage_open(env, path, false, force, &stage));
    tfuse_status status = tf_write_all(env, stage.lock_fd, path, data, size);
    if (status == TFUSE_OK)
        status = tf_stage_commit(env, &stage);
    tf_stage_abort(env, &stage);
    return status;
}

tfuse_status tfuse_file_save(tfuse_ctx *ctx, const char *path, const void *data, size_t size, int32_t force)
{
    TF_ENTER(ctx, TF_ARG(path), TF_ARG(data));
    return tf_api_leave(ctx, save(&ctx->env, path, data, size, force != 0));
}

tfuse_status tfuse_output_check(tfuse_ctx *ctx, const char *path, int32_t directory, int32_t force)
{
    TF_ENTER(ctx, TF_ARG(path));
    return tf_api_leave(ctx, tf_stage_try(&ctx->env, path, directory != 0, force != 0));
}
