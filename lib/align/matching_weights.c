/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_weights.c: evidence from weights. All tensors of a node count together: its bias is one more column of its weight, so that
 * a vector does not weigh as much as a matrix.
 */
#include "align/carry.h"
#include "align/matching.h"
#include "graph/naming.h"
#include "graph/op.h"
#include <math.h>
#include <string.h>

#define OUTSIDE_WEIGHT 3.0

/* ---- tensors ---------------------------------------------------------------------------------------------- */

static size_t size_of(const tf_param *p)
{
    return (size_t)tf_param_count(p);
}

static tfuse_status moves_dim(matching *mt, const tf_class_map *maps, const tf_binding *b, bool *moves)
{
    tf_part *parts;
    int count;
    *moves = false;
    TF_TRY(tf_binding_parts(mt->env, mt->g, b, &parts, &count));
    for (int i = 0; i < count; i++)
        *moves = *moves || tf_class_moves(mt->g, maps, &parts[i]);
    tf_free(&mt->env->mem, parts);
    return TFUSE_OK;
}

/* One dimension, from a graph's layout to the anchor's, by maps of classes; `x` is replaced. */
static tfuse_status carry_dim(matching *mt, const tf_class_map *maps, const tf_param *from, const tf_param *to, int dim, float **x)
{
    tf_env *env = mt->env;
    tf_part *src = NULL, *dst = NULL;
    int n_src = 0, n_dst = 0;
    float *moved = tf_calloc(env, size_of(to), sizeof *moved);
    tfuse_status status = moved ? tf_binding_parts(env, from == to ? mt->g : mt->side[MT_MODEL].g, from->dims[dim], &src, &n_src) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, mt->g, to->dims[dim], &dst, &n_dst);
    for (int i = 0; i < n_dst && i < n_src && status == TFUSE_OK; i++) {
        tf_map *map = NULL;
        if (tf_class_moves(mt->g, maps, &dst[i]))
            status = tf_class_part_map(env, mt->g, maps, &dst[i], &map);
        if (status == TFUSE_OK)
            status = tf_carry_part(env, map, tf_part_use(mt->g, to, dim, &dst[i]), to->use[dim] != TF_USE_CONSUMED, *x, to->rank,
                                   to->shape, dim, &src[i], &dst[i], to->shape[dim], moved);
        tf_map_free(map);
    }
    tf_free(&env->mem, src);
    tf_free(&env->mem, dst);
    tf_free(&env->mem, *x);
    *x = status == TFUSE_OK ? moved : NULL;
    if (status != TFUSE_OK)
        tf_free(&env->mem, moved);
    return status;
}

static tfuse_status load(matching *mt, int side, tf_id param, float **x)
{
    const mt_model *m = &mt->side[side];
    const tf_param *to = &mt->g->params[param], *from = &m->g->params[m->param[param]];
    TF_TRY(tf_view_load(mt->env, m->view, m->param[param], x));
    for (int d = 0; d < to->rank; d++)
        TF_TRY(carry_dim(mt, m->balance, from, to, d, x));
    return TFUSE_OK;
}

uint64_t mt_held_bytes(const matching *mt)
{
    uint64_t all = 0;
    for (size_t p = 0; p < mt->g->n_params; p++)
        all += size_of(&mt->g->params[p]) * sizeof(float);
    return all <= MT_HELD_BYTES ? MT_HELD_BYTES : MT_HELD_OF_LARGE;
}

tfuse_status mt_take(matching *mt, int side, tf_id param, float **x)
{
    mt_model *m = &mt->side[side];
    const uint64_t bytes = size_of(&mt->g->params[param]) * sizeof(float);
    if ((*x = m->held[param]))
        return TFUSE_OK;
    TF_TRY(load(mt, side, param, x));
    if (m->bytes + bytes <= mt_held_bytes(mt)) {
        m->bytes += bytes;
        m->held[param] = *x;
    }
    return TFUSE_OK;
}

