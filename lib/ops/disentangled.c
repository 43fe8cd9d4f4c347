/* SPDX-License-Identifier: Apache-2.0
 *
 * disentangled.c: attention whose scores see content and relative position apart (He et al. 2021):
 *     score(i, j) = scale (q_i . k_j + q_i . P_d + k_j . Q_d),  d = clamp(bucket(i - j) + span, 0, 2 span - 1),
 * P and Q being the rows of projected relative positions (2 span tokens, inputs pos_key and pos_query), each term there or not. With buckets=B
 * distances beyond B/2 share buckets whose size grows as their logarithm up to max_distance. Then softmax over j and the mean of values.
 *
 * Positions meet queries where keys do, so what T does to queries T^-T does to keys and to P, and T does to Q.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { QUERY, KEY, VALUE, POS_KEY, POS_QUERY, MASK };

/* heads*inner of an input; NULL when its channels are not that. */
static const tf_segment *heads_of(const tf_graph *g, const tf_node *n, int input)
{
    const tf_binding *b = tf_value_channels(g, n->inputs[input]);
    const bool good = b && b->n_segments == 1 && b->segments[0].n_factors == 2 && b->segments[0].factors[0].kind == TF_FACTOR_PORT &&
                      b->segments[0].factors[1].kind == TF_FACTOR_PORT;
    return good ? &b->segments[0] : NULL;
}

static tfuse_status check_inputs(tf_env *env, const tf_graph *g, const tf_node *n, int64_t span)
{
    for (int i = QUERY; i <= POS_QUERY; i++) {
        const tf_value *v = &g->values[n->inputs[i]];
        const tf_segment *h = v->integer || v->rank != 2 ? NULL : heads_of(g, n, i), *q = i ? heads_of(g, n, QUERY) : h;
        if (!h)
            return tf_fail(env, TFUSE_EGRAPH, "disentangled '%s': '%s' is not tokens of heads*inner", n->name, v->name);
        if (h->factors[0].extent != q->factors[0].extent || (i != VALUE && h->factors[1].extent != q->factors[1].extent))
            return tf_fail(env, TFUSE_EGRAPH, "disentangled '%s': '%s' has %lld heads of %lld, the query %lld of %lld", n->name, v->name,
                           (long long)h->factors[0].extent, (long long)h->factors[1].extent, (long long)q->factors[0].extent,
                           (long long)q->factors[1].extent);
        if (i >= POS_KEY && v->extent[0] != 2 * span)
            return tf_fail(env, TFUSE_ESHAPE, "disentangled '%s': '%s' has %lld relative positions; span=%lld wants %lld", n->name, v->name,
                           (long long)v->extent[0], (long long)span, (long long)(2 * span));
    }
    const tf_value *mask = n->n_inputs > MASK ? &g->values[n->inputs[MASK]] : NULL;
    return !mask || (mask->integer && mask->rank == 1)
               ? TFUSE_OK
               : tf_fail(env, TFUSE_EGRAPH, "disentangled '%s': its mask '%s' does not hold an integer a token", n->name, mask->name);
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    int64_t span = 0, buckets = 0, most = 0;
    bool flag = false;
    double scale = 0;
    TF_TRY(tf_node_int_required(env, n, "span", 1, INT32_MAX / 2, &span));
    TF_TRY(tf_node_int(env, n, "buckets", 0, INT32_MAX / 2, 0, &buckets));
    TF_TRY(tf_node_int(env, n, "max_distance", 2, INT32_MAX / 2, 2, &most));
    TF_TRY(tf_node_flag(env, n, "c2p", true, &flag));
    TF_TRY(tf_node_flag(env, n, "p2c", true, &flag));
    TF_TRY(tf_node_real(env, n, "scale", 1, &scale));
    TF_TRY(check_inputs(env, g, n, span));
    if (buckets > 0 && (buckets < 4 || most - 1 <= buckets / 2))
        return tf_fail(env, TFUSE_ERANGE, "disentangled '%s': buckets=%lld and max_distance=%lld leave nothing to grow", n->name, (long long)buckets,
                       (long long)most);
    const tf_factor *v = heads_of(g, n, VALUE)->factors;
    const tf_binding *out = NULL;
    TF_TRY(tf_binding_of(env, g, v, 2, &out));
    return tf_output_like(env, g, node, n->inputs[QUERY], out);
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const tf_factor *q = heads_of(g, n, QUERY)->factors;
    for (int i = KEY; i <= POS_QUERY; i++) {
        const tf_factor *f = heads_of(g, n, i)->factors;
        if (f[0].port != q[0].port)
            TF_TRY(tf_tie_ports(env, g, node, q[0].port, f[0].port, false));
        if (i != VALUE && f[1].port != q[1].port)
            TF_TRY(tf_tie_ports(env, g, node, q[1].port, f[1].port, i == KEY || i == POS_KEY));
    }
    return TFUSE_OK;
}

static void permits(tf_permits *p, const tf_node *n)
{
    tf_permit_port(p, heads_of(p->g, n, QUERY)->factors[0].port, TF_GROUP_PERM);
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    (void)g;
    return f->ops->pass(f, n->inputs[VALUE], n->outputs[0]);
}

