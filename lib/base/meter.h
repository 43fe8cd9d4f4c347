/* SPDX-License-Identifier: Apache-2.0
 *
 * meter.h: bytes that are in use through an allocator, and the most that ever were; and a tally, which adds up what a
 * calculation would use without doing it.
 */
#ifndef TF_BASE_METER_H
#define TF_BASE_METER_H

#include "base/env.h"

typedef struct tf_meter tf_meter;

/* Counts what goes through `base`; NULL when there is no memory for it. */
tf_meter *tf_meter_new(const tf_mem *base);
/* The allocator that counts. Copies of it may outlive the meter's owner: */
tf_mem tf_meter_mem(tf_meter *m);
/* The owner needs it no more; it goes away with its last block. NULL allowed. */
void tf_meter_release(tf_meter *m);
uint64_t tf_meter_live(const tf_meter *m);
uint64_t tf_meter_peak(const tf_meter *m);
/* The peak starts again from what is live now. */
void tf_meter_restart(tf_meter *m);

/* ---- tally ---- */

/* Sizes saturate here: far beyond any memory, and sums of a few thousand of them do not overflow. */
#define TF_TALLY_MOST (UINT64_C(1) << 50)

typedef struct tf_tally {
    uint64_t live, peak;
} tf_tally;

/* a × b elements of `size` bytes. */
uint64_t tf_area(int64_t a, int64_t b, size_t size);
void tf_tally_take(tf_tally *t, uint64_t bytes);
void tf_tally_drop(tf_tally *t, uint64_t bytes);
/* Something that takes this much and gives it back before it ends. */
void tf_tally_spike(tf_tally *t, uint64_t bytes);

#endif
