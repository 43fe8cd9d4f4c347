/* SPDX-License-Identifier: Apache-2.0 */
#include "t_pair.h"
#include <stdio.h>
#include <stdlib.h>

static tf_buf saved(t_pair *p, char **dir)
{
    char path[256];
    tf_buf bytes;
    *dir = t_mkdtemp();
    snprintf(path, sizeof path, "%s/ab.plan", *dir);
    t_ok(p->env, tf_plan_save(p->env, p->plan, path, false));
    t_fails(p->env, tf_plan_save(p->env, p->plan, path, false), TFUSE_EEXIST, "--force");
    t_ok(p->env, tf_plan_save(p->env, p->plan, path, true));
    tf_buf_init(&bytes, &p->env->mem);
    t_ok(p->env, tf_read_file(p->env, path, 1 << 24, &bytes));
    return bytes;
}

static const char *const kinds[][2] = {{"solver.name", "sinkhorn"}, {"solver.name", "exact"}, {"otfusion.heads", "within"},
                                       {"otfusion.compat", "1"}, {"align.strategy", "none"}};

START_TEST(a_plan_comes_back_and_fuses_to_the_same_bits)
{
    t_pair p;
    char *dir;
    t_pair_open(&p, "ba");
    t_pair_set(&p, kinds[_i][0], kinds[_i][1]);
    t_ok(p.env, t_pair_align(&p, false));
    t_ok(p.env, t_pair_fuse(&p));
    tfuse_model *direct = p.fused;
    p.fused = NULL;
    tf_buf bytes = saved(&p, &dir);
    tf_plan_free(p.plan);
    t_ok(p.env, tf_plan_parse(p.env, "ab.plan", (const uint8_t *)bytes.data, bytes.len, &p.plan));
    t_ok(p.env, t_pair_fuse(&p));
    for (size_t i = 0; i < direct->count; i++)
        ck_assert_mem_eq(direct->tensors[i].data, p.fused->tensors[i].data, (size_t)direct->tensors[i].size);
    char *other;
    tf_buf again = saved(&p, &other);
    ck_assert_uint_eq(again.len, bytes.len);
    ck_assert_mem_eq(again.data, bytes.data, bytes.len);
    tf_buf_free(&again);
    tf_buf_free(&bytes);
    tf_model_free(direct);
    t_rmdir(dir);
    t_rmdir(other);
    t_pair_close(&p);
}
END_TEST

/* Every truncation is refused, and every flipped byte too, but for padding bits of a compressed stream, which say nothing. */
START_TEST(damage_is_refused)
{
    t_pair p;
    char *dir;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "align.strategy", "none");
    t_ok(p.env, t_pair_align(&p, false));
    tf_buf bytes = saved(&p, &dir);
    uint8_t *copy = malloc(bytes.len);
    tfuse_plan *plan;
    int padding = 0;
    for (size_t n = 0; n < bytes.len; n++) {
        memcpy(copy, bytes.data, n);
        ck_assert_int_lt(tf_plan_parse(p.env, "cut", copy, n, &plan), 0);
        ck_assert_ptr_null(plan);
    }
    for (size_t n = 0; n < bytes.len; n++) {
        memcpy(copy, bytes.data, bytes.len);
        copy[n] ^= 0x20;
        if (tf_plan_parse(p.env, "flipped", copy, bytes.len, &plan) == TFUSE_OK) {
            ck_assert_uint_eq(plan->n_maps, p.plan->n_maps);
            ck_assert(json_equal(plan->policy, p.plan->policy));
            ck_assert_str_eq(plan->models[1].weights, p.plan->models[1].weights);
            tf_plan_free(plan);
            padding++;
        }
    }
    ck_assert_int_le(padding, 3); /* one stream a chunk */
    free(copy);
    tf_buf_free(&bytes);
    t_rmdir(dir);
    t_pair_close(&p);
}
END_TEST

