/* SPDX-License-Identifier: Apache-2.0
 *
 * Statistics from a host through the public interface: a network in its own graph, whose values the test computes; handles, contexts, and
 * arguments that do not fit.
 */
#include "api.h"
#include <stdlib.h>

enum { IN = 6, HIDDEN = 5, OUT = 3, N = 32 };

static const char config[] =
    "{\"tfuse_graph\": {\"tfuse_graph\": 1, \"arch\": \"\", \"output\": \"second\", \"nodes\": ["
    "{\"op\": \"input\", \"name\": \"x\", \"inputs\": \"\", \"attrs\": \"kind=features shape=6\"},"
    "{\"op\": \"linear\", \"name\": \"first\", \"inputs\": \"x\", \"attrs\": \"out=hidden:5 bias=1\"},"
    "{\"op\": \"activation\", \"name\": \"relu\", \"inputs\": \"first\", \"attrs\": \"kind=relu\"},"
    "{\"op\": \"linear\", \"name\": \"second\", \"inputs\": \"relu\", \"attrs\": \"out=!classes:3 bias=1\"}],"
    "\"tensors\": {}, \"buffers\": []}}";

typedef struct net {
    float *w1, *b1, *w2, *b2;
    tfuse_model *model;
} net;

/* A hidden unit h of `shift` computes what unit (h + shift) % HIDDEN does without. */
static net new_net(tfuse_ctx *ctx, int shift)
{
    float *w1 = api_numbers(HIDDEN * IN, 1), *b1 = api_numbers(HIDDEN, 2), *w2 = api_numbers(OUT * HIDDEN, 3);
    net n = {malloc(HIDDEN * IN * sizeof(float)), malloc(HIDDEN * sizeof(float)), malloc(OUT * HIDDEN * sizeof(float)), api_numbers(OUT, 4), NULL};
    for (int h = 0; h < HIDDEN; h++) {
        const int from = (h + shift) % HIDDEN;
        memcpy(n.w1 + h * IN, w1 + from * IN, IN * sizeof(float));
        n.b1[h] = b1[from];
        for (int o = 0; o < OUT; o++)
            n.w2[o * HIDDEN + h] = w2[o * HIDDEN + from];
    }
    free(w1), free(b1), free(w2);
    api_ok(ctx, tfuse_model_new(ctx, config, NULL, NULL, &n.model));
    api_ok(ctx, tfuse_model_add(ctx, n.model, "first.weight", TFUSE_F32, 2, (int64_t[]){HIDDEN, IN}, n.w1));
    api_ok(ctx, tfuse_model_add(ctx, n.model, "first.bias", TFUSE_F32, 1, (int64_t[]){HIDDEN}, n.b1));
    api_ok(ctx, tfuse_model_add(ctx, n.model, "second.weight", TFUSE_F32, 2, (int64_t[]){OUT, HIDDEN}, n.w2));
    api_ok(ctx, tfuse_model_add(ctx, n.model, "second.bias", TFUSE_F32, 1, (int64_t[]){OUT}, n.b2));
    api_ok(ctx, tfuse_model_seal(ctx, n.model));
    return n;
}

static void free_net(net *n)
{
    tfuse_model_free(n->model);
    free(n->w1), free(n->b1), free(n->w2), free(n->b2);
}

/* The value of a name, on N inputs. */
static void compute(const net *n, const char *name, const float *x, float *out)
{
    float hidden[HIDDEN];
    for (int r = 0; r < N; r++) {
        for (int h = 0; h < HIDDEN; h++) {
            hidden[h] = n->b1[h];
            for (int i = 0; i < IN; i++)
                hidden[h] += n->w1[h * IN + i] * x[r * IN + i];
            if (!strcmp(name, "first"))
                out[r * HIDDEN + h] = hidden[h];
        }
        for (int o = 0; o < OUT && !strcmp(name, "second"); o++) {
            out[r * OUT + o] = n->b2[o];
            for (int h = 0; h < HIDDEN; h++)
                out[r * OUT + o] += n->w2[o * HIDDEN + h] * (hidden[h] > 0 ? hidden[h] : 0);
        }
    }
}

static void feed(tfuse_ctx *ctx, tfuse_stats *stats, const net *nets, const float *x)
{
    for (size_t i = 0; i < tfuse_stats_count(stats); i++) {
        tfuse_stat_want want = {.struct_size = sizeof want};
        float values[N * IN];
        tfuse_array *batch = NULL;
        api_ok(ctx, tfuse_stats_want(stats, i, &want));
        compute(&nets[want.model], want.value, x, values);
        api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 3, (int64_t[]){N, want.tokens, want.units}, values, NULL, NULL, &batch));
        api_ok(ctx, tfuse_stats_feed(ctx, stats, want.model, want.value, batch));
        tfuse_array_free(batch);
    }
    api_ok(ctx, tfuse_stats_step(ctx, stats));
}

