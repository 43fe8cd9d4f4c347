/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_head.c: how far the last linear goes from where it was to where least squares on the logits put it. Squared error weighs all logits alike, and
 * many of them bear on no probability; so the step is the one that brings the network nearest to the ensemble in Kullback-Leibler divergence on held-out
 * rows. Logits are linear in the step, so one pass serves all candidates.
 */
#include "fuse/repair.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

static const double steps[] = {0, 0.25, 0.5, 0.75, 1};

typedef struct chunk {
    double *x, *base, *fit, *p; /* RP_HEAD_ROWS × n; the same × m; × m; m */
    int64_t *row;               /* RP_HEAD_ROWS: their numbers */
    int64_t count;
} chunk;

static double log_sum(const double *x, int64_t m)
{
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < m; j++)
        most = fmax(most, x[j]);
    for (int64_t j = 0; j < m; j++)
        sum += exp(x[j] - most);
    return most + log(sum);
}

/* The ensemble's logits of a row. */
static void mean_logits(const repair *r, int64_t row, int64_t m, double *out)
{
    for (int64_t j = 0; j < m; j++) {
        out[j] = 0;
        for (size_t k = 0; k < r->n; k++)
            out[j] += r->weights[k] * (double)rp_value(r, k, r->g->output)->data[row * m + j];
    }
}

/* Adds to sum[i] what the cross-entropy from the ensemble is at step i; the ensemble's own entropy is the same for all. */
static void add_row(const repair *r, const chunk *c, int64_t at, int64_t m, double weight, double *sum)
{
    double *base = c->base + at * m, *fit = c->fit + at * m, *p = c->p, along = 0, start = 0;
    mean_logits(r, c->row[at], m, p);
    const double norm = log_sum(p, m);
    for (int64_t j = 0; j < m; j++) {
        const double q = exp(p[j] - norm);
        fit[j] -= base[j];
        start += q * base[j];
        along += q * fit[j];
    }
    for (size_t i = 0; i < TF_LEN(steps); i++) {
        for (int64_t j = 0; j < m; j++)
            p[j] = base[j] + steps[i] * fit[j];
        sum[i] += weight * (log_sum(p, m) - start - steps[i] * along);
    }
}

static void add_chunk(repair *r, const rp_rows *rows, chunk *c, const rp_head *h, double *sum)
{
    const tf_dmat x = {c->x, c->count, h->n, h->n, 1};
    union {
        const double *in;
        double *out;
    } base = {h->base}, fit = {h->fit}; /* only ever read */
    tf_dgemm(r->env, 1, x, (tf_dmat){base.out, h->n, h->m, h->m, 1}, 0, (tf_dmat){c->base, c->count, h->m, h->m, 1});
    tf_dgemm(r->env, 1, x, (tf_dmat){fit.out, h->n, h->m, h->m, 1}, 0, (tf_dmat){c->fit, c->count, h->m, h->m, 1});
    for (int64_t i = 0; i < c->count; i++) {
        const double root = (double)rp_root(rows, c->row[i]);
        if (root > 0)
            add_row(r, c, i, h->m, root * root, sum);
    }
    c->count = 0;
}

static void take_row(const repair *r, const rp_head *h, int64_t row, chunk *c)
{
    const float *from = rp_value(r, r->n, h->in)->data + row * h->inputs;
    double *to = c->x + c->count * h->n;
    for (int64_t i = 0; i < h->inputs; i++)
        to[i] = (double)from[i];
    if (h->n > h->inputs)
        to[h->inputs] = 1;
    c->row[c->count++] = row;
}

double rp_divergence(const repair *r, int64_t row, const double *x, int64_t n, double *work)
{
    double *p = work, sum = 0;
    mean_logits(r, row, n, p);
    const double norm = log_sum(p, n), own = log_sum(x, n);
    for (int64_t j = 0; j < n; j++)
        sum += exp(p[j] - norm) * (p[j] - norm - (x[j] - own));
    return sum;
}

/* Outputs of the linear as it was before its fit, for the rows of a chunk. */
static void base_outputs(const repair *r, const chunk *c, const rp_head *h)
{
    union {
        const double *in;
        double *out;
    } base = {h->base}; /* only ever read */
    tf_dgemm(r->env, 1, (tf_dmat){c->x, c->count, h->n, h->n, 1}, (tf_dmat){base.out, h->n, h->m, h->m, 1}, 0, (tf_dmat){c->base, c->count, h->m, h->m, 1});
}

tfuse_status rp_head_divergence(repair *r, const rp_rows *rows, const rp_head *h, double *kl)
{
    const size_t n = (size_t)h->n, m = (size_t)h->m;
    double *work = tf_alloc_array(r->env, RP_HEAD_ROWS * (n + m) + m, sizeof *work), sum = 0, counted = 0;
    chunk c = {.x = work, .row = tf_alloc_array(r->env, RP_HEAD_ROWS, sizeof *c.row)};
    tfuse_status status = work && c.row ? TFUSE_OK : TFUSE_ENOMEM;
    c.base = work ? work + RP_HEAD_ROWS * n : NULL;
    c.p = work ? c.base + RP_HEAD_ROWS * m : NULL;
    for (int64_t row = 0; row < rows->count && status == TFUSE_OK; row++) {
        if (!rp_is_padding(rows, row))
            take_row(r, h, row, &c);
        if (c.count < RP_HEAD_ROWS && row + 1 < rows->count)
            continue;
        base_outputs(r, &c, h);
        for (int64_t i = 0; i < c.count; i++)
            sum += rp_divergence(r, c.row[i], c.base + i * h->m, h->m, c.p);
        counted += (double)c.count;
        c.count = 0;
        status = tf_check_cancel(r->env);
    }
    *kl = counted > 0 ? sum / counted : NAN;
    tf_free(&r->env->mem, work);
    tf_free(&r->env->mem, c.row);
    return status;
}

tfuse_status rp_head_step(repair *r, const rp_rows *rows, const rp_head *h, double *step)
{
    const size_t n = (size_t)h->n, m = (size_t)h->m;
    double sum[TF_LEN(steps)] = {0}, *work = tf_alloc_array(r->env, RP_HEAD_ROWS * (n + 2 * m) + m, sizeof *work);
    chunk c = {.x = work, .row = tf_alloc_array(r->env, RP_HEAD_ROWS, sizeof *c.row)};
    *step = 1;
    tfuse_status status = work && c.row ? TFUSE_OK : TFUSE_ENOMEM;
    if (work) {
        c.base = work + RP_HEAD_ROWS * n;
        c.fit = c.base + RP_HEAD_ROWS * m;
        c.p = c.fit + RP_HEAD_ROWS * m;
    }
    for (int64_t row = 0; row < rows->count && status == TFUSE_OK; row++) {
        if (rp_is_held(r->samples, row / rows->tokens))
            take_row(r, h, row, &c);
        if (c.count == RP_HEAD_ROWS || (row + 1 == rows->count && c.count))
            add_chunk(r, rows, &c, h, sum);
        if (row % RP_HEAD_ROWS == 0)
            status = tf_check_cancel(r->env);
    }
    size_t best = TF_LEN(steps) - 1;
    for (size_t i = TF_LEN(steps); i-- > 0;)
        if (sum[i] < sum[best])
            best = i;
    *step = steps[best];
    tf_free(&r->env->mem, work);
    tf_free(&r->env->mem, c.row);
    return status;
}
