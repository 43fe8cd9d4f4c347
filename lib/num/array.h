/* SPDX-License-Identifier: Apache-2.0
 *
 * array.h: the array that goes in and out, behind tfuse/array.h.
 */
#ifndef TF_NUM_ARRAY_H
#define TF_NUM_ARRAY_H

#include "base/env.h"
#include <tfuse/array.h>

struct tfuse_array {
    tf_mem mem;
    tfuse_dtype dtype;
    size_t rank;
    int64_t shape[TFUSE_MAX_RANK];
    size_t count; /* product of the shape */
    void *data;   /* row-major */
    tfuse_release_fn release; /* NULL: data are ours */
    void *owner;
};

/* Allocates; data are zeroed. Checks the shape. */
tfuse_status tf_array_new(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, tfuse_array **out);
tfuse_status tf_array_wrap(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, const void *data,
                           tfuse_release_fn release, void *owner, tfuse_array **out);
void tf_array_free(tfuse_array *a);
/* Product of extents; TFUSE_ESHAPE on a negative one or overflow; *bytes may be NULL. */
tfuse_status tf_shape_count(tf_env *env, tfuse_dtype dtype, size_t rank, const int64_t *shape, size_t *count, size_t *bytes);
/* "[3, 4]" into buffer; returns it. */
const char *tf_shape_text(char *buffer, size_t size, size_t rank, const int64_t *shape);

#endif
