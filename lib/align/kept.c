/* SPDX-License-Identifier: Apache-2.0
 *
 * kept.c: what a map leaves of the weights that it moves. Of rows X (one a unit of the model) that are produced the anchor's coordinates hold P'X, P
 * (n×m) being the produced operator, and what reads them there by the consumed operator C reads C P'X: that is X for a map that loses nothing, and
 * means of merged units, or nothing, otherwise. On the side that is consumed C and P change places. A map keeps 1 - |X - X~|^2 / |X|^2 over all that it
 * moves; neutral vectors (gains), on which another operator acts, do not count. Of a wide tensor COLUMNS of its columns are looked at, spread evenly.
 */
#include "align/align.h"
#include "align/carry.h"
#include "graph/naming.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

/* A map of at most one entry in FEW of its matrix is listed by entries: a mean of permutations, which is what a residual stream carries under otfusion. */
enum { COLUMNS = 256, FEW = 8 };

typedef struct entry_link {
    int64_t i, j;
    float produced, consumed;
} entry_link;

typedef struct lossy {
    tf_env *env;
    const tf_graph *g, *of; /* the anchor's, the model's */
    const tf_view *view;    /* the model's */
    const tf_map *map;
    float *produced, *consumed; /* n×m */
    int64_t widest;             /* columns of an entry that are looked at, at most */
    float *there, *back;        /* m×widest, n×widest */
    entry_link *links;                /* NULL: the matrices are multiplied with */
    size_t n_links;
    double all, lost;
} lossy;

/* What one entry of the plan's table moves. */
typedef struct rows {
    tf_id param;
    const tf_param *p;
    int dim;
    const tf_part *part;
    bool first; /* by the produced operator first */
} rows;

static int64_t width_of(const rows *r)
{
    return tf_param_count(r->p) / r->p->shape[r->dim];
}

/* A table, whose rows are no part of the axis: they are read some at a time. */
static bool is_table(const tf_view *view, const rows *r)
{
    return r->p->rank == 2 && r->dim == 1 && tf_part_is_whole(r->part, r->p->shape[1]) && tf_view_has_rows(view, r->param);
}

static void add_scaled(float *to, const float *from, float by, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        to[k] += by * from[k];
}

/* x with rows that are dense. */
static void carry_by_links(lossy *l, const rows *r, tf_mat x)
{
    const int64_t count = x.cols;
    memset(l->there, 0, (size_t)(l->map->m * count) * sizeof *l->there);
    memset(l->back, 0, (size_t)(l->map->n * count) * sizeof *l->back);
    for (size_t e = 0; e < l->n_links; e++)
        add_scaled(l->there + l->links[e].j * count, x.data + l->links[e].i * x.rs, r->first ? l->links[e].produced : l->links[e].consumed, count);
    for (size_t e = 0; e < l->n_links; e++)
        add_scaled(l->back + l->links[e].i * count, l->there + l->links[e].j * count, r->first ? l->links[e].consumed : l->links[e].produced, count);
}

static void carry_dense(lossy *l, const rows *r, tf_mat x)
{
    const int64_t n = l->map->n, m = l->map->m, count = x.cols;
    float *to = r->first ? l->produced : l->consumed, *from = r->first ? l->consumed : l->produced;
    tf_gemm(l->env, 1, tf_mat_t(tf_mat_rows(to, n, m)), x, 0, tf_mat_rows(l->there, m, count));
    tf_gemm(l->env, 1, tf_mat_rows(from, n, m), tf_mat_rows(l->there, m, count), 0, tf_mat_rows(l->back, n, count));
}

/* x: n×count, any strides. */
static void add_tile(lossy *l, const rows *r, tf_mat x)
{
    const int64_t n = l->map->n, count = x.cols;
    (l->links && x.cs == 1 ? carry_by_links : carry_dense)(l, r, x);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < count; k++) {
            const double was = (double)x.data[i * x.rs + k * x.cs], off = was - (double)l->back[i * count + k];
            l->all += was * was;
            l->lost += off * off;
        }
}

