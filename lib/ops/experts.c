/* SPDX-License-Identifier: Apache-2.0
 *
 * experts.c: a mixture of experts (Shazeer et al. 2017): each token goes to the `top_k` experts that its router logits rank first, and
 * their outputs are summed with the router's softmax as weights, taken over the chosen ones (normalise=1) or over all. The weights are
 * stacks over the experts: up and gate experts × hidden × in, down experts × out × hidden; an expert is
 *     down act(up x)      or, gated,      down (act(gate x) * up x).
 * Experts permute together with the router's rows; inside each, hidden units permute, with a scale between up and down when gated.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

enum { UP, GATE, DOWN };    /* parameters */
enum { TOKENS, ROUTER };    /* inputs */

/* The axes of the experts and, inside them, of the hidden units; a binding for each. */
static tfuse_status expert_axes(tf_env *env, tf_graph *g, tf_id node, const tf_binding **experts,
                                const tf_binding **hidden)
{
    const tf_node *n = &g->nodes[node];
    const char *e = tf_node_attr(n, "experts"), *h = tf_node_attr(n, "hidden");
    const tf_binding *both = NULL;
    if (!e || !h)
        return tf_fail(env, TFUSE_EGRAPH, "experts '%s': %s=NAME:EXTENT is missing", n->name, e ? "hidden" : "experts");
    char *spec = tf_arena_printf(env, &g->arena, "%s*%s", e, h);
    if (!spec)
        return TFUSE_ENOMEM;
    TF_TRY(tf_node_ports(env, g, node, spec, &both));
    const tf_segment *s = both->segments;
    if (both->n_segments != 1 || s->n_factors != 2 || s->factors[0].kind != TF_FACTOR_PORT ||
        s->factors[1].kind != TF_FACTOR_PORT)
        return tf_fail(env, TFUSE_EGRAPH, "experts '%s': experts=%s hidden=%s is not NAME:EXTENT twice",
                       g->nodes[node].name, e, h);
    TF_TRY(tf_binding_of(env, g, &s->factors[0], 1, experts));
    return tf_binding_of(env, g, &s->factors[1], 1, hidden);
}

static tfuse_status check_attrs(tf_env *env, const tf_graph *g, const tf_node *n, int64_t experts, bool *gated)
{
    const tf_value *x = &g->values[n->inputs[TOKENS]], *router = &g->values[n->inputs[ROUTER]];
    int64_t top_k = 0;
    bool normalise = true;
    TF_TRY(tf_node_int(env, n, "top_k", 1, experts, 1, &top_k));
    TF_TRY(tf_node_flag(env, n, "normalise", true, &normalise));
    TF_TRY(tf_node_flag(env, n, "gated", false, gated));
    if (!tf_node_activation(env, n, "activation"))
        return TFUSE_EGRAPH;
    if (router->rank != x->rank || router->extent[router->rank - 1] != experts ||
        (x->rank == 2 && x->extent[0] != router->extent[0]))
        return tf_fail(env, TFUSE_ESHAPE, "experts '%s': '%s' is not one logit of each of the %lld experts for each token",
                       n->name, router->name, (long long)experts);
    return TFUSE_OK;
}

static tfuse_status make_params(tf_env *env, tf_graph *g, tf_id node, const tf_binding *experts, const tf_binding *hidden,
                                const tf_binding *out, bool gated)
{
    const tf_binding *in = tf_value_channels(g, g->nodes[node].inputs[TOKENS]);
    const tf_binding *into[3] = {experts, hidden, in}, *from[3] = {experts, out, hidden};
    const tf_use plain[3] = {TF_USE_PRODUCED, TF_USE_PRODUCED, TF_USE_CONSUMED};
    const tf_use gate[3] = {TF_USE_PRODUCED, TF_USE_NEUTRAL, TF_USE_CONSUMED};
    TF_TRY(tf_node_param(env, g, node, UP, "up", 3, into, plain));
    if (gated)
        TF_TRY(tf_node_param(env, g, node, GATE, "gate", 3, into, gate));
    return tf_node_param(env, g, node, DOWN, "down", 3, from, plain);
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const char *spec = tf_node_attr(&g->nodes[node], "out");
    const tf_binding *experts = NULL, *hidden = NULL, *out = NULL;
    bool gated = false;
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], TOKENS));
    TF_TRY(tf_need_channels(env, g, &g->nodes[node], ROUTER));
    if (!spec)
        return tf_fail(env, TFUSE_EGRAPH, "experts '%s': out=BINDING is missing", g->nodes[node].name);
    TF_TRY(expert_axes(env, g, node, &experts, &hidden));
    TF_TRY(check_attrs(env, g, &g->nodes[node], experts->extent, &gated));
    TF_TRY(tf_node_ports(env, g, node, spec, &out));
    TF_TRY(make_params(env, g, node, experts, hidden, out, gated));
    return tf_output_like(env, g, node, g->nodes[node].inputs[TOKENS], out);
}

