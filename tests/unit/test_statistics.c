/* SPDX-License-Identifier: Apache-2.0
 *
 * Statistics of two trained vision transformers against two passes in float64 over the same activations, with and without token
 * filters; the number of threads; what is refused; every allocation failing once.
 */
#include "t.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "arch/arch.h"
#include "io/io.h"
#include "run/run.h"

#define IMAGES "tests/data/parity/images_n40.npy"

typedef struct net {
    tfuse_model *m;
    tf_graph *g;
    tf_view *view;
} net;

typedef struct fix {
    tf_env *env;
    net net[2]; /* anchor, model */
    tfuse_array *images;
} fix;

static void open_net(tf_env *env, const char *path, net *out)
{
    t_ok(env, tf_model_open(env, path, 0, &out->m));
    t_ok(env, tf_graph_build(env, out->m, false, &out->g));
    t_ok(env, tf_view_root(env, out->g, out->m, &out->view));
}

static void close_net(net *n)
{
    tf_view_free(n->view);
    tf_graph_free(n->g);
    tf_model_free(n->m);
}

static fix open_pair(uint32_t threads)
{
    fix f = {.env = t_env(threads)};
    open_net(f.env, "tests/data/vit-fmnist-b", &f.net[0]);
    open_net(f.env, "tests/data/vit-fmnist-a", &f.net[1]);
    t_ok(f.env, tf_array_open(f.env, IMAGES, &f.images));
    return f;
}

static void close_pair(fix *f)
{
    tf_array_free(f->images);
    close_net(&f->net[0]);
    close_net(&f->net[1]);
    t_env_free(f->env);
}

/* ---- the same by two passes -------------------------------------------------------------------------------------------- */

typedef struct rows {
    double *x; /* rows × units */
    int64_t n, units;
} rows;

static rows collect(const fix *f, const net *of, const char *name, const tf_token_filter *filter, bool whole, int64_t samples)
{
    tf_evaluator *ev = NULL;
    tf_inputs in;
    bool *only = NULL;
    int64_t *keep = NULL, kept;
    const tf_id value = tf_graph_find_value(of->g, name);
    t_ok(f->env, tf_value_class_only(f->env, of->g, &only));
    t_ok(f->env, tf_token_positions(f->env, of->g, value, filter, only[value] && !whole, &keep, &kept));
    t_ok(f->env, tf_inputs_make(f->env, of->g, of->m, f->images, samples, &in));
    t_ok(f->env, tf_evaluator_new(f->env, of->view, &value, 1, &ev));
    const tf_value *v = &of->g->values[value];
    const int64_t size = tf_evaluator_size(ev, value), units = v->extent[v->rank - 1];
    float *raw = calloc((size_t)(samples * size), sizeof *raw);
    t_ok(f->env, tf_evaluator_run(f->env, ev, &in, 0, samples, &raw, NULL));
    rows r = {calloc((size_t)(samples * kept * units), sizeof(double)), samples * kept, units};
    for (int64_t i = 0; i < r.n; i++)
        for (int64_t j = 0; j < units; j++)
            r.x[i * units + j] = raw[i / kept * size + keep[i % kept] * units + j];
    free(raw);
    tf_evaluator_free(ev);
    tf_free(&f->env->mem, only);
    tf_free(&f->env->mem, keep);
    return r;
}

/* Products are summed in float32 over chunks of rows: by chance about sqrt(rows) 2^-24 of the sum of their sizes, the square root of which is 23; five
 * times that. */
#define PRODUCTS 7e-6

/* Centres r; the moments must agree to rounding: sums of at most 2000 terms in float64. */
static void check_moments(const char *name, rows *r, const tf_moments *m, bool dev)
{
    ck_assert_msg(m->rows == r->n && m->units == r->units, "%s: %lld rows", name, (long long)m->rows);
    for (int64_t j = 0; j < r->units; j++) {
        double mean = 0, var = 0, abs_mean = 0, abs_dev = 0, most = 0;
        for (int64_t i = 0; i < r->n; i++)
            mean += r->x[i * r->units + j] / (double)r->n;
        for (int64_t i = 0; i < r->n; i++) {
            double *x = &r->x[i * r->units + j];
            abs_mean += fabs(*x) / (double)r->n;
            most = fmax(most, fabs(*x));
            *x -= mean;
            abs_dev += fabs(*x) / (double)r->n;
            var += *x * *x / (double)(r->n - 1);
        }
        ck_assert_msg(fabs(m->mean[j] - mean) <= 1e-12 * most, "%s: mean of unit %lld", name, (long long)j);
        ck_assert_msg(fabs(m->var[j] - var) <= 1e-11 * most * most, "%s: variance of unit %lld", name, (long long)j);
        ck_assert_msg(fabs(m->abs_mean[j] - abs_mean) <= 1e-12 * most, "%s: mean |x| of unit %lld", name, (long long)j);
        ck_assert_msg(dev == (m->abs_dev != NULL), "%s: deviations", name);
        if (dev)
            ck_assert_msg(fabs(m->abs_dev[j] - abs_dev) <= 1e-12 * most, "%s: deviation of unit %lld", name, (long long)j);
    }
}

