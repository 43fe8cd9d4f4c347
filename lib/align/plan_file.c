/* SPDX-License-Identifier: Apache-2.0
 *
 * plan_file.c: plans in files (docs/plan-format.md): a container of two chunks, "HEAD", a JSON object, and "DATA", the numbers of the maps one
 * after the other: int64 sources and block sources, float32 matrices, little-endian. Everything that is read is
 * checked: kinds, extents, indices, sizes, references from the table to maps.
 */
#include "align/plan.h"
#include "io/io.h"
#include "num/num.h"
#include <math.h>
#include <string.h>

#define PLAN_VERSION 1
/* Bounds that no real plan reaches; they keep products of extents far from overflow. */
#define MAX_UNITS (INT64_C(1) << 24)
#define MAX_MODELS 4096

/* ---- writing ------------------------------------------------------------------------------------ */

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static tfuse_status put_map(tf_env *env, const tf_map *map, tf_buf *data, json_t **out)
{
    *out = json_pack("{s:s, s:I, s:I}", "kind", tf_map_kind_name(map->kind), "n", (json_int_t)map->n, "m",
                     (json_int_t)map->m);
    if (!*out)
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    if (map->source)
        TF_TRY(tf_buf_add(env, data, map->source, (size_t)map->m * sizeof *map->source));
    if (map->scale)
        TF_TRY(tf_buf_add(env, data, map->scale, (size_t)map->m * sizeof *map->scale));
    if (map->dense)
        TF_TRY(tf_buf_add(env, data, map->dense, (size_t)(map->n * map->m) * sizeof *map->dense));
    if (map->kind == TF_MAP_RECTANGULAR)
        TF_TRY(tf_buf_add(env, data, map->inverse, (size_t)(map->n * map->m) * sizeof *map->inverse));
    if (map->kind == TF_MAP_SELECTION && map->scale && json_object_set_new(*out, "scaled", json_true()))
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    if (map->kind != TF_MAP_BLOCK)
        return TFUSE_OK;
    TF_TRY(tf_buf_add(env, data, map->block_source, (size_t)map->blocks_m * sizeof *map->block_source));
    if (map->share && json_object_set_new(*out, "copies", json_true()))
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    json_t *inner = json_array();
    if (json_object_set_new(*out, "inner", inner) || json_object_set_new(*out, "blocks_n", json_integer(map->blocks_n)))
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    for (int64_t b = 0; b < map->blocks_m; b++) {
        json_t *one = NULL;
        tfuse_status status = TFUSE_OK;
        if (map->inner[b])
            status = put_map(env, map->inner[b], data, &one);
        if (status == TFUSE_OK && json_array_append_new(inner, one ? json_incref(one) : json_null()))
            status = tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
        json_decref(one);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

static tfuse_status put_maps(tf_env *env, const tfuse_plan *plan, tf_buf *data, json_t *maps)
{
    for (size_t i = 0; i < plan->n_maps; i++) {
        const tf_plan_map *row = &plan->maps[i];
        json_t *map = NULL, *heads = row->heads_n ? json_pack("[I, I]", (json_int_t)row->heads_n, (json_int_t)row->heads_m) : NULL;
        tfuse_status status = row->heads_n && !heads ? tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan") : put_map(env, row->map, data, &map);
        if (status == TFUSE_OK &&
            json_array_append_new(maps, json_pack("{s:s, s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:O, s:O*}", "name", row->name,
                                                  "axis", row->axis, "model", (int)row->model, "solver", row->solver,
                                                  "cost", real_or_null(row->cost), "gap", real_or_null(row->gap), "error",
                                                  real_or_null(row->error), "correlation", real_or_null(row->correlation), "kept",
                                                  real_or_null(row->kept), "iterations", (json_int_t)row->iterations,
                                                  "converged", (int)row->converged, "map", map, "heads", heads)))
            status = tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
        json_decref(heads);
        json_decref(map);
        TF_TRY(status);
    }
    return TFUSE_OK;
}

static json_t *plan_head(const tfuse_plan *plan, json_t *maps)
{
    json_t *models = json_array(), *table = json_array(), *passes = json_array();
    int failed = 0;
    for (size_t k = 0; k < plan->n_models; k++) {
        const tf_plan_model *m = &plan->models[k];
        failed |= json_array_append_new(models, json_pack("[s, s, s, s]", m->label, m->signature, m->header, m->weights));
    }
    for (size_t i = 0; i < plan->n_entries; i++) {
        const tf_plan_entry *e = &plan->entries[i];
        failed |= json_array_append_new(table, json_pack("[i, s, i, i, i, b]", (int)e->model, e->param, (int)e->dim,
                                                         (int)e->part, (int)e->map, (int)e->produced));
    }
    for (size_t i = 0; i < plan->n_passes; i++)
        failed |= json_array_append_new(passes, json_string(plan->passes[i]));
    json_t *head = json_pack("{s:i, s:s, s:b, s:b, s:O, s:O, s:o, s:o, s:O, s:o, s:O*, s:O*}", "tfuse_plan", PLAN_VERSION, "strategy", plan->strategy, "exact",
                             (int)plan->exact, "carries", (int)plan->carries, "policy", plan->policy,
                             "objective", plan->objective, "passes", passes, "models", models, "maps", maps,
                             "table", table, "owners", json_array_size(plan->owners) ? plan->owners : NULL, "repair",
                             json_is_object(plan->repair) ? plan->repair : NULL);
    if (head && !failed)
        return head;
    json_decref(head);
    return NULL;
}

tfuse_status tf_plan_save(tf_env *env, const tfuse_plan *plan, const char *path, bool force)
{
    tf_buf data;
    tf_buf_init(&data, &env->mem);
    json_t *maps = json_array(), *head = NULL;
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    if (!force && (tf_is_file(path) || tf_is_dir(path))) {
        json_decref(maps);
        return tf_fail(env, TFUSE_EEXIST, "%s exists; choose another name or give --force (io.force=1)", path);
    }
    tfuse_status status = maps ? tf_buf_reserve(env, &data, (size_t)tf_plan_map_bytes(plan)) : TFUSE_ENOMEM; /* doubling would hold it three times */
    if (status == TFUSE_OK)
        status = put_maps(env, plan, &data, maps);
    if (status == TFUSE_OK) {
        head = plan_head(plan, maps);
        status = tf_json_text(env, head, JSON_COMPACT | JSON_SORT_KEYS, &text);
    }
    if (status == TFUSE_OK) {
        tf_chunk chunks[2] = {{"HEAD", text.data, text.len}, {"DATA", data.data ? data.data : "", data.len}};
        status = tf_container_save(env, path, chunks, 2);
    }
    tf_buf_free(&text);
    json_decref(head);
    json_decref(maps);
    tf_buf_free(&data);
    return status;
}

/* ---- reading -------------------------------------------------------------------------------------- */

typedef struct reader {
    tf_env *env;
    const char *label;
    const uint8_t *data;
    uint64_t left;
} reader;

static tfuse_status malformed(const reader *r, const char *what)
{
    return tf_fail(r->env, TFUSE_EFORMAT, "%s: not a valid plan: %s", r->label, what);
}

static tfuse_status take(reader *r, void *dst, size_t size)
{
    if (size > r->left)
        return malformed(r, "the numbers of its maps are cut short");
    memcpy(dst, r->data, size);
    r->data += size;
    r->left -= size;
    return TFUSE_OK;
}

static tfuse_status take_map(reader *r, const json_t *j, int depth, tf_map **out);

/* n units onto m; unless `selects` a permutation, where they are equal. */
static tfuse_status take_units(reader *r, int64_t n, int64_t m, bool selects, bool scaled, tf_map **out)
{
    if ((uint64_t)m > r->left / 8)
        return malformed(r, "the numbers of its maps are cut short");
    int64_t *source = tf_alloc_array(r->env, (size_t)m, sizeof *source);
    if (!source)
        return TFUSE_ENOMEM;
    float *scale = scaled ? tf_alloc_array(r->env, (size_t)m, sizeof *scale) : NULL;
    tfuse_status status = scaled && !scale ? TFUSE_ENOMEM : take(r, source, (size_t)m * sizeof *source);
    if (status == TFUSE_OK && scaled)
        status = take(r, scale, (size_t)m * sizeof *scale);
    if (status == TFUSE_OK && selects)
        status = tf_map_selection(r->env, n, m, source, scale, out);
    else if (status == TFUSE_OK)
        status = scaled ? tf_map_scaled(r->env, n, source, scale, out) : tf_map_permutation(r->env, n, source, out);
    tf_free(&r->env->mem, scale);
    tf_free(&r->env->mem, source);
    return status;
}

static tfuse_status take_dense(reader *r, tf_map_kind kind, int64_t n, int64_t m, tf_map **out)
{
    size_t count = (size_t)n * (size_t)m; /* at most 2^48 */
    if (count > r->left / sizeof(float))
        return malformed(r, "the numbers of its maps are cut short");
    float *matrix = tf_alloc_array(r->env, count, sizeof *matrix);
    if (!matrix)
        return TFUSE_ENOMEM;
    tfuse_status status = take(r, matrix, count * sizeof *matrix);
    for (size_t e = 0; e < count && status == TFUSE_OK; e++)
        if (!isfinite(matrix[e]) || (kind == TF_MAP_COUPLING && matrix[e] < 0))
            status = malformed(r, kind == TF_MAP_COUPLING ? "a coupling holds a mass that is negative or not finite"
                                                          : "a matrix holds a number that is not finite");
    if (status == TFUSE_OK)
        status = kind == TF_MAP_ORTHOGONAL || kind == TF_MAP_LINEAR ? tf_map_square(r->env, kind, n, matrix, out)
                                                                    : tf_map_dense(r->env, kind, n, m, matrix, out);
    tf_free(&r->env->mem, matrix);
    return status;
}

static tfuse_status take_rectangular(reader *r, int64_t n, int64_t m, tf_map **out)
{
    const size_t count = (size_t)n * (size_t)m;
    if (count > r->left / (2 * sizeof(float)))
        return malformed(r, "the numbers of its maps are cut short");
    float *both = tf_alloc_array(r->env, 2 * count, sizeof *both);
    if (!both)
        return TFUSE_ENOMEM;
    tfuse_status status = take(r, both, 2 * count * sizeof *both);
    if (status == TFUSE_OK && tf_find_nonfinite(both, 2 * count) >= 0)
        status = malformed(r, "a rectangular map holds a number that is not finite");
    if (status == TFUSE_OK)
        status = tf_map_rectangular(r->env, n, m, both, both + count, out);
    tf_free(&r->env->mem, both);
    return status;
}

/* A block that comes several times has a share of one over their number in each. */
static tfuse_status take_shares(reader *r, tf_map *map)
{
    int64_t *copies = NULL;
    tfuse_status status = tf_map_copies(r->env, map, &copies);
    if (status == TFUSE_OK)
        status = tf_map_share(r->env, map, copies);
    tf_free(&r->env->mem, copies);
    return status;
}

static tfuse_status take_block(reader *r, const json_t *j, int64_t n, int64_t m, int depth, tf_map **out)
{
    const json_t *list = json_object_get(j, "inner");
    int64_t blocks_m = (int64_t)json_array_size(list), blocks_n = json_integer_value(json_object_get(j, "blocks_n"));
    if (depth > 0 || blocks_m < 1 || blocks_n < 1 || blocks_n > n)
        return malformed(r, "a block map without blocks");
    int64_t *source = tf_alloc_array(r->env, (size_t)blocks_m, sizeof *source);
    tf_map **inner = tf_calloc(r->env, (size_t)blocks_m, sizeof *inner);
    tfuse_status status = source && inner ? take(r, source, (size_t)blocks_m * sizeof *source) : TFUSE_ENOMEM;
    for (int64_t b = 0; b < blocks_m && status == TFUSE_OK; b++) {
        const json_t *one = json_array_get(list, (size_t)b);
        if (!json_is_null(one))
            status = take_map(r, one, depth + 1, &inner[b]);
    }
    if (status == TFUSE_OK) {
        status = tf_map_block(r->env, blocks_n, blocks_m, source, inner, out);
        if (status == TFUSE_OK && ((*out)->n != n || (*out)->m != m))
            status = malformed(r, "a block map of another size than it says");
        else if (status == TFUSE_OK && json_is_true(json_object_get(j, "copies")))
            status = take_shares(r, *out);
        if (status != TFUSE_OK)
            tf_map_free(*out), *out = NULL;
    } else if (inner) {
        for (int64_t b = 0; b < blocks_m; b++)
            tf_map_free(inner[b]);
    }
    tf_free(&r->env->mem, source);
    tf_free(&r->env->mem, inner);
    return status;
}

static tfuse_status take_map(reader *r, const json_t *j, int depth, tf_map **out)
{
    *out = NULL;
    const char *kind = json_string_value(json_object_get(j, "kind"));
    int64_t n = json_integer_value(json_object_get(j, "n")), m = json_integer_value(json_object_get(j, "m"));
    if (!kind || n < 1 || m < 1 || n > MAX_UNITS || m > MAX_UNITS)
        return malformed(r, "a map without kind or extents");
    if (!strcmp(kind, "coupling"))
        return take_dense(r, TF_MAP_COUPLING, n, m, out);
    if (!strcmp(kind, "raw"))
        return take_dense(r, TF_MAP_RAW, n, m, out);
    if (!strcmp(kind, "block"))
        return take_block(r, j, n, m, depth, out);
    if (!strcmp(kind, "rectangular"))
        return take_rectangular(r, n, m, out);
    if (!strcmp(kind, "selection"))
        return take_units(r, n, m, true, json_is_true(json_object_get(j, "scaled")), out);
    if (n != m)
        return malformed(r, "an invertible map of unequal extents");
    if (!strcmp(kind, "orthogonal"))
        return take_dense(r, TF_MAP_ORTHOGONAL, n, m, out);
    if (!strcmp(kind, "linear"))
        return take_dense(r, TF_MAP_LINEAR, n, m, out);
    if (!strcmp(kind, "identity"))
        return tf_map_identity(r->env, n, out);
    const bool scaled = !strcmp(kind, "scaled");
    if (scaled || !strcmp(kind, "permutation"))
        return take_units(r, n, n, false, scaled, out);
    return malformed(r, "a map of unknown kind");
}

static double real_or_nan(const json_t *j)
{
    return json_is_number(j) ? json_number_value(j) : (double)NAN;
}

/* The heads of a row, when it has them, divide its map. */
static tfuse_status take_heads(reader *r, const json_t *j, tf_plan_map *row)
{
    const json_t *heads = json_object_get(j, "heads");
    if (!heads)
        return TFUSE_OK;
    row->heads_n = json_integer_value(json_array_get(heads, 0));
    row->heads_m = json_integer_value(json_array_get(heads, 1));
    if (row->heads_n < 1 || row->heads_m < 1 || row->map->n % row->heads_n || row->map->m % row->heads_m)
        return malformed(r, "a map whose heads do not divide its units");
    return TFUSE_OK;
}

static tfuse_status take_maps(reader *r, const json_t *list, tfuse_plan *plan)
{
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j) {
        tf_plan_map row = {.name = json_string_value(json_object_get(j, "name")),
                           .axis = json_string_value(json_object_get(j, "axis")),
                           .solver = json_string_value(json_object_get(j, "solver")),
                           .cost = real_or_nan(json_object_get(j, "cost")),
                           .gap = real_or_nan(json_object_get(j, "gap")),
                           .error = real_or_nan(json_object_get(j, "error")),
                           .correlation = real_or_nan(json_object_get(j, "correlation")),
                           .iterations = json_integer_value(json_object_get(j, "iterations")),
                           .converged = json_is_true(json_object_get(j, "converged"))};
        json_int_t model = json_integer_value(json_object_get(j, "model"));
        if (!row.name || !row.axis || !row.solver || model < 1 || model >= (json_int_t)plan->n_models)
            return malformed(r, "a map without name, axis, solver or model");
        row.model = (int32_t)model;
        tfuse_status status = take_map(r, json_object_get(j, "map"), 0, &row.map);
        if (status == TFUSE_EINVAL || status == TFUSE_ESHAPE)
            status = tf_fail_in(r->env, TFUSE_EFORMAT, "%s: not a valid plan", r->label);
        if (status == TFUSE_OK && (status = take_heads(r, j, &row)) != TFUSE_OK)
            tf_map_free(row.map);
        TF_TRY(status);
        TF_TRY(tf_plan_add_map(r->env, plan, &row, NULL));
        double *kept = &plan->maps[plan->n_maps - 1].kept;
        *kept = isfinite(*kept) ? *kept : real_or_nan(json_object_get(j, "kept"));
    }
    return r->left ? malformed(r, "numbers are left over") : TFUSE_OK;
}

static tfuse_status take_table(const reader *r, const json_t *list, tfuse_plan *plan)
{
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j) {
        int model = 0, dim = -1, part = -1, map = -1, produced = 0;
        const char *param = NULL;
        if (json_unpack(j, "[i, s, i, i, i, b]", &model, &param, &dim, &part, &map, &produced) || model < 1 ||
            (size_t)model >= plan->n_models || dim < 0 || dim >= TF_MAX_PARAM_RANK || part < 0 || map < 0 ||
            (size_t)map >= plan->n_maps || plan->maps[map].model != model)
            return malformed(r, "a row of its table that refers to nothing");
        tf_plan_entry e = {model, param, dim, part, map, produced != 0};
        TF_TRY(tf_plan_add_entry(r->env, plan, &e));
    }
    return TFUSE_OK;
}

