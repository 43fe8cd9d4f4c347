/* SPDX-License-Identifier: Apache-2.0
 *
 * run.c: splitting and joining from end to end, and what is told of it.
 */
#include "moe/moe.h"
#include <math.h>

static tfuse_status no_report(tf_env *env)
{
    return tf_fail(env, TFUSE_ENOMEM, "out of memory for a report");
}

/* Three numbers by the names of the splits. */
static json_t *by_split(const double *x)
{
    json_t *out = json_object();
    for (int k = 0; out && k < TF_SPLITS; k++)
        if (json_object_set_new(out, tf_split_names[k], isfinite(x[k]) ? json_real(x[k]) : json_null())) {
            json_decref(out);
            return NULL;
        }
    return out;
}

/* Errors over sizes; null where nothing was run. */
static json_t *shares(const double *error, double size)
{
    double x[TF_SPLITS];
    for (int k = 0; k < TF_SPLITS; k++)
        x[k] = error[k] / size;
    return size > 0 ? by_split(x) : json_null();
}

static json_t *ffn_row(const tf_moe *s, size_t i, const tf_moe_found *found)
{
    const tf_moe_found *f = &found[i];
    return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o}", "name", s->dense->nodes[s->ffns[i].dense.key].name, "units", (json_int_t)s->ffns[i].dense.units,
                     "iterations", (json_int_t)f->iterations, "swaps", (json_int_t)f->swaps, "spread", by_split(f->spread), "error",
                     shares(f->error, f->size));
}

/* Means over FFNs of spread and error. */
static void mean_of(const tf_moe *s, const tf_moe_found *found, double *spread, double *error)
{
    for (int k = 0; k < TF_SPLITS; k++) {
        spread[k] = error[k] = 0;
        for (size_t i = 0; i < s->n; i++) {
            spread[k] += found[i].spread[k] / (double)s->n;
            error[k] += found[i].error[k] / found[i].size / (double)s->n;
        }
    }
}

static const char *weights_of(const tf_moe *s)
{
    return s->down == 1 ? "one" : s->how.top_k == s->how.experts ? "equal" : "nearly equal";
}

static tfuse_status make_report(tf_env *env, const tf_moe *s, const tf_moe_found *found, const double *outputs, double deviation, json_t **report)
{
    double spread[TF_SPLITS], error[TF_SPLITS];
    json_t *rows = json_array();
    int failed = !rows;
    for (size_t i = 0; i < s->n && !failed; i++)
        failed = json_array_append_new(rows, ffn_row(s, i, found));
    mean_of(s, found, spread, error);
    *report = failed ? NULL
                     : json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:O}", "layout", s->layout, "split",
                                 tf_split_names[tf_policy_choice(s->policy, "moe.split")], "experts", (json_int_t)s->how.experts, "top_k",
                                 (json_int_t)s->how.top_k, "weights", weights_of(s), "selfcheck", isnan(deviation) ? json_null() : json_real(deviation),
                                 "spread", by_split(spread), "error", shares(error, outputs ? 1 : 0), "output_error",
                                 outputs ? by_split(outputs) : json_null(), "ffns", rows);
    json_decref(rows);
    return *report ? TFUSE_OK : no_report(env);
}

/* ---- notes ---- */

static json_t *order_list(const tf_moe_ffn *f)
{
    json_t *list = json_array();
    for (int64_t j = 0; list && j < f->dense.units; j++)
        if (json_array_append_new(list, json_integer((json_int_t)f->order[j]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static tfuse_status make_notes(tf_env *env, tf_moe *s)
{
    json_t *order = json_object();
    int failed = !order;
    for (size_t i = 0; i < s->n && !failed; i++)
        failed = json_object_set_new(order, s->dense->nodes[s->ffns[i].dense.key].name, order_list(&s->ffns[i]));
    s->notes = failed ? NULL
                      : json_pack("{s:i, s:s, s:I, s:I, s:f, s:O, s:O}", "version", 1, "layout", s->layout, "experts", (json_int_t)s->how.experts, "top_k",
                                  (json_int_t)s->how.top_k, "down", s->down, "config", s->model->config, "order", order);
    json_decref(order);
    return s->notes ? TFUSE_OK : no_report(env);
}

/* ---- from end to end ---- */

static tfuse_status write_out(tf_env *env, const tf_moe *s, const char *out, tfuse_model **made)
{
    return out ? tf_moe_to_checkpoint(env, s, out) : tf_moe_to_model(env, s, made);
}

static tfuse_status tell_and_write(tf_env *env, const tf_moe *s, json_t *report, const char *out, tfuse_model **made, tf_moe_tell tell, void *arg)
{
    TF_TRY(report ? tell(env, report, arg) : no_report(env));
    return write_out(env, s, out, made);
}

static tfuse_status split(tf_env *env, tf_moe *s, const tfuse_array *calib, tf_moe_found *found, const char *out, tfuse_model **made, tf_moe_tell tell,
                          void *arg)
{
    json_t *report = NULL;
    double outputs[TF_SPLITS], deviation = (double)NAN;
    if (calib) {
        TF_TRY(tf_moe_errors(env, s, calib, found));
        TF_TRY(tf_moe_output_errors(env, s, calib, found, outputs));
    }
    tf_moe_take(s, found, tf_policy_choice(s->policy, "moe.split"));
    TF_TRY(tf_moe_scale_routers(env, s));
    if (tf_policy_flag(s->policy, "fuse.selfcheck"))
        TF_TRY(tf_moe_selfcheck(env, s, &deviation));
    TF_TRY(make_notes(env, s));
    TF_TRY(make_report(env, s, found, calib ? outputs : NULL, deviation, &report));
    const tfuse_status status = tell_and_write(env, s, report, out, made, tell, arg);
    json_decref(report);
    return status;
}

tfuse_status tf_moe_split(tf_env *env, const tfuse_policy *policy, const tf_solver_registry *solvers, const tfuse_model *m, const tfuse_array *calib,
                          const char *out, tfuse_model **made, tf_moe_tell tell, void *arg)
{
    tf_moe s;
    tf_moe_found *found = NULL;
    TF_TRY(tf_moe_open(env, policy, solvers, m, &s));
    tfuse_status status = tf_moe_check_memory(env, &s, calib, !out);
    if (status == TFUSE_OK)
        status = tf_moe_find(env, &s, &found);
    if (status == TFUSE_OK)
        status = split(env, &s, calib, found, out, made, tell, arg);
    tf_moe_found_free(env, &s, found);
    tf_moe_close(env, &s);
    return status;
}

tfuse_status tf_moe_join(tf_env *env, const tfuse_policy *policy, const tfuse_model *m, const char *out, tfuse_model **made, tf_moe_tell tell, void *arg)
{
    tf_moe s;
    json_t *report = NULL;
    TF_TRY(tf_moe_open_back(env, policy, m, &s));
    tfuse_status status = tf_moe_check_memory(env, &s, NULL, !out);
    if (status == TFUSE_OK) {
        report = json_pack("{s:s, s:I, s:I, s:I, s:b}", "layout", s.layout, "experts", (json_int_t)s.how.experts, "top_k", (json_int_t)s.how.top_k,
                           "ffns", (json_int_t)s.n, "ordered", (int)s.ordered);
        status = tell_and_write(env, &s, report, out, made, tell, arg);
    }
    json_decref(report);
    tf_moe_close(env, &s);
    return status;
}
