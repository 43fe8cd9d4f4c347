/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation of the library failed once over whole ways: open two checkpoints, align, save the plan, load it, fuse, evaluate; or open one, split it
 * into experts, open those and join them again.
 * Each time: TFUSE_ENOMEM with a text, every block given back, nothing under a name that was to be written, no temporary.
 */
#include "api.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fails the allocation number `at`, once. */
typedef struct faulty {
    atomic_long calls, live;
    long at;
} faulty;

static void *faulty_alloc(void *user, size_t size, size_t align)
{
    faulty *f = user;
    void *p = NULL;
    if (atomic_fetch_add(&f->calls, 1) == f->at ||
        posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0)
        return NULL;
    atomic_fetch_add(&f->live, 1);
    return p;
}

static void faulty_free(void *user, void *ptr, size_t size, size_t align)
{
    faulty *f = user;
    (void)size, (void)align;
    atomic_fetch_sub(&f->live, 1);
    free(ptr);
}

typedef struct paths {
    char dir[64], a[80], b[80], plan[80], out[80];
} paths;

static void join(char *to, const char *dir, const char *name)
{
    snprintf(to, 80, "%s/%s", dir, name);
}

/* Two checkpoints of one layer in files. */
static void make_models(paths *p)
{
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* every run syncs its files */
    snprintf(p->dir, sizeof p->dir, "%s/tfuse-faults-XXXXXX", root);
    ck_assert_ptr_nonnull(mkdtemp(p->dir));
    join(p->a, p->dir, "a");
    join(p->b, p->dir, "b");
    join(p->plan, p->dir, "plan");
    join(p->out, p->dir, "out");
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "align.strategy", "none"));
    for (int i = 0; i < 2; i++) { /* a model fused with itself is itself */
        tfuse_model *m = api_vit(ctx, 1, (uint64_t)i + 1, NULL);
        const tfuse_model *twice[] = {m, m};
        tfuse_plan *plan = NULL;
        api_ok(ctx, tfuse_align(ctx, policy, twice, 2, NULL, &plan));
        api_ok(ctx, tfuse_fuse(ctx, policy, plan, twice, 2, i ? p->b : p->a));
        tfuse_plan_free(plan);
        tfuse_model_free(m);
    }
    tfuse_policy_free(policy);
    api_done(ctx);
}

#define STEP(call) \
    do { \
        if (status == TFUSE_OK) \
            status = (call); \
    } while (0)

typedef struct way way;
struct way {
    tfuse_status (*go)(tfuse_ctx *ctx, const paths *p, const way *w);
    const char *solver;
    const tfuse_array *calib, *images; /* calib NULL: from the weights */
};

static tfuse_status fuse_way(tfuse_ctx *ctx, const paths *p, const way *w)
{
    tfuse_policy *policy = NULL;
    tfuse_model *a = NULL, *b = NULL;
    tfuse_plan *plan = NULL, *loaded = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_status status = tfuse_policy_new(ctx, &policy);
    STEP(tfuse_policy_set(ctx, policy, "align.strategy", "otfusion"));
    STEP(tfuse_policy_set(ctx, policy, "solver.name", w->solver));
    STEP(tfuse_model_open(ctx, p->a, 0, &a));
    STEP(tfuse_model_open(ctx, p->b, 0, &b));
    const tfuse_model *models[] = {a, b};
    STEP(tfuse_eval(ctx, a, NULL, w->images, NULL, 4, &score));
    STEP(tfuse_align(ctx, policy, models, 2, w->calib, &plan));
    STEP(tfuse_plan_save(ctx, plan, p->plan, 0));
    STEP(tfuse_plan_load(ctx, p->plan, &loaded));
    STEP(tfuse_fuse(ctx, policy, loaded, models, 2, p->out));
    tfuse_plan_free(loaded);
    tfuse_plan_free(plan);
    tfuse_model_free(b);
    tfuse_model_free(a);
    tfuse_policy_free(policy);
    return status;
}

/* The experts lie where the other way has its plan. */
static tfuse_status moe_way(tfuse_ctx *ctx, const paths *p, const way *w)
{
    tfuse_policy *policy = NULL;
    tfuse_model *a = NULL, *parts = NULL;
    char *report = NULL, *back = NULL;
    tfuse_status status = tfuse_policy_new(ctx, &policy);
    STEP(tfuse_policy_set(ctx, policy, "moe.experts", "2"));
    STEP(tfuse_policy_set(ctx, policy, "moe.top_k", "1"));
    STEP(tfuse_policy_set(ctx, policy, "moe.starts", "1"));
    STEP(tfuse_model_open(ctx, p->a, 0, &a));
    STEP(tfuse_moe(ctx, policy, a, w->calib, p->plan, &report));
    STEP(tfuse_model_open(ctx, p->plan, 0, &parts));
    STEP(tfuse_moe_dense(ctx, policy, parts, p->out, &back));
    tfuse_string_free(report);
    tfuse_string_free(back);
    tfuse_model_free(parts);
    tfuse_model_free(a);
    tfuse_policy_free(policy);
    return status;
}

/* Fails allocation `at`; returns whether the way came to its end without reaching it. */
static bool one_fault(long at, const paths *p, const way *w)
{
    faulty f = {.at = at};
    const tfuse_allocator alloc = {sizeof alloc, &f, faulty_alloc, faulty_free};
    tfuse_ctx *ctx = NULL;
    tfuse_status status = tfuse_ctx_new(&alloc, &ctx);
    STEP(w->go(ctx, p, w));
    bool reached = atomic_load(&f.calls) > at;
    ck_assert_msg(status == (reached ? TFUSE_ENOMEM : TFUSE_OK), "allocation %ld: %s: %s", at, tfuse_status_name(status),
                  ctx ? tfuse_ctx_error(ctx) : "");
    ck_assert_msg(!reached || !ctx || tfuse_ctx_error(ctx)[0], "allocation %ld: no text", at);
    tfuse_ctx_free(ctx);
    ck_assert_msg(atomic_load(&f.live) == 0, "allocation %ld: %ld blocks were not freed", at, atomic_load(&f.live));
    ck_assert_msg(!reached || access(p->out, F_OK) != 0, "allocation %ld: something is under OUT", at);
    int plan = access(p->plan, F_OK) == 0;
    ck_assert_msg(api_entries(p->dir) == 2 + plan + !reached, "allocation %ld: something was left", at);
    if (unlink(p->plan) != 0)
        api_remove_dir(p->plan);
    api_remove_dir(p->out);
    return !reached;
}

static void sweep(tfuse_status (*go)(tfuse_ctx *, const paths *, const way *), const char *solver, bool calibrated)
{
    paths p;
    make_models(&p);
    tfuse_ctx *ctx = api_new();
    tfuse_array *images = api_images(ctx, 6, 3);
    const way w = {go, solver, calibrated ? images : NULL, images};
    long at = 0;
    while (!one_fault(at, &p, &w))
        at++;
    ck_assert_int_gt(at, 500); /* the way is long: the sweep went along it */
    tfuse_array_free(images);
    api_done(ctx);
    api_remove_dir(p.dir);
}

START_TEST(test_exact_weights)
{
    sweep(fuse_way, "exact", false);
}
END_TEST

START_TEST(test_sinkhorn_activations)
{
    sweep(fuse_way, "sinkhorn", true);
}
END_TEST

START_TEST(test_experts)
{
    sweep(moe_way, NULL, _i);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("faults");
    API_ADD(test_exact_weights);
    API_ADD(test_sinkhorn_activations);
    tcase_add_loop_test(api_case, test_experts, 0, 2);
    return api_suite;
}
