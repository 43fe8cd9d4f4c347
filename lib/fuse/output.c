/* SPDX-License-Identifier: Apache-2.0
 *
 * output.c: from combined logical tensors to what a checkpoint stores: every stored tensor of the anchor, with its name, shape and (by default)
 * type. Three sinks share one walk: a checkpoint on disk, a model in memory, and memory of the caller's. One stored tensor is held at a time, and of one
 * whose rows no map mixes (an embedding of any vocabulary, for instance) TF_TILE_ROWS rows.
 */
#include "fuse/fuse.h"
#include "graph/naming.h"
#include <stdlib.h>
#include <string.h>
#include <tfuse/version.h>

typedef struct sink {
    tfuse_status (*put)(tf_env *env, struct sink *s, size_t index, const float *values, size_t count); /* the next `count` of it */
    tfuse_status (*put_raw)(tf_env *env, struct sink *s, size_t index, const void *bytes);
    tf_writer *writer;   /* to a checkpoint */
    tfuse_model *model;  /* to memory */
    const tfuse_sink *theirs; /* to memory of the caller's */
    const tf_fuse_job *job;
    const tf_tensor *rows;
    uint8_t *data;       /* of the tensor that is being put into memory, and how many elements are there */
    size_t filled;
} sink;

/* ---- provenance ---------------------------------------------------------------------------------------- */

static json_t *provenance(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const double *weights)
{
    json_t *models = json_array(), *meta = NULL;
    int failed = !models;
    for (size_t k = 0; k < job->n && !failed; k++) {
        const tf_plan_model *m = tf_fusion_model(f, k);
        failed = json_array_append_new(models, json_pack("{s:s, s:s, s:s, s:f}", "name", m->label, "header", m->header,
                                                         "weights", m->weights, "weight", weights[k]));
    }
    tf_buf models_text, policy_text;
    tf_buf_init(&models_text, &env->mem);
    tf_buf_init(&policy_text, &env->mem);
    if (!failed && tf_json_text(env, models, JSON_COMPACT | JSON_SORT_KEYS, &models_text) == TFUSE_OK &&
        tf_json_text(env, job->plan->policy, JSON_COMPACT | JSON_SORT_KEYS, &policy_text) == TFUSE_OK)
        meta = json_pack("{s:s, s:s, s:s, s:s, s:s}", "tfuse.version", TFUSE_VERSION_STRING, "tfuse.strategy",
                         job->plan->strategy, "tfuse.policy", policy_text.data, "tfuse.models", models_text.data, "tfuse.graph",
                         job->plan->models[0].signature);
    tf_buf_free(&models_text);
    tf_buf_free(&policy_text);
    json_decref(models);
    return meta;
}

/* ---- assembling stored tensors ---------------------------------------------------------------------------- */

/* Output rows: the anchor's tensors, floats in the wanted type. */
static tfuse_status output_rows(tf_env *env, const tf_fuse_job *job, tf_tensor **out)
{
    const tfuse_model *anchor = job->models[0];
    const char *word = tf_policy_text(job->policy, "io.dtype");
    const tfuse_dtype wanted = job->quiet ? TFUSE_F32 : strcmp(word, "keep") ? tf_dtype_parse(word) : 0;
    tf_tensor *rows = tf_alloc_array(env, anchor->count, sizeof *rows);
    if (!rows)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < anchor->count; i++) {
        rows[i] = anchor->tensors[i];
        tf_piece *pieces;
        int count;
        tfuse_status status = tf_stored_pieces(env, job->graphs[0], rows[i].name, &pieces, &count);
        if (status != TFUSE_OK) {
            tf_free(&env->mem, rows);
            return status;
        }
        tf_free(&env->mem, pieces);
        if (wanted && count > 0) {
            rows[i].dtype = wanted;
            rows[i].size = rows[i].count * tf_dtype_size(wanted);
        }
        rows[i].data = NULL;
        rows[i].strides = NULL;
    }
    *out = rows;
    return TFUSE_OK;
}

tfuse_status tf_fuse_output_bytes(tf_env *env, const tf_fuse_job *job, uint64_t *out)
{
    enum { ENTRY = 64, DIGITS = 8, METADATA = 800 }; /* of the header, about */
    tf_tensor *rows = NULL;
    *out = METADATA + (job->models[0]->config_text ? strlen(job->models[0]->config_text) : 0);
    TF_TRY(output_rows(env, job, &rows));
    for (size_t i = 0; i < job->models[0]->count; i++)
        *out += rows[i].size + strlen(rows[i].name) + ENTRY + (uint64_t)rows[i].rank * DIGITS;
    tf_free(&env->mem, rows);
    return TFUSE_OK;
}

