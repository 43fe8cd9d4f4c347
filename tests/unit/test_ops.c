/* SPDX-License-Identifier: Apache-2.0
 *
 * Each operation's forward against a float64 definition written here, on small odd shapes; the axes that it ties and the groups
 * that it permits; what it refuses.
 *
 * Tolerances: inputs lie in [-1, 1) and sums have at most about 60 terms, so float32 rounding stays below 60 * 2^-24 * 60 < 3e-4 at the
 * very worst and below 1e-5 in practice; 2e-5 leaves room and catches any wrong term.
 */
#include "t_graph.h"
#include "ops/common.h"

#define TOLERANCE 2e-5

static float *random_floats(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    t_fill(x, n, seed);
    return x;
}

static void near(float got, double want, const char *what, int64_t index)
{
    ck_assert_msg(fabs((double)got - want) <= TOLERANCE, "%s[%lld]: %g, not %g", what, (long long)index, (double)got, want);
}

/* ---- linear ---- */

START_TEST(test_linear)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,7"}, {"linear", "y", "x", "out=a:3*b:3"},
                            {"linear", "z", "y", "out=c:2 bias=0"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "z");
    float *x = random_floats(3 * 35, 1), *w = random_floats(63, 2), *b = random_floats(9, 3);
    const float *in[] = {x}, *param[] = {w, b};
    float *y = t_forward(env, g, "y", 3, in, param);
    float *plain = t_forward(env, g, "z", 3, (const float *const[]){y}, param);
    for (int64_t r = 0; r < 15; r++)
        for (int64_t i = 0; i < 9; i++) {
            double want = b[i];
            for (int64_t k = 0; k < 7; k++)
                want += (double)w[i * 7 + k] * x[r * 7 + k];
            near(y[r * 9 + i], want, "linear", r * 9 + i);
        }
    for (int64_t r = 0; r < 15; r++)
        for (int64_t i = 0; i < 2; i++) {
            double want = 0;
            for (int64_t k = 0; k < 9; k++)
                want += (double)w[i * 9 + k] * y[r * 9 + k];
            near(plain[r * 2 + i], want, "linear without bias", r * 2 + i);
        }
    ck_assert_int_eq(g->nodes[tf_graph_find_node(g, "z")].params[1], -1);
    t_group_is(env, g, NULL, "a", "general linear");
    t_group_is(env, g, NULL, "c", "pinned");
    free(x), free(w), free(b), free(y), free(plain);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- patchify ---- */

static double convolved(const float *image, const float *w, const float *b, const int64_t size[3], const int64_t k[2],
                        int64_t o, int64_t top, int64_t left)
{
    double sum = b ? b[o] : 0.0;
    for (int64_t c = 0; c < size[0]; c++)
        for (int64_t y = 0; y < k[0]; y++)
            for (int64_t x = 0; x < k[1]; x++)
                sum += (double)w[((o * size[0] + c) * k[0] + y) * k[1] + x] *
                       image[(c * size[1] + top + y) * size[2] + left + x];
    return sum;
}

