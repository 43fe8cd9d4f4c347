/* SPDX-License-Identifier: Apache-2.0
 *
 * lapack.c: factorisations; the only file that includes <lapacke.h>.
 *
 * LAPACK is column-major, so it sees every row-major matrix here as its transpose: the SVD of A' hands back
 * U and V' with their roles exchanged, and A = Q R is the LQ factorisation of A'. No matrix is
 * transposed but the right-hand sides of a solve. The _work functions are called, with workspace from
 * the caller's allocator. Inputs are checked for NaN and infinity first, on which LAPACK may not end.
 */
#include "num/num.h"

#include <string.h>

#ifndef TF_NO_LAPACK

#include <lapacke.h>
#include <math.h>

tfuse_status tf_lapack_check(tf_env *env, const char *what)
{
    (void)env, (void)what;
    return TFUSE_OK;
}

static tfuse_status check_size(tf_env *env, const char *what, int64_t m, int64_t n)
{
    if (m < 0 || n < 0 || m > INT32_MAX || n > INT32_MAX)
        return tf_fail(env, TFUSE_ERANGE, "%s: a matrix of %lld by %lld is too large for LAPACK", what, (long long)m,
                       (long long)n);
    return TFUSE_OK;
}

static tfuse_status check_finite(tf_env *env, const char *what, int64_t m, int64_t n, const double *a)
{
    TF_TRY(check_size(env, what, m, n));
    for (int64_t i = 0; i < m * n; i++) {
        if (!isfinite(a[i]))
            return tf_fail(env, TFUSE_ENUMERIC, "%s: the matrix holds NaN or infinity at row %lld, column %lld", what,
                           (long long)(i / n), (long long)(i % n));
    }
    return TFUSE_OK;
}

static tfuse_status check_info(tf_env *env, const char *what, lapack_int info)
{
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory in LAPACK", what);
    if (info < 0)
        return tf_fail(env, TFUSE_EINTERNAL, "%s: LAPACK did not take argument %d", what, -(int)info);
    return TFUSE_OK;
}

static void *copy_of(tf_env *env, const double *a, int64_t m, int64_t n)
{
    size_t count;
    if (!tf_mul_size((size_t)m, (size_t)n, &count))
        count = SIZE_MAX;
    double *copy = tf_alloc_array(env, count, sizeof *copy);
    if (copy)
        memcpy(copy, a, count * sizeof *copy);
    return copy;
}

/* The larger of two workspace sizes that LAPACK asked for, as the lapack_int it takes; 0 if too large. */
static lapack_int work_size(double x, double y)
{
    double most = x > y ? x : y;
    return most < 1 ? 1 : most > INT32_MAX - 1 ? 0 : (lapack_int)most;
}

/* Divide and conquer, and where that does not converge, QR iteration. m×n here is n×m for LAPACK. */
static tfuse_status svd_in(tf_env *env, lapack_int m, lapack_int n, const double *a, double *copy, lapack_int *iwork,
                           double *u, double *s, double *vt)
{
    lapack_int k = m < n ? m : n;
    double ask_dd = 0, ask_vd = 0;
    LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', n, m, copy, n, s, vt, n, u, k, &ask_dd, -1, iwork);
    LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', n, m, copy, n, s, vt, n, u, k, &ask_vd, -1);
    lapack_int lwork = work_size(ask_dd, ask_vd);
    if (lwork == 0)
        return tf_fail(env, TFUSE_ERANGE, "svd: a matrix of %d by %d is too large for LAPACK", (int)m, (int)n);
    double *work = tf_alloc_array(env, (size_t)lwork, sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'S', n, m, copy, n, s, vt, n, u, k, work, lwork, iwork);
    if (info > 0) {
        memcpy(copy, a, (size_t)m * (size_t)n * sizeof *copy);
        info = LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', n, m, copy, n, s, vt, n, u, k, work, lwork);
    }
    tf_free(&env->mem, work);
    if (info > 0)
        return tf_fail(env, TFUSE_ENUMERIC, "svd: a matrix of %d by %d did not converge", (int)m, (int)n);
    return check_info(env, "svd", info);
}

tfuse_status tf_svd(tf_env *env, int64_t m, int64_t n, const double *a, double *u, double *s, double *vt)
{
    TF_TRY(check_finite(env, "svd", m, n, a));
    int64_t k = m < n ? m : n;
    if (k == 0)
        return TFUSE_OK;
    tfuse_status status = TFUSE_ENOMEM;
    double *copy = copy_of(env, a, m, n);
    lapack_int *iwork = copy ? tf_alloc_array(env, (size_t)k, 8 * sizeof *iwork) : NULL;
    if (iwork)
        status = svd_in(env, (lapack_int)m, (lapack_int)n, a, copy, iwork, u, s, vt);
    tf_free(&env->mem, iwork);
    tf_free(&env->mem, copy);
    return status;
}

/* Takes R (n×n) out of the factored q, and makes its diagonal non-negative: flip[j] is the sign that
 * column j of Q gets in return. */
static void take_r(int64_t n, const double *q, double *r, double *flip)
{
    for (int64_t i = 0; i < n; i++) {
        flip[i] = q[i * n + i] < 0 ? -1 : 1;
        for (int64_t j = 0; j < n; j++)
            r[i * n + j] = j < i ? 0 : flip[i] * q[i * n + j];
    }
}

