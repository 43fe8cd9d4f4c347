/* SPDX-License-Identifier: Apache-2.0
 *
 * array.h: the array that goes in and out, behind tfuse/array.h.
 */
#ifndef TF_NUM_ARRAY_H
#define TF_NUM_ARRAY_H

#include "base/env.h"
#include <tfuse/array.h>

struct tfuse_array {
    uint32_t kind; /* TF_KIND_ARRAY */
    tf_mem mem;
    tfuse_dtype dtype;
    size_t rank;
    int64_t shape[TFUSE_MAX_RANK];
    size_t count; /* product of the shape */
    void *data;   /* row-major */
    tfuse_release_fn release; /* NULL: data are ours */
    void *owner;
    struct tfuse_array *next; /* named arrays that go with it; ours */
    char *name;               /* of one that goes with another; ours */
    char *path;               /* of the file that it was read from, NULL: none; ours */
};

/* Allocates; data are zeroed. Checks the shape. */
tfuse_status tf_array_new(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, tfuse_array **out);
tfuse_status tf_array_wrap(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                           tfuse_release_fn release, void *owner, tfuse_array **out);
void tf_array_free(tfuse_array *a);
/* Appends `other` to what goes with the array, under a name; takes it over, also on failure. TFUSE_EINVAL: the name is taken, or `other` goes
 * with another array. */
tfuse_status tf_array_attach(tf_env *env, tfuse_array *a, const char *name, tfuse_array *other);
/* What was attached under a name; NULL. */
const tfuse_array *tf_array_attached(const tfuse_array *a, const char *name);
/* What messages call it: its file, or `otherwise`. */
const char *tf_array_label(const tfuse_array *a, const char *otherwise);
/* Product of extents; TFUSE_ESHAPE on a negative one or overflow; *bytes may be NULL. */
tfuse_status tf_shape_count(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, size_t *count, size_t *bytes);
/* "[3, 4]" into buffer; returns it. */
const char *tf_shape_text(char *buffer, size_t size, size_t rank, const int64_t *shape);

#endif
