/* SPDX-License-Identifier: Apache-2.0
 *
 * sinkhorn_newton.c: Newton's method on the semi-dual of entropic transport, for problems where scaling contracts slowly
 * (Brauer, Clason, Lorenz & Wirth 2017; Tang, Shavlovsky, Rahmanian et al. 2024).
 *
 * With rows exact, P = diag(a) K diag(b) and r = P'1, a step y of log b solves
 *
 *     (diag(r) - P' diag(1/mu) P) y = nu - r,
 *
 * the Hessian of the concave function D(b) = sum nu_j log b_j + sum mu_i log a_i(b), by conjugate gradients with the diagonal as
 * preconditioner: one reading of K each. The matrix is singular (a constant moves nothing) and consistent, so CG stays in its range.
 * The step is shortened until D gains.
 *
 * Where few entries hold all but NEGLIGIBLE of their row, as at a small reg, CG reads those alone: the direction changes by as little, and what it is
 * worth is measured with the whole of K. Iterations count readings of the whole.
 */
#include "ot/sinkhorn.h"

#include <math.h>
#include <string.h>

enum { CG_MOST = 300, CG_MOST_SPARSE = 3000, HALVINGS = 12, DENSE_PER_SPARSE = 20 };
#define NEGLIGIBLE 6e-8 /* 2^-24 of a row's mass */
#define LONGEST 10.0 /* of log b in one step: within what K carries */
#define ARMIJO 1e-4

/* The entries of K that matter, row by row. */
typedef struct sparse {
    int64_t *start; /* n + 1; NULL: K is read whole */
    int32_t *column;
    float *value;
} sparse;

typedef struct newton {
    tf_env *env;
    tf_kernel *k;
    sparse few;
    double *r, *rhs, *y, *res, *dir, *x; /* m */
    double *w;                           /* n: a^2 / mu */
    double *old_a;                       /* the same memory, once the direction is known */
    int64_t *passes;
    double read; /* readings of K that are not in *passes yet, less than one */
} newton;

static double inner(const double *x, const double *y, int64_t m)
{
    double sum = 0;
    for (int64_t j = 0; j < m; j++)
        sum += x[j] * y[j];
    return sum;
}

/* Residual through the preconditioner, and its product with the residual. */
static double precondition(const newton *s, double *z)
{
    double sum = 0;
    for (int64_t j = 0; j < s->k->m; j++) {
        z[j] = s->r[j] > 0 ? s->res[j] / s->r[j] : 0;
        sum += z[j] * s->res[j];
    }
    return sum;
}

/* ---- the entries that matter ------------------------------------------------------------------------------ */

/* Entries of row i that are not negligible; written when there is where. */
static int64_t row_entries(const tf_kernel *k, int64_t i, int32_t *column, float *value)
{
    const float *row = k->k + i * k->m;
    const double least = NEGLIGIBLE * k->mu[i];
    int64_t count = 0;
    for (int64_t j = 0; j < k->m && k->mu[i] > 0; j++) {
        if (!(k->a[i] * (double)row[j] * k->b[j] > least))
            continue;
        if (column) {
            column[count] = (int32_t)j;
            value[count] = row[j];
        }
        count++;
    }
    return count;
}

static void free_sparse(newton *s)
{
    tf_free(&s->env->mem, s->few.start);
    tf_free(&s->env->mem, s->few.column);
    tf_free(&s->env->mem, s->few.value);
    s->few = (sparse){NULL, NULL, NULL};
}

/* Leaves it empty where too many entries matter. */
static tfuse_status make_sparse(newton *s)
{
    const tf_kernel *k = s->k;
    int64_t *start = tf_alloc_array(s->env, (size_t)k->n + 1, sizeof *start);
    if (!start)
        return TFUSE_ENOMEM;
    s->few.start = start;
    start[0] = 0;
    for (int64_t i = 0; i < k->n; i++) {
        if (tf_polled(s->env, i)) {
            free_sparse(s);
            return tf_check_cancel(s->env);
        }
        start[i + 1] = start[i] + row_entries(k, i, NULL, NULL);
    }
    if (start[k->n] > k->n * k->m / DENSE_PER_SPARSE || k->m > INT32_MAX) {
        free_sparse(s);
        return TFUSE_OK;
    }
    s->few.column = tf_alloc_array(s->env, (size_t)start[k->n] + 1, sizeof *s->few.column);
    s->few.value = tf_alloc_array(s->env, (size_t)start[k->n] + 1, sizeof *s->few.value);
    if (!s->few.column || !s->few.value) {
        free_sparse(s);
        return TFUSE_ENOMEM;
    }
    for (int64_t i = 0; i < k->n && !tf_polled(s->env, i); i++)
        row_entries(k, i, s->few.column + start[i], s->few.value + start[i]);
    if (tf_cancelled(s->env))
        free_sparse(s);
    return tf_check_cancel(s->env);
}

static void sparse_gram(const newton *s)
{
    const tf_kernel *k = s->k;
    memset(k->t, 0, (size_t)k->m * sizeof *k->t);
    for (int64_t i = 0; i < k->n && !tf_polled(s->env, i); i++) {
        double sum = 0;
        for (int64_t e = s->few.start[i]; e < s->few.start[i + 1]; e++)
            sum += (double)s->few.value[e] * s->x[s->few.column[e]];
        sum *= s->w[i];
        for (int64_t e = s->few.start[i]; e < s->few.start[i + 1]; e++)
            k->t[s->few.column[e]] += sum * (double)s->few.value[e];
    }
}

