/* SPDX-License-Identifier: Apache-2.0
 *
 * Padding: what stands under a mask changes no plan and no repaired weight, to the bit; and sequences that are padded give what they give without it.
 * A mask that hides everything is refused.
 *
 * Tolerance: with and without padding the same rows are summed in the same order, but attention sums over more tokens, the further ones zeros, and in
 * another order: activations agree to 1e-6, and what least squares makes of them to 1e-3 of the largest weight.
 */
#include "t_scene.h"

enum { LONG = 7, SHORT = 4, WORDS = 11 };

/* The encoder of t_nets.h on words, whose attention has a mask. */
static t_node encoder[TF_LEN(bert) + 1] = {
    {"input", "ids", "", "kind=tokens"},
    {"input", "mask", "", "kind=tokens default=1"},
    {"embedding", "embed", "ids", "rows=!words:11 of=/stream:$S"},
};

static void encoder_open(scene *s, int threads)
{
    enum { OWN = 3, REPLACED = 2 };
    memcpy(encoder + OWN, bert + REPLACED, sizeof bert - REPLACED * sizeof *bert);
    for (size_t i = OWN; i < TF_LEN(encoder); i++)
        if (!strcmp(encoder[i].op, "attention"))
            encoder[i].inputs = "l0/q l0/k l0/v mask";
    scene_open(s, encoder, TF_LEN(encoder), threads, SAMPLES);
}

/* seen: tokens of each sample, 0: some number of them; what follows is padding: `under`, or, -1, any. */
static tfuse_array *sequences(tf_env *env, int64_t length, int64_t seen, int32_t under)
{
    tfuse_array *ids, *mask;
    t_ok(env, tf_array_new(env, TFUSE_I32, 2, (const int64_t[]){SAMPLES, length}, &ids));
    t_ok(env, tf_array_new(env, TFUSE_I32, 2, (const int64_t[]){SAMPLES, length}, &mask));
    int32_t *id = (int32_t *)ids->data, *m = (int32_t *)mask->data;
    for (int64_t s = 0; s < SAMPLES; s++)
        for (int64_t t = 0; t < length; t++, id++, m++) {
            const int32_t token = (int32_t)((s * 7 + t * 3 + s * t) % WORDS);
            *m = t < (seen > 0 ? seen : 1 + s % length);
            *id = *m || under < 0 ? token : under;
        }
    t_ok(env, tf_array_attach(env, ids, "mask", mask));
    return ids;
}

static void take(scene *s, tfuse_array *calib)
{
    tf_array_free(s->calib);
    s->calib = calib;
}

static void fuse(scene *s, const char *stages)
{
    int which;
    scene_align(s, "matching", s->calib);
    set(s, "repair", stages);
    t_ok(s->env, tf_repair_stages(s->env, s->policy, s->plan, true, &which));
    const tf_fuse_job job = job_of(s);
    t_ok(s->env, tf_repair(s->env, &job, which, s->calib, &s->fitted, &s->report));
}

