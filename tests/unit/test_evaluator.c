/* SPDX-License-Identifier: Apache-2.0
 *
 * The evaluator on a trained vision transformer and on small graphs: logits against stored ones, equal bits for any number of threads and
 * any batch, kept values, sequence lengths known when it runs, cancellation.
 */
#include "t.h"
#include <math.h>
#include <stdlib.h>
#include "arch/arch.h"
#include "io/io.h"
#include "run/run.h"

#define IMAGES "tests/data/parity/images_n40.npy"
#define VIT "tests/data/vit-fmnist-a"

typedef struct fix {
    tf_env *env;
    tfuse_model *m;
    tf_graph *g;
    tf_view *view;
    tfuse_array *images;
    tf_inputs in;
} fix;

static fix open_vit(uint32_t threads)
{
    fix f = {.env = t_env(threads)};
    t_ok(f.env, tf_model_open(f.env, VIT, 0, &f.m));
    t_ok(f.env, tf_graph_build(f.env, f.m, false, &f.g));
    t_ok(f.env, tf_view_root(f.env, f.g, f.m, &f.view));
    t_ok(f.env, tf_array_open(f.env, IMAGES, &f.images));
    t_ok(f.env, tf_inputs_make(f.env, f.g, f.m, f.images, 0, &f.in));
    return f;
}

static void close_fix(fix *f)
{
    tf_array_free(f->images);
    tf_view_free(f->view);
    tf_graph_free(f->g);
    tf_model_free(f->m);
    t_env_free(f->env);
}

/* A value in the middle: the input of the last node but a few. */
static tf_id middle(const tf_graph *g)
{
    return g->nodes[g->n_nodes / 2].outputs[0];
}

/* Written by a PyTorch implementation of Hugging Face's ViT for images 0 and 39. */
static const float reference[2][10] = {
    {-1.8475602f, -3.4738774f, 2.517365f, -2.8962314f, 5.5571136f, -3.5547957f, 4.954031f, -3.6677852f, -2.6801996f, -1.5619074f},
    {-0.1605995f, -0.2516978f, -0.6424013f, -0.8972551f, 0.4879771f, -0.86121f, -1.7059036f, -1.3406333f, 8.906733f, -2.8287437f}};

/* Tolerance: float32 rounding through four layers, about 1e-5 on logits of size 9. */
START_TEST(test_logits)
{
    fix f = open_vit(1);
    tf_evaluator *ev = NULL;
    float logits[400];
    t_ok(f.env, tf_evaluator_new(f.env, f.view, NULL, 0, &ev));
    ck_assert_int_eq(tf_evaluator_size(ev, f.g->output), 10);
    ck_assert_uint_eq(tf_evaluator_bytes_per_sample(ev), 40);
    t_ok(f.env, tf_evaluator_run(f.env, ev, &f.in, 0, 40, NULL, logits));
    ck_assert_double_le(t_max_diff(logits, reference[0], 10), 1e-4);
    ck_assert_double_le(t_max_diff(logits + 390, reference[1], 10), 1e-4);
    tf_evaluator_free(ev);
    close_fix(&f);
}
END_TEST

/* Logits and a kept value of all images, `step` at a time. */
static void run_in_steps(uint32_t threads, int64_t step, float *logits, float **kept, int64_t *size)
{
    fix f = open_vit(threads);
    tf_evaluator *ev = NULL;
    const tf_id keep = middle(f.g);
    t_ok(f.env, tf_evaluator_new(f.env, f.view, &keep, 1, &ev));
    *size = tf_evaluator_size(ev, keep);
    *kept = calloc((size_t)(40 * *size), sizeof(float));
    for (int64_t at = 0; at < 40; at += step) {
        float *dst = *kept + at * *size;
        t_ok(f.env, tf_evaluator_run(f.env, ev, &f.in, at, at + step < 40 ? step : 40 - at, &dst, logits + at * 10));
    }
    tf_evaluator_free(ev);
    close_fix(&f);
}

