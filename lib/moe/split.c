/* SPDX-License-Identifier: Apache-2.0
 *
 * split.c: a dense model's graph beside that of the model it is split into. The layout says what the routed model is; that nothing but the FFNs differs, node
 * by node, is seen here, so a layout that cannot say what the model computes is refused before a tensor is read.
 */
#include "arch/arch.h"
#include "arch/layouts.h"
#include "moe/moe.h"
#include "ops/ops.h"
#include <string.h>

void tf_moe_close(tf_env *env, tf_moe *s)
{
    for (size_t i = 0; s->ffns && i < s->n; i++)
        tf_free(&env->mem, s->ffns[i].order);
    tf_free(&env->mem, s->ffns);
    tf_graph_free(s->dense);
    tf_graph_free(s->routed);
    json_decref(s->config);
    json_decref(s->notes);
    memset(s, 0, sizeof *s);
}

const tf_moe_ffn *tf_moe_ffn_of(const tf_moe *s, tf_id node)
{
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *d = &s->ffns[i].dense;
        const tf_routed *r = &s->ffns[i].routed;
        if (s->back ? node == d->key || node == d->up || node == d->down
                    : node == r->key || node == r->up || node == r->down || node == r->router || node == r->bias)
            return &s->ffns[i];
    }
    return NULL;
}

/* ---- the two graphs ---- */

static bool has_bias(const tf_graph *g, tf_id node)
{
    return node >= 0 && g->nodes[node].n_params > 1 && g->nodes[node].params[1] >= 0;
}

static tfuse_status add_pair(tf_env *env, tf_moe *s, const tf_ffn *dense, const tf_routed *routed)
{
    tf_moe_ffn *f = &s->ffns[s->n++];
    *f = (tf_moe_ffn){.dense = *dense, .routed = *routed, .router = 1};
    if (!(f->order = tf_alloc_array(env, (size_t)dense->units, sizeof *f->order)))
        return TFUSE_ENOMEM;
    for (int64_t u = 0; u < dense->units; u++)
        f->order[u] = u;
    return TFUSE_OK;
}

/* The dense form of a routed FFN, by the name of its second linear; NULL: none. */
static const tf_ffn *dense_of(const tf_moe *s, const tf_ffn *ffns, size_t n, const tf_routed *r)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(s->dense->nodes[ffns[i].down].name, s->routed->nodes[r->down].name) && r->units == ffns[i].units)
            return &ffns[i];
    return NULL;
}

tfuse_status tf_moe_pair(tf_env *env, tf_moe *s, size_t *n_routed)
{
    tf_ffn *ffns = NULL;
    tf_routed *routed = NULL;
    size_t n = 0;
    tfuse_status status = tf_ffn_find(env, s->dense, &ffns, &n);
    if (status == TFUSE_OK)
        status = tf_routed_find(env, s->routed, &routed, n_routed);
    if (status == TFUSE_OK && !(s->ffns = tf_calloc(env, *n_routed + 1, sizeof *s->ffns)))
        status = TFUSE_ENOMEM;
    for (size_t k = 0; status == TFUSE_OK && k < *n_routed; k++) {
        const tf_ffn *f = dense_of(s, ffns, n, &routed[k]);
        if (f)
            status = add_pair(env, s, f, &routed[k]);
    }
    tf_free(&env->mem, ffns);
    tf_free(&env->mem, routed);
    return status;
}

static tfuse_status find_ffns(tf_env *env, tf_moe *s)
{
    size_t n_routed;
    TF_TRY(tf_moe_pair(env, s, &n_routed));
    return s->n == n_routed ? TFUSE_OK
                            : tf_fail(env, TFUSE_EUNSUPPORTED, "%s as %s: %zu feed-forward networks of %zu are split", tf_model_label(s->model), s->layout,
                                      s->n, n_routed);
}

