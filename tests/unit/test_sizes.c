/* SPDX-License-Identifier: Apache-2.0
 *
 * Models of unequal widths and head counts under otfusion, and more than two of them. A model that was widened so that it computes the same
 * (units repeated, what reads them divided) must come back as what it was made from.
 */
#include "t_pair.h"
#include <math.h>
#include <stdio.h>

/* Where the wide model's units come from: each unit of b `times` times over, in another order. */
typedef struct wide {
    int64_t heads, inner, ffn;
    bool exact; /* what reads the units is divided by how often they occur: the function stays */
} wide;

static int64_t source(const wide *w, char axis, int64_t i)
{
    if (axis == 's')
        return i * 5 % 64;
    if (axis == 'f')
        return i * 5 % 128;
    return axis == 'h' ? i / w->inner * 3 % 4 * 16 + i % w->inner * 5 % 16 : i;
}

static int64_t extent(const wide *w, char axis, int64_t own)
{
    return axis == 's' || axis == 'h' ? w->heads * w->inner : axis == 'f' ? w->ffn : own;
}

/* The axes of a tensor's first dimension and of that which follows: stream, heads, ffn, or neither. */
static void axes_of(const char *name, char *rows, char *cols)
{
    *rows = 's';
    *cols = '-';
    if (strstr(name, "attention.attention."))
        *rows = 'h', *cols = 's';
    else if (strstr(name, "attention.output.dense.weight"))
        *cols = 'h';
    else if (strstr(name, "intermediate.dense"))
        *rows = 'f', *cols = 's';
    else if (strstr(name, ".output.dense.weight") && !strstr(name, "attention"))
        *cols = 'f';
    else if (strstr(name, "classifier"))
        *rows = '-', *cols = 's';
    else if (strstr(name, "cls_token") || strstr(name, "position"))
        *rows = '-', *cols = 's';
}

static void widen_tensor(tf_env *env, const wide *w, tfuse_model *copy, const tf_tensor *old)
{
    tf_tensor t = *old;
    char rows, cols;
    axes_of(t.name, &rows, &cols);
    const bool tokens = t.rank == 3; /* 1 × tokens × stream */
    const int64_t r_old = tokens ? t.shape[1] : t.shape[0], c_old = t.rank == 1 ? 1 : (int64_t)t.count / r_old;
    const bool divide = w->exact && cols != '-' && !tokens;
    const int64_t r_new = extent(w, rows, r_old), c_new = t.rank == 1 ? 1 : extent(w, cols, c_old);
    const float *from = (const float *)(const void *)old->data;
    float *to = tf_arena_alloc(env, &copy->arena, (size_t)(r_new * c_new) * sizeof *to);
    for (int64_t r = 0; r < r_new; r++)
        for (int64_t c = 0; c < c_new; c++) {
            const float x = from[source(w, rows, r) * c_old + (t.rank == 1 ? 0 : source(w, cols, c))];
            to[r * c_new + c] = divide && t.rank > 1 ? x / ((float)c_new / (float)c_old) : x;
        }
    t.shape[tokens ? 1 : 0] = r_new;
    if (cols != '-' && t.rank > 1)
        t.shape[t.rank - 1] = c_new;
    t.count = (uint64_t)(r_new * c_new);
    t.size = t.count * sizeof *to;
    t.data = (const uint8_t *)to;
    t.file = -1;
    t_ok(env, tf_model_add(env, copy, &t));
}

