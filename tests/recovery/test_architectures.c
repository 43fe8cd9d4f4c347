/* SPDX-License-Identifier: Apache-2.0
 *
 * Every architecture of token ids, from the configs in tests/fuzz/corpus/config, with random tensors under the names that its checkpoints have: a
 * random member of its whole symmetry group leaves the outputs, matching finds it again, so that fusing with the moved copy gives the model's
 * function, and the paper's method runs.
 *
 * Tolerances: as in test_matching.c; outputs of a moved model differ by rounding of maps with a condition number of at most 10, 1e-3 of the
 * largest.
 */
#include "align/align.h"
#include "align/gauge.h"
#include "arch/arch.h"
#include "fuse/fuse.h"
#include "num/array.h"
#include "t_graph.h"

enum { SAMPLES = 6, TOKENS = 5, WORDS = 9 };

typedef struct scene {
    tf_env *env;
    tfuse_model *m;
    tf_graph *g;
    float **data; /* of m's tensors */
    tfuse_model *moved;
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *ids;
} scene;

static char *read_config(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "tests/fuzz/corpus/config/ok-%s", name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is not there", path);
    char *text = calloc(1, 1 << 16);
    const size_t size = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    ck_assert_uint_gt(size, 0);
    return text;
}

/* Vectors that are weights are gains, around one. */
static void add_tensor(scene *s, const tf_stored *t, size_t i)
{
    tf_tensor tensor = {.name = t->name, .dtype = TFUSE_F32, .rank = t->rank, .count = 1, .file = -1};
    for (int d = 0; d < t->rank; d++) {
        tensor.shape[d] = t->shape[d];
        tensor.count *= (size_t)t->shape[d];
    }
    float *x = s->data[i] = malloc(tensor.count * sizeof *x);
    const char *end = strrchr(t->name, '.');
    const bool gain = t->rank == 1 && end && !strcmp(end, ".weight");
    t_fill(x, tensor.count, i);
    for (size_t k = 0; k < tensor.count && t->rank == 1; k++)
        x[k] = 0.4f * x[k] + (gain ? 1.0f : 0.0f);
    tensor.data = (const uint8_t *)x;
    tensor.size = tensor.count * sizeof *x;
    t_ok(s->env, tf_model_add(s->env, s->m, &tensor));
}

/* The model of a config, and its graph; the tensors are those that the graph of the bare config asks for. */
static void make_model(scene *s, const char *config)
{
    tfuse_model *bare;
    tf_graph *g;
    t_ok(s->env, tf_model_new(s->env, config, &bare));
    t_ok(s->env, tf_model_seal(s->env, bare));
    t_ok(s->env, tf_graph_build(s->env, bare, false, &g));
    t_ok(s->env, tf_model_new(s->env, config, &s->m));
    s->data = calloc(g->n_stored + 1, sizeof *s->data);
    for (size_t i = 0; i < g->n_stored; i++)
        add_tensor(s, &g->stored[i], i);
    t_ok(s->env, tf_model_seal(s->env, s->m));
    t_ok(s->env, tf_graph_build(s->env, s->m, false, &s->g));
    tf_graph_free(g);
    tf_model_free(bare);
}

static tfuse_model *fuse(scene *s, const tfuse_plan *plan, const tfuse_model *other)
{
    const tf_fuse_job job = {.policy = s->policy, .plan = plan, .models = (const tfuse_model *[]){s->m, other},
                             .graphs = (tf_graph *[]){s->g, s->g}, .n = 2};
    tfuse_model *out;
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &out));
    return out;
}

static void scene_open(scene *s, const char *name)
{
    static int32_t ids[SAMPLES * TOKENS];
    char *config = read_config(name);
    tfuse_plan *plan;
    for (int i = 0; i < SAMPLES * TOKENS; i++)
        ids[i] = 2 + (i * 5 + i / 3) % (WORDS - 2);
    s->env = t_env(1);
    make_model(s, config);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "0,1"));
    t_ok(s->env, tf_array_wrap(s->env, TFUSE_I32, 2, (const int64_t[]){SAMPLES, TOKENS}, ids, NULL, NULL, &s->ids));
    t_ok(s->env, tf_gauge(s->env, s->policy, s->m, s->g, &plan));
    s->moved = fuse(s, plan, s->m);
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "equal"));
    tf_plan_free(plan);
    free(config);
}

