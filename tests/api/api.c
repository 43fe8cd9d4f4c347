/* SPDX-License-Identifier: Apache-2.0 */
#include "api.h"
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a context that counts ---------------------------------------------------------------------------- */

static atomic_long live;

static void *count_alloc(void *user, size_t size, size_t align)
{
    void *p = NULL;
    (void)user;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0)
        return NULL;
    atomic_fetch_add(&live, 1);
    return p;
}

static void count_free(void *user, void *ptr, size_t size, size_t align)
{
    (void)user, (void)size, (void)align;
    atomic_fetch_sub(&live, 1);
    free(ptr);
}

tfuse_ctx *api_new(void)
{
    const tfuse_allocator alloc = {sizeof alloc, NULL, count_alloc, count_free};
    tfuse_ctx *ctx = NULL;
    ck_assert_int_eq(tfuse_ctx_new(&alloc, &ctx), TFUSE_OK);
    return ctx;
}

void api_done(tfuse_ctx *ctx)
{
    tfuse_ctx_free(ctx);
    long n = atomic_load(&live);
    ck_assert_msg(n == 0, "%ld blocks were not freed", n);
}

/* ---- a model in memory ----------------------------------------------------------------------------------- */

float *api_numbers(size_t count, uint64_t seed)
{
    uint64_t s = seed * 2654435769u + 12345u;
    float *x = malloc((count ? count : 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < count; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((double)(s >> 11) / 4503599627370496.0 - 1.0);
    }
    return x;
}

enum { WIDTH = 8, FFN = 12, CLASSES = 3, PATCHES = 4, MAX_TENSORS = 256 };

typedef struct store {
    float *blocks[MAX_TENSORS];
    int n;
    int *released;
} store;

static void release_store(void *owner)
{
    store *s = owner;
    for (int i = 0; i < s->n; i++)
        free(s->blocks[i]);
    if (s->released)
        ++*s->released;
    free(s);
}

static void add(tfuse_ctx *ctx, tfuse_model *m, store *s, uint64_t seed, const char *name, size_t rank, const int64_t *shape)
{
    size_t count = 1;
    for (size_t i = 0; i < rank; i++)
        count *= (size_t)shape[i];
    ck_assert_int_lt(s->n, MAX_TENSORS);
    s->blocks[s->n] = api_numbers(count, seed * 1000 + (uint64_t)s->n);
    api_ok(ctx, tfuse_model_add(ctx, m, name, TFUSE_F32, rank, shape, s->blocks[s->n]));
    s->n++;
}

static void add_pair(tfuse_ctx *ctx, tfuse_model *m, store *s, uint64_t seed, const char *name, int64_t rows, int64_t cols)
{
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    add(ctx, m, s, seed, full, cols ? 2 : 1, (int64_t[]){rows, cols});
    snprintf(full, sizeof full, "%s.bias", name);
    add(ctx, m, s, seed, full, 1, (int64_t[]){rows});
}

static void add_layer(tfuse_ctx *ctx, tfuse_model *m, store *s, uint64_t seed, int layer)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } linears[] = {{"layernorm_before", WIDTH, 0},
                   {"attention.attention.query", WIDTH, WIDTH},
                   {"attention.attention.key", WIDTH, WIDTH},
                   {"attention.attention.value", WIDTH, WIDTH},
                   {"attention.output.dense", WIDTH, WIDTH},
                   {"layernorm_after", WIDTH, 0},
                   {"intermediate.dense", FFN, WIDTH},
                   {"output.dense", WIDTH, FFN}};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "vit.encoder.layer.%d.%s", layer, linears[i].name);
        add_pair(ctx, m, s, seed, name, linears[i].rows, linears[i].cols);
    }
}

tfuse_model *api_vit(tfuse_ctx *ctx, int layers, uint64_t seed, int *released)
{
    char config[512];
    tfuse_model *m = NULL;
    store *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    s->released = released;
    snprintf(config, sizeof config,
             "{\"architectures\": [\"ViTForImageClassification\"], \"model_type\": \"vit\", \"hidden_size\": %d,"
             " \"num_hidden_layers\": %d, \"num_attention_heads\": 2, \"intermediate_size\": %d, \"hidden_act\": \"gelu\","
             " \"layer_norm_eps\": 1e-12, \"image_size\": 4, \"patch_size\": 2, \"num_channels\": 1, \"qkv_bias\": true,"
             " \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}}",
             WIDTH, layers, FFN);
    api_ok(ctx, tfuse_model_new(ctx, config, release_store, s, &m));
    add(ctx, m, s, seed, "vit.embeddings.cls_token", 3, (int64_t[]){1, 1, WIDTH});
    add(ctx, m, s, seed, "vit.embeddings.position_embeddings", 3, (int64_t[]){1, PATCHES + 1, WIDTH});
    add(ctx, m, s, seed, "vit.embeddings.patch_embeddings.projection.weight", 4, (int64_t[]){WIDTH, 1, 2, 2});
    add(ctx, m, s, seed, "vit.embeddings.patch_embeddings.projection.bias", 1, (int64_t[]){WIDTH});
    for (int i = 0; i < layers; i++)
        add_layer(ctx, m, s, seed, i);
    add_pair(ctx, m, s, seed, "vit.layernorm", WIDTH, 0);
    add_pair(ctx, m, s, seed, "classifier", CLASSES, WIDTH);
    api_ok(ctx, tfuse_model_seal(ctx, m));
    return m;
}

tfuse_array *api_images(tfuse_ctx *ctx, int64_t n, uint64_t seed)
{
    const int64_t shape[] = {n, 1, 4, 4};
    float *x = api_numbers((size_t)n * 16, seed);
    tfuse_array *a = NULL;
    api_ok(ctx, tfuse_array_wrap(ctx, TFUSE_F32, 4, shape, x, NULL, NULL, &a));
    free(x);
    return a;
}

/* ---- files ------------------------------------------------------------------------------------------------- */

char *api_path(const char *name)
{
    char dir[] = "/tmp/tfuse-api-XXXXXX", *path = malloc(sizeof dir + strlen(name) + 1);
    ck_assert_ptr_nonnull(path);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    sprintf(path, "%s/%s", dir, name);
    return path;
}

void api_remove(char *path)
{
    unlink(path);
    *strrchr(path, '/') = '\0';
    ck_assert_msg(rmdir(path) == 0, "something was left in %s", path);
    free(path);
}

void api_remove_dir(const char *dir)
{
    char path[400];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlink(path) != 0)
            api_remove_dir(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

int api_entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}
