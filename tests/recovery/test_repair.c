/* SPDX-License-Identifier: Apache-2.0
 *
 * Repair where the answer is known: a linear network's refit is the ridge solution, a model fused with its moved copy stays what it is under
 * every stage, units are selected from the parent that has them, and hostile inputs (few samples, constant, dead and huge units) stay finite.
 *
 * Tolerances: Grams are summed from float32 products, so solutions agree with a float64 reference to about 1e-5; 1e-4 is tested. The copy
 * comes back as aligned (2e-3 of the largest output, see test_matching.c) and selection may swap a unit for its equal twin.
 */
#include "align/gauge.h"
#include "t_scene.h"

static const t_node heads[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:8"},
    {"linear", "q", "embed", "out=heads:2*qk:4"},
    {"linear", "k", "embed", "out=heads:2*qk:4 bias=0"},
    {"linear", "v", "embed", "out=heads:2*vo:4"},
    {"attention", "core", "q k v", ""},
    {"linear", "o", "core", "out=/stream:8"},
    {"add", "add", "embed o", ""},
    {"linear", "head", "add", "out=!classes:9"},
};

static const t_node hidden[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:8"},
    {"linear", "up", "embed", "out=ffn:10"},
    {"activation", "act", "up", "kind=gelu"},
    {"linear", "down", "act", "out=/stream:8"},
    {"add", "add", "embed down", ""},
    {"linear", "head", "add", "out=!classes:9"},
};

static const t_node linear[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "first", "x", "out=hidden:7"},
    {"linear", "head", "first", "out=!classes:3"},
};

static tfuse_status repair_on(scene *s, const char *strategy, const char *stages, const tfuse_array *calib)
{
    int which;
    set(s, "repair", stages);
    scene_align(s, strategy, calib);
    const tf_fuse_job fuse = job_of(s);
    TF_TRY(tf_repair_stages(s->env, s->policy, s->plan, calib != NULL, &which));
    return tf_repair(s->env, &fuse, which, calib, &s->fitted, &s->report);
}

static tfuse_status repair(scene *s, const char *strategy, const char *stages)
{
    return repair_on(s, strategy, stages, s->calib);
}

/* Outputs of a model on the calibration inputs, freed by free. */
static float *outputs_of(scene *s, const tfuse_model *m)
{
    tf_view *view;
    t_ok(s->env, tf_view_root(s->env, s->g, m, &view));
    float *y = t_run(s->env, view, (const float *)s->calib->data, s->calib->shape[0]);
    tf_view_free(view);
    return y;
}

static float *fused_outputs(scene *s)
{
    const tf_fuse_job job = job_of(s);
    tfuse_model *fused;
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &fused));
    float *y = outputs_of(s, fused);
    tf_model_free(fused);
    return y;
}

/* ---- a linear network ------------------------------------------------------------------------------------------------------ */

