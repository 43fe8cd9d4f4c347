/* SPDX-License-Identifier: Apache-2.0
 *
 * compare.c: what routing costs: on the dense model's own values, FFN by FFN, and at the outputs of the whole model. Of an FFN the routed output lacks
 * what the experts that are not chosen would add, D ((1 - chosen) * h): its square over that of the dense output is the error.
 */
#include "fuse/fuse.h"
#include "graph/naming.h"
#include "moe/moe.h"
#include "num/num.h"
#include "run/run.h"
#include <math.h>
#include <string.h>

enum { BATCH_BYTES = TF_MOE_BATCH_BYTES, TILE = TF_MOE_TILE };

/* ---- one FFN ---- */

/* What the outputs of an FFN are computed from, and room for a tile of tokens. */
typedef struct ffn_lane {
    float *down, *bias, *key_bias; /* bias, key_bias: NULL where there are none, or where logits count it in */
    float *keys, *hidden;          /* a batch of the two kept values */
    float *rest, *out;             /* TILE × units, TILE × width */
    double *logits;                /* experts */
} ffn_lane;

static tfuse_status load(tf_env *env, const tf_view *view, tf_id node, int slot, float **out)
{
    const tf_node *n = &view->g->nodes[node];
    return slot < n->n_params && n->params[slot] >= 0 ? tf_view_load(env, view, n->params[slot], out) : TFUSE_OK;
}

static tfuse_status open_lane(tf_env *env, const tf_view *view, const tf_moe_ffn *f, size_t batch_floats, ffn_lane *l)
{
    TF_TRY(load(env, view, f->dense.down, 0, &l->down));
    TF_TRY(load(env, view, f->dense.down, 1, &l->bias));
    if (f->routed.router >= 0)
        TF_TRY(load(env, view, f->dense.key, 1, &l->key_bias));
    l->keys = tf_alloc_array(env, batch_floats, sizeof *l->keys);
    l->hidden = tf_alloc_array(env, batch_floats, sizeof *l->hidden);
    l->rest = tf_alloc_array(env, (size_t)(TILE * f->dense.units), sizeof *l->rest);
    l->out = tf_alloc_array(env, (size_t)(TILE * f->dense.width), sizeof *l->out);
    l->logits = tf_alloc_array(env, (size_t)f->routed.experts, sizeof *l->logits);
    return l->keys && l->hidden && l->rest && l->out && l->logits ? TFUSE_OK : TFUSE_ENOMEM;
}

static void close_lane(tf_env *env, ffn_lane *l)
{
    void *const blocks[] = {l->down, l->bias, l->key_bias, l->keys, l->hidden, l->rest, l->out, l->logits};
    for (size_t i = 0; i < TF_LEN(blocks); i++)
        tf_free(&env->mem, blocks[i]);
}

static void find_logits(const ffn_lane *l, const tf_moe_ffn *f, const float *keys, const int64_t *order)
{
    const int64_t each = f->dense.units / f->routed.experts;
    for (int64_t e = 0; e < f->routed.experts; e++) {
        l->logits[e] = 0;
        for (int64_t j = e * each; j < (e + 1) * each; j++)
            l->logits[e] += (double)keys[order[j]] - (l->key_bias ? (double)l->key_bias[order[j]] : 0);
    }
}

/* The hidden units of the experts that one token does not go to; zero for the others. */
static void leave_rest(const ffn_lane *l, const tf_moe_ffn *f, int64_t top_k, const float *hidden, const int64_t *order, float *rest)
{
    const int64_t experts = f->routed.experts, each = f->dense.units / experts;
    for (int64_t e = 0; e < experts; e++) {
        int64_t rank = 0;
        for (int64_t o = 0; o < experts; o++)
            rank += l->logits[o] > l->logits[e] || (l->logits[o] == l->logits[e] && o < e);
        for (int64_t j = e * each; j < (e + 1) * each; j++)
            rest[order[j]] = rank < top_k ? 0 : hidden[order[j]];
    }
}

/* The sum of squares of D x + bias over a tile of tokens. */
static double square_out(tf_env *env, const ffn_lane *l, const tf_moe_ffn *f, const float *x, const float *bias, int64_t rows)
{
    const int64_t width = f->dense.width, units = f->dense.units;
    for (int64_t r = 0; bias && r < rows; r++)
        memcpy(l->out + r * width, bias, (size_t)width * sizeof *l->out);
    memcpy(l->rest, x, x == l->rest ? 0 : (size_t)(rows * units) * sizeof *x);
    tf_gemm(env, 1, tf_mat_rows(l->rest, rows, units), tf_mat_t(tf_mat_rows(l->down, width, units)), bias ? 1 : 0, tf_mat_rows(l->out, rows, width));
    return tf_sum_sq(l->out, (size_t)(rows * width));
}

