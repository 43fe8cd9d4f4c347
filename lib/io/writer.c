/* SPDX-License-Identifier: Apache-2.0
 *
 * writer.c: writes a checkpoint directory tensor by tensor, in bounded memory, in a stage that appears under its
 * final name by one rename.
 *
 * Layout: shards are filled in order of names; within a file tensors are ordered as by safetensors' own writer, by data type
 * in falling order of width and then by name, behind a header padded with spaces to a multiple of 8, so every tensor is aligned.
 * Everything is laid out, and every small file written, when the writer is opened; what remains is data at known offsets.
 * Files carry no time and no path: equal inputs give equal bytes.
 */
#include "io/model.h"
#include "io/writer_files.h"
#include "num/array.h"
#include "num/num.h"
#include <fcntl.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_SHOWN = 160 };
#define NO_SHARD SIZE_MAX

typedef struct slot {
    tf_tensor tensor; /* name in the arena; index: position in the caller's array */
    size_t index, shard;
    uint64_t offset;  /* in the file */
    uint64_t filled;  /* elements that are there */
    bool written;
} slot;

struct tf_writer {
    tf_mem mem;
    tf_arena arena;
    tf_stage stage;
    slot *slots;     /* in order of shards, within one in order of offsets */
    slot **by_index; /* by position in the caller's array */
    size_t count, shards;
    char **paths;    /* of the shards, in the stage */
    int fd;          /* of `open`, -1 when none */
    size_t open;
    uint8_t *scratch; /* TF_WRITER_BYTES */
};

/* ---- layout ----------------------------------------------------------------------------------- */

/* Rank in safetensors' enumeration of types. */
static int dtype_rank(tfuse_dtype dtype)
{
    static const tfuse_dtype order[] = {TFUSE_BOOL, TFUSE_U8,  TFUSE_I8,  TFUSE_I16, TFUSE_U16, TFUSE_F16, TFUSE_BF16,
                                        TFUSE_I32,  TFUSE_U32, TFUSE_F32, TFUSE_F64, TFUSE_I64, TFUSE_U64};
    int rank = 0;
    while (rank < (int)TF_LEN(order) && order[rank] != dtype)
        rank++;
    return rank;
}

static int by_name(const void *a, const void *b)
{
    const slot *x = a, *y = b;
    return strcmp(x->tensor.name, y->tensor.name);
}

static int by_place(const void *a, const void *b)
{
    const slot *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    int p = dtype_rank(x->tensor.dtype), q = dtype_rank(y->tensor.dtype);
    return p != q ? q - p : by_name(a, b);
}

static tfuse_status copy_tensors(tf_env *env, tf_writer *w, const tf_tensor *tensors)
{
    char shown[NAME_SHOWN];
    for (size_t i = 0; i < w->count; i++) {
        slot *s = &w->slots[i];
        tf_printable(shown, sizeof shown, tensors[i].name);
        size_t count, bytes;
        tfuse_status status = tf_shape_count(env, tensors[i].dtype, (size_t)tensors[i].rank, tensors[i].shape, &count, &bytes);
        if (status != TFUSE_OK)
            return tf_fail_in(env, status, "output tensor '%s'", shown);
        if (strcmp(tensors[i].name, "__metadata__") == 0)
            return tf_fail(env, TFUSE_EINVAL, "output tensor '%s': the name is reserved", shown);
        s->tensor = tensors[i];
        s->tensor.name = tf_arena_strdup(env, &w->arena, tensors[i].name);
        if (!s->tensor.name)
            return TFUSE_ENOMEM;
        s->tensor.count = count;
        s->tensor.size = bytes;
        s->index = i;
    }
    qsort(w->slots, w->count, sizeof *w->slots, by_name);
    for (size_t i = 1; i < w->count; i++)
        if (by_name(&w->slots[i - 1], &w->slots[i]) == 0)
            return tf_fail(env, TFUSE_EINVAL, "output tensor '%s': is given twice",
                           tf_printable(shown, sizeof shown, w->slots[i].tensor.name));
    return TFUSE_OK;
}

/* Offsets here are within the data; place_data adds the header's length. */
static void assign_shards(tf_writer *w, uint64_t shard_size)
{
    uint64_t used = 0;
    w->shards = 1;
    for (size_t i = 0; i < w->count; i++) {
        uint64_t size = w->slots[i].tensor.size;
        if (shard_size && used && (used > shard_size || size > shard_size - used)) {
            w->shards++;
            used = 0;
        }
        w->slots[i].shard = w->shards - 1;
        used += size;
    }
    qsort(w->slots, w->count, sizeof *w->slots, by_place);
    for (size_t i = 0; i < w->count; i++) {
        bool first = i == 0 || w->slots[i].shard != w->slots[i - 1].shard;
        w->slots[i].offset = first ? 0 : w->slots[i - 1].offset + w->slots[i - 1].tensor.size;
        w->by_index[w->slots[i].index] = &w->slots[i];
    }
}

