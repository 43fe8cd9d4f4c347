/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of words that are too large to be held: both strategies read rows of them a tile at a time, and find the same as where they are held. A model and
 * its copy with permuted channels fuse to the model; weights are read lazily for the self-check and give what the evaluator gives.
 *
 * Tolerance: outputs are sums of 64 products of order one, in another order: 1e-5 of the largest.
 */
#include "align/align.h"
#include "fuse/fuse.h"
#include "num/array.h"
#include "t_graph.h"

enum { WORDS = 262144, WIDTH = 64, CLASSES = 1500, SAMPLES = 3, TOKENS = 5 }; /* WORDS * WIDTH is what counts as large; CLASSES take two tiles */

static const t_node nodes[] = {{"input", "ids", "", "kind=tokens"},
                               {"embedding", "words", "ids", "rows=!words:262144 of=/stream:64"},
                               {"rmsnorm", "norm", "words", ""},
                               {"linear", "head", "norm", "out=!classes:1500"}};

typedef struct scene {
    tf_env *env;
    tf_graph *g;
    t_model a, b;
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *ids;
} scene;

/* b: channel j of a model is channel source[j] of the other. */
static void permute(const t_model *a, const t_model *b, const tf_graph *g, const char *name, const int64_t *source)
{
    const size_t count = t_param_count(g, tf_graph_find_param(g, name));
    const float *from = t_data(a, g, name);
    float *to = t_data(b, g, name);
    for (size_t i = 0; i < count; i++)
        to[i] = from[i / WIDTH * WIDTH + (size_t)source[i % WIDTH]];
}

static void scene_open(scene *s)
{
    static int32_t ids[SAMPLES * TOKENS];
    int64_t source[WIDTH];
    for (int64_t j = 0; j < WIDTH; j++)
        source[j] = (j * 37 + 11) % WIDTH;
    for (int i = 0; i < SAMPLES * TOKENS; i++)
        ids[i] = (i * 104729) % WORDS;
    s->env = t_env(2);
    s->g = t_graph(s->env, nodes, TF_LEN(nodes), "head");
    s->a = t_random_model(s->env, s->g, 1);
    s->b = t_random_model(s->env, s->g, 1);
    for (int64_t j = 0; j < WIDTH; j++) /* gains of one: then channels may rotate */
        t_data(&s->a, s->g, "norm.gain")[j] = t_data(&s->b, s->g, "norm.gain")[j] = 1;
    permute(&s->a, &s->b, s->g, "words.weight", source);
    permute(&s->a, &s->b, s->g, "head.weight", source);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_array_wrap(s->env, TFUSE_I32, 2, (const int64_t[]){SAMPLES, TOKENS}, ids, NULL, NULL, &s->ids));
}

static void scene_close(scene *s)
{
    tf_array_free(s->ids);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    t_model_free(&s->a);
    t_model_free(&s->b);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

static float *run_held(scene *s, const tfuse_model *m)
{
    tf_view *view;
    tf_evaluator *ev;
    tf_inputs in;
    float *out = malloc(SAMPLES * TOKENS * CLASSES * sizeof *out);
    t_ok(s->env, tf_view_root(s->env, s->g, m, &view));
    t_ok(s->env, tf_inputs_make(s->env, s->g, m, s->ids, 0, &in));
    t_ok(s->env, tf_evaluator_new(s->env, view, NULL, 0, &ev));
    t_ok(s->env, tf_evaluator_run(s->env, ev, &in, 0, SAMPLES, NULL, out));
    tf_evaluator_free(ev);
    tf_view_free(view);
    return out;
}

static double apart(const float *x, const float *y)
{
    double most = 0, size = 0;
    for (size_t i = 0; i < (size_t)SAMPLES * TOKENS * CLASSES; i++) {
        most = fmax(most, fabs((double)x[i] - (double)y[i]));
        size = fmax(size, fabs((double)y[i]));
    }
    return most / size;
}

static void check_strategy(scene *s, const char *strategy, const float *want)
{
    const tfuse_model *models[] = {s->a.m, s->b.m};
    tf_graph *graphs[] = {s->g, s->g};
    tfuse_plan *plan;
    tfuse_model *fused;
    json_t *report;
    t_ok(s->env, tf_policy_set(s->env, s->policy, "align.strategy", strategy));
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = models, .graphs = graphs, .n = 2};
    t_ok(s->env, tf_align(s->env, &job, &plan));
    const tf_fuse_job fuse = {.policy = s->policy, .plan = plan, .models = models, .graphs = graphs, .n = 2};
    t_ok(s->env, tf_fuse_selfcheck(s->env, &fuse, NULL, &report));
    t_ok(s->env, tf_fuse_to_model(s->env, &fuse, &fused));
    float *got = run_held(s, fused);
    ck_assert_msg(apart(got, want) < 1e-5, "%s: outputs deviate by %g", strategy, apart(got, want));
    free(got);
    json_decref(report);
    tf_model_free(fused);
    tf_plan_free(plan);
}

START_TEST(test_large_tables)
{
    scene s;
    scene_open(&s);
    float *want = run_held(&s, s.a.m);
    check_strategy(&s, "otfusion", want);
    check_strategy(&s, "matching", want);
    free(want);
    scene_close(&s);
}
END_TEST

START_TEST(test_lazy)
{
    scene s;
    tf_view *view;
    tf_inputs in;
    float *lazy;
    size_t count;
    scene_open(&s);
    float *want = run_held(&s, s.a.m);
    t_ok(s.env, tf_view_root(s.env, s.g, s.a.m, &view));
    t_ok(s.env, tf_inputs_make(s.env, s.g, s.a.m, s.ids, 0, &in));
    const tf_weights weights = tf_weights_of_view(view);
    t_ok(s.env, tf_run_lazily(s.env, s.g, &weights, &in, &lazy, &count));
    ck_assert_uint_eq(count, (size_t)SAMPLES * TOKENS * CLASSES);
    ck_assert(apart(lazy, want) < 1e-5);
    tf_free(&s.env->mem, lazy);
    tf_view_free(view);
    free(want);
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("tables");
    T_ADD(test_large_tables);
    T_ADD(test_lazy);
    return t_suite;
}
