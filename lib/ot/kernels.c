/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.c: the innermost loops of the exact solvers: over one row of costs (float32) and the potentials (float64). kernels_body.h holds
 * them once; here they are compiled for AVX-512, AVX2 and any machine, and the widest that the processor has is taken.
 *
 * Every version gives the same bits: minima are exact, ties go to the smallest place, and no product is contracted into a sum.
 */
#include "ot/internal.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

typedef tf_kernels kernels;

enum { U = 4 }; /* vectors a block */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

/* The default of gcc, to keep the exceptions that a program without any handler never sees, costs the vectorisation of every
 * selection; values are the same. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

#if X86
#define NAME(f) f##_avx512
#if defined(__clang__)
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl")))
#else
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")))
#endif
#define W 8
#define VD __m512d
#define VI __m512i
#define LOADC(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define LOADD(p) _mm512_loadu_pd(p)
#define STORED(p, x) _mm512_storeu_pd(p, x)
#define STOREI(p, x) _mm512_storeu_si512(p, x)
#define SETD(x) _mm512_set1_pd(x)
#define SETI(x) _mm512_set1_epi64(x)
#define ADDD(a, b) _mm512_add_pd(a, b)
#define SUBD(a, b) _mm512_sub_pd(a, b)
#define MIND(a, b) _mm512_min_pd(a, b)
#define MAXD(a, b) _mm512_max_pd(a, b)
#define LESS(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)
#define NOTABOVE(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ)
#define PICKI(m, a, b) _mm512_mask_mov_epi64(a, m, b)
#define PICKD(m, a, b) _mm512_mask_mov_pd(a, m, b)
#define LEAST(x) _mm512_reduce_min_pd(x)
#include "ot/kernels_body.h"

__attribute__((target("avx2"))) static inline double least_avx2(__m256d x)
{
    __m128d two = _mm_min_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_min_sd(two, _mm_unpackhi_pd(two, two)));
}

#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2")))
#define W 4
#define VD __m256d
#define VI __m256i
#define LOADC(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define LOADD(p) _mm256_loadu_pd(p)
#define STORED(p, x) _mm256_storeu_pd(p, x)
#define STOREI(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), x)
#define SETD(x) _mm256_set1_pd(x)
#define SETI(x) _mm256_set1_epi64x(x)
#define ADDD(a, b) _mm256_add_pd(a, b)
#define SUBD(a, b) _mm256_sub_pd(a, b)
#define MIND(a, b) _mm256_min_pd(a, b)
#define MAXD(a, b) _mm256_max_pd(a, b)
#define LESS(a, b) _mm256_castpd_si256(_mm256_cmp_pd(a, b, _CMP_LT_OQ))
#define NOTABOVE(a, b) _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LE_OQ))
#define PICKI(m, a, b) _mm256_blendv_epi8(a, b, m)
#define PICKD(m, a, b) _mm256_blendv_pd(a, b, _mm256_castsi256_pd(m))
#define LEAST(x) least_avx2(x)
#include "ot/kernels_body.h"
#endif

#define NAME(f) f##_any
#define TARGET
#define W 1
#define VD double
#define VI int64_t
#define LOADC(p) ((double)*(p))
#define LOADD(p) (*(p))
#define STORED(p, x) (*(p) = (x))
#define STOREI(p, x) (*(p) = (x))
#define SETD(x) (x)
#define SETI(x) (x)
#define ADDD(a, b) ((a) + (b))
#define SUBD(a, b) ((a) - (b))
#define MIND(a, b) ((a) < (b) ? (a) : (b))
#define MAXD(a, b) ((a) < (b) ? (b) : (a))
#define LESS(a, b) ((a) < (b))
#define NOTABOVE(a, b) ((a) <= (b))
#define PICKI(m, a, b) ((m) ? (b) : (a))
#define PICKD(m, a, b) ((m) ? (b) : (a))
#define LEAST(x) (x)
#include "ot/kernels_body.h"

const tf_kernels *tf_kernels_at(int level)
{
#if X86
    if (level >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return &table_avx512;
    if (level >= 1 && __builtin_cpu_supports("avx2"))
        return &table_avx2;
#endif
    (void)level;
    return &table_any;
}

static const kernels *table(void)
{
    return tf_kernels_at(2);
}

double tf_row_min(const float *cost, const double *v, int64_t m, int64_t *arg)
{
    return table()->row_min(cost, v, m, arg);
}

double tf_row_min2(const float *cost, const double *v, int64_t m, int64_t *arg, double *second)
{
    return table()->row_min2(cost, v, m, arg, second);
}

double tf_row_relax(const float *cost, const double *open, int64_t m, double base, double *key, int64_t *arg)
{
    return table()->row_relax(cost, open, m, base, key, arg);
}

void tf_block_minima(const float *cost, const double *v, int64_t blocks, double *low)
{
    table()->block_minima(cost, v, blocks, low);
}

void tf_column_min(const float *cost, int64_t m, int32_t row, float *low, int32_t *at)
{
    table()->column_min(cost, m, row, low, at);
}

void tf_column_min_from(const float *cost, int64_t m, double u, int64_t row, double *low, int64_t *at)
{
    table()->column_min_from(cost, m, u, row, low, at);
}

/* Finite numbers are ordered by the bits of their absolute values, and all others lie above them. */
uint32_t tf_max_bits(const float *x, int64_t count)
{
    return table()->max_bits(x, count);
}
