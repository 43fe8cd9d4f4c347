/* SPDX-License-Identifier: Apache-2.0
 *
 * Models of unequal widths: onto more units matching keeps the function (rotations become orthonormal embeddings, units, heads and groups are copied),
 * for graphs with either norm, rotary positions, grouped queries and a gate; onto fewer it says that it does not, and repair runs on the plan.
 *
 * Tolerance: maps are found and applied in float32, so outputs of order one come back to some 1e-5 of the largest; 1e-4 leaves room.
 */
#include "align/align.h"
#include "fuse/fuse.h"
#include "t_nets.h"
#include <unistd.h>

enum { SAMPLES = 48, CLASSES = 9 };

typedef struct scene {
    tf_env *env;
    tf_graph *graphs[2];
    t_model models[2];
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *calib;
} scene;

static void scene_open_with(scene *s, const t_node *nodes, size_t count, const widths *anchor, const widths *model, int threads)
{
    s->env = t_env(threads);
    s->graphs[0] = sized_graph(s->env, nodes, count, anchor);
    s->graphs[1] = sized_graph(s->env, nodes, count, model);
    for (int k = 0; k < 2; k++)
        s->models[k] = t_random_model(s->env, s->graphs[k], 3 + 100 * (uint64_t)k);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_policy_set(s->env, s->policy, "align.strategy", "matching"));
    t_ok(s->env, tf_array_new(s->env, TFUSE_F32, 3, (const int64_t[]){SAMPLES, TOKENS, FEATURES}, &s->calib));
    t_fill((float *)s->calib->data, (size_t)SAMPLES * TOKENS * FEATURES, 21);
}

static void scene_open(scene *s, const t_node *nodes, size_t count, const widths *anchor, const widths *model)
{
    scene_open_with(s, nodes, count, anchor, model, 2);
}

static void scene_close(scene *s)
{
    tf_array_free(s->calib);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    for (int k = 0; k < 2; k++) {
        t_model_free(&s->models[k]);
        tf_graph_free(s->graphs[k]);
    }
    t_env_free(s->env);
}

static tf_fuse_job job_of(const scene *s, const tfuse_plan *plan, const tfuse_model **models)
{
    models[0] = s->models[0].m;
    models[1] = s->models[1].m;
    return (tf_fuse_job){.policy = s->policy, .plan = plan, .models = models, .graphs = (tf_graph *const *)s->graphs, .n = 2};
}

static tfuse_plan *align(scene *s, bool calibrated)
{
    const tfuse_model *models[2] = {s->models[0].m, s->models[1].m};
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = models, .graphs = s->graphs, .n = 2,
                              .calib = calibrated ? s->calib : NULL};
    tfuse_plan *plan;
    t_ok(s->env, tf_align(s->env, &job, &plan));
    return plan;
}

/* Largest difference of the outputs of model k and of the fused network, over the largest output. */
static double distance(scene *s, const tfuse_plan *plan, const char *weights, int k)
{
    const tfuse_model *models[2];
    const tf_fuse_job job = job_of(s, plan, models);
    const float *x = (const float *)s->calib->data;
    tfuse_model *carried;
    tf_view *was, *now;
    t_ok(s->env, tf_policy_set(s->env, s->policy, "combine.weights", weights));
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &carried));
    t_ok(s->env, tf_view_root(s->env, s->graphs[k], s->models[k].m, &was));
    t_ok(s->env, tf_view_root(s->env, s->graphs[0], carried, &now));
    float *a = t_run(s->env, was, x, SAMPLES), *b = t_run(s->env, now, x, SAMPLES);
    double worst = 0, most = 0;
    for (size_t i = 0; i < (size_t)SAMPLES * TOKENS * CLASSES; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)a[i]));
    }
    tf_view_free(was);
    tf_view_free(now);
    tf_model_free(carried);
    free(a);
    free(b);
    return worst / most;
}

/* Of the model alone in the anchor's shape. */
static double carried_distance(scene *s, const tfuse_plan *plan)
{
    return distance(s, plan, "0,1", 1);
}

static const widths narrow = {12, 3, 2, 4, 4, 10};

static void check_widening(const t_node *nodes, size_t count, const widths *wide, bool calibrated)
{
    scene s;
    const tfuse_model *models[2];
    json_t *report;
    scene_open(&s, nodes, count, wide, &narrow);
    tfuse_plan *plan = align(&s, calibrated);
    ck_assert(plan->exact && plan->carries && tf_plan_is_lossless(plan, 1));
    const double d = carried_distance(&s, plan);
    ck_assert_msg(d < 1e-4, "outputs deviate by %g", d);
    const tf_fuse_job job = job_of(&s, plan, models);
    t_ok(s.env, tf_fuse_selfcheck(s.env, &job, NULL, &report));
    ck_assert(json_is_number(json_object_get(json_array_get(json_object_get(report, "models"), 1), "aligned")));
    json_decref(report);
    tf_plan_free(plan);
    scene_close(&s);
}

