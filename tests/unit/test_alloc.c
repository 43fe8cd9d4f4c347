/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks, arenas, buffers, error texts, log, progress and cancellation.
 */
#include "t.h"

#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Fails the call that makes `left` negative. */
static void *failing_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    return (*left)-- > 0 ? tf_mem_default.alloc(NULL, size, align) : NULL;
}

static void failing_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user;
    tf_mem_default.free(NULL, ptr, size, align);
}

typedef struct seen {
    size_t size[2], align[2];
} seen;

static void *seeing_alloc(void *user, size_t size, size_t align)
{
    seen *s = user;
    s->size[0] = size;
    s->align[0] = align;
    return tf_mem_default.alloc(NULL, size, align);
}

static void seeing_free(void *user, void *ptr, size_t size, size_t align)
{
    seen *s = user;
    s->size[1] = size;
    s->align[1] = align;
    tf_mem_default.free(NULL, ptr, size, align);
}

/* Whether the mapping that holds ptr was asked to consist of huge pages. */
static bool wants_huge(const void *ptr)
{
    char line[512];
    bool here = false, huge = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long start, end;
        if (sscanf(line, "%llx-%llx", &start, &end) == 2)
            here = (uintptr_t)ptr >= start && (uintptr_t)ptr < end;
        else if (here && !strncmp(line, "VmFlags:", 8))
            huge = strstr(line, " hg") != NULL;
    }
    if (f)
        fclose(f);
    return huge;
}

static void *mapping_alloc(void *user, size_t size, size_t align)
{
    (void)align;
    *(void **)user = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return *(void **)user;
}

static void mapping_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)align;
    munmap(ptr, size);
}

/* Large blocks are on huge pages where the system has them, and only where the library's own allocator made them. */
START_TEST(test_large_blocks)
{
    enum { SIZE = 9 << 20, STEP = 4096 };
    void *mapped = NULL;
    const tf_mem caller = {sizeof caller, &mapped, mapping_alloc, mapping_free}, *mem[] = {&tf_mem_default, &caller};
    for (size_t k = 0; k < TF_LEN(mem); k++) {
        char *p = tf_mem_alloc(mem[k], SIZE);
        ck_assert_ptr_nonnull(p);
        for (size_t i = 0; i < SIZE; i += STEP)
            p[i] = 1;
        if (k == 1)
            ck_assert(!wants_huge(p + SIZE / 2));
        else if (!access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK))
            ck_assert(wants_huge(p + SIZE / 2));
        tf_free(mem[k], p);
    }
}
END_TEST

START_TEST(test_blocks)
{
    tf_env *env = t_env(1);
    for (size_t size = 0; size < 300; size += 7) {
        char *p = tf_alloc(env, size);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        memset(p, 0xab, size);
        tf_free(&env->mem, p);
    }
    tf_free(&env->mem, NULL);
    int *zero = tf_calloc(env, 100, sizeof *zero);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(zero[i], 0);
    tf_free(&env->mem, zero);
    t_env_free(env);
}
END_TEST

START_TEST(test_free_gets_what_alloc_got)
{
    seen s = {{0, 1}, {0, 1}};
    tf_mem mem = {sizeof mem, &s, seeing_alloc, seeing_free};
    tf_free(&mem, tf_mem_alloc(&mem, 1000));
    ck_assert_uint_ge(s.size[0], 1000);
    ck_assert_uint_eq(s.size[0], s.size[1]);
    ck_assert_uint_eq(s.align[0], s.align[1]);
}
END_TEST

START_TEST(test_overflow)
{
    tf_env *env = t_env(1);
    ck_assert_ptr_null(tf_alloc(env, SIZE_MAX));
    ck_assert_ptr_nonnull(strstr(env->error, "out of memory"));
    ck_assert_ptr_null(tf_calloc(env, SIZE_MAX / 2, 3));
    ck_assert_ptr_null(tf_alloc_array(env, SIZE_MAX / 8 + 1, 8));
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    ck_assert_ptr_null(tf_arena_alloc(env, &arena, SIZE_MAX));
    ck_assert_ptr_null(tf_arena_alloc(env, &arena, SIZE_MAX - 40));
    ck_assert_ptr_null(tf_arena_array(env, &arena, SIZE_MAX / 2, 3));
    tf_arena_free(&arena);
    t_env_free(env);
}
END_TEST

