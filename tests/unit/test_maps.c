/* SPDX-License-Identifier: Apache-2.0 */
#include "maps/map.h"
#include "t.h"
#include <math.h>
#include <stdlib.h>

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

/* ---- maps of few entries: summed entry by entry, not multiplied -------------------------------------------- */

enum { FROM = 120, TO = 96, WIDE = 37 };

/* A mean of three ways of sending each of the anchor's units somewhere, which leaves units of both sides without mass. */
static tf_map *few_entries(tf_env *env, tf_map_kind kind)
{
    static float mass[FROM * TO];
    tf_map *map;
    memset(mass, 0, sizeof mass);
    for (int64_t j = 0; j < TO; j++)
        for (int64_t k = 1; k < 4 && j % 17; k++)
            mass[(j * (2 * k + 1) + 5 * k) % (FROM - 3) * TO + j] += (kind == TF_MAP_RAW && k == 2 ? -0.3F : 0.1F) * (float)k;
    t_ok(env, tf_map_dense(env, kind, FROM, TO, mass, &map));
    return map;
}

/* Identity but for a few pairs that are mixed by [[1, 1], [0, 1]], whose inverse is not its transpose. */
static tf_map *few_sheared(tf_env *env)
{
    static float t[FROM * FROM];
    tf_map *map;
    memset(t, 0, sizeof t);
    for (int64_t u = 0; u < FROM; u++)
        t[u * FROM + u] = 1;
    for (int64_t u = 0; u + 7 < FROM; u += 9)
        t[u * FROM + u + 7] = 1;
    t_ok(env, tf_map_square(env, TF_MAP_LINEAR, FROM, t, &map));
    return map;
}

/* Units apart by 3 beside numbers of others: heads of half the units, 2 to a head. */
static tf_part apart(int64_t size)
{
    tf_part p = {.label = "", .n_factors = 2, .port = {0, 1}, .extent = {size / 2, 2}, .stride = {7, 3}, .offset = 1, .size = size, .n_ports = 2};
    return p;
}

/* Moves dimension 1 of [outer, units, inner] against the operator as a matrix in float64, by one thread and by several. A unit is a sum of at
 * most three products of numbers below one: 1e-6. What is not of the part keeps the 9 that is there. */
static void check_few(tf_env *const env[2], const tf_map *map, bool produced, const tf_part *from, const tf_part *to, int64_t outer, int64_t inner)
{
    const int64_t extent = 4 * map->n, dst_extent = 4 * map->m, shape[] = {outer, extent, inner};
    const size_t size = (size_t)(outer * extent * inner), dst_size = (size_t)(outer * dst_extent * inner);
    float *src = malloc(size * sizeof *src), *dst = malloc(2 * dst_size * sizeof *dst);
    float *op = malloc((size_t)(map->n * map->m) * sizeof *op);
    double *want = malloc(dst_size * sizeof *want);
    t_fill(src, size, 5);
    (produced ? tf_map_matrix : tf_map_consumed)(map, op);
    for (size_t i = 0; i < dst_size; i++)
        want[i] = (double)(dst[i] = dst[dst_size + i] = 9);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t j = 0; j < map->m; j++)
            for (int64_t i = 0; i < inner; i++) {
                double sum = 0;
                for (int64_t u = 0; u < map->n; u++)
                    sum += (double)op[u * map->m + j] * (double)src[(o * extent + tf_part_index(from, u)) * inner + i];
                want[(o * dst_extent + tf_part_index(to, j)) * inner + i] = sum;
            }
    for (int t = 0; t < 2; t++)
        t_ok(env[t], tf_map_apply(env[t], map, produced, src, 3, shape, 1, from, to, dst_extent, dst + (size_t)t * dst_size));
    for (size_t i = 0; i < dst_size; i++)
        ck_assert_double_le(fabs((double)dst[i] - want[i]), 1e-6);
    ck_assert_int_eq(memcmp(dst, dst + dst_size, dst_size * sizeof *dst), 0);
    free(src);
    free(dst);
    free(op);
    free(want);
}

START_TEST(few_entries_move_as_the_operator_says)
{
    tf_env *env[2] = {t_env(1), t_env(3)};
    tf_map *maps[] = {few_entries(env[0], TF_MAP_COUPLING), few_entries(env[0], TF_MAP_RAW), few_sheared(env[0])};
    const int64_t sizes[][2] = {{1, WIDE}, {3, 2 * WIDE}, {1, 1}, {WIDE, 1}, {2, 16}};
    for (size_t k = 0; k < TF_LEN(maps); k++)
        for (size_t s = 0; s < TF_LEN(sizes); s++)
            for (int form = 0; form < 4; form++) {
                tf_part from = form & 1 ? apart(maps[k]->n) : plain_part(maps[k]->n), to = form & 1 ? plain_part(maps[k]->m) : apart(maps[k]->m);
                check_few(env, maps[k], form & 2, &from, &to, sizes[s][0], sizes[s][1]);
            }
    for (size_t k = 0; k < TF_LEN(maps); k++)
        tf_map_free(maps[k]);
    t_env_free(env[0]);
    t_env_free(env[1]);
}
END_TEST

typedef struct budget {
    int left, live;
} budget;

static void *spend(void *user, size_t size, size_t align)
{
    budget *b = user;
    void *ptr = b->left-- > 0 ? tf_mem_default.alloc(NULL, size, align) : NULL;
    b->live += ptr != NULL;
    return ptr;
}

static void give_back(void *user, void *ptr, size_t size, size_t align)
{
    ((budget *)user)->live--;
    tf_mem_default.free(NULL, ptr, size, align);
}

/* Whichever allocation of a move fails, it says so and keeps nothing. */
START_TEST(moves_without_memory)
{
    tf_env *own = t_env(1);
    const int64_t shape[] = {4, FROM};
    static float src[4 * FROM], dst[4 * TO];
    static float full[FROM * TO];
    const tf_part from = plain_part(FROM), to = plain_part(TO);
    tf_map *maps[2] = {few_entries(own, TF_MAP_COUPLING)};
    for (int i = 0; i < FROM * TO; i++)
        full[i] = 1;
    t_ok(own, tf_map_dense(own, TF_MAP_COUPLING, FROM, TO, full, &maps[1]));
    for (int k = 0; k < 2; k++) {
        tfuse_status status = TFUSE_ENOMEM;
        int tries = 0;
        for (; status != TFUSE_OK && tries < 50; tries++) {
            budget b = {tries, 0};
            tf_mem mem = {sizeof mem, &b, spend, give_back};
            tf_env env;
            tf_env_init(&env, &mem);
            status = tf_map_apply(&env, maps[k], true, src, 2, shape, 1, &from, &to, TO, dst);
            ck_assert(status == TFUSE_OK || status == TFUSE_ENOMEM);
            ck_assert_int_eq(b.live, 0);
        }
        ck_assert(status == TFUSE_OK && tries > 3);
        tf_map_free(maps[k]);
    }
    t_env_free(own);
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
    T_ADD(few_entries_move_as_the_operator_says);
    T_ADD(moves_without_memory);
    T_ADD(shapes_that_do_not_fit);
    return t_suite;
}
