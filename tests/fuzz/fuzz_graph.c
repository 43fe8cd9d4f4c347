/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_graph.c: a graph in JSON, or as plain lines, of which changed ones are more often a graph: "operation;name;inputs;attributes" adds a node,
 * "tensor;place" says where one is stored; the last node is the output. A graph that is taken is written, and reads again as the same; its groups are
 * found, and a small one is run, so that no attribute leads an operation out of its memory.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph/graph.h"
#include "graph/view.h"
#include "io/model.h"
#include "run/run.h"

enum { SAMPLES = 2, LENGTH = 5, SMALL = 32 << 10, LINE = 512, LINES = 64 };
/* LENGTH: of sequences that may have any; SMALL: bytes of weights, and of a sample, that are run */

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

static tfuse_status weight(tf_env *env, void *arg, tf_id param, float **x)
{
    const tf_graph *g = arg;
    const int64_t count = tf_param_count(&g->params[param]);
    *x = tf_alloc_array(env, (size_t)count, sizeof **x);
    for (int64_t i = 0; *x && i < count; i++)
        (*x)[i] = (float)(i % 7) * 0.25f - 0.5f;
    return *x ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status no_rows(tf_env *env, void *arg, tf_id param, bool *out)
{
    (void)env, (void)arg, (void)param;
    *out = false;
    return TFUSE_OK;
}

static void run_on(tf_env *env, const tf_graph *g, const tfuse_model *m, const tfuse_array *array)
{
    const tf_weights weights = {.arg = (void *)(uintptr_t)g, .whole = weight, .have_rows = no_rows};
    tf_inputs in;
    float *out = NULL;
    size_t count;
    if (tf_inputs_make(env, g, m, array, 0, &in) == TFUSE_OK && tf_run_lazily(env, g, &weights, &in, &out, &count) == TFUSE_OK)
        tf_free(&env->mem, out);
}

/* It may be impossible to run, which is said, but nothing may break. */
static void run_small(tf_env *env, const tf_graph *g)
{
    int64_t shape[TF_MAX_DIMS + 1] = {SAMPLES};
    tf_evaluator_cost cost;
    tfuse_model *m = NULL;
    tfuse_array *array = NULL;
    if (!tf_graph_runs(g))
        return;
    const tf_value *v = &g->values[g->inputs[0]];
    for (int d = 0; d < v->rank; d++)
        shape[d + 1] = v->extent[d] ? v->extent[d] : LENGTH;
    if (tf_evaluator_measure(env, g, NULL, shape + 1, NULL, 0, &cost) != TFUSE_OK || cost.params > SMALL || cost.slab / (uint64_t)cost.shard > SMALL)
        return;
    if (tf_model_new(env, "{}", &m) != TFUSE_OK || tf_array_new(env, v->integer ? TFUSE_I32 : TFUSE_F32, (size_t)v->rank + 1, shape, &array) != TFUSE_OK)
        broken(env, "a model and inputs");
    run_on(env, g, m, array);
    tf_array_free(array);
    tf_model_free(m);
}

/* ---- lines ---- */

static tfuse_status add_line(tf_env *env, tf_graph *g, char *line, char *output)
{
    char *field[4] = {line};
    int n = 1;
    for (char *at = line; *at; at++)
        if (*at == ';' && n < 4) {
            *at = 0;
            field[n++] = at + 1;
        }
    if (n == 2)
        return tf_graph_store(env, g, field[0], field[1]);
    if (n < 4)
        return tf_fail(env, TFUSE_EFORMAT, "a line of %d fields", n);
    snprintf(output, LINE, "%s", field[1]);
    return tf_graph_add(env, g, field[0], field[1], field[2], field[3]);
}

static tfuse_status add_lines(tf_env *env, tf_graph *g, const uint8_t *data, size_t size)
{
    char output[LINE] = "", line[LINE];
    for (size_t at = 0, n = 0, lines = 0; at <= size && lines < LINES; at++) {
        if (at < size && data[at] != '\n' && (data[at] < ' ' || data[at] > '~' || n + 1 == LINE))
            return tf_fail(env, TFUSE_EFORMAT, "a line that is no text, or long");
        if (at < size && data[at] != '\n') {
            line[n++] = (char)data[at];
            continue;
        }
        line[n] = 0;
        TF_TRY(n ? add_line(env, g, line, output) : TFUSE_OK);
        n = 0;
        lines++;
    }
    TF_TRY(tf_graph_output(env, g, output));
    return tf_graph_finish(env, g);
}

static tfuse_status from_lines(tf_env *env, const uint8_t *data, size_t size, tf_graph **out)
{
    TF_TRY(tf_graph_new(env, "", out));
    const tfuse_status status = add_lines(env, *out, data, size);
    if (status != TFUSE_OK)
        tf_graph_free(*out);
    return status;
}

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    tf_graph *g = NULL;
    TF_TRY(size && data[0] == '{' ? tf_graph_from_json(env, "graph.json", (const char *)data, size, &g) : from_lines(env, data, size, &g));
    write_again(env, g);
    tf_group *groups = tf_calloc(env, g->n_classes + 1, sizeof *groups);
    if (!groups || tf_groups(env, g, NULL, groups) != TFUSE_OK)
        broken(env, "groups of a graph that was read");
    tf_free(&env->mem, groups);
    run_small(env, g);
    tf_graph_free(g);
    return TFUSE_OK;
}
