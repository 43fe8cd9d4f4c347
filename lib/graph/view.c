/* SPDX-License-Identifier: Apache-2.0
 *
 * view.c: logical tensors as a chain of passes sees them. A tensor is read from the level below and this level's steps are applied in
 * the order in which they were added; their operands are read from the level below too, so no step sees another tensor's
 * change of the same level. Recursion is as deep as the chain is long.
 *
 * An alias has no steps of its own: it reads as its target.
 */
#include "graph/view.h"
#include "graph/build.h"

#include <string.h>

static tfuse_status new_view(tf_env *env, const tf_graph *g, const tfuse_model *m, const tf_view *base, const char *pass,
                             tf_view **out)
{
    *out = NULL;
    if (!g->finished)
        return tf_fail(env, TFUSE_ESTATE, "the graph is not finished");
    tf_view *v = tf_calloc(env, 1, sizeof *v);
    if (!v)
        return TFUSE_ENOMEM;
    v->mem = env->mem;
    v->g = g;
    v->m = m;
    v->base = base;
    tf_arena_init(&v->arena, &env->mem);
    v->pass = tf_arena_strdup(env, &v->arena, pass);
    v->steps = tf_arena_array(env, &v->arena, g->n_params, sizeof *v->steps);
    if (!v->pass || !v->steps) {
        tf_view_free(v);
        return TFUSE_ENOMEM;
    }
    *out = v;
    return TFUSE_OK;
}

tfuse_status tf_view_root(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_view **out)
{
    return new_view(env, g, m, NULL, "", out);
}

tfuse_status tf_view_above(tf_env *env, const tf_view *base, const char *pass, tf_view **out)
{
    return new_view(env, base->g, base->m, base, pass, out);
}

void tf_view_free(tf_view *v)
{
    if (!v)
        return;
    tf_mem mem = v->mem;
    tf_arena_free(&v->arena);
    tf_free(&mem, v);
}

/* ---- adding steps -------------------------------------------------------------------------------------- */

/* Whether the operands of a step fit the tensor. */
static bool fits(const tf_graph *g, const tf_param *p, const tf_step *s)
{
    const bool along = s->dim >= 0 && s->dim < p->rank;
    switch (s->kind) {
    case TF_STEP_SCALE:
        return along && s->operand >= 0 && tf_param_count(&g->params[s->operand]) == p->shape[s->dim];
    case TF_STEP_CENTRE:
        return along;
    case TF_STEP_FILL:
        return true;
    case TF_STEP_ADD_PRODUCT: {
        if (s->operand < 0 || s->matrix < 0 || g->params[s->matrix].rank < 2)
            return false;
        const tf_param *w = &g->params[s->matrix];
        return w->shape[0] == tf_param_count(p) &&
               tf_param_count(w) == w->shape[0] * tf_param_count(&g->params[s->operand]);
    }
    case TF_STEP_NONE:
        break;
    }
    return false;
}

tfuse_status tf_view_add(tf_env *env, tf_view *v, tf_id param, const tf_step *step)
{
    const tf_id target = tf_param_target(v->g, param);
    if (!fits(v->g, &v->g->params[target], step))
        return tf_fail(env, TFUSE_EINTERNAL, "pass '%s': step %d does not fit tensor '%s'", v->pass, (int)step->kind,
                       v->g->params[target].name);
    tf_step *copy = tf_arena_alloc(env, &v->arena, sizeof *copy);
    if (!copy)
        return TFUSE_ENOMEM;
    *copy = *step;
    copy->next = NULL;
    tf_step **last = &v->steps[target];
    while (*last)
        last = &(*last)->next;
    *last = copy;
    return TFUSE_OK;
}

/* ---- evaluating ------------------------------------------------------------------------------------------ */

/* A tensor along a dimension: outer × n × inner. */
typedef struct along {
    int64_t outer, n, inner;
} along;

static along along_dim(const tf_param *p, int dim)
{
    along a = {1, p->shape[dim], 1};
    for (int i = 0; i < dim; i++)
        a.outer *= p->shape[i];
    for (int i = dim + 1; i < p->rank; i++)
        a.inner *= p->shape[i];
    return a;
}

static void scale(float *x, along a, const float *factor)
{
    for (int64_t o = 0; o < a.outer; o++)
        for (int64_t i = 0; i < a.n; i++)
            for (int64_t k = 0; k < a.inner; k++)
                x[(o * a.n + i) * a.inner + k] *= factor[i];
}

