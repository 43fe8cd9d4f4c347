/* SPDX-License-Identifier: Apache-2.0
 *
 * Philox against published values, and the distributions made of it.
 */
#include "t.h"

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { DRAWS = 200000 };

/* The known answers of Random123 (kat_vectors, philox4x32 10), first two words. */
START_TEST(test_known_answers)
{
    tf_rng zero = {0, 0, 0};
    ck_assert(tf_rng_at(&zero, 0) == 0xe169c58d6627e8d5u);
    tf_rng ones = {UINT64_MAX, UINT64_MAX, 0};
    ck_assert(tf_rng_at(&ones, UINT64_MAX) == 0x41c83b0e408f276du);
    tf_rng pi = {0x299f31d0a4093822u, 0x0370734413198a2eu, 0};
    ck_assert(tf_rng_at(&pi, 0x85a308d3243f6a88u) == 0x94fdccebd16cfe09u);
}
END_TEST

START_TEST(test_streams)
{
    tf_rng a = tf_rng_make(7, "layer.0.weight"), b = tf_rng_make(7, "layer.1.weight"), c = tf_rng_make(8, "layer.0.weight");
    ck_assert(a.stream != b.stream);
    ck_assert(tf_rng_at(&a, 0) != tf_rng_at(&b, 0));
    ck_assert(tf_rng_at(&a, 0) != tf_rng_at(&c, 0));
    uint64_t first = tf_rng_next(&a), second = tf_rng_next(&a);
    ck_assert(first != second);
    ck_assert(first == tf_rng_at(&a, 0) && second == tf_rng_at(&a, 1));
}
END_TEST

/* A mean of DRAWS values has a standard deviation of sigma / sqrt(DRAWS); 5 of them are allowed. */
START_TEST(test_moments)
{
    tf_rng r = tf_rng_make(1, "moments");
    double sum = 0, sum2 = 0, normal = 0, normal2 = 0, normal4 = 0;
    for (int i = 0; i < DRAWS; i++) {
        double u = tf_rng_uniform(&r), z = tf_rng_normal(&r);
        ck_assert(u >= 0 && u < 1 && isfinite(z));
        sum += u;
        sum2 += u * u;
        normal += z;
        normal2 += z * z;
        normal4 += z * z * z * z;
    }
    double step = 5 / sqrt((double)DRAWS);
    ck_assert(fabs(sum / DRAWS - 0.5) < 0.2887 * step);
    ck_assert(fabs(sum2 / DRAWS - 1.0 / 3) < 0.2982 * step);
    ck_assert(fabs(normal / DRAWS) < step);
    ck_assert(fabs(normal2 / DRAWS - 1) < 1.4143 * step);
    ck_assert(fabs(normal4 / DRAWS - 3) < 9.798 * step);
}
END_TEST

START_TEST(test_below)
{
    tf_rng r = tf_rng_make(2, "below");
    int hits[6] = {0};
    for (int i = 0; i < DRAWS; i++) {
        uint64_t v = tf_rng_below(&r, 6);
        ck_assert(v < 6);
        hits[v]++;
    }
    double expected = DRAWS / 6.0;
    for (int i = 0; i < 6; i++)
        ck_assert(fabs(hits[i] - expected) < 5 * sqrt(expected));
    ck_assert(tf_rng_below(&r, 1) == 0);
    /* With n just above 2^63 almost half of all values are rejected. */
    uint64_t n = (UINT64_C(1) << 63) + 1;
    for (int i = 0; i < 1000; i++)
        ck_assert(tf_rng_below(&r, n) < n);
}
END_TEST

START_TEST(test_permutation)
{
    tf_rng r = tf_rng_make(3, "permutation");
    int64_t p[100];
    int moved = 0;
    bool seen[100] = {false};
    tf_rng_permutation(&r, 100, p);
    for (int i = 0; i < 100; i++) {
        ck_assert(p[i] >= 0 && p[i] < 100 && !seen[p[i]]);
        seen[p[i]] = true;
        moved += p[i] != i;
    }
    ck_assert_int_gt(moved, 80);
    /* Of three elements every order is as likely. */
    int order[27] = {0};
    for (int i = 0; i < 60000; i++) {
        tf_rng_permutation(&r, 3, p);
        order[p[0] * 9 + p[1] * 3 + p[2]]++;
    }
    int kinds = 0;
    for (int i = 0; i < 27; i++) {
        kinds += order[i] > 0;
        ck_assert(order[i] == 0 || abs(order[i] - 10000) < 500);
    }
    ck_assert_int_eq(kinds, 6);
    tf_rng_permutation(&r, 0, p);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("rng");
    T_ADD(test_known_answers);
    T_ADD(test_streams);
    T_ADD(test_moments);
    T_ADD(test_below);
    T_ADD(test_permutation);
    return t_suite;
}
