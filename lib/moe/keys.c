/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c: which hidden units make an expert. Keys are the rows of the first linear (of the gate), scaled to length one as in the authors' splits;
 * beside the clusters stand runs of units as they lie, and runs of units in a random order.
 */
#include "base/rng.h"
#include "moe/moe.h"
#include "num/num.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const tf_split_names[TF_SPLITS] = {"clustered", "contiguous", "random"};

static void scale_to_one(float *x, int64_t count, int64_t width)
{
    for (int64_t i = 0; i < count; i++) {
        const double norm = sqrt(tf_sum_sq(x + i * width, (size_t)width));
        for (int64_t k = 0; k < width && norm > 0; k++)
            x[i * width + k] = (float)((double)x[i * width + k] / norm);
    }
}

/* Units by expert, in their own order inside each. */
static void order_by(const int64_t *of, int64_t units, int64_t experts, int64_t *order)
{
    const int64_t each = units / experts;
    for (int64_t e = 0; e < experts; e++) {
        int64_t at = e * each;
        for (int64_t u = 0; u < units; u++)
            if (of[u] == e)
                order[at++] = u;
    }
}

static tfuse_status spread_of(tf_env *env, const tf_points *p, const int64_t *order, int64_t *of, double *out)
{
    for (int64_t j = 0; j < p->count; j++)
        of[order[j]] = j / (p->count / p->clusters);
    return tf_cluster_spread(env, p, of, out);
}

static tfuse_status find_one(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, const tf_points *p, int64_t *of, tf_moe_found *out)
{
    const char *name = s->dense->nodes[f->dense.key].name;
    const uint64_t seed = (uint64_t)tf_policy_int(s->policy, "run.seed");
    tf_cluster_result r;
    char stream[320];
    snprintf(stream, sizeof stream, "%.256s/random", name);
    tf_rng rng = tf_rng_make(seed, stream);
    TF_TRY(tf_cluster(env, s->solvers, p, seed, name, tf_policy_int(s->policy, "moe.starts"), of, &r));
    order_by(of, p->count, p->clusters, out->order[TF_CLUSTERED]);
    tf_rng_permutation(&rng, p->count, out->order[TF_RANDOM]);
    for (int64_t u = 0; u < p->count; u++)
        out->order[TF_CONTIGUOUS][u] = u;
    for (int k = 0; k < TF_SPLITS; k++)
        TF_TRY(spread_of(env, p, out->order[k], of, &out->spread[k]));
    out->iterations = r.iterations;
    out->swaps = r.swaps;
    return TFUSE_OK;
}

static tfuse_status find(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, tf_moe_found *out)
{
    float *keys = NULL;
    const size_t units = (size_t)f->dense.units;
    for (int k = 0; k < TF_SPLITS; k++)
        if (!(out->order[k] = tf_alloc_array(env, units, sizeof *out->order[k])))
            return TFUSE_ENOMEM;
    TF_TRY(tf_moe_keys(env, s, f, &keys));
    scale_to_one(keys, f->dense.units, f->dense.width);
    const tf_points p = {keys, f->dense.units, f->dense.width, f->routed.experts};
    int64_t *of = tf_alloc_array(env, units, sizeof *of);
    const tfuse_status status = of ? find_one(env, s, f, &p, of, out) : TFUSE_ENOMEM;
    tf_free(&env->mem, of);
    tf_free(&env->mem, keys);
    return status;
}

tfuse_status tf_moe_find(tf_env *env, const tf_moe *s, tf_moe_found **out)
{
    tfuse_status status = TFUSE_OK;
    if (!(*out = tf_calloc(env, s->n + 1, sizeof **out)))
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < s->n && status == TFUSE_OK; i++) {
        status = tf_progress(env, "clustering", i, s->n);
        if (status == TFUSE_OK)
            status = find(env, s, &s->ffns[i], &(*out)[i]);
    }
    if (status == TFUSE_OK)
        return tf_progress(env, "clustering", s->n, s->n);
    tf_moe_found_free(env, s, *out);
    *out = NULL;
    return status;
}

void tf_moe_found_free(tf_env *env, const tf_moe *s, tf_moe_found *found)
{
    for (size_t i = 0; found && i < s->n; i++)
        for (int k = 0; k < TF_SPLITS; k++)
            tf_free(&env->mem, found[i].order[k]);
    tf_free(&env->mem, found);
}

void tf_moe_take(tf_moe *s, const tf_moe_found *found, int kind)
{
    for (size_t i = 0; i < s->n; i++)
        memcpy(s->ffns[i].order, found[i].order[kind], (size_t)s->ffns[i].dense.units * sizeof *s->ffns[i].order);
}
