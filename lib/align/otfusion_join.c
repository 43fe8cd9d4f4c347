/* SPDX-License-Identifier: Apache-2.0
 *
 * otfusion_join.c: the residual policy: what map a sum carries whose summands carry different ones.
 *
 * mean: (T_res + T_br) / 2. scalar, matrix: weights |x_res| / (|x_res| + |x_br|) from the anchor's mean absolute activations, over all units or
 * unit by unit. skip, branch: one of the two. identity: neither.
 */
#include "align/otfusion.h"
#include <math.h>

/* Mean absolute value of each unit of a value of the anchor, from statistics, or from the parameter that the value is. */
static tfuse_status magnitudes(otf *o, tf_id value, int32_t stat, int64_t units, double *out)
{
    if (stat >= 0) {
        const tf_moments *m = &o->stats.items[stat].anchor;
        bool sum = o->requests.items[stat].plus != NULL;
        for (int64_t i = 0; i < units; i++)
            out[i] = !o->opt.compat ? m->abs_mean[i] : sum ? m->abs_dev[i] : m->abs_dev[i] / (sqrt(m->var[i]) + 1e-9);
        return TFUSE_OK;
    }
    const tf_node *n = &o->anchor->nodes[o->anchor->values[value].node];
    const tf_param *p = &o->anchor->params[n->params[0]];
    int64_t rows = p->shape[0];
    float *w;
    TF_TRY(tf_view_load(o->env, o->anchor_view, n->params[0], &w));
    for (int64_t i = 0; i < units; i++) {
        out[i] = 0;
        for (int64_t r = 0; r < rows; r++)
            out[i] += fabs((double)w[r * units + i]) / (double)rows;
    }
    tf_free(&o->env->mem, w);
    return TFUSE_OK;
}

/* Weight of the residual for each unit of the anchor. */
static tfuse_status residual_weights(otf *o, const tf_node *n, tf_id residual, tf_id branch, int64_t units, double *w)
{
    for (int64_t i = 0; i < units; i++)
        w[i] = 0.5;
    if ((o->opt.residual != OTF_SCALAR && o->opt.residual != OTF_MATRIX) || o->job->tally)
        return TFUSE_OK;
    size_t node = (size_t)(n - o->anchor->nodes);
    double *res = tf_alloc_array(o->env, (size_t)units, sizeof *res), *br = tf_alloc_array(o->env, (size_t)units, sizeof *br);
    tfuse_status status = res && br ? magnitudes(o, residual, o->requests.residual[node], units, res) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = magnitudes(o, branch, o->requests.branch[node], units, br);
    double sum_res = 0, sum_br = 0;
    for (int64_t i = 0; i < units && status == TFUSE_OK; i++)
        sum_res += res[i], sum_br += br[i];
    for (int64_t i = 0; i < units && status == TFUSE_OK; i++) {
        double a = o->opt.residual == OTF_SCALAR ? sum_res : res[i], b = o->opt.residual == OTF_SCALAR ? sum_br : br[i];
        w[i] = a + b > 0 ? a / (a + b) : 0.5;
    }
    tf_free(&o->env->mem, res);
    tf_free(&o->env->mem, br);
    return status;
}

static tfuse_status add_joined(otf *o, const tf_node *n, const tf_part *part, tf_map *map, int32_t *index)
{
    tf_plan_map row = {.name = n->name, .axis = o->anchor->class_name[tf_class_of(o->anchor, part->port[0])],
                       .model = (int32_t)o->k, .map = map, .solver = "", .cost = (double)NAN, .gap = (double)NAN,
                       .error = (double)NAN, .correlation = (double)NAN, .converged = true};
    return tf_plan_add_map(o->env, o->plan, &row, index);
}

static tfuse_status mix_part(otf *o, const tf_node *n, const tf_part *part, const double *w, int32_t res, int32_t br, int32_t *out)
{
    tf_map *map;
    if (o->opt.residual == OTF_IDENTITY) {
        const tf_map *like = o->plan->maps[res].map;
        if (like->n != like->m)
            return tf_fail(o->env, TFUSE_EINVAL, "%s: otfusion.residual=identity needs equal widths, not %lld and %lld", n->name,
                           (long long)like->n, (long long)like->m);
        TF_TRY(tf_map_identity(o->env, like->m, &map));
        return add_joined(o, n, part, map, out);
    }
    if (o->job->tally) {
        TF_TRY(otf_estimate_mix(o, res, br, &map));
        return add_joined(o, n, part, map, out);
    }
    double *own = tf_alloc_array(o->env, (size_t)part->size, sizeof *own);
    if (!own)
        return TFUSE_ENOMEM;
    for (int64_t u = 0; u < part->size; u++)
        own[u] = w[tf_part_index(part, u)];
    tfuse_status status = tf_map_mix(o->env, o->plan->maps[res].map, o->plan->maps[br].map, own, o->opt.compat, &map);
    tf_free(&o->env->mem, own);
    TF_TRY(status);
    return add_joined(o, n, part, map, out);
}

tfuse_status otf_join(tf_flow *f, const tf_node *n, tf_id residual, tf_id branch, tf_id out)
{
    otf *o = (otf *)f;
    if (o->opt.residual == OTF_SKIP)
        return f->ops->pass(f, residual, out);
    if (o->opt.residual == OTF_BRANCH)
        return f->ops->pass(f, branch, out);
    const tf_value *v = &o->anchor->values[out];
    int64_t units = v->extent[v->rank - 1];
    TF_TRY(f->ops->pass(f, residual, out));
    const otf_value *res = &o->values[residual], *br = &o->values[branch];
    otf_value *joined = &o->values[out];
    if (res->n != br->n || res->n != joined->n)
        return tf_fail(o->env, TFUSE_EGRAPH, "%s: its summands are laid out differently", n->name);
    tf_part *parts = NULL;
    int count = 0;
    double *w = tf_alloc_array(o->env, (size_t)units, sizeof *w);
    tfuse_status status = w ? residual_weights(o, n, residual, branch, units, w) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = otf_parts(o, o->anchor, out, &parts, &count);
    for (int i = 0; i < count && status == TFUSE_OK; i++)
        if (res->map[i] >= 0 && br->map[i] >= 0)
            status = mix_part(o, n, &parts[i], w, res->map[i], br->map[i], &joined->map[i]);
    tf_free(&o->env->mem, parts);
    tf_free(&o->env->mem, w);
    return status;
}
