/* SPDX-License-Identifier: Apache-2.0
 *
 * Sequences that models draw from themselves: each token is the one that a forward pass over the whole sequence and the same random number give, so what
 * is kept of earlier tokens is what they would be; equal ids for any number of threads and sequences; lengths and outputs that are refused.
 *
 * Tolerance: float32 sums in another order move a cumulated probability by about 1e-6; a number nearer than 1e-4 to the border of two tokens may
 * give either.
 */
#include <stdlib.h>
#include "arch/arch.h"
#include "base/rng.h"
#include "num/array.h"
#include "t_graph.h"

#define LLAMA "tests/data/llama-kjv-e"
enum { SEED = 5 };

/* Draws sequences; the first token of sequence i is i mod `starts`. */
static int32_t *generate(tf_env *env, const tf_view *view, int64_t n, int64_t length, int64_t starts)
{
    int32_t *ids = calloc((size_t)(n * length), sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i * length] = (int32_t)(i % starts);
    t_ok(env, tf_generate_run(env, view, SEED, &(tf_generate){n, length, ids, length, 0, 1}));
    return ids;
}

static float *logits_of(tf_env *env, const tf_view *view, const tfuse_array *array, int64_t *classes)
{
    tf_inputs in;
    tf_evaluator *ev = NULL;
    t_ok(env, tf_inputs_make(env, view->g, view->m, array, 0, &in));
    t_ok(env, tf_evaluator_new(env, view, NULL, 0, &ev));
    t_ok(env, tf_evaluator_prepare(env, ev, &in));
    const int64_t size = tf_evaluator_size(ev, view->g->output);
    float *out = calloc((size_t)(in.n * size), sizeof *out);
    t_ok(env, tf_evaluator_run(env, ev, &in, 0, in.n, NULL, out));
    *classes = size / in.sample;
    tf_evaluator_free(ev);
    return out;
}

/* Asserts that u lies in the id's share of the cumulated probabilities. */
static void check_share(const float *x, int64_t classes, int32_t id, double u)
{
    double sum = 0, before = 0;
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)x[c]);
    for (int32_t c = 0; c < id; c++)
        before += exp((double)x[c]) / sum;
    ck_assert_double_ge(u, before - 1e-4);
    ck_assert_double_le(u, before + exp((double)x[id]) / sum + 1e-4);
}

static void check_drawn(tf_env *env, const tf_view *view, int64_t n, int64_t length, int64_t starts)
{
    const int64_t shape[2] = {n, length};
    tfuse_array *array = NULL;
    int64_t classes;
    const tf_rng rng = tf_rng_make(SEED, "calib.generate");
    int32_t *ids = generate(env, view, n, length, starts);
    t_ok(env, tf_array_wrap(env, TFUSE_I32, 2, shape, ids, NULL, NULL, &array));
    float *x = logits_of(env, view, array, &classes);
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = 1; t < length; t++)
            check_share(x + (i * length + t - 1) * classes, classes, ids[i * length + t],
                        (double)(tf_rng_at(&rng, (uint64_t)i << 32 | (uint64_t)t) >> 11) * 0x1p-53);
    tf_array_free(array);
    free(x);
    free(ids);
}

typedef struct fix {
    tf_env *env;
    tfuse_model *m;
    tf_graph *g;
    tf_view *view;
} fix;

static fix open_llama(uint32_t threads)
{
    fix f = {.env = t_env(threads)};
    t_ok(f.env, tf_model_open(f.env, LLAMA, 0, &f.m));
    t_ok(f.env, tf_graph_build(f.env, f.m, false, &f.g));
    t_ok(f.env, tf_view_root(f.env, f.g, f.m, &f.view));
    return f;
}

static void close_fix(fix *f)
{
    tf_view_free(f->view);
    tf_graph_free(f->g);
    tf_model_free(f->m);
    t_env_free(f->env);
}

START_TEST(test_trained)
{
    fix f = open_llama(2);
    check_drawn(f.env, f.view, 18, 20, 512);
    close_fix(&f);
}
END_TEST

/* Positions from a table, a window of three, groups of queries. */
static const t_node small[] = {{"input", "ids", "", "kind=tokens"},
                               {"embedding", "e", "ids", "rows=!/vocabulary:12 of=s:8"},
                               {"positions", "p", "ids", "rows=!/places:10 of=s:8"},
                               {"add", "x", "e p", ""},
                               {"linear", "q", "x", "out=h:2*g:2*k:4"},
                               {"linear", "k", "x", "out=h:2*k:4"},
                               {"linear", "v", "x", "out=h:2*v:4"},
                               {"attention", "a", "q k v", "causal=1 window=3 rope=1"},
                               {"linear", "o", "a", "out=s:8"},
                               {"add", "z", "x o", ""},
                               {"linear", "y", "z", "out=!/vocabulary:12"}};

START_TEST(test_positions_and_window)
{
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, small, TF_LEN(small), "y");
    t_model m = t_random_model(env, g, 3);
    tf_view *view = NULL;
    t_ok(env, tf_view_root(env, g, m.m, &view));
    ck_assert(tf_graph_is_causal(g));
    check_drawn(env, view, 40, 10, 12);
    int32_t ids[11] = {0};
    t_fails(env, tf_generate_run(env, view, SEED, &(tf_generate){1, 11, ids, 11, 0, 1}), TFUSE_ERANGE, "positions for 10");
    t_data(&m, g, "y.weight")[0] = 1e38f;
    t_data(&m, g, "o.weight")[0] = 1e38f;
    t_fails(env, tf_generate_run(env, view, SEED, &(tf_generate){1, 10, ids, 10, 0, 1}), TFUSE_ENUMERIC, "NaN or infinite");
    tf_view_free(view);
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_threads_and_number)
{
    fix one = open_llama(1), three = open_llama(3);
    int32_t *a = generate(one.env, one.view, 50, 12, 512), *b = generate(three.env, three.view, 50, 12, 512);
    int32_t *c = generate(three.env, three.view, 7, 12, 512);
    ck_assert_mem_eq(a, b, 50 * 12 * sizeof *a);
    ck_assert_mem_eq(a, c, 7 * 12 * sizeof *a);
    free(a);
    free(b);
    free(c);
    close_fix(&one);
    close_fix(&three);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("generate");
    T_ADD(test_trained);
    T_ADD(test_positions_and_window);
    T_ADD(test_threads_and_number);
    return t_suite;
}
