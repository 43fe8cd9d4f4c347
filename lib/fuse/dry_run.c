/* SPDX-License-Identifier: Apache-2.0
 *
 * dry_run.c: a run looked at from headers alone. Every check goes on after a failure and appends a line to the list; what a
 * failure makes senseless (pairing a model that could not be opened) is left out.
 */
#include "arch/arch.h"
#include "fuse/fuse.h"
#include "graph/naming.h"
#include "io/io.h"
#include "num/array.h"
#include "num/num.h"
#include "io/writer_files.h"
#include "run/run.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct dry {
    tf_env *env;
    const tf_dry_run *what;
    tf_buf problems;
    tfuse_model **models; /* NULL where one could not be opened */
    tf_graph **graphs;
    tf_mapping *zeros; /* of those that are a config alone */
    tfuse_array *calib;
    tfuse_plan *plan;
    uint64_t peak, read, write;
    bool fit;   /* tensors and calibration are what the graphs ask for */
    bool sized; /* peak and write are known */
} dry;

/* A failure becomes a line; only a lack of memory ends the dry run. */
static tfuse_status note(dry *d, tfuse_status status)
{
    const tf_align_job list = {.problems = &d->problems};
    return tf_align_note(d->env, &list, status);
}

/* ---- models ----------------------------------------------------------------------------------- */

static tfuse_dtype planned_dtype(const tfuse_model *m)
{
    static const struct {
        const char *name;
        tfuse_dtype dtype;
    } types[] = {{"bfloat16", TFUSE_BF16}, {"float16", TFUSE_F16}, {"float64", TFUSE_F64}};
    const json_t *named = json_object_get(m->config, "dtype");
    const char *name = json_string_value(named ? named : json_object_get(m->config, "torch_dtype"));
    for (size_t i = 0; name && i < TF_LEN(types); i++)
        if (!strcmp(types[i].name, name))
            return types[i].dtype;
    return TFUSE_F32;
}

/* A config alone: the model becomes one with the tensors that its graph asks for, all zeros (some passes look at norms). */
static tfuse_status imagine(dry *d, size_t k)
{
    tf_env *env = d->env;
    const tf_graph *g = d->graphs[k];
    tfuse_model *from = d->models[k], *m = NULL;
    const tfuse_dtype dtype = planned_dtype(from);
    uint64_t largest = 1;
    for (size_t i = 0; i < g->n_stored; i++) {
        size_t count = 0, bytes = 0;
        TF_TRY(tf_shape_count(env, dtype, (size_t)g->stored[i].rank, g->stored[i].shape, &count, &bytes));
        largest = bytes > largest ? bytes : largest;
    }
    TF_TRY(tf_map_zeros(env, largest, &d->zeros[k]));
    tfuse_status status = tf_model_new(env, from->config_text, &m);
    for (size_t i = 0; i < g->n_stored && status == TFUSE_OK; i++) {
        const tf_stored *s = &g->stored[i];
        tf_tensor t = {.name = s->name, .dtype = dtype, .rank = s->rank, .file = -1, .data = d->zeros[k].data};
        size_t count = 0, bytes = 0;
        memcpy(t.shape, s->shape, sizeof t.shape);
        status = tf_shape_count(env, dtype, (size_t)s->rank, s->shape, &count, &bytes);
        t.count = count;
        t.size = bytes;
        d->read += bytes;
        if (status == TFUSE_OK)
            status = tf_model_add(env, m, &t);
    }
    if (status == TFUSE_OK && (!(m->path = tf_arena_strdup(env, &m->arena, from->path)) || !(m->dir = tf_arena_strdup(env, &m->arena, from->dir))))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_model_seal(env, m);
    if (status != TFUSE_OK) {
        tf_model_free(m);
        return status;
    }
    tf_log(env, TFUSE_LOG_WARN, "%s: there are no weights beside config.json; sizes are of those that it describes, in %s", tf_model_label(from),
           tf_dtype_name(dtype));
    tf_model_free(from);
    d->models[k] = m;
    return TFUSE_OK;
}