static void check_cross(const char *name, const rows *a, const rows *m, const double *cross)
{
    for (int64_t i = 0; i < m->units; i++)
        for (int64_t j = 0; j < a->units; j++) {
            double sum = 0, scale = 0;
            for (int64_t r = 0; r < a->n; r++) {
                const double p = m->x[r * m->units + i] * a->x[r * a->units + j];
                sum += p;
                scale += fabs(p);
            }
            ck_assert_msg(fabs(cross[i * a->units + j] - sum) <= PRODUCTS * scale + 1e-20, "%s: cross (%lld, %lld)", name,
                          (long long)i, (long long)j);
        }
}

/* A block's row of second moments is a part of the covariances of all units. */
static void check_self(const char *name, const rows *r, int64_t block, const double *self)
{
    for (int64_t i = 0; i < r->units; i++)
        for (int64_t j = 0; j < block; j++) {
            double sum = 0, scale = 0;
            for (int64_t row = 0; row < r->n; row++) {
                const double p = r->x[row * r->units + i] * r->x[row * r->units + i / block * block + j];
                sum += p;
                scale += fabs(p);
            }
            ck_assert_msg(fabs(self[i * block + j] - sum) <= PRODUCTS * scale + 1e-20, "%s: self (%lld, %lld)", name, (long long)i, (long long)j);
        }
}

static void check_request(const fix *f, const tf_stat_request *want, const tf_stat *got, const tf_token_filter *filter,
                          int64_t samples)
{
    rows a = collect(f, &f->net[0], want->value, filter, false, samples), m = collect(f, &f->net[1], want->value, filter, false, samples);
    check_moments(want->value, &a, &got->anchor, want->abs_dev);
    check_moments(want->value, &m, &got->model, want->abs_dev);
    ck_assert(want->cross == (got->cross != NULL));
    if (want->cross)
        check_cross(want->value, &a, &m, got->cross);
    for (int k = 0; k < 2; k++) {
        ck_assert((want->self[k] > 0) == (got->self[k] != NULL));
        if (want->self[k])
            check_self(want->value, k ? &m : &a, want->self[k], got->self[k]);
    }
    free(a.x);
    free(m.x);
}

static int64_t channels_of(const fix *f, size_t value)
{
    const tf_value *v = &f->net[1].g->values[tf_graph_find_value(f->net[1].g, f->net[0].g->values[value].name)];
    return v->extent[v->rank - 1] % 16 ? v->extent[v->rank - 1] : 16;
}

/* Every value but the input is asked for, so that a batch is less than all images; a sample of them is checked. */
static void check_filter(const char *text)
{
    fix f = open_pair(2);
    tf_token_filter filter;
    tf_stat_request want[256] = {{0}};
    tf_stats stats;
    size_t n = 0;
    t_ok(f.env, tf_token_filter_parse(f.env, text, &filter));
    for (size_t v = 0; v < f.net[0].g->n_values; v++, n++)
        want[n] = (tf_stat_request){.value = f.net[0].g->values[v].name, .cross = n % 5 == 0 || n + 6 > f.net[0].g->n_values,
                                    .abs_dev = n % 2 == 0, .self = {n % 10 == 0 ? 1 : 0, n % 15 == 0 ? channels_of(&f, v) : 0}};
    t_ok(f.env, tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 40, &filter, want, n, &stats));
    ck_assert_uint_eq(stats.n, n);
    for (size_t i = 0; i < n; i += 5)
        check_request(&f, &want[i], &stats.items[i], &filter, 40);
    for (size_t i = n - 5; i < n; i++)
        check_request(&f, &want[i], &stats.items[i], &filter, 40);
    tf_stats_free(&stats);
    close_pair(&f);
}

START_TEST(test_all_tokens)
{
    check_filter("all");
}
END_TEST

START_TEST(test_window)
{
    check_filter("window5");
}
END_TEST

START_TEST(test_class_token)
{
    check_filter("class");
}
END_TEST

