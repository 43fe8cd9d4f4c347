/* SPDX-License-Identifier: Apache-2.0
 *
 * Logical tensors over stored ones: expressions, reading, scattering, and the check of a model.
 *
 * Round trips are exact: values are copied, never computed with, but for sums, whose terms are small integers here.
 */
#include "t_graph.h"

/* One weight of 4 x 6 called "w.weight", one bias of 4, and the expression that stores the weight. */
static tfuse_status make(tf_env *env, const char *expression, tf_graph **out)
{
    t_ok(env, tf_graph_new(env, "toy", out));
    t_ok(env, tf_graph_store(env, *out, "w.weight", expression)); /* before the tensor exists */
    t_ok(env, tf_graph_add(env, *out, "input", "x", "", "kind=features shape=3,6"));
    t_ok(env, tf_graph_add(env, *out, "linear", "w", "x", "out=rows:4"));
    t_ok(env, tf_graph_output(env, *out, "w"));
    return tf_graph_finish(env, *out);
}

/* A sealed model with the tensors that the graph needs, numbered element by element. `block` holds the data. */
static tfuse_model *stored_model(tf_env *env, const tf_graph *g, float *block)
{
    tfuse_model *m = NULL;
    t_ok(env, tf_model_new(env, NULL, &m));
    float next = 1;
    for (size_t i = 0; i < g->n_stored; i++) {
        tf_tensor t = {.name = g->stored[i].name, .dtype = TFUSE_F32, .rank = g->stored[i].rank, .file = -1,
                       .data = (const uint8_t *)block};
        t.count = 1;
        for (int d = 0; d < t.rank; d++) {
            t.shape[d] = g->stored[i].shape[d];
            t.count *= (uint64_t)t.shape[d];
        }
        t.size = t.count * sizeof(float);
        for (uint64_t k = 0; k < t.count; k++)
            *block++ = next++;
        t_ok(env, tf_model_add(env, m, &t));
    }
    t_ok(env, tf_model_seal(env, m));
    return m;
}

/* Reads w.weight; then scatters all logical tensors into stored ones and reads it again from these: the same. Without sums the stored
 * tensors are the same too. `others` store what w.weight leaves of a stored tensor. */
static void round_trip(const char *expression, const char *const *others, int n_others, float *read)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3,6"));
    t_ok(env, tf_graph_add(env, g, "linear", "w", "x", "out=rows:4"));
    t_ok(env, tf_graph_store(env, g, "w.weight", expression));
    for (int i = 0; i < n_others; i++) {
        char name[32], tensor[48];
        snprintf(name, sizeof name, "o%d", i);
        snprintf(tensor, sizeof tensor, "o%d.weight", i);
        t_ok(env, tf_graph_add(env, g, "linear", name, "x", "out=rows:4 bias=0"));
        t_ok(env, tf_graph_store(env, g, tensor, others[i]));
    }
    t_ok(env, tf_graph_output(env, g, "w"));
    t_ok(env, tf_graph_finish(env, g));
    const tf_id w = tf_graph_find_param(g, "w.weight");
    float block[512], again[24], written[512] = {0};
    tfuse_model *m = stored_model(env, g, block);
    t_ok(env, tf_graph_check_model(env, g, m, false));
    t_ok(env, tf_param_read(env, g, m, w, read));
    float *at = written;
    tfuse_model *copy = NULL;
    t_ok(env, tf_model_new(env, NULL, &copy));
    for (size_t i = 0; i < g->n_stored; i++) {
        tf_tensor t = *tf_model_find(m, g->stored[i].name);
        tf_piece *pieces = NULL;
        int count = 0;
        t_ok(env, tf_stored_pieces(env, g, t.name, &pieces, &count));
        ck_assert_int_ge(count, 1);
        for (int k = 0; k < count; k++) {
            float logical[24];
            t_ok(env, tf_param_read(env, g, m, pieces[k].param, logical));
            tf_piece_scatter(g, &pieces[k], logical, at);
        }
        tf_free(&env->mem, pieces);
        if (!strstr(expression, "sum") && !strstr(expression, "copies"))
            ck_assert_mem_eq(at, t.data, t.size);
        t.data = (const uint8_t *)at;
        t_ok(env, tf_model_add(env, copy, &t));
        at += t.count;
    }
    t_ok(env, tf_model_seal(env, copy));
    t_ok(env, tf_param_read(env, g, copy, w, again));
    ck_assert_mem_eq(read, again, sizeof again);
    tf_model_free(copy);
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_leaves)
{
    float r[24];
    round_trip("a.weight", NULL, 0, r);
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
    round_trip("shape(a.weight,2,2,6,1,1)", NULL, 0, r);
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
    const char *rest[] = {"part(a,0,0,3)", "part(a,0,2,3)"};
    round_trip("part(a,0,1,3)", rest, 2, r); /* rows 4..7 of 12 x 6 */
    ck_assert_float_eq(r[0], 25);
    ck_assert_float_eq(r[23], 48);
    const char *beside[] = {"within(a,2,0,3)", "within(a,2,2,3)"};
    round_trip("within(a,2,1,3)", beside, 2, r); /* of 12 x 6: rows 2, 3, 8 and 9 */
    ck_assert_float_eq(r[0], 13);
    ck_assert_float_eq(r[12], 49);
    const char *left[] = {"slice(a,1,0,6,12)"};
    round_trip("slice(a,1,6,6,12)", left, 1, r); /* columns 6..11 of 4 x 12 */
    ck_assert_float_eq(r[0], 7);
    ck_assert_float_eq(r[6], 19);
    ck_assert_float_eq(r[23], 48);
}
END_TEST

