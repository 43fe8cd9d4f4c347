/* SPDX-License-Identifier: Apache-2.0
 *
 * stage.c: a file or directory that appears under its final name whole or not at all.
 *
 * The temporary lies beside the final name, so that a rename is enough, and is locked by flock while its
 * writer lives: the kernel drops the lock with the process, so a temporary without a lock is
 * stale. Between open and flock another process may have renamed or removed what was opened; therefore a lock
 * counts only if the name still leads to the locked inode, and else everything starts over. An
 * inode number cannot be used again while its descriptor is open.
 *
 * Only a directory that could be an output of this library is ever replaced, without subdirectories and with a .safetensors file (or empty): a mistyped
 * name must not cost a home directory, nor one of notes.
 */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

enum { OPEN_TRIES = 100, LOCK_TRIES = 1000 };

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static DIR *open_dir_at(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    DIR *dir = fdopendir(fd);
    if (!dir)
        close(fd);
    return dir;
}

/* Removes a file, or a directory with all that is in it; 0, or errno. Follows no links. */
static int remove_tree(int at, const char *name)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    DIR *dir = open_dir_at(at, name);
    if (!dir)
        return errno;
    int error = 0;
    for (struct dirent *e; !error && (e = readdir(dir)) != NULL;) {
        if (!is_dot(e->d_name))
            error = remove_tree(dirfd(dir), e->d_name);
    }
    closedir(dir);
    if (!error && unlinkat(at, name, AT_REMOVEDIR) != 0)
        error = errno;
    return error;
}

static bool is_tensor_file(const char *name)
{
    static const char end[] = ".safetensors";
    const size_t n = strlen(name);
    return n >= sizeof end - 1 && strcmp(name + n - (sizeof end - 1), end) == 0;
}

/* Could the directory be an output of this library? */
static tfuse_status check_contents(tf_env *env, const char *path)
{
    char subdir[256] = "", other[256] = "";
    bool tensors = false;
    DIR *dir = open_dir_at(AT_FDCWD, path);
    if (!dir)
        return tf_fail_errno(env, errno, "%s: cannot look into it", path);
    for (struct dirent *e; !subdir[0] && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (is_dot(e->d_name))
            continue;
        const bool is_dir = fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
        tensors |= !is_dir && is_tensor_file(e->d_name);
        tf_printable(is_dir ? subdir : other, sizeof subdir, e->d_name);
    }
    closedir(dir);
    if (subdir[0])
        return tf_fail(env, TFUSE_EEXIST, "%s: is not replaced, since it holds a directory '%s', which no output of this library does; remove it first",
                       path, subdir);
    if (other[0] && !tensors)
        return tf_fail(env, TFUSE_EEXIST, "%s: is not replaced, since it holds '%s' and no .safetensors file, as every output of this library does; "
                       "remove it first", path, other);
    return TFUSE_OK;
}

/* A device, pipe or socket, or a link to one, such as /dev/stdout: the whole system may use it. */
static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

tfuse_status tf_stage_check(tf_env *env, const char *path, bool is_dir, bool force)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? TFUSE_OK : tf_fail_errno(env, errno, "%s: cannot be examined", path);
    if (!force)
        return tf_fail(env, TFUSE_EEXIST, "%s: exists; give another name, or --force (io.force=1) to replace it", path);
    if (is_special(path))
        return tf_fail(env, TFUSE_EEXIST, "%s: is a device, pipe or socket and is not replaced; give another name", path);
    if (S_ISLNK(st.st_mode))
        return TFUSE_OK;
    if (is_dir != S_ISDIR(st.st_mode))
        return tf_fail(env, TFUSE_EEXIST, "%s: is %s and is not replaced by %s; remove it first", path,
                       is_dir ? "not a directory" : "a directory", is_dir ? "one" : "a file");
    return is_dir ? check_contents(env, path) : TFUSE_OK;
}

