/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a graph: what is refused, ties with duality, classes, their names and parents, uses, tied tensors, signatures.
 */
#include "t_graph.h"

static tf_id port(const tf_graph *g, const char *name)
{
    const int64_t id = tf_strmap_get(&g->port_index, name);
    ck_assert_msg(id >= 0, "no port %s", name);
    return (tf_id)id;
}

static tf_id param(const tf_graph *g, const char *name)
{
    const tf_id id = tf_graph_find_param(g, name);
    ck_assert_msg(id >= 0, "no tensor %s", name);
    return id;
}

START_TEST(test_refused_nodes)
{
    const struct {
        t_node node;
        tfuse_status status;
        const char *piece;
    } bad[] = {
        {{"linear", "x", "x", "out=a:2"}, TFUSE_EGRAPH, "one of this name"},
        {{"linear", "", "x", "out=a:2"}, TFUSE_EINVAL, "without a name"},
        {{"linear", "a b", "x", "out=a:2"}, TFUSE_EINVAL, "cannot hold ' '"},
        {{"linear", "a:b", "x", "out=a:2"}, TFUSE_EINVAL, "cannot hold ':'"},
        {{"linear", "a\tb", "x", "out=a:2"}, TFUSE_EINVAL, "control character"},
        {{"lineal", "y", "x", "out=a:2"}, TFUSE_ENOTFOUND, "node 'y': there is no operation 'lineal'"},
        {{"linear", "y", "z", "out=a:2"}, TFUSE_ENOTFOUND, "linear 'y': no value 'z'"},
        {{"linear", "y", "x x", "out=a:2"}, TFUSE_EGRAPH, "linear 'y': 2 inputs; it takes 1 to 1"},
        {{"linear", "y", "", "out=a:2"}, TFUSE_EGRAPH, "linear 'y': 0 inputs"},
        {{"linear", "y", "x", "out=a:2 colour=red"}, TFUSE_EINVAL, "linear 'y': there is no attribute 'colour'"},
        {{"linear", "y", "x", "out=a:2 out=a:3"}, TFUSE_EINVAL, "linear 'y': attribute 'out' is given twice"},
        {{"linear", "y", "x", "out"}, TFUSE_EINVAL, "'out' is not of the form key=value"},
        {{"linear", "y", "x", "out="}, TFUSE_EINVAL, "not of the form"},
        {{"linear", "y", "x", "=3"}, TFUSE_EINVAL, "not of the form"},
        {{"linear", "y", "x", "out=a:2 bias=2"}, TFUSE_ERANGE, "linear 'y': bias=2 is not in 0..1"},
        {{"linear", "y", "x", "out=a:2 bias=1x"}, TFUSE_EINVAL, "bias=1x is not an integer"},
        {{"layernorm", "y", "x", "eps=1,5"}, TFUSE_EINVAL, "eps=1,5 is not a number"},
        {{"layernorm", "y", "x", "eps=nan"}, TFUSE_EINVAL, "eps=nan is not a number"},
        {{"linear", "y", "x", "out=a:2 weight=@no"}, TFUSE_ENOTFOUND, "linear 'y': no tensor 'no'"},
        {{"linear", "y", "x", "out=a:2 weight=@w.weight"}, TFUSE_ESHAPE, "another shape"},
        {{"linear", "y", "x", "out=a:1*b:4 weight=@w.weight"}, TFUSE_EGRAPH, "differ in structure"},
        {{"linear", "y", "x", "out=a:4611686018427387904"}, TFUSE_ESHAPE, "larger than memory"},
        {{"input", "y", "", "kind=features shape=1,2,3,4,5"}, TFUSE_EINVAL, "at most 4"},
        {{"input", "y", "", "kind=features shape=1,,3"}, TFUSE_EINVAL, "not a list"},
        {{"token", "y", "x", "index=99999999999999999999"}, TFUSE_EINVAL, "not an integer"},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        const t_node nodes[] = {{"input", "x", "", "kind=features shape=2,3"}, {"linear", "w", "x", "out=a:4"}, bad[i].node};
        t_refused(nodes, 3, bad[i].status, bad[i].piece);
    }
}
END_TEST

