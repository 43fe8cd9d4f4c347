/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plan says of its maps, against answers that are known: matched correlation and variance kept by their definitions on a network of two linears;
 * of a network and its moved copy nothing is lost and all agrees; of two that share nothing costs are distances all the same.
 *
 * Tolerances: features and maps are float32; sums over some tens of them agree with float64 to 1e-5. Moved copies (condition up to 10) agree as well as
 * float32 carries them, 1e-3.
 */
#include "align/align.h"
#include "align/gauge.h"
#include "fuse/fuse.h"
#include "t_graph.h"
#include <unistd.h>

enum { SAMPLES = 64, FEATURES = 6, TOKENS = 5, HIDDEN = 7, OUT = 3 };

static const t_node linear[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "first", "x", "out=hidden:7"},
    {"linear", "head", "first", "out=!classes:3"},
};

static const t_node llama[] = {
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
static const t_node bert[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:12"},
    {"layernorm", "norm", "embed", ""},
    {"linear", "q", "norm", "out=heads:3*qk:4"},
    {"linear", "k", "norm", "out=heads:3*qk:4"},
    {"linear", "v", "norm", "out=heads:3*vo:4"},
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

typedef struct scene {
    tf_env *env;
    tf_graph *g;
    t_model a, b;
    tfuse_policy *policy;
    tf_solver_registry solvers;
    tfuse_array *calib;
    tfuse_plan *plan;
} scene;

static void scene_open(scene *s, const t_node *nodes, size_t count)
{
    *s = (scene){.env = t_env(2)};
    s->g = t_graph(s->env, nodes, count, "head");
    s->a = t_random_model(s->env, s->g, 3);
    s->b = t_random_model(s->env, s->g, 1003);
    t_ok(s->env, tf_solvers_init(s->env, &s->solvers));
    t_ok(s->env, tf_policy_new(s->env, &s->policy));
    t_ok(s->env, tf_array_new(s->env, TFUSE_F32, 3, (const int64_t[]){SAMPLES, TOKENS, FEATURES}, &s->calib));
    t_fill((float *)s->calib->data, (size_t)(SAMPLES * TOKENS * FEATURES), 21);
}

static void scene_close(scene *s)
{
    tf_plan_free(s->plan);
    tf_array_free(s->calib);
    tf_policy_free(s->policy);
    tf_solvers_free(&s->solvers);
    t_model_free(&s->a);
    t_model_free(&s->b);
    tf_graph_free(s->g);
    t_env_free(s->env);
}

static void set(scene *s, const char *key, const char *value)
{
    t_ok(s->env, tf_policy_set(s->env, s->policy, key, value));
}

static void align_with(scene *s, const char *strategy, const tfuse_model *other, bool calibrated)
{
    const tfuse_model *models[] = {s->a.m, other};
    tf_graph *graphs[] = {s->g, s->g};
    set(s, "align.strategy", strategy);
    tf_plan_free(s->plan);
    s->plan = NULL;
    const tf_align_job job = {.policy = s->policy, .solvers = &s->solvers, .models = models, .graphs = graphs, .n = 2,
                              .calib = calibrated ? s->calib : NULL};
    t_ok(s->env, tf_align(s->env, &job, &s->plan));
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
    scene_open(&s, linear, TF_LEN(linear));
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
    scene_open(&s, linear, TF_LEN(linear));
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
    scene_open(&s, nodes, count);
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
    check_matching(llama, TF_LEN(llama));
    check_matching(bert, TF_LEN(bert));
    check_matching(linear, TF_LEN(linear));
}
END_TEST

/* Figures come back from a file as they were; one without them, as older ones are, has none, but for what follows from kinds. */
START_TEST(test_file)
{
    scene s;
    char path[] = "/tmp/tfuse-figures-XXXXXX";
    tfuse_plan *read;
    scene_open(&s, linear, TF_LEN(linear));
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
    Suite *s = suite_create("figures");
    TCase *c = tcase_create("recovery");
    tcase_add_test(c, test_by_definition);
    tcase_add_test(c, test_uniform);
    tcase_add_test(c, test_matching_costs);
    tcase_add_test(c, test_file);
    suite_add_tcase(s, c);
    return s;
}
