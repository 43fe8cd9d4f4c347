/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers that are known. What a plan says of its maps: matched correlation and variance kept by their definitions on a network of two linears; of a network
 * and its moved copy nothing is lost and all agrees; of two that share nothing costs are distances all the same. Maps that were planted and come back:
 * half of the heads swapped, a rotation of the stream, hidden units, with noise. And inputs and weights that are hostile to least squares: what is made
 * of them is finite, no worse than before, and reported.
 *
 * Tolerances: features and maps are float32; sums over some tens of them agree with float64 to 1e-5. Moved copies (condition up to 10) agree as well as
 * float32 carries them, 1e-3.
 */
#include "align/gauge.h"
#include "t_scene.h"
#include <unistd.h>

enum { HIDDEN = 7, OUT = 3 };

static const t_node linear[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "first", "x", "out=hidden:7"},
    {"linear", "head", "first", "out=!classes:3"},
};

/* Pre-norm, queries and keys under rotary positions. */
static const t_node ungated[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:12 bias=0"},
    {"rmsnorm", "norm", "embed", ""},
    {"linear", "q", "norm", "out=kv:3*group:2*qk:4 bias=0"},
    {"linear", "k", "norm", "out=kv:3*qk:4 bias=0"},
    {"linear", "v", "norm", "out=kv:3*vo:4 bias=0"},
    {"attention", "core", "q k v", "rope=1 rope_theta=100 causal=1"},
    {"linear", "o", "core", "out=/stream:12 bias=0"},
    {"add", "add", "embed o", ""},
    {"rmsnorm", "norm2", "add", ""},
    {"linear", "up", "norm2", "out=ffn:10 bias=0"},
    {"activation", "act", "up", "kind=gelu"},
    {"linear", "down", "act", "out=/stream:12 bias=0"},
    {"add", "add2", "add down", ""},
    {"rmsnorm", "last", "add2", ""},
    {"linear", "head", "last", "out=!classes:9 bias=0"},
};

/* Post-norm, queries and keys that take any invertible map. */
static const t_node four_heads[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:12"},
    {"layernorm", "norm", "embed", ""},
    {"linear", "q", "norm", "out=heads:4*qk:4"},
    {"linear", "k", "norm", "out=heads:4*qk:4"},
    {"linear", "v", "norm", "out=heads:4*vo:4"},
    {"attention", "core", "q k v", ""},
    {"linear", "o", "core", "out=/stream:12"},
    {"add", "add", "norm o", ""},
    {"layernorm", "norm2", "add", ""},
    {"linear", "up", "norm2", "out=ffn:10"},
    {"activation", "act", "up", "kind=gelu"},
    {"linear", "down", "act", "out=/stream:12"},
    {"add", "add2", "norm2 down", ""},
    {"layernorm", "last", "add2", ""},
    {"linear", "head", "last", "out=!classes:9"},
};

static void align_with(scene *s, const char *strategy, const tfuse_model *other, bool calibrated)
{
    s->models[1] = other;
    scene_align(s, strategy, calibrated ? s->calib : NULL);
}

/* ---- two linears ------------------------------------------------------------------------------------------------------- */

/* Row u of all that the hidden axis has in a model: what makes it, its bias, what reads it. */
static void row_of(const scene *s, const t_model *m, int u, double *out)
{
    for (int i = 0; i < FEATURES; i++)
        out[i] = (double)t_data(m, s->g, "first.weight")[u * FEATURES + i];
    out[FEATURES] = (double)t_data(m, s->g, "first.bias")[u];
    for (int o = 0; o < OUT; o++)
        out[FEATURES + 1 + o] = (double)t_data(m, s->g, "head.weight")[o * HIDDEN + u];
}

enum { ROW = FEATURES + 1 + OUT };

