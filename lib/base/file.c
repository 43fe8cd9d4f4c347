/* SPDX-License-Identifier: Apache-2.0
 *
 * file.c: reading whole and mapped files, writing, and path names.
 *
 * Only regular files are read. They are opened without blocking, so a FIFO in the place of a file is an
 * error and not a hang. What is mapped is read through base/blob.h, since looking at a mapped file that another process
 * truncates raises SIGBUS.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_CHUNK = 1 << 20, WRITE_MAX = 1 << 30 };

static tfuse_status open_regular(tf_env *env, const char *path, int *fd, uint64_t *size)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0)
        return tf_fail_errno(env, errno, "%s: cannot open", path);
    struct stat st;
    tfuse_status status = TFUSE_OK;
    if (fstat(*fd, &st) != 0)
        status = tf_fail_errno(env, errno, "%s: cannot be examined", path);
    else if (!S_ISREG(st.st_mode))
        status = tf_fail(env, TFUSE_EIO, "%s: is %s, not a regular file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
    else
        *size = (uint64_t)st.st_size;
    if (status != TFUSE_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

tfuse_status tf_map_file(tf_env *env, const char *path, tf_mapping *out)
{
    int fd;
    uint64_t size;
    memset(out, 0, sizeof *out);
    TF_TRY(open_regular(env, path, &fd, &size));
    tfuse_status status = TFUSE_OK;
    if (size > SIZE_MAX) {
        status = tf_fail(env, TFUSE_ENOMEM, "%s: %llu bytes cannot be mapped", path, (unsigned long long)size);
    } else if (size > 0) {
        void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED)
            status = tf_fail_errno(env, errno, "%s: cannot map %llu bytes", path, (unsigned long long)size);
        else
            *out = (tf_mapping){base, size, base, fd};
    }
    if (!out->base)
        close(fd);
    return status;
}

tfuse_status tf_map_zeros(tf_env *env, uint64_t size, tf_mapping *out)
{
    memset(out, 0, sizeof *out);
    void *base = size > 0 && size <= SIZE_MAX ? mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (base == MAP_FAILED)
        return tf_fail(env, TFUSE_ENOMEM, "%llu bytes of address space cannot be had", (unsigned long long)size);
    *out = (tf_mapping){base, size, base, -1};
    return TFUSE_OK;
}

void tf_unmap_file(tf_mapping *map)
{
    if (map->base) {
        munmap(map->base, (size_t)map->size);
        if (map->fd >= 0)
            close(map->fd);
    }
    memset(map, 0, sizeof *map);
}

/* At most `size` bytes, fewer only at the end of the file; -1 and errno on failure. */
static ssize_t read_some(int fd, char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* The size that the file claims only sets the first read: files of /proc claim none. */
static tfuse_status read_open_file(tf_env *env, int fd, const char *path, uint64_t size, uint64_t limit, tf_buf *out)
{
    size_t chunk = size < limit ? (size_t)size + 1 : (size_t)(limit < SIZE_MAX / 2 ? limit : SIZE_MAX / 2) + 1;
    for (;;) {
        TF_TRY(tf_buf_reserve(env, out, chunk));
        ssize_t n = read_some(fd, out->data + out->len, chunk);
        if (n < 0)
            return tf_fail_errno(env, errno, "%s: cannot read", path);
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (out->len > limit)
            return tf_fail(env, TFUSE_EFORMAT, "%s: is larger than the %llu bytes that are allowed here", path,
                           (unsigned long long)limit);
        if ((size_t)n < chunk)
            return TFUSE_OK;
        chunk = 65536;
    }
}

tfuse_status tf_read_file(tf_env *env, const char *path, uint64_t limit, tf_buf *out)
{
    int fd;
    uint64_t size;
    tf_buf_init(out, &env->mem);
    TF_TRY(open_regular(env, path, &fd, &size));
    tfuse_status status;
    if (size > limit)
        status = tf_fail(env, TFUSE_EFORMAT, "%s: its %llu bytes are more than the %llu that are allowed here", path,
                         (unsigned long long)size, (unsigned long long)limit);
    else
        status = read_open_file(env, fd, path, size, limit, out);
    close(fd);
    if (status != TFUSE_OK)
        tf_buf_free(out);
    return status;
}

bool tf_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool tf_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool tf_is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

char *tf_path_join(tf_env *env, const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    bool slash = a > 0 && dir[a - 1] != '/';
    char *path = tf_alloc(env, a + b + 2);
    if (!path)
        return NULL;
    memcpy(path, dir, a);
    if (slash)
        path[a++] = '/';
    memcpy(path + a, name, b + 1);
    return path;
}

const char *tf_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *tf_path_dir(tf_env *env, const char *path)
{
    size_t len = (size_t)(tf_path_base(path) - path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    char *dir = tf_alloc(env, len + 2);
    if (!dir)
        return NULL;
    memcpy(dir, path, len);
    if (len == 0)
        dir[len++] = '.';
    dir[len] = '\0';
    return dir;
}

/* With offset -1 at the file's own position. */
static tfuse_status write_loop(tf_env *env, int fd, const char *path, const char *data, size_t size, off_t offset)
{
    while (size > 0) {
        size_t part = size < WRITE_MAX ? size : WRITE_MAX;
        ssize_t n = offset < 0 ? write(fd, data, part) : pwrite(fd, data, part, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tf_fail_errno(env, errno, "%s: cannot write", path);
        data += n;
        size -= (size_t)n;
        if (offset >= 0)
            offset += (off_t)n;
    }
    return TFUSE_OK;
}

tfuse_status tf_write_all(tf_env *env, int fd, const char *path, const void *data, size_t size)
{
    return write_loop(env, fd, path, data, size, -1);
}

tfuse_status tf_write_at(tf_env *env, int fd, const char *path, const void *data, size_t size, uint64_t offset)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, size, &end) || end > INT64_MAX)
        return tf_fail(env, TFUSE_ERANGE, "%s: cannot write %zu bytes at %llu: no file is so long", path, size,
                       (unsigned long long)offset);
    return write_loop(env, fd, path, data, size, (off_t)offset);
}

