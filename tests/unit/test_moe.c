/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts out of dense models: FFNs found and routed in graphs of any shape, splits that compute what the model does when every expert is chosen
 * and are better than splits that do not look at keys, and the way back to the same bits.
 *
 * Tolerances: outputs of a split with every expert chosen are sums of the same products in another order, 1e-5 of the largest.
 */
#include <math.h>
#include "base/buf.h"
#include "fuse/fuse.h"
#include "io/io.h"
#include "moe/moe.h"
#include "t_graph.h"

static tf_solver_registry solvers_of(tf_env *env)
{
    tf_solver_registry r;
    t_ok(env, tf_solvers_init(env, &r));
    return r;
}

/* ---- operations ---- */

START_TEST(means_and_weights)
{
    enum { ROWS = 4, EXPERTS = 3, HIDDEN = 2 };
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=2,3"},
                            {"linear", "key", "in", "out=experts:3*hidden:2 bias=0"},
                            {"expert_mean", "router", "key", ""},
                            {"activation", "act", "key", "kind=silu"},
                            {"linear", "up", "in", "out=experts:3*hidden:2 bias=0"},
                            {"multiply", "gated", "act up", ""},
                            {"route", "routed", "gated router", "top_k=2 weights=one"},
                            {"route_weights", "chosen", "router", "top_k=2 weights=one"},
                            {"linear", "bias", "chosen", "out=!/classes:2 bias=0"},
                            {"linear", "y", "routed", "out=!/classes:2 bias=0"},
                            {"add", "sum", "y bias", "residual=y"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "sum");
    float x[ROWS * EXPERTS * HIDDEN];
    t_fill(x, TF_LEN(x), 5);
    const float *in[] = {x};
    float *means = t_forward(env, g, "router", 2, in, NULL);
    for (int i = 0; i < ROWS * EXPERTS; i++)
        ck_assert_float_eq_tol(means[i], 0.5f * (x[2 * i] + x[2 * i + 1]), 1e-6f);
    const float *logits[] = {means};
    float *weights = t_forward(env, g, "chosen", 2, logits, NULL);
    for (int r = 0; r < ROWS; r++) {
        int least = 0;
        for (int e = 1; e < EXPERTS; e++)
            least = means[r * EXPERTS + e] < means[r * EXPERTS + least] ? e : least;
        for (int e = 0; e < EXPERTS; e++)
            ck_assert_float_eq(weights[r * EXPERTS + e], e == least ? 0.0f : 1.0f);
    }
    free(means), free(weights);
    t_group_is(env, g, NULL, "experts", "permutation");
    t_group_is(env, g, NULL, "hidden", "permutation, scale"); /* a mean of the gate limits its partner's scale as little as the gate does */
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(refused_operations)
{
    const t_node flat[] = {{"input", "in", "", "kind=features shape=2,3"}, {"linear", "key", "in", "out=hidden:6"}, {"expert_mean", "m", "key", ""}};
    const t_node many[] = {{"input", "in", "", "kind=features shape=2,3"}, {"linear", "key", "in", "out=experts:3"},
                           {"route_weights", "w", "key", "top_k=4"}};
    t_refused(flat, TF_LEN(flat), TFUSE_EGRAPH, "not experts*hidden");
    t_refused(many, TF_LEN(many), TFUSE_ERANGE, "top_k");
}
END_TEST

/* ---- models of one's own ---- */

/* A plain FFN, a gated one beside it in one scope, and what looks like one: a head. */
static const t_node own[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:8"},
    {"layernorm", "b/norm", "embed", ""},
    {"linear", "b/up1", "b/norm", "out=ffn:12"},
    {"activation", "b/act1", "b/up1", "kind=gelu"},
    {"linear", "b/down1", "b/act1", "out=/stream:8"},
    {"add", "b/add1", "embed b/down1", "residual=embed"},
    {"rmsnorm", "b/norm2", "b/add1", ""},
    {"linear", "b/gate2", "b/norm2", "out=wide:18"},
    {"activation", "b/act2", "b/gate2", "kind=silu"},
    {"linear", "b/up2", "b/norm2", "out=wide:18"},
    {"multiply", "b/mul2", "b/act2 b/up2", ""},
    {"linear", "b/down2", "b/mul2", "out=/stream:8"},
    {"add", "b/add2", "b/add1 b/down2", "residual=b/add1"},
    {"linear", "pooler", "b/add2", "out=pool:8"},
    {"activation", "pooled", "pooler", "kind=tanh"},
    {"linear", "head", "pooled", "out=!classes:3"},
};

typedef struct scene {
    tf_env *env;
    tf_solver_registry solvers;
    tfuse_policy *policy;
    tf_graph *g;
    t_model m;
} scene;

/* A model whose config carries its graph. */
static void scene_open(scene *s, const t_node *nodes, size_t count, const char *output)
{
    tf_buf json, config;
    s->env = t_env(1);
    s->solvers = solvers_of(s->env);
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    s->g = t_graph(s->env, nodes, count, output);
    s->m = t_random_model(s->env, s->g, 21);
    tf_buf_init(&json, &s->env->mem);
    tf_buf_init(&config, &s->env->mem);
    t_ok(s->env, tf_graph_to_json(s->env, s->g, &json));
    t_ok(s->env, tf_buf_printf(s->env, &config, "{\"tfuse_graph\": %s}", json.data));
    json_decref(s->m.m->config);
    s->m.m->config = NULL;
    t_ok(s->env, tf_model_set_config(s->env, s->m.m, "test", config.data, config.len));
    tf_buf_free(&json);
    tf_buf_free(&config);
}

static void set(scene *s, const char *key, const char *value)
{
    t_ok(s->env, tf_policy_set(s->env, s->policy, key, value));
}

/* The report stays, for json_decref. */
static tfuse_status keep(tf_env *env, json_t *report, void *arg)
{
    (void)env;
    *(json_t **)arg = json_incref(report);
    return TFUSE_OK;
}

static void scene_close(scene *s)
{
    t_model_free(&s->m);
    tf_graph_free(s->g);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    t_env_free(s->env);
}

static tfuse_status split(scene *s, tfuse_model **made)
{
    json_t *report = NULL;
    *made = NULL;
    const tfuse_status status = tf_moe_split(s->env, s->policy, &s->solvers, s->m.m, NULL, NULL, made, keep, &report);
    json_decref(report);
    return status;
}

static void same_tensors(const tfuse_model *a, const tfuse_model *b)
{
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        ck_assert_str_eq(a->tensors[i].name, b->tensors[i].name);
        ck_assert_uint_eq(a->tensors[i].size, b->tensors[i].size);
        ck_assert_msg(memcmp(a->tensors[i].data, b->tensors[i].data, (size_t)a->tensors[i].size) == 0, "%s differs", a->tensors[i].name);
    }
}

