/* SPDX-License-Identifier: Apache-2.0
 *
 * solve.c: one door to all solvers: checks the problem, normalises its masses, runs a row of the solver table, and measures
 * what came back. Exact results carry a certificate, the gap to a dual bound in float64, and one that is not small is an error.
 * Results of the caller's solvers are measured, not believed.
 */
#include "ot/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BITS_OF_INFINITY 0x7f800000u
#define MASS_TOLERANCE 1e-6  /* relative difference of the two totals */
#define GAP_TOLERANCE 1e-9   /* of an exact result, relative to the largest cost */
#define BELIEVED_ERROR 1e-3  /* L1 error up to which a caller's "converged" stands */

/* ---- the problem --------------------------------------------------------------------------- */

static tfuse_status check_cost(tf_env *env, int64_t n, int64_t m, const float *cost)
{
    size_t count;
    if (n <= 0 || m <= 0)
        return tf_fail(env, TFUSE_ESHAPE, "cost is %lld x %lld: a transport problem has at least one row and one column",
                       (long long)n, (long long)m);
    if (!tf_mul_size((size_t)n, (size_t)m, &count) || count > PTRDIFF_MAX / sizeof(double))
        return tf_fail(env, TFUSE_ESHAPE, "cost is %lld x %lld: too large to be addressed", (long long)n, (long long)m);
    int64_t at = tf_max_bits(cost, n * m) < BITS_OF_INFINITY ? -1 : tf_find_nonfinite(cost, count);
    if (at >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "cost[%lld, %lld] is %g: costs must be finite", (long long)(at / m),
                       (long long)(at % m), (double)cost[at]);
    return TFUSE_OK;
}

static tfuse_status sum_mass(tf_env *env, const char *name, int64_t count, const double *mass, double *total)
{
    *total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(mass[i]) || mass[i] < 0)
            return tf_fail(env, TFUSE_ENUMERIC, "%s[%lld] is %g: masses must be finite and not negative", name, (long long)i,
                           mass[i]);
        *total += mass[i];
    }
    if (!(*total > 0) || !isfinite(*total))
        return tf_fail(env, TFUSE_ENUMERIC, "%s sums to %g: the total mass must be finite and above 0", name, *total);
    return TFUSE_OK;
}

/* The masses scaled to a sum of one; uniform ones for NULL. */
static double *normalised(tf_env *env, tf_arena *arena, int64_t count, const double *mass, double total)
{
    double *out = tf_arena_array(env, arena, (size_t)count, sizeof *out);
    for (int64_t i = 0; out && i < count; i++)
        out[i] = mass ? mass[i] / total : 1.0 / (double)count;
    return out;
}

static tfuse_status check_masses(tf_env *env, int64_t n, int64_t m, const double *mu, const double *nu, double *mu_total,
                                 double *nu_total)
{
    if (mu)
        TF_TRY(sum_mass(env, "mu", n, mu, mu_total));
    if (nu)
        TF_TRY(sum_mass(env, "nu", m, nu, nu_total));
    if (mu && nu && fabs(*mu_total - *nu_total) > MASS_TOLERANCE * fmax(*mu_total, *nu_total))
        return tf_fail(env, TFUSE_ENUMERIC, "mu sums to %.9g and nu to %.9g: the totals must be equal", *mu_total, *nu_total);
    return TFUSE_OK;
}

/* ---- the exact solver ------------------------------------------------------------------------- */

/* gap = primal - dual. A coupling whose marginals are off by `error` may lie below the bound by about error * scale; such negative
 * numbers, rounding included, are 0. */
static void certify(const float *cost, const double *mu, const double *nu, double scale, tf_solution *s)
{
    double gap = s->cost - tf_dual_bound(s->n, s->m, cost, mu, nu, s->u, s->v);
    s->gap = gap < 0 && gap >= -(1e-12 + s->error) * scale ? 0 : gap;
}

static tfuse_status assign(tf_env *env, int64_t n, const float *cost, tf_solution *out)
{
    tf_solution_init(env, n, n, out);
    out->kind = TF_COUPLING_PERMUTATION;
    out->perm = tf_alloc_array(env, (size_t)n, sizeof *out->perm);
    out->u = tf_alloc_array(env, (size_t)n, sizeof *out->u);
    out->v = tf_alloc_array(env, (size_t)n, sizeof *out->v);
    tfuse_status status = TFUSE_ENOMEM;
    if (out->perm && out->u && out->v)
        status = tf_assignment(env, n, cost, out->perm, out->u, out->v);
    out->converged = true;
    out->iterations = n;
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}

