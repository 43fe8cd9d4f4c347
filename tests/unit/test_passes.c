/* SPDX-License-Identifier: Apache-2.0
 *
 * The passes keep the function: logits of a trained Vision Transformer whose norms and biases were made random, and of a small decoder with
 * RMSNorm, rotary positions, grouped queries and a gate, are equal before and after each. What they change, and where they must not.
 *
 * Tolerance: 1e-4 of the largest logit; a pass reorders float32 sums, which moves logits by about 1e-6 of it, and a wrong term by much
 * more than 1e-2.
 */
#include "t_graph.h"
#include "arch/arch.h"
#include "passes/passes.h"

#define VIT "tests/data/vit-fmnist-a"
#define RELATIVE 1e-4

enum { N_PASSES = 4, SAMPLES = 12 };

static const char *const all_passes[N_PASSES] = {"fold-norms.1", "drop-key-bias.1", "move-value-bias.1", "centre-writes.1"};

static void same_outputs(tf_env *env, const tf_view *a, const tf_view *b, int64_t sample)
{
    const tf_value *out = &a->g->values[a->g->output];
    size_t count = SAMPLES;
    for (int d = 0; d < out->rank; d++)
        count *= (size_t)out->extent[d];
    float *x = calloc((size_t)(SAMPLES * sample), sizeof *x);
    t_fill(x, (size_t)(SAMPLES * sample), 9);
    float *want = t_run(env, a, x, SAMPLES), *got = t_run(env, b, x, SAMPLES);
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)want[i]));
    const double diff = t_max_diff(want, got, count);
    ck_assert_msg(diff <= RELATIVE * most, "%s: logits up to %g differ by %g", b->pass, most, diff);
    free(x), free(want), free(got);
}

static float *load(tf_env *env, const tf_view *view, const char *param)
{
    float *x = NULL;
    const tf_id id = tf_graph_find_param(view->g, param);
    ck_assert_msg(id >= 0, "no parameter %s", param);
    t_ok(env, tf_view_load(env, view, id, &x));
    return x;
}

static void all_are(tf_env *env, const tf_view *view, const char *param, float want)
{
    float *x = load(env, view, param);
    for (size_t i = 0; i < t_param_count(view->g, tf_graph_find_param(view->g, param)); i++)
        ck_assert_msg(x[i] == want, "%s[%zu] is %g", param, i, (double)x[i]);
    tf_free(&env->mem, x);
}

static void unchanged(tf_env *env, const tf_view *a, const tf_view *b, const char *param)
{
    float *x = load(env, a, param), *y = load(env, b, param);
    ck_assert_msg(t_max_diff(x, y, t_param_count(a->g, tf_graph_find_param(a->g, param))) == 0.0, "%s changed", param);
    tf_free(&env->mem, x);
    tf_free(&env->mem, y);
}

/* ---- the trained model ---- */

/* The model with everything that a pass moves made random, in a model of its own. */
static tfuse_model *shaken(tf_env *env, const tfuse_model *m, float **blocks)
{
    tfuse_model *out = NULL;
    t_ok(env, tf_model_new(env, m->config_text, &out));
    for (size_t i = 0; i < m->count; i++) {
        tf_tensor t = m->tensors[i];
        blocks[i] = malloc(t.count * sizeof(float));
        t_ok(env, tf_tensor_read(env, m, &t, blocks[i]));
        if (t.rank == 1) {
            const float middle = strstr(t.name, "layernorm") && strstr(t.name, ".weight") ? 1.0f : 0.0f;
            t_fill(blocks[i], t.count, i);
            for (size_t k = 0; k < t.count; k++)
                blocks[i][k] = middle + 0.7f * blocks[i][k];
        }
        t.data = (const uint8_t *)blocks[i];
        t.size = t.count * sizeof(float);
        t.dtype = TFUSE_F32;
        t.file = -1;
        t_ok(env, tf_model_add(env, out, &t));
    }
    t_ok(env, tf_model_seal(env, out));
    return out;
}

typedef struct fix {
    tf_env *env;
    tfuse_model *file, *m;
    float *blocks[80];
    tf_graph *g;
    tf_canonical c;
} fix;