/* The output depends on a node that failed: nothing more can be done but to free. */
START_TEST(test_states)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, NULL, &g));
    t_fails(env, tf_graph_finish(env, g), TFUSE_EGRAPH, "no input");
    t_fails(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3"), TFUSE_ESTATE, "unusable");
    tf_graph_free(g);
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3"));
    t_fails(env, tf_graph_output(env, g, "y"), TFUSE_ENOTFOUND, "no value 'y'");
    t_ok(env, tf_graph_output(env, g, "x"));
    t_ok(env, tf_graph_finish(env, g));
    t_fails(env, tf_graph_add(env, g, "linear", "y", "x", "out=a:2"), TFUSE_ESTATE, "finished");
    t_fails(env, tf_graph_store(env, g, "a", "b"), TFUSE_ESTATE, "finished");
    t_fails(env, tf_graph_finish(env, g), TFUSE_ESTATE, "finished");
    ck_assert_int_eq(tf_graph_find_node(g, "y"), -1);
    tf_graph_free(g);
    tf_graph_free(NULL);
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3"));
    t_fails(env, tf_graph_finish(env, g), TFUSE_EGRAPH, "no output");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Ports a, b, c, d of one extent, tied as told before finishing. */
static tf_graph *four(tf_env *env)
{
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3"));
    t_ok(env, tf_graph_add(env, g, "linear", "w", "x", "out=a:2|b:2|c:2|d:2|e:3"));
    t_ok(env, tf_graph_add(env, g, "linear", "y", "w", "out=!y:1"));
    t_ok(env, tf_graph_output(env, g, "y"));
    return g;
}

START_TEST(test_parity)
{
    tf_env *env = t_env(1);
    tf_graph *g = four(env);
    const tf_id a = port(g, "w.a"), b = port(g, "w.b"), c = port(g, "w.c"), d = port(g, "w.d");
    /* d ~ c dual, c ~ b dual, b ~ a: so d ~ a plainly, whatever the order of the ties */
    t_ok(env, tf_tie_ports(env, g, 1, d, c, true));
    t_ok(env, tf_tie_ports(env, g, 1, b, a, false));
    t_ok(env, tf_tie_ports(env, g, 1, c, b, true));
    t_ok(env, tf_tie_ports(env, g, 1, a, d, false)); /* says nothing new */
    t_ok(env, tf_graph_finish(env, g));
    ck_assert_int_eq(tf_class_of(g, d), tf_class_of(g, a));
    ck_assert_int_eq(g->class_port[tf_class_of(g, d)], a);
    ck_assert(!g->class_dual[a] && !g->class_dual[b] && g->class_dual[c] && !g->class_dual[d]);
    ck_assert_int_eq(tf_param_use(g, param(g, "w.weight"), 0, b), TF_USE_PRODUCED);
    ck_assert_int_eq(tf_param_use(g, param(g, "w.weight"), 0, c), TF_USE_DUAL);
    ck_assert_int_eq(tf_param_use(g, param(g, "y.weight"), 1, c), TF_USE_CONSUMED);
    ck_assert_int_eq(tf_param_use(g, param(g, "y.weight"), 1, -1), TF_USE_CONSUMED);
    t_group_is(env, g, NULL, "a", "orthogonal"); /* y reads the dual side */
    t_group_is(env, g, NULL, "e", "general linear");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* An odd cycle makes T = T^-T. */
START_TEST(test_self_dual)
{
    tf_env *env = t_env(1);
    tf_graph *g = four(env);
    const tf_id a = port(g, "w.a"), b = port(g, "w.b"), d = port(g, "w.d");
    t_ok(env, tf_tie_ports(env, g, 1, a, b, false));
    t_ok(env, tf_tie_ports(env, g, 1, a, b, true));
    t_ok(env, tf_tie_ports(env, g, 1, d, d, false));
    t_fails(env, tf_tie_ports(env, g, 1, a, port(g, "w.e"), false), TFUSE_EGRAPH, "'w.a' has 2 units and 'w.e' 3");
    t_ok(env, tf_graph_finish(env, g));
    ck_assert(g->ports[b].self_dual && !g->ports[d].self_dual);
    t_group_is(env, g, NULL, "a", "orthogonal");
    t_group_is(env, g, NULL, "d", "general linear");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_classes)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=5,3"},
        {"linear", "embed", "x", "out=/stream:4"},
        {"linear", "layer.0/up", "embed", "out=ffn:6"},
        {"activation", "layer.0/act", "layer.0/up", "kind=relu"},
        {"linear", "layer.0/down", "layer.0/act", "out=/stream:4"},
        {"add", "layer.0/add", "embed layer.0/down", ""},
        {"linear", "layer.0/left", "layer.0/add", "out=ffn:6 bias=0"}, /* another axis of the same name and scope */
        {"linear", "layer.0/right", "layer.0/add", "out=ffn:6 bias=0"},
        {"linear", "mixed", "layer.0/left", "out=/stream:4"},
        {"linear", "other", "layer.0/right", "out=/stream:4"},
        {"add", "sum", "mixed other", ""},
        {"linear", "head", "sum", "out=classes:2"},
    };
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "head");
    const tf_id stream = t_class(g, "stream"), ffn = t_class(g, "layer.0/ffn");
    ck_assert_int_eq(tf_class_extent(g, stream), 4);
    ck_assert_int_eq(tf_class_of(g, port(g, "layer.0/down.stream")), stream);
    ck_assert_int_eq(tf_class_of(g, port(g, "layer.0/up.ffn")), ffn);
    ck_assert_int_eq(t_class(g, "layer.0/ffn#2"), tf_class_of(g, port(g, "layer.0/left.ffn")));
    ck_assert_int_eq(t_class(g, "layer.0/ffn#3"), tf_class_of(g, port(g, "layer.0/right.ffn")));
    ck_assert_int_eq(t_class(g, "stream#2"), tf_class_of(g, port(g, "other.stream")));
    ck_assert_int_eq(tf_class_of(g, -1), -1);
    ck_assert(!tf_class_pinned(g, stream));
    ck_assert(tf_class_pinned(g, t_class(g, "classes"))); /* the output is read outside, whatever its builder said */
    ck_assert(tf_class_pinned(g, t_class(g, "channels")));
    ck_assert_int_eq(tf_port_producer(g, port(g, "layer.0/down.stream")), tf_graph_find_node(g, "layer.0/down"));
    ck_assert_int_eq(tf_port_producer(g, port(g, "x.channels")), -1);
    ck_assert_int_eq(tf_port_producer(g, -1), -1);
    /* classes are numbered in the order of their first ports */
    for (size_t c = 1; c < g->n_classes; c++)
        ck_assert_int_lt(g->class_port[c - 1], g->class_port[c]);
    for (size_t p = 0; p < g->n_ports; p++)
        ck_assert_int_le(g->class_port[g->class_of[p]], (int)p);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* A pinned or fixed side pins what it is tied to. */