START_TEST(a_graph_of_ones_own)
{
    scene s;
    tfuse_model *made = NULL;
    scene_open(&s, own, TF_LEN(own), "head");
    set(&s, "moe.experts", "3");
    set(&s, "moe.top_k", "2");
    t_ok(s.env, split(&s, &made)); /* with its self-check */
    static const char *const plain[] = {"b/up1.mlp.experts.batched_fc1_w", "b/up1.mlp.experts.batched_fc1_bias", "b/up1.mlp.experts.batched_fc2_w",
                                        "b/up1.mlp.experts.batched_fc2_bias", "b/up1.mlp.gates.0.wg.weight", "b/gate2.weight", "b/gate2.bias",
                                        "b/down2.weight", "b/down2.bias", "head.weight"};
    for (size_t i = 0; i < TF_LEN(plain); i++)
        ck_assert_msg(tf_model_find(made, plain[i]) != NULL, "no %s", plain[i]);
    ck_assert_ptr_null(tf_model_find(made, "b/up1.weight"));
    const tf_tensor *w = tf_model_find(made, plain[0]);
    ck_assert_int_eq(w->rank, 3);
    ck_assert_int_eq(w->shape[0], 3);
    ck_assert_int_eq(w->shape[1], 4);
    ck_assert_int_eq(w->shape[2], 8);
    /* Each expert's row of the router is the mean of its keys; its bias is half the dense one. */
    const float *keys = (const float *)(const void *)w->data, *router = (const float *)(const void *)tf_model_find(made, plain[4])->data;
    for (int e = 0; e < 3; e++)
        for (int k = 0; k < 8; k++) {
            double mean = 0;
            for (int j = 0; j < 4; j++)
                mean += (double)keys[(e * 4 + j) * 8 + k] / 4;
            ck_assert_double_eq_tol((double)router[e * 8 + k], mean, 1e-6);
        }
    const float *biases = (const float *)(const void *)tf_model_find(made, plain[3])->data, *bias = t_data(&s.m, s.g, "b/down1.bias");
    for (int i = 0; i < 3 * 8; i++)
        ck_assert_float_eq(biases[i], bias[i % 8] / 2);
    /* Back: the pooler and the head are no FFN, units stay in the experts' order without notes. */
    tfuse_model *back = NULL;
    json_t *report = NULL;
    t_ok(s.env, tf_moe_join(s.env, s.policy, made, NULL, &back, keep, &report));
    ck_assert_int_eq(json_integer_value(json_object_get(report, "ffns")), 2);
    ck_assert(json_is_false(json_object_get(report, "ordered")));
    ck_assert_uint_eq(back->count, s.m.m->count);
    const tf_tensor *down = tf_model_find(back, "b/down1.bias");
    ck_assert_mem_eq(down->data, bias, 8 * sizeof *bias);
    json_decref(report);
    tf_model_free(back);
    tf_model_free(made);
    scene_close(&s);
}
END_TEST