START_TEST(test_same_bits)
{
    const struct {
        uint32_t threads;
        int64_t step;
    } cases[] = {{2, 40}, {7, 40}, {1, 1}, {2, 7}, {1, 16}};
    float want[400], got[400], *kept, *other;
    int64_t size, other_size;
    run_in_steps(1, 40, want, &kept, &size);
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        run_in_steps(cases[i].threads, cases[i].step, got, &other, &other_size);
        ck_assert_int_eq(size, other_size);
        ck_assert_msg(!memcmp(want, got, sizeof want), "logits differ in case %zu", i);
        ck_assert_msg(!memcmp(kept, other, (size_t)(40 * size) * sizeof *kept), "values differ in case %zu", i);
        free(other);
    }
    free(kept);
}
END_TEST

/* A value kept twice, the output and the input kept, a buffer not wanted; values of a run that stops at other samples. */
START_TEST(test_kept)
{
    fix f = open_vit(2);
    tf_evaluator *ev = NULL;
    const tf_id keep[] = {f.g->output, middle(f.g), f.g->inputs[0], f.g->output};
    float out[50], first[50], last[50], *pixels = calloc(5 * 784, sizeof *pixels), *want = calloc(5 * 784, sizeof *want);
    float *dst[] = {first, NULL, pixels, last};
    t_ok(f.env, tf_evaluator_new(f.env, f.view, keep, 4, &ev));
    t_ok(f.env, tf_evaluator_run(f.env, ev, &f.in, 30, 5, dst, out));
    tf_inputs_fill(&f.in, 0, 30, 5, want);
    ck_assert_mem_eq(out, first, sizeof out);
    ck_assert_mem_eq(out, last, sizeof out);
    ck_assert_mem_eq(pixels, want, 5 * 784 * sizeof *want);
    t_ok(f.env, tf_evaluator_run(f.env, ev, &f.in, 30, 0, dst, out));
    free(pixels);
    free(want);
    tf_evaluator_free(ev);
    close_fix(&f);
}
END_TEST

START_TEST(test_batch_size)
{
    fix f = open_vit(1);
    tf_evaluator *ev = NULL;
    t_ok(f.env, tf_evaluator_new(f.env, f.view, NULL, 0, &ev));
    const int64_t shard = tf_evaluator_shard(ev);
    ck_assert_int_ge(shard, 2);
    ck_assert_int_le(shard, 16);
    ck_assert_int_eq(tf_batch_size(ev, 1000, 0), 1);
    ck_assert_int_eq(tf_batch_size(ev, 1000, 40), 1);
    ck_assert_int_eq(tf_batch_size(ev, 1000, (size_t)(3 * shard + 1) * 40), 3 * shard);
    ck_assert_int_eq(tf_batch_size(ev, 1000, 1 << 20), 1000);
    tf_evaluator_free(ev);
    close_fix(&f);
}
END_TEST

START_TEST(test_cancelled)
{
    fix f = open_vit(2);
    tf_evaluator *ev = NULL;
    float logits[400];
    t_ok(f.env, tf_evaluator_new(f.env, f.view, NULL, 0, &ev));
    atomic_store(&f.env->cancelled, 1);
    ck_assert_int_eq(tf_evaluator_run(f.env, ev, &f.in, 0, 40, NULL, logits), TFUSE_ECANCELLED);
    tf_evaluator_free(ev);
    close_fix(&f);
}
END_TEST

/* ---- a graph by hand: ids -> embedding -> linear, of any length ---- */

static const float table[5][2] = {{0, 0}, {1, 2}, {-1, 0.5f}, {3, 3}, {0.25f, -4}};
static const float weight[3][2] = {{1, 0}, {0, 1}, {2, -1}};

