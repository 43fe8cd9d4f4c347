/* SPDX-License-Identifier: Apache-2.0
 *
 * attention.c: softmax(Q K' * scale + mask) V for each head (Vaswani et al. 2017), with grouped queries (Ainslie et al. 2023) and
 * rotary positions (Su et al. 2021).
 *
 * Heads are read from the bindings: keys and values are heads*inner, queries the same or heads*group*inner, where `group`
 * queries share one head of keys. Heads move as blocks. A query's inner units meet those of its key in a dot product, so what T
 * does to the one T^-T does to the other: one dual axis with any invertible map, or, under rotary positions, one scaled
 * rotation of each pair, which commutes with the rotations. Partial rotary gives that freedom to one part of the inner
 * units and the other to the rest, so the binding must name the parts: heads*(rot:8|pass:24). The output
 * has the values' inner units, which the weights of attention only mix over tokens.
 */
#include "ops/common.h"
#include "ops/ops.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { QUERY, KEY, VALUE, MASK };
enum { STEP = 8 };

typedef struct heads {
    const tf_factor *outer; /* heads, or heads and group */
    int n_outer;
    const tf_factor *inner;
} heads;

/* What shape found, for the rest. */
typedef struct layout {
    int64_t kv, group, inner, value_inner, rope; /* rope: rotary units of a head, 0 if none */
    bool causal, interleaved;
    double theta;
    const char *factors; /* what each pair's frequency is divided by, as text; NULL: nothing */
    float gain;          /* of rotated units */
    float scale, softcap; /* softcap: 0 for none */
    int64_t window;      /* keys that a query sees, itself the last of them; 0: all */
} layout;

static const tf_binding *channels(const tf_graph *g, const tf_node *n, int input)
{
    return tf_value_channels(g, n->inputs[input]);
}

static heads heads_of(const tf_graph *g, const tf_node *n, int input)
{
    const tf_segment *s = channels(g, n, input)->segments;
    heads h = {s->factors, s->n_factors - 1, &s->factors[s->n_factors - 1]};
    return h;
}

static layout layout_of(const tf_graph *g, const tf_node *n)
{
    const heads q = heads_of(g, n, QUERY), v = heads_of(g, n, VALUE);
    const char *order = tf_node_attr(n, "layout");
    layout a = {
        .kv = v.outer[0].extent,
        .group = q.n_outer == 2 ? q.outer[1].extent : 1,
        .inner = q.inner->extent,
        .value_inner = v.inner->extent,
        .rope = tf_node_int_at(n, "rope", 0) ? tf_node_int_at(n, "rope_dims", q.inner->extent) : 0,
        .causal = tf_node_int_at(n, "causal", 0) != 0,
        .interleaved = order && strcmp(order, "interleaved") == 0,
        .theta = tf_node_real_at(n, "rope_theta", 10000.0),
        .factors = tf_node_attr(n, "rope_factors"),
        .gain = (float)tf_node_real_at(n, "rope_gain", 1.0),
        .softcap = (float)tf_node_real_at(n, "softcap", 0.0),
        .window = tf_node_int_at(n, "window", 0),
        .scale = (float)tf_node_real_at(n, "scale", 1.0 / sqrt((double)q.inner->extent)),
    };
    return a;
}

/* ---- shape ---- */

static tfuse_status check_heads(tf_env *env, const tf_graph *g, const tf_node *n, int input)
{
    static const char *const role[] = {"query", "key", "value"};
    const tf_value *v = &g->values[n->inputs[input]];
    const tf_binding *b = channels(g, n, input);
    TF_TRY(tf_need_channels(env, g, n, input));
    if (v->rank != 2)
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': its %s '%s' has no tokens", n->name, role[input], v->name);
    const int most = input == QUERY ? 3 : 2;
    bool good = b->n_segments == 1 && b->segments[0].n_factors >= 2 && b->segments[0].n_factors <= most;
    for (int i = 0; good && i + 1 < b->segments[0].n_factors; i++)
        good = b->segments[0].factors[i].kind != TF_FACTOR_CONCAT;
    if (!good)
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': the channels of its %s '%s' are not heads*inner%s", n->name,
                       role[input], v->name, input == QUERY ? " or heads*group*inner" : "");
    return TFUSE_OK;
}

