/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_values.c: evidence from activations: for a value, the second moments of the model's units with the anchor's over samples and tokens.
 *
 * Of the residual stream the outputs of norms are looked at, token vectors of one length, not centred over tokens; where no norm reads it, the sums
 * themselves. Other axes are looked at where a linear, an attention or a gate makes them, centred. Rotations are found from covariances; units
 * to be assigned are compared by correlations, so that loud ones do not drown others.
 */
#include "align/carry.h"
#include "align/matching.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

/* ---- which values ------------------------------------------------------------------------------------------------ */

static bool is_read_by_norm(const tf_graph *g, tf_id value)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] == value && g->nodes[i].op->normalises)
                return true;
    return false;
}

/* Channels that a map can move and that are nobody else's: activations' outputs follow from their inputs. */
static bool is_wanted(const tf_graph *g, const tf_node *n)
{
    const tf_value *v = &g->values[n->outputs[0]];
    const tf_op *op = n->op;
    if (v->integer || n->outputs[0] == g->output)
        return false;
    if (op == &tf_op_add)
        return !is_read_by_norm(g, n->outputs[0]);
    return op->normalises || op == &tf_op_linear || op == &tf_op_attention || op == &tf_op_multiply;
}

static tfuse_status has_free_part(tf_env *env, const tf_graph *g, tf_id value, bool of_stream, bool *has)
{
    tf_part *parts;
    int count;
    *has = false;
    TF_TRY(tf_binding_parts(env, g, tf_value_channels(g, value), &parts, &count));
    for (int i = 0; i < count; i++)
        for (int f = 0; f < parts[i].n_factors; f++) {
            const tf_id cls = tf_class_of(g, parts[i].port[f]);
            *has = *has || (cls >= 0 && !tf_class_pinned(g, cls) && (of_stream || !tf_class_is_stream(g, cls)));
        }
    tf_free(&env->mem, parts);
    return TFUSE_OK;
}

static tfuse_status list_wanted(tf_env *env, const tf_graph *g, tf_stat_wants *out)
{
    out->items = tf_calloc(env, g->n_nodes + 1, sizeof *out->items);
    out->n = 0;
    out->filter = (tf_token_filter){.kind = TF_TOKENS_ALL};
    if (!out->items)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        bool has;
        if (!n->n_outputs || !is_wanted(g, n))
            continue;
        /* what a branch writes to the stream is in the sums */
        TF_TRY(has_free_part(env, g, n->outputs[0], n->op->normalises || n->op == &tf_op_add, &has));
        if (has)
            out->items[out->n++] = (tf_stat_request){.value = g->values[n->outputs[0]].name, .cross = true};
    }
    return TFUSE_OK;
}

/* Blocks of the value's units inside of which a general linear map may act, as units of each: 0 when there are none, all units where blocks of one
 * size do not do. linear: of each class of the anchor's graph, whose numbers are the model's too. */
static tfuse_status linear_block(tf_env *env, const tf_graph *g, tf_id value, const bool *linear, int64_t *block)
{
    const int64_t units = tf_value_channels(g, value)->extent;
    tf_part *parts;
    int count;
    *block = 0;
    TF_TRY(tf_binding_parts(env, g, tf_value_channels(g, value), &parts, &count));
    for (int i = 0; i < count; i++) {
        const tf_part *p = &parts[i];
        const int last = p->n_factors - 1;
        const int64_t k = p->extent[last];
        if (p->port[last] < 0 || !linear[tf_class_of(g, p->port[last])])
            continue;
        bool aligned = (*block == 0 || *block == k) && units % k == 0 && p->stride[last] == 1;
        for (int64_t u = 0; u < p->size && aligned; u += k)
            aligned = tf_part_index(p, u) % k == 0;
        *block = aligned ? k : units;
    }
    tf_free(&env->mem, parts);
    return TFUSE_OK;
}

tfuse_status mt_values_wanted(tf_env *env, const tf_align_job *job, size_t other, size_t k, tf_stat_wants *out)
{
    const tf_graph *of[] = {job->graphs[other], job->graphs[k]};
    bool *linear = NULL;
    TF_TRY(mt_may_be_linear(env, job, &linear));
    tfuse_status status = list_wanted(env, job->graphs[0], out);
    for (size_t i = 0; i < out->n && status == TFUSE_OK; i++)
        for (int s = 0; s < 2 && status == TFUSE_OK; s++)
            status = linear_block(env, of[s], tf_graph_find_value(of[s], out->items[i].value), linear, &out->items[i].self[s]);
    tf_free(&env->mem, linear);
    if (status != TFUSE_OK) {
        tf_free(&env->mem, out->items);
        out->items = NULL;
    }
    return status;
}

