/* SPDX-License-Identifier: Apache-2.0
 *
 * evaluator_bytes.c: what an evaluator takes, from the graph and the extents of its inputs alone.
 */
#include "base/meter.h"
#include "graph/naming.h"
#include "run/run.h"
#include "run/schedule.h"

/* Bytes of the parameters that these nodes read, each once, but for those that lie in memory. */
static tfuse_status count_params(tf_env *env, const tf_graph *g, const bool *in_place, const tf_id *nodes, size_t n_nodes, uint64_t *bytes)
{
    bool *seen = tf_calloc(env, g->n_params + 1, sizeof *seen);
    if (!seen)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < n_nodes; i++) {
        const tf_node *n = &g->nodes[nodes[i]];
        for (int k = 0; k < n->n_params; k++) {
            const tf_id id = n->params[k];
            if (id < 0 || seen[id])
                continue;
            seen[id] = true;
            *bytes += in_place && in_place[id] ? 0 : tf_area(tf_param_count(&g->params[id]), 1, sizeof(float));
        }
    }
    tf_free(&env->mem, seen);
    return TFUSE_OK;
}

static tfuse_status measure(tf_env *env, const tf_graph *g, const bool *in_place, const int64_t *input, const tf_id *values, size_t n,
                            const tf_id *nodes, size_t n_nodes, tf_evaluator_cost *out)
{
    tf_schedule plan;
    TF_TRY(tf_schedule_make(env, g, nodes, n_nodes, input, &plan));
    for (size_t i = 0; i < n; i++) {
        const tf_batch *b = &plan.batch[values[i]];
        const int64_t size = tf_batch_stride(b), tokens = size / tf_batch_channels(b);
        out->sample += (uint64_t)size;
        out->tokens = tokens > out->tokens ? tokens : out->tokens;
    }
    out->output = (uint64_t)tf_batch_stride(&plan.batch[g->output]);
    out->shard = plan.shard;
    out->slab = tf_area(plan.slab, 1, sizeof(float));
    tf_schedule_free(&plan);
    return count_params(env, g, in_place, nodes, n_nodes, &out->params);
}

tfuse_status tf_evaluator_measure(tf_env *env, const tf_graph *g, const bool *in_place, const int64_t *input, const tf_id *values, size_t n,
                                  tf_evaluator_cost *out)
{
    *out = (tf_evaluator_cost){.shard = 1};
    tf_id *wanted = tf_alloc_array(env, n + 1, sizeof *wanted), *nodes = NULL;
    size_t n_nodes = 0;
    tfuse_status status = wanted ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t i = 0; wanted && i <= n; i++)
        wanted[i] = i < n ? values[i] : g->output;
    if (status == TFUSE_OK)
        status = tf_schedule_nodes(env, g, wanted, n + 1, &nodes, &n_nodes);
    if (status == TFUSE_OK)
        status = measure(env, g, in_place, input, values, n, nodes, n_nodes, out);
    tf_free(&env->mem, wanted);
    tf_free(&env->mem, nodes);
    return status;
}
