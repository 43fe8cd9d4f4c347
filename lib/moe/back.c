/* SPDX-License-Identifier: Apache-2.0
 *
 * back.c: a split model's experts side by side in one FFN again. In the authors' layout the config says what the dense model is; in the others the
 * notes do that are written beside a split model, without which the experts of a mixture are not known to be parts of one FFN. The notes also hold
 * the order of the hidden units: with it the dense model's own tensors come back, without it they are in the experts' order.
 */
#include "arch/arch.h"
#include "arch/layouts.h"
#include "base/file.h"
#include "moe/moe.h"
#include "ops/ops.h"
#include <string.h>

enum { MOST_NOTES = 1 << 30 };

static tfuse_status wrong_notes(tf_env *env, const tf_moe *s, const char *what)
{
    return tf_fail(env, TFUSE_EFORMAT, "%s: " TF_MOE_NOTES ": %s", tf_model_label(s->model), what);
}

/* NULL where there are none. */
static tfuse_status read_notes(tf_env *env, const tf_moe *s, json_t **out)
{
    *out = NULL;
    char *path = s->model->dir ? tf_path_join(env, s->model->dir, TF_MOE_NOTES) : NULL;
    if (!path)
        return s->model->dir ? TFUSE_ENOMEM : TFUSE_OK;
    tfuse_status status = tf_is_file(path) ? tf_json_file(env, path, MOST_NOTES, out) : TFUSE_OK;
    tf_free(&env->mem, path);
    if (status == TFUSE_OK && *out && json_integer_value(json_object_get(*out, "version")) != 1)
        status = wrong_notes(env, s, "is of a version that is not known");
    return status;
}

static tfuse_status build_from(tf_env *env, const json_t *config, tf_graph **out)
{
    tfuse_model *described = NULL;
    tf_buf text;
    tf_buf_init(&text, &env->mem);
    tfuse_status status = tf_json_text(env, config, JSON_COMPACT, &text);
    if (status == TFUSE_OK)
        status = tf_model_new(env, text.data, &described);
    if (status == TFUSE_OK)
        status = tf_graph_build_unchecked(env, described, out);
    tf_model_free(described);
    tf_buf_free(&text);
    return status;
}

/* The order of one FFN from the notes: a permutation of its units. */
static tfuse_status take_order(tf_env *env, const tf_moe *s, const json_t *orders, tf_moe_ffn *f)
{
    const int64_t units = f->dense.units;
    const json_t *list = json_object_get(orders, s->dense->nodes[f->dense.key].name);
    if (!list)
        return TFUSE_OK;
    bool *seen = tf_calloc(env, (size_t)units, sizeof *seen);
    bool fits = seen && (int64_t)json_array_size(list) == units;
    for (int64_t j = 0; fits && j < units; j++) {
        const json_int_t u = json_integer_value(json_array_get(list, (size_t)j));
        fits = json_is_integer(json_array_get(list, (size_t)j)) && u >= 0 && u < units && !seen[u];
        if (fits) {
            seen[u] = true;
            f->order[j] = u;
        }
    }
    const bool out_of_memory = !seen;
    tf_free(&env->mem, seen);
    return fits ? TFUSE_OK : out_of_memory ? TFUSE_ENOMEM : wrong_notes(env, s, "an order is no permutation of the hidden units");
}

static tfuse_status find_ffns(tf_env *env, tf_moe *s, const json_t *notes)
{
    size_t n_routed;
    TF_TRY(tf_moe_pair(env, s, &n_routed));
    if (s->n != n_routed || n_routed == 0)
        return wrong_notes(env, s, "the dense model that it describes has other feed-forward networks");
    for (size_t i = 0; i < s->n; i++)
        TF_TRY(take_order(env, s, json_object_get(notes, "order"), &s->ffns[i]));
    s->ordered = json_is_object(json_object_get(notes, "order"));
    return TFUSE_OK;
}

/* What the notes say of a mixture whose experts weigh equal shares. */
static tfuse_status open_described(tf_env *env, tf_moe *s, const json_t *notes)
{
    json_t *config = json_object_get(notes, "config");
    const json_t *down = json_object_get(notes, "down"), *top_k = json_object_get(notes, "top_k");
    if (!notes)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: there is no " TF_MOE_NOTES " beside config.json, as a split model has; the experts of another mixture "
                       "are no parts of one dense network", tf_model_label(s->model));
    if (!json_is_object(config) || !json_is_number(down) || !(json_number_value(down) > 0) || json_integer_value(top_k) < 1)
        return wrong_notes(env, s, "config, down or top_k is missing or wrong");
    s->down = json_number_value(down);
    s->how.top_k = json_integer_value(top_k);
    s->config = json_incref(config);
    return build_from(env, s->config, &s->dense);
}

static tfuse_status open_back(tf_env *env, tf_moe *s, const json_t *notes)
{
    bool split = false;
    TF_TRY(tf_emoe_read(env, s->model, &split, &s->how));
    TF_TRY(tf_graph_build(env, s->model, tf_policy_is(s->policy, "io.extra", "copy"), &s->routed));
    if (split) {
        s->layout = "emoe";
        TF_TRY(tf_graph_build_dense(env, s->model, &s->dense));
        TF_TRY(tf_layout_dense_config(env, s->model, &s->config));
        return find_ffns(env, s, notes);
    }
    bool mixture = false;
    for (size_t i = 0; i < s->routed->n_nodes; i++)
        mixture = mixture || s->routed->nodes[i].op == &tf_op_route;
    if (!mixture)
        return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: is dense already: it has no experts", tf_model_label(s->model));
    s->layout = s->routed->arch;
    TF_TRY(open_described(env, s, notes));
    return find_ffns(env, s, notes);
}

tfuse_status tf_moe_open_back(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, tf_moe *out)
{
    json_t *notes = NULL;
    *out = (tf_moe){.policy = policy, .model = m, .back = true, .layout = "", .down = 1};
    tfuse_status status = read_notes(env, out, &notes);
    if (status == TFUSE_OK)
        status = open_back(env, out, notes);
    json_decref(notes);
    if (status != TFUSE_OK)
        tf_moe_close(env, out);
    else if (out->n)
        out->how.experts = out->ffns[0].routed.experts;
    return status;
}
