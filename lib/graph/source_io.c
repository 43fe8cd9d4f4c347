/* SPDX-License-Identifier: Apache-2.0
 *
 * source_io.c: elements between logical tensors and stored ones, both ways.
 *
 * A leaf is walked by rows along its last dimension. In the stored tensor a row is contiguous, since a slice cuts whole runs out of
 * the elements in order; in the logical tensor it lies at the piece's offset and strides. A term of a sum after the first is added
 * when read and zero when written, so what is written reads back as it was.
 */
#include "graph/build.h"
#include "num/num.h"

#include <string.h>

/* A leaf as rows: `len` elements at distance `step` in the logical tensor. */
typedef struct rows {
    int64_t count, len, step;
    int rank;
    const int64_t *extent, *stride; /* of the other dimensions */
} rows;

static rows rows_of(const tf_piece *p)
{
    const tf_source *s = p->source;
    rows r = {1, 1, 1, s->rank > 0 ? s->rank - 1 : 0, s->shape, p->stride};
    if (s->rank > 0) {
        r.len = s->shape[r.rank];
        r.step = p->stride[r.rank];
    }
    for (int i = 0; i < r.rank; i++)
        r.count *= s->shape[i];
    return r;
}

/* Where a row begins in the logical tensor. */
static int64_t row_offset(const rows *r, const tf_piece *p, int64_t row)
{
    int64_t offset = p->offset;
    for (int i = r->rank - 1; i >= 0; i--) {
        offset += row % r->extent[i] * r->stride[i];
        row /= r->extent[i];
    }
    return offset;
}

/* The leaf's elements in order are runs of `len` of the stored ones, each `step` after the other, the first at `first`. */
typedef struct runs {
    int64_t count, len, step, first;
} runs;

static runs runs_of(const tf_source *s)
{
    runs r = {1, 1, 0, 0};
    if (s->kind == TF_SOURCE_STORED) {
        for (int i = 0; i < s->rank; i++)
            r.len *= s->shape[i];
        return r;
    }
    int64_t inner = 1;
    for (int i = 0; i < s->stored_rank; i++)
        inner *= s->stored_shape[i];
    for (int i = 0; i < s->dim; i++)
        r.count *= s->stored_shape[i];
    r.count *= s->blocks;
    inner /= r.count * s->extent;
    r.len = s->count * inner;
    r.step = s->extent * inner;
    r.first = s->first * inner;
    return r;
}

/* ---- reading ----------------------------------------------------------------------------------------- */

typedef struct reader {
    tf_env *env;
    const tfuse_model *m;
    float *dst;
} reader;

static tfuse_status find_stored(const reader *r, const tf_source *s, const tf_tensor **out)
{
    const tf_tensor *t = tf_model_find(r->m, s->stored);
    if (!t)
        return tf_fail(r->env, TFUSE_ENOTFOUND, "%s: there is no tensor '%s'", tf_model_label(r->m), s->stored);
    if (t->rank != s->stored_rank || memcmp(t->shape, s->stored_shape, (size_t)t->rank * sizeof *t->shape) != 0)
        return tf_fail(r->env, TFUSE_ESHAPE, "%s: tensor '%s' has not the shape that the graph needs", tf_tensor_file(r->m, t),
                       s->stored);
    *out = t;
    return TFUSE_OK;
}

/* The leaf's elements in order. */
static tfuse_status read_leaf(const reader *r, const tf_source *s, float *dst)
{
    const tf_tensor *t;
    TF_TRY(find_stored(r, s, &t));
    const runs run = runs_of(s);
    for (int64_t i = 0; i < run.count; i++)
        TF_TRY(tf_tensor_read_part(r->env, r->m, t, (uint64_t)(run.first + i * run.step), (uint64_t)run.len, dst + i * run.len));
    return TFUSE_OK;
}

