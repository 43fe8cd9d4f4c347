/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention against a float64 definition: plain, causal, grouped queries, rotary positions in both layouts, partial rotary, unequal
 * inner sizes; its axes and groups; what it refuses.
 *
 * Tolerance 2e-5: values lie in [-1, 1), softmax weights sum to one, so outputs are below 1 and float32 rounding is near 1e-6.
 */
#include "t_graph.h"
#include "ops/common.h"

typedef struct shape {
    int tokens, kv, group, inner, value_inner, rope;
    bool causal, interleaved;
    double theta, scale;
} shape;

/* Unit i of a head's vector at position t, turned. */
static double turned(const float *x, int t, int i, const shape *s)
{
    if (i >= s->rope)
        return x[i];
    const int half = s->rope / 2, pair = s->interleaved ? i / 2 : i % half;
    const int a = s->interleaved ? 2 * pair : pair, b = s->interleaved ? a + 1 : a + half;
    const double angle = t * pow(s->theta, -2.0 * pair / s->rope);
    return i == a ? x[a] * cos(angle) - x[b] * sin(angle) : x[a] * sin(angle) + x[b] * cos(angle);
}

static double score(const float *q, const float *k, int tq, int tk, const shape *s)
{
    double sum = 0;
    for (int i = 0; i < s->inner; i++)
        sum += turned(q, tq, i, s) * turned(k, tk, i, s);
    return sum * s->scale;
}

static double attended(const float *q, const float *k, const float *v, int t, int h, int i, const shape *s)
{
    const int cq = s->kv * s->group * s->inner, ck = s->kv * s->inner, cv = s->kv * s->value_inner, kv = h / s->group;
    double total = 0, sum = 0;
    for (int o = 0; o < (s->causal ? t + 1 : s->tokens); o++) {
        const double e = exp(score(q + t * cq + h * s->inner, k + o * ck + kv * s->inner, t, o, s));
        total += e;
        sum += e * v[o * cv + kv * s->value_inner + i];
    }
    return sum / total;
}

static tf_graph *attention_graph(tf_env *env, const char *q, const char *k, const char *v, const char *attrs)
{
    char out[3][64];
    const char *const spec[] = {q, k, v};
    for (int i = 0; i < 3; i++)
        snprintf(out[i], sizeof out[i], "out=%s", spec[i]);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,4"}, {"linear", "l/q", "x", out[0]},
                            {"linear", "l/k", "x", out[1]},                {"linear", "l/v", "x", out[2]},
                            {"attention", "l/a", "l/q l/k l/v", attrs},    {"linear", "y", "l/a", "out=!/classes:2"}};
    return t_graph(env, nodes, TF_LEN(nodes), "y");
}