/* Solves A X = B for n×n A and n×m B in place by Gauss-Jordan with pivots: the reference. */
static void gauss(int n, int m, double *a, double *b)
{
    for (int c = 0; c < n; c++) {
        int pivot = c;
        for (int i = c + 1; i < n; i++)
            if (fabs(a[i * n + c]) > fabs(a[pivot * n + c]))
                pivot = i;
        for (int j = 0; j < n; j++) {
            const double t = a[c * n + j];
            a[c * n + j] = a[pivot * n + j];
            a[pivot * n + j] = t;
        }
        for (int j = 0; j < m; j++) {
            const double t = b[c * m + j];
            b[c * m + j] = b[pivot * m + j];
            b[pivot * m + j] = t;
        }
        for (int i = 0; i < n; i++) {
            const double f = i == c ? 0 : a[i * n + c] / a[c * n + c];
            for (int j = 0; j < n; j++)
                a[i * n + j] -= f * a[c * n + j];
            for (int j = 0; j < m; j++)
                b[i * m + j] -= f * b[c * m + j];
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            b[i * m + j] /= a[i * n + i];
}

/* The last linear sees the merged hidden units, whose mean map is known (the first is fitted to what it already gives), and is fitted to the mean
 * outputs: (X'X + rho mean(diag)) W = X'Y + rho mean(diag) W0. */
START_TEST(test_linear_network)
{
    enum { HIDDEN = 7, OUT = 3, ROWS = SAMPLES * TOKENS, N = HIDDEN + 1 };
    scene s;
    scene_open(&s, linear, TF_LEN(linear), 2, SAMPLES);
    set(&s, "repair.ridge", "0.01");
    t_ok(s.env, repair(&s, "none", "refit,head"));
    const float *x = (const float *)s.calib->data;
    const float *w1[2] = {t_data(&s.a, s.g, "first.weight"), t_data(&s.b, s.g, "first.weight")};
    const float *b1[2] = {t_data(&s.a, s.g, "first.bias"), t_data(&s.b, s.g, "first.bias")};
    const float *w2[2] = {t_data(&s.a, s.g, "head.weight"), t_data(&s.b, s.g, "head.weight")};
    const float *b2[2] = {t_data(&s.a, s.g, "head.bias"), t_data(&s.b, s.g, "head.bias")};
    double xx[N * N] = {0}, xy[N * OUT] = {0}, trace = 0;
    for (int r = 0; r < ROWS; r++) {
        double h[2][N], mean[N], y[OUT] = {0};
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < HIDDEN; i++) {
                h[k][i] = (double)b1[k][i];
                for (int j = 0; j < FEATURES; j++)
                    h[k][i] += (double)w1[k][i * FEATURES + j] * (double)x[r * FEATURES + j];
            }
        for (int i = 0; i < HIDDEN; i++)
            mean[i] = (h[0][i] + h[1][i]) / 2;
        mean[HIDDEN] = 1;
        for (int k = 0; k < 2; k++)
            for (int o = 0; o < OUT; o++) {
                y[o] += (double)b2[k][o] / 2;
                for (int i = 0; i < HIDDEN; i++)
                    y[o] += (double)w2[k][o * HIDDEN + i] * h[k][i] / 2;
            }
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++)
                xx[i * N + j] += mean[i] * mean[j];
            for (int o = 0; o < OUT; o++)
                xy[i * OUT + o] += mean[i] * y[o];
        }
    }
    for (int i = 0; i < N; i++)
        trace += xx[i * N + i];
    for (int i = 0; i < N; i++) {
        xx[i * N + i] += 0.01 * trace / N;
        for (int o = 0; o < OUT; o++)
            xy[i * OUT + o] += 0.01 * trace / N *
                               (i < HIDDEN ? ((double)w2[0][o * HIDDEN + i] + (double)w2[1][o * HIDDEN + i]) / 2
                                           : ((double)b2[0][o] + (double)b2[1][o]) / 2);
    }
    gauss(N, OUT, xx, xy);
    const float *w = s.fitted[tf_graph_find_param(s.g, "head.weight")], *b = s.fitted[tf_graph_find_param(s.g, "head.bias")];
    for (int i = 0; i < HIDDEN; i++)
        for (int o = 0; o < OUT; o++)
            ck_assert_msg(fabs((double)w[o * HIDDEN + i] - xy[i * OUT + o]) < 1e-4, "weight %d %d: %g, not %g", o, i,
                          (double)w[o * HIDDEN + i], xy[i * OUT + o]);
    for (int o = 0; o < OUT; o++)
        ck_assert(fabs((double)b[o] - xy[HIDDEN * OUT + o]) < 1e-4);
    scene_close(&s);
}
END_TEST

/* ---- a model and its copy -------------------------------------------------------------------------------------------------------- */

enum { FEW = 2 * TOKENS * FEATURES };

/* So few inputs, again and again, that much of the network is not shown by them: there it must stay as it is. */
static tfuse_array *few_inputs(const scene *s)
{
    tfuse_array *same;
    t_ok(s->env, tf_array_new(s->env, TFUSE_F32, 3, s->calib->shape, &same));
    float *x = (float *)same->data;
    memcpy(x, s->calib->data, FEW * sizeof *x);
    for (size_t i = FEW; i < (size_t)SAMPLES * TOKENS * FEATURES; i++)
        x[i] = x[i - FEW];
    return same;
}