/* Fingerprints are 16 hexadecimal digits; nothing else reaches a report or a terminal. */
static bool copy_hex(char out[17], const char *text)
{
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    memcpy(out, text, 17);
    return true;
}

static tfuse_status take_models(const reader *r, const json_t *list, tfuse_plan *plan)
{
    for (size_t k = 0; k < plan->n_models; k++) {
        const char *label, *signature, *header, *weights;
        if (json_unpack(json_array_get(list, k), "[s, s, s, s]", &label, &signature, &header, &weights))
            return malformed(r, "a model without name and fingerprints");
        if (!(plan->models[k].label = tf_arena_strdup(r->env, &plan->arena, label)))
            return TFUSE_ENOMEM;
        if (!copy_hex(plan->models[k].signature, signature) || !copy_hex(plan->models[k].header, header) ||
            !copy_hex(plan->models[k].weights, weights))
            return malformed(r, "a fingerprint that is not 16 hexadecimal digits");
    }
    return TFUSE_OK;
}

static bool is_text_object(const json_t *j)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)j, key, value)
        if (!json_is_string(value))
            return false;
    return json_is_object(j);
}

/* Optional, and nothing that is applied. */
static tfuse_status take_objective(reader *r, const json_t *objective, tfuse_plan *plan)
{
    if (!objective)
        return TFUSE_OK;
    if (!json_is_array(objective) || json_array_size(objective) != plan->n_models)
        return malformed(r, "its objective is no list with an item for each model");
    for (size_t k = 0; k < plan->n_models; k++) {
        const json_t *rounds = json_array_get(objective, k);
        if (!json_is_array(rounds))
            return malformed(r, "its objective is no list of lists of numbers");
        for (size_t i = 0; i < json_array_size(rounds); i++) {
            if (!json_is_number(json_array_get(rounds, i)))
                return malformed(r, "its objective is no list of lists of numbers");
            TF_TRY(tf_plan_add_round(r->env, plan, (int32_t)k, json_number_value(json_array_get(rounds, i))));
        }
    }
    return TFUSE_OK;
}

