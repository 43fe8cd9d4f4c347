/* SPDX-License-Identifier: Apache-2.0
 *
 * describe.h: what a graph is, for a person or a program, as JSON.
 */
#ifndef TF_GRAPH_DESCRIBE_H
#define TF_GRAPH_DESCRIBE_H

#include "graph/view.h"

/* Appends the object that tfuse_graph_describe documents. view: of the graph; NULL: groups are those that hold for any weights. */
tfuse_status tf_graph_describe(tf_env *env, const tf_graph *g, const tf_view *view, tf_buf *out);

#endif
