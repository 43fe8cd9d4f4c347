/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_evidence.c: what the ground cost of a match is made of.
 *
 * From activations: the units' values over samples × tokens, standardised (z-scores by default); distances follow from second moments in float64.
 * From weights: the rows of the model's weight, its inputs already carried to the anchor, against the anchor's rows, of unit length by
 * default; the bias is not part of it. A bare parameter (position embeddings, class token) has no activations of its own
 * and is compared by its columns in both modes: as they are beside activations, by the standardisation beside weights.
 */
#include "align/otfusion.h"
#include <math.h>
#include <string.h>

/* ---- requests -------------------------------------------------------------------------------- */

typedef struct collector {
    tf_flow flow; /* first */
    otf *o;
} collector;

static tfuse_status request(otf *o, const tf_stat_request *r, int32_t *index)
{
    void *items = o->requests.items;
    if (!tf_grow(o->env, &items, &o->requests.cap, o->requests.n + 1, sizeof *o->requests.items))
        return TFUSE_ENOMEM;
    o->requests.items = items;
    o->requests.items[o->requests.n] = *r;
    *index = (int32_t)o->requests.n++;
    return TFUSE_OK;
}

static const tf_node *producer(const otf *o, tf_id value)
{
    return &o->anchor->nodes[o->anchor->values[value].node];
}

static bool bare(const tf_node *n)
{
    return n->n_inputs == 0;
}

static tfuse_status collect_move(tf_flow *f, const tf_node *n, int slot, int dim, tf_id v)
{
    (void)f, (void)n, (void)slot, (void)dim, (void)v;
    return TFUSE_OK;
}

static tfuse_status collect_pass(tf_flow *f, tf_id in, tf_id out)
{
    ((collector *)f)->o->requests.passed[out] = in;
    return TFUSE_OK;
}

static tfuse_status collect_follow(tf_flow *f, const tf_node *n, tf_id v)
{
    (void)f, (void)n, (void)v;
    return TFUSE_OK;
}

static tfuse_status collect_solve(tf_flow *f, const tf_node *n)
{
    otf *o = ((collector *)f)->o;
    tf_part *parts;
    int count;
    TF_TRY(otf_parts(o, o->anchor, n->outputs[0], &parts, &count));
    bool any = false;
    for (int i = 0; i < count; i++)
        any |= parts[i].n_ports > 0;
    tf_free(&o->env->mem, parts);
    tf_stat_request r = {.value = n->name, .cross = true};
    if (!any || !o->opt.activations || bare(n) || o->opt.control == OTF_UNIFORM || o->opt.control == OTF_RANDOM)
        return TFUSE_OK;
    return request(o, &r, &o->requests.solve[n - o->anchor->nodes]);
}

/* What the published code takes for the residual's activations: inside a block (the residual is itself a join of the same block) the sum of the
 * standardised inputs of that join; elsewhere the standardised value; always at all kept tokens. */
static tf_stat_request compat_residual(const otf *o, const tf_node *join, tf_id residual)
{
    const tf_node *p = producer(o, residual);
    tf_stat_request r = {.value = o->anchor->values[residual].name, .abs_dev = true, .whole = true};
    if (p->op == join->op && !strcmp(p->scope, join->scope)) {
        r.value = o->anchor->values[p->inputs[0]].name;
        r.plus = o->anchor->values[p->inputs[1]].name;
    }
    return r;
}

/* The branch: as its last linear gave it, at all kept tokens when what feeds that linear mixes tokens (attention). */
static tf_stat_request compat_branch(const otf *o, tf_id branch)
{
    while (o->requests.passed[branch] >= 0)
        branch = o->requests.passed[branch];
    const tf_node *p = producer(o, branch);
    bool mixes = p->n_inputs > 0 && !producer(o, p->inputs[0])->op->tokenwise;
    tf_stat_request r = {.value = o->anchor->values[branch].name, .abs_dev = true, .whole = mixes};
    return r;
}

static tfuse_status collect_join(tf_flow *f, const tf_node *n, tf_id residual, tf_id branch, tf_id out)
{
    otf *o = ((collector *)f)->o;
    (void)out;
    if (o->opt.residual != OTF_SCALAR && o->opt.residual != OTF_MATRIX)
        return TFUSE_OK;
    tf_stat_request res = {.value = o->anchor->values[residual].name}, br = {.value = o->anchor->values[branch].name};
    if (o->opt.compat)
        res = compat_residual(o, n, residual), br = compat_branch(o, branch);
    size_t node = (size_t)(n - o->anchor->nodes);
    if (!bare(producer(o, residual)))
        TF_TRY(request(o, &res, &o->requests.residual[node]));
    return bare(producer(o, branch)) ? TFUSE_OK : request(o, &br, &o->requests.branch[node]);
}