/* Model k, a copy of b, becomes wide. */
static void widen(t_pair *p, size_t k, const wide *w)
{
    tfuse_model *old = p->models[k], *copy;
    char config[512];
    snprintf(config, sizeof config, "{\"model_type\": \"vit\", \"hidden_size\": %d, \"num_hidden_layers\": 4, \"num_attention_heads\": %d, "
             "\"intermediate_size\": %d, \"image_size\": 28, \"patch_size\": 4, \"num_channels\": 1, \"num_labels\": 10}",
             (int)(w->heads * w->inner), (int)w->heads, (int)w->ffn);
    t_ok(p->env, tf_model_new(p->env, config, &copy));
    for (size_t i = 0; i < old->count; i++)
        widen_tensor(p->env, w, copy, &old->tensors[i]);
    t_ok(p->env, tf_model_seal(p->env, copy));
    copy->dir = tf_arena_strdup(p->env, &copy->arena, old->dir); /* where the preprocessing of pixels is */
    ck_assert_ptr_nonnull(copy->dir);
    tf_model_free(old);
    tf_graph_free(p->graphs[k]);
    p->models[k] = copy;
    t_ok(p->env, tf_graph_build(p->env, copy, false, &p->graphs[k]));
}

static const wide doubled = {8, 16, 256, true}, odd = {6, 16, 160, false}, broad = {3, 32, 96, false};

/* Scalars and signs have many optimal maps: the class token, whose map goes nowhere else, is left out. */
static void excuse_class_token(t_pair *p)
{
    const tf_tensor *c = tf_model_find(p->fused, "vit.embeddings.cls_token"), *own = tf_model_find(p->models[0], c->name);
    union { const uint8_t *in; uint8_t *out; } to = {c->data};
    memcpy(to.out, own->data, (size_t)c->size);
}

/* In float32: activations of the two models differ by rounding, the maps do not, so weights are means of equal numbers. */
START_TEST(widened_model_comes_back)
{
    t_pair p;
    const int wide_first = _i % 2, within = _i / 2 % 2, common = _i / 4;
    t_pair_open(&p, "bb");
    widen(&p, wide_first ? 0 : 1, &doubled);
    t_pair_set(&p, "otfusion.heads", within ? "within" : "cross");
    t_pair_set(&p, "otfusion.qk", common ? "common" : "separate");
    t_ok(p.env, t_pair_align(&p, true));
    t_ok(p.env, t_pair_fuse(&p));
    excuse_class_token(&p);
    ck_assert_double_le(t_model_diff(p.env, p.fused, p.models[0]), 1e-5);
    t_pair_close(&p);
}
END_TEST

static void check_sums(const tf_plan_map *row, double tolerance)
{
    const tf_map *map = row->map;
    double off = 0;
    for (int64_t j = 0; j < map->m; j++) {
        double sum = 0;
        for (int64_t i = 0; i < map->n; i++)
            sum += (double)map->dense[i * map->m + j];
        off += fabs(sum - 1 / (double)map->m);
    }
    for (int64_t i = 0; i < map->n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < map->m; j++)
            sum += (double)map->dense[i * map->m + j];
        off += fabs(sum - 1 / (double)map->n);
    }
    ck_assert_msg(off <= tolerance, "%s: marginals are off by %g", row->name, off);
}

/* Every coupling has uniform marginals on both sides: to float32 rounding of the masses when exact, to the reported error of Sinkhorn's beside. */
START_TEST(marginals_of_unequal_sizes)
{
    static const char *const solvers[] = {"exact", "sinkhorn"};
    const int within = _i % 2, other = _i / 2 % 2, sinkhorn = _i / 4 % 2, wide_first = _i / 8;
    t_pair p;
    size_t seen = 0;
    t_pair_open(&p, wide_first ? "ba" : "ab");
    widen(&p, wide_first ? 0 : 1, other ? &broad : &odd);
    t_pair_set(&p, "solver.name", solvers[sinkhorn]);
    t_pair_set(&p, "otfusion.heads", within ? "within" : "cross");
    t_ok(p.env, t_pair_align(&p, true));
    for (size_t i = 0; i < p.plan->n_maps; i++) {
        const tf_plan_map *row = &p.plan->maps[i];
        ck_assert_int_ne(row->map->n, row->map->m);
        if (row->map->kind != TF_MAP_COUPLING)
            continue;
        check_sums(row, 2e-5 + (sinkhorn && isfinite(row->error) ? row->error : sinkhorn ? 1e-3 : 0));
        seen++;
    }
    ck_assert_uint_eq(seen, p.plan->n_maps);
    t_ok(p.env, t_pair_fuse(&p));
    t_pair_close(&p);
}
END_TEST

