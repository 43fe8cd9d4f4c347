/* SPDX-License-Identifier: Apache-2.0
 *
 * write.c: the stored tensors of the target, to a checkpoint or into a model in memory. Those that the split leaves as they are are copied, a part at a time;
 * the others are laid together from logical tensors, each of which is made once for all that are stored of it alone.
 */
#include "base/meter.h"
#include "graph/naming.h"
#include "io/writer_files.h"
#include "moe/moe.h"
#include "num/num.h"
#include <stdio.h>
#include <string.h>
#include <tfuse/version.h>

enum { PART = 1 << 20 };

typedef struct moe_sink {
    const tf_moe *s;
    tf_tensor *rows;
    bool *done;
    size_t count;
    tf_writer *writer;   /* to a checkpoint */
    tfuse_model *model;  /* to memory */
} moe_sink;

/* ---- rows ---- */

/* The tensor of the source that a logical tensor of the target is made of, for its type. */
static const tf_tensor *origin(const tf_moe *s, tf_id param)
{
    const tf_graph *from = tf_moe_source(s), *to = tf_moe_target(s);
    const tf_moe_ffn *f = tf_moe_ffn_of(s, to->params[param].node);
    tf_id source = tf_graph_find_param(from, to->params[param].name);
    if (source < 0 && f)
        source = from->nodes[s->back ? f->routed.down : f->dense.down].params[0];
    if (source < 0)
        source = from->nodes[s->back ? s->ffns[0].routed.down : s->ffns[0].dense.down].params[0];
    const tf_source *leaf = from->params[source].source;
    while (leaf && leaf->n_parts > 0)
        leaf = leaf->parts[0];
    return leaf ? tf_model_find(s->model, leaf->stored) : NULL;
}

static tfuse_dtype dtype_of(const tf_moe *s, tf_id param)
{
    const char *word = tf_policy_text(s->policy, "io.dtype");
    const tf_tensor *t = origin(s, param);
    return strcmp(word, "keep") ? tf_dtype_parse(word) : t ? t->dtype : TFUSE_F32;
}

static tfuse_status stored_row(tf_env *env, const tf_moe *s, const tf_stored *stored, tf_tensor *row)
{
    size_t count, bytes;
    *row = (tf_tensor){.name = stored->name, .dtype = dtype_of(s, stored->pieces[0].param), .rank = stored->rank, .file = -1};
    memcpy(row->shape, stored->shape, sizeof row->shape);
    TF_TRY(tf_shape_count(env, row->dtype, (size_t)row->rank, row->shape, &count, &bytes));
    row->count = count;
    row->size = bytes;
    return TFUSE_OK;
}

/* A tensor that the source's graph needs not: buffers go along, and what io.extra lets pass; dead copies of what is written do not. */
static bool goes_along(const tf_moe *s, const tf_tensor *t)
{
    const tf_graph *from = tf_moe_source(s), *to = tf_moe_target(s);
    return tf_strmap_get(&from->stored_index, t->name) < 0 && tf_strmap_get(&to->stored_index, t->name) < 0 &&
           (tf_graph_is_buffer(to, t->name) || tf_policy_is(s->policy, "io.extra", "copy"));
}

tfuse_status tf_moe_rows(tf_env *env, const tf_moe *s, tf_tensor **out, size_t *count)
{
    const tf_graph *to = tf_moe_target(s);
    *count = 0;
    *out = tf_calloc(env, to->n_stored + s->model->count + 1, sizeof **out);
    tfuse_status status = *out ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t i = 0; i < to->n_stored && status == TFUSE_OK; i++)
        status = stored_row(env, s, &to->stored[i], &(*out)[(*count)++]);
    for (size_t i = 0; i < s->model->count && status == TFUSE_OK; i++)
        if (goes_along(s, &s->model->tensors[i]))
            (*out)[(*count)++] = s->model->tensors[i];
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *out);
        *out = NULL;
    }
    return status;
}

/* ---- putting ---- */

