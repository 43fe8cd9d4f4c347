/* SPDX-License-Identifier: Apache-2.0
 *
 * client.c: a program of a user's, whose compiled form must go on working with every later library of the ABI number: tests/abi/check.sh compiles the
 * one of the last release against that release's headers and runs it on today's library. It fills every table that a caller gives,
 * reads every snapshot, and goes the whole way through files' and its own memory.
 *
 *     client DATA       DATA is tests/data
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tfuse/tfuse.h>

static int failed;

static void check(const char *name, int good)
{
    printf("%s client: %s\n", good ? "ok" : "not ok", name);
    failed |= !good;
}

/* ---- tables that a caller gives ------------------------------------------------------------------------- */

typedef struct counts {
    long blocks, loops, lines, steps, solves;
} counts;

static void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof p ? sizeof p : align, size ? size : 1))
        return NULL;
    ((counts *)user)->blocks++;
    return p;
}

static void count_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)size, (void)align;
    ((counts *)user)->blocks--;
    free(ptr);
}

static void in_turn(void *user, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg)
{
    ((counts *)user)->loops++;
    for (uint32_t i = n; i-- > 0;)
        body(arg, i);
}

static void count_line(void *user, int32_t level, const char *line)
{
    ((counts *)user)->lines += level > 0 && line[0];
}

static int32_t count_step(void *user, const tfuse_progress *p)
{
    ((counts *)user)->steps += p->stage && p->struct_size >= sizeof *p && (p->total == 0 || p->done <= p->total);
    return 0;
}

/* The independent coupling, mu nu': wrong, but a coupling, and no claim is made for it. */
static tfuse_status independent(void *user, const tfuse_problem *p, tfuse_result *r, int32_t (*cancelled)(const void *env), const void *env)
{
    ((counts *)user)->solves++;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->m; j++)
            r->coupling[i * p->m + j] = (float)(p->mu[i] * p->nu[j]);
    r->converged = 1;
    r->iterations = 1;
    return cancelled(env) ? TFUSE_ECANCELLED : TFUSE_OK;
}

static void release(void *owner)
{
    ++*(int *)owner;
}

/* ---- solvers ---------------------------------------------------------------------------------------------- */

static void solve(tfuse_ctx *ctx, counts *c)
{
    static const float numbers[] = {4, 1, 3, 2, 0, 5, 3, 2, 2};
    static const int64_t shape[] = {3, 3};
    const tfuse_solver_ops ops = {sizeof ops, "independent", independent};
    tfuse_solution_info info = {.struct_size = sizeof info};
    tfuse_array *cost = NULL;
    tfuse_solution *solution = NULL, *pair[2] = {NULL, NULL};
    tfuse_policy *policy = NULL;
    int released = 0;
    check("an array of one's own", !tfuse_array_wrap(ctx, TFUSE_F32, 2, shape, numbers, release, &released, &cost));
    check("a solve", !tfuse_solve(ctx, NULL, cost, NULL, NULL, &solution) && !tfuse_solution_get(solution, &info));
    check("its optimum", fabs(info.cost - 5.0 / 3) < 1e-6 && info.gap < 1e-6 && info.n == 3 && info.m == 3 && info.converged);
    const tfuse_task tasks[2] = {{sizeof tasks[0], cost, NULL, NULL, NULL, NULL}, {sizeof tasks[0], cost, NULL, NULL, NULL, NULL}};
    check("a batch", !tfuse_solve_batch(ctx, NULL, tasks, 2, pair));
    check("a solver of one's own", !tfuse_ctx_add_solver(ctx, &ops, c) && !tfuse_policy_new(ctx, &policy) &&
                                       !tfuse_policy_set(ctx, policy, "solver.name", "independent"));
    tfuse_solution_free(solution);
    check("it is called", !tfuse_solve(ctx, policy, cost, NULL, NULL, &solution) && c->solves == 1);
    tfuse_solution_free(solution);
    tfuse_solution_free(pair[0]);
    tfuse_solution_free(pair[1]);
    tfuse_policy_free(policy);
    tfuse_array_free(cost);
    check("borrowed memory is released once", released == 1);
}

/* ---- models ------------------------------------------------------------------------------------------------ */