static void add_tokens(tf_env *env, const tf_moe *s, const tf_moe_ffn *f, const ffn_lane *l, int64_t tokens, tf_moe_found *found)
{
    const int64_t units = f->dense.units;
    for (int64_t first = 0; first < tokens; first += TILE) {
        const int64_t rows = tokens - first < TILE ? tokens - first : TILE;
        const float *keys = l->keys + first * units, *hidden = l->hidden + first * units;
        found->size += square_out(env, l, f, hidden, l->bias, rows);
        for (int k = 0; k < TF_SPLITS; k++) {
            for (int64_t r = 0; r < rows; r++) {
                find_logits(l, f, keys + r * units, found->order[k]);
                leave_rest(l, f, s->how.top_k, hidden + r * units, found->order[k], l->rest + r * units);
            }
            found->error[k] += square_out(env, l, f, l->rest, NULL, rows);
        }
    }
}

/* ---- all FFNs ---- */

typedef struct errors_run {
    tf_view *view;
    tf_evaluator *ev;
    tf_inputs in;
    tf_id *keep;
    float **dst;
    ffn_lane *lanes;
    uint8_t *seen; /* a batch's tokens: 0, padding */
    int64_t batch;
} errors_run;

tfuse_status tf_moe_compared(tf_env *env, const tf_moe *s, tf_id **out)
{
    tf_id *values = *out = tf_alloc_array(env, 2 * s->n, sizeof *values);
    for (size_t i = 0; values && i < s->n; i++) {
        values[2 * i] = s->dense->nodes[s->ffns[i].dense.key].outputs[0];
        values[2 * i + 1] = s->dense->nodes[s->ffns[i].dense.hidden].outputs[0];
    }
    return values ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status open_run(tf_env *env, const tf_moe *s, const tfuse_array *calib, errors_run *r)
{
    TF_TRY(tf_moe_compared(env, s, &r->keep));
    r->dst = tf_calloc(env, 2 * s->n, sizeof(float *));
    r->lanes = tf_calloc(env, s->n, sizeof *r->lanes);
    if (!r->dst || !r->lanes)
        return TFUSE_ENOMEM;
    TF_TRY(tf_view_root(env, s->dense, s->model, &r->view));
    TF_TRY(tf_inputs_make(env, s->dense, s->model, calib, tf_policy_int(s->policy, "calib.samples"), &r->in));
    TF_TRY(tf_evaluator_new(env, r->view, r->keep, 2 * s->n, &r->ev));
    TF_TRY(tf_evaluator_prepare(env, r->ev, &r->in));
    r->batch = tf_batch_size(r->ev, r->in.n, BATCH_BYTES);
    r->seen = tf_alloc_array(env, (size_t)(r->batch * r->in.sample), sizeof *r->seen);
    if (!r->seen)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < s->n; i++) {
        TF_TRY(open_lane(env, r->view, &s->ffns[i], (size_t)(r->batch * tf_evaluator_size(r->ev, r->keep[2 * i])), &r->lanes[i]));
        r->dst[2 * i] = r->lanes[i].keys;
        r->dst[2 * i + 1] = r->lanes[i].hidden;
    }
    return TFUSE_OK;
}

static void close_run(tf_env *env, const tf_moe *s, errors_run *r)
{
    for (size_t i = 0; r->lanes && i < s->n; i++)
        close_lane(env, &r->lanes[i]);
    tf_evaluator_free(r->ev);
    tf_view_free(r->view);
    tf_free(&env->mem, r->keep);
    tf_free(&env->mem, r->dst);
    tf_free(&env->mem, r->lanes);
    tf_free(&env->mem, r->seen);
}

/* Moves the tokens that are no padding together; how many they are. */
static int64_t drop_padding(const errors_run *r, const tf_moe_ffn *f, ffn_lane *l, int64_t tokens)
{
    const size_t row = (size_t)f->dense.units * sizeof(float);
    int64_t kept = 0;
    for (int64_t t = 0; t < tokens; t++)
        if (r->seen[t]) {
            memmove(l->keys + kept * f->dense.units, l->keys + t * f->dense.units, row);
            memmove(l->hidden + kept++ * f->dense.units, l->hidden + t * f->dense.units, row);
        }
    return kept;
}

static void add_batch(tf_env *env, const tf_moe *s, errors_run *r, int64_t first, int64_t count, tf_moe_found *found)
{
    const bool masked = tf_inputs_are_masked(s->dense, &r->in);
    if (masked)
        tf_inputs_seen(s->dense, &r->in, first, count, r->seen);
    for (size_t i = 0; i < s->n; i++) {
        const tf_moe_ffn *f = &s->ffns[i];
        const int64_t tokens = count * tf_evaluator_size(r->ev, r->keep[2 * i]) / f->dense.units;
        add_tokens(env, s, f, &r->lanes[i], masked && tokens == count * r->in.sample ? drop_padding(r, f, &r->lanes[i], tokens) : tokens, &found[i]);
    }
}

