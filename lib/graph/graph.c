/* SPDX-License-Identifier: Apache-2.0
 *
 * graph.c: making a graph, adding nodes to it, finishing it, and finding things in it.
 *
 * Everything that a graph owns is in its arena, except its tables of names. Arrays grow by copying inside the arena, so a pointer into
 * an old one stays readable as long as the graph. Texts are checked for control characters when they come in, so that all later
 * errors can print them.
 */
#include "graph/build.h"

#include <string.h>

enum { MIN_CAP = 16, TEXT_SHOWN = 160, MAX_ITEMS = 1 << 24 };

tfuse_status tf_graph_new(tf_env *env, const char *arch, tf_graph **out)
{
    *out = NULL;
    tf_graph *g = tf_calloc(env, 1, sizeof *g);
    if (!g)
        return TFUSE_ENOMEM;
    g->mem = env->mem;
    tf_arena_init(&g->arena, &env->mem);
    tf_strmap *maps[] = {&g->node_index, &g->value_index, &g->param_index, &g->port_index, &g->rule_index, &g->stored_index};
    for (size_t i = 0; i < TF_LEN(maps); i++)
        tf_strmap_init(maps[i], &env->mem);
    g->output = -1;
    tfuse_status status = tf_graph_check_text(env, "the name of an architecture", arch ? arch : "");
    if (status == TFUSE_OK && !(g->arch = tf_arena_strdup(env, &g->arena, arch ? arch : "")))
        status = TFUSE_ENOMEM;
    if (status != TFUSE_OK) {
        tf_graph_free(g);
        return status;
    }
    *out = g;
    return TFUSE_OK;
}

void tf_graph_free(tf_graph *g)
{
    if (!g)
        return;
    tf_strmap *maps[] = {&g->node_index, &g->value_index, &g->param_index, &g->port_index, &g->rule_index, &g->stored_index};
    for (size_t i = 0; i < TF_LEN(maps); i++)
        tf_strmap_free(maps[i]);
    tf_arena_free(&g->arena);
    tf_mem mem = g->mem;
    tf_free(&mem, g);
}

void *tf_graph_grow(tf_env *env, tf_graph *g, void *array, size_t *cap, size_t count, size_t size)
{
    if (count <= *cap)
        return array;
    if (count > MAX_ITEMS) {
        tf_fail(env, TFUSE_ENOMEM, "out of memory: a graph holds at most %d of a kind", MAX_ITEMS);
        return NULL;
    }
    const size_t want = *cap ? *cap * 2 : MIN_CAP;
    void *grown = tf_arena_array(env, &g->arena, want, size);
    if (!grown)
        return NULL;
    if (*cap)
        memcpy(grown, array, *cap * size);
    *cap = want;
    return grown;
}

/* ---- checks on what comes in ------------------------------------------------------------------ */

tfuse_status tf_graph_check_open(tf_env *env, const tf_graph *g)
{
    if (g->finished)
        return tf_fail(env, TFUSE_ESTATE, "the graph is finished and takes nothing more");
    if (g->broken)
        return tf_fail(env, TFUSE_ESTATE, "the graph is unusable since a call that built it failed; free it");
    return TFUSE_OK;
}

tfuse_status tf_graph_check_text(tf_env *env, const char *what, const char *text)
{
    char shown[TEXT_SHOWN];
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return tf_fail(env, TFUSE_EINVAL, "%s '%s' holds a control character", what,
                           tf_printable(shown, sizeof shown, text));
    return TFUSE_OK;
}

static tfuse_status check_name(tf_env *env, const tf_graph *g, const char *name)
{
    TF_TRY(tf_graph_check_text(env, "the name of a node", name));
    if (!*name)
        return tf_fail(env, TFUSE_EINVAL, "a node without a name");
    const char *bad = strpbrk(name, " @|*()=,:#!");
    if (bad)
        return tf_fail(env, TFUSE_EINVAL, "node '%s': a name cannot hold '%c'", name, *bad);
    if (tf_strmap_get(&g->node_index, name) >= 0)
        return tf_fail(env, TFUSE_EGRAPH, "node '%s': there is one of this name already", name);
    return TFUSE_OK;
}

