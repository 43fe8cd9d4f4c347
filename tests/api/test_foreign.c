/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation that other libraries make (jansson, libc; zlib is given the context's allocator, LAPACKE's work functions take none) failed
 * once over the whole way: read arrays, open two checkpoints, align, save the plan, load it, repair, fuse, report. Each time: TFUSE_ENOMEM with
 * a text, every block given back, nothing under a name that was to be written, no temporary, and the context goes on working.
 *
 * This program defines the malloc family, so the C library and all shared libraries call what is here; the context's allocator is apart
 * (test_faults.c is about that one). BLIS, and the OpenMP that one build of it is linked to, end the process when they get no memory and
 * cannot be told not to (tfuse/base.h), so their allocations are let through; that BLIS itself makes none once products of the same sizes have run
 * is tested.
 */
#include "api.h"
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

#if OWN_MALLOC

/* ---- the malloc family ------------------------------------------------------------------------------------- */

#pragma GCC visibility push(default)
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *ptr);

static struct {
    bool armed;
    long calls, at; /* the call that fails; -1: none */
    long blis;      /* calls of BLIS */
    struct {
        uintptr_t from, to;
        bool is_blis;
    } ending[4]; /* the code of libraries that end the process when they get nothing: their calls do not count among the others */
    size_t n_ending;
    uint64_t *stacks; /* set: the hash of the stack of each call is noted there */
    const void *failed; /* who asked for what failed */
} state = {.at = -1};
static atomic_long live;

enum { MOST_CALLS = 1 << 16, DEPTH = 8 };

static uint64_t stack_hash(void)
{
    void *frames[DEPTH];
    uint64_t hash = 1469598103934665603u;
    state.armed = false; /* what follows may allocate */
    const int n = backtrace(frames, DEPTH);
    state.armed = true;
    for (int i = 0; i < n; i++)
        hash = (hash ^ (uintptr_t)frames[i]) * 1099511628211u;
    return hash;
}

/* Whether a call from there fails. */
static bool fails(const void *caller)
{
    if (!state.armed)
        return false;
    for (size_t i = 0; i < state.n_ending; i++)
        if ((uintptr_t)caller >= state.ending[i].from && (uintptr_t)caller < state.ending[i].to) {
            state.blis += state.ending[i].is_blis;
            return false;
        }
    if (state.stacks && state.calls < MOST_CALLS)
        state.stacks[state.calls] = stack_hash();
    if (state.calls++ != state.at)
        return false;
    state.failed = caller;
    errno = ENOMEM;
    return true;
}

static void *counted(void *ptr)
{
    if (ptr)
        atomic_fetch_add(&live, 1);
    return ptr;
}

void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *ptr, size_t size)
{
    if (fails(__builtin_return_address(0)))
        return NULL;
    void *grown = __libc_realloc(ptr, size);
    if (!ptr)
        return counted(grown);
    if (!grown && size == 0)
        atomic_fetch_sub(&live, 1);
    return grown;
}

void *memalign(size_t align, size_t size);
void *memalign(size_t align, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(__libc_memalign(align, size));
}

void *aligned_alloc(size_t align, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(__libc_memalign(align, size));
}

int posix_memalign(void **out, size_t align, size_t size)
{
    void *ptr = fails(__builtin_return_address(0)) ? NULL : counted(__libc_memalign(align, size));
    if (ptr)
        *out = ptr;
    return ptr ? 0 : ENOMEM;
}

void free(void *ptr)
{
    if (ptr)
        atomic_fetch_sub(&live, 1);
    __libc_free(ptr);
}

#pragma GCC visibility pop

/* Where the code of BLIS lies, and of the OpenMP that one build of it is linked to. */
static int find_ending(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    if (!strstr(info->dlpi_name, "libblis") && !strstr(info->dlpi_name, "libgomp"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && state.n_ending < 4; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            state.ending[state.n_ending].is_blis = strstr(info->dlpi_name, "libblis") != NULL;
            state.ending[state.n_ending].from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            state.ending[state.n_ending].to = state.ending[state.n_ending].from + info->dlpi_phdr[i].p_memsz;
            state.n_ending++;
        }
    return 0;
}

/* ---- the context's allocator, which never fails -------------------------------------------------------------- */

static atomic_long ours;

static void *our_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    void *ptr = __libc_memalign(align, size);
    atomic_fetch_add(&ours, ptr != NULL);
    return ptr;
}

static void our_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    atomic_fetch_sub(&ours, 1);
    __libc_free(ptr);
}