static bool is_integers_from(const json_t *list, json_int_t least, json_int_t most)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
        if (!json_is_integer(item) || json_integer_value(item) < least || json_integer_value(item) > most)
            return false;
    return json_is_array(list);
}

/* Optional, and nothing that is applied. */
static tfuse_status take_owners(reader *r, const json_t *owners, tfuse_plan *plan)
{
    size_t i;
    json_t *row;
    if (owners && !json_is_array(owners))
        return malformed(r, "its owners are no list");
    json_array_foreach(owners, i, row) {
        const json_t *model = json_object_get(row, "model"), *unit = json_object_get(row, "unit");
        if (!json_is_string(json_object_get(row, "axis")) || !is_integers_from(model, 0, (json_int_t)plan->n_models - 1) ||
            !is_integers_from(unit, -1, MAX_UNITS) || json_array_size(model) != json_array_size(unit))
            return malformed(r, "a row of owners lacks axis, or a model and a unit for each unit");
        json_t *kept = json_pack("{s:O, s:O, s:O}", "axis", json_object_get(row, "axis"), "model", model, "unit", unit);
        if (json_array_append_new(plan->owners, kept))
            return tf_fail(r->env, TFUSE_ENOMEM, "out of memory for %s", r->label);
    }
    return TFUSE_OK;
}

