/* SPDX-License-Identifier: Apache-2.0
 *
 * route.c: what makes a mixture of experts (Shazeer et al. 2017) of a wide layer: units come as experts*hidden, and each expert's are multiplied by
 * the weight that the token's router gives it, zero for all but the `top_k` experts whose logits are largest. With D = [D_1 ... D_E] side by side
 *     sum_e w_e D_e h_e = D (w_1 h_1, ..., w_E h_E),
 * so experts are linears with a part for each and this between them. Weights are the router's softmax, over the chosen experts (weights=chosen)
 * or over all (weights=all), or one for each that is chosen (weights=one). Experts permute together with the router's logits;
 * a weight commutes with every map inside its expert.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

enum { HIDDEN, ROUTER };
typedef enum scheme { CHOSEN, ALL, ONE, UNKNOWN } scheme;

static scheme scheme_of(const tf_node *n)
{
    static const char *const names[] = {"chosen", "all", "one"};
    const char *text = tf_node_attr(n, "weights");
    for (int i = 0; text && i < UNKNOWN; i++)
        if (!strcmp(text, names[i]))
            return (scheme)i;
    return text ? UNKNOWN : CHOSEN;
}

tfuse_status tf_route_check(tf_env *env, const tf_node *n, int64_t experts)
{
    int64_t top_k = 0;
    TF_TRY(tf_node_int_required(env, n, "top_k", 1, experts, &top_k));
    if (scheme_of(n) == UNKNOWN)
        return tf_fail(env, TFUSE_EGRAPH, "%s '%s': weights=%s is none of chosen, all, one", n->op->name, n->name, tf_node_attr(n, "weights"));
    return TFUSE_OK;
}

const tf_factor *tf_experts_of(const tf_binding *b)
{
    return b->n_segments == 1 && b->segments[0].n_factors >= 2 ? &b->segments[0].factors[0] : NULL;
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    TF_TRY(tf_need_channels(env, g, n, HIDDEN));
    TF_TRY(tf_need_channels(env, g, n, ROUTER));
    const tf_value *x = &g->values[n->inputs[HIDDEN]], *router = &g->values[n->inputs[ROUTER]];
    const tf_factor *experts = tf_experts_of(tf_value_channels(g, n->inputs[HIDDEN]));
    if (!experts)
        return tf_fail(env, TFUSE_EGRAPH, "route '%s': the channels of '%s' are not experts*hidden", n->name, x->name);
    if (router->rank != x->rank || router->extent[router->rank - 1] != experts->extent || (x->rank == 2 && x->extent[0] != router->extent[0]))
        return tf_fail(env, TFUSE_ESHAPE, "route '%s': '%s' is not one logit of each of the %lld experts for each token", n->name, router->name,
                       (long long)experts->extent);
    TF_TRY(tf_route_check(env, n, experts->extent));
    return tf_output_like(env, g, node, n->inputs[HIDDEN], tf_value_channels(g, n->inputs[HIDDEN]));
}

static const tf_factor *logits_of(const tf_graph *g, const tf_node *n)
{
    const tf_binding *b = tf_value_channels(g, n->inputs[ROUTER]);
    return b->n_segments == 1 && b->segments[0].n_factors == 1 ? &b->segments[0].factors[0] : NULL;
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_factor *experts = tf_experts_of(tf_value_channels(g, n->inputs[HIDDEN])), *logits = logits_of(g, n);
    if (logits && experts->kind == TF_FACTOR_PORT && logits->kind == TF_FACTOR_PORT)
        return tf_tie_ports(env, g, node, experts->port, logits->port, false);
    return tf_fail(env, TFUSE_EGRAPH, "route '%s': the experts are not an axis on both sides", n->name);
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_port(p, tf_experts_of(tf_value_channels(p->g, n->inputs[HIDDEN]))->port, TF_GROUP_PERM);
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    (void)g, (void)n;
    return tf_batch_channels(in[ROUTER]);
}

/* Equal logits: the lower index first. */
void tf_route_weights(const tf_node *n, const float *logits, int64_t experts, float *weights)
{
    const int64_t top_k = tf_node_int_at(n, "top_k", 1);
    const scheme how = scheme_of(n);
    double chosen = 0.0, all = 0.0;
    float most = logits[0];
    for (int64_t e = 1; e < experts; e++)
        most = logits[e] > most ? logits[e] : most;
    for (int64_t e = 0; e < experts; e++) {
        const double mass = exp((double)logits[e] - (double)most);
        int64_t rank = 0;
        for (int64_t o = 0; o < experts; o++)
            rank += logits[o] > logits[e] || (logits[o] == logits[e] && o < e);
        all += mass;
        chosen += rank < top_k ? mass : 0;
        weights[e] = rank < top_k ? how == ONE ? 1 : (float)mass : 0;
    }
    const float total = how == ONE ? 1 : (float)(how == ALL ? all : chosen);
    for (int64_t e = 0; e < experts; e++)
        weights[e] /= total;
}

static void forward(tf_forward *f, const tf_node *n)
{
    const int64_t rows = tf_batch_rows(f->in[HIDDEN]), experts = tf_batch_channels(f->in[ROUTER]);
    const int64_t hidden = tf_batch_channels(f->in[HIDDEN]) / experts;
    const float *x = f->in[HIDDEN]->data;
    float *y = f->out[0]->data;
    for (int64_t r = 0; r < rows; r++) {
        tf_route_weights(n, f->in[ROUTER]->data + r * experts, experts, f->scratch);
        for (int64_t e = 0; e < experts; e++)
            for (int64_t h = 0; h < hidden; h++, x++, y++)
                *y = *x * f->scratch[e];
    }
}

const tf_op tf_op_route = {
    .name = "route",
    .help = "experts*hidden units times the weights of their experts, by the router's logits: top_k= [weights=chosen|all|one]",
    .attrs = "top_k weights",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .shape = shape,
    .tie = tie,
    .permits = permits,
    .flow = tf_flow_pass,
    .extents = tf_extents_like,
    .scratch_size = scratch_size,
    .forward = forward,
};