/* The map's T is n×m with columns that sum to one; its consumed side has rows that do. */
static double kept_by_hand(const scene *s, const tf_map *map)
{
    float t[HIDDEN * HIDDEN], c[HIDDEN * HIDDEN];
    double b[HIDDEN][ROW], all = 0, lost = 0;
    tf_map_matrix(map, t);
    tf_map_consumed(map, c);
    for (int u = 0; u < HIDDEN; u++)
        row_of(s, &s->b, u, b[u]);
    for (int u = 0; u < HIDDEN; u++)
        for (int i = 0; i < ROW; i++) {
            const bool reads = i > FEATURES;
            double back = 0;
            for (int j = 0; j < HIDDEN; j++)
                for (int v = 0; v < HIDDEN; v++)
                    back += (double)(reads ? t : c)[u * HIDDEN + j] * (double)(reads ? c : t)[v * HIDDEN + j] * b[v][i];
            all += b[u][i] * b[u][i];
            lost += (b[u][i] - back) * (b[u][i] - back);
        }
    return 1 - lost / all;
}

/* Mean over the anchor's units of sum_i T_ij cos(b_i, a_j) of the rows that make them. */
static double correlation_by_hand(const scene *s, const tf_map *map)
{
    float t[HIDDEN * HIDDEN];
    double sum = 0;
    tf_map_matrix(map, t);
    for (int i = 0; i < HIDDEN; i++)
        for (int j = 0; j < HIDDEN; j++) {
            double a[ROW], b[ROW], ab = 0, aa = 0, bb = 0;
            row_of(s, &s->a, j, a);
            row_of(s, &s->b, i, b);
            for (int k = 0; k < FEATURES; k++) {
                ab += a[k] * b[k];
                aa += a[k] * a[k];
                bb += b[k] * b[k];
            }
            sum += (double)t[i * HIDDEN + j] * ab / sqrt(aa * bb) / HIDDEN;
        }
    return sum;
}

START_TEST(test_by_definition)
{
    static const char *const metrics[] = {"euclidean", "sqeuclidean", "cosine"};
    scene s;
    scene_open(&s, linear, TF_LEN(linear), 2, SAMPLES);
    for (int soft = 0; soft < 2; soft++)
        for (size_t m = 0; m < TF_LEN(metrics); m++) {
            set(&s, "solver.name", soft ? "sinkhorn" : "exact");
            set(&s, "otfusion.metric", metrics[m]);
            align_with(&s, "otfusion", s.b.m, false);
            ck_assert_uint_eq(s.plan->n_maps, 1);
            const tf_plan_map *row = &s.plan->maps[0];
            const double kept = kept_by_hand(&s, row->map), r = correlation_by_hand(&s, row->map);
            ck_assert_msg(fabs(row->kept - kept) < 1e-5, "%s keeps %.8f, not %.8f", metrics[m], kept, row->kept);
            ck_assert_msg(fabs(row->correlation - r) < 1e-5, "%s: correlation %.8f, not %.8f", metrics[m], r, row->correlation);
            ck_assert(soft ? row->kept < 0.99 : row->kept == 1);
        }
    scene_close(&s);
}
END_TEST

/* Uniform couplings look at nothing, and keep the mean of the units. */
START_TEST(test_uniform)
{
    scene s;
    double mean = 0, all = 0;
    scene_open(&s, linear, TF_LEN(linear), 2, SAMPLES);
    set(&s, "align.control", "uniform");
    align_with(&s, "otfusion", s.b.m, false);
    for (int i = 0; i < ROW; i++) {
        double sum = 0, row[ROW];
        for (int u = 0; u < HIDDEN; u++) {
            row_of(&s, &s.b, u, row);
            sum += row[i] / HIDDEN;
            all += row[i] * row[i];
        }
        mean += HIDDEN * sum * sum;
    }
    ck_assert(isnan(s.plan->maps[0].correlation) && isnan(s.plan->maps[0].cost));
    ck_assert_double_eq_tol(s.plan->maps[0].kept, mean / all, 1e-5);
    scene_close(&s);
}
END_TEST

/* ---- matching ------------------------------------------------------------------------------------------------------------ */

static void check_row(const tf_plan_map *row, double most, const char *what)
{
    ck_assert_msg(row->cost >= -1e-6 && row->cost <= most, "%s, %s: cost %g", what, row->name, row->cost);
    ck_assert_msg(fabs(row->correlation + row->cost - 1) < 1e-12, "%s, %s: correlation %g beside cost %g", what, row->name, row->correlation, row->cost);
    ck_assert_msg(row->kept == 1, "%s, %s: keeps %g", what, row->name, row->kept);
}