static void scene_close(scene *s)
{
    for (size_t i = 0; i < s->g->n_stored; i++)
        free(s->data[i]);
    free(s->data);
    tf_array_free(s->ids);
    tf_model_free(s->moved);
    tf_model_free(s->m);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

static float *outputs(scene *s, const tfuse_model *m, size_t *count)
{
    tf_view *view;
    tf_evaluator *ev;
    tf_inputs in;
    t_ok(s->env, tf_view_root(s->env, s->g, m, &view));
    t_ok(s->env, tf_inputs_make(s->env, s->g, m, s->ids, 0, &in));
    t_ok(s->env, tf_evaluator_new(s->env, view, NULL, 0, &ev));
    t_ok(s->env, tf_evaluator_prepare(s->env, ev, &in));
    *count = (size_t)(SAMPLES * tf_evaluator_size(ev, s->g->output));
    float *out = calloc(*count, sizeof *out);
    t_ok(s->env, tf_evaluator_run(s->env, ev, &in, 0, SAMPLES, NULL, out));
    tf_evaluator_free(ev);
    tf_view_free(view);
    return out;
}

/* Of outputs, over the largest. */
static double apart(scene *s, const tfuse_model *m)
{
    size_t count = 0;
    float *a = outputs(s, s->m, &count), *b = outputs(s, m, &count);
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)a[i]));
    const double worst = t_max_diff(a, b, count);
    ck_assert(most > 1e-3);
    free(a);
    free(b);
    return worst / most;
}

static tfuse_model *aligned(scene *s, const char *strategy, const tfuse_model *other)
{
    tfuse_plan *plan;
    t_ok(s->env, tf_policy_set(s->env, s->policy, "align.strategy", strategy));
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = (const tfuse_model *[]){s->m, other},
                              .graphs = (tf_graph *[]){s->g, s->g}, .n = 2};
    t_ok(s->env, tf_align(s->env, &job, &plan));
    tfuse_model *fused = fuse(s, plan, other);
    tf_plan_free(plan);
    return fused;
}

static double fused_apart(scene *s, const char *strategy)
{
    tfuse_model *fused = aligned(s, strategy, s->moved);
    const double d = apart(s, fused);
    tf_model_free(fused);
    return d;
}

/* Tensors of two models, each over its largest number: also of what no output reads. */
static double tensors_apart(scene *s, const tfuse_model *x, const tfuse_model *y)
{
    double worst = 0;
    for (size_t i = 0; i < x->count; i++) {
        const tf_tensor *t = &x->tensors[i], *u = tf_model_find(y, t->name);
        float *a = malloc(t->count * sizeof *a), *b = malloc(t->count * sizeof *b);
        double most = 1e-3;
        t_ok(s->env, tf_tensor_read(s->env, x, t, a));
        t_ok(s->env, tf_tensor_read(s->env, y, u, b));
        for (size_t k = 0; k < t->count; k++)
            most = fmax(most, fabs((double)a[k]));
        worst = fmax(worst, t_max_diff(a, b, t->count) / most);
        free(a);
        free(b);
    }
    return worst;
}

/* Fused with its moved copy a model is what it is fused with itself: its canonical form. */
static double form_apart(scene *s)
{
    tfuse_model *form = aligned(s, "matching", s->m), *fused = aligned(s, "matching", s->moved);
    const double d = tensors_apart(s, form, fused);
    tf_model_free(form);
    tf_model_free(fused);
    return d;
}

static const char *const names[] = {
    "llama", "yarn", "longrope", "qwen3", "gemma2", "gemma3", "mixtral", "qwen2-moe", "gpt2", "gpt-neox", "gptj", "phi", "cohere", "cohere2", "glm",
    "glm4", "olmo2", "granite", "smollm3", "stablelm", "starcoder2", "bert", "roberta", "distilbert", "deberta", "deberta-first",
    "deberta-pair", "deberta-apart", "deberta-shared",
};

START_TEST(test_architecture)
{
    scene s;
    scene_open(&s, names[_i]);
    ck_assert_msg(apart(&s, s.moved) < 1e-3, "%s: its gauge changes outputs by %g", names[_i], apart(&s, s.moved));
    const double plain = fused_apart(&s, "none"), matched = fused_apart(&s, "matching");
    ck_assert_msg(plain > 0.05, "%s: the copy was not moved: plain averaging deviates by %g", names[_i], plain);
    ck_assert_msg(matched < 2e-3, "%s: fused with its copy it deviates by %g", names[_i], matched);
    ck_assert_msg(form_apart(&s) < 1e-2, "%s: fused with its copy its tensors are %g from its form", names[_i], form_apart(&s));
    ck_assert_msg(isfinite(fused_apart(&s, "otfusion")), "%s: the paper's method", names[_i]);
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("architectures");
    tcase_add_loop_test(t_case, test_architecture, 0, (int)TF_LEN(names));
    return t_suite;
}