static bool same_concat(const tf_binding *a, const tf_binding *b)
{
    bool same = a->n_segments == b->n_segments;
    for (int i = 0; same && i < a->n_segments; i++) {
        const tf_segment *s = &a->segments[i], *t = &b->segments[i];
        same = s->n_factors == 1 && t->n_factors == 1 && s->extent == t->extent &&
               s->factors[0].kind == TF_FACTOR_PORT && t->factors[0].kind == TF_FACTOR_PORT;
    }
    return same;
}

static tfuse_status check_fit(tf_env *env, const tf_graph *g, const tf_node *n)
{
    const heads q = heads_of(g, n, QUERY), k = heads_of(g, n, KEY), v = heads_of(g, n, VALUE);
    if (q.outer[0].extent != k.outer[0].extent || k.outer[0].extent != v.outer[0].extent)
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': query, key and value have %lld, %lld and %lld heads", n->name,
                       (long long)q.outer[0].extent, (long long)k.outer[0].extent, (long long)v.outer[0].extent);
    if (q.inner->extent != k.inner->extent || q.inner->kind != k.inner->kind ||
        (q.inner->kind == TF_FACTOR_CONCAT && !same_concat(q.inner->concat, k.inner->concat)))
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': the inner units of query and key do not match (%lld and %lld)",
                       n->name, (long long)q.inner->extent, (long long)k.inner->extent);
    return TFUSE_OK;
}

/* As many positive numbers as there are pairs. */
static bool factors_fit(const char *text, int64_t pairs)
{
    double factor = 0;
    for (int64_t i = 0; i < pairs; i++) {
        text = *text ? tf_attr_next_real(text, &factor) : NULL;
        if (!text || !(factor > 0))
            return false;
    }
    return *text == '\0';
}

static tfuse_status check_rope_numbers(tf_env *env, const tf_node *n, int64_t dims)
{
    const char *factors = tf_node_attr(n, "rope_factors");
    double theta = 0, gain = 0;
    TF_TRY(tf_node_real(env, n, "rope_theta", 10000.0, &theta));
    TF_TRY(tf_node_real(env, n, "rope_gain", 1.0, &gain));
    if (dims % 2 != 0 || !(theta > 0) || !(gain > 0))
        return tf_fail(env, TFUSE_ERANGE, "attention '%s': rope_dims must be even, rope_theta and rope_gain positive", n->name);
    if (factors && !factors_fit(factors, dims / 2))
        return tf_fail(env, TFUSE_ERANGE, "attention '%s': rope_factors are not %lld positive numbers", n->name, (long long)dims / 2);
    return TFUSE_OK;
}

static tfuse_status check_rope(tf_env *env, const tf_graph *g, const tf_node *n)
{
    const tf_factor *inner = heads_of(g, n, QUERY).inner;
    const char *order = tf_node_attr(n, "layout");
    bool rope = false;
    int64_t dims = 0;
    TF_TRY(tf_node_flag(env, n, "rope", false, &rope));
    TF_TRY(tf_node_int(env, n, "rope_dims", 2, inner->extent, inner->extent, &dims));
    if (order && strcmp(order, "half") != 0 && strcmp(order, "interleaved") != 0)
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': layout=%s is neither half nor interleaved", n->name, order);
    if (!rope)
        return TFUSE_OK;
    TF_TRY(check_rope_numbers(env, n, dims));
    const bool part = dims < inner->extent;
    const bool named = inner->kind == TF_FACTOR_CONCAT && inner->concat->n_segments == 2 &&
                       inner->concat->segments[0].extent == dims;
    if (part ? !named : inner->kind != TF_FACTOR_PORT)
        return tf_fail(env, TFUSE_EGRAPH, "attention '%s': rope_dims=%lld of %lld inner units: bind them as %s", n->name,
                       (long long)dims, (long long)inner->extent,
                       part ? "heads*(rot:...|pass:...) with that many rotary units" : "one axis");
    return TFUSE_OK;
}

