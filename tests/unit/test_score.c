/* SPDX-License-Identifier: Apache-2.0
 *
 * Scoring: values worked out by hand, ties, ignored and non-finite rows, checked labels.
 */
#include "t.h"
#include <math.h>
#include "run/run.h"

START_TEST(test_accuracy_and_loss)
{
    const float logits[] = {1, 2, 3, 5, 5, 0, 1000, 0, -1000};
    const int64_t labels[] = {2, 1, 0};
    tf_score s = {0};
    tf_score_add(&s, logits, 3, 3, labels);
    ck_assert_int_eq(s.n, 3);
    ck_assert_int_eq(s.correct, 2); /* the tie of row 1 goes to class 0 */
    /* row 0: log(1 + e^-1 + e^-2); row 1: log(2 + e^-5); row 2: log(1 + e^-1000 + ...) = 0 */
    const double want = log(1 + exp(-1) + exp(-2)) + log(2 + exp(-5));
    ck_assert_double_eq_tol(s.loss_sum, want, 1e-14);
    ck_assert_int_eq(s.nonfinite, 0);
}
END_TEST

START_TEST(test_ignored_and_nonfinite)
{
    const float logits[] = {1, 2, NAN, 2, 3, INFINITY, 4, 1};
    const int64_t labels[] = {-100, 1, 1, 0};
    tf_score s = {0};
    tf_score_add(&s, logits, 4, 2, labels);
    ck_assert_int_eq(s.n, 3);
    ck_assert_int_eq(s.nonfinite, 2);
    ck_assert_int_eq(s.correct, 1);
    ck_assert_double_eq_tol(s.loss_sum, log1p(exp(-3)), 1e-15);
}
END_TEST

/* One call's sum is that of its parts in order. */
START_TEST(test_batches_add_up)
{
    float logits[60];
    int64_t labels[20];
    t_fill(logits, 60, 5);
    for (int i = 0; i < 20; i++)
        labels[i] = i % 3;
    tf_score whole = {0}, parts = {0};
    tf_score_add(&whole, logits, 20, 3, labels);
    tf_score_add(&parts, logits, 7, 3, labels);
    tf_score_add(&parts, logits + 21, 13, 3, labels + 7);
    ck_assert_int_eq(whole.correct, parts.correct);
    ck_assert(whole.loss_sum == parts.loss_sum);
}
END_TEST

static tfuse_array *wrap(tf_env *env, tfuse_dtype dtype, int64_t n, const void *data)
{
    tfuse_array *a = NULL;
    t_ok(env, tf_array_wrap(env, dtype, 1, &n, data, NULL, NULL, &a));
    return a;
}

START_TEST(test_labels)
{
    tf_env *env = t_env(1);
    const int64_t wide[] = {0, 9, -100, 3};
    const uint8_t narrow[] = {7, 8, 9};
    const uint64_t huge[] = {1, UINT64_MAX};
    const float real[] = {1, 2};
    int64_t *out = NULL;
    tfuse_array *a = wrap(env, TFUSE_I64, 4, wide), *b = wrap(env, TFUSE_U8, 3, narrow), *c = wrap(env, TFUSE_U64, 2, huge),
                *d = wrap(env, TFUSE_F32, 2, real);
    t_ok(env, tf_labels_make(env, a, 4, 10, &out));
    ck_assert_mem_eq(out, wide, sizeof wide);
    tf_free(&env->mem, out);
    t_ok(env, tf_labels_make(env, b, 2, 10, &out));
    ck_assert_int_eq(out[1], 8);
    tf_free(&env->mem, out);
    t_fails(env, tf_labels_make(env, a, 4, 9, &out), TFUSE_ERANGE, "label 9 at index 1");
    ck_assert_ptr_null(out);
    t_fails(env, tf_labels_make(env, c, 2, 10, &out), TFUSE_ERANGE, "at index 1");
    t_fails(env, tf_labels_make(env, b, 4, 10, &out), TFUSE_ESHAPE, "3 entries for 4");
    t_fails(env, tf_labels_make(env, d, 2, 10, &out), TFUSE_EDTYPE, "F32");
    tf_array_free(a);
    tf_array_free(b);
    tf_array_free(c);
    tf_array_free(d);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("score");
    T_ADD(test_accuracy_and_loss);
    T_ADD(test_ignored_and_nonfinite);
    T_ADD(test_batches_add_up);
    T_ADD(test_labels);
    return t_suite;
}
