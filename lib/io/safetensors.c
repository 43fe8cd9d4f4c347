/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors.c: the header of a safetensors file: u64 length, JSON, data. Every rule of the reference reader holds, and
 * more: no name twice, extents and offsets that fit in 63 bits whatever their order, at most TFUSE_MAX_RANK dimensions.
 *
 * Invariant that the rest relies on: after tf_safetensors_parse every tensor lies within the file, has exactly the bytes of its
 * type and shape, and no two share a byte, since sorted by offset they tile the data without a hole.
 */
#include "io/model.h"
#include "num/array.h"
#include "num/num.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped tensors are little-endian");

enum { NAME_SHOWN = 160 };

typedef struct entry {
    tf_tensor tensor; /* name borrowed from the JSON */
    uint64_t begin, end;
} entry;

typedef struct file {
    const char *path;
    const uint8_t *data; /* after the header */
    uint64_t size;       /* of the data */
    int index;
} file;

static tfuse_status fail_tensor(tf_env *env, const file *f, const char *name, tfuse_status status, const char *what)
{
    char shown[NAME_SHOWN];
    return tf_fail(env, status, "%s: tensor '%s': %s", f->path, tf_printable(shown, sizeof shown, name), what);
}

/* A non-negative integer; jansson has refused those beyond 63 bits. */
static bool take_size(const json_t *value, int64_t *out)
{
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= 0;
}

static tfuse_status take_dtype(tf_env *env, const file *f, const char *name, const json_t *value, tfuse_dtype *out)
{
    char shown[NAME_SHOWN], type[40];
    if (!json_is_string(value))
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "'dtype' is missing or not a string");
    *out = tf_dtype_parse(json_string_value(value));
    if (*out)
        return TFUSE_OK;
    return tf_fail(env, TFUSE_EDTYPE, "%s: tensor '%s': data type '%s' is not supported; convert it to F32, F16 or BF16", f->path,
                   tf_printable(shown, sizeof shown, name), tf_printable(type, sizeof type, json_string_value(value)));
}

static tfuse_status take_shape(tf_env *env, const file *f, const char *name, const json_t *value, tf_tensor *t)
{
    if (!json_is_array(value))
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "'shape' is missing or not a list");
    if (json_array_size(value) > TFUSE_MAX_RANK)
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "has more dimensions than the 8 supported");
    t->rank = (int)json_array_size(value);
    for (int d = 0; d < t->rank; d++)
        if (!take_size(json_array_get(value, (size_t)d), &t->shape[d]))
            return fail_tensor(env, f, name, TFUSE_EFORMAT, "'shape' holds something else than non-negative integers");
    return TFUSE_OK;
}

static tfuse_status take_offsets(tf_env *env, const file *f, const char *name, const json_t *value, entry *e)
{
    int64_t begin, end;
    if (!json_is_array(value) || json_array_size(value) != 2 || !take_size(json_array_get(value, 0), &begin) ||
        !take_size(json_array_get(value, 1), &end))
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "'data_offsets' is not a pair of non-negative integers");
    if (begin > end)
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "'data_offsets' end before they begin");
    if ((uint64_t)end > f->size)
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "its data end after the end of the file, which is truncated or lies");
    e->begin = (uint64_t)begin;
    e->end = (uint64_t)end;
    return TFUSE_OK;
}

static tfuse_status take_entry(tf_env *env, const file *f, const char *name, const json_t *value, entry *e)
{
    tf_tensor *t = &e->tensor;
    char shown[NAME_SHOWN], shape[160];
    size_t count, bytes;
    if (!json_is_object(value))
        return fail_tensor(env, f, name, TFUSE_EFORMAT, "its entry is not an object");
    t->name = name;
    TF_TRY(take_dtype(env, f, name, json_object_get(value, "dtype"), &t->dtype));
    TF_TRY(take_shape(env, f, name, json_object_get(value, "shape"), t));
    TF_TRY(take_offsets(env, f, name, json_object_get(value, "data_offsets"), e));
    if (tf_shape_count(env, t->dtype, (size_t)t->rank, t->shape, &count, &bytes) != TFUSE_OK)
        return tf_fail_in(env, TFUSE_EFORMAT, "%s: tensor '%s'", f->path, tf_printable(shown, sizeof shown, name));
    if (bytes != e->end - e->begin)
        return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': %s of shape %s takes %zu bytes, but its offsets span %" PRIu64, f->path,
                       tf_printable(shown, sizeof shown, name), tf_dtype_name(t->dtype),
                       tf_shape_text(shape, sizeof shape, (size_t)t->rank, t->shape), bytes, e->end - e->begin);
    t->data = f->data + e->begin;
    t->file = f->index;
    return TFUSE_OK;
}