START_TEST(test_pins)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=5,3"},    {"linear", "a", "x", "out=/s:4"},
        {"parameter", "table", "", "rows=5 of=4"},        {"add", "with", "a table", ""},
        {"linear", "b", "x", "out=/t:4"},                 {"linear", "c", "x", "out=!t:4"},
        {"add", "both", "c b", ""},                       {"linear", "y", "with", "out=y:1"},
        {"linear", "z", "both", "out=z:1"},               {"add", "sum", "y z", ""},
    };
    tf_env *env = t_env(1);
    tf_graph *g = t_graph(env, nodes, TF_LEN(nodes), "sum");
    ck_assert(tf_class_pinned(g, t_class(g, "s")));
    ck_assert(tf_class_pinned(g, t_class(g, "t")));
    ck_assert(g->ports[port(g, "b.t")].pinned);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* A map for each unit of the parent is possible only where every port of the class lies inside it. */
START_TEST(test_parents)
{
    const t_node nodes[] = {
        {"input", "x", "", "kind=features shape=5,3"},
        {"linear", "q", "x", "out=kv:2*group:3*qk:4"},
        {"linear", "k", "x", "out=kv:2*qk:4"},
        {"linear", "v", "x", "out=kv:2*vo:2"},
        {"attention", "a", "q k v", ""},
        {"linear", "o", "a", "out=/stream:3"},
        {"linear", "inside", "x", "out=h:2*u:5"},
        {"linear", "alone", "x", "out=u:5"},
        {"linear", "read", "inside", "out=/stream:3"},
        {"linear", "back", "alone", "out=/stream:3"},
        {"add", "s1", "o read", ""},
        {"add", "s2", "s1 back", ""},
    };
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "", &g));
    for (size_t i = 0; i < TF_LEN(nodes); i++)
        t_ok(env, tf_graph_add(env, g, nodes[i].op, nodes[i].name, nodes[i].inputs, nodes[i].attrs));
    t_ok(env, tf_graph_output(env, g, "s2"));
    t_ok(env, tf_tie_ports(env, g, 0, port(g, "inside.u"), port(g, "alone.u"), false));
    t_ok(env, tf_graph_finish(env, g));
    const tf_id kv = t_class(g, "kv"), group = t_class(g, "group"), qk = t_class(g, "qk"), vo = t_class(g, "vo");
    ck_assert_int_eq(tf_class_parent(g, kv), -1);
    ck_assert_int_eq(tf_class_parent(g, group), kv);
    ck_assert_int_eq(tf_class_parent(g, qk), kv); /* the keys do not lie in group */
    ck_assert_int_eq(tf_class_parent(g, vo), kv);
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "u")), -1);
    ck_assert_int_eq(tf_class_parent(g, t_class(g, "h")), -1);
    ck_assert_int_eq(tf_param_use(g, param(g, "q.weight"), 0, port(g, "q.qk")), TF_USE_PRODUCED);
    ck_assert_int_eq(tf_param_use(g, param(g, "k.weight"), 0, port(g, "k.qk")), TF_USE_DUAL);
    ck_assert_int_eq(tf_param_use(g, param(g, "k.bias"), 0, port(g, "k.qk")), TF_USE_DUAL);
    ck_assert_int_eq(tf_param_use(g, param(g, "k.weight"), 0, port(g, "k.kv")), TF_USE_PRODUCED);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* One tensor in two places, as an attribute or as an alias. */
