/* SPDX-License-Identifier: Apache-2.0
 *
 * fusion.c: one combined tensor: W = sum_k w_k W_k, each W_k carried to the anchor by the plan's table. Sums are in float64.
 *
 * A dimension's part without an entry moves by the identity. The half-anchor control takes the others with weight zero, without scaling
 * up what is left, and keeps the anchor's norms: it shows what halved weights alone are worth.
 */
#include "fuse/fuse.h"
#include "align/carry.h"
#include "graph/op.h"
#include "passes/passes.h"
#include <stdio.h>
#include <string.h>

struct tf_fusion {
    tf_env *env; /* for its memory */
    const tf_fuse_job *job;
    double *weights;
    tf_canonical *forms;
    size_t n_forms;
    tf_arena arena;
    tf_plan_model *models; /* as they are */
    tf_strmap places;      /* place_key → row of the plan's table */
};

enum { PLACE_KEY = 64 };

static void place_key(size_t model, tf_id param, int dim, int part, char out[PLACE_KEY])
{
    snprintf(out, PLACE_KEY, "%zu %d %d %d", model, (int)param, dim, part);
}

static tfuse_status check_model(tf_env *env, tf_fusion *f, size_t k)
{
    const tfuse_model *m = f->job->models[k];
    const tf_plan_model *planned = &f->job->plan->models[k];
    tf_plan_model *own = &f->models[k];
    if (f->job->dry)
        tf_graph_signature(f->job->graphs[k], own->signature);
    else
        TF_TRY(tf_plan_describe_model(env, &f->arena, m, f->job->graphs[k], own));
    if (strcmp(own->signature, planned->signature))
        return tf_fail(env, TFUSE_EGRAPH, "%s has another graph (%s) than model %zu of the plan (%s, %s); align again",
                       tf_model_label(m), own->signature, k, planned->label, planned->signature);
    if (f->job->dry)
        return TFUSE_OK;
    if (f->job->quiet)
        return TFUSE_OK;
    if (strcmp(own->header, planned->header) || strcmp(own->weights, planned->weights))
        tf_log(env, TFUSE_LOG_WARN, "%s holds other weights than %s, from which the plan was made", tf_model_label(m),
               planned->label);
    return TFUSE_OK;
}

/* The part of a tensor's dimension that an entry names; size 0 when there is none. */
static tfuse_status entry_part(tf_env *env, const tf_graph *g, const tf_plan_entry *e, int64_t *size)
{
    tf_id param = tf_graph_find_param(g, e->param);
    *size = 0;
    if (param < 0 || e->dim >= g->params[param].rank)
        return TFUSE_OK;
    tf_part *parts;
    int count;
    TF_TRY(tf_binding_parts(env, g, g->params[param].dims[e->dim], &parts, &count));
    if (e->part < count)
        *size = parts[e->part].size;
    tf_free(&env->mem, parts);
    return TFUSE_OK;
}

/* A row that fits nothing, or a second one for one place, would leave weights where they are without a word. */
static tfuse_status check_entry(tf_env *env, tf_fusion *f, size_t index)
{
    const tf_fuse_job *job = f->job;
    const tf_plan_entry *e = &job->plan->entries[index];
    const tf_map *map = job->plan->maps[e->map].map;
    int64_t from, to, was;
    char key[PLACE_KEY];
    const tf_id param = tf_graph_find_param(job->graphs[0], e->param);
    if (param < 0)
        return tf_fail(env, TFUSE_EGRAPH, "the plan moves '%s', and the models have no such tensor", e->param);
    TF_TRY(entry_part(env, job->graphs[e->model], e, &from));
    TF_TRY(entry_part(env, job->graphs[0], e, &to));
    if (from != map->n || to != map->m)
        return tf_fail(env, TFUSE_EGRAPH, "the plan moves part %d of dimension %d of %s by a map of %lld units onto %lld, which does not fit",
                       (int)e->part, (int)e->dim, e->param, (long long)map->n, (long long)map->m);
    const tf_param *p = &job->graphs[0]->params[param];
    if (e->produced != (p->use[e->dim] != TF_USE_CONSUMED))
        return tf_fail(env, TFUSE_EGRAPH, "the plan moves dimension %d of %s on the wrong side", (int)e->dim, e->param);
    place_key((size_t)e->model, param, e->dim, e->part, key);
    if (tf_strmap_get(&f->places, key) >= 0)
        return tf_fail(env, TFUSE_EGRAPH, "the plan moves part %d of dimension %d of %s twice", (int)e->part, (int)e->dim, e->param);
    char *kept = tf_arena_strdup(env, &f->arena, key);
    return kept ? tf_strmap_put(env, &f->places, kept, (int64_t)index, &was) : TFUSE_ENOMEM;
}

