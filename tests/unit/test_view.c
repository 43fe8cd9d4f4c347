/* SPDX-License-Identifier: Apache-2.0
 *
 * Views: every kind of step along every dimension, their order, and that operands come from the level below.
 *
 * Values are small integers or halves, so every result is exact in float32.
 */
#include "t_graph.h"

typedef struct toy {
    tf_env *env;
    tf_graph *g;
    t_model model;
    tf_view *root;
    tf_id w, b, gain;
} toy;

static void toy_new(toy *t)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=2,3"},
        {"rmsnorm", "norm", "x", ""},
        {"linear", "w", "norm", "out=rows:4"},
    };
    t->env = t_env(1);
    t->g = t_graph(t->env, nodes, TF_LEN(nodes), "w");
    t->model = t_random_model(t->env, t->g, 1);
    for (size_t i = 0; i < t->g->n_params; i++)
        for (size_t k = 0; k < t_param_count(t->g, (tf_id)i); k++)
            t->model.data[i][k] = (float)((int)((k * 7 + i * 3) % 11) - 5);
    t_ok(t->env, tf_view_root(t->env, t->g, t->model.m, &t->root));
    t->w = tf_graph_find_param(t->g, "w.weight");
    t->b = tf_graph_find_param(t->g, "w.bias");
    t->gain = tf_graph_find_param(t->g, "norm.gain");
}

static void toy_free(toy *t)
{
    tf_view_free(t->root);
    t_model_free(&t->model);
    tf_graph_free(t->g);
    t_env_free(t->env);
}

START_TEST(test_root)
{
    toy t;
    toy_new(&t);
    float *w = NULL;
    t_ok(t.env, tf_view_load(t.env, t.root, t.w, &w));
    ck_assert_mem_eq(w, t.model.data[t.w], 12 * sizeof *w);
    tf_free(&t.env->mem, w);
    toy_free(&t);
}
END_TEST

START_TEST(test_scale_centre)
{
    const t_node nodes[] = {{"input", "x", "", "kind=image shape=3,1,4"}, {"patchify", "patch", "x", "out=rows:2 kernel=1,4 bias=0"},
                            {"linear", "three", "patch", "out=three:3"}, {"linear", "four", "three", "out=four:4"}};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "four");
    t_model m = t_random_model(env, g, 1);
    tf_view *root = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &root));
    for (size_t i = 0; i < g->n_params; i++) /* small integers: sums are exact */
        for (size_t k = 0; k < t_param_count(g, (tf_id)i); k++)
            m.data[i][k] = (float)((int)((k * 7 + i * 3) % 11) - 5);
    const tf_id w = tf_graph_find_param(g, "patch.weight"); /* 2 x 3 x 1 x 4 */
    const tf_param *p = &g->params[w];
    for (int dim = 0; dim < 4; dim++) {
        const tf_id operand = dim == 1 ? tf_graph_find_param(g, "three.bias") : dim == 3 ? tf_graph_find_param(g, "four.bias") : -1;
        tf_view *v = NULL;
        t_ok(env, tf_view_above(env, root, "p.1", &v));
        const tf_step centre = {.kind = TF_STEP_CENTRE, .dim = dim}, scale = {TF_STEP_SCALE, dim, operand, -1, 0, NULL};
        t_ok(env, tf_view_add(env, v, w, &centre));
        if (operand >= 0)
            t_ok(env, tf_view_add(env, v, w, &scale));
        float got[24];
        t_ok(env, tf_view_read(env, v, w, got));
        const float *x = m.data[w];
        for (int i = 0; i < 24; i++) {
            const int at[4] = {i / 12, i / 4 % 3, 0, i % 4}, stride[4] = {12, 4, 4, 1};
            double mean = 0;
            for (int k = 0; k < p->shape[dim]; k++)
                mean += (double)x[i + (k - at[dim]) * stride[dim]];
            mean /= (double)p->shape[dim];
            float want = (float)((double)x[i] - mean);
            if (operand >= 0)
                want *= m.data[operand][at[dim]];
            ck_assert_float_eq(got[i], want);
        }
        tf_view_free(v);
    }
    tf_view_free(root);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* More columns than one block of the centring. */
START_TEST(test_centre_wide)
{
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=2,150"}, {"linear", "w", "x", "out=rows:4 bias=0"}};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, 2, "w");
    t_model m = t_random_model(env, g, 3);
    tf_view *root = NULL, *v = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &root));
    t_ok(env, tf_view_above(env, root, "p.1", &v));
    const tf_step centre = {.kind = TF_STEP_CENTRE, .dim = 0};
    t_ok(env, tf_view_add(env, v, 0, &centre));
    float got[600];
    t_ok(env, tf_view_read(env, v, 0, got));
    for (int c = 0; c < 150; c++) {
        double mean = 0;
        for (int r = 0; r < 4; r++)
            mean += (double)m.data[0][r * 150 + c];
        for (int r = 0; r < 4; r++)
            ck_assert_float_eq(got[r * 150 + c], (float)((double)m.data[0][r * 150 + c] - mean / 4));
    }
    tf_view_free(v);
    tf_view_free(root);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Folding a norm: W <- W diag(gain), gain <- 1 in one level: the scale sees the old gain. A level above sees the new one. */
