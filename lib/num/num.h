/* SPDX-License-Identifier: Apache-2.0
 *
 * num.h: matrices, all row-major, and the arithmetic on them.
 *
 * Products run on BLIS in tiles that do not depend on the number of threads, so results are equal to the bit for any
 * number. Inside a body of a parallel loop they run on that thread.
 */
#ifndef TF_NUM_H
#define TF_NUM_H

#include "base/env.h"

/* A view of float32: element (i, j) at data[i * rs + j * cs]. */
typedef struct tf_mat {
    float *data;
    int64_t rows, cols;
    int64_t rs, cs;
} tf_mat;

static inline tf_mat tf_mat_rows(float *data, int64_t rows, int64_t cols)
{
    tf_mat m = {data, rows, cols, cols, 1};
    return m;
}
static inline tf_mat tf_mat_t(tf_mat m)
{
    tf_mat t = {m.data, m.cols, m.rows, m.cs, m.rs};
    return t;
}

/* gemm.c, the only file that includes <blis.h>.
 * C = alpha A B + beta C. Shapes m×k, k×n, m×n; C must not overlap A or B. beta = 0 ignores what C holds. */
void tf_gemm(tf_env *env, float alpha, tf_mat a, tf_mat b, float beta, tf_mat c);

/* The same in float64, on raw row/column strides. */
typedef struct tf_dmat {
    double *data;
    int64_t rows, cols;
    int64_t rs, cs;
} tf_dmat;
void tf_dgemm(tf_env *env, double alpha, tf_dmat a, tf_dmat b, double beta, tf_dmat c);
/* C += A B with C in float64, rows of which are dense: the products are float32, a panel of columns at a time. Sums over many calls so keep what float64
 * does, and err by one call's rounding in float32. work: m × min(n, panel). */
void tf_gemm_sum(tf_env *env, tf_mat a, tf_mat b, int64_t panel, float *work, tf_dmat c);

/* lapack.c, the only file that includes <lapacke.h>. Row-major in and out; inputs are kept unless noted.
 * All return TFUSE_ENUMERIC on failure to converge or NaN, TFUSE_EUNSUPPORTED when built without LAPACK. */

/* TFUSE_EUNSUPPORTED, saying what does without, when built without LAPACK; env NULL: no text. `what` needs it. */
tfuse_status tf_lapack_check(tf_env *env, const char *what);
/* A (m×n) = U diag(s) Vt, with k = min(m, n): U m×k, s k descending, Vt k×n, in float64. */
tfuse_status tf_svd(tf_env *env, int64_t m, int64_t n, const double *a, double *u, double *s, double *vt);
/* A = Q R, Q m×n with orthonormal columns (m >= n), diag(R) >= 0. */
tfuse_status tf_qr(tf_env *env, int64_t m, int64_t n, const double *a, double *q, double *r);
/* Solves A X = B for symmetric positive definite A (n×n), B n×k, X n×k. */
tfuse_status tf_chol_solve(tf_env *env, int64_t n, int64_t k, const double *a, const double *b, double *x);
/* The orthogonal polar factor U Vt of A (n×n). */
tfuse_status tf_polar(tf_env *env, int64_t n, const double *a, double *q);

/* convert.c: any dtype to and from float32. Round to nearest even; NaN stays NaN; float to integer types is refused
 * (false) except where every value is an integer in range. Data need not be aligned. */
bool tf_to_f32(tfuse_dtype from, const void *src, float *dst, size_t count);
bool tf_from_f32(tfuse_dtype to, const float *src, void *dst, size_t count);
float tf_f16_to_f32(uint16_t h);
uint16_t tf_f32_to_f16(float f);
static inline float tf_bf16_to_f32(uint16_t h)
{
    union { uint32_t u; float f; } v = {(uint32_t)h << 16};
    return v.f;
}
uint16_t tf_f32_to_bf16(float f);
size_t tf_dtype_size(tfuse_dtype t);
const char *tf_dtype_name(tfuse_dtype t);
/* 0 if the name is none of ours. */
tfuse_dtype tf_dtype_parse(const char *name);

/* kernel.c: elementwise and reduction kernels, plain C that compilers vectorise. */
/* Index of the first NaN or infinity, or -1. */
int64_t tf_find_nonfinite(const float *x, size_t count);
size_t tf_count_nonzero(const float *x, size_t n);
float tf_max_f32(const float *x, size_t n);                    /* -infinity for none; of finite numbers or infinities */
/* dst[j, i] = src[i, j], i < rows, j < cols; strides from row to row. */
void tf_transpose(const float *src, size_t rows, size_t cols, size_t stride, float *dst, size_t dst_stride);
void tf_div_f32(float *x, double by, size_t n);                /* x / by in float64 */
/* y[i] = sum over k of w[k] x[at[k] + i], i < n, in the order of k. */
void tf_weighted_sum(const float *x, const int64_t *at, const float *w, size_t count, float *y, size_t n);
float tf_dot_f32(const float *x, const float *y, size_t n);    /* sums in float64 */
double tf_sum_sq(const float *x, size_t n);                    /* sums in float64 */
void tf_softcap(float *x, float cap, size_t n);                /* cap tanh(x / cap) in place */
void tf_gelu_erf(float *x, size_t n);                          /* in place, error at most 1.5e-7 and half a last place */
void tf_gelu_tanh(float *x, size_t n);
void tf_quick_gelu(float *x, size_t n);                        /* x * sigmoid(1.702 x) */
void tf_silu(float *x, size_t n);
void tf_relu(float *x, size_t n);
void tf_tanh(float *x, size_t n);
/* Softmax of one row of n, in place, maximum subtracted. */
void tf_softmax_row(float *x, size_t n);
/* y = (x - mean) / sqrt(var + eps) * gain + bias over one row; gain, bias may be NULL. Sums in float64. */
void tf_layernorm_row(const float *x, const float *gain, const float *bias, float eps, float *y, size_t n);
void tf_rmsnorm_row(const float *x, const float *gain, float eps, float *y, size_t n);

#endif
