/* SPDX-License-Identifier: Apache-2.0
 *
 * context.c: tfuse_ctx, and how exported functions begin and end.
 *
 * `busy` is taken with acquire and given back with release order, so a context may move between threads from call to call.
 * A request to cancel that no call has seen yet ends the next one, whichever it is.
 */
#include "api/api.h"
#include "base/meter.h"
#include "base/pool.h"
#include "num/num.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 1024, MAX_TABLE = 4096 /* no table comes near: a larger struct_size was never set */ };

/* ---- entering and leaving -------------------------------------------------------------------------- */

bool tf_api_is(const void *handle, uint32_t kind)
{
    uint32_t first = 0;
    if (handle)
        memcpy(&first, handle, sizeof first); /* of another kind it may lie anywhere */
    return first == kind;
}

static tfuse_status check_arg(tf_env *env, const tf_api_arg *arg)
{
    static const char *const kinds[] = {"ctx", "model", "array", "graph", "policy", "plan", "stats", "repair", "solution"};
    if (!arg->value)
        return arg->optional ? TFUSE_OK : tf_fail(env, TFUSE_EINVAL, "%s is NULL", arg->name);
    if (!arg->kind || tf_api_is(arg->value, arg->kind))
        return TFUSE_OK;
    return tf_fail(env, TFUSE_EINVAL, "%s is no tfuse_%s, or one that was freed", arg->name, kinds[arg->kind - TF_KIND_CTX]);
}

tfuse_status tf_api_enter(tfuse_ctx *ctx, const tf_api_arg *args)
{
    if (!TF_IS_A(ctx, CTX))
        return TFUSE_EINVAL;
    if (atomic_exchange_explicit(&ctx->busy, 1, memory_order_acquire))
        return TFUSE_ESTATE;
    ctx->env.error[0] = '\0';
    tfuse_status status = tf_check_cancel(&ctx->env);
    for (; status == TFUSE_OK && args && args->name; args++)
        status = check_arg(&ctx->env, args);
    return status == TFUSE_OK ? TFUSE_OK : tf_api_leave(ctx, status);
}

tfuse_status tf_api_leave(tfuse_ctx *ctx, tfuse_status status)
{
    if (status == TFUSE_OK)
        ctx->env.error[0] = '\0';
    else if (!ctx->env.error[0])
        tf_fail(&ctx->env, status, "%s", tfuse_status_name(status));
    if (status == TFUSE_ECANCELLED)
        atomic_store(&ctx->env.cancelled, 0);
    atomic_store_explicit(&ctx->busy, 0, memory_order_release);
    return status;
}

tfuse_status tf_api_table(const void *theirs, void *ours, size_t size, size_t first)
{
    size_t given;
    memcpy(&given, theirs, sizeof given);
    if (given < first)
        return TFUSE_EINVAL;
    if (given > MAX_TABLE)
        return TFUSE_EVERSION;
    const unsigned char *bytes = theirs;
    for (size_t i = size; i < given; i++)
        if (bytes[i])
            return TFUSE_EVERSION;
    memset(ours, 0, size);
    memcpy(ours, theirs, given < size ? given : size);
    memcpy(ours, &size, sizeof size);
    return TFUSE_OK;
}

tfuse_status tf_api_snapshot(void *theirs, const void *ours, size_t size)
{
    size_t room;
    if (!theirs)
        return TFUSE_EINVAL;
    memcpy(&room, theirs, sizeof room);
    if (room <= sizeof room)
        return TFUSE_EINVAL;
    size_t n = room < size ? room : size;
    memcpy((char *)theirs + sizeof room, (const char *)ours + sizeof room, n - sizeof room);
    return TFUSE_OK;
}

tfuse_status tf_api_string(tf_env *env, const char *text, char **out)
{
    *out = strdup(text);
    return *out ? TFUSE_OK : tf_fail(env, TFUSE_ENOMEM, "out of memory for a text of %zu bytes", strlen(text));
}

tfuse_status tf_api_report(tf_env *env, json_t *report, size_t flags, char **out)
{
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status = tf_json_text(env, report, flags, &text);
    json_decref(report);
    if (status == TFUSE_OK)
        status = tf_api_string(env, text.data, out);
    tf_buf_free(&text);
    return status;
}

void tfuse_string_free(char *text)
{
    free(text);
}

/* ---- the context ---------------------------------------------------------------------------------------- */

tfuse_status tfuse_ctx_new(const tfuse_allocator *alloc, tfuse_ctx **out)
{
    TF_OUT(out);
    if (!out)
        return TFUSE_EINVAL;
    tf_mem table = tf_mem_default;
    if (alloc)
        TF_TRY(TF_TABLE(alloc, &table, tfuse_allocator, free));
    if (!table.alloc || !table.free)
        return TFUSE_EINVAL;
    tf_meter *meter = tf_meter_new(&table);
    if (!meter)
        return TFUSE_ENOMEM;
    const tf_mem mem = tf_meter_mem(meter);
    tfuse_ctx *ctx = tf_mem_alloc(&mem, sizeof *ctx);
    if (!ctx) {
        tf_meter_release(meter);
        return TFUSE_ENOMEM;
    }
    tf_env_init(&ctx->env, &mem);
    ctx->env.meter = meter;
    ctx->kind = TF_KIND_CTX;
    atomic_init(&ctx->busy, 0);
    tfuse_status status = tf_solvers_init(&ctx->env, &ctx->solvers);
    if (status != TFUSE_OK) {
        tf_free(&mem, ctx);
        tf_meter_release(meter);
        return status;
    }
    *out = ctx;
    return TFUSE_OK;
}

