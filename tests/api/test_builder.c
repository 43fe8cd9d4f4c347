/* SPDX-License-Identifier: Apache-2.0
 *
 * A graph by hand: built, described, written and read, and run against what it computes.
 */
#include "api.h"
#include <math.h>
#include <stdlib.h>

enum { IN = 3, HIDDEN = 4, OUT = 2, N = 5 };

/* y = W2 relu(W1 x + b1) + b2 */
static tfuse_graph *two_layers(tfuse_ctx *ctx)
{
    tfuse_graph *g = NULL;
    api_ok(ctx, tfuse_graph_new(ctx, &g));
    api_ok(ctx, tfuse_graph_add(ctx, g, "input", "x", "", "kind=features shape=3"));
    api_ok(ctx, tfuse_graph_add(ctx, g, "linear", "first", "x", "out=hidden:4 bias=1"));
    api_ok(ctx, tfuse_graph_add(ctx, g, "activation", "relu", "first", "kind=relu"));
    api_ok(ctx, tfuse_graph_add(ctx, g, "linear", "second", "relu", "out=!classes:2 bias=1"));
    api_ok(ctx, tfuse_graph_store(ctx, g, "first.weight", "transpose(kernel)"));
    api_ok(ctx, tfuse_graph_output(ctx, g, "second"));
    return g;
}

static tfuse_model *two_layer_model(tfuse_ctx *ctx, float *const blocks[4])
{
    tfuse_model *m = NULL;
    api_ok(ctx, tfuse_model_new(ctx, NULL, NULL, NULL, &m));
    api_ok(ctx, tfuse_model_add(ctx, m, "kernel", TFUSE_F32, 2, (int64_t[]){IN, HIDDEN}, blocks[0]));
    api_ok(ctx, tfuse_model_add(ctx, m, "first.bias", TFUSE_F32, 1, (int64_t[]){HIDDEN}, blocks[1]));
    api_ok(ctx, tfuse_model_add(ctx, m, "second.weight", TFUSE_F32, 2, (int64_t[]){OUT, HIDDEN}, blocks[2]));
    api_ok(ctx, tfuse_model_add(ctx, m, "second.bias", TFUSE_F32, 1, (int64_t[]){OUT}, blocks[3]));
    api_ok(ctx, tfuse_model_seal(ctx, m));
    return m;
}

static void by_hand(float *const blocks[4], const float *x, double y[OUT])
{
    double h[HIDDEN];
    for (int j = 0; j < HIDDEN; j++) {
        h[j] = blocks[1][j];
        for (int i = 0; i < IN; i++)
            h[j] += (double)blocks[0][i * HIDDEN + j] * x[i];
        h[j] = h[j] > 0 ? h[j] : 0;
    }
    for (int k = 0; k < OUT; k++) {
        y[k] = blocks[3][k];
        for (int j = 0; j < HIDDEN; j++)
            y[k] += (double)blocks[2][k * HIDDEN + j] * h[j];
    }
}

START_TEST(test_run)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = two_layers(ctx);
    float *blocks[4] = {api_numbers(IN * HIDDEN, 1), api_numbers(HIDDEN, 2), api_numbers(OUT * HIDDEN, 3), api_numbers(OUT, 4)};
    float *x = api_numbers(N * IN, 5);
    tfuse_model *m = two_layer_model(ctx, blocks);
    tfuse_array *inputs = NULL, *out = NULL;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 2, (int64_t[]){N, IN}, x, NULL, NULL, &inputs));
    api_fails(ctx, tfuse_run(ctx, m, g, inputs, 0, &out), TFUSE_ESTATE, "finish");
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_ok(ctx, tfuse_graph_check(ctx, g, m));
    api_ok(ctx, tfuse_run(ctx, m, g, inputs, 0, &out));
    ck_assert_uint_eq(tfuse_array_rank(out), 2);
    ck_assert_int_eq(tfuse_array_shape(out)[0], N);
    ck_assert_int_eq(tfuse_array_shape(out)[1], OUT);
    for (int n = 0; n < N; n++) {
        double y[OUT];
        by_hand(blocks, x + n * IN, y);
        for (int k = 0; k < OUT; k++) /* float32 sums of 4 terms of size one: a few units of 2^-24 */
            ck_assert_double_eq_tol(((const float *)tfuse_array_data(out))[n * OUT + k], y[k], 2e-6);
    }
    tfuse_array_free(out);
    api_ok(ctx, tfuse_run(ctx, m, g, inputs, 2, &out));
    ck_assert_int_eq(tfuse_array_shape(out)[0], 2);
    tfuse_array_free(out);
    api_fails(ctx, tfuse_run(ctx, m, g, inputs, -1, &out), TFUSE_ERANGE, "limit");
    tfuse_array_free(inputs);
    tfuse_model_free(m);
    tfuse_graph_free(g);
    for (int i = 0; i < 4; i++)
        free(blocks[i]);
    free(x);
    api_done(ctx);
}
END_TEST

/* A builder call that fails leaves a graph that can only be freed. */
START_TEST(test_failed_calls)
{
    static const struct {
        const char *op, *inputs, *attrs, *piece;
    } calls[] = {{"no-such-op", "x", "", "no-such-op"},
                 {"activation", "nothing", "kind=relu", "nothing"}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        tfuse_ctx *ctx = api_new();
        tfuse_graph *g = two_layers(ctx);
        api_fails(ctx, tfuse_graph_add(ctx, g, calls[i].op, "y", calls[i].inputs, calls[i].attrs), TFUSE_ENOTFOUND, calls[i].piece);
        api_fails(ctx, tfuse_graph_finish(ctx, g), TFUSE_ESTATE, "free it");
        tfuse_graph_free(g);
        api_done(ctx);
    }
}
END_TEST

