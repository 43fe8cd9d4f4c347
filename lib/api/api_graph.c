/* SPDX-License-Identifier: Apache-2.0
 *
 * api_graph.c: tfuse/graph.h. A tfuse_graph is a tf_graph and the allocator of its handle.
 */
#include "api/api.h"
#include "arch/arch.h"
#include "graph/describe.h"
#include "graph/naming.h"
#include "graph/view.h"

#include <string.h>

/* Takes the graph over, also on failure. */
static tfuse_status hand_over(tf_env *env, tf_graph *graph, tfuse_graph **out)
{
    tfuse_graph *handle = tf_alloc(env, sizeof *handle);
    if (!handle) {
        tf_graph_free(graph);
        return TFUSE_ENOMEM;
    }
    handle->kind = TF_KIND_GRAPH;
    handle->mem = env->mem;
    handle->graph = graph;
    *out = handle;
    return TFUSE_OK;
}

static tfuse_status need_finished(tf_env *env, const tfuse_graph *graph)
{
    return graph->graph->finished ? TFUSE_OK
                                  : tf_fail(env, TFUSE_ESTATE, "the graph is not finished: call tfuse_graph_finish first");
}

static tfuse_status need_open(tf_env *env, const tfuse_graph *graph)
{
    return graph->graph->finished ? tf_fail(env, TFUSE_ESTATE, "the graph is finished and cannot change any more") : TFUSE_OK;
}

static tfuse_status infer(tf_env *env, const tfuse_model *model, tfuse_graph **out)
{
    tf_graph *g = NULL;
    TF_TRY(tf_api_models(env, &model, 1));
    TF_TRY(tf_graph_build(env, model, false, &g));
    return hand_over(env, g, out);
}

tfuse_status tfuse_graph_infer(tfuse_ctx *ctx, const tfuse_model *model, tfuse_graph **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(model, MODEL), TF_ARG(out));
    return tf_api_leave(ctx, infer(&ctx->env, model, out));
}

static tfuse_status make(tf_env *env, tfuse_graph **out)
{
    tf_graph *g = NULL;
    TF_TRY(tf_graph_new(env, "", &g));
    return hand_over(env, g, out);
}

tfuse_status tfuse_graph_new(tfuse_ctx *ctx, tfuse_graph **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(out));
    return tf_api_leave(ctx, make(&ctx->env, out));
}

tfuse_status tfuse_graph_add(tfuse_ctx *ctx, tfuse_graph *graph, const char *op, const char *name, const char *inputs,
                             const char *attrs)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(op), TF_ARG(name), TF_ARG(inputs), TF_ARG(attrs));
    tfuse_status status = need_open(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_add(&ctx->env, graph->graph, op, name, inputs, attrs);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_graph_store(tfuse_ctx *ctx, tfuse_graph *graph, const char *logical, const char *expression)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(logical), TF_ARG(expression));
    tfuse_status status = need_open(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_store(&ctx->env, graph->graph, logical, expression);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_graph_buffer(tfuse_ctx *ctx, tfuse_graph *graph, const char *pattern)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(pattern));
    tfuse_status status = need_open(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_buffer(&ctx->env, graph->graph, pattern);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_graph_output(tfuse_ctx *ctx, tfuse_graph *graph, const char *value)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(value));
    tfuse_status status = need_open(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_output(&ctx->env, graph->graph, value);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_graph_finish(tfuse_ctx *ctx, tfuse_graph *graph)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH));
    tfuse_status status = need_open(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_finish(&ctx->env, graph->graph);
    return tf_api_leave(ctx, status);
}

tfuse_status tfuse_graph_check(tfuse_ctx *ctx, const tfuse_graph *graph, const tfuse_model *model)
{
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_IS(model, MODEL));
    tfuse_status status = need_finished(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_api_models(&ctx->env, &model, 1);
    if (status == TFUSE_OK)
        status = tf_graph_check_model(&ctx->env, graph->graph, model, false);
    return tf_api_leave(ctx, status);
}

