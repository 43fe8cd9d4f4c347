/* SPDX-License-Identifier: Apache-2.0
 *
 * strided.c: tensors that lie in a caller's memory with strides: transposed, sliced, broadcast (stride 0), reversed (negative). They are read where they
 * lie, so that weights may go on changing; elements come out in row-major order.
 */
#include "io/model.h"
#include "num/num.h"

#include <string.h>

tfuse_status tf_strides_span(tf_env *env, size_t width, int rank, const int64_t *shape, const int64_t *strides, tf_span *span)
{
    size_t before = 0, after = 0;
    bool fits = true;
    *span = (tf_span){0, 0};
    for (int d = 0; d < rank; d++)
        if (shape[d] == 0)
            return TFUSE_OK;
    for (int d = 0; d < rank && fits; d++) {
        size_t reach;
        const uint64_t stride = strides[d] < 0 ? 0 - (uint64_t)strides[d] : (uint64_t)strides[d];
        size_t *side = strides[d] < 0 ? &before : &after;
        fits = tf_mul_size((size_t)(shape[d] - 1), (size_t)stride, &reach) && tf_mul_size(reach, width, &reach) &&
               tf_add_size(*side, reach, side) && *side <= PTRDIFF_MAX / 4 - width;
    }
    if (!fits)
        return tf_fail(env, TFUSE_ESHAPE, "strides reach beyond any memory");
    *span = (tf_span){before, after + width};
    return TFUSE_OK;
}

bool tf_strides_are_row_major(int rank, const int64_t *shape, const int64_t *strides)
{
    int64_t want = 1;
    for (int d = rank - 1; d >= 0; d--) {
        if (shape[d] == 0)
            return true;
        if (shape[d] > 1 && strides[d] != want)
            return false;
        want *= shape[d];
    }
    return true;
}

/* n elements `step` bytes apart. Widths are constants, so that copies are moves. */
static void copy_line(size_t width, const uint8_t *from, ptrdiff_t step, uint8_t *to, uint64_t n)
{
    if (step == (ptrdiff_t)width) {
        memcpy(to, from, (size_t)n * width);
        return;
    }
    switch (width) {
    case 1:
        for (uint64_t i = 0; i < n; i++, from += step)
            to[i] = *from;
        break;
    case 2:
        for (uint64_t i = 0; i < n; i++, from += step)
            memcpy(to + i * 2, from, 2);
        break;
    case 4:
        for (uint64_t i = 0; i < n; i++, from += step)
            memcpy(to + i * 4, from, 4);
        break;
    default:
        for (uint64_t i = 0; i < n; i++, from += step)
            memcpy(to + i * width, from, width);
    }
}

void tf_gather(size_t width, int rank, const int64_t *shape, const int64_t *strides, const void *data, uint64_t first, uint64_t count, void *dst)
{
    int64_t at[TFUSE_MAX_RANK];
    const uint8_t *from = data;
    uint8_t *to = dst;
    uint64_t rest = first;
    if (count == 0)
        return;
    if (rank == 0) {
        memcpy(dst, data, width);
        return;
    }
    for (int d = rank - 1; d >= 0; d--) {
        at[d] = (int64_t)(rest % (uint64_t)shape[d]);
        rest /= (uint64_t)shape[d];
        from += (ptrdiff_t)(at[d] * strides[d]) * (ptrdiff_t)width;
    }
    const int last = rank - 1;
    const ptrdiff_t step = (ptrdiff_t)strides[last] * (ptrdiff_t)width;
    while (count > 0) {
        uint64_t n = (uint64_t)(shape[last] - at[last]);
        n = n < count ? n : count;
        copy_line(width, from, step, to, n);
        to += n * width;
        count -= n;
        from += (ptrdiff_t)n * step;
        at[last] += (int64_t)n;
        for (int d = last; d > 0 && at[d] == shape[d]; d--) { /* the first of the next line */
            from += (ptrdiff_t)(strides[d - 1] - shape[d] * strides[d]) * (ptrdiff_t)width;
            at[d] = 0;
            at[d - 1]++;
        }
    }
}
