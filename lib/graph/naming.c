/* SPDX-License-Identifier: Apache-2.0
 *
 * naming.c: expressions that say how a logical tensor is stored, and the rules that attach them to tensors.
 *
 * An expression is parsed against the shape that it must yield, so the shapes of stored tensors follow from it and need not be
 * written: part(X,0,1,3) of shape 8x4 is stored as X of 24x4. Its leaves then meet the logical tensor at an offset and strides,
 * however stacks and transposes are nested. Text may come from a file: depth is bounded and every number checked.
 */
#include "graph/build.h"

#include <string.h>

enum { MAX_NUMBERS = TFUSE_MAX_RANK };

typedef struct parser {
    tf_env *env;
    tf_graph *g;
    const char *text, *at;
    int depth;
} parser;

typedef struct shape {
    int rank;
    int64_t extent[TF_MAX_PARAM_RANK];
} shape;

static tfuse_status bad(const parser *p, const char *what)
{
    return tf_fail(p->env, TFUSE_EGRAPH, "expression " TF_LONG_TEXT ": at character %zu: %s", p->text, (size_t)(p->at - p->text) + 1,
                   what);
}

/* ---- words ----------------------------------------------------------------------------------------- */

static tfuse_status expect(parser *p, char c)
{
    const char what[] = {'\'', c, '\'', ' ', 'i', 's', ' ', 'm', 'i', 's', 's', 'i', 'n', 'g', '\0'};
    if (*p->at != c)
        return bad(p, what);
    p->at++;
    return TFUSE_OK;
}

static tfuse_status parse_name(parser *p, const char **out)
{
    const size_t len = strcspn(p->at, "(),");
    if (len == 0)
        return bad(p, "a name is missing");
    *out = tf_arena_printf(p->env, &p->g->arena, "%.*s", (int)len, p->at);
    p->at += len;
    return *out ? TFUSE_OK : TFUSE_ENOMEM;
}

/* ",N" repeated, up to the closing parenthesis, which is left. */
static tfuse_status parse_numbers(parser *p, int64_t *out, int *count)
{
    for (*count = 0; *p->at == ','; ++*count) {
        p->at++;
        if (*count == MAX_NUMBERS)
            return bad(p, "too many numbers");
        if (*p->at < '0' || *p->at > '9')
            return bad(p, "a number is missing");
        int64_t value = 0;
        for (; *p->at >= '0' && *p->at <= '9'; p->at++)
            if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p->at - '0', &value))
                return bad(p, "the number is too large");
        out[*count] = value;
    }
    return TFUSE_OK;
}

/* ---- leaves ------------------------------------------------------------------------------------------- */

static int64_t product(const int64_t *extent, int rank)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(count, extent[i], &count))
            return -1;
    return count;
}

static void store_as(tf_source *s, const int64_t *extent, int rank)
{
    s->stored_rank = rank;
    memcpy(s->stored_shape, extent, (size_t)rank * sizeof *extent);
}

static tfuse_status parse_reshaped(parser *p, const shape *want, tf_source *out)
{
    int64_t n[MAX_NUMBERS];
    int count;
    TF_TRY(parse_name(p, &out->stored));
    TF_TRY(parse_numbers(p, n, &count));
    if (product(n, count) != product(want->extent, want->rank))
        return bad(p, "the stored shape has another number of elements");
    store_as(out, n, count);
    return TFUSE_OK;
}

static tfuse_status check_size(parser *p, const tf_source *s)
{
    const int64_t size = product(s->stored_shape, s->stored_rank);
    return size < 0 || size > INT64_MAX / (int64_t)sizeof(double) ? bad(p, "the stored tensor is larger than memory can be") : TFUSE_OK;
}

/* part(NAME,dim,i,n) and slice(NAME,dim,first,count,extent) */
static tfuse_status parse_slice(parser *p, const shape *want, bool part, tf_source *out)
{
    int64_t n[MAX_NUMBERS], extent = 0;
    int count;
    out->kind = TF_SOURCE_SLICE;
    out->blocks = 1;
    TF_TRY(parse_name(p, &out->stored));
    TF_TRY(parse_numbers(p, n, &count));
    if (count != (part ? 3 : 4))
        return bad(p, part ? "part takes NAME,dim,i,n" : "slice takes NAME,dim,first,count,extent");
    if (n[0] >= want->rank)
        return bad(p, "the tensor has no such dimension");
    out->dim = (int)n[0];
    out->count = want->extent[out->dim];
    if (part) {
        if (n[1] >= n[2] || __builtin_mul_overflow(out->count, n[2], &extent))
            return bad(p, "there is no such part");
        out->first = n[1] * out->count;
    } else {
        extent = n[3];
        out->first = n[1];
        if (n[2] != out->count)
            return bad(p, "the slice's count is not the tensor's extent");
        if (out->count > extent || out->first > extent - out->count)
            return bad(p, "the slice does not fit in the extent");
    }
    store_as(out, want->extent, want->rank);
    out->extent = out->stored_shape[out->dim] = extent;
    return check_size(p, out);
}

