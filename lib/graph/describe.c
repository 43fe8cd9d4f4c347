/* SPDX-License-Identifier: Apache-2.0
 *
 * describe.c: a graph as one JSON object: its axes with group and tensors, its logical tensors with where they are stored and what each
 * dimension is bound to, and its nodes. Built with jansson, whose objects are given back before returning.
 */
#include "graph/describe.h"
#include "graph/naming.h"
#include "graph/op.h"
#include "io/writer_files.h"

#include <jansson.h>
#include <string.h>

static tfuse_status no_memory(tf_env *env)
{
    return tf_fail(env, TFUSE_ENOMEM, "out of memory for the description of the graph");
}

/* ---- where a tensor is stored, in the language of naming rules ----------------------------------------- */

static tfuse_status source_text(tf_env *env, const tf_source *s, tf_buf *out);

static tfuse_status source_parts(tf_env *env, const tf_source *s, tf_buf *out)
{
    for (int i = 0; i < s->n_parts; i++) {
        if (i)
            TF_TRY(tf_buf_printf(env, out, ","));
        TF_TRY(source_text(env, s->parts[i], out));
    }
    return tf_buf_printf(env, out, ")");
}

static tfuse_status source_list(tf_env *env, const char *function, const tf_source *s, tf_buf *out)
{
    TF_TRY(tf_buf_printf(env, out, "%s(", function));
    return source_parts(env, s, out);
}

static tfuse_status item_text(tf_env *env, const tf_source *s, tf_buf *out)
{
    TF_TRY(tf_buf_printf(env, out, "item(%s,%lld,%lld", s->stored, (long long)s->first, (long long)s->extent));
    for (int i = 0; i < s->stored_rank; i++)
        TF_TRY(tf_buf_printf(env, out, ",%lld", (long long)s->stored_shape[i]));
    return tf_buf_printf(env, out, ")");
}

/* Recursion is as deep as the expression, whose depth the parser bounds. */
static tfuse_status source_text(tf_env *env, const tf_source *s, tf_buf *out)
{
    switch (s->kind) {
    case TF_SOURCE_STORED:
        return tf_buf_printf(env, out, "%s", s->stored);
    case TF_SOURCE_SLICE:
        if (s->stored_rank != s->rank || s->extent * s->blocks != s->stored_shape[s->dim])
            return item_text(env, s, out);
        if (s->blocks > 1)
            return tf_buf_printf(env, out, "within(%s,%lld,%lld,%lld)", s->stored, (long long)s->blocks, (long long)(s->first / s->count),
                                 (long long)(s->stored_shape[0] / s->shape[0]));
        return tf_buf_printf(env, out, "slice(%s,%d,%lld,%lld,%lld)", s->stored, s->dim, (long long)s->first,
                             (long long)s->count, (long long)s->stored_shape[s->dim]);
    case TF_SOURCE_TRANSPOSE:
        return source_list(env, "transpose", s, out);
    case TF_SOURCE_STACK:
        return source_list(env, "stack", s, out);
    case TF_SOURCE_SUM:
        return source_list(env, "sum", s, out);
    case TF_SOURCE_JOIN:
        TF_TRY(tf_buf_printf(env, out, "join(%d,", s->dim));
        return source_parts(env, s, out);
    case TF_SOURCE_COPIES:
        return source_list(env, "copies", s, out);
    case TF_SOURCE_ALIAS:
        return tf_buf_printf(env, out, "alias(%s)", s->stored);
    }
    return TFUSE_OK;
}

static bool is_alias(const tf_param *p)
{
    return p->source && p->source->kind == TF_SOURCE_ALIAS;
}

/* ---- axes --------------------------------------------------------------------------------------------------- */

/* Whether a port of the same class stands before factor `factor` of part `part`. */
static bool came_before(const tf_graph *g, const tf_part *parts, int part, int factor)
{
    const tf_id cls = tf_class_of(g, parts[part].port[factor]);
    for (int k = 0; k <= part; k++)
        for (int f = 0; f < (k < part ? parts[k].n_factors : factor); f++)
            if (parts[k].port[f] >= 0 && tf_class_of(g, parts[k].port[f]) == cls)
                return true;
    return false;
}

static tfuse_status add_use(tf_env *env, const tf_graph *g, tf_id param, int dim, tf_id port, json_t *axes)
{
    json_t *row = json_pack("{s:s, s:i, s:s}", "name", g->params[param].name, "dim", dim, "use", tf_use_name(tf_param_use(g, param, dim, port)));
    json_t *tensors = json_object_get(json_array_get(axes, (size_t)tf_class_of(g, port)), "tensors");
    return row && json_array_append_new(tensors, row) == 0 ? TFUSE_OK : no_memory(env);
}

/* Adds a row for dimension `dim` of a tensor to each axis that a part of it is bound to; an axis that several parts hold gets one. */
static tfuse_status add_uses(tf_env *env, const tf_graph *g, tf_id param, int dim, json_t *axes)
{
    tf_part *parts = NULL;
    int count = 0;
    tfuse_status status = tf_binding_parts(env, g, g->params[param].dims[dim], &parts, &count);
    for (int k = 0; k < count; k++)
        for (int f = 0; f < parts[k].n_factors && status == TFUSE_OK; f++)
            if (parts[k].port[f] >= 0 && !came_before(g, parts, k, f))
                status = add_use(env, g, param, dim, parts[k].port[f], axes);
    tf_free(&env->mem, parts);
    return status;
}

