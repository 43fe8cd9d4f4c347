/* SPDX-License-Identifier: Apache-2.0
 *
 * lazy.c: runs a graph forward while holding the weights of one node only. Nodes run in graph order, each on all samples; a value lives until its
 * last reader has run. Of a linear's large matrix a tile of rows is held at a time, of a table of embeddings the rows of the ids that occur.
 */
#include "base/meter.h"
#include "graph/naming.h"
#include "ops/common.h"
#include "ops/ops.h"
#include "run/run.h"
#include "run/schedule.h"
#include <string.h>

enum { TILE = 1024 };

/* ---- weights of a view ---- */

static tfuse_status view_whole(tf_env *env, void *arg, tf_id param, float **x)
{
    return tf_view_load(env, arg, param, x);
}

static tfuse_status view_have_rows(tf_env *env, void *arg, tf_id param, bool *out)
{
    (void)env;
    *out = tf_view_has_rows(arg, param);
    return TFUSE_OK;
}

static tfuse_status view_rows(tf_env *env, void *arg, tf_id param, int64_t first, int64_t n, float *dst)
{
    int64_t *which = tf_alloc_array(env, (size_t)n, sizeof *which);
    for (int64_t i = 0; which && i < n; i++)
        which[i] = first + i;
    const tfuse_status status = which ? tf_view_read_rows(env, arg, param, which, n, dst) : TFUSE_ENOMEM;
    tf_free(&env->mem, which);
    return status;
}

tf_weights tf_weights_of_view(const tf_view *view)
{
    union {
        const tf_view *in;
        void *out;
    } borrowed = {view}; /* only ever read */
    return (tf_weights){borrowed.out, view_whole, view_have_rows, view_rows};
}

/* ---- one node ---- */

typedef struct lazy {
    tf_env *env;
    const tf_graph *g;
    const tf_weights *w;
    const tf_inputs *in;
    tf_id *nodes;
    size_t n_nodes;
    size_t *last;     /* a value: the step after which nobody reads it */
    tf_batch *values; /* data NULL: not live */
} lazy;

static tfuse_status make_outputs(lazy *l, const tf_node *n, int64_t *scratch)
{
    const tf_batch *in[TF_MAX_NODE_IO] = {0};
    tf_batch *out[TF_MAX_NODE_IO] = {0};
    const bool is_input = tf_input_number(l->g, n) >= 0;
    for (int k = 0; k < n->n_inputs; k++)
        in[k] = &l->values[n->inputs[k]];
    for (int k = 0; k < n->n_outputs; k++) {
        const tf_value *v = &l->g->values[n->outputs[k]];
        out[k] = &l->values[n->outputs[k]];
        out[k]->rank = v->rank;
        out[k]->n = l->in->n;
        memcpy(out[k]->extent, is_input ? l->in->extent : v->extent, (size_t)v->rank * sizeof *v->extent);
    }
    if (n->op->extents && !is_input)
        TF_TRY(n->op->extents(l->env, l->g, n, in, out));
    *scratch = n->op->scratch_size ? n->op->scratch_size(l->g, n, in) : 0;
    for (int k = 0; k < n->n_outputs; k++) {
        size_t count;
        if (!tf_mul_size((size_t)out[k]->n, (size_t)tf_batch_stride(out[k]), &count))
            return tf_fail(l->env, TFUSE_ERANGE, "node '%s' gives a value too large to count", n->name);
        if (!(out[k]->data = tf_alloc_array(l->env, count, sizeof(float))))
            return TFUSE_ENOMEM;
    }
    return TFUSE_OK;
}

/* y = W x + b, some rows of W at a time. */
static tfuse_status run_tiles(lazy *l, const tf_node *n)
{
    const tf_batch *x = &l->values[n->inputs[0]], *y = &l->values[n->outputs[0]];
    const int64_t rows = tf_batch_rows(x), width = tf_batch_channels(x), all = tf_batch_channels(y);
    float *w = tf_alloc_array(l->env, (size_t)(TILE * width), sizeof *w), *part = tf_alloc_array(l->env, (size_t)(TILE * rows), sizeof *part);
    float *bias = NULL;
    tfuse_status status = w && part ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK && tf_node_slot(n, 1) >= 0)
        status = l->w->whole(l->env, l->w->arg, n->params[1], &bias);
    for (int64_t first = 0, count; first < all && status == TFUSE_OK; first += count) {
        count = all - first < TILE ? all - first : TILE;
        status = l->w->rows(l->env, l->w->arg, n->params[0], first, count, w);
        if (status != TFUSE_OK)
            break;
        tf_affine(l->env, x->data, rows, width, w, bias ? bias + first : NULL, count, part);
        for (int64_t r = 0; r < rows; r++)
            memcpy(y->data + r * all + first, part + r * count, (size_t)count * sizeof *part);
    }
    tf_free(&l->env->mem, w);
    tf_free(&l->env->mem, part);
    tf_free(&l->env->mem, bias);
    return status;
}

