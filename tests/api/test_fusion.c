/* SPDX-License-Identifier: Apache-2.0
 *
 * Aligning and fusing in memory: weights that must come out, plans applied again, what is refused.
 */
#include "api.h"
#include <math.h>
#include <stdlib.h>

static tfuse_policy *policy_with(tfuse_ctx *ctx, const char *strategy)
{
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "align.strategy", strategy));
    return policy;
}

static tfuse_tensor_info tensor(const tfuse_model *m, size_t i)
{
    tfuse_tensor_info info = {.struct_size = sizeof info};
    ck_assert_int_eq(tfuse_model_tensor(m, i, &info), TFUSE_OK);
    return info;
}

/* Largest difference between fused and wa a + wb b. */
static double off_average(const tfuse_model *fused, const tfuse_model *a, const tfuse_model *b, double wa, double wb)
{
    double worst = 0;
    ck_assert_uint_eq(tfuse_model_count(fused), tfuse_model_count(a));
    for (size_t i = 0; i < tfuse_model_count(fused); i++) {
        tfuse_tensor_info f = tensor(fused, i), x = tensor(a, i), y = tensor(b, i);
        ck_assert_str_eq(f.name, x.name);
        ck_assert_uint_eq(f.size, x.size);
        ck_assert_int_eq(memcmp(f.shape, x.shape, sizeof f.shape), 0);
        for (size_t k = 0; k < f.size / sizeof(float); k++) {
            double want = wa * ((const float *)x.data)[k] + wb * ((const float *)y.data)[k];
            worst = fmax(worst, fabs(((const float *)f.data)[k] - want));
        }
    }
    return worst;
}

/* No maps: the weighted mean, to the rounding of one float32 sum. */
START_TEST(test_none_is_the_mean)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "none");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL), *fused = NULL;
    const tfuse_model *models[] = {a, b};
    tfuse_plan *plan = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, NULL, &plan));
    api_ok(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused));
    ck_assert_double_le(off_average(fused, a, b, 0.5, 0.5), 2e-7);
    tfuse_model_free(fused);
    api_ok(ctx, tfuse_policy_set(ctx, policy, "combine.weights", "3,1"));
    api_ok(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused));
    ck_assert_double_le(off_average(fused, a, b, 0.75, 0.25), 2e-7);
    ck_assert_str_eq(tfuse_model_config(fused), tfuse_model_config(a));
    tfuse_model_free(fused);
    api_ok(ctx, tfuse_policy_set(ctx, policy, "combine.weights", "1,1,1"));
    api_fails(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused), TFUSE_EINVAL, "combine.weights");
    ck_assert_ptr_null(fused);
    tfuse_plan_free(plan);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    api_done(ctx);
}
END_TEST

/* A model fused with itself is itself, whatever aligns them: every optimal map is the identity. */
START_TEST(test_itself)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "otfusion");
    int released = 0;
    tfuse_model *a = api_vit(ctx, 2, 1, &released), *fused = NULL;
    const tfuse_model *models[] = {a, a};
    tfuse_array *images = api_images(ctx, 30, 7);
    tfuse_plan *plan = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, images, &plan));
    ck_assert_uint_gt(tfuse_plan_count(plan), 10);
    for (size_t i = 0; i < tfuse_plan_count(plan); i++) {
        tfuse_map_info map = {.struct_size = sizeof map};
        ck_assert_int_eq(tfuse_plan_map(plan, i, &map), TFUSE_OK);
        ck_assert_int_eq(map.model, 1);
        ck_assert_msg(map.identity < 1e-6, "%s is %g off the identity", map.name, map.identity);
        ck_assert_msg(isnan(map.gap) || (map.gap >= 0 && map.gap < 1e-6), "%s has gap %g", map.name, map.gap);
    }
    api_ok(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused));
    ck_assert_double_le(off_average(fused, a, a, 0.5, 0.5), 1e-6);
    tfuse_model_free(fused);
    tfuse_plan_free(plan);
    tfuse_array_free(images);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    ck_assert_int_eq(released, 1);
    api_done(ctx);
}
END_TEST