static tfuse_status put(tf_env *env, moe_sink *k, size_t index, const float *values)
{
    tf_tensor row = k->rows[index];
    k->done[index] = true;
    if (tf_find_nonfinite(values, row.count) >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "%s of the split model is not finite; nothing is written", row.name);
    if (k->writer)
        return tf_writer_put(env, k->writer, index, values);
    uint8_t *data = tf_arena_alloc(env, &k->model->arena, row.size ? (size_t)row.size : 1);
    if (!data)
        return TFUSE_ENOMEM;
    if (!tf_from_f32(row.dtype, values, data, row.count))
        return tf_fail(env, TFUSE_EDTYPE, "%s: cannot be stored as %s", row.name, tf_dtype_name(row.dtype));
    row.data = data;
    row.file = -1;
    return tf_model_add(env, k->model, &row);
}

static tfuse_status put_raw(tf_env *env, moe_sink *k, size_t index, const tf_tensor *t)
{
    tf_tensor row = k->rows[index];
    k->done[index] = true;
    uint8_t *bytes = k->writer ? tf_alloc(env, t->size ? (size_t)t->size : 1) : tf_arena_alloc(env, &k->model->arena, t->size ? (size_t)t->size : 1);
    tfuse_status status = bytes ? tf_tensor_bytes(env, k->s->model, t, 0, t->size, bytes) : TFUSE_ENOMEM;
    row.data = bytes;
    row.strides = NULL;
    row.file = -1;
    if (status == TFUSE_OK)
        status = k->writer ? tf_writer_put_raw(env, k->writer, index, bytes) : tf_model_add(env, k->model, &row);
    if (k->writer)
        tf_free(&env->mem, bytes);
    return status;
}

/* The source's tensor of the same name, when this one is the same throughout; NULL. */
static const tf_tensor *untouched(const tf_moe *s, const tf_tensor *row)
{
    const tf_graph *from = tf_moe_source(s), *to = tf_moe_target(s);
    const tf_tensor *t = tf_model_find(s->model, row->name);
    const int64_t a = tf_strmap_get(&from->stored_index, row->name), b = tf_strmap_get(&to->stored_index, row->name);
    if (!t || t->rank != row->rank || memcmp(t->shape, row->shape, (size_t)row->rank * sizeof *row->shape))
        return NULL;
    if (b < 0)
        return t;
    if (a < 0 || from->stored[a].n_pieces != to->stored[b].n_pieces)
        return NULL;
    for (int i = 0; i < to->stored[b].n_pieces; i++) {
        const tf_param *p = &from->params[from->stored[a].pieces[i].param], *q = &to->params[to->stored[b].pieces[i].param];
        if (strcmp(p->name, q->name) || tf_moe_ffn_of(s, q->node))
            return NULL;
    }
    return t;
}

/* In parts where the types' values go through float32 unchanged, else as it is. */
static tfuse_status copy_tensor(tf_env *env, moe_sink *k, size_t index, const tf_tensor *t)
{
    const tf_tensor *row = &k->rows[index];
    const bool narrow = t->dtype == TFUSE_F32 || t->dtype == TFUSE_F16 || t->dtype == TFUSE_BF16;
    if (row->dtype == t->dtype && (!k->writer || !narrow || t->count <= PART))
        return put_raw(env, k, index, t);
    const size_t part = k->writer && t->count > PART ? PART : (size_t)t->count;
    float *values = tf_alloc_array(env, part + 1, sizeof *values);
    tfuse_status status = values ? TFUSE_OK : TFUSE_ENOMEM;
    k->done[index] = true;
    for (uint64_t at = 0; at < t->count && status == TFUSE_OK; at += part) {
        const size_t n = t->count - at < part ? (size_t)(t->count - at) : part;
        status = tf_tensor_read_part(env, k->s->model, t, at, n, values);
        if (status == TFUSE_OK)
            status = n == t->count ? put(env, k, index, values) : tf_writer_put_part(env, k->writer, index, values, n);
        if (status == TFUSE_OK)
            status = tf_check_cancel(env);
    }
    tf_free(&env->mem, values);
    return status;
}

/* ---- what it takes ---- */

static uint64_t copying_bytes(const tf_tensor *t)
{
    const bool narrow = t->dtype == TFUSE_F32 || t->dtype == TFUSE_F16 || t->dtype == TFUSE_BF16;
    return narrow && t->count > PART ? (uint64_t)PART * sizeof(float) : t->size;
}