/* ---- reading the texts of a node ---------------------------------------------------------------- */

/* The next word of a text, words being separated by spaces; its length in *len, 0 at the end. */
static const char *next_word(const char *text, size_t *len)
{
    text += strspn(text, " ");
    *len = strcspn(text, " ");
    return text;
}

static int count_words(const char *text)
{
    int count = 0;
    size_t len;
    for (text = next_word(text, &len); len > 0; text = next_word(text + len, &len))
        count++;
    return count;
}

static bool has_word(const char *list, const char *word)
{
    const size_t want = strlen(word);
    size_t len;
    for (list = next_word(list, &len); len > 0; list = next_word(list + len, &len))
        if (len == want && memcmp(list, word, len) == 0)
            return true;
    return false;
}

static char *copy_word(tf_env *env, tf_graph *g, const char *word, size_t len)
{
    char *copy = tf_arena_alloc(env, &g->arena, len + 1);
    if (copy)
        memcpy(copy, word, len);
    return copy;
}

static tfuse_status read_inputs(tf_env *env, tf_graph *g, tf_node *n, const char *inputs)
{
    TF_TRY(tf_graph_check_text(env, "inputs", inputs));
    const int count = count_words(inputs);
    if (count < n->op->min_inputs || count > n->op->max_inputs || count > TF_MAX_NODE_IO)
        return tf_fail(env, TFUSE_EGRAPH, TF_NODE_TEXT ": %d inputs; it takes %d to %d", TF_NODE_ARGS(n), count,
                       n->op->min_inputs, n->op->max_inputs);
    size_t len;
    for (const char *w = next_word(inputs, &len); len > 0; w = next_word(w + len, &len)) {
        const char *name = copy_word(env, g, w, len);
        if (!name)
            return TFUSE_ENOMEM;
        const tf_id value = tf_graph_find_value(g, name);
        if (value < 0)
            return tf_fail(env, TFUSE_ENOTFOUND, TF_NODE_TEXT ": no value '%s' comes before it", TF_NODE_ARGS(n), name);
        n->inputs[n->n_inputs++] = value;
    }
    return TFUSE_OK;
}

static tfuse_status read_attr(tf_env *env, tf_graph *g, tf_node *n, const char *word, size_t len, tf_attr *out)
{
    char *key = copy_word(env, g, word, len);
    if (!key)
        return TFUSE_ENOMEM;
    char *equals = strchr(key, '=');
    if (!equals || equals == key || !equals[1])
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": '%s' is not of the form key=value", TF_NODE_ARGS(n), key);
    *equals = '\0';
    if (!has_word(n->op->attrs, key))
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": there is no attribute '%s'; it takes: %s", TF_NODE_ARGS(n), key,
                       n->op->attrs);
    if (tf_node_attr(n, key))
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": attribute '%s' is given twice", TF_NODE_ARGS(n), key);
    out->key = key;
    out->value = equals + 1;
    return TFUSE_OK;
}

static tfuse_status read_attrs(tf_env *env, tf_graph *g, tf_node *n, const char *text)
{
    TF_TRY(tf_graph_check_text(env, "attributes", text));
    tf_attr *attrs = tf_arena_array(env, &g->arena, (size_t)count_words(text), sizeof *attrs);
    if (!attrs)
        return TFUSE_ENOMEM;
    n->attrs = attrs;
    size_t len;
    for (const char *w = next_word(text, &len); len > 0; w = next_word(w + len, &len)) {
        TF_TRY(read_attr(env, g, n, w, len, &attrs[n->n_attrs]));
        n->n_attrs++;
    }
    return TFUSE_OK;
}

/* ---- the builder ---------------------------------------------------------------------------------- */