/* within(NAME,outer,i,n): a slice in each of `outer` blocks of dimension 0; first and count are of a block. */
static tfuse_status parse_within(parser *p, const shape *want, tf_source *out)
{
    int64_t n[MAX_NUMBERS], extent = 0;
    int count;
    out->kind = TF_SOURCE_SLICE;
    TF_TRY(parse_name(p, &out->stored));
    TF_TRY(parse_numbers(p, n, &count));
    if (count != 3)
        return bad(p, "within takes NAME,outer,i,n");
    if (want->rank < 1 || n[0] < 1 || want->extent[0] % n[0] != 0 || n[1] >= n[2] || __builtin_mul_overflow(want->extent[0], n[2], &extent))
        return bad(p, "there is no such part");
    out->blocks = n[0];
    out->count = want->extent[0] / n[0];
    out->first = n[1] * out->count;
    store_as(out, want->extent, want->rank);
    out->stored_shape[0] = extent;
    out->extent = extent / n[0];
    return check_size(p, out);
}

/* item(NAME,i,n,shape...): dimension 0 is the n runs. */
static tfuse_status parse_item(parser *p, const shape *want, tf_source *out)
{
    int64_t n[MAX_NUMBERS], whole = 0;
    int count;
    out->kind = TF_SOURCE_SLICE;
    TF_TRY(parse_name(p, &out->stored));
    TF_TRY(parse_numbers(p, n, &count));
    if (count < 3 || count - 2 > TFUSE_MAX_RANK)
        return bad(p, "item takes NAME,i,n,shape...");
    out->blocks = out->count = 1;
    out->first = n[0];
    out->extent = n[1];
    store_as(out, n + 2, count - 2);
    if (n[0] >= n[1] || __builtin_mul_overflow(product(want->extent, want->rank), n[1], &whole) || whole != product(n + 2, count - 2))
        return bad(p, "there is no such item");
    return check_size(p, out);
}

/* ---- inner expressions ---------------------------------------------------------------------------------- */

static tfuse_status parse_source(parser *p, const shape *want, const tf_source **out);

/* Arguments in this parenthesis: commas of its own level, plus one. */
static int count_parts(const char *text)
{
    int count = 1;
    for (int depth = 0; *text && depth >= 0; text++) {
        if (*text == '(')
            depth++;
        else if (*text == ')')
            depth--;
        else if (*text == ',' && depth == 0)
            count++;
    }
    return count;
}

static tfuse_status parse_parts(parser *p, const shape *part, int count, tf_source *out)
{
    out->parts = tf_arena_array(p->env, &p->g->arena, (size_t)count, sizeof *out->parts);
    if (!out->parts)
        return TFUSE_ENOMEM;
    out->n_parts = count;
    for (int i = 0; i < count; i++) {
        if (i > 0)
            TF_TRY(expect(p, ','));
        TF_TRY(parse_source(p, part, &out->parts[i]));
    }
    return TFUSE_OK;
}

static tfuse_status parse_transpose(parser *p, const shape *want, tf_source *out)
{
    if (want->rank != 2)
        return bad(p, "only a matrix can be a transpose");
    const shape part = {2, {want->extent[1], want->extent[0]}};
    out->kind = TF_SOURCE_TRANSPOSE;
    return parse_parts(p, &part, 1, out);
}

static tfuse_status parse_stack(parser *p, const shape *want, tf_source *out)
{
    const int count = count_parts(p->at);
    if (want->rank < 1 || want->extent[0] != count)
        return bad(p, "the stack's length is not the tensor's first extent");
    shape part = {want->rank - 1, {0}};
    memcpy(part.extent, want->extent + 1, (size_t)part.rank * sizeof *part.extent);
    out->kind = TF_SOURCE_STACK;
    return parse_parts(p, &part, count, out);
}

