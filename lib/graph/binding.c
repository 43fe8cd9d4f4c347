/* SPDX-License-Identifier: Apache-2.0
 *
 * binding.c: bindings taken apart: visiting their ports, listing their parts, printing them.
 *
 * A part is a choice of one segment in every concatenation on the way: its factors are the leaves met, outermost first. A factor's
 * stride is the product of the extents to its right within its segment, times the stride of the concatenation that the
 * segment is in; a segment's offset is what lies before it, times that stride. The walk keeps the factors still to come in a
 * list of frames on the stack, so what follows a concatenation is visited once for each of its segments.
 */
#include "graph/build.h"

#include <string.h>

tfuse_status tf_binding_each_port(const tf_binding *b, tf_port_fn fn, void *arg)
{
    for (int s = 0; s < b->n_segments; s++)
        for (int i = 0; i < b->segments[s].n_factors; i++) {
            const tf_factor *f = &b->segments[s].factors[i];
            if (f->kind == TF_FACTOR_PORT)
                TF_TRY(fn(arg, f->port));
            else if (f->kind == TF_FACTOR_CONCAT)
                TF_TRY(tf_binding_each_port(f->concat, fn, arg));
        }
    return TFUSE_OK;
}

tfuse_status tf_binding_fixed(tf_env *env, tf_graph *g, int64_t extent, const tf_binding **out)
{
    struct fixed {
        tf_binding binding;
        tf_segment segment;
        tf_factor factor;
    } *f = tf_arena_alloc(env, &g->arena, sizeof *f);
    if (!f)
        return TFUSE_ENOMEM;
    f->factor = (tf_factor){TF_FACTOR_FIXED, -1, extent, NULL};
    f->segment = (tf_segment){"", &f->factor, 1, extent};
    f->binding = (tf_binding){&f->segment, 1, extent};
    *out = &f->binding;
    return TFUSE_OK;
}

/* ---- parts ---------------------------------------------------------------------------------------- */

/* Factors still to come: those of `segment` from `next`, then those of `up`. */
typedef struct frame {
    const tf_segment *segment;
    int next;
    int64_t scale;
    const struct frame *up;
} frame;

typedef struct walk {
    const tf_graph *g;
    tf_part part;                     /* as far as it has come */
    const char *labels[TF_MAX_DEPTH]; /* on the way */
    int n_labels;
    tf_part *out;                     /* NULL: count only */
    char *text;                       /* where the next label goes */
    int count;
    size_t text_size;
    bool fits;                        /* no part has too many factors, labels or parts */
} walk;

static size_t label_size(const walk *w)
{
    size_t size = 1;
    for (int i = 0; i < w->n_labels; i++)
        size += strlen(w->labels[i]) + (i > 0);
    return size;
}

static void write_label(walk *w)
{
    w->part.label = w->text;
    for (int i = 0; i < w->n_labels; i++) {
        if (i > 0)
            *w->text++ = '.';
        const size_t len = strlen(w->labels[i]);
        memcpy(w->text, w->labels[i], len);
        w->text += len;
    }
    *w->text++ = '\0';
}

static void emit(walk *w)
{
    w->text_size += label_size(w);
    if (w->out) {
        tf_part *p = &w->out[w->count];
        write_label(w);
        *p = w->part;
        p->size = 1;
        p->n_ports = 0;
        for (int i = 0; i < p->n_factors; i++) {
            p->size *= p->extent[i];
            p->n_ports += p->port[i] >= 0 && !w->g->ports[p->port[i]].pinned;
        }
    }
    w->count++;
}

static void walk_binding(walk *w, const tf_binding *b, int64_t stride, const frame *up);

static void walk_factors(walk *w, const frame *f)
{
    if (!f) {
        emit(w);
        return;
    }
    const tf_segment *s = f->segment;
    if (f->next == s->n_factors) {
        walk_factors(w, f->up);
        return;
    }
    int64_t stride = f->scale;
    for (int i = f->next + 1; i < s->n_factors; i++)
        stride *= s->factors[i].extent;
    const tf_factor *factor = &s->factors[f->next];
    const frame rest = {s, f->next + 1, f->scale, f->up};
    if (factor->kind == TF_FACTOR_CONCAT) {
        walk_binding(w, factor->concat, stride, &rest);
        return;
    }
    if (w->part.n_factors == TF_MAX_FACTORS) {
        w->fits = false;
        return;
    }
    const int i = w->part.n_factors++;
    w->part.port[i] = factor->kind == TF_FACTOR_PORT ? factor->port : -1;
    w->part.extent[i] = factor->extent;
    w->part.stride[i] = stride;
    walk_factors(w, &rest);
    w->part.n_factors--;
}