/* The same of trained models of 64 and 128 units, in either order. */
START_TEST(marginals_of_trained_models)
{
    t_pair p;
    size_t unequal = 0;
    t_pair_open(&p, _i % 2 ? "wb" : "bw");
    t_pair_set(&p, "solver.name", _i / 2 ? "sinkhorn" : "exact");
    t_ok(p.env, t_pair_align(&p, true));
    for (size_t i = 0; i < p.plan->n_maps; i++) {
        const tf_plan_map *row = &p.plan->maps[i];
        ck_assert_int_eq(_i % 2 ? 2 * row->map->n : row->map->n, _i % 2 ? row->map->m : 2 * row->map->m);
        if (row->map->kind == TF_MAP_COUPLING)
            check_sums(row, 2e-5 + (_i / 2 ? isfinite(row->error) ? row->error : 1e-3 : 0));
        unequal += row->map->kind == TF_MAP_COUPLING;
    }
    ck_assert_uint_ge(unequal, 4 * 5);
    t_pair_close(&p);
}
END_TEST

/* Of three trained models, the last one wider, each alone: by one plan, the models' shares in every tensor are their weights. */
START_TEST(weights_count_everywhere)
{
    static const char *const alone[] = {"1,0,0", "0,1,0", "0,0,1"};
    tfuse_model *parts[3];
    t_pair p;
    t_pair_open(&p, "baw");
    t_pair_set(&p, "align.strategy", _i ? "matching" : "otfusion");
    t_ok(p.env, t_pair_align(&p, !_i));
    for (int k = 0; k < 3; k++) {
        t_pair_set(&p, "combine.weights", alone[k]);
        t_ok(p.env, t_pair_fuse(&p));
        parts[k] = p.fused;
        p.fused = NULL;
    }
    t_pair_set(&p, "combine.weights", "2,1,1");
    t_ok(p.env, t_pair_fuse(&p));
    for (size_t i = 0; i < p.fused->count; i++) {
        const float *x[4], *all = (const float *)(const void *)p.fused->tensors[i].data;
        double off = 0, moved[3] = {0}, size = 0;
        for (int k = 0; k < 3; k++)
            x[k] = (const float *)(const void *)tf_model_find(parts[k], p.fused->tensors[i].name)->data;
        for (size_t u = 0; u < p.fused->tensors[i].count; u++) {
            off = fmax(off, fabs((2 * (double)x[0][u] + (double)x[1][u] + (double)x[2][u]) / 4 - (double)all[u]));
            size = fmax(size, fabs((double)x[0][u]));
            for (int k = 1; k < 3; k++)
                moved[k] = fmax(moved[k], fabs((double)x[k][u] - (double)x[0][u]));
        }
        ck_assert_msg(off <= 1e-6 * fmax(size, 1), "%s: off by %g", p.fused->tensors[i].name, off);
        const bool folded = _i && (strstr(p.fused->tensors[i].name, "layernorm") || strstr(p.fused->tensors[i].name, "key.bias") ||
                                   strstr(p.fused->tensors[i].name, "value.bias"));
        ck_assert_msg(folded || (moved[1] > 0 && moved[2] > 0), "%s: all alike", p.fused->tensors[i].name);
    }
    for (int k = 0; k < 3; k++)
        tf_model_free(parts[k]);
    t_pair_close(&p);
}
END_TEST

