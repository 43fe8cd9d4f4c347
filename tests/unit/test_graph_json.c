/* SPDX-License-Identifier: Apache-2.0
 *
 * A graph as JSON: round trips keep text and signature; hostile text is refused; every allocation may fail.
 */
#include "t_graph.h"

static const char good[] =
    "{\"tfuse_graph\": 1, \"arch\": \"toy\", \"nodes\": ["
    "{\"op\": \"input\", \"name\": \"x\", \"inputs\": \"\", \"attrs\": \"kind=features shape=4,3\"},"
    "{\"op\": \"linear\", \"name\": \"embed\", \"inputs\": \"x\", \"attrs\": \"out=/stream:4\"},"
    "{\"op\": \"layernorm\", \"name\": \"l/norm\", \"inputs\": \"embed\", \"attrs\": \"eps=1e-6\"},"
    "{\"op\": \"linear\", \"name\": \"l/qkv\", \"inputs\": \"l/norm\", \"attrs\": \"out=heads:2*(q=qk:3|k=qk:3|v=vo:4)\"},"
    "{\"op\": \"split\", \"name\": \"l/q\", \"inputs\": \"l/qkv\", \"attrs\": \"label=q\"},"
    "{\"op\": \"split\", \"name\": \"l/k\", \"inputs\": \"l/qkv\", \"attrs\": \"label=k\"},"
    "{\"op\": \"split\", \"name\": \"l/v\", \"inputs\": \"l/qkv\", \"attrs\": \"label=v\"},"
    "{\"op\": \"attention\", \"name\": \"l/core\", \"inputs\": \"l/q l/k l/v\", \"attrs\": \"\"},"
    "{\"op\": \"linear\", \"name\": \"l/out\", \"inputs\": \"l/core\", \"attrs\": \"out=/stream:4\"},"
    "{\"op\": \"add\", \"name\": \"sum\", \"inputs\": \"embed l/out\", \"attrs\": \"residual=embed\"},"
    "{\"op\": \"linear\", \"name\": \"head\", \"inputs\": \"sum\", \"attrs\": \"out=!classes:3\"},"
    "{\"op\": \"linear\", \"name\": \"twin\", \"inputs\": \"sum\", \"attrs\": \"out=!classes:3 bias=0\"},"
    "{\"op\": \"add\", \"name\": \"both\", \"inputs\": \"head twin\", \"attrs\": \"\"}],"
    "\"output\": \"both\","
    "\"tensors\": {\"twin.weight\": \"alias(head.weight)\", \"l/qkv.weight\": \"transpose(h.0.attn.w)\","
    "\"embed.weight\": \"sum(e,stack(part(d,0,0,4),part(d,0,1,4),part(d,0,2,4),part(d,0,3,4)))\"},"
    "\"buffers\": [\"h.*.mask\"]}";

static tfuse_status parse(tf_env *env, const char *text, tf_graph **out)
{
    return tf_graph_from_json(env, "g.json", text, strlen(text), out);
}

START_TEST(test_round_trip)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL, *again = NULL;
    tf_buf text, second;
    char a[17], b[17];
    tf_buf_init(&text, &env->mem);
    tf_buf_init(&second, &env->mem);
    t_ok(env, parse(env, good, &g));
    t_ok(env, tf_graph_to_json(env, g, &text));
    t_ok(env, tf_graph_from_json(env, "again", text.data, text.len, &again));
    t_ok(env, tf_graph_to_json(env, again, &second));
    ck_assert_str_eq(text.data, second.data);
    tf_graph_signature(g, a);
    tf_graph_signature(again, b);
    ck_assert_str_eq(a, b);
    ck_assert_str_eq(again->arch, "toy");
    ck_assert_uint_eq(again->n_nodes, 13);
    ck_assert_uint_eq(again->n_stored, g->n_stored);
    ck_assert(tf_graph_is_buffer(again, "h.3.mask"));
    ck_assert_ptr_nonnull(strstr(text.data, "transpose(h.0.attn.w)"));
    tf_buf_free(&text);
    tf_buf_free(&second);
    tf_graph_free(g);
    tf_graph_free(again);
    t_env_free(env);
}
END_TEST

