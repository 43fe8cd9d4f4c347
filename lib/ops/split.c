/* SPDX-License-Identifier: Apache-2.0
 *
 * split.c: the labelled part of a fused value, such as q of `q=heads:4*k:16|k=...|v=...` or of `heads:4*(q=k:16|k=...|v=...)`. The output's
 * factors are the part's, so it shares the ports. A label inside a labelled segment is written with a dot: a.q.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

#define MAX_LEVELS 4

/* Where the part lies: `run` contiguous units at offset + sum i_l * stride_l, outermost level first. */
typedef struct selection {
    tf_factor factors[TF_MAX_FACTORS];
    int n_factors;
    int64_t offset, run;
    int64_t count[MAX_LEVELS], stride[MAX_LEVELS];
    int n_levels;
} selection;

/* What is left of a label inside a segment: itself if the segment has none, what follows the dot, or NULL. */
static const char *inside(const tf_segment *s, const char *label)
{
    const size_t length = strlen(s->label);
    if (length == 0)
        return label;
    return strncmp(label, s->label, length) == 0 && label[length] == '.' ? label + length + 1 : NULL;
}

static bool append(selection *out, const tf_factor *factors, int count)
{
    if (out->n_factors + count > TF_MAX_FACTORS)
        return false;
    memcpy(out->factors + out->n_factors, factors, (size_t)count * sizeof *factors);
    out->n_factors += count;
    return true;
}

static bool find(const tf_binding *b, const char *label, int depth, selection *out);

/* A part inside factor `at`, a concatenation, of a segment. */
static bool find_within(const tf_segment *s, int at, const char *label, int depth, selection *out)
{
    const tf_factor *whole = &s->factors[at];
    selection part = {.offset = 0};
    if (depth == MAX_LEVELS || !find(whole->concat, label, depth + 1, &part) || part.n_levels == MAX_LEVELS)
        return false;
    int64_t before = 1, after = 1;
    for (int i = 0; i < s->n_factors; i++) {
        before *= i < at ? s->factors[i].extent : 1;
        after *= i > at ? s->factors[i].extent : 1;
    }
    out->n_factors = 0;
    if (!append(out, s->factors, at) || !append(out, part.factors, part.n_factors) ||
        !append(out, s->factors + at + 1, s->n_factors - at - 1))
        return false;
    out->offset = part.offset * after;
    out->run = part.run * after;
    out->count[0] = before;
    out->stride[0] = whole->extent * after;
    for (int l = 0; l < part.n_levels; l++) {
        out->count[l + 1] = part.count[l];
        out->stride[l + 1] = part.stride[l] * after;
    }
    out->n_levels = part.n_levels + 1;
    return true;
}

/* The first part with the label, in index order. */
static bool find(const tf_binding *b, const char *label, int depth, selection *out)
{
    int64_t offset = 0;
    for (int i = 0; i < b->n_segments; offset += b->segments[i++].extent) {
        const tf_segment *s = &b->segments[i];
        if (s->label[0] && strcmp(s->label, label) == 0) {
            out->n_factors = 0;
            out->n_levels = 0;
            out->offset = offset;
            out->run = s->extent;
            return append(out, s->factors, s->n_factors);
        }
        const char *rest = inside(s, label);
        for (int k = 0; rest && k < s->n_factors; k++)
            if (s->factors[k].kind == TF_FACTOR_CONCAT && find_within(s, k, rest, depth, out)) {
                out->offset += offset;
                return true;
            }
    }
    return false;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const char *label = tf_node_attr(n, "label");
    selection part = {.offset = 0};
    TF_TRY(tf_need_channels(env, g, n, 0));
    if (!label || !find(tf_value_channels(g, n->inputs[0]), label, 0, &part))
        return tf_fail(env, TFUSE_EGRAPH, "split '%s': the channels of its input '%s' have no segment labelled '%s'", n->name,
                       g->values[n->inputs[0]].name, label ? label : "");
    const tf_binding *out = NULL;
    TF_TRY(tf_binding_of(env, g, part.factors, part.n_factors, &out));
    return tf_output_like(env, g, node, n->inputs[0], out);
}

static void forward(tf_forward *f, const tf_node *n)
{
    selection part = {.offset = 0};
    find(tf_value_channels(f->g, n->inputs[0]), tf_node_attr(n, "label"), 0, &part);
    const int64_t rows = tf_batch_rows(f->in[0]), from = tf_batch_channels(f->in[0]);
    const int64_t runs = tf_batch_channels(f->out[0]) / part.run;
    float *dst = f->out[0]->data;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < runs; i++, dst += part.run) {
            int64_t at = part.offset, rest = i;
            for (int l = part.n_levels - 1; l >= 0; l--) {
                at += rest % part.count[l] * part.stride[l];
                rest /= part.count[l];
            }
            memcpy(dst, f->in[0]->data + r * from + at, (size_t)part.run * sizeof *dst);
        }
}

const tf_op tf_op_split = {
    .name = "split",
    .help = "the labelled part of a fused value: label=LABEL",
    .attrs = "label",
    .min_inputs = 1,
    .max_inputs = 1,
    .tokenwise = true,
    .shape = shape,
    .permits = tf_permits_linear,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .forward = forward,
};
