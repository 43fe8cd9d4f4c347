/* SPDX-License-Identifier: Apache-2.0
 *
 * kill_at.c: preloaded, ends the process by SIGKILL at the call number KILL_AT of those that change a file or a directory, half of a write done. With
 * KILL_COUNT=FILE it only counts, and leaves the number there at exit.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

/* Whether this call is the one. */
static int is_due(void)
{
    const char *at = getenv("KILL_AT");
    const long now = ++calls;
    return at && now == atol(at);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size)
{
    if (fd > 2 && is_due()) {
        (void)!NEXT(write)(fd, data, size / 2);
        die();
    }
    return NEXT(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (is_due()) {
        (void)!NEXT(pwrite)(fd, data, size / 2, offset);
        die();
    }
    return NEXT(pwrite)(fd, data, size, offset);
}

int fsync(int fd)
{
    if (is_due())
        die();
    return NEXT(fsync)(fd);
}

int ftruncate(int fd, off_t size)
{
    if (is_due())
        die();
    return NEXT(ftruncate)(fd, size);
}

int mkdir(const char *path, mode_t mode)
{
    if (is_due())
        die();
    return NEXT(mkdir)(path, mode);
}

int rename(const char *from, const char *to)
{
    if (is_due())
        die();
    return NEXT(rename)(from, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (is_due())
        die();
    return NEXT(renameat2)(from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char *path, int flags)
{
    if (is_due())
        die();
    return NEXT(unlinkat)(dir, path, flags);
}

int unlink(const char *path)
{
    if (is_due())
        die();
    return NEXT(unlink)(path);
}

int rmdir(const char *path)
{
    if (is_due())
        die();
    return NEXT(rmdir)(path);
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("KILL_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (f) {
        fprintf(f, "%ld\n", atomic_load(&calls));
        fclose(f);
    }
}