START_TEST(test_widening)
{
    const widths llama_wide = {20, 5, 3, 4, 7, 17}, vit_wide = {17, 5, 1, 6, 7, 23}, bert_wide = {24, 4, 1, 6, 4, 13};
    for (int calibrated = 0; calibrated < 2; calibrated++) {
        check_widening(llama, TF_LEN(llama), &llama_wide, calibrated);
        check_widening(vit, TF_LEN(vit), &vit_wide, calibrated);
        check_widening(bert, TF_LEN(bert), &bert_wide, calibrated);
    }
}
END_TEST

/* Post-norm streams are permuted: 12 channels onto 20 cannot be copied equally often. */
START_TEST(test_unequal_copies_are_not_exact)
{
    const widths wide = {20, 3, 1, 4, 4, 10};
    scene s;
    scene_open(&s, bert, TF_LEN(bert), &wide, &narrow);
    tfuse_plan *plan = align(&s, false);
    ck_assert(!plan->exact && plan->carries);
    tf_plan_free(plan);
    scene_close(&s);
}
END_TEST

/* ---- redundant units ---- */

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n >= k && !strcmp(name + n - k, end);
}

/* Model 1 becomes the anchor with every hidden unit several times, in another order, copies dividing what they write; a gated copy has a factor that
 * is undone where it is consumed. */
static void make_copies(scene *s, int few, int many)
{
    const tf_graph *g = s->graphs[0], *wide = s->graphs[1];
    for (size_t i = 0; i < g->n_params; i++) {
        const tf_param *p = &g->params[i];
        const float *from = s->models[0].data[i];
        const tf_id id = tf_graph_find_param(wide, p->name);
        float *to = s->models[1].data[id];
        const bool gated = tf_graph_find_param(g, "l0/gate.weight") >= 0, up = ends_in(p->name, "l0/up.weight"), down = ends_in(p->name, "l0/down.weight");
        const bool hidden = up || ends_in(p->name, "l0/up.bias") || ends_in(p->name, "l0/gate.weight");
        const size_t width = t_param_count(g, (tf_id)i) / (size_t)(hidden ? few : 1);
        for (int u = 0; u < many && (hidden || down); u++) {
            const int b = (7 * u + 3) % few, copies = many / few + ((u % few) < many % few);
            const float factor = gated && u % 2 ? -2.0f : 1.0f;
            for (size_t k = 0; k < width && hidden; k++)
                to[(size_t)u * width + k] = from[(size_t)b * width + k] * (up ? factor : 1);
            for (int64_t r = 0; r < p->shape[0] && down; r++)
                to[r * many + u] = from[r * few + b] / (factor * (float)copies);
        }
        if (!hidden && !down)
            memcpy(to, from, width * sizeof *to);
    }
}

static void check_redundant(const t_node *nodes, size_t count, int many, bool calibrated)
{
    widths wide = narrow;
    scene s;
    wide.f = many;
    scene_open(&s, nodes, count, &narrow, &wide);
    make_copies(&s, narrow.f, many);
    for (int merge = 0; merge < 2; merge++) {
        t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.merge", merge ? "1" : "0"));
        tfuse_plan *plan = align(&s, calibrated);
        ck_assert(!plan->exact && plan->carries);
        const double d = carried_distance(&s, plan);
        const double fused = distance(&s, plan, "0.5,0.5", 0);
        ck_assert_msg(merge ? d < 1e-4 : d > 1e-2, "with matching.merge=%d outputs deviate by %g", merge, d);
        ck_assert_msg(merge ? fused < 1e-4 : fused > 1e-2, "with matching.merge=%d the fused network deviates by %g", merge, fused);
        tf_plan_free(plan);
    }
    scene_close(&s);
}

START_TEST(test_redundant_units)
{
    for (int calibrated = 0; calibrated < 2; calibrated++)
        for (int many = 20; many < 24; many += 3) {
            check_redundant(llama, TF_LEN(llama), many, calibrated);
            check_redundant(vit, TF_LEN(vit), many, calibrated);
            check_redundant(bert, TF_LEN(bert), many, calibrated);
        }
}
END_TEST

/* Objectives of several starts, and the distance of what their best carries. */
static double carried_from(const t_node *nodes, size_t count, int threads, const char *starts, json_t **objective)
{
    scene s;
    scene_open_with(&s, nodes, count, &narrow, &narrow, threads);
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.starts", starts));
    tfuse_plan *plan = align(&s, true);
    ck_assert(plan->exact);
    const double d = distance(&s, plan, "0.5,0.5", 1);
    *objective = json_deep_copy(json_array_get(plan->objective, 1));
    tf_plan_free(plan);
    scene_close(&s);
    return d;
}

