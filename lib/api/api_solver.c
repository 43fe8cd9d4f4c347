/* SPDX-License-Identifier: Apache-2.0
 *
 * api_solver.c: tfuse/solver.h.
 */
#include "api/api.h"
#include "num/array.h"
#include "num/num.h"
#include "policy/policy.h"

#include <string.h>

tfuse_status tfuse_ctx_add_solver(tfuse_ctx *ctx, const tfuse_solver_ops *ops, void *user)
{
    TF_ENTER(ctx, TF_ARG(ops));
    tfuse_status status = TFUSE_OK;
    if (status == TFUSE_OK && (!ops->name || !ops->solve))
        status = tf_fail(&ctx->env, TFUSE_EINVAL, "a solver needs a name and a solve function");
    if (status == TFUSE_OK)
        status = tf_solvers_add(&ctx->env, &ctx->solvers, ops, user);
    return tf_api_leave(ctx, status);
}

static bool is_real(tfuse_dtype t)
{
    return t == TFUSE_F32 || t == TFUSE_F64 || t == TFUSE_F16 || t == TFUSE_BF16;
}

/* The cost as float32, in the arena unless it is that already. */
static tfuse_status read_cost(tf_env *env, tf_arena *arena, const tfuse_array *a, const float **cost)
{
    char text[160];
    if (a->rank != 2)
        return tf_fail(env, TFUSE_ESHAPE, "%s has shape %s; a matrix is needed", tf_array_label(a, "the cost"),
                       tf_shape_text(text, sizeof text, a->rank, a->shape));
    if (!is_real(a->dtype))
        return tf_fail(env, TFUSE_EDTYPE, "%s holds %s; floating-point numbers are needed", tf_array_label(a, "the cost"), tf_dtype_name(a->dtype));
    if (a->dtype == TFUSE_F32 && (uintptr_t)a->data % sizeof(float) == 0) {
        *cost = a->data;
        return TFUSE_OK;
    }
    float *copy = tf_arena_array(env, arena, a->count, sizeof *copy);
    if (!copy)
        return TFUSE_ENOMEM;
    tf_to_f32(a->dtype, a->data, copy, a->count);
    *cost = copy;
    return TFUSE_OK;
}

/* Masses or potentials in float64, in the arena; *out stays NULL without an array. */
static tfuse_status read_line(tf_env *env, tf_arena *arena, const char *name, const tfuse_array *a, int64_t n, const double **out)
{
    if (!a)
        return TFUSE_OK;
    if (a->count != (size_t)n || a->rank > 2)
        return tf_fail(env, TFUSE_ESHAPE, "%s holds %zu numbers; the cost needs %lld", name, a->count, (long long)n);
    if (!is_real(a->dtype))
        return tf_fail(env, TFUSE_EDTYPE, "%s holds %s; floating-point numbers are needed", name, tf_dtype_name(a->dtype));
    double *numbers = tf_arena_array(env, arena, a->count, sizeof(double));
    if (!numbers)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < a->count; i++) {
        float single;
        if (a->dtype == TFUSE_F64) {
            memcpy(&numbers[i], (const char *)a->data + i * sizeof(double), sizeof(double)); /* borrowed memory may be unaligned */
        } else {
            tf_to_f32(a->dtype, (const char *)a->data + i * tf_dtype_size(a->dtype), &single, 1);
            numbers[i] = single;
        }
    }
    *out = numbers;
    return TFUSE_OK;
}

static tfuse_status read_task(tf_env *env, tf_arena *arena, const tfuse_task *task, tf_ot_problem *p)
{
    const struct {
        const tfuse_array *array;
        const char *name;
    } arrays[] = {{task->cost, "cost"}, {task->mu, "mu"}, {task->nu, "nu"}, {task->u, "u"}, {task->v, "v"}};
    if (!task->cost)
        return tf_fail(env, TFUSE_EINVAL, "the cost is NULL");
    for (size_t i = 0; i < TF_LEN(arrays); i++)
        if (arrays[i].array && !TF_IS_A(arrays[i].array, ARRAY))
            return tf_fail(env, TFUSE_EINVAL, "%s is no tfuse_array", arrays[i].name);
    TF_TRY(read_cost(env, arena, task->cost, &p->cost));
    p->n = task->cost->shape[0];
    p->m = task->cost->shape[1];
    TF_TRY(read_line(env, arena, "mu", task->mu, p->n, &p->mu));
    TF_TRY(read_line(env, arena, "nu", task->nu, p->m, &p->nu));
    TF_TRY(read_line(env, arena, "u", task->u, p->n, &p->u));
    return read_line(env, arena, "v", task->v, p->m, &p->v);
}

/* The k-th of tasks that may be longer than those of this version. */
static tfuse_status task_at(tf_env *env, const tfuse_task *tasks, size_t k, tfuse_task *out)
{
    const void *at = (const char *)tasks + k * tasks->struct_size;
    size_t theirs;
    memcpy(&theirs, at, sizeof theirs);
    tfuse_status status = TF_TABLE(at, out, tfuse_task, v);
    if (status != TFUSE_OK)
        return tf_fail(env, status, "struct_size is not that of a tfuse_task of this version");
    return theirs == tasks->struct_size ? TFUSE_OK : tf_fail(env, TFUSE_EINVAL, "struct_size differs from that of the first task");
}

static tfuse_status new_solutions(tf_env *env, size_t count, tf_solution *solved, tfuse_solution **out)
{
    for (size_t k = 0; k < count; k++) {
        out[k] = tf_calloc(env, 1, sizeof *out[k]);
        if (!out[k])
            return TFUSE_ENOMEM;
        out[k]->kind = TF_KIND_SOLUTION;
        out[k]->mem = env->mem;
        out[k]->solution = solved[k];
        memset(&solved[k], 0, sizeof solved[k]);
    }
    return TFUSE_OK;
}