tfuse_status tf_moe_errors(tf_env *env, const tf_moe *s, const tfuse_array *calib, tf_moe_found *found)
{
    errors_run r = {.batch = 0};
    tfuse_status status = open_run(env, s, calib, &r);
    for (int64_t first = 0; status == TFUSE_OK && first < r.in.n; first += r.batch) {
        const int64_t count = r.in.n - first < r.batch ? r.in.n - first : r.batch;
        status = tf_progress(env, "comparing", (uint64_t)first, (uint64_t)r.in.n);
        if (status == TFUSE_OK)
            status = tf_evaluator_run(env, r.ev, &r.in, first, count, r.dst, NULL);
        if (status == TFUSE_OK)
            add_batch(env, s, &r, first, count, found);
    }
    close_run(env, s, &r);
    return status;
}

/* ---- outputs of the whole model ---- */

typedef struct side {
    tf_view *view;
    tf_evaluator *ev;
    float *out;
} side;

static tfuse_status open_side(tf_env *env, const tf_graph *g, const tfuse_model *m, const tf_inputs *in, side *a)
{
    TF_TRY(tf_view_root(env, g, m, &a->view));
    TF_TRY(tf_evaluator_new(env, a->view, NULL, 0, &a->ev));
    return tf_evaluator_prepare(env, a->ev, in);
}

static void close_side(tf_env *env, side *a)
{
    tf_evaluator_free(a->ev);
    tf_view_free(a->view);
    tf_free(&env->mem, a->out);
}

/* Flags of a batch's tokens where outputs are a token's and the inputs have a mask; *seen stays NULL elsewhere. */
static tfuse_status make_seen(tf_env *env, const tf_graph *g, const tf_inputs *in, int64_t batch, uint8_t **seen)
{
    bool *follows;
    TF_TRY(tf_value_follows_tokens(env, g, &follows));
    const bool flagged = follows[g->output] && tf_inputs_are_masked(g, in);
    tf_free(&env->mem, follows);
    *seen = flagged ? tf_alloc_array(env, (size_t)(batch * in->sample), sizeof **seen) : NULL;
    return !flagged || *seen ? TFUSE_OK : TFUSE_ENOMEM;
}

static tfuse_status add_outputs(tf_env *env, side *a, side *b, const tf_inputs *in, double *error)
{
    const int64_t size = tf_evaluator_size(a->ev, a->view->g->output);
    const int64_t batch = tf_batch_size(a->ev, in->n, BATCH_BYTES);
    double gap = 0, square = 0;
    uint8_t *seen;
    TF_TRY(make_seen(env, a->view->g, in, batch, &seen));
    const int64_t width = seen ? size / in->sample : size;
    a->out = tf_alloc_array(env, (size_t)(batch * size), sizeof *a->out);
    b->out = tf_alloc_array(env, (size_t)(batch * size), sizeof *b->out);
    tfuse_status status = a->out && b->out ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t first = 0; status == TFUSE_OK && first < in->n; first += batch) {
        const int64_t count = in->n - first < batch ? in->n - first : batch;
        status = tf_progress(env, "comparing", (uint64_t)first, (uint64_t)in->n);
        if (status == TFUSE_OK)
            status = tf_evaluator_run(env, a->ev, in, first, count, NULL, a->out);
        if (status == TFUSE_OK)
            status = tf_evaluator_run(env, b->ev, in, first, count, NULL, b->out);
        if (seen)
            tf_inputs_seen(a->view->g, in, first, count, seen);
        for (int64_t i = 0; i < count * size && status == TFUSE_OK; i++) {
            if (seen && !seen[i / width])
                continue;
            const double d = (double)a->out[i] - (double)b->out[i];
            gap += d * d;
            square += (double)a->out[i] * (double)a->out[i];
        }
    }
    *error = square > 0 ? gap / square : gap > 0 ? INFINITY : 0;
    tf_free(&env->mem, seen);
    return status;
}

static tfuse_status output_error(tf_env *env, const tf_moe *s, const tfuse_array *calib, double *error)
{
    side dense = {.view = NULL}, routed = {.view = NULL};
    tfuse_model *made = NULL;
    tf_inputs in;
    tfuse_status status = tf_inputs_make(env, s->dense, s->model, calib, tf_policy_int(s->policy, "calib.samples"), &in);
    if (status == TFUSE_OK)
        status = tf_moe_to_model(env, s, &made);
    if (status == TFUSE_OK)
        status = open_side(env, s->dense, s->model, &in, &dense);
    if (status == TFUSE_OK)
        status = open_side(env, s->routed, made, &in, &routed);
    if (status == TFUSE_OK)
        status = add_outputs(env, &dense, &routed, &in, error);
    close_side(env, &dense);
    close_side(env, &routed);
    tf_model_free(made);
    return status;
}

