/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_refit.c: the weights of one linear of the merged network, stage by stage:
 *
 *   base        the aligned parents' mean; of selected units their owner's
 *   regmean     W = (sum_k w_k G_k)^-1 sum_k w_k G_k W_k over the parents' own inputs, G_k their Gram with off-diagonal entries times 0.9
 *               (Jin et al., "Dataless Knowledge Fusion", 2023)
 *   refit       ridge on the merged network's inputs, shrunk towards what is there (repair_fit.c); head: the same of the last linear, whose target
 *               is the mean of the logits
 *   statistics  each output's mean and deviation set to the parents' mean ones (Jordan et al., "REPAIR", 2023)
 */
#include "fuse/repair.h"
#include "num/num.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

#define OFF_DIAGONAL 0.9
#define REGMEAN_RHO 1e-6

/* Where each channel of a selected axis comes from: parent (-1: all of them, averaged) and its channel there. */
typedef struct origin {
    int32_t *parent;
    int64_t *channel;
} origin;

typedef struct linear {
    const tf_node *node;
    tf_id weight, bias, in, out, residual;
    int64_t n, m;      /* inputs, with the ones of a bias; outputs */
    origin rows, cols; /* NULL arrays: averaged throughout */
    double *w;         /* n×m: transposed, the bias last */
    const rp_block *block;
    bool in_circuit, is_feed; /* merged circuits are its base; a linear that feeds one, not reads it */
} linear;

static int64_t inputs_of(const linear *l)
{
    return l->n - (l->bias >= 0);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------------------- */

typedef struct input_arg {
    const linear *l;
    size_t lane;
} input_arg;

static void input_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const input_arg *a = arg;
    const int64_t n = inputs_of(a->l);
    for (int64_t i = 0; i < count; i++, out += a->l->n) {
        memcpy(out, rp_value(r, a->lane, a->l->in)->data + row[i] * n, (size_t)n * sizeof *out);
        if (a->l->bias >= 0)
            out[n] = 1;
    }
}

static void target_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const linear *l = arg;
    for (int64_t i = 0; i < count; i++, out += l->m) {
        rp_target(r, l->out, l->residual, row[i], out);
        for (int64_t j = 0; l->rows.parent && j < l->m; j++)
            if (l->rows.parent[j] >= 0)
                out[j] = rp_value(r, (size_t)l->rows.parent[j], l->out)->data[row[i] * l->m + l->rows.channel[j]];
    }
}

/* What the merged circuits' own units give on the parents' mean inputs: the parents' units are others. */
static void circuit_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const linear *l = arg;
    const int64_t n = inputs_of(l);
    const float *w = r->base[l->weight], *bias = l->bias >= 0 ? r->base[l->bias] : NULL;
    for (int64_t i = 0; i < count; i++, out += l->m) {
        for (int64_t j = 0; j < l->m; j++) {
            double sum = bias ? (double)bias[j] : 0;
            for (size_t k = 0; k < r->n; k++)
                sum += r->mix[k] * (double)tf_dot_f32(w + j * n, rp_value(r, k, l->in)->data + row[i] * n, (size_t)n);
            out[j] = (float)sum;
        }
    }
}

/* ---- the base -------------------------------------------------------------------------------------------------------------------- */

static tfuse_status origin_of(repair *r, const rp_block *b, const tf_binding *binding, origin *out)
{
    tf_part *parts;
    int count;
    TF_TRY(tf_binding_parts(r->env, r->g, binding, &parts, &count));
    out->parent = tf_alloc_array(r->env, (size_t)binding->extent, sizeof *out->parent);
    out->channel = tf_alloc_array(r->env, (size_t)binding->extent, sizeof *out->channel);
    const tfuse_status status = out->parent && out->channel ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < binding->extent && status == TFUSE_OK; i++)
        out->parent[i] = -1;
    for (int p = 0; p < count && status == TFUSE_OK; p++) {
        if (parts[p].port[0] < 0 || tf_class_of(r->g, parts[p].port[0]) != b->cls)
            continue;
        const int64_t size = parts[p].size / b->units;
        for (int64_t u = 0; u < parts[p].size; u++) {
            const int64_t at = tf_part_index(&parts[p], u);
            out->parent[at] = b->owner[u / size];
            out->channel[at] = tf_part_index(&parts[p], b->from[u / size] * size + u % size);
        }
    }
    tf_free(&r->env->mem, parts);
    return status;
}

