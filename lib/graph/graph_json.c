/* SPDX-License-Identifier: Apache-2.0
 *
 * graph_json.c: a graph as flat JSON: the calls that built it. Writing and reading keep the order of nodes, so the same graph gives the
 * same text, and what is read has the same signature. Reading goes through the builder, which checks everything; here only
 * types and keys are.
 */
#include "graph/build.h"
#include "io/model.h"
#include "io/writer_files.h"

#include <string.h>

enum { VERSION = 1, MAX_NODES = 1000000, KEY_SHOWN = 80 };

/* ---- writing --------------------------------------------------------------------------------------- */

static tfuse_status no_json(tf_env *env)
{
    return tf_fail(env, TFUSE_ENOMEM, "the graph cannot be written as JSON: out of memory, or a name is not UTF-8");
}

static tfuse_status node_to_json(tf_env *env, const tf_graph *g, const tf_node *n, json_t *list)
{
    tf_buf inputs, attrs;
    tf_buf_init(&inputs, &env->mem);
    tf_buf_init(&attrs, &env->mem);
    tfuse_status status;
    TF_TRY_OUT(tf_buf_add(env, &inputs, "", 0));
    TF_TRY_OUT(tf_buf_add(env, &attrs, "", 0));
    for (int i = 0; i < n->n_inputs; i++)
        TF_TRY_OUT(tf_buf_printf(env, &inputs, "%s%s", i ? " " : "", g->values[n->inputs[i]].name));
    for (int i = 0; i < n->n_attrs; i++)
        TF_TRY_OUT(tf_buf_printf(env, &attrs, "%s%s=%s", i ? " " : "", n->attrs[i].key, n->attrs[i].value));
    if (json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "op", n->op->name, "name", n->name, "inputs", inputs.data,
                                              "attrs", attrs.data)) != 0)
        status = no_json(env);
out:
    tf_buf_free(&inputs);
    tf_buf_free(&attrs);
    return status;
}

/* Rules are written in the order of the tensors, so that when they were given does not matter. */
static tfuse_status fill_json(tf_env *env, const tf_graph *g, json_t *nodes, json_t *tensors, json_t *buffers)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        TF_TRY(node_to_json(env, g, &g->nodes[i], nodes));
    for (size_t i = 0; i < g->n_params; i++) {
        const int64_t rule = tf_strmap_get(&g->rule_index, g->params[i].name);
        if (rule >= 0 && json_object_set_new(tensors, g->rules[rule].logical, json_string(g->rules[rule].expression)) != 0)
            return no_json(env);
    }
    for (size_t i = 0; i < g->n_buffers; i++)
        if (json_array_append_new(buffers, json_string(g->buffers[i])) != 0)
            return no_json(env);
    return TFUSE_OK;
}