static void check(const char *q, const char *k, const char *v, const char *attrs, const shape *s)
{
    tf_env *env = t_env(1);
    tf_graph *g = attention_graph(env, q, k, v, attrs);
    const int heads = s->kv * s->group, cq = heads * s->inner, ck = s->kv * s->inner, cv = s->kv * s->value_inner;
    const int co = heads * s->value_inner, n = 3, t = s->tokens;
    float *x[3] = {calloc((size_t)(n * t * cq), 4), calloc((size_t)(n * t * ck), 4), calloc((size_t)(n * t * cv), 4)};
    t_fill(x[0], (size_t)(n * t * cq), 1);
    t_fill(x[1], (size_t)(n * t * ck), 2);
    t_fill(x[2], (size_t)(n * t * cv), 3);
    float *y = t_forward(env, g, "l/a", n, (const float *const[]){x[0], x[1], x[2]}, NULL);
    for (int i = 0; i < n * t * co; i++) {
        const int at = i / (t * co), token = i / co % t, unit = i % co;
        const double want = attended(x[0] + at * t * cq, x[1] + at * t * ck, x[2] + at * t * cv, token,
                                     unit / s->value_inner, unit % s->value_inner, s);
        ck_assert_msg(fabs((double)y[i] - want) <= 2e-5, "%s %s: y[%d] is %g, not %g", q, attrs, i, (double)y[i], want);
    }
    free(x[0]), free(x[1]), free(x[2]), free(y);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_forward)
{
    const shape plain = {5, 3, 1, 4, 4, 0, false, false, 1, 0.5};
    check("h:3*k:4", "h:3*k:4", "h:3*v:4", "causal=0", &plain);
    const shape uneven = {5, 2, 1, 3, 5, 0, true, false, 1, 0.25};
    check("h:2*k:3", "h:2*k:3", "h:2*v:5", "causal=1 scale=0.25", &uneven);
    const shape grouped = {5, 2, 3, 4, 2, 0, true, false, 1, 0.5};
    check("kv:2*g:3*k:4", "kv:2*k:4", "kv:2*v:2", "causal=1", &grouped);
    const shape half = {5, 2, 2, 4, 3, 4, true, false, 100, 0.5};
    check("kv:2*g:2*k:4", "kv:2*k:4", "kv:2*v:3", "causal=1 rope=1 rope_theta=100", &half);
    const shape interleaved = {5, 2, 1, 4, 4, 4, false, true, 10000, 0.5};
    check("h:2*k:4", "h:2*k:4", "h:2*v:4", "rope=1 layout=interleaved", &interleaved);
    const shape partial = {5, 2, 1, 9, 2, 4, false, false, 50, 1.0 / 3.0};
    check("h:2*(rot:4|pass:5)", "h:2*(rot:4|pass:5)", "h:2*v:2", "rope=1 rope_dims=4 rope_theta=50", &partial);
}
END_TEST

/* The class of the port at (segment 0, factor i) of a linear's rows; inside parentheses the part'th segment's port. */
static tf_id class_at(const tf_graph *g, const char *param, int i, int part)
{
    const tf_factor *f = &g->params[tf_graph_find_param(g, param)].dims[0]->segments[0].factors[i];
    if (f->kind == TF_FACTOR_CONCAT)
        f = &f->concat->segments[part].factors[0];
    return tf_class_of(g, f->port);
}

static void group_at(tf_env *env, const tf_graph *g, const char *param, int i, int part, const char *want)
{
    t_group_is(env, g, NULL, g->class_name[class_at(g, param, i, part)], want);
}