/* ---- forward ---- */

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out)
{
    (void)env, (void)g, (void)n;
    out[0]->extent[0] = in[QUERY]->extent[0];
    return TFUSE_OK;
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    (void)g, (void)n;
    const int64_t t = in[QUERY]->extent[0], positions = in[POS_KEY]->extent[0];
    return t * t + 2 * t * positions + 2 * t;
}

/* The row of the positions for a distance i - j. */
static int64_t row_of(const tf_node *n, int64_t distance)
{
    const int64_t span = tf_node_int_at(n, "span", 1), buckets = tf_node_int_at(n, "buckets", 0), middle = buckets / 2;
    const int64_t most = tf_node_int_at(n, "max_distance", 2), size = distance < 0 ? -distance : distance;
    int64_t bucket = distance;
    if (buckets > 0 && size > middle) {
        const double grown = ceil(log((double)size / (double)middle) / log((double)(most - 1) / (double)middle) * (double)(middle - 1));
        bucket = ((int64_t)grown + middle) * (distance < 0 ? -1 : 1);
    }
    const int64_t row = bucket + span;
    return row < 0 ? 0 : row > 2 * span - 1 ? 2 * span - 1 : row;
}

static tf_mat head_view(const tf_batch *b, int64_t s, int64_t h, int64_t inner)
{
    const int64_t c = tf_batch_channels(b);
    return tf_mat_const(b->data + s * tf_batch_stride(b) + h * inner, b->extent[0], inner, c);
}

typedef struct terms {
    float *scores, *to_position, *from_position; /* t×t, t×2span twice */
    float *row;                                  /* of distance i - j at i - j + t - 1 */
    bool c2p, p2c;
    float scale;
} terms;

static void add_positions(const terms *x, int64_t t, int64_t positions)
{
    for (int64_t i = 0; i < t; i++)
        for (int64_t j = 0; j < t; j++) {
            const int64_t row = (int64_t)x->row[i - j + t - 1];
            float *score = &x->scores[i * t + j];
            if (x->c2p)
                *score += x->to_position[i * positions + row];
            if (x->p2c)
                *score += x->from_position[j * positions + row];
        }
}

static void soften(const tf_forward *f, int64_t s, float *scores, int64_t t)
{
    for (int64_t i = 0; i < t; i++) {
        for (int64_t j = 0; j < t && f->in[MASK]; j++) {
            int32_t seen;
            memcpy(&seen, f->in[MASK]->data + s * t + j, sizeof seen);
            if (seen == 0)
                scores[i * t + j] = -FLT_MAX;
        }
        tf_softmax_row(scores + i * t, (size_t)t);
    }
}

static void forward_head(tf_forward *f, const terms *x, int64_t s, int64_t h, int64_t inner, int64_t value_inner)
{
    const int64_t t = f->in[QUERY]->extent[0], positions = f->in[POS_KEY]->extent[0];
    const tf_mat q = head_view(f->in[QUERY], s, h, inner), k = head_view(f->in[KEY], s, h, inner);
    tf_gemm(f->env, x->scale, q, tf_mat_t(k), 0, tf_mat_rows(x->scores, t, t));
    if (x->c2p)
        tf_gemm(f->env, x->scale, q, tf_mat_t(head_view(f->in[POS_KEY], s, h, inner)), 0, tf_mat_rows(x->to_position, t, positions));
    if (x->p2c)
        tf_gemm(f->env, x->scale, k, tf_mat_t(head_view(f->in[POS_QUERY], s, h, inner)), 0, tf_mat_rows(x->from_position, t, positions));
    add_positions(x, t, positions);
    soften(f, s, x->scores, t);
    tf_gemm(f->env, 1, tf_mat_rows(x->scores, t, t), head_view(f->in[VALUE], s, h, value_inner), 0, head_view(f->out[0], s, h, value_inner));
}

static void forward(tf_forward *f, const tf_node *n)
{
    const tf_factor *q = heads_of(f->g, n, QUERY)->factors, *v = heads_of(f->g, n, VALUE)->factors;
    const int64_t t = f->in[QUERY]->extent[0], positions = f->in[POS_KEY]->extent[0];
    const bool c2p = tf_node_int_at(n, "c2p", 1) != 0, p2c = tf_node_int_at(n, "p2c", 1) != 0;
    float *to = f->scratch + t * t, *from = to + t * positions, *row = from + t * positions;
    const terms x = {f->scratch, to, from, row, c2p, p2c,
                     (float)tf_node_real_at(n, "scale", 1 / sqrt((double)q[1].extent * (1 + c2p + p2c)))};
    for (int64_t d = 1 - t; d < t; d++)
        row[d + t - 1] = (float)row_of(n, d);
    for (int64_t s = 0; s < f->in[QUERY]->n; s++)
        for (int64_t h = 0; h < q[0].extent; h++)
            forward_head(f, &x, s, h, q[1].extent, v[1].extent);
}

const tf_op tf_op_disentangled = {
    .name = "disentangled",
    .help = "attention of query, key, value with projected relative positions pos_key, pos_query [and a mask]: span= [buckets= max_distance=] "
            "[c2p=1] [p2c=1] [scale=]",
    .attrs = "span buckets max_distance c2p p2c scale",
    .min_inputs = 5,
    .max_inputs = 6,
    .mask = MASK,
    .shape = shape,
    .tie = tie,
    .permits = permits,
    .flow = flow,
    .extents = extents,
    .scratch_size = scratch_size,
    .forward = forward,
};