START_TEST(test_plan_again)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "otfusion");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL), *direct = NULL, *again = NULL;
    const tfuse_model *models[] = {a, b};
    tfuse_plan *plan = NULL, *loaded = NULL;
    tfuse_array *matrix = NULL;
    char *path = api_path("x.plan"), *first = NULL, *second = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, NULL, &plan));
    api_ok(ctx, tfuse_plan_save(ctx, plan, path, 0));
    api_fails(ctx, tfuse_plan_save(ctx, plan, path, 0), TFUSE_EEXIST, path);
    api_ok(ctx, tfuse_plan_save(ctx, plan, path, 1));
    api_ok(ctx, tfuse_plan_load(ctx, path, &loaded));
    api_ok(ctx, tfuse_plan_report(ctx, plan, &first));
    api_ok(ctx, tfuse_plan_report(ctx, loaded, &second));
    ck_assert_str_eq(first, second);
    api_ok(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &direct));
    api_ok(ctx, tfuse_fuse_model(ctx, policy, loaded, models, 2, &again));
    ck_assert_double_eq(off_average(direct, again, again, 1, 0), 0);
    ck_assert_double_gt(off_average(direct, a, b, 0.5, 0.5), 1e-3); /* something did move */
    api_ok(ctx, tfuse_plan_matrix(ctx, plan, 0, &matrix));
    const float *t = tfuse_array_data(matrix);
    const int64_t *shape = tfuse_array_shape(matrix);
    for (int64_t j = 0; j < shape[1]; j++) {
        double sum = 0;
        for (int64_t i = 0; i < shape[0]; i++)
            sum += t[i * shape[1] + j];
        ck_assert_double_eq_tol(sum, 1, 1e-6);
    }
    tfuse_array_free(matrix);
    api_fails(ctx, tfuse_plan_matrix(ctx, plan, 100000, &matrix), TFUSE_ERANGE, "100000");
    tfuse_model_free(again);
    api_fails(ctx, tfuse_fuse_model(ctx, policy, plan, models, 1, &again), TFUSE_EINVAL, "2 models");
    ck_assert_ptr_null(again);
    tfuse_string_free(first);
    tfuse_string_free(second);
    tfuse_model_free(direct);
    tfuse_plan_free(loaded);
    tfuse_plan_free(plan);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    api_remove(path);
    api_done(ctx);
}
END_TEST

START_TEST(test_other_graph)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "otfusion");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL), *c = api_vit(ctx, 1, 3, NULL), *fused = NULL;
    const tfuse_model *models[] = {a, b}, *mixed[] = {a, c}, *hole[] = {a, NULL};
    tfuse_plan *plan = NULL, *none = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, NULL, &plan));
    api_fails(ctx, tfuse_fuse_model(ctx, policy, plan, mixed, 2, &fused), TFUSE_EGRAPH, "graph");
    api_fails(ctx, tfuse_align(ctx, policy, mixed, 2, NULL, &none), TFUSE_EGRAPH, "layer.1");
    api_fails(ctx, tfuse_align(ctx, policy, hole, 2, NULL, &none), TFUSE_EINVAL, "models[1]");
    api_fails(ctx, tfuse_align(ctx, policy, models, 1, NULL, &none), TFUSE_EINVAL, "anchor");
    api_ok(ctx, tfuse_policy_set(ctx, policy, "otfusion.cost", "activations"));
    api_fails(ctx, tfuse_align(ctx, policy, models, 2, NULL, &none), TFUSE_EINVAL, "calib");
    tfuse_plan_free(plan);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    tfuse_model_free(c);
    api_done(ctx);
}
END_TEST