START_TEST(splits_refused)
{
    scene s;
    tfuse_model *made;
    scene_open(&s, own, TF_LEN(own), "head");
    t_fails(s.env, split(&s, &made), TFUSE_EINVAL, "--experts E");
    set(&s, "moe.experts", "3");
    t_fails(s.env, split(&s, &made), TFUSE_EINVAL, "--top-k K");
    set(&s, "moe.top_k", "4");
    t_fails(s.env, split(&s, &made), TFUSE_EINVAL, "more experts than there are");
    set(&s, "moe.top_k", "2");
    set(&s, "moe.experts", "4");
    t_fails(s.env, split(&s, &made), TFUSE_ESHAPE, "18 hidden units of b/gate2");
    set(&s, "moe.experts", "2");
    set(&s, "moe.layout", "sideways");
    t_fails(s.env, split(&s, &made), TFUSE_EKEY, "sideways");
    set(&s, "moe.layout", "emoe");
    set(&s, "run.memory", "1000");
    t_fails(s.env, split(&s, &made), TFUSE_ERANGE, "run.memory");
    set(&s, "run.memory", "0");
    json_t *report = NULL;
    t_fails(s.env, tf_moe_join(s.env, s.policy, s.m.m, NULL, &made, keep, &report), TFUSE_EUNSUPPORTED, "dense already");
    t_ok(s.env, split(&s, &made));
    tfuse_model *again = NULL;
    t_fails(s.env, tf_moe_split(s.env, s.policy, &s.solvers, made, NULL, NULL, &again, keep, &report), TFUSE_EUNSUPPORTED, "already");
    tf_model_free(made);
    scene_close(&s);
    const t_node bare[] = {{"input", "x", "", "kind=features shape=5,6"}, {"linear", "pooler", "x", "out=pool:8"},
                           {"activation", "pooled", "pooler", "kind=tanh"}, {"linear", "head", "pooled", "out=!classes:3"}};
    scene_open(&s, bare, TF_LEN(bare), "head");
    set(&s, "moe.experts", "2");
    set(&s, "moe.top_k", "1");
    t_fails(s.env, split(&s, &made), TFUSE_EUNSUPPORTED, "no feed-forward network");
    scene_close(&s);
}
END_TEST

/* ---- trained models ---- */

typedef struct trained {
    scene s;
    tfuse_model *m;
    tfuse_array *calib;
} trained;

static void trained_open(trained *t, uint32_t threads, const char *model, const char *calib, const char *samples)
{
    *t = (trained){.m = NULL};
    t->s.env = t_env(threads);
    t->s.solvers = solvers_of(t->s.env);
    t_ok(t->s.env, tf_policy_new(t->s.env, &t->s.policy));
    t_ok(t->s.env, tf_model_open(t->s.env, model, 0, &t->m));
    t_ok(t->s.env, tf_array_open(t->s.env, calib, &t->calib));
    set(&t->s, "calib.samples", samples);
}

