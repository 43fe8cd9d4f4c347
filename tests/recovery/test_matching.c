/* SPDX-License-Identifier: Apache-2.0
 *
 * Matching finds planted symmetries: a model and a random member of its symmetry group (gauge) fuse to the model in canonical form, for graphs shaped
 * like language models (RMSNorm, grouped queries, rotary positions, SwiGLU) and encoders (post-norm), from weights, activations and
 * both; with noise on the copy the same permutations are found.
 *
 * Tolerances: maps of condition up to 10 are found from float32 Grams and applied in float32, so outputs of order one come back to some 1e-4 of the
 * largest; 2e-3 leaves room, and wrong maps move them by their own size (tested by averaging without alignment).
 */
#include "align/align.h"
#include "align/gauge.h"
#include "fuse/fuse.h"
#include "t_nets.h"
#include <stdlib.h>

enum { SAMPLES = 64 };

typedef struct scene {
    tf_env *env;
    tf_graph *g;
    t_model m;
    tfuse_model *copy;
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *calib;
} scene;

static void scene_open(scene *s, const t_node *nodes, size_t count, int threads)
{
    const size_t values = (size_t)SAMPLES * TOKENS * FEATURES;
    tfuse_plan *plan;
    s->env = t_env(threads);
    s->g = sized_graph(s->env, nodes, count, &small);
    s->m = t_random_model(s->env, s->g, 3);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "0,1"));
    t_ok(s->env, tf_array_new(s->env, TFUSE_F32, 3, (const int64_t[]){SAMPLES, TOKENS, FEATURES}, &s->calib));
    t_fill((float *)s->calib->data, values, 21);
    t_ok(s->env, tf_gauge(s->env, s->policy, s->m.m, s->g, &plan));
    const tf_fuse_job job = {.policy = s->policy, .plan = plan, .models = (const tfuse_model *[]){s->m.m, s->m.m},
                             .graphs = (tf_graph *[]){s->g, s->g}, .n = 2};
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &s->copy));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "equal"));
    tf_plan_free(plan);
}

static void scene_close(scene *s)
{
    tf_array_free(s->calib);
    tf_model_free(s->copy);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    t_model_free(&s->m);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

/* Fuses the model with `other` and gives the outputs' largest difference from the model's, over the largest output. */
static double fused_distance(scene *s, const char *strategy, const tfuse_model *other, bool calibrated, tfuse_plan **kept)
{
    const tfuse_model *models[] = {s->m.m, other};
    tf_graph *graphs[] = {s->g, s->g};
    t_ok(s->env, tf_policy_set(s->env, s->policy, "align.strategy", strategy));
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = models, .graphs = graphs, .n = 2,
                              .calib = calibrated ? s->calib : NULL};
    tfuse_plan *plan;
    tfuse_model *fused;
    tf_view *was, *now;
    t_ok(s->env, tf_align(s->env, &job, &plan));
    const tf_fuse_job fuse = {.policy = s->policy, .plan = plan, .models = models, .graphs = graphs, .n = 2};
    t_ok(s->env, tf_fuse_to_model(s->env, &fuse, &fused));
    t_ok(s->env, tf_view_root(s->env, s->g, s->m.m, &was));
    t_ok(s->env, tf_view_root(s->env, s->g, fused, &now));
    const float *x = (const float *)s->calib->data;
    float *a = t_run(s->env, was, x, SAMPLES), *b = t_run(s->env, now, x, SAMPLES);
    double worst = 0, most = 0;
    for (size_t i = 0; i < (size_t)SAMPLES * TOKENS * 9; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)a[i]));
    }
    tf_view_free(was);
    tf_view_free(now);
    tf_model_free(fused);
    free(a);
    free(b);
    if (kept)
        *kept = plan;
    else
        tf_plan_free(plan);
    return worst / most;
}