/* One thread and three give the same bits. */
/* The report as JSON; what the self-check says of a plan without maps, and what it refuses to look at. */
START_TEST(test_selfcheck)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "otfusion");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL);
    const tfuse_model *models[] = {a, b};
    tfuse_plan *plan = NULL;
    char *report = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, NULL, &plan));
    api_ok(ctx, tfuse_selfcheck(ctx, policy, plan, models, 2, &report));
    ck_assert_ptr_nonnull(strstr(report, "\"result\""));
    ck_assert_ptr_nonnull(strstr(report, "\"aligned\""));
    ck_assert_ptr_nonnull(strstr(report, "\"probe\":\"random\""));
    tfuse_string_free(report);
    report = NULL;
    tfuse_array *images = api_images(ctx, 2, 9);
    api_ok(ctx, tfuse_selfcheck_on(ctx, policy, plan, models, 2, images, &report));
    ck_assert_ptr_nonnull(strstr(report, "\"probe\":\"calibration\""));
    ck_assert_ptr_nonnull(strstr(report, "\"fused\":\"finite\""));
    tfuse_string_free(report);
    report = NULL;
    float wide[50] = {0};
    tfuse_array *other = NULL;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 4, (const int64_t[]){2, 1, 5, 5}, wide, NULL, NULL, &other));
    api_fails(ctx, tfuse_selfcheck_on(ctx, policy, plan, models, 2, other, &report), TFUSE_ESHAPE, "5");
    ck_assert_ptr_null(report);
    tfuse_array_free(other);
    tfuse_array_free(images);
    api_fails(ctx, tfuse_selfcheck(ctx, policy, plan, models, 1, &report), TFUSE_EINVAL, "2 models");
    ck_assert_ptr_null(report);
    ck_assert_int_eq(tfuse_selfcheck(ctx, policy, NULL, models, 2, &report), TFUSE_EINVAL);
    ck_assert_int_eq(tfuse_selfcheck(ctx, policy, plan, NULL, 2, &report), TFUSE_EINVAL);
    ck_assert_int_eq(tfuse_selfcheck(ctx, policy, plan, models, 2, NULL), TFUSE_EINVAL);
    tfuse_plan_free(plan);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    api_done(ctx);
}
END_TEST

/* Fitted weights: what they report, that they go in, and that other graphs' do not. */
START_TEST(test_repair)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "matching");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL), *c = api_vit(ctx, 3, 3, NULL), *fused = NULL, *plain = NULL;
    const tfuse_model *models[] = {a, b}, *others[] = {c, c};
    tfuse_array *small = api_images(ctx, 12, 5);
    tfuse_plan *plan = NULL, *other = NULL;
    tfuse_repair *repair = NULL, *circuits = NULL, *nothing = NULL;
    api_ok(ctx, tfuse_align(ctx, policy, models, 2, small, &plan));
    api_ok(ctx, tfuse_repair_new(ctx, policy, plan, models, 2, small, &repair));
    ck_assert_ptr_nonnull(strstr(tfuse_repair_report(repair), "\"kl_fused\":"));
    api_ok(ctx, tfuse_repair_new(ctx, policy, plan, models, 2, NULL, &circuits)); /* the one stage that needs no inputs */
    ck_assert_ptr_nonnull(strstr(tfuse_repair_report(circuits), "{\"stages\":[\"circuits\"]"));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "repair", "none"));
    api_ok(ctx, tfuse_repair_new(ctx, policy, plan, models, 2, NULL, &nothing));
    ck_assert_str_eq(tfuse_repair_report(nothing), "{\"stages\":[]}");
    api_ok(ctx, tfuse_fuse_model_repaired(ctx, policy, plan, models, 2, repair, &fused));
    api_ok(ctx, tfuse_fuse_model_repaired(ctx, policy, plan, models, 2, nothing, &plain));
    ck_assert_double_gt(off_average(fused, plain, plain, 1, 0), 1e-3);
    api_ok(ctx, tfuse_align(ctx, policy, others, 2, NULL, &other));
    tfuse_model *none = NULL;
    api_fails(ctx, tfuse_fuse_model_repaired(ctx, policy, other, others, 2, repair, &none), TFUSE_EGRAPH, "repair again");
    api_fails(ctx, tfuse_fuse_repaired(ctx, policy, other, others, 2, repair, "build/never"), TFUSE_EGRAPH, "repair again");
    tfuse_repair *bad = NULL;
    api_ok(ctx, tfuse_policy_set(ctx, policy, "repair", "refit"));
    api_fails(ctx, tfuse_repair_new(ctx, policy, plan, models, 2, NULL, &bad), TFUSE_EINVAL, "--calib");
    ck_assert_ptr_null(bad);
    ck_assert_ptr_null(tfuse_repair_report(NULL));
    tfuse_repair_free(NULL);
    tfuse_repair_free(repair);
    tfuse_repair_free(circuits);
    tfuse_repair_free(nothing);
    tfuse_model_free(fused);
    tfuse_model_free(plain);
    tfuse_plan_free(plan);
    tfuse_plan_free(other);
    tfuse_array_free(small);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    tfuse_model_free(c);
    tfuse_ctx_free(ctx);
}
END_TEST

