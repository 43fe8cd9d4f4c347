/* SPDX-License-Identifier: Apache-2.0
 *
 * ties.c: ports joined into classes: union-find with a parity (Tarjan 1975; parities as in 2-colouring).
 *
 * Beside its link `up` a port keeps whether it moves by the T^-T of what it links to. Duality is an involution, so along a path
 * relations add modulo two. The port with the smaller number becomes the root, so a root is the first port of its class.
 * When a tie closes a cycle of odd parity, T = T^-T on that class, which holds for orthogonal maps alone: the class is marked
 * self-dual and stays usable.
 */
#include "graph/build.h"

#include <string.h>

/* Root of a port, and whether the port is in dual relation to it. Shortens the path. */
static tf_id find_root(tf_graph *g, tf_id port, bool *dual)
{
    bool total = false;
    tf_id root = port;
    for (; g->ports[root].up != root; root = g->ports[root].up)
        total ^= g->ports[root].up_dual;
    *dual = total;
    while (port != root) {
        tf_port *p = &g->ports[port];
        const tf_id next = p->up;
        const bool step = p->up_dual;
        p->up = root;
        p->up_dual = total;
        total ^= step;
        port = next;
    }
    return root;
}

tfuse_status tf_tie_ports(tf_env *env, tf_graph *g, tf_id node, tf_id a, tf_id b, bool dual)
{
    const tf_port *x = &g->ports[a], *y = &g->ports[b];
    if (x->extent != y->extent)
        return tf_fail(env, TFUSE_EGRAPH, TF_NODE_TEXT ": '%s' has %lld units and '%s' %lld, but they must be one axis",
                       TF_NODE_ARGS(&g->nodes[node]), x->name, (long long)x->extent, y->name, (long long)y->extent);
    bool dual_a, dual_b;
    const tf_id root_a = find_root(g, a, &dual_a), root_b = find_root(g, b, &dual_b);
    const bool relation = dual ^ dual_a ^ dual_b;
    tf_port *first = &g->ports[root_a < root_b ? root_a : root_b], *second = &g->ports[root_a < root_b ? root_b : root_a];
    if (first == second) {
        first->self_dual = first->self_dual || relation;
        return TFUSE_OK;
    }
    second->up = first->up;
    second->up_dual = relation;
    first->self_dual = first->self_dual || second->self_dual;
    return TFUSE_OK;
}

/* ---- bindings ---------------------------------------------------------------------------------------- */

static tfuse_status mismatch(tf_env *env, const tf_graph *g, tf_id node, const tf_binding *a, const tf_binding *b)
{
    tf_buf x, y;
    tf_buf_init(&x, &env->mem);
    tf_buf_init(&y, &env->mem);
    tfuse_status status;
    TF_TRY_OUT(tf_binding_text(env, g, a, &x));
    TF_TRY_OUT(tf_binding_text(env, g, b, &y));
    status = tf_fail(env, TFUSE_EGRAPH, TF_NODE_TEXT ": " TF_LONG_TEXT " and " TF_LONG_TEXT " must be one axis, but differ in structure",
                     TF_NODE_ARGS(&g->nodes[node]), x.data, y.data);
out:
    tf_buf_free(&x);
    tf_buf_free(&y);
    return status;
}

static bool same_structure(const tf_binding *a, const tf_binding *b)
{
    if (a->n_segments != b->n_segments)
        return false;
    for (int s = 0; s < a->n_segments; s++) {
        const tf_segment *x = &a->segments[s], *y = &b->segments[s];
        if (x->n_factors != y->n_factors)
            return false;
        for (int i = 0; i < x->n_factors; i++) {
            const tf_factor *f = &x->factors[i], *h = &y->factors[i];
            if (f->extent != h->extent || (f->kind == TF_FACTOR_CONCAT) != (h->kind == TF_FACTOR_CONCAT) ||
                (f->kind == TF_FACTOR_CONCAT && !same_structure(f->concat, h->concat)))
                return false;
        }
    }
    return true;
}

typedef tfuse_status (*pair_fn)(tf_env *env, tf_graph *g, tf_id node, const tf_factor *a, const tf_factor *b);

/* Calls fn for the leaves of two bindings of one structure. */
static tfuse_status each_pair(tf_env *env, tf_graph *g, tf_id node, const tf_binding *a, const tf_binding *b, pair_fn fn)
{
    for (int s = 0; s < a->n_segments; s++)
        for (int i = 0; i < a->segments[s].n_factors; i++) {
            const tf_factor *f = &a->segments[s].factors[i], *h = &b->segments[s].factors[i];
            if (f->kind == TF_FACTOR_CONCAT)
                TF_TRY(each_pair(env, g, node, f->concat, h->concat, fn));
            else
                TF_TRY(fn(env, g, node, f, h));
        }
    return TFUSE_OK;
}