static void open_vit(fix *f)
{
    memset(f, 0, sizeof *f);
    f->env = t_env(2);
    t_ok(f->env, tf_model_open(f->env, VIT, 0, &f->file));
    ck_assert_uint_le(f->file->count, TF_LEN(f->blocks));
    f->m = shaken(f->env, f->file, f->blocks);
    t_ok(f->env, tf_graph_build(f->env, f->m, false, &f->g));
    t_ok(f->env, tf_canonical_make(f->env, f->g, f->m, all_passes, N_PASSES, &f->c));
    ck_assert_int_eq(f->c.n, N_PASSES + 1);
}

static void close_vit(fix *f)
{
    tf_canonical_free(&f->c);
    tf_graph_free(f->g);
    tf_model_free(f->m);
    tf_model_free(f->file);
    for (size_t i = 0; i < TF_LEN(f->blocks); i++)
        free(f->blocks[i]);
    t_env_free(f->env);
}

START_TEST(test_vit_exact)
{
    fix f;
    open_vit(&f);
    for (int i = 1; i <= N_PASSES; i++) {
        ck_assert_str_eq(f.c.levels[i]->pass, all_passes[i - 1]);
        same_outputs(f.env, f.c.levels[0], f.c.levels[i], 784);
    }
    close_vit(&f);
}
END_TEST

/* Largest mean along a dimension of a matrix, relative to its largest element. */
static double largest_mean(const float *x, int64_t rows, int64_t cols, int dim)
{
    double mean = 0, most = 0;
    for (int64_t i = 0; i < (dim ? rows : cols); i++) {
        double sum = 0;
        for (int64_t k = 0; k < (dim ? cols : rows); k++) {
            const double v = (double)(dim ? x[i * cols + k] : x[k * cols + i]);
            sum += v;
            most = fmax(most, fabs(v));
        }
        mean = fmax(mean, fabs(sum) / (double)(dim ? cols : rows));
    }
    return mean / most;
}

static void is_centred(const fix *f, const char *param, int dim)
{
    const tf_param *p = &f->g->params[tf_graph_find_param(f->g, param)];
    float *x = load(f->env, tf_canonical_top(&f->c), param);
    const int64_t rows = p->shape[0], cols = (int64_t)t_param_count(f->g, tf_graph_find_param(f->g, param)) / rows;
    ck_assert_msg(largest_mean(x, rows, cols, dim) < 1e-6, "%s is not centred", param);
    tf_free(&f->env->mem, x);
}

START_TEST(test_vit_form)
{
    fix f;
    open_vit(&f);
    const tf_view *top = tf_canonical_top(&f.c);
    t_group_is(f.env, f.g, f.c.levels[0], "stream", "permutation");
    t_group_is(f.env, f.g, top, "stream", "orthogonal fixing ones");
    all_are(f.env, top, "layer.2/norm1.gain", 1.0f);
    all_are(f.env, top, "layer.2/norm2.bias", 0.0f);
    all_are(f.env, top, "norm.gain", 1.0f);
    all_are(f.env, top, "norm.bias", 0.0f);
    all_are(f.env, top, "layer.1/key.bias", 0.0f);
    all_are(f.env, top, "layer.1/value.bias", 0.0f);
    is_centred(&f, "embeddings/patch.weight", 0);
    is_centred(&f, "embeddings/patch.bias", 0);
    is_centred(&f, "embeddings/class_token.weight", 1);
    is_centred(&f, "embeddings/positions.weight", 1);
    is_centred(&f, "layer.3/output.weight", 0);
    is_centred(&f, "layer.3/output.bias", 0);
    is_centred(&f, "layer.0/fc2.weight", 0);
    is_centred(&f, "layer.0/query.weight", 1);
    is_centred(&f, "layer.0/fc1.weight", 1);
    is_centred(&f, "classifier.weight", 1);
    close_vit(&f);
}
END_TEST

/* ---- a decoder: RMSNorm, rotary positions, grouped queries, a gate ---- */

typedef struct small {
    tf_env *env;
    tf_graph *g;
    t_model m;
    tf_canonical c;
} small;

static small make_small(const t_node *nodes, size_t count, const char *output)
{
    small s = {.env = t_env(1)};
    s.g = t_graph(s.env, nodes, count, output);
    s.m = t_random_model(s.env, s.g, 5);
    t_ok(s.env, tf_canonical_make(s.env, s.g, s.m.m, all_passes, N_PASSES, &s.c));
    return s;
}