/* Extents and layout of the queries; their heads and groups with the values' inner units. */
static tfuse_status make_output(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const heads q = heads_of(g, n, QUERY), v = heads_of(g, n, VALUE);
    tf_factor factors[3] = {v.outer[0]};
    int count = 1;
    if (q.n_outer == 2)
        factors[count++] = q.outer[1];
    factors[count++] = *v.inner;
    const tf_binding *out = NULL;
    TF_TRY(tf_binding_of(env, g, factors, count, &out));
    return tf_output_like(env, g, node, n->inputs[QUERY], out);
}

static tfuse_status check_mask(tf_env *env, const tf_graph *g, const tf_node *n)
{
    if (n->n_inputs <= MASK)
        return TFUSE_OK;
    const tf_value *v = &g->values[n->inputs[MASK]];
    return v->integer && v->rank == 1 ? TFUSE_OK
                                      : tf_fail(env, TFUSE_EGRAPH, "attention '%s': its mask '%s' does not hold an integer a token", n->name, v->name);
}

static tfuse_status shape(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    bool causal = false;
    double scale = 0, softcap = 0;
    int64_t window = 0, most = 0;
    for (int i = QUERY; i <= VALUE; i++)
        TF_TRY(check_heads(env, g, n, i));
    TF_TRY(check_fit(env, g, n));
    TF_TRY(check_rope(env, g, n));
    TF_TRY(check_mask(env, g, n));
    TF_TRY(tf_node_flag(env, n, "causal", false, &causal));
    TF_TRY(tf_node_real(env, n, "scale", 1.0, &scale));
    TF_TRY(tf_node_real(env, n, "softcap", 0.0, &softcap));
    TF_TRY(tf_node_int(env, n, "window", 0, INT32_MAX, 0, &window));
    TF_TRY(tf_node_int(env, n, "rope_most", 1, INT32_MAX, 1, &most));
    if (softcap < 0 || (window > 0 && !causal))
        return tf_fail(env, TFUSE_ERANGE, "attention '%s': softcap must not be negative, and window goes with causal=1", n->name);
    return make_output(env, g, node);
}

/* ---- tie and permits ---- */

static tfuse_status tie_outer(tf_env *env, tf_graph *g, tf_id node, const tf_factor *a, const tf_factor *b)
{
    if (a->kind == TF_FACTOR_PORT && b->kind == TF_FACTOR_PORT)
        return tf_tie_ports(env, g, node, a->port, b->port, false);
    if (a->kind == b->kind)
        return TFUSE_OK;
    return tf_fail(env, TFUSE_EGRAPH, "attention '%s': heads are an axis on one side and a fixed extent on another",
                   g->nodes[node].name);
}

static tfuse_status tie(tf_env *env, tf_graph *g, tf_id node)
{
    const tf_node *n = &g->nodes[node];
    const heads q = heads_of(g, n, QUERY), k = heads_of(g, n, KEY), v = heads_of(g, n, VALUE);
    TF_TRY(tie_outer(env, g, node, &v.outer[0], &k.outer[0]));
    TF_TRY(tie_outer(env, g, node, &v.outer[0], &q.outer[0]));
    if (q.inner->kind == TF_FACTOR_PORT)
        return tf_tie_ports(env, g, node, q.inner->port, k.inner->port, true);
    for (int i = 0; q.inner->kind == TF_FACTOR_CONCAT && i < q.inner->concat->n_segments; i++)
        TF_TRY(tf_tie_ports(env, g, node, q.inner->concat->segments[i].factors[0].port,
                            k.inner->concat->segments[i].factors[0].port, true));
    return TFUSE_OK;
}