static void check_patchify(const char *attrs, const int64_t k[2], const int64_t stride[2], bool bias)
{
    tf_env *env = t_env(1);
    const int64_t size[3] = {3, 6, 8};
    const t_node nodes[] = {{"input", "x", "", "kind=image shape=3,6,8"}, {"patchify", "y", "x", attrs}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float *x = random_floats(2 * 144, 4), *w = random_floats((size_t)(5 * 3 * k[0] * k[1]), 5), *b = random_floats(5, 6);
    const float *in[] = {x}, *param[] = {w, b};
    float *y = t_forward(env, g, "y", 2, in, param);
    const tf_value *v = &g->values[tf_graph_find_value(g, "y")];
    const int64_t gh = (6 - k[0]) / stride[0] + 1, gw = (8 - k[1]) / stride[1] + 1;
    ck_assert_int_eq(v->grid_h, gh);
    ck_assert_int_eq(v->grid_w, gw);
    ck_assert_int_eq(v->extent[0], gh * gw);
    for (int64_t s = 0; s < 2; s++)
        for (int64_t t = 0; t < gh * gw; t++)
            for (int64_t o = 0; o < 5; o++)
                near(y[(s * gh * gw + t) * 5 + o],
                     convolved(x + s * 144, w, bias ? b : NULL, size, k, o, t / gw * stride[0], t % gw * stride[1]), attrs, t);
    free(x), free(w), free(b), free(y);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_patchify)
{
    check_patchify("out=c:5 kernel=2", (int64_t[]){2, 2}, (int64_t[]){2, 2}, true);
    check_patchify("out=c:5 kernel=3,4 bias=0", (int64_t[]){3, 4}, (int64_t[]){3, 4}, false);
    check_patchify("out=c:5 kernel=4 stride=1,2", (int64_t[]){4, 4}, (int64_t[]){1, 2}, true);
    check_patchify("out=c:5 kernel=6,8", (int64_t[]){6, 8}, (int64_t[]){6, 8}, true);
    t_node nodes[] = {{"input", "x", "", "kind=image shape=3,6,8"}, {"patchify", "y", "x", "out=c:5 kernel=4"}};
    t_refused(nodes, 2, TFUSE_ESHAPE, "image height 6 is not divisible into patches of 4");
    nodes[1].attrs = "out=c:5 kernel=3,9";
    t_refused(nodes, 2, TFUSE_ESHAPE, "larger than the image's 8");
}
END_TEST

/* ---- parameter, concat_tokens, add, token ---- */

START_TEST(test_stem)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "pixels", "", "kind=image shape=1,4,6"},
                            {"patchify", "patch", "pixels", "out=/stream:3 kernel=2"},
                            {"parameter", "first", "", "rows=2 of=/stream:3"},
                            {"concat_tokens", "tokens", "first patch", ""},
                            {"parameter", "positions", "", "rows=8 of=/stream:3"},
                            {"add", "sum", "tokens positions", "residual=positions"},
                            {"add", "swapped", "positions sum", ""},
                            {"token", "one", "sum", "index=1"},
                            {"linear", "head", "one", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    float *patch = random_floats(2 * 18, 1), *first = random_floats(6, 2), *positions = random_floats(24, 3);
    float *shared = t_forward(env, g, "first", 2, NULL, (const float *const[]){first});
    for (int i = 0; i < 12; i++)
        ck_assert(shared[i] == first[i % 6]);
    float *tokens = t_forward(env, g, "tokens", 2, (const float *const[]){shared, patch}, NULL);
    for (int i = 0; i < 48; i++)
        ck_assert(tokens[i] == (i % 24 < 6 ? first[i % 24] : patch[i / 24 * 18 + i % 24 - 6]));
    float *all = t_forward(env, g, "positions", 2, NULL, (const float *const[]){positions});
    float *sum = t_forward(env, g, "sum", 2, (const float *const[]){tokens, all}, NULL);
    for (int i = 0; i < 48; i++)
        ck_assert(sum[i] == tokens[i] + positions[i % 24]);
    float *one = t_forward(env, g, "one", 2, (const float *const[]){sum}, NULL);
    for (int i = 0; i < 6; i++)
        ck_assert(one[i] == sum[i / 3 * 24 + 3 + i % 3]);
    const char *const laid_out[] = {"tokens", "sum", "swapped"};
    for (size_t i = 0; i < TF_LEN(laid_out); i++) {
        const tf_value *v = &g->values[tf_graph_find_value(g, laid_out[i])];
        ck_assert_int_eq(v->class_tokens, 2);
        ck_assert_int_eq(v->grid_h, 2);
        ck_assert_int_eq(v->grid_w, 3);
    }
    const tf_id stream = t_class(g, "stream");
    int on_stream = 0;
    for (size_t p = 0; p < g->n_ports; p++)
        on_stream += tf_class_of(g, (tf_id)p) == stream;
    ck_assert_int_eq(on_stream, 3);
    t_group_is(env, g, NULL, "stream", "general linear");
    free(patch), free(first), free(positions), free(shared), free(tokens), free(all), free(sum), free(one);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_stem_refused)
{
    const t_node other[] = {{"input", "x", "", "kind=features shape=4,3"}, {"parameter", "p", "", "rows=5 of=c:3"},
                            {"add", "sum", "x p", ""}};
    t_refused(other, 3, TFUSE_ESHAPE, "'x' and 'p' differ in shape");
    const t_node residual[] = {{"input", "x", "", "kind=features shape=4,3"}, {"parameter", "p", "", "rows=4 of=c:3"},
                               {"add", "sum", "x p", "residual=q"}};
    t_refused(residual, 3, TFUSE_EGRAPH, "residual=q is none of its inputs");
    const t_node index[] = {{"input", "x", "", "kind=features shape=4,3"}, {"token", "t", "x", "index=4"}};
    t_refused(index, 2, TFUSE_ERANGE, "index");
    const t_node flat[] = {{"input", "x", "", "kind=features shape=3"}, {"token", "t", "x", ""}};
    t_refused(flat, 2, TFUSE_EGRAPH, "has no tokens");
    const t_node ids[] = {{"input", "x", "", "kind=tokens"}, {"linear", "t", "x", "out=c:3"}};
    t_refused(ids, 2, TFUSE_EGRAPH, "holds token ids");
    const t_node image[] = {{"input", "x", "", "kind=image shape=1,2,2"}, {"layernorm", "t", "x", ""}};
    t_refused(image, 2, TFUSE_EGRAPH, "is an image");
    const t_node kind[] = {{"input", "x", "", "kind=sound shape=3"}};
    t_refused(kind, 1, TFUSE_EGRAPH, "none of image, tokens, features");
    const t_node huge[] = {{"input", "x", "", "kind=image shape=1,99999999999,2"}};
    t_refused(huge, 1, TFUSE_ERANGE, "99999999999");
}
END_TEST

