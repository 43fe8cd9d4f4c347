/* SPDX-License-Identifier: Apache-2.0
 *
 * Values fed by a host: two and three trained vision transformers, whose values the evaluator computes and the test hands over, give the plan
 * that calibration inputs give; what must be refused.
 */
#include "t_pair.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "num/num.h"
#include "run/lockstep.h"

enum { SAMPLES = 40 };

static tf_align_job job_of(const t_pair *p, tf_feed *feed)
{
    return (tf_align_job){.policy = p->policy, .solvers = &p->solvers, .models = (const tfuse_model *const *)p->models, .graphs = p->graphs,
                          .n = p->n, .fed = true, .feed = feed};
}

static tf_feed *new_feed(const t_pair *p)
{
    const tf_align_job job = job_of(p, NULL);
    tf_feed *feed = NULL;
    t_ok(p->env, tf_align_feed(p->env, &job, &feed));
    return feed;
}

/* Samples first..first+count-1 of a model's slots, as the evaluator sees them: batch, one a slot of the feed, gets those that `only` (-1: all) picks. */
static void take_values(const t_pair *p, const tf_feed *feed, size_t model, int64_t only, int64_t first, int64_t count, tfuse_array **batch)
{
    const size_t most = tf_feed_count(feed);
    tf_id *values = calloc(most + 1, sizeof *values);
    float **dst = calloc(most + 1, sizeof *dst);
    tf_view *view = NULL;
    tf_evaluator *ev = NULL;
    tf_inputs in;
    size_t n = 0;
    for (size_t i = 0; i < most; i++)
        if (tf_feed_at(feed, i)->model == model && (only < 0 || (size_t)only == i))
            values[n++] = tf_feed_at(feed, i)->value;
    t_ok(p->env, tf_view_root(p->env, p->graphs[model], p->models[model], &view));
    t_ok(p->env, tf_inputs_make(p->env, p->graphs[model], p->models[model], p->images, SAMPLES, &in));
    t_ok(p->env, tf_evaluator_new(p->env, view, values, n, &ev));
    n = 0;
    for (size_t i = 0; i < most; i++) {
        const tf_feed_slot *slot = tf_feed_at(feed, i);
        if (slot->model != model || (only >= 0 && (size_t)only != i))
            continue;
        const int64_t shape[] = {count, tf_evaluator_size(ev, slot->value) / slot->units, slot->units};
        t_ok(p->env, tf_array_new(p->env, TFUSE_F32, 3, shape, &batch[i]));
        dst[n++] = batch[i]->data;
    }
    t_ok(p->env, tf_evaluator_run(p->env, ev, &in, first, count, dst, NULL));
    tf_evaluator_free(ev);
    tf_view_free(view);
    free(values);
    free(dst);
}

static tfuse_array *values_of(const t_pair *p, const tf_feed *feed, size_t slot, int64_t first, int64_t count)
{
    tfuse_array **batch = calloc(tf_feed_count(feed), sizeof *batch);
    take_values(p, feed, tf_feed_at(feed, slot)->model, (int64_t)slot, first, count, batch);
    tfuse_array *out = batch[slot];
    free(batch);
    return out;
}

static void feed_one(const t_pair *p, tf_feed *feed, size_t slot, tfuse_array *batch)
{
    t_ok(p->env, tf_feed_value(p->env, feed, tf_feed_at(feed, slot)->model, tf_feed_name(feed, slot), batch));
    tf_array_free(batch);
}

static void feed_slot(const t_pair *p, tf_feed *feed, size_t i, int64_t first, int64_t count)
{
    feed_one(p, feed, i, values_of(p, feed, i, first, count));
}

/* All slots: each model runs once. */
static void feed_batch(const t_pair *p, tf_feed *feed, int64_t first, int64_t count)
{
    tfuse_array **batch = calloc(tf_feed_count(feed), sizeof *batch);
    for (size_t k = 0; k < p->n; k++)
        take_values(p, feed, k, -1, first, count, batch);
    for (size_t i = 0; i < tf_feed_count(feed); i++)
        feed_one(p, feed, i, batch[i]);
    free(batch);
}

/* Unequal batches, since a host's last one is rarely whole. */
static void sweep(const t_pair *p, tf_feed *feed)
{
    static const int64_t sizes[] = {7, 16, 1, 16};
    int64_t at = 0;
    for (size_t b = 0; b < TF_LEN(sizes); at += sizes[b++]) {
        feed_batch(p, feed, at, sizes[b]);
        t_ok(p->env, tf_feed_step(p->env, feed));
    }
    ck_assert_int_eq(at, SAMPLES);
}

static void feed_all(const t_pair *p, tf_feed *feed)
{
    sweep(p, feed);
    if (!tf_feed_two_sweeps(feed))
        return;
    t_ok(p->env, tf_feed_rewind(p->env, feed));
    sweep(p, feed);
}

