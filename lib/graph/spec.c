/* SPDX-License-Identifier: Apache-2.0
 *
 * spec.c: from the text of a produced dimension to its ports and its binding.
 *
 *     binding = segment ('|' segment)*
 *     segment = [label '='] factor ('*' factor)*
 *     factor  = ['!'] ['/'] name ':' extent | extent | '(' binding ')'
 *
 * Recursive descent over text that may come from a file: depth, factors of a part, parts of a binding and products of extents
 * are bounded before they are used.
 */
#include "graph/build.h"

#include <string.h>

typedef struct parser {
    tf_env *env;
    tf_graph *g;
    tf_id node;
    const char *spec, *at;
    int depth;
} parser;

static tfuse_status bad(const parser *p, const char *what)
{
    const tf_node *n = &p->g->nodes[p->node];
    return tf_fail(p->env, TFUSE_EINVAL, TF_NODE_TEXT ": " TF_LONG_TEXT ": at character %zu: %s", TF_NODE_ARGS(n), p->spec,
                   (size_t)(p->at - p->spec) + 1, what);
}

/* ---- words --------------------------------------------------------------------------------------- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Length of the name that starts here: letters first, then also digits and "-./". */
static size_t name_length(const char *text)
{
    size_t n = 0;
    if (is_letter(text[0]))
        while (is_letter(text[n]) || is_digit(text[n]) || (text[n] && strchr("-./", text[n])))
            n++;
    return n;
}

static tfuse_status parse_extent(parser *p, int64_t *out)
{
    int64_t value = 0;
    if (!is_digit(*p->at))
        return bad(p, "an extent is missing");
    for (; is_digit(*p->at); p->at++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p->at - '0', &value))
            return bad(p, "the extent is too large");
    if (value < 1)
        return bad(p, "an extent must be at least 1");
    *out = value;
    return TFUSE_OK;
}

static char *copy_text(parser *p, const char *text, size_t len)
{
    return tf_arena_printf(p->env, &p->g->arena, "%.*s", (int)len, text);
}

/* ---- ports ------------------------------------------------------------------------------------------ */