static void check_matching(const t_node *nodes, size_t count)
{
    static const char *const uses[] = {"weights", "both", "activations"};
    scene s;
    tfuse_plan *plan;
    tfuse_model *copy;
    scene_open(&s, nodes, count, 2, SAMPLES);
    t_ok(s.env, tf_gauge(s.env, s.policy, s.a.m, s.g, &plan));
    set(&s, "combine.weights", "0,1");
    const tf_fuse_job job = {.policy = s.policy, .plan = plan, .models = (const tfuse_model *[]){s.a.m, s.a.m},
                             .graphs = (tf_graph *[]){s.g, s.g}, .n = 2};
    t_ok(s.env, tf_fuse_to_model(s.env, &job, &copy));
    for (size_t i = 0; i < plan->n_maps; i++)
        ck_assert(plan->maps[i].kept == 1);
    tf_plan_free(plan);
    for (size_t u = 0; u < TF_LEN(uses); u++) {
        set(&s, "matching.use", uses[u]);
        align_with(&s, "matching", copy, u > 0);
        for (size_t i = 0; i < s.plan->n_maps; i++)
            check_row(&s.plan->maps[i], 1e-3, "moved copy");
        align_with(&s, "matching", s.b.m, u > 0);
        for (size_t i = 0; i < s.plan->n_maps; i++)
            check_row(&s.plan->maps[i], 1, "strangers");
        const json_t *objective = json_array_get(s.plan->objective, 1);
        const double last = json_number_value(json_array_get(objective, json_array_size(objective) - 1));
        ck_assert(last > 0 && last < 1);
    }
    tf_model_free(copy);
    scene_close(&s);
}

START_TEST(test_matching_costs)
{
    check_matching(ungated, TF_LEN(ungated));
    check_matching(four_heads, TF_LEN(four_heads));
    check_matching(linear, TF_LEN(linear));
}
END_TEST

/* ---- planted maps ---------------------------------------------------------------------------------------------------------- */

static const tf_map *find_map(const tfuse_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_maps; i++)
        if (!strcmp(plan->maps[i].name, name))
            return plan->maps[i].map;
    ck_abort_msg("the plan has no map %s", name);
    return NULL;
}

/* Independent numbers in [-size, size] on every weight. */
static void add_noise(const scene *s, const t_model *m, float size)
{
    uint64_t state = 77;
    for (size_t p = 0; p < s->g->n_params; p++)
        for (size_t i = 0; i < t_param_count(s->g, (tf_id)p); i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            m->data[p][i] += size * (float)((double)(state >> 11) / 4503599627370496.0 - 1);
        }
}

static void swap_numbers(float *a, float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const float was = a[i];
        a[i] = b[i];
        b[i] = was;
    }
}

/* Swaps blocks x and y of a tensor's rows, or of its columns. */
static void swap_blocks(const scene *s, const t_model *m, const char *name, bool rows, int64_t block, int64_t x, int64_t y)
{
    const tf_param *p = &s->g->params[tf_graph_find_param(s->g, name)];
    const int64_t width = p->rank > 1 ? p->shape[1] : 1;
    float *w = t_data(m, s->g, name);
    if (rows)
        swap_numbers(w + x * block * width, w + y * block * width, block * width);
    for (int64_t r = 0; r < p->shape[0] && !rows; r++)
        swap_numbers(w + r * width + x * block, w + r * width + y * block, block);
}

static void copy_model(const scene *s)
{
    for (size_t p = 0; p < s->g->n_params; p++)
        memcpy(s->b.data[p], s->a.data[p], t_param_count(s->g, (tf_id)p) * sizeof(float));
}

static void check_blocks(const tfuse_plan *plan, const char *name, const int64_t *source, int64_t count)
{
    const tf_map *map = find_map(plan, name);
    ck_assert_msg(map->kind == TF_MAP_BLOCK && map->blocks_m == count, "%s is no map of %lld heads", name, (long long)count);
    for (int64_t i = 0; i < count; i++)
        ck_assert_msg(map->block_source[i] == source[i], "%s: head %lld comes from %lld", name, (long long)i, (long long)map->block_source[i]);
}