START_TEST(owners_come_back)
{
    t_pair p;
    char *dir, *other;
    t_pair_open(&p, "ba");
    t_pair_set(&p, "align.strategy", "none");
    t_ok(p.env, t_pair_align(&p, false));
    json_t *row = json_pack("{s:s, s:[i, i, i], s:[i, i, i]}", "axis", "layer.0/ffn", "model", 0, 1, 0, "unit", 2, -1, 0);
    ck_assert_int_eq(json_array_append(p.plan->owners, row), 0);
    json_t *told = json_pack("{s:[s], s:[{s:s, s:f, s:f}]}", "stages", "refit", "linears", "name", "layer.0/fc1", "before", 0.5, "after", 0.25);
    p.plan->repair = json_incref(told); /* null before */
    tf_buf bytes = saved(&p, &dir);
    tf_plan_free(p.plan);
    t_ok(p.env, tf_plan_parse(p.env, "ab.plan", (const uint8_t *)bytes.data, bytes.len, &p.plan));
    ck_assert_uint_eq(json_array_size(p.plan->owners), 1);
    ck_assert(json_equal(json_array_get(p.plan->owners, 0), row));
    ck_assert(json_equal(json_object_get(p.plan->repair, "linears"), json_object_get(told, "linears")));
    tf_buf again = saved(&p, &other);
    ck_assert_uint_eq(again.len, bytes.len);
    ck_assert_mem_eq(again.data, bytes.data, bytes.len);
    json_decref(row);
    json_decref(told);
    tf_buf_free(&again);
    tf_buf_free(&bytes);
    t_rmdir(dir);
    t_rmdir(other);
    t_pair_close(&p);
}
END_TEST

static tfuse_status parse_head(tf_env *env, const char *head, const void *data, size_t size)
{
    char *dir = t_mkdtemp(), path[256];
    tfuse_plan *plan;
    snprintf(path, sizeof path, "%s/x.plan", dir);
    tf_chunk chunks[] = {{"HEAD", head, strlen(head)}, {"DATA", data, size}};
    t_ok(env, tf_container_save(env, path, chunks, 2));
    tfuse_status status = tf_plan_load(env, path, &plan);
    tf_plan_free(plan);
    t_rmdir(dir);
    return status;
}

#define HEX "\"0123456789abcdef\""
#define HEAD_WITH(maps, table)                                                                                       \
    "{\"tfuse_plan\": 1, \"strategy\": \"x\", \"exact\": false, \"policy\": {}, \"passes\": [], \"models\": [[\"b\", " HEX ", " HEX ", " HEX "]," \
    " [\"a\", " HEX ", " HEX ", " HEX "]], \"maps\": [" maps "], \"table\": [" table "]}"
#define MAP(map) "{\"name\": \"n\", \"axis\": \"x\", \"model\": 1, \"solver\": \"\", \"map\": {" map "}}"

#define PERMUTATION MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 2")

