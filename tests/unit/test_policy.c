/* SPDX-License-Identifier: Apache-2.0
 *
 * The key table and policies.
 */
#include "policy/policy.h"
#include "t.h"
#include <locale.h>
#include <math.h>
#include <string.h>

static tf_env *env;
static tfuse_policy *p;

static void setup(void)
{
    env = t_env(1);
    t_ok(env, tf_policy_new(env, &p));
}

static void teardown(void)
{
    tf_policy_free(p);
    t_env_free(env);
}

START_TEST(table_is_sound)
{
    ck_assert_uint_gt(tf_key_count, 20);
    for (size_t i = 0; i < tf_key_count; i++) {
        const tf_key *k = &tf_keys[i];
        t_ok(env, tf_key_check(env, k, k->fallback));
        ck_assert_ptr_eq(tf_key_find(k->name), k); /* so no name occurs twice */
        ck_assert_uint_gt(strlen(k->help), 10);
        ck_assert_ptr_null(strchr(k->help, '\n'));
        ck_assert_int_eq(k->type == TFUSE_KEY_CHOICE || k->type == TFUSE_KEY_SET, k->values != NULL);
        ck_assert(strlen(k->name) < 64);
    }
}
END_TEST

START_TEST(defaults)
{
    ck_assert(tf_policy_is(p, "align.strategy", "matching"));
    ck_assert(tf_policy_is(NULL, "solver.name", "exact"));
    ck_assert_double_eq(tf_policy_real(NULL, "solver.reg"), 0.05);
    ck_assert_int_eq(tf_policy_int(p, "calib.samples"), 200);
    ck_assert(!tf_policy_flag(p, "otfusion.compat"));
    ck_assert(!tf_policy_was_set(p, "otfusion.compat"));
    ck_assert(!tf_policy_was_set(NULL, "otfusion.compat"));
    ck_assert_uint_eq(tf_policy_reals(p, "combine.weights", NULL, 0), 0);
    ck_assert_str_eq(tf_policy_text(p, "no.such"), "");
    ck_assert_int_eq(tf_policy_int(p, "no.such"), 0);
    ck_assert(isnan(tf_policy_real(p, "no.such")));
}
END_TEST

START_TEST(last_setting_wins)
{
    double w[2] = {0, 0};
    t_ok(env, tf_policy_set(env, p, "otfusion.metric", "cosine"));
    ck_assert_int_eq(tf_policy_choice(p, "otfusion.metric"), 2);
    t_ok(env, tf_policy_set(env, p, "otfusion.metric", "sqeuclidean"));
    ck_assert_int_eq(tf_policy_choice(p, "otfusion.metric"), 1);
    ck_assert(tf_policy_was_set(p, "otfusion.metric"));
    t_ok(env, tf_policy_set(env, p, "combine.weights", "0.25,-1e-2,3"));
    ck_assert_uint_eq(tf_policy_reals(p, "combine.weights", w, 2), 3);
    ck_assert_double_eq(w[0], 0.25);
    ck_assert_double_eq(w[1], -0.01);
    t_ok(env, tf_policy_set(env, p, "run.seed", "9007199254740992"));
    ck_assert_int_eq(tf_policy_int(p, "run.seed"), INT64_C(9007199254740992));
    t_ok(env, tf_policy_set(env, p, "otfusion.compat", "1"));
    ck_assert(tf_policy_flag(p, "otfusion.compat"));
    t_ok(env, tf_policy_set(env, p, "otfusion.tokens", "window5"));
    /* a refused value leaves the earlier one */
    t_fails(env, tf_policy_set(env, p, "otfusion.metric", "L2"), TFUSE_EKEY, "sqeuclidean");
    ck_assert_int_eq(tf_policy_choice(p, "otfusion.metric"), 1);
}
END_TEST