START_TEST(test_transpose)
{
    float r[24];
    round_trip("transpose(a)", NULL, 0, r); /* stored 6 x 4 */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            ck_assert_float_eq(r[i * 6 + j], (float)(j * 4 + i + 1));
    const char *other[] = {"transpose(part(a,1,1,2))"};
    round_trip("transpose(part(a,1,0,2))", other, 1, r); /* columns 0..3 of 6 x 8 */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            ck_assert_float_eq(r[i * 6 + j], (float)(j * 8 + i + 1));
    round_trip("transpose(transpose(a))", NULL, 0, r);
    ck_assert_float_eq(r[1], 2);
}
END_TEST

START_TEST(test_stack)
{
    float r[24];
    round_trip("stack(a,b,c,d)", NULL, 0, r); /* rows */
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
    round_trip("transpose(stack(a,b,c,d,e,f))", NULL, 0, r); /* columns of 4 */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            ck_assert_float_eq(r[i * 6 + j], (float)(j * 4 + i + 1));
    round_trip("stack(part(a,0,0,2),part(a,0,1,2),b,shape(c,6,1))", NULL, 0, r); /* one tensor under two heads of a stack */
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
}
END_TEST

START_TEST(test_sum)
{
    float r[24];
    round_trip("sum(a,b)", NULL, 0, r);
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(2 * i + 26));
    round_trip("sum(stack(a,b,c,d),transpose(e),shape(f,24))", NULL, 0, r);
    ck_assert_float_eq(r[0], 1 + 25 + 49);
    ck_assert_float_eq(r[1], 2 + 29 + 50);
}
END_TEST

/* The first is read, all are written. */
START_TEST(test_copies)
{
    float r[24];
    round_trip("copies(a,b)", NULL, 0, r);
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, make(env, "copies(a,b)", &g));
    ck_assert_uint_eq(g->n_stored, 3);
    const tf_stored *b = &g->stored[tf_strmap_get(&g->stored_index, "b")];
    float logical[24], stored[24] = {0};
    t_fill(logical, 24, 1);
    ck_assert_int_eq(b->n_pieces, 1);
    tf_piece_scatter(g, &b->pieces[0], logical, stored);
    ck_assert_mem_eq(logical, stored, sizeof stored);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* Experts apart, in both directions of a matrix, and stacked. */
START_TEST(test_experts)
{
    float r[24];
    round_trip("join(0,a,b)", NULL, 0, r); /* 2 x 6 each */
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1));
    round_trip("join(1,a,b,c)", NULL, 0, r); /* 4 x 2 each */
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i / 6 * 2 + i % 2 + 8 * (i % 6 / 2) + 1));
    round_trip("join(1,item(s,0,3,3,4,2),item(s,1,3,3,4,2),item(s,2,3,3,4,2))", NULL, 0, r);
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i / 6 * 2 + i % 2 + 8 * (i % 6 / 2) + 1));
    const char *rest[] = {"join(0,item(s,1,4,2,4,6),item(s,3,4,2,4,6))"};
    round_trip("join(0,item(s,0,4,2,4,6),item(s,2,4,2,4,6))", rest, 1, r); /* one half of each of two items of 4 x 6 */
    for (int i = 0; i < 24; i++)
        ck_assert_float_eq(r[i], (float)(i + 1 + (i < 12 ? 0 : 12)));
}
END_TEST