static tfuse_status check_metadata(tf_env *env, const file *f, json_t *value)
{
    char shown[NAME_SHOWN];
    const char *key;
    json_t *text;
    if (json_is_null(value))
        return TFUSE_OK;
    if (!json_is_object(value))
        return tf_fail(env, TFUSE_EFORMAT, "%s: '__metadata__' is not an object", f->path);
    json_object_foreach(value, key, text)
        if (!json_is_string(text))
            return tf_fail(env, TFUSE_EFORMAT, "%s: '__metadata__': value of '%s' is not a string", f->path,
                           tf_printable(shown, sizeof shown, key));
    return TFUSE_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* Sorts, and checks that the entries tile the data. */
static tfuse_status check_tiling(tf_env *env, const file *f, entry *entries, size_t count)
{
    char shown[NAME_SHOWN];
    uint64_t at = 0;
    if (count)
        qsort(entries, count, sizeof *entries, by_offset);
    for (size_t i = 0; i < count; at = entries[i++].end)
        if (entries[i].begin != at)
            return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': begins at byte %" PRIu64 ", but the one before ends at %" PRIu64 " (%s)",
                           f->path, tf_printable(shown, sizeof shown, entries[i].tensor.name), entries[i].begin, at,
                           entries[i].begin < at ? "they overlap" : "a hole");
    if (at != f->size)
        return tf_fail(env, TFUSE_EFORMAT, "%s: %" PRIu64 " bytes of data belong to no tensor", f->path, f->size - at);
    return TFUSE_OK;
}

static tfuse_status take_entries(tf_env *env, const file *f, json_t *root, entry *entries, size_t *count)
{
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            TF_TRY(check_metadata(env, f, value));
        else
            TF_TRY(take_entry(env, f, name, value, &entries[(*count)++]));
    }
    return check_tiling(env, f, entries, *count);
}

static tfuse_status add_all(tf_env *env, const file *f, const entry *entries, size_t count, tfuse_model *m)
{
    char shown[NAME_SHOWN];
    for (size_t i = 0; i < count; i++) {
        const tf_tensor *other = tf_model_find(m, entries[i].tensor.name);
        if (other)
            return tf_fail(env, TFUSE_EFORMAT, "%s: tensor '%s': is in %s as well", f->path,
                           tf_printable(shown, sizeof shown, entries[i].tensor.name), tf_tensor_file(m, other));
        TF_TRY(tf_model_add(env, m, &entries[i].tensor));
    }
    return TFUSE_OK;
}

/* The header's text, whose length is checked against the file, for the caller to free. */
static tfuse_status read_header(tf_env *env, const char *path, const tf_blob *src, char **text, uint64_t *length)
{
    uint8_t prefix[8];
    if (src->size < sizeof prefix)
        return tf_fail(env, TFUSE_EFORMAT, "%s: %" PRIu64 " bytes are too few for a safetensors file", path, src->size);
    TF_TRY(tf_blob_read(env, path, src, 0, sizeof prefix, prefix));
    memcpy(length, prefix, sizeof prefix);
    if (memcmp(prefix, "version ", sizeof prefix) == 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: is a pointer of Git LFS and holds no tensors; fetch them with git lfs pull", path);
    if (*length > TF_SAFETENSORS_HEADER_MAX)
        return tf_fail(env, TFUSE_EFORMAT, "%s: a header of %" PRIu64 " bytes is more than the %u allowed; this is no safetensors file", path,
                       *length, TF_SAFETENSORS_HEADER_MAX);
    if (*length > src->size - sizeof prefix)
        return tf_fail(env, TFUSE_EFORMAT, "%s: the header of %" PRIu64 " bytes is longer than the file; it is truncated", path, *length);
    *text = tf_alloc(env, *length ? (size_t)*length : 1);
    return *text ? tf_blob_read(env, path, src, sizeof prefix, *length, *text) : TFUSE_ENOMEM;
}

/* A file of another kind gets a plainer message than the JSON reader's. */
static tfuse_status check_object(tf_env *env, const char *path, const char *text, uint64_t length)
{
    uint64_t start = 0;
    while (start < length && memchr(" \t\r\n", text[start], 4))
        start++;
    if (start == length || text[start] != '{')
        return tf_fail(env, TFUSE_EFORMAT, "%s: the header does not begin with '{'; this is no safetensors file", path);
    return TFUSE_OK;
}

tfuse_status tf_safetensors_parse(tf_env *env, const char *path, const tf_blob *src, int index, tfuse_model *m)
{
    uint64_t length;
    char *text = NULL;
    json_t *root = NULL;
    entry *entries = NULL;
    size_t count = 0;
    tfuse_status status;
    TF_TRY_OUT(read_header(env, path, src, &text, &length));
    TF_TRY_OUT(check_object(env, path, text, length));
    file f = {path, src->data + 8 + length, src->size - 8 - length, index};
    TF_TRY_OUT(tf_json_object(env, path, text, (size_t)length, &root));
    entries = tf_calloc(env, json_object_size(root), sizeof *entries);
    if (!entries) {
        status = TFUSE_ENOMEM;
        goto out;
    }
    TF_TRY_OUT(take_entries(env, &f, root, entries, &count));
    status = add_all(env, &f, entries, count, m);
out:
    tf_free(&env->mem, entries);
    tf_free(&env->mem, text);
    json_decref(root);
    return status;
}