/* Element (row, col) of the base from the parents' weights: the owner's of its row or column, else the mean. */
static double base_at(const repair *r, const linear *l, const float *const *w, int64_t row, int64_t col, int64_t width)
{
    const bool is_bias = col >= width;
    if (l->rows.parent && l->rows.parent[row] >= 0)
        return (double)w[l->rows.parent[row]][is_bias ? l->rows.channel[row] : l->rows.channel[row] * width + col];
    if (!is_bias && l->cols.parent && l->cols.parent[col] >= 0)
        return (double)w[l->cols.parent[col]][row * width + l->cols.channel[col]];
    double sum = 0;
    for (size_t k = 0; k < r->n; k++)
        sum += r->mix[k] * (double)w[k][is_bias ? row : row * width + col];
    return sum;
}

static tfuse_status fill_base(repair *r, linear *l, tf_id param, int64_t first, int64_t last)
{
    const float **w = tf_calloc(r->env, r->n, sizeof *w);
    float **owned = tf_calloc(r->env, r->n, sizeof *owned);
    tfuse_status status = w && owned ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 0; k < r->n && status == TFUSE_OK; k++)
        status = rp_param(r, k, param, &w[k], &owned[k]);
    for (int64_t j = first; j < last && status == TFUSE_OK; j++)
        for (int64_t i = 0; i < l->m; i++)
            l->w[j * l->m + i] = base_at(r, l, w, i, j, inputs_of(l));
    for (size_t k = 0; owned && k < r->n; k++)
        tf_free(&r->env->mem, owned[k]);
    tf_free(&r->env->mem, owned);
    tf_free(&r->env->mem, w);
    return status;
}

static void copy_base(const repair *r, linear *l, tf_id param, int64_t first, int64_t last)
{
    const int64_t n = inputs_of(l);
    for (int64_t j = first; j < last; j++)
        for (int64_t i = 0; i < l->m; i++)
            l->w[j * l->m + i] = (double)r->base[param][j >= n ? i : i * n + j];
}

static tfuse_status make_base(repair *r, linear *l)
{
    const int64_t n = inputs_of(l);
    for (int part = 0; part < 1 + (l->bias >= 0); part++) {
        const tf_id param = part ? l->bias : l->weight;
        const int64_t first = part ? n : 0, last = part ? l->n : n;
        if (r->base && r->base[param])
            copy_base(r, l, param, first, last);
        else
            TF_TRY(fill_base(r, l, param, first, last));
    }
    return TFUSE_OK;
}

/* ---- regmean ------------------------------------------------------------------------------------------------------------------------ */

static void no_target(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    (void)r, (void)arg, (void)row;
    memset(out, 0, (size_t)count * sizeof *out);
}

/* The k-th parent's weights, as l->w. */
static tfuse_status parent_weights(repair *r, const linear *l, size_t k, double *out)
{
    const int64_t n = inputs_of(l);
    for (int part = 0; part < 1 + (l->bias >= 0); part++) {
        const float *w;
        float *owned;
        TF_TRY(rp_param(r, k, part ? l->bias : l->weight, &w, &owned));
        for (int64_t j = part ? n : 0; j < (part ? l->n : n); j++)
            for (int64_t i = 0; i < l->m; i++)
                out[j * l->m + i] = (double)w[part ? i : i * n + j];
        tf_free(&r->env->mem, owned);
    }
    return TFUSE_OK;
}