/* 5e-4 of the largest output: float32 behind maps that balance heads, 2e-4 on the worst graph. Units chosen from both models: their write is fitted by
 * a ridge that is never less than 1e-4. */
static void check_copy_on(scene *s, const tfuse_array *calib, const float *was)
{
    static const char *const stages[] = {"refit,head", "regmean", "statistics", "circuits", "circuits,regmean,refit,statistics,head", "circuits,select,refit",
                                         "select,refit,head", "auto"};
    for (size_t i = 0; i < TF_LEN(stages); i++) {
        t_ok(s->env, repair_on(s, "matching", stages[i], calib));
        float *now = fused_outputs(s);
        double worst = 0, most = 0;
        for (size_t k = 0; k < (size_t)SAMPLES * TOKENS * 9; k++) {
            worst = fmax(worst, fabs((double)was[k] - (double)now[k]));
            most = fmax(most, fabs((double)was[k]));
        }
        const bool chosen = strstr(stages[i], "select") || !strcmp(stages[i], "auto");
        ck_assert_msg(worst < (chosen ? 4e-3 : 5e-4) * most, "%s: outputs deviate by %g of %g", stages[i], worst, most);
        free(now);
    }
}

static void check_copy(const t_node *nodes, size_t count)
{
    scene s;
    tfuse_plan *plan;
    tfuse_model *copy;
    scene_open(&s, nodes, count, 2, SAMPLES);
    s.models[1] = s.models[0];
    t_ok(s.env, tf_gauge(s.env, s.policy, s.a.m, s.g, &plan));
    set(&s, "combine.weights", "0,1");
    tf_fuse_job job = job_of(&s);
    job.plan = plan;
    t_ok(s.env, tf_fuse_to_model(s.env, &job, &copy));
    tf_plan_free(plan);
    set(&s, "combine.weights", "equal");
    s.models[1] = copy;
    tfuse_array *same = few_inputs(&s);
    float *was = outputs_of(&s, s.a.m);
    check_copy_on(&s, s.calib, was);
    check_copy_on(&s, same, was);
    free(was);
    tf_array_free(same);
    tf_model_free(copy);
    scene_close(&s);
}

START_TEST(test_copy)
{
    static const t_node *const nodes[] = {llama, heads, hidden};
    static const size_t counts[] = {TF_LEN(llama), TF_LEN(heads), TF_LEN(hidden)};
    check_copy(nodes[_i], counts[_i]);
}
END_TEST

/* ---- circuits ---------------------------------------------------------------------------------------------------------------------- */

/* sum over the units of a head of left[unit][i] right[unit][j], biases as one more column where they are given. */
static void product_of(int head, const float *left, const float *left_bias, const float *right, const float *right_bias, double *out)
{
    for (int i = 0; i <= 8; i++)
        for (int j = 0; j <= 8; j++) {
            out[i * 9 + j] = 0;
            for (int u = 4 * head; u < 4 * head + 4; u++) {
                const double l = i < 8 ? (double)left[u * 8 + i] : left_bias ? (double)left_bias[u] : 0;
                out[i * 9 + j] += l * (j < 8 ? (double)right[u * 8 + j] : right_bias ? (double)right_bias[u] : 0);
            }
        }
}

/* Query and key, or (their transpose) output and value weights of a head. */
static void circuit_of(scene *s, const float *(*get)(scene *, int, const char *), int model, int head, bool ov, double *out)
{
    float turned[64];
    const float *o = get(s, model, "o.weight");
    for (int i = 0; i < 64; i++)
        turned[i % 8 * 8 + i / 8] = o[i];
    if (ov)
        product_of(head, turned, NULL, get(s, model, "v.weight"), get(s, model, "v.bias"), out);
    else
        product_of(head, get(s, model, "q.weight"), get(s, model, "q.bias"), get(s, model, "k.weight"), NULL, out);
}

static const float *get_parent(scene *s, int model, const char *name)
{
    return t_data(model ? &s->b : &s->a, s->g, name);
}