tfuse_status tf_create_file(tf_env *env, const char *path, int *out_fd)
{
    *out_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0666);
    return *out_fd < 0 ? tf_fail_errno(env, errno, "%s: cannot create", path) : TFUSE_OK;
}

tfuse_status tf_close_file(tf_env *env, int fd, const char *path)
{
    int error = fsync(fd) == 0 ? 0 : errno;
    if (error == EINVAL || error == ENOTSUP)
        error = 0; /* something that cannot be synchronised: a pipe, some network file systems */
    if (close(fd) != 0 && errno != EINTR && error == 0)
        error = errno;
    return error ? tf_fail_errno(env, error, "%s: cannot finish writing", path) : TFUSE_OK;
}

static tfuse_status copy_bytes(tf_env *env, int in, const char *from, int out, const char *to)
{
    char *chunk = tf_alloc(env, COPY_CHUNK);
    if (!chunk)
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    ssize_t n;
    do {
        n = read_some(in, chunk, COPY_CHUNK);
        if (n < 0)
            status = tf_fail_errno(env, errno, "%s: cannot read", from);
        else
            status = tf_write_all(env, out, to, chunk, (size_t)n);
    } while (status == TFUSE_OK && n == COPY_CHUNK);
    tf_free(&env->mem, chunk);
    return status;
}

tfuse_status tf_copy_file(tf_env *env, const char *from, const char *to)
{
    int in, out;
    uint64_t size;
    TF_TRY(open_regular(env, from, &in, &size));
    tfuse_status status = tf_create_file(env, to, &out);
    if (status == TFUSE_OK) {
        status = copy_bytes(env, in, from, out, to);
        if (status == TFUSE_OK)
            status = tf_close_file(env, out, to);
        else
            close(out);
        if (status != TFUSE_OK)
            unlink(to);
    }
    close(in);
    return status;
}