static tfuse_ctx *context(void)
{
    const tfuse_allocator alloc = {sizeof alloc, NULL, our_alloc, our_free};
    tfuse_ctx *ctx = NULL;
    ck_assert_int_eq(tfuse_ctx_new(&alloc, &ctx), TFUSE_OK);
    return ctx;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

enum { PATH = 128 };
typedef struct paths {
    char dir[PATH], a[PATH], b[PATH], plan[PATH], out[PATH], npz[PATH], idx[PATH], npy[PATH];
} paths;

static void join(char *to, const char *dir, const char *name)
{
    ck_assert_int_lt(snprintf(to, PATH, "%s/%s", dir, name), PATH);
}

static void copy(const char *from, const char *to)
{
    char block[4096];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    ck_assert(in && out);
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        ck_assert_uint_eq(fwrite(block, 1, n, out), n);
    fclose(in);
    ck_assert_int_eq(fclose(out), 0);
}

/* Two checkpoints of one layer and the arrays; in memory where the system has such a disk, since every run syncs its files. */
static paths make_files(tfuse_ctx *ctx)
{
    paths p;
    snprintf(p.dir, sizeof p.dir, "%s/tfuse-foreign-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(p.dir));
    join(p.a, p.dir, "a");
    join(p.b, p.dir, "b");
    join(p.plan, p.dir, "plan");
    join(p.out, p.dir, "out");
    join(p.npz, p.dir, "x.npz");
    join(p.idx, p.dir, "x-idx3-ubyte.gz");
    join(p.npy, p.dir, "x.npy");
    copy("tests/fuzz/corpus/npz/ok-deflated", p.npz);
    copy("tests/fuzz/corpus/idx/ok-gzip", p.idx);
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "align.strategy", "none"));
    for (int i = 0; i < 2; i++) { /* a model fused with itself is itself */
        tfuse_model *m = api_vit(ctx, 1, (uint64_t)i + 1, NULL);
        const tfuse_model *twice[] = {m, m};
        tfuse_plan *plan = NULL;
        api_ok(ctx, tfuse_align(ctx, policy, twice, 2, NULL, &plan));
        api_ok(ctx, tfuse_fuse(ctx, policy, plan, twice, 2, i ? p.b : p.a));
        tfuse_plan_free(plan);
        tfuse_model_free(m);
    }
    tfuse_policy_free(policy);
    return p;
}

/* ---- the way ---------------------------------------------------------------------------------------------------- */

typedef struct options {
    const char *strategy, *solver, *repair;
    bool calib; /* aligned on the images too */
    const tfuse_array *images;
} options;

#define STEP(call) \
    do { \
        if (status == TFUSE_OK) \
            status = (call); \
    } while (0)

/* Deflated in an .npz, IDX in gzip; written as .npy. */
static tfuse_status read_arrays(tfuse_ctx *ctx, const paths *p)
{
    tfuse_array *zipped = NULL, *idx = NULL;
    tfuse_status status = tfuse_array_open(ctx, p->npz, &zipped);
    STEP(tfuse_array_open(ctx, p->idx, &idx));
    STEP(tfuse_array_save(ctx, zipped, p->npy));
    tfuse_array_free(idx);
    tfuse_array_free(zipped);
    return status;
}

static tfuse_status run_models(tfuse_ctx *ctx, const paths *p, const options *o, tfuse_policy *policy)
{
    tfuse_model *a = NULL, *b = NULL;
    tfuse_plan *plan = NULL, *loaded = NULL;
    tfuse_repair *repair = NULL;
    char *report = NULL, *checked = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_status status = tfuse_model_open(ctx, p->a, 0, &a);
    STEP(tfuse_model_open(ctx, p->b, 0, &b));
    const tfuse_model *models[] = {a, b};
    STEP(tfuse_eval(ctx, a, NULL, o->images, NULL, 0, &score));
    STEP(tfuse_align(ctx, policy, models, 2, o->calib ? o->images : NULL, &plan));
    STEP(tfuse_plan_save(ctx, plan, p->plan, 0));
    STEP(tfuse_plan_load(ctx, p->plan, &loaded));
    STEP(tfuse_plan_report(ctx, loaded, &report));
    STEP(tfuse_selfcheck(ctx, policy, loaded, models, 2, &checked));
    if (o->repair)
        STEP(tfuse_repair_new(ctx, policy, loaded, models, 2, o->images, &repair));
    STEP(tfuse_fuse_repaired(ctx, policy, loaded, models, 2, repair, p->out));
    tfuse_string_free(report);
    tfuse_string_free(checked);
    tfuse_repair_free(repair);
    tfuse_plan_free(loaded);
    tfuse_plan_free(plan);
    tfuse_model_free(b);
    tfuse_model_free(a);
    return status;
}

static tfuse_status whole_way(tfuse_ctx *ctx, const paths *p, const options *o)
{
    tfuse_policy *policy = NULL;
    tfuse_status status = tfuse_policy_new(ctx, &policy);
    STEP(tfuse_policy_set(ctx, policy, "align.strategy", o->strategy));
    STEP(tfuse_policy_set(ctx, policy, "solver.name", o->solver));
    STEP(o->repair ? tfuse_policy_set(ctx, policy, "repair", o->repair) : TFUSE_OK);
    STEP(read_arrays(ctx, p));
    STEP(run_models(ctx, p, o, policy));
    tfuse_policy_free(policy);
    return status;
}