static const float *get_fitted(scene *s, int model, const char *name)
{
    (void)model;
    return s->fitted[tf_graph_find_param(s->g, name)];
}

/* Each parent uses one half of the units of a head, so that the mean circuit has the rank of a head: it comes back, with and without samples.
 * float32 weights give 1e-6; the Grams of their products 1e-5. */
START_TEST(test_circuits_of_low_rank)
{
    scene s;
    scene_open(&s, heads, TF_LEN(heads), 2, SAMPLES);
    static const char *const rows[] = {"q.weight", "k.weight", "v.weight"};
    for (int model = 0; model < 2; model++)
        for (int u = 0; u < 8; u++) {
            if ((u % 4 < 2) == (model == 0))
                continue;
            for (int k = 0; k < 3; k++)
                memset(t_data(model ? &s.b : &s.a, s.g, rows[k]) + 8 * u, 0, 8 * sizeof(float));
            for (int i = 0; i < 8; i++)
                t_data(model ? &s.b : &s.a, s.g, "o.weight")[8 * i + u] = 0;
            t_data(model ? &s.b : &s.a, s.g, "q.bias")[u] = t_data(model ? &s.b : &s.a, s.g, "v.bias")[u] = 0;
        }
    for (int with = 0; with < 2; with++) {
        t_ok(s.env, repair_on(&s, "none", "circuits", with ? s.calib : NULL));
        ck_assert_int_eq(json_array_size(json_object_get(s.report, "circuits")), 2);
        for (int head = 0; head < 2; head++)
            for (int ov = 0; ov < 2; ov++) {
                double a[81], b[81], c[81];
                circuit_of(&s, get_parent, 0, head, ov, a);
                circuit_of(&s, get_parent, 1, head, ov, b);
                circuit_of(&s, get_fitted, 0, head, ov, c);
                for (int i = 0; i < 81; i++)
                    ck_assert_msg(fabs((a[i] + b[i]) / 2 - c[i]) < 2e-5, "head %d, %s, %d: %g, not %g", head, ov ? "ov" : "qk", i, c[i],
                                  (a[i] + b[i]) / 2);
            }
        for (size_t i = 0; i < 2; i++)
            ck_assert(json_number_value(json_object_get(json_array_get(json_object_get(s.report, "circuits"), i), "kept")) > 1 - 1e-9);
    }
    scene_close(&s);
}
END_TEST

/* b is a with each pair of query and key units turned and scaled, and each head's value units mixed: nobody aligned them, their weights differ, their
 * circuits do not, and so the fused network computes what both do. */
START_TEST(test_circuits_meet)
{
    scene s;
    scene_open(&s, llama, TF_LEN(llama), 2, SAMPLES);
    for (size_t p = 0; p < s.g->n_params; p++)
        memcpy(s.b.data[p], s.a.data[p], t_param_count(s.g, (tf_id)p) * sizeof(float));
    float *q = t_data(&s.b, s.g, "l0/q.weight"), *k = t_data(&s.b, s.g, "l0/k.weight"), *v = t_data(&s.b, s.g, "l0/v.weight"),
          *o = t_data(&s.b, s.g, "l0/o.weight");
    for (int side = 0; side < 2; side++)
        for (int head = 0; head < (side ? 3 : 6); head++)
            for (int pair = 0; pair < 2; pair++)
                for (int i = 0; i < 12; i++) {
                    const float angle = (float)(0.4 * (side ? head : head / 2) + 0.9 * pair), size = side ? 0.5f : 2; /* pair p: units p, p + 2 */
                    float *x = (side ? k : q) + (4 * head + pair) * 12 + i, *y = x + 24, was = *x;
                    *x = size * (cosf(angle) * was - sinf(angle) * *y);
                    *y = size * (sinf(angle) * was + cosf(angle) * *y);
                }
    for (int head = 0; head < 3; head++)
        for (int i = 0; i < 12; i++)
            v[(4 * head + 1) * 12 + i] += 2 * v[(4 * head + 3) * 12 + i]; /* v1 + 2 v3, and so o3 - 2 o1 */
    for (int head = 0; head < 6; head++)
        for (int i = 0; i < 12; i++)
            o[i * 24 + 4 * head + 3] -= 2 * o[i * 24 + 4 * head + 1];
    float *was = outputs_of(&s, s.a.m), *moved = outputs_of(&s, s.b.m);
    ck_assert(t_max_diff(was, moved, SAMPLES * TOKENS * 9) < 1e-4);
    for (int with = 0; with < 2; with++) {
        t_ok(s.env, repair_on(&s, "none", "circuits", with ? s.calib : NULL));
        float *now = fused_outputs(&s);
        ck_assert_msg(t_max_diff(was, now, SAMPLES * TOKENS * 9) < 1e-4, "outputs deviate by %g", t_max_diff(was, now, SAMPLES * TOKENS * 9));
        free(now);
    }
    free(was);
    free(moved);
    scene_close(&s);
}
END_TEST