tfuse_status tf_moe_output_errors(tf_env *env, tf_moe *s, const tfuse_array *calib, const tf_moe_found *found, double out[TF_SPLITS])
{
    for (int k = TF_SPLITS - 1; k >= 0; k--) {
        tf_moe_take(s, found, k);
        TF_TRY(tf_moe_scale_routers(env, s));
        TF_TRY(output_error(env, s, calib, &out[k]));
    }
    return TFUSE_OK;
}

/* ---- all experts chosen ---- */

static tfuse_status whole(tf_env *env, void *arg, tf_id param, float **x)
{
    const tf_moe *s = arg;
    *x = tf_alloc_array(env, (size_t)tf_param_count(&s->routed->params[param]), sizeof **x);
    const tfuse_status status = *x ? tf_moe_param(env, s, param, *x) : TFUSE_ENOMEM;
    if (status != TFUSE_OK) {
        tf_free(&env->mem, *x);
        *x = NULL;
    }
    return status;
}

bool tf_moe_has_rows(const tf_moe *s, tf_id param)
{
    const tf_id source = tf_graph_find_param(s->dense, s->routed->params[param].name);
    return source >= 0 && !tf_moe_ffn_of(s, s->routed->params[param].node) && tf_param_has_rows(s->dense, source);
}

static tfuse_status have_rows(tf_env *env, void *arg, tf_id param, bool *out)
{
    (void)env;
    *out = tf_moe_has_rows(arg, param);
    return TFUSE_OK;
}

static tfuse_status rows(tf_env *env, void *arg, tf_id param, int64_t first, int64_t n, float *dst)
{
    const tf_moe *s = arg;
    int64_t *at = tf_alloc_array(env, (size_t)n + 1, sizeof *at);
    for (int64_t i = 0; at && i < n; i++)
        at[i] = first + i;
    const tfuse_status status =
        at ? tf_param_read_rows(env, s->dense, s->model, tf_graph_find_param(s->dense, s->routed->params[param].name), at, n, dst) : TFUSE_ENOMEM;
    tf_free(&env->mem, at);
    return status;
}

static tfuse_status compare_whole(tf_env *env, tf_moe *all, const tfuse_array *probe, double *deviation)
{
    tf_inputs in;
    tf_view *view = NULL;
    float *was = NULL, *now = NULL;
    size_t count = 0, again = 0;
    tfuse_status status = tf_inputs_make(env, all->dense, all->model, probe, 0, &in);
    if (status == TFUSE_OK)
        status = tf_view_root(env, all->dense, all->model, &view);
    const tf_weights dense = tf_weights_of_view(view), routed = {all, whole, have_rows, rows};
    if (status == TFUSE_OK)
        status = tf_run_lazily(env, all->dense, &dense, &in, &was, &count);
    if (status == TFUSE_OK)
        status = tf_run_lazily(env, all->routed, &routed, &in, &now, &again);
    double most = 0, size = 0;
    for (size_t i = 0; i < count && status == TFUSE_OK; i++) {
        most = fmax(most, fabs((double)was[i] - (double)now[i]));
        size = fmax(size, fabs((double)was[i]));
    }
    *deviation = count == again && size > 0 ? most / size : count == again && most == 0 ? 0 : INFINITY;
    tf_view_free(view);
    tf_free(&env->mem, was);
    tf_free(&env->mem, now);
    return status;
}

tfuse_status tf_moe_selfcheck(tf_env *env, const tf_moe *s, double *deviation)
{
    tf_moe all;
    tfuse_array *probe = NULL;
    *deviation = 0;
    if (s->dense->output < 0)
        return TFUSE_OK;
    TF_TRY(tf_moe_with_top_k(env, s, s->how.experts, &all));
    tfuse_status status = tf_moe_scale_routers(env, &all);
    if (status == TFUSE_OK)
        status = tf_selfcheck_probe(env, s->dense, &probe);
    if (status == TFUSE_OK)
        status = compare_whole(env, &all, probe, deviation);
    if (status == TFUSE_OK && !(*deviation <= TF_SELFCHECK_TOLERANCE))
        status = tf_fail(env, TFUSE_ENUMERIC, "self-check: %s as %s with every expert chosen computes another function: outputs deviate by %.3g of the "
                         "largest, more than %g; nothing is written", tf_model_label(s->model), s->layout, *deviation, TF_SELFCHECK_TOLERANCE);
    tf_array_free(probe);
    tf_moe_close(env, &all);
    return status;
}
