/* SPDX-License-Identifier: Apache-2.0
 *
 * rng.h: counter-based random numbers (Philox 4x32-10, Salmon et al., SC 2011): the value at a counter depends
 * on (seed, stream, counter) alone, so any order and any number of threads give the same numbers.
 */
#ifndef TF_BASE_RNG_H
#define TF_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct tf_rng {
    uint64_t seed;
    uint64_t stream;
    uint64_t counter;
} tf_rng;

/* `name` chooses the stream, e.g. the name of a tensor. */
tf_rng tf_rng_make(uint64_t seed, const char *name);
uint64_t tf_rng_at(const tf_rng *rng, uint64_t counter); /* pure */
uint64_t tf_rng_next(tf_rng *rng);
uint64_t tf_rng_below(tf_rng *rng, uint64_t n); /* uniform on 0..n-1, unbiased; n > 0 */
double tf_rng_uniform(tf_rng *rng);             /* [0, 1) with 53 bits */
double tf_rng_normal(tf_rng *rng);
void tf_rng_permutation(tf_rng *rng, int64_t n, int64_t *out);

#endif