static tfuse_status check_parent(tf_env *env, const char *parent, const char *final_path)
{
    if (tf_is_dir(parent))
        return TFUSE_OK;
    struct stat st;
    if (stat(parent, &st) == 0)
        return tf_fail(env, TFUSE_EIO, "%s: cannot be written, because %s is no directory", final_path, parent);
    return tf_fail(env, TFUSE_EIO, "%s: cannot be written, because there is no directory %s; make it first", final_path, parent);
}

/* Creates the temporary or opens the one that is there; -1 and errno on failure. */
static int open_temp(const char *path, bool is_dir, bool *fresh)
{
    int fd = -1;
    if (is_dir)
        *fresh = mkdir(path, 0777) == 0;
    else
        *fresh = (fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666)) >= 0;
    if (fd >= 0 || (!*fresh && errno != EEXIST))
        return fd;
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static bool same_inode_at(int fd, int at, const char *name)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(at, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool same_inode(int fd, const char *path)
{
    return same_inode_at(fd, AT_FDCWD, path);
}

/* Does the path of the output still lead to the directory that it led to? */
static bool parent_stays(const tf_stage *stage, const char *parent)
{
    struct stat a, b;
    return fstat(stage->parent_fd, &a) == 0 && stat(parent, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static tfuse_status fail_live(tf_env *env, const tf_stage *stage)
{
    return tf_fail(env, TFUSE_EEXIST, "%s: another process is writing it (%s is locked); wait for it", stage->final_path,
                   stage->temp_path);
}

/* Some file systems have no flock. There a new temporary is used without a lock, and one that
 * was there is left for the user to judge. */
static tfuse_status lock_temp(tf_env *env, const tf_stage *stage, int fd, bool fresh)
{
    int error;
    do
        error = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    while (error == EINTR);
    if (error == EWOULDBLOCK)
        return fail_live(env, stage);
    if (error && !fresh)
        return tf_fail(env, TFUSE_EEXIST, "%s: is left over, and this file system cannot tell whether it is in use; "
                       "remove it if nobody is writing %s", stage->temp_path, stage->final_path);
    return TFUSE_OK;
}

/* One attempt at the temporary; stage->lock_fd stays -1 when there must be another. */
static tfuse_status try_temp(tf_env *env, tf_stage *stage)
{
    bool fresh;
    int fd = open_temp(stage->temp_path, stage->is_dir, &fresh);
    if (fd < 0 && errno == ENOENT)
        return TFUSE_OK;
    if (fd < 0)
        return tf_fail_errno(env, errno, "%s: cannot create", stage->temp_path);
    tfuse_status status = lock_temp(env, stage, fd, fresh);
    if (status == TFUSE_OK && same_inode(fd, stage->temp_path)) {
        if (fresh) {
            stage->lock_fd = fd;
            return TFUSE_OK;
        }
        int error = remove_tree(AT_FDCWD, stage->temp_path);
        if (error)
            status = tf_fail_errno(env, error, "%s: cannot remove what an earlier run left", stage->temp_path);
    }
    close(fd);
    return status;
}

static tfuse_status set_paths(tf_env *env, const char *final_path, tf_stage *stage, char **parent)
{
    size_t len = strlen(final_path);
    while (len > 1 && final_path[len - 1] == '/')
        len--;
    stage->final_path = tf_alloc(env, len + 1);
    if (!stage->final_path)
        return TFUSE_ENOMEM;
    memcpy(stage->final_path, final_path, len);
    stage->final_path[len] = '\0';
    const char *base = tf_path_base(stage->final_path);
    if (base[0] == '\0' || is_dot(base))
        return tf_fail(env, TFUSE_EINVAL, "'%s' is no name for an output", final_path);
    *parent = tf_path_dir(env, stage->final_path);
    size_t size = strlen(base) + sizeof "..tfuse-partial";
    char *name = tf_alloc(env, size);
    if (*parent && name) {
        snprintf(name, size, ".%s.tfuse-partial", base);
        stage->temp_path = tf_path_join(env, *parent, name);
    }
    tf_free(&env->mem, name);
    return stage->temp_path ? TFUSE_OK : TFUSE_ENOMEM;
}

static void free_stage(tf_env *env, tf_stage *stage)
{
    if (stage->lock_fd >= 0)
        close(stage->lock_fd);
    if (stage->parent_fd >= 0)
        close(stage->parent_fd);
    tf_free(&env->mem, stage->final_path);
    tf_free(&env->mem, stage->temp_path);
    memset(stage, 0, sizeof *stage);
    stage->lock_fd = stage->parent_fd = -1;
}

tfuse_status tf_stage_try(tf_env *env, const char *final_path, bool is_dir, bool force)
{
    tf_stage stage = {.lock_fd = -1, .parent_fd = -1};
    char *parent = NULL;
    tfuse_status status;
    TF_TRY_OUT(set_paths(env, final_path, &stage, &parent));
    TF_TRY_OUT(check_parent(env, parent, stage.final_path));
    TF_TRY_OUT(tf_stage_check(env, stage.final_path, is_dir, force));
    if (access(parent, W_OK | X_OK) != 0)
        status = tf_fail_errno(env, errno, "%s: cannot be written into directory %s", stage.final_path, parent);
out:
    tf_free(&env->mem, parent);
    free_stage(env, &stage);
    return status;
}

tfuse_status tf_stage_open(tf_env *env, const char *final_path, bool is_dir, bool force, tf_stage *out)
{
    char *parent = NULL;
    tfuse_status status;
    *out = (tf_stage){.lock_fd = -1, .parent_fd = -1, .is_dir = is_dir, .force = force};
    TF_TRY_OUT(set_paths(env, final_path, out, &parent));
    TF_TRY_OUT(check_parent(env, parent, out->final_path));
    out->parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (out->parent_fd < 0)
        TF_TRY_OUT(tf_fail_errno(env, errno, "%s: cannot open", parent));
    TF_TRY_OUT(tf_stage_check(env, out->final_path, is_dir, force));
    for (int i = 0; i < OPEN_TRIES && out->lock_fd < 0; i++)
        TF_TRY_OUT(try_temp(env, out));
    if (out->lock_fd < 0)
        status = fail_live(env, out);
out:
    tf_free(&env->mem, parent);
    if (status != TFUSE_OK)
        free_stage(env, out);
    return status;
}

/* fsync where the file system knows it; 0, or errno. */
static int sync_fd(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
}

static int sync_at(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno;
    int error = sync_fd(fd);
    close(fd);
    return error;
}

static tfuse_status sync_stage(tf_env *env, const tf_stage *stage)
{
    int error = 0;
    if (stage->is_dir) {
        DIR *dir = open_dir_at(AT_FDCWD, stage->temp_path);
        if (!dir)
            return tf_fail_errno(env, errno, "%s: cannot look into it", stage->temp_path);
        for (struct dirent *e; !error && (e = readdir(dir)) != NULL;) {
            if (!is_dot(e->d_name))
                error = sync_at(dirfd(dir), e->d_name);
        }
        closedir(dir);
    }
    if (!error)
        error = sync_fd(stage->lock_fd);
    return error ? tf_fail_errno(env, error, "%s: cannot be written to the disk", stage->temp_path) : TFUSE_OK;
}

/* renameat2 with what to do where it is missing left to the caller: ENOSYS then. */
static int rename_flags(const char *from, const char *to, unsigned flags)
{
#ifdef RENAME_EXCHANGE
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) == 0)
        return 0;
    return errno == EINVAL ? ENOSYS : errno;
#else
    (void)from, (void)to, (void)flags;
    return ENOSYS;
#endif
}

#ifndef RENAME_EXCHANGE
enum { RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2 };
#endif

/* A rename that fails with EEXIST; without the kernel's help there is a moment between look and rename. */
static int rename_new(const char *from, const char *to)
{
    int error = rename_flags(from, to, RENAME_NOREPLACE);
    if (error != ENOSYS)
        return error;
    struct stat st;
    if (lstat(to, &st) == 0)
        return EEXIST;
    return rename(from, to) == 0 ? 0 : errno;
}

/* The old directory moves aside, the new one takes its place; put back if that fails. */
static int replace_in_two_steps(tf_env *env, const char *from, const char *to)
{
    size_t size = strlen(from) + sizeof "-old";
    char *aside = tf_alloc(env, size);
    if (!aside)
        return ENOMEM;
    snprintf(aside, size, "%s-old", from);
    int error = remove_tree(AT_FDCWD, aside);
    if (!error && rename(to, aside) != 0)
        error = errno;
    if (!error && rename(from, to) != 0) {
        error = errno;
        if (rename(aside, to) != 0)
            tf_log(env, TFUSE_LOG_ERROR, "%s: what was there is now %s", to, aside);
    } else if (!error && remove_tree(AT_FDCWD, aside) != 0) {
        tf_log(env, TFUSE_LOG_WARN, "%s: cannot be removed", aside);
    }
    tf_free(&env->mem, aside);
    return error;
}

/* Opens and locks the directory that is to be replaced; -1 if it cannot be had. Another writer may hold its lock for a
 * moment: it opened the temporary that became this directory, and is about to see that the name has moved on. */
static int lock_replaced(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR))
            return fd; /* locked, or on a file system without locks */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