static void clean(const paths *p)
{
    unlink(p->plan);
    unlink(p->npy);
    api_remove_dir(p->out);
}

/* The library that asked for what failed. */
static const char *culprit(void)
{
    Dl_info info;
    return state.failed && dladdr(state.failed, &info) ? info.dli_fname : "?";
}

static tfuse_status armed_way(tfuse_ctx *ctx, const paths *p, const options *o, long at)
{
    state.calls = state.blis = 0;
    state.at = at;
    state.failed = NULL;
    state.armed = true;
    const tfuse_status status = whole_way(ctx, p, o);
    state.armed = false;
    return status;
}

/* Fails call `at`; returns whether the way came to its end without reaching it. */
static bool one_fault(tfuse_ctx *ctx, const paths *p, const options *o, long at)
{
    const long before = atomic_load(&live), ours_before = atomic_load(&ours);
    const tfuse_status status = armed_way(ctx, p, o, at);
    const bool reached = state.calls > at;
    const char *who = reached ? culprit() : "none";
    ck_assert_msg(status == (reached ? TFUSE_ENOMEM : TFUSE_OK), "call %ld of %s: %s: %s", at, who, tfuse_status_name(status), tfuse_ctx_error(ctx));
    ck_assert_msg(!reached || tfuse_ctx_error(ctx)[0], "call %ld of %s: no text", at, who);
    ck_assert_msg(atomic_load(&live) == before, "call %ld of %s: %ld blocks were not freed", at, who, atomic_load(&live) - before);
    ck_assert_msg(atomic_load(&ours) == ours_before, "call %ld of %s: %ld blocks of ours were not freed", at, who, atomic_load(&ours) - ours_before);
    ck_assert_msg(!reached || access(p->out, F_OK) != 0, "call %ld of %s: something is under OUT", at, who);
    const int plan = access(p->plan, F_OK) == 0, npy = access(p->npy, F_OK) == 0;
    ck_assert_msg(api_entries(p->dir) == 4 + plan + npy + !reached, "call %ld of %s: something was left", at, who);
    clean(p);
    return !reached;
}

static uint64_t *noted;

/* Runs the way and notes the stack of each call; their number. */
static long note_stacks(tfuse_ctx *ctx, const paths *p, const options *o)
{
    uint64_t *stacks = calloc(MOST_CALLS, sizeof *stacks);
    ck_assert_ptr_nonnull(stacks);
    state.stacks = stacks;
    for (int i = 0; i < 2; i++) { /* backtrace keeps what it sets up */
        api_ok(ctx, armed_way(ctx, p, o, MOST_CALLS));
        clean(p);
    }
    state.stacks = NULL;
    noted = stacks;
    return state.calls;
}

/* Calls with the same stack fail alike: the first two of each, or with TFUSE_EVERY_FAULT set, all of them. */
static bool is_chosen(long at)
{
    int before = 0;
    for (long i = 0; i < at && before < 2; i++)
        before += noted[i] == noted[at];
    return before < 2 || getenv("TFUSE_EVERY_FAULT");
}

static void sweep(options *o)
{
    dl_iterate_phdr(find_ending, NULL);
    tfuse_ctx *ctx = context();
    tfuse_array *images = api_images(ctx, 8, 3);
    o->images = images;
    const paths p = make_files(ctx);
    for (int i = 0; i < 2; i++) { /* what libraries set up once and keep */
        api_ok(ctx, whole_way(ctx, &p, o));
        clean(&p);
    }
    const long calls = note_stacks(ctx, &p, o);
    ck_assert_int_gt(calls, 500); /* the way is long: the sweep goes along it */
    ck_assert_int_eq(state.blis, 0);
    for (long at = 0; at < calls; at++)
        if (is_chosen(at))
            ck_assert(!one_fault(ctx, &p, o, at));
    ck_assert(one_fault(ctx, &p, o, calls));
    free(noted);
    api_ok(ctx, whole_way(ctx, &p, o)); /* on the context that has failed so often */
    tfuse_array_free(images);
    tfuse_ctx_free(ctx);
    api_remove_dir(p.dir);
}

START_TEST(test_otfusion)
{
    sweep(&(options){"otfusion", "exact", NULL, false, NULL});
}
END_TEST

START_TEST(test_matching_repair)
{
    sweep(&(options){"matching", "exact", "auto", true, NULL});
}
END_TEST

#else

START_TEST(test_left_to_plain_builds)
{
}
END_TEST

#endif

Suite *make_suite(void)
{
    API_SUITE("foreign");
#if OWN_MALLOC
    API_ADD(test_otfusion);
    API_ADD(test_matching_repair);
#else
    API_ADD(test_left_to_plain_builds);
#endif
    return api_suite;
}
