/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.c: parallel loops.
 *
 * A loop lives on the stack of the thread that starts it, which takes part. Workers enter it under the
 * lock and are counted in; the starter closes it when no index is left and waits for those inside, so a worker
 * that wakes late never delays it. Indices are handed out by an atomic counter.
 *
 * Only one loop uses the pool at a time: `busy` is taken by whoever starts one. A loop that finds
 * it taken was started inside a body and runs where it is. So nesting needs no
 * thread-local state, and no thread ever waits for a loop other than its own.
 */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };

typedef void lane_body(void *arg, uint32_t i, uint32_t lane);

typedef struct loop {
    lane_body *body;
    void *arg;
    uint32_t n;
    atomic_uint_fast64_t next; /* wider than n: overshoots by one for each thread */
    struct tf_pool *pool;
} loop;

typedef struct worker {
    struct tf_pool *pool;
    uint32_t lane;
    pthread_t thread;
} worker;

struct tf_pool {
    tf_mem mem;
    uint32_t threads; /* bodies that run at once */
    atomic_int busy;

    tfuse_executor executor; /* in use when parallel_for is not NULL */
    atomic_int *lane_taken;  /* an executor's bodies take a lane each while they run */

    worker *workers;
    uint32_t started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake, left;
    loop *job;
    uint64_t generation; /* tells a worker whether it has been in this job before */
    uint32_t inside;
    bool stop;
};

static void run_indices(loop *job, uint32_t lane)
{
    for (;;) {
        uint64_t i = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        if (i >= job->n)
            return;
        job->body(job->arg, (uint32_t)i, lane);
    }
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    tf_pool *pool = self->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop) {
        if (!pool->job || pool->generation == seen) {
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        loop *job = pool->job;
        seen = pool->generation;
        pool->inside++;
        pthread_mutex_unlock(&pool->lock);
        run_indices(job, self->lane);
        pthread_mutex_lock(&pool->lock);
        if (--pool->inside == 0)
            pthread_cond_signal(&pool->left);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void run_on_workers(tf_pool *pool, loop *job)
{
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->generation++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    run_indices(job, 0);
    pthread_mutex_lock(&pool->lock);
    pool->job = NULL;
    while (pool->inside > 0)
        pthread_cond_wait(&pool->left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

/* One index on the executor's thread, under a lane that is free. An executor that runs more bodies at
 * once than it said makes the surplus wait. */
static void executor_body(void *arg, uint32_t i)
{
    loop *job = arg;
    tf_pool *pool = job->pool;
    uint32_t lane = 0;
    while (atomic_exchange_explicit(&pool->lane_taken[lane], 1, memory_order_acquire) != 0) {
        if (++lane == pool->threads) {
            lane = 0;
            sched_yield();
        }
    }
    job->body(job->arg, i, lane);
    atomic_store_explicit(&pool->lane_taken[lane], 0, memory_order_release);
}

void tf_parallel_lanes(tf_env *env, uint32_t n, void (*body)(void *arg, uint32_t i, uint32_t lane), void *arg)
{
    tf_pool *pool = env->pool;
    int idle = 0;
    if (!pool || pool->threads == 1 || n <= 1 ||
        !atomic_compare_exchange_strong_explicit(&pool->busy, &idle, 1, memory_order_acquire,
                                                 memory_order_relaxed)) {
        for (uint32_t i = 0; i < n; i++)
            body(arg, i, 0);
        return;
    }
    loop job = {.body = body, .arg = arg, .n = n, .pool = pool};
    if (pool->executor.parallel_for)
        pool->executor.parallel_for(pool->executor.user, n, executor_body, &job);
    else
        run_on_workers(pool, &job);
    atomic_store_explicit(&pool->busy, 0, memory_order_release);
}

typedef struct plain_loop {
    void (*body)(void *arg, uint32_t i);
    void *arg;
} plain_loop;

static void plain_body(void *arg, uint32_t i, uint32_t lane)
{
    const plain_loop *p = arg;
    (void)lane;
    p->body(p->arg, i);
}

void tf_parallel_for(tf_env *env, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg)
{
    plain_loop p = {body, arg};
    tf_parallel_lanes(env, n, plain_body, &p);
}

uint32_t tf_threads(const tf_env *env)
{
    return env->pool ? env->pool->threads : 1;
}

uint32_t tf_cores(void)
{
    long n = 0;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
#endif
    if (n < 1)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (uint32_t)n;
}

static tf_pool *pool_alloc(tf_env *env, uint32_t threads)
{
    tf_pool *pool = tf_calloc(env, 1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->mem = env->mem;
    pool->threads = threads;
    atomic_init(&pool->busy, 0);
    return pool;
}

/* Workers leave every signal to the threads of the host. */
static int start_workers(tf_pool *pool)
{
    sigset_t all, before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error)
        return error;
    while (!error && pool->started < pool->threads - 1) {
        worker *w = &pool->workers[pool->started];
        w->pool = pool;
        w->lane = pool->started + 1;
        error = pthread_create(&w->thread, NULL, worker_main, w);
        if (!error)
            pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

tfuse_status tf_pool_new(tf_env *env, uint32_t threads, tf_pool **out)
{
    *out = NULL;
    if (threads == 0)
        threads = tf_cores();
    if (threads > MAX_THREADS)
        return tf_fail(env, TFUSE_ERANGE, "threads: %u is more than %d", threads, MAX_THREADS);
    tf_pool *pool = pool_alloc(env, threads);
    if (!pool)
        return TFUSE_ENOMEM;
    pool->workers = tf_calloc(env, threads, sizeof *pool->workers);
    if (!pool->workers) {
        tf_free(&pool->mem, pool);
        return TFUSE_ENOMEM;
    }
    /* With default attributes these three cannot fail. */
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->left, NULL);
    int error = start_workers(pool);
    if (error) {
        tf_fail_errno(env, error, "threads: of %u only %u could be started; ask for fewer", threads,
                      pool->started + 1);
        tf_pool_free(pool);
        return TFUSE_ENOMEM;
    }
    *out = pool;
    return TFUSE_OK;
}

tfuse_status tf_pool_new_executor(tf_env *env, const tfuse_executor *ex, tf_pool **out)
{
    *out = NULL;
    if (ex->struct_size < sizeof *ex || !ex->parallel_for)
        return tf_fail(env, TFUSE_EINVAL, "executor: struct_size or parallel_for is not set");
    if (ex->concurrency < 1 || ex->concurrency > MAX_THREADS)
        return tf_fail(env, TFUSE_ERANGE, "executor: a concurrency of %u is not within 1 to %d", ex->concurrency,
                       MAX_THREADS);
    tf_pool *pool = pool_alloc(env, ex->concurrency);
    if (!pool)
        return TFUSE_ENOMEM;
    pool->executor = *ex;
    pool->lane_taken = tf_calloc(env, ex->concurrency, sizeof *pool->lane_taken);
    if (!pool->lane_taken) {
        tf_free(&pool->mem, pool);
        return TFUSE_ENOMEM;
    }
    *out = pool;
    return TFUSE_OK;
}

void tf_pool_free(tf_pool *pool)
{
    if (!pool)
        return;
    if (!pool->executor.parallel_for) {
        pthread_mutex_lock(&pool->lock);
        pool->stop = true;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (uint32_t i = 0; i < pool->started; i++)
            pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->left);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
    }
    tf_free(&pool->mem, pool->workers);
    tf_free(&pool->mem, pool->lane_taken);
    tf_free(&pool->mem, pool);
}
