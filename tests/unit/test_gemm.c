/* SPDX-License-Identifier: Apache-2.0
 *
 * Products against a sum in float64; equal bits for any number of threads.
 */
#include "t.h"

#include "num/num.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Error of a float32 sum of k products, as a part of the sum of their magnitudes: rounding errors that are
 * independent with mean 0 give sqrt(k) times the unit roundoff with a factor of about 1 (Higham and Mary, A New
 * Approach to Probabilistic Rounding Error Analysis, 2019); 4 for scaling, beta and few terms. A term
 * that is lost or counted twice is larger by orders of magnitude. */
static double tolerance(int64_t k)
{
    return 6e-8 * (sqrt((double)k) + 4);
}

static float value(tf_mat a, int64_t i, int64_t j)
{
    return a.data[i * a.rs + j * a.cs];
}

/* Largest error, as a part of the sum of the magnitudes that were added. */
static double worst_error(float alpha, tf_mat a, tf_mat b, float beta, tf_mat c0, tf_mat c)
{
    double worst = 0;
    for (int64_t i = 0; i < c.rows; i++) {
        for (int64_t j = 0; j < c.cols; j++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < a.cols; k++) {
                sum += (double)value(a, i, k) * (double)value(b, k, j);
                size += fabs((double)value(a, i, k) * (double)value(b, k, j));
            }
            double old = beta == 0 ? 0 : (double)beta * (double)value(c0, i, j);
            sum = (double)alpha * sum + old;
            size = fabs((double)alpha) * size + fabs(old);
            double e = fabs(sum - (double)value(c, i, j)) / size;
            if (!(e <= worst))
                worst = e;
        }
    }
    return worst;
}

static float *random_floats(size_t n, uint64_t seed)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    t_fill(x, n, seed);
    return x;
}

/* Each of A, B, C as it is or as the transpose of what is stored. */
static void check_product(tf_env *env, int64_t m, int64_t n, int64_t k, int form, float alpha, float beta)
{
    float *a = random_floats((size_t)(m * k), 1), *b = random_floats((size_t)(k * n), 2);
    float *c = random_floats((size_t)(m * n), 3), *c0 = random_floats((size_t)(m * n), 3);
    tf_mat A = form & 1 ? tf_mat_t(tf_mat_rows(a, k, m)) : tf_mat_rows(a, m, k);
    tf_mat B = form & 2 ? tf_mat_t(tf_mat_rows(b, n, k)) : tf_mat_rows(b, k, n);
    tf_mat C = form & 4 ? tf_mat_t(tf_mat_rows(c, n, m)) : tf_mat_rows(c, m, n);
    tf_mat C0 = C;
    C0.data = c0;
    if (beta == 0)
        c[0] = NAN; /* must not be looked at */
    tf_gemm(env, alpha, A, B, beta, C);
    double error = worst_error(alpha, A, B, beta, C0, C);
    ck_assert_msg(error <= tolerance(k), "%ld %ld %ld form %d: %g", (long)m, (long)n, (long)k, form, error);
    free(a), free(b), free(c), free(c0);
}

START_TEST(test_shapes)
{
    static const int64_t shapes[][3] = {{1, 1, 1},   {1, 7, 5},     {7, 1, 5},       {5, 7, 1},     {3, 3, 3},
                                        {65, 33, 17}, {128, 256, 64}, {129, 257, 100}, {1, 3000, 700}, {3000, 1, 700},
                                        {300, 520, 64}, {600, 258, 260}, {258, 600, 260}};
    tf_env *env = t_env(2);
    for (size_t s = 0; s < TF_LEN(shapes); s++) {
        for (int form = 0; form < 8; form++) {
            check_product(env, shapes[s][0], shapes[s][1], shapes[s][2], form, 1, 0);
            check_product(env, shapes[s][0], shapes[s][1], shapes[s][2], form, -0.5f, 2);
        }
    }
    t_env_free(env);
}
END_TEST

