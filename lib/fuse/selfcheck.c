/* SPDX-License-Identifier: Apache-2.0
 *
 * selfcheck.c: does what the plan does to each model leave its function as it was? Looked at by running it: on the first of the calibration
 * inputs, or without them on a few random ones, the outputs of a model's canonical form (the passes that the plan names) and of its aligned
 * form (its own weights, carried by the plan's maps through the code that fuses) stand beside those of the model as it is. The deviation is the
 * largest difference over the largest output. Last the fused network itself runs, fitted weights and all: its outputs must be numbers.
 *
 * The canonical form is always exact. The aligned form is where no map loses anything (they are invertible, or lead to more units) and the plan says that
 * they act alike on both sides of every axis (plan->exact); the maps of the paper do not, and then the deviation is told and judges
 * nothing. Soft maps and maps to fewer units have no aligned form of the same function, so there is nothing to compare.
 */
#include "fuse/fuse.h"
#include "base/rng.h"
#include "passes/passes.h"
#include "run/run.h"
#include <math.h>
#include <string.h>

enum { SAMPLES = TF_SELFCHECK_SAMPLES, TOKENS = 16 };

#define TOLERANCE TF_SELFCHECK_TOLERANCE

/* ---- the probe ----------------------------------------------------------------------------------------- */

static void fill_probe(const tf_graph *g, tfuse_array *a)
{
    const tf_value *v = &g->values[g->inputs[0]];
    const int64_t ids = v->integer ? tf_inputs_vocabulary(g, g->inputs[0]) : 0;
    tf_rng rng = tf_rng_make(0, "selfcheck");
    for (size_t i = 0; i < a->count; i++) {
        if (v->integer)
            ((int32_t *)a->data)[i] = (int32_t)tf_rng_below(&rng, (uint64_t)ids);
        else
            ((float *)a->data)[i] = (float)tf_rng_normal(&rng);
    }
}

void tf_selfcheck_extents(const tf_graph *g, int64_t *out)
{
    const tf_value *v = &g->values[g->inputs[0]];
    for (int d = 0; d < v->rank; d++)
        out[d] = v->extent[d] ? v->extent[d] : TOKENS;
}

tfuse_status tf_selfcheck_probe(tf_env *env, const tf_graph *g, tfuse_array **out)
{
    const tf_value *v = &g->values[g->inputs[0]];
    int64_t shape[TF_MAX_DIMS + 1] = {SAMPLES};
    tf_selfcheck_extents(g, shape + 1);
    TF_TRY(tf_array_new(env, v->integer ? TFUSE_I32 : TFUSE_F32, (size_t)v->rank + 1, shape, out));
    fill_probe(g, *out);
    return TFUSE_OK;
}

/* The first samples of sequences, and of each no more than its first TOKENS: outputs of whole windows may be larger than the model. What is named
 * beside them (masks) stays behind: without it all of them count, to the model and to its forms alike. */
static tfuse_status cut_sequences(tf_env *env, const tfuse_array *from, tfuse_array **out)
{
    int64_t shape[TF_MAX_DIMS + 1];
    size_t row = tf_dtype_size(from->dtype);
    for (size_t d = 0; d < from->rank; d++)
        shape[d] = from->shape[d];
    for (size_t d = 2; d < from->rank; d++)
        row *= (size_t)shape[d];
    shape[0] = shape[0] < SAMPLES ? shape[0] : SAMPLES;
    shape[1] = shape[1] < TOKENS ? shape[1] : TOKENS;
    TF_TRY(tf_array_new(env, from->dtype, from->rank, shape, out));
    for (int64_t i = 0; i < shape[0]; i++)
        memcpy((char *)(*out)->data + (size_t)(i * shape[1]) * row, (const char *)from->data + (size_t)(i * from->shape[1]) * row, (size_t)shape[1] * row);
    return TFUSE_OK;
}

