/* SPDX-License-Identifier: Apache-2.0
 *
 * api.h: what tests of the public interface share. They see <tfuse/...> and the shared library alone.
 */
#ifndef API_H
#define API_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <tfuse/tfuse.h>

/* Defined by each test file. */
Suite *make_suite(void);

/* A context whose allocations are counted; api_done fails the test when handles or the context kept any. */
tfuse_ctx *api_new(void);
void api_done(tfuse_ctx *ctx);

#define api_ok(ctx, call)                                                                             \
    do {                                                                                              \
        tfuse_status api_got = (call);                                                                \
        ck_assert_msg(api_got == TFUSE_OK, "%s gave %s: %s", #call, tfuse_status_name(api_got), tfuse_ctx_error(ctx)); \
        ck_assert_str_eq(tfuse_ctx_error(ctx), "");                                                   \
    } while (0)
#define api_fails(ctx, call, want, piece)                                                             \
    do {                                                                                              \
        tfuse_status api_got = (call);                                                                \
        ck_assert_msg(api_got == (want), "%s gave %s: %s", #call, tfuse_status_name(api_got), tfuse_ctx_error(ctx)); \
        ck_assert_msg(strstr(tfuse_ctx_error(ctx), (piece)) != NULL, "text without '%s': %s", (piece), tfuse_ctx_error(ctx)); \
        ck_assert_msg(strchr(tfuse_ctx_error(ctx), '\n') == NULL, "more than one line: %s", tfuse_ctx_error(ctx)); \
    } while (0)

/* `count` numbers in [-1, 1) that follow from the seed; free() them. */
float *api_numbers(size_t count, uint64_t seed);

/* A Vision Transformer in memory, sealed: `layers` layers of width 8 with 2 heads, images of 1×4×4 in 2×2 patches, 3 classes. Its tensors are freed
 * with it; *released, when given, counts that. */
tfuse_model *api_vit(tfuse_ctx *ctx, int layers, uint64_t seed, int *released);
/* n float images for it. */
tfuse_array *api_images(tfuse_ctx *ctx, int64_t n, uint64_t seed);

/* A fresh path under a directory of its own; api_remove removes both. */
char *api_path(const char *name);
void api_remove(char *path);

/* Removes a directory with all that is in it; counts its entries. */
void api_remove_dir(const char *dir);
int api_entries(const char *dir);

#define API_SUITE(name)                        \
    Suite *api_suite = suite_create(name);     \
    TCase *api_case = tcase_create(name);      \
    tcase_set_timeout(api_case, 120);          \
    suite_add_tcase(api_suite, api_case)
#define API_ADD(test) tcase_add_test(api_case, test)

#endif
