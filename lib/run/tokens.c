/* SPDX-License-Identifier: Apache-2.0
 *
 * tokens.c: which tokens of a value take part in statistics.
 *
 * The window is the centre of the grid, rounded towards the start: rows and columns from (grid - w) / 2. Where the model's head reads
 * the class token alone, the other tokens that the last operations compute have no influence on the output and are left out;
 * which values these are follows from the structure of the graph.
 */
#include "run/run.h"
#include <stdlib.h>
#include <string.h>

tfuse_status tf_token_filter_parse(tf_env *env, const char *text, tf_token_filter *out)
{
    static const char prefix[] = "window";
    const size_t length = sizeof prefix - 1;
    memset(out, 0, sizeof *out);
    if (!strcmp(text, "all")) {
        out->kind = TF_TOKENS_ALL;
        return TFUSE_OK;
    }
    if (!strcmp(text, "class")) {
        out->kind = TF_TOKENS_CLASS;
        return TFUSE_OK;
    }
    const char *digits = text + length;
    if (!strncmp(text, prefix, length) && *digits >= '1' && *digits <= '9' && strlen(digits) <= 6 &&
        strspn(digits, "0123456789") == strlen(digits)) {
        out->kind = TF_TOKENS_WINDOW;
        out->window = strtol(digits, NULL, 10);
        return TFUSE_OK;
    }
    char shown[64];
    return tf_fail(env, TFUSE_EKEY, "unknown token filter '%s': give all, class, or windowN such as window5",
                   tf_printable(shown, sizeof shown, text));
}

/* ---- positions ------------------------------------------------------------------------------------------------------ */

static int64_t range(int64_t *dst, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        dst[i] = first + i;
    return count;
}

static int64_t window(const tf_value *v, int64_t w, int64_t *dst)
{
    const int64_t top = (v->grid_h - w) / 2, left = (v->grid_w - w) / 2;
    int64_t count = range(dst, 0, v->class_tokens);
    for (int64_t y = top; y < top + w; y++)
        count += range(dst + count, v->class_tokens + y * v->grid_w + left, w);
    return count;
}

static int64_t positions(const tf_value *v, int64_t tokens, const tf_token_filter *filter, bool class_only, int64_t *dst)
{
    if (filter->kind == TF_TOKENS_ALL || v->class_tokens == 0)
        return range(dst, 0, tokens);
    if (class_only)
        return range(dst, 0, 1);
    if (filter->kind == TF_TOKENS_CLASS)
        return range(dst, 0, v->class_tokens);
    return v->grid_h > 0 ? window(v, filter->window, dst) : range(dst, 0, tokens);
}

tfuse_status tf_token_positions(tf_env *env, const tf_graph *g, tf_id value, const tf_token_filter *filter, bool class_only,
                                int64_t **out, int64_t *count)
{
    const tf_value *v = &g->values[value];
    *out = NULL;
    *count = 0;
    int64_t tokens = 1;
    for (int d = 0; d + 1 < v->rank; d++)
        tokens *= v->extent[d];
    if (tokens == 0)
        return TFUSE_OK;
    if (filter->kind == TF_TOKENS_WINDOW && v->class_tokens && v->grid_h &&
        (filter->window > v->grid_h || filter->window > v->grid_w))
        return tf_fail(env, TFUSE_ERANGE, "token filter window%lld does not fit the %lld x %lld grid of '%s'",
                       (long long)filter->window, (long long)v->grid_h, (long long)v->grid_w, v->name);
    int64_t *dst = tf_alloc_array(env, (size_t)tokens, sizeof *dst);
    if (!dst)
        return TFUSE_ENOMEM;
    *count = positions(v, tokens, filter, class_only, dst);
    *out = dst;
    return TFUSE_OK;
}

/* ---- class-only values --------------------------------------------------------------------------------------------- */

/* Picks the first token: what it does not pick cannot go further. Such an operation takes an attribute `index`, and its output has
 * lost the token dimension. */
static bool selects_class(const tf_graph *g, const tf_node *n, const tf_value *v)
{
    return !n->op->tokenwise && n->op->attrs && strstr(n->op->attrs, "index") && n->n_outputs == 1 &&
           g->values[n->outputs[0]].rank == v->rank - 1 && tf_node_int_at(n, "index", 0) == 0;
}

/* Whether everything that the node lets through from `v` to the output is the class token's. */
static bool passes_class_only(const tf_graph *g, const tf_node *n, const tf_value *v, const bool *live, const bool *only)
{
    if (selects_class(g, n, v))
        return true;
    if (!n->op->tokenwise)
        return false;
    for (int k = 0; k < n->n_outputs; k++)
        if (live[n->outputs[k]] && !only[n->outputs[k]])
            return false;
    return true;
}

static bool node_is_live(const tf_node *n, const bool *live)
{
    for (int k = 0; k < n->n_outputs; k++)
        if (live[n->outputs[k]])
            return true;
    return false;
}

tfuse_status tf_value_class_only(tf_env *env, const tf_graph *g, bool **out)
{
    *out = NULL;
    bool *live = tf_calloc(env, g->n_values, sizeof *live);
    bool *only = tf_calloc(env, g->n_values, sizeof *only);
    if (!live || !only) {
        tf_free(&env->mem, live);
        tf_free(&env->mem, only);
        return TFUSE_ENOMEM;
    }
    if (g->output >= 0)
        live[g->output] = true;
    /* Backward: every reader of a value stands after the node that makes it. The first reader met sets the value, each further one can
     * only take it back. */
    for (size_t i = g->n_nodes; i-- > 0;) {
        const tf_node *n = &g->nodes[i];
        if (!node_is_live(n, live))
            continue;
        for (int k = 0; k < n->n_inputs; k++) {
            const tf_id in = n->inputs[k];
            const tf_value *v = &g->values[in];
            const bool passes = v->class_tokens > 0 && passes_class_only(g, n, v, live, only);
            only[in] = passes && (!live[in] || only[in]);
            live[in] = true;
        }
    }
    tf_free(&env->mem, live);
    *out = only;
    return TFUSE_OK;
}
