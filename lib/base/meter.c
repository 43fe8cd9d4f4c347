/* SPDX-License-Identifier: Apache-2.0
 *
 * meter.c: an allocator that counts and hands on. Handles keep copies of the allocator and may outlive the context, so the meter
 * counts its blocks as references and frees itself with the last one.
 */
#include "base/meter.h"

struct tf_meter {
    tf_mem base;
    atomic_uint_fast64_t live, peak;
    atomic_size_t users; /* blocks, and one for the owner */
};

static void leave(tf_meter *m)
{
    if (atomic_fetch_sub_explicit(&m->users, 1, memory_order_acq_rel) == 1) {
        tf_mem base = m->base;
        tf_free(&base, m);
    }
}

static void *meter_alloc(void *user, size_t size, size_t align)
{
    tf_meter *m = user;
    void *ptr = m->base.alloc(m->base.user, size, align);
    if (!ptr)
        return NULL;
    atomic_fetch_add_explicit(&m->users, 1, memory_order_relaxed);
    uint_fast64_t live = atomic_fetch_add_explicit(&m->live, size, memory_order_relaxed) + size;
    uint_fast64_t peak = atomic_load_explicit(&m->peak, memory_order_relaxed);
    while (live > peak && !atomic_compare_exchange_weak_explicit(&m->peak, &peak, live, memory_order_relaxed, memory_order_relaxed))
        continue;
    return ptr;
}

static void meter_free(void *user, void *ptr, size_t size, size_t align)
{
    tf_meter *m = user;
    m->base.free(m->base.user, ptr, size, align);
    atomic_fetch_sub_explicit(&m->live, size, memory_order_relaxed);
    leave(m);
}

tf_meter *tf_meter_new(const tf_mem *base)
{
    tf_meter *m = tf_mem_alloc(base, sizeof *m);
    if (!m)
        return NULL;
    m->base = *base;
    atomic_init(&m->live, 0);
    atomic_init(&m->peak, 0);
    atomic_init(&m->users, 1);
    return m;
}

tf_mem tf_meter_mem(tf_meter *m)
{
    return (tf_mem){sizeof(tf_mem), m, meter_alloc, meter_free};
}

void tf_meter_release(tf_meter *m)
{
    if (m)
        leave(m);
}

uint64_t tf_meter_live(const tf_meter *m)
{
    return atomic_load_explicit(&m->live, memory_order_relaxed);
}

uint64_t tf_meter_peak(const tf_meter *m)
{
    return atomic_load_explicit(&m->peak, memory_order_relaxed);
}

void tf_meter_restart(tf_meter *m)
{
    atomic_store_explicit(&m->peak, tf_meter_live(m), memory_order_relaxed);
}

/* ---- tally ------------------------------------------------------------------------------------ */

uint64_t tf_area(int64_t a, int64_t b, size_t size)
{
    double bytes = (double)a * (double)b * (double)size;
    if (!(bytes > 0))
        return 0;
    return bytes < (double)TF_TALLY_MOST ? (uint64_t)a * (uint64_t)b * size : TF_TALLY_MOST;
}

void tf_tally_take(tf_tally *t, uint64_t bytes)
{
    t->live += bytes;
    if (t->live > t->peak)
        t->peak = t->live;
}

void tf_tally_drop(tf_tally *t, uint64_t bytes)
{
    t->live -= bytes < t->live ? bytes : t->live;
}

void tf_tally_spike(tf_tally *t, uint64_t bytes)
{
    tf_tally_take(t, bytes);
    tf_tally_drop(t, bytes);
}