static tfuse_status parse_sum(parser *p, const shape *want, tf_source *out)
{
    out->kind = TF_SOURCE_SUM;
    return parse_parts(p, want, count_parts(p->at), out);
}

/* The dimension comes first, without a comma before it. */
static tfuse_status parse_join(parser *p, const shape *want, tf_source *out)
{
    const int count = count_parts(p->at) - 1;
    shape part = *want;
    if (*p->at < '0' || *p->at > '9' || p->at[1] != ',' || *p->at - '0' >= want->rank)
        return bad(p, "join takes a dimension, then tensors");
    out->dim = *p->at - '0';
    p->at += 2;
    if (count < 1 || want->extent[out->dim] % count != 0)
        return bad(p, "the tensor's extent is no multiple of what is joined");
    part.extent[out->dim] /= count;
    out->kind = TF_SOURCE_JOIN;
    return parse_parts(p, &part, count, out);
}

static tfuse_status parse_copies(parser *p, const shape *want, tf_source *out)
{
    out->kind = TF_SOURCE_COPIES;
    return parse_parts(p, want, count_parts(p->at), out);
}

static tfuse_status parse_alias(parser *p, tf_source *out)
{
    if (p->depth > 1)
        return bad(p, "an alias cannot be inside another expression");
    out->kind = TF_SOURCE_ALIAS;
    return parse_name(p, &out->stored);
}

static tfuse_status parse_call(parser *p, const char *word, const shape *want, tf_source *out)
{
    if (strcmp(word, "shape") == 0)
        return parse_reshaped(p, want, out);
    if (strcmp(word, "part") == 0 || strcmp(word, "slice") == 0)
        return parse_slice(p, want, word[0] == 'p', out);
    if (strcmp(word, "within") == 0)
        return parse_within(p, want, out);
    if (strcmp(word, "item") == 0)
        return parse_item(p, want, out);
    if (strcmp(word, "join") == 0)
        return parse_join(p, want, out);
    if (strcmp(word, "transpose") == 0)
        return parse_transpose(p, want, out);
    if (strcmp(word, "stack") == 0)
        return parse_stack(p, want, out);
    if (strcmp(word, "sum") == 0)
        return parse_sum(p, want, out);
    if (strcmp(word, "copies") == 0)
        return parse_copies(p, want, out);
    if (strcmp(word, "alias") == 0)
        return parse_alias(p, out);
    return bad(p, "only shape, part, slice, within, item, join, transpose, stack, sum, copies and alias take parentheses");
}

static tfuse_status parse_source(parser *p, const shape *want, const tf_source **out)
{
    tf_source *s = tf_arena_alloc(p->env, &p->g->arena, sizeof *s);
    const char *word;
    if (!s)
        return TFUSE_ENOMEM;
    s->kind = TF_SOURCE_STORED;
    s->rank = want->rank;
    memcpy(s->shape, want->extent, (size_t)want->rank * sizeof *s->shape);
    TF_TRY(parse_name(p, &word));
    *out = s;
    if (*p->at != '(') {
        s->stored = word;
        store_as(s, want->extent, want->rank);
        return TFUSE_OK;
    }
    if (p->depth == TF_MAX_DEPTH)
        return bad(p, "expressions are nested too deep");
    p->at++;
    p->depth++;
    TF_TRY(parse_call(p, word, want, s));
    p->depth--;
    return expect(p, ')');
}

tfuse_status tf_source_parse(tf_env *env, tf_graph *g, const char *expression, int rank, const int64_t *extent,
                             const tf_source **out)
{
    parser p = {env, g, expression, expression, 0};
    shape want = {rank, {0}};
    memcpy(want.extent, extent, (size_t)rank * sizeof *extent);
    TF_TRY(parse_source(&p, &want, out));
    return *p.at ? bad(&p, "text is left over") : TFUSE_OK;
}

/* ---- leaves and where they lie ------------------------------------------------------------------------------ */