static tfuse_status add_parent(repair *r, const linear *l, const rp_rows *rows, size_t k, double *g, double *b, double *work)
{
    const input_arg arg = {l, k};
    const int64_t n = l->n, m = l->m;
    rp_grams own = {0};
    tfuse_status status = rp_grams_make(r, rows, n, input_rows, &arg, 1, no_target, NULL, &own);
    if (status == TFUSE_OK) {
        for (int64_t i = 0; i < n * n; i++)
            own.xx[0][i] = (own.xx[0][i] + own.xx[1][i]) * r->mix[k] * (i / n == i % n ? 1 : OFF_DIAGONAL);
        status = parent_weights(r, l, k, work);
    }
    if (status == TFUSE_OK) {
        tf_dgemm(r->env, 1, (tf_dmat){own.xx[0], n, n, n, 1}, (tf_dmat){work, n, m, m, 1}, 1, (tf_dmat){b, n, m, m, 1});
        for (int64_t i = 0; i < n * n; i++)
            g[i] += own.xx[0][i];
    }
    rp_grams_free(r, &own);
    return status;
}

static tfuse_status regmean(repair *r, linear *l, const rp_rows *rows)
{
    const int64_t n = l->n, m = l->m;
    double *g = tf_calloc(r->env, (size_t)(n * n + 2 * n * m), sizeof *g), *b = g + n * n, *work = b + n * m, trace = 0;
    tfuse_status status = g ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 0; k < r->n && status == TFUSE_OK; k++)
        status = add_parent(r, l, rows, k, g, b, work);
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++)
        trace += g[i * n + i];
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        const double add = REGMEAN_RHO * trace / (double)n;
        g[i * n + i] += add;
        for (int64_t j = 0; j < m; j++)
            b[i * m + j] += add * l->w[i * m + j];
    }
    if (status == TFUSE_OK && trace > 0)
        status = tf_chol_solve(r->env, n, m, g, b, work);
    if (status == TFUSE_OK && trace > 0)
        memcpy(l->w, work, (size_t)(n * m) * sizeof *work);
    tf_free(&r->env->mem, g);
    return status;
}

/* ---- statistics ------------------------------------------------------------------------------------------------------------------------ */

/* Weighted mean and deviation of output i over rows, of the merged network (lane n: by its weights) or of a parent. */
typedef struct moments {
    double *sum, *square, weight;
} moments;

static void add_moments(const repair *r, const linear *l, const rp_rows *rows, size_t lane, float *y, moments *out)
{
    const input_arg arg = {l, lane};
    float *x = y + l->m;
    memset(out->sum, 0, (size_t)l->m * sizeof *out->sum);
    memset(out->square, 0, (size_t)l->m * sizeof *out->square);
    out->weight = 0;
    for (int64_t row = 0; row < rows->count; row++) {
        const double root = (double)rp_root(rows, row), w = root * root;
        if (w <= 0)
            continue;
        if (lane < r->n)
            memcpy(y, rp_value(r, lane, l->out)->data + row * l->m, (size_t)l->m * sizeof *y);
        else
            input_rows(r, &arg, &row, 1, x);
        for (int64_t i = 0; i < l->m; i++) {
            double v = lane < r->n ? (double)y[i] : 0;
            for (int64_t j = 0; lane >= r->n && j < l->n; j++)
                v += (double)x[j] * l->w[j * l->m + i];
            out->sum[i] += w * v;
            out->square[i] += w * v * v;
        }
        out->weight += w;
    }
}

/* A deviation below this share of the root mean square is float32's rounding of an output that is constant. */
#define CONSTANT 1e-6

static double deviation(const moments *s, int64_t i)
{
    const double mean = s->sum[i] / s->weight;
    return sqrt(fmax(0, s->square[i] / s->weight - mean * mean));
}

