/* SPDX-License-Identifier: Apache-2.0
 *
 * array.c: arrays, and the arithmetic of shapes. A shape is taken only if the product of its extents other than zero, times
 * the element size, fits: so strides never overflow either, whatever the order of the extents.
 */
#include "num/array.h"
#include "num/num.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

tfuse_status tf_shape_count(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, size_t *count, size_t *bytes)
{
    size_t product = tf_dtype_size(dtype);
    bool empty = false;
    char text[160];
    if (product == 0)
        return tf_fail(env, TFUSE_EDTYPE, "unknown data type %d", (int)dtype);
    if (rank > TFUSE_MAX_RANK)
        return tf_fail(env, TFUSE_ESHAPE, "%zu dimensions are more than the %d supported", rank, TFUSE_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return tf_fail(env, TFUSE_ESHAPE, "shape %s has a negative extent", tf_shape_text(text, sizeof text, rank, shape));
        empty |= shape[i] == 0;
        if (shape[i] > 0 && (!tf_mul_size(product, (size_t)shape[i], &product) || product > PTRDIFF_MAX))
            return tf_fail(env, TFUSE_ESHAPE, "shape %s is too large", tf_shape_text(text, sizeof text, rank, shape));
    }
    *count = empty ? 0 : product / tf_dtype_size(dtype);
    if (bytes)
        *bytes = empty ? 0 : product;
    return TFUSE_OK;
}

const char *tf_shape_text(char *buffer, size_t size, size_t rank, const int64_t *shape)
{
    size_t len = (size_t)snprintf(buffer, size, "[");
    for (size_t i = 0; i < rank && len < size; i++)
        len += (size_t)snprintf(buffer + len, size - len, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (len < size)
        snprintf(buffer + len, size - len, "]");
    return buffer;
}

static tfuse_status new_header(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, size_t *bytes,
                               tfuse_array **out)
{
    size_t count;
    *out = NULL;
    TF_TRY(tf_shape_count(env, dtype, rank, shape, &count, bytes));
    tfuse_array *a = tf_calloc(env, 1, sizeof *a);
    if (!a)
        return TFUSE_ENOMEM;
    a->kind = TF_KIND_ARRAY;
    a->mem = env->mem;
    a->dtype = dtype;
    a->rank = rank;
    a->count = count;
    for (size_t i = 0; i < rank; i++)
        a->shape[i] = shape[i];
    *out = a;
    return TFUSE_OK;
}

tfuse_status tf_array_new(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, tfuse_array **out)
{
    size_t bytes;
    tfuse_array *a;
    *out = NULL;
    TF_TRY(new_header(env, dtype, rank, shape, &bytes, &a));
    a->data = tf_calloc(env, bytes, 1);
    if (!a->data) {
        tf_array_free(a);
        return TFUSE_ENOMEM;
    }
    *out = a;
    return TFUSE_OK;
}

static tfuse_status wrap(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                         tfuse_release_fn release, void *owner, tfuse_array **out)
{
    size_t bytes;
    tfuse_array *a;
    TF_TRY(new_header(env, dtype, rank, shape, &bytes, &a));
    tfuse_status status = TFUSE_OK;
    if (!data && bytes > 0) {
        status = tf_fail(env, TFUSE_EINVAL, "an array of %zu bytes without data", bytes);
    } else if (release) {
        a->data = (void *)(uintptr_t)data; /* borrowed: never written through */
        a->release = release;
        a->owner = owner;
    } else {
        a->data = tf_alloc(env, bytes);
        if (!a->data)
            status = TFUSE_ENOMEM;
        else if (bytes > 0)
            memcpy(a->data, data, bytes);
    }
    if (status != TFUSE_OK) {
        tf_array_free(a);
        return status;
    }
    *out = a;
    return TFUSE_OK;
}

tfuse_status tf_array_wrap(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                           tfuse_release_fn release, void *owner, tfuse_array **out)
{
    *out = NULL;
    tfuse_status status = wrap(env, dtype, rank, shape, data, release, owner, out);
    if (status != TFUSE_OK && release)
        release(owner);
    return status;
}

void tf_array_free(tfuse_array *a)
{
    if (!a)
        return;
    tf_mem mem = a->mem;
    tf_array_free(a->next);
    tf_free(&mem, a->name);
    tf_free(&mem, a->path);
    if (a->release)
        a->release(a->owner);
    else
        tf_free(&mem, a->data);
    tf_free(&mem, a);
}

tfuse_status tf_array_attach(tf_env *env, tfuse_array *a, const char *name, tfuse_array *other)
{
    char shown[64], *copy = NULL;
    tfuse_status status = TFUSE_OK;
    if (other == a || other->name || other->next || tf_array_attached(a, name))
        status = tf_fail(env, TFUSE_EINVAL, "an array cannot be attached as '%s': %s", tf_printable(shown, sizeof shown, name),
                         tf_array_attached(a, name) ? "there is one of that name" : "it goes with another array, or others with it");
    else if (!(copy = tf_strdup(env, name)))
        status = TFUSE_ENOMEM;
    if (status != TFUSE_OK) {
        if (other != a && !other->name)
            tf_array_free(other);
        return status;
    }
    other->name = copy;
    while (a->next)
        a = a->next;
    a->next = other;
    return TFUSE_OK;
}

const char *tf_array_label(const tfuse_array *a, const char *otherwise)
{
    return a->path ? a->path : otherwise;
}

const tfuse_array *tf_array_attached(const tfuse_array *a, const char *name)
{
    for (a = a->next; a; a = a->next)
        if (strcmp(a->name, name) == 0)
            return a;
    return NULL;
}