static void free_small(small *s)
{
    tf_canonical_free(&s->c);
    t_model_free(&s->m);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

START_TEST(test_decoder)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"},
                            {"linear", "x", "in", "out=/stream:6"},
                            {"rmsnorm", "l/norm1", "x", ""},
                            {"linear", "l/q", "l/norm1", "out=kv:2*group:2*qk:4"},
                            {"linear", "l/k", "l/norm1", "out=kv:2*qk:4"},
                            {"linear", "l/v", "l/norm1", "out=kv:2*vo:3"},
                            {"attention", "l/a", "l/q l/k l/v", "causal=1 rope=1"},
                            {"linear", "l/o", "l/a", "out=/stream:6"},
                            {"add", "l/r1", "x l/o", ""},
                            {"rmsnorm", "l/norm2", "l/r1", ""},
                            {"linear", "l/gate", "l/norm2", "out=ffn:7 bias=0"},
                            {"linear", "l/up", "l/norm2", "out=ffn:7 bias=0"},
                            {"activation", "l/silu", "l/gate", "kind=silu"},
                            {"multiply", "l/glu", "l/silu l/up", ""},
                            {"linear", "l/down", "l/glu", "out=/stream:6 bias=0"},
                            {"add", "l/r2", "l/r1 l/down", ""},
                            {"rmsnorm", "norm", "l/r2", ""},
                            {"linear", "head", "norm", "out=!/vocabulary:8 bias=0"}};
    small s = make_small(nodes, TF_LEN(nodes), "head");
    const tf_view *root = s.c.levels[0], *top = tf_canonical_top(&s.c);
    same_outputs(s.env, root, top, 30);
    all_are(s.env, top, "l/norm1.gain", 1.0f);
    all_are(s.env, top, "norm.gain", 1.0f);
    unchanged(s.env, root, top, "l/k.bias"); /* rotary positions turn it */
    unchanged(s.env, root, top, "l/v.bias"); /* grouped queries: the columns of l/o are more than the bias */
    unchanged(s.env, root, top, "x.weight"); /* an RMSNorm sees the mean */
    t_group_is(s.env, s.g, root, "stream", "signed permutation");
    t_group_is(s.env, s.g, top, "stream", "orthogonal");
    t_group_is(s.env, s.g, top, "l/ffn", "permutation, scale");
    free_small(&s);
}
END_TEST

/* ---- where a pass must leave things ---- */

START_TEST(test_norm_on_the_residual_path)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"}, {"linear", "x", "in", "out=/stream:6"},
                            {"layernorm", "norm", "x", ""},                 {"linear", "w", "norm", "out=/stream:6"},
                            {"add", "sum", "norm w", ""},                   {"linear", "y", "sum", "out=!/classes:3"}};
    small s = make_small(nodes, TF_LEN(nodes), "y");
    const tf_view *root = s.c.levels[0], *top = tf_canonical_top(&s.c);
    unchanged(s.env, root, top, "norm.gain");
    unchanged(s.env, root, top, "w.weight");
    same_outputs(s.env, root, top, 30);
    t_group_is(s.env, s.g, top, "stream", "permutation");
    free_small(&s);
}
END_TEST

/* A reader without a bias cannot take the norm's; once that is zero it need not. */
START_TEST(test_reader_without_bias)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"}, {"linear", "x", "in", "out=/stream:6"},
                            {"layernorm", "norm", "x", ""}, {"linear", "y", "norm", "out=!/classes:3 bias=0"}};
    small s = make_small(nodes, TF_LEN(nodes), "y");
    unchanged(s.env, s.c.levels[0], tf_canonical_top(&s.c), "norm.gain");
    tf_canonical_free(&s.c);
    memset(t_data(&s.m, s.g, "norm.bias"), 0, 6 * sizeof(float));
    t_ok(s.env, tf_canonical_make(s.env, s.g, s.m.m, all_passes, N_PASSES, &s.c));
    all_are(s.env, tf_canonical_top(&s.c), "norm.gain", 1.0f);
    same_outputs(s.env, s.c.levels[0], tf_canonical_top(&s.c), 30);
    free_small(&s);
}
END_TEST