tfuse_status tf_exact(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                      const double *mu, const double *nu, tf_solution *out)
{
    (void)options;
    const char *why = n != m                ? "n differs from m"
                      : !tf_all_equal(mu, n) ? "row masses are not uniform"
                      : !tf_all_equal(nu, m) ? "column masses are not uniform"
                                             : NULL;
    tf_log(env, TFUSE_LOG_INFO, "exact: %lld x %lld by %s: %s", (long long)n, (long long)m,
           why ? "network simplex" : "assignment", why ? why : "square, uniform masses");
    tfuse_status status = why ? tf_transport(env, n, m, cost, mu, nu, out) : assign(env, n, cost, out);
    if (status != TFUSE_OK)
        return status;
    status = tf_solution_measure(env, cost, mu, nu, out);
    if (status == TFUSE_OK) {
        double scale = tf_max_abs(cost, n * m);
        certify(cost, mu, nu, scale, out);
        if (!(fabs(out->gap) <= GAP_TOLERANCE * scale))
            status = tf_fail(env, TFUSE_EINTERNAL, "exact: the certificate leaves a gap of %g at costs up to %g", out->gap, scale);
    }
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}

/* ---- solvers of the caller's ------------------------------------------------------------------ */

static int32_t env_cancelled(const void *env)
{
    const tf_env *e = env;
    return atomic_load_explicit(&e->cancelled, memory_order_relaxed) != 0;
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

static tfuse_status run_foreign(tf_env *env, const struct tf_solver_entry *entry, const tf_ot_options *options, int64_t n,
                                int64_t m, const float *cost, const double *mu, const double *nu, tf_solution *out)
{
    tf_solution_init(env, n, m, out);
    tfuse_status status;
    TF_TRY_OUT(tf_solution_alloc_dense(env, out));
    tfuse_problem problem = {sizeof problem, n, m, cost, mu, nu, options->reg, options->tolerance, options->max_iterations};
    tfuse_result result = {.struct_size = sizeof result, .coupling = out->dense, .u = out->u, .v = out->v};
    TF_TRY_OUT(call_foreign(env, entry, &problem, &result));
    TF_TRY_OUT(check_foreign(env, entry->name, &result, out));
    TF_TRY_OUT(tf_solution_measure(env, cost, mu, nu, out));
    if (result.has_potentials)
        certify(cost, mu, nu, tf_max_abs(cost, n * m), out);
    else
        drop_potentials(out);
    out->iterations = result.iterations;
    out->converged = result.converged && out->error <= BELIEVED_ERROR;
    if (result.converged && !out->converged)
        tf_log(env, TFUSE_LOG_WARN, "solver '%s' claims to have converged, but its marginals are off by %g", entry->name,
               out->error);
out:
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}

/* ---- the door ------------------------------------------------------------------------------- */

static tfuse_status find_solver(tf_env *env, const tf_solver_registry *reg, const char *name,
                                const struct tf_solver_entry **entry)
{
    char known[512];
    *entry = tf_solvers_find(reg, name);
    if (*entry)
        return TFUSE_OK;
    if (tf_solvers_names(env, reg, known, sizeof known) != TFUSE_OK)
        snprintf(known, sizeof known, "exact, sinkhorn and %zu more", reg->count - 2);
    return tf_fail(env, TFUSE_EKEY, "solver.name '%s' is not a solver; there are: %s", name, known);
}

static tfuse_status check_converged(tf_env *env, const char *name, bool strict, const tf_solution *s)
{
    if (s->converged)
        return TFUSE_OK;
    if (strict)
        return tf_fail(env, TFUSE_ECONVERGE,
                       "solver '%s' did not converge: error %g after %lld iterations; raise solver.max_iterations or solver.reg, "
                       "or set solver.strict=0",
                       name, s->error, (long long)s->iterations);
    tf_log(env, TFUSE_LOG_WARN, "solver '%s' did not converge: error %g after %lld iterations", name, s->error,
           (long long)s->iterations);
    return TFUSE_OK;
}

tfuse_status tf_ot_solve(tf_env *env, const tf_solver_registry *reg, const char *name, const tf_ot_options *options,
                         int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, tf_solution *out)
{
    const struct tf_solver_entry *entry;
    double mu_total = 1, nu_total = 1;
    memset(out, 0, sizeof *out);
    TF_TRY(find_solver(env, reg, name, &entry));
    TF_TRY(check_cost(env, n, m, cost));
    TF_TRY(check_masses(env, n, m, mu, nu, &mu_total, &nu_total));
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tfuse_status status = TFUSE_ENOMEM;
    const double *rows = normalised(env, &arena, n, mu, mu_total);
    const double *cols = rows ? normalised(env, &arena, m, nu, nu_total) : NULL;
    if (!cols)
        goto out;
    TF_TRY_OUT(tf_check_cancel(env));
    TF_TRY_OUT(entry->native ? entry->native(env, options, n, m, cost, rows, cols, out)
                             : run_foreign(env, entry, options, n, m, cost, rows, cols, out));
    TF_TRY_OUT(tf_solution_measure(env, cost, rows, cols, out));
    TF_TRY_OUT(check_converged(env, name, options->strict, out));
out:
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