/* As owners. Readers of the report take from it what they know. */
static tfuse_status take_repair(reader *r, json_t *repair, tfuse_plan *plan)
{
    size_t i;
    json_t *row;
    if (!repair)
        return TFUSE_OK;
    if (!json_is_object(repair) || !json_is_array(json_object_get(repair, "linears")))
        return malformed(r, "what it tells of repair is no object with linears");
    json_array_foreach(json_object_get(repair, "linears"), i, row)
        if (!json_is_string(json_object_get(row, "name")) || !json_is_number(json_object_get(row, "before")) ||
            !json_is_number(json_object_get(row, "after")))
            return malformed(r, "a linear that was repaired lacks name, before or after");
    json_decref(plan->repair);
    plan->repair = json_incref(repair);
    return TFUSE_OK;
}

static tfuse_status take_plan(reader *r, const json_t *head, tfuse_plan **out)
{
    const json_t *models = json_object_get(head, "models"), *passes = json_object_get(head, "passes");
    const json_t *policy = json_object_get(head, "policy");
    const char *strategy = json_string_value(json_object_get(head, "strategy"));
    json_int_t version = json_integer_value(json_object_get(head, "tfuse_plan"));
    if (version > PLAN_VERSION)
        return tf_fail(r->env, TFUSE_EVERSION, "%s: a plan of version %lld; this library reads up to %d", r->label,
                       (long long)version, PLAN_VERSION);
    size_t n = json_array_size(models);
    if (version < 1 || !strategy || strlen(strategy) > 64 || !json_is_boolean(json_object_get(head, "exact")) ||
        !is_text_object(policy) || !json_is_array(passes) || n < 2 ||
        n > MAX_MODELS || !json_is_array(json_object_get(head, "maps")) || !json_is_array(json_object_get(head, "table")))
        return malformed(r, "its head lacks strategy, exact, policy, passes, models, maps or table");
    TF_TRY(tf_plan_new(r->env, strategy, n, out));
    (*out)->exact = json_is_true(json_object_get(head, "exact"));
    (*out)->carries = (*out)->exact || json_is_true(json_object_get(head, "carries"));
    if (json_object_update((*out)->policy, json_object_get(head, "policy")))
        return tf_fail(r->env, TFUSE_ENOMEM, "out of memory for %s", r->label);
    for (size_t i = 0; i < json_array_size(passes); i++) {
        const char *pass = json_string_value(json_array_get(passes, i));
        if (!pass)
            return malformed(r, "a pass without a name");
        TF_TRY(tf_plan_add_pass(r->env, *out, pass));
    }
    TF_TRY(take_models(r, models, *out));
    TF_TRY(take_objective(r, json_object_get(head, "objective"), *out));
    TF_TRY(take_owners(r, json_object_get(head, "owners"), *out));
    TF_TRY(take_repair(r, json_object_get(head, "repair"), *out));
    TF_TRY(take_maps(r, json_object_get(head, "maps"), *out));
    return take_table(r, json_object_get(head, "table"), *out);
}

