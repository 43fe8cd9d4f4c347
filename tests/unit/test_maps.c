/* SPDX-License-Identifier: Apache-2.0 */
#include "maps/map.h"
#include "t.h"
#include <math.h>

/* A part of `size` units that lie one after the other. */
static tf_part plain_part(int64_t size)
{
    tf_part p = {.label = "", .n_factors = 1, .port = {0}, .extent = {size}, .stride = {1}, .size = size, .n_ports = 1};
    return p;
}

START_TEST(permutation_refuses_what_is_none)
{
    tf_env *env = t_env(1);
    tf_map *map;
    const int64_t twice[] = {0, 1, 1}, outside[] = {0, 1, 3};
    t_fails(env, tf_map_permutation(env, 3, twice, &map), TFUSE_EINVAL, "source 1");
    t_fails(env, tf_map_permutation(env, 3, outside, &map), TFUSE_EINVAL, "source 3");
    ck_assert_ptr_null(map);
    t_env_free(env);
}
END_TEST

START_TEST(permutation_moves_rows_and_columns_back)
{
    tf_env *env = t_env(1);
    const int64_t source[] = {2, 0, 1}, shape[] = {3, 2}, turned[] = {2, 3};
    const float w[] = {1, 2, 3, 4, 5, 6}; /* 3 × 2 */
    float rows[6], cols[6];
    tf_part p = plain_part(3);
    tf_map *map;
    t_ok(env, tf_map_permutation(env, 3, source, &map));
    t_ok(env, tf_map_apply(env, map, true, w, 2, shape, 0, &p, &p, 3, rows));
    ck_assert(rows[0] == 5 && rows[1] == 6 && rows[2] == 1 && rows[5] == 4);
    /* A consumer of the moved units: columns move alike, so the product W2 W1 is unchanged. */
    t_ok(env, tf_map_apply(env, map, false, w, 2, turned, 1, &p, &p, 3, cols));
    ck_assert(cols[0] == 3 && cols[1] == 1 && cols[2] == 2 && cols[3] == 6);
    tf_map_free(map);
    t_env_free(env);
}
END_TEST

/* Four units onto two: outputs are means of merged units, inputs are sums, so a layer of equal units computes the same. */
START_TEST(coupling_keeps_scale_at_unequal_widths)
{
    tf_env *env = t_env(1);
    const float mass[] = {.25f, 0, .25f, 0, 0, .25f, 0, .25f};
    const int64_t rows_shape[] = {4, 1}, cols_shape[] = {1, 4};
    const float w1[] = {3, 3, 5, 5}, w2[] = {1, 2, 10, 20};
    float out[2], in[2], t[8];
    tf_part from = plain_part(4), to = plain_part(2);
    tf_map *map;
    t_ok(env, tf_map_dense(env, TF_MAP_COUPLING, 4, 2, mass, &map));
    t_ok(env, tf_map_apply(env, map, true, w1, 2, rows_shape, 0, &from, &to, 2, out));
    t_ok(env, tf_map_apply(env, map, false, w2, 2, cols_shape, 1, &from, &to, 2, in));
    ck_assert(out[0] == 3 && out[1] == 5);
    ck_assert(in[0] == 3 && in[1] == 30);
    tf_map_matrix(map, t);
    for (int j = 0; j < 2; j++)
        ck_assert_float_eq_tol(t[j] + t[2 + j] + t[4 + j] + t[6 + j], 1, 1e-6f);
    tf_map_free(map);
    t_env_free(env);
}
END_TEST

START_TEST(unit_without_mass_gets_nothing)
{
    tf_env *env = t_env(1);
    const float mass[] = {1, 0, 0, 0};
    float t[4], c[4];
    tf_map *map;
    t_ok(env, tf_map_dense(env, TF_MAP_COUPLING, 2, 2, mass, &map));
    tf_map_matrix(map, t);
    tf_map_consumed(map, c);
    ck_assert(t[0] == 1 && t[1] == 0 && t[3] == 0 && c[0] == 1 && c[2] == 0);
    tf_map_free(map);
    t_env_free(env);
}
END_TEST

static tf_map *swap_blocks(tf_env *env)
{
    const int64_t flip[] = {1, 0}, swap[] = {1, 0};
    tf_map *inner[2], *map;
    t_ok(env, tf_map_permutation(env, 2, flip, &inner[0]));
    t_ok(env, tf_map_identity(env, 2, &inner[1]));
    t_ok(env, tf_map_block(env, 2, 2, swap, inner, &map));
    return map;
}

START_TEST(blocks_move_with_what_is_in_them)
{
    tf_env *env = t_env(1);
    tf_map *map = swap_blocks(env);
    const float w[] = {0, 1, 2, 3};
    const int64_t shape[] = {4};
    float out[4];
    tf_part p = plain_part(4);
    t_ok(env, tf_map_apply(env, map, true, w, 1, shape, 0, &p, &p, 4, out));
    ck_assert(out[0] == 3 && out[1] == 2 && out[2] == 0 && out[3] == 1);
    tf_map *copy;
    t_ok(env, tf_map_clone(env, map, &copy));
    float a[16], b[16];
    tf_map_matrix(map, a);
    tf_map_matrix(copy, b);
    ck_assert_double_eq(t_max_diff(a, b, 16), 0);
    tf_map_free(copy);
    tf_map_free(map);
    t_env_free(env);
}
END_TEST