/* Computes the logical tensors that make up a stored one, in turn, and lays them into it. */
static tfuse_status assemble(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const tf_piece *pieces, int count,
                             float *stored)
{
    const tf_graph *g = job->graphs[0];
    for (int i = 0; i < count; i++) {
        const tf_param *p = &g->params[pieces[i].param];
        size_t size = 1;
        for (int d = 0; d < p->rank; d++)
            size *= (size_t)p->shape[d];
        float *logical = tf_alloc_array(env, size, sizeof *logical);
        if (!logical)
            return TFUSE_ENOMEM;
        tfuse_status status = tf_fusion_param(env, f, pieces[i].param, logical);
        if (status == TFUSE_OK && tf_find_nonfinite(logical, size) >= 0)
            status = tf_fail(env, TFUSE_ENUMERIC, "%s of the fused model is not finite; nothing is written", p->name);
        if (status == TFUSE_OK)
            tf_piece_scatter(g, &pieces[i], logical, stored);
        tf_free(&env->mem, logical);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

/* Whether a stored tensor is one logical tensor, in the order of its elements, that can be made by rows. */
tfuse_status tf_fuse_is_tileable(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const tf_piece *pieces, int count, bool *out)
{
    *out = false;
    if (count != 1 || pieces[0].zero || job->graphs[0]->params[pieces[0].param].source->kind != TF_SOURCE_STORED ||
        job->graphs[0]->params[pieces[0].param].shape[0] <= TF_TILE_ROWS)
        return TFUSE_OK;
    return tf_fusion_has_rows(env, f, pieces[0].param, out);
}

static tfuse_status emit_rows(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, tf_id param, size_t index, sink *s)
{
    const tf_param *p = &job->graphs[0]->params[param];
    const size_t row = (size_t)(tf_param_count(p) / p->shape[0]);
    float *values = tf_alloc_array(env, row * TF_TILE_ROWS, sizeof *values);
    tfuse_status status = values ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; first < p->shape[0] && status == TFUSE_OK; first += TF_TILE_ROWS) {
        const int64_t n = p->shape[0] - first < TF_TILE_ROWS ? p->shape[0] - first : TF_TILE_ROWS;
        status = tf_fusion_rows(env, f, param, first, n, values);
        if (status == TFUSE_OK && tf_find_nonfinite(values, row * (size_t)n) >= 0)
            status = tf_fail(env, TFUSE_ENUMERIC, "%s of the fused model is not finite; nothing is written", p->name);
        if (status == TFUSE_OK)
            status = s->put(env, s, index, values, row * (size_t)n);
        if (status == TFUSE_OK)
            status = tf_check_cancel(env);
    }
    tf_free(&env->mem, values);
    return status;
}

static tfuse_status emit_whole(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const tf_piece *pieces, int n_pieces,
                               size_t index, sink *s)
{
    const size_t count = (size_t)job->models[0]->tensors[index].count;
    float *stored = tf_calloc(env, count, sizeof *stored);
    tfuse_status status = stored ? assemble(env, job, f, pieces, n_pieces, stored) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = s->put(env, s, index, stored, count);
    tf_free(&env->mem, stored);
    return status;
}

static tfuse_status emit_raw(tf_env *env, const tf_fuse_job *job, size_t index, sink *s)
{
    const tf_tensor *t = &job->models[0]->tensors[index];
    uint8_t *bytes = tf_alloc(env, t->size ? (size_t)t->size : 1);
    tfuse_status status = bytes ? tf_tensor_bytes(env, job->models[0], t, 0, t->size, bytes) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = s->put_raw(env, s, index, bytes);
    tf_free(&env->mem, bytes);
    return status;
}

static tfuse_status emit(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, size_t index, sink *s)
{
    const tf_tensor *t = &job->models[0]->tensors[index];
    tf_piece *pieces;
    int count;
    TF_TRY(tf_stored_pieces(env, job->graphs[0], t->name, &pieces, &count));
    bool by_rows = false;
    tfuse_status status = tf_fuse_is_tileable(env, job, f, pieces, count, &by_rows);
    if (status == TFUSE_OK && count == 0)
        status = emit_raw(env, job, index, s);
    else if (status == TFUSE_OK && by_rows)
        status = emit_rows(env, job, f, pieces[0].param, index, s);
    else if (status == TFUSE_OK)
        status = emit_whole(env, job, f, pieces, count, index, s);
    tf_free(&env->mem, pieces);
    return status;
}

static tfuse_status emit_all(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, sink *s)
{
    size_t n = job->models[0]->count;
    for (size_t i = 0; i < n; i++) {
        TF_TRY(tf_progress(env, "fusing", i, n));
        TF_TRY(emit(env, job, f, i, s));
    }
    return tf_progress(env, "fusing", n, n);
}

/* ---- to a checkpoint ------------------------------------------------------------------------------------------ */

static tfuse_status writer_put(tf_env *env, sink *s, size_t index, const float *values, size_t count)
{
    return tf_writer_put_part(env, s->writer, index, values, count);
}

static tfuse_status writer_put_raw(tf_env *env, sink *s, size_t index, const void *bytes)
{
    return tf_writer_put_raw(env, s->writer, index, bytes);
}

static tfuse_status write_checkpoint(tf_env *env, const tf_fuse_job *job, const tf_fusion *f, const tf_tensor *rows,
                                     const json_t *meta, const char *out_dir)
{
    const tfuse_model *anchor = job->models[0];
    tf_write_options options = {.force = tf_policy_flag(job->policy, "io.force"),
                                .shard_size = (uint64_t)tf_policy_int(job->policy, "io.shard_size"),
                                .metadata = meta,
                                .config_text = anchor->config_text,
                                .copy_from = anchor->dir};
    sink s = {.put = writer_put, .put_raw = writer_put_raw};
    if (options.force)
        TF_TRY(tf_check_apart(env, job->models, job->n, out_dir));
    TF_TRY(tf_writer_open(env, out_dir, &options, rows, anchor->count, &s.writer));
    tfuse_status status = emit_all(env, job, f, &s);
    if (status == TFUSE_OK)
        return tf_writer_commit(env, s.writer);
    tf_writer_abort(env, s.writer);
    return status;
}

tfuse_status tf_fuse_to_checkpoint(tf_env *env, const tf_fuse_job *job, const char *out_dir)
{
    tf_fusion *f;
    TF_TRY(tf_fusion_new(env, job, &f));
    tf_tensor *rows = NULL;
    double *weights = tf_alloc_array(env, job->n, sizeof *weights);
    tfuse_status status = weights ? tf_fuse_weights(env, job, weights) : TFUSE_ENOMEM;
    json_t *meta = status == TFUSE_OK ? provenance(env, job, f, weights) : NULL;
    if (status == TFUSE_OK && !meta)
        status = tf_fail(env, TFUSE_ENOMEM, "out of memory for the metadata of %s", out_dir);
    if (status == TFUSE_OK)
        status = output_rows(env, job, &rows);
    if (status == TFUSE_OK)
        status = write_checkpoint(env, job, f, rows, meta, out_dir);
    json_decref(meta);
    tf_free(&env->mem, rows);
    tf_free(&env->mem, weights);
    tf_fusion_free(f);
    return status;
}

/* ---- into memory ------------------------------------------------------------------------------------------------- */

static tfuse_status memory_row(tf_env *env, sink *s, size_t index, uint8_t **data)
{
    tf_tensor row = s->rows[index];
    row.file = -1;
    *data = tf_arena_alloc(env, &s->model->arena, row.size ? (size_t)row.size : 1);
    row.data = *data;
    return *data ? tf_model_add(env, s->model, &row) : TFUSE_ENOMEM;
}

/* The next values of a tensor; s->filled is 0 again when it is complete. */
static tfuse_status store(tf_env *env, sink *s, size_t index, const float *values, size_t count)
{
    const tf_tensor *row = &s->rows[index];
    if (!tf_from_f32(row->dtype, values, s->data + s->filled * tf_dtype_size(row->dtype), count))
        return tf_fail(env, TFUSE_EDTYPE, "%s: a fused tensor cannot be stored as %s", row->name, tf_dtype_name(row->dtype));
    s->filled = s->filled + count == row->count ? 0 : s->filled + count;
    return TFUSE_OK;
}

static tfuse_status memory_put(tf_env *env, sink *s, size_t index, const float *values, size_t count)
{
    if (s->filled == 0)
        TF_TRY(memory_row(env, s, index, &s->data));
    return store(env, s, index, values, count);
}

static tfuse_status memory_put_raw(tf_env *env, sink *s, size_t index, const void *bytes)
{
    uint8_t *data;
    TF_TRY(memory_row(env, s, index, &data));
    if (s->rows[index].size)
        memcpy(data, bytes, (size_t)s->rows[index].size);
    return TFUSE_OK;
}

/* Images are normalised by the file beside the anchor's config, as they will be in a written checkpoint. */
static tfuse_status take_dir(tf_env *env, const tfuse_model *anchor, tfuse_model *fused)
{
    if (!anchor->dir)
        return TFUSE_OK;
    fused->dir = tf_arena_strdup(env, &fused->arena, anchor->dir);
    return fused->dir ? TFUSE_OK : TFUSE_ENOMEM;
}

tfuse_status tf_fuse_to_model(tf_env *env, const tf_fuse_job *job, tfuse_model **out)
{
    tf_fusion *f;
    tf_tensor *rows = NULL;
    *out = NULL;
    TF_TRY(tf_fusion_new(env, job, &f));
    sink s = {.put = memory_put, .put_raw = memory_put_raw};
    tfuse_status status = output_rows(env, job, &rows);
    if (status == TFUSE_OK)
        status = tf_model_new(env, job->models[0]->config_text, &s.model);
    if (status == TFUSE_OK)
        status = take_dir(env, job->models[0], s.model);
    s.rows = rows;
    if (status == TFUSE_OK)
        status = emit_all(env, job, f, &s);
    if (status == TFUSE_OK)
        status = tf_model_seal(env, s.model);
    if (status != TFUSE_OK)
        tf_model_free(s.model);
    else
        *out = s.model;
    tf_free(&env->mem, rows);
    tf_fusion_free(f);
    return status;
}

/* ---- into memory of the caller's ------------------------------------------------------------------------------------ */

static tfuse_tensor_info info_of(const tf_tensor *t, const void *data)
{
    tfuse_tensor_info info = {.struct_size = sizeof info, .name = t->name, .dtype = t->dtype, .rank = t->rank, .data = data, .size = t->size};
    memcpy(info.shape, t->shape, sizeof info.shape);
    return info;
}

/* A buffer may not lie on what is still to be read. */
static tfuse_status check_apart(tf_env *env, const sink *s, const char *name, const uint8_t *data, uint64_t size)
{
    for (size_t k = 0; k < s->job->n; k++)
        for (size_t i = 0; i < s->job->models[k]->count; i++) {
            const tf_tensor *t = &s->job->models[k]->tensors[i];
            tf_span span = {0, (size_t)t->size};
            if (t->file >= 0 || t->size == 0 || size == 0)
                continue;
            if (t->strides)
                TF_TRY(tf_strides_span(env, tf_dtype_size(t->dtype), t->rank, t->shape, t->strides, &span));
            const uintptr_t at = (uintptr_t)data, first = (uintptr_t)t->data - span.before, last = (uintptr_t)t->data + span.after;
            if (at < last && first < at + size)
                return tf_fail(env, TFUSE_EINVAL, "the buffer for '%s' overlaps '%s' of models[%zu], which is still read; give it memory of its own",
                               name, t->name, k);
        }
    return TFUSE_OK;
}

static tfuse_status their_place(tf_env *env, sink *s, size_t index)
{
    const tfuse_tensor_info info = info_of(&s->rows[index], NULL);
    s->data = s->theirs->place(s->theirs->user, &info);
    if (!s->data)
        return tf_fail(env, TFUSE_ECALLBACK, "the sink gave no memory for '%s'", info.name);
    return check_apart(env, s, info.name, s->data, info.size);
}

static tfuse_status their_done(tf_env *env, const sink *s, size_t index)
{
    const tfuse_tensor_info info = info_of(&s->rows[index], s->data);
    const int32_t answer = s->theirs->done ? s->theirs->done(s->theirs->user, &info) : 0;
    return answer ? tf_fail(env, TFUSE_ECALLBACK, "the sink gave %d for '%s'", (int)answer, info.name) : TFUSE_OK;
}

static tfuse_status their_put(tf_env *env, sink *s, size_t index, const float *values, size_t count)
{
    if (s->filled == 0)
        TF_TRY(their_place(env, s, index));
    TF_TRY(store(env, s, index, values, count));
    return s->filled == 0 ? their_done(env, s, index) : TFUSE_OK;
}

static tfuse_status their_put_raw(tf_env *env, sink *s, size_t index, const void *bytes)
{
    TF_TRY(their_place(env, s, index));
    if (s->rows[index].size)
        memcpy(s->data, bytes, (size_t)s->rows[index].size);
    return their_done(env, s, index);
}

tfuse_status tf_fuse_to_sink(tf_env *env, const tf_fuse_job *job, const tfuse_sink *theirs)
{
    tf_fusion *f;
    tf_tensor *rows = NULL;
    TF_TRY(tf_fusion_new(env, job, &f));
    tfuse_status status = output_rows(env, job, &rows);
    sink s = {.put = their_put, .put_raw = their_put_raw, .theirs = theirs, .job = job, .rows = rows};
    if (status == TFUSE_OK)
        status = emit_all(env, job, f, &s);
    tf_free(&env->mem, rows);
    tf_fusion_free(f);
    return status;
}