/* Ends a call that wrote to a buffer: its text becomes the caller's. */
static tfuse_status buffer_to_string(tf_env *env, tfuse_status status, tf_buf *text, char **out)
{
    if (status == TFUSE_OK)
        status = tf_api_string(env, text->data ? text->data : "", out);
    tf_buf_free(text);
    return status;
}

tfuse_status tfuse_graph_to_json(tfuse_ctx *ctx, const tfuse_graph *graph, char **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(out));
    tf_buf text;
    tf_buf_init(&text, &ctx->env.mem);
    tfuse_status status = need_finished(&ctx->env, graph);
    if (status == TFUSE_OK)
        status = tf_graph_to_json(&ctx->env, graph->graph, &text);
    return tf_api_leave(ctx, buffer_to_string(&ctx->env, status, &text, out));
}

static tfuse_status from_json(tf_env *env, const char *text, tfuse_graph **out)
{
    tf_graph *g = NULL;
    TF_TRY(tf_graph_from_json(env, "graph", text, strlen(text), &g));
    return hand_over(env, g, out);
}

tfuse_status tfuse_graph_from_json(tfuse_ctx *ctx, const char *text, tfuse_graph **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_ARG(text), TF_ARG(out));
    return tf_api_leave(ctx, from_json(&ctx->env, text, out));
}

static tfuse_status describe(tf_env *env, const tfuse_graph *graph, const tfuse_model *model, tf_buf *text)
{
    TF_TRY(need_finished(env, graph));
    if (!model || model->count == 0)
        return tf_graph_describe(env, graph->graph, NULL, text);
    TF_TRY(tf_api_models(env, &model, 1));
    TF_TRY(tf_graph_check_model(env, graph->graph, model, true));
    tf_view *view = NULL;
    TF_TRY(tf_view_root(env, graph->graph, model, &view));
    tfuse_status status = tf_graph_describe(env, graph->graph, view, text);
    tf_view_free(view);
    return status;
}

tfuse_status tfuse_graph_describe(tfuse_ctx *ctx, const tfuse_graph *graph, const tfuse_model *model, char **out)
{
    TF_OUT(out);
    TF_ENTER(ctx, TF_IS(graph, GRAPH), TF_ARG(out), TF_MAYBE(model, MODEL));
    tf_buf text;
    tf_buf_init(&text, &ctx->env.mem);
    tfuse_status status = describe(&ctx->env, graph, model, &text);
    return tf_api_leave(ctx, buffer_to_string(&ctx->env, status, &text, out));
}

void tfuse_graph_free(tfuse_graph *graph)
{
    if (!TF_IS_A(graph, GRAPH))
        return;
    tf_mem mem = graph->mem;
    tf_graph_free(graph->graph);
    tf_free(&mem, graph);
}

tfuse_status tf_api_graphs(tf_env *env, const tfuse_model *const *models, size_t n, bool extra_copy, tf_graph ***out)
{
    tfuse_status status = TFUSE_OK;
    tf_graph **graphs = tf_calloc(env, n, sizeof(tf_graph *));
    if (!graphs)
        return TFUSE_ENOMEM;
    for (size_t i = 0; status == TFUSE_OK && i < n; i++) {
        if (models[i]->count == 0)
            status = tf_fail(env, TFUSE_ENOTFOUND, "%s: there are no tensors beside config.json; put model.safetensors there",
                             tf_model_label(models[i]));
        else
            status = tf_graph_build(env, models[i], extra_copy, &graphs[i]);
    }
    if (status != TFUSE_OK) {
        tf_api_graphs_free(env, graphs, n);
        return status;
    }
    *out = graphs;
    return TFUSE_OK;
}

void tf_api_graphs_free(tf_env *env, tf_graph **graphs, size_t n)
{
    for (size_t i = 0; graphs && i < n; i++)
        tf_graph_free(graphs[i]);
    tf_free(&env->mem, graphs);
}