static tfuse_model *open(tfuse_ctx *ctx, const char *dir, const char *name)
{
    char path[4096];
    tfuse_model *model = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    check(name, !tfuse_model_open(ctx, path, 0, &model));
    return model;
}

static void look(const tfuse_plan *plan)
{
    int good = tfuse_plan_count(plan) > 0;
    for (size_t i = 0; i < tfuse_plan_count(plan); i++) {
        tfuse_map_info map = {.struct_size = sizeof map};
        good &= !tfuse_plan_map(plan, i, &map) && map.name && map.kind && map.model == 1 && map.n > 0 && map.m > 0 && map.entropy >= 0;
    }
    check("maps of a plan", good);
}

static void copy(tfuse_ctx *ctx, const tfuse_model *from)
{
    tfuse_model *to = NULL;
    int released = 0, good = !tfuse_model_new(ctx, tfuse_model_config(from), release, &released, &to);
    for (size_t i = 0; good && i < tfuse_model_count(from); i++) {
        tfuse_tensor_info t = {.struct_size = sizeof t};
        good = !tfuse_model_tensor(from, i, &t) && !tfuse_model_add(ctx, to, t.name, t.dtype, (size_t)t.rank, t.shape, t.data);
    }
    check("a model in memory", good && !tfuse_model_seal(ctx, to) && tfuse_model_count(to) == tfuse_model_count(from));
    tfuse_model_free(to);
    check("it is released once", released == 1);
}

static void fuse(tfuse_ctx *ctx, const char *dir)
{
    char path[4096];
    tfuse_model *a = open(ctx, dir, "vit-fmnist-a"), *b = open(ctx, dir, "vit-fmnist-b"), *fused = NULL;
    const tfuse_model *models[] = {a, b};
    tfuse_policy *policy = NULL;
    tfuse_plan *plan = NULL;
    tfuse_array *images = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_key_info key = {.struct_size = sizeof key};
    snprintf(path, sizeof path, "%s/parity/images_n40.npy", dir);
    check("keys", tfuse_key_count() > 10 && !tfuse_key_get(0, &key) && key.name && key.help);
    check("images", !tfuse_array_open(ctx, path, &images));
    check("a policy", !tfuse_policy_new(ctx, &policy) && !tfuse_policy_set(ctx, policy, "align.strategy", "otfusion"));
    check("an unknown key", tfuse_policy_set(ctx, policy, "no.such.key", "1") == TFUSE_EKEY && strstr(tfuse_ctx_error(ctx), "no.such.key"));
    check("aligning", !tfuse_align(ctx, policy, models, 2, images, &plan));
    look(plan);
    check("fusing", !tfuse_fuse_model(ctx, policy, plan, models, 2, &fused));
    check("scoring", !tfuse_eval(ctx, fused, NULL, images, NULL, 8, &score) && score.n == 8 && isnan(score.loss));
    copy(ctx, fused);
    tfuse_model_free(fused);
    tfuse_plan_free(plan);
    tfuse_policy_free(policy);
    tfuse_array_free(images);
    tfuse_model_free(a);
    tfuse_model_free(b);
}

int main(int argc, char **argv)
{
    counts c = {0, 0, 0, 0, 0};
    const tfuse_allocator alloc = {sizeof alloc, &c, count_alloc, count_free};
    const tfuse_executor ex = {sizeof ex, &c, 3, in_turn};
    tfuse_ctx *ctx = NULL;
    if (argc != 2 || tfuse_ctx_new(&alloc, &ctx))
        return 2;
    check("the library is not older than the headers", tfuse_version() >= TFUSE_VERSION);
    check("hooks", !tfuse_ctx_set_executor(ctx, &ex) && !tfuse_ctx_set_log(ctx, count_line, &c, TFUSE_LOG_DEBUG) &&
                       !tfuse_ctx_set_progress(ctx, count_step, &c));
    solve(ctx, &c);
    fuse(ctx, argv[1]);
    tfuse_ctx_cancel(ctx);
    check("cancelling", tfuse_ctx_set_threads(ctx, 1) == TFUSE_ECANCELLED);
    check("one's own threads and progress are called", c.loops > 0 && c.steps > 0);
    tfuse_ctx_free(ctx);
    check("every block comes back", c.blocks == 0);
    return failed;
}