/* ---- their moments, balanced --------------------------------------------------------------------------------------- */

static double second(const tf_moments *m, int64_t u, bool centred)
{
    return m->var[u] * (double)(m->rows - 1) + (centred ? 0 : (double)m->rows * m->mean[u] * m->mean[u]);
}

static bool is_centred(const matching *mt, tf_id value)
{
    return !mt->g->nodes[mt->g->values[value].node].op->normalises;
}

/* Whether the value's units are compared one by one: its innermost class is assigned. */
static bool is_by_unit(const matching *mt, const tf_part *part)
{
    const tf_id cls = tf_class_of(mt->g, part->port[part->n_factors - 1]);
    return cls >= 0 && mt->classes[cls].shape >= MT_UNITS;
}

tfuse_status mt_value_parts(matching *mt, const mt_value *v, tf_part **parts, int *count)
{
    for (int s = 0; s < 2; s++)
        TF_TRY(tf_binding_parts(mt->env, mt->side[s].g, tf_value_channels(mt->side[s].g, v->value[s]), &parts[s], count));
    return TFUSE_OK;
}

/* The map that balances a block of a part; NULL: none. */
static const tf_map *balance_of(const mt_model *side, const tf_part *part, int64_t block)
{
    const int last = part->n_factors - 1;
    int64_t at[TF_MAX_FACTORS];
    const tf_class_map *b = part->port[last] < 0 ? NULL : &side->balance[tf_class_of(side->g, part->port[last])];
    tf_part_units(part, last, block, at);
    return b && b->instances ? b->maps[tf_class_instance(side->g, part, last, at)] : NULL;
}

/* What a value of one side is made of: moments as gathered, and the parts of its channels. */
typedef struct side_value {
    const mt_model *side;
    const tf_moments *m;
    const double *self; /* units × block */
    int64_t block;
    tf_part *parts;
    int count;
    bool centred;
} side_value;

/* Second moment of units i and j, which are one, or lie in one block. */
static double second_of(const side_value *v, int64_t i, int64_t j)
{
    if (i == j)
        return second(v->m, i, v->centred);
    return v->self[i * v->block + j % v->block] + (v->centred ? 0 : (double)v->m->rows * v->m->mean[i] * v->m->mean[j]);
}

/* Second moments of the units of one block, balanced: of B'x they are the diagonal of B' S B. b: the map's operator, n × n. */
static void balance_block(const side_value *v, const tf_part *part, int64_t first, int64_t n, const float *b, double *out)
{
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < n; k++)
                sum += (double)b[i * n + j] * (double)b[k * n + j] *
                       second_of(v, tf_part_index(part, first + i), tf_part_index(part, first + k));
        out[tf_part_index(part, first + j)] = sum;
    }
}

/* The same where every unit has a scale of its own. */
static void scale_block(const side_value *v, const tf_part *part, int64_t first, const tf_map *map, bool dual, double *out)
{
    for (int64_t j = 0; j < map->m; j++) {
        const double scale = dual ? 1 / (double)map->scale[j] : (double)map->scale[j];
        const int64_t i = tf_part_index(part, first + map->source[j]);
        out[tf_part_index(part, first + j)] = scale * scale * second_of(v, i, i);
    }
}

static bool is_dual(const tf_graph *g, const tf_part *part)
{
    bool dual = false;
    for (int f = 0; f < part->n_factors; f++)
        dual = dual || (part->port[f] >= 0 && g->class_dual[part->port[f]]);
    return dual;
}

