/* SPDX-License-Identifier: Apache-2.0
 *
 * class_kind.c: what an axis is to the operations that carry it.
 */
#include "align/class_plan.h"
#include "graph/build.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <string.h>

typedef struct search {
    const tf_graph *g;
    tf_id cls;
    bool found;
} search;

static tfuse_status look(void *arg, tf_id port)
{
    search *s = arg;
    s->found = s->found || tf_class_of(s->g, port) == s->cls;
    return TFUSE_OK;
}

static bool binds(const tf_graph *g, const tf_binding *b, tf_id cls)
{
    search s = {g, cls, false};
    (void)tf_binding_each_port(b, look, &s);
    return s.found;
}

bool tf_class_is_interleaved(const tf_graph *g, tf_id cls)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const char *layout = tf_node_attr(&g->nodes[i], "layout");
        if (g->nodes[i].op == &tf_op_attention && layout && !strcmp(layout, "interleaved") &&
            binds(g, tf_value_channels(g, g->nodes[i].inputs[0]), cls))
            return true;
    }
    return false;
}

bool tf_class_is_routed(const tf_graph *g, tf_id cls)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &tf_op_route && binds(g, tf_value_channels(g, g->nodes[i].inputs[1]), cls))
            return true;
    return false;
}

bool tf_class_is_stream(const tf_graph *g, tf_id cls)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == &tf_op_add && binds(g, tf_value_channels(g, g->nodes[i].outputs[0]), cls))
            return true;
    return false;
}