/* ---- norms ---- */

static double normed(const float *x, int64_t c, int64_t i, double eps, bool centred)
{
    double mean = 0, square = 0;
    for (int64_t k = 0; centred && k < c; k++)
        mean += (double)x[k] / (double)c;
    for (int64_t k = 0; k < c; k++)
        square += (x[k] - mean) * (x[k] - mean) / (double)c;
    return (x[i] - mean) / sqrt(square + eps);
}

START_TEST(test_norms)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,5"},      {"linear", "x", "in", "out=c:5"},
                            {"layernorm", "both", "x", "eps=0.01"},              {"layernorm", "gain", "x", "eps=0.01 bias=0"},
                            {"rmsnorm", "rms", "x", "eps=0.01"},                 {"rmsnorm", "offset", "x", "eps=0.01 offset=1"},
                            {"linear", "y", "offset", "out=c:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float *x = random_floats(30, 1), *gain = random_floats(5, 2), *bias = random_floats(5, 3);
    const char *const names[] = {"both", "gain", "rms", "offset"};
    for (int k = 0; k < 4; k++) {
        float *y = t_forward(env, g, names[k], 2, (const float *const[]){x}, (const float *const[]){gain, bias});
        for (int64_t i = 0; i < 30; i++) {
            const double g1 = (double)gain[i % 5] + (k == 3 ? 1.0 : 0.0);
            near(y[i], normed(x + i / 5 * 5, 5, i % 5, 0.01, k < 2) * g1 + (k == 0 ? (double)bias[i % 5] : 0.0), names[k], i);
        }
        free(y);
    }
    free(x), free(gain), free(bias);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

static void fill_all(t_model *m, const tf_graph *g, const char *param, float value)
{
    for (size_t i = 0; i < t_param_count(g, tf_graph_find_param(g, param)); i++)
        t_data(m, g, param)[i] = value;
}

/* The group of the axis that a norm reads, with plain tensors and with one element changed. */
static void check_norm_group(const char *op, const char *attrs, float one, const char *plain, const char *changed)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,5"}, {"linear", "x", "in", "out=c:5"},
                            {op, "n", "x", attrs}, {"linear", "y", "n", "out=d:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    t_model m = t_random_model(env, g, 1);
    tf_view *view = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &view));
    t_group_is(env, g, view, "c", changed);
    fill_all(&m, g, "n.gain", one);
    if (tf_graph_find_param(g, "n.bias") >= 0) {
        t_group_is(env, g, view, "c", changed);
        fill_all(&m, g, "n.bias", 0.0f);
    }
    t_group_is(env, g, view, "c", plain);
    t_data(&m, g, "n.gain")[3] = one + 1e-6f;
    t_group_is(env, g, view, "c", changed);
    t_group_is(env, g, NULL, "c", changed);
    tf_view_free(view);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_norm_groups)
{
    check_norm_group("layernorm", "", 1.0f, "orthogonal fixing ones", "permutation");
    check_norm_group("layernorm", "bias=0", 1.0f, "orthogonal fixing ones", "permutation");
    check_norm_group("rmsnorm", "", 1.0f, "orthogonal", "signed permutation");
    check_norm_group("rmsnorm", "offset=1", 0.0f, "orthogonal", "signed permutation");
}
END_TEST