START_TEST(test_levels)
{
    toy t;
    toy_new(&t);
    tf_view *fold = NULL, *top = NULL;
    t_ok(t.env, tf_view_above(t.env, t.root, "fold.1", &fold));
    t_ok(t.env, tf_view_above(t.env, fold, "again.1", &top));
    const tf_step ones = {.kind = TF_STEP_FILL, .value = 1}, by_gain = {TF_STEP_SCALE, 1, t.gain, -1, 0, NULL};
    const tf_step feed = {TF_STEP_ADD_PRODUCT, 0, t.gain, t.w, 0, NULL};
    t_ok(t.env, tf_view_add(t.env, fold, t.gain, &ones));
    t_ok(t.env, tf_view_add(t.env, fold, t.w, &by_gain));
    t_ok(t.env, tf_view_add(t.env, fold, t.b, &feed));
    t_ok(t.env, tf_view_add(t.env, top, t.w, &by_gain));
    t_ok(t.env, tf_view_add(t.env, top, t.b, &feed));
    const float *w = t.model.data[t.w], *gain = t.model.data[t.gain], *b = t.model.data[t.b];
    float got[12], above[12], bias[4], bias_above[4], unit[3];
    t_ok(t.env, tf_view_read(t.env, fold, t.w, got));
    t_ok(t.env, tf_view_read(t.env, top, t.w, above));
    t_ok(t.env, tf_view_read(t.env, fold, t.b, bias));
    t_ok(t.env, tf_view_read(t.env, top, t.b, bias_above));
    t_ok(t.env, tf_view_read(t.env, top, t.gain, unit));
    for (int c = 0; c < 3; c++)
        ck_assert_float_eq(unit[c], 1);
    for (int r = 0; r < 4; r++) {
        float sum = 0;
        for (int c = 0; c < 3; c++) {
            ck_assert_float_eq(got[r * 3 + c], w[r * 3 + c] * gain[c]);
            ck_assert_float_eq(above[r * 3 + c], got[r * 3 + c]);
            sum += w[r * 3 + c] * gain[c];
        }
        ck_assert_float_eq(bias[r], b[r] + sum);
        ck_assert_float_eq(bias_above[r], b[r] + 2 * sum);
    }
    tf_view_free(top);
    tf_view_free(fold);
    toy_free(&t);
}
END_TEST

START_TEST(test_order)
{
    toy t;
    toy_new(&t);
    tf_view *v = NULL;
    t_ok(t.env, tf_view_above(t.env, t.root, "p.1", &v));
    const tf_step two = {.kind = TF_STEP_FILL, .value = 2}, by_bias = {TF_STEP_SCALE, 0, t.b, -1, 0, NULL};
    t_ok(t.env, tf_view_add(t.env, v, t.w, &two));
    t_ok(t.env, tf_view_add(t.env, v, t.w, &by_bias));
    float got[12];
    t_ok(t.env, tf_view_read(t.env, v, t.w, got));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(got[i], 2 * t.model.data[t.b][i / 3]);
    tf_view_free(v);
    toy_free(&t);
}
END_TEST

START_TEST(test_refused)
{
    toy t;
    toy_new(&t);
    tf_view *v = NULL;
    t_ok(t.env, tf_view_above(t.env, t.root, "p.1", &v));
    const tf_step bad[] = {
        {TF_STEP_SCALE, 0, t.gain, -1, 0, NULL},  {TF_STEP_SCALE, 2, t.gain, -1, 0, NULL},
        {TF_STEP_SCALE, 1, -1, -1, 0, NULL},      {TF_STEP_CENTRE, -1, -1, -1, 0, NULL},
        {TF_STEP_ADD_PRODUCT, 0, t.gain, t.w, 0, NULL}, {TF_STEP_NONE, 0, -1, -1, 0, NULL},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++)
        t_fails(t.env, tf_view_add(t.env, v, t.w, &bad[i]), TFUSE_EINTERNAL, "w.weight");
    tf_view_free(v);
    toy_free(&t);
}
END_TEST

/* An alias reads as its target through every level. */
START_TEST(test_alias)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=2,3"));
    t_ok(env, tf_graph_add(env, g, "linear", "a", "x", "out=rows:4 bias=0"));
    t_ok(env, tf_graph_add(env, g, "linear", "b", "x", "out=rows:4 bias=0"));
    t_ok(env, tf_graph_add(env, g, "add", "sum", "a b", ""));
    t_ok(env, tf_graph_store(env, g, "b.weight", "alias(a.weight)"));
    t_ok(env, tf_graph_output(env, g, "sum"));
    t_ok(env, tf_graph_finish(env, g));
    t_model m = t_random_model(env, g, 5);
    tf_view *root = NULL, *v = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &root));
    t_ok(env, tf_view_above(env, root, "p.1", &v));
    const tf_step nine = {.kind = TF_STEP_FILL, .value = 9};
    const tf_id a = tf_graph_find_param(g, "a.weight"), b = tf_graph_find_param(g, "b.weight");
    float got[12];
    t_ok(env, tf_view_read(env, root, b, got));
    ck_assert_mem_eq(got, m.data[a], sizeof got);
    t_ok(env, tf_view_add(env, v, b, &nine));
    t_ok(env, tf_view_read(env, v, a, got));
    ck_assert_float_eq(got[11], 9);
    tf_view_free(v);
    tf_view_free(root);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("view");
    T_ADD(test_root);
    T_ADD(test_scale_centre);
    T_ADD(test_centre_wide);
    T_ADD(test_levels);
    T_ADD(test_order);
    T_ADD(test_refused);
    T_ADD(test_alias);
    return t_suite;
}