/* Two of four heads change places, and of three key/value heads with their groups of queries two do. */
START_TEST(test_half_of_the_heads)
{
    static const char *const rows[] = {"q.weight", "k.weight", "v.weight", "q.bias", "k.bias", "v.bias"};
    for (int calibrated = 0; calibrated < 2; calibrated++) {
        scene s;
        scene_open(&s, four_heads, TF_LEN(four_heads), 2, SAMPLES);
        copy_model(&s);
        for (size_t i = 0; i < TF_LEN(rows); i++)
            swap_blocks(&s, &s.b, rows[i], true, 4, 1, 3);
        swap_blocks(&s, &s.b, "o.weight", false, 4, 1, 3);
        add_noise(&s, &s.b, 0.02f);
        align_with(&s, "matching", s.b.m, calibrated);
        check_blocks(s.plan, "heads*qk", (const int64_t[]){0, 3, 2, 1}, 4);
        check_blocks(s.plan, "heads*vo", (const int64_t[]){0, 3, 2, 1}, 4);
        scene_close(&s);
        scene_open(&s, ungated, TF_LEN(ungated), 2, SAMPLES);
        copy_model(&s);
        swap_blocks(&s, &s.b, "q.weight", true, 8, 0, 2);
        swap_blocks(&s, &s.b, "k.weight", true, 4, 0, 2);
        swap_blocks(&s, &s.b, "v.weight", true, 4, 0, 2);
        swap_blocks(&s, &s.b, "o.weight", false, 8, 0, 2);
        add_noise(&s, &s.b, 0.02f);
        align_with(&s, "matching", s.b.m, calibrated);
        check_blocks(s.plan, "kv*qk", (const int64_t[]){2, 1, 0}, 3);
        check_blocks(s.plan, "kv*group*qk", (const int64_t[]){4, 5, 2, 3, 0, 1}, 6);
        scene_close(&s);
    }
}
END_TEST

/* The map of an axis there (the model to its moved copy) and back is the identity to a tolerance. */
static void check_inverse(const tfuse_plan *there, const tfuse_plan *back, const char *name, double tolerance)
{
    const tf_map *a = find_map(there, name), *b = find_map(back, name);
    const int64_t n = a->n;
    float *x = malloc((size_t)(n * n) * sizeof *x), *y = malloc((size_t)(n * n) * sizeof *y);
    tf_map_matrix(a, x);
    tf_map_matrix(b, y);
    for (int64_t i = 0; i < n * n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += (double)x[i / n * n + k] * (double)y[k * n + i % n];
        ck_assert_msg(fabs(sum - (i / n == i % n)) <= tolerance, "%s: (%lld, %lld) of there and back is %g", name, (long long)(i / n),
                      (long long)(i % n), sum);
    }
    free(x);
    free(y);
}

/* A rotation of the stream is found to what noise allows, a permutation of it (post-norm) and of hidden units exactly. Noise of 1e-3 on weights of order one
 * turns a stream of 12 units, which some hundred rows tell of, by less than 1e-2. */
static void check_planted(const t_node *nodes, size_t count, bool rotates)
{
    scene s;
    tfuse_plan *plan;
    tfuse_model *moved;
    scene_open(&s, nodes, count, 2, SAMPLES);
    t_ok(s.env, tf_gauge(s.env, s.policy, s.a.m, s.g, &plan));
    set(&s, "combine.weights", "0,1");
    const tf_fuse_job job = {.policy = s.policy, .plan = plan, .models = (const tfuse_model *[]){s.a.m, s.a.m},
                             .graphs = (tf_graph *[]){s.g, s.g}, .n = 2};
    for (int noisy = 0; noisy < 2; noisy++) {
        add_noise(&s, &s.a, noisy ? 1e-3f : 0);
        t_ok(s.env, tf_fuse_to_model(s.env, &job, &moved)); /* of the model with noise */
        add_noise(&s, &s.a, noisy ? -1e-3f : 0);
        for (int calibrated = 0; calibrated < 2; calibrated++) {
            align_with(&s, "matching", moved, calibrated);
            check_inverse(plan, s.plan, "stream", rotates ? (noisy ? 1e-2 : 1e-3) : 0);
            check_inverse(plan, s.plan, "ffn", 0);
        }
        tf_model_free(moved);
    }
    tf_plan_free(plan);
    scene_close(&s);
}

START_TEST(test_stream_and_units)
{
    check_planted(ungated, TF_LEN(ungated), true);
    check_planted(four_heads, TF_LEN(four_heads), false);
}
END_TEST