/* ---- activation, multiply ---- */

static double activated(const char *kind, double x)
{
    if (strcmp(kind, "gelu") == 0)
        return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    if (strncmp(kind, "gelu_", 5) == 0)
        return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    if (strcmp(kind, "quick_gelu") == 0)
        return x / (1.0 + exp(-1.702 * x));
    if (strcmp(kind, "silu") == 0)
        return x / (1.0 + exp(-x));
    if (strcmp(kind, "relu") == 0)
        return x > 0 ? x : 0;
    return tanh(x);
}

START_TEST(test_activation)
{
    const char *const kinds[][2] = {{"gelu", "permutation"},       {"gelu_new", "permutation"},
                                    {"gelu_tanh", "permutation"},  {"gelu_pytorch_tanh", "permutation"},
                                    {"quick_gelu", "permutation"}, {"silu", "permutation"},
                                    {"relu", "permutation, positive scale"}, {"tanh", "signed permutation"}};
    float x[21];
    for (int i = 0; i < 21; i++)
        x[i] = (float)(i - 10) * 0.7f;
    for (size_t k = 0; k < TF_LEN(kinds); k++) {
        tf_env *env = t_env(1);
        char attrs[64];
        snprintf(attrs, sizeof attrs, "kind=%s", kinds[k][0]);
        const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,7"}, {"linear", "x", "in", "out=c:7"},
                                {"activation", "y", "x", attrs}, {"linear", "z", "y", "out=d:2"}};
        tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "z");
        float *y = t_forward(env, g, "y", 1, (const float *const[]){x}, NULL);
        for (int i = 0; i < 21; i++)
            near(y[i], activated(kinds[k][0], (double)x[i]), kinds[k][0], i);
        t_group_is(env, g, NULL, "c", kinds[k][1]);
        free(y);
        tf_graph_free(g);
        t_env_free(env);
    }
    const t_node bad[] = {{"input", "in", "", "kind=features shape=3,7"}, {"activation", "y", "in", "kind=step"}};
    t_refused(bad, 2, TFUSE_EGRAPH, "kind=step is none of");
}
END_TEST