void mt_give(matching *mt, int side, tf_id param, float *x)
{
    if (x != mt->side[side].held[param])
        tf_free(&mt->env->mem, x);
}

tfuse_status mt_models_make(matching *mt, const tf_view *const *views)
{
    tf_env *env = mt->env;
    for (int s = 0; s < 2; s++) {
        mt_model *m = &mt->side[s];
        m->view = views[s ? mt->k : 0];
        m->g = mt->job->graphs[s ? mt->k : 0];
        m->param = tf_alloc_array(env, mt->g->n_params, sizeof *m->param);
        m->held = tf_calloc(env, mt->g->n_params + 1, sizeof *m->held);
        m->streamed = s ? tf_calloc(env, mt->g->n_params + 1, sizeof *m->streamed) : NULL;
        m->balance = tf_calloc(env, mt->g->n_classes + 1, sizeof *m->balance);
        if (!m->param || !m->held || !m->balance || (s && !m->streamed))
            return TFUSE_ENOMEM;
        for (size_t p = 0; p < mt->g->n_params; p++)
            m->param[p] = s ? tf_graph_find_param(m->g, mt->g->params[p].name) : (tf_id)p;
    }
    return TFUSE_OK;
}

void mt_models_free(matching *mt)
{
    for (int s = 0; s < 2; s++) {
        mt_model *m = &mt->side[s];
        for (size_t p = 0; m->held && p < mt->g->n_params; p++)
            tf_free(&mt->env->mem, m->held[p]);
        tf_free(&mt->env->mem, m->held);
        if (s)
            mt_forget_streams(mt);
        tf_free(&mt->env->mem, m->streamed);
        tf_free(&mt->env->mem, m->param);
        tf_class_maps_free(mt->env, mt->g, m->balance);
    }
}

void mt_forget_streams(matching *mt)
{
    mt_model *m = &mt->side[MT_MODEL];
    for (size_t p = 0; m->streamed && p < mt->g->n_params; p++) {
        tf_free(&mt->env->mem, m->streamed[p]);
        m->streamed[p] = NULL;
    }
    m->streamed_bytes = 0;
}

/* The maps of streams, or of all other classes; the rest are the identity. */
static void pick(const matching *mt, bool streams, tf_class_map *out)
{
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        out[c] = mt->maps[c];
        if (tf_class_is_stream(mt->g, (tf_id)c) != streams)
            out[c].instances = 0;
    }
}

/* Moves what moves, in place of *x. */
static tfuse_status move_all(matching *mt, const tf_param *p, const tf_class_map *maps, float **x)
{
    for (int d = 0; d < p->rank; d++) {
        bool moves;
        TF_TRY(moves_dim(mt, maps, p->dims[d], &moves));
        if (moves)
            TF_TRY(carry_dim(mt, maps, p, p, d, x));
    }
    return TFUSE_OK;
}

/* A copy of the model's balanced tensor moved by streams. */
static tfuse_status take_streamed(matching *mt, tf_id param, float **x)
{
    mt_model *m = &mt->side[MT_MODEL];
    const tf_param *p = &mt->g->params[param];
    const size_t bytes = size_of(p) * sizeof(float);
    float *kept = NULL;
    tf_class_map *streams = tf_alloc_array(mt->env, mt->g->n_classes + 1, sizeof *streams);
    *x = tf_alloc_array(mt->env, size_of(p), sizeof **x);
    tfuse_status status = streams && *x ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && m->streamed[param]) {
        memcpy(*x, m->streamed[param], bytes);
    } else if (status == TFUSE_OK) {
        pick(mt, true, streams);
        status = mt_take(mt, MT_MODEL, param, &kept);
        if (status == TFUSE_OK) {
            memcpy(*x, kept, bytes);
            mt_give(mt, MT_MODEL, param, kept);
            status = move_all(mt, p, streams, x);
        }
        if (status == TFUSE_OK && m->streamed_bytes + bytes <= mt_held_bytes(mt) &&
            (m->streamed[param] = tf_alloc_array(mt->env, size_of(p), sizeof **x))) {
            memcpy(m->streamed[param], *x, bytes);
            m->streamed_bytes += bytes;
        }
    }
    tf_free(&mt->env->mem, streams);
    return status;
}