static tfuse_status make_node(tf_env *env, tf_graph *g, const tf_op *op, const char *name, const char *inputs,
                              const char *attrs, tf_node *n)
{
    memset(n, 0, sizeof *n);
    for (int i = 0; i < TF_MAX_NODE_IO; i++)
        n->inputs[i] = n->outputs[i] = n->params[i] = -1;
    const char *slash = strrchr(name, '/');
    n->op = op;
    n->name = tf_arena_strdup(env, &g->arena, name);
    char *scope = copy_word(env, g, name, slash ? (size_t)(slash - name) : 0);
    if (!n->name || !scope)
        return TFUSE_ENOMEM;
    n->scope = scope;
    TF_TRY(read_inputs(env, g, n, inputs));
    return read_attrs(env, g, n, attrs);
}

static tfuse_status add_input(tf_env *env, tf_graph *g, tf_id value)
{
    TF_ROOM(env, g, inputs);
    g->inputs[g->n_inputs++] = value;
    return TFUSE_OK;
}

static tfuse_status add_node(tf_env *env, tf_graph *g, const char *op_name, const char *name, const char *inputs,
                             const char *attrs)
{
    char shown[TEXT_SHOWN];
    TF_TRY(check_name(env, g, name));
    const tf_op *op = tf_op_find(op_name);
    if (!op)
        return tf_fail(env, TFUSE_ENOTFOUND, "node '%s': there is no operation '%s'", name,
                       tf_printable(shown, sizeof shown, op_name));
    tf_node n;
    TF_TRY(make_node(env, g, op, name, inputs, attrs, &n));
    TF_ROOM(env, g, nodes);
    const tf_id id = (tf_id)g->n_nodes;
    TF_TRY(tf_strmap_put(env, &g->node_index, n.name, id, NULL));
    g->nodes[g->n_nodes++] = n;
    for (int k = 0; k < n.n_inputs; k++)
        g->values[n.inputs[k]].readers++;
    TF_TRY(op->shape(env, g, id));
    if (g->nodes[id].n_outputs == 0)
        return tf_fail(env, TFUSE_EINTERNAL, TF_NODE_TEXT ": the operation declared no output", TF_NODE_ARGS(&n));
    return strcmp(op->name, "input") == 0 ? add_input(env, g, g->nodes[id].outputs[0]) : TFUSE_OK;
}

/* After a failed step the graph is half built. */
static tfuse_status noting(tf_graph *g, tfuse_status status)
{
    g->broken = g->broken || status != TFUSE_OK;
    return status;
}

tfuse_status tf_graph_add(tf_env *env, tf_graph *g, const char *op, const char *name, const char *inputs, const char *attrs)
{
    TF_TRY(tf_graph_check_open(env, g));
    return noting(g, add_node(env, g, op, name, inputs, attrs));
}

tfuse_status tf_graph_store(tf_env *env, tf_graph *g, const char *logical, const char *expression)
{
    TF_TRY(tf_graph_check_open(env, g));
    TF_TRY(tf_graph_check_text(env, "the name of a tensor", logical));
    TF_TRY(tf_graph_check_text(env, "the expression of a tensor", expression));
    if (tf_strmap_get(&g->rule_index, logical) >= 0)
        return tf_fail(env, TFUSE_EGRAPH, "tensor '%s' is named twice: the second time '%s'", logical, expression);
    TF_ROOM(env, g, rules);
    tf_alias *rule = &g->rules[g->n_rules];
    rule->logical = tf_arena_strdup(env, &g->arena, logical);
    rule->expression = tf_arena_strdup(env, &g->arena, expression);
    if (!rule->logical || !rule->expression)
        return TFUSE_ENOMEM;
    TF_TRY(tf_strmap_put(env, &g->rule_index, rule->logical, (int64_t)g->n_rules, NULL));
    g->n_rules++;
    return TFUSE_OK;
}