/* Second moments of all units of a value, of balanced ones if asked for; freed by tf_free. */
static tfuse_status seconds(tf_env *env, const side_value *v, bool balanced, double **out)
{
    tfuse_status status = TFUSE_OK;
    if (!(*out = tf_calloc(env, (size_t)v->m->units, sizeof **out)))
        return TFUSE_ENOMEM;
    for (int64_t i = 0; i < v->m->units; i++)
        (*out)[i] = second(v->m, i, v->centred);
    for (int p = 0; p < v->count && balanced && status == TFUSE_OK; p++) {
        const tf_part *part = &v->parts[p];
        const int64_t n = part->extent[part->n_factors - 1];
        const bool dual = is_dual(v->side->g, part);
        for (int64_t block = 0; block < part->size / n && status == TFUSE_OK; block++) {
            const tf_map *map = balance_of(v->side, part, block);
            if (map && map->scale)
                scale_block(v, part, block * n, map, dual, *out);
            if (!map || !map->dense) /* scales, or the identity */
                continue;
            float *b = tf_alloc_array(env, (size_t)(n * n), sizeof *b);
            status = b ? TFUSE_OK : TFUSE_ENOMEM;
            if (b) {
                (dual ? tf_map_consumed : tf_map_matrix)(map, b);
                balance_block(v, part, block * n, n, b, *out);
            }
            tf_free(&env->mem, b);
        }
    }
    return status;
}

static double part_sum(const double *x, const tf_part *part)
{
    double sum = 0;
    for (int64_t u = 0; u < part->size; u++)
        sum += x[tf_part_index(part, u)];
    return sum;
}

/* Divides one part's products by what would make perfect agreement a trace of 1, once they are balanced. xx, yy: second moments of the model's units and
 * of the other's; units: of the anchor's part, over which correlations are averaged. */
static void fill_part(const tf_stat *s, const tf_part *to, const tf_part *from, int64_t units, bool by_unit, bool centred, const double *xx,
                      const double *yy, float *cross)
{
    const int64_t m = s->anchor.units;
    const double all = sqrt(part_sum(yy, to) * part_sum(xx, from));
    for (int64_t u = 0; u < from->size; u++)
        for (int64_t v = 0; v < to->size; v++) {
            const int64_t i = tf_part_index(from, u), j = tf_part_index(to, v);
            const double x = s->cross[i * m + j] + (centred ? 0 : (double)s->anchor.rows * s->model.mean[i] * s->anchor.mean[j]);
            const double most = by_unit ? sqrt(xx[i] * yy[j]) * (double)units : all;
            cross[i * m + j] = most > 0 ? (float)(x / most) : 0;
        }
}

/* Whether the units of what the value's linear makes keep their signs whatever the class's map does: gates. */
static bool is_neutral(const matching *mt, const mt_value *v)
{
    const tf_node *n = &mt->g->nodes[mt->g->values[v->value[MT_ANCHOR]].node];
    return n->op == &tf_op_linear && n->n_params > 0 && n->params[0] >= 0 && mt->g->params[n->params[0]].use[0] == TF_USE_NEUTRAL;
}

/* Moves one side of a matrix of extents `shape`, both replaced, from the channels of one graph's value to those of another's by maps of classes. */
static tfuse_status move_side(tf_env *env, const tf_graph *g, const tf_binding *to, const tf_graph *of, const tf_binding *from,
                              const tf_class_map *maps, bool neutral, int dim, int64_t *shape, float **x)
{
    float *moved = tf_calloc(env, (size_t)(to->extent * shape[1 - dim]), sizeof *moved);
    tf_part *parts = NULL, *own = NULL;
    int count = 0, n_own = 0;
    tfuse_status status = moved ? tf_binding_parts(env, g, to, &parts, &count) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, of, from, &own, &n_own);
    for (int i = 0; i < count && i < n_own && status == TFUSE_OK; i++) {
        tf_map *map = NULL;
        const tf_use use = neutral ? TF_USE_NEUTRAL : is_dual(g, &parts[i]) ? TF_USE_DUAL : TF_USE_PRODUCED;
        if (tf_class_moves(g, maps, &parts[i]))
            status = tf_class_part_map(env, g, maps, &own[i], &parts[i], &map);
        if (status == TFUSE_OK)
            status = tf_carry_part(env, map, use, true, *x, 2, shape, dim, &own[i], &parts[i], to->extent, moved);
        tf_map_free(map);
    }
    tf_free(&env->mem, parts);
    tf_free(&env->mem, own);
    tf_free(&env->mem, *x);
    *x = status == TFUSE_OK ? moved : NULL;
    shape[dim] = to->extent;
    if (status != TFUSE_OK)
        tf_free(&env->mem, moved);
    return status;
}

