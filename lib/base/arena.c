/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.c: memory that one handle owns, handed out in order and freed at once.
 *
 * A list of chunks, the one that is being filled at its head. A request that is large beside a
 * chunk gets a chunk of its own behind the head, so it does not waste what is left there.
 */
#include "base/env.h"

#include <stdio.h>
#include <string.h>

enum { ARENA_ALIGN = 16, ARENA_CHUNK = 8192, ARENA_LARGE = ARENA_CHUNK / 4 };

typedef struct tf_arena_chunk {
    struct tf_arena_chunk *next;
    size_t used, size;  /* of data */
    size_t reserved;    /* makes data start on 16 bytes where size_t has 8 */
    _Alignas(ARENA_ALIGN) char data[];
} chunk;

void tf_arena_init(tf_arena *arena, const tf_mem *mem)
{
    arena->mem = *mem;
    arena->head = NULL;
}

void tf_arena_free(tf_arena *arena)
{
    while (arena->head) {
        chunk *next = arena->head->next;
        tf_free(&arena->mem, arena->head);
        arena->head = next;
    }
}

static chunk *chunk_new(tf_arena *arena, size_t size)
{
    size_t bytes;
    if (!tf_add_size(size, sizeof(chunk), &bytes))
        return NULL;
    chunk *c = tf_mem_alloc(&arena->mem, bytes);
    if (!c)
        return NULL;
    memset(c, 0, bytes);
    c->size = size;
    return c;
}

/* The chunk that takes the next `size` bytes; NULL when there is no memory. */
static chunk *chunk_for(tf_arena *arena, size_t size)
{
    chunk *head = arena->head;
    if (head && head->size - head->used >= size)
        return head;
    bool large = size > ARENA_LARGE;
    chunk *c = chunk_new(arena, large ? size : ARENA_CHUNK);
    if (!c)
        return NULL;
    if (large && head) {
        c->next = head->next;
        head->next = c;
    } else {
        c->next = head;
        arena->head = c;
    }
    return c;
}

void *tf_arena_alloc(tf_env *env, tf_arena *arena, size_t size)
{
    size_t rounded;
    chunk *c = NULL;
    if (tf_add_size(size, ARENA_ALIGN - 1, &rounded)) {
        rounded -= rounded % ARENA_ALIGN;
        c = chunk_for(arena, rounded);
    }
    if (!c) {
        tf_fail(env, TFUSE_ENOMEM, "out of memory: %zu bytes were refused", size);
        return NULL;
    }
    void *ptr = c->data + c->used;
    c->used += rounded;
    return ptr;
}

void *tf_arena_array(tf_env *env, tf_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!tf_mul_size(count, size, &bytes)) {
        tf_fail(env, TFUSE_ENOMEM, "out of memory: %zu elements of %zu bytes cannot be addressed", count, size);
        return NULL;
    }
    return tf_arena_alloc(env, arena, bytes);
}

char *tf_arena_strdup(tf_env *env, tf_arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = tf_arena_alloc(env, arena, size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

char *tf_arena_printf(tf_env *env, tf_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = NULL;
    if (length >= 0)
        text = tf_arena_alloc(env, arena, (size_t)length + 1);
    else
        tf_fail(env, TFUSE_ENOMEM, "out of memory: a text could not be formatted");
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}
