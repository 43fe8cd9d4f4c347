/* SPDX-License-Identifier: Apache-2.0
 *
 * pairing.c: which node of one graph is which of the other: the one of the same name. Names are scoped ("layer.3/fc1"), so widths and head
 * counts may differ.
 */
#include "align/align.h"
#include "graph/op.h"
#include <string.h>

static const char *label(const tf_align_job *job, size_t k)
{
    return tf_model_label(job->models[k]);
}

/* Attributes that only say how large a node is; the parts of its tensors are compared later. */
static bool says_size(const char *key)
{
    static const char *const keys[] = {"out", "rows", "of", "length"};
    for (size_t i = 0; i < TF_LEN(keys); i++)
        if (!strcmp(keys[i], key))
            return true;
    return false;
}

/* Other attributes make another function; a norm's eps differs between trainings without harm. */
static tfuse_status pair_attrs(tf_env *env, const tf_align_job *job, size_t k, const tf_node *a, const tf_node *g)
{
    for (int side = 0; side < 2; side++) {
        const tf_node *one = side ? g : a, *two = side ? a : g;
        for (int i = 0; i < one->n_attrs; i++) {
            const char *key = one->attrs[i].key, *x = one->attrs[i].value, *y = tf_node_attr(two, key);
            if (says_size(key) || !strcmp(key, "eps") || (y && (side || !strcmp(x, y)))) /* what both have is told once */
                continue;
            TF_TRY(tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH,
                "%s: %s is %s in %s and %s in %s: models that compute differently cannot be fused", a->name, key, x,
                label(job, side ? k : 0), y ? y : "not given", label(job, side ? 0 : k))));
        }
    }
    return TFUSE_OK;
}

/* Says once that the anchor's eps is kept where another model has others. */
static void warn_of_eps(tf_env *env, const tf_align_job *job, size_t k)
{
    const tf_graph *a = job->graphs[0], *g = job->graphs[k];
    const tf_node *first = NULL, *other = NULL;
    size_t count = 0;
    for (size_t i = 0; i < a->n_nodes; i++) {
        const tf_id same = tf_graph_find_node(g, a->nodes[i].name);
        const char *x = tf_node_attr(&a->nodes[i], "eps"), *y = same < 0 ? NULL : tf_node_attr(&g->nodes[same], "eps");
        if (!x || !y || !strcmp(x, y))
            continue;
        if (count++ == 0) {
            first = &a->nodes[i];
            other = &g->nodes[same];
        }
    }
    if (count)
        tf_log(env, TFUSE_LOG_WARN, "eps of %s, and of %zu more, is %g in the anchor and %g in %s; the anchor's is kept", first->name, count - 1,
               tf_node_real_at(first, "eps", 0), tf_node_real_at(other, "eps", 0), label(job, k));
}

/* A node that one of two graphs has not: other architectures, or other depths. */
static tfuse_status fail_lacking(tf_env *env, const tf_align_job *job, size_t k, const char *node, bool anchor_lacks)
{
    const size_t lacks = anchor_lacks ? 0 : k, has = anchor_lacks ? k : 0;
    const char *x = job->graphs[lacks]->arch, *y = job->graphs[has]->arch;
    if (strcmp(x, y))
        return tf_fail(env, TFUSE_EGRAPH, "%s is a %s and %s a %s, with a node %s that the other lacks; models of one architecture can be fused",
                       label(job, lacks), *x ? x : "graph of its own", label(job, has), *y ? y : "graph of its own", node);
    return tf_fail(env, TFUSE_EGRAPH, "%s has no %s, which %s has; models of the same parts (layers, norms, pooling) can be fused", label(job, lacks), node,
                   label(job, has));
}

static tfuse_status pair_inputs(tf_env *env, const tf_align_job *job, size_t k, const tf_node *a, const tf_node *g)
{
    const tf_graph *ga = job->graphs[0], *gk = job->graphs[k];
    for (int i = 0; i < a->n_inputs || i < g->n_inputs; i++) {
        const char *x = i < a->n_inputs ? ga->values[a->inputs[i]].name : "nothing";
        const char *y = i < g->n_inputs ? gk->values[g->inputs[i]].name : "nothing";
        if (strcmp(x, y))
            return tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH,
                "%s reads %s in %s and %s in %s: models that compute differently cannot be fused", a->name, x, label(job, 0), y, label(job, k)));
    }
    return TFUSE_OK;
}

/* The first node of one that the other has not, where the architectures differ: then each line about another node would say the same again. */
static const char *find_stranger(const tf_graph *a, const tf_graph *g)
{
    if (!strcmp(a->arch, g->arch))
        return NULL;
    for (size_t i = 0; i < a->n_nodes; i++)
        if (tf_graph_find_node(g, a->nodes[i].name) < 0)
            return a->nodes[i].name;
    return NULL;
}