/* Two shards of the three that 40 images are make up 900 rows of 50 tokens. */
START_TEST(test_enough_rows)
{
    fix f = open_pair(2);
    const tf_stat_request want[] = {{.value = "layer.1/fc1", .cross = true}, {.value = "layer.2/fc2", .abs_dev = true}};
    tf_token_filter filter = {.kind = TF_TOKENS_ALL};
    tf_stats stats;
    t_ok(f.env, tf_stats_enough(f.env, f.net[0].view, f.images, 40, want, TF_LEN(want), 900, &filter.samples));
    ck_assert_int_eq(filter.samples, 18);
    t_ok(f.env, tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 40, &filter, want, TF_LEN(want), &stats));
    for (size_t i = 0; i < TF_LEN(want); i++)
        check_request(&f, &want[i], &stats.items[i], &filter, stats.items[i].anchor.rows / 50);
    ck_assert_int_eq(stats.items[0].anchor.rows, 32 * 50);
    tf_stats_free(&stats);
    const struct {
        int64_t samples, rows, enough;
    } cases[] = {{40, 0, 0}, {40, 1, 1}, {40, 50, 1}, {40, 51, 2}, {40, 1950, 39}, {40, 1951, 0}, {18, 900, 0}, {19, 900, 18}};
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        int64_t got;
        t_ok(f.env, tf_stats_enough(f.env, f.net[0].view, f.images, cases[i].samples, want, TF_LEN(want), cases[i].rows, &got));
        ck_assert_msg(got == cases[i].enough, "case %zu: %lld samples", i, (long long)got);
    }
    close_pair(&f);
}
END_TEST

START_TEST(test_cut)
{
    const struct {
        int64_t bytes, shard, n, enough;
        tf_stats_batches cut;
    } cases[] = {
        {1000, 16, 600, 0, {600, 600, 1, 1}},        /* all at once */
        {1 << 20, 16, 600, 0, {64, 64, 10, 10}},     /* as many whole shards as fit */
        {200 << 20, 1, 256, 0, {2, 2, 128, 128}},    /* two do, though none fits */
        {200 << 20, 1, 256, 84, {2, 4, 64, 21}},
        {1000, 16, 600, 328, {64, 64, 10, 6}},       /* spread over all */
        {1 << 20, 32, 600, 328, {64, 128, 5, 3}},    /* a group in two batches: the samples of the next line */
        {1000, 32, 600, 328, {128, 128, 5, 3}},
        {1000, 16, 600, 1, {16, 16, 38, 1}},
        {1000, 16, 300, 328, {300, 300, 1, 1}},      /* there are no more */
        {1000, 16, 1, 0, {1, 1, 1, 1}},
        {0, 1, 3, 10, {2, 2, 2, 2}},
    };
    for (size_t i = 0; i < TF_LEN(cases); i++) {
        const tf_stats_batches got = tf_stats_cut((uint64_t)cases[i].bytes, cases[i].shard, cases[i].n, cases[i].enough), want = cases[i].cut;
        ck_assert_msg(got.samples == want.samples && got.group == want.group && got.all == want.all && got.wanted == want.wanted,
                      "case %zu: %lld samples, %lld of %lld groups of %lld", i, (long long)got.samples, (long long)got.wanted, (long long)got.all,
                      (long long)got.group);
    }
}
END_TEST

/* ---- rows that the reference implementation keeps ------------------------------------------------------------------------ */

START_TEST(test_rows)
{
    const struct {
        const char *value;
        int64_t rows;
    } cases[] = {{"embeddings/patch", 49}, {"layer.0/query", 26}, {"layer.2/fc2", 26}, {"layer.3/query", 26},
                 {"layer.3/key", 26}, {"layer.3/output", 1}, {"layer.3/fc1", 1}, {"layer.3/fc2", 1}};
    fix f = open_pair(1);
    const tf_token_filter filter = {.kind = TF_TOKENS_WINDOW, .window = 5};
    tf_stat_request want[TF_LEN(cases)] = {{0}};
    tf_stats stats;
    for (size_t i = 0; i < TF_LEN(cases); i++)
        want[i].value = cases[i].value;
    t_ok(f.env, tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 3, &filter, want, TF_LEN(want), &stats));
    for (size_t i = 0; i < TF_LEN(cases); i++)
        ck_assert_msg(stats.items[i].model.rows == 3 * cases[i].rows, "%s: %lld rows", cases[i].value,
                      (long long)stats.items[i].model.rows);
    tf_stats_free(&stats);
    close_pair(&f);
}
END_TEST