/* The inner units of values, and of queries and keys without rotary positions, take every invertible map: no bound. */
static void permits(tf_permits *p, const tf_node *n)
{
    const heads q = heads_of(p->g, n, QUERY);
    for (int i = 0; i < q.n_outer; i++)
        if (q.outer[i].kind == TF_FACTOR_PORT)
            tf_permit_port(p, q.outer[i].port, TF_GROUP_PERM);
    if (tf_node_int_at(n, "rope", 0)) {
        const tf_factor *rot = q.inner->kind == TF_FACTOR_PORT ? q.inner : &q.inner->concat->segments[0].factors[0];
        tf_permit_port(p, rot->port, TF_GROUP_PAIRS);
    }
}

/* ---- circuits ---- */

/* Scores are sums of query times key over the inner units of a head, and outputs meet the values only through the weights that read them (Elhage et
 * al. 2021). Rotated units give Re(q conj(k) e^(i theta (t - s))): each pair is a product of its own. Softmax does not see what is added to all
 * scores of a query, so without rotations keys may be shifted. Queries of a group share their key, and their outputs the value. */
static int circuits(const tf_graph *g, const tf_node *n, tf_circuit *out)
{
    const layout a = layout_of(g, n);
    const tf_circuit qk = {.name = "qk", .a = QUERY, .b = KEY, .blocks = a.kv, .group = a.group, .width = a.inner};
    int count = 0;
    if (a.rope > 0) {
        out[count] = qk;
        out[count].count = a.rope;
        out[count].pairs = a.rope / 2;
        out[count].step = a.interleaved ? 2 : 1;
        out[count++].second = a.interleaved ? 1 : a.rope / 2;
    }
    if (a.rope < a.inner) {
        out[count] = qk;
        out[count].first = a.rope;
        out[count].count = a.inner - a.rope;
        out[count++].b_shift = true;
    }
    out[count++] = (tf_circuit){.name = "ov", .a = TF_CIRCUIT_OUTPUT, .b = VALUE, .blocks = a.kv, .group = a.group, .width = a.value_inner,
                                .count = a.value_inner};
    return count;
}

static tfuse_status flow(tf_flow *f, const tf_graph *g, const tf_node *n)
{
    return (layout_of(g, n).group > 1 ? f->ops->spread : f->ops->pass)(f, n->inputs[VALUE], n->outputs[0]);
}

/* ---- forward ---- */

static tfuse_status extents(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in,
                            tf_batch *const *out)
{
    const int64_t tq = in[QUERY]->extent[0], tk = in[KEY]->extent[0];
    (void)g;
    if (tk != in[VALUE]->extent[0] || (tk != tq && tf_node_int_at(n, "causal", 0)))
        return tf_fail(env, TFUSE_ESHAPE, "attention '%s': %lld queries, %lld keys and %lld values", n->name,
                       (long long)tq, (long long)tk, (long long)in[VALUE]->extent[0]);
    if (tq > tf_node_int_at(n, "rope_most", INT64_MAX))
        return tf_fail(env, TFUSE_EUNSUPPORTED, "attention '%s': sequences of %lld tokens: its rotary positions change beyond %s, which is not "
                       "built", n->name, (long long)tq, tf_node_attr(n, "rope_most"));
    out[0]->extent[0] = tq;
    return TFUSE_OK;
}

/* Products are faster where sizes are not odd and the second factor's rows are dense: tokens of keys and values are filled up with
 * zeros, keys are turned. */
static int64_t padded(int64_t tokens)
{
    return (tokens + STEP - 1) / STEP * STEP;
}

/* Where things lie: scores, keys and values of a head, and under rotary positions a rotated head and a table. */
typedef struct scratch {
    int64_t keys, values, rotated, table, size;
} scratch;