/* *probe: borrowed from the calibration inputs, or *made, which the caller frees. */
static tfuse_status find_probe(tf_env *env, const tf_graph *g, const tfuse_array *calib, tfuse_array **made, const tfuse_array **probe)
{
    const tf_value *v = &g->values[g->inputs[0]];
    const bool sequences = v->rank > 0 && v->extent[0] == 0;
    *probe = calib;
    if (calib && (!sequences || calib->rank != (size_t)v->rank + 1 || calib->rank > TF_MAX_DIMS))
        return TFUSE_OK; /* what does not fit is told when it is run */
    TF_TRY(calib ? cut_sequences(env, calib, made) : tf_selfcheck_probe(env, g, made));
    *probe = *made;
    return TFUSE_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------------------- */

typedef struct outputs {
    float *x; /* freed by tf_free */
    size_t count;
} outputs;

/* A node's weights at a time: a model of any size can be checked. The inputs are normalised as model m says, whose name is `who`. */
static tfuse_status run_weights(tf_env *env, const tf_graph *g, const tfuse_model *m, const char *who, const tf_weights *weights,
                                const tfuse_array *probe, outputs *out)
{
    tf_inputs in;
    out->x = NULL;
    TF_TRY(tf_inputs_make(env, g, m, probe, SAMPLES, &in));
    TF_TRY(tf_run_lazily(env, g, weights, &in, &out->x, &out->count));
    if (tf_find_nonfinite(out->x, out->count) < 0)
        return TFUSE_OK;
    tf_free(&env->mem, out->x);
    out->x = NULL;
    return tf_fail(env, TFUSE_ENUMERIC, "self-check: the outputs of %s become NaN or infinite on the inputs that it is tried on; nothing is written", who);
}

static tfuse_status run_view(tf_env *env, const tf_view *view, const tfuse_array *probe, outputs *out)
{
    const tf_weights weights = tf_weights_of_view(view);
    return run_weights(env, view->g, view->m, tf_model_label(view->m), &weights, probe, out);
}

static tfuse_status run_model(tf_env *env, const tf_graph *g, const tfuse_model *m, const tfuse_array *probe, outputs *out)
{
    tf_view *view;
    TF_TRY(tf_view_root(env, g, m, &view));
    tfuse_status status = run_view(env, view, probe, out);
    tf_view_free(view);
    return status;
}

static double deviation(const outputs *a, const outputs *b)
{
    double most = 0, size = 0;
    if (a->count != b->count)
        return INFINITY;
    for (size_t i = 0; i < a->count; i++) {
        most = fmax(most, fabs((double)a->x[i] - (double)b->x[i]));
        size = fmax(size, fabs((double)a->x[i]));
    }
    return size > 0 ? most / size : most > 0 ? INFINITY : 0;
}

/* ---- the two forms of a model --------------------------------------------------------------------------------- */

typedef struct check {
    tf_env *env;
    const tf_fuse_job *job;
    const tfuse_array *probe;
    outputs was; /* of the model as it is */
} check;

static tfuse_status judge(const check *c, size_t k, const char *form, double found)
{
    if (found <= TOLERANCE)
        return TFUSE_OK;
    return tf_fail(c->env, TFUSE_ENUMERIC,
                   "self-check: %s computes another function in its %s form: outputs deviate by %.3g of the largest, more than %g; "
                   "nothing is written, since the plan is wrong for it",
                   tf_model_label(c->job->models[k]), form, found, TOLERANCE);
}

static tfuse_status check_canonical(const check *c, size_t k, double *found)
{
    const tf_fuse_job *job = c->job;
    tf_canonical form;
    outputs now = {NULL, 0};
    TF_TRY(tf_canonical_make(c->env, job->graphs[k], job->models[k], job->plan->passes, (int)job->plan->n_passes, &form));
    tfuse_status status = run_view(c->env, tf_canonical_top(&form), c->probe, &now);
    tf_canonical_free(&form);
    if (status == TFUSE_OK) {
        *found = deviation(&c->was, &now);
        status = judge(c, k, "canonical", *found);
    }
    tf_free(&c->env->mem, now.x);
    return status;
}

bool tf_selfcheck_aligns(const tfuse_plan *plan, size_t k)
{
    bool moved = false;
    for (size_t i = 0; i < plan->n_maps; i++) {
        if ((size_t)plan->maps[i].model != k)
            continue;
        if (!tf_map_is_lossless(plan->maps[i].map))
            return false;
        moved = true;
    }
    return moved;
}

/* ---- weights of a fusion ---- */

typedef struct carried {
    const tf_fusion *fusion;
    const tf_graph *g;
} carried;

static tfuse_status carried_whole(tf_env *env, void *arg, tf_id param, float **x)
{
    const carried *c = arg;
    *x = tf_alloc_array(env, (size_t)tf_param_count(&c->g->params[param]), sizeof **x);
    const tfuse_status status = *x ? tf_fusion_param(env, c->fusion, param, *x) : TFUSE_ENOMEM;
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *x);
        *x = NULL;
    }
    return status;
}

static tfuse_status carried_have_rows(tf_env *env, void *arg, tf_id param, bool *out)
{
    return tf_fusion_has_rows(env, ((const carried *)arg)->fusion, param, out);
}

static tfuse_status carried_rows(tf_env *env, void *arg, tf_id param, int64_t first, int64_t n, float *dst)
{
    return tf_fusion_rows(env, ((const carried *)arg)->fusion, param, first, n, dst);
}

/* The fusion that the job describes, on inputs as model k takes them. */
static tfuse_status run_fusion(const check *c, const tf_fuse_job *job, size_t k, const char *who, outputs *out)
{
    tf_fuse_job quiet = *job;
    tf_fusion *fusion;
    quiet.quiet = true;
    out->x = NULL;
    TF_TRY(tf_fusion_new(c->env, &quiet, &fusion));
    carried from = {fusion, job->graphs[0]};
    const tf_weights weights = {&from, carried_whole, carried_have_rows, carried_rows};
    const tfuse_status status = run_weights(c->env, job->graphs[0], job->models[k], who, &weights, c->probe, out);
    tf_fusion_free(fusion);
    return status;
}