/* As mt_moved, where no stream stays where it is. */
static tfuse_status move_rest(matching *mt, tf_id param, int dim, const bool *still, float **x)
{
    const tf_param *p = &mt->g->params[param];
    tf_class_map *all = tf_alloc_array(mt->env, 2 * mt->g->n_classes + 1, sizeof *all), *some = all + mt->g->n_classes;
    tfuse_status status = all ? take_streamed(mt, param, x) : TFUSE_ENOMEM;
    if (all)
        pick(mt, false, all);
    for (size_t c = 0; c < mt->g->n_classes && all; c++) {
        some[c] = all[c];
        if (still && still[c])
            some[c].instances = 0;
    }
    for (int d = 0; d < p->rank && status == TFUSE_OK; d++) {
        bool moves;
        status = moves_dim(mt, d == dim ? some : all, p->dims[d], &moves);
        if (status == TFUSE_OK && moves)
            status = carry_dim(mt, d == dim ? some : all, p, p, d, x);
    }
    tf_free(&mt->env->mem, all);
    return status;
}

static bool holds_stream(const matching *mt, const bool *still)
{
    bool any = false;
    for (size_t c = 0; still && c < mt->g->n_classes; c++)
        any = any || (still[c] && tf_class_is_stream(mt->g, (tf_id)c));
    return any;
}

tfuse_status mt_moved(matching *mt, tf_id param, int dim, const bool *still, float **x)
{
    if (!holds_stream(mt, still)) {
        *x = NULL;
        const tfuse_status moved = move_rest(mt, param, dim, still, x);
        if (moved != TFUSE_OK) {
            tf_free(&mt->env->mem, *x);
            *x = NULL;
        }
        return moved;
    }
    const tf_param *p = &mt->g->params[param];
    tf_env *env = mt->env;
    float *kept = NULL;
    tf_class_map *some = tf_alloc_array(env, mt->g->n_classes, sizeof *some);
    tfuse_status status = some ? mt_take(mt, MT_MODEL, param, &kept) : TFUSE_ENOMEM;
    *x = NULL;
    for (size_t c = 0; c < mt->g->n_classes && some; c++) {
        some[c] = mt->maps[c];
        if (still && still[c])
            some[c].instances = 0;
    }
    if (status == TFUSE_OK && !(*x = tf_alloc_array(env, size_of(p), sizeof **x)))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        memcpy(*x, kept, size_of(p) * sizeof **x);
    if (kept)
        mt_give(mt, MT_MODEL, param, kept);
    for (int d = 0; d < p->rank && status == TFUSE_OK; d++) {
        bool moves;
        status = moves_dim(mt, d == dim ? some : mt->maps, p->dims[d], &moves);
        if (status == TFUSE_OK && moves)
            status = carry_dim(mt, d == dim ? some : mt->maps, p, p, d, x);
    }
    tf_free(&env->mem, some);
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *x);
        *x = NULL;
    }
    return status;
}

void mt_rows(const tf_param *p, const float *x, int dim, const tf_part *part, int64_t first, int64_t n, float *rows)
{
    int64_t before = 1, after = 1;
    for (int d = 0; d < p->rank; d++)
        if (d != dim)
            *(d < dim ? &before : &after) *= p->shape[d];
    for (int64_t u = 0; u < n; u++)
        for (int64_t o = 0; o < before; o++)
            memcpy(rows + (u * before + o) * after, x + (o * p->shape[dim] + tf_part_index(part, first + u)) * after,
                   (size_t)after * sizeof *rows);
}

/* ---- places -------------------------------------------------------------------------------------------------- */

