/* SPDX-License-Identifier: Apache-2.0
 *
 * What language models bring to the evaluator: positions by length and by padding, masks, windows, capped scores, stretched rotations, norms inside heads,
 * inputs with defaults, and the loss on next tokens. Masked and windowed attention is held against the same attention on what is left.
 *
 * Tolerance: sums of a few float32 products in another order, 1e-5.
 */
#include "num/array.h"
#include "t_graph.h"

enum { TOKENS = 5, WIDTH = 6 };

static void near(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabsf(a[i] - b[i]) < 1e-5f, "element %zu: %g and %g", i, (double)a[i], (double)b[i]);
}

/* ---- positions ---- */

static void check_positions(const char *attrs, const int32_t *ids, const int *rows)
{
    tf_env *env = t_env(1);
    char text[96];
    snprintf(text, sizeof text, "rows=!places:8 of=stream:2%s", attrs);
    const t_node nodes[] = {{"input", "ids", "", "kind=tokens length=4"}, {"positions", "p", "ids", text}, {"linear", "y", "p", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float table[16], in[4];
    t_fill(table, 16, 5);
    memcpy(in, ids, sizeof in);
    float *out = t_forward(env, g, "p", 1, (const float *[]){in}, (const float *[]){table});
    for (int t = 0; t < 4; t++)
        near(out + 2 * t, table + 2 * rows[t], 2);
    free(out);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_positions)
{
    check_positions("", (const int32_t[]){7, 7, 7, 7}, (const int[]){0, 1, 2, 3});
    check_positions(" offset=2", (const int32_t[]){7, 7, 7, 7}, (const int[]){2, 3, 4, 5});
    check_positions(" pad=1", (const int32_t[]){1, 5, 1, 6}, (const int[]){1, 2, 1, 3});
}
END_TEST

/* ---- attention ---- */

typedef struct attended {
    float q[TOKENS * 8], k[TOKENS * 8], v[TOKENS * 8];
} attended;

/* Attention of two heads of four units over `tokens` tokens; mask may be NULL. */
static float *attend(const attended *x, int tokens, const char *attrs, const int32_t *mask)
{
    tf_env *env = t_env(1);
    char shape[48], seen[64];
    snprintf(shape, sizeof shape, "kind=features shape=%d,3", tokens);
    snprintf(seen, sizeof seen, "kind=tokens length=%d default=1", tokens);
    const t_node nodes[] = {{"input", "x", "", shape},
                            {"input", "seen", "", seen},
                            {"linear", "q", "x", "out=h:2*k:4"},
                            {"linear", "k", "x", "out=h:2*k:4"},
                            {"linear", "v", "x", "out=h:2*v:4"},
                            {"attention", "a", mask ? "q k v seen" : "q k v", attrs},
                            {"linear", "y", "a", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float bits[TOKENS];
    if (mask)
        memcpy(bits, mask, (size_t)tokens * sizeof *bits);
    float *out = t_forward(env, g, "a", 1, (const float *[]){x->q, x->k, x->v, bits}, NULL);
    tf_graph_free(g);
    t_env_free(env);
    return out;
}

static attended fill(void)
{
    attended x;
    t_fill(x.q, TF_LEN(x.q), 1);
    t_fill(x.k, TF_LEN(x.k), 2);
    t_fill(x.v, TF_LEN(x.v), 3);
    return x;
}

/* Keys that are masked might as well not be there. */
START_TEST(test_mask)
{
    const attended x = fill();
    float *all = attend(&x, TOKENS, "", (const int32_t[]){1, 1, 1, 0, 0}), *left = attend(&x, 3, "", NULL);
    near(all, left, 3 * 8);
    free(all);
    all = attend(&x, TOKENS, "", (const int32_t[]){1, 1, 1, 1, 1});
    free(left);
    left = attend(&x, TOKENS, "", NULL);
    near(all, left, TOKENS * 8);
    free(all);
    free(left);
}
END_TEST

/* A query under window=2 sees itself and the key before it. */
START_TEST(test_window)
{
    const attended x = fill();
    attended last;
    float *all = attend(&x, TOKENS, "causal=1 window=2", NULL);
    memcpy(last.q, x.q + 3 * 8, 2 * 8 * sizeof(float));
    memcpy(last.k, x.k + 3 * 8, 2 * 8 * sizeof(float));
    memcpy(last.v, x.v + 3 * 8, 2 * 8 * sizeof(float));
    float *left = attend(&last, 2, "causal=1", NULL);
    near(all + 4 * 8, left + 8, 8);
    near(all, x.v, 8);
    free(all);
    free(left);
    all = attend(&x, TOKENS, "causal=1 window=9", NULL);
    left = attend(&x, TOKENS, "causal=1", NULL);
    near(all, left, TOKENS * 8);
    free(all);
    free(left);
}
END_TEST

/* A cap far above the scores changes nothing, one far below makes all keys alike. */
START_TEST(test_softcap)
{
    const attended x = fill();
    float *plain = attend(&x, TOKENS, "", NULL), *high = attend(&x, TOKENS, "softcap=1e5", NULL), *low = attend(&x, TOKENS, "softcap=1e-7", NULL);
    near(plain, high, TOKENS * 8);
    for (int c = 0; c < 8; c++) {
        float mean = 0;
        for (int t = 0; t < TOKENS; t++)
            mean += x.v[t * 8 + c] / TOKENS;
        ck_assert(fabsf(low[c] - mean) < 1e-5f);
    }
    free(plain);
    free(high);
    free(low);
}
END_TEST

/* Frequencies divided by b^(2i/d) are those of a base b times as large. */
START_TEST(test_rope_factors)
{
    const attended x = fill();
    float *by_base = attend(&x, TOKENS, "rope=1 rope_theta=400", NULL);
    float *by_factor = attend(&x, TOKENS, "rope=1 rope_theta=100 rope_factors=1,2", NULL);
    float *other = attend(&x, TOKENS, "rope=1 rope_theta=100", NULL);
    near(by_base, by_factor, TOKENS * 8);
    ck_assert(fabsf(by_base[8] - other[8]) > 1e-6f);
    free(by_base);
    free(by_factor);
    free(other);
}
END_TEST

START_TEST(test_refused)
{
    const struct {
        const char *attrs, *piece;
        tfuse_status status;
    } cases[] = {{"window=3", "window goes with causal=1", TFUSE_ERANGE},
                 {"softcap=-1", "softcap must not be negative", TFUSE_ERANGE},
                 {"rope=1 rope_factors=1", "rope_factors are not 2", TFUSE_ERANGE},
                 {"rope=1 rope_factors=1,2,3", "rope_factors are not 2", TFUSE_ERANGE},
                 {"rope=1 rope_factors=1,x", "rope_factors are not 2", TFUSE_ERANGE},
                 {"rope=1 rope_gain=0", "rope_gain positive", TFUSE_ERANGE}};
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,3"}, {"linear", "q", "x", "out=h:2*k:4"}, {"linear", "k", "x", "out=h:2*k:4"},
                                {"linear", "v", "x", "out=h:2*v:4"}, {"attention", "a", "q k v", cases[i].attrs}};
        t_refused(nodes, TF_LEN(nodes), cases[i].status, cases[i].piece);
    }
}
END_TEST

START_TEST(test_scale)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=2,3"}, {"linear", "y", "x", "out=a:3"}, {"scale", "s", "y", "by=-0.5"},
                            {"linear", "z", "s", "out=!/classes:2"}};
    const t_node none[] = {{"input", "x", "", "kind=features shape=2,3"}, {"scale", "s", "x", "by=0"}};
    const float x[6] = {1, 2, 3, -4, 5, 6};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "z");
    float *out = t_forward(env, g, "s", 1, (const float *[]){x}, NULL);
    for (int i = 0; i < 6; i++)
        ck_assert(out[i] == -0.5f * x[i]);
    t_group_is(env, g, NULL, "a", "general linear");
    t_refused(none, TF_LEN(none), TFUSE_ERANGE, "other than 0");
    free(out);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- norms inside heads ---- */

