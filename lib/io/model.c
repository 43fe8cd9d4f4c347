/* SPDX-License-Identifier: Apache-2.0
 *
 * model.c: a model's table of tensors. Tensors are added in any order; sealing sorts them by name, and from then on
 * nothing changes, so a sealed model may be read by any number of threads.
 *
 * Tensors are borrowed from mapped files or from the caller; the model never writes to them and takes them at any alignment.
 */
#include "io/model.h"
#include "num/array.h"
#include "num/num.h"
#include <stdlib.h>
#include <string.h>

enum { NAME_SHOWN = 160, MIN_TENSORS = 32 };

tfuse_status tf_model_new(tf_env *env, const char *config, tfuse_model **out)
{
    *out = NULL;
    tfuse_model *m = tf_calloc(env, 1, sizeof *m);
    if (!m)
        return TFUSE_ENOMEM;
    m->kind = TF_KIND_MODEL;
    m->mem = env->mem;
    tf_arena_init(&m->arena, &env->mem);
    tf_strmap_init(&m->index, &env->mem);
    m->path = tf_arena_strdup(env, &m->arena, "");
    m->fingerprints = tf_arena_array(env, &m->arena, 1, sizeof *m->fingerprints);
    tfuse_status status = m->path && m->fingerprints ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && config)
        status = tf_model_set_config(env, m, "config", config, strlen(config));
    if (status != TFUSE_OK) {
        tf_model_free(m);
        return status;
    }
    *out = m;
    return TFUSE_OK;
}

void tf_model_free(tfuse_model *m)
{
    if (!m)
        return;
    tf_mem mem = m->mem;
    for (const tf_lender *l = m->lenders; l; l = l->next)
        l->release(l->owner);
    if (m->release)
        m->release(m->owner);
    for (size_t i = 0; i < m->n_files; i++)
        tf_unmap_file(&m->files[i]);
    json_decref(m->config);
    tf_strmap_free(&m->index);
    tf_free(&mem, m->tensors);
    tf_arena_free(&m->arena);
    tf_free(&mem, m);
}

/* Grows through the model's own allocator: the caller's environment may be another than the one that made the model. */
static tfuse_status reserve_tensor(tf_env *env, tfuse_model *m)
{
    if (m->count < m->cap)
        return TFUSE_OK;
    size_t cap = m->cap ? m->cap * 2 : MIN_TENSORS, bytes;
    tf_tensor *grown = tf_mul_size(cap, sizeof *grown, &bytes) ? tf_mem_alloc(&m->mem, bytes) : NULL;
    if (!grown)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for %zu tensors", cap);
    if (m->count)
        memcpy(grown, m->tensors, m->count * sizeof *grown);
    tf_free(&m->mem, m->tensors);
    m->tensors = grown;
    m->cap = cap;
    return TFUSE_OK;
}

static tfuse_status check_tensor(tf_env *env, const tfuse_model *m, const tf_tensor *tensor, size_t *count, size_t *bytes)
{
    char name[NAME_SHOWN];
    tf_printable(name, sizeof name, tensor->name);
    if (m->sealed)
        return tf_fail(env, TFUSE_ESTATE, "tensor '%s': the model is sealed and takes no more tensors", name);
    if (tensor->rank < 0)
        return tf_fail(env, TFUSE_ESHAPE, "tensor '%s': negative rank", name);
    tfuse_status status = tf_shape_count(env, tensor->dtype, (size_t)tensor->rank, tensor->shape, count, bytes);
    if (status != TFUSE_OK)
        return tf_fail_in(env, status, "tensor '%s'", name);
    if (!tensor->data && *bytes > 0)
        return tf_fail(env, TFUSE_EINVAL, "tensor '%s': no data", name);
    if (tf_strmap_get(&m->index, tensor->name) >= 0)
        return tf_fail(env, TFUSE_EINVAL, "tensor '%s': is in the model already", name);
    return TFUSE_OK;
}