static tfuse_status statistics(repair *r, linear *l, const rp_rows *rows)
{
    const int64_t m = l->m;
    double *sums = tf_calloc(r->env, (size_t)(4 * m), sizeof *sums), *mean = sums + 2 * m, *dev = sums + 3 * m;
    float *y = tf_alloc_array(r->env, (size_t)(m + l->n), sizeof *y);
    moments s = {sums, sums + m, 0};
    const tfuse_status status = sums && y ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 0; k <= r->n && status == TFUSE_OK; k++) {
        add_moments(r, l, rows, k, y, &s);
        for (int64_t i = 0; i < m && k < r->n && s.weight > 0; i++) {
            mean[i] += r->mix[k] * s.sum[i] / s.weight;
            dev[i] += r->mix[k] * deviation(&s, i);
        }
    }
    for (int64_t i = 0; i < m && status == TFUSE_OK && s.weight > 0; i++) {
        const double own = deviation(&s, i), size = sqrt(s.square[i] / s.weight);
        const double scale = own > 1e-12 && own > CONSTANT * size && l->bias >= 0 ? dev[i] / own : 1;
        for (int64_t j = 0; j < l->n; j++)
            l->w[j * m + i] *= scale;
        if (l->bias >= 0)
            l->w[(l->n - 1) * m + i] += mean[i] - scale * s.sum[i] / s.weight;
    }
    tf_free(&r->env->mem, sums);
    tf_free(&r->env->mem, y);
    return status;
}

/* ---- one linear --------------------------------------------------------------------------------------------------------------------------- */

static tfuse_status report_linear(repair *r, const linear *l, double rho, double before, double after)
{
    json_t *row = json_pack("{s:s, s:o, s:f, s:f}", "name", l->node->name, "ridge", isfinite(rho) ? json_real(rho) : json_null(), "before",
                            before, "after", after);
    return json_array_append_new(r->report, row) ? tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair") : TFUSE_OK;
}

/* Queries, keys and values read one input: its Gram is kept for the next linear when that reads it too. */
static void forget_shared(repair *r)
{
    for (int set = 0; set < 2; set++)
        tf_free(&r->env->mem, r->shared.xx[set]);
    r->shared = (rp_grams){0};
}

static bool is_shared(const repair *r, const linear *l)
{
    return r->shared.n == l->n && r->shared_in == l->in && r->shared_class == r->class_only[l->out];
}

static bool next_reads(const repair *r, const linear *l)
{
    size_t s = 0;
    while (r->nodes[s] != tf_node_id(r->g, l->node))
        s++;
    for (s++; s < r->n_nodes; s++)
        if (r->g->nodes[r->nodes[s]].op == &tf_op_linear)
            return r->g->nodes[r->nodes[s]].inputs[0] == l->in;
    return false;
}

static void keep_shared(repair *r, const linear *l, rp_grams *g)
{
    if (!next_reads(r, l) || !g->xx[0] || !g->xx[1])
        return;
    r->shared = (rp_grams){.n = l->n, .xx = {g->xx[0], g->xx[1]}};
    r->shared_in = l->in;
    r->shared_class = r->class_only[l->out];
    g->xx[0] = g->xx[1] = NULL;
}

static tfuse_status refit(repair *r, linear *l, const rp_rows *rows)
{
    const input_arg arg = {l, r->n};
    rp_grams grams = {0};
    if (is_shared(r, l)) {
        grams = r->shared;
        r->shared = (rp_grams){0};
    }
    forget_shared(r);
    double rho = INFINITY, before = 0, after = 0;
    tfuse_status status = rp_grams_make(r, rows, l->n, input_rows, &arg, l->m, l->is_feed ? circuit_rows : target_rows, l, &grams);
    if (status == TFUSE_OK)
        status = rp_ridge(r, &grams, l->w, &rho, &before, &after);
    keep_shared(r, l, &grams);
    rp_grams_free(r, &grams);
    return status == TFUSE_OK ? report_linear(r, l, rho, before, after) : status;
}

/* As refit, then back along the way by what held-out rows say of a fit without them. */
static tfuse_status refit_head(repair *r, linear *l, const rp_rows *rows)
{
    const size_t count = (size_t)(l->n * l->m);
    const bool all = r->all;
    double *base = tf_alloc_array(r->env, count, sizeof *base), step = 1;
    tfuse_status status = base ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && all)
        status = rp_head_divergence(r, rows, &(rp_head){l->in, inputs_of(l), l->n, l->m, l->w, l->w}, &r->kl_refit);
    if (status == TFUSE_OK) {
        memcpy(base, l->w, count * sizeof *base);
        r->all = false;
        status = refit(r, l, rows);
        r->all = all;
    }
    if (status == TFUSE_OK)
        status = rp_head_step(r, rows, &(rp_head){l->in, inputs_of(l), l->n, l->m, base, l->w}, &step);
    if (status == TFUSE_OK && all && step > 0) {
        memcpy(l->w, base, count * sizeof *base);
        json_array_remove(r->report, json_array_size(r->report) - 1);
        status = refit(r, l, rows);
    }
    for (size_t i = 0; i < count && status == TFUSE_OK; i++)
        l->w[i] = base[i] + step * (l->w[i] - base[i]);
    if (status == TFUSE_OK && json_object_set_new(json_array_get(r->report, json_array_size(r->report) - 1), "step", json_real(step)))
        status = tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair");
    tf_free(&r->env->mem, base);
    return status;
}