/* auto without samples: circuits, but of no attention with rotary positions. */
START_TEST(test_circuits_unasked)
{
    scene s;
    scene_open(&s, heads, TF_LEN(heads), 1, SAMPLES);
    t_ok(s.env, repair_on(&s, "matching", "auto", NULL));
    ck_assert_int_eq(json_array_size(json_object_get(s.report, "stages")), 1);
    ck_assert_int_eq(json_array_size(json_object_get(s.report, "circuits")), 2);
    ck_assert(json_is_null(json_object_get(s.report, "kl_fused")));
    scene_close(&s);
    scene_open(&s, llama, TF_LEN(llama), 1, SAMPLES);
    t_ok(s.env, repair_on(&s, "matching", "auto", NULL));
    ck_assert_int_eq(json_array_size(json_object_get(s.report, "stages")), 0);
    scene_close(&s);
}
END_TEST

/* ---- selection ---------------------------------------------------------------------------------------------------------------------- */

/* Parent b's hidden units write nothing, so that only a's explain anything: all come from a. */
START_TEST(test_selects_what_is_used)
{
    scene s;
    scene_open(&s, hidden, TF_LEN(hidden), 1, SAMPLES);
    memset(t_data(&s.b, s.g, "down.weight"), 0, 8 * 10 * sizeof(float));
    memset(t_data(&s.b, s.g, "up.weight"), 0, 8 * 10 * sizeof(float));
    memset(t_data(&s.b, s.g, "up.bias"), 0, 10 * sizeof(float));
    t_ok(s.env, repair(&s, "none", "select"));
    const json_t *units = json_object_get(json_array_get(json_object_get(s.report, "selected"), 0), "units");
    ck_assert_int_eq(json_integer_value(json_array_get(units, 0)), 10);
    ck_assert_int_eq(json_integer_value(json_array_get(units, 1)), 0);
    scene_close(&s);
}
END_TEST

/* Two networks that share nothing: with repair the fused one is nearer to the mean of their outputs than without, and than either parent. */
START_TEST(test_gains)
{
    scene s;
    double error[3] = {0};
    scene_open(&s, hidden, TF_LEN(hidden), 2, SAMPLES);
    float *a = outputs_of(&s, s.a.m), *b = outputs_of(&s, s.b.m);
    t_ok(s.env, repair(&s, "matching", "select,refit,head"));
    float *repaired = fused_outputs(&s);
    tf_fitted_free(s.env, s.g, s.fitted);
    s.fitted = NULL;
    float *plain = fused_outputs(&s);
    for (size_t i = 0; i < (size_t)SAMPLES * TOKENS * 9; i++) {
        const double mean = ((double)a[i] + (double)b[i]) / 2;
        error[0] += (mean - (double)repaired[i]) * (mean - (double)repaired[i]);
        error[1] += (mean - (double)plain[i]) * (mean - (double)plain[i]);
        error[2] += (mean - (double)a[i]) * (mean - (double)a[i]);
    }
    ck_assert_msg(error[0] < error[1] / 2 && error[0] < error[2] / 2, "errors: repaired %g, plain %g, anchor %g", error[0], error[1], error[2]);
    free(a);
    free(b);
    free(repaired);
    free(plain);
    scene_close(&s);
}
END_TEST