static tfuse_status each_leaf(const tf_source *s, tf_piece at, tf_piece_fn fn, void *arg)
{
    if (s->kind == TF_SOURCE_STORED || s->kind == TF_SOURCE_SLICE) {
        at.source = s;
        return fn(arg, &at);
    }
    if (s->kind == TF_SOURCE_TRANSPOSE) {
        const int64_t rows = at.stride[0];
        at.stride[0] = at.stride[1];
        at.stride[1] = rows;
    }
    const int64_t step = at.stride[0];
    if (s->kind == TF_SOURCE_STACK)
        memmove(at.stride, at.stride + 1, (TF_MAX_PARAM_RANK - 1) * sizeof *at.stride);
    for (int i = 0; i < s->n_parts; i++) {
        tf_piece part = at;
        if (s->kind == TF_SOURCE_STACK)
            part.offset += i * step;
        if (s->kind == TF_SOURCE_SUM)
            part.zero = at.zero || i > 0;
        if (s->kind == TF_SOURCE_COPIES)
            part.copy = at.copy || i > 0;
        if (s->kind == TF_SOURCE_JOIN)
            part.offset += i * s->parts[i]->shape[s->dim] * at.stride[s->dim];
        TF_TRY(each_leaf(s->parts[i], part, fn, arg));
    }
    return TFUSE_OK;
}

tfuse_status tf_param_each_piece(const tf_graph *g, tf_id param, tf_piece_fn fn, void *arg)
{
    const tf_source *s = g->params[param].source;
    tf_piece at = {.param = param};
    int64_t stride = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        at.stride[i] = stride;
        stride *= s->shape[i];
    }
    return s->kind == TF_SOURCE_ALIAS ? TFUSE_OK : each_leaf(s, at, fn, arg);
}

tf_id tf_param_target(const tf_graph *g, tf_id param)
{
    const tf_source *s = g->params[param].source;
    return s && s->kind == TF_SOURCE_ALIAS ? tf_graph_find_param(g, s->stored) : param;
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

/* A tensor without a rule is stored under its own name. */
static tfuse_status name_param(tf_env *env, tf_graph *g, tf_param *p)
{
    const int64_t rule = tf_strmap_get(&g->rule_index, p->name);
    if (rule >= 0) {
        tfuse_status status = tf_source_parse(env, g, g->rules[rule].expression, p->rank, p->shape, &p->source);
        return status == TFUSE_OK ? status : tf_fail_in(env, status, "tensor '%s'", p->name);
    }
    tf_source *s = tf_arena_alloc(env, &g->arena, sizeof *s);
    if (!s)
        return TFUSE_ENOMEM;
    s->kind = TF_SOURCE_STORED;
    s->rank = p->rank;
    memcpy(s->shape, p->shape, sizeof s->shape);
    s->stored = p->name;
    store_as(s, p->shape, p->rank);
    p->source = s;
    return TFUSE_OK;
}

/* The two are tied weights: their dimensions move alike, and the nodes that use the alias use its target from here on. */
static tfuse_status resolve_alias(tf_env *env, tf_graph *g, tf_id alias)
{
    const tf_param p = g->params[alias];
    const tf_id target = tf_param_target(g, alias);
    if (target < 0)
        return tf_fail(env, TFUSE_ENOTFOUND, "tensor '%s' is an alias of '%s', which the graph does not have", p.name,
                       p.source->stored);
    const tf_param *t = &g->params[target];
    if (t->source->kind == TF_SOURCE_ALIAS)
        return tf_fail(env, TFUSE_EGRAPH, "tensor '%s' is an alias of '%s', which is an alias itself", p.name, t->name);
    if (t->rank != p.rank || memcmp(t->shape, p.shape, sizeof p.shape) != 0)
        return tf_fail(env, TFUSE_ESHAPE, "tensor '%s' is an alias of '%s', which has another shape", p.name, t->name);
    TF_TRY(tf_tie_tensors(env, g, p.node, target, p.dims, p.use));
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_params; k++)
            if (g->nodes[i].params[k] == alias)
                g->nodes[i].params[k] = target;
    g->params[target].holders += g->params[alias].holders;
    g->params[alias].holders = 0;
    g->params[target].aliased = g->params[alias].aliased = true;
    return TFUSE_OK;
}

tfuse_status tf_graph_resolve_names(tf_env *env, tf_graph *g)
{
    for (size_t i = 0; i < g->n_rules; i++)
        if (tf_graph_find_param(g, g->rules[i].logical) < 0)
            return tf_fail(env, TFUSE_ENOTFOUND, "the graph has no tensor '%s' to be stored as '%s'", g->rules[i].logical,
                           g->rules[i].expression);
    for (size_t i = 0; i < g->n_params; i++)
        TF_TRY(name_param(env, g, &g->params[i]));
    for (size_t i = 0; i < g->n_params; i++)
        if (g->params[i].source->kind == TF_SOURCE_ALIAS)
            TF_TRY(resolve_alias(env, g, (tf_id)i));
    return TFUSE_OK;
}
