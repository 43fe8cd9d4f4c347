/* SPDX-License-Identifier: Apache-2.0
 *
 * api_run.c: tfuse/run.h: the loop over batches that scoring and running share.
 */
#include "api/api.h"
#include "arch/arch.h"
#include "graph/naming.h"
#include "run/run.h"

#include <math.h>

enum { BATCH_BYTES = 64 << 20 };

/* What a run needs, made by open_session and released by close_session. */
typedef struct session {
    tf_graph *own;        /* NULL when the caller gave a graph */
    const tf_graph *graph;
    tf_view *view;
    tf_evaluator *evaluator;
    tf_inputs inputs;
    int64_t size;         /* floats that one sample puts out */
    int64_t classes;      /* of each prediction: size / classes predictions a sample */
} session;

static tfuse_status find_graph(tf_env *env, const tfuse_model *model, const tfuse_graph *given, session *s)
{
    TF_TRY(tf_api_models(env, &model, 1));
    if (model->count == 0)
        return tf_fail(env, TFUSE_ENOTFOUND, "%s: there are no tensors to run with", tf_model_label(model));
    if (!given) {
        TF_TRY(tf_graph_build(env, model, false, &s->own));
        s->graph = s->own;
        return TFUSE_OK;
    }
    s->graph = given->graph;
    if (!s->graph->finished)
        return tf_fail(env, TFUSE_ESTATE, "the graph is not finished: call tfuse_graph_finish first");
    return tf_graph_check_model(env, s->graph, model, true);
}

static tfuse_status open_session(tf_env *env, const tfuse_model *model, const tfuse_graph *given, const tfuse_array *inputs,
                                 int64_t limit, session *s)
{
    if (limit < 0)
        return tf_fail(env, TFUSE_ERANGE, "limit is %lld; 0 means all", (long long)limit);
    TF_TRY(find_graph(env, model, given, s));
    if (s->graph->output < 0)
        return tf_fail(env, TFUSE_EGRAPH, "the graph names no output");
    TF_TRY(tf_inputs_make(env, s->graph, model, inputs, limit, &s->inputs));
    tf_inputs_warn(env, model, &s->inputs);
    TF_TRY(tf_view_root(env, s->graph, model, &s->view));
    TF_TRY(tf_evaluator_new(env, s->view, NULL, 0, &s->evaluator));
    TF_TRY(tf_evaluator_prepare(env, s->evaluator, &s->inputs));
    const tf_value *v = &s->graph->values[s->graph->output];
    s->size = tf_evaluator_size(s->evaluator, s->graph->output);
    s->classes = v->extent[v->rank - 1];
    if (s->classes < 1)
        return tf_fail(env, TFUSE_EGRAPH, "the output '%s' has no channels of a known number", v->name);
    return TFUSE_OK;
}

static void close_session(session *s)
{
    tf_evaluator_free(s->evaluator);
    tf_view_free(s->view);
    tf_graph_free(s->own);
}

static tfuse_status run_batch(tf_env *env, session *s, int64_t first, int64_t count, float *out)
{
    TF_TRY(tf_progress(env, "evaluating", (uint64_t)first, (uint64_t)s->inputs.n));
    TF_TRY(tf_evaluator_run(env, s->evaluator, &s->inputs, first, count, NULL, out));
    int64_t bad = tf_find_nonfinite(out, (size_t)(count * s->size));
    if (bad >= 0)
        return tf_fail(env, TFUSE_ENUMERIC, "%s: the output of sample %lld is NaN or infinite", tf_model_label(s->view->m),
                       (long long)(first + bad / s->size));
    return tf_progress(env, "evaluating", (uint64_t)(first + count), (uint64_t)s->inputs.n);
}

/* ---- scoring ------------------------------------------------------------------------------------------- */

/* As many labels as there are predictions, for all inputs or for those up to the limit: anything else is a mismatched pair of files. */
static tfuse_status read_labels(tf_env *env, const session *s, const tfuse_array *labels, int64_t **out)
{
    const int64_t each = s->size / s->classes;
    const int64_t need = s->inputs.n * each;
    if (labels->count != (size_t)need && labels->count != (size_t)(s->inputs.total * each))
        return tf_fail(env, TFUSE_ESHAPE, "%s holds %zu labels for %lld predictions of %lld inputs", tf_array_label(labels, "the label array"), labels->count,
                       (long long)(s->inputs.total * each), (long long)s->inputs.total);
    return tf_labels_make(env, labels, need, s->classes, out);
}