static tfuse_status differs(tf_env *env, const tf_moe *s, const char *node, const char *what)
{
    return tf_fail(env, TFUSE_EUNSUPPORTED, "%s as %s: %s %s there, so it would not compute the same; take another --layout (emoe takes any model)",
                   tf_model_label(s->model), s->layout, node, what);
}

/* An end of the FFN, whose attributes and inputs differ as they should. */
static bool is_end(const tf_moe *s, tf_id dense_node, bool *down)
{
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *f = &s->ffns[i].dense;
        *down = dense_node == f->down;
        if (*down || dense_node == f->key || dense_node == f->up)
            return true;
    }
    return *down = false;
}

static tfuse_status compare_attrs(tf_env *env, const tf_moe *s, const tf_node *a, const tf_node *b, bool end)
{
    for (int side = 0; side < 2; side++) {
        const tf_node *x = side ? b : a, *y = side ? a : b;
        for (int i = 0; i < x->n_attrs; i++) {
            const char *key = x->attrs[i].key, *other = tf_node_attr(y, key);
            if ((end && (!strcmp(key, "out") || !strcmp(key, "bias"))) || (other && !strcmp(other, x->attrs[i].value)) || !strcmp(key, "residual"))
                continue;
            return differs(env, s, a->name, "has other attributes");
        }
    }
    return TFUSE_OK;
}

static tfuse_status compare_node(tf_env *env, const tf_moe *s, tf_id node)
{
    const tf_node *a = &s->dense->nodes[node];
    const tf_id there = tf_graph_find_node(s->routed, a->name);
    const tf_node *b = there >= 0 ? &s->routed->nodes[there] : NULL;
    bool down = false;
    const bool end = is_end(s, node, &down);
    if (!b || a->op != b->op || a->n_inputs != b->n_inputs)
        return differs(env, s, a->name, b ? "is another operation" : "is not");
    TF_TRY(compare_attrs(env, s, a, b, end));
    for (int i = 0; i < a->n_inputs && !down; i++) {
        bool after = false;
        is_end(s, s->dense->values[a->inputs[i]].node, &after); /* what follows the experts may read their sum under another name */
        if (!after && strcmp(s->dense->values[a->inputs[i]].name, s->routed->values[b->inputs[i]].name))
            return differs(env, s, a->name, "reads another value");
    }
    for (int i = 0; i < a->n_params || i < b->n_params; i++) {
        const bool here = i < a->n_params && a->params[i] >= 0, has = i < b->n_params && b->params[i] >= 0;
        if (here != has && !(down && i == 1))
            return differs(env, s, a->name, here ? "has no bias" : "has a bias");
    }
    return TFUSE_OK;
}

static tfuse_status compare(tf_env *env, const tf_moe *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (has_bias(s->dense, s->ffns[i].dense.down) && !has_bias(s->routed, s->ffns[i].routed.down) && s->ffns[i].routed.bias < 0)
            return differs(env, s, s->dense->nodes[s->ffns[i].dense.down].name, "has no bias");
    for (size_t i = 0; i < s->dense->n_nodes; i++)
        TF_TRY(compare_node(env, s, (tf_id)i));
    return TFUSE_OK;
}

/* Chosen experts weigh one, or their shares among the chosen or among all, which are made equal. */
static void find_weight(tf_moe *s)
{
    const char *weights = s->n ? tf_node_attr(&s->routed->nodes[s->ffns[0].routed.route], "weights") : NULL;
    s->down = !weights || !strcmp(weights, "chosen") ? (double)s->how.top_k : !strcmp(weights, "all") ? (double)s->how.experts : 1;
}

/* ---- opening ---- */

static tfuse_status check_dense(tf_env *env, const tf_moe *s)
{
    bool split = false;
    tf_emoe how;
    TF_TRY(tf_emoe_read(env, s->model, &split, &how));
    for (size_t i = 0; i < s->dense->n_nodes; i++)
        split = split || s->dense->nodes[i].op == &tf_op_route;
    return split ? tf_fail(env, TFUSE_EUNSUPPORTED, "%s: is a mixture of experts already; --dense joins one that was split", tf_model_label(s->model))
                 : TFUSE_OK;
}

