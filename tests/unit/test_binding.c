/* SPDX-License-Identifier: Apache-2.0
 *
 * Bindings: the grammar of produced dimensions, ports and their parents, parts with offsets and strides, text.
 */
#include "t_graph.h"

/* A graph with one linear whose rows are `spec`; its binding. */
static tf_graph *with_rows(tf_env *env, const char *spec, const tf_binding **out)
{
    char attrs[512];
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3,5"));
    snprintf(attrs, sizeof attrs, "out=%s", spec);
    t_ok(env, tf_graph_add(env, g, "linear", "layer.0/fused", "x", attrs));
    *out = g->params[tf_graph_find_param(g, "layer.0/fused.weight")].dims[0];
    return g;
}

static void parts_are(const char *spec, const tf_part *want, int n_want)
{
    tf_env *env = t_env(1);
    const tf_binding *b = NULL;
    tf_graph *g = with_rows(env, spec, &b);
    tf_part *parts = NULL;
    int count = 0;
    t_ok(env, tf_binding_parts(env, g, b, &parts, &count));
    ck_assert_int_eq(count, n_want);
    for (int i = 0; i < count; i++) {
        const tf_part *p = &parts[i], *w = &want[i];
        ck_assert_str_eq(p->label, w->label);
        ck_assert_int_eq(p->n_factors, w->n_factors);
        ck_assert_int_eq(p->offset, w->offset);
        ck_assert_int_eq(p->size, w->size);
        ck_assert_int_eq(p->n_ports, w->n_ports);
        for (int k = 0; k < p->n_factors; k++) {
            ck_assert_int_eq(p->extent[k], w->extent[k]);
            ck_assert_int_eq(p->stride[k], w->stride[k]);
        }
    }
    /* Parts cover the dimension, every index once. */
    int *seen = calloc((size_t)b->extent, sizeof *seen);
    for (int i = 0; i < count; i++)
        for (int64_t u = 0; u < parts[i].size; u++)
            seen[tf_part_index(&parts[i], u)]++;
    for (int64_t i = 0; i < b->extent; i++)
        ck_assert_int_eq(seen[i], 1);
    free(seen);
    ck_assert(tf_parts_cover(parts, count, b->extent));
    ck_assert(!tf_parts_cover(parts, count - 1, b->extent) && !tf_parts_cover(parts, count, b->extent + 1));
    for (int i = 0; i < count; i++) {
        bool in_order = parts[i].size == b->extent;
        for (int64_t u = 0; u < parts[i].size; u++)
            in_order &= tf_part_index(&parts[i], u) == u;
        ck_assert_int_eq(tf_part_is_whole(&parts[i], b->extent), in_order);
    }
    tf_free(&env->mem, parts);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_parts)
{
    const tf_part plain[] = {{"", 1, {0}, {7}, {1}, 0, 7, 1}};
    parts_are("/stream:7", plain, 1);
    const tf_part fused[] = {{"q", 2, {0}, {4, 2}, {2, 1}, 0, 8, 2},
                             {"k", 2, {0}, {4, 2}, {2, 1}, 8, 8, 2},
                             {"v", 2, {0}, {4, 3}, {3, 1}, 16, 12, 2}};
    parts_are("q=heads:4*qk:2|k=heads:4*qk:2|v=heads:4*vo:3", fused, 3);
    const tf_part interleaved[] = {{"q", 2, {0}, {4, 2}, {7, 1}, 0, 8, 2},
                                   {"k", 2, {0}, {4, 2}, {7, 1}, 2, 8, 2},
                                   {"v", 2, {0}, {4, 3}, {7, 1}, 4, 12, 2}};
    parts_are("heads:4*(q=qk:2|k=qk:2|v=vo:3)", interleaved, 3);
    const tf_part grouped[] = {{"", 3, {0}, {2, 3, 8}, {24, 8, 1}, 0, 48, 3}};
    parts_are("kv:2*group:3*qk:8", grouped, 1);
    const tf_part rotary[] = {{"rot", 2, {0}, {2, 4}, {10, 1}, 0, 8, 2}, {"pass", 2, {0}, {2, 6}, {10, 1}, 4, 12, 2}};
    parts_are("heads:2*(rot=rot:4|pass=pass:6)", rotary, 2);
    const tf_part pinned[] = {{"", 2, {0}, {3, 4}, {4, 1}, 0, 12, 1}, {"", 1, {0}, {5}, {1}, 12, 5, 0}};
    parts_are("!taps:3*c:4|5", pinned, 2);
}
END_TEST

/* What follows a concatenation belongs to each of its segments; labels are joined. */
START_TEST(test_nested)
{
    const tf_part after[] = {{"a", 3, {0}, {2, 3, 4}, {20, 4, 1}, 0, 24, 3}, {"b", 3, {0}, {2, 2, 4}, {20, 4, 1}, 12, 16, 3}};
    parts_are("e:2*(a=x:3|b=y:2)*c:4", after, 2);
    const tf_part deep[] = {{"s.a", 2, {0}, {2, 3}, {7, 1}, 0, 6, 2},
                            {"s.b.c", 2, {0}, {2, 1}, {7, 1}, 3, 2, 1},
                            {"s.b.d", 2, {0}, {2, 3}, {7, 1}, 4, 6, 2}};
    parts_are("s=e:2*(a=x:3|b=(c=1|d=y:3))", deep, 3);
    const tf_part twice[] = {{"a.c", 2, {0}, {1, 1}, {3, 1}, 0, 1, 2},
                             {"a.d", 2, {0}, {1, 2}, {3, 1}, 1, 2, 2},
                             {"b.c", 2, {0}, {2, 1}, {3, 1}, 3, 2, 2},
                             {"b.d", 2, {0}, {2, 2}, {3, 1}, 4, 4, 2}};
    parts_are("(a=x:1|b=y:2)*(c=z:1|d=w:2)", twice, 4);
}
END_TEST