/* ---- hostile to least squares --------------------------------------------------------------------------------------------- */

static void check_report(const json_t *report, const char *what, const char *stages)
{
    size_t i;
    json_t *row;
    ck_assert_msg(json_is_number(json_object_get(report, "kl_fused")) && isfinite(json_number_value(json_object_get(report, "kl_fused"))),
                  "%s, %s: no distance from the ensemble", what, stages);
    json_array_foreach(json_object_get(report, "linears"), i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        const double before = json_number_value(json_object_get(row, "before")), after = json_number_value(json_object_get(row, "after"));
        ck_assert_msg(isfinite(before) && isfinite(after) && after <= before * (1 + 1e-6) + 1e-9, "%s, %s, %s: error %g before, %g after", what, stages,
                      name, before, after);
    }
}

static void check_hostile(scene *s, const char *what)
{
    static const char *const stages[] = {"auto", "circuits,select,regmean,refit,statistics,head", "regmean,statistics"};
    align_with(s, "matching", s->b.m, true);
    for (size_t i = 0; i < s->plan->n_maps; i++)
        ck_assert_msg(isfinite(s->plan->maps[i].cost) && s->plan->maps[i].cost > -1e-6 && s->plan->maps[i].cost <= 1, "%s, %s: cost %g", what,
                      s->plan->maps[i].name, s->plan->maps[i].cost);
    for (size_t i = 0; i < TF_LEN(stages); i++) {
        float **fitted;
        json_t *report;
        int which;
        set(s, "repair", stages[i]);
        const tf_fuse_job job = job_of(s);
        t_ok(s->env, tf_repair_stages(s->env, s->policy, s->plan, true, &which));
        t_ok(s->env, tf_repair(s->env, &job, which, s->calib, &fitted, &report));
        for (size_t p = 0; p < s->g->n_params; p++)
            ck_assert_msg(!fitted[p] || tf_find_nonfinite(fitted[p], t_param_count(s->g, (tf_id)p)) < 0, "%s, %s: %s is not finite", what, stages[i],
                          s->g->params[p].name);
        check_report(report, what, stages[i]);
        json_decref(report);
        tf_fitted_free(s->env, s->g, fitted);
    }
}

/* Every feature nearly a multiple of the first: Grams with one eigenvalue that is 1e6 times the others. */
static void make_collinear(scene *s)
{
    float *x = (float *)s->calib->data;
    for (int64_t row = 0; row < SAMPLES * TOKENS; row++)
        for (int f = 1; f < FEATURES; f++)
            x[row * FEATURES + f] = 0.5f * (float)f * x[row * FEATURES] + 1e-3f * x[row * FEATURES + f];
}

/* A unit that is always zero, one that never changes, and a channel of the stream that is a thousand times the others. */
static void spoil_units(scene *s, bool biased)
{
    const t_model *both[] = {&s->a, &s->b};
    for (int k = 0; k < 2; k++) {
        float *up = t_data(both[k], s->g, "up.weight"), *embed = t_data(both[k], s->g, "embed.weight");
        memset(up, 0, 24 * sizeof *up);
        if (biased)
            t_data(both[k], s->g, "up.bias")[0] = 0;
        for (int f = 0; f < FEATURES; f++)
            embed[f] *= 1e3f;
    }
}

static void check_all_hostile(const t_node *nodes, size_t count, bool biased)
{
    scene s;
    scene_open(&s, nodes, count, 2, SAMPLES);
    make_collinear(&s);
    check_hostile(&s, "collinear inputs");
    scene_close(&s);
    scene_open(&s, nodes, count, 2, SAMPLES);
    spoil_units(&s, biased);
    check_hostile(&s, "dead and constant units, an outlier channel");
    s.calib->shape[0] = 2;
    s.calib->count = 2 * TOKENS * FEATURES;
    check_hostile(&s, "and two samples");
    scene_close(&s);
}

START_TEST(test_hostile)
{
    check_all_hostile(ungated, TF_LEN(ungated), false);
    check_all_hostile(four_heads, TF_LEN(four_heads), true);
}
END_TEST

/* ---- couplings in place of assignments ------------------------------------------------------------------------------------- */

