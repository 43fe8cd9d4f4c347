/* SPDX-License-Identifier: Apache-2.0
 *
 * Gauges: a random member of each part of the symmetry group leaves the forward output, and going back by the known inverse maps restores
 * the canonical weights, for the real Vision Transformer and for small graphs with grouped queries, rotary positions, gated units and
 * RMSNorm.
 *
 * Tolerances: maps have a condition number of at most 10 and weights are rounded to float32 twice, so outputs of order ten agree to about
 * 1e-5 of their size, and weights of order one come back to about 1e-6; the bounds are 1e-3 and 2e-5. That the weights did move, by far more, is tested too.
 */
#include "align/gauge.h"
#include "arch/arch.h"
#include "fuse/fuse.h"
#include "passes/passes.h"
#include "t_graph.h"

enum { SAMPLES = 3 };

typedef struct scene {
    tf_env *env;
    tf_graph *g;
    const tfuse_model *m;
    tf_canonical form;
    tf_group *groups;
    tfuse_policy *policy; /* combine.weights=0,1 */
} scene;

static void scene_open(scene *s, tf_env *env, tf_graph *g, const tfuse_model *m, bool canonical)
{
    const char *names[8];
    int n = 0;
    for (const tf_pass *p = tf_passes; p->name && canonical; p++)
        names[n++] = p->name;
    *s = (scene){.env = env, .g = g, .m = m};
    t_ok(env, tf_canonical_make(env, g, m, names, n, &s->form));
    s->groups = calloc(g->n_classes + 1, sizeof *s->groups);
    t_ok(env, tf_groups(env, g, tf_canonical_top(&s->form), s->groups));
    t_ok(env, tf_policy_new(env, &s->policy));
    t_ok(env, tf_policy_set(env, s->policy, "combine.weights", "0,1"));
}

static void scene_close(scene *s)
{
    tf_canonical_free(&s->form);
    tf_policy_free(s->policy);
    free(s->groups);
}

/* The classes whose names hold `part` ("" for all), the others left. */
static tfuse_plan *plan_of(scene *s, const char *part, bool back, const tfuse_model *m, bool passes)
{
    tf_group *groups = calloc(s->g->n_classes + 1, sizeof *groups);
    tf_class_map *maps;
    tfuse_plan *plan;
    int picked = 0;
    for (size_t c = 0; c < s->g->n_classes; c++)
        if (strstr(s->g->class_name[c], part) && s->groups[c] != TF_GROUP_PINNED)
            groups[c] = s->groups[c], picked++;
    ck_assert_msg(picked > 0, "no axis %s moves", part);
    t_ok(s->env, tf_gauge_draw(s->env, s->g, groups, 5, &maps));
    t_ok(s->env, tf_plan_new(s->env, "gauge", 2, &plan));
    for (int k = 0; k < 2; k++)
        t_ok(s->env, tf_plan_describe_model(s->env, &plan->arena, m, s->g, &plan->models[k]));
    for (int i = 1; i < s->form.n && passes; i++)
        t_ok(s->env, tf_plan_add_pass(s->env, plan, s->form.levels[i]->pass));
    t_ok(s->env, tf_class_plan(s->env, plan, 1, s->g, s->g, maps));
    for (size_t i = 0; i < plan->n_maps && back; i++) {
        tf_map *inverse;
        t_ok(s->env, tf_map_inverse(s->env, plan->maps[i].map, &inverse));
        tf_map_free(plan->maps[i].map);
        plan->maps[i].map = inverse;
    }
    tf_class_maps_free(s->env, s->g, maps);
    free(groups);
    return plan;
}

/* The same plan from a file: what is applied went there and back. */
static tfuse_plan *through_file(scene *s, tfuse_plan *plan)
{
    char *dir = t_mkdtemp(), path[4096];
    tfuse_plan *loaded;
    snprintf(path, sizeof path, "%s/plan", dir);
    t_ok(s->env, tf_plan_save(s->env, plan, path, false));
    t_ok(s->env, tf_plan_load(s->env, path, &loaded));
    ck_assert_uint_eq(loaded->n_maps, plan->n_maps);
    for (size_t i = 0; i < plan->n_maps; i++)
        ck_assert_int_eq(loaded->maps[i].map->kind, plan->maps[i].map->kind);
    tf_plan_free(plan);
    t_rmdir(dir);
    return loaded;
}