/* The ids become 0, 1, 2, ... of a table that holds just their rows. */
static tfuse_status run_embedding(lazy *l, const tf_node *n)
{
    tf_batch ids = l->values[n->inputs[0]];
    const int64_t count = tf_batch_rows(&ids) * tf_batch_channels(&ids), width = l->g->params[n->params[0]].shape[1];
    float *table = tf_alloc_array(l->env, (size_t)(count * width), sizeof *table), *places = tf_alloc_array(l->env, (size_t)count, sizeof *places);
    tfuse_status status = table && places ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < count && status == TFUSE_OK; i++) {
        int32_t id, at = (int32_t)i;
        memcpy(&id, ids.data + i, sizeof id);
        memcpy(places + i, &at, sizeof at);
        status = l->w->rows(l->env, l->w->arg, n->params[0], id, 1, table + i * width);
    }
    if (status == TFUSE_OK) {
        ids.data = places;
        tf_forward f = {.env = l->env, .g = l->g, .in = {&ids}, .out = {&l->values[n->outputs[0]]}, .param = {table}};
        n->op->forward(&f, n);
    }
    tf_free(&l->env->mem, table);
    tf_free(&l->env->mem, places);
    return status;
}

static tfuse_status run_whole(lazy *l, const tf_node *n, int64_t scratch)
{
    float *owned[TF_MAX_NODE_IO] = {0};
    tf_forward f = {.env = l->env, .g = l->g};
    tfuse_status status = (f.scratch = tf_alloc_array(l->env, (size_t)scratch, sizeof(float))) ? TFUSE_OK : TFUSE_ENOMEM;
    for (int k = 0; k < n->n_inputs; k++)
        f.in[k] = &l->values[n->inputs[k]];
    for (int k = 0; k < n->n_outputs; k++)
        f.out[k] = &l->values[n->outputs[k]];
    for (int k = 0; k < n->n_params && status == TFUSE_OK; k++) {
        if (n->params[k] < 0)
            continue;
        status = l->w->whole(l->env, l->w->arg, n->params[k], &owned[k]);
        f.param[k] = owned[k];
    }
    if (status == TFUSE_OK)
        n->op->forward(&f, n);
    for (int k = 0; k < n->n_params; k++)
        tf_free(&l->env->mem, owned[k]);
    tf_free(&l->env->mem, f.scratch);
    return status;
}

/* A table's ids must be fewer than its rows, so that they can be numbered among them. */
static bool goes_by_rows(const tf_graph *g, const tf_node *n, int64_t tokens)
{
    if (n->n_params < 1 || n->params[0] < 0)
        return false;
    const int64_t rows = g->params[n->params[0]].shape[0];
    return (n->op == &tf_op_linear && rows > TILE) || (n->op == &tf_op_embedding && rows > TILE && rows > tokens);
}

static tfuse_status run_node(lazy *l, const tf_node *n)
{
    int64_t scratch = 0;
    bool rows = false;
    const int input = tf_input_number(l->g, n);
    TF_TRY(make_outputs(l, n, &scratch));
    if (input >= 0) {
        tf_inputs_fill(l->in, input, 0, l->in->n, l->values[n->outputs[0]].data);
        return TFUSE_OK;
    }
    if (goes_by_rows(l->g, n, l->in->n * l->in->sample))
        TF_TRY(l->w->have_rows(l->env, l->w->arg, n->params[0], &rows));
    if (!rows)
        return run_whole(l, n, scratch);
    return n->op == &tf_op_linear ? run_tiles(l, n) : run_embedding(l, n);
}

/* ---- all ---- */

