/* SPDX-License-Identifier: Apache-2.0
 *
 * tensors.c: a logical tensor of the one form from those of the other. Of an FFN y = D f(K x + a) + b, units in the experts' order:
 *     rows of K, a (and of a gated one's other side) move, columns of D move and are multiplied by `down`;
 *     row e of the router is the mean of expert e's keys, times `router`; expert e's bias is b / top_k.
 * Everything else is the same tensor. One that the dense model has not is zero.
 *
 * Where the framework weighs experts by a softmax, equal weights are what makes the chosen experts' sum that of the dense FFN's parts, so logits must be
 * close to each other beside one: weights are then 1/top_k of the chosen (1/E of all) up to their spread, and order, which is all that choosing needs,
 * is kept by multiplying with a power of two. Softmaxes are computed in float32 and experts chosen among the results, which tell logits apart down to
 * 2^-24: logits that spread by about 2^-8 leave weights true to about 2^-8 and an order true to 2^-16 of the spread. With every expert chosen no order is
 * needed, and logits that spread by 2^-32 have equal weights.
 */
#include "base/meter.h"
#include "graph/naming.h"
#include "graph/op.h"
#include "moe/moe.h"
#include "ops/common.h"
#include <math.h>
#include <string.h>

enum { SPREAD_CHOSEN = -8, SPREAD_ALL = -32 }; /* powers of two */

static tfuse_status read_source(tf_env *env, const tf_moe *s, tf_id param, float **out)
{
    const tf_graph *g = tf_moe_source(s);
    *out = tf_alloc_array(env, (size_t)tf_param_count(&g->params[param]), sizeof **out);
    const tfuse_status status = *out ? tf_param_read(env, g, s->model, param, *out) : TFUSE_ENOMEM;
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *out);
        *out = NULL;
    }
    return status;
}

/* dst row j = src row order[j], or with `back` dst row order[j] = src row j. */
static void move_rows(const tf_moe *s, const tf_moe_ffn *f, const float *src, int64_t width, float *dst)
{
    for (int64_t j = 0; j < f->dense.units; j++) {
        const int64_t from = s->back ? j : f->order[j], to = s->back ? f->order[j] : j;
        memcpy(dst + to * width, src + from * width, (size_t)width * sizeof *dst);
    }
}

static void move_columns(const tf_moe *s, const tf_moe_ffn *f, const float *src, int64_t rows, float *dst)
{
    const int64_t units = f->dense.units;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < units; j++) {
            const int64_t from = s->back ? j : f->order[j], to = s->back ? f->order[j] : j;
            const double x = (double)src[r * units + from];
            dst[r * units + to] = (float)(s->back ? x / s->down : x * s->down);
        }
}

tfuse_status tf_moe_keys(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float **out)
{
    return read_source(env, s, s->dense->nodes[f->dense.key].params[0], out);
}