static scratch scratch_of(const layout *a, int64_t tq, int64_t tk)
{
    const int64_t longest = tq > tk ? tq : tk, tp = padded(tk);
    scratch s = {.keys = tq * tp};
    s.values = s.keys + tp * a->inner;
    s.rotated = s.values + tp * a->value_inner;
    s.table = s.rotated + (a->rope > 0 ? longest * a->inner : 0);
    s.size = s.table + longest * a->rope;
    return s;
}

static int64_t scratch_size(const tf_graph *g, const tf_node *n, const tf_batch *const *in)
{
    const layout a = layout_of(g, n);
    return scratch_of(&a, in[QUERY]->extent[0], in[KEY]->extent[0]).size;
}

/* cos and sin of position * theta^(-2i/rope) / factor: rope/2 cosines, then as many sines, for each position. Frequencies are rounded to
 * float32, as those that the models were trained with. */
static void rope_table(const layout *a, int64_t tokens, float *table)
{
    const int64_t half = a->rope / 2;
    const char *factors = a->factors;
    for (int64_t i = 0; i < half; i++) {
        double factor = 1;
        factors = factors ? tf_attr_next_real(factors, &factor) : NULL;
        const double frequency = (double)(float)(pow(a->theta, -2.0 * (double)i / (double)a->rope) / factor);
        for (int64_t t = 0; t < tokens; t++) {
            table[t * a->rope + i] = a->gain * (float)cos((double)t * frequency);
            table[t * a->rope + half + i] = a->gain * (float)sin((double)t * frequency);
        }
    }
}

/* One head, tokens × inner, copied with its first units turned. */
static void rotate(const layout *a, const float *table, tf_mat src, float *dst)
{
    const int64_t half = a->rope / 2, first = a->interleaved ? 2 : 1, second = a->interleaved ? 1 : half;
    for (int64_t t = 0; t < src.rows; t++, dst += a->inner) {
        const float *x = src.data + t * src.rs, *cosine = table + t * a->rope, *sine = cosine + half;
        memcpy(dst, x, (size_t)a->inner * sizeof *dst);
        for (int64_t i = 0; i < half; i++) {
            const float u = x[i * first], v = x[i * first + second];
            dst[i * first] = u * cosine[i] - v * sine[i];
            dst[i * first + second] = u * sine[i] + v * cosine[i];
        }
    }
}

/* Keys whose mask is 0 get the lowest score there is: where all are masked, all are seen alike. */
static void mask_scores(const tf_batch *mask, int64_t s, float *scores, int64_t rows, int64_t cols, int64_t stride)
{
    const float *bits = mask->data + s * cols;
    for (int64_t j = 0; j < cols; j++) {
        int32_t seen;
        memcpy(&seen, bits + j, sizeof seen);
        for (int64_t i = 0; i < rows && seen == 0; i++)
            scores[i * stride + j] = -FLT_MAX;
    }
}

static void cap_scores(const layout *a, float *scores, int64_t count)
{
    if (a->softcap > 0)
        tf_softcap(scores, a->softcap, (size_t)count);
}

/* Row i of scores, which are `stride` wide: what it sees sums to one, the rest is zero. `past` keys lie before the one beside row 0. */
static void softmax_rows(const layout *a, float *scores, int64_t past, int64_t rows, int64_t cols, int64_t stride)
{
    for (int64_t i = 0; i < rows; i++, scores += stride) {
        const int64_t end = a->causal ? past + i + 1 : cols, first = a->window > 0 && end > a->window ? end - a->window : 0;
        tf_softmax_row(scores + first, (size_t)(end - first));
        memset(scores, 0, (size_t)first * sizeof *scores);
        memset(scores + end, 0, (size_t)(stride - end) * sizeof *scores);
    }
}

/* Head `h` of `inner` units in sample s of a batch, as tokens × inner. */
static tf_mat head_view(const tf_batch *b, int64_t s, int64_t h, int64_t inner)
{
    const int64_t c = tf_batch_channels(b);
    return tf_mat_const(b->data + s * tf_batch_stride(b) + h * inner, b->extent[0], inner, c);
}