START_TEST(test_tied)
{
    for (int alias = 0; alias < 2; alias++) {
        tf_env *env = t_env(1);
        tf_graph *g = NULL;
        t_ok(env, tf_graph_new(env, "", &g));
        t_ok(env, tf_graph_add(env, g, "input", "ids", "", "kind=tokens length=4"));
        t_ok(env, tf_graph_add(env, g, "embedding", "words", "ids", "rows=!vocab:7 of=/stream:3"));
        t_ok(env, tf_graph_add(env, g, "linear", "mix", "words", "out=/stream:3"));
        t_ok(env, tf_graph_add(env, g, "add", "sum", "words mix", ""));
        t_ok(env, tf_graph_add(env, g, "linear", "head", "sum",
                               alias ? "out=!vocab:7" : "out=!vocab:7 weight=@words.weight bias=0"));
        if (alias)
            t_ok(env, tf_graph_store(env, g, "head.weight", "alias(words.weight)"));
        t_ok(env, tf_graph_output(env, g, "head"));
        t_ok(env, tf_graph_finish(env, g));
        const tf_node *head = &g->nodes[tf_graph_find_node(g, "head")];
        ck_assert_int_eq(head->params[0], param(g, "words.weight"));
        ck_assert_int_eq(tf_class_of(g, port(g, "head.vocab")), tf_class_of(g, port(g, "words.vocab")));
        t_group_is(env, g, NULL, "stream", "orthogonal"); /* produced and consumed by one tensor */
        ck_assert_int_eq(tf_strmap_get(&g->stored_index, "head.weight"), -1);
        ck_assert_int_eq(g->stored[tf_strmap_get(&g->stored_index, "words.weight")].n_pieces, 1);
        tf_graph_free(g);
        t_env_free(env);
    }
}
END_TEST

/* A norm's gain moves by the permutation alone, a weight's bias by the map: they cannot be one tensor. */
START_TEST(test_tied_refused)
{
    const t_node nodes[] = {{"input", "x", "", "kind=features shape=5,3"},
                            {"linear", "w", "x", "out=/s:3"},
                            {"layernorm", "n", "w", "bias=@w.bias"}};
    t_refused(nodes, 3, TFUSE_EGRAPH, "layernorm 'n': dimension 0 of tensor 'w.bias' is produced in one use and neutral");
}
END_TEST

static void signature(const char *eps, const char *name, const char *stored, char out[17])
{
    char attrs[64];
    snprintf(attrs, sizeof attrs, "eps=%s", eps);
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=5,3"));
    t_ok(env, tf_graph_add(env, g, "layernorm", name, "x", attrs));
    t_ok(env, tf_graph_add(env, g, "linear", "w", name, "out=!y:2"));
    if (stored)
        t_ok(env, tf_graph_store(env, g, "w.weight", stored));
    t_ok(env, tf_graph_output(env, g, "w"));
    t_ok(env, tf_graph_finish(env, g));
    tf_graph_signature(g, out);
    ck_assert_uint_eq(strlen(out), 16);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_signature)
{
    char a[17], b[17];
    signature("1e-5", "n", NULL, a);
    signature("1e-5", "n", NULL, b);
    ck_assert_str_eq(a, b);
    signature("1e-5", "n", "elsewhere", b);
    ck_assert_str_eq(a, b);
    signature("1e-6", "n", NULL, b);
    ck_assert_str_ne(a, b);
    signature("1e-5", "m", NULL, b);
    ck_assert_str_ne(a, b);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("graph");
    T_ADD(test_refused_nodes);
    T_ADD(test_states);
    T_ADD(test_parity);
    T_ADD(test_self_dual);
    T_ADD(test_classes);
    T_ADD(test_pins);
    T_ADD(test_parents);
    T_ADD(test_tied);
    T_ADD(test_tied_refused);
    T_ADD(test_signature);
    return t_suite;
}