static tfuse_status check_model(dry *d, size_t k)
{
    tf_env *env = d->env;
    tfuse_status status = tf_model_open(env, d->what->models[k], TFUSE_OPEN_CONFIG_ONLY, &d->models[k]);
    if (status != TFUSE_OK)
        return note(d, status);
    for (size_t i = 0; i < d->models[k]->n_files; i++)
        d->read += d->models[k]->files[i].size;
    status = tf_graph_build_unchecked(env, d->models[k], &d->graphs[k]);
    if (status != TFUSE_OK)
        return note(d, status);
    if (d->models[k]->count == 0)
        return note(d, imagine(d, k));
    const tfuse_model *m = d->models[k];
    return tf_graph_list_problems(env, d->graphs[k], m, tf_policy_is(d->what->policy, "io.extra", "copy"), &d->problems);
}

static tfuse_status check_models(dry *d)
{
    const size_t n = d->what->n;
    d->models = tf_calloc(d->env, n + 1, sizeof(tfuse_model *));
    d->graphs = tf_calloc(d->env, n + 1, sizeof(tf_graph *));
    d->zeros = tf_calloc(d->env, n + 1, sizeof *d->zeros);
    if (!d->models || !d->graphs || !d->zeros)
        return TFUSE_ENOMEM;
    for (size_t k = 0; k < n; k++)
        TF_TRY(check_model(d, k));
    return n > 1 ? TFUSE_OK : note(d, tf_fail(d->env, TFUSE_EINVAL, "fusing needs an anchor and at least one more model"));
}

/* ---- calibration, plan, weights ------------------------------------------------------------------ */

