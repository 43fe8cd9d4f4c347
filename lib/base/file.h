/* SPDX-License-Identifier: Apache-2.0
 *
 * file.h: reading whole and mapped files, and replacing files and directories in one step.
 */
#ifndef TF_BASE_FILE_H
#define TF_BASE_FILE_H

#include "base/buf.h"
#include "base/env.h"

typedef struct tf_mapping {
    const uint8_t *data; /* NULL for an empty file */
    uint64_t size;
    void *base;
    int fd; /* of what is mapped, open as long as base is set */
} tf_mapping;

/* Zeros to be read, which take no room; released by tf_unmap_file. */
tfuse_status tf_map_zeros(tf_env *env, uint64_t size, tf_mapping *out);
/* Maps a regular file read-only. Errors name the path. */
tfuse_status tf_map_file(tf_env *env, const char *path, tf_mapping *out);
void tf_unmap_file(tf_mapping *map); /* twice is harmless */

/* Reads a file of at most `limit` bytes into `out`, which is initialised here; on failure it is empty. */
tfuse_status tf_read_file(tf_env *env, const char *path, uint64_t limit, tf_buf *out);
bool tf_is_dir(const char *path);
bool tf_is_file(const char *path);
bool tf_is_link(const char *path); /* itself, whatever it points to */
/* dir/name in a tf_alloc'ed string; NULL on ENOMEM. */
char *tf_path_join(tf_env *env, const char *dir, const char *name);
/* A copy of the part before the last '/', "." if there is none. */
char *tf_path_dir(tf_env *env, const char *path);
const char *tf_path_base(const char *path);

/* A file or directory that is written beside its final name and appears there by one rename.
 * The temporary is ".<name>.tfuse-partial" and is locked while its writer lives, so a stale one (no
 * lock) is removed by the next writer and a live one makes tf_stage_open fail with TFUSE_EEXIST. */
typedef struct tf_stage {
    char *final_path;
    char *temp_path;
    int lock_fd;
    int parent_fd; /* of the directory of both names, which may be renamed or removed meanwhile */
    bool is_dir, force;
} tf_stage;

/* May what is at `path`, if anything, be replaced? Fails with TFUSE_EEXIST when it exists and not force, and also with force when it is of the other kind,
 * a device, pipe or socket or a link to one, or a directory that is no output of this library: with subdirectories, or with files of which none is a
 * .safetensors. */
tfuse_status tf_stage_check(tf_env *env, const char *path, bool is_dir, bool force);
/* Whether tf_stage_open would do, without a trace: also fails with TFUSE_EIO when the parent is missing, no directory, or may not be written to. */
tfuse_status tf_stage_try(tf_env *env, const char *final_path, bool is_dir, bool force);
/* Fails where tf_stage_check does; with TFUSE_EIO, naming the parent, when that is missing.
 * Makes the temporary: an empty directory, or an empty file. */
tfuse_status tf_stage_open(tf_env *env, const char *final_path, bool is_dir, bool force, tf_stage *out);
/* fsyncs everything, renames (replacing what was there when force), fsyncs the parent. Frees the stage on success. TFUSE_EIO when the parent
 * is no longer where it was. */
tfuse_status tf_stage_commit(tf_env *env, tf_stage *stage);
/* Removes the temporary, wherever its directory is now; harmless after a commit and on a zeroed stage. */
void tf_stage_abort(tf_env *env, tf_stage *stage);

/* An output file inside a stage (or a stage's file itself): buffered by the caller. */
tfuse_status tf_write_all(tf_env *env, int fd, const char *path, const void *data, size_t size);
tfuse_status tf_write_at(tf_env *env, int fd, const char *path, const void *data, size_t size, uint64_t offset);
tfuse_status tf_create_file(tf_env *env, const char *path, int *out_fd);
/* fsync and close; reports errors of both. */
tfuse_status tf_close_file(tf_env *env, int fd, const char *path);
tfuse_status tf_copy_file(tf_env *env, const char *from, const char *to);

#endif