static bool knows_part(const matching *mt, const tf_part *part, tf_id but)
{
    bool known = true;
    for (int f = 0; f < part->n_factors; f++) {
        const tf_id cls = tf_class_of(mt->g, part->port[f]);
        known = known && (cls < 0 || cls == but || mt->classes[cls].shape == MT_FIXED || mt->classes[cls].known);
    }
    return known;
}

/* Whether everything of the tensor's rows along part `own` of dimension `dim` is known but the class itself: other parts of that dimension are
 * other rows. */
static tfuse_status is_known(matching *mt, tf_id param, int dim, int own, tf_id but, bool *known)
{
    const tf_param *p = &mt->g->params[param];
    *known = true;
    for (int d = 0; d < p->rank && *known; d++) {
        tf_part *parts;
        int count;
        TF_TRY(tf_binding_parts(mt->env, mt->g, p->dims[d], &parts, &count));
        for (int i = 0; i < count; i++)
            *known = *known && (mt->classes[but].outer || (d == dim && i != own) || knows_part(mt, &parts[i], but));
        tf_free(&mt->env->mem, parts);
    }
    return TFUSE_OK;
}

/* A norm's gain says nothing of a rotation: where one is permitted it is constant. */
static bool is_evidence(const matching *mt, const tf_param *p, int dim, tf_id cls)
{
    return !(p->source && p->source->kind == TF_SOURCE_ALIAS) &&
           (p->use[dim] != TF_USE_NEUTRAL || mt->classes[cls].shape == MT_UNITS || mt->classes[cls].shape == MT_SIGNED_UNITS);
}

tfuse_status mt_each_place(matching *mt, tf_id cls, mt_place_fn fn, void *arg)
{
    tfuse_status status = TFUSE_OK;
    for (size_t i = 0; i < mt->g->n_params && status == TFUSE_OK; i++)
        for (int d = 0; d < mt->g->params[i].rank && status == TFUSE_OK; d++) {
            tf_part *parts;
            int count;
            bool known = false;
            TF_TRY(tf_binding_parts(mt->env, mt->g, mt->g->params[i].dims[d], &parts, &count));
            for (int q = 0; q < count && status == TFUSE_OK; q++)
                for (int f = 0; f < parts[q].n_factors && status == TFUSE_OK; f++) {
                    if (tf_class_of(mt->g, parts[q].port[f]) != cls || !is_evidence(mt, &mt->g->params[i], d, cls))
                        continue;
                    status = is_known(mt, (tf_id)i, d, q, cls, &known);
                    if (status == TFUSE_OK && known)
                        status = fn(mt, &(mt_place){(tf_id)i, d, &parts[q], f}, arg);
                }
            tf_free(&mt->env->mem, parts);
        }
    return status;
}

/* ---- Grams ----------------------------------------------------------------------------------------------------- */

typedef struct gathering {
    tf_id cls;
    bool *still;
    mt_gram *gram;
} gathering;

static double norm_of(const float *x, size_t n)
{
    return sqrt(tf_sum_sq(x, n));
}