/* After the exchange the temporary's name leads to the old directory. It is locked before, or another
 * writer would take it for stale and begin anew under the name that is being removed here; without the lock it
 * stays, for the next writer to remove. */
static int replace_dir(tf_env *env, const char *from, const char *to)
{
    struct stat st;
    const bool is_link = lstat(to, &st) == 0 && S_ISLNK(st.st_mode); /* which goes; what it leads to stays */
    int old = lock_replaced(to);
    int error = rename_flags(from, to, RENAME_EXCHANGE);
    if (error == ENOSYS)
        error = replace_in_two_steps(env, from, to);
    else if (!error && (is_link ? unlink(from) != 0 : old < 0 || !same_inode(old, from) || remove_tree(AT_FDCWD, from) != 0))
        tf_log(env, TFUSE_LOG_WARN, "%s: what was replaced is left there; the next writer removes it", from);
    if (old >= 0)
        close(old);
    return error;
}

/* Puts the temporary in its place; 0, or errno. */
static int move_stage(tf_env *env, const tf_stage *stage)
{
    const char *from = stage->temp_path, *to = stage->final_path;
    if (stage->force && !stage->is_dir)
        return rename(from, to) == 0 ? 0 : errno;
    int error = rename_new(from, to);
    return error == EEXIST && stage->force ? replace_dir(env, from, to) : error;
}

