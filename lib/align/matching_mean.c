/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_mean.c: more than two models, to a common mean.
 *
 * With M_k what model k is carried to by its maps, the sum over all pairs of <M_k, M_l> is largest for maps each of which agrees best with the sum of all
 * others: each model is matched to the mean of the others in turn, from where it was matched to the anchor alone (generalised Procrustes analysis:
 * Gower 1975; for permutations of networks Crisostomi et al., "C2M3", 2024). Moving all models alike changes nothing, so the anchor's map stays the
 * identity without loss, as if all had gone to a universe and back through its inverse.
 *
 * Activations are compared between all pairs of models; where a host feeds values only those with the anchor are known, and weights alone tell of
 * the others.
 */
#include "align/matching.h"
#include "ops/common.h"
#include <math.h>
#include <string.h>

enum { MOST_ROUNDS = 10 };
#define LEAST_GAIN 1e-3

/* ---- values of all pairs ---- */

static tfuse_status transposed(matching *mt, const matching *other, const mt_value *of, mt_value **out)
{
    mt_value *values = tf_calloc(mt->env, mt->n_values + 1, sizeof *values);
    *out = values;
    for (size_t v = 0; values && v < mt->n_values; v++) {
        const int64_t n = tf_value_channels(mt->side[MT_MODEL].g, mt->values[v].value[MT_MODEL])->extent;
        const int64_t m = tf_value_channels(other->side[MT_MODEL].g, other->values[v].value[MT_MODEL])->extent;
        memcpy(values[v].value, mt->values[v].value, sizeof values[v].value);
        if (!(values[v].cross = tf_alloc_array(mt->env, (size_t)(n * m), sizeof(float))))
            return TFUSE_ENOMEM;
        for (int64_t i = 0; i < n * m; i++)
            values[v].cross[i] = of[v].cross[i % m * n + i / m];
    }
    return values ? TFUSE_OK : TFUSE_ENOMEM;
}

static size_t place_of(const matching *mt, const matching *peer)
{
    size_t at = 0;
    while (mt->peers[at] != peer)
        at++;
    return at;
}

static tfuse_status gather_pair(matching *a, matching *b, const tf_view *const *views)
{
    tf_stat_wants wants;
    mt_value *values = NULL;
    TF_TRY(mt_values_wanted(b->env, b->job, a->k, b->k, &wants));
    tfuse_status status = mt_values_gather(b, a, views, &wants, &values);
    tf_free(&b->env->mem, wants.items);
    b->of_peer[place_of(b, a)] = values;
    if (status == TFUSE_OK)
        status = transposed(a, b, values, &a->of_peer[place_of(a, b)]);
    return status;
}

static tfuse_status gather_pairs(matching *all, size_t n, const tf_view *const *views, const tf_stat_wants *wants)
{
    for (size_t i = 0; i < n; i++) {
        for (int side = 0; side < 2; side++)
            mt_forget_held(&all[i], side);
        mt_forget_streams(&all[i]);
        all[i].of_peer = tf_calloc(all->env, all[i].n_peers + 1, sizeof *all[i].of_peer);
        if (!all[i].of_peer)
            return TFUSE_ENOMEM;
    }
    for (size_t i = 0; i < n && all->job->calib && wants->n; i++)
        for (size_t j = i + 1; j < n; j++)
            TF_TRY(gather_pair(&all[i], &all[j], views));
    return TFUSE_OK;
}

/* ---- what a model is matched to ---- */

/* Adds a value against a peer's, its columns carried to the anchor's units; count: entries of the sum. */
static tfuse_status add_peer(const matching *mt, size_t peer, size_t value, size_t count, float *sum)
{
    const matching *other = mt->peers[peer];
    int64_t shape[2] = {tf_value_channels(mt->side[MT_MODEL].g, mt->values[value].value[MT_MODEL])->extent,
                        tf_value_channels(other->side[MT_MODEL].g, other->values[value].value[MT_MODEL])->extent};
    const size_t size = (size_t)(shape[0] * shape[1]);
    float *x = tf_alloc_array(mt->env, size, sizeof *x);
    if (!x)
        return TFUSE_ENOMEM;
    memcpy(x, mt->of_peer[peer][value].cross, size * sizeof *x);
    TF_TRY(mt_value_columns(other, value, shape, &x)); /* frees it when it fails */
    for (size_t i = 0; i < count; i++)
        sum[i] += x[i];
    tf_free(&mt->env->mem, x);
    return TFUSE_OK;
}