static void refused(const char *expression, const char *piece)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    tfuse_status status = make(env, expression, &g);
    ck_assert_msg(status != TFUSE_OK, "%s was taken", expression);
    ck_assert_msg(strstr(env->error, piece) && strstr(env->error, "w.weight"), "%s gave: %s", expression, env->error);
    t_fails(env, tf_graph_finish(env, g), TFUSE_ESTATE, "unusable");
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_refused)
{
    static const char *const bad[][2] = {
        {"", "a name is missing"},
        {"a)", "left over"},
        {"a,b", "left over"},
        {"part(a,0,0)", "part takes"},
        {"part(a,0,3,3)", "no such part"},
        {"part(a,2,0,3)", "no such dimension"},
        {"part(a,0,0,9223372036854775807)", "no such part"},
        {"part(a,0,0,1000000000000000000)", "larger than memory"},
        {"part(a,0,0,99999999999999999999)", "too large"},
        {"part(a,0,x,3)", "a number is missing"},
        {"slice(a,0,0,3,8)", "count is not"},
        {"slice(a,0,5,4,8)", "does not fit"},
        {"slice(a,0,9223372036854775807,4,8)", "does not fit"},
        {"shape(a,5,5)", "another number of elements"},
        {"shape(a,1,1,1,1,1,1,1,1,24)", "too many numbers"},
        {"stack(a,b,c)", "stack's length"},
        {"transpose(stack(a,b,c))", "stack's length"},
        {"stack(transpose(a),b,c,d)", "only a matrix"},
        {"sum(alias(w.bias),a)", "inside another"},
        {"alias(w.weight)", "alias itself"},
        {"alias(nothing)", "does not have"},
        {"alias(w.bias)", "another shape"},
        {"within(a,3,0,2)", "no such part"},
        {"within(a,2,2,2)", "no such part"},
        {"within(a,2,0)", "within takes"},
        {"item(a,0,2,4,6)", "no such item"},
        {"item(a,2,2,2,4,6)", "no such item"},
        {"item(a,0)", "item takes"},
        {"join(0,a,b,c)", "no multiple"},
        {"join(2,a,b)", "join takes"},
        {"join(a,b)", "join takes"},
        {"scale(a,2)", "only shape"},
        {"transpose(a", "')' is missing"},
        {"transpose(transpose(transpose(transpose(transpose(transpose(transpose(transpose(transpose(a)))))))))", "too deep"},
        {"sum(a,a)", "as another tensor is"},
        {"slice(a,0,0,4,8)", "lies behind it"},
        {"slice(a,0,4,4,8)", "lies before it"},
        {"sum(part(a,0,0,2),part(a,1,1,2))", "another shape"},
    };
    for (size_t i = 0; i < TF_LEN(bad); i++)
        refused(bad[i][0], bad[i][1]);
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_fails(env, make(env, "w.bias", &g), TFUSE_EGRAPH, "'w.bias', which another tensor takes to be of another shape");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_rules)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_store(env, g, "w.weight", "a"));
    t_fails(env, tf_graph_store(env, g, "w.weight", "b"), TFUSE_EGRAPH, "'b'");
    t_fails(env, tf_graph_store(env, g, "w\n", "b"), TFUSE_EINVAL, "control");
    t_ok(env, tf_graph_store(env, g, "w.gain", "c"));
    t_ok(env, tf_graph_add(env, g, "input", "x", "", "kind=features shape=3,6"));
    t_ok(env, tf_graph_add(env, g, "linear", "w", "x", "out=rows:4"));
    t_ok(env, tf_graph_output(env, g, "w"));
    t_fails(env, tf_graph_finish(env, g), TFUSE_ENOTFOUND, "no tensor 'w.gain' to be stored as 'c'");
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

/* ---- checking models ------------------------------------------------------------------------------------ */

typedef struct spec {
    const char *name;
    tfuse_dtype dtype;
    int64_t rows, cols; /* cols 0: a vector */
} spec;

static tfuse_model *model_of(tf_env *env, const spec *specs, size_t n)
{
    static const float zeros[64];
    tfuse_model *m = NULL;
    t_ok(env, tf_model_new(env, "{\"model_type\": \"toy\"}", &m));
    for (size_t i = 0; i < n; i++) {
        const spec *s = &specs[i];
        tf_tensor t = {.name = s->name, .dtype = s->dtype, .rank = s->cols ? 2 : 1, .shape = {s->rows, s->cols}, .file = -1,
                       .data = (const uint8_t *)zeros};
        t_ok(env, tf_model_add(env, m, &t));
    }
    t_ok(env, tf_model_seal(env, m));
    return m;
}