static tfuse_status commit_in(tf_env *env, const tf_stage *stage, const char *parent)
{
    const char *to = stage->final_path;
    tfuse_status status = TFUSE_OK;
    if (!parent_stays(stage, parent))
        return tf_fail(env, TFUSE_EIO, "%s: was moved or removed while %s was being written in it", parent, tf_path_base(to));
    TF_TRY(sync_stage(env, stage));
    TF_TRY(tf_stage_check(env, to, stage->is_dir, stage->force));
    int error = move_stage(env, stage);
    if (error == EEXIST)
        status = tf_fail(env, TFUSE_EEXIST, "%s: appeared while it was being written; choose another name", to);
    else if (error)
        status = tf_fail_errno(env, error, "%s: cannot be moved to %s", stage->temp_path, to);
    else if ((error = sync_at(AT_FDCWD, parent)) != 0)
        status = tf_fail_errno(env, error, "%s: is in place, but its directory cannot be written to the disk", to);
    return status;
}

tfuse_status tf_stage_commit(tf_env *env, tf_stage *stage)
{
    char *parent = tf_path_dir(env, stage->final_path);
    if (!parent)
        return TFUSE_ENOMEM;
    const tfuse_status status = commit_in(env, stage, parent);
    tf_free(&env->mem, parent);
    if (status == TFUSE_OK)
        free_stage(env, stage);
    return status;
}

void tf_stage_abort(tf_env *env, tf_stage *stage)
{
    if (!stage->temp_path)
        return;
    const char *name = tf_path_base(stage->temp_path);
    if (same_inode_at(stage->lock_fd, stage->parent_fd, name) && remove_tree(stage->parent_fd, name) != 0)
        tf_log(env, TFUSE_LOG_WARN, "%s: cannot be removed", stage->temp_path);
    free_stage(env, stage);
}