/* Shares of heads: of each anchor head they sum to one; the doubled model's come from two equal heads. */
START_TEST(heads_are_reported)
{
    t_pair p;
    size_t seen = 0;
    t_pair_open(&p, "bb");
    widen(&p, 1, &doubled);
    t_pair_set(&p, "otfusion.heads", "within");
    t_ok(p.env, t_pair_align(&p, true));
    for (size_t i = 0; i < p.plan->n_maps; i++) {
        const tf_plan_map *row = &p.plan->maps[i];
        double shares[32];
        if (!row->heads_n)
            continue;
        ck_assert_int_eq(row->heads_n, 8);
        ck_assert_int_eq(row->heads_m, 4);
        tf_map_head_shares(row->map, 8, 4, shares);
        for (int64_t g = 0; g < 4; g++)
            for (int64_t s = 0; s < 8; s++)
                ck_assert_double_eq_tol(shares[g * 8 + s], s * 3 % 4 == g ? 0.5 : 0, 1e-6);
        seen++;
    }
    ck_assert_uint_eq(seen, 3 * 4);
    t_pair_close(&p);
}
END_TEST

START_TEST(controls_of_unequal_sizes)
{
    static const char *const controls[] = {"uniform", "random"};
    t_pair p;
    t_pair_open(&p, "ab");
    widen(&p, 1, &odd);
    t_pair_set(&p, "align.control", controls[_i % 2]);
    t_pair_set(&p, "otfusion.heads", _i / 2 ? "within" : "cross");
    t_ok(p.env, t_pair_align(&p, false));
    t_ok(p.env, t_pair_fuse(&p));
    t_pair_close(&p);
}
END_TEST

static void align_three(t_pair *p, const char *names, size_t at, const char *weights)
{
    t_pair_open(p, names);
    widen(p, at, &odd);
    t_pair_set(p, "combine.weights", weights);
    t_ok(p->env, t_pair_align(p, true));
    t_ok(p->env, t_pair_fuse(p));
}

/* Of three models, one of them wider: the order of those beside the anchor is nothing but the order of a float64 sum, and weights 1,0,0 leave the
 * anchor's bits. */
START_TEST(three_models_of_unequal_sizes)
{
    t_pair x, y;
    align_three(&x, "bab", 2, "2,1,3");
    align_three(&y, "bba", 1, "2,3,1");
    ck_assert_double_le(t_model_diff(x.env, x.fused, y.fused), 1e-6);
    t_ok(x.env, t_pair_align(&x, true));
    t_ok(x.env, t_pair_fuse(&x));
    ck_assert_double_le(t_model_diff(x.env, x.fused, y.fused), 1e-6);
    t_pair_set(&x, "combine.weights", "1,0,0");
    t_ok(x.env, t_pair_fuse(&x));
    ck_assert_double_eq(t_model_diff(x.env, x.fused, x.models[0]), 0);
    t_pair_close(&x);
    t_pair_close(&y);
}
END_TEST

START_TEST(three_times_itself)
{
    t_pair p;
    t_pair_open(&p, "bbb");
    t_pair_set(&p, "combine.weights", "1,5,2");
    t_ok(p.env, t_pair_align(&p, true));
    t_ok(p.env, t_pair_fuse(&p));
    excuse_class_token(&p);
    ck_assert_double_le(t_model_diff(p.env, p.fused, p.models[0]), 1e-6);
    t_pair_close(&p);
}
END_TEST

Suite *make_suite(void)
{
    Suite *s = suite_create("sizes");
    TCase *tc = tcase_create("sizes");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, widened_model_comes_back, 0, 8);
    tcase_add_loop_test(tc, marginals_of_unequal_sizes, 0, 16);
    tcase_add_loop_test(tc, marginals_of_trained_models, 0, 4);
    tcase_add_loop_test(tc, weights_count_everywhere, 0, 2);
    tcase_add_test(tc, heads_are_reported);
    tcase_add_loop_test(tc, controls_of_unequal_sizes, 0, 4);
    tcase_add_test(tc, three_models_of_unequal_sizes);
    tcase_add_test(tc, three_times_itself);
    suite_add_tcase(s, tc);
    return s;
}