static void problem(const spec *specs, size_t n, tfuse_status status, const char *piece)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, make(env, "a", &g));
    tfuse_model *m = model_of(env, specs, n);
    t_fails(env, tf_graph_check_model(env, g, m, false), status, piece);
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}

START_TEST(test_check_model)
{
    const spec good[] = {{"a", TFUSE_BF16, 4, 6}, {"w.bias", TFUSE_F64, 4, 0}};
    const spec missing[] = {{"a", TFUSE_F32, 4, 6}};
    const spec shape[] = {{"a", TFUSE_F32, 4, 5}, {"w.bias", TFUSE_F32, 4, 0}};
    const spec rank[] = {{"a", TFUSE_F32, 4, 6}, {"w.bias", TFUSE_F32, 4, 1}};
    const spec dtype[] = {{"a", TFUSE_I32, 4, 6}, {"w.bias", TFUSE_F32, 4, 0}};
    const spec extra[] = {{"a", TFUSE_F32, 4, 6}, {"w.bias", TFUSE_F32, 4, 0}, {"z.7.mask", TFUSE_I64, 4, 0}};
    problem(missing, 1, TFUSE_ENOTFOUND, "no tensor 'w.bias'; config.json asks for it, with shape [4]");
    problem(shape, 2, TFUSE_ESHAPE, "'a' has shape [4, 5], config.json asks for [4, 6]");
    problem(rank, 2, TFUSE_ESHAPE, "'w.bias' has shape [4, 1]");
    problem(dtype, 2, TFUSE_EDTYPE, "'a' is of type I32");
    problem(extra, 3, TFUSE_EFORMAT, "'z.7.mask' is not part of a toy model; remove it or set io.extra=copy");
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, make(env, "a", &g));
    tfuse_model *m = model_of(env, good, 2), *more = model_of(env, extra, 3);
    t_ok(env, tf_graph_check_model(env, g, m, false));
    t_ok(env, tf_graph_check_model(env, g, more, true));
    tf_model_free(m);
    tf_model_free(more);
    const spec bad[] = {{"a", TFUSE_F32, 4, 5}, {"x", TFUSE_F32, 1, 0}, {"y", TFUSE_F32, 1, 0}};
    m = model_of(env, bad, 3);
    tf_buf lines;
    tf_buf_init(&lines, &env->mem);
    t_ok(env, tf_graph_list_problems(env, g, m, false, &lines));
    int count = 0;
    for (size_t i = 0; i < lines.len; i++)
        count += lines.data[i] == '\n';
    ck_assert_int_eq(count, 4);
    tf_buf_free(&lines);
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_buffers)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, tf_graph_new(env, "toy", &g));
    t_ok(env, tf_graph_buffer(env, g, "h.*.attn.mask"));
    t_ok(env, tf_graph_buffer(env, g, "ids"));
    t_fails(env, tf_graph_buffer(env, g, "a*b*"), TFUSE_EINVAL, "at most one");
    t_fails(env, tf_graph_buffer(env, g, ""), TFUSE_EINVAL, "at most one");
    ck_assert(tf_graph_is_buffer(g, "h.0.attn.mask"));
    ck_assert(tf_graph_is_buffer(g, "ids"));
    ck_assert(!tf_graph_is_buffer(g, "ids2"));
    ck_assert(!tf_graph_is_buffer(g, "h.attn.mask"));
    ck_assert(!tf_graph_is_buffer(g, "h.0.attn.masks"));
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

START_TEST(test_nonfinite)
{
    tf_env *env = t_env(1);
    tf_graph *g = NULL;
    t_ok(env, make(env, "sum(a,b)", &g));
    float block[64], dst[24];
    tfuse_model *m = stored_model(env, g, block);
    const tf_id w = tf_graph_find_param(g, "w.weight");
    block[3] = block[27] = 3e38f; /* both terms are finite, their sum is not */
    t_fails(env, tf_param_read(env, g, m, w, dst), TFUSE_ENUMERIC, "w.weight");
    block[3] = NAN;
    t_fails(env, tf_param_read(env, g, m, w, dst), TFUSE_ENUMERIC, "'a'");
    tf_model_free(m);
    tf_graph_free(g);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("naming");
    T_ADD(test_leaves);
    T_ADD(test_transpose);
    T_ADD(test_stack);
    T_ADD(test_sum);
    T_ADD(test_copies);
    T_ADD(test_experts);
    T_ADD(test_refused);
    T_ADD(test_rules);
    T_ADD(test_check_model);
    T_ADD(test_buffers);
    T_ADD(test_nonfinite);
    return t_suite;
}