tfuse_status tf_graph_to_json(tf_env *env, const tf_graph *g, tf_buf *out)
{
    if (!g->finished)
        return tf_fail(env, TFUSE_ESTATE, "the graph is not finished");
    json_t *nodes = json_array(), *tensors = json_object(), *buffers = json_array(), *root = NULL;
    tfuse_status status = nodes && tensors && buffers ? fill_json(env, g, nodes, tensors, buffers) : no_json(env);
    if (status != TFUSE_OK)
        goto out;
    root = json_pack("{s:i,s:s,s:O,s:s,s:O,s:O}", "tfuse_graph", VERSION, "arch", g->arch, "nodes", nodes, "output",
                     g->values[g->output].name, "tensors", tensors, "buffers", buffers);
    status = root ? tf_json_text(env, root, JSON_INDENT(1), out) : no_json(env);
    if (status == TFUSE_OK)
        status = tf_buf_add(env, out, "\n", 1);
out:
    json_decref(nodes);
    json_decref(tensors);
    json_decref(buffers);
    json_decref(root);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

typedef struct key {
    const char *name;
    json_type type;
} key;

/* Every key of the object is one of `keys` with its type, and all of them are there. */
static tfuse_status check_keys(tf_env *env, json_t *object, const key *keys, size_t count, const char *what)
{
    char shown[KEY_SHOWN];
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return tf_fail(env, TFUSE_EFORMAT, "%s is not an object", what);
    json_object_foreach(object, name, value) {
        size_t i = 0;
        while (i < count && strcmp(keys[i].name, name) != 0)
            i++;
        if (i == count)
            return tf_fail(env, TFUSE_EFORMAT, "%s has an unknown key '%s'", what, tf_printable(shown, sizeof shown, name));
        if (json_typeof(value) != keys[i].type)
            return tf_fail(env, TFUSE_EFORMAT, "key '%s' of %s is of the wrong type", name, what);
    }
    for (size_t i = 0; i < count; i++)
        if (!json_object_get(object, keys[i].name))
            return tf_fail(env, TFUSE_EFORMAT, "%s has no key '%s'", what, keys[i].name);
    return TFUSE_OK;
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static tfuse_status read_nodes(tf_env *env, tf_graph *g, const json_t *nodes)
{
    static const key keys[] = {{"op", JSON_STRING}, {"name", JSON_STRING}, {"inputs", JSON_STRING}, {"attrs", JSON_STRING}};
    if (json_array_size(nodes) > MAX_NODES)
        return tf_fail(env, TFUSE_ERANGE, "a graph has at most %d nodes", MAX_NODES);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        json_t *n = json_array_get(nodes, i);
        TF_TRY(check_keys(env, n, keys, TF_LEN(keys), "a node"));
        TF_TRY(tf_graph_add(env, g, text_of(n, "op"), text_of(n, "name"), text_of(n, "inputs"), text_of(n, "attrs")));
    }
    return TFUSE_OK;
}

static tfuse_status read_rest(tf_env *env, tf_graph *g, json_t *root)
{
    json_t *tensors = json_object_get(root, "tensors"), *buffers = json_object_get(root, "buffers"), *value;
    const char *name;
    json_object_foreach(tensors, name, value) {
        if (!json_is_string(value))
            return tf_fail(env, TFUSE_EFORMAT, "a value in 'tensors' is not a string");
        TF_TRY(tf_graph_store(env, g, name, json_string_value(value)));
    }
    for (size_t i = 0; i < json_array_size(buffers); i++) {
        value = json_array_get(buffers, i);
        if (!json_is_string(value))
            return tf_fail(env, TFUSE_EFORMAT, "an entry of 'buffers' is not a string");
        TF_TRY(tf_graph_buffer(env, g, json_string_value(value)));
    }
    TF_TRY(tf_graph_output(env, g, text_of(root, "output")));
    return tf_graph_finish(env, g);
}

static tfuse_status read_root(tf_env *env, json_t *root, tf_graph **g)
{
    static const key keys[] = {{"tfuse_graph", JSON_INTEGER}, {"arch", JSON_STRING},    {"nodes", JSON_ARRAY},
                               {"output", JSON_STRING},       {"tensors", JSON_OBJECT}, {"buffers", JSON_ARRAY}};
    TF_TRY(check_keys(env, root, keys, TF_LEN(keys), "the graph"));
    const long long version = json_integer_value(json_object_get(root, "tfuse_graph"));
    if (version != VERSION)
        return tf_fail(env, TFUSE_EVERSION, "a graph of version %lld; this library reads version %d", version, VERSION);
    TF_TRY(tf_graph_new(env, text_of(root, "arch"), g));
    TF_TRY(read_nodes(env, *g, json_object_get(root, "nodes")));
    return read_rest(env, *g, root);
}

tfuse_status tf_graph_from_json(tf_env *env, const char *label, const char *text, size_t size, tf_graph **out)
{
    *out = NULL;
    json_t *root = NULL;
    tf_graph *g = NULL;
    TF_TRY(tf_json_object(env, label, text, size, &root));
    tfuse_status status = read_root(env, root, &g);
    json_decref(root);
    if (status != TFUSE_OK) {
        tf_graph_free(g);
        return tf_fail_in(env, status, "%s", label);
    }
    *out = g;
    return TFUSE_OK;
}
