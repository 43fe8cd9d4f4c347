/* SPDX-License-Identifier: Apache-2.0
 *
 * strmap.c: open addressing with linear probing, at most half full. The hash is SipHash-1-3 (Aumasson
 * and Bernstein: SipHash: a fast short-input PRF, 2012) under a key that is drawn for each table from
 * the operating system, so the names in a file cannot be chosen to collide. The order of slots is
 * random and is never seen from outside.
 */
#include "base/strmap.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { MAP_MIN = 16 };

typedef struct tf_strmap_slot {
    const char *key; /* NULL: free */
    uint64_t hash;
    int64_t value;
} slot;

static inline uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
}

static uint64_t sip_hash(const uint64_t key[2], const char *text)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    size_t len = strlen(text);
    uint64_t word;
    for (size_t left = len; left >= 8; left -= 8, text += 8) {
        memcpy(&word, text, 8);
        sip_word(v, word);
    }
    word = 0;
    memcpy(&word, text, len % 8);
    sip_word(v, word ^ (uint64_t)len << 56);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void tf_strmap_init(tf_strmap *map, const tf_mem *mem)
{
    memset(map, 0, sizeof *map);
    map->mem = *mem;
}

void tf_strmap_free(tf_strmap *map)
{
    tf_free(&map->mem, map->slots);
    map->slots = NULL;
    map->cap = map->count = 0;
}

/* The slot that holds the key, or the free one where it belongs. */
static slot *find(const tf_strmap *map, const char *key, uint64_t hash)
{
    for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
        slot *s = &map->slots[i];
        if (!s->key || (s->hash == hash && strcmp(s->key, key) == 0))
            return s;
    }
}

int64_t tf_strmap_get(const tf_strmap *map, const char *key)
{
    if (map->count == 0)
        return -1;
    const slot *s = find(map, key, sip_hash(map->seed, key));
    return s->key ? s->value : -1;
}

/* Where the system has no random numbers yet, the address of the table and the time make the key. */
static void draw_seed(tf_strmap *map)
{
    if (getrandom(map->seed, sizeof map->seed, GRND_NONBLOCK) == (ssize_t)sizeof map->seed)
        return;
    struct timespec t = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    map->seed[0] = (uint64_t)(uintptr_t)map->slots ^ (uint64_t)t.tv_nsec << 32;
    map->seed[1] = (uint64_t)(uintptr_t)map ^ (uint64_t)t.tv_sec;
}

static tfuse_status grow(tf_env *env, tf_strmap *map)
{
    size_t cap = map->cap ? map->cap * 2 : MAP_MIN, bytes;
    slot *slots = tf_mul_size(cap, sizeof *slots, &bytes) ? tf_mem_alloc(&map->mem, bytes) : NULL;
    if (!slots)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory: a table of %zu names was refused", cap);
    memset(slots, 0, bytes);
    tf_strmap old = *map;
    map->slots = slots;
    map->cap = cap;
    if (old.cap == 0)
        draw_seed(map);
    for (size_t i = 0; i < old.cap; i++) {
        const slot *s = &old.slots[i];
        if (s->key)
            *find(map, s->key, s->hash) = *s;
    }
    tf_free(&map->mem, old.slots);
    return TFUSE_OK;
}

tfuse_status tf_strmap_put(tf_env *env, tf_strmap *map, const char *key, int64_t value, int64_t *was)
{
    if (map->count >= map->cap / 2)
        TF_TRY(grow(env, map));
    uint64_t hash = sip_hash(map->seed, key);
    slot *s = find(map, key, hash);
    if (was)
        *was = s->key ? s->value : -1;
    if (!s->key) {
        *s = (slot){key, hash, value};
        map->count++;
    }
    return TFUSE_OK;
}