static tfuse_status qr_in(tf_env *env, lapack_int m, lapack_int n, double *q, double *r, double *tau)
{
    double ask_lq = 0, ask_q = 0;
    LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, n, m, q, n, tau, &ask_lq, -1);
    LAPACKE_dorglq_work(LAPACK_COL_MAJOR, n, m, n, q, n, tau, &ask_q, -1);
    lapack_int lwork = work_size(ask_lq, ask_q);
    if (lwork == 0)
        return tf_fail(env, TFUSE_ERANGE, "qr: a matrix of %d by %d is too large for LAPACK", (int)m, (int)n);
    double *work = tf_alloc_array(env, (size_t)lwork, sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    lapack_int info = LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, n, m, q, n, tau, work, lwork);
    double *flip = tau + n;
    take_r(n, q, r, flip);
    if (info == 0)
        info = LAPACKE_dorglq_work(LAPACK_COL_MAJOR, n, m, n, q, n, tau, work, lwork);
    tf_free(&env->mem, work);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++)
            q[i * n + j] *= flip[j];
    }
    return check_info(env, "qr", info);
}

tfuse_status tf_qr(tf_env *env, int64_t m, int64_t n, const double *a, double *q, double *r)
{
    TF_TRY(check_finite(env, "qr", m, n, a));
    if (m < n)
        return tf_fail(env, TFUSE_ESHAPE, "qr: a matrix of %lld by %lld has fewer rows than columns", (long long)m,
                       (long long)n);
    if (n == 0)
        return TFUSE_OK;
    double *tau = tf_alloc_array(env, (size_t)n, 2 * sizeof *tau);
    if (!tau)
        return TFUSE_ENOMEM;
    memmove(q, a, (size_t)m * (size_t)n * sizeof *q);
    tfuse_status status = qr_in(env, (lapack_int)m, (lapack_int)n, q, r, tau);
    tf_free(&env->mem, tau);
    return status;
}

static void transpose(int64_t rows, int64_t cols, const double *from, double *to)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            to[j * rows + i] = from[i * cols + j];
    }
}

static tfuse_status chol_in(tf_env *env, lapack_int n, lapack_int k, double *factor, const double *b, double *rhs,
                            double *x)
{
    lapack_int info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, factor, n);
    if (info > 0)
        return tf_fail(env, TFUSE_ENUMERIC,
                       "cholesky: a matrix of %d by %d is not positive definite (pivot %d); add a ridge to its diagonal",
                       (int)n, (int)n, (int)info);
    if (info == 0) {
        transpose(n, k, b, rhs);
        info = LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'L', n, k, factor, n, rhs, n);
        transpose(k, n, rhs, x);
    }
    return check_info(env, "cholesky", info);
}

tfuse_status tf_chol_solve(tf_env *env, int64_t n, int64_t k, const double *a, const double *b, double *x)
{
    TF_TRY(check_finite(env, "cholesky", n, n, a));
    TF_TRY(check_finite(env, "cholesky, right-hand sides", n, k, b));
    if (n == 0 || k == 0)
        return TFUSE_OK;
    tfuse_status status = TFUSE_ENOMEM;
    double *factor = copy_of(env, a, n, n);
    double *rhs = factor ? copy_of(env, b, n, k) : NULL;
    if (rhs)
        status = chol_in(env, (lapack_int)n, (lapack_int)k, factor, b, rhs, x);
    tf_free(&env->mem, rhs);
    tf_free(&env->mem, factor);
    return status;
}

#else

static tfuse_status without(tf_env *env, const char *what)
{
    if (!env)
        return TFUSE_EUNSUPPORTED;
    return tf_fail(env, TFUSE_EUNSUPPORTED,
                   "%s needs LAPACK, which this library was built without (WITH_LAPACK=0); align.strategy=otfusion and none need none, nor "
                   "does matching with matching.stream=permutation, matching.inner=permutation and repair=none",
                   what);
}

tfuse_status tf_lapack_check(tf_env *env, const char *what)
{
    return without(env, what);
}

tfuse_status tf_svd(tf_env *env, int64_t m, int64_t n, const double *a, double *u, double *s, double *vt)
{
    (void)m, (void)n, (void)a, (void)u, (void)s, (void)vt;
    return without(env, "svd");
}

tfuse_status tf_qr(tf_env *env, int64_t m, int64_t n, const double *a, double *q, double *r)
{
    (void)m, (void)n, (void)a, (void)q, (void)r;
    return without(env, "qr");
}

tfuse_status tf_chol_solve(tf_env *env, int64_t n, int64_t k, const double *a, const double *b, double *x)
{
    (void)n, (void)k, (void)a, (void)b, (void)x;
    return without(env, "cholesky");
}

#endif

tfuse_status tf_polar(tf_env *env, int64_t n, const double *a, double *q)
{
    size_t square, count;
    if (n < 0 || !tf_mul_size((size_t)n, (size_t)n, &square) || !tf_mul_size(square, 2, &count) ||
        !tf_add_size(count, (size_t)n, &count))
        return tf_fail(env, TFUSE_ERANGE, "polar: a matrix of %lld by %lld is too large", (long long)n, (long long)n);
    double *u = tf_alloc_array(env, count, sizeof *u);
    if (!u)
        return TFUSE_ENOMEM;
    double *vt = u + square, *s = vt + square;
    tfuse_status status = tf_svd(env, n, n, a, u, s, vt);
    if (status == TFUSE_OK)
        tf_dgemm(env, 1, (tf_dmat){u, n, n, n, 1}, (tf_dmat){vt, n, n, n, 1}, 0, (tf_dmat){q, n, n, n, 1});
    tf_free(&env->mem, u);
    return status;
}