/* k->t = K' diag(w) K x */
static void gram(newton *s)
{
    const tf_kernel *k = s->k;
    if (!s->few.start) {
        tf_kernel_gram(s->env, s->k, s->w, s->x);
        (*s->passes)++;
        return;
    }
    sparse_gram(s);
    s->read += (double)(s->few.start[k->n] + k->m) / ((double)k->n * (double)k->m);
    if (s->read >= 1) {
        s->read -= 1;
        (*s->passes)++;
    }
}

/* ---- the direction -------------------------------------------------------------------------------------- */

/* x = (diag(r) - P' diag(1/mu) P) dir */
static void multiply(newton *s)
{
    tf_kernel *k = s->k;
    for (int64_t j = 0; j < k->m; j++)
        s->x[j] = k->b[j] * s->dir[j];
    gram(s);
    for (int64_t j = 0; j < k->m; j++)
        s->x[j] = s->r[j] * s->dir[j] - k->b[j] * k->t[j];
}

/* y, to a residual of `target` times the first. */
static void solve(newton *s, double target, int64_t most)
{
    const int longest = s->few.start ? CG_MOST_SPARSE : CG_MOST;
    const int64_t m = s->k->m;
    memset(s->y, 0, (size_t)m * sizeof *s->y);
    memcpy(s->res, s->rhs, (size_t)m * sizeof *s->res);
    double rho = precondition(s, s->dir);
    const double stop = target * target * rho;
    for (int i = 0; i < longest && *s->passes < most && rho > stop && !tf_cancelled(s->env); i++) {
        multiply(s);
        const double curvature = inner(s->dir, s->x, m);
        if (!(curvature > 1e-14 * rho)) /* nothing but the null space is left */
            break;
        const double step = rho / curvature;
        for (int64_t j = 0; j < m; j++) {
            s->y[j] += step * s->dir[j];
            s->res[j] -= step * s->x[j];
        }
        const double next = precondition(s, s->x);
        for (int64_t j = 0; j < m; j++)
            s->dir[j] = s->x[j] + next / rho * s->dir[j];
        rho = next;
    }
}

/* D(b new) - D(b old), from ratios. */
static double gain(const newton *s, double step)
{
    const tf_kernel *k = s->k;
    double sum = 0;
    for (int64_t j = 0; j < k->m; j++)
        sum += k->nu[j] * step * s->y[j];
    for (int64_t i = 0; i < k->n; i++)
        if (k->mu[i] > 0)
            sum += k->mu[i] * log(k->a[i] / s->old_a[i]);
    return sum;
}

static double first_step(const newton *s)
{
    double longest = 0;
    for (int64_t j = 0; j < s->k->m; j++)
        longest = fmax(longest, fabs(s->y[j]));
    return longest > LONGEST ? LONGEST / longest : 1;
}

/* s->x keeps b. */
static bool search(tf_env *env, newton *s, double error)
{
    tf_kernel *k = s->k;
    const double slope = inner(s->y, s->rhs, k->m);
    memcpy(s->x, k->b, (size_t)k->m * sizeof *s->x);
    memcpy(s->old_a, k->a, (size_t)k->n * sizeof *s->old_a);
    double step = first_step(s);
    for (int h = 0; slope > 0 && h < HALVINGS && !tf_cancelled(env); h++, step /= 2) {
        for (int64_t j = 0; j < k->m; j++)
            k->b[j] = s->x[j] * exp(step * s->y[j]);
        tf_kernel_scale(env, k);
        (*s->passes)++;
        if (gain(s, step) >= ARMIJO * step * slope || tf_kernel_error(k) < error / 2)
            return true;
    }
    memcpy(k->b, s->x, (size_t)k->m * sizeof *s->x);
    memcpy(k->a, s->old_a, (size_t)k->n * sizeof *s->old_a);
    return false;
}

tfuse_status tf_sinkhorn_newton(tf_env *env, tf_kernel *k, double *work, int64_t *passes, int64_t most, bool *gained)
{
    const int64_t m = k->m;
    newton s = {.env = env, .k = k, .r = work, .rhs = work + m, .y = work + 2 * m, .res = work + 3 * m, .dir = work + 4 * m,
                .x = work + 5 * m, .w = work + 6 * m, .old_a = work + 6 * m, .passes = passes};
    const double error = tf_kernel_error(k);
    *gained = false;
    for (int64_t j = 0; j < m; j++) {
        s.r[j] = k->b[j] * k->t[j];
        s.rhs[j] = k->nu[j] - s.r[j];
        if (k->nu[j] > 0 && !(s.r[j] > 0))
            return TFUSE_OK; /* a column that has underflowed is for scaling to bring back */
    }
    for (int64_t i = 0; i < k->n; i++)
        s.w[i] = k->mu[i] > 0 ? k->a[i] * k->a[i] / k->mu[i] : 0;
    TF_TRY(make_sparse(&s));
    solve(&s, fmin(0.1, sqrt(error)), most);
    free_sparse(&s);
    *gained = search(env, &s, error);
    for (int64_t j = 0; !*gained && j < m; j++)
        k->t[j] = k->b[j] > 0 ? s.r[j] / k->b[j] : 0;
    return TFUSE_OK;
}