/* What make_value works on: the model's value and the other's. */
typedef struct value_pair {
    side_value of[2];    /* the model's, the other's */
    tf_part *anchor;     /* parts of the anchor's value */
    double *second[2];
    bool by_unit;        /* throughout: correlations, which know no scale */
} value_pair;

static tfuse_status fill_value(matching *mt, const tf_stat *s, value_pair *p, float *cross)
{
    p->by_unit = true;
    for (int i = 0; i < p->of[0].count; i++)
        p->by_unit = p->by_unit && is_by_unit(mt, &p->anchor[i]);
    for (int d = 0; d < 2; d++)
        TF_TRY(seconds(mt->env, &p->of[d], !p->by_unit, &p->second[d]));
    for (int i = 0; i < p->of[0].count; i++)
        fill_part(s, &p->of[1].parts[i], &p->of[0].parts[i], p->anchor[i].size, is_by_unit(mt, &p->anchor[i]), p->of[0].centred, p->second[0],
                  p->second[1], cross);
    return TFUSE_OK;
}

static tfuse_status make_value(matching *mt, const matching *other, const tf_stat *s, const tf_stat_request *want, size_t number, mt_value *out)
{
    const mt_model *sides[2] = {&mt->side[MT_MODEL], other ? &other->side[MT_MODEL] : &mt->side[MT_ANCHOR]};
    const tf_id ids[2] = {out->value[MT_MODEL], other ? other->values[number].value[MT_MODEL] : out->value[MT_ANCHOR]};
    const bool centred = is_centred(mt, out->value[MT_ANCHOR]);
    int64_t shape[2] = {s->model.units, s->anchor.units};
    value_pair p = {{{sides[0], &s->model, s->self[MT_MODEL], want->self[MT_MODEL], NULL, 0, centred},
                     {sides[1], &s->anchor, s->self[MT_ANCHOR], want->self[MT_ANCHOR], NULL, 0, centred}}, NULL, {NULL, NULL}, false};
    int count = 0;
    if (!(out->cross = tf_calloc(mt->env, (size_t)(shape[0] * shape[1]), sizeof *out->cross)))
        return TFUSE_ENOMEM;
    tfuse_status status = tf_binding_parts(mt->env, mt->g, tf_value_channels(mt->g, out->value[MT_ANCHOR]), &p.anchor, &count);
    for (int d = 0; d < 2 && status == TFUSE_OK; d++)
        status = tf_binding_parts(mt->env, sides[d]->g, tf_value_channels(sides[d]->g, ids[d]), &p.of[d].parts, &p.of[d].count);
    if (status == TFUSE_OK)
        status = fill_value(mt, s, &p, out->cross);
    for (int d = 0; d < 2 && status == TFUSE_OK && !p.by_unit; d++) {
        const tf_binding *b = tf_value_channels(sides[d]->g, ids[d]);
        status = move_side(mt->env, sides[d]->g, b, sides[d]->g, b, sides[d]->balance, false, d, shape, &out->cross);
    }
    tf_free(&mt->env->mem, p.anchor);
    for (int d = 0; d < 2; d++) {
        tf_free(&mt->env->mem, p.of[d].parts);
        tf_free(&mt->env->mem, p.second[d]);
    }
    return status;
}

tfuse_status mt_value_columns(const matching *peer, size_t value, int64_t *shape, float **x)
{
    const mt_value *v = &peer->values[value];
    const tf_graph *of = peer->side[MT_MODEL].g;
    return move_side(peer->env, peer->g, tf_value_channels(peer->g, v->value[MT_ANCHOR]), of, tf_value_channels(of, v->value[MT_MODEL]), peer->maps,
                     is_neutral(peer, v), 1, shape, x);
}

tfuse_status mt_values_make(matching *mt, const matching *other, const tf_stats *stats, const tf_stat_wants *wants, size_t first, mt_value *values)
{
    for (size_t i = 0; i < stats->n; i++) {
        const tf_stat_request *want = &wants->items[first + i];
        mt_value *v = &values[first + i];
        for (int s = 0; s < 2; s++)
            v->value[s] = tf_graph_find_value(mt->side[s].g, want->value);
        TF_TRY(make_value(mt, other, &stats->items[i], want, first + i, v));
    }
    return TFUSE_OK;
}