static void check_sum(const fix *f, const net *of, const tf_moments *sum, const tf_moments *mx, const tf_moments *my)
{
    const tf_token_filter filter = {.kind = TF_TOKENS_WINDOW, .window = 5};
    rows x = collect(f, of, "layer.3/residual1", &filter, true, 5), y = collect(f, of, "layer.3/fc2", &filter, true, 5);
    for (int64_t j = 0; j < x.units; j++) {
        double want = 0;
        for (int64_t i = 0; i < x.n; i++)
            want += fabs((x.x[i * x.units + j] - mx->mean[j]) / (sqrt(mx->var[j]) + 1e-9) +
                         (y.x[i * x.units + j] - my->mean[j]) / (sqrt(my->var[j]) + 1e-9)) / (double)x.n;
        ck_assert_double_eq_tol(sum->abs_dev[j], want, 1e-12 * want); /* rounding of 130 terms */
        ck_assert(sum->mean[j] == mx->mean[j]);
    }
    free(x.x);
    free(y.x);
}

/* Two standardised values added, at all kept tokens although only the class token counts. */
START_TEST(test_sum_of_two)
{
    fix f = open_pair(2);
    const tf_token_filter filter = {.kind = TF_TOKENS_WINDOW, .window = 5};
    const tf_stat_request want[] = {{"layer.3/residual1", false, true, "layer.3/fc2", true, {0}},
                                    {.value = "layer.3/residual1", .whole = true},
                                    {.value = "layer.3/fc2", .whole = true}};
    tf_stats s;
    t_ok(f.env, tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 5, &filter, want, 3, &s));
    ck_assert_uint_eq(s.n, 3);
    ck_assert_int_eq(s.items[0].anchor.rows, 5 * 26);
    check_sum(&f, &f.net[0], &s.items[0].anchor, &s.items[1].anchor, &s.items[2].anchor);
    check_sum(&f, &f.net[1], &s.items[0].model, &s.items[1].model, &s.items[2].model);
    tf_stats_free(&s);
    close_pair(&f);
}
END_TEST

/* ---- threads -------------------------------------------------------------------------------------------------------------- */

static const tf_stat_request some[] = {{"layer.1/query", true, true, NULL, false, {0}},
                                       {"layer.2/fc1", true, false, NULL, false, {0}},
                                       {"layer.3/fc1", true, true, NULL, false, {0}},
                                       {"embeddings", false, true, "layer.0/output", true, {0}}};

static void gather_some(uint32_t threads, double *out) /* 64*64 + 128 */
{
    fix f = open_pair(threads);
    const tf_token_filter filter = {.kind = TF_TOKENS_WINDOW, .window = 5};
    tf_stats stats;
    t_ok(f.env, tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 0, &filter, some, TF_LEN(some), &stats));
    memcpy(out, stats.items[0].cross, 64 * 64 * sizeof *out);
    memcpy(out + 64 * 64, stats.items[2].model.abs_dev, 128 * sizeof *out);
    tf_stats_free(&stats);
    close_pair(&f);
}

START_TEST(test_threads)
{
    static double one[64 * 64 + 128], more[64 * 64 + 128];
    gather_some(1, one);
    gather_some(2, more);
    ck_assert_mem_eq(one, more, sizeof one);
    gather_some(7, more);
    ck_assert_mem_eq(one, more, sizeof one);
}
END_TEST

/* ---- refused ---------------------------------------------------------------------------------------------------------------- */

/* images 1×4×4 -> patches (kernel k) -> head, all weights equal. */
static net small_net(tf_env *env, int64_t k, const float *weights)
{
    net n = {0};
    char attrs[64];
    snprintf(attrs, sizeof attrs, "kernel=%lld out=stream:2 bias=0", (long long)k);
    t_ok(env, tf_graph_new(env, "", &n.g));
    t_ok(env, tf_graph_add(env, n.g, "input", "pixels", "", "kind=image shape=1,4,4"));
    t_ok(env, tf_graph_add(env, n.g, "patchify", "patches", "pixels", attrs));
    t_ok(env, tf_graph_add(env, n.g, "linear", "head", "patches", "out=!classes:2 bias=0"));
    t_ok(env, tf_graph_output(env, n.g, "head"));
    t_ok(env, tf_graph_finish(env, n.g));
    t_ok(env, tf_model_new(env, NULL, &n.m));
    const tf_tensor patches = {.name = "patches.weight", .dtype = TFUSE_F32, .rank = 4, .shape = {2, 1, k, k},
                               .data = (const uint8_t *)weights, .size = (uint64_t)(8 * k * k), .count = (uint64_t)(2 * k * k), .file = -1};
    const tf_tensor head = {.name = "head.weight", .dtype = TFUSE_F32, .rank = 2, .shape = {2, 2},
                            .data = (const uint8_t *)weights, .size = 16, .count = 4, .file = -1};
    t_ok(env, tf_model_add(env, n.m, &patches));
    t_ok(env, tf_model_add(env, n.m, &head));
    t_ok(env, tf_model_seal(env, n.m));
    t_ok(env, tf_view_root(env, n.g, n.m, &n.view));
    return n;
}