static double size_of(const float *x, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

/* The largest deviation of one run's tensors from another's, as a share of the tensor's largest. */
static double apart(const scene *x, const scene *y)
{
    double most = 0;
    for (size_t p = 0; p < x->g->n_params; p++) {
        const size_t count = t_param_count(x->g, (tf_id)p);
        ck_assert_int_eq(x->fitted[p] != NULL, y->fitted[p] != NULL);
        for (size_t i = 0; x->fitted[p] && i < count; i++)
            most = fmax(most, fabs((double)x->fitted[p][i] - (double)y->fitted[p][i]) / size_of(x->fitted[p], count));
    }
    return most;
}

static double number(const scene *s, const char *key)
{
    return json_number_value(json_object_get(s->report, key));
}

static const char *const figures[] = {"kl_fused", "kl_anchor", "kl_refit"}; /* the last is NULL, 0, where no head is fitted */
static const char *const stages[] = {"select,refit,head", "regmean,statistics", "circuits"};

static void check_same(tfuse_array *(*one)(tf_env *), tfuse_array *(*other)(tf_env *), double tolerance)
{
    scene a, b;
    encoder_open(&a, 2);
    encoder_open(&b, 1);
    take(&a, one(a.env));
    take(&b, other(b.env));
    for (size_t i = 0; i < TF_LEN(stages); i++) {
        fuse(&a, stages[i]);
        fuse(&b, stages[i]);
        ck_assert_msg(apart(&a, &b) <= tolerance, "%s: tensors deviate by %g", stages[i], apart(&a, &b));
        for (size_t k = 0; k < TF_LEN(figures); k++)
            ck_assert_msg(!(fabs(number(&a, figures[k]) - number(&b, figures[k])) > tolerance), "%s, %s: %g and %g", stages[i], figures[k],
                          number(&a, figures[k]), number(&b, figures[k]));
    }
    scene_close(&a);
    scene_close(&b);
}

static tfuse_array *zeros_under(tf_env *env) { return sequences(env, LONG, 0, 0); }
static tfuse_array *words_under(tf_env *env) { return sequences(env, LONG, 0, -1); }
static tfuse_array *padded(tf_env *env) { return sequences(env, LONG, SHORT, 0); }
static tfuse_array *unpadded(tf_env *env) { return sequences(env, SHORT, SHORT, 0); }

START_TEST(test_under)
{
    check_same(zeros_under, words_under, 0);
}
END_TEST

START_TEST(test_padded)
{
    check_same(padded, unpadded, 1e-3);
}
END_TEST

/* The paper's strategy sees the same too: its maps alone. */
START_TEST(test_transport)
{
    scene a, b;
    encoder_open(&a, 2);
    encoder_open(&b, 2);
    take(&a, zeros_under(a.env));
    take(&b, words_under(b.env));
    set(&a, "solver.name", "sinkhorn");
    set(&b, "solver.name", "sinkhorn");
    scene_align(&a, "otfusion", a.calib);
    scene_align(&b, "otfusion", b.calib);
    ck_assert_uint_gt(a.plan->n_maps, 3);
    ck_assert_uint_eq(a.plan->n_maps, b.plan->n_maps);
    for (size_t i = 0; i < a.plan->n_maps; i++) {
        const tf_map *x = a.plan->maps[i].map, *y = b.plan->maps[i].map;
        ck_assert(x->kind == y->kind && x->n == y->n && x->m == y->m);
        if (x->dense)
            ck_assert_mem_eq(x->dense, y->dense, (size_t)(x->n * x->m) * sizeof *x->dense);
    }
    scene_close(&a);
    scene_close(&b);
}
END_TEST

/* Where a value has no row for each token, or rows that are others'. */
START_TEST(test_follows)
{
    static const t_node nodes[] = {
        {"input", "ids", "", "kind=tokens"},
        {"embedding", "embed", "ids", "rows=!words:11 of=/stream:4"},
        {"positions", "places", "ids", "rows=!places:9 of=/stream:4"},
        {"add", "sum", "embed places", ""},
        {"parameter", "table", "", "rows=7 of=/stream:4"},
        {"token", "first", "sum", ""},
        {"mean_tokens", "mean", "sum", ""},
        {"add", "both", "first mean", ""},
        {"linear", "head", "both", "out=!classes:3"},
    };
    static const bool want[] = {true, true, true, true, false, false, false, false, false};
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    bool *follows;
    t_ok(env, tf_value_follows_tokens(env, g, &follows));
    for (size_t i = 0; i < TF_LEN(nodes); i++)
        ck_assert_msg(follows[tf_graph_find_value(g, nodes[i].name)] == want[i], "%s", nodes[i].name);
    tf_free(&env->mem, follows);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_hidden)
{
    scene s;
    int which;
    encoder_open(&s, 1);
    take(&s, padded(s.env));
    set(&s, "repair", "refit");
    scene_align(&s, "matching", s.calib);
    t_ok(s.env, tf_repair_stages(s.env, s.policy, s.plan, true, &which));
    memset((void *)s.calib->next->data, 0, sizeof(int32_t) * s.calib->count);
    const tf_align_job align = {.policy = s.policy, .solvers = &s.solvers, .models = s.models, .graphs = s.graphs, .n = 2, .calib = s.calib};
    const tf_fuse_job job = job_of(&s);
    tfuse_plan *plan = NULL;
    t_fails(s.env, tf_align(s.env, &align, &plan), TFUSE_ERANGE, "hides all of them");
    t_fails(s.env, tf_repair(s.env, &job, which, s.calib, &s.fitted, &s.report), TFUSE_ERANGE, "hides all tokens");
    scene_close(&s);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("padding");
    T_ADD(test_under);
    T_ADD(test_padded);
    T_ADD(test_transport);
    T_ADD(test_follows);
    T_ADD(test_hidden);
    return t_suite;
}
