/* SPDX-License-Identifier: Apache-2.0
 *
 * shard_index.c: model.safetensors.index.json: {"metadata": {...}, "weight_map": {tensor: file}}, a convention of Hugging Face
 * transformers. File names must be plain, so an index cannot reach outside its directory; the map and the shards must agree
 * tensor by tensor. "metadata" is advisory and not looked at.
 */
#include "io/model.h"
#include <string.h>

enum { NAME_SHOWN = 160 };
#define INDEX_LIMIT (UINT64_C(100) << 20)

typedef struct shards {
    const char *index_path;
    json_t *root, *map;  /* map borrowed from root */
    tf_strmap files;     /* file name → shard; names borrowed from the JSON */
    const char **names;  /* in order of first mention */
    size_t count;
} shards;

static bool plain_name(const char *name)
{
    size_t len = strlen(name);
    return len > 12 && name[0] != '.' && !strpbrk(name, "/\\") && strcmp(name + len - 12, ".safetensors") == 0;
}

static tfuse_status list_files(tf_env *env, shards *s)
{
    char shown[NAME_SHOWN], bad[NAME_SHOWN];
    const char *tensor;
    json_t *value;
    json_object_foreach(s->map, tensor, value)
    {
        const char *name = json_string_value(value);
        int64_t was;
        if (!name || !plain_name(name))
            return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': '%s' is not a plain name of a .safetensors file", s->index_path,
                           tf_printable(shown, sizeof shown, tensor), tf_printable(bad, sizeof bad, name ? name : "(no string)"));
        TF_TRY(tf_strmap_put(env, &s->files, name, (int64_t)s->count, &was));
        if (was < 0)
            s->names[s->count++] = name;
    }
    return TFUSE_OK;
}

static tfuse_status load(tf_env *env, shards *s)
{
    TF_TRY(tf_json_file(env, s->index_path, INDEX_LIMIT, &s->root));
    s->map = json_object_get(s->root, "weight_map");
    if (!json_is_object(s->map) || json_object_size(s->map) == 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: 'weight_map' is missing, empty or not an object", s->index_path);
    s->names = tf_alloc_array(env, json_object_size(s->map), sizeof *s->names);
    return s->names ? list_files(env, s) : TFUSE_ENOMEM;
}

static tfuse_status map_shards(tf_env *env, const shards *s, const char *dir, tfuse_model *m)
{
    TF_TRY(tf_model_reserve_files(env, m, s->count));
    for (size_t i = 0; i < s->count; i++) {
        char *path = tf_path_join(env, dir, s->names[i]);
        if (!path)
            return TFUSE_ENOMEM;
        tfuse_status status = tf_model_map(env, m, path);
        tf_free(&env->mem, path);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

/* Map and shards name the same tensors, each in the same file. */
static tfuse_status compare(tf_env *env, const shards *s, const tfuse_model *m)
{
    char shown[NAME_SHOWN], file[NAME_SHOWN];
    const char *tensor;
    json_t *value;
    json_object_foreach(s->map, tensor, value)
    {
        const tf_tensor *t = tf_model_find(m, tensor);
        if (!t || t->file != tf_strmap_get(&s->files, json_string_value(value)))
            return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': is not in '%s', where the index has it", s->index_path,
                           tf_printable(shown, sizeof shown, tensor), tf_printable(file, sizeof file, json_string_value(value)));
    }
    for (size_t i = 0; i < m->count; i++)
        if (!json_object_get(s->map, m->tensors[i].name))
            return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': is in %s but not in the index", s->index_path,
                           tf_printable(shown, sizeof shown, m->tensors[i].name), tf_tensor_file(m, &m->tensors[i]));
    return TFUSE_OK;
}

tfuse_status tf_shards_open(tf_env *env, const char *dir, const char *index_path, tfuse_model *m)
{
    shards s = {.index_path = index_path};
    tf_strmap_init(&s.files, &env->mem);
    tfuse_status status = load(env, &s);
    if (status == TFUSE_OK)
        status = map_shards(env, &s, dir, m);
    if (status == TFUSE_OK)
        status = compare(env, &s, m);
    tf_strmap_free(&s.files);
    tf_free(&env->mem, s.names);
    json_decref(s.root);
    return status;
}