START_TEST(test_threads_agree)
{
    tfuse_ctx *ctx = api_new();
    tfuse_policy *policy = policy_with(ctx, "otfusion");
    tfuse_model *a = api_vit(ctx, 2, 1, NULL), *b = api_vit(ctx, 2, 2, NULL), *fused[2] = {NULL, NULL};
    const tfuse_model *models[] = {a, b};
    tfuse_array *images = api_images(ctx, 50, 3);
    for (int i = 0; i < 2; i++) {
        tfuse_plan *plan = NULL;
        api_ok(ctx, tfuse_ctx_set_threads(ctx, i ? 3 : 1));
        api_ok(ctx, tfuse_align(ctx, policy, models, 2, images, &plan));
        api_ok(ctx, tfuse_fuse_model(ctx, policy, plan, models, 2, &fused[i]));
        tfuse_plan_free(plan);
    }
    for (size_t i = 0; i < tfuse_model_count(fused[0]); i++) {
        tfuse_tensor_info x = tensor(fused[0], i), y = tensor(fused[1], i);
        ck_assert_msg(memcmp(x.data, y.data, x.size) == 0, "%s differs", x.name);
    }
    tfuse_model_free(fused[0]);
    tfuse_model_free(fused[1]);
    tfuse_array_free(images);
    tfuse_policy_free(policy);
    tfuse_model_free(a);
    tfuse_model_free(b);
    api_done(ctx);
}
END_TEST

START_TEST(test_eval)
{
    tfuse_ctx *ctx = api_new();
    tfuse_model *a = api_vit(ctx, 1, 1, NULL);
    tfuse_array *images = api_images(ctx, 4, 3), *labels = NULL, *logits = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    api_ok(ctx, tfuse_run(ctx, a, NULL, images, 0, &logits));
    int64_t best[4];
    double loss = 0;
    for (int i = 0; i < 4; i++) {
        const float *x = (const float *)tfuse_array_data(logits) + 3 * i;
        best[i] = x[1] > x[0] ? 1 : 0;
        best[i] = x[2] > x[best[i]] ? 2 : best[i];
        if (i != 2)
            loss += log(exp(x[0]) + exp(x[1]) + exp(x[2])) - x[i == 1 ? (best[i] + 1) % 3 : best[i]];
    }
    best[1] = (best[1] + 1) % 3; /* one wrong, one left out */
    best[2] = -100;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_I64, 1, (int64_t[]){4}, best, NULL, NULL, &labels));
    api_ok(ctx, tfuse_eval(ctx, a, NULL, images, labels, 0, &score));
    ck_assert_int_eq(score.n, 4);
    ck_assert_int_eq(score.scored, 3);
    ck_assert_int_eq(score.correct, 2);
    ck_assert_double_eq_tol(score.loss, loss / 3, 1e-6);
    tfuse_array_free(labels);
    api_ok(ctx, tfuse_eval(ctx, a, NULL, images, NULL, 3, &score));
    ck_assert_int_eq(score.n, 3);
    ck_assert_int_eq(score.scored, 0);
    ck_assert(isnan(score.loss));
    best[3] = 3;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_I64, 1, (int64_t[]){4}, best, NULL, NULL, &labels));
    api_fails(ctx, tfuse_eval(ctx, a, NULL, images, labels, 0, &score), TFUSE_ERANGE, "label 3");
    tfuse_array_free(labels);
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_I64, 1, (int64_t[]){2}, best, NULL, NULL, &labels));
    api_fails(ctx, tfuse_eval(ctx, a, NULL, images, labels, 0, &score), TFUSE_ESHAPE, "2 labels");
    tfuse_array_free(labels);
    tfuse_array_free(logits);
    tfuse_array_free(images);
    tfuse_model_free(a);
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api fusion");
    API_ADD(test_none_is_the_mean);
    API_ADD(test_itself);
    API_ADD(test_plan_again);
    API_ADD(test_other_graph);
    API_ADD(test_selfcheck);
    API_ADD(test_repair);
    API_ADD(test_threads_agree);
    API_ADD(test_eval);
    return api_suite;
}