static void trained_close(trained *t)
{
    tf_model_free(t->m);
    tf_array_free(t->calib);
    tf_policy_free(t->s.policy);
    tf_solvers_free(&t->s.solvers);
    t_env_free(t->s.env);
}

static double number(const json_t *object, const char *key, const char *split)
{
    return json_number_value(json_object_get(json_object_get(object, key), split));
}

static void check_better(const json_t *row, const char *what)
{
    static const char *const keys[] = {"spread", "error", "output_error"};
    for (size_t i = 0; i < TF_LEN(keys); i++) {
        const double clustered = number(row, keys[i], "clustered");
        ck_assert_double_gt(clustered, 0);
        ck_assert_msg(clustered < number(row, keys[i], "contiguous"), "%s: %s %g", what, keys[i], clustered);
        ck_assert_msg(clustered < number(row, keys[i], "random"), "%s: %s %g", what, keys[i], clustered);
    }
}

static void check_trained(const char *model, const char *calib, const char *samples, const char *experts, const char *top_k)
{
    trained t;
    tfuse_model *made = NULL;
    json_t *report = NULL;
    trained_open(&t, 1, model, calib, samples);
    set(&t.s, "moe.experts", experts);
    set(&t.s, "moe.top_k", top_k);
    t_ok(t.s.env, tf_moe_split(t.s.env, t.s.policy, &t.s.solvers, t.m, t.calib, NULL, &made, keep, &report));
    check_better(report, model);
    ck_assert_double_lt(json_number_value(json_object_get(report, "selfcheck")), 1e-5);
    tf_model_free(made);
    json_decref(report);
    trained_close(&t);
}

START_TEST(better_than_contiguous_and_random)
{
    check_trained("tests/data/vit-fmnist-a", "tests/data/parity/images_n40.npy", "20", "8", "4");
    check_trained("tests/data/vit-fmnist-a", "tests/data/parity/images_n40.npy", "20", "16", "4");
    check_trained("tests/data/llama-kjv-e", "tests/data/kjv-tokens/calib.npy", "16", "8", "2");
    check_trained("tests/data/llama-kjv-e", "tests/data/kjv-tokens/calib.npy", "16", "16", "8");
}
END_TEST

/* What stands under a mask is in no error. */
static const t_node masked[] = {
    {"input", "ids", "", "kind=tokens"},
    {"input", "mask", "", "kind=tokens default=1"},
    {"embedding", "embed", "ids", "rows=!words:11 of=/stream:8"},
    {"linear", "b/q", "embed", "out=heads:2*qk:4"},
    {"linear", "b/k", "embed", "out=heads:2*qk:4"},
    {"linear", "b/v", "embed", "out=heads:2*vo:4"},
    {"attention", "b/core", "b/q b/k b/v mask", ""},
    {"linear", "b/o", "b/core", "out=/stream:8"},
    {"add", "b/add", "embed b/o", "residual=embed"},
    {"linear", "b/up", "b/add", "out=ffn:12"},
    {"activation", "b/act", "b/up", "kind=gelu"},
    {"linear", "b/down", "b/act", "out=/stream:8"},
    {"add", "b/add2", "b/add b/down", "residual=b/add"},
    {"linear", "head", "b/add2", "out=!classes:3"},
};

static json_t *report_of(scene *s, const int32_t *ids, const int32_t *mask)
{
    tfuse_array *calib, *beside;
    tfuse_model *made;
    json_t *report = NULL;
    t_ok(s->env, tf_array_wrap(s->env, TFUSE_I32, 2, (const int64_t[]){3, 4}, ids, NULL, NULL, &calib));
    t_ok(s->env, tf_array_wrap(s->env, TFUSE_I32, 2, (const int64_t[]){3, 4}, mask, NULL, NULL, &beside));
    t_ok(s->env, tf_array_attach(s->env, calib, "mask", beside));
    t_ok(s->env, tf_moe_split(s->env, s->policy, &s->solvers, s->m.m, calib, NULL, &made, keep, &report));
    tf_model_free(made);
    tf_array_free(calib);
    json_object_del(report, "seconds");
    return report;
}