START_TEST(refusals)
{
    static const char *const bad[][2] = {
        {"solver.reg", "0"},        {"solver.reg", "-1"},         {"solver.reg", "nan"},        {"solver.reg", "inf"},
        {"solver.reg", "1e999"},    {"solver.reg", "0x1p-3"},     {"solver.reg", " 0.1"},       {"solver.reg", "0.1 "},
        {"solver.reg", ""},         {"solver.reg", "0,1"},        {"solver.reg", "1e"},         {"solver.reg", "--1"},
        {"calib.samples", "0"},     {"calib.samples", "1.0"},     {"calib.samples", "1e3"},     {"calib.samples", ""},
        {"calib.samples", "+5"},    {"calib.samples", "-"},       {"calib.samples", " 5"},      {"calib.samples", "-9223372036854775808"},
        {"calib.samples", "99999999999999999999"},                {"run.seed", "9007199254740993"},
        {"io.force", "yes"},        {"io.force", "2"},            {"io.force", "01"},           {"io.force", ""},
        {"io.dtype", "f16"},        {"io.dtype", "|"},            {"io.dtype", "F32 | F16"},    {"io.dtype", ""},
        {"io.dtype", "kee"},        {"io.dtype", "keep "},        {"solver.name", ""},          {"solver.name", "a b"},
        {"solver.name", "a/b"},     {"combine.weights", ""},      {"combine.weights", "1,"},    {"combine.weights", ",1"},
        {"combine.weights", "1,,2"}, {"combine.weights", "1;2"},  {"combine.weights", "1, 2"},  {"combine.weights", "equal,1"},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++)
        t_fails(env, tf_policy_set(env, p, bad[i][0], bad[i][1]), TFUSE_EKEY, bad[i][0]);
    t_fails(env, tf_policy_set(env, p, "io.dtype", "F8"), TFUSE_EKEY, "keep | F32 | F16 | BF16");
    t_fails(env, tf_policy_set(env, p, "run.batch", "x\n\x01"), TFUSE_EKEY, "'x?\?'");
}
END_TEST

START_TEST(unknown_key_names_the_nearest)
{
    char longest[5000];
    t_fails(env, tf_policy_set(env, p, "solver.rge", "1"), TFUSE_EKEY, "did you mean 'solver.reg'");
    t_fails(env, tf_policy_set(env, p, "foo", "1"), TFUSE_EKEY, "unknown key 'foo'; run");
    t_fails(env, tf_policy_set(env, p, "calib.sample", "1"), TFUSE_EKEY, "'calib.samples'");
    t_fails(env, tf_policy_set(env, p, "Align.strategy", "none"), TFUSE_EKEY, "'align.strategy'");
    t_fails(env, tf_policy_set(env, p, "", "1"), TFUSE_EKEY, "tfuse keys");
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    t_fails(env, tf_policy_set(env, p, longest, "1"), TFUSE_EKEY, "tfuse keys");
}
END_TEST

START_TEST(sets)
{
    tf_key key = {"repair", TFUSE_KEY_SET, "auto | none | head | statistics", 0, 0, "auto", "a set"};
    t_ok(env, tf_key_check(env, &key, "auto"));
    t_ok(env, tf_key_check(env, &key, "statistics,head"));
    t_fails(env, tf_key_check(env, &key, "head,head"), TFUSE_EKEY, "different words");
    t_fails(env, tf_key_check(env, &key, "head,"), TFUSE_EKEY, "repair");
    t_fails(env, tf_key_check(env, &key, ""), TFUSE_EKEY, "repair");
    t_fails(env, tf_key_check(env, &key, "hea"), TFUSE_EKEY, "repair");
    ck_assert(tf_policy_has(p, "align.strategy", "matching"));
    ck_assert(!tf_policy_has(p, "align.strategy", "otf"));
}
END_TEST

START_TEST(foreign_locale)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    for (size_t i = 0; i < TF_LEN(names); i++)
        if (setlocale(LC_ALL, names[i]))
            break;
    t_ok(env, tf_policy_set(env, p, "solver.reg", "0.125"));
    ck_assert_double_eq(tf_policy_real(p, "solver.reg"), 0.125);
    t_fails(env, tf_policy_set(env, p, "solver.reg", "0,125"), TFUSE_EKEY, "solver.reg");
    setlocale(LC_ALL, "C");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("policy");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(table_is_sound);
    T_ADD(defaults);
    T_ADD(last_setting_wins);
    T_ADD(refusals);
    T_ADD(unknown_key_names_the_nearest);
    T_ADD(sets);
    T_ADD(foreign_locale);
    return t_suite;
}