static tfuse_status add_axes(tf_env *env, const tf_graph *g, const tf_view *view, json_t *root)
{
    char text[128];
    json_t *axes = json_array();
    if (!axes || json_object_set_new(root, "axes", axes) != 0)
        return no_memory(env);
    tf_group *groups = tf_calloc(env, g->n_classes + 1, sizeof *groups);
    if (!groups)
        return TFUSE_ENOMEM;
    tfuse_status status = tf_groups(env, g, view, groups);
    for (size_t c = 0; status == TFUSE_OK && c < g->n_classes; c++) {
        tf_id parent = tf_class_parent(g, (tf_id)c);
        json_t *axis = json_pack("{s:s, s:I, s:s?, s:s, s:b, s:[]}", "name", g->class_name[c], "extent",
                                 (json_int_t)tf_class_extent(g, (tf_id)c), "parent", parent < 0 ? NULL : g->class_name[parent],
                                 "group", tf_group_name(groups[c], text, sizeof text), "pinned",
                                 tf_class_pinned(g, (tf_id)c), "tensors");
        if (!axis || json_array_append_new(axes, axis) != 0)
            status = no_memory(env);
    }
    tf_free(&env->mem, groups);
    for (size_t i = 0; status == TFUSE_OK && i < g->n_params; i++)
        for (int d = 0; status == TFUSE_OK && d < g->params[i].rank; d++)
            status = add_uses(env, g, (tf_id)i, d, axes);
    return status;
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

/* Appends what `text` holds and empties it. */
static tfuse_status append_text(tf_env *env, json_t *array, tf_buf *text)
{
    json_t *string = json_stringn(text->data ? text->data : "", text->len);
    text->len = 0;
    return string && json_array_append_new(array, string) == 0 ? TFUSE_OK : no_memory(env);
}

static tfuse_status fill_tensor(tf_env *env, const tf_graph *g, const tf_param *p, tf_buf *text, json_t *row)
{
    json_t *shape = json_object_get(row, "shape"), *dims = json_object_get(row, "dims");
    for (int d = 0; d < p->rank; d++) {
        if (json_array_append_new(shape, json_integer(p->shape[d])) != 0)
            return no_memory(env);
        TF_TRY(tf_binding_text(env, g, p->dims[d], text));
        TF_TRY(append_text(env, dims, text));
    }
    if (p->source)
        TF_TRY(source_text(env, p->source, text));
    else
        TF_TRY(tf_buf_printf(env, text, "%s", p->name));
    json_t *stored = json_stringn(text->data, text->len);
    text->len = 0;
    return stored && json_object_set_new(row, "stored", stored) == 0 ? TFUSE_OK : no_memory(env);
}

static tfuse_status add_tensors(tf_env *env, const tf_graph *g, json_t *root)
{
    int64_t parameters = 0;
    json_t *tensors = json_array();
    if (!tensors || json_object_set_new(root, "tensors", tensors) != 0)
        return no_memory(env);
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status = TFUSE_OK;
    for (size_t i = 0; status == TFUSE_OK && i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        int64_t count = 1;
        for (int d = 0; d < p->rank; d++)
            count *= p->shape[d];
        parameters += is_alias(p) ? 0 : count;
        json_t *row = json_pack("{s:s, s:[], s:[]}", "name", p->name, "shape", "dims");
        if (!row || json_array_append_new(tensors, row) != 0)
            status = no_memory(env);
        else
            status = fill_tensor(env, g, p, &text, row);
    }
    tf_buf_free(&text);
    if (status == TFUSE_OK && json_object_set_new(root, "parameters", json_integer(parameters)) != 0)
        status = no_memory(env);
    return status;
}

static tfuse_status add_nodes(tf_env *env, const tf_graph *g, json_t *root)
{
    json_t *nodes = json_array();
    if (!nodes || json_object_set_new(root, "nodes", nodes) != 0)
        return no_memory(env);
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        json_t *row = json_pack("{s:s, s:s, s:[]}", "op", n->op->name, "name", n->name, "inputs");
        if (!row || json_array_append_new(nodes, row) != 0)
            return no_memory(env);
        for (int k = 0; k < n->n_inputs; k++)
            if (json_array_append_new(json_object_get(row, "inputs"), json_string(g->values[n->inputs[k]].name)) != 0)
                return no_memory(env);
    }
    return TFUSE_OK;
}

static tfuse_status describe(tf_env *env, const tf_graph *g, const tf_view *view, json_t *root)
{
    char signature[17];
    tf_graph_signature(g, signature);
    if (json_object_set_new(root, "architecture", json_string(g->arch)) != 0 ||
        json_object_set_new(root, "parameters", json_integer(0)) != 0 ||
        json_object_set_new(root, "signature", json_string(signature)) != 0)
        return no_memory(env);
    TF_TRY(add_axes(env, g, view, root));
    TF_TRY(add_tensors(env, g, root));
    return add_nodes(env, g, root);
}

tfuse_status tf_graph_describe(tf_env *env, const tf_graph *g, const tf_view *view, tf_buf *out)
{
    json_t *root = json_object();
    if (!root)
        return no_memory(env);
    tfuse_status status = describe(env, g, view, root);
    if (status == TFUSE_OK)
        status = tf_json_text(env, root, JSON_INDENT(1), out);
    json_decref(root);
    return status;
}