static tfuse_policy *otfusion(tfuse_ctx *ctx)
{
    tfuse_policy *policy = NULL;
    api_ok(ctx, tfuse_policy_new(ctx, &policy));
    api_ok(ctx, tfuse_policy_set(ctx, policy, "align.strategy", "otfusion"));
    return policy;
}

START_TEST(test_planted)
{
    tfuse_ctx *ctx = api_new();
    net nets[2] = {new_net(ctx, 0), new_net(ctx, 2)};
    const tfuse_model *models[] = {nets[0].model, nets[1].model};
    float *x = api_numbers(N * IN, 5);
    tfuse_policy *policy = otfusion(ctx);
    tfuse_stats *stats = NULL;
    tfuse_plan *plan = NULL;
    tfuse_array *map = NULL;
    api_ok(ctx, tfuse_stats_new(ctx, policy, models, 2, &stats));
    ck_assert_uint_ge(tfuse_stats_count(stats), 2);
    ck_assert_int_eq(tfuse_stats_sweeps(stats), 1);
    feed(ctx, stats, nets, x);
    api_ok(ctx, tfuse_align_stats(ctx, policy, stats, &plan));
    ck_assert_uint_eq(tfuse_plan_count(plan), 1);
    api_ok(ctx, tfuse_plan_matrix(ctx, plan, 0, &map));
    for (int i = 0; i < HIDDEN; i++)
        for (int j = 0; j < HIDDEN; j++)
            ck_assert_float_eq(((const float *)tfuse_array_data(map))[i * HIDDEN + j], (i + 2) % HIDDEN == j);
    tfuse_array_free(map);
    tfuse_plan_free(plan);
    tfuse_stats_free(stats);
    tfuse_policy_free(policy);
    free(x);
    free_net(&nets[0]);
    free_net(&nets[1]);
    api_done(ctx);
}
END_TEST

START_TEST(test_arguments)
{
    tfuse_ctx *ctx = api_new(), *other = NULL;
    ck_assert_int_eq(tfuse_ctx_new(NULL, &other), TFUSE_OK);
    net nets[2] = {new_net(ctx, 0), new_net(ctx, 2)};
    const tfuse_model *models[] = {nets[0].model, nets[1].model};
    tfuse_policy *policy = otfusion(ctx);
    tfuse_stats *stats = NULL;
    tfuse_plan *plan = NULL;
    tfuse_stat_want want = {.struct_size = sizeof want};
    api_fails(ctx, tfuse_stats_new(ctx, policy, models, 1, &stats), TFUSE_EINVAL, "at least one more");
    api_fails(ctx, tfuse_stats_new(ctx, policy, NULL, 2, &stats), TFUSE_EINVAL, "models");
    ck_assert_ptr_null(stats);
    api_ok(ctx, tfuse_stats_new(ctx, policy, models, 2, &stats));
    ck_assert_int_eq(tfuse_stats_want(stats, tfuse_stats_count(stats), &want), TFUSE_ERANGE);
    want.struct_size = 0;
    ck_assert_int_eq(tfuse_stats_want(stats, 0, &want), TFUSE_EINVAL);
    ck_assert_int_eq(tfuse_stats_want(NULL, 0, &want), TFUSE_EINVAL);
    ck_assert_uint_eq(tfuse_stats_count(NULL), 0);
    api_fails(ctx, tfuse_stats_feed(ctx, stats, 0, "first", NULL), TFUSE_EINVAL, "batch");
    api_fails(ctx, tfuse_stats_step(ctx, NULL), TFUSE_EINVAL, "stats");
    api_fails(other, tfuse_stats_step(other, stats), TFUSE_EINVAL, "another context");
    api_fails(ctx, tfuse_stats_rewind(ctx, stats), TFUSE_ESTATE, "no values");
    api_fails(ctx, tfuse_align_stats(ctx, policy, stats, &plan), TFUSE_ESTATE, "no values");
    ck_assert_ptr_null(plan);
    tfuse_stats_free(stats);
    tfuse_stats_free(NULL);
    tfuse_policy_free(policy);
    free_net(&nets[0]);
    free_net(&nets[1]);
    tfuse_ctx_free(other);
    api_done(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("statistics");
    API_ADD(test_planted);
    API_ADD(test_arguments);
    return api_suite;
}