/* Sizes and strides on which BLIS would end the process. */
START_TEST(test_what_blis_does_not_take)
{
    tf_env *env = t_env(1);
    float a[12], b[12], c[4] = {1, 2, 3, 4};
    t_fill(a, 12, 1);
    t_fill(b, 12, 2);
    tf_gemm(env, 1, tf_mat_rows(a, 0, 3), tf_mat_rows(b, 3, 4), 0, tf_mat_rows(c, 0, 4));
    tf_gemm(env, 1, tf_mat_rows(a, 2, 3), tf_mat_rows(b, 3, 0), 0, tf_mat_rows(c, 2, 0));
    tf_gemm(env, 1, (tf_mat){a, -2, 3, 3, 1}, tf_mat_rows(b, 3, 2), 0, (tf_mat){c, -2, 2, 2, 1});
    ck_assert_float_eq(c[0], 1);
    tf_gemm(env, 1, tf_mat_rows(a, 2, 0), tf_mat_rows(b, 0, 2), 0.5f, tf_mat_rows(c, 2, 2));
    ck_assert(c[0] == 0.5f && c[3] == 2);
    c[1] = NAN;
    tf_gemm(env, 1, tf_mat_rows(a, 2, 0), tf_mat_rows(b, 0, 2), 0, tf_mat_rows(c, 2, 2));
    ck_assert(c[0] == 0 && c[1] == 0 && c[3] == 0);
    /* One row used for all, overlapping windows, both strides 1, a stride that runs backwards. */
    tf_mat odd[] = {{a, 2, 3, 0, 1}, {a, 2, 3, 1, 1}, {a, 2, 3, 2, 1}, {a, 2, 3, 1, 0}, {a + 11, 2, 3, -3, -1},
                    {a, 2, 3, 3, 2}, {a, 2, 3, 5, 2}, {a, 2, 3, 2, 4}};
    for (size_t i = 0; i < TF_LEN(odd); i++) {
        tf_mat B = tf_mat_rows(b, 3, 2), C = tf_mat_rows(c, 2, 2);
        tf_gemm(env, 1, odd[i], B, 0, C);
        ck_assert_double_le(worst_error(1, odd[i], B, 0, C, C), tolerance(3));
    }
    t_env_free(env);
}
END_TEST

/* `size` bytes that end where memory may not be touched. */
static void *at_the_edge(size_t size, char **block, size_t *whole)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (size + page - 1) / page * page;
    *whole = inside + page;
    *block = mmap(NULL, *whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(*block != MAP_FAILED);
    ck_assert_int_eq(mprotect(*block + inside, page, PROT_NONE), 0);
    return *block + inside - size;
}

/* Every remainder of the sizes that the kernels of BLIS know, with operands that end at the end of a mapping. */
static void check_edges(tf_env *env, int64_t m, int64_t n, int64_t k)
{
    char *block[3];
    size_t whole[3];
    double *a = at_the_edge((size_t)(m * k) * sizeof *a, &block[0], &whole[0]);
    double *b = at_the_edge((size_t)(k * n) * sizeof *b, &block[1], &whole[1]);
    double *c = at_the_edge((size_t)(m * n) * sizeof *c, &block[2], &whole[2]);
    float *fa = (float *)a + m * k, *fb = (float *)b + k * n, *fc = (float *)c + m * n;
    for (int form = 0; form < 8; form++) {
        tf_mat A = form & 1 ? tf_mat_t(tf_mat_rows(fa, k, m)) : tf_mat_rows(fa, m, k);
        tf_mat B = form & 2 ? tf_mat_t(tf_mat_rows(fb, n, k)) : tf_mat_rows(fb, k, n);
        tf_mat C = form & 4 ? tf_mat_t(tf_mat_rows(fc, n, m)) : tf_mat_rows(fc, m, n);
        tf_gemm(env, 1, A, B, 0, C);
        tf_gemm(env, 1, A, B, 1, C);
        tf_dgemm(env, 1, (tf_dmat){a, m, k, A.rs, A.cs}, (tf_dmat){b, k, n, B.rs, B.cs}, 1,
                 (tf_dmat){c, m, n, C.rs, C.cs});
    }
    for (int i = 0; i < 3; i++)
        munmap(block[i], whole[i]);
}