/* ---- hostile inputs -------------------------------------------------------------------------------------------------------------------- */

static void check_finite(scene *s, const char *what)
{
    static const char *const stages[] = {"auto", "regmean,statistics", "circuits", "circuits,select,regmean,refit,statistics,head",
                                         "select,regmean,refit,statistics,head"};
    for (size_t i = 0; i < TF_LEN(stages); i++) {
        t_ok(s->env, repair(s, "matching", stages[i]));
        float *y = fused_outputs(s);
        ck_assert_msg(tf_find_nonfinite(y, (size_t)s->calib->shape[0] * TOKENS * 9) < 0, "%s, %s: not finite", what, stages[i]);
        free(y);
    }
}

START_TEST(test_hostile)
{
    scene s;
    scene_open(&s, llama, TF_LEN(llama), 1, 2); /* ten rows for 24 inputs */
    check_finite(&s, "few samples");
    scene_close(&s);
    scene_open(&s, llama, TF_LEN(llama), 1, 1);
    check_finite(&s, "one sample");
    scene_close(&s);
    scene_open(&s, hidden, TF_LEN(hidden), 1, SAMPLES);
    memset((float *)s.calib->data, 0, (size_t)(SAMPLES * TOKENS * FEATURES) * sizeof(float));
    check_finite(&s, "constant inputs");
    scene_close(&s);
    scene_open(&s, hidden, TF_LEN(hidden), 1, SAMPLES);
    for (int j = 0; j < 8; j++)
        t_data(&s.a, s.g, "up.weight")[j] = t_data(&s.b, s.g, "up.weight")[16 + j] = 0; /* dead units */
    for (int j = 0; j < FEATURES; j++)
        t_data(&s.a, s.g, "embed.weight")[j] *= 1e3f; /* an outlier channel */
    check_finite(&s, "dead units and outliers");
    scene_close(&s);
}
END_TEST

START_TEST(test_threads)
{
    static const int threads[] = {1, 2, 7};
    float *first = NULL;
    for (size_t t = 0; t < TF_LEN(threads); t++) {
        scene s;
        scene_open(&s, llama, TF_LEN(llama), threads[t], SAMPLES);
        t_ok(s.env, repair(&s, "matching", "auto"));
        float *now = fused_outputs(&s);
        if (first)
            ck_assert_mem_eq(first, now, (size_t)SAMPLES * TOKENS * 9 * sizeof *now);
        free(first);
        first = now;
        scene_close(&s);
    }
    free(first);
}
END_TEST

START_TEST(test_refusals)
{
    scene s;
    int stages;
    scene_open(&s, hidden, TF_LEN(hidden), 1, SAMPLES);
    t_ok(s.env, repair(&s, "matching", "refit"));
    set(&s, "repair", "refit,head");
    t_fails(s.env, tf_repair_stages(s.env, s.policy, s.plan, false, &stages), TFUSE_EINVAL, "--calib");
    s.plan->carries = false;
    t_fails(s.env, tf_repair_stages(s.env, s.policy, s.plan, true, &stages), TFUSE_EINVAL, "matching");
    set(&s, "repair", "auto");
    t_ok(s.env, tf_repair_stages(s.env, s.policy, s.plan, true, &stages));
    ck_assert_int_eq(stages, 0);
    set(&s, "repair", "none,refit");
    t_fails(s.env, tf_repair_stages(s.env, s.policy, s.plan, true, &stages), TFUSE_EKEY, "none");
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("repair");
    T_ADD(test_linear_network);
    tcase_add_loop_test(t_case, test_copy, 0, 3);
    T_ADD(test_circuits_of_low_rank);
    T_ADD(test_circuits_meet);
    T_ADD(test_circuits_unasked);
    T_ADD(test_selects_what_is_used);
    T_ADD(test_gains);
    T_ADD(test_hostile);
    T_ADD(test_threads);
    T_ADD(test_refusals);
    return t_suite;
}