static tfuse_status prepare(tf_env *env, tf_fusion *f)
{
    const tf_fuse_job *job = f->job;
    f->weights = tf_arena_array(env, &f->arena, job->n, sizeof *f->weights);
    f->forms = tf_arena_array(env, &f->arena, job->n, sizeof *f->forms);
    f->models = tf_arena_array(env, &f->arena, job->n, sizeof *f->models);
    if (!f->weights || !f->forms || !f->models)
        return TFUSE_ENOMEM;
    TF_TRY(tf_fuse_weights(env, job, f->weights));
    for (size_t k = 0; k < job->n; k++)
        TF_TRY(check_model(env, f, k));
    for (size_t i = 0; i < job->plan->n_entries; i++)
        TF_TRY(check_entry(env, f, i));
    for (; f->n_forms < job->n; f->n_forms++)
        TF_TRY(tf_canonical_make(env, job->graphs[f->n_forms], job->models[f->n_forms], job->plan->passes,
                                 (int)job->plan->n_passes, &f->forms[f->n_forms]));
    return TFUSE_OK;
}

tfuse_status tf_fusion_new(tf_env *env, const tf_fuse_job *job, tf_fusion **out)
{
    *out = NULL;
    if (job->n != job->plan->n_models)
        return tf_fail(env, TFUSE_EGRAPH, "the plan is for %zu models and there are %zu", job->plan->n_models, job->n);
    tf_fusion *f = tf_calloc(env, 1, sizeof *f);
    if (!f)
        return TFUSE_ENOMEM;
    f->env = env;
    f->job = job;
    tf_arena_init(&f->arena, &env->mem);
    tf_strmap_init(&f->places, &env->mem);
    tfuse_status status = prepare(env, f);
    if (status != TFUSE_OK)
        tf_fusion_free(f);
    else
        *out = f;
    return status;
}

const tf_plan_model *tf_fusion_model(const tf_fusion *f, size_t k)
{
    return &f->models[k];
}

void tf_fusion_free(tf_fusion *f)
{
    if (!f)
        return;
    tf_env *env = f->env;
    for (size_t k = 0; k < f->n_forms; k++)
        tf_canonical_free(&f->forms[k]);
    tf_strmap_free(&f->places);
    tf_arena_free(&f->arena);
    tf_free(&env->mem, f);
}

/* ---- carrying one tensor of one model ---------------------------------------------------------------- */

static const tf_plan_entry *find_entry(const tf_fusion *f, size_t model, tf_id param, int dim, int part)
{
    char key[PLACE_KEY];
    place_key(model, param, dim, part, key);
    int64_t index = tf_strmap_get(&f->places, key);
    return index < 0 ? NULL : &f->job->plan->entries[index];
}

const tf_map *tf_fusion_map(const tf_fusion *f, size_t k, tf_id param, int dim, int part)
{
    const tf_plan_entry *e = find_entry(f, k, param, dim, part);
    return e ? f->job->plan->maps[e->map].map : NULL;
}

static size_t count_of(int rank, const int64_t *shape)
{
    size_t count = 1;
    for (int d = 0; d < rank; d++)
        count *= (size_t)shape[d];
    return count;
}

static tfuse_status carry_dim(tf_env *env, const tf_fusion *f, size_t k, const tf_param *pa, const tf_param *pm, int dim,
                              const float *src, const int64_t *shape, float *dst)
{
    const tf_fuse_job *job = f->job;
    tf_part *from = NULL, *to = NULL;
    int n_from = 0, n_to = 0;
    tfuse_status status = tf_binding_parts(env, job->graphs[k], pm->dims[dim], &from, &n_from);
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, job->graphs[0], pa->dims[dim], &to, &n_to);
    if (status == TFUSE_OK && n_from != n_to)
        status = tf_fail(env, TFUSE_EGRAPH, "%s is laid out differently in %s", pa->name, tf_model_label(job->models[k]));
    if (status == TFUSE_OK && !tf_parts_cover(to, n_to, pa->shape[dim]))
        memset(dst, 0, count_of(pa->rank, shape) / (size_t)shape[dim] * (size_t)pa->shape[dim] * sizeof *dst);
    for (int i = 0; i < n_to && status == TFUSE_OK; i++) {
        const tf_plan_entry *e = find_entry(f, k, (tf_id)(pa - job->graphs[0]->params), dim, i);
        status = tf_carry_part(env, e ? job->plan->maps[e->map].map : NULL, tf_part_use(job->graphs[0], pa, dim, &to[i]), e && e->produced,
                            src, pa->rank, shape, dim, &from[i], &to[i], pa->shape[dim], dst);
        if (status != TFUSE_OK)
            status = tf_fail_in(env, status, "%s, dimension %d", pa->name, dim);
    }
    tf_free(&env->mem, from);
    tf_free(&env->mem, to);
    return status;
}