static tfuse_status add_blocks(matching *mt, const mt_place *at, const float *a, const float *b, gathering *to)
{
    const tf_param *p = &mt->g->params[at->param];
    const int64_t n = to->gram->n, width = tf_param_count(p) / p->shape[at->dim];
    const double w = mt->weight[p->node];
    float *rows = tf_alloc_array(mt->env, (size_t)(2 * n * width), sizeof *rows);
    if (!rows)
        return TFUSE_ENOMEM;
    float *x = to->gram->neutral && p->use[at->dim] == TF_USE_NEUTRAL ? to->gram->neutral : to->gram->x;
    for (int64_t block = 0; block < at->part->size / n; block++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(at->part, at->factor, block, units);
        const int64_t i = tf_class_instance(mt->g, at->part, at->factor, units);
        mt_rows(p, b, at->dim, at->part, block * n, n, rows);
        mt_rows(p, a, at->dim, at->part, block * n, n, rows + n * width);
        tf_gemm(mt->env, (float)w, tf_mat_rows(rows, n, width), tf_mat_t(tf_mat_rows(rows + n * width, n, width)), 1,
                tf_mat_rows(x + i * n * n, n, n));
        to->gram->most[i] += w * norm_of(rows, (size_t)(n * width)) * norm_of(rows + n * width, (size_t)(n * width));
    }
    tf_free(&mt->env->mem, rows);
    return TFUSE_OK;
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    gathering *to = arg;
    float *a = NULL, *b = NULL;
    if (at->factor + 1 != at->part->n_factors)
        return TFUSE_OK;
    TF_TRY(tf_check_cancel(mt->env));
    if (at->dim == 1 && mt_is_table(mt, at->param))
        return mt_table_gram(mt, at->param, mt->weight[mt->g->params[at->param].node], to->gram);
    tfuse_status status = mt_moved(mt, at->param, at->dim, to->still, &b);
    if (status == TFUSE_OK)
        status = mt_take(mt, MT_ANCHOR, at->param, &a);
    if (status == TFUSE_OK)
        status = add_blocks(mt, at, a, b, to);
    if (a)
        mt_give(mt, MT_ANCHOR, at->param, a);
    tf_free(&mt->env->mem, b);
    return status;
}

tfuse_status mt_weights_gram(matching *mt, tf_id cls, mt_gram *gram)
{
    gathering to = {cls, tf_calloc(mt->env, mt->g->n_classes, sizeof(bool)), gram};
    if (!to.still)
        return TFUSE_ENOMEM;
    to.still[cls] = true;
    const tfuse_status status = mt_each_place(mt, cls, add_place, &to);
    tf_free(&mt->env->mem, to.still);
    return status;
}

tfuse_status mt_gram_make(matching *mt, tf_id cls, mt_gram *out)
{
    const int64_t n = tf_class_extent(mt->g, cls), instances = tf_class_instances(mt->g, cls);
    const bool has_signs = mt->classes[cls].shape == MT_SIGNED_UNITS;
    *out = (mt_gram){.n = n, .instances = instances};
    out->x = tf_calloc(mt->env, (size_t)(instances * n * n), sizeof *out->x);
    out->neutral = has_signs ? tf_calloc(mt->env, (size_t)(instances * n * n), sizeof *out->neutral) : NULL;
    out->most = tf_calloc(mt->env, (size_t)instances, sizeof *out->most);
    return out->x && out->most && (out->neutral || !has_signs) ? TFUSE_OK : TFUSE_ENOMEM;
}

void mt_gram_free(matching *mt, mt_gram *gram)
{
    tf_free(&mt->env->mem, gram->x);
    tf_free(&mt->env->mem, gram->neutral);
    tf_free(&mt->env->mem, gram->most);
}

/* ---- norms and the objective ------------------------------------------------------------------------------------ */

static bool is_alias(const tf_param *p)
{
    return p->source && p->source->kind == TF_SOURCE_ALIAS;
}

/* Whether the node's weight has the outside on one side: pixels, words, positions, classes. No other map mixes it. */
static tfuse_status meets_outside(matching *mt, const tf_node *n, bool *outside)
{
    *outside = n->n_params > 0 && n->params[0] >= 0;
    for (int d = 0; *outside && d < mt->g->params[n->params[0]].rank; d++) {
        tf_part *parts;
        int count;
        TF_TRY(tf_binding_parts(mt->env, mt->g, mt->g->params[n->params[0]].dims[d], &parts, &count));
        for (int i = 0; i < count; i++)
            for (int f = 0; f < parts[i].n_factors; f++) {
                const tf_id cls = tf_class_of(mt->g, parts[i].port[f]);
                *outside = *outside && (cls < 0 || tf_class_pinned(mt->g, cls) || tf_class_is_stream(mt->g, cls));
            }
        tf_free(&mt->env->mem, parts);
    }
    return TFUSE_OK;
}

