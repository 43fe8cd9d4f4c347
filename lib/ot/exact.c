/* SPDX-License-Identifier: Apache-2.0
 *
 * exact.c: the solver "exact": which method takes a problem, and why, is decided here and told in the solution's method and the log. Every result
 * carries a certificate, the gap to a dual bound in float64, and one that is not small is an error.
 */
#include "ot/internal.h"
#include "base/meter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GAP_TOLERANCE 1e-9 /* relative to the largest cost */

/* ---- the choice ------------------------------------------------------------------------------- */

/* Measured on normal, structured and tied costs: below, a whole row is in cache, and reading it costs less than keeping a list of it. */
enum { ASSIGNMENT_LISTS_FROM = 1100, AUCTION_LISTS_FROM = 1500, TRANSPORT_LISTS_FROM = 1024 };

bool tf_assignment_lists(int64_t n)
{
    return n >= ASSIGNMENT_LISTS_FROM;
}

bool tf_auction_lists(int64_t m)
{
    return m >= AUCTION_LISTS_FROM;
}

bool tf_transport_lists(int64_t n, int64_t m)
{
    return tf_area(n, m, 1) >= TRANSPORT_LISTS_FROM && n < INT32_MAX / 16 && m < INT32_MAX / 16;
}

/* Why the problem is not an assignment; NULL: it is one. */
static const char *not_assignment(int64_t n, int64_t m, const double *mu, const double *nu)
{
    return n != m                 ? "n differs from m"
           : !tf_all_equal(mu, n) ? "row masses are not uniform"
           : !tf_all_equal(nu, m) ? "column masses are not uniform"
                                  : NULL;
}

/* ---- the certificate -------------------------------------------------------------------------- */

static double without_rounding(double gap, double scale, const tf_solution *s)
{
    return gap < 0 && gap >= -(1e-12 + s->error) * scale ? 0 : gap;
}

void tf_certify(const tf_env *env, const float *cost, const double *mu, const double *nu, double scale, tf_solution *s)
{
    s->gap = without_rounding(s->cost - tf_dual_bound(env, s->n, s->m, cost, mu, nu, s->u, s->v), scale, s);
}

/* Without a bid or a path, u = 0 and v holds the columns' minima, which are feasible as they were read from all costs. */
static bool is_column_reduction(const tf_solution *s)
{
    return s->kind == TF_COUPLING_PERMUTATION && s->iterations == 0 && s->u[0] == 0 && tf_all_equal(s->u, s->n);
}

static double sum_of_minima(const tf_solution *s)
{
    double total = 0;
    for (int64_t j = 0; j < s->m; j++)
        total += s->v[j] * (1.0 / (double)s->m);
    return total;
}

/* How it went, after the reason; transport.c has left word of its start. */
static void tell(const char *why, bool from_potentials, tf_solution *out)
{
    char start[128]; /* what a start is called, with room beside it for the rest */
    snprintf(start, sizeof start, "%.127s", out->method);
    const char *how = why                       ? start
                      : out->iterations > 0     ? (tf_assignment_lists(out->n) ? "lists of candidates, rows being long" : "whole rows, being short")
                      : is_column_reduction(out) ? "column minima alone"
                      : from_potentials          ? "nothing left to improve"
                                                 : "costs of one number a line, paired in order";
    snprintf(out->method, sizeof out->method, "%s: %s; %s%s", why ? "network simplex" : "assignment",
             why ? why : "square, uniform masses", how, from_potentials ? ", from potentials" : "");
}

/* ---- the solver ------------------------------------------------------------------------------- */

static tfuse_status assign(tf_env *env, int64_t n, const float *cost, const double *start, double *scale, tf_solution *out)
{
    tf_solution_init(env, n, n, out);
    out->kind = TF_COUPLING_PERMUTATION;
    out->perm = tf_alloc_array(env, (size_t)n, sizeof *out->perm);
    out->u = tf_alloc_array(env, (size_t)n, sizeof *out->u);
    out->v = tf_alloc_array(env, (size_t)n, sizeof *out->v);
    tfuse_status status = TFUSE_ENOMEM;
    if (out->perm && out->u && out->v)
        status = tf_assignment(env, n, cost, start, scale, out->perm, out->u, out->v, &out->iterations);
    out->converged = true;
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}

tfuse_status tf_exact(tf_env *env, const tf_ot_options *options, int64_t n, int64_t m, const float *cost,
                      const double *mu, const double *nu, tf_solution *out)
{
    const char *why = not_assignment(n, m, mu, nu);
    double scale = options->scale;
    if (why && isnan(scale))
        TF_TRY(tf_check_costs(env, n, m, cost, &scale));
    tfuse_status status = why ? tf_transport(env, n, m, cost, mu, nu, options->v, out) : assign(env, n, cost, options->u, &scale, out);
    if (status != TFUSE_OK)
        return status;
    tell(why, options->v != NULL, out);
    status = tf_solution_measure(env, cost, mu, nu, out);
    if (status == TFUSE_OK) {
        if (is_column_reduction(out))
            out->gap = without_rounding(out->cost - sum_of_minima(out), scale, out);
        else
            tf_certify(env, cost, mu, nu, scale, out);
        status = tf_check_cancel(env);
        if (status == TFUSE_OK && !(fabs(out->gap) <= GAP_TOLERANCE * scale))
            status = tf_fail(env, TFUSE_EINTERNAL, "exact: the certificate leaves a gap of %g at costs up to %g", out->gap, scale);
    }
    if (status != TFUSE_OK)
        tf_solution_free(out);
    return status;
}
