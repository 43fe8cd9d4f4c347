/* SPDX-License-Identifier: Apache-2.0
 *
 * config.c: typed reading of a model's config.json.
 *
 * A key that occurs twice is refused, since readers disagree about which one counts. A key whose value is null counts as absent,
 * as in the frameworks that write these files.
 */
#include "io/model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

tfuse_status tf_model_set_config(tf_env *env, tfuse_model *m, const char *label, const char *text, size_t size)
{
    TF_TRY(tf_json_object(env, label, text, size, &m->config));
    m->config_text = tf_arena_alloc(env, &m->arena, size + 1);
    if (!m->config_text)
        return TFUSE_ENOMEM;
    memcpy(m->config_text, text, size);
    return TFUSE_OK;
}

/* TFUSE_EFORMAT with the config's file, the key, and what is wrong. */
static tfuse_status fail_key(tf_env *env, const tfuse_model *m, const char *key, const char *what)
{
    const char *dir = m->dir ? m->dir : "";
    size_t len = strlen(m->path);
    if (len > 5 && strcmp(m->path + len - 5, ".json") == 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: key '%s' %s", m->path, key, what);
    if (!*dir)
        return tf_fail(env, TFUSE_EFORMAT, "config: key '%s' %s", key, what);
    return tf_fail(env, TFUSE_EFORMAT, "%s%sconfig.json: key '%s' %s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", key, what);
}

/* The value of a key, in an object inside the config when it is dotted; NULL when absent or null. */
static json_t *lookup(const tfuse_model *m, const char *key)
{
    json_t *value = m->config;
    while (value && *key) {
        const size_t length = strcspn(key, ".");
        value = json_object_getn(value, key, length);
        key += length + (key[length] == '.');
    }
    return json_is_null(value) ? NULL : value;
}

/* The same; what a dotted key goes through is an object, or absent. */
static tfuse_status find(tf_env *env, const tfuse_model *m, const char *key, const json_t **out)
{
    char outer[96];
    for (const char *dot = strchr(key, '.'); dot; dot = strchr(dot + 1, '.')) {
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - key), key);
        const json_t *through = lookup(m, outer);
        if (through && !json_is_object(through))
            return fail_key(env, m, outer, "must be an object");
    }
    *out = lookup(m, key);
    return TFUSE_OK;
}

static tfuse_status take_int(tf_env *env, const tfuse_model *m, const char *key, const json_t *value, int64_t min, int64_t max,
                             int64_t *out)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < min || number > max) {
        char what[96];
        snprintf(what, sizeof what, "must be an integer from %" PRId64 " to %" PRId64, min, max);
        return fail_key(env, m, key, what);
    }
    *out = number;
    return TFUSE_OK;
}

tfuse_status tf_config_int(tf_env *env, const tfuse_model *m, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *value = NULL;
    TF_TRY(find(env, m, key, &value));
    return value ? take_int(env, m, key, value, min, max, out) : fail_key(env, m, key, "is missing");
}

tfuse_status tf_config_int_or(tf_env *env, const tfuse_model *m, const char *key, int64_t min, int64_t max,
                              int64_t fallback, int64_t *out)
{
    const json_t *value = NULL;
    TF_TRY(find(env, m, key, &value));
    *out = fallback;
    return value ? take_int(env, m, key, value, min, max, out) : TFUSE_OK;
}

tfuse_status tf_config_real_or(tf_env *env, const tfuse_model *m, const char *key, double fallback, double *out)
{
    const json_t *value = NULL;
    TF_TRY(find(env, m, key, &value));
    *out = value ? json_number_value(value) : fallback;
    return !value || (json_is_number(value) && isfinite(*out)) ? TFUSE_OK : fail_key(env, m, key, "must be a number");
}

tfuse_status tf_config_bool_or(tf_env *env, const tfuse_model *m, const char *key, bool fallback, bool *out)
{
    const json_t *value = NULL;
    TF_TRY(find(env, m, key, &value));
    *out = value ? json_is_true(value) : fallback;
    return !value || json_is_boolean(value) ? TFUSE_OK : fail_key(env, m, key, "must be true or false");
}

bool tf_config_has(const tfuse_model *m, const char *key)
{
    return lookup(m, key) != NULL;
}

tfuse_status tf_config_reals(tf_env *env, const tfuse_model *m, const char *key, double *out, size_t cap, size_t *count)
{
    const json_t *list = NULL;
    TF_TRY(find(env, m, key, &list));
    *count = json_array_size(list);
    if (list && (!json_is_array(list) || *count > cap))
        return fail_key(env, m, key, "must be a list of numbers, not longer than what they are for");
    for (size_t i = 0; i < *count; i++) {
        const json_t *item = json_array_get(list, i);
        out[i] = json_number_value(item);
        if (!json_is_number(item) || !isfinite(out[i]))
            return fail_key(env, m, key, "must be a list of numbers");
    }
    return TFUSE_OK;
}

const char *tf_config_item(const tfuse_model *m, const char *key, int64_t index)
{
    return index < 0 ? NULL : json_string_value(json_array_get(lookup(m, key), (size_t)index));
}

tfuse_status tf_config_text_or(tf_env *env, const tfuse_model *m, const char *key, const char *fallback, const char **out)
{
    const json_t *value = NULL;
    TF_TRY(find(env, m, key, &value));
    *out = value ? json_string_value(value) : fallback;
    if (*out)
        return TFUSE_OK;
    return fail_key(env, m, key, value ? "must be a string" : "is missing");
}
