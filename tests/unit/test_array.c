/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays and the arithmetic of shapes.
 */
#include "num/array.h"
#include "t.h"
#include <string.h>

static tf_env *env;
static int released;

static void setup(void)
{
    env = t_env(1);
    released = 0;
}

static void teardown(void)
{
    t_env_free(env);
}

static void count_release(void *owner)
{
    released += *(int *)owner;
}

START_TEST(new_is_zeroed)
{
    int64_t shape[] = {3, 0, 5}, two[] = {2, 3};
    tfuse_array *a;
    t_ok(env, tf_array_new(env, TFUSE_F32, 3, shape, &a));
    ck_assert_uint_eq(a->count, 0);
    tf_array_free(a);
    t_ok(env, tf_array_new(env, TFUSE_I64, 2, two, &a));
    ck_assert_uint_eq(a->count, 6);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(((int64_t *)a->data)[i], 0);
    tf_array_free(a);
    t_ok(env, tf_array_new(env, TFUSE_F32, 0, NULL, &a)); /* a scalar */
    ck_assert_uint_eq(a->count, 1);
    tf_array_free(a);
    tf_array_free(NULL);
}
END_TEST

START_TEST(wrap_copies_or_borrows)
{
    int one = 1;
    float x[2] = {1, 2};
    int64_t shape[] = {2};
    tfuse_array *a;
    t_ok(env, tf_array_wrap(env, TFUSE_F32, 1, shape, x, NULL, NULL, &a));
    ck_assert_ptr_ne(a->data, x);
    ck_assert_mem_eq(a->data, x, sizeof x);
    tf_array_free(a);
    t_ok(env, tf_array_wrap(env, TFUSE_F32, 1, shape, x, count_release, &one, &a));
    ck_assert_ptr_eq(a->data, x);
    ck_assert_int_eq(released, 0);
    tf_array_free(a);
    ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(wrap_releases_on_failure)
{
    int one = 1;
    int64_t shape[] = {-2}, good[] = {2};
    float x[2] = {1, 2};
    tfuse_array *a = NULL;
    t_fails(env, tf_array_wrap(env, TFUSE_F32, 1, shape, x, count_release, &one, &a), TFUSE_ESHAPE, "[-2]");
    ck_assert_int_eq(released, 1);
    ck_assert_ptr_null(a);
    t_fails(env, tf_array_wrap(env, TFUSE_F32, 1, good, NULL, count_release, &one, &a), TFUSE_EINVAL, "without data");
    ck_assert_int_eq(released, 2);
    t_fails(env, tf_array_wrap(env, 99, 1, good, x, NULL, NULL, &a), TFUSE_EDTYPE, "99");
}
END_TEST

START_TEST(shapes_that_overflow)
{
    size_t count, bytes;
    int64_t big[] = {INT64_C(1) << 31, INT64_C(1) << 31, 4}, zero_last[] = {INT64_MAX, INT64_MAX, 0},
            zero_first[] = {0, INT64_MAX, INT64_MAX}, edge[] = {PTRDIFF_MAX / 4 + 1}, ok[] = {0, INT64_C(1) << 40};
    int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    t_fails(env, tf_shape_count(env, TFUSE_U8, 3, big, &count, &bytes), TFUSE_ESHAPE, "too large");
    t_fails(env, tf_shape_count(env, TFUSE_U8, 3, zero_last, &count, &bytes), TFUSE_ESHAPE, "too large");
    t_fails(env, tf_shape_count(env, TFUSE_U8, 3, zero_first, &count, &bytes), TFUSE_ESHAPE, "too large");
    t_fails(env, tf_shape_count(env, TFUSE_F32, 1, edge, &count, &bytes), TFUSE_ESHAPE, "too large");
    t_fails(env, tf_shape_count(env, TFUSE_F32, 9, nine, &count, &bytes), TFUSE_ESHAPE, "9 dimensions");
    t_ok(env, tf_shape_count(env, TFUSE_F32, 2, ok, &count, NULL));
    ck_assert_uint_eq(count, 0);
    t_ok(env, tf_shape_count(env, TFUSE_F16, 8, nine, &count, &bytes));
    ck_assert_uint_eq(bytes, 2);
}
END_TEST

START_TEST(shape_text)
{
    char text[32], small[8];
    int64_t shape[] = {3, -4, 50};
    ck_assert_str_eq(tf_shape_text(text, sizeof text, 3, shape), "[3, -4, 50]");
    ck_assert_str_eq(tf_shape_text(text, sizeof text, 0, shape), "[]");
    ck_assert_str_eq(tf_shape_text(small, sizeof small, 3, shape), "[3, -4,");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("array");
    tcase_add_checked_fixture(t_case, setup, teardown);
    T_ADD(new_is_zeroed);
    T_ADD(wrap_copies_or_borrows);
    T_ADD(wrap_releases_on_failure);
    T_ADD(shapes_that_overflow);
    T_ADD(shape_text);
    return t_suite;
}