tfuse_status otf_collect(otf *o)
{
    static const tf_flow_ops ops = {collect_move, collect_solve, collect_pass, collect_pass, collect_follow, collect_join};
    const tf_graph *g = o->anchor;
    int32_t **index[] = {&o->requests.solve, &o->requests.residual, &o->requests.branch, &o->requests.passed};
    size_t size = g->n_nodes > g->n_values ? g->n_nodes : g->n_values;
    for (size_t t = 0; t < TF_LEN(index); t++) {
        if (!(*index[t] = tf_arena_array(o->env, &o->arena, size, sizeof(int32_t))))
            return TFUSE_ENOMEM;
        memset(*index[t], 0xff, size * sizeof(int32_t)); /* -1 */
    }
    collector c = {{&ops}, o};
    for (size_t i = 0; i < g->n_nodes; i++) {
        tfuse_status status = g->nodes[i].op->flow(&c.flow, g, &g->nodes[i]);
        if (status == TFUSE_EUNSUPPORTED)
            return tf_fail(o->env, status, "%s: the maps of align.strategy=otfusion do not pass through %s", g->nodes[i].name,
                           g->nodes[i].op->name);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

/* ---- features from weights ----------------------------------------------------------------------- */

typedef struct features {
    int64_t units, width;
    float *x; /* units × width */
} features;

/* A pinned axis is the outside's, such as the rows of a table. */
static bool is_free(const tf_graph *g, const tf_factor *f)
{
    return f->kind == TF_FACTOR_CONCAT || (f->kind == TF_FACTOR_PORT && !tf_class_pinned(g, tf_class_of(g, f->port)));
}

int otf_produced_dim(const tf_graph *g, const tf_param *p)
{
    for (int d = 0; d < p->rank; d++)
        if (p->use[d] != TF_USE_CONSUMED)
            for (int s = 0; s < p->dims[d]->n_segments; s++)
                for (int k = 0; k < p->dims[d]->segments[s].n_factors; k++)
                    if (is_free(g, &p->dims[d]->segments[s].factors[k]))
                        return d;
    return 0;
}

/* Carries the consumed dimension of a model's weight to the anchor's coordinates. *w is replaced, *shape changed. */
static tfuse_status carry_inputs(otf *o, const tf_node *n, const tf_param *pm, float **w, int64_t *shape)
{
    const tf_param *pa = &o->anchor->params[n->params[0]];
    for (int d = 0; d < pa->rank; d++) {
        if (pa->use[d] != TF_USE_CONSUMED || n->n_inputs == 0 || !o->values[n->inputs[0]].map)
            continue;
        const otf_value *v = &o->values[n->inputs[0]];
        tf_part *from = NULL, *to = NULL;
        int n_from = 0, n_to = 0;
        int64_t count = pa->shape[d];
        for (int e = 0; e < pa->rank; e++)
            count *= e == d ? 1 : shape[e];
        float *moved = tf_alloc_array(o->env, (size_t)count, sizeof *moved);
        tfuse_status status = moved ? tf_binding_parts(o->env, o->model, pm->dims[d], &from, &n_from) : TFUSE_ENOMEM;
        if (status == TFUSE_OK)
            status = tf_binding_parts(o->env, o->anchor, pa->dims[d], &to, &n_to);
        if (status == TFUSE_OK && !tf_parts_cover(to, n_to < v->n ? n_to : v->n, pa->shape[d]))
            memset(moved, 0, (size_t)count * sizeof *moved);
        for (int i = 0; i < n_to && i < v->n && status == TFUSE_OK; i++)
            status = tf_map_apply(o->env, v->map[i] < 0 ? NULL : o->plan->maps[v->map[i]].map, false, *w, pa->rank, shape, d,
                                  &from[i], &to[i], pa->shape[d], moved);
        tf_free(&o->env->mem, from);
        tf_free(&o->env->mem, to);
        tf_free(&o->env->mem, status == TFUSE_OK ? *w : moved);
        TF_TRY(status);
        *w = moved;
        shape[d] = pa->shape[d];
    }
    return TFUSE_OK;
}

/* Row u: what unit u of the part has in the weight, everything but its own dimension. Where it has it already *w becomes the rows. */
static tfuse_status unit_rows(otf *o, float **w, int rank, const int64_t *shape, int dim, const tf_part *part, features *f)
{
    int64_t outer = 1, inner = 1;
    for (int e = 0; e < rank; e++)
        *(e < dim ? &outer : &inner) *= e == dim ? 1 : shape[e];
    f->units = part->size;
    f->width = outer * inner;
    if (outer == 1 && tf_part_is_whole(part, shape[dim])) {
        f->x = *w;
        *w = NULL;
        return TFUSE_OK;
    }
    f->x = tf_alloc_array(o->env, (size_t)(f->units * f->width), sizeof *f->x);
    if (!f->x)
        return TFUSE_ENOMEM;
    for (int64_t u = 0; u < f->units; u++)
        for (int64_t b = 0; b < outer; b++)
            memcpy(f->x + u * f->width + b * inner, *w + (b * shape[dim] + tf_part_index(part, u)) * inner,
                   (size_t)inner * sizeof **w);
    return TFUSE_OK;
}

static void standardise_rows(features *f, otf_standardise how)
{
    for (int64_t u = 0; u < f->units; u++) {
        float *x = f->x + u * f->width;
        const double norm = how == OTF_UNIT || how == OTF_NORM ? sqrt(tf_sum_sq(x, (size_t)f->width)) : 0;
        double mean = 0;
        for (int64_t i = 0; how == OTF_CENTRE && i < f->width; i++)
            mean += (double)x[i] / (double)f->width;
        for (int64_t i = 0; how == OTF_CENTRE && i < f->width; i++)
            x[i] = (float)((double)x[i] - mean);
        if (norm > 0)
            tf_div_f32(x, norm, (size_t)f->width);
    }
}

static tfuse_status weight_features(otf *o, const otf_units *u, bool of_model, features *f)
{
    const tf_graph *g = of_model ? o->model : o->anchor;
    const tf_node *n = of_model ? otf_model_node(o, u->node) : u->node;
    const tf_param *p = &g->params[n->params[0]];
    int dim = otf_produced_dim(of_model ? o->model : o->anchor, p);
    int64_t shape[TF_MAX_PARAM_RANK];
    memcpy(shape, p->shape, sizeof shape);
    float *w = NULL;
    tf_part *parts = NULL;
    int count = 0;
    f->x = NULL;
    tfuse_status status = tf_view_load(o->env, of_model ? o->model_view : o->anchor_view, n->params[0], &w);
    if (status == TFUSE_OK && of_model)
        status = carry_inputs(o, u->node, p, &w, shape);
    if (status == TFUSE_OK)
        status = tf_binding_parts(o->env, g, p->dims[dim], &parts, &count);
    if (status == TFUSE_OK && u->part >= count)
        status = tf_fail(o->env, TFUSE_EINTERNAL, "%s: its weight has no part %d", n->name, u->part);
    if (status == TFUSE_OK)
        status = unit_rows(o, &w, p->rank, shape, dim, &parts[u->part], f);
    if (status == TFUSE_OK)
        standardise_rows(f, o->opt.activations ? OTF_RAW : o->opt.standardise);
    tf_free(&o->env->mem, w);
    tf_free(&o->env->mem, parts);
    return status;
}

/* Puts the features of several sets side by side. */
static tfuse_status joined_features(otf *o, const otf_units *units, int n_sets, bool of_model, features *out)
{
    features all = {0};
    tfuse_status status = TFUSE_OK;
    for (int s = 0; s < n_sets && status == TFUSE_OK; s++) {
        features one = {0}, both = {0};
        status = weight_features(o, &units[s], of_model, &one);
        if (status != TFUSE_OK || s == 0) {
            all = status == TFUSE_OK ? one : all;
            continue;
        }
        if (one.units != all.units)
            status = tf_fail(o->env, TFUSE_EGRAPH, "%s and %s produce unequal numbers of units", units[0].node->name,
                             units[s].node->name);
        both = (features){all.units, all.width + one.width, NULL};
        if (status == TFUSE_OK && !(both.x = tf_alloc_array(o->env, (size_t)(both.units * both.width), sizeof *both.x)))
            status = TFUSE_ENOMEM;
        for (int64_t u = 0; status == TFUSE_OK && u < both.units; u++) {
            memcpy(both.x + u * both.width, all.x + u * all.width, (size_t)all.width * sizeof *both.x);
            memcpy(both.x + u * both.width + all.width, one.x + u * one.width, (size_t)one.width * sizeof *both.x);
        }
        tf_free(&o->env->mem, one.x);
        if (status == TFUSE_OK) {
            tf_free(&o->env->mem, all.x);
            all = both;
        }
    }
    *out = all;
    return status;
}

static void row_lengths(const features *f, double *out)
{
    for (int64_t u = 0; u < f->units; u++)
        out[u] = sqrt(tf_sum_sq(f->x + u * f->width, (size_t)f->width));
}

static tfuse_status weight_cost(otf *o, const otf_units *units, int n_sets, otf_ground *out)
{
    features a = {0}, b = {0};
    tfuse_status status = joined_features(o, units, n_sets, true, &a);
    if (status == TFUSE_OK)
        status = joined_features(o, units, n_sets, false, &b);
    if (status == TFUSE_OK && a.width != b.width)
        status = tf_fail(o->env, TFUSE_ESHAPE, "%s: its units have %lld and %lld features", units[0].node->name,
                         (long long)a.width, (long long)b.width);
    if (status == TFUSE_OK)
        status = otf_ground_make(o, a.units, b.units, out);
    if (status == TFUSE_OK) {
        row_lengths(&a, out->lengths);
        row_lengths(&b, out->lengths + a.units);
        status = tf_cost_features(o->env, o->opt.metric, tf_mat_rows(a.x, a.units, a.width), tf_mat_rows(b.x, b.units, b.width),
                                  out->cost);
    }
    tf_free(&o->env->mem, a.x);
    tf_free(&o->env->mem, b.x);
    return status;
}

/* ---- distances from activations ---------------------------------------------------------------------- */

/* Scale and offset of a unit's values under the standardisation: value -> (value - offset) * scale. The eps keeps a dead unit at zero. */
static double unit_scale(const tf_moments *m, int64_t i, otf_standardise how)
{
    if (how == OTF_UNIT)
        return 1 / (sqrt(m->var[i]) + 1e-9);
    double second = m->var[i] * (double)(m->rows - 1) + (double)m->rows * m->mean[i] * m->mean[i];
    return how == OTF_NORM && second > 0 ? 1 / sqrt(second) : 1;
}

/* Adds the inner products of standardised units to xx, yy, xy. */
static void add_moments(const tf_stat *s, otf_standardise how, const tf_part *pn, const tf_part *pm, double *xx, double *yy,
                        double *xy)
{
    double rows = (double)s->anchor.rows;
    bool centred = how == OTF_UNIT || how == OTF_CENTRE;
    const tf_moments *sides[] = {&s->model, &s->anchor};
    const tf_part *parts[] = {pn, pm};
    double *norms[] = {xx, yy};
    for (int t = 0; t < 2; t++)
        for (int64_t u = 0; u < parts[t]->size; u++) {
            int64_t i = tf_part_index(parts[t], u);
            double scale = unit_scale(sides[t], i, how), mean = centred ? 0 : sides[t]->mean[i];
            norms[t][u] += scale * scale * (sides[t]->var[i] * (rows - 1) + rows * mean * mean);
        }
    for (int64_t u = 0; u < pn->size; u++) {
        int64_t i = tf_part_index(pn, u);
        double si = unit_scale(&s->model, i, how), mi = centred ? 0 : s->model.mean[i];
        for (int64_t v = 0; v < pm->size; v++) {
            int64_t j = tf_part_index(pm, v);
            double mj = centred ? 0 : s->anchor.mean[j];
            xy[u * pm->size + v] +=
                si * unit_scale(&s->anchor, j, how) * (s->cross[i * s->anchor.units + j] + rows * mi * mj);
        }
    }
}

static tfuse_status activation_cost(otf *o, const otf_units *units, int n_sets, otf_ground *out)
{
    double *xx = NULL, *yy = NULL, *xy = NULL;
    int64_t n = 0, m = 0;
    tfuse_status status = TFUSE_OK;
    for (int s = 0; s < n_sets && status == TFUSE_OK; s++) {
        tf_part *pn = NULL, *pm = NULL;
        int cn = 0, cm = 0, part = units[s].part;
        status = otf_parts(o, o->model, otf_model_node(o, units[s].node)->outputs[0], &pn, &cn);
        if (status == TFUSE_OK)
            status = otf_parts(o, o->anchor, units[s].node->outputs[0], &pm, &cm);
        if (status == TFUSE_OK && !xx) {
            n = pn[part].size;
            m = pm[part].size;
            xx = tf_calloc(o->env, (size_t)n, sizeof *xx);
            yy = tf_calloc(o->env, (size_t)m, sizeof *yy);
            xy = tf_calloc(o->env, (size_t)(n * m), sizeof *xy);
            status = xx && yy && xy ? TFUSE_OK : TFUSE_ENOMEM;
        }
        int32_t stat = o->requests.solve[units[s].node - o->anchor->nodes];
        if (status == TFUSE_OK && (stat < 0 || pn[part].size != n || pm[part].size != m))
            status = tf_fail(o->env, TFUSE_EGRAPH, "%s and %s produce units that cannot share one map", units[0].node->name,
                             units[s].node->name);
        if (status == TFUSE_OK)
            add_moments(&o->stats.items[stat], o->opt.standardise, &pn[part], &pm[part], xx, yy, xy);
        tf_free(&o->env->mem, pn);
        tf_free(&o->env->mem, pm);
    }
    if (status == TFUSE_OK)
        status = otf_ground_make(o, n, m, out);
    for (int64_t i = 0; i < n + m && status == TFUSE_OK; i++)
        out->lengths[i] = sqrt(fmax(i < n ? xx[i] : yy[i - n], 0));
    if (status == TFUSE_OK)
        status = tf_cost_gram(o->env, o->opt.metric, n, m, xx, yy, xy, out->cost);
    tf_free(&o->env->mem, xx);
    tf_free(&o->env->mem, yy);
    tf_free(&o->env->mem, xy);
    return status;
}

/* ---- costs ------------------------------------------------------------------------------------------------------- */

tfuse_status otf_ground_make(otf *o, int64_t n, int64_t m, otf_ground *out)
{
    *out = (otf_ground){n, m, tf_alloc_array(o->env, (size_t)(n * m), sizeof *out->cost), 1,
                        tf_alloc_array(o->env, (size_t)(n + m), sizeof *out->lengths)};
    return out->cost && out->lengths ? TFUSE_OK : TFUSE_ENOMEM;
}

void otf_ground_free(otf *o, otf_ground *ground)
{
    tf_free(&o->env->mem, ground->cost);
    tf_free(&o->env->mem, ground->lengths);
    *ground = (otf_ground){0};
}

tfuse_status otf_cost(otf *o, const otf_units *units, int n_sets, otf_ground *out)
{
    bool activations = o->requests.solve[units[0].node - o->anchor->nodes] >= 0;
    *out = (otf_ground){0};
    tfuse_status status = activations                         ? activation_cost(o, units, n_sets, out)
                          : otf_is_table(o, units, n_sets) ? otf_table_cost(o, units, out)
                                                           : weight_cost(o, units, n_sets, out);
    if (status == TFUSE_OK)
        status = tf_cost_normalise(o->env, o->opt.normalise, out->n, out->m, out->cost, &out->unit);
    if (status != TFUSE_OK)
        otf_ground_free(o, out);
    return status;
}

typedef struct pairs {
    const otf_ground *ground;
    tf_metric metric;
} pairs;

/* From the distance of two units and their lengths: d^2 = |x|^2 + |y|^2 - 2 x.y. */
static double correlation_of(const void *arg, int64_t i, int64_t j)
{
    const pairs *p = arg;
    const double x = p->ground->lengths[i], y = p->ground->lengths[p->ground->n + j];
    const double d = p->ground->unit * (double)p->ground->cost[i * p->ground->m + j];
    if (!(x > 0) || !(y > 0))
        return 0;
    if (p->metric == TF_METRIC_COSINE)
        return 1 - d;
    return fmax(-1, fmin(1, (x * x + y * y - (p->metric == TF_METRIC_EUCLIDEAN ? d * d : d)) / (2 * x * y)));
}

double otf_correlation(const otf *o, const otf_ground *ground, const tf_map *map)
{
    const pairs p = {ground, o->opt.metric};
    return ground->cost ? tf_map_mean(map, correlation_of, &p) : (double)NAN;
}
