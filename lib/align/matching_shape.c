/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_shape.c: what each class's map may be: by the group that all models' operations permit, by the policy, and by the extents.
 *
 * Unequal extents: a stream or the units inside heads that take rotations have a rectangular map with orthonormal rows or columns, and hidden units,
 * heads and channels that are permuted a selection. Pairs under rotary positions turn at frequencies that depend on the width of the head,
 * and the choice of experts on their number, so those stay equal.
 */
#include "align/matching.h"
#include "graph/naming.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

static mt_shape units_shape(tf_group group)
{
    return !(group & TF_G_PERM) ? MT_FIXED : group & TF_G_SIGN ? MT_SIGNED_UNITS : MT_UNITS;
}

static mt_shape rotation_shape(tf_group group)
{
    if (group & TF_G_ROT)
        return MT_ROTATION;
    if (group & TF_G_ROT_ONES)
        return MT_ROTATION_ONES;
    const bool pairs = group & TF_G_PAIR_ROT || (!(group & TF_G_PERM) && group & TF_G_PAIR_SIGN);
    return pairs ? MT_PAIRS : units_shape(group);
}

static mt_shape shape_of(const tfuse_policy *p, const tf_graph *g, tf_id cls, bool outer, tf_group group)
{
    if (tf_class_pinned(g, cls) || group == TF_GROUP_PINNED)
        return MT_FIXED;
    if (outer)
        return group & TF_G_PERM ? MT_UNITS : MT_FIXED;
    const bool stream = tf_class_is_stream(g, cls);
    if (tf_policy_is(p, stream ? "matching.stream" : "matching.inner", "none") && (stream || tf_class_parent(g, cls) >= 0))
        return MT_FIXED;
    if (stream ? tf_policy_is(p, "matching.stream", "permutation")
               : tf_class_parent(g, cls) >= 0 && tf_policy_is(p, "matching.inner", "permutation"))
        return units_shape(group);
    return rotation_shape(group);
}

/* The meet over all models, so that every model's map of a class is of one kind and the anchor's balanced coordinates are the same for all. */
static tfuse_status meet_groups(tf_env *env, const tf_align_job *job, const tf_view *const *views, tf_group *out, tf_group *work)
{
    const size_t n = job->graphs[0]->n_classes;
    for (size_t k = 0; k < job->n; k++) {
        TF_TRY(tf_groups(env, job->graphs[k], views ? views[k] : NULL, k ? work : out));
        for (size_t c = 0; c < n && k; c++)
            out[c] &= work[c];
    }
    return TFUSE_OK;
}

tfuse_status mt_classes_make(matching *mt, const tf_view *const *views)
{
    const size_t n = mt->g->n_classes;
    tf_group *groups = tf_alloc_array(mt->env, 2 * n + 1, sizeof *groups);
    mt->classes = tf_calloc(mt->env, n + 1, sizeof *mt->classes);
    tfuse_status status = groups && mt->classes ? meet_groups(mt->env, mt->job, views, groups, groups + n) : TFUSE_ENOMEM;
    for (size_t c = 0; c < n && status == TFUSE_OK; c++) {
        mt_class *out = &mt->classes[c];
        status = tf_class_is_outer(mt->env, mt->g, (tf_id)c, &out->outer);
        out->group = groups[c];
        out->shape = shape_of(mt->job->policy, mt->g, (tf_id)c, out->outer, out->group);
        out->stream = out->shape != MT_FIXED && !out->outer && tf_class_is_stream(mt->g, (tf_id)c);
    }
    tf_free(&mt->env->mem, groups);
    return status;
}

tfuse_status mt_may_be_linear(tf_env *env, const tf_align_job *job, bool **out)
{
    const tf_graph *g = job->graphs[0];
    tf_group *groups = tf_alloc_array(env, g->n_classes + 1, sizeof *groups);
    *out = tf_calloc(env, g->n_classes + 1, sizeof **out);
    tfuse_status status = groups && *out ? tf_groups(env, g, NULL, groups) : TFUSE_ENOMEM;
    for (size_t c = 0; c < g->n_classes && status == TFUSE_OK; c++) {
        bool outer;
        status = tf_class_is_outer(env, g, (tf_id)c, &outer);
        if (status == TFUSE_OK)
            (*out)[c] = groups[c] & TF_G_LINEAR && shape_of(job->policy, g, (tf_id)c, outer, groups[c]) == MT_ROTATION;
    }
    tf_free(&env->mem, groups);
    return status;
}