/* `good` with the first `from` replaced. */
static char *with(const char *from, const char *to)
{
    const char *at = strstr(good, from);
    ck_assert_msg(at != NULL, "no %s", from);
    char *text = malloc(sizeof good + strlen(to));
    sprintf(text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return text;
}

START_TEST(test_hostile)
{
    static const struct {
        const char *from, *to;
        tfuse_status status;
        const char *piece;
    } bad[] = {
        {"{\"tfuse_graph\": 1", "[{\"tfuse_graph\": 1", TFUSE_EFORMAT, "not valid JSON"},
        {"{\"tfuse_graph\": 1", "{\"tfuse_graph\": 2", TFUSE_EVERSION, "version 2"},
        {"{\"tfuse_graph\": 1", "{\"tfuse_graph\": \"1\"", TFUSE_EFORMAT, "'tfuse_graph' of the graph is of the wrong type"},
        {"\"arch\": \"toy\",", "", TFUSE_EFORMAT, "the graph has no key 'arch'"},
        {"\"arch\": \"toy\"", "\"arch\": \"t\\u0007oy\"", TFUSE_EINVAL, "control character"},
        {"\"arch\": \"toy\"", "\"arch\": \"toy\", \"arch\": \"toy\"", TFUSE_EFORMAT, "arch"},
        {"\"arch\": \"toy\"", "\"arch\": \"toy\", \"more\": 1", TFUSE_EFORMAT, "unknown key 'more'"},
        {"\"arch\": \"toy\"", "\"arch\": \"a\\u0000b\"", TFUSE_EFORMAT, "not valid JSON"},
        {"\"op\": \"input\"", "\"op\": 3", TFUSE_EFORMAT, "'op' of a node"},
        {"\"op\": \"input\"", "\"op\": \"in\\nput\"", TFUSE_ENOTFOUND, "no operation"},
        {"\"op\": \"input\", ", "", TFUSE_EFORMAT, "a node has no key 'op'"},
        {"{\"op\": \"input\",", "7,{\"op\": \"input\",", TFUSE_EFORMAT, "a node is not an object"},
        {"\"inputs\": \"embed\"", "\"inputs\": \"later\"", TFUSE_ENOTFOUND, "layernorm 'l/norm': no value 'later'"},
        {"\"inputs\": \"embed\"", "\"inputs\": \"l/norm\"", TFUSE_ENOTFOUND, "no value 'l/norm'"},
        {"\"name\": \"embed\"", "\"name\": \"x\"", TFUSE_EGRAPH, "one of this name"},
        {"out=/stream:4", "out=/stream:5", TFUSE_ESHAPE, "differ in shape"},
        {"heads:2*(q", "heads:2*(((((((((((q", TFUSE_EINVAL, "too deep"},
        {"\"output\": \"both\"", "\"output\": \"nothing\"", TFUSE_ENOTFOUND, "'nothing'"},
        {"\"twin.weight\": \"alias", "\"twin.bias\": \"alias", TFUSE_ENOTFOUND, "no tensor 'twin.bias'"},
        {"\"alias(head.weight)\"", "5", TFUSE_EFORMAT, "'tensors' is not a string"},
        {"\"alias(head.weight)\"", "\"head.weight\"", TFUSE_EGRAPH, "alias(...)"},
        {"part(d,0,3,4)", "part(d,0,2,4)", TFUSE_EGRAPH, "'d'"},
        {"[\"h.*.mask\"]", "[[]]", TFUSE_EFORMAT, "'buffers' is not a string"},
        {"[\"h.*.mask\"]", "[\"*.*\"]", TFUSE_EINVAL, "at most one"},
        {"[\"h.*.mask\"]", "{}", TFUSE_EFORMAT, "'buffers' of the graph is of the wrong type"},
    };
    tf_env *env = t_env(1);
    for (size_t i = 0; i < TF_LEN(bad); i++) {
        char *text = with(bad[i].from, bad[i].to);
        tf_graph *g = NULL;
        t_fails(env, parse(env, text, &g), bad[i].status, bad[i].piece);
        ck_assert_ptr_eq(strstr(env->error, "g.json: "), env->error);
        ck_assert_ptr_null(g);
        free(text);
    }
    t_env_free(env);
}
END_TEST

/* Cut off anywhere, or with any byte changed: an error or a graph, no crash and no leak. */
START_TEST(test_damaged)
{
    tf_env *env = t_env(1);
    static const char bytes[] = "\"{}[],:*|()=!/9\x01\xff";
    for (size_t i = 0; i + 1 < sizeof good; i++) {
        tf_graph *g = NULL;
        char copy[sizeof good];
        ck_assert_int_ne(tf_graph_from_json(env, "cut", good, i, &g), TFUSE_OK);
        memcpy(copy, good, sizeof good);
        copy[i] = bytes[i % (sizeof bytes - 1)];
        if (tf_graph_from_json(env, "changed", copy, sizeof copy - 1, &g) == TFUSE_OK) {
            tf_group groups[64];
            ck_assert_uint_le(g->n_classes, TF_LEN(groups));
            t_ok(env, tf_groups(env, g, NULL, groups));
        }
        tf_graph_free(g);
    }
    t_env_free(env);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------- */

typedef struct meter {
    long left, live;
} meter;

static void *meter_alloc(void *user, size_t size, size_t align)
{
    meter *m = user;
    if (m->left-- <= 0)
        return NULL;
    m->live++;
    return tf_mem_default.alloc(NULL, size, align);
}

static void meter_free(void *user, void *ptr, size_t size, size_t align)
{
    meter *m = user;
    m->live--;
    tf_mem_default.free(NULL, ptr, size, align);
}

static tfuse_status use_all(tf_env *env)
{
    static const float zeros[64];
    tf_graph *g = NULL;
    tfuse_model *m = NULL;
    tf_view *root = NULL, *above = NULL;
    tf_group groups[64];
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status;
    TF_TRY_OUT(tf_graph_from_json(env, "g.json", good, sizeof good - 1, &g));
    TF_TRY_OUT(tf_graph_to_json(env, g, &text));
    TF_TRY_OUT(tf_model_new(env, NULL, &m));
    for (size_t i = 0; i < g->n_stored; i++) {
        tf_tensor t = {.name = g->stored[i].name, .dtype = TFUSE_F16, .rank = g->stored[i].rank, .file = -1,
                       .data = (const uint8_t *)zeros};
        memcpy(t.shape, g->stored[i].shape, sizeof t.shape);
        TF_TRY_OUT(tf_model_add(env, m, &t));
    }
    TF_TRY_OUT(tf_model_seal(env, m));
    TF_TRY_OUT(tf_graph_check_model(env, g, m, false));
    TF_TRY_OUT(tf_view_root(env, g, m, &root));
    TF_TRY_OUT(tf_view_above(env, root, "p.1", &above));
    const tf_id head = tf_graph_find_param(g, "head.bias"), w = tf_graph_find_param(g, "embed.weight");
    const tf_step scale = {TF_STEP_SCALE, 0, head, -1, 0, NULL}, centre = {.kind = TF_STEP_CENTRE};
    TF_TRY_OUT(tf_view_add(env, above, head, &scale));
    TF_TRY_OUT(tf_view_add(env, above, w, &centre));
    for (size_t i = 0; i < g->n_params; i++) {
        float *x = NULL;
        TF_TRY_OUT(tf_view_load(env, above, (tf_id)i, &x));
        tf_free(&env->mem, x);
    }
    TF_TRY_OUT(tf_groups(env, g, above, groups));
    for (size_t i = 0; i < g->n_stored; i++) {
        tf_piece *pieces = NULL;
        int count = 0;
        TF_TRY_OUT(tf_stored_pieces(env, g, g->stored[i].name, &pieces, &count));
        tf_free(&env->mem, pieces);
    }
out:
    tf_buf_free(&text);
    tf_view_free(above);
    tf_view_free(root);
    tf_model_free(m);
    tf_graph_free(g);
    return status;
}

START_TEST(test_no_memory)
{
    tfuse_status status = TFUSE_ENOMEM;
    long failed = 0;
    for (; status != TFUSE_OK; failed++) {
        meter m = {failed, 0};
        tf_mem mem = {sizeof mem, &m, meter_alloc, meter_free};
        tf_env env;
        tf_env_init(&env, &mem);
        status = use_all(&env);
        ck_assert_msg(status == TFUSE_OK || status == TFUSE_ENOMEM, "allocation %ld gave %d: %s", failed, (int)status, env.error);
        ck_assert_msg(status == TFUSE_OK || strstr(env.error, "memory"), "allocation %ld: %s", failed, env.error);
        ck_assert_msg(m.live == 0, "allocation %ld left %ld blocks", failed, m.live);
    }
    ck_assert_int_gt(failed, 50);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("graph_json");
    T_ADD(test_round_trip);
    T_ADD(test_hostile);
    T_ADD(test_damaged);
    T_ADD(test_no_memory);
    return t_suite;
}