/* A fixed extent does not move, so neither does a port that is one with it. */
static tfuse_status tie_factors(tf_env *env, tf_graph *g, tf_id node, const tf_factor *a, const tf_factor *b)
{
    if (a->kind == TF_FACTOR_PORT && b->kind == TF_FACTOR_PORT)
        return tf_tie_ports(env, g, node, a->port, b->port, false);
    if (a->kind == TF_FACTOR_PORT)
        g->ports[a->port].pinned = true;
    if (b->kind == TF_FACTOR_PORT)
        g->ports[b->port].pinned = true;
    return TFUSE_OK;
}

tfuse_status tf_tie_bindings(tf_env *env, tf_graph *g, tf_id node, const tf_binding *a, const tf_binding *b)
{
    if (a == b)
        return TFUSE_OK;
    if (!same_structure(a, b))
        return mismatch(env, g, node, a, b);
    return each_pair(env, g, node, a, b, tie_factors);
}

/* ---- one tensor in two roles ---------------------------------------------------------------------------- */

static tfuse_status tie_to_own_dual(tf_env *env, tf_graph *g, tf_id node, const tf_factor *a, const tf_factor *b)
{
    (void)b;
    return a->kind == TF_FACTOR_PORT ? tf_tie_ports(env, g, node, a->port, a->port, true) : TFUSE_OK;
}

/* Where one use is produced and the other consumed, W -> T W in one and W -> W T^-1 in the other along the same dimension, that is
 * T and T^-T acting on its index: equal for orthogonal maps. */
tfuse_status tf_tie_tensors(tf_env *env, tf_graph *g, tf_id node, tf_id param, const tf_binding *const *dims, const tf_use *uses)
{
    const tf_param p = g->params[param];
    for (int i = 0; i < p.rank; i++) {
        TF_TRY(tf_tie_bindings(env, g, node, p.dims[i], dims[i]));
        if (p.use[i] == uses[i])
            continue;
        if (p.use[i] == TF_USE_NEUTRAL || uses[i] == TF_USE_NEUTRAL)
            return tf_fail(env, TFUSE_EGRAPH, TF_NODE_TEXT ": dimension %d of tensor '%s' is %s in one use and %s in the other",
                           TF_NODE_ARGS(&g->nodes[node]), i, p.name, tf_use_name(p.use[i]), tf_use_name(uses[i]));
        TF_TRY(each_pair(env, g, node, p.dims[i], p.dims[i], tie_to_own_dual));
    }
    return TFUSE_OK;
}

/* ---- classes ------------------------------------------------------------------------------------------------ */

static bool inside_class(const tf_graph *g, tf_id port, tf_id cls)
{
    for (tf_id up = g->ports[port].parent; up >= 0; up = g->ports[up].parent)
        if (g->class_of[up] == cls)
            return true;
    return false;
}

/* The innermost ancestor of the class's first port that all its ports share. Parents cannot form a cycle: if every port of A lay
 * inside a port of B and the reverse, a chain of ancestors would not end. */
static void find_parents(tf_graph *g)
{
    tf_id *candidate = g->class_parent; /* a port until the end */
    for (size_t p = 0; p < g->n_ports; p++) {
        const tf_id cls = g->class_of[p];
        if (g->class_port[cls] == (tf_id)p)
            candidate[cls] = g->ports[p].parent;
        tf_id *c = &candidate[cls];
        while (*c >= 0 && (g->class_of[*c] == cls || !inside_class(g, (tf_id)p, g->class_of[*c])))
            *c = g->ports[*c].parent;
    }
    for (size_t c = 0; c < g->n_classes; c++)
        candidate[c] = candidate[c] < 0 ? -1 : g->class_of[candidate[c]];
}

/* Ports share what any of them says of their class. Reading a dual side (use consumed) needs T^T, which is T^-1 for orthogonal maps:
 * see tf_param_use. */
static tfuse_status note_consumed(void *arg, tf_id port)
{
    tf_graph *g = arg;
    if (g->class_dual[port])
        g->ports[g->class_port[g->class_of[port]]].self_dual = true;
    return TFUSE_OK;
}

