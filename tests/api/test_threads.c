/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads: cancelling from another one, two contexts at once on shared handles, one context from two threads, the caller's executor.
 */
#include "api.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static void nap(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* ---- cancelling --------------------------------------------------------------------------------------------- */

typedef struct canceller {
    tfuse_ctx *ctx;
    atomic_int started;
} canceller;

static int32_t started(void *user, const tfuse_progress *p)
{
    canceller *c = user;
    (void)p;
    atomic_store(&c->started, 1);
    nap(1); /* makes the call last whatever the machine */
    return 0;
}

static void *cancel_soon(void *user)
{
    canceller *c = user;
    while (!atomic_load(&c->started))
        nap(1);
    tfuse_ctx_cancel(c->ctx);
    return NULL;
}

START_TEST(test_cancel_from_thread)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *a = api_vit(ctx, 8, 1, NULL), *b = api_vit(ctx, 8, 2, NULL);
    const tfuse_model *models[] = {a, b};
    tfuse_array *images = api_images(ctx, 2000, 1);
    tfuse_policy *policy = NULL;
    tfuse_plan *plan = NULL;
    canceller c = {.ctx = ctx};
    pthread_t thread;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "calib.samples", "2000"));
    api_ok(ctx, tfuse_ctx_set_threads(ctx, 2));
    api_ok(ctx, tfuse_ctx_set_progress(ctx, started, &c));
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, &c), 0);
    api_fails(ctx, tfuse_align(ctx, policy, models, 2, images, &plan), TFUSE_ECANCELLED, "cancelled");
    pthread_join(thread, NULL);
    ck_assert_ptr_null(plan);
    tfuse_policy_free(policy);
    tfuse_array_free(images);
    tfuse_model_free(a);
    tfuse_model_free(b);
    api_done(ctx);
}
END_TEST

/* ---- two contexts ------------------------------------------------------------------------------------------------ */

typedef struct worker {
    const tfuse_model *model;
    const tfuse_array *images;
    const tfuse_policy *policy;
    float logits[12];
    tfuse_status status;
} worker;

static void *work(void *user)
{
    worker *w = user;
    tfuse_ctx *ctx = NULL;
    tfuse_array *out = NULL;
    tfuse_plan *plan = NULL;
    tfuse_model *fused = NULL;
    const tfuse_model *models[] = {w->model, w->model};
    w->status = tfuse_ctx_new(NULL, &ctx);
    if (!w->status)
        w->status = tfuse_ctx_set_threads(ctx, 2);
    if (!w->status)
        w->status = tfuse_run(ctx, w->model, NULL, w->images, 0, &out);
    if (!w->status)
        w->status = tfuse_align(ctx, w->policy, models, 2, w->images, &plan);
    if (!w->status)
        w->status = tfuse_fuse_model(ctx, w->policy, plan, models, 2, &fused);
    if (out)
        memcpy(w->logits, tfuse_array_data(out), sizeof w->logits);
    tfuse_model_free(fused);
    tfuse_plan_free(plan);
    tfuse_array_free(out);
    tfuse_ctx_free(ctx);
    return NULL;
}

START_TEST(test_two_contexts)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *model = api_vit(ctx, 2, 1, NULL);
    tfuse_array *images = api_images(ctx, 4, 1);
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    worker workers[3] = {{0}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        workers[i] = (worker){.model = model, .images = images, .policy = policy};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(workers[i].status, TFUSE_OK);
        ck_assert_int_eq(memcmp(workers[i].logits, workers[0].logits, sizeof workers[0].logits), 0);
    }
    tfuse_policy_free(policy);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

/* ---- one context from two threads ----------------------------------------------------------------------------------- */

typedef struct intruder {
    tfuse_ctx *ctx;
    atomic_int inside, tried;
    tfuse_status got;
} intruder;

static int32_t hold(void *user, const tfuse_progress *p)
{
    intruder *in = user;
    (void)p;
    atomic_store(&in->inside, 1);
    while (!atomic_load(&in->tried))
        nap(1);
    return 0;
}

static void *intrude(void *user)
{
    intruder *in = user;
    tfuse_policy *policy = NULL;
    while (!atomic_load(&in->inside))
        nap(1);
    in->got = tfuse_policy_new(in->ctx, &policy);
    atomic_store(&in->tried, 1);
    return NULL;
}

START_TEST(test_one_context_two_threads)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *model = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 4, 1);
    tfuse_score score = {.struct_size = sizeof score};
    intruder in = {.ctx = ctx};
    pthread_t thread;
    api_ok(ctx, tfuse_ctx_set_progress(ctx, hold, &in));
    ck_assert_int_eq(pthread_create(&thread, NULL, intrude, &in), 0);
    api_ok(ctx, tfuse_eval(ctx, model, NULL, images, NULL, 0, &score));
    pthread_join(thread, NULL);
    ck_assert_int_eq(in.got, TFUSE_ESTATE);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

/* ---- the caller's threads ----------------------------------------------------------------------------------------------- */

typedef struct share {
    void (*body)(void *arg, uint32_t i);
    void *arg;
    uint32_t n;
    atomic_uint next;
} share;

static void *take(void *user)
{
    share *s = user;
    for (uint32_t i; (i = atomic_fetch_add(&s->next, 1)) < s->n;)
        s->body(s->arg, i);
    return NULL;
}

static void two_threads(void *user, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg)
{
    share s = {.body = body, .arg = arg, .n = n};
    pthread_t other;
    atomic_fetch_add((atomic_int *)user, 1);
    ck_assert_int_eq(pthread_create(&other, NULL, take, &s), 0);
    take(&s);
    pthread_join(other, NULL);
}

START_TEST(test_executor)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *model = api_vit(ctx, 2, 1, NULL);
    tfuse_array *images = api_images(ctx, 600, 1), *plain = NULL, *shared = NULL;
    atomic_int loops = 0;
    const tfuse_executor ex = {sizeof ex, &loops, 2, two_threads};
    api_ok(ctx, tfuse_run(ctx, model, NULL, images, 0, &plain));
    api_ok(ctx, tfuse_ctx_set_executor(ctx, &ex));
    api_ok(ctx, tfuse_run(ctx, model, NULL, images, 0, &shared));
    ck_assert_int_gt(atomic_load(&loops), 0);
    ck_assert_int_eq(memcmp(tfuse_array_data(plain), tfuse_array_data(shared), 600 * 3 * sizeof(float)), 0);
    tfuse_array_free(plain);
    tfuse_array_free(shared);
    tfuse_array_free(images);
    tfuse_model_free(model);
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api threads");
    API_ADD(test_cancel_from_thread);
    API_ADD(test_two_contexts);
    API_ADD(test_one_context_two_threads);
    API_ADD(test_executor);
    return api_suite;
}
