/* SPDX-License-Identifier: Apache-2.0 */
#include "t.h"
#include <dirent.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct counted {
    tf_env env; /* first: a tf_env pointer is a counted pointer */
    atomic_long live;
} counted;

static void *count_alloc(void *user, size_t size, size_t align)
{
    counted *c = user;
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0)
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return p;
}

static void count_free(void *user, void *ptr, size_t size, size_t align)
{
    counted *c = user;
    (void)size, (void)align;
    atomic_fetch_sub(&c->live, 1);
    free(ptr);
}

tf_env *t_env(uint32_t threads)
{
    counted *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    tf_mem mem = {sizeof mem, c, count_alloc, count_free};
    tf_env_init(&c->env, &mem);
    if (threads > 1)
        t_ok(&c->env, tf_pool_new(&c->env, threads, &c->env.pool));
    return &c->env;
}

void t_env_free(tf_env *env)
{
    counted *c = (counted *)env;
    tf_pool_free(env->pool);
    long live = atomic_load(&c->live);
    ck_assert_msg(live == 0, "%ld blocks were not freed", live);
    free(c);
}

float t_rand(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) / 4503599627370496.0 - 1.0);
}

void t_fill(float *x, size_t n, uint64_t seed)
{
    uint64_t s = seed * 2654435769u + 12345u;
    for (size_t i = 0; i < n; i++)
        x[i] = t_rand(&s);
}

double t_max_diff(const float *x, const float *y, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= worst))
            worst = d;
    }
    return worst;
}

char *t_mkdtemp(void)
{
    char *path = strdup("/tmp/tfuse-test-XXXXXX");
    ck_assert_ptr_nonnull(path);
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        unlink(path);
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        char child[4096];
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        remove_tree(child);
    }
    closedir(dir);
    rmdir(path);
}

void t_rmdir(char *path)
{
    remove_tree(path);
    free(path);
}

void t_write_file(const char *dir, const char *name, const void *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    fclose(f);
}
