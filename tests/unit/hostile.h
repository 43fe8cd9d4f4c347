/* SPDX-License-Identifier: Apache-2.0
 *
 * hostile.h: damages a valid file in every small way and hands each variant to a reader, in a block of exactly its size, so
 * that the address sanitizer sees a read past its end.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "t.h"
#include <stdlib.h>

/* Reads data and frees what came of it; returns the reader's status. */
typedef tfuse_status (*hostile_reader)(tf_env *env, const uint8_t *data, uint64_t size);

static inline tfuse_status hostile_read(tf_env *env, hostile_reader read, const uint8_t *data, size_t size, size_t at, uint8_t flip)
{
    uint8_t *copy = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, size);
    if (at < size)
        copy[at] ^= flip;
    env->error[0] = 0;
    tfuse_status status = read(env, copy, size);
    ck_assert_msg(status == TFUSE_OK || env->error[0], "status %d without a text", (int)status);
    free(copy);
    return status;
}

/* Every proper prefix is refused. */
static inline void hostile_truncate(tf_env *env, hostile_reader read, const uint8_t *data, size_t size)
{
    ck_assert_int_eq(hostile_read(env, read, data, size, size, 0), TFUSE_OK);
    for (size_t n = 0; n < size; n++)
        ck_assert_msg(hostile_read(env, read, data, n, n, 0) != TFUSE_OK, "%zu of %zu bytes were taken", n, size);
}

/* Every byte changed in four ways: no crash. Returns how many variants were taken as valid. */
static inline size_t hostile_flip(tf_env *env, hostile_reader read, const uint8_t *data, size_t size)
{
    static const uint8_t flips[] = {0x01, 0x10, 0x80, 0xff};
    size_t taken = 0;
    for (size_t at = 0; at < size; at++)
        for (size_t f = 0; f < sizeof flips; f++)
            taken += hostile_read(env, read, data, size, at, flips[f]) == TFUSE_OK;
    return taken;
}

#endif
