/* SPDX-License-Identifier: Apache-2.0
 *
 * solve.c: one door to all solvers: checks the problem, normalises its masses, runs a row of the solver table, and measures
 * what came back.
 */
#include "ot/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MASS_TOLERANCE 1e-6  /* relative difference of the two totals */

/* ---- the problem --------------------------------------------------------------------------- */

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
    return s->converged || !strict
               ? TFUSE_OK
               : tf_fail(env, TFUSE_ECONVERGE,
                         "solver '%s' did not converge: error %g after %lld iterations; raise solver.max_iterations or solver.reg, "
                         "or set solver.strict=0",
                         name, s->error, (long long)s->iterations);
}

void tf_solution_announce(tf_env *env, const char *where, const char *name, const tf_solution *s)
{
    tf_log(env, TFUSE_LOG_INFO, "%s%s: %lld x %lld by %s", where, name, (long long)s->n, (long long)s->m, s->method);
    if (!s->converged)
        tf_log(env, TFUSE_LOG_WARN, "%ssolver '%s' did not converge: error %g after %lld iterations", where, name, s->error,
               (long long)s->iterations);
}

static double now(void)
{
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The solver on a problem that is in order. */
static tfuse_status run_solver(tf_env *env, const struct tf_solver_entry *entry, const tf_ot_options *options, int64_t n, int64_t m,
                               const float *cost, const double *mu, const double *nu, tf_solution *out)
{
    TF_TRY(tf_check_cancel(env));
    TF_TRY(entry->native ? entry->native(env, options, n, m, cost, mu, nu, out)
                         : tf_run_foreign(env, entry, options, n, m, cost, mu, nu, out));
    if (!out->method[0])
        snprintf(out->method, sizeof out->method, "%s%s", entry->name, options->v ? ", from potentials" : "");
    TF_TRY(tf_solution_measure(env, cost, mu, nu, out));
    return check_converged(env, entry->name, options->strict, out);
}

tfuse_status tf_ot_solve(tf_env *env, const tf_solver_registry *reg, const char *name, const tf_ot_options *options,
                         int64_t n, int64_t m, const float *cost, const double *mu, const double *nu, tf_solution *out)
{
    const struct tf_solver_entry *entry;
    double mu_total = 1, nu_total = 1, start = now();
    tf_ot_options own = *options;
    memset(out, 0, sizeof *out);
    TF_TRY(find_solver(env, reg, name, &entry));
    TF_TRY(tf_check_extents(env, n, m));
    own.scale = NAN;
    if (!entry->checks || own.u || own.v)
        TF_TRY(tf_check_costs(env, n, m, cost, &own.scale));
    TF_TRY(check_masses(env, n, m, mu, nu, &mu_total, &nu_total));
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    tfuse_status status = TFUSE_ENOMEM;
    const double *rows = normalised(env, &arena, n, mu, mu_total);
    const double *cols = rows ? normalised(env, &arena, m, nu, nu_total) : NULL;
    if (!cols)
        goto out;
    TF_TRY_OUT(tf_start_potentials(env, &arena, n, m, cost, rows, cols, &own));
    TF_TRY_OUT(run_solver(env, entry, &own, n, m, cost, rows, cols, out));
    out->seconds = now() - start;
    tf_solution_announce(env, "", name, out);
out:
    tf_arena_free(&arena);
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