/* inner × tokens, filled up. */
static tf_mat turn_keys(tf_mat k, float *dst)
{
    const int64_t tp = padded(k.rows);
    tf_transpose(k.data, (size_t)k.rows, (size_t)k.cols, (size_t)k.rs, dst, (size_t)tp);
    for (int64_t u = 0; u < k.cols; u++)
        memset(dst + u * tp + k.rows, 0, (size_t)(tp - k.rows) * sizeof *dst);
    return tf_mat_rows(dst, k.cols, tp);
}

/* tokens × inner, filled up. */
static tf_mat copy_values(tf_mat v, float *dst)
{
    const int64_t tp = padded(v.rows);
    for (int64_t t = 0; t < v.rows; t++)
        memcpy(dst + t * v.cols, v.data + t * v.rs, (size_t)v.cols * sizeof *dst);
    memset(dst + v.rows * v.cols, 0, (size_t)((tp - v.rows) * v.cols) * sizeof *dst);
    return tf_mat_rows(dst, tp, v.cols);
}

static void forward_kv_head(tf_forward *f, const layout *a, int64_t s, int64_t kv)
{
    const int64_t tq = f->in[QUERY]->extent[0], tk = f->in[KEY]->extent[0], tp = padded(tk);
    const scratch at = scratch_of(a, tq, tk);
    float *const scores = f->scratch, *const rotated = scores + at.rotated;
    const float *const table = scores + at.table;
    tf_mat k = head_view(f->in[KEY], s, kv, a->inner);
    if (a->rope > 0) {
        rotate(a, table, k, rotated);
        k = tf_mat_rows(rotated, tk, a->inner);
    }
    k = turn_keys(k, scores + at.keys);
    const tf_mat v = copy_values(head_view(f->in[VALUE], s, kv, a->value_inner), scores + at.values);
    for (int64_t h = kv * a->group; h < (kv + 1) * a->group; h++) {
        tf_mat q = head_view(f->in[QUERY], s, h, a->inner);
        if (a->rope > 0) {
            rotate(a, table + f->past * a->rope, q, rotated);
            q = tf_mat_rows(rotated, tq, a->inner);
        }
        tf_gemm(f->env, a->scale, q, k, 0.0f, tf_mat_rows(scores, tq, tp));
        cap_scores(a, scores, tq * tp);
        if (f->in[MASK])
            mask_scores(f->in[MASK], s, scores, tq, tk, tp);
        softmax_rows(a, scores, f->past, tq, tk, tp);
        tf_gemm(f->env, 1.0f, tf_mat_rows(scores, tq, tp), v, 0.0f, head_view(f->out[0], s, h, a->value_inner));
    }
}

static void forward(tf_forward *f, const tf_node *n)
{
    const layout a = layout_of(f->g, n);
    const int64_t tq = f->in[QUERY]->extent[0], tk = f->in[KEY]->extent[0];
    if (a.rope > 0)
        rope_table(&a, tq > tk ? tq : tk, f->scratch + scratch_of(&a, tq, tk).table);
    for (int64_t s = 0; s < f->in[QUERY]->n; s++)
        for (int64_t kv = 0; kv < a.kv; kv++)
            forward_kv_head(f, &a, s, kv);
}

const tf_op tf_op_attention = {
    .name = "attention",
    .help = "softmax attention of query, key, value and, if given, a mask (0: not seen): [causal=0|1 window=] [rope=0|1 rope_theta= "
            "rope_dims= rope_factors=F,F,... rope_gain= rope_most= layout=half|interleaved] [scale=] [softcap=]",
    .attrs = "causal window rope rope_theta rope_dims rope_factors rope_gain rope_most layout scale softcap",
    .min_inputs = 3,
    .max_inputs = 4,
    .mask = MASK,
    .shape = shape,
    .tie = tie,
    .permits = permits,
    .circuits = circuits,
    .flow = flow,
    .extents = extents,
    .scratch_size = scratch_size,
    .forward = forward,
};
