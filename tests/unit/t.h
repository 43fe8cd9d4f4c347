/* SPDX-License-Identifier: Apache-2.0
 *
 * t.h: what unit tests share.
 */
#ifndef T_H
#define T_H

#include <check.h>
#include <string.h>
#include "base/env.h"
#include "base/pool.h"

/* Defined by each test file. */
Suite *make_suite(void);

/* A fresh environment with `threads` threads; free with t_env_free, which fails the test when
 * memory that came from it was not given back. */
tf_env *t_env(uint32_t threads);
void t_env_free(tf_env *env);

/* Asserts that a call succeeded, and prints the library's text when it did not. */
#define t_ok(env, call) ck_assert_msg((call) == TFUSE_OK, "%s: %s", #call, (env)->error)
/* Asserts a status and that the error text contains a piece. */
#define t_fails(env, call, want, piece)                                                             \
    do {                                                                                            \
        tfuse_status t_got = (call);                                                                \
        ck_assert_msg(t_got == (want), "%s gave %d (%s)", #call, (int)t_got, (env)->error);         \
        ck_assert_msg(strstr((env)->error, (piece)) != NULL, "text without '%s': %s", (piece), (env)->error); \
    } while (0)

/* Deterministic numbers in [-1, 1). */
float t_rand(uint64_t *state);
void t_fill(float *x, size_t n, uint64_t seed);
/* Largest absolute difference. */
double t_max_diff(const float *x, const float *y, size_t n);

/* A new empty directory, removed by t_rmdir with all that is in it. The path is malloc'ed. */
char *t_mkdtemp(void);
void t_rmdir(char *path);
void t_write_file(const char *dir, const char *name, const void *data, size_t size);

/* One suite with one case. */
#define T_SUITE(name)                              \
    Suite *t_suite = suite_create(name);           \
    TCase *t_case = tcase_create(name);            \
    tcase_set_timeout(t_case, 120);                \
    suite_add_tcase(t_suite, t_case)
#define T_ADD(test) tcase_add_test(t_case, test)

#endif