static tfuse_status read_policy(tf_env *env, const tfuse_policy *policy, tf_emoe *how)
{
    *how = (tf_emoe){.experts = tf_policy_int(policy, "moe.experts"), .top_k = tf_policy_int(policy, "moe.top_k"), .start = 0, .every = 1};
    if (how->experts < 1 || how->top_k < 1)
        return tf_fail(env, TFUSE_EINVAL, "moe.%s is not given: how many experts %s? give --%s", how->experts < 1 ? "experts" : "top_k",
                       how->experts < 1 ? "is an FFN cut into" : "does a token go to", how->experts < 1 ? "experts E" : "top-k K");
    if (how->top_k > how->experts)
        return tf_fail(env, TFUSE_EINVAL, "moe.top_k=%lld: a token cannot go to more experts than there are, %lld", (long long)how->top_k,
                       (long long)how->experts);
    return TFUSE_OK;
}

/* Says which FFN cannot be cut before a layout says it less well. */
static tfuse_status check_units(tf_env *env, const tf_moe *s)
{
    tf_ffn *ffns = NULL;
    size_t n = 0;
    tfuse_status status = tf_ffn_find(env, s->dense, &ffns, &n);
    if (status == TFUSE_OK && n == 0)
        status = tf_fail(env, TFUSE_EUNSUPPORTED, "%s: there is no feed-forward network to split: none of its nodes is a linear, a function and a linear back "
                         "to the axis it came from", tf_model_label(s->model));
    for (size_t i = 0; i < n && status == TFUSE_OK; i++)
        if (ffns[i].units % s->how.experts)
            status = tf_fail(env, TFUSE_ESHAPE, "%s: the %lld hidden units of %s cannot be cut into %lld equal experts", tf_model_label(s->model),
                             (long long)ffns[i].units, s->dense->nodes[ffns[i].key].name, (long long)s->how.experts);
    tf_free(&env->mem, ffns);
    return status;
}

static tfuse_status open_split(tf_env *env, tf_moe *s)
{
    TF_TRY(tf_graph_build_dense(env, s->model, &s->dense));
    TF_TRY(check_dense(env, s));
    TF_TRY(check_units(env, s));
    TF_TRY(tf_layout_config(env, s->layout, s->model, &s->how, &s->config));
    TF_TRY(tf_layout_graph(env, s->layout, s->model, s->dense, &s->how, &s->routed));
    TF_TRY(find_ffns(env, s));
    find_weight(s);
    return compare(env, s);
}

static tfuse_status opened(tf_env *env, tfuse_status status, tf_moe *s)
{
    if (status != TFUSE_OK)
        tf_moe_close(env, s);
    return status;
}

tfuse_status tf_moe_open(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const tfuse_model *m, tf_moe *out)
{
    *out = (tf_moe){.policy = policy, .solvers = solvers, .model = m, .layout = tf_policy_text(policy, "moe.layout")};
    TF_TRY(read_policy(env, policy, &out->how));
    return opened(env, open_split(env, out), out);
}

tfuse_status tf_moe_with_top_k(tf_env *env, const tf_moe *s, int64_t top_k, tf_moe *out)
{
    *out = (tf_moe){.policy = s->policy, .solvers = s->solvers, .model = s->model, .layout = s->layout, .how = s->how};
    out->how.top_k = top_k;
    TF_TRY(opened(env, open_split(env, out), out));
    for (size_t i = 0; i < s->n; i++)
        memcpy(out->ffns[i].order, s->ffns[i].order, (size_t)s->ffns[i].dense.units * sizeof *s->ffns[i].order);
    return TFUSE_OK;
}