static void drop_read(lazy *l, size_t step)
{
    const tf_node *n = &l->g->nodes[l->nodes[step]];
    for (int k = 0; k < n->n_inputs + n->n_outputs; k++) {
        const tf_id v = k < n->n_inputs ? n->inputs[k] : n->outputs[k - n->n_inputs];
        if (l->last[v] == step && v != l->g->output) {
            tf_free(&l->env->mem, l->values[v].data);
            l->values[v].data = NULL;
        }
    }
}

static void find_last(const tf_graph *g, const tf_id *nodes, size_t n_nodes, size_t *last)
{
    for (size_t i = 0; i < n_nodes; i++) {
        const tf_node *n = &g->nodes[nodes[i]];
        for (int k = 0; k < n->n_outputs; k++)
            last[n->outputs[k]] = i;
        for (int k = 0; k < n->n_inputs; k++)
            last[n->inputs[k]] = i;
    }
}

static tfuse_status run_all(lazy *l)
{
    l->values = tf_calloc(l->env, l->g->n_values, sizeof *l->values);
    l->last = tf_calloc(l->env, l->g->n_values, sizeof *l->last);
    if (!l->values || !l->last)
        return TFUSE_ENOMEM;
    TF_TRY(tf_schedule_nodes(l->env, l->g, &l->g->output, 1, &l->nodes, &l->n_nodes));
    find_last(l->g, l->nodes, l->n_nodes, l->last);
    for (size_t i = 0; i < l->n_nodes; i++) {
        TF_TRY(tf_check_cancel(l->env));
        TF_TRY(run_node(l, &l->g->nodes[l->nodes[i]]));
        drop_read(l, i);
    }
    return TFUSE_OK;
}

tfuse_status tf_run_lazily(tf_env *env, const tf_graph *g, const tf_weights *weights, const tf_inputs *in, float **out, size_t *count)
{
    lazy l = {.env = env, .g = g, .w = weights, .in = in};
    const tfuse_status status = run_all(&l);
    *out = NULL;
    if (status == TFUSE_OK) {
        tf_batch *last = &l.values[g->output];
        *count = (size_t)(last->n * tf_batch_stride(last));
        *out = last->data;
        last->data = NULL;
    }
    for (size_t v = 0; l.values && v < g->n_values; v++)
        tf_free(&env->mem, l.values[v].data);
    tf_free(&env->mem, l.values);
    tf_free(&env->mem, l.last);
    tf_free(&env->mem, l.nodes);
    return status;
}

/* ---- what it takes ---- */

static uint64_t weights_of_node(const tf_graph *g, const tf_node *n, const bool *has_rows, int64_t tokens)
{
    uint64_t bytes = 0;
    const bool rows = goes_by_rows(g, n, tokens) && has_rows[n->params[0]];
    for (int k = 0; k < n->n_params; k++) {
        if (n->params[k] < 0)
            continue;
        const tf_param *p = &g->params[n->params[k]];
        const int64_t held = k == 0 && rows ? (n->op == &tf_op_linear ? TILE : tokens) : p->rank > 0 ? p->shape[0] : 1;
        bytes += tf_area(tf_param_count(p) / (p->rank > 0 ? p->shape[0] : 1) * held, 1, sizeof(float));
    }
    return bytes;
}

tfuse_status tf_run_lazily_bytes(tf_env *env, const tf_graph *g, const bool *has_rows, const int64_t *input, int64_t samples, uint64_t *bytes)
{
    tf_schedule plan = {0};
    tf_id *nodes = NULL;
    size_t count = 0;
    *bytes = 0;
    int64_t tokens = samples;
    for (int d = 0; d < g->values[g->inputs[0]].rank; d++)
        tokens *= input[d];
    TF_TRY(tf_schedule_nodes(env, g, &g->output, 1, &nodes, &count));
    const tfuse_status status = tf_schedule_make(env, g, nodes, count, input, &plan);
    for (size_t i = 0; i < count && status == TFUSE_OK; i++) {
        const uint64_t own = weights_of_node(g, &g->nodes[nodes[i]], has_rows, tokens);
        *bytes = own > *bytes ? own : *bytes;
    }
    if (status == TFUSE_OK)
        *bytes += tf_area(plan.slab / plan.shard * samples, 1, sizeof(float));
    tf_schedule_free(&plan);
    tf_free(&env->mem, nodes);
    return status;
}