/* Row u of what makes the hidden units of the Llama-shaped model, in canonical form: the norm's gain is in it. */
static double up_at(const scene *s, int64_t u, int64_t i)
{
    return (double)t_data(&s->b, s->g, "up.weight")[u * 12 + i] * (double)t_data(&s->b, s->g, "norm2.gain")[i];
}

/* sqrt(sum_i T_ij |b_i|^2) / |sum_i T_ij b_i|. */
static double factor_by_hand(const scene *s, const float *t, int64_t j)
{
    double mixed = 0, made = 0;
    for (int64_t i = 0; i < 12; i++) {
        double mean = 0;
        for (int64_t u = 0; u < 10; u++) {
            mean += (double)t[u * 10 + j] * up_at(s, u, i);
            mixed += (double)t[u * 10 + j] * up_at(s, u, i) * up_at(s, u, i);
        }
        made += mean * mean;
    }
    return sqrt(mixed / made);
}

/* Means as they come out, and scaled to the length of what is in them; not exact, and what is lost is told either way. */
START_TEST(test_coupling)
{
    scene s;
    float t[2][100], c[100];
    double kept[2];
    scene_open(&s, ungated, TF_LEN(ungated), 2, SAMPLES);
    set(&s, "matching.coupling", "sinkhorn");
    for (int scaled = 0; scaled < 2; scaled++) {
        set(&s, "matching.unshrink", scaled ? "1" : "0");
        align_with(&s, "matching", s.b.m, false);
        ck_assert(!s.plan->exact && s.plan->carries && !tf_plan_is_lossless(s.plan, 1));
        tf_map_matrix(find_map(s.plan, "ffn"), t[scaled]);
        for (size_t i = 0; i < s.plan->n_maps; i++)
            if (!strcmp(s.plan->maps[i].name, "ffn"))
                kept[scaled] = s.plan->maps[i].kept;
            else
                ck_assert(s.plan->maps[i].kept == 1);
        tf_map_consumed(find_map(s.plan, "ffn"), c);
        for (int64_t k = 0; k < 10 && !scaled; k++) {
            double column = 0, row = 0;
            for (int64_t i = 0; i < 10; i++) {
                column += (double)t[0][i * 10 + k];
                row += (double)c[k * 10 + i];
            }
            ck_assert(fabs(column - 1) < 1e-5 && fabs(row - 1) < 1e-5);
        }
    }
    ck_assert(kept[0] == kept[1] && kept[0] > 0.01 && kept[0] < 0.99);
    for (int64_t j = 0; j < 10; j++)
        for (int64_t i = 0; i < 10; i++)
            ck_assert_double_eq_tol((double)t[1][i * 10 + j], factor_by_hand(&s, t[0], j) * (double)t[0][i * 10 + j], 1e-4);
    check_hostile(&s, "couplings");
    scene_close(&s);
}
END_TEST

/* Figures come back from a file as they were; one without them, as older ones are, has none, but for what follows from kinds. */
START_TEST(test_file)
{
    scene s;
    char path[] = "/tmp/tfuse-figures-XXXXXX";
    tfuse_plan *read;
    scene_open(&s, linear, TF_LEN(linear), 2, SAMPLES);
    set(&s, "solver.name", "sinkhorn");
    align_with(&s, "otfusion", s.b.m, false);
    const int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
    t_ok(s.env, tf_plan_save(s.env, s.plan, path, true));
    t_ok(s.env, tf_plan_load(s.env, path, &read));
    ck_assert(read->maps[0].kept == s.plan->maps[0].kept && read->maps[0].correlation == s.plan->maps[0].correlation);
    tf_plan_free(read);
    s.plan->maps[0].kept = s.plan->maps[0].correlation = (double)NAN;
    t_ok(s.env, tf_plan_save(s.env, s.plan, path, true));
    t_ok(s.env, tf_plan_load(s.env, path, &read));
    ck_assert(isnan(read->maps[0].kept) && isnan(read->maps[0].correlation));
    tf_plan_free(read);
    unlink(path);
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("planted");
    T_ADD(test_by_definition);
    T_ADD(test_uniform);
    T_ADD(test_matching_costs);
    T_ADD(test_file);
    T_ADD(test_half_of_the_heads);
    T_ADD(test_stream_and_units);
    T_ADD(test_coupling);
    T_ADD(test_hostile);
    return t_suite;
}