static void count_file(const char *path, uint64_t *bytes)
{
    char name[4096];
    struct stat st;
    const char *colon = strrchr(path, ':'); /* file.npz:key */
    if (stat(path, &st) != 0 && colon && (size_t)(colon - path) < sizeof name) {
        memcpy(name, path, (size_t)(colon - path));
        name[colon - path] = '\0';
        path = name;
    }
    *bytes += stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static tfuse_status check_calibration(dry *d)
{
    const tfuse_policy *p = d->what->policy;
    if (!d->what->calib && !tf_policy_is(p, "repair", "auto") && !tf_policy_is(p, "repair", "none"))
        TF_TRY(note(d, tf_fail(d->env, TFUSE_EINVAL, "repair=%s fits to calibration inputs: give --calib FILE", tf_policy_text(p, "repair"))));
    if (!d->what->calib)
        return TFUSE_OK;
    tfuse_status status = tf_array_open(d->env, d->what->calib, &d->calib);
    if (status != TFUSE_OK)
        return note(d, status);
    count_file(d->what->calib, &d->read);
    for (size_t k = 0; k < d->what->n; k++) {
        tf_inputs in;
        if (d->graphs[k])
            TF_TRY(note(d, tf_inputs_make(d->env, d->graphs[k], d->models[k], d->calib, 0, &in)));
    }
    return TFUSE_OK;
}

static tfuse_status check_plan(dry *d)
{
    if (!d->what->plan)
        return TFUSE_OK;
    tfuse_status status = tf_plan_load(d->env, d->what->plan, &d->plan);
    if (status != TFUSE_OK)
        return note(d, status);
    count_file(d->what->plan, &d->read);
    if (d->plan->n_models == d->what->n)
        return TFUSE_OK;
    status = note(d, tf_fail(d->env, TFUSE_EINVAL, "the plan is of %zu models, but %zu are given", d->plan->n_models, d->what->n));
    tf_plan_free(d->plan);
    d->plan = NULL;
    return status;
}

static tfuse_status check_weights(dry *d)
{
    tfuse_plan *empty = NULL;
    if (d->what->n == 0)
        return TFUSE_OK;
    double *weights = tf_alloc_array(d->env, d->what->n, sizeof *weights);
    tfuse_status status = weights ? tf_plan_new(d->env, "none", d->what->n, &empty) : TFUSE_ENOMEM;
    const tf_fuse_job job = {.policy = d->what->policy, .plan = empty, .n = d->what->n};
    if (status == TFUSE_OK)
        status = note(d, tf_fuse_weights(d->env, &job, weights));
    tf_plan_free(empty);
    tf_free(&d->env->mem, weights);
    return status;
}

/* ---- outputs ------------------------------------------------------------------------------------ */

static tfuse_status check_parent(dry *d, const char *path, const char *parent)
{
    if (!tf_is_dir(parent))
        return note(d, tf_fail(d->env, TFUSE_EIO, "%s: cannot be written, because there is no directory %s; make it first", path, parent));
    if (access(parent, W_OK | X_OK) != 0)
        return note(d, tf_fail_errno(d->env, errno, "%s: cannot be written into directory %s", path, parent));
    return TFUSE_OK;
}

static tfuse_status check_output(dry *d, const char *path, bool is_dir)
{
    struct stat st;
    if (!path)
        return TFUSE_OK;
    if (!*path)
        return note(d, tf_fail(d->env, TFUSE_EINVAL, "the name of an output is empty"));
    if (lstat(path, &st) == 0) {
        if (!tf_policy_flag(d->what->policy, "io.force"))
            TF_TRY(note(d, tf_fail(d->env, TFUSE_EEXIST, "%s: exists; give another name, or --force to replace it", path)));
        else if (!S_ISDIR(st.st_mode) != !is_dir)
            TF_TRY(note(d, tf_fail(d->env, TFUSE_EEXIST, "%s: is a %s and is not replaced by a %s", path, is_dir ? "file" : "directory",
                                   is_dir ? "directory" : "file")));
    }
    char *parent = tf_path_dir(d->env, path);
    tfuse_status status = parent ? check_parent(d, path, parent) : TFUSE_ENOMEM;
    tf_free(&d->env->mem, parent);
    return status;
}

/* The old and the new output are on the disk together until the rename, so a replaced one frees nothing before. */
static tfuse_status check_space(dry *d, const char *path, uint64_t bytes)
{
    struct statvfs fs;
    char *parent = tf_path_dir(d->env, path);
    if (!parent)
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    if (statvfs(parent, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < bytes)
        status = note(d, tf_fail(d->env, TFUSE_EIO, "%s: needs %llu bytes and the disk has %llu; make room or write elsewhere", path,
                                 (unsigned long long)bytes, (unsigned long long)fs.f_bavail * fs.f_frsize));
    tf_free(&d->env->mem, parent);
    return status;
}

/* ---- pairing and sizes ----------------------------------------------------------------------------- */

static tfuse_status check_memory(dry *d)
{
    const uint64_t most = (uint64_t)tf_policy_int(d->what->policy, "run.memory");
    if (!most || d->peak <= most)
        return TFUSE_OK;
    return note(d, tf_fail(d->env, TFUSE_ERANGE, "run.memory=%llu is too little: this takes at least %llu bytes; give --memory %lluM or more",
                           (unsigned long long)most, (unsigned long long)d->peak, (unsigned long long)((d->peak >> 20) + 1)));
}

/* Pairs the models whose graphs are there; without the anchor's there is nothing to pair with. */
static tfuse_status check_pairing(dry *d, const tf_align_job *job)
{
    const tf_strategy *strategy;
    if (d->plan || job->n < 2)
        return TFUSE_OK;
    tfuse_status status = tf_strategy_find(d->env, tf_policy_text(job->policy, "align.strategy"), &strategy);
    return status == TFUSE_OK ? strategy->needs(d->env, job) : note(d, status);
}

static tfuse_status size_up(dry *d, tf_align_job *job)
{
    uint64_t maps;
    job->problems = NULL;
    tfuse_status status = tf_fuse_peak(d->env, job, d->plan, d->what->save_plan != NULL, &d->peak, &maps);
    if (status != TFUSE_OK)
        return note(d, status);
    const tf_fuse_job fuse = {.policy = job->policy, .models = job->models, .graphs = job->graphs, .n = job->n, .dry = true};
    TF_TRY(tf_fuse_output_bytes(d->env, &fuse, &d->write));
    if (d->models[0]->dir)
        d->write += tf_companions_bytes(d->models[0]->dir);
    if (d->what->out)
        TF_TRY(check_space(d, d->what->out, d->write));
    if (d->what->save_plan) {
        TF_TRY(check_space(d, d->what->save_plan, maps));
        d->write += maps;
    }
    d->sized = true;
    return check_memory(d);
}

static tfuse_status check_models_together(dry *d)
{
    const tf_dry_run *w = d->what;
    const tfuse_model **models = tf_calloc(d->env, w->n + 1, sizeof *models);
    tf_graph **graphs = tf_calloc(d->env, w->n + 1, sizeof(tf_graph *));
    size_t n = 0;
    for (size_t k = 0; models && graphs && k < w->n && d->graphs[0]; k++) {
        if (!d->graphs[k])
            continue;
        models[n] = d->models[k];
        graphs[n++] = d->graphs[k];
    }
    tf_align_job job = {.policy = w->policy, .solvers = w->solvers, .models = models, .graphs = graphs, .n = n, .calib = d->calib,
                        .problems = &d->problems};
    const size_t before = d->problems.len;
    tfuse_status status = models && graphs ? check_pairing(d, &job) : TFUSE_ENOMEM;
    /* An output that is in the way changes no size; models that do not fit each other have none. */
    if (status == TFUSE_OK && n > 1 && n == w->n && d->fit && d->problems.len == before && (!w->plan || d->plan) && (!w->calib || d->calib))
        status = size_up(d, &job);
    tf_free(&d->env->mem, models);
    tf_free(&d->env->mem, graphs);
    return status;
}

/* Whether the run comes to a factorisation, which a library built without LAPACK has not. */
static tfuse_status check_lapack(dry *d)
{
    const tfuse_policy *p = d->what->policy;
    if (d->what->plan || !tf_policy_is(p, "align.strategy", "matching"))
        return TFUSE_OK;
    const bool maps = tf_policy_is(p, "matching.stream", "orthogonal") || tf_policy_is(p, "matching.inner", "procrustes");
    const bool fits = d->what->calib && !tf_policy_is(p, "repair", "none");
    return maps || fits ? note(d, tf_lapack_check(d->env, maps ? "align.strategy=matching" : "repair")) : TFUSE_OK;
}

static tfuse_status look(dry *d)
{
    const tf_dry_run *w = d->what;
    TF_TRY(check_models(d));
    TF_TRY(check_lapack(d));
    TF_TRY(check_calibration(d));
    d->fit = d->problems.len == 0;
    TF_TRY(check_plan(d));
    TF_TRY(check_weights(d));
    TF_TRY(check_output(d, w->out, true));
    TF_TRY(check_output(d, w->save_plan, false));
    return check_models_together(d);
}

/* ---- report ---------------------------------------------------------------------------------------- */

static json_t *bytes(bool known, uint64_t n)
{
    return known ? json_integer((json_int_t)n) : json_null();
}

static tfuse_status make_report(dry *d, json_t **out)
{
    json_t *list = json_array();
    int failed = !list;
    for (char *line = d->problems.data, *end; line && (end = strchr(line, '\n')) != NULL && !failed; line = end + 1)
        failed = json_array_append_new(list, json_stringn_nocheck(line, (size_t)(end - line)));
    *out = json_pack("{s:o, s:o, s:o, s:o}", "problems", list, "peak_bytes", bytes(d->sized, d->peak), "read_bytes", bytes(d->sized, d->read),
                     "write_bytes", bytes(d->sized, d->write));
    if (*out && !failed)
        return TFUSE_OK;
    json_decref(*out);
    *out = NULL;
    return tf_fail(d->env, TFUSE_ENOMEM, "out of memory for a report");
}

tfuse_status tf_fuse_dry_run(tf_env *env, const tf_dry_run *what, json_t **report)
{
    dry d = {.env = env, .what = what};
    tf_buf_init(&d.problems, &env->mem);
    *report = NULL;
    tfuse_status status = look(&d);
    if (status == TFUSE_OK)
        status = make_report(&d, report);
    for (size_t k = 0; k < what->n; k++) {
        if (d.graphs)
            tf_graph_free(d.graphs[k]);
        if (d.models)
            tf_model_free(d.models[k]);
        if (d.zeros)
            tf_unmap_file(&d.zeros[k]);
    }
    tf_free(&env->mem, d.zeros);
    tf_free(&env->mem, d.graphs);
    tf_free(&env->mem, d.models);
    if (d.calib)
        tf_array_free(d.calib);
    tf_plan_free(d.plan);
    tf_buf_free(&d.problems);
    return status;
}
