/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_table.c: see matching.h. A language model's table of words has most of the numbers of a small model; nothing moves its rows, and of its
 * columns only inner products are wanted, which add up over rows. Sums over tiles are in float64.
 */
#include "align/matching.h"
#include "num/num.h"
#include <math.h>

enum { TABLE_NUMBERS = 1 << 24 };

static bool is_pinned(const matching *mt, const tf_binding *b)
{
    bool pinned = b->n_segments == 1;
    for (int i = 0; pinned && i < b->segments[0].n_factors; i++) {
        const tf_factor *f = &b->segments[0].factors[i];
        pinned = f->kind == TF_FACTOR_FIXED || (f->kind == TF_FACTOR_PORT && tf_class_pinned(mt->g, tf_class_of(mt->g, f->port)));
    }
    return pinned;
}

bool mt_is_table(const matching *mt, tf_id param)
{
    const tf_param *p = &mt->g->params[param];
    if (p->rank != 2 || tf_param_count(p) < TABLE_NUMBERS || !is_pinned(mt, p->dims[0]) || p->dims[1]->n_segments != 1)
        return false;
    const tf_segment *columns = &p->dims[1]->segments[0];
    const tf_id cls = columns->n_factors == 1 && columns->factors[0].kind == TF_FACTOR_PORT ? tf_class_of(mt->g, columns->factors[0].port) : -1;
    bool rows = cls >= 0;
    for (int s = 0; rows && s < 2; s++) /* nothing is balanced there */
        rows = mt->side[s].balance[cls].instances == 0 && tf_view_has_rows(mt->side[s].view, mt->side[s].param[param]);
    return rows;
}

static tfuse_status read_tile(matching *mt, int s, tf_id param, int64_t first, int64_t n, int64_t *which, float *x)
{
    for (int64_t i = 0; i < n; i++)
        which[i] = first + i;
    return tf_view_read_rows(mt->env, mt->side[s].view, mt->side[s].param[param], which, n, x);
}

tfuse_status mt_table_square(matching *mt, int s, tf_id param, double *sum)
{
    const tf_param *p = &mt->g->params[param];
    const int64_t rows = p->shape[0], width = mt_param(mt, s, param)->shape[1];
    float *x = tf_alloc_array(mt->env, (size_t)(MT_TABLE_ROWS * width), sizeof *x);
    int64_t *which = tf_alloc_array(mt->env, MT_TABLE_ROWS, sizeof *which);
    tfuse_status status = x && which ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; first < rows && status == TFUSE_OK; first += MT_TABLE_ROWS) {
        const int64_t n = rows - first < MT_TABLE_ROWS ? rows - first : MT_TABLE_ROWS;
        status = read_tile(mt, s, param, first, n, which, x);
        if (status == TFUSE_OK)
            *sum += tf_sum_sq(x, (size_t)(n * width));
    }
    tf_free(&mt->env->mem, x);
    tf_free(&mt->env->mem, which);
    return status;
}

/* x (rows of the model's table) times its map of the columns, added to y. */
static tfuse_status add_carried(matching *mt, tf_id param, float *x, int64_t n, float *y)
{
    const tf_param *p = &mt->g->params[param];
    const int64_t width = mt_param(mt, MT_MODEL, param)->shape[1], m = p->shape[1];
    const tf_class_map *maps = &mt->maps[tf_class_of(mt->g, p->dims[1]->segments[0].factors[0].port)];
    float *t = tf_calloc(mt->env, (size_t)(width * m), sizeof *t);
    if (!t)
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < width && !maps->instances; i++)
        t[i * m + i] = 1;
    if (maps->instances)
        (p->use[1] == TF_USE_CONSUMED ? tf_map_consumed : tf_map_matrix)(maps->maps[0], t);
    tf_gemm(mt->env, 1, tf_mat_rows(x, n, width), tf_mat_rows(t, width, m), 1, tf_mat_rows(y, n, m));
    tf_free(&mt->env->mem, t);
    return TFUSE_OK;
}

/* Rows of what the model is matched to: of the anchor's table, or of the mean with the other models' carried ones. */
static tfuse_status read_target(matching *mt, tf_id param, int64_t first, int64_t n, int64_t *which, float *work, float *x)
{
    const int64_t width = mt->g->params[param].shape[1];
    TF_TRY(read_tile(mt, MT_ANCHOR, param, first, n, which, x));
    for (size_t k = 0; k < mt->n_peers; k++) {
        TF_TRY(read_tile(mt->peers[k], MT_MODEL, param, first, n, which, work));
        TF_TRY(add_carried(mt->peers[k], param, work, n, x));
    }
    for (int64_t i = 0; i < n * width && mt->n_peers; i++)
        x[i] /= (float)(mt->n_peers + 1);
    return TFUSE_OK;
}

static int64_t widest(const matching *mt, tf_id param)
{
    int64_t most = mt_param(mt, MT_MODEL, param)->shape[1];
    for (size_t k = 0; k < mt->n_peers; k++) {
        const int64_t other = mt_param(mt->peers[k], MT_MODEL, param)->shape[1];
        most = other > most ? other : most;
    }
    return most;
}

tfuse_status mt_table_gram(matching *mt, tf_id param, double weight, mt_gram *gram)
{
    const tf_param *p = &mt->g->params[param];
    const int64_t rows = p->shape[0], m = p->shape[1], width = mt_param(mt, MT_MODEL, param)->shape[1];
    float *a = tf_alloc_array(mt->env, (size_t)(MT_TABLE_ROWS * (m + widest(mt, param))), sizeof *a), *b = a + MT_TABLE_ROWS * m;
    float *tile = tf_alloc_array(mt->env, (size_t)(width * m), sizeof *tile);
    double *sum = tf_calloc(mt->env, (size_t)(width * m), sizeof *sum), squares[2] = {0};
    int64_t *which = tf_alloc_array(mt->env, MT_TABLE_ROWS, sizeof *which);
    tfuse_status status = a && tile && sum && which ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; first < rows && status == TFUSE_OK; first += MT_TABLE_ROWS) {
        const int64_t n = rows - first < MT_TABLE_ROWS ? rows - first : MT_TABLE_ROWS;
        status = read_target(mt, param, first, n, which, b, a);
        if (status == TFUSE_OK)
            status = read_tile(mt, MT_MODEL, param, first, n, which, b);
        if (status != TFUSE_OK)
            break;
        tf_gemm_sum(mt->env, tf_mat_t(tf_mat_rows(b, n, width)), tf_mat_rows(a, n, m), m, tile, (tf_dmat){sum, width, m, m, 1});
        squares[0] += tf_sum_sq(a, (size_t)(n * m));
        squares[1] += tf_sum_sq(b, (size_t)(n * width));
        status = tf_check_cancel(mt->env);
    }
    for (int64_t i = 0; i < width * m && status == TFUSE_OK; i++)
        gram->x[i] += (float)(weight * sum[i]);
    if (status == TFUSE_OK)
        gram->most[0] += weight * sqrt(squares[0] * squares[1]);
    tf_free(&mt->env->mem, a);
    tf_free(&mt->env->mem, tile);
    tf_free(&mt->env->mem, sum);
    tf_free(&mt->env->mem, which);
    return status;
}