void tfuse_ctx_free(tfuse_ctx *ctx)
{
    if (!TF_IS_A(ctx, CTX))
        return;
    ctx->kind = 0;
    tf_mem mem = ctx->env.mem;
    tf_meter *meter = ctx->env.meter;
    tf_pool_free(ctx->env.pool);
    tf_solvers_free(&ctx->solvers);
    tf_free(&mem, ctx);
    tf_meter_release(meter);
}

tfuse_status tfuse_ctx_memory(const tfuse_ctx *ctx, uint64_t *live, uint64_t *peak)
{
    if (!TF_IS_A(ctx, CTX))
        return TFUSE_EINVAL;
    if (live)
        *live = tf_meter_live(ctx->env.meter);
    if (peak)
        *peak = tf_meter_peak(ctx->env.meter);
    return TFUSE_OK;
}

const char *tfuse_ctx_error(const tfuse_ctx *ctx)
{
    return TF_IS_A(ctx, CTX) ? ctx->env.error : "";
}

void tfuse_ctx_cancel(tfuse_ctx *ctx)
{
    if (TF_IS_A(ctx, CTX))
        atomic_store(&ctx->env.cancelled, 1);
}

static void replace_pool(tfuse_ctx *ctx, tf_pool *pool)
{
    tf_pool_free(ctx->env.pool);
    ctx->env.pool = pool;
}

tfuse_status tfuse_ctx_set_threads(tfuse_ctx *ctx, uint32_t n)
{
    TF_TRY(tf_api_enter(ctx, NULL));
    tfuse_status status = TFUSE_OK;
    tf_pool *pool = NULL;
    if (n > MAX_THREADS)
        status = tf_fail(&ctx->env, TFUSE_ERANGE, "%u threads are more than the %d supported", (unsigned)n, MAX_THREADS);
    else if (n != 1)
        status = tf_pool_new(&ctx->env, n, &pool);
    if (status == TFUSE_OK)
        replace_pool(ctx, pool);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_ctx_set_executor(tfuse_ctx *ctx, const tfuse_executor *ex)
{
    TF_TRY(tf_api_enter(ctx, NULL));
    tfuse_executor table;
    tfuse_status status = ex ? TF_TABLE(ex, &table, tfuse_executor, parallel_for) : TFUSE_OK;
    tf_pool *pool = NULL;
    if (status == TFUSE_OK && ex && (!table.parallel_for || table.concurrency == 0))
        status = tf_fail(&ctx->env, TFUSE_EINVAL, "an executor needs parallel_for and a concurrency of at least 1");
    if (status == TFUSE_OK && ex)
        status = tf_pool_new_executor(&ctx->env, &table, &pool);
    if (status == TFUSE_OK)
        replace_pool(ctx, pool);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_ctx_set_log(tfuse_ctx *ctx, tfuse_log_fn fn, void *user, int32_t level)
{
    TF_TRY(tf_api_enter(ctx, NULL));
    ctx->env.log = fn;
    ctx->env.log_user = user;
    ctx->env.log_level = level;
    return tf_api_leave(ctx, TFUSE_OK);
}

tfuse_status tfuse_ctx_set_progress(tfuse_ctx *ctx, tfuse_progress_fn fn, void *user)
{
    TF_TRY(tf_api_enter(ctx, NULL));
    ctx->env.progress = fn;
    ctx->env.progress_user = user;
    return tf_api_leave(ctx, TFUSE_OK);
}

/* ---- names ------------------------------------------------------------------------------------------------- */

const char *tfuse_status_name(tfuse_status status)
{
    static const struct {
        tfuse_status status;
        const char *name;
    } names[] = {
#define ROW(code) {code, #code}
        ROW(TFUSE_OK), ROW(TFUSE_EINVAL), ROW(TFUSE_ENOMEM), ROW(TFUSE_ERANGE), ROW(TFUSE_ESTATE),
        ROW(TFUSE_EUNSUPPORTED), ROW(TFUSE_ECANCELLED), ROW(TFUSE_ECALLBACK), ROW(TFUSE_EKEY), ROW(TFUSE_EIO),
        ROW(TFUSE_EFORMAT), ROW(TFUSE_ECORRUPT), ROW(TFUSE_EVERSION), ROW(TFUSE_EEXIST), ROW(TFUSE_ENOTFOUND),
        ROW(TFUSE_ESHAPE), ROW(TFUSE_EDTYPE), ROW(TFUSE_EGRAPH), ROW(TFUSE_ENUMERIC), ROW(TFUSE_ECONVERGE),
        ROW(TFUSE_EINTERNAL),
#undef ROW
    };
    for (size_t i = 0; i < TF_LEN(names); i++)
        if (names[i].status == status)
            return names[i].name;
    return "TFUSE_E?";
}

const char *tfuse_dtype_name(tfuse_dtype dtype)
{
    return tf_dtype_name(dtype);
}

size_t tfuse_dtype_size(tfuse_dtype dtype)
{
    return tf_dtype_size(dtype);
}