static int64_t columns_of(const rows *r)
{
    return width_of(r) < COLUMNS ? width_of(r) : COLUMNS;
}

static tfuse_status add_table(lossy *l, const rows *r)
{
    const int64_t all = r->p->shape[0], width = r->p->shape[1], count = columns_of(r);
    float *x = tf_alloc_array(l->env, (size_t)(count * width), sizeof *x);
    int64_t *which = tf_alloc_array(l->env, (size_t)count, sizeof *which);
    tfuse_status status = x && which ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t k = 0; k < count && status == TFUSE_OK; k++)
        which[k] = k * all / count;
    if (status == TFUSE_OK)
        status = tf_view_read_rows(l->env, l->view, r->param, which, count, x);
    if (status == TFUSE_OK)
        add_tile(l, r, tf_mat_t(tf_mat_rows(x, count, width)));
    tf_free(&l->env->mem, x);
    tf_free(&l->env->mem, which);
    return status;
}

/* Column c of the rows is element (o, a) of the extents before and after the dimension. */
static void gather(const rows *r, int64_t n, const float *x, int64_t count, float *out)
{
    int64_t after = 1;
    for (int d = r->dim + 1; d < r->p->rank; d++)
        after *= r->p->shape[d];
    for (int64_t k = 0; k < count; k++) {
        const int64_t c = k * width_of(r) / count, o = c / after, a = c % after;
        for (int64_t u = 0; u < n; u++)
            out[u * count + k] = x[(o * r->p->shape[r->dim] + tf_part_index(r->part, u)) * after + a];
    }
}

static tfuse_status add_tensor(lossy *l, const rows *r)
{
    const int64_t n = l->map->n, count = columns_of(r);
    float *x = NULL, *own = tf_alloc_array(l->env, (size_t)(n * count), sizeof *own);
    tfuse_status status = own ? tf_view_load(l->env, l->view, r->param, &x) : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        gather(r, n, x, count, own);
        add_tile(l, r, tf_mat_rows(own, n, count));
        status = tf_check_cancel(l->env);
    }
    tf_free(&l->env->mem, x);
    tf_free(&l->env->mem, own);
    return status;
}

/* Calls fn for what an entry moves, where that counts. */
static tfuse_status with_rows(lossy *l, const tf_plan_entry *e, tfuse_status (*fn)(lossy *l, const rows *r, void *arg), void *arg)
{
    const tf_id param = tf_graph_find_param(l->of, e->param), like = tf_graph_find_param(l->g, e->param);
    const tf_param *p = &l->of->params[param], *anchor = &l->g->params[like];
    tf_part *parts = NULL, *to = NULL;
    int count = 0, n_to = 0;
    if (p->source && p->source->kind == TF_SOURCE_ALIAS)
        return TFUSE_OK;
    tfuse_status status = tf_binding_parts(l->env, l->of, p->dims[e->dim], &parts, &count);
    if (status == TFUSE_OK)
        status = tf_binding_parts(l->env, l->g, anchor->dims[e->dim], &to, &n_to);
    if (status == TFUSE_OK && e->part < count && e->part < n_to) {
        const tf_use use = tf_part_use(l->g, anchor, e->dim, &to[e->part]);
        const rows r = {param, p, e->dim, &parts[e->part], e->produced && !(use == TF_USE_DUAL && tf_map_is_sided(l->map))};
        if (use != TF_USE_NEUTRAL)
            status = fn(l, &r, arg);
    }
    tf_free(&l->env->mem, parts);
    tf_free(&l->env->mem, to);
    return status;
}

/* The same for all entries of a map. */
static tfuse_status for_entries(lossy *l, const tfuse_plan *plan, int32_t index, tfuse_status (*fn)(lossy *l, const rows *r, void *arg), void *arg)
{
    for (size_t e = 0; e < plan->n_entries; e++)
        if (plan->entries[e].map == index)
            TF_TRY(with_rows(l, &plan->entries[e], fn, arg));
    return TFUSE_OK;
}

