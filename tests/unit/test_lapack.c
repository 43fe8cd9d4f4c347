/* SPDX-License-Identifier: Apache-2.0
 *
 * Factorisations multiply back to what was factored. Backward stable algorithms in float64 on matrices of norm
 * about 10 and extent up to 60: 1e-12 leaves a factor of about 100.
 */
#include "t.h"

#include "num/num.h"

#include <math.h>
#include <stdlib.h>

static const double TOLERANCE = 1e-12;

static double *random_doubles(int64_t n, uint64_t seed)
{
    double *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    uint64_t state = seed * 77 + 1;
    for (int64_t i = 0; i < n; i++)
        x[i] = (double)t_rand(&state);
    return x;
}

/* Largest |A B - C|; A m×k, B k×n; with at, A is stored transposed, C NULL is the identity. */
static double product_error(int64_t m, int64_t n, int64_t k, const double *a, bool at, const double *b, bool bt,
                            const double *c)
{
    double worst = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (at ? a[l * m + i] : a[i * k + l]) * (bt ? b[j * k + l] : b[l * n + j]);
            double e = fabs(sum - (c ? c[i * n + j] : i == j));
            if (!(e <= worst))
                worst = e;
        }
    }
    return worst;
}

#ifndef TF_NO_LAPACK

START_TEST(test_svd)
{
    static const int64_t sizes[][2] = {{1, 1}, {5, 5}, {40, 12}, {12, 40}, {60, 60}, {1, 9}, {9, 1}};
    tf_env *env = t_env(1);
    for (size_t t = 0; t < TF_LEN(sizes); t++) {
        int64_t m = sizes[t][0], n = sizes[t][1], k = m < n ? m : n;
        double *a = random_doubles(m * n, t), *kept = random_doubles(m * n, t);
        double *u = malloc((size_t)(m * k) * 8), *s = malloc((size_t)k * 8), *vt = malloc((size_t)(k * n) * 8);
        t_ok(env, tf_svd(env, m, n, a, u, s, vt));
        ck_assert_mem_eq(a, kept, (size_t)(m * n) * 8);
        ck_assert_double_le(product_error(k, k, m, u, true, u, false, NULL), TOLERANCE);
        ck_assert_double_le(product_error(k, k, n, vt, false, vt, true, NULL), TOLERANCE);
        for (int64_t i = 0; i < k; i++) {
            ck_assert(s[i] >= 0 && (i == 0 || s[i] <= s[i - 1]));
            for (int64_t r = 0; r < m; r++)
                u[r * k + i] *= s[i];
        }
        ck_assert_double_le(product_error(m, n, k, u, false, vt, false, a), TOLERANCE);
        free(a), free(kept), free(u), free(s), free(vt);
    }
    t_ok(env, tf_svd(env, 0, 4, NULL, NULL, NULL, NULL));
    t_env_free(env);
}
END_TEST

START_TEST(test_qr)
{
    static const int64_t sizes[][2] = {{1, 1}, {6, 6}, {50, 20}, {9, 1}};
    tf_env *env = t_env(1);
    for (size_t t = 0; t < TF_LEN(sizes); t++) {
        int64_t m = sizes[t][0], n = sizes[t][1];
        double *a = random_doubles(m * n, t), *q = malloc((size_t)(m * n) * 8), *r = malloc((size_t)(n * n) * 8);
        t_ok(env, tf_qr(env, m, n, a, q, r));
        ck_assert_double_le(product_error(n, n, m, q, true, q, false, NULL), TOLERANCE);
        ck_assert_double_le(product_error(m, n, n, q, false, r, false, a), TOLERANCE);
        for (int64_t i = 0; i < n; i++) {
            ck_assert(r[i * n + i] >= 0);
            for (int64_t j = 0; j < i; j++)
                ck_assert(r[i * n + j] == 0);
        }
        free(a), free(q), free(r);
    }
    double x[2] = {1, 2};
    t_fails(env, tf_qr(env, 1, 2, x, x, x), TFUSE_ESHAPE, "fewer rows");
    t_env_free(env);
}
END_TEST

