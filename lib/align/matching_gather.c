/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_gather.c: values of two models over calibration inputs. Second moments are summed in float64 and kept in float32; where run.memory bounds what is
 * held, or sums are large, sums are there of a lot of the values at a time, for each of which the models run again. A value of blocks of units (experts) has
 * moments of all of its units with all others, so these are most of what matching such models takes.
 */
#include "align/matching.h"
#include "ops/common.h"

/* Sums of a lot: where run.memory bounds what is held so many times the largest value's, or so much if that is more; whatever the bound, so that the least
 * that would do can be named. Without one, so much. */
enum { LARGEST = 2 };
#define BOUNDED_BYTES ((uint64_t)2 << 20)
#define LOT_BYTES ((uint64_t)2 << 30)

static uint64_t sums_bytes(const matching *mt, const tf_graph *other, const char *value)
{
    const tf_graph *g = mt->side[MT_MODEL].g;
    return tf_area(tf_value_channels(g, tf_graph_find_value(g, value))->extent, tf_value_channels(other, tf_graph_find_value(other, value))->extent,
                   sizeof(double));
}

size_t mt_values_lot(const matching *mt, const tf_graph *other, const tf_stat_wants *wants, size_t first)
{
    uint64_t bytes = 0, most = BOUNDED_BYTES;
    size_t n = 0;
    for (size_t i = 0; i < wants->n; i++) {
        const uint64_t largest = LARGEST * sums_bytes(mt, other, wants->items[i].value);
        most = largest > most ? largest : most;
    }
    if (tf_policy_int(mt->job->policy, "run.memory") == 0)
        most = LOT_BYTES;
    for (; first + n < wants->n; n++) {
        bytes += sums_bytes(mt, other, wants->items[first + n].value);
        if (n && bytes > most)
            break;
    }
    return n;
}

tfuse_status mt_values_filter(const matching *mt, const tf_view *of, const tf_stat_wants *wants, tf_token_filter *out)
{
    const tfuse_policy *p = mt->job->policy;
    *out = wants->filter;
    return tf_stats_enough(mt->env, of, mt->job->calib, tf_policy_int(p, "calib.samples"), wants->items, wants->n, tf_policy_int(p, "matching.rows"),
                           &out->samples);
}

tfuse_status mt_values_gather(matching *mt, const matching *other, const tf_view *const *views, const tf_stat_wants *wants, mt_value **out)
{
    const tf_align_job *job = mt->job;
    const size_t of = other ? other->k : 0;
    mt_value *values = tf_calloc(mt->env, wants->n + 1, sizeof *values);
    tf_token_filter filter;
    tfuse_status status = values ? mt_values_filter(mt, views[of], wants, &filter) : TFUSE_ENOMEM;
    mt->n_values = wants->n;
    for (size_t first = 0, n; first < wants->n && status == TFUSE_OK; first += n) {
        tf_stats stats = {0};
        n = mt_values_lot(mt, job->graphs[of], wants, first);
        status = tf_stats_gather(mt->env, views[of], views[mt->k], job->calib, tf_policy_int(job->policy, "calib.samples"), &filter,
                                 wants->items + first, n, &stats);
        if (status == TFUSE_OK)
            status = mt_values_make(mt, other, &stats, wants, first, values);
        tf_stats_free(&stats);
    }
    if (status != TFUSE_OK) {
        mt_values_drop(mt, values);
        values = NULL;
    }
    *out = values;
    return status;
}

tfuse_status mt_values_fed(matching *mt, const tf_stat_wants *wants)
{
    tf_stats stats = {0};
    if (!(mt->values = tf_calloc(mt->env, wants->n + 1, sizeof *mt->values)))
        return TFUSE_ENOMEM;
    mt->n_values = wants->n;
    tfuse_status status = tf_feed_stats(mt->env, mt->job->feed, mt->k, wants, &stats);
    if (status == TFUSE_OK)
        status = mt_values_make(mt, NULL, &stats, wants, 0, mt->values);
    tf_stats_free(&stats);
    return status;
}
