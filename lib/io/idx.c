/* SPDX-License-Identifier: Apache-2.0
 *
 * idx.c: LeCun's IDX arrays (MNIST and its kin): two zero bytes, a type, a rank, big-endian u32 extents, big-endian data.
 */
#include "io/io.h"
#include "num/num.h"
#include <string.h>

static tfuse_dtype idx_dtype(uint8_t code)
{
    switch (code) {
    case 0x08:
        return TFUSE_U8;
    case 0x09:
        return TFUSE_I8;
    case 0x0B:
        return TFUSE_I16;
    case 0x0C:
        return TFUSE_I32;
    case 0x0D:
        return TFUSE_F32;
    case 0x0E:
        return TFUSE_F64;
    default:
        return 0;
    }
}

tfuse_status tf_idx_header_parse(tf_env *env, const char *label, const uint8_t *data, uint64_t size, tf_idx_header *out)
{
    size_t count, bytes;
    memset(out, 0, sizeof *out);
    if (size < 4 || data[0] != 0 || data[1] != 0 || idx_dtype(data[2]) == 0)
        return tf_fail(env, TFUSE_EFORMAT, "%s: is not an IDX array", label);
    out->dtype = idx_dtype(data[2]);
    out->rank = data[3];
    out->offset = 4 + 4 * out->rank;
    if (out->rank < 1 || out->rank > TFUSE_MAX_RANK)
        return tf_fail(env, TFUSE_EFORMAT, "%s: an IDX array of %zu dimensions; 1 to %d are supported", label, out->rank, TFUSE_MAX_RANK);
    if (size < out->offset)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the IDX header is truncated", label);
    for (size_t d = 0; d < out->rank; d++) {
        const uint8_t *p = data + 4 + 4 * d;
        out->shape[d] = (int64_t)p[0] << 24 | (int64_t)p[1] << 16 | (int64_t)p[2] << 8 | p[3];
    }
    if (tf_shape_count(env, out->dtype, out->rank, out->shape, &count, &bytes) != TFUSE_OK)
        return tf_fail_in(env, TFUSE_EFORMAT, "%s", label);
    out->total = (uint64_t)bytes + out->offset;
    return TFUSE_OK;
}

tfuse_status tf_idx_parse(tf_env *env, const char *label, const tf_blob *src, tfuse_array **out)
{
    tf_idx_header h;
    uint8_t head[TF_IDX_HEADER_MAX];
    const uint64_t got = src->size < sizeof head ? src->size : sizeof head;
    *out = NULL;
    TF_TRY(tf_blob_read(env, label, src, 0, got, head));
    TF_TRY(tf_idx_header_parse(env, label, head, got, &h));
    if (h.total != src->size)
        return tf_fail(env, TFUSE_ECORRUPT, "%s: the IDX header promises %llu bytes in all, but there are %llu", label,
                       (unsigned long long)h.total, (unsigned long long)src->size);
    tfuse_array *a;
    TF_TRY(tf_array_new(env, h.dtype, h.rank, h.shape, &a));
    const tfuse_status status = tf_blob_read(env, label, src, h.offset, src->size - h.offset, a->data);
    if (status != TFUSE_OK) {
        tf_array_free(a);
        return status;
    }
    tf_swap_bytes(a->data, a->count, tf_dtype_size(h.dtype));
    *out = a;
    return TFUSE_OK;
}
