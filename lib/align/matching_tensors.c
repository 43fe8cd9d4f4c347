/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_tensors.c: tensors of both models, balanced. The model's lie in its own layout, with its own extents, until maps bring them to the
 * anchor's, dimension by dimension; the dimension whose map is sought stays as it is, and its blocks are looked up through the maps around.
 *
 * With more than two models the anchor's side is the mean of the anchor and of what all other models are carried to: maximising each model's agreement
 * with that in turn maximises the sum of all pairs' (generalised Procrustes analysis: Gower 1975). The anchor's own map stays the identity, which takes
 * nothing away: agreement does not change when all models are moved alike.
 */
#include "align/carry.h"
#include "align/matching.h"
#include "graph/op.h"
#include <string.h>

/* A tensor on its way: from the layout of one graph's parameter to that of another's, by maps of classes. */
typedef struct route {
    const tf_graph *of, *g;
    const tf_param *from, *to;
    const tf_class_map *maps;
} route;

static size_t count_of(int rank, const int64_t *shape)
{
    size_t count = 1;
    for (int d = 0; d < rank; d++)
        count *= (size_t)shape[d];
    return count;
}

static bool same_part(const tf_part *a, const tf_part *b)
{
    bool same = a->n_factors == b->n_factors && a->offset == b->offset;
    for (int f = 0; same && f < a->n_factors; f++)
        same = a->extent[f] == b->extent[f] && a->stride[f] == b->stride[f];
    return same;
}

/* Moves dimension `dim` of x, of extents `shape`; both are replaced. Where nothing moves nothing is done. */
static tfuse_status carry_dim(tf_env *env, const route *r, int dim, int64_t *shape, float **x)
{
    tf_part *src = NULL, *dst = NULL;
    int n_src = 0, n_dst = 0;
    float *moved = NULL;
    tfuse_status status = tf_binding_parts(env, r->of, r->from->dims[dim], &src, &n_src);
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, r->g, r->to->dims[dim], &dst, &n_dst);
    bool stays = status == TFUSE_OK && r->from->shape[dim] == r->to->shape[dim];
    for (int i = 0; i < n_dst && i < n_src && stays; i++)
        stays = same_part(&src[i], &dst[i]) && !tf_class_moves(r->g, r->maps, &dst[i]);
    if (status == TFUSE_OK && !stays && !(moved = tf_calloc(env, count_of(r->to->rank, shape) / (size_t)shape[dim] * (size_t)r->to->shape[dim], sizeof *moved)))
        status = TFUSE_ENOMEM;
    for (int i = 0; i < n_dst && i < n_src && status == TFUSE_OK && !stays; i++) {
        tf_map *map = NULL;
        if (tf_class_moves(r->g, r->maps, &dst[i]))
            status = tf_class_part_map(env, r->g, r->maps, &src[i], &dst[i], &map);
        if (status == TFUSE_OK)
            status = tf_carry_part(env, map, tf_part_use(r->g, r->to, dim, &dst[i]), r->to->use[dim] != TF_USE_CONSUMED, *x, r->to->rank,
                                   shape, dim, &src[i], &dst[i], r->to->shape[dim], moved);
        tf_map_free(map);
    }
    tf_free(&env->mem, src);
    tf_free(&env->mem, dst);
    if (status != TFUSE_OK) {
        tf_free(&env->mem, moved);
    } else if (!stays) {
        tf_free(&env->mem, *x);
        *x = moved;
        shape[dim] = r->to->shape[dim];
    }
    return status;
}

const tf_param *mt_param(const matching *mt, int side, tf_id param)
{
    return &mt->side[side].g->params[mt->side[side].param[param]];
}

/* ---- balanced tensors, kept as far as there is room ---- */

static tfuse_status load_own(matching *mt, int side, tf_id param, float **x)
{
    const mt_model *m = &mt->side[side];
    const tf_param *p = mt_param(mt, side, param);
    const route own = {m->g, m->g, p, p, m->balance};
    int64_t shape[TF_MAX_PARAM_RANK];
    memcpy(shape, p->shape, sizeof shape);
    tfuse_status status = tf_view_load(mt->env, m->view, m->param[param], x);
    for (int d = 0; d < p->rank && status == TFUSE_OK; d++)
        status = carry_dim(mt->env, &own, d, shape, x);
    if (status != TFUSE_OK) {
        tf_free(&mt->env->mem, *x);
        *x = NULL;
    }
    return status;
}

/* x, the anchor's, becomes the mean of all models' but this one's. */
static tfuse_status add_peers(matching *mt, tf_id param, float *x)
{
    const size_t count = (size_t)tf_param_count(&mt->g->params[param]);
    const float share = 1 / (float)(mt->n_peers + 1);
    for (size_t k = 0; k < mt->n_peers; k++) {
        float *y = NULL;
        TF_TRY(mt_moved(mt->peers[k], param, -1, &y));
        for (size_t i = 0; i < count; i++)
            x[i] += y[i];
        tf_free(&mt->env->mem, y);
    }
    for (size_t i = 0; i < count && mt->n_peers; i++)
        x[i] *= share;
    return TFUSE_OK;
}

static tfuse_status load(matching *mt, int side, tf_id param, float **x)
{
    TF_TRY(load_own(mt, side, param, x));
    const tfuse_status status = side == MT_ANCHOR ? add_peers(mt, param, *x) : TFUSE_OK;
    if (status != TFUSE_OK) {
        tf_free(&mt->env->mem, *x);
        *x = NULL;
    }
    return status;
}