START_TEST(test_norm_per_head)
{
    tf_env *env = t_env(1);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=2,3"}, {"linear", "q", "x", "out=h:2*k:3"},
                            {"rmsnorm", "n", "q", "per_head=1 eps=0"},     {"linear", "y", "n", "out=!/classes:2"}};
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    float x[12], gain[3];
    t_fill(x, 12, 1);
    t_fill(gain, 3, 2);
    float *out = t_forward(env, g, "n", 1, (const float *[]){x}, (const float *[]){gain});
    for (int h = 0; h < 4; h++) {
        float sum = 0;
        for (int i = 0; i < 3; i++)
            sum += x[h * 3 + i] * x[h * 3 + i] / 3;
        for (int i = 0; i < 3; i++)
            ck_assert(fabsf(out[h * 3 + i] - x[h * 3 + i] / sqrtf(sum) * gain[i]) < 1e-5f);
    }
    free(out);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- inputs ---- */

static const t_node typed[] = {{"input", "ids", "", "kind=tokens"},
                               {"input", "types", "", "kind=tokens default=1"},
                               {"embedding", "words", "ids", "rows=!/vocab:9 of=/stream:6"},
                               {"embedding", "kinds", "types", "rows=!kinds:2 of=/stream:6"},
                               {"add", "sum", "words kinds", ""},
                               {"linear", "y", "sum", "out=!/classes:3"}};