static tfuse_model *moved(scene *s, const char *part, bool back, const tfuse_model *m, bool passes)
{
    const tfuse_model *models[2] = {m, m};
    tf_graph *graphs[2] = {s->g, s->g};
    tfuse_plan *plan = through_file(s, plan_of(s, part, back, m, passes));
    const tf_fuse_job job = {.policy = s->policy, .plan = plan, .models = models, .graphs = graphs, .n = 2};
    tfuse_model *out;
    t_ok(s->env, tf_fuse_to_model(s->env, &job, &out));
    tf_plan_free(plan);
    return out;
}

/* Largest difference of the weights, through the view and as they are. */
static double distance(scene *s, const tfuse_model *m)
{
    tf_view *root;
    double worst = 0;
    t_ok(s->env, tf_view_root(s->env, s->g, m, &root));
    for (size_t i = 0; i < s->g->n_params; i++) {
        float *x, *y;
        t_ok(s->env, tf_view_load(s->env, tf_canonical_top(&s->form), (tf_id)i, &x));
        t_ok(s->env, tf_view_load(s->env, root, (tf_id)i, &y));
        worst = fmax(worst, t_max_diff(x, y, t_param_count(s->g, (tf_id)i)));
        tf_free(&s->env->mem, x);
        tf_free(&s->env->mem, y);
    }
    tf_view_free(root);
    return worst;
}

static double output_distance(scene *s, const tfuse_model *m)
{
    const tf_value *v = &s->g->values[s->g->inputs[0]];
    size_t count = SAMPLES, outputs = SAMPLES;
    for (int d = 0; d < v->rank; d++)
        count *= (size_t)v->extent[d];
    const tf_value *o = &s->g->values[s->g->output];
    for (int d = 0; d < o->rank; d++)
        outputs *= (size_t)o->extent[d];
    float *x = malloc(count * sizeof *x);
    tf_view *root;
    t_fill(x, count, 9);
    t_ok(s->env, tf_view_root(s->env, s->g, m, &root));
    float *a = t_run(s->env, s->form.levels[0], x, SAMPLES), *b = t_run(s->env, root, x, SAMPLES);
    const double worst = t_max_diff(a, b, outputs);
    tf_view_free(root);
    free(x);
    free(a);
    free(b);
    return worst;
}

static void check_part(scene *s, const char *part)
{
    tfuse_model *there = moved(s, part, false, s->m, true), *again = moved(s, part, true, there, false);
    ck_assert_msg(output_distance(s, there) < 1e-3, "%s: outputs differ by %g", part, output_distance(s, there));
    ck_assert_msg(distance(s, there) > 0.05, "%s: nothing moved", part);
    ck_assert_msg(distance(s, again) < 2e-5, "%s: weights come back to %g", part, distance(s, again));
    tf_model_free(there);
    tf_model_free(again);
}

/* What a Vision Transformer's axes admit: the gains of its norms keep the stream to permutations unless they are folded. */
static void check_groups(const scene *s, bool canonical)
{
    const struct {
        const char *part;
        tf_group group;
        size_t count;
    } want[] = {{"stream", canonical ? TF_GROUP_ORTHO_ONES : TF_GROUP_PERM, 1}, {"heads", TF_GROUP_PERM, 4}, {"qk", TF_GROUP_LINEAR, 4},
                {"vo", TF_GROUP_LINEAR, 4}, {"ffn", TF_GROUP_PERM, 4}};
    for (size_t i = 0; i < TF_LEN(want); i++) {
        size_t count = 0;
        for (size_t c = 0; c < s->g->n_classes; c++) {
            const char *name = s->g->class_name[c], *found = strstr(name, want[i].part);
            if (!found || found[strlen(want[i].part)])
                continue;
            ck_assert_msg(s->groups[c] == want[i].group, "%s admits %x, not %x", name, (unsigned)s->groups[c], (unsigned)want[i].group);
            count++;
        }
        ck_assert_uint_eq(count, want[i].count);
    }
}

static void check_vit(bool canonical)
{
    static const char *const parts[] = {"stream", "heads", "qk", "vo", "ffn", ""};
    tf_env *env = t_env(2);
    tfuse_model *m;
    tf_graph *g;
    scene s;
    t_ok(env, tf_model_open(env, "tests/data/vit-fmnist-a", 0, &m));
    t_ok(env, tf_graph_build(env, m, false, &g));
    scene_open(&s, env, g, m, canonical);
    check_groups(&s, canonical);
    for (size_t i = 0; i < TF_LEN(parts); i++)
        check_part(&s, parts[i]);
    scene_close(&s);
    tf_graph_free(g);
    tf_model_free(m);
    t_env_free(env);
}

