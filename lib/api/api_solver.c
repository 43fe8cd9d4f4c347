/* SPDX-License-Identifier: Apache-2.0
 *
 * api_solver.c: tfuse/solver.h.
 */
#include "api/api.h"
#include "num/array.h"
#include "num/num.h"
#include "policy/policy.h"

#include <string.h>
#include <time.h>

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

/* The cost as float32, in new memory unless it is that already. */
static tfuse_status read_cost(tf_env *env, const tfuse_array *a, float **copy, const float **cost)
{
    char text[160];
    if (a->rank != 2)
        return tf_fail(env, TFUSE_ESHAPE, "the cost has shape %s; a matrix is needed", tf_shape_text(text, sizeof text, a->rank, a->shape));
    if (!is_real(a->dtype))
        return tf_fail(env, TFUSE_EDTYPE, "the cost holds %s; floating-point numbers are needed", tf_dtype_name(a->dtype));
    if (a->dtype == TFUSE_F32 && (uintptr_t)a->data % sizeof(float) == 0) {
        *cost = a->data;
        return TFUSE_OK;
    }
    *copy = tf_alloc_array(env, a->count, sizeof(float));
    if (!*copy)
        return TFUSE_ENOMEM;
    tf_to_f32(a->dtype, a->data, *copy, a->count);
    *cost = *copy;
    return TFUSE_OK;
}

/* Masses in float64; *out stays NULL for uniform ones. */
static tfuse_status read_masses(tf_env *env, const char *name, const tfuse_array *a, int64_t n, double **out)
{
    if (!a)
        return TFUSE_OK;
    if (a->count != (size_t)n || a->rank > 2)
        return tf_fail(env, TFUSE_ESHAPE, "%s holds %zu masses; the cost needs %lld", name, a->count, (long long)n);
    if (!is_real(a->dtype))
        return tf_fail(env, TFUSE_EDTYPE, "%s holds %s; floating-point numbers are needed", name, tf_dtype_name(a->dtype));
    double *masses = tf_alloc_array(env, a->count, sizeof(double));
    if (!masses)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < a->count; i++) {
        float single;
        if (a->dtype == TFUSE_F64) {
            memcpy(&masses[i], (const char *)a->data + i * sizeof(double), sizeof(double)); /* borrowed memory may be unaligned */
        } else {
            tf_to_f32(a->dtype, (const char *)a->data + i * tf_dtype_size(a->dtype), &single, 1);
            masses[i] = single;
        }
    }
    *out = masses;
    return TFUSE_OK;
}

static double now(void)
{
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tfuse_status solve(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_array *cost, const tfuse_array *mu,
                          const tfuse_array *nu, tfuse_solution **out)
{
    tf_env *env = &ctx->env;
    float *copy = NULL;
    const float *c = NULL;
    double *a = NULL, *b = NULL;
    tf_ot_options options = {.reg = tf_policy_real(policy, "solver.reg"),
                             .max_iterations = tf_policy_int(policy, "solver.max_iterations"),
                             .tolerance = tf_policy_real(policy, "solver.tolerance"),
                             .strict = tf_policy_flag(policy, "solver.strict")};
    tfuse_solution *s = tf_calloc(env, 1, sizeof *s);
    if (!s)
        return TFUSE_ENOMEM;
    s->mem = env->mem;
    tfuse_status status;
    TF_TRY_OUT(read_cost(env, cost, &copy, &c));
    TF_TRY_OUT(read_masses(env, "mu", mu, cost->shape[0], &a));
    TF_TRY_OUT(read_masses(env, "nu", nu, cost->shape[1], &b));
    double start = now();
    TF_TRY_OUT(tf_ot_solve(env, &ctx->solvers, tf_policy_text(policy, "solver.name"), &options, cost->shape[0],
                           cost->shape[1], c, a, b, &s->solution));
    s->seconds = now() - start;
    *out = s;
    s = NULL;
out:
    tf_free(&env->mem, copy);
    tf_free(&env->mem, a);
    tf_free(&env->mem, b);
    tfuse_solution_free(s);
    return status;
}

tfuse_status tfuse_solve(tfuse_ctx *ctx, const tfuse_policy *policy, const tfuse_array *cost, const tfuse_array *mu,
                         const tfuse_array *nu, tfuse_solution **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(cost), TF_ARG(out));
    return tf_api_leave(ctx, solve(ctx, policy, cost, mu, nu, out));
}

tfuse_status tfuse_solution_get(const tfuse_solution *solution, tfuse_solution_info *info)
{
    if (!solution)
        return TFUSE_EINVAL;
    const tf_solution *s = &solution->solution;
    tfuse_solution_info ours = {.n = s->n, .m = s->m, .cost = s->cost, .gap = s->gap, .error = s->error,
                                .iterations = s->iterations, .seconds = solution->seconds, .converged = s->converged};
    return tf_api_snapshot(info, &ours, sizeof ours);
}

tfuse_status tfuse_solution_coupling(tfuse_ctx *ctx, const tfuse_solution *solution, tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(solution), TF_ARG(out));
    int64_t shape[2] = {solution->solution.n, solution->solution.m};
    tfuse_status status = tf_array_new(&ctx->env, TFUSE_F32, 2, shape, out);
    if (status == TFUSE_OK)
        tf_solution_dense(&solution->solution, (*out)->data);
    return tf_api_leave(ctx, status);
}

void tfuse_solution_free(tfuse_solution *solution)
{
    if (!solution)
        return;
    tf_mem mem = solution->mem;
    tf_solution_free(&solution->solution);
    tf_free(&mem, solution);
}