/* "node.factor", or "node.label.factor"; numbered from 2 where that is taken. */
static tfuse_status port_name(parser *p, const char *label, const char *factor, const char **out)
{
    const char *node = p->g->nodes[p->node].name;
    tf_arena *arena = &p->g->arena;
    const char *base = label[0] ? tf_arena_printf(p->env, arena, "%s.%s.%s", node, label, factor)
                                : tf_arena_printf(p->env, arena, "%s.%s", node, factor);
    const char *name = base;
    for (int i = 2; name && tf_strmap_get(&p->g->port_index, name) >= 0; i++)
        name = tf_arena_printf(p->env, arena, "%s#%d", base, i);
    *out = name;
    return name ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status add_port(parser *p, const char *label, const char *factor, bool global, tf_port port, tf_id *out)
{
    tf_graph *g = p->g;
    const char *scope = g->nodes[p->node].scope;
    TF_TRY(port_name(p, label, factor, &port.name));
    port.axis = global || !scope[0] ? factor : tf_arena_printf(p->env, &g->arena, "%s/%s", scope, factor);
    if (!port.axis)
        return TFUSE_ENOMEM;
    TF_ROOM(p->env, g, ports);
    const tf_id id = (tf_id)g->n_ports;
    port.node = p->node;
    port.up = id;
    TF_TRY(tf_strmap_put(p->env, &g->port_index, port.name, id, NULL));
    g->ports[g->n_ports++] = port;
    *out = id;
    return TFUSE_OK;
}

static tfuse_status parse_port(parser *p, const char *label, tf_id parent, tf_factor *out)
{
    tf_port port = {.parent = parent};
    port.pinned = *p->at == '!';
    p->at += port.pinned;
    const bool global = *p->at == '/';
    p->at += global;
    const size_t len = name_length(p->at);
    if (len == 0)
        return bad(p, "a name, an extent or '(' is missing");
    const char *name = copy_text(p, p->at, len);
    if (!name)
        return TFUSE_ENOMEM;
    p->at += len;
    if (*p->at != ':')
        return bad(p, "':' and an extent are missing");
    p->at++;
    TF_TRY(parse_extent(p, &port.extent));
    out->kind = TF_FACTOR_PORT;
    out->extent = port.extent;
    return add_port(p, label, name, global, port, &out->port);
}

/* ---- the grammar --------------------------------------------------------------------------------------- */

static tfuse_status parse_binding(parser *p, tf_id parent, tf_binding **out);

static tfuse_status parse_factor(parser *p, const char *label, tf_id parent, tf_factor *out)
{
    *out = (tf_factor){TF_FACTOR_FIXED, -1, 0, NULL};
    if (is_digit(*p->at))
        return parse_extent(p, &out->extent);
    if (*p->at != '(')
        return parse_port(p, label, parent, out);
    if (p->depth == TF_MAX_DEPTH)
        return bad(p, "parentheses are nested too deep");
    p->at++;
    p->depth++;
    tf_binding *inner = NULL;
    TF_TRY(parse_binding(p, parent, &inner));
    if (*p->at != ')')
        return bad(p, "')' is missing");
    p->at++;
    p->depth--;
    out->kind = TF_FACTOR_CONCAT;
    out->extent = inner->extent;
    out->concat = inner;
    return TFUSE_OK;
}

static tfuse_status parse_segment(parser *p, tf_id parent, tf_segment *out)
{
    tf_factor factors[TF_MAX_FACTORS];
    const size_t len = name_length(p->at);
    const bool labelled = len > 0 && p->at[len] == '=';
    out->label = labelled ? copy_text(p, p->at, len) : "";
    if (!out->label)
        return TFUSE_ENOMEM;
    if (labelled)
        p->at += len + 1;
    out->extent = 1;
    for (;;) {
        if (out->n_factors == TF_MAX_FACTORS)
            return bad(p, "too many factors");
        tf_factor *f = &factors[out->n_factors++];
        TF_TRY(parse_factor(p, out->label, parent, f));
        if (f->kind == TF_FACTOR_PORT)
            parent = f->port;
        if (__builtin_mul_overflow(out->extent, f->extent, &out->extent))
            return bad(p, "the product of extents is too large");
        if (*p->at != '*')
            break;
        p->at++;
    }
    tf_factor *copy = tf_arena_array(p->env, &p->g->arena, (size_t)out->n_factors, sizeof *copy);
    if (!copy)
        return TFUSE_ENOMEM;
    memcpy(copy, factors, (size_t)out->n_factors * sizeof *copy);
    out->factors = copy;
    return TFUSE_OK;
}

/* Segments of the binding that starts here, its own level only. */
static int count_segments(const char *text)
{
    int count = 1;
    for (int depth = 0; *text && depth >= 0 && count <= TF_MAX_PARTS; text++) {
        if (*text == '(')
            depth++;
        else if (*text == ')')
            depth--;
        else if (*text == '|' && depth == 0)
            count++;
    }
    return count;
}

static tfuse_status parse_binding(parser *p, tf_id parent, tf_binding **out)
{
    const int count = count_segments(p->at);
    if (count > TF_MAX_PARTS)
        return bad(p, "too many segments");
    tf_binding *b = tf_arena_alloc(p->env, &p->g->arena, sizeof *b);
    tf_segment *segments = tf_arena_array(p->env, &p->g->arena, (size_t)count, sizeof *segments);
    if (!b || !segments)
        return TFUSE_ENOMEM;
    b->segments = segments;
    b->n_segments = count;
    for (int i = 0; i < count; i++) {
        TF_TRY(parse_segment(p, parent, &segments[i]));
        if (__builtin_add_overflow(b->extent, segments[i].extent, &b->extent))
            return bad(p, "the sum of extents is too large");
        if (i + 1 < count && *p->at != '|')
            return bad(p, "'|' or '*' is missing");
        p->at += i + 1 < count;
    }
    *out = b;
    return TFUSE_OK;
}

tfuse_status tf_node_ports(tf_env *env, tf_graph *g, tf_id node, const char *spec, const tf_binding **out)
{
    parser p = {env, g, node, spec, spec, 0};
    tf_binding *b = NULL;
    TF_TRY(parse_binding(&p, -1, &b));
    if (*p.at)
        return bad(&p, "text is left over");
    tf_part *parts = NULL;
    int count = 0;
    tfuse_status status = tf_binding_parts(env, g, b, &parts, &count); /* within the bounds on parts */
    tf_free(&env->mem, parts);
    if (status != TFUSE_OK)
        return tf_fail_in(env, status, TF_NODE_TEXT ": " TF_LONG_TEXT, TF_NODE_ARGS(&g->nodes[node]), spec);
    *out = b;
    return TFUSE_OK;
}