static void walk_binding(walk *w, const tf_binding *b, int64_t stride, const frame *up)
{
    const int64_t offset = w->part.offset;
    const int n_labels = w->n_labels;
    int64_t before = 0;
    for (int i = 0; i < b->n_segments && w->fits && w->count <= TF_MAX_PARTS; i++) {
        const tf_segment *s = &b->segments[i];
        const frame f = {s, 0, stride, up};
        w->part.offset = offset + before * stride;
        if (s->label[0]) {
            if (w->n_labels == TF_MAX_DEPTH) {
                w->fits = false;
                return;
            }
            w->labels[w->n_labels++] = s->label;
        }
        walk_factors(w, &f);
        w->n_labels = n_labels;
        before += s->extent;
    }
    w->part.offset = offset;
}

/* The parts and the text of their labels in one block, so that one tf_free releases both. */
tfuse_status tf_binding_parts(tf_env *env, const tf_graph *g, const tf_binding *b, tf_part **out, int *count)
{
    *out = NULL;
    *count = 0;
    if (!b) /* a dimension whose extent is known only when it runs */
        return TFUSE_OK;
    walk w = {.g = g, .fits = true};
    walk_binding(&w, b, 1, NULL);
    if (!w.fits || w.count > TF_MAX_PARTS)
        return tf_fail(env, TFUSE_EGRAPH, "a binding of more than %d parts, or of a part of more than %d factors", TF_MAX_PARTS,
                       TF_MAX_FACTORS);
    const size_t array = (size_t)w.count * sizeof(tf_part);
    tf_part *parts = tf_alloc(env, array + w.text_size);
    if (!parts)
        return TFUSE_ENOMEM;
    walk fill = {.g = g, .fits = true, .out = parts, .text = (char *)parts + array};
    walk_binding(&fill, b, 1, NULL);
    *out = parts;
    *count = w.count;
    return TFUSE_OK;
}

int64_t tf_part_index(const tf_part *part, int64_t u)
{
    int64_t index = part->offset;
    for (int i = part->n_factors - 1; i >= 0; i--) {
        index += u % part->extent[i] * part->stride[i];
        u /= part->extent[i];
    }
    return index;
}

bool tf_parts_cover(const tf_part *parts, int n, int64_t extent)
{
    for (int i = 0; i < n; i++)
        extent -= parts[i].size;
    return extent == 0;
}

bool tf_part_is_whole(const tf_part *part, int64_t extent)
{
    int64_t stride = 1;
    bool dense = part->size == extent && part->offset == 0;
    for (int i = part->n_factors - 1; i >= 0; i--) {
        dense &= part->stride[i] == stride;
        stride *= part->extent[i];
    }
    return dense;
}

/* ---- text -------------------------------------------------------------------------------------------- */

/* Classes carry the names once they are made. */
static const char *axis_name(const tf_graph *g, tf_id port)
{
    return g->finished ? g->class_name[g->class_of[port]] : g->ports[port].axis;
}

static tfuse_status factor_text(tf_env *env, const tf_graph *g, const tf_factor *f, tf_buf *out)
{
    if (f->kind == TF_FACTOR_PORT)
        return tf_buf_printf(env, out, "%s:%lld", axis_name(g, f->port), (long long)f->extent);
    if (f->kind == TF_FACTOR_FIXED)
        return tf_buf_printf(env, out, "%lld", (long long)f->extent);
    TF_TRY(tf_buf_add(env, out, "(", 1));
    TF_TRY(tf_binding_text(env, g, f->concat, out));
    return tf_buf_add(env, out, ")", 1);
}

tfuse_status tf_binding_text(tf_env *env, const tf_graph *g, const tf_binding *b, tf_buf *out)
{
    for (int i = 0; i < b->n_segments; i++) {
        const tf_segment *s = &b->segments[i];
        if (i > 0)
            TF_TRY(tf_buf_add(env, out, "|", 1));
        if (s->label[0])
            TF_TRY(tf_buf_printf(env, out, "%s=", s->label));
        for (int k = 0; k < s->n_factors; k++) {
            if (k > 0)
                TF_TRY(tf_buf_add(env, out, "*", 1));
            TF_TRY(factor_text(env, g, &s->factors[k], out));
        }
    }
    return TFUSE_OK;
}
