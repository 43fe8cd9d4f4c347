/* SPDX-License-Identifier: Apache-2.0
 *
 * strmap.h: a hash table from names to indices. Keys are borrowed. Safe against hostile keys:
 * the hash is seeded and a table never degenerates past a linear probe of its load factor.
 */
#ifndef TF_BASE_STRMAP_H
#define TF_BASE_STRMAP_H

#include "base/env.h"

typedef struct tf_strmap {
    tf_mem mem;
    struct tf_strmap_slot *slots;
    size_t cap, count;
    uint64_t seed[2];
} tf_strmap;

void tf_strmap_init(tf_strmap *map, const tf_mem *mem);
void tf_strmap_free(tf_strmap *map);
/* Index of key, or -1. */
int64_t tf_strmap_get(const tf_strmap *map, const char *key);
/* Adds key → value. *was (may be NULL) gets the earlier value or -1; an earlier value stays. */
tfuse_status tf_strmap_put(tf_env *env, tf_strmap *map, const char *key, int64_t value, int64_t *was);

#endif
