/* SPDX-License-Identifier: Apache-2.0
 *
 * env.h: what travels down through every layer: memory, errors, log, progress, cancellation and
 * threads. tfuse_ctx embeds one; no layer below api/ knows of contexts.
 */
#ifndef TF_BASE_ENV_H
#define TF_BASE_ENV_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tfuse/base.h>

#define TF_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define TF_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* An allocator by value: handles keep one, so they may outlive the context that made them. */
typedef tfuse_allocator tf_mem;

struct tf_pool;
struct tf_meter;

typedef struct tf_env {
    tf_mem mem;
    tfuse_log_fn log;
    void *log_user;
    int32_t log_level;
    tfuse_progress_fn progress;
    void *progress_user;
    uint64_t progress_last_ns;
    atomic_int cancelled;
    const atomic_int *outer; /* of the environment that this one works for: it cancels both; NULL: none */
    atomic_llong *patience; /* of tests: how many times it may be asked before it is cancelled; NULL: nobody counts */
    struct tf_pool *pool; /* NULL: everything runs on the calling thread */
    struct tf_meter *meter; /* what `mem` counts through (meter.h); NULL: nobody counts */
    char error[1024];
} tf_env;

/* ---- memory (alloc.c) ---------------------------------------------------------------------
 * Every block starts on 64 bytes. The size travels in a header, so that tf_free needs only the pointer.
 * tf_alloc and its kin report TFUSE_ENOMEM into env->error themselves. */

/* What a handle of the caller's is: the first member of each, by which one of another kind is known. */
enum {
    TF_KIND_CTX = 0x74660001,
    TF_KIND_MODEL,
    TF_KIND_ARRAY,
    TF_KIND_GRAPH,
    TF_KIND_POLICY,
    TF_KIND_PLAN,
    TF_KIND_STATS,
    TF_KIND_REPAIR,
    TF_KIND_SOLUTION
};

extern const tf_mem tf_mem_default;

void *tf_mem_alloc(const tf_mem *mem, size_t size); /* NULL on failure; size 0 gives a valid block */
void tf_free(const tf_mem *mem, void *ptr);         /* NULL allowed */

void *tf_alloc(tf_env *env, size_t size);
void *tf_calloc(tf_env *env, size_t count, size_t size); /* checks count * size */
char *tf_strdup(tf_env *env, const char *text);
/* Room for count elements; checks the product; not cleared. */
void *tf_alloc_array(tf_env *env, size_t count, size_t size);
/* Grows a block to hold `count` elements (contents kept); *cap in elements, doubled. False on ENOMEM. */
bool tf_grow(tf_env *env, void **ptr, size_t *cap, size_t count, size_t size);

/* An arena: everything that one handle owns, freed at once. */
typedef struct tf_arena {
    tf_mem mem;
    struct tf_arena_chunk *head;
} tf_arena;

void tf_arena_init(tf_arena *arena, const tf_mem *mem);
void *tf_arena_alloc(tf_env *env, tf_arena *arena, size_t size); /* zeroed, 16-aligned */
void *tf_arena_array(tf_env *env, tf_arena *arena, size_t count, size_t size);
char *tf_arena_strdup(tf_env *env, tf_arena *arena, const char *text);
char *tf_arena_printf(tf_env *env, tf_arena *arena, const char *format, ...) TF_PRINTF(3, 4);
void tf_arena_free(tf_arena *arena);

static inline bool tf_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool tf_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* ---- errors, log, progress, cancellation (error.c) ---------------------------------------- */

/* Writes env->error and returns status. Names in hostile files are printed through %s as they are:
 * use tf_printable first. */
void tf_set_error(tf_env *env, const char *format, ...) TF_PRINTF(2, 3);
/* A macro, so that compilers see the status and with it that what an error path leaves unset is not read. */
#define tf_fail(env, status, ...) (tf_set_error((env), __VA_ARGS__), tf_failed(status))
__attribute__((always_inline)) static inline tfuse_status tf_failed(tfuse_status status) { return status; }
/* Puts "prefix: " before the text that is there. */
tfuse_status tf_fail_in(tf_env *env, tfuse_status status, const char *format, ...) TF_PRINTF(3, 4);
/* strerror without static storage. */
tfuse_status tf_fail_errno(tf_env *env, int error_number, const char *format, ...) TF_PRINTF(3, 4);
bool tf_is_utf8(const char *text);
/* Copies text with control characters and bad bytes as '?', cut to size with "..." . Returns buffer. */
const char *tf_printable(char *buffer, size_t size, const char *text);
void tf_log(tf_env *env, int32_t level, const char *format, ...) TF_PRINTF(3, 4);
/* Reports progress (rate limited; first and last always) and polls cancellation:
 * TFUSE_OK or TFUSE_ECANCELLED. Calling thread only. */
tfuse_status tf_progress(tf_env *env, const char *stage, uint64_t done, uint64_t total);
/* TFUSE_ECANCELLED with its text if cancelled. Calling thread only. */
tfuse_status tf_check_cancel(tf_env *env);
/* Any thread. */
static inline bool tf_cancelled(const tf_env *env)
{
    return atomic_load_explicit(&env->cancelled, memory_order_relaxed) != 0 ||
           (env->outer && atomic_load_explicit(env->outer, memory_order_relaxed) != 0) ||
           (env->patience && atomic_fetch_sub(env->patience, 1) <= 0);
}

#define TF_TRY(call)                                     \
    do {                                                 \
        tfuse_status tf_try_status = (call);             \
        if (tf_try_status != TFUSE_OK)                   \
            return tf_try_status;                        \
    } while (0)
/* As TF_TRY, to a label `out:` with a local `status`. */
#define TF_TRY_OUT(call)                                 \
    do {                                                 \
        status = (call);                                 \
        if (status != TFUSE_OK)                          \
            goto out;                                    \
    } while (0)

void tf_env_init(tf_env *env, const tf_mem *mem);

#endif