static tfuse_status keep(repair *r, const linear *l)
{
    const int64_t n = inputs_of(l);
    float *w = tf_alloc_array(r->env, (size_t)(n * l->m), sizeof *w), *b = l->bias < 0 ? NULL : tf_alloc_array(r->env, (size_t)l->m, sizeof *b);
    r->fitted[l->weight] = w;
    if (l->bias >= 0)
        r->fitted[l->bias] = b;
    if (!w || (l->bias >= 0 && !b))
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < l->m; i++) {
        for (int64_t j = 0; j < n; j++)
            w[i * n + j] = (float)l->w[j * l->m + i];
        if (b)
            b[i] = (float)l->w[n * l->m + i];
    }
    return TFUSE_OK;
}

static tfuse_status fit(repair *r, linear *l)
{
    const bool is_head = l->out == r->g->output;
    rp_rows rows;
    tfuse_status status = make_base(r, l);
    TF_TRY(status);
    TF_TRY(rp_rows_make(r, l->in, l->out, &rows));
    if ((r->stages & RP_REGMEAN) && !l->block && !l->in_circuit)
        status = regmean(r, l, &rows);
    if (status == TFUSE_OK && (r->stages & (is_head ? RP_HEAD : l->block ? RP_REFIT | RP_SELECT : RP_REFIT)))
        status = is_head ? refit_head(r, l, &rows) : refit(r, l, &rows);
    if (status == TFUSE_OK && (r->stages & RP_STATISTICS) && !is_head && !l->is_feed)
        status = statistics(r, l, &rows);
    tf_free(&r->env->mem, rows.root);
    return status == TFUSE_OK ? keep(r, l) : status;
}

tfuse_status rp_fit_linear(repair *r, size_t step)
{
    const tf_node *n = &r->g->nodes[r->nodes[step]];
    bool write = false, reads = false;
    linear l = {.node = n, .weight = tf_node_slot(n, 0), .bias = tf_node_slot(n, 1), .in = n->inputs[0], .out = n->outputs[0]};
    if (!tf_param_is_private(r->g, l.weight) || (l.bias >= 0 && !tf_param_is_private(r->g, l.bias)))
        return TFUSE_OK; /* tied weights serve others too */
    for (size_t k = 0; k < r->n; k++)
        TF_TRY(rp_advance(r, k, step));
    l.block = rp_block_of(r, r->nodes[step], &write);
    l.in_circuit = rp_in_circuit(r, r->nodes[step], &reads);
    l.is_feed = l.in_circuit && !reads;
    l.residual = rp_residual(r, l.out);
    l.n = r->g->params[l.weight].shape[1] + (l.bias >= 0);
    l.m = r->g->params[l.weight].shape[0];
    tfuse_status status = TFUSE_OK;
    if (l.block)
        status = origin_of(r, l.block, r->g->params[l.weight].dims[write ? 1 : 0], write ? &l.cols : &l.rows);
    if (status == TFUSE_OK && !(l.w = tf_alloc_array(r->env, (size_t)(l.n * l.m), sizeof *l.w)))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = fit(r, &l);
    tf_free(&r->env->mem, l.w);
    tf_free(&r->env->mem, l.rows.parent);
    tf_free(&r->env->mem, l.rows.channel);
    tf_free(&r->env->mem, l.cols.parent);
    tf_free(&r->env->mem, l.cols.channel);
    return status == TFUSE_OK ? status : tf_fail_in(r->env, status, "refitting %s", n->name);
}