tfuse_status tf_model_add(tf_env *env, tfuse_model *m, const tf_tensor *tensor)
{
    size_t count, bytes;
    TF_TRY(check_tensor(env, m, tensor, &count, &bytes));
    TF_TRY(reserve_tensor(env, m));
    char *name = tf_arena_strdup(env, &m->arena, tensor->name);
    if (!name)
        return TFUSE_ENOMEM;
    TF_TRY(tf_strmap_put(env, &m->index, name, (int64_t)m->count, NULL));
    tf_tensor *t = &m->tensors[m->count++];
    *t = *tensor;
    t->name = name;
    t->count = count;
    t->size = bytes;
    return TFUSE_OK;
}

tfuse_status tf_model_lend(tf_env *env, tfuse_model *m, const tf_tensor *tensor, const int64_t *strides, tfuse_release_fn release, void *owner)
{
    tf_tensor lent = *tensor;
    tf_lender *lender = release ? tf_arena_alloc(env, &m->arena, sizeof *lender) : NULL;
    if (release && !lender)
        return TFUSE_ENOMEM;
    lent.strides = NULL;
    if (strides && !m->sealed) { /* a sealed one takes nothing; tf_model_add says so */
        size_t count, bytes;
        tf_span span;
        TF_TRY(check_tensor(env, m, tensor, &count, &bytes));
        tfuse_status status = tf_strides_span(env, tf_dtype_size(lent.dtype), lent.rank, lent.shape, strides, &span);
        if (status != TFUSE_OK)
            return tf_fail_in(env, status, "tensor '%s'", lent.name);
        if (!tf_strides_are_row_major(lent.rank, lent.shape, strides)) {
            int64_t *copy = tf_arena_array(env, &m->arena, (size_t)lent.rank, sizeof *copy);
            if (!copy)
                return TFUSE_ENOMEM;
            for (int d = 0; d < lent.rank; d++)
                copy[d] = lent.shape[d] > 1 ? strides[d] : 0; /* a step that is never taken may be any number */
            lent.strides = copy;
        }
    }
    TF_TRY(tf_model_add(env, m, &lent));
    if (lender) {
        *lender = (tf_lender){release, owner, m->lenders};
        m->lenders = lender;
    }
    return TFUSE_OK;
}