static tfuse_status check_class(tf_env *env, const tf_align_job *job, size_t k, tf_id cls, tf_group group)
{
    const tf_graph *a = job->graphs[0], *g = job->graphs[k];
    const long long n = tf_class_extent(g, cls), m = tf_class_extent(a, cls);
    bool outer;
    if (n == m || tf_class_pinned(a, cls)) /* pinned ones are compared with the graphs */
        return TFUSE_OK;
    TF_TRY(tf_class_is_outer(env, a, cls, &outer));
    const mt_shape shape = shape_of(job->policy, a, cls, outer, group);
    const char *why = tf_class_is_routed(a, cls) ? "the choice of experts depends on their number"
                      : shape == MT_PAIRS ? "rotary positions turn its pairs at frequencies that depend on the width of a head"
                      : shape == MT_FIXED ? "it is not matched (matching.stream, matching.inner, or what its operations permit)" : NULL;
    if (!why)
        return TFUSE_OK;
    return tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH, "%s has %lld units in %s and %lld in the anchor %s, which matching cannot bring together: %s",
                                           a->class_name[cls], n, tf_model_label(job->models[k]), m, tf_model_label(job->models[0]), why));
}

tfuse_status mt_check_extents(tf_env *env, const tf_align_job *job, size_t k)
{
    const tf_graph *a = job->graphs[0], *g = job->graphs[k];
    bool same = a->n_classes == g->n_classes;
    for (size_t c = 0; same && c < a->n_classes; c++)
        same = !strcmp(a->class_name[c], g->class_name[c]);
    if (!same)
        return tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH, "%s and %s have other axes: matching takes models of one structure",
                                               tf_model_label(job->models[k]), tf_model_label(job->models[0])));
    tf_group *groups = tf_alloc_array(env, a->n_classes + 1, sizeof *groups);
    tfuse_status status = groups ? tf_groups(env, a, NULL, groups) : TFUSE_ENOMEM;
    for (size_t c = 0; c < a->n_classes && status == TFUSE_OK; c++)
        status = check_class(env, job, k, (tf_id)c, groups[c]);
    tf_free(&env->mem, groups);
    return status;
}

/* Whether the class is the innermost of the value's channels. */
static bool is_innermost(const tf_graph *g, tf_id value, tf_id cls)
{
    const tf_binding *b = tf_value_channels(g, value);
    const tf_segment *s = &b->segments[0];
    const tf_factor *last = &s->factors[s->n_factors - 1];
    return b->n_segments == 1 && last->kind == TF_FACTOR_PORT && tf_class_of(g, last->port) == cls;
}

double mt_score_scale(const matching *mt, tf_id cls)
{
    const tf_graph *g = mt->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        if ((n->op == &tf_op_attention || n->op == &tf_op_disentangled) && !tf_node_attr(n, "scale") && is_innermost(g, n->inputs[0], cls))
            return sqrt((double)mt_extent(mt, MT_ANCHOR, cls) / (double)mt_extent(mt, MT_MODEL, cls));
    }
    return 1;
}

static bool has_aliases(const tf_graph *g)
{
    bool any = false;
    for (size_t i = 0; i < g->n_params; i++)
        any = any || (g->params[i].source && g->params[i].source->kind == TF_SOURCE_ALIAS);
    return any;
}

/* Onto more units nothing is lost, but that copies of a stream's channels must be equally many for its norms, and not be summed by a tied table. */
bool mt_is_exact(const matching *mt)
{
    bool exact = true;
    for (size_t c = 0; c < mt->g->n_classes; c++) {
        const int64_t n = mt_extent(mt, MT_MODEL, (tf_id)c), m = mt_extent(mt, MT_ANCHOR, (tf_id)c);
        const bool copied = n != m && mt->classes[c].stream && mt->classes[c].shape >= MT_UNITS;
        exact = exact && n <= m && !mt_is_soft(mt, (tf_id)c) && !(copied && (m % n || has_aliases(mt->g)));
    }
    return exact;
}
