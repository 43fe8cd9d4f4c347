/* SPDX-License-Identifier: Apache-2.0
 *
 * stored.c: the stored tensors that a graph needs, and the check of a model against them.
 *
 * Two logical tensors may be slices of one stored tensor, but no element may belong to two of them (an alias says that it does) and none
 * to nobody (it would be lost in what is written): slices of one tensor are along one dimension and tile it.
 */
#include "graph/build.h"
#include "num/array.h"
#include "num/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SHOWN = 160, LINE_SHOWN = 640 };

/* ---- the index ------------------------------------------------------------------------------------ */

typedef struct indexer {
    tf_env *env;
    tf_graph *g;
    size_t cap;
} indexer;

static tfuse_status conflict(tf_env *env, const tf_graph *g, const tf_stored *s, const tf_piece *p, const char *what)
{
    return tf_fail(env, TFUSE_EGRAPH, "tensor '%s' is stored in '%s', %s", g->params[p->param].name, s->name, what);
}

/* Makes the entry of a leaf's stored tensor, or checks that it has the same shape as before, and counts the leaf. */
static tfuse_status count_piece(void *arg, const tf_piece *p)
{
    indexer *x = arg;
    tf_graph *g = x->g;
    const tf_source *s = p->source;
    int64_t i = -1;
    TF_TRY(tf_strmap_put(x->env, &g->stored_index, s->stored, (int64_t)g->n_stored, &i));
    if (i < 0) {
        void *grown = tf_graph_grow(x->env, g, g->stored, &x->cap, g->n_stored + 1, sizeof *g->stored);
        if (!grown)
            return TFUSE_ENOMEM;
        g->stored = grown;
        tf_stored *t = &g->stored[g->n_stored++];
        t->name = s->stored;
        t->rank = s->stored_rank;
        memcpy(t->shape, s->stored_shape, sizeof t->shape);
        t->n_pieces = 1;
        return TFUSE_OK;
    }
    tf_stored *t = &g->stored[i];
    if (t->rank != s->stored_rank || memcmp(t->shape, s->stored_shape, sizeof t->shape) != 0)
        return conflict(x->env, g, t, p, "which another tensor takes to be of another shape");
    t->n_pieces++;
    return TFUSE_OK;
}

static tfuse_status add_piece(void *arg, const tf_piece *p)
{
    indexer *x = arg;
    tf_stored *t = &x->g->stored[tf_strmap_get(&x->g->stored_index, p->source->stored)];
    t->pieces[t->n_pieces++] = *p;
    return TFUSE_OK;
}

static int by_first(const void *a, const void *b)
{
    const tf_piece *x = a, *y = b;
    return (x->source->first > y->source->first) - (x->source->first < y->source->first);
}

static bool cut_alike(const tf_source *a, const tf_source *b)
{
    return a->dim == b->dim && a->blocks == b->blocks && a->extent == b->extent;
}

static tfuse_status check_tiling(tf_env *env, const tf_graph *g, tf_stored *t)
{
    if (t->n_pieces == 1 && t->pieces[0].source->kind == TF_SOURCE_STORED)
        return TFUSE_OK;
    qsort(t->pieces, (size_t)t->n_pieces, sizeof *t->pieces, by_first);
    int64_t end = 0;
    for (int i = 0; i < t->n_pieces; i++) {
        const tf_piece *p = &t->pieces[i];
        const tf_source *s = p->source;
        if (s->kind != TF_SOURCE_SLICE || s->first < end || !cut_alike(s, t->pieces[0].source))
            return conflict(env, g, t, p, "as another tensor is; write alias(...) where they are one");
        if (s->first > end)
            return conflict(env, g, t, p, "but what lies before it belongs to no tensor");
        end += s->count;
    }
    const tf_piece *last = &t->pieces[t->n_pieces - 1];
    return end == last->source->extent ? TFUSE_OK
                                              : conflict(env, g, t, last, "but what lies behind it belongs to no tensor");
}

tfuse_status tf_graph_index_stored(tf_env *env, tf_graph *g)
{
    indexer x = {env, g, 0};
    for (size_t i = 0; i < g->n_params; i++)
        TF_TRY(tf_param_each_piece(g, (tf_id)i, count_piece, &x));
    for (size_t i = 0; i < g->n_stored; i++) {
        tf_stored *t = &g->stored[i];
        t->pieces = tf_arena_array(env, &g->arena, (size_t)t->n_pieces, sizeof *t->pieces);
        if (!t->pieces)
            return TFUSE_ENOMEM;
        t->n_pieces = 0;
    }
    for (size_t i = 0; i < g->n_params; i++)
        TF_TRY(tf_param_each_piece(g, (tf_id)i, add_piece, &x));
    for (size_t i = 0; i < g->n_stored; i++)
        TF_TRY(check_tiling(env, g, &g->stored[i]));
    return TFUSE_OK;
}