/* Largest difference between two plans' matrices, row by row. */
static double plan_diff(const tfuse_plan *x, const tfuse_plan *y)
{
    double worst = 0;
    ck_assert_uint_eq(x->n_maps, y->n_maps);
    ck_assert_uint_eq(x->n_entries, y->n_entries);
    for (size_t i = 0; i < x->n_maps; i++) {
        const tf_map *a = x->maps[i].map, *b = y->maps[i].map;
        ck_assert_str_eq(x->maps[i].name, y->maps[i].name);
        ck_assert(a->n == b->n && a->m == b->m);
        float *dense = calloc((size_t)(2 * a->n * a->m), sizeof *dense);
        tf_map_matrix(a, dense);
        tf_map_matrix(b, dense + a->n * a->m);
        const double d = t_max_diff(dense, dense + a->n * a->m, (size_t)(a->n * a->m));
        worst = d > worst ? d : worst;
        free(dense);
    }
    return worst;
}

/* Batches differ, and with them which rows are multiplied together in float32: about 1e-7 in moments and costs; a soft coupling of regulariser 0.05
 * amplifies that by 1 / 0.05, layer after layer where a residual is a product of couplings, an exact one not at all. */
static void check_same_plan(t_pair *p, double tolerance)
{
    t_ok(p->env, t_pair_align(p, true));
    tf_feed *feed = new_feed(p);
    feed_all(p, feed);
    const tf_align_job job = job_of(p, feed);
    for (int again = 0; again < 2; again++) {
        tfuse_plan *plan = NULL;
        t_ok(p->env, tf_align(p->env, &job, &plan));
        ck_assert_double_le(plan_diff(p->plan, plan), tolerance);
        tf_plan_free(plan);
    }
    tf_feed_free(feed);
}

START_TEST(test_exact)
{
    t_pair p;
    t_pair_open(&p, "ba");
    check_same_plan(&p, 0);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_three_models)
{
    t_pair p;
    t_pair_open(&p, "bab");
    t_pair_set(&p, "solver.name", "sinkhorn");
    t_pair_set(&p, "solver.reg", "0.05");
    t_pair_set(&p, "otfusion.residual", "matrix");
    t_pair_set(&p, "otfusion.tokens", "window3");
    check_same_plan(&p, 5e-4);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_two_sweeps)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "solver.name", "sinkhorn");
    t_pair_set(&p, "solver.reg", "0.05");
    t_pair_set(&p, "otfusion.compat", "1");
    t_pair_set(&p, "otfusion.residual", "scalar");
    tf_feed *feed = new_feed(&p);
    ck_assert(tf_feed_two_sweeps(feed));
    tf_feed_free(feed);
    check_same_plan(&p, 1e-4);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_weights_want_nothing)
{
    t_pair p;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "otfusion.cost", "weights");
    tf_feed *feed = new_feed(&p);
    ck_assert_uint_eq(tf_feed_count(feed), 0);
    t_ok(p.env, t_pair_align(&p, false));
    const tf_align_job job = job_of(&p, feed);
    tfuse_plan *plan = NULL;
    t_ok(p.env, tf_align(p.env, &job, &plan));
    ck_assert_double_eq(plan_diff(p.plan, plan), 0);
    tf_plan_free(plan);
    tf_feed_free(feed);
    t_pair_close(&p);
}
END_TEST

static tfuse_array *zeros(const t_pair *p, tfuse_dtype dtype, size_t rank, const int64_t *shape)
{
    tfuse_array *a = NULL;
    t_ok(p->env, tf_array_new(p->env, dtype, rank, shape, &a));
    return a;
}

static void refuse(const t_pair *p, tf_feed *feed, size_t model, const char *value, tfuse_array *batch, tfuse_status want, const char *piece)
{
    t_fails(p->env, tf_feed_value(p->env, feed, model, value, batch), want, piece);
    tf_array_free(batch);
}

