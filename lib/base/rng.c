/* SPDX-License-Identifier: Apache-2.0
 *
 * rng.c: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3;
 * SC 2011). The key is the seed; the 128-bit counter is (counter, stream); of the four words that come
 * out, the first two make the number.
 */
#include "base/rng.h"

#include <math.h>

static uint64_t philox(uint64_t key, uint64_t low, uint64_t high)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t x0 = (uint32_t)low, x1 = (uint32_t)(low >> 32);
    uint32_t x2 = (uint32_t)high, x3 = (uint32_t)(high >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)p1;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (uint64_t)x1 << 32 | x0;
}

/* FNV-1a of the name, then the finaliser of splitmix64, so that names that differ in one letter lie
 * far apart. */
tf_rng tf_rng_make(uint64_t seed, const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (const unsigned char *s = (const unsigned char *)name; *s; s++)
        h = (h ^ *s) * 1099511628211u;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    tf_rng rng = {seed, h ^ (h >> 31), 0};
    return rng;
}

uint64_t tf_rng_at(const tf_rng *rng, uint64_t counter)
{
    return philox(rng->seed, counter, rng->stream);
}

uint64_t tf_rng_next(tf_rng *rng)
{
    return tf_rng_at(rng, rng->counter++);
}

uint64_t tf_rng_below(tf_rng *rng, uint64_t n)
{
    uint64_t skip = (0 - n) % n; /* 2^64 mod n: without the first `skip` values n divides what is left */
    uint64_t r;
    do
        r = tf_rng_next(rng);
    while (r < skip);
    return r % n;
}

double tf_rng_uniform(tf_rng *rng)
{
    return (double)(tf_rng_next(rng) >> 11) * 0x1p-53;
}

/* Box and Muller; 1 - u lies in (0, 1], so the logarithm is finite. */
double tf_rng_normal(tf_rng *rng)
{
    const double two_pi = 6.283185307179586476925;
    double radius = sqrt(-2.0 * log(1.0 - tf_rng_uniform(rng)));
    return radius * cos(two_pi * tf_rng_uniform(rng));
}

void tf_rng_permutation(tf_rng *rng, int64_t n, int64_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t j = (int64_t)tf_rng_below(rng, (uint64_t)i + 1);
        out[i] = out[j];
        out[j] = i;
    }
}