START_TEST(padding_is_not_compared)
{
    static const int32_t ids[] = {1, 2, 3, 0, 4, 0, 0, 0, 5, 6, 0, 0}, others[] = {1, 2, 3, 9, 4, 8, 3, 10, 5, 6, 1, 2};
    static const int32_t mask[] = {1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0}, all[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    scene s;
    scene_open(&s, masked, TF_LEN(masked), "head");
    set(&s, "moe.experts", "3");
    set(&s, "moe.top_k", "1");
    json_t *a = report_of(&s, ids, mask), *b = report_of(&s, others, mask), *c = report_of(&s, others, all);
    ck_assert_double_gt(number(a, "error", "clustered"), 0);
    ck_assert_double_gt(number(a, "output_error", "clustered"), 0);
    ck_assert(json_equal(a, b) && !json_equal(b, c));
    json_decref(a), json_decref(b), json_decref(c);
    scene_close(&s);
}
END_TEST

/* The first error is what it is said to be: the FFN's own outputs, routed and not, from the dense model's inputs of it. */
START_TEST(errors_are_of_the_routed_output)
{
    enum { SAMPLES = 3 };
    trained t;
    tf_moe s;
    tf_moe_found *found = NULL;
    trained_open(&t, 1, "tests/data/vit-fmnist-a", "tests/data/parity/images_n40.npy", "3");
    set(&t.s, "moe.experts", "4");
    set(&t.s, "moe.top_k", "1");
    tf_env *env = t.s.env;
    t_ok(env, tf_moe_open(env, t.s.policy, &t.s.solvers, t.m, &s));
    t_ok(env, tf_moe_find(env, &s, &found));
    t_ok(env, tf_moe_errors(env, &s, t.calib, found));
    /* the first FFN of the routed graph has the dense model's inputs: outputs of both graphs */
    tf_moe_take(&s, found, TF_CLUSTERED);
    tfuse_model *made = NULL;
    t_ok(env, tf_moe_to_model(env, &s, &made));
    float *out[2] = {NULL, NULL};
    int64_t count = 0;
    for (int k = 0; k < 2; k++) {
        const tf_graph *g = k ? s.routed : s.dense;
        tf_view *view;
        tf_evaluator *ev;
        tf_inputs in;
        const tf_id keep = tf_graph_find_value(g, k ? "layer.0/experts_sum" : "layer.0/fc2");
        t_ok(env, tf_view_root(env, g, k ? made : t.m, &view));
        t_ok(env, tf_inputs_make(env, g, t.m, t.calib, SAMPLES, &in));
        t_ok(env, tf_evaluator_new(env, view, &keep, 1, &ev));
        t_ok(env, tf_evaluator_prepare(env, ev, &in));
        count = SAMPLES * tf_evaluator_size(ev, keep);
        out[k] = malloc((size_t)count * sizeof *out[k]);
        t_ok(env, tf_evaluator_run(env, ev, &in, 0, SAMPLES, &out[k], NULL));
        tf_evaluator_free(ev);
        tf_view_free(view);
    }
    double gap = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        gap += pow((double)out[0][i] - (double)out[1][i], 2);
        size += pow((double)out[0][i], 2);
    }
    ck_assert_double_eq_tol(found[0].error[TF_CLUSTERED] / gap, 1, 1e-4);
    ck_assert_double_eq_tol(found[0].size / size, 1, 1e-5);
    free(out[0]), free(out[1]);
    tf_model_free(made);
    tf_moe_found_free(env, &s, found);
    tf_moe_close(env, &s);
    trained_close(&t);
}
END_TEST

