/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint.c: finds the parts of a checkpoint: config.json, and model.safetensors or a sharded index or a named
 * .safetensors file. Of a directory that holds both a single file and an index the single file counts, as in transformers.
 */
#include "io/model.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_LIMIT (UINT64_C(16) << 20)

static bool ends_with(const char *text, const char *tail)
{
    size_t a = strlen(text), b = strlen(tail);
    return a >= b && strcmp(text + a - b, tail) == 0;
}

static bool is_pickle(const char *name)
{
    return ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth") || ends_with(name, ".ckpt");
}

static bool holds_pickle(const char *path)
{
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;)
        found = is_pickle(e->d_name);
    if (dir)
        closedir(dir);
    return found;
}

static tfuse_status fail_pickle(tf_env *env, const char *path)
{
    return tf_fail(env, TFUSE_EFORMAT,
                   "%s: weights in PyTorch's pickle format are not read, since pickles run code; convert them to safetensors", path);
}

/* A path in the model's arena; NULL on ENOMEM. */
static char *join(tf_env *env, tfuse_model *m, const char *dir, const char *name)
{
    char *path = tf_path_join(env, dir, name);
    char *kept = path ? tf_arena_strdup(env, &m->arena, path) : NULL;
    tf_free(&env->mem, path);
    return kept;
}

static tfuse_status read_config(tf_env *env, tfuse_model *m, const char *path)
{
    tf_buf text;
    if (!tf_is_file(path))
        return tf_fail(env, TFUSE_ENOTFOUND, "%s: there is no config.json, which says what the weights are", m->dir);
    TF_TRY(tf_read_file(env, path, CONFIG_LIMIT, &text));
    tfuse_status status = tf_model_set_config(env, m, path, text.data, text.len);
    tf_buf_free(&text);
    return status;
}

static tfuse_status open_single(tf_env *env, tfuse_model *m, const char *path)
{
    TF_TRY(tf_model_reserve_files(env, m, 1));
    return tf_model_map(env, m, path);
}

static tfuse_status open_dir(tf_env *env, tfuse_model *m, uint32_t flags)
{
    char *config = join(env, m, m->dir, "config.json");
    char *single = join(env, m, m->dir, "model.safetensors");
    char *index = join(env, m, m->dir, "model.safetensors.index.json");
    if (!config || !single || !index)
        return TFUSE_ENOMEM;
    TF_TRY(read_config(env, m, config));
    if (tf_is_file(single))
        return open_single(env, m, single);
    if (tf_is_file(index))
        return tf_shards_open(env, m->dir, index, m);
    if (flags & TFUSE_OPEN_CONFIG_ONLY)
        return TFUSE_OK;
    if (holds_pickle(m->dir))
        return fail_pickle(env, m->dir);
    if (tf_is_link(single) || tf_is_link(index))
        return tf_fail(env, TFUSE_ENOTFOUND, "%s is a link to a file that is not there; fetch it, or mend the link", tf_is_link(single) ? single : index);
    return tf_fail(env, TFUSE_ENOTFOUND, "%s: there is neither model.safetensors nor model.safetensors.index.json", m->dir);
}

static tfuse_status open_file(tf_env *env, tfuse_model *m, const char *path, uint32_t flags)
{
    if (is_pickle(path))
        return fail_pickle(env, path);
    if (ends_with(path, ".index.json"))
        return tf_fail(env, TFUSE_EFORMAT, "%s: give the directory of a sharded checkpoint, not its index", path);
    if (ends_with(path, ".json")) {
        if (flags & TFUSE_OPEN_CONFIG_ONLY)
            return read_config(env, m, path);
        return tf_fail(env, TFUSE_EFORMAT, "%s: a config has no weights; give the directory or the .safetensors file", path);
    }
    if (!ends_with(path, ".safetensors"))
        return tf_fail(env, TFUSE_EFORMAT, "%s: is neither a checkpoint directory nor a .safetensors file", path);
    char *config = join(env, m, m->dir, "config.json");
    if (!config)
        return TFUSE_ENOMEM;
    TF_TRY(read_config(env, m, config));
    return open_single(env, m, path);
}

static tfuse_status set_paths(tf_env *env, tfuse_model *m, const char *path, bool is_dir)
{
    char *dir = is_dir ? NULL : tf_path_dir(env, path);
    m->path = tf_arena_strdup(env, &m->arena, path);
    m->dir = is_dir ? m->path : dir ? tf_arena_strdup(env, &m->arena, dir) : NULL;
    tf_free(&env->mem, dir);
    return m->path && m->dir ? TFUSE_OK : TFUSE_ENOMEM;
}

tfuse_status tf_model_open(tf_env *env, const char *path, uint32_t flags, tfuse_model **out)
{
    struct stat st;
    tfuse_model *m = NULL;
    tfuse_status status;
    *out = NULL;
    if (flags & ~(uint32_t)TFUSE_OPEN_CONFIG_ONLY)
        return tf_fail(env, TFUSE_EINVAL, "unknown flags %#x for opening a model", (unsigned)flags);
    if (stat(path, &st) != 0)
        return tf_fail_errno(env, errno, "%s: cannot open", path);
    TF_TRY(tf_model_new(env, NULL, &m));
    TF_TRY_OUT(set_paths(env, m, path, S_ISDIR(st.st_mode)));
    TF_TRY_OUT(S_ISDIR(st.st_mode) ? open_dir(env, m, flags) : open_file(env, m, path, flags));
    TF_TRY_OUT(tf_model_seal(env, m));
    *out = m;
    return TFUSE_OK;
out:
    tf_model_free(m);
    return status;
}