/* A head that is another tensor's storage takes no gain: the other would change with it. */
START_TEST(test_tied_head)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=8,8"}, {"linear", "x", "in", "out=/stream:6"},
                            {"parameter", "e", "", "rows=8 of=/stream:6"},  {"add", "sum", "x e", ""},
                            {"layernorm", "norm", "sum", "bias=0"},         {"linear", "y", "norm", "out=8 weight=@e.weight"}};
    t_ok(env, tf_graph_new(env, "", &g));
    for (size_t i = 0; i < TF_LEN(nodes); i++)
        t_ok(env, tf_graph_add(env, g, nodes[i].op, nodes[i].name, nodes[i].inputs, nodes[i].attrs));
    t_ok(env, tf_graph_output(env, g, "y"));
    t_ok(env, tf_graph_finish(env, g));
    t_model m = t_random_model(env, g, 5);
    tf_canonical c;
    t_ok(env, tf_canonical_make(env, g, m.m, all_passes, N_PASSES, &c));
    unchanged(env, c.levels[0], tf_canonical_top(&c), "norm.gain");
    unchanged(env, c.levels[0], tf_canonical_top(&c), "e.weight");
    same_outputs(env, c.levels[0], tf_canonical_top(&c), 64);
    tf_canonical_free(&c);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* A linear that reads the stream without a norm sees its mean. */
START_TEST(test_stream_read_raw)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"}, {"linear", "x", "in", "out=/stream:6"},
                            {"layernorm", "norm", "x", ""},                 {"linear", "a", "norm", "out=s:3"},
                            {"linear", "b", "x", "out=s:3"},                {"add", "sum", "a b", ""},
                            {"linear", "y", "sum", "out=!/classes:3"}};
    small s = make_small(nodes, TF_LEN(nodes), "y");
    const tf_view *root = s.c.levels[0], *top = tf_canonical_top(&s.c);
    all_are(s.env, top, "norm.gain", 1.0f);
    unchanged(s.env, root, top, "x.weight");
    same_outputs(s.env, root, top, 30);
    free_small(&s);
}
END_TEST

/* Keys and values that others read too keep their biases. */
START_TEST(test_shared_keys)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"}, {"linear", "q", "in", "out=h:2*k:3"},
                            {"linear", "kv", "in", "out=h:2*k:3"},          {"attention", "a", "q kv kv", ""},
                            {"linear", "y", "a", "out=!/classes:3"}};
    small s = make_small(nodes, TF_LEN(nodes), "y");
    unchanged(s.env, s.c.levels[0], tf_canonical_top(&s.c), "kv.bias");
    unchanged(s.env, s.c.levels[0], tf_canonical_top(&s.c), "y.bias");
    free_small(&s);
}
END_TEST

START_TEST(test_table)
{
    const t_node nodes[] = {{"input", "in", "", "kind=features shape=5,6"}, {"linear", "y", "in", "out=!/classes:3"}};
    small s = make_small(nodes, TF_LEN(nodes), "y");
    tf_canonical c;
    const char *const unknown[] = {"fold-norms.1", "fold-norms.9"};
    t_fails(s.env, tf_canonical_make(s.env, s.g, s.m.m, unknown, 2, &c), TFUSE_ENOTFOUND, "fold-norms.9");
    ck_assert_int_eq(c.n, 0);
    t_fails(s.env, tf_canonical_make(s.env, s.g, s.m.m, unknown, 16, &c), TFUSE_ERANGE, "16 passes");
    t_ok(s.env, tf_canonical_make(s.env, s.g, s.m.m, NULL, 0, &c));
    ck_assert_int_eq(c.n, 1);
    tf_canonical_free(&c);
    for (int i = 0; i < N_PASSES; i++) {
        ck_assert_str_eq(tf_passes[i].name, all_passes[i]);
        ck_assert_ptr_eq(tf_pass_find(all_passes[i]), &tf_passes[i]);
    }
    ck_assert_ptr_null(tf_passes[N_PASSES].name);
    free_small(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("passes");
    T_ADD(test_vit_exact);
    T_ADD(test_vit_form);
    T_ADD(test_decoder);
    T_ADD(test_norm_on_the_residual_path);
    T_ADD(test_reader_without_bias);
    T_ADD(test_tied_head);
    T_ADD(test_stream_read_raw);
    T_ADD(test_shared_keys);
    T_ADD(test_table);
    return t_suite;
}