static tfuse_status solve(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_task *tasks, size_t count, tfuse_solution **out)
{
    tf_env *env = &ctx->env;
    tf_ot_options options = {.reg = tf_policy_real(policy, "solver.reg"),
                             .max_iterations = tf_policy_int(policy, "solver.max_iterations"),
                             .tolerance = tf_policy_real(policy, "solver.tolerance"),
                             .strict = tf_policy_flag(policy, "solver.strict")};
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tfuse_status status = TFUSE_ENOMEM;
    size_t solved_count = 0;
    tf_ot_problem *problems = tf_arena_array(env, &arena, count, sizeof *problems);
    tf_solution *solved = problems ? tf_arena_array(env, &arena, count, sizeof *solved) : NULL;
    if (!solved)
        goto out;
    for (size_t k = 0; k < count; k++) {
        tfuse_task task;
        status = task_at(env, tasks, k, &task);
        if (status == TFUSE_OK)
            status = read_task(env, &arena, &task, &problems[k]);
        if (status != TFUSE_OK && status != TFUSE_ENOMEM && count > 1)
            tf_fail_in(env, status, "problem %zu", k);
        if (status != TFUSE_OK)
            goto out;
    }
    TF_TRY_OUT(tf_ot_solve_batch(env, &ctx->solvers, tf_policy_text(policy, "solver.name"), &options, count, problems, solved));
    solved_count = count;
    TF_TRY_OUT(new_solutions(env, count, solved, out));
out:
    for (size_t k = 0; k < solved_count; k++)
        tf_solution_free(&solved[k]);
    for (size_t k = 0; k < count && status != TFUSE_OK; k++) {
        tfuse_solution_free(out[k]);
        out[k] = NULL;
    }
    tf_arena_free(&arena);
    return status;
}

tfuse_status tfuse_solve(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_array *cost, const tfuse_array *mu,
                         const tfuse_array *nu, tfuse_solution **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(cost, ARRAY), TF_ARG(out), TF_MAYBE(policy, POLICY), TF_MAYBE(mu, ARRAY), TF_MAYBE(nu, ARRAY));
    const tfuse_task task = {sizeof task, cost, mu, nu, NULL, NULL};
    return tf_api_leave(ctx, solve(ctx, policy, &task, 1, out));
}

tfuse_status tfuse_solve_batch(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_task *tasks, size_t count, tfuse_solution **out)
{
    for (size_t k = 0; out && k < count; k++)
        out[k] = NULL;
    static const tf_api_arg none[] = {{NULL, NULL, 0, false}};
    TF_TRY(tf_api_enter(ctx, count ? (const tf_api_arg[]){TF_ARG(tasks), TF_ARG(out), TF_MAYBE(policy, POLICY), none[0]} : none));
    return tf_api_leave(ctx, count ? solve(ctx, policy, tasks, count, out) : TFUSE_OK);
}

tfuse_status tfuse_solution_get(const tfuse_solution *solution, tfuse_solution_info *info)
{
    if (!TF_IS_A(solution, SOLUTION))
        return TFUSE_EINVAL;
    const tf_solution *s = &solution->solution;
    tfuse_solution_info ours = {.n = s->n, .m = s->m, .cost = s->cost, .gap = s->gap, .error = s->error,
                                .iterations = s->iterations, .seconds = s->seconds, .converged = s->converged};
    return tf_api_snapshot(info, &ours, sizeof ours);
}

tfuse_status tfuse_solution_coupling(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(solution, SOLUTION), TF_ARG(out));
    int64_t shape[2] = {solution->solution.n, solution->solution.m};
    tfuse_status status = tf_array_new(&ctx->env, TFUSE_F32, 2, shape, out);
    if (status == TFUSE_OK)
        tf_solution_dense(&solution->solution, (*out)->data);
    return tf_api_leave(ctx, status);
}

static tfuse_status new_line(tf_env *env, int64_t count, const double *x, tfuse_array **out)
{
    if (!out)
        return TFUSE_OK;
    TF_TRY(tf_array_new(env, TFUSE_F64, 1, &count, out));
    memcpy((*out)->data, x, (size_t)count * sizeof *x);
    return TFUSE_OK;
}

tfuse_status tfuse_solution_potentials(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **u, tfuse_array **v)
{
    TF_OUT(u);
    TF_OUT(v);
    TF_ENTER(ctx, TF_IS(solution, SOLUTION));
    const tf_solution *s = &solution->solution;
    tfuse_status status = s->u && s->v ? TFUSE_OK : tf_fail(&ctx->env, TFUSE_ENOTFOUND, "the solver gave no potentials");
    if (status == TFUSE_OK)
        status = new_line(&ctx->env, s->n, s->u, u);
    if (status == TFUSE_OK)
        status = new_line(&ctx->env, s->m, s->v, v);
    if (status != TFUSE_OK && u) {
        tfuse_array_free(*u);
        *u = NULL;
    }
    return tf_api_leave(ctx, status);
}

const char *tfuse_solution_method(const tfuse_solution *solution)
{
    return TF_IS_A(solution, SOLUTION) ? solution->solution.method : "";
}

void tfuse_solution_free(tfuse_solution *solution)
{
    if (!TF_IS_A(solution, SOLUTION))
        return;
    tf_mem mem = solution->mem;
    tf_solution_free(&solution->solution);
    tf_free(&mem, solution);
}
