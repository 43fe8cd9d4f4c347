/* SPDX-License-Identifier: Apache-2.0
 *
 * alloc.c: blocks through the caller's allocator.
 *
 * A block is 64 bytes of header, which hold the size that was asked of the allocator, and then the
 * memory that is handed out. 64 bytes is a cache line and the widest vector register, so every
 * array starts aligned for both. This file is the one place below api/ that uses the malloc family.
 *
 * The default allocator asks for huge pages inside large blocks: weights come and go tensor by tensor, and touching a block anew
 * costs more, page by page, than most of what is then done with it. Whole pages only, so a block grows by nothing.
 */
#include "base/env.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK_ALIGN = 64, GROW_MIN = 8, HUGE_PAGE = 2 << 20 };

static void *default_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    void *ptr = NULL;
    if (align < sizeof(void *))
        align = sizeof(void *);
    if (size < HUGE_PAGE)
        return posix_memalign(&ptr, align, size) == 0 ? ptr : NULL;
    if (posix_memalign(&ptr, align < HUGE_PAGE ? HUGE_PAGE : align, size) != 0)
        return NULL;
    (void)madvise(ptr, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* only a hint: a system without such pages says no */
    return ptr;
}

static void default_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    free(ptr);
}

const tf_mem tf_mem_default = {sizeof(tf_mem), NULL, default_alloc, default_free};

void *tf_mem_alloc(const tf_mem *mem, size_t size)
{
    size_t total;
    if (!tf_add_size(size, BLOCK_ALIGN, &total))
        return NULL;
    char *block = mem->alloc(mem->user, total, BLOCK_ALIGN);
    if (!block)
        return NULL;
    memcpy(block, &total, sizeof total);
    return block + BLOCK_ALIGN;
}

void tf_free(const tf_mem *mem, void *ptr)
{
    if (!ptr)
        return;
    char *block = (char *)ptr - BLOCK_ALIGN;
    size_t total;
    memcpy(&total, block, sizeof total);
    mem->free(mem->user, block, total, BLOCK_ALIGN);
}

void *tf_alloc(tf_env *env, size_t size)
{
    void *ptr = tf_mem_alloc(&env->mem, size);
    if (!ptr)
        tf_fail(env, TFUSE_ENOMEM, "out of memory: %zu bytes were refused", size);
    return ptr;
}

char *tf_strdup(tf_env *env, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = tf_alloc(env, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void *tf_alloc_array(tf_env *env, size_t count, size_t size)
{
    size_t bytes;
    if (!tf_mul_size(count, size, &bytes)) {
        tf_fail(env, TFUSE_ENOMEM, "out of memory: %zu elements of %zu bytes cannot be addressed", count, size);
        return NULL;
    }
    return tf_alloc(env, bytes);
}

void *tf_calloc(tf_env *env, size_t count, size_t size)
{
    void *ptr = tf_alloc_array(env, count, size);
    if (ptr)
        memset(ptr, 0, count * size);
    return ptr;
}

bool tf_grow(tf_env *env, void **ptr, size_t *cap, size_t count, size_t size)
{
    if (count <= *cap)
        return true;
    size_t want = *cap > SIZE_MAX / 2 ? count : *cap * 2;
    if (want < count)
        want = count;
    if (want < GROW_MIN)
        want = GROW_MIN;
    void *grown = tf_alloc_array(env, want, size);
    if (!grown)
        return false;
    if (*ptr)
        memcpy(grown, *ptr, *cap * size);
    tf_free(&env->mem, *ptr);
    *ptr = grown;
    *cap = want;
    return true;
}

void tf_env_init(tf_env *env, const tf_mem *mem)
{
    memset(env, 0, sizeof *env);
    env->mem = mem ? *mem : tf_mem_default;
    atomic_init(&env->cancelled, 0);
}