static tfuse_status score_all(tf_env *env, session *s, const int64_t *labels, tf_score *score)
{
    const int64_t batch = tf_batch_size(s->evaluator, s->inputs.n, BATCH_BYTES), each = s->size / s->classes;
    float *out = tf_alloc_array(env, (size_t)(batch * s->size), sizeof *out);
    tfuse_status status = out ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; status == TFUSE_OK && first < s->inputs.n; first += batch) {
        int64_t count = s->inputs.n - first < batch ? s->inputs.n - first : batch;
        status = run_batch(env, s, first, count, out);
        if (status == TFUSE_OK && labels)
            tf_score_add(score, out, count * each, s->classes, labels + first * each);
    }
    tf_free(&env->mem, out);
    return status;
}

static tfuse_status eval(tf_env *env, const tfuse_model *model, const tfuse_graph *graph, const tfuse_array *inputs,
                         const tfuse_array *labels, int64_t limit, tfuse_score *out)
{
    session s = {0};
    tf_score score = {0};
    int64_t *wanted = NULL;
    tfuse_status status;
    TF_TRY_OUT(open_session(env, model, graph, inputs, limit, &s));
    if (labels)
        TF_TRY_OUT(read_labels(env, &s, labels, &wanted));
    else if (tf_graph_is_causal(s.graph))
        TF_TRY_OUT(tf_labels_next(env, &s.inputs, &wanted));
    TF_TRY_OUT(score_all(env, &s, wanted, &score));
    tfuse_score ours = {.n = s.inputs.n, .scored = score.n, .correct = score.correct,
                        .loss = score.n ? score.loss_sum / (double)score.n : NAN};
    status = tf_api_snapshot(out, &ours, sizeof ours);
out:
    tf_free(&env->mem, wanted);
    close_session(&s);
    return status;
}

tfuse_status tfuse_eval(tfuse_ctx *ctx, const tfuse_model *model, const tfuse_graph *graph, const tfuse_array *inputs,
                        const tfuse_array *labels, int64_t limit, tfuse_score *score)
{
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_IS(inputs, ARRAY), TF_ARG(score), TF_MAYBE(graph, GRAPH), TF_MAYBE(labels, ARRAY));
    return tf_api_leave(ctx, eval(&ctx->env, model, graph, inputs, labels, limit, score));
}

/* ---- running --------------------------------------------------------------------------------------------- */

/* Samples, then the extents of the output; the one that is known only when it runs follows from the rest. */
static tfuse_status new_output(tf_env *env, const session *s, tfuse_array **out)
{
    const tf_value *v = &s->graph->values[s->graph->output];
    int64_t shape[TF_MAX_DIMS + 1] = {s->inputs.n}, known = 1;
    for (int d = 0; d < v->rank; d++)
        known *= v->extent[d] ? v->extent[d] : 1;
    for (int d = 0; d < v->rank; d++)
        shape[d + 1] = v->extent[d] ? v->extent[d] : s->size / known;
    return tf_array_new(env, TFUSE_F32, (size_t)v->rank + 1, shape, out);
}

static tfuse_status run(tf_env *env, const tfuse_model *model, const tfuse_graph *graph, const tfuse_array *inputs,
                        int64_t limit, tfuse_array **out)
{
    session s = {0};
    tfuse_array *result = NULL;
    tfuse_status status;
    TF_TRY_OUT(open_session(env, model, graph, inputs, limit, &s));
    TF_TRY_OUT(new_output(env, &s, &result));
    const int64_t batch = tf_batch_size(s.evaluator, s.inputs.n, BATCH_BYTES);
    for (int64_t first = 0; first < s.inputs.n; first += batch) {
        int64_t count = s.inputs.n - first < batch ? s.inputs.n - first : batch;
        TF_TRY_OUT(run_batch(env, &s, first, count, (float *)result->data + first * s.size));
    }
    *out = result;
    result = NULL;
out:
    tf_array_free(result);
    close_session(&s);
    return status;
}

tfuse_status tfuse_run(tfuse_ctx *ctx, const tfuse_model *model, const tfuse_graph *graph, const tfuse_array *inputs,
                       int64_t limit, tfuse_array **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_IS(inputs, ARRAY), TF_ARG(out), TF_MAYBE(graph, GRAPH));
    return tf_api_leave(ctx, run(&ctx->env, model, graph, inputs, limit, out));
}