static tfuse_status mean_value(matching *mt, size_t value)
{
    mt_value *v = &mt->values[value];
    const int64_t n = tf_value_channels(mt->side[MT_MODEL].g, v->value[MT_MODEL])->extent, m = tf_value_channels(mt->g, v->value[MT_ANCHOR])->extent;
    const size_t count = (size_t)(n * m);
    int terms = 1;
    memcpy(v->cross, mt->of_anchor[value].cross, count * sizeof *v->cross);
    for (size_t k = 0; k < mt->n_peers; k++)
        if (mt->of_peer[k]) {
            TF_TRY(add_peer(mt, k, value, count, v->cross));
            terms++;
        }
    for (size_t i = 0; i < count; i++)
        v->cross[i] /= (float)terms;
    return TFUSE_OK;
}

static tfuse_status aim(matching *mt)
{
    mt_forget_held(mt, MT_ANCHOR);
    for (size_t v = 0; v < mt->n_values; v++)
        TF_TRY(mean_value(mt, v));
    return TFUSE_OK;
}

static tfuse_status set_peers(matching *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(all[i].peers = tf_alloc_array(all->env, n, sizeof(matching *))))
            return TFUSE_ENOMEM;
        for (size_t j = 0; j < n; j++)
            if (j != i)
                all[i].peers[all[i].n_peers++] = &all[j];
    }
    return TFUSE_OK;
}

/* The values so far are those of the anchor; a copy of them becomes the mean. */
static tfuse_status keep_anchor(matching *mt)
{
    mt->of_anchor = mt->values;
    if (!(mt->values = tf_calloc(mt->env, mt->n_values + 1, sizeof *mt->values)))
        return TFUSE_ENOMEM;
    for (size_t v = 0; v < mt->n_values; v++) {
        const int64_t n = tf_value_channels(mt->side[MT_MODEL].g, mt->of_anchor[v].value[MT_MODEL])->extent;
        const int64_t m = tf_value_channels(mt->g, mt->of_anchor[v].value[MT_ANCHOR])->extent;
        memcpy(mt->values[v].value, mt->of_anchor[v].value, sizeof mt->values[v].value);
        if (!(mt->values[v].cross = tf_alloc_array(mt->env, (size_t)(n * m), sizeof(float))))
            return TFUSE_ENOMEM;
    }
    return TFUSE_OK;
}

/* ---- rounds ---- */

static tfuse_status run_round(matching *all, size_t n, tfuse_plan *plan, double *sum)
{
    *sum = 0;
    for (size_t i = 0; i < n; i++) {
        double now;
        TF_TRY(aim(&all[i]));
        TF_TRY(mt_sweep(&all[i]));
        TF_TRY(mt_objective(&all[i], &now));
        TF_TRY(tf_plan_add_round(all->env, plan, (int32_t)all[i].k, now));
        *sum += now / (double)n;
    }
    return TFUSE_OK;
}

/* The maps of all models in exchange for kept ones (n of them), which are freed. */
static void take_back(matching *all, size_t n, tf_class_map **kept)
{
    for (size_t i = 0; i < n; i++) {
        if (!kept[i])
            continue;
        tf_class_maps_free(all->env, all->g, all[i].maps);
        all[i].maps = kept[i];
        kept[i] = NULL;
    }
}

static tfuse_status keep(matching *all, size_t n, tf_class_map **kept)
{
    for (size_t i = 0; i < n; i++) {
        tf_class_maps_free(all->env, all->g, kept[i]);
        kept[i] = NULL;
        TF_TRY(mt_clone_maps(&all[i], &kept[i]));
    }
    return TFUSE_OK;
}

tfuse_status mt_match_to_mean(matching *all, size_t n, const tf_view *const *views, const tf_stat_wants *wants, tfuse_plan *plan)
{
    tf_class_map **kept = tf_calloc(all->env, n, sizeof(tf_class_map *));
    double most = -INFINITY, now;
    tfuse_status status = kept ? set_peers(all, n) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = gather_pairs(all, n, views, wants);
    for (size_t i = 0; i < n && status == TFUSE_OK; i++)
        status = keep_anchor(&all[i]);
    for (int r = 0; r < MOST_ROUNDS && status == TFUSE_OK; r++) {
        status = run_round(all, n, plan, &now);
        if (status != TFUSE_OK)
            break;
        tf_log(all->env, TFUSE_LOG_INFO, "matching to the mean, round %d: mean correlation %.6f", r + 1, now);
        const bool gained = now > most + LEAST_GAIN * fabs(most) || r == 0;
        if (now > most) {
            most = now;
            status = keep(all, n, kept);
        }
        if (!gained)
            break;
    }
    if (status == TFUSE_OK)
        take_back(all, n, kept);
    for (size_t i = 0; kept && i < n; i++)
        tf_class_maps_free(all->env, all->g, kept[i]);
    tf_free(&all->env->mem, kept);
    return status;
}