static tf_id port(const tf_graph *g, const char *name)
{
    const int64_t id = tf_strmap_get(&g->port_index, name);
    ck_assert_msg(id >= 0, "no port %s", name);
    return (tf_id)id;
}

START_TEST(test_ports)
{
    tf_env *env = t_env(1);
    const tf_binding *b = NULL;
    tf_graph *g = with_rows(env, "kv:2*(q=group:3*qk:2|k=qk:2)*sub:2|/stream:4|!vocab:3|again:1|again:1", &b);
    const tf_id kv = port(g, "layer.0/fused.kv"), group = port(g, "layer.0/fused.q.group");
    ck_assert_int_eq(g->ports[kv].parent, -1);
    ck_assert_int_eq(g->ports[group].parent, kv);
    ck_assert_int_eq(g->ports[port(g, "layer.0/fused.q.qk")].parent, group);
    ck_assert_int_eq(g->ports[port(g, "layer.0/fused.k.qk")].parent, kv);
    ck_assert_int_eq(g->ports[port(g, "layer.0/fused.sub")].parent, kv);
    ck_assert_int_eq(g->ports[port(g, "layer.0/fused.stream")].parent, -1);
    ck_assert_str_eq(g->ports[kv].axis, "layer.0/kv");
    ck_assert_str_eq(g->ports[port(g, "layer.0/fused.stream")].axis, "stream");
    ck_assert(g->ports[port(g, "layer.0/fused.vocab")].pinned);
    ck_assert(!g->ports[kv].pinned);
    ck_assert_str_eq(g->ports[port(g, "layer.0/fused.again#2")].axis, "layer.0/again");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_text)
{
    tf_env *env = t_env(1);
    const tf_binding *b = NULL;
    tf_graph *g = with_rows(env, "heads:4*(q=qk:2|3)|/stream:5", &b);
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    t_ok(env, tf_binding_text(env, g, b, &text));
    ck_assert_str_eq(text.data, "layer.0/heads:4*(q=layer.0/qk:2|3)|stream:5");
    tf_buf_free(&text);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* All of a dimension is not enough: its units may lie in another order. */
START_TEST(test_whole)
{
    tf_part p = {.label = "", .n_factors = 2, .extent = {2, 3}, .stride = {3, 1}, .size = 6};
    ck_assert(tf_part_is_whole(&p, 6) && !tf_part_is_whole(&p, 7));
    p.stride[0] = 1;
    p.stride[1] = 2;
    ck_assert(!tf_part_is_whole(&p, 6));
    p.stride[0] = 3;
    p.stride[1] = 1;
    p.offset = 1;
    ck_assert(!tf_part_is_whole(&p, 6));
}
END_TEST

static void refused(const char *spec, tfuse_status status, const char *piece)
{
    char *attrs = malloc(strlen(spec) + 5);
    sprintf(attrs, "out=%s", spec);
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=3,5"}, {"linear", "layer.0/fused", "x", attrs}};
    t_refused(nodes, 2, status, piece);
    t_refused(nodes, 2, status, "layer.0/fused");
    free(attrs);
}

START_TEST(test_refused)
{
    static const struct {
        const char *spec, *piece;
    } bad[] = {
        {"a", "':' and an extent"},    {"a:", "extent is missing"},   {"a:0", "at least 1"},
        {"a:-1", "extent is missing"}, {"a:3x", "left over"},         {"a:3|", "a name, an extent"},
        {"a:3*", "a name, an extent"}, {"(a:3", "')' is missing"},    {"a:3)", "left over"},
        {"=a:3", "a name, an extent"}, {"a:99999999999999999999", "too large"},
        {"a:4000000000*b:4000000000", "too large"},
        {"a:9223372036854775807|b:1", "sum of extents"},
        {"a:1*b:1*c:1*d:1*e:1*f:1*g:1", "too many factors"},
        {"((((((((((a:1))))))))))", "too deep"},
        {"()", "a name, an extent"},   {"!!a:1", "a name, an extent"}, {"a:1 b=2", "no attribute 'b'"},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++)
        refused(bad[i].spec, TFUSE_EINVAL, bad[i].piece);
    refused("a:1*b:1*c:1*(d:1*e:1*f:1*g:1)", TFUSE_EGRAPH, "factors");
    /* 4^6 parts in a short text; 1000 segments in a long one */
    refused("(1|1|1|1)*(1|1|1|1)*(1|1|1|1)*(1|1|1|1)*(1|1|1|1)*(1|1|1|1)", TFUSE_EGRAPH, "256 parts");
    char many[3000] = "a:1";
    for (int i = 0; i < 1000; i++)
        strcpy(many + 3 + 2 * i, "|1");
    refused(many, TFUSE_EINVAL, "too many segments");
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("binding");
    T_ADD(test_parts);
    T_ADD(test_nested);
    T_ADD(test_ports);
    T_ADD(test_text);
    T_ADD(test_whole);
    T_ADD(test_refused);
    return t_suite;
}