START_TEST(lies_are_refused)
{
    tf_env *env = t_env(1);
    const int64_t swap[] = {1, 0}, bad[] = {1, 1};
    t_ok(env, parse_head(env, HEAD_WITH(PERMUTATION, "[1, \"w\", 0, 0, 0, true]"), swap, 16));
    t_ok(env, parse_head(env, HEAD_WITH(PERMUTATION, "], \"objective\": [[], [0.5, 1]"), swap, 16));
    t_ok(env, parse_head(env, HEAD_WITH(PERMUTATION, "], \"owners\": [{\"axis\": \"x\", \"model\": [0, 1], \"unit\": [1, -1]}"), swap, 16));
    t_ok(env, parse_head(env, HEAD_WITH(PERMUTATION, "], \"repair\": {\"linears\": [{\"name\": \"x\", \"before\": 1, \"after\": 0.5}]}, \"y\": ["), swap, 16));
    static const char *const heads[] = {
        HEAD_WITH(PERMUTATION, "], \"repair\": [1"), HEAD_WITH(PERMUTATION, "], \"repair\": {}, \"y\": ["),
        HEAD_WITH(PERMUTATION, "], \"repair\": {\"linears\": [{\"name\": \"x\", \"before\": null, \"after\": 0.5}]}, \"y\": ["),
        HEAD_WITH(PERMUTATION, "], \"owners\": [{\"model\": [0], \"unit\": [1]}"), /* no axis */
        HEAD_WITH(PERMUTATION, "], \"owners\": [{\"axis\": \"x\", \"model\": [0, 2], \"unit\": [1, 1]}"),
        HEAD_WITH(PERMUTATION, "], \"owners\": [{\"axis\": \"x\", \"model\": [0, 1], \"unit\": [1]}"),
        HEAD_WITH(PERMUTATION, "], \"owners\": [{\"axis\": \"x\", \"model\": [0], \"unit\": [-2]}"),
        HEAD_WITH(PERMUTATION, "], \"owners\": [{\"axis\": \"x\", \"model\": [0]}"), HEAD_WITH(PERMUTATION, "], \"owners\": [3"),
        "[]", "{}", "{\"tfuse_plan\": 1}",
        "{\"tfuse_plan\": 1, \"strategy\": \"x\", \"exact\": false, \"policy\": {}, \"passes\": [], \"models\": [[\"b\", " HEX ", " HEX ", " HEX
        "], [\"a\", " HEX ", " HEX ", \"\\u001b[31m\"]], \"maps\": [], \"table\": []}",
        "{\"tfuse_plan\": 1, \"strategy\": \"x\", \"exact\": false, \"policy\": {\"solver.reg\": 3}, \"passes\": [], \"models\": [[\"b\", " HEX
        ", " HEX ", " HEX "], [\"a\", " HEX ", " HEX ", " HEX "]], \"maps\": [], \"table\": []}",
        "{\"tfuse_plan\": 1, \"strategy\": \"x\", \"exact\": false, \"policy\": {}, \"passes\": [], \"models\": [[\"b\", " HEX ", " HEX ", " HEX
        "], [\"a\", " HEX ", " HEX ", " HEX "]], \"maps\": []}",
        HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 2"), "[1, \"w\", 0, 0, 1, true]"),
        HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 2"), "[2, \"w\", 0, 0, 0, true]"),
        HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 2"), "[1, \"w\", 9, 0, 0, true]"),
        HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 3"), ""),
        HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 16777216, \"m\": 16777216"), ""),
        HEAD_WITH(MAP("\"kind\": \"coupling\", \"n\": 16777216, \"m\": 16777216"), ""),
        HEAD_WITH(MAP("\"kind\": \"coupling\", \"n\": 9007199254740993, \"m\": 2"), ""),
        HEAD_WITH(MAP("\"kind\": \"coupling\", \"n\": -1, \"m\": 2"), ""),
        HEAD_WITH(MAP("\"kind\": \"spiral\", \"n\": 2, \"m\": 2"), ""),
        HEAD_WITH(MAP("\"kind\": \"block\", \"n\": 2, \"m\": 2, \"blocks_n\": 2, \"inner\": []"), ""),
        HEAD_WITH(MAP("\"kind\": \"block\", \"n\": 2, \"m\": 2, \"blocks_n\": 2, \"inner\": [null, null]"), ""),
        HEAD_WITH(MAP("\"kind\": \"identity\", \"n\": 2, \"m\": 2"), ""), /* numbers are left over */
        HEAD_WITH(PERMUTATION, "], \"objective\": [[0.5]"), HEAD_WITH(PERMUTATION, "], \"objective\": [[], 0.5"),
        HEAD_WITH(PERMUTATION, "], \"objective\": [[], [\"high\"]"),
    };
    for (size_t i = 0; i < TF_LEN(heads); i++)
        t_fails(env, parse_head(env, heads[i], swap, 16), TFUSE_EFORMAT, "x.plan");
    t_fails(env, parse_head(env, "{\"tfuse_plan\": 2}", swap, 16), TFUSE_EVERSION, "version 2");
    ck_assert_int_lt(parse_head(env, HEAD_WITH(MAP("\"kind\": \"permutation\", \"n\": 2, \"m\": 2"), ""), bad, 16), 0);
    t_env_free(env);
}
END_TEST

Suite *make_suite(void)
{
    T_SUITE("plan_file");
    tcase_add_loop_test(t_case, a_plan_comes_back_and_fuses_to_the_same_bits, 0, (int)TF_LEN(kinds));
    T_ADD(damage_is_refused);
    T_ADD(owners_come_back);
    T_ADD(lies_are_refused);
    return t_suite;
}
