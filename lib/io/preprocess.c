/* SPDX-License-Identifier: Apache-2.0
 *
 * preprocess.c: what a model's preprocessor_config.json says of pixels: x → (x · rescale − mean) / std, per channel.
 * Sizes in it are not looked at: images are never resized here. Without that file timm's pretrained_cfg in config.json says it (mean, std).
 */
#include "io/io.h"
#include <math.h>
#include <string.h>

enum { PREPROCESS_LIMIT = 1 << 20 };

/* A number, or a list of 1 to 16 numbers, into out; returns how many, 0 when it is something else. */
static int take_numbers(const json_t *value, double *out, int cap)
{
    int count = json_is_array(value) ? (int)json_array_size(value) : 1;
    if (count < 1 || count > cap)
        return 0;
    for (int i = 0; i < count; i++) {
        const json_t *number = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        out[i] = json_number_value(number);
        if (!json_is_number(number) || !isfinite(out[i]))
            return 0;
    }
    return count;
}

static bool is_given(const json_t *value)
{
    return value && !json_is_null(value);
}

static tfuse_status take_flag(tf_env *env, const char *path, const json_t *root, const char *key, bool fallback, bool *out)
{
    const json_t *value = json_object_get(root, key);
    bool given = is_given(value);
    if (given && !json_is_boolean(value))
        return tf_fail(env, TFUSE_EFORMAT, "%s: key '%s' must be true or false", path, key);
    *out = given ? json_is_true(value) : fallback;
    return TFUSE_OK;
}

static tfuse_status take_rescale(tf_env *env, const char *path, const json_t *root, tf_preprocess *out)
{
    bool rescale;
    TF_TRY(take_flag(env, path, root, "do_rescale", true, &rescale));
    const json_t *factor = json_object_get(root, "rescale_factor");
    if (!rescale)
        out->rescale = 1;
    else if (factor && (take_numbers(factor, &out->rescale, 1) != 1 || json_is_array(factor)))
        return tf_fail(env, TFUSE_EFORMAT, "%s: key 'rescale_factor' must be a number", path);
    return TFUSE_OK;
}

static void broadcast(double *values, int from, int to)
{
    for (int i = from; i < to; i++)
        values[i] = values[0];
}

static tfuse_status take_normalise(tf_env *env, const char *path, const json_t *root, const char *const keys[2], tf_preprocess *out)
{
    const json_t *mean = json_object_get(root, keys[0]), *std = json_object_get(root, keys[1]);
    bool normalise;
    TF_TRY(take_flag(env, path, root, "do_normalize", is_given(mean) || is_given(std), &normalise));
    if (!normalise)
        return TFUSE_OK;
    int means = take_numbers(mean, out->mean, (int)TF_LEN(out->mean));
    int stds = take_numbers(std, out->std, (int)TF_LEN(out->std));
    if (means == 0 || stds == 0 || (means != stds && means != 1 && stds != 1))
        return tf_fail(env, TFUSE_EFORMAT, "%s: keys '%s' and '%s' must be numbers or lists of equally many, at most %zu",
                       path, keys[0], keys[1], TF_LEN(out->mean));
    out->channels = means > stds ? means : stds;
    broadcast(out->mean, means, out->channels);
    broadcast(out->std, stds, out->channels);
    for (int i = 0; i < out->channels; i++)
        if (!(out->std[i] > 0))
            return tf_fail(env, TFUSE_EFORMAT, "%s: key '%s' must be positive", path, keys[1]);
    return TFUSE_OK;
}

static void preprocess_default(tf_preprocess *out)
{
    memset(out, 0, sizeof *out);
    out->rescale = 1.0 / 255;
    out->channels = 1;
    out->std[0] = 1;
}

static tfuse_status take_root(tf_env *env, const char *label, const json_t *root, tf_preprocess *out)
{
    TF_TRY(take_rescale(env, label, root, out));
    return take_normalise(env, label, root, (const char *const[]){"image_mean", "image_std"}, out);
}

tfuse_status tf_preprocess_parse(tf_env *env, const char *label, const char *text, size_t size, tf_preprocess *out)
{
    json_t *root = NULL;
    preprocess_default(out);
    TF_TRY(tf_json_object(env, label, text, size, &root));
    const tfuse_status status = take_root(env, label, root, out);
    json_decref(root);
    return status;
}

tfuse_status tf_preprocess_read(tf_env *env, const tfuse_model *m, tf_preprocess *out)
{
    preprocess_default(out);
    out->stated = !m->dir;
    if (!m->dir)
        return TFUSE_OK;
    char *path = tf_path_join(env, m->dir, "preprocessor_config.json");
    if (!path)
        return TFUSE_ENOMEM;
    json_t *root = NULL;
    tfuse_status status = TFUSE_OK;
    if (tf_is_file(path))
        status = tf_json_file(env, path, PREPROCESS_LIMIT, &root);
    if (status == TFUSE_OK && root)
        status = take_root(env, path, root, out);
    const json_t *timm = root ? NULL : json_object_get(m->config, "pretrained_cfg");
    out->stated = root || timm;
    if (status == TFUSE_OK && timm)
        status = take_normalise(env, tf_model_label(m), timm, (const char *const[]){"mean", "std"}, out);
    json_decref(root);
    tf_free(&env->mem, path);
    return status;
}
