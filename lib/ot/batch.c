/* SPDX-License-Identifier: Apache-2.0
 *
 * batch.c: problems that do not depend on each other, one thread a problem. Every thread has an environment of its own, since an error's text and
 * the log belong to the calling thread; a request to cancel reaches them all. After a failure only problems before it are still
 * begun, so the one that is reported is the first in order, however many threads there are.
 */
#include "ot/internal.h"

#include "base/pool.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct lane {
    tf_env env;
    size_t failed; /* the first problem that failed here, */
    tfuse_status status; /* and how */
    char text[sizeof((tf_env *)NULL)->error];
} lane;

typedef struct batch {
    tf_env *env;
    const tf_solver_registry *reg;
    const char *name;
    const tf_ot_options *options;
    const tf_ot_problem *problems;
    tf_solution *out;
    lane *lanes;
    size_t count;
    pthread_t caller;
    atomic_size_t done, failed; /* failed: the first problem so far, or count */
} batch;

/* Progress within a problem, on the calling thread: that of the batch. */
static int32_t forward(void *user, const tfuse_progress *progress)
{
    batch *b = user;
    (void)progress;
    size_t done = atomic_load(&b->done);
    tfuse_status status = done < b->count ? tf_progress(b->env, "solving", done, b->count) : tf_check_cancel(b->env);
    if (status == TFUSE_ECANCELLED)
        atomic_store(&b->env->cancelled, 1);
    return status != TFUSE_OK;
}

static void note_failure(batch *b, lane *l, size_t k, tfuse_status status)
{
    if (k < l->failed) {
        l->failed = k;
        l->status = status;
        memcpy(l->text, l->env.error, sizeof l->text);
    }
    size_t before = atomic_load(&b->failed);
    while (k < before && !atomic_compare_exchange_weak(&b->failed, &before, k))
        continue;
}

static void solve_one(void *arg, uint32_t k, uint32_t at)
{
    batch *b = arg;
    lane *l = &b->lanes[at];
    const tf_ot_problem *p = &b->problems[k];
    if (k > atomic_load(&b->failed))
        return;
    const bool calling = pthread_equal(pthread_self(), b->caller);
    l->env.progress = calling ? forward : NULL;
    tf_ot_options options = *b->options;
    options.u = p->u;
    options.v = p->v;
    tfuse_status status = tf_ot_solve(&l->env, b->reg, b->name, &options, p->n, p->m, p->cost, p->mu, p->nu, &b->out[k]);
    atomic_fetch_add(&b->done, 1);
    if (status != TFUSE_OK)
        note_failure(b, l, k, status);
    else if (calling && b->env->progress)
        forward(b, NULL);
}

static void run(batch *b, bool one_by_one)
{
    if (!one_by_one)
        tf_parallel_lanes(b->env, (uint32_t)b->count, solve_one, b);
    else
        for (uint32_t k = 0; k < b->count; k++)
            solve_one(b, k, 0);
}

static tfuse_status make_lanes(batch *b, size_t lanes)
{
    b->lanes = tf_calloc(b->env, lanes, sizeof *b->lanes);
    if (!b->lanes)
        return TFUSE_ENOMEM;
    for (size_t k = 0; k < lanes; k++) {
        tf_env_init(&b->lanes[k].env, &b->env->mem);
        b->lanes[k].env.pool = b->env->pool;
        b->lanes[k].env.outer = &b->env->cancelled;
        b->lanes[k].env.patience = b->env->patience;
        b->lanes[k].env.progress_user = b;
        b->lanes[k].failed = b->count;
    }
    return TFUSE_OK;
}

static tfuse_status first_failure(const batch *b, size_t lanes)
{
    const size_t failed = atomic_load(&b->failed);
    TF_TRY(tf_check_cancel(b->env));
    for (size_t k = 0; failed < b->count && k < lanes; k++)
        if (b->lanes[k].failed == failed)
            return tf_fail(b->env, b->lanes[k].status, "problem %zu: %s", failed, b->lanes[k].text);
    return TFUSE_OK;
}

/* A single problem has all threads to itself, and reports how far it is. */
static tfuse_status solve_alone(const batch *b)
{
    const tf_ot_problem *p = b->problems;
    tf_ot_options options = *b->options;
    options.u = p->u;
    options.v = p->v;
    TF_TRY(tf_ot_solve(b->env, b->reg, b->name, &options, p->n, p->m, p->cost, p->mu, p->nu, b->out));
    tfuse_status status = tf_progress(b->env, "solving", 1, 1);
    if (status != TFUSE_OK)
        tf_solution_free(b->out);
    return status;
}

tfuse_status tf_ot_solve_batch(tf_env *env, const tf_solver_registry *reg, const char *name, const tf_ot_options *options,
                               size_t count, const tf_ot_problem *problems, tf_solution *out)
{
    const struct tf_solver_entry *entry = tf_solvers_find(reg, name);
    const size_t lanes = tf_threads(env);
    batch b = {.env = env, .reg = reg, .name = name, .options = options, .problems = problems, .out = out, .count = count,
               .caller = pthread_self()};
    if (count > UINT32_MAX)
        return tf_fail(env, TFUSE_ERANGE, "%zu problems are more than one batch takes", count);
    atomic_init(&b.done, 0);
    atomic_init(&b.failed, count);
    for (size_t k = 0; k < count; k++)
        memset(&out[k], 0, sizeof out[k]);
    TF_TRY(tf_progress(env, "solving", 0, count));
    if (count == 1)
        return solve_alone(&b);
    tfuse_status status = make_lanes(&b, lanes);
    if (status == TFUSE_OK) {
        run(&b, entry && !entry->native);
        status = first_failure(&b, lanes);
    }
    tf_free(&env->mem, b.lanes);
    for (size_t k = 0; k < count && status == TFUSE_OK; k++) {
        char where[32];
        snprintf(where, sizeof where, "problem %zu: ", k);
        tf_solution_announce(env, where, name, &out[k]);
    }
    if (status == TFUSE_OK)
        status = tf_progress(env, "solving", count, count);
    for (size_t k = 0; k < count && status != TFUSE_OK; k++)
        tf_solution_free(&out[k]);
    return status;
}