/* ---- headers ---------------------------------------------------------------------------------- */

static json_t *entry_json(const slot *s)
{
    json_t *shape = json_array();
    int failed = !shape;
    for (int d = 0; d < s->tensor.rank; d++)
        failed |= json_array_append_new(shape, json_integer(s->tensor.shape[d]));
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", tf_dtype_name(s->tensor.dtype), "shape", shape, "data_offsets",
                              (json_int_t)s->offset, (json_int_t)(s->offset + s->tensor.size));
    if (failed) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

/* `root` becomes the header's object for slots first..end-1. */
static tfuse_status fill_header(tf_env *env, const slot *first, const slot *end, const json_t *metadata, json_t *root)
{
    char shown[NAME_SHOWN];
    json_t *copy = metadata ? json_copy((json_t *)(uintptr_t)metadata) : json_object(); /* json_copy only reads */
    int failed = json_object_size(copy) != json_object_size(metadata); /* json_copy leaves out what it has no memory for */
    failed |= json_object_set_new(copy, "format", json_string("pt"));
    if (json_object_set_new(root, "__metadata__", copy) || failed)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a header");
    for (const slot *s = first; s < end; s++) {
        if (!tf_is_utf8(s->tensor.name))
            return tf_fail(env, TFUSE_EINVAL, "output tensor '%s': the name is not UTF-8", tf_printable(shown, sizeof shown, s->tensor.name));
        if (json_object_set_new(root, s->tensor.name, entry_json(s)))
            return tf_fail(env, TFUSE_ENOMEM, "out of memory for a header");
    }
    return TFUSE_OK;
}

static tfuse_status write_header(tf_env *env, tf_writer *w, size_t shard, const tf_buf *json, slot *first, slot *end)
{
    uint64_t length = (json->len + 7) / 8 * 8;
    const char *path = w->paths[shard];
    int fd;
    if (length > TF_SAFETENSORS_HEADER_MAX)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: %zu tensors need a header of %llu bytes, more than the %u that readers take; set io.shard_size",
                       path, (size_t)(end - first), (unsigned long long)length, TF_SAFETENSORS_HEADER_MAX);
    for (slot *s = first; s < end; s++)
        s->offset += 8 + length;
    TF_TRY(tf_create_file(env, path, &fd));
    tfuse_status status = tf_write_all(env, fd, path, &length, sizeof length);
    if (status == TFUSE_OK)
        status = tf_write_all(env, fd, path, json->data, json->len);
    if (status == TFUSE_OK)
        status = tf_write_all(env, fd, path, "       ", length - json->len);
    tfuse_status closed = tf_close_file(env, fd, path);
    return status != TFUSE_OK ? status : closed;
}

static tfuse_status make_shard(tf_env *env, tf_writer *w, size_t shard, slot *first, slot *end, const json_t *metadata)
{
    tf_buf json;
    tf_buf_init(&json, &env->mem);
    json_t *root = json_object();
    tfuse_status status = fill_header(env, first, end, metadata, root);
    if (status == TFUSE_OK)
        status = tf_json_text(env, root, JSON_COMPACT, &json);
    if (status == TFUSE_OK)
        status = write_header(env, w, shard, &json, first, end);
    json_decref(root);
    tf_buf_free(&json);
    return status;
}

/* Name of a shard, without its directory. */
static const char *shard_name(const tf_writer *w, size_t shard, char *buffer, size_t size)
{
    if (w->shards == 1)
        snprintf(buffer, size, "model.safetensors");
    else
        snprintf(buffer, size, "model-%05zu-of-%05zu.safetensors", shard + 1, w->shards);
    return buffer;
}

static tfuse_status make_shards(tf_env *env, tf_writer *w, const json_t *metadata)
{
    char name[64];
    w->paths = tf_arena_array(env, &w->arena, w->shards, sizeof *w->paths);
    if (!w->paths)
        return TFUSE_ENOMEM;
    slot *first = w->slots, *stop = w->slots + w->count;
    for (size_t i = 0; i < w->shards; i++) {
        w->paths[i] = tf_arena_printf(env, &w->arena, "%s/%s", w->stage.temp_path, shard_name(w, i, name, sizeof name));
        if (!w->paths[i])
            return TFUSE_ENOMEM;
        slot *end = first;
        while (end < stop && end->shard == i)
            end++;
        TF_TRY(make_shard(env, w, i, first, end, metadata));
        first = end;
    }
    return TFUSE_OK;
}