static const tf_param *up_of(const tf_graph *g, const tf_node *n)
{
    return &g->params[n->params[UP]];
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    return tf_tie_bindings(env, g, node, tf_value_channels(g, n->inputs[ROUTER]), up_of(g, n)->dims[0]);
}

static void permits(tf_permits *p, const tf_node *n)
{
    const tf_param *up = up_of(p->g, n);
    const bool gated = tf_node_slot(n, GATE) >= 0;
    tf_permit_binding(p, up->dims[0], TF_GROUP_PERM);
    tf_permit_binding(p, up->dims[1], gated ? TF_GROUP_PERM_SCALE : tf_node_activation_at(n, "activation")->group);
}

/* The paper has no rule for a stack: the hidden units of each expert would want maps of their own. */
static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)f, (void)g, (void)n;
    return TFUSE_EUNSUPPORTED;
}

/* ---- forward: expert by expert, on the rows that chose it ---- */

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    const tf_param *up = up_of(g, n), *down = &g->params[n->params[DOWN]];
    return tf_batch_rows(in[TOKENS]) * (up->shape[0] + up->shape[2] + 2 * up->shape[1] + down->shape[1]);
}

/* The weight of each expert for one row of logits; 0 for those not chosen. Equal logits: the lower index first. */
static void route(const float *logits, int64_t experts, int64_t top_k, bool normalise, float *weights)
{
    memset(weights, 0, (size_t)experts * sizeof *weights);
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
        if (rank < top_k) {
            chosen += mass;
            weights[e] = (float)mass;
        }
    }
    const float total = (float)(normalise ? chosen : all);
    for (int64_t e = 0; e < experts; e++)
        weights[e] /= total;
}

/* One expert on `rows` gathered tokens: x (rows × in) to y (rows × out). */
static void run_expert(tf_forward *f, const tf_node *n, int64_t e, int64_t rows, const float *x, float *hidden, float *y)
{
    const tf_param *up = up_of(f->g, n);
    const int64_t h = up->shape[1], d = up->shape[2], out = tf_batch_channels(f->out[0]);
    const tf_activation *act = tf_node_activation_at(n, "activation");
    float *gate = hidden + rows * h;
    tf_affine(f->env, x, rows, d, f->param[UP] + e * h * d, NULL, h, hidden);
    if (f->param[GATE]) {
        tf_affine(f->env, x, rows, d, f->param[GATE] + e * h * d, NULL, h, gate);
        act->apply(gate, (size_t)(rows * h));
        for (int64_t i = 0; i < rows * h; i++)
            hidden[i] *= gate[i];
    } else {
        act->apply(hidden, (size_t)(rows * h));
    }
    tf_affine(f->env, hidden, rows, h, f->param[DOWN] + e * out * h, NULL, out, y);
}

static void forward(tf_forward *f, const tf_node *n)
{
    const tf_param *up = up_of(f->g, n);
    const int64_t rows = tf_batch_rows(f->in[TOKENS]), experts = up->shape[0], h = up->shape[1], d = up->shape[2];
    const int64_t out = tf_batch_channels(f->out[0]), top_k = tf_node_int_at(n, "top_k", 1);
    const bool normalise = tf_node_int_at(n, "normalise", 1) != 0;
    float *weights = f->scratch, *x = weights + rows * experts, *hidden = x + rows * d, *y = hidden + 2 * rows * h;
    for (int64_t r = 0; r < rows; r++)
        route(f->in[ROUTER]->data + r * experts, experts, top_k, normalise, weights + r * experts);
    memset(f->out[0]->data, 0, (size_t)(rows * out) * sizeof(float));
    for (int64_t e = 0; e < experts; e++) {
        int64_t count = 0;
        for (int64_t r = 0; r < rows; r++)
            if (weights[r * experts + e] != 0.0f)
                memcpy(x + count++ * d, f->in[TOKENS]->data + r * d, (size_t)d * sizeof *x);
        if (count == 0)
            continue;
        run_expert(f, n, e, count, x, hidden, y);
        const float *from = y;
        for (int64_t r = 0; r < rows; r++) {
            const float weight = weights[r * experts + e];
            for (int64_t i = 0; weight != 0.0f && i < out; i++)
                f->out[0]->data[r * out + i] += weight * *from++;
        }
    }
}

const tf_op tf_op_experts = {
    .name = "experts",
    .help = "mixture of experts: out=BINDING experts=NAME:E hidden=NAME:H activation=KIND [gated=0|1] [top_k=1] [normalise=0|1]",
    .attrs = "out experts hidden activation gated top_k normalise up gate down",
    .min_inputs = 2,
    .max_inputs = 2,
    .tokenwise = true,
    .shape = shape,
    .tie = tie,
    .permits = permits,
    .flow = flow,
    .extents = tf_extents_like,
    .scratch_size = scratch_size,
    .forward = forward,
};
