/* SPDX-License-Identifier: Apache-2.0
 *
 * writer_files.c: the small files of a checkpoint that is written. Companions are chosen by name: files that describe inputs and
 * generation go along; weights, logs and descriptions of the parent do not.
 */
#include "io/writer_files.h"
#include "base/file.h"
#include "io/model.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <sys/stat.h>

tfuse_status tf_write_small(tf_env *env, const char *dir, const char *name, const void *data, size_t size)
{
    char *path = tf_path_join(env, dir, name);
    if (!path)
        return TFUSE_ENOMEM;
    int fd;
    tfuse_status status = tf_create_file(env, path, &fd);
    if (status == TFUSE_OK) {
        status = tf_write_all(env, fd, path, data, size);
        tfuse_status closed = tf_close_file(env, fd, path);
        status = status != TFUSE_OK ? status : closed;
    }
    tf_free(&env->mem, path);
    return status;
}

static bool is_companion(const char *name)
{
    static const char *const patterns[] = {
        "preprocessor_config.json", "processor_config.json", "tokenizer*.json",  "tokenizer.model",
        "vocab.json",               "vocab.txt",             "merges.txt",       "special_tokens_map.json",
        "added_tokens.json",        "generation_config.json", "chat_template*",  "spiece.model",
        "sentencepiece*.model",
    };
    for (size_t i = 0; i < TF_LEN(patterns); i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

static tfuse_status copy_one(tf_env *env, const char *from_dir, const char *to_dir, const char *name)
{
    char *from = tf_path_join(env, from_dir, name), *to = tf_path_join(env, to_dir, name);
    tfuse_status status = from && to ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && tf_is_file(from))
        status = tf_copy_file(env, from, to);
    tf_free(&env->mem, from);
    tf_free(&env->mem, to);
    return status;
}

uint64_t tf_companions_bytes(const char *from_dir)
{
    DIR *dir = opendir(from_dir);
    uint64_t bytes = 0;
    struct stat st;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;)
        if (is_companion(e->d_name) && fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    if (dir)
        closedir(dir);
    return bytes;
}

tfuse_status tf_copy_companions(tf_env *env, const char *from_dir, const char *to_dir)
{
    DIR *dir = opendir(from_dir);
    if (!dir)
        return tf_fail_errno(env, errno, "%s: cannot look into it", from_dir);
    tfuse_status status = TFUSE_OK;
    for (struct dirent *e; status == TFUSE_OK && (e = readdir(dir)) != NULL;)
        if (is_companion(e->d_name))
            status = copy_one(env, from_dir, to_dir, e->d_name);
    closedir(dir);
    return status;
}

tfuse_status tf_check_apart(tf_env *env, const tfuse_model *const *models, size_t n, const char *out_dir)
{
    struct stat out, in;
    if (stat(out_dir, &out) != 0)
        return TFUSE_OK;
    for (size_t k = 0; k < n; k++)
        if (models[k] && models[k]->dir && stat(*models[k]->dir ? models[k]->dir : ".", &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return tf_fail(env, TFUSE_EEXIST, "%s: model %s lies there, which this run reads, and is not replaced; give another name", out_dir,
                           tf_model_label(models[k]));
    return TFUSE_OK;
}