static tfuse_status make_index(tf_env *env, const tf_writer *w)
{
    char name[64];
    uint64_t total = 0;
    json_t *map = json_object();
    int failed = !map;
    for (size_t i = 0; i < w->count; i++) {
        const slot *s = &w->slots[i];
        total += s->tensor.size;
        failed |= json_object_set_new(map, s->tensor.name, json_string(shard_name(w, s->shard, name, sizeof name)));
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status = failed ? tf_fail(env, TFUSE_ENOMEM, "out of memory for the index of shards")
                                 : tf_json_text(env, root, JSON_INDENT(2) | JSON_SORT_KEYS, &text);
    if (status == TFUSE_OK)
        status = tf_buf_add(env, &text, "\n", 1);
    if (status == TFUSE_OK)
        status = tf_write_small(env, w->stage.temp_path, "model.safetensors.index.json", text.data, text.len);
    tf_buf_free(&text);
    json_decref(root);
    return status;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static tfuse_status check_metadata(tf_env *env, const json_t *metadata)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
        if (!json_is_string(value))
            return tf_fail(env, TFUSE_EINVAL, "metadata '%s': is not a string", key);
    return TFUSE_OK;
}

static tfuse_status lay_out(tf_env *env, tf_writer *w, const tf_write_options *options, const tf_tensor *tensors)
{
    w->slots = tf_calloc(env, w->count, sizeof *w->slots);
    w->by_index = tf_calloc(env, w->count, sizeof *w->by_index);
    w->scratch = tf_alloc(env, TF_WRITER_BYTES);
    if (!w->slots || !w->by_index || !w->scratch)
        return TFUSE_ENOMEM;
    TF_TRY(copy_tensors(env, w, tensors));
    assign_shards(w, options->shard_size);
    TF_TRY(make_shards(env, w, options->metadata));
    return w->shards > 1 ? make_index(env, w) : TFUSE_OK;
}

tfuse_status tf_writer_open(tf_env *env, const char *out_dir, const tf_write_options *options,
                            const tf_tensor *tensors, size_t count, tf_writer **out)
{
    *out = NULL;
    TF_TRY(check_metadata(env, options->metadata));
    tf_writer *w = tf_calloc(env, 1, sizeof *w);
    if (!w)
        return TFUSE_ENOMEM;
    w->mem = env->mem;
    w->count = count;
    w->fd = -1;
    w->open = NO_SHARD;
    w->stage.lock_fd = -1;
    tf_arena_init(&w->arena, &env->mem);
    tfuse_status status;
    TF_TRY_OUT(tf_stage_open(env, out_dir, true, options->force, &w->stage));
    TF_TRY_OUT(lay_out(env, w, options, tensors));
    if (options->config_text)
        TF_TRY_OUT(tf_write_small(env, w->stage.temp_path, "config.json", options->config_text, strlen(options->config_text)));
    if (options->notes_name)
        TF_TRY_OUT(tf_write_small(env, w->stage.temp_path, options->notes_name, options->notes_text, strlen(options->notes_text)));
    if (options->copy_from)
        TF_TRY_OUT(tf_copy_companions(env, options->copy_from, w->stage.temp_path));
    *out = w;
    return TFUSE_OK;
out:
    tf_writer_abort(env, w);
    return status;
}

/* ---- data ------------------------------------------------------------------------------------- */

static tfuse_status close_shard(tf_env *env, tf_writer *w)
{
    if (w->fd < 0)
        return TFUSE_OK;
    int fd = w->fd;
    w->fd = -1;
    return tf_close_file(env, fd, w->paths[w->open]);
}

/* One shard is open at a time, so their number is not bounded by that of descriptors. */
static tfuse_status open_shard(tf_env *env, tf_writer *w, size_t shard)
{
    if (w->fd >= 0 && w->open == shard)
        return TFUSE_OK;
    TF_TRY(close_shard(env, w));
    w->fd = open(w->paths[shard], O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    w->open = shard;
    return w->fd < 0 ? tf_fail_errno(env, errno, "%s: cannot open for writing", w->paths[shard]) : TFUSE_OK;
}

static tfuse_status begin_put(tf_env *env, tf_writer *w, size_t index, slot **out)
{
    char shown[NAME_SHOWN];
    if (index >= w->count)
        return tf_fail(env, TFUSE_EINTERNAL, "output tensor %zu of %zu", index, w->count);
    slot *s = w->by_index[index];
    if (s->written)
        return tf_fail(env, TFUSE_EINTERNAL, "output tensor '%s': written twice", tf_printable(shown, sizeof shown, s->tensor.name));
    *out = s;
    return open_shard(env, w, s->shard);
}

/* Smallest magnitude that rounds to infinity: halfway between the largest number and the power of two above it. */
static float overflow_at(tfuse_dtype dtype)
{
    return dtype == TFUSE_F16 ? 65520.0f : dtype == TFUSE_BF16 ? 0x1.FFp127f : INFINITY;
}

static tfuse_status check_values(tf_env *env, const slot *s, const float *values, size_t count)
{
    char shown[NAME_SHOWN];
    int64_t bad = tf_find_nonfinite(values, count);
    if (bad >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "output tensor '%s': element %lld is NaN or infinite",
                       tf_printable(shown, sizeof shown, s->tensor.name), (long long)s->filled + (long long)bad);
    float limit = overflow_at(s->tensor.dtype);
    for (size_t i = 0; limit < INFINITY && i < count; i++)
        if (fabsf(values[i]) >= limit)
            return tf_fail(env, TFUSE_ENUMERIC, "output tensor '%s': element %zu, %g, does not fit %s; set io.dtype=F32",
                           tf_printable(shown, sizeof shown, s->tensor.name), (size_t)s->filled + i, (double)values[i],
                           tf_dtype_name(s->tensor.dtype));
    return TFUSE_OK;
}

tfuse_status tf_writer_put_part(tf_env *env, tf_writer *w, size_t index, const float *values, size_t count)
{
    slot *s;
    char shown[NAME_SHOWN];
    TF_TRY(begin_put(env, w, index, &s));
    if (count > s->tensor.count - s->filled)
        return tf_fail(env, TFUSE_EINTERNAL, "output tensor '%s': more elements than it has", tf_printable(shown, sizeof shown, s->tensor.name));
    TF_TRY(check_values(env, s, values, count));
    size_t width = tf_dtype_size(s->tensor.dtype), step = TF_WRITER_BYTES / width;
    for (size_t at = 0; at < count; at += step) {
        size_t n = count - at < step ? count - at : step;
        const void *bytes = values + at;
        if (s->tensor.dtype != TFUSE_F32) {
            if (!tf_from_f32(s->tensor.dtype, values + at, w->scratch, n))
                return tf_fail(env, TFUSE_EDTYPE, "output tensor '%s': its values are no %s",
                               tf_printable(shown, sizeof shown, s->tensor.name), tf_dtype_name(s->tensor.dtype));
            bytes = w->scratch;
        }
        TF_TRY(tf_write_at(env, w->fd, w->paths[s->shard], bytes, n * width, s->offset + (s->filled + at) * width));
    }
    s->filled += count;
    s->written = s->filled == s->tensor.count;
    return TFUSE_OK;
}

tfuse_status tf_writer_put(tf_env *env, tf_writer *w, size_t index, const float *values)
{
    return tf_writer_put_part(env, w, index, values, index < w->count ? (size_t)w->by_index[index]->tensor.count : 0);
}

tfuse_status tf_writer_put_raw(tf_env *env, tf_writer *w, size_t index, const void *bytes)
{
    slot *s;
    TF_TRY(begin_put(env, w, index, &s));
    TF_TRY(tf_write_at(env, w->fd, w->paths[s->shard], bytes, (size_t)s->tensor.size, s->offset));
    s->written = true;
    return TFUSE_OK;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static tfuse_status check_complete(tf_env *env, const tf_writer *w)
{
    char shown[NAME_SHOWN];
    for (size_t i = 0; i < w->count; i++)
        if (!w->by_index[i]->written)
            return tf_fail(env, TFUSE_EINTERNAL, "output tensor '%s': was never written",
                           tf_printable(shown, sizeof shown, w->by_index[i]->tensor.name));
    return TFUSE_OK;
}

tfuse_status tf_writer_commit(tf_env *env, tf_writer *w)
{
    tfuse_status status = check_complete(env, w);
    if (status == TFUSE_OK)
        status = close_shard(env, w);
    if (status == TFUSE_OK)
        status = tf_stage_commit(env, &w->stage);
    tf_writer_abort(env, w);
    return status;
}

void tf_writer_abort(tf_env *env, tf_writer *w)
{
    if (!w)
        return;
    tf_mem mem = w->mem;
    if (w->fd >= 0)
        close(w->fd);
    tf_stage_abort(env, &w->stage);
    tf_free(&mem, w->slots);
    tf_free(&mem, w->by_index);
    tf_free(&mem, w->scratch);
    tf_arena_free(&w->arena);
    tf_free(&mem, w);
}
