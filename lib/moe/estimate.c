/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate.c: what splitting takes, from sizes alone: that of the clustering, the comparison, the self-check and the writing which takes most.
 */
#include "base/pool.h"
#include "fuse/dry.h"
#include "fuse/fuse.h"
#include "graph/naming.h"
#include "moe/moe.h"
#include "run/run.h"

enum { BYTES_PER_NOTE = 64 }; /* of a unit's place in the notes: JSON's integer and its text */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The orders that are found stay. */
static uint64_t order_bytes(const tf_moe *s)
{
    uint64_t orders = 0;
    for (size_t i = 0; i < s->n && !s->back; i++)
        orders += tf_area(s->ffns[i].dense.units, TF_SPLITS, sizeof(int64_t));
    return orders;
}

/* Keys and their clusters, of the largest FFN. */
static uint64_t clustering(const tf_moe *s)
{
    uint64_t most = 0;
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *f = &s->ffns[i].dense;
        most = larger(most, tf_area(f->units, f->width, sizeof(float)) + tf_area(f->units, 1, sizeof(int64_t)) +
                                tf_cluster_bytes(f->units, f->width, s->how.experts));
    }
    return most;
}

/* ---- comparing ---- */

/* What compare.c holds for every FFN beside the evaluator. */
static uint64_t lane_bytes(const tf_moe *s, uint64_t kept, int64_t batch)
{
    uint64_t lanes = tf_area((int64_t)kept, batch, sizeof(float));
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *f = &s->ffns[i].dense;
        lanes += tf_area(TF_MOE_TILE, f->units + f->width, sizeof(float)) + tf_area(f->units, f->width, sizeof(float)) +
                 tf_area(f->units + f->width, 1, sizeof(float));
    }
    return lanes;
}

/* Of the routed model, which lies in memory: stored float32 tensors are used in place. */
static tfuse_status measure_routed(tf_env *env, const tf_moe *s, const tf_inputs *in, const tf_tensor *rows, tf_evaluator_cost *out)
{
    const tf_graph *g = s->routed;
    bool *in_place = tf_calloc(env, g->n_params + 1, sizeof *in_place);
    for (size_t p = 0; in_place && p < g->n_params; p++) {
        const tf_source *source = g->params[p].source;
        const int64_t row = source && source->kind == TF_SOURCE_STORED ? tf_strmap_get(&g->stored_index, source->stored) : -1;
        in_place[p] = row >= 0 && rows[row].dtype == TFUSE_F32;
    }
    const tfuse_status status = in_place ? tf_evaluator_measure(env, g, in_place, in->extent, NULL, 0, out) : TFUSE_ENOMEM;
    tf_free(&env->mem, in_place);
    return status;
}

/* The evaluator of the dense model and what is kept of each FFN; then it and that of the routed model, which is made in memory. */
static tfuse_status comparing(tf_env *env, const tf_moe *s, const tfuse_array *calib, const tf_tensor *rows, uint64_t written, uint64_t making, uint64_t *out)
{
    const uint64_t threads = tf_threads(env);
    tf_evaluator_cost kept, dense, routed;
    tf_inputs in;
    tf_id *values = NULL;
    TF_TRY(tf_inputs_make(env, s->dense, s->model, calib, tf_policy_int(s->policy, "calib.samples"), &in));
    TF_TRY(tf_moe_compared(env, s, &values));
    tfuse_status status = tf_evaluator_measure(env, s->dense, NULL, in.extent, values, 2 * s->n, &kept);
    if (status == TFUSE_OK)
        status = tf_evaluator_measure(env, s->dense, NULL, in.extent, NULL, 0, &dense);
    if (status == TFUSE_OK)
        status = measure_routed(env, s, &in, rows, &routed);
    tf_free(&env->mem, values);
    TF_TRY(status);
    const int64_t batch = tf_batch_fit((kept.sample + kept.output) * sizeof(float), kept.shard, in.n, TF_MOE_BATCH_BYTES);
    const int64_t whole = tf_batch_fit(dense.output * sizeof(float), dense.shard, in.n, TF_MOE_BATCH_BYTES);
    const uint64_t errors = kept.params + threads * kept.slab + lane_bytes(s, kept.sample, batch);
    const uint64_t running = dense.params + routed.params + threads * (dense.slab + routed.slab) + 2 * tf_area((int64_t)dense.output, whole, sizeof(float));
    *out = larger(errors, written + larger(running, making));
    return TFUSE_OK;
}

/* ---- all of it ---- */

static uint64_t row_bytes(const tf_tensor *rows, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += rows[i].size;
    return sum;
}

/* The self-check holds the values of its probe and one node's weights, and makes these as they are made for writing. */
static tfuse_status checking(tf_env *env, const tf_moe *s, uint64_t *out)
{
    int64_t input[TF_MAX_DIMS];
    uint64_t dense = 0, routed = 0;
    *out = 0;
    if (s->back || !tf_policy_flag(s->policy, "fuse.selfcheck") || s->dense->output < 0)
        return TFUSE_OK;
    bool *rows = tf_calloc(env, s->dense->n_params + s->routed->n_params + 1, sizeof *rows);
    for (size_t p = 0; rows && p < s->dense->n_params; p++)
        rows[p] = tf_param_has_rows(s->dense, (tf_id)p);
    tf_selfcheck_extents(s->dense, input);
    tfuse_status status = rows ? tf_run_lazily_bytes(env, s->dense, rows, input, TF_SELFCHECK_SAMPLES, &dense) : TFUSE_ENOMEM;
    for (size_t p = 0; rows && p < s->routed->n_params; p++)
        rows[p] = tf_moe_has_rows(s, (tf_id)p);
    if (status == TFUSE_OK)
        status = tf_run_lazily_bytes(env, s->routed, rows, input, TF_SELFCHECK_SAMPLES, &routed);
    tf_free(&env->mem, rows);
    uint64_t made = 0;
    for (size_t p = 0; p < s->routed->n_params; p++)
        made = larger(made, tf_moe_param_bytes(s, (tf_id)p));
    *out = larger(dense, routed + made);
    return status;
}

tfuse_status tf_moe_peak(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory, uint64_t *peak, uint64_t *written)
{
    tf_tensor *rows = NULL;
    size_t count = 0;
    uint64_t probed = 0, compared = 0, notes = 0;
    TF_TRY(tf_moe_rows(env, s, &rows, &count));
    *written = row_bytes(rows, count);
    const uint64_t making = tf_moe_writing_bytes(s, rows, count);
    tfuse_status status = checking(env, s, &probed);
    if (status == TFUSE_OK && calib && tf_graph_runs(s->dense))
        status = comparing(env, s, calib, rows, *written, making, &compared);
    tf_free(&env->mem, rows);
    TF_TRY(status);
    for (size_t i = 0; i < s->n && !s->back; i++)
        notes += tf_area(s->ffns[i].dense.units, 1, BYTES_PER_NOTE);
    uint64_t most = larger(s->back ? 0 : clustering(s), larger(compared, probed));
    most = larger(most, notes + making + (in_memory ? *written : TF_WRITER_BYTES));
    *peak = tf_held_bytes(env, !s->back) + order_bytes(s) + most;
    return TFUSE_OK;
}

tfuse_status tf_moe_check_memory(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory)
{
    uint64_t peak = 0, written = 0;
    if (!tf_policy_int(s->policy, "run.memory"))
        return TFUSE_OK;
    TF_TRY(tf_moe_peak(env, s, calib, in_memory, &peak, &written));
    return tf_memory_check(env, s->policy, peak, "");
}
