/* SPDX-License-Identifier: Apache-2.0
 *
 * shape.c: what an operation declares when a node is added: its parameters and its outputs.
 */
#include "graph/build.h"

#include <string.h>

/* ---- parameters ---------------------------------------------------------------------------------- */

/* Fails unless the bytes of a float64 tensor of this shape can be counted. */
static tfuse_status check_size(tf_env *env, const tf_node *n, const char *name, const tf_param *p)
{
    size_t bytes = sizeof(double);
    for (int i = 0; i < p->rank; i++)
        if (!tf_mul_size(bytes, (size_t)p->shape[i], &bytes) || bytes > INT64_MAX)
            return tf_fail(env, TFUSE_ESHAPE, TF_NODE_TEXT ": tensor '%s' is larger than memory can be", TF_NODE_ARGS(n),
                           name);
    return TFUSE_OK;
}

static tfuse_status new_param(tf_env *env, tf_graph *g, tf_param p, tf_id *out)
{
    TF_ROOM(env, g, params);
    const tf_id id = (tf_id)g->n_params;
    int64_t was = -1;
    TF_TRY(tf_strmap_put(env, &g->param_index, p.name, id, &was));
    if (was >= 0)
        return tf_fail(env, TFUSE_EGRAPH, "tensor '%s' is declared twice", p.name);
    g->params[g->n_params++] = p;
    *out = id;
    return TFUSE_OK;
}

/* The tensor that an attribute names is used in place of a new one. */
static tfuse_status shared_param(tf_env *env, tf_graph *g, tf_id node, const char *name, const tf_param *want, tf_id *out)
{
    const tf_node *n = &g->nodes[node];
    const tf_id id = tf_graph_find_param(g, name);
    if (id < 0)
        return tf_fail(env, TFUSE_ENOTFOUND, TF_NODE_TEXT ": no tensor '%s' comes before it", TF_NODE_ARGS(n), name);
    const tf_param *p = &g->params[id];
    bool same = p->rank == want->rank;
    for (int i = 0; same && i < p->rank; i++)
        same = p->shape[i] == want->shape[i];
    if (!same)
        return tf_fail(env, TFUSE_ESHAPE, TF_NODE_TEXT ": tensor '%s' has another shape than '%s'", TF_NODE_ARGS(n), name,
                       want->name);
    TF_TRY(tf_tie_tensors(env, g, node, id, want->dims, want->use));
    *out = id;
    return TFUSE_OK;
}

tfuse_status tf_node_param(tf_env *env, tf_graph *g, tf_id node, int slot, const char *name, int rank,
                           const tf_binding *const *dims, const tf_use *uses)
{
    tf_node *n = &g->nodes[node];
    if (slot < 0 || slot >= TF_MAX_NODE_IO || rank < 0 || rank > TF_MAX_PARAM_RANK)
        return tf_fail(env, TFUSE_EINTERNAL, TF_NODE_TEXT ": parameter '%s' in slot %d, of rank %d", TF_NODE_ARGS(n), name, slot,
                       rank);
    tf_param p = {.node = node, .rank = rank};
    p.name = tf_arena_printf(env, &g->arena, "%s.%s", n->name, name);
    if (!p.name)
        return TFUSE_ENOMEM;
    for (int i = 0; i < rank; i++) {
        p.dims[i] = dims[i];
        p.shape[i] = dims[i]->extent;
        p.use[i] = uses[i];
    }
    TF_TRY(check_size(env, n, name, &p));
    const char *attr = tf_node_attr(n, name);
    tf_id id = -1;
    if (attr && attr[0] == '@')
        TF_TRY(shared_param(env, g, node, attr + 1, &p, &id));
    else
        TF_TRY(new_param(env, g, p, &id));
    n->params[slot] = id;
    g->params[id].holders++;
    if (slot >= n->n_params)
        n->n_params = slot + 1;
    return TFUSE_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------------- */

tfuse_status tf_node_output(tf_env *env, tf_graph *g, tf_id node, const char *suffix, int rank, const int64_t *extent,
                            const tf_binding *const *dims, tf_id *out)
{
    tf_node *n = &g->nodes[node];
    *out = -1;
    if (rank < 1 || rank > TF_MAX_DIMS || n->n_outputs == TF_MAX_NODE_IO || (n->n_outputs > 0 && !suffix))
        return tf_fail(env, TFUSE_EINTERNAL, TF_NODE_TEXT ": output %d of rank %d", TF_NODE_ARGS(n), n->n_outputs, rank);
    tf_value v = {.node = node, .rank = rank};
    for (int i = 0; i < rank; i++) {
        v.extent[i] = extent[i];
        v.dims[i] = dims[i];
        if (dims[i] && dims[i]->extent != extent[i] && extent[i] != 0)
            return tf_fail(env, TFUSE_EINTERNAL, TF_NODE_TEXT ": dimension %d of an output has %lld units, but %lld are bound",
                           TF_NODE_ARGS(n), i, (long long)extent[i], (long long)dims[i]->extent);
    }
    v.name = suffix ? tf_arena_printf(env, &g->arena, "%s:%s", n->name, suffix) : n->name;
    if (!v.name)
        return TFUSE_ENOMEM;
    TF_ROOM(env, g, values);
    const tf_id id = (tf_id)g->n_values;
    int64_t was = -1;
    TF_TRY(tf_strmap_put(env, &g->value_index, v.name, id, &was));
    if (was >= 0)
        return tf_fail(env, TFUSE_EGRAPH, TF_NODE_TEXT ": output '%s' is declared twice", TF_NODE_ARGS(n), v.name);
    g->values[g->n_values++] = v;
    n->outputs[n->n_outputs++] = id;
    *out = id;
    return TFUSE_OK;
}