static void check_recovery(const t_node *nodes, size_t count)
{
    static const char *const uses[] = {"weights", "both", "activations"};
    scene s;
    scene_open(&s, nodes, count, 2);
    const double apart = fused_distance(&s, "none", s.copy, false, NULL);
    ck_assert_msg(apart > 0.1, "the copy was not moved: plain averaging deviates by %g", apart);
    for (size_t u = 0; u < TF_LEN(uses); u++) {
        t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.use", uses[u]));
        const double d = fused_distance(&s, "matching", s.copy, u > 0, NULL);
        ck_assert_msg(d < 2e-3, "%s: outputs deviate by %g", uses[u], d);
    }
    /* couplings of a copy, at a strength that leaves next to nothing beside the right unit, gates and scales included */
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.use", "auto"));
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.coupling", "sinkhorn"));
    t_ok(s.env, tf_policy_set(s.env, s.policy, "solver.reg", "0.005"));
    const double d = fused_distance(&s, "matching", s.copy, true, NULL);
    ck_assert_msg(d < 5e-3, "couplings: outputs deviate by %g", d);
    scene_close(&s);
}

START_TEST(test_llama_shape)
{
    check_recovery(llama, TF_LEN(llama));
}
END_TEST

START_TEST(test_bert_shape)
{
    check_recovery(bert, TF_LEN(bert));
}
END_TEST

/* All maps of a plan, one after the other, freed by free. */
static float *numbers(const tfuse_plan *plan, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < plan->n_maps; i++)
        *count += (size_t)(plan->maps[i].map->n * plan->maps[i].map->m);
    float *x = calloc(*count + 1, sizeof *x), *at = x;
    for (size_t i = 0; i < plan->n_maps; i++) {
        tf_map_matrix(plan->maps[i].map, at);
        at += plan->maps[i].map->n * plan->maps[i].map->m;
    }
    return x;
}

/* Plans of 1, 2 and 7 threads hold the same bits. */
START_TEST(test_threads)
{
    static const int threads[] = {1, 2, 7};
    float *first = NULL;
    for (size_t t = 0; t < TF_LEN(threads); t++) {
        scene s;
        tfuse_plan *plan;
        size_t count;
        scene_open(&s, llama, TF_LEN(llama), threads[t]);
        (void)fused_distance(&s, "matching", s.copy, true, &plan);
        float *now = numbers(plan, &count);
        ck_assert_uint_gt(count, 500);
        if (first)
            ck_assert_mem_eq(first, now, count * sizeof *now);
        free(first);
        first = now;
        tf_plan_free(plan);
        scene_close(&s);
    }
    free(first);
}
END_TEST

/* The copy with noise on every weight: fused, it lies closer to the model than the noise alone took it. */
START_TEST(test_noise)
{
    scene s;
    scene_open(&s, bert, TF_LEN(bert), 1);
    tfuse_model *noisy = s.copy;
    uint64_t state = 77;
    for (size_t i = 0; i < noisy->count; i++) {
        float *x = (float *)(uintptr_t)noisy->tensors[i].data;
        for (size_t k = 0; k < noisy->tensors[i].count; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            x[k] += 0.02f * (float)((double)(state >> 11) / 4503599627370496.0 - 1);
        }
    }
    const double d = fused_distance(&s, "matching", noisy, false, NULL), apart = fused_distance(&s, "none", noisy, false, NULL);
    ck_assert_msg(d < 0.15 && d < apart / 4, "outputs deviate by %g, unaligned by %g", d, apart);
    scene_close(&s);
}
END_TEST

/* The model moved by another member of its group, with noise of a size on every weight; freed by tf_model_free. */
static tfuse_model *moved(scene *s, const char *seed, float noise)
{
    tfuse_plan *plan;
    tfuse_model *out;
    uint64_t state = strtoull(seed, NULL, 10);
    t_ok(s->env, tf_policy_set(s->env, s->policy, "run.seed", seed));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "0,1"));
    t_ok(s->env, tf_gauge(s->env, s->policy, s->m.m, s->g, &plan));
    const tf_fuse_job job = {.policy = s->policy, .plan = plan, .models = (const tfuse_model *[]){s->m.m, s->m.m},
                             .graphs = (tf_graph *[]){s->g, s->g}, .n = 2};
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &out));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", "equal"));
    tf_plan_free(plan);
    for (size_t i = 0; i < out->count; i++) {
        float *x = (float *)(uintptr_t)out->tensors[i].data;
        for (size_t k = 0; k < out->tensors[i].count; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            x[k] += noise * (float)((double)(state >> 11) / 4503599627370496.0 - 1);
        }
    }
    return out;
}