static int by_name(const void *a, const void *b)
{
    const tf_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Sorted tensors and their index are built aside, so a failure leaves the model as it was. */
tfuse_status tf_model_seal(tf_env *env, tfuse_model *m)
{
    if (m->sealed)
        return tf_fail(env, TFUSE_ESTATE, "the model is sealed already");
    tf_strmap index;
    tf_strmap_init(&index, &m->mem);
    tfuse_status status = TFUSE_OK;
    tf_tensor *sorted = tf_mem_alloc(&m->mem, m->count * sizeof *sorted);
    if (!sorted) {
        status = tf_fail(env, TFUSE_ENOMEM, "out of memory for %zu tensors", m->count);
        goto out;
    }
    if (m->count) {
        memcpy(sorted, m->tensors, m->count * sizeof *sorted);
        qsort(sorted, m->count, sizeof *sorted, by_name);
    }
    for (size_t i = 0; i < m->count; i++)
        TF_TRY_OUT(tf_strmap_put(env, &index, sorted[i].name, (int64_t)i, NULL));
    tf_strmap_free(&m->index);
    tf_free(&m->mem, m->tensors);
    m->index = index;
    m->tensors = sorted;
    m->cap = m->count;
    m->sealed = true;
    return TFUSE_OK;
out:
    tf_strmap_free(&index);
    tf_free(&m->mem, sorted);
    return status;
}

const tf_tensor *tf_model_find(const tfuse_model *m, const char *name)
{
    int64_t i = tf_strmap_get(&m->index, name);
    return i < 0 ? NULL : &m->tensors[i];
}

tfuse_status tf_model_reserve_files(tf_env *env, tfuse_model *m, size_t n)
{
    m->files = tf_arena_array(env, &m->arena, n, sizeof *m->files);
    m->file_names = tf_arena_array(env, &m->arena, n, sizeof *m->file_names);
    return m->files && m->file_names ? TFUSE_OK : TFUSE_ENOMEM;
}

tfuse_status tf_model_map(tf_env *env, tfuse_model *m, const char *path)
{
    size_t i = m->n_files;
    m->file_names[i] = tf_arena_strdup(env, &m->arena, path);
    if (!m->file_names[i])
        return TFUSE_ENOMEM;
    TF_TRY(tf_map_file(env, path, &m->files[i]));
    m->n_files++;
    const tf_blob src = tf_blob_file(&m->files[i]);
    return tf_safetensors_parse(env, path, &src, (int)i, m);
}

const char *tf_model_label(const tfuse_model *m)
{
    return m->path[0] ? m->path : "(in memory)";
}

const char *tf_tensor_file(const tfuse_model *m, const tf_tensor *t)
{
    return t->file >= 0 ? m->file_names[t->file] : tf_model_label(m);
}

tfuse_status tf_tensor_bytes(tf_env *env, const tfuse_model *m, const tf_tensor *t, uint64_t from, uint64_t size, void *dst)
{
    const size_t width = tf_dtype_size(t->dtype);
    if (t->file >= 0) {
        const tf_blob src = tf_blob_file(&m->files[t->file]);
        return size ? tf_blob_read(env, m->file_names[t->file], &src, (uint64_t)(t->data - src.data) + from, size, dst) : TFUSE_OK;
    }
    if (t->strides && size) /* callers cut between elements */
        tf_gather(width, t->rank, t->shape, t->strides, t->data, from / width, size / width, dst);
    else if (size)
        memcpy(dst, t->data + from, (size_t)size);
    return TFUSE_OK;
}

/* Through a buffer, unless it is float32 already. *known: the type has a float32 form. */
static tfuse_status convert(tf_env *env, const tfuse_model *m, const tf_tensor *t, uint64_t first, uint64_t count, float *dst, bool *known)
{
    enum { STEP = 1 << 16 };
    const uint64_t width = tf_dtype_size(t->dtype);
    *known = true;
    if (t->dtype == TFUSE_F32)
        return tf_tensor_bytes(env, m, t, first * width, count * width, dst);
    const uint64_t step = count < STEP ? count : STEP;
    uint8_t *bytes = tf_alloc_array(env, (size_t)(step ? step : 1), (size_t)(width ? width : 1));
    tfuse_status status = bytes ? TFUSE_OK : TFUSE_ENOMEM;
    for (uint64_t at = 0; at < count && status == TFUSE_OK && *known; at += step) {
        const uint64_t n = count - at < step ? count - at : step;
        status = tf_tensor_bytes(env, m, t, (first + at) * width, n * width, bytes);
        if (status == TFUSE_OK)
            *known = tf_to_f32(t->dtype, bytes, dst + at, (size_t)n);
    }
    tf_free(&env->mem, bytes);
    return status;
}

tfuse_status tf_tensor_read_part(tf_env *env, const tfuse_model *m, const tf_tensor *t, uint64_t first, uint64_t count, float *dst)
{
    char name[NAME_SHOWN];
    bool known;
    if (t->file >= 0 || t->strides)
        TF_TRY(convert(env, m, t, first, count, dst, &known));
    else
        known = tf_to_f32(t->dtype, count ? t->data + first * tf_dtype_size(t->dtype) : t->data, dst, count);
    if (!known)
        return tf_fail(env, TFUSE_EDTYPE, "%s: tensor '%s': %s cannot be read as F32", tf_tensor_file(m, t),
                       tf_printable(name, sizeof name, t->name), tf_dtype_name(t->dtype));
    int64_t bad = tf_find_nonfinite(dst, count);
    if (bad >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "%s: tensor '%s': element %lld is NaN or infinite as F32; use an undamaged checkpoint",
                       tf_tensor_file(m, t), tf_printable(name, sizeof name, t->name), (long long)bad);
    return TFUSE_OK;
}

tfuse_status tf_tensor_read(tf_env *env, const tfuse_model *m, const tf_tensor *t, float *dst)
{
    return tf_tensor_read_part(env, m, t, 0, t->count, dst);
}