/* The model alone, carried to the anchor: a fusion in which only it counts, and nothing that was fitted. */
static tfuse_status check_aligned(const check *c, size_t k, double *found)
{
    tf_env *env = c->env;
    tf_fuse_job job = *c->job;
    outputs now = {NULL, 0};
    double *only = tf_calloc(env, job.n, sizeof *only);
    if (!only)
        return TFUSE_ENOMEM;
    only[k] = 1;
    job.weights = only;
    job.fitted = NULL;
    tfuse_status status = run_fusion(c, &job, k, tf_model_label(job.models[k]), &now);
    tf_free(&env->mem, only);
    if (status == TFUSE_OK) {
        *found = deviation(&c->was, &now);
        status = job.plan->exact ? judge(c, k, "aligned", *found) : TFUSE_OK;
    }
    tf_free(&env->mem, now.x);
    return status;
}

/* A map that loses what the model computes cannot be in an exact plan. */
static tfuse_status check_claim(tf_env *env, const tfuse_plan *plan)
{
    for (size_t i = 0; i < plan->n_maps && plan->exact; i++)
        if (!tf_map_is_lossless(plan->maps[i].map))
            return tf_fail(env, TFUSE_ENUMERIC,
                           "self-check: the plan claims that each model computes what it did, but its map %s is a %s of %lld units onto %lld, "
                           "which has no inverse; nothing is written, align again", plan->maps[i].name,
                           tf_map_kind_name(plan->maps[i].map->kind), (long long)plan->maps[i].map->n, (long long)plan->maps[i].map->m);
    return TFUSE_OK;
}

static tfuse_status check_fused(const check *c)
{
    outputs now;
    TF_TRY(run_fusion(c, c->job, 0, "the fused network", &now));
    tf_free(&c->env->mem, now.x);
    return TFUSE_OK;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static tfuse_status check_one(check *c, size_t k, json_t *rows, bool *compared)
{
    const tf_fuse_job *job = c->job;
    const bool canonical = job->plan->n_passes > 0, aligned = tf_selfcheck_aligns(job->plan, k);
    double found[2] = {(double)NAN, (double)NAN};
    if (canonical || aligned)
        TF_TRY(run_model(c->env, job->graphs[k], job->models[k], c->probe, &c->was));
    tfuse_status status = canonical ? check_canonical(c, k, &found[0]) : TFUSE_OK;
    if (status == TFUSE_OK && aligned)
        status = check_aligned(c, k, &found[1]);
    tf_free(&c->env->mem, c->was.x);
    c->was.x = NULL;
    TF_TRY(status);
    *compared = *compared || canonical || (aligned && job->plan->exact);
    if (json_array_append_new(rows, json_pack("{s:s, s:o, s:o}", "name", tf_model_label(job->models[k]), "canonical", number(found[0]),
                                              "aligned", number(found[1]))))
        return tf_fail(c->env, TFUSE_ENOMEM, "out of memory for the report of the self-check");
    return TFUSE_OK;
}

tfuse_status tf_fuse_selfcheck(tf_env *env, const tf_fuse_job *job, const tfuse_array *calib, json_t **report)
{
    check c = {.env = env, .job = job};
    tfuse_array *made = NULL;
    bool compared = false;
    json_t *rows = json_array();
    tfuse_status status = rows ? TFUSE_OK : tf_fail(env, TFUSE_ENOMEM, "out of memory for the report of the self-check");
    *report = NULL;
    if (status == TFUSE_OK)
        status = check_claim(env, job->plan);
    if (status == TFUSE_OK && job->graphs[0]->output >= 0)
        status = find_probe(env, job->graphs[0], calib, &made, &c.probe);
    for (size_t k = 0; k <= job->n && status == TFUSE_OK && c.probe; k++) {
        status = tf_progress(env, "checking", k, job->n + 1);
        if (status == TFUSE_OK)
            status = k < job->n ? check_one(&c, k, rows, &compared) : check_fused(&c);
    }
    const bool ran = c.probe != NULL;
    const int64_t samples = ran && c.probe->rank && c.probe->shape[0] < SAMPLES ? c.probe->shape[0] : SAMPLES;
    tf_array_free(made);
    if (status == TFUSE_OK) {
        *report = json_pack("{s:s, s:b, s:f, s:I, s:s?, s:s?, s:O}", "result", compared ? "passed" : "nothing to compare", "exact", (int)job->plan->exact,
                            "tolerance", TOLERANCE, "samples", (json_int_t)samples, "probe", !ran ? NULL : calib ? "calibration" : "random", "fused",
                            ran ? "finite" : NULL, "models", rows);
        if (!*report)
            status = tf_fail(env, TFUSE_ENOMEM, "out of memory for the report of the self-check");
    }
    json_decref(rows);
    return status;
}