tfuse_status tf_stored_pieces(tf_env *env, const tf_graph *g, const char *stored, tf_piece **out, int *count)
{
    const int64_t i = tf_strmap_get(&g->stored_index, stored);
    *count = i < 0 ? 0 : g->stored[i].n_pieces;
    *out = tf_alloc_array(env, (size_t)*count, sizeof **out);
    if (!*out)
        return TFUSE_ENOMEM;
    if (*count)
        memcpy(*out, g->stored[i].pieces, (size_t)*count * sizeof **out);
    return TFUSE_OK;
}

/* ---- checking a model -------------------------------------------------------------------------------- */

static bool matches(const char *pattern, const char *name)
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return strcmp(pattern, name) == 0;
    const size_t head = (size_t)(star - pattern), tail = strlen(star + 1), len = strlen(name);
    return len >= head + tail && memcmp(pattern, name, head) == 0 && memcmp(star + 1, name + len - tail, tail) == 0;
}

bool tf_graph_is_buffer(const tf_graph *g, const char *stored)
{
    for (size_t i = 0; i < g->n_buffers; i++)
        if (matches(g->buffers[i], stored))
            return true;
    return false;
}

static bool is_float(tfuse_dtype t)
{
    return t == TFUSE_F32 || t == TFUSE_F16 || t == TFUSE_BF16 || t == TFUSE_F64;
}

typedef struct problem {
    tfuse_status status; /* TFUSE_OK: none */
    char line[LINE_SHOWN];
} problem;

static problem check_stored(const tf_graph *g, const tfuse_model *m, size_t index)
{
    problem p = {TFUSE_OK, ""};
    const tf_stored *s = &g->stored[index];
    const tf_tensor *t = tf_model_find(m, s->name);
    const char *who = m->config ? "config.json" : "the graph";
    char want[NAME_SHOWN], got[NAME_SHOWN];
    tf_shape_text(want, sizeof want, (size_t)s->rank, s->shape);
    if (!t) {
        p.status = TFUSE_ENOTFOUND;
        snprintf(p.line, sizeof p.line, "%s: there is no tensor '%s'; %s asks for it, with shape %s", tf_model_label(m), s->name,
                 who, want);
    } else if (t->rank != s->rank || memcmp(t->shape, s->shape, (size_t)s->rank * sizeof *s->shape) != 0) {
        p.status = TFUSE_ESHAPE;
        snprintf(p.line, sizeof p.line, "%s: tensor '%s' has shape %s, %s asks for %s", tf_tensor_file(m, t), s->name,
                 tf_shape_text(got, sizeof got, (size_t)t->rank, t->shape), who, want);
    } else if (!is_float(t->dtype)) {
        p.status = TFUSE_EDTYPE;
        snprintf(p.line, sizeof p.line, "%s: tensor '%s' is of type %s; a weight must be F32, F16, BF16 or F64",
                 tf_tensor_file(m, t), s->name, tf_dtype_name(t->dtype));
    }
    return p;
}

static problem check_extra(const tf_graph *g, const tfuse_model *m, size_t index)
{
    problem p = {TFUSE_OK, ""};
    const tf_tensor *t = &m->tensors[index];
    char name[NAME_SHOWN];
    if (tf_strmap_get(&g->stored_index, t->name) >= 0 || tf_graph_is_buffer(g, t->name))
        return p;
    p.status = TFUSE_EFORMAT;
    snprintf(p.line, sizeof p.line, "%s: tensor '%s' is not part of %s%s%s; remove it or set io.extra=copy",
             tf_tensor_file(m, t), tf_printable(name, sizeof name, t->name), g->arch[0] ? "a " : "the graph",
             g->arch, g->arch[0] ? " model" : "");
    return p;
}

/* Problem `index` of the stored tensors, then of the model's. */
static problem check_at(const tf_graph *g, const tfuse_model *m, size_t index)
{
    return index < g->n_stored ? check_stored(g, m, index) : check_extra(g, m, index - g->n_stored);
}

tfuse_status tf_graph_check_model(tf_env *env, const tf_graph *g, const tfuse_model *m, bool extra_copy)
{
    const size_t count = g->n_stored + (extra_copy ? 0 : m->count);
    for (size_t i = 0; i < count; i++) {
        const problem p = check_at(g, m, i);
        if (p.status != TFUSE_OK)
            return tf_fail(env, p.status, "%s", p.line);
    }
    return TFUSE_OK;
}

tfuse_status tf_graph_list_problems(tf_env *env, const tf_graph *g, const tfuse_model *m, bool extra_copy, tf_buf *out)
{
    const size_t count = g->n_stored + (extra_copy ? 0 : m->count);
    for (size_t i = 0; i < count; i++) {
        const problem p = check_at(g, m, i);
        if (p.status != TFUSE_OK)
            TF_TRY(tf_buf_printf(env, out, "%s\n", p.line));
    }
    return TFUSE_OK;
}