static void check_starts(const t_node *nodes, size_t count)
{
    json_t *one, *all, *other;
    const double alone = carried_from(nodes, count, 2, "1", &one), best = carried_from(nodes, count, 2, "6", &all);
    const double again = carried_from(nodes, count, 1, "6", &other), first = json_number_value(json_array_get(all, 0));
    double most = first;
    for (size_t i = 1; i < json_array_size(all); i++) {
        most = fmax(most, json_number_value(json_array_get(all, i)));
        ck_assert(json_number_value(json_array_get(all, i)) != json_number_value(json_array_get(all, i - 1)));
    }
    ck_assert_uint_eq(json_array_size(one), 1);
    ck_assert_uint_eq(json_array_size(all), 6);
    ck_assert(json_number_value(json_array_get(one, 0)) == first);
    ck_assert(json_equal(all, other) && best == again);
    ck_assert((best == alone) == (most == first));
    json_decref(one);
    json_decref(all);
    json_decref(other);
}

START_TEST(test_starts)
{
    check_starts(llama, TF_LEN(llama));
    check_starts(vit, TF_LEN(vit));
    check_starts(bert, TF_LEN(bert));
}
END_TEST

static void check_narrowing(const t_node *nodes, size_t count, const widths *wide)
{
    scene s;
    const tfuse_model *models[2];
    json_t *report;
    float **fitted;
    scene_open(&s, nodes, count, &narrow, wide);
    tfuse_plan *plan = align(&s, true);
    ck_assert(!plan->exact && plan->carries && !tf_plan_is_lossless(plan, 1));
    const tf_fuse_job job = job_of(&s, plan, models);
    t_ok(s.env, tf_fuse_selfcheck(s.env, &job, NULL, &report));
    ck_assert(json_is_null(json_object_get(json_array_get(json_object_get(report, "models"), 1), "aligned")));
    json_decref(report);
    t_ok(s.env, tf_policy_set(s.env, s.policy, "repair", "select,refit,head"));
    int stages;
    t_ok(s.env, tf_repair_stages(s.env, s.policy, plan, true, &stages));
    t_ok(s.env, tf_repair(s.env, &job, stages, s.calib, &fitted, &report));
    const double kl = json_number_value(json_object_get(report, "kl_fused")), anchor = json_number_value(json_object_get(report, "kl_anchor"));
    ck_assert_msg(kl > 0 && kl < anchor, "the repaired network is %g nats from the ensemble, the anchor %g", kl, anchor);
    json_decref(report);
    tf_fitted_free(s.env, s.graphs[0], fitted);
    tf_plan_free(plan);
    scene_close(&s);
}

START_TEST(test_narrowing)
{
    const widths llama_wide = {20, 5, 3, 4, 7, 17}, vit_wide = {17, 5, 1, 6, 7, 23}, bert_wide = {21, 4, 1, 6, 5, 13};
    check_narrowing(llama, TF_LEN(llama), &llama_wide);
    check_narrowing(vit, TF_LEN(vit), &vit_wide);
    check_narrowing(bert, TF_LEN(bert), &bert_wide);
}
END_TEST

/* A plan with maps of unequal extents is the same after a file. */
START_TEST(test_plan_file)
{
    const widths wide = {20, 5, 3, 4, 7, 17};
    for (int way = 0; way < 2; way++) {
        scene s;
        char path[] = "/tmp/tfuse-widths-XXXXXX";
        tfuse_plan *read;
        scene_open(&s, llama, TF_LEN(llama), way ? &wide : &narrow, way ? &narrow : &wide);
        tfuse_plan *plan = align(&s, false);
        const int file = mkstemp(path);
        ck_assert_int_ge(file, 0);
        close(file);
        t_ok(s.env, tf_plan_save(s.env, plan, path, true));
        t_ok(s.env, tf_plan_load(s.env, path, &read));
        ck_assert(read->exact == plan->exact && read->carries && read->n_maps == plan->n_maps);
        ck_assert(carried_distance(&s, plan) == carried_distance(&s, read));
        unlink(path);
        tf_plan_free(plan);
        tf_plan_free(read);
        scene_close(&s);
    }
}
END_TEST

START_TEST(test_refusals)
{
    const widths wide = {20, 3, 2, 6, 4, 10};
    scene s;
    tfuse_plan *plan;
    scene_open(&s, llama, TF_LEN(llama), &narrow, &wide);
    const tfuse_model *models[2] = {s.models[0].m, s.models[1].m};
    const tf_align_job job = {.policy = s.policy, .solvers = &s.solvers, .models = models, .graphs = s.graphs, .n = 2};
    t_fails(s.env, tf_align(s.env, &job, &plan), TFUSE_EGRAPH, "rotary");
    t_ok(s.env, tf_policy_set(s.env, s.policy, "matching.stream", "none"));
    t_fails(s.env, tf_align(s.env, &job, &plan), TFUSE_EGRAPH, "matching.stream");
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("widths");
    T_ADD(test_widening);
    T_ADD(test_unequal_copies_are_not_exact);
    T_ADD(test_redundant_units);
    T_ADD(test_starts);
    T_ADD(test_narrowing);
    T_ADD(test_plan_file);
    T_ADD(test_refusals);
    return t_suite;
}