START_TEST(test_axes)
{
    tf_env *env = t_env(1);
    tf_graph *g = attention_graph(env, "kv:2*g:3*k:4", "kv:2*k:4", "kv:2*v:2", "causal=1");
    ck_assert_int_eq(class_at(g, "l/q.weight", 0, 0), class_at(g, "l/k.weight", 0, 0));
    ck_assert_int_eq(class_at(g, "l/v.weight", 0, 0), class_at(g, "l/k.weight", 0, 0));
    ck_assert_int_eq(class_at(g, "l/q.weight", 2, 0), class_at(g, "l/k.weight", 1, 0));
    ck_assert_int_ne(class_at(g, "l/v.weight", 1, 0), class_at(g, "l/k.weight", 1, 0));
    group_at(env, g, "l/q.weight", 0, 0, "permutation");
    group_at(env, g, "l/q.weight", 1, 0, "permutation");
    group_at(env, g, "l/q.weight", 2, 0, "general linear");
    group_at(env, g, "l/v.weight", 1, 0, "general linear");
    const tf_id q = tf_graph_find_param(g, "l/q.weight"), k = tf_graph_find_param(g, "l/k.weight");
    const tf_use of_query = tf_param_use(g, q, 0, g->params[q].dims[0]->segments[0].factors[2].port);
    const tf_use of_key = tf_param_use(g, k, 0, g->params[k].dims[0]->segments[0].factors[1].port);
    ck_assert((of_query == TF_USE_PRODUCED && of_key == TF_USE_DUAL) || (of_query == TF_USE_DUAL && of_key == TF_USE_PRODUCED));
    const tf_segment *columns = &g->params[tf_graph_find_param(g, "y.weight")].dims[1]->segments[0];
    ck_assert_int_eq(columns->n_factors, 3);
    ck_assert_int_eq(tf_class_of(g, columns->factors[0].port), class_at(g, "l/q.weight", 0, 0));
    ck_assert_int_eq(tf_class_of(g, columns->factors[1].port), class_at(g, "l/q.weight", 1, 0));
    ck_assert_int_eq(tf_class_of(g, columns->factors[2].port), class_at(g, "l/v.weight", 1, 0));
    tf_graph_free(g);
    g = attention_graph(env, "kv:2*g:3*k:4", "kv:2*k:4", "kv:2*v:2", "rope=1");
    group_at(env, g, "l/q.weight", 2, 0, "scaled rotation per pair");
    group_at(env, g, "l/v.weight", 1, 0, "general linear");
    tf_graph_free(g);
    g = attention_graph(env, "h:2*(rot:4|pass:5)", "h:2*(rot:4|pass:5)", "h:2*v:2", "rope=1 rope_dims=4");
    group_at(env, g, "l/q.weight", 1, 0, "scaled rotation per pair");
    group_at(env, g, "l/q.weight", 1, 1, "general linear");
    ck_assert_int_eq(class_at(g, "l/q.weight", 1, 1), class_at(g, "l/k.weight", 1, 1));
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* One fused linear with query, key and value inside each head. */
START_TEST(test_interleaved_heads)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,4"},
                            {"linear", "l/qkv", "x", "out=h:3*(q=k:2|k=j:2|v=v:4)"},
                            {"split", "l/q", "l/qkv", "label=q"},
                            {"split", "l/k", "l/qkv", "label=k"},
                            {"split", "l/v", "l/qkv", "label=v"},
                            {"attention", "l/a", "l/q l/k l/v", ""},
                            {"linear", "y", "l/a", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    ck_assert_int_eq(class_at(g, "l/qkv.weight", 1, 0), class_at(g, "l/qkv.weight", 1, 1));
    ck_assert_int_ne(class_at(g, "l/qkv.weight", 1, 0), class_at(g, "l/qkv.weight", 1, 2));
    group_at(env, g, "l/qkv.weight", 0, 0, "permutation");
    group_at(env, g, "l/qkv.weight", 1, 0, "general linear");
    group_at(env, g, "l/qkv.weight", 1, 2, "general linear");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

static void refused(const char *q, const char *k, const char *v, const char *attrs, tfuse_status status, const char *piece)
{
    char out[3][64];
    const char *const spec[] = {q, k, v};
    for (int i = 0; i < 3; i++)
        snprintf(out[i], sizeof out[i], "out=%s", spec[i]);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,4"}, {"linear", "q", "x", out[0]},
                            {"linear", "k", "x", out[1]},                  {"linear", "v", "x", out[2]},
                            {"attention", "a", "q k v", attrs}};
    t_refused(nodes, TF_LEN(nodes), status, piece);
}

START_TEST(test_refused)
{
    refused("c:6", "h:2*k:3", "h:2*v:3", "", TFUSE_EGRAPH, "channels of its query 'q' are not heads*inner");
    refused("h:2*k:3", "h:2*g:1*k:3", "h:2*v:3", "", TFUSE_EGRAPH, "channels of its key 'k'");
    refused("h:3*k:2", "h:2*k:3", "h:2*v:3", "", TFUSE_EGRAPH, "3, 2 and 2 heads");
    refused("h:2*k:3", "h:2*k:4", "h:2*v:3", "", TFUSE_EGRAPH, "do not match (3 and 4)");
    refused("h:2*k:6", "h:2*k:6", "h:2*v:3", "rope=1 rope_dims=4", TFUSE_EGRAPH, "rope_dims=4 of 6 inner units");
    refused("h:2*k:3", "h:2*k:3", "h:2*v:3", "rope=1", TFUSE_ERANGE, "rope_dims must be even");
    refused("h:2*k:4", "h:2*k:4", "h:2*v:3", "rope=1 layout=mixed", TFUSE_EGRAPH, "neither half nor interleaved");
    refused("h:2*k:4", "h:2*k:4", "h:2*v:3", "casual=1", TFUSE_EINVAL, "casual");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("attention");
    T_ADD(test_forward);
    T_ADD(test_axes);
    T_ADD(test_interleaved_heads);
    T_ADD(test_refused);
    return t_suite;
}
