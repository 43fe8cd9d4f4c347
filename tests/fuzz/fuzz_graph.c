/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_graph.c: the JSON form of a graph: names, specifications of dimensions, attributes. One that is taken is written, and reads again as the same; its
 * groups are found, and what running it would take.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph/graph.h"
#include "graph/view.h"
#include "run/run.h"

static void broken(const tf_env *env, const char *what)
{
    fprintf(stderr, "fuzz: %s: %s\n", what, env->error);
    abort();
}

static void write_again(tf_env *env, const tf_graph *g)
{
    tf_buf first, second;
    tf_graph *again = NULL;
    tf_buf_init(&first, &env->mem);
    tf_buf_init(&second, &env->mem);
    if (tf_graph_to_json(env, g, &first) != TFUSE_OK || tf_graph_from_json(env, "again.json", first.data, first.len, &again) != TFUSE_OK ||
        tf_graph_to_json(env, again, &second) != TFUSE_OK)
        broken(env, "a graph that was read cannot be written and read again");
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        broken(env, "a graph that was written reads as another");
    tf_graph_free(again);
    tf_buf_free(&first);
    tf_buf_free(&second);
}

/* It may be impossible to run, which is said, but nothing may break. */
static void measure(tf_env *env, const tf_graph *g)
{
    int64_t input[TF_MAX_DIMS] = {0};
    tf_evaluator_cost cost;
    if (!tf_graph_runs(g))
        return;
    for (int d = 0; d < g->values[g->inputs[0]].rank; d++)
        input[d] = g->values[g->inputs[0]].extent[d] ? g->values[g->inputs[0]].extent[d] : 5;
    tf_evaluator_measure(env, g, NULL, input, NULL, 0, &cost);
}

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tf_graph *g = NULL;
    TF_TRY(tf_graph_from_json(env, "graph.json", (const char *)data, size, &g));
    write_again(env, g);
    tf_group *groups = tf_calloc(env, g->n_classes + 1, sizeof *groups);
    if (!groups || tf_groups(env, g, NULL, groups) != TFUSE_OK)
        broken(env, "groups of a graph that was read");
    tf_free(&env->mem, groups);
    measure(env, g);
    tf_graph_free(g);
    return TFUSE_OK;
}