tfuse_status tf_graph_buffer(tf_env *env, tf_graph *g, const char *pattern)
{
    TF_TRY(tf_graph_check_open(env, g));
    TF_TRY(tf_graph_check_text(env, "the pattern of a buffer", pattern));
    const char *star = strchr(pattern, '*');
    if (!*pattern || (star && strchr(star + 1, '*')))
        return tf_fail(env, TFUSE_EINVAL, "buffer '%s': give a name with at most one '*'", pattern);
    TF_ROOM(env, g, buffers);
    const char *copy = tf_arena_strdup(env, &g->arena, pattern);
    if (!copy)
        return TFUSE_ENOMEM;
    g->buffers[g->n_buffers++] = copy;
    return TFUSE_OK;
}

tfuse_status tf_graph_output(tf_env *env, tf_graph *g, const char *value)
{
    TF_TRY(tf_graph_check_open(env, g));
    TF_TRY(tf_graph_check_text(env, "the output", value));
    const tf_id id = tf_graph_find_value(g, value);
    if (id < 0)
        return tf_fail(env, TFUSE_ENOTFOUND, "the graph has no value '%s' to be its output", value);
    g->output = id;
    return TFUSE_OK;
}

/* ---- finishing -------------------------------------------------------------------------------------- */

static tfuse_status pin_port(void *arg, tf_id port)
{
    ((tf_graph *)arg)->ports[port].pinned = true;
    return TFUSE_OK;
}

/* The outside gives the inputs' units their meaning, and reads the output's. */
static tfuse_status pin_value(tf_graph *g, tf_id value)
{
    const tf_value *v = &g->values[value];
    for (int i = 0; i < v->rank; i++)
        if (v->dims[i])
            TF_TRY(tf_binding_each_port(v->dims[i], pin_port, g));
    return TFUSE_OK;
}

static tfuse_status finish(tf_env *env, tf_graph *g)
{
    if (g->n_inputs == 0)
        return tf_fail(env, TFUSE_EGRAPH, "the graph has no input; add a node of kind 'input'");
    if (g->output < 0)
        return tf_fail(env, TFUSE_EGRAPH, "the graph has no output; say which value it is");
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op->tie)
            TF_TRY(g->nodes[i].op->tie(env, g, (tf_id)i));
    TF_TRY(tf_graph_resolve_names(env, g));
    for (size_t i = 0; i < g->n_inputs; i++)
        TF_TRY(pin_value(g, g->inputs[i]));
    TF_TRY(pin_value(g, g->output));
    TF_TRY(tf_graph_make_classes(env, g));
    TF_TRY(tf_graph_index_stored(env, g));
    g->finished = true;
    return TFUSE_OK;
}

tfuse_status tf_graph_finish(tf_env *env, tf_graph *g)
{
    TF_TRY(tf_graph_check_open(env, g));
    return noting(g, finish(env, g));
}

/* ---- finding ------------------------------------------------------------------------------------------ */

tf_id tf_graph_find_node(const tf_graph *g, const char *name)
{
    return (tf_id)tf_strmap_get(&g->node_index, name);
}

tf_id tf_graph_find_value(const tf_graph *g, const char *name)
{
    return (tf_id)tf_strmap_get(&g->value_index, name);
}

tf_id tf_graph_find_param(const tf_graph *g, const char *name)
{
    return (tf_id)tf_strmap_get(&g->param_index, name);
}

static tfuse_status is_port(void *arg, tf_id port)
{
    return *(const tf_id *)arg == port ? TFUSE_EEXIST : TFUSE_OK;
}

tf_id tf_port_producer(const tf_graph *g, tf_id port)
{
    if (port < 0)
        return -1;
    const tf_id node = g->ports[port].node, param = g->nodes[node].params[0];
    if (param < 0 || g->params[param].rank == 0)
        return -1;
    return tf_binding_each_port(g->params[param].dims[0], is_port, &port) == TFUSE_EEXIST ? node : -1;
}
