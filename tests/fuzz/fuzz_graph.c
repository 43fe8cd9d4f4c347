/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_graph.c: the JSON form of a graph: names, specifications of dimensions, attributes.
 */
#include "fuzz.h"

#include "graph/graph.h"

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tf_graph *g = NULL;
    tfuse_status status = tf_graph_from_json(env, "graph.json", (const char *)data, size, &g);
    tf_graph_free(g);
    return status;
}