static void add_tensor(tf_env *env, tfuse_model *m, const char *name, int64_t rows, int64_t cols, const float *data)
{
    const tf_tensor t = {.name = name, .dtype = TFUSE_F32, .rank = 2, .shape = {rows, cols}, .data = (const uint8_t *)data,
                         .size = (uint64_t)(rows * cols) * sizeof *data, .count = (uint64_t)(rows * cols), .file = -1};
    t_ok(env, tf_model_add(env, m, &t));
}

static void check_length(tf_env *env, tf_evaluator *ev, const tf_graph *g, const tfuse_model *m, int64_t length)
{
    int32_t ids[12];
    for (int i = 0; i < 12; i++)
        ids[i] = (i * 7 + 1) % 5;
    const int64_t shape[] = {12 / length, length};
    tfuse_array *a = NULL;
    tf_inputs in;
    float out[36];
    t_ok(env, tf_array_wrap(env, TFUSE_I32, 2, shape, ids, NULL, NULL, &a));
    t_ok(env, tf_inputs_make(env, g, m, a, 0, &in));
    t_ok(env, tf_evaluator_run(env, ev, &in, 0, in.n, NULL, out));
    ck_assert_int_eq(tf_evaluator_size(ev, g->output), 3 * length);
    for (int i = 0; i < 12; i++)
        for (int u = 0; u < 3; u++) /* exact: small multiples of 1/4 */
            ck_assert(out[i * 3 + u] == table[ids[i]][0] * weight[u][0] + table[ids[i]][1] * weight[u][1]);
    tf_array_free(a);
}

START_TEST(test_lengths)
{
    tf_env *env = t_env(2);
    tf_graph *g = NULL;
    tfuse_model *m = NULL;
    tf_view *view = NULL;
    tf_evaluator *ev = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "ids", "", "kind=tokens"));
    t_ok(env, tf_graph_add(env, g, "embedding", "table", "ids", "rows=!vocab:5 of=stream:2"));
    t_ok(env, tf_graph_add(env, g, "linear", "head", "table", "out=!classes:3 bias=0"));
    t_ok(env, tf_graph_output(env, g, "head"));
    t_ok(env, tf_graph_finish(env, g));
    t_ok(env, tf_model_new(env, NULL, &m));
    add_tensor(env, m, "table.weight", 5, 2, table[0]);
    add_tensor(env, m, "head.weight", 3, 2, weight[0]);
    t_ok(env, tf_model_seal(env, m));
    t_ok(env, tf_view_root(env, g, m, &view));
    t_ok(env, tf_evaluator_new(env, view, NULL, 0, &ev));
    const int64_t lengths[] = {3, 12, 1, 3};
    for (size_t i = 0; i < TF_LEN(lengths); i++)
        check_length(env, ev, g, m, lengths[i]);
    tf_evaluator_free(ev);
    tf_view_free(view);
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* A tensor that is not finite is refused, also where it would have been used in place. */
START_TEST(test_nan_weight)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    tfuse_model *m = NULL;
    tf_view *view = NULL;
    tf_evaluator *ev = NULL;
    const float bad[] = {1, 2, NAN, 4};
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=2"));
    t_ok(env, tf_graph_add(env, g, "linear", "head", "x", "out=!classes:2 bias=0"));
    t_ok(env, tf_graph_output(env, g, "head"));
    t_ok(env, tf_graph_finish(env, g));
    t_ok(env, tf_model_new(env, NULL, &m));
    add_tensor(env, m, "head.weight", 2, 2, bad);
    t_ok(env, tf_model_seal(env, m));
    t_ok(env, tf_view_root(env, g, m, &view));
    t_fails(env, tf_evaluator_new(env, view, NULL, 0, &ev), TFUSE_ENUMERIC, "head.weight");
    ck_assert_ptr_null(ev);
    tf_view_free(view);
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("evaluator");
    T_ADD(test_logits);
    T_ADD(test_same_bits);
    T_ADD(test_kept);
    T_ADD(test_batch_size);
    T_ADD(test_cancelled);
    T_ADD(test_lengths);
    T_ADD(test_nan_weight);
    return t_suite;
}