static tfuse_status share_properties(tf_graph *g)
{
    for (size_t i = 0; i < g->n_params; i++)
        for (int d = 0; d < g->params[i].rank; d++)
            if (g->params[i].use[d] == TF_USE_CONSUMED)
                TF_TRY(tf_binding_each_port(g->params[i].dims[d], note_consumed, g));
    for (size_t p = 0; p < g->n_ports; p++) {
        tf_port *first = &g->ports[g->class_port[g->class_of[p]]];
        first->pinned = first->pinned || g->ports[p].pinned;
    }
    for (size_t p = 0; p < g->n_ports; p++) {
        const tf_port *first = &g->ports[g->class_port[g->class_of[p]]];
        g->ports[p].pinned = first->pinned;
        g->ports[p].self_dual = first->self_dual;
    }
    return TFUSE_OK;
}

/* A class is called by the axis of its first port; where that is taken, "#2", "#3", ... is added. `next` holds, at the class that has
 * the bare name, the number tried last. */
static tfuse_status name_class(tf_env *env, tf_graph *g, tf_strmap *names, int *next, tf_id cls)
{
    const char *axis = g->ports[g->class_port[cls]].axis, *name = axis;
    int64_t was = -1;
    TF_TRY(tf_strmap_put(env, names, axis, cls, &was));
    int *number = was < 0 ? &next[cls] : &next[was];
    while (was >= 0) {
        name = tf_arena_printf(env, &g->arena, "%s#%d", axis, ++*number + 1);
        if (!name)
            return TFUSE_ENOMEM;
        TF_TRY(tf_strmap_put(env, names, name, cls, &was));
    }
    g->class_name[cls] = name;
    return TFUSE_OK;
}

static tfuse_status name_classes(tf_env *env, tf_graph *g)
{
    tf_strmap names;
    tf_strmap_init(&names, &env->mem);
    tfuse_status status = TFUSE_OK;
    int *next = tf_calloc(env, g->n_classes, sizeof *next);
    if (!next)
        status = TFUSE_ENOMEM;
    for (size_t c = 0; status == TFUSE_OK && c < g->n_classes; c++)
        status = name_class(env, g, &names, next, (tf_id)c);
    tf_free(&env->mem, next);
    tf_strmap_free(&names);
    return status;
}

tfuse_status tf_graph_make_classes(tf_env *env, tf_graph *g)
{
    const size_t n = g->n_ports;
    g->class_of = tf_arena_array(env, &g->arena, n, sizeof *g->class_of);
    g->class_dual = tf_arena_array(env, &g->arena, n, sizeof *g->class_dual);
    g->class_port = tf_arena_array(env, &g->arena, n, sizeof *g->class_port);
    g->class_parent = tf_arena_array(env, &g->arena, n, sizeof *g->class_parent);
    g->class_name = tf_arena_array(env, &g->arena, n, sizeof *g->class_name);
    if (!g->class_of || !g->class_dual || !g->class_port || !g->class_parent || !g->class_name)
        return TFUSE_ENOMEM;
    for (size_t p = 0; p < n; p++) {
        const tf_id root = find_root(g, (tf_id)p, &g->class_dual[p]);
        if (root == (tf_id)p) {
            g->class_port[g->n_classes] = root;
            g->class_of[p] = (tf_id)g->n_classes++;
        } else {
            g->class_of[p] = g->class_of[root];
        }
    }
    find_parents(g);
    TF_TRY(share_properties(g));
    return name_classes(env, g);
}

/* ---- what is asked of classes ---------------------------------------------------------------------------------- */

int64_t tf_class_extent(const tf_graph *g, tf_id cls)
{
    return g->ports[g->class_port[cls]].extent;
}

bool tf_class_pinned(const tf_graph *g, tf_id cls)
{
    return g->ports[g->class_port[cls]].pinned;
}

tf_id tf_class_parent(const tf_graph *g, tf_id cls)
{
    return g->class_parent[cls];
}

tf_id tf_class_find(const tf_graph *g, const char *name)
{
    for (size_t c = 0; c < g->n_classes; c++)
        if (strcmp(g->class_name[c], name) == 0)
            return (tf_id)c;
    return -1;
}

/* In dual relation T^-T stands for T: a produced side gets T^-T, a dual one (T^-T)^-T = T. The consumed side would get T^T: such a class
 * admits orthogonal maps alone, for which that is T^-1. A permutation is its own dual. */
tf_use tf_param_use(const tf_graph *g, tf_id param, int dim, tf_id port)
{
    const tf_use use = g->params[param].use[dim];
    if (port < 0 || !g->class_dual[port])
        return use;
    return use == TF_USE_PRODUCED ? TF_USE_DUAL : use == TF_USE_DUAL ? TF_USE_PRODUCED : use;
}

const char *tf_use_name(tf_use use)
{
    static const char *const names[] = {"produced", "consumed", "dual", "neutral"};
    return (size_t)use < TF_LEN(names) ? names[use] : "?";
}
