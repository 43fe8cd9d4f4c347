/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/graph.h: the architecture of one model: nodes, values, and the axes that every dimension of every tensor is bound to.
 *
 * A graph is inferred from a model's config.json, read from JSON, or built by hand with the functions that the library's own architectures
 * use. Operations and their attributes are listed in docs/adding-an-architecture.md, which walks
 * through a whole architecture.
 */
#ifndef TFUSE_GRAPH_H
#define TFUSE_GRAPH_H

#include <tfuse/base.h>
#include <tfuse/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_graph tfuse_graph;

/**
 * Builds the graph of a model from its config's model_type and checks the model's tensors against it.
 * @param out  out: a finished graph; release with tfuse_graph_free. It does not keep the model.
 * Errors: TFUSE_EUNSUPPORTED (unknown model_type; the text lists the known ones), TFUSE_EFORMAT (config, an extra tensor), TFUSE_ENOTFOUND (missing tensor),
 * TFUSE_ESHAPE (a tensor that disagrees with the config), TFUSE_EDTYPE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_graph_infer(tfuse_ctx *ctx, const tfuse_model *model, tfuse_graph **out);

/** An empty graph. Add nodes in order of evaluation, then finish. Errors: TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_graph_new(tfuse_ctx *ctx, tfuse_graph **out);
/**
 * Adds a node. Its first output is a value of the node's name.
 * @param op      in: operation, e.g. "linear".
 * @param name    in: unique, e.g. "layer.0/query"; what stands before the last '/' is its scope.
 * @param inputs  in: names of values with spaces between; "" for none.
 * @param attrs   in: "key=value" with spaces between. `out` declares a produced dimension: segments "a|b", a segment
 *                "[label=]factor*factor", a factor "[!][/]name:extent", an extent, or a concatenation in
 *                parentheses; '!' pins an axis, '/' puts its name outside the scope.
 *                Example: "out=heads:4*qk:16 bias=1".
 * Errors: TFUSE_EINVAL (an attribute that is unknown, malformed or given twice; a bad name), TFUSE_ERANGE (an attribute out of bounds),
 * TFUSE_EGRAPH (contradictions; the text names the node), TFUSE_ENOTFOUND (unknown operation or value), TFUSE_ESTATE (finished), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_graph_add(tfuse_ctx *ctx, tfuse_graph *graph, const char *op, const char *name,
                                       const char *inputs, const char *attrs);
/**
 * Says where a logical tensor ("layer.0/query.weight") is stored: NAME, shape(NAME,1,1,64), part(NAME,dim,i,n),
 * slice(NAME,dim,first,count,extent), transpose(E), stack(E,E,...), sum(E,E,...), alias(LOGICAL).
 * A tensor without a rule is stored under its own name.
 * The expression itself is checked by tfuse_graph_finish.
 * Errors: TFUSE_EGRAPH (a second rule for one tensor), TFUSE_ESTATE, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_graph_store(tfuse_ctx *ctx, tfuse_graph *graph, const char *logical, const char *expression);
/** Names a stored tensor (one '*' allowed) that is copied from the anchor as it is. Errors: TFUSE_EINVAL (a second '*'), TFUSE_ESTATE, TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_graph_buffer(tfuse_ctx *ctx, tfuse_graph *graph, const char *pattern);
/** Names the value that is the model's output. Errors: TFUSE_ENOTFOUND, TFUSE_ESTATE. */
TFUSE_API tfuse_status tfuse_graph_output(tfuse_ctx *ctx, tfuse_graph *graph, const char *value);
/**
 * Ties ports into axes, checks the naming rules, and ends building.
 * Errors: TFUSE_EGRAPH, TFUSE_ENOTFOUND (a rule for a tensor that the graph has not), TFUSE_ESHAPE (an alias of another shape), TFUSE_ESTATE,
 * TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_graph_finish(tfuse_ctx *ctx, tfuse_graph *graph);
/** Checks a model's tensors against a graph. Errors as tfuse_graph_infer. */
TFUSE_API tfuse_status tfuse_graph_check(tfuse_ctx *ctx, const tfuse_graph *graph, const tfuse_model *model);

/** The graph as JSON text; release with tfuse_string_free. Format: docs/graph-format.md. */
TFUSE_API tfuse_status tfuse_graph_to_json(tfuse_ctx *ctx, const tfuse_graph *graph, char **out);
/** A finished graph from JSON text. Errors: TFUSE_EFORMAT, TFUSE_EVERSION (another version of the format), TFUSE_ERANGE (too many nodes), and
 * those of the builder. */
TFUSE_API tfuse_status tfuse_graph_from_json(tfuse_ctx *ctx, const char *text, tfuse_graph **out);

/**
 * What the graph is, for a person or a program: one JSON object {"architecture", "parameters", "signature",
 * "axes": [{"name", "extent", "parent", "group", "pinned", "tensors": [{"name", "dim", "use"}]}],
 * "tensors": [{"name", "stored", "shape", "dims": [binding as text]}], "nodes": [{"op", "name", "inputs"}]}.
 * @param model  in: groups depend on weights (a LayerNorm of gain one allows rotations); NULL or a model without tensors: the
 *               smaller group is given.
 * @param out    out: release with tfuse_string_free.
 * Errors: TFUSE_ENUMERIC, TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_graph_describe(tfuse_ctx *ctx, const tfuse_graph *graph, const tfuse_model *model, char **out);

TFUSE_API void tfuse_graph_free(tfuse_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