tfuse_status tf_plan_decode(tf_env *env, const char *label, const tf_chunk *head, const tf_chunk *data, tfuse_plan **out)
{
    reader r = {env, label, data ? data->data : NULL, data ? data->size : 0};
    json_t *j;
    *out = NULL;
    if (!head || !data)
        return malformed(&r, "it lacks a chunk");
    TF_TRY(tf_json_object(env, label, head->data, (size_t)head->size, &j));
    tfuse_status status = take_plan(&r, j, out);
    json_decref(j);
    if (status != TFUSE_OK) {
        tf_plan_free(*out);
        *out = NULL;
    }
    return status;
}

static tfuse_status from_container(tf_env *env, const char *label, const tf_container *c, tfuse_plan **out)
{
    return tf_plan_decode(env, label, tf_container_find(c, "HEAD"), tf_container_find(c, "DATA"), out);
}

tfuse_status tf_plan_parse(tf_env *env, const char *label, const uint8_t *data, uint64_t size, tfuse_plan **out)
{
    tf_container c;
    *out = NULL;
    const tf_blob src = tf_blob_memory(data, size);
    TF_TRY(tf_container_parse(env, label, &src, &c));
    tfuse_status status = from_container(env, label, &c, out);
    tf_container_free(&c);
    return status;
}

tfuse_status tf_plan_load(tf_env *env, const char *path, tfuse_plan **out)
{
    tf_container c;
    *out = NULL;
    TF_TRY(tf_container_load(env, path, &c));
    tfuse_status status = from_container(env, path, &c, out);
    tf_container_free(&c);
    return status;
}
