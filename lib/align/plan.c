/* SPDX-License-Identifier: Apache-2.0
 *
 * plan.c: the plan as an object, and its report.
 */
#include "align/plan.h"
#include <math.h>
#include <string.h>

tfuse_status tf_plan_new(tf_env *env, const char *strategy, size_t n_models, tfuse_plan **out)
{
    *out = NULL;
    tfuse_plan *plan = tf_calloc(env, 1, sizeof *plan);
    if (!plan)
        return TFUSE_ENOMEM;
    plan->kind = TF_KIND_PLAN;
    plan->mem = env->mem;
    tf_arena_init(&plan->arena, &env->mem);
    plan->strategy = tf_arena_strdup(env, &plan->arena, strategy);
    plan->models = tf_arena_array(env, &plan->arena, n_models, sizeof *plan->models);
    plan->n_models = n_models;
    plan->policy = json_object();
    plan->objective = json_array();
    plan->owners = json_array();
    plan->repair = json_null();
    int failed = !plan->objective;
    for (size_t k = 0; k < n_models && !failed; k++)
        failed = json_array_append_new(plan->objective, json_array());
    if (!plan->strategy || !plan->models || !plan->policy || !plan->owners || failed) {
        tf_plan_free(plan);
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan of %zu models", n_models);
    }
    for (size_t k = 0; k < n_models; k++)
        plan->models[k].label = "";
    *out = plan;
    return TFUSE_OK;
}

void tf_plan_free(tfuse_plan *plan)
{
    if (!plan)
        return;
    tf_mem mem = plan->mem;
    for (size_t i = 0; i < plan->n_maps; i++)
        tf_map_free(plan->maps[i].map);
    tf_free(&mem, plan->maps);
    tf_free(&mem, plan->entries);
    json_decref(plan->policy);
    json_decref(plan->objective);
    json_decref(plan->owners);
    json_decref(plan->repair);
    tf_arena_free(&plan->arena);
    tf_free(&mem, plan);
}

bool tf_plan_is_lossless(const tfuse_plan *plan, size_t k)
{
    for (size_t i = 0; i < plan->n_maps; i++)
        if ((size_t)plan->maps[i].model == k && !tf_map_is_lossless(plan->maps[i].map))
            return false;
    return true;
}

uint64_t tf_plan_map_bytes(const tfuse_plan *plan)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->n_maps; i++)
        bytes += tf_map_bytes(plan->maps[i].map);
    return bytes;
}

/* The last part of its path, so that equal inputs give equal bytes wherever they lie; printable, as it goes into JSON and onto terminals. */
static const char *model_name(tf_env *env, tf_arena *arena, const tfuse_model *m)
{
    char printable[256];
    char *path = tf_arena_strdup(env, arena, *m->path ? m->path : tf_model_label(m));
    if (!path)
        return NULL;
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    return tf_arena_strdup(env, arena, tf_printable(printable, sizeof printable, tf_path_base(path)));
}

tfuse_status tf_plan_describe_model(tf_env *env, tf_arena *arena, const tfuse_model *m, const tf_graph *g, tf_plan_model *out)
{
    if (!(out->label = model_name(env, arena, m)))
        return TFUSE_ENOMEM;
    tf_graph_signature(g, out->signature);
    return tf_model_hash(env, m, out->header, out->weights);
}

tfuse_status tf_plan_add_map(tf_env *env, tfuse_plan *plan, const tf_plan_map *row, int32_t *index)
{
    tf_plan_map copy = *row;
    copy.name = tf_arena_strdup(env, &plan->arena, row->name);
    copy.axis = tf_arena_strdup(env, &plan->arena, row->axis);
    copy.solver = tf_arena_strdup(env, &plan->arena, row->solver);
    copy.kept = tf_map_is_lossless(row->map) ? 1 : (double)NAN;
    void *maps = plan->maps;
    if (!copy.name || !copy.axis || !copy.solver ||
        !tf_grow(env, &maps, &plan->cap_maps, plan->n_maps + 1, sizeof *plan->maps)) {
        tf_map_free(row->map);
        return TFUSE_ENOMEM;
    }
    plan->maps = maps;
    if (index)
        *index = (int32_t)plan->n_maps;
    plan->maps[plan->n_maps++] = copy;
    return TFUSE_OK;
}

tfuse_status tf_plan_add_entry(tf_env *env, tfuse_plan *plan, const tf_plan_entry *entry)
{
    void *entries = plan->entries;
    if (!tf_grow(env, &entries, &plan->cap_entries, plan->n_entries + 1, sizeof *plan->entries))
        return TFUSE_ENOMEM;
    plan->entries = entries;
    tf_plan_entry copy = *entry;
    if (!(copy.param = tf_arena_strdup(env, &plan->arena, entry->param)))
        return TFUSE_ENOMEM;
    plan->entries[plan->n_entries++] = copy;
    return TFUSE_OK;
}

