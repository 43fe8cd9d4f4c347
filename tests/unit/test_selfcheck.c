/* SPDX-License-Identifier: Apache-2.0
 *
 * The self-check: a gauge of a trained vision transformer passes in both forms; one place that moves by another map and one pass too few are caught; real
 * inputs in place of noise; a fused network that overflows; the paper's maps are told and not judged; soft maps and plain averaging have nothing to compare.
 */
#include "align/gauge.h"
#include "t_pair.h"
#include <math.h>
#include <stdlib.h>

static tf_fuse_job job_of(t_pair *p)
{
    return (tf_fuse_job){.policy = p->policy, .plan = p->plan, .models = (const tfuse_model *const *)p->models, .graphs = p->graphs, .n = p->n};
}

static void gauge(t_pair *p)
{
    t_ok(p->env, tf_gauge(p->env, p->policy, p->models[0], p->graphs[0], &p->plan));
}

/* The deviation of a form of model k; -1 where none was run. */
static double found(const json_t *report, size_t k, const char *form)
{
    const json_t *x = json_object_get(json_array_get(json_object_get(report, "models"), k), form);
    return json_is_number(x) ? json_number_value(x) : -1;
}

static const char *result(const json_t *report)
{
    return json_string_value(json_object_get(report, "result"));
}

START_TEST(test_gauge_passes)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "aa");
    gauge(&p);
    const tf_fuse_job job = job_of(&p);
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report));
    ck_assert_str_eq(result(report), "passed");
    for (size_t k = 0; k < 2; k++) { /* float32 over rotated weights: 4e-7 of the largest output was measured */
        ck_assert(found(report, k, "canonical") >= 0 && found(report, k, "canonical") < 1e-5);
        ck_assert_double_lt(found(report, k, "aligned"), 1e-5);
    }
    ck_assert_double_gt(found(report, 1, "aligned"), 0);
    json_decref(report);
    t_pair_close(&p);
}
END_TEST

/* Points the first place that moves by a map of more than one place to another one: a reversal of the same units. */
static void spoil(t_pair *p)
{
    tfuse_plan *plan = p->plan;
    for (size_t i = 0; i < plan->n_entries; i++) {
        const int64_t n = plan->maps[plan->entries[i].map].map->n;
        int64_t *back = calloc((size_t)n, sizeof *back);
        tf_plan_map row = {.name = "wrong", .axis = "wrong", .model = plan->entries[i].model, .solver = ""};
        int32_t index;
        for (int64_t j = 0; j < n; j++)
            back[j] = n - 1 - j;
        t_ok(p->env, tf_map_permutation(p->env, n, back, &row.map));
        t_ok(p->env, tf_plan_add_map(p->env, plan, &row, &index));
        plan->entries[i].map = index;
        free(back);
        return;
    }
}

START_TEST(test_wrong_map)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "aa");
    t_pair_set(&p, "gauge.stream", "none");
    gauge(&p);
    spoil(&p);
    const tf_fuse_job job = job_of(&p);
    t_fails(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report), TFUSE_ENUMERIC, "another function in its aligned form");
    ck_assert_ptr_null(report);
    p.plan->exact = false;
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report));
    ck_assert_double_gt(found(report, 1, "aligned"), 1e-3);
    json_decref(report);
    t_pair_close(&p);
}
END_TEST

/* A plan that leaves out one of its passes: rotations of the stream need the norms' gains folded. */
START_TEST(test_wrong_passes)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "aa");
    gauge(&p);
    const tf_fuse_job job = job_of(&p);
    ck_assert_str_eq(p.plan->passes[0], "fold-norms.1");
    p.plan->passes[0] = p.plan->passes[--p.plan->n_passes];
    t_fails(p.env, tf_fuse_selfcheck(p.env, &job, p.images, &report), TFUSE_EINVAL, "only a permutation may move");
    ck_assert_ptr_null(report);
    t_pair_close(&p);
}
END_TEST

/* Real images in place of noise: normalised, the first four of them. */
START_TEST(test_real_inputs)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "aa");
    gauge(&p);
    const tf_fuse_job job = job_of(&p);
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, p.images, &report));
    ck_assert_str_eq(json_string_value(json_object_get(report, "probe")), "calibration");
    ck_assert_str_eq(json_string_value(json_object_get(report, "fused")), "finite");
    ck_assert(found(report, 1, "aligned") > 0 && found(report, 1, "aligned") < 1e-5);
    json_decref(report);
    spoil(&p);
    t_fails(p.env, tf_fuse_selfcheck(p.env, &job, p.images, &report), TFUSE_ENUMERIC, "another function in its aligned form");
    t_pair_close(&p);
}
END_TEST

/* What was fitted is what runs last, and only then. */
START_TEST(test_fused_outputs)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "aa");
    gauge(&p);
    tf_fuse_job job = job_of(&p);
    const tf_id bias = tf_graph_find_param(p.graphs[0], "classifier.bias");
    float **fitted = calloc(p.graphs[0]->n_params, sizeof *fitted), wrong[10] = {3};
    ck_assert(fitted && bias >= 0 && tf_param_count(&p.graphs[0]->params[bias]) == 10);
    fitted[bias] = wrong;
    job.fitted = fitted;
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report)); /* another function, but a finite one */
    json_decref(report);
    wrong[4] = (float)INFINITY;
    t_fails(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report), TFUSE_ENUMERIC, "the outputs of the fused network become NaN");
    ck_assert_ptr_null(report);
    free(fitted);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_paper_is_not_judged)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.residual", "skip");
    t_ok(p.env, t_pair_align(&p, true));
    const tf_fuse_job job = job_of(&p);
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report));
    ck_assert_str_eq(result(report), "nothing to compare");
    ck_assert_double_gt(found(report, 1, "aligned"), 0.01); /* the maps of the paper are no symmetries of a transformer */
    ck_assert_double_eq(found(report, 0, "aligned"), -1);
    json_decref(report);
    t_pair_close(&p);
}
END_TEST

static void nothing(const char *key, const char *value)
{
    t_pair p;
    json_t *report = NULL;
    t_pair_open(&p, "ba");
    t_pair_set(&p, key, value);
    t_ok(p.env, t_pair_align(&p, true));
    const tf_fuse_job job = job_of(&p);
    t_ok(p.env, tf_fuse_selfcheck(p.env, &job, NULL, &report));
    ck_assert_str_eq(result(report), "nothing to compare");
    ck_assert_double_eq(found(report, 1, "aligned"), -1);
    ck_assert_double_eq(found(report, 1, "canonical"), -1);
    json_decref(report);
    t_pair_close(&p);
}

START_TEST(test_nothing)
{
    nothing("align.strategy", "none");
    nothing("solver.name", "sinkhorn");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("selfcheck");
    T_ADD(test_gauge_passes);
    T_ADD(test_wrong_map);
    T_ADD(test_wrong_passes);
    T_ADD(test_real_inputs);
    T_ADD(test_fused_outputs);
    T_ADD(test_paper_is_not_judged);
    T_ADD(test_nothing);
    return t_suite;
}