START_TEST(test_vit_canonical)
{
    check_vit(true);
}
END_TEST

START_TEST(test_vit_gains_kept)
{
    check_vit(false);
}
END_TEST

/* A graph with random tensors, as a whole, in canonical form and as stored. */
static void check_nodes(const t_node *nodes, size_t count, const char *output)
{
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, count, output);
    t_model m = t_random_model(env, g, 3);
    for (int canonical = 0; canonical < 2; canonical++) {
        scene s;
        scene_open(&s, env, g, m.m, canonical);
        check_part(&s, "");
        scene_close(&s);
    }
    t_model_free(&m);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_grouped_rotary)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=5,3"},
        {"linear", "embed", "x", "out=/stream:4 bias=0"},
        {"rmsnorm", "l/norm", "embed", ""},
        {"linear", "l/q", "l/norm", "out=kv:2*group:3*qk:4 bias=0"},
        {"linear", "l/k", "l/norm", "out=kv:2*qk:4 bias=0"},
        {"linear", "l/v", "l/norm", "out=kv:2*vo:3 bias=0"},
        {"attention", "l/core", "l/q l/k l/v", "rope=1 rope_theta=100 causal=1"},
        {"linear", "l/o", "l/core", "out=/stream:4 bias=0"},
        {"add", "l/add", "embed l/o", ""},
        {"rmsnorm", "last", "l/add", ""},
        {"linear", "head", "last", "out=!classes:3 bias=0"},
    };
    check_nodes(nodes, TF_LEN(nodes), "head");
}
END_TEST

START_TEST(test_gated_units)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=4,3"},
        {"linear", "embed", "x", "out=/stream:4"},
        {"rmsnorm", "norm", "embed", ""},
        {"linear", "gate", "norm", "out=ffn:5"},
        {"activation", "act", "gate", "kind=silu"},
        {"linear", "up", "norm", "out=ffn:5"},
        {"multiply", "mul", "act up", ""},
        {"linear", "down", "mul", "out=/stream:4"},
        {"add", "add", "embed down", ""},
        {"linear", "head", "add", "out=!classes:3"},
    };
    check_nodes(nodes, TF_LEN(nodes), "head");
}
END_TEST

START_TEST(test_inverse_and_compose)
{
    tf_env *env = t_env(1);
    const int64_t source[3] = {2, 0, 1};
    const float scale[3] = {2, -1, 0.5f}, t[9] = {1, 2, 0, 0, 1, 1, 1, 0, 3}, flat[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, none[9] = {0};
    tf_map *a, *b, *c, *back, *one, *bad;
    float x[9];
    t_ok(env, tf_map_scaled(env, 3, source, scale, &a));
    t_ok(env, tf_map_square(env, TF_MAP_LINEAR, 3, t, &b));
    t_ok(env, tf_map_compose(env, a, b, &c));
    t_ok(env, tf_map_inverse(env, c, &back));
    t_ok(env, tf_map_compose(env, c, back, &one));
    tf_map_matrix(one, x);
    for (int i = 0; i < 9; i++)
        ck_assert_double_lt(fabs((double)x[i] - (i % 4 == 0)), 1e-6);
    t_fails(env, tf_map_square(env, TF_MAP_LINEAR, 3, flat, &bad), TFUSE_EINVAL, "cannot be inverted");
    t_fails(env, tf_map_square(env, TF_MAP_LINEAR, 3, none, &bad), TFUSE_EINVAL, "its condition number is inf");
    t_fails(env, tf_map_square(env, TF_MAP_ORTHOGONAL, 3, t, &bad), TFUSE_EINVAL, "not orthogonal");
    t_fails(env, tf_map_scaled(env, 3, source, (const float[]){1, 0, 1}, &bad), TFUSE_EINVAL, "factor 0");
    t_fails(env, tf_map_neutral(env, b, &bad), TFUSE_EINVAL, "only a permutation");
    tf_map_free(a);
    tf_map_free(b);
    tf_map_free(c);
    tf_map_free(back);
    tf_map_free(one);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("gauge");
    T_ADD(test_vit_canonical);
    T_ADD(test_vit_gains_kept);
    T_ADD(test_grouped_rotary);
    T_ADD(test_gated_units);
    T_ADD(test_inverse_and_compose);
    return t_suite;
}