START_TEST(test_multiply)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,4"}, {"linear", "gate", "in", "out=ffn:7"},
                            {"linear", "up", "in", "out=ffn:7 bias=0"},     {"activation", "act", "gate", "kind=silu"},
                            {"multiply", "y", "act up", ""},                {"linear", "down", "y", "out=d:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "down");
    float *gate = random_floats(42, 1), *up = random_floats(42, 2);
    float *y = t_forward(env, g, "y", 2, (const float *const[]){gate, up}, NULL);
    for (int i = 0; i < 42; i++)
        ck_assert(y[i] == gate[i] * up[i]);
    const tf_id gate_rows = tf_graph_find_param(g, "gate.weight"), up_rows = tf_graph_find_param(g, "up.weight");
    ck_assert_int_eq(g->params[gate_rows].use[0], TF_USE_NEUTRAL);
    ck_assert_int_eq(g->params[tf_graph_find_param(g, "gate.bias")].use[0], TF_USE_NEUTRAL);
    ck_assert_int_eq(g->params[up_rows].use[0], TF_USE_PRODUCED);
    const tf_id port = g->params[up_rows].dims[0]->segments[0].factors[0].port;
    ck_assert_int_eq(tf_class_of(g, port), tf_class_of(g, g->params[gate_rows].dims[0]->segments[0].factors[0].port));
    t_group_is(env, g, NULL, g->class_name[tf_class_of(g, port)], "permutation, scale");
    free(gate), free(up), free(y);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Something else reads the gate: a scale on the axis would reach it, so only permutations are left. */
START_TEST(test_gate_read_twice)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,4"}, {"linear", "gate", "in", "out=ffn:7"},
                            {"linear", "up", "in", "out=ffn:7"},            {"activation", "act", "gate", "kind=silu"},
                            {"multiply", "y", "act up", ""},                {"linear", "down", "y", "out=s:2"},
                            {"linear", "other", "gate", "out=s:2"},         {"add", "sum", "down other", ""},
                            {"linear", "end", "sum", "out=e:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "end");
    const tf_param *rows = &g->params[tf_graph_find_param(g, "gate.weight")];
    ck_assert_int_eq(rows->use[0], TF_USE_PRODUCED);
    t_group_is(env, g, NULL, g->class_name[tf_class_of(g, rows->dims[0]->segments[0].factors[0].port)], "permutation");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- embedding ---- */

START_TEST(test_embedding)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "ids", "", "kind=tokens length=3"},
                            {"embedding", "e", "ids", "rows=!/vocabulary:6 of=/stream:5"},
                            {"linear", "y", "e", "out=!/vocabulary:6 weight=@e.weight bias=0"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float *w = random_floats(30, 1), ids[6];
    const int32_t chosen[6] = {5, 0, 3, 3, 2, 9};
    memcpy(ids, chosen, sizeof ids);
    float *e = t_forward(env, g, "e", 2, (const float *const[]){ids}, (const float *const[]){w});
    for (int i = 0; i < 30; i++)
        ck_assert(e[i] == (i < 25 ? w[chosen[i / 5] * 5 + i % 5] : 0.0f));
    float *y = t_forward(env, g, "y", 2, (const float *const[]){e}, (const float *const[]){w});
    for (int64_t i = 0; i < 36; i++) {
        double want = 0;
        for (int64_t k = 0; k < 5; k++)
            want += (double)w[i % 6 * 5 + k] * e[i / 6 * 5 + k];
        near(y[i], want, "tied head", i);
    }
    t_group_is(env, g, NULL, "stream", "orthogonal"); /* one tensor, produced here and consumed there */
    t_group_is(env, g, NULL, "vocabulary", "pinned");
    free(w), free(e), free(y);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- split ---- */

static void check_split(const char *spec, const char *label, const int64_t *index, int64_t count, int factors)
{
    tf_env *env = t_env(1);
    char out[128], attrs[64];
    snprintf(out, sizeof out, "out=%s", spec);
    snprintf(attrs, sizeof attrs, "label=%s", label);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=2,4"}, {"linear", "x", "in", out},
                            {"split", "s", "x", attrs}, {"linear", "y", "s", "out=d:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    const tf_binding *from = tf_value_channels(g, tf_graph_find_value(g, "x"));
    const tf_binding *part = tf_value_channels(g, tf_graph_find_value(g, "s"));
    ck_assert_int_eq(part->extent, count);
    ck_assert_int_eq(part->segments[0].n_factors, factors);
    float *x = random_floats((size_t)(2 * from->extent), 1);
    float *s = t_forward(env, g, "s", 1, (const float *const[]){x}, NULL);
    for (int64_t i = 0; i < 2 * count; i++)
        ck_assert_msg(s[i] == x[i / count * from->extent + index[i % count]], "%s of %s: %lld", label, spec, (long long)i);
    free(x), free(s);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_split)
{
    const int64_t second[] = {6, 7, 8, 9, 10, 11}, last[] = {12, 13, 14, 15};
    check_split("q=h:2*k:3|k=h2:2*k2:3|v=h3:2*v:2", "k", second, 6, 2);
    check_split("q=h:2*k:3|k=h2:2*k2:3|v=h3:2*v:2", "v", last, 4, 2);
    const int64_t inner[] = {2, 3, 4, 8, 9, 10};
    check_split("h:2*(q=k:2|k=j:3|v=v:1)", "k", inner, 6, 2);
    const int64_t dotted[] = {7, 9}; /* a=2*(q:1|k:2) | b=2*(q:1|k:1): q and k of b alternate */
    check_split("a=h:2*(q=i:1|k=j:2)|b=h2:2*(q=i2:1|k=j2:1)", "b.k", dotted, 2, 2);
    const int64_t after[] = {2, 3, 6, 7}; /* (2)*(x:1|y:1)*2: y's units come in runs of two */
    check_split("h:2*(x=i:1|y=j:1)*m:2", "y", after, 4, 3);
    const t_node bad[] = {{"input", "in", "", "kind=features shape=2,4"}, {"linear", "x", "in", "out=q=a:2|k=b:2"},
                          {"split", "s", "x", "label=v"}};
    t_refused(bad, 3, TFUSE_EGRAPH, "no segment labelled 'v'");
}
END_TEST

/* ---- routing ---- */

enum { EXPERTS = 5, HIDDEN = 4, ROWS = 6 };

/* The weights of one token, by repeated choice of the largest. */
static void route_row(const float *logits, int top_k, const char *how, double *weights)
{
    double mass[EXPERTS], all = 0, chosen = 0;
    bool taken[EXPERTS] = {false};
    for (int e = 0; e < EXPERTS; e++)
        all += mass[e] = exp((double)logits[e]);
    for (int k = 0; k < top_k; k++) {
        int best = -1;
        for (int e = 0; e < EXPERTS; e++)
            if (!taken[e] && (best < 0 || logits[e] > logits[best]))
                best = e;
        taken[best] = true;
        chosen += mass[best];
    }
    for (int e = 0; e < EXPERTS; e++)
        weights[e] = !taken[e] ? 0 : !strcmp(how, "one") ? 1 : mass[e] / (!strcmp(how, "all") ? all : chosen);
}

static void check_route(int top_k, const char *how)
{
    tf_env *env = t_env(1);
    char text[64];
    snprintf(text, sizeof text, "top_k=%d weights=%s", top_k, how);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,3"},
                            {"linear", "router", "in", "out=experts:5 bias=0"},
                            {"linear", "wide", "in", "out=experts:5*hidden:4"},
                            {"route", "moe", "wide router", text},
                            {"linear", "y", "moe", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float *x = random_floats(ROWS * EXPERTS * HIDDEN, 1), *logits = random_floats(ROWS * EXPERTS, 2);
    const float *in[] = {x, logits};
    float *y = t_forward(env, g, "moe", 2, in, NULL);
    for (int r = 0; r < ROWS; r++) {
        double want[EXPERTS];
        route_row(logits + r * EXPERTS, top_k, how, want);
        for (int i = 0; i < EXPERTS * HIDDEN; i++)
            near(y[r * EXPERTS * HIDDEN + i], x[r * EXPERTS * HIDDEN + i] * want[i / HIDDEN], text, i);
    }
    const tf_param *wide = &g->params[tf_graph_find_param(g, "wide.weight")], *rows = &g->params[tf_graph_find_param(g, "router.weight")];
    const tf_factor *factors = wide->dims[0]->segments[0].factors;
    const tf_id experts = tf_class_of(g, factors[0].port), hidden = tf_class_of(g, factors[1].port);
    ck_assert_int_eq(tf_class_of(g, rows->dims[0]->segments[0].factors[0].port), experts);
    ck_assert_int_eq(tf_class_parent(g, hidden), experts);
    t_group_is(env, g, NULL, g->class_name[experts], "permutation");
    t_group_is(env, g, NULL, g->class_name[hidden], "general linear");
    free(x), free(logits), free(y);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_route)
{
    check_route(1, "chosen");
    check_route(2, "chosen");
    check_route(3, "all");
    check_route(2, "one");
    const t_node bad[] = {{"input", "x", "", "kind=features shape=3,3"}, {"linear", "router", "x", "out=experts:4"},
                          {"linear", "wide", "x", "out=e:5*h:4"}, {"route", "moe", "wide router", "top_k=1"}};
    t_refused(bad, 4, TFUSE_ESHAPE, "one logit of each of the 5 experts");
    const t_node flat[] = {bad[0], bad[1], {"linear", "wide", "x", "out=h:4"}, bad[3]};
    t_refused(flat, 4, TFUSE_EGRAPH, "are not experts*hidden");
    const t_node how[] = {bad[0], {"linear", "router", "x", "out=experts:5"}, bad[2], {"route", "moe", "wide router", "top_k=1 weights=some"}};
    t_refused(how, 4, TFUSE_EGRAPH, "weights=some is none of");
    const t_node most[] = {how[0], how[1], how[2], {"route", "moe", "wide router", "top_k=6"}};
    t_refused(most, 4, TFUSE_ERANGE, "top_k=6");
}
END_TEST

START_TEST(test_gate_tokens)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=3,3"}, {"linear", "x", "in", "out=/stream:4"}, {"linear", "g", "in", "out=!one:1"},
                            {"gate_tokens", "gated", "x g", ""}, {"linear", "y", "gated", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float *x = random_floats(12, 1), *share = random_floats(3, 2);
    float *y = t_forward(env, g, "gated", 1, (const float *[]){x, share}, NULL);
    for (int i = 0; i < 12; i++)
        near(y[i], x[i] / (1 + exp(-(double)share[i / 4])), "gate", i);
    const t_node bad[] = {nodes[0], nodes[1], {"linear", "g", "in", "out=!two:2"}, nodes[3]};
    t_refused(bad, 4, TFUSE_ESHAPE, "one number for each token");
    free(x), free(share), free(y);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- the table ---- */

START_TEST(test_registry)
{
    size_t count = 0;
    for (const tf_op *op; (op = tf_op_at(count)) != NULL; count++) {
        ck_assert_ptr_eq(tf_op_find(op->name), op);
        ck_assert(op->help && op->attrs && op->shape && op->permits && op->flow && op->forward);
        for (size_t i = 0; i < count; i++)
            ck_assert_str_ne(tf_op_at(i)->name, op->name);
    }
    ck_assert_uint_eq(count, 27);
    ck_assert_ptr_null(tf_op_find("convolution"));
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("ops");
    T_ADD(test_linear);
    T_ADD(test_patchify);
    T_ADD(test_stem);
    T_ADD(test_stem_refused);
    T_ADD(test_norms);
    T_ADD(test_norm_groups);
    T_ADD(test_activation);
    T_ADD(test_multiply);
    T_ADD(test_gate_read_twice);
    T_ADD(test_embedding);
    T_ADD(test_split);
    T_ADD(test_route);
    T_ADD(test_gate_tokens);
    T_ADD(test_registry);
    return t_suite;
}
