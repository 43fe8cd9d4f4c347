/* SPDX-License-Identifier: Apache-2.0
 *
 * dry.c: what dry runs have in common: problems as lines, outputs, models that are a config alone, the report.
 */
#include "align/align.h"
#include "base/meter.h"
#include "base/pool.h"
#include "fuse/dry.h"
#include "graph/naming.h"
#include "num/num.h"
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

tfuse_status tf_dry_note(tf_env *env, tf_buf *problems, tfuse_status status)
{
    const tf_align_job list = {.problems = problems};
    return tf_align_note(env, &list, status);
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

tfuse_status tf_dry_imagine(tf_env *env, const tf_graph *g, tfuse_model **model, tf_mapping *zeros, uint64_t *read)
{
    tfuse_model *from = *model, *m = NULL;
    const tfuse_dtype dtype = planned_dtype(from);
    uint64_t largest = 1;
    for (size_t i = 0; i < g->n_stored; i++) {
        size_t count = 0, bytes = 0;
        TF_TRY(tf_shape_count(env, dtype, (size_t)g->stored[i].rank, g->stored[i].shape, &count, &bytes));
        largest = bytes > largest ? bytes : largest;
    }
    TF_TRY(tf_map_zeros(env, largest, zeros));
    tfuse_status status = tf_model_new(env, from->config_text, &m);
    for (size_t i = 0; i < g->n_stored && status == TFUSE_OK; i++) {
        const tf_stored *s = &g->stored[i];
        tf_tensor t = {.name = s->name, .dtype = dtype, .rank = s->rank, .file = -1, .data = zeros->data};
        size_t count = 0, bytes = 0;
        memcpy(t.shape, s->shape, sizeof t.shape);
        status = tf_shape_count(env, dtype, (size_t)s->rank, s->shape, &count, &bytes);
        t.count = count;
        t.size = bytes;
        *read += bytes;
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
    *model = m;
    return TFUSE_OK;
}

/* ---- files ------------------------------------------------------------------------------------ */

void tf_dry_count_file(const char *path, uint64_t *bytes)
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

tfuse_status tf_dry_output(tf_env *env, const tfuse_policy *policy, const char *path, bool is_dir, tf_buf *problems)
{
    if (!path)
        return TFUSE_OK;
    if (!*path)
        return tf_dry_note(env, problems, tf_fail(env, TFUSE_EINVAL, "the name of an output is empty"));
    const tfuse_status status = tf_stage_try(env, path, is_dir, tf_policy_flag(policy, "io.force"));
    return status == TFUSE_OK ? status : tf_dry_note(env, problems, status);
}

tfuse_status tf_dry_space(tf_env *env, const char *path, uint64_t bytes, tf_buf *problems)
{
    struct statvfs fs;
    char *parent = tf_path_dir(env, path);
    if (!parent)
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    if (statvfs(parent, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < bytes)
        status = tf_dry_note(env, problems, tf_fail(env, TFUSE_EIO, "%s: needs %llu bytes and the disk has %llu; make room or write elsewhere", path,
                                 (unsigned long long)bytes, (unsigned long long)fs.f_bavail * fs.f_frsize));
    tf_free(&env->mem, parent);
    return status;
}

/* ---- memory ----------------------------------------------------------------------------------- */

/* PROCESS_BYTES: writable pages of the libraries (most are of LAPACK and the BLAS below it) are 0.7 MB. The rest is what malloc keeps of blocks that
 * were given back: small ones, below 1 MiB as the command sets it, lie in a heap that shrinks at its end alone, and its holes are 0.4 to 4.5 MB, by the
 * order in which blocks come and go and not by the size of models.
 *
 * THREAD_BYTES: of the buffers that BLIS takes for each thread that multiplies, and keeps, it writes what it packs: with tiles as gemm.c cuts them a
 * panel of 256 columns and a block of rows. With the pages of its stack 0.3 to 0.5 MB on Zen 3; blocks for AVX-512 are three times as large. */
enum { PROCESS_BYTES = 3 << 20, THREAD_BYTES = 1 << 20 };

uint64_t tf_held_bytes(const tf_env *env, bool products)
{
    return (env->meter ? tf_meter_live(env->meter) : 0) + PROCESS_BYTES + (products ? (uint64_t)tf_threads(env) * THREAD_BYTES : 0);
}

/* ---- the report ---------------------------------------------------------------------------------- */

tfuse_status tf_memory_check(tf_env *env, const tfuse_policy *policy, uint64_t peak, const char *otherwise)
{
    const uint64_t most = (uint64_t)tf_policy_int(policy, "run.memory");
    if (!most || peak <= most)
        return TFUSE_OK;
    return tf_fail(env, TFUSE_ERANGE, "run.memory=%llu is too little: this takes at least %llu bytes; give --memory %lluM or more%s",
                   (unsigned long long)most, (unsigned long long)peak, (unsigned long long)((peak >> 20) + 1), otherwise);
}

tfuse_status tf_dry_memory(tf_env *env, const tfuse_policy *policy, uint64_t peak, const char *otherwise, tf_buf *problems)
{
    const tfuse_status status = tf_memory_check(env, policy, peak, otherwise);
    return status == TFUSE_OK ? status : tf_dry_note(env, problems, status);
}

static json_t *bytes(bool known, uint64_t n)
{
    return known ? json_integer((json_int_t)n) : json_null();
}

tfuse_status tf_dry_report(tf_env *env, const tf_dry_sizes *sizes, const tf_buf *problems, json_t **out)
{
    json_t *list = json_array();
    int failed = !list;
    for (char *line = problems->data, *end; line && (end = strchr(line, '\n')) != NULL && !failed; line = end + 1)
        failed = json_array_append_new(list, json_stringn_nocheck(line, (size_t)(end - line)));
    *out = json_pack("{s:o, s:o, s:o, s:o}", "problems", list, "peak_bytes", bytes(sizes->known, sizes->peak), "read_bytes", bytes(sizes->known, sizes->read),
                     "write_bytes", bytes(sizes->known, sizes->write));
    if (*out && !failed)
        return TFUSE_OK;
    json_decref(*out);
    *out = NULL;
    return tf_fail(env, TFUSE_ENOMEM, "out of memory for a report");
}