/* A node's weight lies between the two extremes, 1 (squared differences, which large tensors rule) and 1 / (|A| |B|) (correlations, all alike): it is
 * 1 / sqrt(|A| |B|), scaled so that all nodes together would reach their number. OUTSIDE_WEIGHT is for tensors that only the map of the stream
 * moves. Both were chosen on validation images of trained pairs. */
tfuse_status mt_node_weights(matching *mt)
{
    double *squares = tf_calloc(mt->env, 2 * mt->g->n_nodes, sizeof *squares);
    tfuse_status status = squares ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t i = 0; i < mt->g->n_params && status == TFUSE_OK; i++)
        for (int s = 0; s < 2 && status == TFUSE_OK && !is_alias(&mt->g->params[i]); s++) {
            float *x = NULL;
            double *sum = &squares[2 * mt->g->params[i].node + s];
            if (mt_is_table(mt, (tf_id)i)) {
                status = mt_table_square(mt, s, (tf_id)i, sum);
                continue;
            }
            status = mt_take(mt, s, (tf_id)i, &x);
            if (status != TFUSE_OK)
                break;
            *sum += tf_sum_sq(x, size_of(&mt->g->params[i]));
            mt_give(mt, s, (tf_id)i, x);
        }
    double sum = 0, count = 0;
    for (size_t n = 0; n < mt->g->n_nodes && status == TFUSE_OK; n++) {
        const double most = sqrt(squares[2 * n] * squares[2 * n + 1]);
        bool outside = false;
        if (!(most > 0) || mt->g->nodes[n].op->normalises)
            continue;
        status = meets_outside(mt, &mt->g->nodes[n], &outside);
        mt->weight[n] = (outside ? OUTSIDE_WEIGHT : 1) / sqrt(most);
        sum += mt->weight[n] * most;
        count++;
    }
    for (size_t n = 0; n < mt->g->n_nodes && sum > 0; n++)
        mt->weight[n] *= count / sum;
    tf_free(&mt->env->mem, squares);
    return status;
}

/* Whether a matched stream is among the tensor's axes. */
static tfuse_status on_stream(matching *mt, const tf_param *p, bool *on)
{
    *on = false;
    for (int d = 0; d < p->rank; d++) {
        tf_part *parts;
        int count;
        TF_TRY(tf_binding_parts(mt->env, mt->g, p->dims[d], &parts, &count));
        for (int i = 0; i < count; i++) {
            const tf_id cls = tf_class_of(mt->g, parts[i].port[parts[i].n_factors - 1]);
            *on = *on || (cls >= 0 && mt->classes[cls].shape != MT_FIXED && tf_class_is_stream(mt->g, cls));
        }
        tf_free(&mt->env->mem, parts);
    }
    return TFUSE_OK;
}

tfuse_status mt_weights_objective(matching *mt, double *sum, double *count)
{
    for (size_t n = 0; n < mt->g->n_nodes; n++)
        *count += mt->weight[n] > 0;
    *sum += mt->stream_sum;
    for (size_t i = 0; i < mt->g->n_params; i++) {
        const tf_param *p = &mt->g->params[i];
        float *a, *b;
        bool streamed;
        TF_TRY(on_stream(mt, p, &streamed));
        if (is_alias(p) || mt->weight[p->node] <= 0 || streamed)
            continue;
        TF_TRY(mt_moved(mt, (tf_id)i, -1, NULL, &b));
        tfuse_status status = mt_take(mt, MT_ANCHOR, (tf_id)i, &a);
        if (status == TFUSE_OK) {
            double dot = 0;
            for (size_t u = 0; u < size_of(p); u++)
                dot += (double)a[u] * (double)b[u];
            *sum += mt->weight[p->node] * dot;
            mt_give(mt, MT_ANCHOR, (tf_id)i, a);
        }
        tf_free(&mt->env->mem, b);
        TF_TRY(status);
    }
    return TFUSE_OK;
}