START_TEST(test_grow)
{
    tf_env *env = t_env(1);
    void *p = NULL;
    size_t cap = 0;
    for (size_t i = 0; i < 1000; i++) {
        ck_assert(tf_grow(env, &p, &cap, i + 1, sizeof(size_t)));
        ck_assert_uint_ge(cap, i + 1);
        ((size_t *)p)[i] = i * i;
    }
    for (size_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(((size_t *)p)[i], i * i);
    ck_assert(!tf_grow(env, &p, &cap, SIZE_MAX / 4, sizeof(size_t)));
    ck_assert_uint_eq(((size_t *)p)[999], 999 * 999);
    tf_free(&env->mem, p);
    t_env_free(env);
}
END_TEST

START_TEST(test_arena)
{
    tf_env *env = t_env(1);
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    unsigned char *block[200];
    for (size_t i = 0; i < 200; i++) {
        size_t size = i % 10 == 9 ? 5000 + i : i;
        block[i] = tf_arena_alloc(env, &arena, size);
        ck_assert_ptr_nonnull(block[i]);
        ck_assert_uint_eq((uintptr_t)block[i] % 16, 0);
        for (size_t j = 0; j < size; j++)
            ck_assert_uint_eq(block[i][j], 0);
        memset(block[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) {
        size_t size = i % 10 == 9 ? 5000 + i : i;
        for (size_t j = 0; j < size; j++)
            ck_assert_uint_eq(block[i][j], i);
    }
    ck_assert_str_eq(tf_arena_strdup(env, &arena, "a name"), "a name");
    ck_assert_str_eq(tf_arena_printf(env, &arena, "%s.%d", "layer", 12), "layer.12");
    tf_arena_free(&arena);
    tf_arena_free(&arena);
    t_env_free(env);
}
END_TEST

START_TEST(test_every_failure)
{
    for (int allowed = 0; allowed < 4; allowed++) {
        int left = allowed;
        tf_mem mem = {sizeof mem, &left, failing_alloc, failing_free};
        tf_env env;
        tf_env_init(&env, &mem);
        tf_arena arena;
        tf_arena_init(&arena, &env.mem);
        tf_buf buf;
        tf_buf_init(&buf, &env.mem);
        bool arena_ok = tf_arena_alloc(&env, &arena, 10) && tf_arena_alloc(&env, &arena, 9000);
        bool buf_ok = tf_buf_printf(&env, &buf, "%070d", 7) == TFUSE_OK;
        ck_assert_int_eq(arena_ok, allowed >= 2);
        ck_assert_int_eq(buf_ok, allowed >= 3);
        if (!buf_ok)
            ck_assert_ptr_nonnull(strstr(env.error, "out of memory"));
        tf_buf_free(&buf);
        tf_arena_free(&arena);
    }
}
END_TEST

START_TEST(test_buf)
{
    tf_env *env = t_env(1);
    tf_buf buf;
    tf_buf_init(&buf, &env->mem);
    ck_assert_ptr_null(buf.data);
    t_ok(env, tf_buf_add(env, &buf, NULL, 0));
    ck_assert_str_eq(buf.data, "");
    for (int i = 0; i < 500; i++)
        t_ok(env, tf_buf_printf(env, &buf, "%03d,", i));
    ck_assert_uint_eq(buf.len, 2000);
    ck_assert_uint_eq(strlen(buf.data), 2000);
    ck_assert_int_eq(strncmp(buf.data + 4 * 321, "321,", 4), 0);
    t_ok(env, tf_buf_add(env, &buf, "\0x", 2));
    ck_assert_uint_eq(buf.len, 2002);
    ck_assert_int_eq(buf.data[2001], 'x');
    ck_assert_int_eq(buf.data[2002], 0);
    t_fails(env, tf_buf_reserve(env, &buf, SIZE_MAX - 1), TFUSE_ENOMEM, "out of memory");
    tf_buf_free(&buf);
    t_env_free(env);
}
END_TEST

START_TEST(test_printable)
{
    char b[64], small[8];
    ck_assert_str_eq(tf_printable(b, sizeof b, "plain"), "plain");
    ck_assert_str_eq(tf_printable(b, sizeof b, "a\nb\x1b[0m\x7f"), "a?b?[0m?");
    ck_assert_str_eq(tf_printable(b, sizeof b, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    ck_assert_str_eq(tf_printable(b, sizeof b, "\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xc2\x9b|\xe2\x82"),
                     "??|???|????|??|??");
    ck_assert(tf_is_utf8("a\nb\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc2\x9b") && tf_is_utf8(""));
    ck_assert(!tf_is_utf8("\xc0\xaf") && !tf_is_utf8("\xed\xa0\x80") && !tf_is_utf8("\xe2\x82") && !tf_is_utf8("a\x80"));
    ck_assert_str_eq(tf_printable(small, 8, "1234567"), "1234567");
    ck_assert_str_eq(tf_printable(small, 8, "12345678"), "1234...");
    ck_assert_str_eq(tf_printable(small, 8, "123\xc3\xa9\xc3\xa9\xc3\xa9"), "123...");
    ck_assert_str_eq(tf_printable(small, 3, "12345678"), "..");
    ck_assert_str_eq(tf_printable(small, 1, "12345678"), "");
}
END_TEST

START_TEST(test_errors)
{
    tf_env *env = t_env(1);
    t_fails(env, tf_fail(env, TFUSE_EFORMAT, "%s: line %d", "f", 3), TFUSE_EFORMAT, "f: line 3");
    t_fails(env, tf_fail_in(env, TFUSE_EFORMAT, "model %d", 2), TFUSE_EFORMAT, "model 2: f: line 3");
    t_fails(env, tf_fail(env, TFUSE_EIO, "%s\n%s", env->error, "x"), TFUSE_EIO, "model 2: f: line 3?x");
    t_fails(env, tf_fail_errno(env, ENOSPC, "out"), TFUSE_EIO, "out: No space left");
    t_fails(env, tf_fail_errno(env, ENOENT, "in"), TFUSE_ENOTFOUND, "in: No such file");
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    t_fails(env, tf_fail(env, TFUSE_EIO, "%s", text), TFUSE_EIO, "xxx...");
    ck_assert_uint_eq(strlen(env->error), sizeof env->error - 1);
    t_env_free(env);
}
END_TEST

typedef struct heard {
    int calls, stop_at;
    uint64_t done;
    char line[64];
} heard;

static int32_t on_progress(void *user, const tfuse_progress *p)
{
    heard *h = user;
    h->done = p->done;
    return ++h->calls == h->stop_at;
}

static void on_log(void *user, int32_t level, const char *line)
{
    heard *h = user;
    h->calls = level;
    tf_printable(h->line, sizeof h->line, line);
}

START_TEST(test_progress)
{
    tf_env *env = t_env(1);
    heard h = {0};
    env->progress = on_progress;
    env->progress_user = &h;
    for (uint64_t i = 0; i <= 100000; i++)
        t_ok(env, tf_progress(env, "count", i, 100000));
    ck_assert_uint_eq(h.done, 100000);
    ck_assert_int_ge(h.calls, 2);
    ck_assert_int_lt(h.calls, 1000); /* not 100000: 50 ms lie between two */
    h.stop_at = h.calls + 1;
    t_fails(env, tf_progress(env, "count", 5, 5), TFUSE_ECANCELLED, "cancelled");
    h.stop_at = 0;
    atomic_store(&env->cancelled, 1);
    t_fails(env, tf_progress(env, "count", 5, 5), TFUSE_ECANCELLED, "cancelled");
    t_fails(env, tf_check_cancel(env), TFUSE_ECANCELLED, "cancelled");
    t_env_free(env);
}
END_TEST

START_TEST(test_log)
{
    tf_env *env = t_env(1);
    heard h = {0};
    tf_log(env, TFUSE_LOG_ERROR, "nobody listens");
    env->log = on_log;
    env->log_user = &h;
    env->log_level = TFUSE_LOG_WARN;
    tf_log(env, TFUSE_LOG_INFO, "quiet");
    ck_assert_int_eq(h.calls, 0);
    tf_log(env, TFUSE_LOG_WARN, "%d\nlines", 2);
    ck_assert_int_eq(h.calls, TFUSE_LOG_WARN);
    ck_assert_str_eq(h.line, "2?lines");
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("alloc");
    T_ADD(test_blocks);
    T_ADD(test_large_blocks);
    T_ADD(test_free_gets_what_alloc_got);
    T_ADD(test_overflow);
    T_ADD(test_grow);
    T_ADD(test_arena);
    T_ADD(test_every_failure);
    T_ADD(test_buf);
    T_ADD(test_printable);
    T_ADD(test_errors);
    T_ADD(test_progress);
    T_ADD(test_log);
    return t_suite;
}