static tfuse_status find_widest(lossy *l, const rows *r, void *arg)
{
    (void)arg;
    l->widest = columns_of(r) > l->widest ? columns_of(r) : l->widest;
    return TFUSE_OK;
}

static tfuse_status add_entry(lossy *l, const rows *r, void *arg)
{
    (void)arg;
    return (is_table(l->view, r) ? add_table : add_tensor)(l, r);
}

static tfuse_status list_links(lossy *l)
{
    const size_t count = (size_t)(l->map->n * l->map->m);
    size_t any = 0;
    for (size_t e = 0; e < count; e++)
        any += l->produced[e] != 0 || l->consumed[e] != 0;
    if (any > count / FEW)
        return TFUSE_OK;
    if (!(l->links = tf_alloc_array(l->env, any + 1, sizeof *l->links)))
        return TFUSE_ENOMEM;
    for (size_t e = 0; e < count; e++)
        if (l->produced[e] != 0 || l->consumed[e] != 0)
            l->links[l->n_links++] = (entry_link){(int64_t)e / l->map->m, (int64_t)e % l->map->m, l->produced[e], l->consumed[e]};
    return TFUSE_OK;
}

static tfuse_status measure(lossy *l, const tfuse_plan *plan, int32_t index)
{
    const size_t n = (size_t)l->map->n, m = (size_t)l->map->m, wide = (size_t)l->widest;
    float *work = tf_alloc_array(l->env, 2 * n * m + wide * (n + m), sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    l->produced = work;
    l->consumed = work + n * m;
    l->there = work + 2 * n * m;
    l->back = l->there + wide * m;
    tf_map_matrix(l->map, l->produced);
    tf_map_consumed(l->map, l->consumed);
    tfuse_status status = list_links(l);
    if (status == TFUSE_OK)
        status = for_entries(l, plan, index, add_entry, NULL);
    tf_free(&l->env->mem, l->links);
    tf_free(&l->env->mem, work);
    return status;
}

/* ---- what that takes --------------------------------------------------------------------------------------------------- */

static tfuse_status tally_entry(lossy *l, const rows *r, void *arg)
{
    uint64_t *most = arg;
    const uint64_t bytes = is_table(l->view, r) ? tf_area(columns_of(r), r->p->shape[1], sizeof(float))
                                                : tf_area(tf_param_count(r->p), 1, sizeof(float)) + tf_area(l->map->n, columns_of(r), sizeof(float));
    *most = bytes > *most ? bytes : *most;
    return TFUSE_OK;
}

static tfuse_status tally(lossy *l, const tfuse_plan *plan, int32_t index, tf_tally *t)
{
    uint64_t most = 0;
    TF_TRY(for_entries(l, plan, index, tally_entry, &most));
    tf_tally_spike(t, 2 * tf_area(l->map->n, l->map->m, sizeof(float)) + tf_area(l->widest, l->map->n + l->map->m, sizeof(float)) + most);
    return TFUSE_OK;
}

tfuse_status tf_plan_measure_kept(tf_env *env, const tf_align_job *job, const tf_view *const *views, tfuse_plan *plan)
{
    for (size_t i = 0; i < plan->n_maps; i++) {
        tf_plan_map *row = &plan->maps[i];
        lossy l = {.env = env, .g = job->graphs[0], .of = job->graphs[row->model], .view = views[row->model], .map = row->map};
        if (isfinite(row->kept)) /* lossless */
            continue;
        TF_TRY(for_entries(&l, plan, (int32_t)i, find_widest, NULL));
        if (job->tally) {
            TF_TRY(tally(&l, plan, (int32_t)i, &job->tally->memory));
            continue;
        }
        TF_TRY(measure(&l, plan, (int32_t)i));
        row->kept = l.all > 0 ? 1 - l.lost / l.all : row->kept;
    }
    return TFUSE_OK;
}