static float *run_typed(tf_env *env, const tf_graph *g, const t_model *m, const tfuse_array *ids)
{
    tf_view *view;
    tf_evaluator *ev;
    tf_inputs in;
    t_ok(env, tf_view_root(env, g, m->m, &view));
    t_ok(env, tf_inputs_make(env, g, m->m, ids, 0, &in));
    t_ok(env, tf_evaluator_new(env, view, NULL, 0, &ev));
    float *out = malloc(2 * 4 * 3 * sizeof *out);
    t_ok(env, tf_evaluator_run(env, ev, &in, 0, 2, NULL, out));
    tf_evaluator_free(ev);
    tf_view_free(view);
    return out;
}

static tfuse_array *integers(tf_env *env, const int32_t *x, int64_t n, int64_t t)
{
    tfuse_array *a = NULL;
    t_ok(env, tf_array_wrap(env, TFUSE_I32, 2, (const int64_t[]){n, t}, x, NULL, NULL, &a));
    return a;
}

START_TEST(test_defaults)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8}, ones[] = {1, 1, 1, 1, 1, 1, 1, 1}, mixed[] = {1, 1, 0, 0, 1, 1, 1, 1};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, typed, TF_LEN(typed), "y");
    t_model m = t_random_model(env, g, 4);
    tfuse_array *plain = integers(env, ids, 2, 4), *given = integers(env, ids, 2, 4), *other = integers(env, ids, 2, 4);
    t_ok(env, tf_array_attach(env, given, "types", integers(env, ones, 2, 4)));
    t_ok(env, tf_array_attach(env, other, "types", integers(env, mixed, 2, 4)));
    float *a = run_typed(env, g, &m, plain), *b = run_typed(env, g, &m, given), *c = run_typed(env, g, &m, other);
    ck_assert_mem_eq(a, b, 24 * sizeof *a);
    ck_assert_mem_eq(a, c, 6 * sizeof *a);
    ck_assert(fabsf(a[6] - c[6]) > 1e-6f);
    free(a);
    free(b);
    free(c);
    tf_array_free(plain);
    tf_array_free(given);
    tf_array_free(other);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

