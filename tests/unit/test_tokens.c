/* SPDX-License-Identifier: Apache-2.0
 *
 * Token filters on a small vision graph: which tokens are kept, and which values matter by their class token alone.
 */
#include "t.h"
#include "run/run.h"

/* 1×28×28 images, 7×7 patches and a class token, one block without attention's inner part. */
static tf_graph *vision(tf_env *env, const char *head_op, const char *head_attrs)
{
    const struct {
        const char *op, *name, *inputs, *attrs;
    } nodes[] = {
        {"input", "pixels", "", "kind=image shape=1,28,28"},
        {"patchify", "patches", "pixels", "kernel=4 out=/stream:8"},
        {"parameter", "class", "", "rows=1 of=/stream:8"},
        {"concat_tokens", "tokens", "class patches", ""},
        {"layernorm", "norm", "tokens", ""},
        {"linear", "up", "norm", "out=hidden:16"},
        {"activation", "act", "up", "kind=gelu"},
        {"linear", "down", "act", "out=/stream:8"},
        {"add", "stream", "tokens down", ""},
    };
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    for (size_t i = 0; i < TF_LEN(nodes); i++)
        t_ok(env, tf_graph_add(env, g, nodes[i].op, nodes[i].name, nodes[i].inputs, nodes[i].attrs));
    t_ok(env, tf_graph_add(env, g, head_op, "head", "stream", head_attrs));
    t_ok(env, tf_graph_output(env, g, "head"));
    t_ok(env, tf_graph_finish(env, g));
    return g;
}

static tf_token_filter parse(tf_env *env, const char *text)
{
    tf_token_filter f;
    t_ok(env, tf_token_filter_parse(env, text, &f));
    return f;
}

START_TEST(test_parse)
{
    tf_env *env = t_env(1);
    ck_assert_int_eq(parse(env, "all").kind, TF_TOKENS_ALL);
    ck_assert_int_eq(parse(env, "class").kind, TF_TOKENS_CLASS);
    tf_token_filter f = parse(env, "window12");
    ck_assert_int_eq(f.kind, TF_TOKENS_WINDOW);
    ck_assert_int_eq(f.window, 12);
    const char *const bad[] = {"", "window", "window0", "window-1", "window5x", "window 5", "windows", "All", "window99999999999"};
    for (size_t i = 0; i < TF_LEN(bad); i++)
        t_fails(env, tf_token_filter_parse(env, bad[i], &f), TFUSE_EKEY, "windowN");
    t_env_free(env);
}
END_TEST

static void check_kept(tf_env *env, const tf_graph *g, const char *value, const char *filter, bool class_only,
                       const int64_t *want, int64_t n)
{
    const tf_token_filter f = parse(env, filter);
    int64_t *got = NULL, count;
    t_ok(env, tf_token_positions(env, g, tf_graph_find_value(g, value), &f, class_only, &got, &count));
    ck_assert_msg(count == n, "%s under %s keeps %lld", value, filter, (long long)count);
    for (int64_t i = 0; i < n; i++)
        ck_assert_int_eq(got[i], want[i]);
    tf_free(&env->mem, got);
}

START_TEST(test_positions)
{
    tf_env *env = t_env(1);
    tf_graph *g = vision(env, "token", "index=0");
    int64_t all[50], five[26] = {0}, four[17] = {0};
    for (int i = 0; i < 50; i++)
        all[i] = i;
    for (int i = 0; i < 25; i++)
        five[1 + i] = 1 + (1 + i / 5) * 7 + 1 + i % 5; /* rows and columns 1 to 5 */
    for (int i = 0; i < 16; i++)
        four[1 + i] = 1 + (1 + i / 4) * 7 + 1 + i % 4; /* (7 - 4) / 2 = 1 */
    check_kept(env, g, "stream", "all", false, all, 50);
    check_kept(env, g, "stream", "all", true, all, 50);
    check_kept(env, g, "stream", "class", false, all, 1);
    check_kept(env, g, "stream", "window5", false, five, 26);
    check_kept(env, g, "stream", "window4", false, four, 17);
    check_kept(env, g, "stream", "window7", false, all, 50);
    check_kept(env, g, "stream", "window5", true, all, 1);
    check_kept(env, g, "patches", "window5", false, all, 49); /* no class token: all */
    check_kept(env, g, "patches", "class", false, all, 49);
    check_kept(env, g, "head", "window5", false, all, 1);
    const tf_token_filter wide = parse(env, "window8");
    int64_t *got = NULL, count;
    t_fails(env, tf_token_positions(env, g, tf_graph_find_value(g, "stream"), &wide, false, &got, &count), TFUSE_ERANGE, "7 x 7");
    ck_assert_ptr_null(got);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

static void check_class_only(const char *op, const char *attrs, const char *const *want, size_t n)
{
    tf_env *env = t_env(1);
    tf_graph *g = vision(env, op, attrs);
    bool *only = NULL;
    t_ok(env, tf_value_class_only(env, g, &only));
    size_t found = 0;
    for (size_t v = 0; v < g->n_values; v++)
        found += only[v];
    ck_assert_uint_eq(found, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(only[tf_graph_find_value(g, want[i])], "%s", want[i]);
    tf_free(&env->mem, only);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_class_only)
{
    /* No token meets another here, so the class token decides alone from the concatenation on. */
    static const char *const all[] = {"tokens", "norm", "up", "act", "down", "stream"};
    check_class_only("token", "index=0", all, TF_LEN(all));
    check_class_only("token", "", all, TF_LEN(all));
    check_class_only("token", "index=3", NULL, 0);
    check_class_only("linear", "out=!classes:3", NULL, 0); /* every token reaches the output */
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("tokens");
    T_ADD(test_parse);
    T_ADD(test_positions);
    T_ADD(test_class_only);
    return t_suite;
}