START_TEST(test_states)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = two_layers(ctx);
    char *text = NULL;
    api_fails(ctx, tfuse_graph_to_json(ctx, g, &text), TFUSE_ESTATE, "finish");
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_fails(ctx, tfuse_graph_finish(ctx, g), TFUSE_ESTATE, "finished");
    api_fails(ctx, tfuse_graph_add(ctx, g, "activation", "y", "x", "kind=relu"), TFUSE_ESTATE, "finished");
    api_fails(ctx, tfuse_graph_store(ctx, g, "first.bias", "b"), TFUSE_ESTATE, "finished");
    api_fails(ctx, tfuse_graph_buffer(ctx, g, "b"), TFUSE_ESTATE, "finished");
    api_fails(ctx, tfuse_graph_output(ctx, g, "x"), TFUSE_ESTATE, "finished");
    tfuse_graph_free(g);
    api_done(ctx);
}
END_TEST

START_TEST(test_json_both_ways)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = two_layers(ctx), *back = NULL;
    char *first = NULL, *second = NULL;
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_ok(ctx, tfuse_graph_to_json(ctx, g, &first));
    api_ok(ctx, tfuse_graph_from_json(ctx, first, &back));
    api_ok(ctx, tfuse_graph_to_json(ctx, back, &second));
    ck_assert_str_eq(first, second);
    tfuse_graph_free(back);
    api_fails(ctx, tfuse_graph_from_json(ctx, "{\"tfuse_graph\": 1", &back), TFUSE_EFORMAT, "graph");
    ck_assert_ptr_null(back);
    tfuse_string_free(first);
    tfuse_string_free(second);
    tfuse_graph_free(g);
    api_done(ctx);
}
END_TEST

/* The group of an axis and the way tensors use it, without a JSON reader: the description is indented one blank a level. */
START_TEST(test_describe)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = two_layers(ctx);
    char *text = NULL;
    static const char *const pieces[] = {"\"parameters\": 26", "\"name\": \"hidden\"", "\"group\": \"permutation, positive scale\"",
                                         "\"group\": \"pinned\"", "\"use\": \"consumed\"", "\"stored\": \"transpose(kernel)\"",
                                         "\"op\": \"activation\""};
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_ok(ctx, tfuse_graph_describe(ctx, g, NULL, &text));
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        ck_assert_msg(strstr(text, pieces[i]) != NULL, "no %s in %s", pieces[i], text);
    tfuse_string_free(text);
    tfuse_graph_free(g);
    api_done(ctx);
}
END_TEST

START_TEST(test_check_refuses)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = two_layers(ctx);
    float *block = api_numbers(16, 1);
    float *blocks[4] = {block, block, block, block};
    tfuse_model *m = two_layer_model(ctx, blocks), *other = NULL;
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_ok(ctx, tfuse_graph_check(ctx, g, m));
    tfuse_model_free(m);
    api_ok(ctx, tfuse_model_new(ctx, NULL, NULL, NULL, &other));
    api_ok(ctx, tfuse_model_add(ctx, other, "kernel", TFUSE_F32, 2, (int64_t[]){IN, HIDDEN}, block));
    api_ok(ctx, tfuse_model_seal(ctx, other));
    api_fails(ctx, tfuse_graph_check(ctx, g, other), TFUSE_ENOTFOUND, "first.bias");
    tfuse_model_free(other);
    tfuse_graph_free(g);
    free(block);
    api_done(ctx);
}
END_TEST

/* Token ids whose number is known only when the model runs: rows of the table, as they are. */
START_TEST(test_token_ids)
{
    tfuse_ctx *ctx = api_new();
    tfuse_graph *g = NULL;
    tfuse_model *m = NULL;
    tfuse_array *ids = NULL, *out = NULL;
    const int32_t tokens[] = {2, 0, 1, 1, 2, 2};
    float *table = api_numbers(3 * 4, 7);
    api_ok(ctx, tfuse_graph_new(ctx, &g));
    api_ok(ctx, tfuse_graph_add(ctx, g, "input", "ids", "", "kind=tokens"));
    api_ok(ctx, tfuse_graph_add(ctx, g, "embedding", "words", "ids", "rows=!vocabulary:3 of=/stream:4"));
    api_ok(ctx, tfuse_graph_output(ctx, g, "words"));
    api_ok(ctx, tfuse_graph_finish(ctx, g));
    api_ok(ctx, tfuse_model_new(ctx, NULL, NULL, NULL, &m));
    api_ok(ctx, tfuse_model_add(ctx, m, "words.weight", TFUSE_F32, 2, (int64_t[]){3, 4}, table));
    api_ok(ctx, tfuse_model_seal(ctx, m));
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_I32, 2, (int64_t[]){2, 3}, tokens, NULL, NULL, &ids));
    api_ok(ctx, tfuse_run(ctx, m, g, ids, 0, &out));
    const float *y = tfuse_array_data(out);
    for (int t = 0; t < 6; t++)
        ck_assert_mem_eq(y + 4 * t, table + 4 * tokens[t], 4 * sizeof(float));
    tfuse_array_free(out);
    tfuse_array_free(ids);
    tfuse_model_free(m);
    tfuse_graph_free(g);
    free(table);
    tfuse_ctx_free(ctx);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("api builder");
    API_ADD(test_run);
    API_ADD(test_failed_calls);
    API_ADD(test_states);
    API_ADD(test_json_both_ways);
    API_ADD(test_describe);
    API_ADD(test_check_refuses);
    API_ADD(test_token_ids);
    return api_suite;
}