/* Columns in blocks, so that a matrix is walked along its rows. */
static void centre(float *x, along a)
{
    enum { BLOCK = 64 };
    for (int64_t o = 0; o < a.outer; o++)
        for (int64_t first = 0; first < a.inner; first += BLOCK) {
            const int64_t width = a.inner - first < BLOCK ? a.inner - first : BLOCK;
            float *base = x + o * a.n * a.inner + first;
            double mean[BLOCK] = {0};
            for (int64_t i = 0; i < a.n; i++)
                for (int64_t k = 0; k < width; k++)
                    mean[k] += (double)base[i * a.inner + k];
            for (int64_t k = 0; k < width; k++)
                mean[k] /= (double)a.n;
            for (int64_t i = 0; i < a.n; i++)
                for (int64_t k = 0; k < width; k++)
                    base[i * a.inner + k] = (float)((double)base[i * a.inner + k] - mean[k]);
        }
}

static void add_product(float *x, int64_t rows, const float *w, const float *vector, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < cols; c++)
            sum += (double)w[r * cols + c] * (double)vector[c];
        x[r] = (float)((double)x[r] + sum);
    }
}

static tfuse_status read_below(tf_env *env, const tf_view *v, tf_id param, float *dst)
{
    return v->base ? tf_view_read(env, v->base, param, dst) : tf_param_read(env, v->g, v->m, param, dst);
}

/* Reads an operand from the level below into new memory; a step without one leaves NULL. */
static tfuse_status load_below(tf_env *env, const tf_view *v, bool wanted, tf_id param, float **out)
{
    *out = NULL;
    if (!wanted)
        return TFUSE_OK;
    *out = tf_alloc_array(env, (size_t)tf_param_count(&v->g->params[param]), sizeof **out);
    return *out ? read_below(env, v, param, *out) : TFUSE_ENOMEM;
}

static tfuse_status apply(tf_env *env, const tf_view *v, const tf_param *p, const tf_step *s, float *x)
{
    const bool product = s->kind == TF_STEP_ADD_PRODUCT;
    float *operand = NULL, *matrix = NULL;
    tfuse_status status;
    TF_TRY_OUT(load_below(env, v, product || s->kind == TF_STEP_SCALE, s->operand, &operand));
    TF_TRY_OUT(load_below(env, v, product, s->matrix, &matrix));
    switch (s->kind) {
    case TF_STEP_SCALE:
        scale(x, along_dim(p, s->dim), operand);
        break;
    case TF_STEP_CENTRE:
        centre(x, along_dim(p, s->dim));
        break;
    case TF_STEP_FILL:
        for (int64_t i = 0; i < tf_param_count(p); i++)
            x[i] = (float)s->value;
        break;
    case TF_STEP_ADD_PRODUCT:
        add_product(x, tf_param_count(p), matrix, operand, tf_param_count(&v->g->params[s->operand]));
        break;
    case TF_STEP_NONE:
        break;
    }
out:
    tf_free(&env->mem, operand);
    tf_free(&env->mem, matrix);
    return status;
}

tfuse_status tf_view_read(tf_env *env, const tf_view *v, tf_id param, float *dst)
{
    const tf_id target = tf_param_target(v->g, param);
    const tf_step *s = v->steps[target];
    if (!s || s->kind != TF_STEP_FILL)
        TF_TRY(read_below(env, v, target, dst));
    for (; s; s = s->next)
        TF_TRY(apply(env, v, &v->g->params[target], s, dst));
    return TFUSE_OK;
}

tfuse_status tf_view_load(tf_env *env, const tf_view *v, tf_id param, float **out)
{
    *out = tf_alloc_array(env, (size_t)tf_param_count(&v->g->params[param]), sizeof **out);
    if (!*out)
        return TFUSE_ENOMEM;
    tfuse_status status = tf_view_read(env, v, param, *out);
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *out);
        *out = NULL;
    }
    return status;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

/* A step that takes each row by itself. */
static bool row_by_row(const tf_step *s)
{
    return s->kind == TF_STEP_FILL || ((s->kind == TF_STEP_SCALE || s->kind == TF_STEP_CENTRE) && s->dim > 0);
}

bool tf_view_has_rows(const tf_view *v, tf_id param)
{
    const tf_id target = tf_param_target(v->g, param);
    for (const tf_step *s = v->steps[target]; s; s = s->next)
        if (!row_by_row(s))
            return false;
    return v->base ? tf_view_has_rows(v->base, target) : tf_param_has_rows(v->g, target);
}

tfuse_status tf_view_read_rows(tf_env *env, const tf_view *v, tf_id param, const int64_t *rows, int64_t n, float *dst)
{
    const tf_id target = tf_param_target(v->g, param);
    tf_param part = v->g->params[target];
    part.shape[0] = n;
    if (v->base)
        TF_TRY(tf_view_read_rows(env, v->base, target, rows, n, dst));
    else
        TF_TRY(tf_param_read_rows(env, v->g, v->m, target, rows, n, dst));
    for (const tf_step *s = v->steps[target]; s; s = s->next)
        TF_TRY(apply(env, v, &part, s, dst));
    return TFUSE_OK;
}
