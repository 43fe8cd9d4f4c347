/* SPDX-License-Identifier: Apache-2.0
 *
 * Parallel loops: every index once, lanes exclusive, nesting, executors, many loops in a row.
 */
#include "t.h"

#include <pthread.h>
#include <signal.h>

enum { N = 1000, EXEC_THREADS = 4 };

typedef struct counts {
    tf_env *env;
    atomic_int hits[N];
    atomic_int lane_busy[64];
    atomic_int clashes;
    uint32_t lanes;
} counts;

static void count_body(void *arg, uint32_t i)
{
    counts *c = arg;
    atomic_fetch_add(&c->hits[i], 1);
}

static void lane_body(void *arg, uint32_t i, uint32_t lane)
{
    counts *c = arg;
    if (lane >= c->lanes || atomic_fetch_add(&c->lane_busy[lane], 1) != 0)
        atomic_fetch_add(&c->clashes, 1);
    for (volatile int spin = 0; spin < 200; spin++) {
    }
    atomic_fetch_add(&c->hits[i], 1);
    if (lane < c->lanes)
        atomic_fetch_sub(&c->lane_busy[lane], 1);
}

static void check_hits(const counts *c, uint32_t n, int want)
{
    for (uint32_t i = 0; i < N; i++)
        ck_assert_int_eq(atomic_load(&c->hits[i]), i < n ? want : 0);
}

START_TEST(test_every_index_once)
{
    static const uint32_t threads[] = {1, 2, 3, 8};
    static const uint32_t sizes[] = {0, 1, 2, 7, N};
    for (size_t t = 0; t < TF_LEN(threads); t++) {
        tf_env *env = t_env(threads[t]);
        ck_assert_uint_eq(tf_threads(env), threads[t]);
        for (size_t s = 0; s < TF_LEN(sizes); s++) {
            counts c = {.env = env, .lanes = tf_threads(env)};
            tf_parallel_for(env, sizes[s], count_body, &c);
            tf_parallel_lanes(env, sizes[s], lane_body, &c);
            check_hits(&c, sizes[s], 2);
            ck_assert_int_eq(atomic_load(&c.clashes), 0);
        }
        t_env_free(env);
    }
}
END_TEST

START_TEST(test_many_loops)
{
    tf_env *env = t_env(4);
    counts c = {.env = env};
    for (int i = 0; i < 5000; i++)
        tf_parallel_for(env, 5, count_body, &c);
    check_hits(&c, 5, 5000);
    t_env_free(env);
}
END_TEST

typedef struct nest {
    tf_env *env;
    pthread_t self;
    atomic_int strayed, ran;
} nest;

static void inner_body(void *arg, uint32_t i)
{
    nest *n = arg;
    (void)i;
    atomic_fetch_add(&n->ran, 1);
    if (!pthread_equal(pthread_self(), n->self))
        atomic_fetch_add(&n->strayed, 1);
}

static void outer_body(void *arg, uint32_t i)
{
    nest *shared = arg;
    nest mine = {.env = shared->env, .self = pthread_self()};
    (void)i;
    tf_parallel_for(mine.env, 20, inner_body, &mine);
    atomic_fetch_add(&shared->ran, atomic_load(&mine.ran));
    atomic_fetch_add(&shared->strayed, atomic_load(&mine.strayed));
}

START_TEST(test_nested_loops_stay)
{
    tf_env *env = t_env(4);
    nest n = {.env = env};
    tf_parallel_for(env, 50, outer_body, &n);
    ck_assert_int_eq(atomic_load(&n.ran), 1000);
    ck_assert_int_eq(atomic_load(&n.strayed), 0);
    t_env_free(env);
}
END_TEST

/* An executor that always uses EXEC_THREADS threads, each taking every fourth index. */
typedef struct slice {
    void (*body)(void *arg, uint32_t i);
    void *arg;
    uint32_t first, n;
} slice;

static void *run_slice(void *arg)
{
    const slice *s = arg;
    for (uint32_t i = s->first; i < s->n; i += EXEC_THREADS)
        s->body(s->arg, i);
    return NULL;
}

static void exec_for(void *user, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg)
{
    pthread_t threads[EXEC_THREADS];
    slice slices[EXEC_THREADS];
    ++*(int *)user;
    for (uint32_t t = 0; t < EXEC_THREADS; t++) {
        slices[t] = (slice){body, arg, t, n};
        ck_assert_int_eq(pthread_create(&threads[t], NULL, run_slice, &slices[t]), 0);
    }
    for (uint32_t t = 0; t < EXEC_THREADS; t++)
        pthread_join(threads[t], NULL);
}