static void bad_attachment(tf_env *env, const tf_graph *g, const t_model *m, const char *name, tfuse_array *side, tfuse_status status, const char *piece)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    tfuse_array *a = integers(env, ids, 2, 4);
    tf_inputs in;
    t_ok(env, tf_array_attach(env, a, name, side));
    t_fails(env, tf_inputs_make(env, g, m->m, a, 0, &in), status, piece);
    tf_array_free(a);
}

START_TEST(test_bad_attachments)
{
    static const int32_t large[] = {0, 0, 0, 0, 0, 0, 0, 2};
    static const float reals[8] = {0};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, typed, TF_LEN(typed), "y");
    t_model m = t_random_model(env, g, 4);
    tfuse_array *real = NULL, *twice = integers(env, large, 2, 4);
    t_ok(env, tf_array_wrap(env, TFUSE_F32, 2, (const int64_t[]){2, 4}, reals, NULL, NULL, &real));
    bad_attachment(env, g, &m, "mask", integers(env, large, 2, 4), TFUSE_ENOTFOUND, "no input 'mask'");
    bad_attachment(env, g, &m, "types", integers(env, large, 2, 4), TFUSE_ERANGE, "'types' holds 2 at element 7");
    bad_attachment(env, g, &m, "types", integers(env, large, 4, 2), TFUSE_ESHAPE, "'types'");
    bad_attachment(env, g, &m, "types", real, TFUSE_EDTYPE, "'types'");
    t_ok(env, tf_array_attach(env, twice, "types", integers(env, large, 2, 4)));
    t_fails(env, tf_array_attach(env, twice, "types", integers(env, large, 2, 4)), TFUSE_EINVAL, "there is one of that name");
    t_fails(env, tf_array_attach(env, twice, "self", twice), TFUSE_EINVAL, "self");
    tf_array_free(twice);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- next tokens ---- */

START_TEST(test_next_tokens)
{
    static const int32_t ids[] = {3, 1, 4, 1, 5, 2, 6, 5};
    static const int64_t want[] = {1, 4, 1, -100, 2, 6, 5, -100};
    const t_node nodes[] = {{"input", "ids", "", "kind=tokens"},
                            {"embedding", "e", "ids", "rows=!/vocab:9 of=/stream:4"},
                            {"linear", "q", "e", "out=h:2*k:2"},
                            {"linear", "k", "e", "out=h:2*k:2"},
                            {"linear", "v", "e", "out=h:2*v:2"},
                            {"attention", "a", "q k v", "causal=1"},
                            {"linear", "y", "a", "out=!/vocab:9"}};
    t_node both[TF_LEN(nodes)];
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "y");
    memcpy(both, nodes, sizeof both);
    both[5].attrs = "causal=0";
    tf_graph *sees_all = t_graph(env, both, TF_LEN(both), "y"), *classes = t_graph(env, typed, TF_LEN(typed), "y");
    ck_assert(tf_graph_is_causal(g) && !tf_graph_is_causal(sees_all) && !tf_graph_is_causal(classes));
    tfuse_array *a = integers(env, ids, 2, 4);
    t_model m = t_random_model(env, g, 4);
    tf_inputs in;
    int64_t *labels = NULL;
    t_ok(env, tf_inputs_make(env, g, m.m, a, 0, &in));
    t_ok(env, tf_labels_next(env, &in, &labels));
    ck_assert_mem_eq(labels, want, sizeof want);
    tf_free(&env->mem, labels);
    t_model_free(&m);
    tf_array_free(a);
    tf_graph_free(g);
    tf_graph_free(sees_all);
    tf_graph_free(classes);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("sequences");
    T_ADD(test_positions);
    T_ADD(test_mask);
    T_ADD(test_window);
    T_ADD(test_softcap);
    T_ADD(test_rope_factors);
    T_ADD(test_refused);
    T_ADD(test_scale);
    T_ADD(test_norm_per_head);
    T_ADD(test_defaults);
    T_ADD(test_bad_attachments);
    T_ADD(test_next_tokens);
    return t_suite;
}
