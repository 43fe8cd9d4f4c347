/* SPDX-License-Identifier: Apache-2.0
 *
 * Planning of buffers: pieces that live at once never overlap, freed places are used again, and dead nodes are left out.
 */
#include "t.h"
#include <stdio.h>
#include "run/schedule.h"

static void check_no_overlap(const tf_life *lives, size_t n, int64_t total)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(lives[i].offset % 16, 0);
        ck_assert_int_ge(lives[i].offset, 0);
        ck_assert_int_le(lives[i].offset + lives[i].size, total);
        for (size_t j = 0; j < i; j++) {
            const bool in_time = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
            const bool in_space = lives[i].offset < lives[j].offset + lives[j].size &&
                                  lives[j].offset < lives[i].offset + lives[i].size;
            ck_assert_msg(!in_time || !in_space || lives[i].size == 0 || lives[j].size == 0, "pieces %zu and %zu overlap", i, j);
        }
    }
}

START_TEST(test_random_lives)
{
    enum { N = 300 };
    tf_env *env = t_env(1);
    uint64_t seed = 11;
    for (int round = 0; round < 20; round++) {
        tf_life lives[N];
        int64_t sum = 0, total;
        for (int i = 0; i < N; i++) {
            const int64_t first = i / 2, size = (int64_t)((t_rand(&seed) + 1) * 500);
            lives[i] = (tf_life){size, first, first + (int64_t)((t_rand(&seed) + 1) * 5), -1};
            sum += (size + 15) / 16 * 16;
        }
        t_ok(env, tf_life_place(env, lives, N, &total));
        check_no_overlap(lives, N, total);
        ck_assert_int_lt(total, sum / 4); /* at most 22 of 300 live at once */
    }
    t_env_free(env);
}
END_TEST

/* A chain needs two places however long it is. */
START_TEST(test_chain)
{
    tf_env *env = t_env(1);
    tf_life lives[50];
    int64_t total;
    for (int i = 0; i < 50; i++)
        lives[i] = (tf_life){64, i, i + 1, -1};
    t_ok(env, tf_life_place(env, lives, 50, &total));
    ck_assert_int_eq(total, 128);
    check_no_overlap(lives, 50, total);
    t_env_free(env);
}
END_TEST

/* in -> a -> b -> out; a -> side -> unused. */
static tf_graph *branching(tf_env *env, const char *input, const char *width)
{
    tf_graph *g = NULL;
    char spec[64];
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "in", "", input));
    const char *const nodes[][2] = {{"a", "in"}, {"side", "a"}, {"unused", "side"}, {"b", "a"}, {"out", "b"}};
    for (size_t i = 0; i < TF_LEN(nodes); i++) {
        snprintf(spec, sizeof spec, "out=%s_units:%s", nodes[i][0], width);
        t_ok(env, tf_graph_add(env, g, "linear", nodes[i][0], nodes[i][1], spec));
    }
    t_ok(env, tf_graph_output(env, g, "out"));
    t_ok(env, tf_graph_finish(env, g));
    return g;
}

START_TEST(test_dead_nodes)
{
    tf_env *env = t_env(1);
    tf_graph *g = branching(env, "kind=features shape=5,8", "8");
    tf_id wanted[2] = {g->output, tf_graph_find_value(g, "side")}, *nodes = NULL;
    size_t n;
    t_ok(env, tf_schedule_nodes(env, g, wanted, 1, &nodes, &n));
    ck_assert_uint_eq(n, 4);
    for (size_t i = 0; i < n; i++)
        ck_assert(strcmp(g->nodes[nodes[i]].name, "side") && strcmp(g->nodes[nodes[i]].name, "unused"));
    tf_free(&env->mem, nodes);
    t_ok(env, tf_schedule_nodes(env, g, wanted, 2, &nodes, &n));
    ck_assert_uint_eq(n, 5);
    tf_free(&env->mem, nodes);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Shards are powers of two, 16 for a small graph and 1 for one whose single sample fills the cache. */
static int64_t shard_of(const char *input, const char *width, int64_t tokens, int64_t units)
{
    tf_env *env = t_env(1);
    tf_graph *g = branching(env, input, width);
    tf_schedule s;
    tf_id *nodes = NULL;
    size_t n;
    const int64_t extents[TF_MAX_DIMS] = {tokens, units};
    t_ok(env, tf_schedule_nodes(env, g, &g->output, 1, &nodes, &n));
    t_ok(env, tf_schedule_make(env, g, nodes, n, extents, &s));
    const int64_t shard = s.shard;
    ck_assert_int_eq(s.batch[g->output].n, shard);
    ck_assert_int_eq(s.offset[tf_graph_find_value(g, "unused")], -1);
    tf_schedule_free(&s);
    tf_free(&env->mem, nodes);
    tf_graph_free(g);
    t_env_free(env);
    return shard;
}

START_TEST(test_shards)
{
    ck_assert_int_eq(shard_of("kind=features shape=5,8", "8", 5, 8), 16);
    ck_assert_int_eq(shard_of("kind=features shape=1000,48", "48", 1000, 48), 4); /* 384 kB a sample at a node */
    ck_assert_int_eq(shard_of("kind=features shape=10000,64", "64", 10000, 64), 1);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("schedule");
    T_ADD(test_random_lives);
    T_ADD(test_chain);
    T_ADD(test_dead_nodes);
    T_ADD(test_shards);
    return t_suite;
}