static tfuse_status pair_nodes(tf_env *env, const tf_align_job *job, size_t k)
{
    const tf_graph *a = job->graphs[0], *g = job->graphs[k];
    for (size_t i = 0; i < a->n_nodes; i++) {
        tf_id other = tf_graph_find_node(g, a->nodes[i].name);
        if (other < 0) {
            TF_TRY(tf_align_note(env, job, fail_lacking(env, job, k, a->nodes[i].name, false)));
            continue;
        }
        if (g->nodes[other].op != a->nodes[i].op)
            TF_TRY(tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH,
                "%s: %s is of kind %s, in the anchor %s %s: models of different kinds cannot be fused", label(job, k), a->nodes[i].name,
                g->nodes[other].op->name, label(job, 0), a->nodes[i].op->name)));
        TF_TRY(pair_inputs(env, job, k, &a->nodes[i], &g->nodes[other]));
        TF_TRY(pair_attrs(env, job, k, &a->nodes[i], &g->nodes[other]));
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        if (tf_graph_find_node(a, g->nodes[i].name) < 0)
            TF_TRY(tf_align_note(env, job, fail_lacking(env, job, k, g->nodes[i].name, true)));
    warn_of_eps(env, job, k);
    return TFUSE_OK;
}

/* True when a part has no unit that a map may move. */
static bool fixed(const tf_part *part)
{
    return part->n_ports == 0;
}

/* The first factor of two parts that has another extent, or the number of factors. */
static int first_unequal(const tf_part *a, const tf_part *g)
{
    int f = 0;
    while (f < a->n_factors && f < g->n_factors && a->extent[f] == g->extent[f])
        f++;
    return f;
}

/* Parts that must be equal: factor by factor where units keep their places, for 4 heads of 16 are not 8 of 8; else (fixed ones) in all. */
static tfuse_status pair_part(tf_env *env, const tf_align_job *job, size_t k, const tf_param *param, int dim, const tf_part *a, const tf_part *g)
{
    const int f = first_unequal(a, g);
    const bool held = fixed(a) || fixed(g);
    if (held ? a->size == g->size : f == a->n_factors && f == g->n_factors)
        return TFUSE_OK;
    const bool one = !held && f < a->n_factors && f < g->n_factors;
    const tf_id port = a->port[one ? f : a->n_factors - 1];
    const char *axis = port >= 0 ? job->graphs[0]->class_name[tf_class_of(job->graphs[0], port)] : "a fixed dimension";
    return tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH, "%s (dimension %d of %s) has %lld units in %s and %lld in %s%s", axis, dim, param->name,
                                           (long long)(one ? a->extent[f] : a->size), label(job, 0), (long long)(one ? g->extent[f] : g->size),
                                           label(job, k),
                                           fixed(a) ? ": it is fixed from outside and must agree"
                                                    : "; plain averaging needs equal widths and head counts: use --align matching"));
}

static tfuse_status pair_parts(tf_env *env, const tf_align_job *job, size_t k, const tf_param *pa, const tf_param *pg, int dim,
                               bool equal)
{
    tf_part *a = NULL, *g = NULL;
    int na = 0, ng = 0;
    tfuse_status status = tf_binding_parts(env, job->graphs[0], pa->dims[dim], &a, &na);
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, job->graphs[k], pg->dims[dim], &g, &ng);
    if (status == TFUSE_OK && na != ng)
        status = tf_fail(env, TFUSE_EGRAPH, "%s and %s lay %s out differently", label(job, 0), label(job, k), pa->name);
    for (int p = 0; p < na && status == TFUSE_OK; p++)
        if (equal || fixed(&a[p]) || fixed(&g[p]))
            status = pair_part(env, job, k, pa, dim, &a[p], &g[p]);
    tf_free(&env->mem, a);
    tf_free(&env->mem, g);
    return status;
}

static tfuse_status pair_params(tf_env *env, const tf_align_job *job, size_t k, bool equal)
{
    const tf_graph *a = job->graphs[0], *g = job->graphs[k];
    for (size_t i = 0; i < a->n_params; i++) {
        tf_id other = tf_graph_find_param(g, a->params[i].name);
        if (other < 0 || g->params[other].rank != a->params[i].rank) {
            TF_TRY(tf_align_note(env, job, tf_fail(env, TFUSE_EGRAPH, "%s has no tensor %s like that of the anchor %s", label(job, k),
                                                   a->params[i].name, label(job, 0))));
            continue;
        }
        for (int d = 0; d < a->params[i].rank; d++)
            TF_TRY(pair_parts(env, job, k, &a->params[i], &g->params[other], d, equal));
    }
    if (g->n_params != a->n_params && !job->problems)
        return tf_fail(env, TFUSE_EGRAPH, "%s has %zu logical tensors, the anchor %s has %zu", label(job, k), g->n_params,
                       label(job, 0), a->n_params);
    return TFUSE_OK;
}

static tfuse_status pair(tf_env *env, const tf_align_job *job, size_t k, bool equal)
{
    const char *strange = find_stranger(job->graphs[0], job->graphs[k]), *theirs = strange ? NULL : find_stranger(job->graphs[k], job->graphs[0]);
    if (strange || theirs)
        return tf_align_note(env, job, fail_lacking(env, job, k, strange ? strange : theirs, !strange));
    TF_TRY(pair_nodes(env, job, k));
    return pair_params(env, job, k, equal);
}

tfuse_status tf_pair_graphs(tf_env *env, const tf_align_job *job, size_t k)
{
    return pair(env, job, k, false);
}

tfuse_status tf_pair_extents(tf_env *env, const tf_align_job *job, size_t k)
{
    return pair(env, job, k, true);
}