/* The dimensions from `first` on are moved to the anchor's; *w of extents `shape` is replaced, `shape` changed. Frees *w on failure. */
static tfuse_status carry_dims(tf_env *env, const tf_fusion *f, size_t k, const tf_param *pa, const tf_param *pm, int first,
                               int64_t *shape, float **w)
{
    for (int d = first; d < pa->rank; d++) {
        int64_t extent = shape[d];
        shape[d] = pa->shape[d];
        float *moved = tf_alloc_array(env, count_of(pa->rank, shape), sizeof *moved);
        shape[d] = extent;
        tfuse_status status = moved ? carry_dim(env, f, k, pa, pm, d, *w, shape, moved) : TFUSE_ENOMEM;
        tf_free(&env->mem, *w);
        *w = moved;
        if (status != TFUSE_OK) {
            tf_free(&env->mem, moved);
            *w = NULL;
            return status;
        }
        shape[d] = pa->shape[d];
    }
    return TFUSE_OK;
}

static tfuse_status find_like(tf_env *env, const tf_fusion *f, size_t k, tf_id param, tf_id *other)
{
    const tf_fuse_job *job = f->job;
    const tf_param *pa = &job->graphs[0]->params[param];
    *other = tf_graph_find_param(job->graphs[k], pa->name);
    if (*other < 0 || job->graphs[k]->params[*other].rank != pa->rank)
        return tf_fail(env, TFUSE_EGRAPH, "%s has no tensor %s like the anchor's", tf_model_label(job->models[k]), pa->name);
    return TFUSE_OK;
}

/* Model k's tensor in the anchor's coordinates, freed by tf_free. */
static tfuse_status carry(tf_env *env, const tf_fusion *f, size_t k, tf_id param, float **out)
{
    const tf_param *pa = &f->job->graphs[0]->params[param], *pm;
    tf_id other;
    int64_t shape[TF_MAX_PARAM_RANK];
    *out = NULL;
    TF_TRY(find_like(env, f, k, param, &other));
    pm = &f->job->graphs[k]->params[other];
    memcpy(shape, pm->shape, sizeof shape);
    TF_TRY(tf_view_load(env, tf_canonical_top(&f->forms[k]), other, out));
    return carry_dims(env, f, k, pa, pm, 0, shape, out);
}

/* ---- combining ----------------------------------------------------------------------------------------- */

static double weight_of(const tf_fusion *f, const tf_param *p, size_t k)
{
    const bool keep = k == 0 && tf_fuse_is_half_anchor(f->job) && f->job->graphs[0]->nodes[p->node].op->normalises;
    return keep ? 1 : f->weights[k];
}

/* Adds a model's share to the sum; the first finds none, the last leaves it, rounded, in dst. */
static void add_weighted(double *sum, bool first, double weight, const float *w, size_t count, float *dst)
{
    for (size_t i = 0; i < count; i++) {
        const double total = (first ? 0 : sum[i]) + weight * (double)w[i];
        if (dst)
            dst[i] = (float)total;
        else
            sum[i] = total;
    }
}

typedef struct slice {
    tf_id param;
    bool whole;       /* else rows of it */
    int64_t first, n;
} slice;

/* That much of model k's tensor, in the anchor's coordinates, freed by tf_free. */
static tfuse_status load_slice(tf_env *env, const tf_fusion *f, size_t k, const slice *s, float **out);

static tfuse_status combine(tf_env *env, const tf_fusion *f, const slice *s, size_t count, float *dst)
{
    const tf_param *p = &f->job->graphs[0]->params[s->param];
    size_t first = f->job->n, last = 0;
    for (size_t k = f->job->n; k-- > 0;)
        if (weight_of(f, p, k) != 0) {
            last = first == f->job->n ? k : last;
            first = k;
        }
    if (first == f->job->n)
        memset(dst, 0, count * sizeof *dst);
    double *sum = first < last ? tf_alloc_array(env, count, sizeof *sum) : NULL;
    tfuse_status status = first < last && !sum ? TFUSE_ENOMEM : TFUSE_OK;
    for (size_t k = first; k < f->job->n && k <= last && status == TFUSE_OK; k++) {
        float *w = NULL;
        if (weight_of(f, p, k) == 0)
            continue;
        status = load_slice(env, f, k, s, &w);
        if (status == TFUSE_OK)
            add_weighted(sum, k == first, weight_of(f, p, k), w, count, k == last ? dst : NULL);
        tf_free(&env->mem, w);
    }
    tf_free(&env->mem, sum);
    return status;
}

tfuse_status tf_fusion_param(tf_env *env, const tf_fusion *f, tf_id param, float *dst)
{
    const tf_param *p = &f->job->graphs[0]->params[param];
    size_t count = count_of(p->rank, p->shape);
    if (f->job->fitted && f->job->fitted[param]) {
        memcpy(dst, f->job->fitted[param], count * sizeof *dst);
        return TFUSE_OK;
    }
    return combine(env, f, &(slice){.param = param, .whole = true}, count, dst);
}