START_TEST(test_nothing_is_read_beyond)
{
    static const int64_t inner[] = {1, 2, 7, 8, 9, 15, 17, 32, 65, 100, 257, 700};
    static const int64_t outer[] = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 15, 16, 17, 18, 31, 64, 129, 300};
    tf_env *env = t_env(1);
    for (size_t i = 0; i < TF_LEN(outer); i++) {
        for (size_t j = 0; j < TF_LEN(outer); j++) {
            for (size_t k = 0; k < TF_LEN(inner); k++)
                check_edges(env, outer[i], outer[j], inner[k]);
        }
    }
    t_env_free(env);
}
END_TEST

typedef struct nested {
    tf_env *env;
    tf_mat a, b, c[4];
} nested;

static void nested_body(void *arg, uint32_t i)
{
    nested *n = arg;
    tf_gemm(n->env, 1, n->a, n->b, 0, n->c[i]);
}

START_TEST(test_equal_bits)
{
    enum { M = 1391, N = 777, K = 212 };
    float *a = random_floats(M * K, 1), *b = random_floats(K * N, 2), *c[5];
    for (int t = 0; t < 5; t++)
        c[t] = random_floats(M * N, 9);
    for (uint32_t threads = 1; threads <= 4; threads++) {
        tf_env *env = t_env(threads);
        tf_gemm(env, 1, tf_mat_rows(a, M, K), tf_mat_rows(b, K, N), 0, tf_mat_rows(c[threads], M, N));
        ck_assert_mem_eq(c[threads], c[1], M * N * sizeof(float));
        t_env_free(env);
    }
    tf_env *env = t_env(3);
    nested n = {.env = env, .a = tf_mat_rows(a, M, K), .b = tf_mat_rows(b, K, N)};
    for (int t = 0; t < 4; t++) {
        n.c[t] = tf_mat_rows(c[t == 0 ? 0 : t + 1], M, N);
        memset(n.c[t].data, 0, M * N * sizeof(float));
    }
    tf_parallel_for(env, 4, nested_body, &n);
    for (int t = 0; t < 4; t++)
        ck_assert_mem_eq(n.c[t].data, c[1], M * N * sizeof(float));
    t_env_free(env);
    for (int t = 0; t < 5; t++)
        free(c[t]);
    free(a), free(b);
}
END_TEST

/* float64: integers give exact sums. */
START_TEST(test_double)
{
    enum { M = 150, N = 300, K = 64 };
    tf_env *env = t_env(2);
    double *a = malloc(M * K * sizeof *a), *b = malloc(K * N * sizeof *b), *c = calloc(M * N, sizeof *c);
    for (int i = 0; i < M * K; i++)
        a[i] = (i * 37 % 101 - 50) * 1048577.0;
    for (int i = 0; i < K * N; i++)
        b[i] = i * 53 % 89 - 44;
    tf_dgemm(env, 1, (tf_dmat){a, M, K, K, 1}, (tf_dmat){b, K, N, 1, K}, 0, (tf_dmat){c, M, N, N, 1});
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += a[i * K + k] * b[j * K + k];
            ck_assert_double_eq(c[i * N + j], sum);
        }
    }
    double d[2] = {1, 2}, e[2] = {0, 0};
    tf_dgemm(env, 2, (tf_dmat){d, 2, 2, 0, 1}, (tf_dmat){d, 2, 1, 1, 1}, 1, (tf_dmat){e, 2, 1, 1, 1});
    ck_assert(e[0] == 10 && e[1] == 10);
    free(a), free(b), free(c);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("gemm");
    T_ADD(test_shapes);
    T_ADD(test_what_blis_does_not_take);
    T_ADD(test_nothing_is_read_beyond);
    T_ADD(test_equal_bits);
    T_ADD(test_double);
    return t_suite;
}
