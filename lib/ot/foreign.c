/* SPDX-License-Identifier: Apache-2.0
 *
 * foreign.c: solvers of the caller's. What they return is measured, not believed: masses must be masses, marginals those asked for where
 * the solver says that it converged, and its potentials must prove the optimum where it says that it found it.
 */
#include "ot/internal.h"

#include <math.h>

/* Couplings come in float32, so a mass is off by 6e-8 of itself. */
#define BELIEVED_ERROR 1e-3 /* L1 error of the marginals up to which "converged" stands */
#define BELIEVED_GAP 1e-6   /* gap, relative to the largest cost, up to which "optimal" stands */

static int32_t env_cancelled(const void *env)
{
    return tf_cancelled(env);
}

static tfuse_status check_foreign(tf_env *env, const char *name, const tfuse_result *result, const tf_solution *s)
{
    for (int64_t k = 0; k < s->n * s->m; k++)
        if (!isfinite(s->dense[k]) || s->dense[k] < 0)
            return tf_fail(env, TFUSE_ENUMERIC,
                           "solver '%s' returned coupling[%lld, %lld] = %g: masses must be finite and not negative", name,
                           (long long)(k / s->m), (long long)(k % s->m), (double)s->dense[k]);
    for (int64_t k = 0; result->has_potentials && k < s->n + s->m; k++) {
        double x = k < s->n ? s->u[k] : s->v[k - s->n];
        if (!isfinite(x))
            return tf_fail(env, TFUSE_ENUMERIC, "solver '%s' returned %c[%lld] = %g: potentials must be finite", name,
                           k < s->n ? 'u' : 'v', (long long)(k < s->n ? k : k - s->n), x);
    }
    return TFUSE_OK;
}

static void drop_potentials(tf_solution *s)
{
    tf_free(&s->mem, s->u);
    tf_free(&s->mem, s->v);
    s->u = s->v = NULL;
}

static tfuse_status call_foreign(tf_env *env, const struct tf_solver_entry *entry, const tfuse_problem *problem,
                                 tfuse_result *result)
{
    tfuse_status status = entry->ops.solve(entry->user, problem, result, env_cancelled, env);
    if (status == TFUSE_ECANCELLED || tf_cancelled(env))
        return tf_fail(env, TFUSE_ECANCELLED, "cancelled");
    if (status != TFUSE_OK)
        return tf_fail(env, TFUSE_ECALLBACK, "solver '%s' failed with status %d", entry->name, (int)status);
    return TFUSE_OK;
}

/* What it claims against what was measured. */
static tfuse_status check_claims(tf_env *env, const char *name, const tfuse_result *result, double scale, const tf_solution *s)
{
    if ((result->converged || result->optimal) && !(s->error <= BELIEVED_ERROR))
        return tf_fail(env, TFUSE_ENUMERIC,
                       "solver '%s' returned a coupling whose marginals are off by %g (L1) and says that it converged: rows must sum to "
                       "mu, columns to nu",
                       name, s->error);
    if (result->optimal && !result->has_potentials)
        return tf_fail(env, TFUSE_ENUMERIC, "solver '%s' says that its coupling is optimal and returned no potentials to prove it", name);
    if (result->optimal && !(fabs(s->gap) <= (BELIEVED_GAP + s->error) * scale))
        return tf_fail(env, TFUSE_ENUMERIC,
                       "solver '%s' says that its coupling is optimal, but its cost %g is %g above the bound that its potentials prove",
                       name, s->cost, s->gap);
    return TFUSE_OK;
}

tfuse_status tf_run_foreign(tf_env *env, const struct tf_solver_entry *entry, const tf_ot_options *options, int64_t n, int64_t m,
                            const float *cost, const double *mu, const double *nu, tf_solution *out)
{
    tf_solution_init(env, n, m, out);
    tfuse_status status;
    TF_TRY_OUT(tf_solution_alloc_dense(env, out));
    tfuse_problem problem = {sizeof problem, n, m, cost, mu, nu, options->reg, options->tolerance, options->max_iterations,
                             options->u, options->v};
    tfuse_result result = {.struct_size = sizeof result, .coupling = out->dense, .u = out->u, .v = out->v};
    TF_TRY_OUT(call_foreign(env, entry, &problem, &result));
    TF_TRY_OUT(check_foreign(env, entry->name, &result, out));
    TF_TRY_OUT(tf_solution_measure(env, cost, mu, nu, out));
    const double scale = tf_max_abs(env, cost, n * m);
    if (result.has_potentials)
        tf_certify(env, cost, mu, nu, scale, out);
    else
        drop_potentials(out);
    TF_TRY_OUT(tf_check_cancel(env));
    TF_TRY_OUT(check_claims(env, entry->name, &result, scale, out));
    out->iterations = result.iterations;
    out->converged = result.converged || result.optimal;
out:
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