/* ---- rows of it ------------------------------------------------------------------------------------------ */

/* The model's row that becomes each of the anchor's, NULL when there is none for some: dense maps mix rows. Freed by tf_free. */
static tfuse_status row_sources(tf_env *env, const tf_fusion *f, size_t k, tf_id param, tf_id other, int64_t **out)
{
    const tf_fuse_job *job = f->job;
    const tf_param *pa = &job->graphs[0]->params[param];
    tf_part *from = NULL, *to = NULL;
    int n_from = 0, n_to = 0;
    int64_t *rows = tf_alloc_array(env, (size_t)pa->shape[0], sizeof *rows);
    *out = NULL;
    tfuse_status status = rows ? tf_binding_parts(env, job->graphs[k], job->graphs[k]->params[other].dims[0], &from, &n_from) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_binding_parts(env, job->graphs[0], pa->dims[0], &to, &n_to);
    bool one_to_one = status == TFUSE_OK && n_from == n_to;
    for (int i = 0; i < n_to && one_to_one; i++) {
        const tf_plan_entry *e = find_entry(f, k, param, 0, i);
        const tf_map *map = e ? job->plan->maps[e->map].map : NULL;
        one_to_one = from[i].size == to[i].size && (!map || map->kind == TF_MAP_IDENTITY || map->kind == TF_MAP_PERMUTATION);
        for (int64_t j = 0; one_to_one && j < to[i].size; j++)
            rows[tf_part_index(&to[i], j)] = tf_part_index(&from[i], map && map->source ? map->source[j] : j);
    }
    if (one_to_one)
        *out = rows;
    else
        tf_free(&env->mem, rows);
    tf_free(&env->mem, from);
    tf_free(&env->mem, to);
    return status;
}

tfuse_status tf_fusion_has_rows(tf_env *env, const tf_fusion *f, tf_id param, bool *out)
{
    *out = tf_view_has_rows(tf_canonical_top(&f->forms[0]), param);
    for (size_t k = 1; k < f->job->n && *out; k++) {
        tf_id other;
        int64_t *rows;
        TF_TRY(find_like(env, f, k, param, &other));
        TF_TRY(row_sources(env, f, k, param, other, &rows));
        *out = rows && tf_view_has_rows(tf_canonical_top(&f->forms[k]), other);
        tf_free(&env->mem, rows);
    }
    return TFUSE_OK;
}

static tfuse_status carry_rows(tf_env *env, const tf_fusion *f, size_t k, tf_id param, int64_t first, int64_t n, float **out)
{
    const tf_param *pa = &f->job->graphs[0]->params[param];
    tf_id other;
    int64_t *rows, shape[TF_MAX_PARAM_RANK];
    *out = NULL;
    TF_TRY(find_like(env, f, k, param, &other));
    TF_TRY(row_sources(env, f, k, param, other, &rows));
    const tf_param *pm = &f->job->graphs[k]->params[other];
    memcpy(shape, pm->shape, sizeof shape);
    shape[0] = n;
    tfuse_status status = rows ? TFUSE_OK : tf_fail(env, TFUSE_EINTERNAL, "%s: rows are mixed", pa->name);
    if (status == TFUSE_OK && !(*out = tf_alloc_array(env, count_of(pm->rank, shape), sizeof **out)))
        status = TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = tf_view_read_rows(env, tf_canonical_top(&f->forms[k]), other, rows + first, n, *out);
    tf_free(&env->mem, rows);
    if (status == TFUSE_OK && k > 0)
        return carry_dims(env, f, k, pa, pm, 1, shape, out);
    return status;
}

tfuse_status tf_fusion_rows(tf_env *env, const tf_fusion *f, tf_id param, int64_t first, int64_t n, float *dst)
{
    const tf_param *p = &f->job->graphs[0]->params[param];
    const size_t width = count_of(p->rank, p->shape) / (size_t)p->shape[0], count = width * (size_t)n;
    if (f->job->fitted && f->job->fitted[param]) {
        memcpy(dst, f->job->fitted[param] + width * (size_t)first, count * sizeof *dst);
        return TFUSE_OK;
    }
    return combine(env, f, &(slice){.param = param, .first = first, .n = n}, count, dst);
}

static tfuse_status load_slice(tf_env *env, const tf_fusion *f, size_t k, const slice *s, float **out)
{
    if (!s->whole)
        return carry_rows(env, f, k, s->param, s->first, s->n, out);
    return k == 0 ? tf_view_load(env, tf_canonical_top(&f->forms[0]), s->param, out) : carry(env, f, k, s->param, out);
}