uint64_t mt_held_bytes(const matching *mt)
{
    uint64_t all = 0;
    for (size_t p = 0; p < mt->g->n_params; p++)
        all += (uint64_t)tf_param_count(mt_param(mt, MT_MODEL, (tf_id)p)) * sizeof(float);
    return (all <= MT_HELD_BYTES ? MT_HELD_BYTES : MT_HELD_OF_LARGE) / (mt->job->n - 1);
}

tfuse_status mt_take(matching *mt, int side, tf_id param, float **x)
{
    mt_model *m = &mt->side[side];
    const uint64_t bytes = (uint64_t)tf_param_count(mt_param(mt, side, param)) * sizeof(float);
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

void mt_forget_held(matching *mt, int side)
{
    mt_model *m = &mt->side[side];
    for (size_t p = 0; m->held && p < mt->g->n_params; p++) {
        tf_free(&mt->env->mem, m->held[p]);
        m->held[p] = NULL;
    }
    m->bytes = 0;
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
        mt_forget_held(mt, s);
        tf_free(&mt->env->mem, m->held);
        if (s)
            mt_forget_streams(mt);
        tf_free(&mt->env->mem, m->streamed);
        tf_free(&mt->env->mem, m->param);
        tf_class_maps_free(mt->env, mt->side[s].g, m->balance);
    }
}

/* ---- carried ones ---- */

bool mt_is_stream_dim(const matching *mt, const tf_binding *b)
{
    const tf_segment *s = &b->segments[0];
    const tf_id port = b->n_segments == 1 && s->n_factors == 1 && s->factors[0].kind == TF_FACTOR_PORT ? s->factors[0].port : -1;
    return port >= 0 && mt->classes[tf_class_of(mt->g, port)].stream;
}

static route route_of(const matching *mt, tf_id param)
{
    return (route){mt->side[MT_MODEL].g, mt->g, mt_param(mt, MT_MODEL, param), &mt->g->params[param], mt->maps};
}

/* A copy of the model's balanced tensor with the dimensions that are streams' moved; `shape` becomes its extents. */
static tfuse_status take_streamed(matching *mt, tf_id param, int64_t *shape, float **x)
{
    mt_model *m = &mt->side[MT_MODEL];
    const route r = route_of(mt, param);
    float *kept = NULL;
    memcpy(shape, r.from->shape, TF_MAX_PARAM_RANK * sizeof *shape);
    for (int d = 0; d < r.to->rank && m->streamed[param]; d++)
        shape[d] = mt_is_stream_dim(mt, r.to->dims[d]) ? r.to->shape[d] : shape[d];
    const bool has = m->streamed[param] != NULL;
    const size_t was = count_of(r.to->rank, shape);
    tfuse_status status = (*x = tf_alloc_array(mt->env, was, sizeof **x)) ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && !has)
        status = mt_take(mt, MT_MODEL, param, &kept);
    if (status == TFUSE_OK)
        memcpy(*x, has ? m->streamed[param] : kept, was * sizeof **x);
    if (kept)
        mt_give(mt, MT_MODEL, param, kept);
    for (int d = 0; d < r.to->rank && status == TFUSE_OK && !has; d++)
        if (mt_is_stream_dim(mt, r.to->dims[d]))
            status = carry_dim(mt->env, &r, d, shape, x);
    const size_t count = count_of(r.to->rank, shape), bytes = count * sizeof **x;
    if (status == TFUSE_OK && !has && m->streamed_bytes + bytes <= mt_held_bytes(mt) &&
        (m->streamed[param] = tf_alloc_array(mt->env, count, sizeof **x))) {
        memcpy(m->streamed[param], *x, bytes);
        m->streamed_bytes += bytes;
    }
    return status;
}

static tfuse_status take_copy(matching *mt, tf_id param, int64_t *shape, float **x)
{
    const tf_param *p = mt_param(mt, MT_MODEL, param);
    float *kept = NULL;
    memcpy(shape, p->shape, TF_MAX_PARAM_RANK * sizeof *shape);
    TF_TRY(mt_take(mt, MT_MODEL, param, &kept));
    if ((*x = tf_alloc_array(mt->env, (size_t)tf_param_count(p), sizeof **x)))
        memcpy(*x, kept, (size_t)tf_param_count(p) * sizeof **x);
    mt_give(mt, MT_MODEL, param, kept);
    return *x ? TFUSE_OK : TFUSE_ENOMEM;
}

tfuse_status mt_moved(matching *mt, tf_id param, int dim, float **x)
{
    const tf_param *p = &mt->g->params[param];
    const route r = route_of(mt, param);
    const bool of_stream = dim >= 0 && mt_is_stream_dim(mt, p->dims[dim]);
    int64_t shape[TF_MAX_PARAM_RANK];
    *x = NULL;
    tfuse_status status = of_stream ? take_copy(mt, param, shape, x) : take_streamed(mt, param, shape, x);
    for (int d = 0; d < p->rank && status == TFUSE_OK; d++)
        if (d != dim && (of_stream || !mt_is_stream_dim(mt, p->dims[d])))
            status = carry_dim(mt->env, &r, d, shape, x);
    if (status != TFUSE_OK) {
        tf_free(&mt->env->mem, *x);
        *x = NULL;
    }
    return status;
}
