/* SPDX-License-Identifier: Apache-2.0
 *
 * walk.c: see walk.h.
 */
#include "passes/walk.h"

tfuse_status tf_walk_level(tf_env *env, const tf_view *base, const char *pass, tf_rewrite_fn rewrite, tf_view **out)
{
    tf_view *level = NULL;
    *out = NULL;
    TF_TRY(tf_view_above(env, base, pass, &level));
    const tfuse_status status = rewrite(env, level);
    if (status == TFUSE_OK)
        *out = level;
    else
        tf_view_free(level);
    return status;
}

static bool owns_params(const tf_graph *g, const tf_node *n)
{
    for (int i = 0; i < n->n_params; i++)
        if (n->params[i] >= 0 && !tf_param_is_private(g, n->params[i]))
            return false;
    return true;
}

static bool reads(const tf_node *n, const bool *reached)
{
    for (int i = 0; i < n->n_inputs; i++)
        if (reached[n->inputs[i]])
            return true;
    return false;
}

/* Nodes stand after those that they read, so one sweep follows the chains of `token` nodes. */
tfuse_status tf_walk_linears(tf_env *env, const tf_graph *g, tf_id value, bool *all, tf_id **out, size_t *count)
{
    *all = true;
    *count = 0;
    *out = tf_alloc_array(env, g->n_nodes, sizeof **out);
    bool *reached = tf_calloc(env, g->n_values, sizeof *reached);
    if (!*out || !reached) {
        tf_free(&env->mem, *out);
        tf_free(&env->mem, reached);
        *out = NULL;
        return TFUSE_ENOMEM;
    }
    reached[value] = true;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        if (!reads(n, reached))
            continue;
        if (n->op == &tf_op_token || n->op == &tf_op_mean_tokens)
            reached[n->outputs[0]] = true;
        else if (n->op == &tf_op_linear && owns_params(g, n))
            (*out)[(*count)++] = (tf_id)i;
        else
            *all = false;
    }
    *all = *all && !(g->output >= 0 && reached[g->output]);
    tf_free(&env->mem, reached);
    return TFUSE_OK;
}

tf_id tf_walk_sole_linear(const tf_graph *g, tf_id value)
{
    const tf_id node = g->values[value].node;
    const tf_node *n = &g->nodes[node];
    return n->op == &tf_op_linear && owns_params(g, n) && tf_count_readers(g, value) == 1 ? node : -1;
}

tfuse_status tf_walk_is_zero(tf_env *env, const tf_view *view, tf_id param, bool *zero)
{
    *zero = true;
    if (param < 0)
        return TFUSE_OK;
    const tf_param *p = &view->g->params[param];
    size_t count = 1;
    for (int d = 0; d < p->rank; d++)
        count *= (size_t)p->shape[d];
    float *x = NULL;
    TF_TRY(tf_view_load(env, view, param, &x));
    for (size_t i = 0; i < count && *zero; i++)
        *zero = x[i] == 0.0f;
    tf_free(&env->mem, x);
    return TFUSE_OK;
}
