/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of names.
 */
#include "t.h"

#include "base/strmap.h"

#include <stdio.h>

enum { NAMES = 20000 };

static char names[NAMES][32];

START_TEST(test_put_and_get)
{
    tf_env *env = t_env(1);
    tf_strmap map;
    tf_strmap_init(&map, &env->mem);
    ck_assert_int_eq(tf_strmap_get(&map, "a"), -1);
    for (int i = 0; i < NAMES; i++) {
        int64_t was = 0;
        snprintf(names[i], sizeof names[i], "layer.%d.weight", i);
        t_ok(env, tf_strmap_put(env, &map, names[i], i, &was));
        ck_assert_int_eq(was, -1);
    }
    ck_assert_uint_eq(map.count, NAMES);
    for (int i = 0; i < NAMES; i++)
        ck_assert_int_eq(tf_strmap_get(&map, names[i]), i);
    ck_assert_int_eq(tf_strmap_get(&map, "layer.20000.weight"), -1);
    ck_assert_int_eq(tf_strmap_get(&map, ""), -1);
    tf_strmap_free(&map);
    tf_strmap_free(&map);
    t_env_free(env);
}
END_TEST

START_TEST(test_first_value_stays)
{
    tf_env *env = t_env(1);
    tf_strmap map;
    int64_t was;
    char copy[] = "name";
    tf_strmap_init(&map, &env->mem);
    t_ok(env, tf_strmap_put(env, &map, "name", 5, NULL));
    t_ok(env, tf_strmap_put(env, &map, copy, 6, &was));
    ck_assert_int_eq(was, 5);
    ck_assert_int_eq(tf_strmap_get(&map, "name"), 5);
    ck_assert_uint_eq(map.count, 1);
    t_ok(env, tf_strmap_put(env, &map, "", 9, &was));
    ck_assert_int_eq(was, -1);
    ck_assert_int_eq(tf_strmap_get(&map, ""), 9);
    tf_strmap_free(&map);
    t_env_free(env);
}
END_TEST

/* Names of every length up to 40, so that each tail of the hash is met. */
START_TEST(test_lengths)
{
    tf_env *env = t_env(1);
    tf_strmap map;
    char text[41][41];
    tf_strmap_init(&map, &env->mem);
    for (int n = 0; n <= 40; n++) {
        memset(text[n], 'a', (size_t)n);
        text[n][n] = 0;
        t_ok(env, tf_strmap_put(env, &map, text[n], n, NULL));
    }
    for (int n = 0; n <= 40; n++)
        ck_assert_int_eq(tf_strmap_get(&map, text[n]), n);
    tf_strmap_free(&map);
    t_env_free(env);
}
END_TEST

static void *refuse_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    return (*left)-- > 0 ? tf_mem_default.alloc(NULL, size, align) : NULL;
}

static void plain_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user;
    tf_mem_default.free(NULL, ptr, size, align);
}

START_TEST(test_out_of_memory)
{
    int left = 1;
    tf_mem mem = {sizeof mem, &left, refuse_alloc, plain_free};
    tf_env env;
    tf_strmap map;
    static const char *keys[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    tf_env_init(&env, &mem);
    tf_strmap_init(&map, &env.mem);
    for (int i = 0; i < 8; i++)
        t_ok(&env, tf_strmap_put(&env, &map, keys[i], i, NULL));
    t_fails(&env, tf_strmap_put(&env, &map, keys[8], 8, NULL), TFUSE_ENOMEM, "out of memory");
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(tf_strmap_get(&map, keys[i]), i);
    ck_assert_int_eq(tf_strmap_get(&map, keys[8]), -1);
    tf_strmap_free(&map);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("strmap");
    T_ADD(test_put_and_get);
    T_ADD(test_first_value_stays);
    T_ADD(test_lengths);
    T_ADD(test_out_of_memory);
    return t_suite;
}