/* 4 is what the executor does, 2 is a lie: more bodies at once than it said. */
START_TEST(test_executor)
{
    for (uint32_t claim = 2; claim <= 4; claim += 2) {
        tf_env *env = t_env(1);
        int calls = 0;
        tfuse_executor ex = {sizeof ex, &calls, claim, exec_for};
        t_ok(env, tf_pool_new_executor(env, &ex, &env->pool));
        ck_assert_uint_eq(tf_threads(env), claim);
        counts c = {.env = env, .lanes = claim};
        tf_parallel_for(env, N, count_body, &c);
        tf_parallel_lanes(env, N, lane_body, &c);
        check_hits(&c, N, 2);
        ck_assert_int_eq(atomic_load(&c.clashes), 0);
        nest n = {.env = env};
        tf_parallel_for(env, 50, outer_body, &n);
        ck_assert_int_eq(atomic_load(&n.ran), 1000);
        ck_assert_int_eq(atomic_load(&n.strayed), 0);
        ck_assert_int_eq(calls, 3);
        t_env_free(env);
    }
}
END_TEST

START_TEST(test_bad_arguments)
{
    tf_env *env = t_env(1);
    tf_pool *pool = NULL;
    t_fails(env, tf_pool_new(env, 1025, &pool), TFUSE_ERANGE, "1025");
    ck_assert_ptr_null(pool);
    int calls = 0;
    tfuse_executor ex = {sizeof ex, &calls, 0, exec_for};
    t_fails(env, tf_pool_new_executor(env, &ex, &pool), TFUSE_ERANGE, "concurrency");
    ex.concurrency = 2;
    ex.parallel_for = NULL;
    t_fails(env, tf_pool_new_executor(env, &ex, &pool), TFUSE_EINVAL, "parallel_for");
    tf_pool_free(NULL);
    t_ok(env, tf_pool_new(env, 0, &pool));
    env->pool = pool;
    ck_assert_uint_eq(tf_threads(env), tf_cores());
    ck_assert_uint_ge(tf_cores(), 1);
    t_env_free(env);
}
END_TEST

static void *refuse_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    return (*left)-- > 0 ? tf_mem_default.alloc(NULL, size, align) : NULL;
}

static void plain_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user;
    tf_mem_default.free(NULL, ptr, size, align);
}

START_TEST(test_out_of_memory)
{
    for (int allowed = 0; allowed < 2; allowed++) {
        int left = allowed, calls = 0;
        tf_mem mem = {sizeof mem, &left, refuse_alloc, plain_free};
        tfuse_executor ex = {sizeof ex, &calls, 2, exec_for};
        tf_env env;
        tf_pool *pool;
        tf_env_init(&env, &mem);
        t_fails(&env, tf_pool_new(&env, 4, &pool), TFUSE_ENOMEM, "out of memory");
        ck_assert_ptr_null(pool);
        left = allowed;
        t_fails(&env, tf_pool_new_executor(&env, &ex, &pool), TFUSE_ENOMEM, "out of memory");
        ck_assert_ptr_null(pool);
    }
}
END_TEST

typedef struct masks {
    pthread_t starter;
    atomic_int open;
} masks;

static void mask_body(void *arg, uint32_t i)
{
    masks *m = arg;
    sigset_t now;
    (void)i;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    if (!pthread_equal(pthread_self(), m->starter) && !sigismember(&now, SIGINT))
        atomic_fetch_add(&m->open, 1);
}

/* Signals are for the threads of the host. */
START_TEST(test_workers_block_signals)
{
    tf_env *env = t_env(4);
    masks m = {.starter = pthread_self()};
    tf_parallel_for(env, 500, mask_body, &m);
    ck_assert_int_eq(atomic_load(&m.open), 0);
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    ck_assert(!sigismember(&now, SIGINT));
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("pool");
    T_ADD(test_every_index_once);
    T_ADD(test_many_loops);
    T_ADD(test_nested_loops_stay);
    T_ADD(test_executor);
    T_ADD(test_bad_arguments);
    T_ADD(test_out_of_memory);
    T_ADD(test_workers_block_signals);
    return t_suite;
}