/* Means of the experts' keys, experts × width in float64. */
static tfuse_status mean_keys(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, double **out)
{
    const int64_t width = f->dense.width, each = f->dense.units / f->routed.experts;
    float *keys = NULL;
    TF_TRY(tf_moe_keys(env, s, f, &keys));
    double *means = *out = tf_calloc(env, (size_t)(f->routed.experts * width), sizeof **out);
    for (int64_t j = 0; means && j < f->dense.units; j++)
        for (int64_t k = 0; k < width; k++)
            means[j / each * width + k] += (double)keys[f->order[j] * width + k] / (double)each;
    tf_free(&env->mem, keys);
    return means ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status make_router(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float *dst)
{
    double *means = NULL;
    TF_TRY(mean_keys(env, s, f, &means));
    for (int64_t i = 0; i < f->routed.experts * f->dense.width; i++)
        dst[i] = (float)(f->router * means[i]);
    tf_free(&env->mem, means);
    return TFUSE_OK;
}

/* d × E: every expert's bias is the dense one's share. */
static tfuse_status make_biases(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float *dst)
{
    float *bias = NULL;
    TF_TRY(read_source(env, s, s->dense->nodes[f->dense.down].params[1], &bias));
    for (int64_t r = 0; r < f->dense.width; r++)
        for (int64_t e = 0; e < f->routed.experts; e++)
            dst[r * f->routed.experts + e] = (float)((double)bias[r] / (double)s->how.top_k);
    tf_free(&env->mem, bias);
    return TFUSE_OK;
}

/* top_k times the mean of the experts' biases. */
static tfuse_status join_biases(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float *dst)
{
    float *biases = NULL;
    const int64_t experts = f->routed.experts;
    TF_TRY(read_source(env, s, s->routed->nodes[f->routed.bias].params[0], &biases));
    for (int64_t r = 0; r < f->dense.width; r++) {
        double sum = 0;
        for (int64_t e = 0; e < experts; e++)
            sum += (double)biases[r * experts + e];
        dst[r] = (float)(sum * (double)s->how.top_k / (double)experts);
    }
    tf_free(&env->mem, biases);
    return TFUSE_OK;
}

/* A tensor of the same name in the source, moved. */
static tfuse_status move(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, tf_id source, bool columns, float *dst)
{
    const tf_param *p = &tf_moe_source(s)->params[source];
    float *src = NULL;
    TF_TRY(read_source(env, s, source, &src));
    if (columns)
        move_columns(s, f, src, p->shape[0], dst);
    else
        move_rows(s, f, src, p->rank == 2 ? p->shape[1] : 1, dst);
    tf_free(&env->mem, src);
    return TFUSE_OK;
}

tfuse_status tf_moe_param(tf_env *env, const tf_moe *s, tf_id param, float *dst)
{
    const tf_graph *to = tf_moe_target(s), *from = tf_moe_source(s);
    const tf_param *p = &to->params[param];
    const tf_moe_ffn *f = tf_moe_ffn_of(s, p->node);
    const tf_id source = tf_graph_find_param(from, p->name), down = f ? s->back ? f->dense.down : f->routed.down : -1;
    if (f && !s->back && p->node == f->routed.router)
        return make_router(env, s, f, dst);
    if (f && !s->back && p->node == f->routed.bias)
        return make_biases(env, s, f, dst);
    if (f && s->back && p->node == down && p->rank == 1 && f->routed.bias >= 0)
        return join_biases(env, s, f, dst);
    if (source >= 0 && f && !(p->node == down && p->rank == 1))
        return move(env, s, f, source, p->node == down, dst);
    if (source >= 0)
        return tf_param_read(env, from, s->model, source, dst);
    memset(dst, 0, (size_t)tf_param_count(p) * sizeof *dst);
    return TFUSE_OK;
}

/* The largest piece that is read by itself to be laid into a logical tensor. */
static uint64_t piece_bytes(const tf_source *source)
{
    uint64_t most = source->n_parts > 0 ? 0 : sizeof(float);
    for (int d = 0; source->n_parts == 0 && d < source->rank; d++)
        most *= (uint64_t)source->shape[d];
    for (int i = 0; i < source->n_parts; i++) {
        const uint64_t bytes = piece_bytes(source->parts[i]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

uint64_t tf_moe_param_bytes(const tf_moe *s, tf_id param)
{
    const tf_param *p = &tf_moe_target(s)->params[param];
    const tf_moe_ffn *f = tf_moe_ffn_of(s, p->node);
    if (!f)
        return 0;
    if (!s->back && p->node == f->routed.router) /* keys and their means */
        return tf_area(f->dense.units, f->dense.width, sizeof(float)) + tf_area(f->routed.experts, f->dense.width, sizeof(double));
    const tf_id source = tf_graph_find_param(tf_moe_source(s), p->name);
    const tf_source *from = source >= 0 ? tf_moe_source(s)->params[source].source : NULL;
    const bool whole = !from || from->kind == TF_SOURCE_STORED || from->kind == TF_SOURCE_SLICE;
    return tf_area(tf_param_count(p), 1, sizeof(float)) + (whole ? 0 : piece_bytes(from));
}

/* ---- scales of routers ---- */

/* Gains of the norm whose output the keys read, NULL where there is none: what multiplies inputs of mean square one. */
static tfuse_status input_gains(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, float **out)
{
    const tf_graph *g = s->dense;
    const tf_node *norm = &g->nodes[g->values[g->nodes[f->dense.key].inputs[0]].node];
    *out = NULL;
    return norm->op->normalises && norm->n_params > 0 && norm->params[0] >= 0 ? read_source(env, s, norm->params[0], out) : TFUSE_OK;
}

/* The largest standard deviation of a logit beside the mean one, for inputs of independent elements of mean square one under the gains. */
static double logit_spread(const tf_moe_ffn *f, const double *means, const float *gains)
{
    const int64_t width = f->dense.width, experts = f->routed.experts;
    double most = 0;
    for (int64_t e = 0; e < experts; e++) {
        double sum = 0;
        for (int64_t k = 0; k < width; k++) {
            double mean = 0;
            for (int64_t o = 0; o < experts; o++)
                mean += means[o * width + k] / (double)experts;
            const double d = (means[e * width + k] - mean) * (gains ? (double)gains[k] : 1);
            sum += d * d;
        }
        most = fmax(most, sqrt(sum));
    }
    return most;
}

static tfuse_status scale_router(tf_env *env, const tf_moe *s, tf_moe_ffn *f)
{
    double *means = NULL;
    float *gains = NULL;
    TF_TRY(input_gains(env, s, f, &gains));
    const tfuse_status status = mean_keys(env, s, f, &means);
    if (status == TFUSE_OK) {
        const double spread = logit_spread(f, means, gains);
        f->router = ldexp(1, s->how.top_k < s->how.experts ? SPREAD_CHOSEN : SPREAD_ALL);
        if (spread > 0)
            f->router *= exp2(-ceil(log2(spread)));
    }
    tf_free(&env->mem, means);
    tf_free(&env->mem, gains);
    return status;
}

tfuse_status tf_moe_scale_routers(tf_env *env, tf_moe *s)
{
    for (size_t i = 0; i < s->n && s->down != 1; i++)
        TF_TRY(scale_router(env, s, &s->ffns[i]));
    return TFUSE_OK;
}
