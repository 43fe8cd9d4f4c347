/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_table.c: the cost of matching the columns of two tables of the outside (words) that are too large to be held. A column has a number for every
 * word, so distances come from sums over rows, a tile of which is read at a time: squared norms and inner products, in float64 over tiles.
 */
#include "align/otfusion.h"
#include "num/num.h"
#include <math.h>

enum { TABLE_NUMBERS = 1 << 24 };

typedef struct table {
    const tf_view *view;
    tf_id param;
    int64_t rows, width;
} table;

static table table_of(const otf *o, const tf_node *n, bool of_model)
{
    const tf_graph *g = of_model ? o->model : o->anchor;
    const tf_id param = (of_model ? otf_model_node(o, n) : n)->params[0];
    const tf_param *p = &g->params[param];
    return (table){of_model ? o->model_view : o->anchor_view, param, p->rank == 2 ? p->shape[0] : 0, p->rank == 2 ? p->shape[1] : 0};
}

bool otf_is_table(const otf *o, const otf_units *units, int n_sets)
{
    const tf_node *n = units[0].node;
    const tf_param *p = n->n_params > 0 && n->params[0] >= 0 ? &o->anchor->params[n->params[0]] : NULL;
    if (n_sets != 1 || !p || p->rank != 2 || tf_param_count(p) < TABLE_NUMBERS || n->n_inputs == 0 || otf_produced_dim(o->anchor, p) != 1 ||
        p->use[0] == TF_USE_CONSUMED || p->dims[1]->n_segments != 1 || p->dims[1]->segments[0].n_factors != 1)
        return false;
    const table a = table_of(o, n, false), b = table_of(o, n, true);
    return a.rows == b.rows && tf_view_has_rows(a.view, a.param) && tf_view_has_rows(b.view, b.param);
}

static tfuse_status read_tile(tf_env *env, const table *t, int64_t first, int64_t n, int64_t *which, float *x)
{
    for (int64_t i = 0; i < n; i++)
        which[i] = first + i;
    return tf_view_read_rows(env, t->view, t->param, which, n, x);
}

/* Sums over rows of x and of x^2, each column's. */
static void add_columns(const float *x, int64_t n, int64_t width, double *sum, double *square)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < width; i++) {
            const double v = (double)x[r * width + i];
            sum[i] += v;
            square[i] += v * v;
        }
}

/* Sums of the two tables: sum and square have a.width + b.width places, a the model's and b the anchor's. */
static tfuse_status gather(otf *o, const table *a, const table *b, double *sum, double *square, double *xy)
{
    tf_env *env = o->env;
    const int64_t tile = OTF_TABLE_ROWS;
    float *x = tf_alloc_array(env, (size_t)(tile * a->width), sizeof *x), *y = tf_alloc_array(env, (size_t)(tile * b->width), sizeof *y);
    float *part = tf_alloc_array(env, (size_t)(a->width * b->width), sizeof *part);
    int64_t *which = tf_alloc_array(env, (size_t)tile, sizeof *which);
    tfuse_status status = x && y && part && which ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; first < a->rows && status == TFUSE_OK; first += tile) {
        const int64_t n = a->rows - first < tile ? a->rows - first : tile;
        status = read_tile(env, a, first, n, which, x);
        if (status == TFUSE_OK)
            status = read_tile(env, b, first, n, which, y);
        if (status != TFUSE_OK)
            break;
        add_columns(x, n, a->width, sum, square);
        add_columns(y, n, b->width, sum + a->width, square + a->width);
        tf_gemm_sum(env, tf_mat_t(tf_mat_rows(x, n, a->width)), tf_mat_rows(y, n, b->width), b->width, part,
                    (tf_dmat){xy, a->width, b->width, b->width, 1});
        status = tf_check_cancel(env);
    }
    tf_free(&env->mem, x);
    tf_free(&env->mem, y);
    tf_free(&env->mem, part);
    tf_free(&env->mem, which);
    return status;
}

/* What the standardisation of weights makes of the sums: rows of unit length, or without their mean. */
static void standardise(otf_standardise how, const table *a, const table *b, const double *sum, double *square, double *xy)
{
    const double words = (double)a->rows;
    for (int64_t i = 0; i < a->width; i++)
        for (int64_t j = 0; j < b->width; j++) {
            double *dot = &xy[i * b->width + j];
            const double size = sqrt(square[i]) * sqrt(square[a->width + j]);
            if (how == OTF_CENTRE)
                *dot -= sum[i] * sum[a->width + j] / words;
            else if (how != OTF_RAW && size > 0)
                *dot /= size;
        }
    for (int64_t i = 0; i < a->width + b->width; i++)
        square[i] = how == OTF_CENTRE ? square[i] - sum[i] * sum[i] / words : how == OTF_RAW ? square[i] : square[i] > 0;
}

tfuse_status otf_table_cost(otf *o, const otf_units *units, otf_ground *out)
{
    const table a = table_of(o, units[0].node, true), b = table_of(o, units[0].node, false);
    const size_t columns = (size_t)(a.width + b.width), pairs = (size_t)(a.width * b.width);
    double *sum = tf_calloc(o->env, 2 * columns, sizeof *sum), *xy = tf_calloc(o->env, pairs, sizeof *xy);
    tfuse_status status = sum && xy ? gather(o, &a, &b, sum, sum + columns, xy) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = otf_ground_make(o, a.width, b.width, out);
    if (status == TFUSE_OK) {
        standardise(o->opt.activations ? OTF_RAW : o->opt.standardise, &a, &b, sum, sum + columns, xy);
        status = tf_cost_gram(o->env, o->opt.metric, a.width, b.width, sum + columns, sum + columns + a.width, xy, out->cost);
        for (size_t i = 0; i < columns; i++)
            out->lengths[i] = sqrt(fmax(sum[columns + i], 0));
    }
    tf_free(&o->env->mem, sum);
    tf_free(&o->env->mem, xy);
    return status;
}
