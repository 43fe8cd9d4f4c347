/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_weights.c: evidence from weights. All tensors of a node count together: its bias is one more column of its weight, so that
 * a vector does not weigh as much as a matrix.
 */
#include "align/matching.h"
#include "graph/naming.h"
#include "graph/op.h"
#include <math.h>
#include <string.h>

#define OUTSIDE_WEIGHT 3.0

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
            tf_part *parts, *own = NULL;
            int count, n_own = 0;
            bool known = false;
            TF_TRY(tf_binding_parts(mt->env, mt->g, mt->g->params[i].dims[d], &parts, &count));
            status = tf_binding_parts(mt->env, mt->side[MT_MODEL].g, mt_param(mt, MT_MODEL, (tf_id)i)->dims[d], &own, &n_own);
            for (int q = 0; q < count && q < n_own && status == TFUSE_OK; q++)
                for (int f = 0; f < parts[q].n_factors && status == TFUSE_OK; f++) {
                    if (tf_class_of(mt->g, parts[q].port[f]) != cls || !is_evidence(mt, &mt->g->params[i], d, cls))
                        continue;
                    status = is_known(mt, (tf_id)i, d, q, cls, &known);
                    if (status == TFUSE_OK && known)
                        status = fn(mt, &(mt_place){(tf_id)i, d, {&parts[q], &own[q]}, f}, arg);
                }
            tf_free(&mt->env->mem, parts);
            tf_free(&mt->env->mem, own);
        }
    return status;
}

/* ---- Grams ----------------------------------------------------------------------------------------------------- */

typedef struct gathering {
    tf_id cls;
    mt_gram *gram;
} gathering;

static double norm_of(const float *x, size_t n)
{
    return sqrt(tf_sum_sq(x, n));
}

/* Block by block of the anchor's: its rows of `a`, against those of `b` that come there. */
static tfuse_status add_blocks(matching *mt, const mt_place *at, const float *a, const float *b, gathering *to)
{
    const tf_param *p = &mt->g->params[at->param];
    const tf_part *part = at->part[MT_ANCHOR], *own = at->part[MT_MODEL];
    const int64_t n = to->gram->n, m = to->gram->m, width = tf_param_count(p) / p->shape[at->dim];
    const double w = mt->weight[p->node];
    float *rows = tf_alloc_array(mt->env, (size_t)((n + m) * width), sizeof *rows), *other = rows + n * width;
    if (!rows)
        return TFUSE_ENOMEM;
    float *x = to->gram->neutral && p->use[at->dim] == TF_USE_NEUTRAL ? to->gram->neutral : to->gram->x;
    for (int64_t block = 0; block < part->size / m; block++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(part, at->factor, block, units);
        const int64_t i = tf_class_instance(mt->g, part, at->factor, units);
        const int64_t source = tf_class_block_source(mt->g, mt->maps, own, part, units);
        if (source < 0)
            continue;
        tf_part_rows(p, mt_param(mt, MT_MODEL, at->param)->shape[at->dim], b, at->dim, own, source * n, n, rows);
        tf_part_rows(p, p->shape[at->dim], a, at->dim, part, block * m, m, other);
        tf_gemm(mt->env, (float)w, tf_mat_rows(rows, n, width), tf_mat_t(tf_mat_rows(other, m, width)), 1, tf_mat_rows(x + i * n * m, n, m));
        to->gram->most[i] += w * norm_of(rows, (size_t)(n * width)) * norm_of(other, (size_t)(m * width));
    }
    tf_free(&mt->env->mem, rows);
    return TFUSE_OK;
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    gathering *to = arg;
    float *a = NULL, *b = NULL;
    if (at->factor + 1 != at->part[MT_ANCHOR]->n_factors)
        return TFUSE_OK;
    TF_TRY(tf_check_cancel(mt->env));
    if (at->dim == 1 && mt_is_table(mt, at->param))
        return mt_table_gram(mt, at->param, mt->weight[mt->g->params[at->param].node], to->gram);
    tfuse_status status = mt_moved(mt, at->param, at->dim, &b);
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
    gathering to = {cls, gram};
    return mt_each_place(mt, cls, add_place, &to);
}

tfuse_status mt_gram_make(matching *mt, tf_id cls, int64_t first, int64_t instances, mt_gram *out)
{
    const int64_t n = mt_extent(mt, MT_MODEL, cls), m = mt_extent(mt, MT_ANCHOR, cls);
    const bool has_signs = mt->classes[cls].shape == MT_SIGNED_UNITS;
    *out = (mt_gram){.n = n, .m = m, .instances = instances, .first = first};
    out->x = tf_calloc(mt->env, (size_t)(instances * n * m), sizeof *out->x);
    out->neutral = has_signs ? tf_calloc(mt->env, (size_t)(instances * n * m), sizeof *out->neutral) : NULL;
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
            *sum += tf_sum_sq(x, (size_t)tf_param_count(mt_param(mt, s, (tf_id)i)));
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
        TF_TRY(mt_moved(mt, (tf_id)i, -1, &b));
        tfuse_status status = mt_take(mt, MT_ANCHOR, (tf_id)i, &a);
        if (status == TFUSE_OK) {
            double dot = 0;
            for (size_t u = 0; u < (size_t)tf_param_count(p); u++)
                dot += (double)a[u] * (double)b[u];
            *sum += mt->weight[p->node] * dot;
            mt_give(mt, MT_ANCHOR, (tf_id)i, a);
        }
        tf_free(&mt->env->mem, b);
        TF_TRY(status);
    }
    return TFUSE_OK;
}
