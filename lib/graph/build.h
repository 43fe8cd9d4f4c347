/* SPDX-License-Identifier: Apache-2.0
 *
 * build.h: what the files of graph/ share with each other and with nobody else.
 */
#ifndef TF_GRAPH_BUILD_H
#define TF_GRAPH_BUILD_H

#include "graph/naming.h"
#include "graph/op.h"

/* Bounds on what a binding may be, so that hostile text stays cheap. */
enum { TF_MAX_PARTS = 256, TF_MAX_DEPTH = 8 };

/* Where a node is named in an error: "linear 'layer.0/query'". Long texts are cut, so that what is wrong still fits. */
#define TF_NODE_TEXT "%s '%.160s'"
#define TF_LONG_TEXT "'%.200s'"
#define TF_NODE_ARGS(n) (n)->op->name, (n)->name

/* `array` with room for `count` elements, in the graph's arena; NULL on failure. Old memory lives as long as the graph. */
void *tf_graph_grow(tf_env *env, tf_graph *g, void *array, size_t *cap, size_t count, size_t size);
/* Makes room for one more element of g->array; returns from the caller on failure. */
#define TF_ROOM(env, g, array)                                                                                        \
    do {                                                                                                              \
        void *tf_room = tf_graph_grow(env, g, (g)->array, &(g)->cap_##array, (g)->n_##array + 1, sizeof *(g)->array); \
        if (!tf_room)                                                                                                 \
            return TFUSE_ENOMEM;                                                                                      \
        (g)->array = tf_room;                                                                                         \
    } while (0)

/* TFUSE_ESTATE once the graph is finished or broken. */
tfuse_status tf_graph_check_open(tf_env *env, const tf_graph *g);
/* TFUSE_EINVAL when a text holds control characters: everything that is stored can then be printed. */
tfuse_status tf_graph_check_text(tf_env *env, const char *what, const char *text);

/* Calls fn for every port of a binding, in order, until it fails. */
typedef tfuse_status (*tf_port_fn)(void *arg, tf_id port);
tfuse_status tf_binding_each_port(const tf_binding *b, tf_port_fn fn, void *arg);

/* Calls fn for every leaf of a parameter's expression, in order, until it fails. An alias has no leaves. */
typedef tfuse_status (*tf_piece_fn)(void *arg, const tf_piece *piece);
tfuse_status tf_param_each_piece(const tf_graph *g, tf_id param, tf_piece_fn fn, void *arg);

/* The parameter whose storage this one uses: itself, or what its alias names. */
tf_id tf_param_target(const tf_graph *g, tf_id param);

/* Ties what two uses of one tensor bind, dimension by dimension (ties.c). */
tfuse_status tf_tie_tensors(tf_env *env, tf_graph *g, tf_id node, tf_id param, const tf_binding *const *dims, const tf_use *uses);

/* Steps of tf_graph_finish. */
tfuse_status tf_graph_resolve_names(tf_env *env, tf_graph *g); /* naming.c */
tfuse_status tf_graph_index_stored(tf_env *env, tf_graph *g);  /* stored.c */
tfuse_status tf_graph_make_classes(tf_env *env, tf_graph *g);  /* ties.c */

#endif
