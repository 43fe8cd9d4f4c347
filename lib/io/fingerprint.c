/* SPDX-License-Identifier: Apache-2.0
 *
 * fingerprint.c: 64-bit fingerprints of a model, which tell whether a plan meets the weights that it was made from.
 *
 * Words of eight bytes are absorbed and the result finished as in MurmurHash3 (Appleby 2011), one lane of its x64 form: each word
 * is mixed before it meets the state. That matters here: in FNV-1a, for one, a word's top bit only ever reaches the top bit of the
 * state, so two flipped signs of weights would cancel. Each step is a bijection of the state, so a single changed word always shows.
 */
#include "io/model.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HASH_START 0xcbf29ce484222325u
enum { HASH_STEP = 1 << 20 };

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t absorb(uint64_t h, uint64_t word)
{
    h ^= rotl(word * 0x87c37b91114253d5u, 31) * 0x4cf5ad432745937fu;
    return rotl(h, 27) * 5 + 0x52dce729;
}

/* The length comes last, so trailing zeros count. */
static uint64_t absorb_bytes(uint64_t h, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t word;
    size_t left = size;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = absorb(h, word);
    }
    word = 0;
    if (left)
        memcpy(&word, p, left);
    return absorb(absorb(h, word), size);
}

static void finish(uint64_t h, char text[17])
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    h ^= h >> 33;
    snprintf(text, 17, "%016" PRIx64, h);
}

/* Of the files that hold all tensors: which they are, how long, and when they were last written. False where there is none, or memory of the caller's. */
static bool state_of_files(const tfuse_model *m, uint64_t *state)
{
    *state = HASH_START;
    for (size_t i = 0; i < m->count; i++)
        if (m->tensors[i].file < 0)
            return false;
    for (size_t i = 0; i < m->n_files; i++) {
        struct stat st;
        if (!m->files[i].base || fstat(m->files[i].fd, &st) != 0 || !S_ISREG(st.st_mode))
            return false;
        const uint64_t words[] = {(uint64_t)st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
        for (size_t k = 0; k < TF_LEN(words); k++)
            *state = absorb(*state, words[k]);
    }
    return m->n_files > 0;
}

static uint64_t hash_header(uint64_t h, const tf_tensor *t)
{
    h = absorb_bytes(h, t->name, strlen(t->name));
    h = absorb(absorb(h, (uint64_t)t->dtype), (uint64_t)t->rank);
    for (int d = 0; d < t->rank; d++)
        h = absorb(h, (uint64_t)t->shape[d]);
    return h;
}

static tfuse_status hash_all(tf_env *env, const tfuse_model *m, char header[17], char weights[17])
{
    uint64_t head = HASH_START, body = HASH_START, done = 0, total = 0;
    tfuse_status status = TFUSE_OK;
    uint8_t *bytes = tf_alloc(env, HASH_STEP);
    if (!bytes)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < m->count; i++)
        total += m->tensors[i].size;
    for (size_t i = 0; i < m->count; i++) {
        const tf_tensor *t = &m->tensors[i];
        head = hash_header(head, t);
        for (uint64_t at = 0; at < t->size; at += HASH_STEP) {
            uint64_t part = t->size - at < HASH_STEP ? t->size - at : HASH_STEP;
            TF_TRY_OUT(tf_progress(env, "hashing", done, total));
            TF_TRY_OUT(tf_tensor_bytes(env, m, t, at, part, bytes));
            body = absorb_bytes(body, bytes, (size_t)part);
            done += part;
        }
    }
    TF_TRY_OUT(tf_progress(env, "hashing", done, total));
    finish(head, header);
    finish(body, weights);
out:
    tf_free(&env->mem, bytes);
    return status;
}

tfuse_status tf_model_hash(tf_env *env, const tfuse_model *m, char header[17], char weights[17])
{
    uint64_t before, after;
    tf_fingerprints *kept = m->fingerprints;
    const bool files = m->sealed && state_of_files(m, &before);
    header[0] = weights[0] = 0;
    if (files && atomic_load_explicit(&kept->filled, memory_order_acquire) == 2 && kept->state == before) {
        memcpy(header, kept->header, 17);
        memcpy(weights, kept->weights, 17);
        return TFUSE_OK;
    }
    TF_TRY(hash_all(env, m, header, weights));
    int empty = 0;
    if (files && state_of_files(m, &after) && after == before && atomic_compare_exchange_strong(&kept->filled, &empty, 1)) {
        kept->state = before;
        memcpy(kept->header, header, 17);
        memcpy(kept->weights, weights, 17);
        atomic_store_explicit(&kept->filled, 2, memory_order_release);
    }
    return TFUSE_OK;
}