/* Four models fused, the anchor first; the outputs' distance from the scene's model. */
static double mean_distance(scene *s, const tfuse_model *const *models, bool calibrated, bool mean)
{
    tf_graph *graphs[] = {s->g, s->g, s->g, s->g};
    tfuse_plan *plan;
    tfuse_model *fused;
    tf_view *was, *now;
    t_ok(s->env, tf_policy_set(s->env, s->policy, "matching.mean", mean ? "1" : "0"));
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = models, .graphs = graphs, .n = 4,
                              .calib = calibrated ? s->calib : NULL};
    t_ok(s->env, tf_align(s->env, &job, &plan));
    ck_assert(plan->exact);
    for (size_t k = 1; k < 4; k++) /* rounds to the anchor, then to the mean */
        ck_assert_uint_eq(json_array_size(json_array_get(plan->objective, k)) > 1, mean);
    const tf_fuse_job fuse = {.policy = s->policy, .plan = plan, .models = models, .graphs = graphs, .n = 4};
    t_ok(s->env, tf_fuse_to_model(s->env, &fuse, &fused));
    t_ok(s->env, tf_view_root(s->env, s->g, s->m.m, &was));
    t_ok(s->env, tf_view_root(s->env, s->g, fused, &now));
    float *a = t_run(s->env, was, (const float *)s->calib->data, SAMPLES), *b = t_run(s->env, now, (const float *)s->calib->data, SAMPLES);
    double worst = 0, most = 0;
    for (size_t i = 0; i < (size_t)SAMPLES * TOKENS * 9; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)a[i]));
    }
    tf_view_free(was);
    tf_view_free(now);
    tf_model_free(fused);
    tf_plan_free(plan);
    free(a);
    free(b);
    return worst / most;
}

/* A model and three moved copies come back through their mean; of copies with noise the mean is nearer to the model than any was. */
static void check_mean(const t_node *nodes, size_t count)
{
    static const char *const seeds[] = {"5", "6", "7"};
    scene s;
    scene_open(&s, nodes, count, 2);
    const tfuse_model *models[4] = {s.m.m};
    tfuse_model *copies[3];
    for (int noisy = 0; noisy < 2; noisy++) {
        for (size_t k = 0; k < 3; k++)
            models[k + 1] = copies[k] = moved(&s, seeds[k], noisy ? 0.02f : 0);
        for (int calibrated = 0; calibrated < 2; calibrated++) {
            const double d = mean_distance(&s, models, calibrated, true);
            ck_assert_msg(d < (noisy ? 0.15 : 2e-3), "outputs deviate by %g", d);
        }
        ck_assert(mean_distance(&s, models, false, false) < (noisy ? 0.15 : 2e-3));
        for (size_t k = 0; k < 3; k++)
            tf_model_free(copies[k]);
    }
    scene_close(&s);
}

START_TEST(test_mean_llama)
{
    check_mean(llama, TF_LEN(llama));
}
END_TEST

START_TEST(test_mean_bert)
{
    check_mean(bert, TF_LEN(bert));
}
END_TEST

START_TEST(test_refusals)
{
    scene s;
    const tfuse_model *models[2];
    scene_open(&s, bert, TF_LEN(bert), 1);
    models[0] = s.m.m;
    models[1] = s.copy;
    t_ok(s.env, tf_policy_set(s.env, s.policy, "align.strategy", "matching"));
    const tf_align_job job = {.policy = s.policy, .solvers = &s.solvers, .models = models, .graphs = (tf_graph *[]){s.g, s.g}, .n = 2};
    tfuse_plan *plan;
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.use", "activations"));
    t_fails(s.env, tf_align(s.env, &job, &plan), TFUSE_EINVAL, "--calib");
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.use", "auto"));
    t_ok(s.env, tf_policy_set(s.env, s.policy, "solver.name", "sinkhorn"));
    t_fails(s.env, tf_align(s.env, &job, &plan), TFUSE_EINVAL, "soft");
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("matching");
    T_ADD(test_llama_shape);
    T_ADD(test_bert_shape);
    T_ADD(test_threads);
    T_ADD(test_noise);
    T_ADD(test_mean_llama);
    T_ADD(test_mean_bert);
    T_ADD(test_refusals);
    return t_suite;
}