START_TEST(test_refused)
{
    tf_env *env = t_env(1);
    float good[32], huge[32], pixels[32];
    for (int i = 0; i < 32; i++) {
        good[i] = 0.5f;
        huge[i] = 1e30f; /* finite after the patches, infinite after the head */
        pixels[i] = 1;
    }
    net a = small_net(env, 2, good), b = small_net(env, 2, huge), c = small_net(env, 4, good);
    const int64_t shape[] = {2, 4, 4};
    const tf_token_filter all = {.kind = TF_TOKENS_ALL};
    tfuse_array *calib = NULL;
    tf_stats s;
    t_ok(env, tf_array_wrap(env, TFUSE_F32, 3, shape, pixels, NULL, NULL, &calib));
    const tf_stat_request patches = {"patches", true, true, NULL, false, {0}}, head = {.value = "head"}, none = {.value = "nowhere"},
                          sum = {"patches", false, true, "pixels", false, {0}};
    t_ok(env, tf_stats_gather(env, a.view, b.view, calib, 0, &all, &patches, 1, &s));
    ck_assert_int_eq(s.items[0].model.rows, 8);
    ck_assert(s.items[0].anchor.mean[0] == 2 && s.items[0].anchor.var[0] == 0 && s.items[0].anchor.abs_dev[0] == 0);
    tf_stats_free(&s);
    t_fails(env, tf_stats_gather(env, a.view, b.view, calib, 0, &all, &head, 1, &s), TFUSE_ENUMERIC, "'head' of model");
    ck_assert_ptr_null(s.items);
    t_fails(env, tf_stats_gather(env, a.view, b.view, calib, 0, &all, &none, 1, &s), TFUSE_ENOTFOUND, "nowhere");
    t_fails(env, tf_stats_gather(env, a.view, c.view, calib, 0, &all, &patches, 1, &s), TFUSE_ESHAPE, "has 4 tokens");
    t_fails(env, tf_stats_gather(env, a.view, a.view, calib, 0, &all, &sum, 1, &s), TFUSE_ESHAPE, "cannot be added");
    tf_array_free(calib);
    close_net(&a);
    close_net(&b);
    close_net(&c);
    t_env_free(env);
}
END_TEST

/* ---- allocations ------------------------------------------------------------------------------------------------------------- */

typedef struct failing {
    tf_mem inner;
    int64_t left; /* allocations before one fails; negative: none does */
} failing;

static void *failing_alloc(void *user, size_t size, size_t align)
{
    failing *f = user;
    return f->left-- == 0 ? NULL : f->inner.alloc(f->inner.user, size, align);
}

static void failing_free(void *user, void *ptr, size_t size, size_t align)
{
    failing *f = user;
    f->inner.free(f->inner.user, ptr, size, align);
}

/* What is not given back after a failure makes t_env_free fail. */
START_TEST(test_every_allocation_fails_once)
{
    fix f = open_pair(1);
    const tf_token_filter filter = {.kind = TF_TOKENS_WINDOW, .window = 5};
    failing fail = {f.env->mem, -1};
    tf_stats stats;
    tfuse_status status = TFUSE_ENOMEM;
    int64_t k = 0;
    f.env->mem = (tf_mem){sizeof(tf_mem), &fail, failing_alloc, failing_free};
    for (; status == TFUSE_ENOMEM && k < 10000; k++) {
        fail.left = k;
        status = tf_stats_gather(f.env, f.net[0].view, f.net[1].view, f.images, 2, &filter, some, TF_LEN(some), &stats);
    }
    t_ok(f.env, status);
    ck_assert_int_gt(k, 20);
    tf_stats_free(&stats);
    f.env->mem = fail.inner;
    close_pair(&f);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("statistics");
    T_ADD(test_all_tokens);
    T_ADD(test_window);
    T_ADD(test_class_token);
    T_ADD(test_enough_rows);
    T_ADD(test_cut);
    T_ADD(test_rows);
    T_ADD(test_sum_of_two);
    T_ADD(test_threads);
    T_ADD(test_refused);
    T_ADD(test_every_allocation_fails_once);
    return t_suite;
}