/* The logical tensor that comes first while it is made; then it, the stored tensor, and each of the others while it is made. */
static uint64_t laying_bytes(const tf_moe *s, const tf_stored *stored)
{
    const tf_graph *to = tf_moe_target(s);
    const tf_id first = stored->pieces[0].param;
    const uint64_t logical = tf_area(tf_param_count(&to->params[first]), 1, sizeof(float)), made = tf_moe_param_bytes(s, first);
    uint64_t values = sizeof(float), others = 0;
    for (int i = 0; i < stored->n_pieces; i++) {
        const tf_id param = stored->pieces[i].param;
        const uint64_t bytes = param == first ? 0 : tf_area(tf_param_count(&to->params[param]), 1, sizeof(float)) + tf_moe_param_bytes(s, param);
        others = bytes > others ? bytes : others;
    }
    for (int d = 0; d < stored->rank; d++)
        values *= (uint64_t)stored->shape[d];
    return logical + (made > values + others ? made : values + others);
}

uint64_t tf_moe_writing_bytes(const tf_moe *s, const tf_tensor *rows, size_t count)
{
    const tf_graph *to = tf_moe_target(s);
    uint64_t most = 0;
    for (size_t i = 0; i < count; i++) {
        const tf_tensor *same = untouched(s, &rows[i]);
        const uint64_t bytes = same ? copying_bytes(same) : laying_bytes(s, &to->stored[i]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- from logical tensors ---- */

static tfuse_status make(tf_env *env, const tf_moe *s, tf_id param, float **out)
{
    *out = tf_alloc_array(env, (size_t)tf_param_count(&tf_moe_target(s)->params[param]), sizeof **out);
    return *out ? tf_moe_param(env, s, param, *out) : TFUSE_ENOMEM;
}

static bool is_of_one(const tf_stored *stored, tf_id param)
{
    for (int i = 0; i < stored->n_pieces; i++)
        if (stored->pieces[i].param != param)
            return false;
    return true;
}

/* Lays the pieces of a stored tensor together; those of `param` are there. */
static tfuse_status lay(tf_env *env, moe_sink *k, size_t index, tf_id param, const float *logical)
{
    const tf_graph *to = tf_moe_target(k->s);
    const tf_stored *stored = &to->stored[index];
    float *values = tf_calloc(env, k->rows[index].count, sizeof *values), *other = NULL;
    tfuse_status status = values ? TFUSE_OK : TFUSE_ENOMEM;
    for (int i = 0; i < stored->n_pieces && status == TFUSE_OK; i++) {
        const bool here = stored->pieces[i].param == param;
        status = here ? TFUSE_OK : make(env, k->s, stored->pieces[i].param, &other);
        if (status == TFUSE_OK)
            tf_piece_scatter(to, &stored->pieces[i], here ? logical : other, values);
        tf_free(&env->mem, other);
        other = NULL;
    }
    if (status == TFUSE_OK)
        status = put(env, k, index, values);
    tf_free(&env->mem, values);
    return status;
}

/* This stored tensor, and all that are of the same logical one alone. */
static tfuse_status emit(tf_env *env, moe_sink *k, size_t index)
{
    const tf_graph *to = tf_moe_target(k->s);
    const tf_tensor *same = untouched(k->s, &k->rows[index]);
    if (same)
        return copy_tensor(env, k, index, same);
    const tf_id param = to->stored[index].pieces[0].param;
    float *logical = NULL;
    tfuse_status status = make(env, k->s, param, &logical);
    for (size_t i = index; i < to->n_stored && status == TFUSE_OK; i++)
        if (!k->done[i] && (i == index || is_of_one(&to->stored[i], param)))
            status = lay(env, k, i, param, logical);
    tf_free(&env->mem, logical);
    return status;
}

static tfuse_status emit_all(tf_env *env, moe_sink *k)
{
    for (size_t i = 0; i < k->count; i++) {
        TF_TRY(tf_progress(env, "writing", i, k->count));
        if (!k->done[i])
            TF_TRY(emit(env, k, i));
    }
    return tf_progress(env, "writing", k->count, k->count);
}

static tfuse_status open_sink(tf_env *env, const tf_moe *s, moe_sink *k)
{
    *k = (moe_sink){.s = s};
    TF_TRY(tf_moe_rows(env, s, &k->rows, &k->count));
    k->done = tf_calloc(env, k->count + 1, sizeof *k->done);
    return k->done ? TFUSE_OK : TFUSE_ENOMEM;
}

static void close_sink(tf_env *env, moe_sink *k)
{
    tf_free(&env->mem, k->rows);
    tf_free(&env->mem, k->done);
}

static tfuse_status to_text(tf_env *env, const json_t *json, tf_buf *out)
{
    tf_buf_init(out, &env->mem);
    if (json)
        TF_TRY(tf_json_text(env, json, JSON_INDENT(2), out));
    return json ? tf_buf_add(env, out, "\n", 1) : TFUSE_OK;
}

/* ---- to a checkpoint ---- */

static tfuse_status provenance(tf_env *env, const tf_moe *s, json_t **out)
{
    char header[17], weights[17];
    TF_TRY(tf_model_hash(env, s->model, header, weights));
    char experts[32], top_k[32];
    snprintf(experts, sizeof experts, "%lld", (long long)s->how.experts);
    snprintf(top_k, sizeof top_k, "%lld", (long long)s->how.top_k);
    *out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "tfuse.version", TFUSE_VERSION_STRING, "tfuse.strategy", s->back ? "moe-dense" : "moe",
                     "tfuse.layout", s->layout, "tfuse.experts", experts, "tfuse.top_k", top_k, "tfuse.header", header, "tfuse.weights", weights);
    return *out ? TFUSE_OK : tf_fail(env, TFUSE_ENOMEM, "out of memory for the metadata of a checkpoint");
}

static tfuse_status write(tf_env *env, const tf_moe *s, moe_sink *k, const char *out, const json_t *meta, const char *config, const char *notes)
{
    const tf_write_options options = {.force = tf_policy_flag(s->policy, "io.force"), .shard_size = (uint64_t)tf_policy_int(s->policy, "io.shard_size"),
                                      .metadata = meta, .config_text = config, .copy_from = s->model->dir,
                                      .notes_name = notes ? TF_MOE_NOTES : NULL, .notes_text = notes};
    if (options.force)
        TF_TRY(tf_check_apart(env, (const tfuse_model *const[]){s->model}, 1, out));
    TF_TRY(tf_writer_open(env, out, &options, k->rows, k->count, &k->writer));
    const tfuse_status status = emit_all(env, k);
    if (status == TFUSE_OK)
        return tf_writer_commit(env, k->writer);
    tf_writer_abort(env, k->writer);
    return status;
}

tfuse_status tf_moe_to_checkpoint(tf_env *env, const tf_moe *s, const char *out)
{
    moe_sink k;
    json_t *meta = NULL;
    tf_buf config, notes;
    tfuse_status status = open_sink(env, s, &k);
    tf_buf_init(&notes, &env->mem);
    tf_buf_init(&config, &env->mem);
    if (status == TFUSE_OK)
        status = to_text(env, s->config, &config);
    if (status == TFUSE_OK)
        status = to_text(env, s->notes, &notes);
    if (status == TFUSE_OK)
        status = provenance(env, s, &meta);
    if (status == TFUSE_OK)
        status = write(env, s, &k, out, meta, config.data, notes.data);
    json_decref(meta);
    tf_buf_free(&config);
    tf_buf_free(&notes);
    close_sink(env, &k);
    return status;
}

/* ---- into memory ---- */

tfuse_status tf_moe_to_model(tf_env *env, const tf_moe *s, tfuse_model **out)
{
    moe_sink k;
    tf_buf config;
    *out = NULL;
    tfuse_status status = open_sink(env, s, &k);
    tf_buf_init(&config, &env->mem);
    if (status == TFUSE_OK)
        status = to_text(env, s->config, &config);
    if (status == TFUSE_OK)
        status = tf_model_new(env, config.data, &k.model);
    if (status == TFUSE_OK && s->model->dir && !(k.model->dir = tf_arena_strdup(env, &k.model->arena, s->model->dir)))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = emit_all(env, &k);
    if (status == TFUSE_OK)
        status = tf_model_seal(env, k.model);
    if (status == TFUSE_OK)
        *out = k.model;
    else
        tf_model_free(k.model);
    tf_buf_free(&config);
    close_sink(env, &k);
    return status;
}