static void place(const tf_piece *p, const float *leaf, float *logical)
{
    const rows r = rows_of(p);
    for (int64_t row = 0; row < r.count; row++, leaf += r.len) {
        float *dst = logical + row_offset(&r, p, row);
        if (p->zero)
            for (int64_t i = 0; i < r.len; i++)
                dst[i * r.step] += leaf[i];
        else
            for (int64_t i = 0; i < r.len; i++)
                dst[i * r.step] = leaf[i];
    }
}

/* True when the leaf's elements in order lie side by side in the logical tensor. */
static bool is_contiguous(const tf_piece *p)
{
    int64_t stride = 1;
    for (int i = p->source->rank - 1; i >= 0; i--) {
        if (p->stride[i] != stride)
            return false;
        stride *= p->source->shape[i];
    }
    return true;
}

static tfuse_status read_piece(void *arg, const tf_piece *p)
{
    const reader *r = arg;
    if (p->copy)
        return TFUSE_OK;
    if (!p->zero && is_contiguous(p))
        return read_leaf(r, p->source, r->dst + p->offset);
    int64_t count = 1;
    for (int i = 0; i < p->source->rank; i++)
        count *= p->source->shape[i];
    float *leaf = tf_alloc_array(r->env, (size_t)count, sizeof *leaf);
    if (!leaf)
        return TFUSE_ENOMEM;
    tfuse_status status = read_leaf(r, p->source, leaf);
    if (status == TFUSE_OK)
        place(p, leaf, r->dst);
    tf_free(&r->env->mem, leaf);
    return status;
}

tfuse_status tf_param_read(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_id param, float *dst)
{
    const tf_id target = tf_param_target(g, param);
    reader r = {env, m, dst};
    TF_TRY(tf_param_each_piece(g, target, read_piece, &r));
    if (g->params[target].source->kind == TF_SOURCE_STORED || g->params[target].source->kind == TF_SOURCE_SLICE)
        return TFUSE_OK;
    const int64_t bad = tf_find_nonfinite(dst, (size_t)tf_param_count(&g->params[target])); /* a sum may overflow */
    return bad < 0 ? TFUSE_OK
                   : tf_fail(env, TFUSE_ENUMERIC, "%s: tensor '%s': element %lld of its parts' sum is infinite",
                             tf_model_label(m), g->params[param].name, (long long)bad);
}

bool tf_param_has_rows(const tf_graph *g, tf_id param)
{
    const tf_param *p = &g->params[tf_param_target(g, param)];
    return p->rank >= 2 && p->source && p->source->kind == TF_SOURCE_STORED;
}

tfuse_status tf_param_read_rows(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_id param, const int64_t *which, int64_t n,
                                float *dst)
{
    const tf_param *p = &g->params[tf_param_target(g, param)];
    const int64_t len = tf_param_count(p) / p->shape[0];
    const reader r = {env, m, dst};
    const tf_tensor *t;
    TF_TRY(find_stored(&r, p->source, &t));
    for (int64_t i = 0, end; i < n; i = end) { /* neighbours at once */
        for (end = i + 1; end < n && which[end] == which[end - 1] + 1;)
            end++;
        TF_TRY(tf_tensor_read_part(env, m, t, (uint64_t)(which[i] * len), (uint64_t)((end - i) * len), dst + i * len));
    }
    return TFUSE_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

void tf_piece_scatter(const tf_graph *g, const tf_piece *piece, const float *logical, float *stored)
{
    (void)g;
    const rows r = rows_of(piece);
    const runs run = runs_of(piece->source);
    for (int64_t row = 0; row < r.count; row++) {
        const int64_t element = row * r.len; /* of the leaf */
        const float *src = logical + row_offset(&r, piece, row);
        for (int64_t i = 0, end; i < r.len; i = end) { /* a row may go over several runs */
            const int64_t at = element + i, rest = run.len - at % run.len;
            float *dst = stored + run.first + at / run.len * run.step + at % run.len;
            end = i + rest < r.len ? i + rest : r.len;
            for (int64_t k = i; k < end; k++)
                dst[k - i] = piece->zero ? 0.0f : src[k * r.step];
        }
    }
}