/* To disk in every layout that takes the model, and back to the same bits: multiplied by powers of two, nothing is lost. */
START_TEST(there_and_back)
{
    static const struct {
        const char *model, *layout, *experts, *top_k;
    } cases[] = {{"tests/data/vit-fmnist-a", "emoe", "8", "4"},     {"tests/data/llama-kjv-e", "emoe", "8", "3"},
                 {"tests/data/llama-kjv-e", "mixtral", "8", "4"},   {"tests/data/llama-kjv-e", "mixtral", "4", "4"},
                 {"tests/data/llama-kjv-e", "qwen2_moe", "8", "3"}};
    char *dir = t_mkdtemp(), out[512];
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        trained t;
        tfuse_model *made = NULL, *back = NULL;
        json_t *report = NULL;
        snprintf(out, sizeof out, "%s/%zu", dir, i);
        trained_open(&t, 1, cases[i].model, "tests/data/kjv-tokens/calib.npy", "1");
        set(&t.s, "moe.experts", cases[i].experts);
        set(&t.s, "moe.top_k", cases[i].top_k);
        set(&t.s, "moe.layout", cases[i].layout);
        t_ok(t.s.env, tf_moe_split(t.s.env, t.s.policy, &t.s.solvers, t.m, NULL, out, NULL, keep, &report));
        ck_assert_str_eq(json_string_value(json_object_get(report, "layout")), cases[i].layout);
        json_decref(report);
        t_ok(t.s.env, tf_model_open(t.s.env, out, 0, &made));
        t_ok(t.s.env, tf_moe_join(t.s.env, t.s.policy, made, NULL, &back, keep, &report));
        ck_assert(json_is_true(json_object_get(report, "ordered")));
        json_decref(report);
        for (size_t k = 0; k < t.m->count; k++) {
            float *x[2];
            for (int side = 0; side < 2; side++) {
                const tfuse_model *m = side ? back : t.m;
                x[side] = malloc((size_t)t.m->tensors[k].count * sizeof *x[side]);
                const tf_tensor *found = tf_model_find(m, t.m->tensors[k].name);
                ck_assert_msg(found && found->count == t.m->tensors[k].count, "%s", t.m->tensors[k].name);
                t_ok(t.s.env, tf_tensor_read(t.s.env, m, found, x[side]));
            }
            ck_assert_msg(memcmp(x[0], x[1], (size_t)t.m->tensors[k].count * sizeof(float)) == 0, "%s as %s: %s", cases[i].model, cases[i].layout,
                          t.m->tensors[k].name);
            free(x[0]), free(x[1]);
        }
        ck_assert_uint_eq(back->count, t.m->count);
        tf_model_free(back);
        tf_model_free(made);
        trained_close(&t);
    }
    t_rmdir(dir);
}
END_TEST

START_TEST(layouts_refused)
{
    static const struct {
        const char *model, *layout, *piece;
    } cases[] = {{"tests/data/vit-fmnist-a", "mixtral", "as mixtral"}, {"tests/data/llama-kjv-e", "qwen3_moe", "layer.0/attention"}};
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        trained t;
        tfuse_model *made = NULL;
        json_t *report = NULL;
        trained_open(&t, 1, cases[i].model, "tests/data/kjv-tokens/calib.npy", "1");
        set(&t.s, "moe.experts", "8");
        set(&t.s, "moe.top_k", "4");
        set(&t.s, "moe.layout", cases[i].layout);
        const tfuse_status status = tf_moe_split(t.s.env, t.s.policy, &t.s.solvers, t.m, NULL, NULL, &made, keep, &report);
        ck_assert_int_ne(status, TFUSE_OK);
        ck_assert_msg(strstr(t.s.env->error, cases[i].piece) != NULL, "%s", t.s.env->error);
        trained_close(&t);
    }
}
END_TEST

/* Whatever the number of threads, the same tensors. */
START_TEST(threads_change_nothing)
{
    tfuse_model *made[2] = {NULL, NULL};
    trained t[2];
    for (uint32_t k = 0; k < 2; k++) {
        json_t *report = NULL;
        trained_open(&t[k], k + 1, "tests/data/vit-fmnist-b", "tests/data/parity/images_n40.npy", "5");
        set(&t[k].s, "moe.experts", "16");
        set(&t[k].s, "moe.top_k", "4");
        t_ok(t[k].s.env, tf_moe_split(t[k].s.env, t[k].s.policy, &t[k].s.solvers, t[k].m, t[k].calib, NULL, &made[k], keep, &report));
        json_decref(report);
    }
    same_tensors(made[0], made[1]);
    for (int k = 0; k < 2; k++) {
        tf_model_free(made[k]);
        trained_close(&t[k]);
    }
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("moe");
    T_ADD(means_and_weights);
    T_ADD(refused_operations);
    T_ADD(a_graph_of_ones_own);
    T_ADD(splits_refused);
    T_ADD(better_than_contiguous_and_random);
    T_ADD(padding_is_not_compared);
    T_ADD(errors_are_of_the_routed_output);
    T_ADD(there_and_back);
    T_ADD(layouts_refused);
    T_ADD(threads_change_nothing);
    return t_suite;
}
