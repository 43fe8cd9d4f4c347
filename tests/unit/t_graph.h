/* SPDX-License-Identifier: Apache-2.0
 *
 * t_graph.h: small graphs with random tensors, for tests of operations and passes.
 */
#ifndef T_GRAPH_H
#define T_GRAPH_H

#include <math.h>
#include <stdlib.h>
#include "graph/naming.h"
#include "graph/op.h"
#include "graph/view.h"
#include "io/model.h"
#include "ops/ops.h"
#include "run/run.h"
#include "t.h"

/* A node of a graph under construction. */
typedef struct t_node {
    const char *op, *name, *inputs, *attrs;
} t_node;

static inline tf_graph *t_graph(tf_env *env, const t_node *nodes, size_t count, const char *output)
{
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    for (size_t i = 0; i < count; i++)
        t_ok(env, tf_graph_add(env, g, nodes[i].op, nodes[i].name, nodes[i].inputs, nodes[i].attrs));
    t_ok(env, tf_graph_output(env, g, output));
    t_ok(env, tf_graph_finish(env, g));
    return g;
}

/* Asserts that the last node is refused with this status and a piece of text. */
static inline void t_refused(const t_node *nodes, size_t count, tfuse_status status, const char *piece)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    for (size_t i = 0; i + 1 < count; i++)
        t_ok(env, tf_graph_add(env, g, nodes[i].op, nodes[i].name, nodes[i].inputs, nodes[i].attrs));
    const t_node *n = &nodes[count - 1];
    t_fails(env, tf_graph_add(env, g, n->op, n->name, n->inputs, n->attrs), status, piece);
    tf_graph_free(g);
    t_env_free(env);
}

static inline size_t t_param_count(const tf_graph *g, tf_id param)
{
    size_t count = 1;
    for (int d = 0; d < g->params[param].rank; d++)
        count *= (size_t)g->params[param].shape[d];
    return count;
}

/* A model in memory with a tensor for each parameter that is not an alias, in [-1, 1). `data` holds one block a parameter. */
typedef struct t_model {
    tfuse_model *m;
    float **data;
    size_t n;
} t_model;

static inline t_model t_random_model(tf_env *env, const tf_graph *g, uint64_t seed)
{
    t_model out = {.n = g->n_params};
    out.data = calloc(g->n_params + 1, sizeof *out.data);
    t_ok(env, tf_model_new(env, "{}", &out.m));
    for (size_t i = 0; i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        const size_t count = t_param_count(g, (tf_id)i);
        out.data[i] = malloc(count * sizeof(float));
        t_fill(out.data[i], count, seed + i);
        if (p->source && p->source->kind == TF_SOURCE_ALIAS)
            continue;
        tf_tensor t = {.name = p->name, .dtype = TFUSE_F32, .rank = p->rank, .data = (const uint8_t *)out.data[i],
                       .size = count * sizeof(float), .count = count, .file = -1};
        for (int d = 0; d < p->rank; d++)
            t.shape[d] = p->shape[d];
        t_ok(env, tf_model_add(env, out.m, &t));
    }
    t_ok(env, tf_model_seal(env, out.m));
    return out;
}

static inline void t_model_free(t_model *m)
{
    tf_model_free(m->m);
    for (size_t i = 0; i < m->n; i++)
        free(m->data[i]);
    free(m->data);
}

static inline float *t_data(const t_model *m, const tf_graph *g, const char *param)
{
    const tf_id id = tf_graph_find_param(g, param);
    ck_assert_msg(id >= 0, "no parameter %s", param);
    return m->data[id];
}

static inline tf_id t_class(const tf_graph *g, const char *name)
{
    const tf_id cls = tf_class_find(g, name);
    ck_assert_msg(cls >= 0, "no axis %s", name);
    return cls;
}

/* The groups given a view (NULL: nothing known); asserts the name of one axis's. */
static inline void t_group_is(tf_env *env, const tf_graph *g, const tf_view *view, const char *axis, const char *want)
{
    char text[128];
    tf_group *groups = calloc(g->n_classes, sizeof *groups);
    t_ok(env, tf_groups(env, g, view, groups));
    ck_assert_str_eq(tf_group_name(groups[t_class(g, axis)], text, sizeof text), want);
    free(groups);
}

/* The value of one node for `n` samples, from memory alone: in[k] of its inputs, param[k] in the order of its slots. Scratch is as large
 * as asked for, so a sanitizer sees what goes past it. */
static inline float *t_forward(tf_env *env, const tf_graph *g, const char *name, int64_t n, const float *const *in,
                               const float *const *param)
{
    const tf_node *node = &g->nodes[tf_graph_find_node(g, name)];
    tf_batch batch[TF_MAX_NODE_IO + 1] = {{0}};
    const tf_batch *inputs[TF_MAX_NODE_IO] = {NULL};
    tf_batch *out = &batch[TF_MAX_NODE_IO];
    float *owned[TF_MAX_NODE_IO] = {NULL};
    tf_forward f = {.env = env, .g = g};
    for (int k = 0; k < node->n_inputs; k++) {
        const tf_value *v = &g->values[node->inputs[k]];
        batch[k].n = n;
        batch[k].rank = v->rank;
        memcpy(batch[k].extent, v->extent, sizeof v->extent);
        const size_t bytes = (size_t)(n * tf_batch_stride(&batch[k])) * sizeof(float);
        owned[k] = malloc(bytes);
        memcpy(owned[k], in[k], bytes);
        batch[k].data = owned[k];
        f.in[k] = inputs[k] = &batch[k];
    }
    const tf_value *v = &g->values[node->outputs[0]];
    out->n = n;
    out->rank = v->rank;
    memcpy(out->extent, v->extent, sizeof v->extent);
    if (node->op->extents)
        t_ok(env, node->op->extents(env, g, node, inputs, &out));
    out->data = malloc((size_t)(n * tf_batch_stride(out)) * sizeof(float));
    f.out[0] = out;
    for (int k = 0; k < node->n_params; k++)
        f.param[k] = node->params[k] >= 0 ? param[k] : NULL;
    const int64_t scratch = node->op->scratch_size ? node->op->scratch_size(g, node, inputs) : 0;
    f.scratch = malloc((size_t)scratch * sizeof(float) + 1);
    node->op->forward(&f, node);
    free(f.scratch);
    for (int k = 0; k < node->n_inputs; k++)
        free(owned[k]);
    return out->data;
}

/* The output of a whole graph for `n` samples of float input, through a view. */
static inline float *t_run(tf_env *env, const tf_view *view, const float *x, int64_t n)
{
    const tf_graph *g = view->g;
    const tf_value *v = &g->values[g->inputs[0]];
    int64_t shape[TF_MAX_DIMS + 1] = {n};
    for (int d = 0; d < v->rank; d++)
        shape[d + 1] = v->extent[d];
    tfuse_array *array = NULL;
    tf_inputs in;
    tf_evaluator *ev = NULL;
    t_ok(env, tf_array_wrap(env, TFUSE_F32, (size_t)v->rank + 1, shape, x, NULL, NULL, &array));
    t_ok(env, tf_inputs_make(env, g, view->m, array, 0, &in));
    t_ok(env, tf_evaluator_new(env, view, NULL, 0, &ev));
    float *out = calloc((size_t)(n * tf_evaluator_size(ev, g->output)), sizeof *out);
    t_ok(env, tf_evaluator_run(env, ev, &in, 0, n, NULL, out));
    tf_evaluator_free(ev);
    tf_array_free(array);
    return out;
}

#endif