void mt_values_drop(matching *mt, mt_value *values)
{
    for (size_t i = 0; values && i < mt->n_values; i++)
        tf_free(&mt->env->mem, values[i].cross);
    tf_free(&mt->env->mem, values);
}

void mt_values_free(matching *mt)
{
    mt_values_drop(mt, mt->values);
    mt_values_drop(mt, mt->of_anchor);
    for (size_t k = 0; mt->of_peer && k < mt->n_peers; k++)
        mt_values_drop(mt, mt->of_peer[k]);
    tf_free(&mt->env->mem, mt->of_peer);
}

/* ---- Grams of a class -------------------------------------------------------------------------------------------------- */

static void add_blocks(matching *mt, const float *x, int64_t stride, const tf_part *to, const tf_part *from, bool neutral,
                       mt_gram *gram)
{
    const int last = to->n_factors - 1;
    const int64_t n = gram->n, m = gram->m;
    for (int64_t block = 0; block < to->size / m; block++) {
        int64_t at[TF_MAX_FACTORS];
        tf_part_units(to, last, block, at);
        const int64_t i = tf_class_instance(mt->g, to, last, at) - gram->first, source = tf_class_block_source(mt->g, mt->maps, from, to, at);
        if (i < 0 || i >= gram->instances)
            continue;
        float *sum = (neutral && gram->neutral ? gram->neutral : gram->x) + i * n * m;
        for (int64_t u = 0; u < n && source >= 0; u++)
            for (int64_t v = 0; v < m; v++)
                sum[u * m + v] += (float)mt->activation_weight *
                                  x[tf_part_index(from, source * n + u) * stride + tf_part_index(to, block * m + v)];
        gram->most[i] += mt->activation_weight * (double)m / (double)to->size;
    }
}

static bool knows_blocks(const matching *mt, const tf_part *part)
{
    bool known = true;
    for (int f = 0; f + 1 < part->n_factors; f++) {
        const tf_id cls = tf_class_of(mt->g, part->port[f]);
        known = known && (cls < 0 || mt->classes[cls].known || mt->classes[cls].shape == MT_FIXED);
    }
    return known;
}

static tfuse_status add_value(matching *mt, const mt_value *v, tf_id cls, mt_gram *gram)
{
    tf_part *parts[2] = {NULL, NULL};
    int count = 0;
    tfuse_status status = mt_value_parts(mt, v, parts, &count);
    for (int i = 0; i < count && status == TFUSE_OK; i++) {
        const tf_part *to = &parts[MT_ANCHOR][i];
        if (tf_class_of(mt->g, to->port[to->n_factors - 1]) == cls && knows_blocks(mt, to))
            add_blocks(mt, v->cross, tf_value_channels(mt->g, v->value[MT_ANCHOR])->extent, to, &parts[MT_MODEL][i], is_neutral(mt, v), gram);
    }
    tf_free(&mt->env->mem, parts[0]);
    tf_free(&mt->env->mem, parts[1]);
    return status;
}

tfuse_status mt_values_gram(matching *mt, tf_id cls, mt_gram *gram)
{
    for (size_t i = 0; i < mt->n_values; i++)
        TF_TRY(add_value(mt, &mt->values[i], cls, gram));
    return TFUSE_OK;
}

tfuse_status mt_values_objective(matching *mt, double *sum, double *count)
{
    for (size_t i = 0; i < mt->n_values; i++) {
        const mt_value *v = &mt->values[i];
        const tf_graph *of = mt->side[MT_MODEL].g;
        const tf_binding *to = tf_value_channels(mt->g, v->value[MT_ANCHOR]), *from = tf_value_channels(of, v->value[MT_MODEL]);
        int64_t shape[2] = {from->extent, to->extent};
        const size_t size = (size_t)(shape[0] * shape[1]);
        float *x = tf_alloc_array(mt->env, size, sizeof *x);
        if (!x)
            return TFUSE_ENOMEM;
        memcpy(x, v->cross, size * sizeof *x);
        TF_TRY(move_side(mt->env, mt->g, to, of, from, mt->maps, is_neutral(mt, v), 0, shape, &x));
        for (int64_t u = 0; u < to->extent; u++)
            *sum += mt->activation_weight * (double)x[u * to->extent + u];
        *count += mt->activation_weight;
        tf_free(&mt->env->mem, x);
    }
    return TFUSE_OK;
}
