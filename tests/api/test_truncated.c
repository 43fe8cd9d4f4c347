/* SPDX-License-Identifier: Apache-2.0
 *
 * A checkpoint that is cut short while it is open: an error that says so, nothing under the output's name, and no signal.
 */
#include "api.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A copy of a file. */
static void copy(const char *from, const char *to)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    char block[4096];
    ck_assert(in && out);
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;)
        ck_assert_uint_eq(fwrite(block, 1, n, out), n);
    fclose(in);
    ck_assert_int_eq(fclose(out), 0);
}

typedef struct fix {
    tfuse_ctx *ctx;
    char *dir, file[512], config[512];
    tfuse_model *models[2];
    const char *stage; /* at which the file is cut; NULL: never */
} fix;

static void cut(const fix *f)
{
    ck_assert_int_eq(truncate(f->file, 4096), 0);
}

static fix open_copy(void)
{
    fix f = {.ctx = api_new(), .dir = api_path("a")};
    ck_assert_int_eq(mkdir(f.dir, 0700), 0);
    snprintf(f.file, sizeof f.file, "%s/model.safetensors", f.dir);
    snprintf(f.config, sizeof f.config, "%s/config.json", f.dir);
    copy("tests/data/vit-fmnist-a/model.safetensors", f.file);
    copy("tests/data/vit-fmnist-a/config.json", f.config);
    api_ok(f.ctx, tfuse_model_open(f.ctx, "tests/data/vit-fmnist-b", 0, &f.models[0]));
    api_ok(f.ctx, tfuse_model_open(f.ctx, f.dir, 0, &f.models[1]));
    return f;
}

static void close_copy(fix *f)
{
    tfuse_model_free(f->models[0]);
    tfuse_model_free(f->models[1]);
    unlink(f->file);
    unlink(f->config);
    rmdir(f->dir);
    api_remove(f->dir);
    api_done(f->ctx);
}

static const tfuse_model *const *models_of(const fix *f)
{
    return (const tfuse_model *const *)f->models;
}

START_TEST(test_between)
{
    fix f = open_copy();
    tfuse_plan *plan = NULL;
    tfuse_score score = {.struct_size = sizeof score};
    tfuse_array *images = NULL;
    cut(&f);
    api_fails(f.ctx, tfuse_align(f.ctx, NULL, models_of(&f), 2, NULL, &plan), TFUSE_EIO, "shorter");
    api_ok(f.ctx, tfuse_array_open(f.ctx, "tests/data/parity/images_n40.npy", &images));
    api_fails(f.ctx, tfuse_eval(f.ctx, f.models[1], NULL, images, NULL, 0, &score), TFUSE_EIO, "model.safetensors");
    tfuse_array_free(images);
    close_copy(&f);
}
END_TEST

static int32_t cut_at(void *user, const tfuse_progress *progress)
{
    const fix *f = user;
    if (f->stage && !strcmp(progress->stage, f->stage))
        cut(f);
    return 0;
}

START_TEST(test_while_aligning)
{
    fix f = open_copy();
    tfuse_plan *plan = NULL;
    f.stage = "hashing";
    tfuse_ctx_set_progress(f.ctx, cut_at, &f);
    api_fails(f.ctx, tfuse_align(f.ctx, NULL, models_of(&f), 2, NULL, &plan), TFUSE_EIO, "shorter");
    ck_assert_ptr_null(plan);
    close_copy(&f);
}
END_TEST

START_TEST(test_while_fusing)
{
    fix f = open_copy();
    tfuse_plan *plan = NULL;
    char *out = api_path("out");
    api_ok(f.ctx, tfuse_align(f.ctx, NULL, models_of(&f), 2, NULL, &plan));
    f.stage = "fusing";
    tfuse_ctx_set_progress(f.ctx, cut_at, &f);
    api_fails(f.ctx, tfuse_fuse(f.ctx, NULL, plan, models_of(&f), 2, out), TFUSE_EIO, "shorter");
    ck_assert_int_ne(access(out, F_OK), 0);
    tfuse_plan_free(plan);
    api_remove(out);
    close_copy(&f);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("truncated");
    API_ADD(test_between);
    API_ADD(test_while_aligning);
    API_ADD(test_while_fusing);
    return api_suite;
}
