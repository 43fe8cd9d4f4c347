/* SPDX-License-Identifier: Apache-2.0
 *
 * estimate.c: what splitting takes, from sizes alone.
 */
#include "base/meter.h"
#include "base/pool.h"
#include "fuse/fuse.h"
#include "graph/naming.h"
#include "moe/moe.h"
#include "run/run.h"

enum { FLOAT = sizeof(float), PER_THREAD = 4 << 20, BATCH_BYTES = 64 << 20, TILE = 256 };

static uint64_t all_params(const tf_graph *g)
{
    uint64_t sum = 0;
    for (size_t p = 0; p < g->n_params; p++)
        sum += tf_area(tf_param_count(&g->params[p]), 1, FLOAT);
    return sum;
}

/* Orders, keys and the clustering of the largest FFN. */
static uint64_t clustering(const tf_moe *s)
{
    uint64_t most = 0, orders = 0;
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *f = &s->ffns[i].dense;
        const uint64_t bytes = 2 * tf_area(f->units, f->width, FLOAT) + tf_cluster_bytes(f->units, f->width, s->how.experts) +
                               tf_area(s->how.experts, f->width, sizeof(double));
        most = bytes > most ? bytes : most;
        orders += tf_area(f->units, TF_SPLITS + 1, sizeof(int64_t));
    }
    return most + orders;
}

/* A batch of an evaluator, which holds no more samples than there are: at most every value of each, live at once. */
static uint64_t batch_bytes(const tf_moe *s, const tf_graph *g, const tfuse_array *calib)
{
    const int64_t most = tf_policy_int(s->policy, "calib.samples"), length = calib->rank > 1 ? calib->shape[1] : 1;
    const int64_t samples = calib->rank > 0 && calib->shape[0] < most ? calib->shape[0] : most;
    uint64_t sample = 0;
    for (size_t v = 0; v < g->n_values; v++) {
        int64_t count = 1;
        for (int d = 0; d < g->values[v].rank; d++)
            count *= g->values[v].extent[d] ? g->values[v].extent[d] : length;
        sample += tf_area(count, 1, FLOAT);
    }
    const uint64_t all = sample > TF_TALLY_MOST / (uint64_t)(samples + 1) ? TF_TALLY_MOST : sample * (uint64_t)samples;
    return all < BATCH_BYTES ? all : BATCH_BYTES;
}

/* The evaluators' weights and batches; then the routed model that is run, in memory. */
static uint64_t comparing(const tf_env *env, const tf_moe *s, const tfuse_array *calib, uint64_t written)
{
    const tf_graph *g = s->dense;
    uint64_t lanes = 0, downs = 0;
    for (size_t i = 0; i < s->n; i++) {
        const tf_ffn *f = &s->ffns[i].dense;
        lanes += tf_area(TILE, f->units + f->width, FLOAT);
        downs += tf_area(f->units, f->width, FLOAT);
    }
    const uint64_t batch = 2 * batch_bytes(s, s->routed, calib) + (uint64_t)tf_threads(env) * PER_THREAD;
    const uint64_t errors = all_params(g) + downs + lanes + batch, outputs = all_params(g) + all_params(s->routed) + written + 2 * batch;
    return errors > outputs ? errors : outputs;
}

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
    const tf_graph *g = s->dense;
    int64_t input[TF_MAX_DIMS];
    if (s->back || !tf_policy_flag(s->policy, "fuse.selfcheck") || g->output < 0)
        return TFUSE_OK;
    bool *rows = tf_calloc(env, g->n_params + 1, sizeof *rows);
    for (size_t p = 0; rows && p < g->n_params; p++)
        rows[p] = tf_param_has_rows(g, (tf_id)p);
    tf_selfcheck_extents(g, input);
    const tfuse_status status = rows ? tf_run_lazily_bytes(env, g, rows, input, TF_SELFCHECK_SAMPLES, out) : TFUSE_ENOMEM;
    tf_free(&env->mem, rows);
    return status;
}

tfuse_status tf_moe_peak(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory, uint64_t *peak, uint64_t *written)
{
    tf_tensor *rows = NULL;
    size_t count = 0;
    uint64_t probed = 0;
    TF_TRY(tf_moe_rows(env, s, &rows, &count));
    *written = row_bytes(rows, count);
    const uint64_t making = tf_moe_writing_bytes(s, rows, count);
    tf_free(&env->mem, rows);
    TF_TRY(checking(env, s, &probed));
    const uint64_t work[] = {s->back ? 0 : clustering(s), calib ? comparing(env, s, calib, *written) : 0, probed + making};
    uint64_t most = 0;
    for (size_t i = 0; i < TF_LEN(work); i++)
        most = work[i] > most ? work[i] : most;
    *peak = (env->meter ? tf_meter_live(env->meter) : 0) + most + (in_memory ? *written : 0) + (uint64_t)tf_threads(env) * PER_THREAD;
    return TFUSE_OK;
}

tfuse_status tf_moe_check_memory(tf_env *env, const tf_moe *s, const tfuse_array *calib, bool in_memory)
{
    const uint64_t most = (uint64_t)tf_policy_int(s->policy, "run.memory");
    uint64_t peak = 0, written = 0;
    if (!most)
        return TFUSE_OK;
    TF_TRY(tf_moe_peak(env, s, calib, in_memory, &peak, &written));
    return peak <= most ? TFUSE_OK
                        : tf_fail(env, TFUSE_ERANGE, "run.memory=%llu is too little: this takes at least %llu bytes; give --memory %lluM or more",
                                  (unsigned long long)most, (unsigned long long)peak, (unsigned long long)((peak >> 20) + 1));
}
