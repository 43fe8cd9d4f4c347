/* SPDX-License-Identifier: Apache-2.0
 *
 * moments.h: sums over rows that become means, variances and cross-covariances.
 *
 * Rows are centred on a provisional shift s (the mean of the first batch) before they are summed, and the sums are corrected at the
 * end: with d = x - s and D = sum d / n,  mean = s + D,  sum (x - mean)(y - mean)' = sum d d' - n D D'.  As s is near the mean, nothing
 * cancels (Chan, Golub and LeVeque 1983). Sums of one unit are float64 throughout. Products of two are float32 within a chunk of rows and float64
 * from chunk to chunk, so that they err by at most about sqrt(TF_STATS_CHUNK_ROWS) roundings of float32, however many rows there are.
 */
#ifndef TF_RUN_MOMENTS_H
#define TF_RUN_MOMENTS_H

#include "run/run.h"

/* Rows of a batch of one value: `kept` tokens of each sample. Row r is token positions[r % kept] of sample r / kept; NULL: every
 * token. Where `listed` is given it is token listed[r], counted over all samples. */
typedef struct tf_rows {
    const float *data; /* samples × tokens × units */
    int64_t samples, tokens, units;
    const int64_t *positions;
    int64_t kept;
    const int64_t *listed;
    int64_t n_listed;
} tf_rows;
static inline int64_t tf_rows_count(const tf_rows *r) { return r->listed ? r->n_listed : r->samples * r->kept; }

/* Mean of each unit over all rows; 0 where there are none. */
void tf_rows_mean(const tf_rows *r, double *mean);
/* Adds rows first..first+count-1 to the sums and leaves them, less the shift and rounded to float32, in `centred` (count × units). False when
 * one is not finite.
 * Until tf_moments_finish, m->mean holds sum d, m->var sum d^2, m->abs_mean sum |x|. */
bool tf_moments_add(tf_moments *m, const double *shift, const tf_rows *r, int64_t first, int64_t count, float *centred);
/* Adds sum |x - mean| of all rows to m->abs_dev; m is finished. */
void tf_moments_add_dev(tf_moments *m, const tf_rows *r);
/* Adds sum |z(x) + z(y)| of all rows of two values to m->abs_dev, z(x) = (x - mean) / (standard deviation + 1e-9); m and other are
 * finished. scratch: 2 × units. */
void tf_moments_add_sum_dev(tf_moments *m, const tf_rows *r, const tf_moments *other, const tf_rows *r_other, double *scratch);
/* Corrects cross (model units × anchor units, sum of d d') by the two sums of d; before tf_moments_finish. */
void tf_cross_finish(double *cross, const tf_moments *model, const tf_moments *anchor);
/* The same of the second moments within blocks, units × block. */
void tf_self_finish(double *self, int64_t block, const tf_moments *m);
void tf_moments_finish(tf_moments *m, const double *shift);
void tf_moments_finish_dev(tf_moments *m);

#endif
