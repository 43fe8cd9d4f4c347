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

/* ---- while it is being opened: cut at every allocation, which come between all reads ------------- */

/* Empties the file at allocation number `at`. */
typedef struct cutter {
    long calls, at;
    const char *file;
} cutter;

static void *cutting_alloc(void *user, size_t size, size_t align)
{
    cutter *c = user;
    void *p = NULL;
    if (c->calls++ == c->at)
        ck_assert_int_eq(truncate(c->file, 0), 0);
    return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) ? NULL : p;
}

static void cutting_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    free(ptr);
}

typedef tfuse_status (*opener)(tfuse_ctx *ctx, const char *path);

static tfuse_status open_model(tfuse_ctx *ctx, const char *path)
{
    tfuse_model *m = NULL;
    const tfuse_status status = tfuse_model_open(ctx, path, 0, &m);
    tfuse_model_free(m);
    return status;
}

static tfuse_status open_array(tfuse_ctx *ctx, const char *path)
{
    tfuse_array *a = NULL;
    const tfuse_status status = tfuse_array_open(ctx, path, &a);
    ck_assert_int_eq(a != NULL, status == TFUSE_OK);
    tfuse_array_free(a);
    return status;
}

static tfuse_status open_plan(tfuse_ctx *ctx, const char *path)
{
    tfuse_plan *plan = NULL;
    const tfuse_status status = tfuse_plan_load(ctx, path, &plan);
    tfuse_plan_free(plan);
    return status;
}

/* What the error may be: a file that was cut before its size was asked for is a damaged one. */
static void check_cut(tfuse_ctx *ctx, tfuse_status status, int *shorter)
{
    const char *text = tfuse_ctx_error(ctx);
    ck_assert_msg(status == TFUSE_OK || status == TFUSE_EIO || status == TFUSE_EFORMAT || status == TFUSE_ECORRUPT, "%s: %s",
                  tfuse_status_name(status), text);
    ck_assert_msg(status == TFUSE_OK || (*text && !strchr(text, '\n')), "%s: '%s'", tfuse_status_name(status), text);
    *shorter += status == TFUSE_EIO && strstr(text, "has become shorter");
}

/* `file` is what `path` is, or what is in it. */
static void cut_everywhere(opener open, const char *from, const char *file, const char *path, const char *key)
{
    char what[600];
    int shorter = 0;
    bool uncut = false;
    snprintf(what, sizeof what, "%s%s", path, key);
    for (long at = 0; !uncut; at += 1 + at / 32) { /* the first ones all, of many a part */
        cutter c = {.at = at, .file = file};
        const tfuse_allocator alloc = {sizeof alloc, &c, cutting_alloc, cutting_free};
        tfuse_ctx *ctx = NULL;
        copy(from, file);
        ck_assert_int_eq(tfuse_ctx_new(&alloc, &ctx), TFUSE_OK);
        const tfuse_status status = open(ctx, what);
        uncut = c.calls <= at;
        ck_assert_msg(!uncut || status == TFUSE_OK, "%s: %s", from, tfuse_ctx_error(ctx));
        check_cut(ctx, status, &shorter);
        tfuse_ctx_free(ctx);
    }
    ck_assert_msg(shorter > 0, "%s was never cut while it was being read", from);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_opening_a_model)
{
    fix f = open_copy();
    cut_everywhere(open_model, "tests/data/vit-fmnist-a/model.safetensors", f.file, f.dir, "");
    close_copy(&f);
}
END_TEST

START_TEST(test_opening_arrays)
{
    static const uint8_t gzip[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x63, 0x60, 0xe0, 0x60, 0x64, 0x60,
                                   0x60, 0x60, 0x61, 0x64, 0x62, 0x66, 0x01, 0x00, 0xc9, 0x10, 0x81, 0x1d, 0x0c, 0x00, 0x00, 0x00};
    static const char fortran[] = "\x93NUMPY\1\0\71\0{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2)}\n\1\3\2\4";
    char *file = api_path("array.npz"), *source = api_path("source");
    cut_everywhere(open_array, "tests/data/parity/images_n40.npy", file, file, "");
    cut_everywhere(open_array, "tests/data/parity/acts_emd_mean.npz", file, file, ":T/03/resid_embeddings");
    write_file(source, gzip, sizeof gzip);
    cut_everywhere(open_array, source, file, file, "");
    write_file(source, fortran, sizeof fortran - 1);
    cut_everywhere(open_array, source, file, file, "");
    unlink(file);
    unlink(source);
    api_remove(source);
    api_remove(file);
}
END_TEST

START_TEST(test_opening_a_plan)
{
    fix f = open_copy();
    tfuse_plan *plan = NULL;
    char *file = api_path("cut.plan"), *source = api_path("whole.plan");
    api_ok(f.ctx, tfuse_align(f.ctx, NULL, models_of(&f), 2, NULL, &plan));
    api_ok(f.ctx, tfuse_plan_save(f.ctx, plan, source, 0));
    tfuse_plan_free(plan);
    cut_everywhere(open_plan, source, file, file, "");
    unlink(file);
    unlink(source);
    api_remove(source);
    api_remove(file);
    close_copy(&f);
}
END_TEST

Suite *make_suite(void)
{
    API_SUITE("truncated");
    API_ADD(test_between);
    API_ADD(test_while_aligning);
    API_ADD(test_while_fusing);
    API_ADD(test_opening_a_model);
    API_ADD(test_opening_arrays);
    API_ADD(test_opening_a_plan);
    return api_suite;
}
