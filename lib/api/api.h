/* SPDX-License-Identifier: Apache-2.0
 *
 * api.h: the context, and what every exported function does first and last.
 *
 *     TF_OUT(out);                             outputs are NULL on failure
 *     TF_ENTER(ctx, TF_ARG(path), TF_ARG(out));  EINVAL naming an argument that is NULL
 *     return tf_api_leave(ctx, tf_...(&ctx->env, ...));
 *
 * A context is in use from TF_ENTER to tf_api_leave. A second call meanwhile, from a callback or another thread, gets TFUSE_ESTATE and
 * leaves the context, its error text included, as it is.
 */
#ifndef TF_API_API_H
#define TF_API_API_H

#include "base/env.h"
#include "graph/graph.h"
#include "ot/ot.h"
#include <tfuse/tfuse.h>

struct tfuse_ctx {
    uint32_t kind; /* TF_KIND_CTX */
    tf_env env;
    tf_solver_registry solvers;
    atomic_int busy;
};

struct tfuse_graph {
    uint32_t kind; /* TF_KIND_GRAPH */
    tf_mem mem;
    tf_graph *graph;
};

struct tfuse_solution {
    uint32_t kind; /* TF_KIND_SOLUTION */
    tf_mem mem;
    tf_solution solution;
};

typedef struct tf_api_arg {
    const void *value;
    const char *name;
    uint32_t kind; /* of a handle; 0: anything but NULL */
    bool optional; /* may be NULL */
} tf_api_arg;

#define TF_ARG(argument) {(argument), #argument, 0, false}
#define TF_IS(argument, what) {(argument), #argument, TF_KIND_##what, false}
#define TF_MAYBE(argument, what) {(argument), #argument, TF_KIND_##what, true}
#define TF_ENTER(ctx, ...) TF_TRY(tf_api_enter((ctx), (const tf_api_arg[]){__VA_ARGS__, {NULL, NULL, 0, false}}))
/* Whether a handle is there and of its kind. */
#define TF_IS_A(handle, what) tf_api_is((handle), TF_KIND_##what)
#define TF_OUT(out)         \
    do {                    \
        if (out)            \
            *(out) = NULL;  \
    } while (0)

bool tf_api_is(const void *handle, uint32_t kind);
/* Arguments that must not be NULL or of another kind, a NULL name at the end; args may be NULL. On failure the call is over. */
tfuse_status tf_api_enter(tfuse_ctx *ctx, const tf_api_arg *args);
/* Ends the call; returns its status. */
tfuse_status tf_api_leave(tfuse_ctx *ctx, tfuse_status status);

/* A table of the caller's with a leading struct_size, into ours of `size` bytes; what an older one lacks is zero, the default. TFUSE_EINVAL when it is
 * smaller than `first`, what it was when it was first released; TFUSE_EVERSION when it is larger than ours and says something there. */
tfuse_status tf_api_table(const void *theirs, void *ours, size_t size, size_t first);
/* The same, `field` being the last of the first release: it stays what it is when fields are appended. */
#define TF_TABLE(theirs, ours, type, field) tf_api_table((theirs), (ours), sizeof(type), offsetof(type, field) + sizeof((ours)->field))
/* Copies a snapshot of ours, of `size` bytes, to the caller's as far as its struct_size goes. TFUSE_EINVAL without a sensible one. */
tfuse_status tf_api_snapshot(void *theirs, const void *ours, size_t size);
/* A string for tfuse_string_free. */
tfuse_status tf_api_string(tf_env *env, const char *text, char **out);
/* A report as text for the caller: takes over `report`, NULL is TFUSE_ENOMEM; `flags` are jansson's. */
tfuse_status tf_api_report(tf_env *env, json_t *report, size_t flags, char **out);

/* TFUSE_EINVAL or TFUSE_ESTATE unless every model is there and sealed. */
tfuse_status tf_api_models(tf_env *env, const tfuse_model *const *models, size_t n);
/* Graphs of models, checked against their tensors. */
tfuse_status tf_api_graphs(tf_env *env, const tfuse_model *const *models, size_t n, bool extra_copy, tf_graph ***out);
void tf_api_graphs_free(tf_env *env, tf_graph **graphs, size_t n);

#endif
