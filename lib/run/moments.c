/* SPDX-License-Identifier: Apache-2.0
 *
 * moments.c: see moments.h. Sums of one unit, row after row.
 */
#include "run/moments.h"
#include <math.h>
#include <string.h>

static const float *row_at(const tf_rows *r, int64_t row)
{
    if (r->listed)
        return r->data + r->listed[row] * r->units;
    const int64_t sample = row / r->kept, k = row % r->kept;
    return r->data + (sample * r->tokens + (r->positions ? r->positions[k] : k)) * r->units;
}

void tf_rows_mean(const tf_rows *r, double *mean)
{
    const int64_t rows = tf_rows_count(r);
    memset(mean, 0, (size_t)r->units * sizeof *mean);
    for (int64_t i = 0; i < rows; i++) {
        const float *x = row_at(r, i);
        for (int64_t j = 0; j < r->units; j++)
            mean[j] += x[j];
    }
    for (int64_t j = 0; j < r->units && rows > 0; j++)
        mean[j] /= (double)rows;
}

bool tf_moments_add(tf_moments *m, const double *shift, const tf_rows *r, int64_t first, int64_t count, float *centred)
{
    for (int64_t i = 0; i < count; i++) {
        const float *x = row_at(r, first + i);
        float *centred_row = centred + i * r->units;
        if (tf_find_nonfinite(x, (size_t)r->units) >= 0)
            return false;
        for (int64_t j = 0; j < r->units; j++) {
            const double d = (double)x[j] - shift[j];
            centred_row[j] = (float)d;
            m->mean[j] += d;
            m->var[j] += d * d;
            m->abs_mean[j] += fabs((double)x[j]);
        }
    }
    m->rows += count;
    return true;
}

void tf_moments_add_dev(tf_moments *m, const tf_rows *r)
{
    const int64_t rows = tf_rows_count(r);
    for (int64_t i = 0; i < rows; i++) {
        const float *x = row_at(r, i);
        for (int64_t j = 0; j < r->units; j++)
            m->abs_dev[j] += fabs(x[j] - m->mean[j]);
    }
}

static void inverse_deviations(const tf_moments *m, double *out)
{
    for (int64_t j = 0; j < m->units; j++)
        out[j] = 1 / (sqrt(m->var[j]) + 1e-9);
}

void tf_moments_add_sum_dev(tf_moments *m, const tf_rows *r, const tf_moments *other, const tf_rows *r_other, double *scratch)
{
    const int64_t rows = tf_rows_count(r);
    double *sx = scratch, *sy = scratch + m->units;
    inverse_deviations(m, sx);
    inverse_deviations(other, sy);
    for (int64_t i = 0; i < rows; i++) {
        const float *x = row_at(r, i), *y = row_at(r_other, i);
        for (int64_t j = 0; j < m->units; j++)
            m->abs_dev[j] += fabs((x[j] - m->mean[j]) * sx[j] + (y[j] - other->mean[j]) * sy[j]);
    }
}

void tf_cross_finish(double *cross, const tf_moments *model, const tf_moments *anchor)
{
    for (int64_t i = 0; i < model->units; i++) {
        const double scaled = model->mean[i] / (double)model->rows;
        for (int64_t j = 0; j < anchor->units; j++)
            cross[i * anchor->units + j] -= scaled * anchor->mean[j];
    }
}

void tf_self_finish(double *self, int64_t block, const tf_moments *m)
{
    for (int64_t i = 0; i < m->units; i++) {
        const double scaled = m->mean[i] / (double)m->rows, *others = m->mean + i / block * block;
        for (int64_t j = 0; j < block; j++)
            self[i * block + j] -= scaled * others[j];
    }
}

void tf_moments_finish(tf_moments *m, const double *shift)
{
    const double n = (double)m->rows;
    for (int64_t j = 0; j < m->units; j++) {
        const double squares = m->var[j] - m->mean[j] * m->mean[j] / n;
        m->var[j] = m->rows > 1 && squares > 0 ? squares / (n - 1) : 0;
        m->mean[j] = shift[j] + m->mean[j] / n;
        m->abs_mean[j] /= n;
    }
}

void tf_moments_finish_dev(tf_moments *m)
{
    for (int64_t j = 0; j < m->units; j++)
        m->abs_dev[j] /= (double)m->rows;
}