START_TEST(test_chol_solve)
{
    enum { N = 30, K = 7 };
    tf_env *env = t_env(1);
    double *g = random_doubles(N * N, 1), *b = random_doubles(N * K, 2), *a = calloc(N * N, 8), *x = malloc(N * K * 8);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            for (int l = 0; l < N; l++)
                a[i * N + j] += g[i * N + l] * g[j * N + l];
            a[i * N + j] += i == j;
        }
    }
    t_ok(env, tf_chol_solve(env, N, K, a, b, x));
    ck_assert_double_le(product_error(N, K, N, a, false, x, false, b), TOLERANCE);
    t_ok(env, tf_chol_solve(env, N, K, a, b, b)); /* in place */
    ck_assert_mem_eq(b, x, N * K * 8);
    a[0] = -1;
    t_fails(env, tf_chol_solve(env, N, K, a, b, x), TFUSE_ENUMERIC, "not positive definite");
    free(g), free(b), free(a), free(x);
    t_env_free(env);
}
END_TEST

START_TEST(test_polar)
{
    enum { N = 25 };
    tf_env *env = t_env(2);
    double *a = random_doubles(N * N, 4), *q = malloc(N * N * 8), *h = malloc(N * N * 8);
    t_ok(env, tf_polar(env, N, a, q));
    ck_assert_double_le(product_error(N, N, N, q, true, q, false, NULL), TOLERANCE);
    /* Q'A is the symmetric factor. */
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            h[i * N + j] = 0;
            for (int l = 0; l < N; l++)
                h[i * N + j] += q[l * N + i] * a[l * N + j];
        }
    }
    double trace = 0;
    for (int i = 0; i < N; i++) {
        trace += h[i * N + i];
        for (int j = 0; j < N; j++)
            ck_assert_double_le(fabs(h[i * N + j] - h[j * N + i]), TOLERANCE);
    }
    ck_assert_double_gt(trace, 0);
    free(a), free(q), free(h);
    t_env_free(env);
}
END_TEST

START_TEST(test_bad_input)
{
    tf_env *env = t_env(1);
    double a[4] = {1, 2, NAN, 4}, u[4], s[2], v[4];
    t_fails(env, tf_svd(env, 2, 2, a, u, s, v), TFUSE_ENUMERIC, "row 1, column 0");
    t_fails(env, tf_polar(env, 2, a, u), TFUSE_ENUMERIC, "NaN");
    t_fails(env, tf_chol_solve(env, 2, 2, a, u, v), TFUSE_ENUMERIC, "NaN");
    a[2] = -INFINITY;
    t_fails(env, tf_qr(env, 2, 2, a, u, v), TFUSE_ENUMERIC, "infinity");
    t_fails(env, tf_svd(env, -1, 2, a, u, s, v), TFUSE_ERANGE, "too large");
    t_fails(env, tf_svd(env, INT64_MAX, 2, a, u, s, v), TFUSE_ERANGE, "too large");
    t_fails(env, tf_polar(env, INT64_MAX, a, u), TFUSE_ERANGE, "too large");
    t_env_free(env);
}
END_TEST

#else

START_TEST(test_without)
{
    tf_env *env = t_env(1);
    double a[1] = {1}, q[1], r[1], s[1];
    (void)random_doubles, (void)product_error, (void)TOLERANCE;
    t_fails(env, tf_svd(env, 1, 1, a, q, s, r), TFUSE_EUNSUPPORTED, "without LAPACK");
    t_fails(env, tf_qr(env, 1, 1, a, q, r), TFUSE_EUNSUPPORTED, "without LAPACK");
    t_fails(env, tf_chol_solve(env, 1, 1, a, q, r), TFUSE_EUNSUPPORTED, "without LAPACK");
    t_fails(env, tf_polar(env, 1, a, q), TFUSE_EUNSUPPORTED, "without LAPACK");
    t_env_free(env);
}
END_TEST

#endif

Suite *make_suite(void)
{
    T_SUITE("lapack");
#ifndef TF_NO_LAPACK
    T_ADD(test_svd);
    T_ADD(test_qr);
    T_ADD(test_chol_solve);
    T_ADD(test_polar);
    T_ADD(test_bad_input);
#else
    T_ADD(test_without);
#endif
    return t_suite;
}