START_TEST(test_refused)
{
    t_pair p;
    t_pair_open(&p, "ba");
    tf_feed *feed = new_feed(&p);
    const tf_feed_slot *slot = tf_feed_at(feed, 0);
    const char *name = tf_feed_name(feed, 0);
    const int64_t good[] = {2, slot->tokens, slot->units}, wide[] = {2, slot->tokens, slot->units + 1}, flat[] = {slot->units},
                  none[] = {0, slot->tokens, slot->units};
    ck_assert_uint_eq(slot->model, 0);
    refuse(&p, feed, 0, "nonsense", zeros(&p, TFUSE_F32, 3, good), TFUSE_ENOTFOUND, "nonsense");
    refuse(&p, feed, 2, name, zeros(&p, TFUSE_F32, 3, good), TFUSE_ERANGE, "index 2");
    refuse(&p, feed, 0, name, zeros(&p, TFUSE_F32, 3, wide), TFUSE_ESHAPE, name);
    refuse(&p, feed, 0, name, zeros(&p, TFUSE_F32, 1, flat), TFUSE_ESHAPE, name);
    refuse(&p, feed, 0, name, zeros(&p, TFUSE_F32, 3, none), TFUSE_ESHAPE, name);
    refuse(&p, feed, 0, name, zeros(&p, TFUSE_I64, 3, good), TFUSE_EDTYPE, name);
    t_fails(p.env, tf_feed_step(p.env, feed), TFUSE_ESTATE, "has not been fed");
    t_fails(p.env, tf_feed_rewind(p.env, feed), TFUSE_ESTATE, "no values");
    feed_slot(&p, feed, 0, 0, 2);
    refuse(&p, feed, 0, name, zeros(&p, TFUSE_F32, 3, good), TFUSE_ESTATE, "fed already");
    for (size_t i = 1; i + 1 < tf_feed_count(feed); i++)
        feed_slot(&p, feed, i, 0, 2);
    t_fails(p.env, tf_feed_step(p.env, feed), TFUSE_ESTATE, tf_feed_name(feed, tf_feed_count(feed) - 1));
    feed_slot(&p, feed, tf_feed_count(feed) - 1, 0, 3);
    t_fails(p.env, tf_feed_step(p.env, feed), TFUSE_ESHAPE, "has 3 samples");
    tf_feed_free(feed);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_stages)
{
    t_pair p;
    t_pair_open(&p, "ba");
    tf_feed *feed = new_feed(&p);
    const tf_align_job job = job_of(&p, feed);
    tfuse_plan *plan = NULL;
    t_fails(p.env, tf_align(p.env, &job, &plan), TFUSE_ESTATE, "no values have been fed");
    feed_all(&p, feed);
    t_fails(p.env, tf_feed_rewind(p.env, feed), TFUSE_ESTATE, "no further sweep");
    feed_slot(&p, feed, 1, 0, 2);
    t_fails(p.env, tf_align(p.env, &job, &plan), TFUSE_ESTATE, "after the last step");
    tf_feed_free(feed);
    t_pair_set(&p, "otfusion.compat", "1");
    t_pair_set(&p, "otfusion.residual", "scalar");
    feed = new_feed(&p);
    const tf_align_job two = job_of(&p, feed);
    sweep(&p, feed);
    t_fails(p.env, tf_align(p.env, &two, &plan), TFUSE_ESTATE, "rewind");
    t_ok(p.env, tf_feed_rewind(p.env, feed));
    for (size_t i = 0; i < tf_feed_count(feed); i++)
        feed_slot(&p, feed, i, 0, 2);
    t_ok(p.env, tf_feed_step(p.env, feed));
    t_fails(p.env, tf_align(p.env, &two, &plan), TFUSE_ESTATE, "second sweep fed 2");
    tf_feed_free(feed);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_another_policy)
{
    t_pair p;
    t_pair_open(&p, "ba");
    tf_feed *feed = new_feed(&p);
    const tf_align_job job = job_of(&p, feed);
    tfuse_plan *plan = NULL;
    feed_all(&p, feed);
    t_pair_set(&p, "otfusion.tokens", "class");
    t_fails(p.env, tf_align(p.env, &job, &plan), TFUSE_ESTATE, "other tokens");
    t_pair_set(&p, "otfusion.tokens", "all");
    t_pair_set(&p, "otfusion.residual", "scalar");
    t_fails(p.env, tf_align(p.env, &job, &plan), TFUSE_ESTATE, "lack");
    t_pair_set(&p, "otfusion.residual", "mean");
    t_ok(p.env, tf_align(p.env, &job, &plan));
    tf_plan_free(plan);
    tfuse_array *batch = values_of(&p, feed, 0, 0, 2);
    t_fails(p.env, tf_feed_value(p.env, feed, 0, tf_feed_name(feed, 0), batch), TFUSE_ESTATE, "take no more");
    tf_array_free(batch);
    tf_feed_free(feed);
    t_pair_close(&p);
}
END_TEST

START_TEST(test_not_finite)
{
    t_pair p;
    t_pair_open(&p, "ba");
    tf_feed *feed = new_feed(&p);
    for (size_t i = 0; i < tf_feed_count(feed); i++) {
        tfuse_array *batch = values_of(&p, feed, i, 0, 2);
        if (i + 1 == tf_feed_count(feed))
            ((float *)batch->data)[1] = NAN;
        t_ok(p.env, tf_feed_value(p.env, feed, tf_feed_at(feed, i)->model, tf_feed_name(feed, i), batch));
        tf_array_free(batch);
    }
    t_fails(p.env, tf_feed_step(p.env, feed), TFUSE_ENUMERIC, tf_feed_name(feed, tf_feed_count(feed) - 1));
    t_fails(p.env, tf_feed_step(p.env, feed), TFUSE_ESTATE, "begin anew");
    tf_feed_free(feed);
    t_pair_close(&p);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("feed");
    T_ADD(test_exact);
    T_ADD(test_three_models);
    T_ADD(test_two_sweeps);
    T_ADD(test_weights_want_nothing);
    T_ADD(test_refused);
    T_ADD(test_stages);
    T_ADD(test_another_policy);
    T_ADD(test_not_finite);
    return t_suite;
}