tfuse_status tf_plan_add_pass(tf_env *env, tfuse_plan *plan, const char *pass)
{
    const char **grown = tf_arena_array(env, &plan->arena, plan->n_passes + 1, sizeof *grown);
    if (!grown || !(grown[plan->n_passes] = tf_arena_strdup(env, &plan->arena, pass)))
        return TFUSE_ENOMEM;
    if (plan->n_passes)
        memcpy(grown, plan->passes, plan->n_passes * sizeof *grown);
    plan->passes = grown;
    plan->n_passes++;
    return TFUSE_OK;
}

tfuse_status tf_plan_add_round(tf_env *env, tfuse_plan *plan, int32_t model, double objective)
{
    if (json_array_append_new(json_array_get(plan->objective, (size_t)model), json_real(objective)))
        return tf_fail(env, TFUSE_ENOMEM, "out of memory for a plan");
    return TFUSE_OK;
}

/* ---- report ----------------------------------------------------------------------------------- */

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* For each head of the anchor its shares of the model's heads; null where units are in no heads. */
static json_t *head_rows(tf_env *env, const tf_plan_map *row)
{
    if (!row->heads_n)
        return json_null();
    double *shares = tf_alloc_array(env, (size_t)(row->heads_n * row->heads_m), sizeof *shares);
    json_t *rows = shares ? json_array() : NULL;
    if (rows)
        tf_map_head_shares(row->map, row->heads_n, row->heads_m, shares);
    for (int64_t g = 0; rows && g < row->heads_m; g++) {
        json_t *one = json_array();
        int failed = json_array_append_new(rows, one);
        for (int64_t s = 0; s < row->heads_n && !failed; s++)
            failed = json_array_append_new(one, json_real(shares[g * row->heads_n + s]));
        if (failed) {
            json_decref(rows);
            rows = NULL;
        }
    }
    tf_free(&env->mem, shares);
    return rows;
}

static json_t *map_row(tf_env *env, const tf_plan_map *row)
{
    json_t *axis = json_string(row->axis);
    return json_pack("{s:s, s:i, s:o, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o}", "name", row->name, "model",
                     (int)row->model, "axis", axis, "kind", tf_map_kind_name(row->map->kind), "solver", row->solver,
                     "n", (json_int_t)row->map->n, "m", (json_int_t)row->map->m, "cost", number(row->cost), "gap",
                     number(row->gap), "error", number(row->error), "correlation", number(row->correlation), "kept", number(row->kept),
                     "identity", number(tf_map_off_identity(row->map)), "entropy", number(tf_map_spread(row->map)), "iterations",
                     (json_int_t)row->iterations, "converged", (int)row->converged, "heads", head_rows(env, row));
}

static json_t *model_row(const tf_plan_model *m)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "name", m->label, "graph", m->signature, "header", m->header, "weights",
                     m->weights);
}

static json_t *entry_row(const tfuse_plan *plan, const tf_plan_entry *e)
{
    return json_pack("{s:i, s:s, s:i, s:i, s:s, s:s}", "model", (int)e->model, "tensor", e->param, "dim", (int)e->dim,
                     "part", (int)e->part, "map", plan->maps[e->map].name, "side", e->produced ? "produced" : "consumed");
}

tfuse_status tf_plan_report(tf_env *env, const tfuse_plan *plan, json_t **out)
{
    json_t *maps = json_array(), *table = json_array(), *models = json_array(), *passes = json_array();
    int failed = !maps || !table || !models || !passes;
    for (size_t i = 0; i < plan->n_maps && !failed; i++)
        failed |= json_array_append_new(maps, map_row(env, &plan->maps[i]));
    for (size_t i = 0; i < plan->n_entries && !failed; i++)
        failed |= json_array_append_new(table, entry_row(plan, &plan->entries[i]));
    for (size_t k = 0; k < plan->n_models && !failed; k++)
        failed |= json_array_append_new(models, model_row(&plan->models[k]));
    for (size_t i = 0; i < plan->n_passes && !failed; i++)
        failed |= json_array_append_new(passes, json_string(plan->passes[i]));
    /* json_pack takes over what is given with 'o', also when it fails. */
    *out = json_pack("{s:s, s:b, s:b, s:O, s:O, s:O, s:O, s:o, s:o, s:o, s:o}", "strategy", plan->strategy, "exact", (int)plan->exact, "carries",
                     (int)plan->carries, "policy", plan->policy, "objective", plan->objective, "owners", plan->owners, "repair",
                     plan->repair, "models", models,
                     "passes", passes, "maps", maps, "table", table);
    if (*out && !failed)
        return TFUSE_OK;
    json_decref(*out);
    *out = NULL;
    return tf_fail(env, TFUSE_ENOMEM, "out of memory for the report of a plan");
}