/* Parts whose units lie apart (interleaved heads) are gathered and scattered by their strides. */
START_TEST(strided_parts)
{
    tf_env *env = t_env(1);
    tf_part p = {.label = "", .n_factors = 2, .port = {0, 1}, .extent = {2, 2}, .stride = {4, 1}, .offset = 2, .size = 4,
                 .n_ports = 2};
    const int64_t source[] = {3, 2, 1, 0}, shape[] = {8};
    const float w[] = {0, 1, 2, 3, 4, 5, 6, 7};
    float out[8] = {0};
    float dense[16] = {0}, out2[8] = {0};
    tf_map *map, *coupling;
    t_ok(env, tf_map_permutation(env, 4, source, &map));
    t_ok(env, tf_map_apply(env, map, true, w, 1, shape, 0, &p, &p, 8, out));
    ck_assert(out[2] == 7 && out[3] == 6 && out[6] == 3 && out[7] == 2 && out[0] == 0);
    for (int j = 0; j < 4; j++)
        dense[source[j] * 4 + j] = .25f;
    t_ok(env, tf_map_dense(env, TF_MAP_COUPLING, 4, 4, dense, &coupling));
    t_ok(env, tf_map_apply(env, coupling, true, w, 1, shape, 0, &p, &p, 8, out2));
    ck_assert_double_eq(t_max_diff(out, out2, 8), 0);
    tf_map_free(coupling);
    tf_map_free(map);
    t_env_free(env);
}
END_TEST

START_TEST(mix_by_column)
{
    tf_env *env = t_env(1);
    const int64_t swap[] = {1, 0};
    const double w[] = {0.25, 1};
    tf_map *a, *b, *mixed, *same;
    float t[4];
    t_ok(env, tf_map_identity(env, 2, &a));
    t_ok(env, tf_map_permutation(env, 2, swap, &b));
    t_ok(env, tf_map_mix(env, a, b, w, false, &mixed));
    tf_map_matrix(mixed, t);
    ck_assert_float_eq_tol(t[0], .25f, 1e-7f);
    ck_assert_float_eq_tol(t[2], .75f, 1e-7f);
    ck_assert(t[3] == 1 && t[1] == 0);
    t_ok(env, tf_map_mix(env, b, b, w, false, &same));
    ck_assert_int_eq(same->kind, TF_MAP_PERMUTATION);
    tf_map_free(a);
    tf_map_free(b);
    tf_map_free(mixed);
    tf_map_free(same);
    t_env_free(env);
}
END_TEST

START_TEST(measures)
{
    tf_env *env = t_env(1);
    const float uniform[] = {.25f, .25f, .25f, .25f};
    tf_map *id, *soft, *blocks = swap_blocks(env);
    t_ok(env, tf_map_identity(env, 2, &id));
    t_ok(env, tf_map_dense(env, TF_MAP_COUPLING, 2, 2, uniform, &soft));
    ck_assert_double_eq(tf_map_off_identity(id), 0);
    ck_assert_double_eq(tf_map_spread(id), 1);
    ck_assert_double_eq_tol(tf_map_off_identity(soft), .5, 1e-12);
    ck_assert_double_eq_tol(tf_map_spread(soft), 2, 1e-12);
    ck_assert_double_eq(tf_map_off_identity(blocks), 1);
    tf_map_free(id);
    tf_map_free(soft);
    tf_map_free(blocks);
    t_env_free(env);
}
END_TEST

START_TEST(shapes_that_do_not_fit)
{
    tf_env *env = t_env(1);
    const float w[] = {1, 2, 3};
    const int64_t shape[] = {3};
    float out[3];
    tf_part three = plain_part(3), two = plain_part(2);
    tf_map *id, *id3, *mixed;
    t_ok(env, tf_map_identity(env, 2, &id));
    t_ok(env, tf_map_identity(env, 3, &id3));
    t_fails(env, tf_map_apply(env, id, true, w, 1, shape, 0, &three, &three, 3, out), TFUSE_ESHAPE, "2 units");
    t_fails(env, tf_map_apply(env, NULL, true, w, 1, shape, 0, &three, &two, 2, out), TFUSE_ESHAPE, "no map");
    t_fails(env, tf_map_mix(env, id, id3, NULL, false, &mixed), TFUSE_ESHAPE, "cannot be combined");
    tf_map_free(id);
    tf_map_free(id3);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("maps");
    T_ADD(permutation_refuses_what_is_none);
    T_ADD(permutation_moves_rows_and_columns_back);
    T_ADD(coupling_keeps_scale_at_unequal_widths);
    T_ADD(unit_without_mass_gets_nothing);
    T_ADD(blocks_move_with_what_is_in_them);
    T_ADD(strided_parts);
    T_ADD(mix_by_column);
    T_ADD(measures);
    T_ADD(shapes_that_do_not_fit);
    return t_suite;
}
