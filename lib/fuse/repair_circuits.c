/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_circuits.c: the parents' mean circuits, cut back to the units that there are.
 *
 * An operation says which of its sides meet only in products (graph/op.h): query and key, value and output weights of a head. Averaging the factors of
 * aligned parents shrinks what does not agree; here the products are averaged, C = sum_k w_k A_k' B_k, of rank n times the units u of a head, and
 * the nearest of rank u is kept. Nearness is weighted by the second moments S of what each side reads, |S_a^1/2 (C - C') S_b^1/2|, where
 * calibration gives them (shrunk a little towards the identity, so that what the samples never show is not free), else not.
 *
 * With A the rows w_k A_k of all parents, B the rows B_k, and their Grams G_a = A S_a A', G_b = B S_b B', the singular values of the weighted product
 * are those of the small matrix G_a^1/2 G_b^1/2 = U Sigma V', and with a = G_a^-1/2 U_u the best product of u units is
 *     (Sigma^1/2 a' A)' (Sigma^-1/2 a' G_a B):
 * nothing larger than the units of n parents is factorised, and only what is kept is divided by. Queries that share a key are stacked: their Grams add
 * up. Pairs under rotary positions are complex units, the key's conjugate; a complex matrix stands as [Re, -Im; Im, Re], and one pair is kept of n.
 */
#include "fuse/repair.h"
#include "num/num.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

#define SHRINK 1e-3
#define ZERO 1e-13    /* of the largest eigenvalue of a Gram: below it is rounding of float32 weights */
#define NOTHING 1e-6f /* of the largest singular value */

/* ---- which -------------------------------------------------------------------------------------------------------- */

static size_t step_of(const repair *r, tf_id node)
{
    for (size_t s = 0; s < r->n_nodes; s++)
        if (r->nodes[s] == node)
            return s;
    return r->n_nodes;
}

static bool is_own(const repair *r, const tf_node *n)
{
    const tf_id bias = tf_node_slot(n, 1);
    return n->op == &tf_op_linear && tf_param_is_private(r->g, tf_node_slot(n, 0)) && (bias < 0 || tf_param_is_private(r->g, bias));
}

/* The linear that makes the value for one reader alone. */
static bool find_maker(const repair *r, tf_id value, rp_side *out)
{
    const tf_node *n = &r->g->nodes[r->g->values[value].node];
    if (!is_own(r, n) || tf_count_readers(r->g, value) != 1)
        return false;
    *out = (rp_side){.node = tf_node_id(r->g, n), .weight = tf_node_slot(n, 0), .bias = tf_node_slot(n, 1), .in = n->inputs[0]};
    out->length = r->g->params[out->weight].shape[1] + (out->bias >= 0);
    return true;
}

static bool find_reader(const repair *r, tf_id value, rp_side *out)
{
    if (tf_count_readers(r->g, value) != 1)
        return false;
    for (size_t s = 0; s < r->n_nodes; s++) {
        const tf_node *n = &r->g->nodes[r->nodes[s]];
        if (n->n_inputs < 1 || n->inputs[0] != value || !is_own(r, n))
            continue;
        *out = (rp_side){.node = r->nodes[s], .weight = tf_node_slot(n, 0), .bias = -1, .in = -1, .is_read = true};
        out->length = r->g->params[out->weight].shape[0];
        return true;
    }
    return false;
}

static bool find_side(const repair *r, const tf_node *n, int which, rp_side *out)
{
    return which == TF_CIRCUIT_OUTPUT ? find_reader(r, n->outputs[0], out) : find_maker(r, n->inputs[which], out);
}

tfuse_status rp_circuits_make(repair *r)
{
    tf_circuit found[TF_MAX_CIRCUITS];
    r->base = tf_calloc(r->env, r->g->n_params + 1, sizeof *r->base);
    r->circuits = tf_calloc(r->env, TF_MAX_CIRCUITS * r->n_nodes + 1, sizeof *r->circuits);
    if (!r->base || !r->circuits)
        return TFUSE_ENOMEM;
    for (size_t s = 0; s < r->n_nodes; s++) {
        const tf_node *n = &r->g->nodes[r->nodes[s]];
        int count = n->op->circuits ? n->op->circuits(r->g, n, found) : 0;
        for (int i = 0; i < count && (r->stages & RP_UNASKED); i++)
            count = found[i].pairs ? 0 : count;
        for (int i = 0; i < count; i++) {
            rp_circuit *c = &r->circuits[r->n_circuits];
            *c = (rp_circuit){.node = r->nodes[s], .c = found[i]};
            if (!find_side(r, n, c->c.a, &c->a) || !find_side(r, n, c->c.b, &c->b))
                continue;
            const size_t a = step_of(r, c->a.node), b = step_of(r, c->b.node);
            c->first = a < b ? a : b;
            r->n_circuits++;
        }
    }
    return TFUSE_OK;
}

void rp_circuits_free(repair *r)
{
    tf_free(&r->env->mem, r->circuits);
    tf_fitted_free(r->env, r->g, r->base);
}

bool rp_in_circuit(const repair *r, tf_id node, bool *reads)
{
    for (size_t i = 0; i < r->n_circuits; i++) {
        const rp_side *sides[] = {&r->circuits[i].a, &r->circuits[i].b};
        for (int k = 0; k < 2; k++)
            if (sides[k]->node == node) {
                *reads = sides[k]->is_read;
                return true;
            }
    }
    return false;
}

/* ---- the units of all parents, and where merged ones go ------------------------------------------------------------ */

/* A side: a row for each channel, of every parent and of the result. */
typedef struct units {
    const rp_side *side;
    int64_t channels, used; /* used: columns that count; a bias that changes nothing does not */
    float **parent;         /* n of channels × length */
    float *merged;
    double *moment;         /* length × length; NULL: the identity */
} units;

/* Copies a channel between rows and the tensors that hold it. */
static void move_channels(const units *u, float *w, float *bias, bool to_rows, float *rows, int64_t width)
{
    const rp_side *s = u->side;
    const int64_t n = s->length, inner = n - (bias != NULL);
    for (int64_t c = 0; c < u->channels; c++)
        for (int64_t i = 0; i < n; i++) {
            float *at = i >= inner ? &bias[c] : s->is_read ? &w[i * width + c] : &w[c * width + i];
            if (to_rows)
                rows[c * n + i] = *at;
            else
                *at = rows[c * n + i];
        }
}

static tfuse_status load_parent(repair *r, units *u, size_t k)
{
    float *w, *owned, *bias = NULL, *owned_bias = NULL;
    const float *x;
    TF_TRY(rp_param(r, k, u->side->weight, &x, &owned));
    w = owned;
    tfuse_status status = TFUSE_OK;
    if (u->side->bias >= 0) {
        status = rp_param(r, k, u->side->bias, &x, &owned_bias);
        bias = owned_bias;
    }
    u->parent[k] = status == TFUSE_OK ? tf_alloc_array(r->env, (size_t)(u->channels * u->side->length), sizeof(float)) : NULL;
    if (u->parent[k])
        move_channels(u, w, bias, true, u->parent[k], r->g->params[u->side->weight].shape[1]);
    else if (status == TFUSE_OK)
        status = TFUSE_ENOMEM;
    tf_free(&r->env->mem, owned);
    tf_free(&r->env->mem, owned_bias);
    return status;
}

/* Channel by channel the second moments of what the side reads, the ones of a bias last; about the mean where shifts change nothing. */
static void finish_moment(double *x, int64_t n, bool centred)
{
    const double weight = x[n * n - 1];
    double trace = 0;
    for (int64_t i = 0; i < n && centred && weight > 0; i++)
        for (int64_t j = 0; j < n; j++)
            if (i < n - 1 && j < n - 1)
                x[i * n + j] -= x[i * n + n - 1] * x[(n - 1) * n + j] / weight;
    for (int64_t i = 0; i < n - centred; i++)
        trace += x[i * n + i];
    for (int64_t i = 0; i < n; i++) {
        x[i * n + n - 1] = centred && i < n - 1 ? 0 : x[i * n + n - 1];
        x[(n - 1) * n + i] = x[i * n + n - 1];
        x[i * n + i] += trace > 0 ? SHRINK * trace / (double)n : 1;
    }
}

typedef struct input_arg {
    size_t lane;
    tf_id value;
} input_arg;

static void input_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const input_arg *a = arg;
    const tf_batch *b = rp_value(r, a->lane, a->value);
    const int64_t n = tf_batch_channels(b);
    for (int64_t i = 0; i < count; i++, out += n + 1) {
        memcpy(out, b->data + row[i] * n, (size_t)n * sizeof *out);
        out[n] = 1;
    }
}

static void no_target(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    (void)r, (void)arg, (void)row;
    memset(out, 0, (size_t)count * sizeof *out);
}

/* Of the parents' mean, by their shares; ones are counted whether there is a bias or not. */
static tfuse_status make_moment(repair *r, units *u, bool centred)
{
    const tf_node *linear = &r->g->nodes[u->side->node];
    const int64_t n = r->g->params[u->side->weight].shape[1] + 1, used = u->side->length;
    rp_rows rows;
    TF_TRY(rp_rows_make(r, u->side->in, linear->outputs[0], &rows));
    double *sum = tf_calloc(r->env, (size_t)(n * n), sizeof *sum);
    tfuse_status status = sum ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 0; k < r->n && status == TFUSE_OK; k++) {
        const input_arg arg = {k, u->side->in};
        rp_grams g = {0};
        status = rp_grams_make(r, &rows, n, input_rows, &arg, 1, no_target, NULL, &g);
        for (int64_t i = 0; i < n * n && status == TFUSE_OK; i++)
            sum[i] += fabs(r->mix[k]) * (g.xx[0][i] + g.xx[1][i]);
        rp_grams_free(r, &g);
    }
    if (status == TFUSE_OK) {
        finish_moment(sum, n, centred);
        for (int64_t i = 0; i < used && used < n; i++)
            memmove(sum + i * used, sum + i * n, (size_t)used * sizeof *sum);
    }
    tf_free(&r->env->mem, rows.root);
    u->moment = sum;
    return status;
}

static void free_units(repair *r, units *u)
{
    for (size_t k = 0; u->parent && k < r->n; k++)
        tf_free(&r->env->mem, u->parent[k]);
    tf_free(&r->env->mem, u->parent);
    tf_free(&r->env->mem, u->merged);
    tf_free(&r->env->mem, u->moment);
}

static tfuse_status load_units(repair *r, const rp_side *side, bool shift, units *u)
{
    u->side = side;
    u->channels = r->g->params[side->weight].shape[side->is_read ? 1 : 0];
    u->used = side->length - (shift && side->bias >= 0);
    u->parent = tf_calloc(r->env, r->n, sizeof *u->parent);
    u->merged = tf_calloc(r->env, (size_t)(u->channels * side->length), sizeof *u->merged);
    if (!u->parent || !u->merged)
        return TFUSE_ENOMEM;
    for (size_t k = 0; k < r->n; k++)
        TF_TRY(load_parent(r, u, k));
    return r->samples > 0 && side->in >= 0 ? make_moment(r, u, shift) : TFUSE_OK;
}

/* ---- one product ------------------------------------------------------------------------------------------------------- */

/* Units `unit` (count of them) of blocks of a that meet one block of b. Rows are unit by unit, in each of them parent by parent. */
typedef struct product {
    repair *r;
    units *a, *b;
    int64_t count, rows, group; /* rows: count × n */
    const int64_t *unit;        /* channels of the units of the first block of a and of the block of b: count each */
    const int64_t *b_unit;
    int64_t a_stride;           /* channels from one block of a to the next */
    bool complex;
} product;

static tf_dmat dense(double *x, int64_t rows, int64_t cols)
{
    return (tf_dmat){x, rows, cols, cols, 1};
}

static void gather(const product *p, const units *u, const int64_t *channel, int64_t shift, bool shares, double *out)
{
    const int64_t n = u->side->length;
    for (int64_t c = 0; c < p->count; c++)
        for (size_t k = 0; k < p->r->n; k++)
            for (int64_t i = 0; i < n; i++)
                *out++ = (shares ? p->r->mix[k] : 1) * (double)u->parent[k][(channel[c] + shift) * n + i];
}

/* gram += X S X' of gathered rows. work: rows × length. */
static void add_gram(const product *p, const units *u, double *x, double *work, double *gram)
{
    const int64_t n = u->side->length;
    const tf_dmat rows = {x, p->rows, u->used, n, 1};
    tf_dmat moved = rows;
    if (u->moment) {
        moved = (tf_dmat){work, p->rows, u->used, n, 1};
        tf_dgemm(p->r->env, 1, rows, (tf_dmat){u->moment, u->used, u->used, n, 1}, 0, moved);
    }
    tf_dgemm(p->r->env, 1, moved, (tf_dmat){x, u->used, p->rows, 1, n}, 1, dense(gram, p->rows, p->rows));
}

/* The Gram of rows u, v as that of conj(u + iv): Re = uu + vv, Im = uv - vu, set as [Re, -Im; Im, Re]. */
static void make_complex(double *g, int64_t rows)
{
    const int64_t n = rows / 2;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double *uu = &g[i * rows + j], *uv = &g[i * rows + n + j], *vu = &g[(n + i) * rows + j], *vv = &g[(n + i) * rows + n + j];
            const double re = *uu + *vv, im = *uv - *vu;
            *uu = *vv = re;
            *uv = -im;
            *vu = im;
        }
}

/* The square root of a positive semidefinite matrix, and of its inverse where it has one. work: 2 n² + n. */
static tfuse_status roots(tf_env *env, int64_t n, const double *g, double *work, double *root, double *inverse)
{
    double *u = work, *vt = u + n * n, *s = vt + n * n;
    TF_TRY(tf_svd(env, n, n, g, u, s, vt));
    for (int power = 0; power < 2; power++) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                const double at = s[j] > ZERO * s[0] ? sqrt(s[j]) : 0;
                vt[i * n + j] = u[i * n + j] * (power == 0 ? at : at > 0 ? 1 / at : 0);
            }
        tf_dgemm(env, 1, dense(vt, n, n), (tf_dmat){u, n, n, 1, n}, 0, dense(power ? inverse : root, n, n));
    }
    return TFUSE_OK;
}

/* left, right: of what is kept, coefficients over the rows (keep of them, count × rows). singular: all of them. */
static tfuse_status split(const product *p, const double *ga, const double *gb, double *left, double *right, double *singular)
{
    tf_env *env = p->r->env;
    const int64_t n = p->rows;
    double *work = tf_alloc_array(env, (size_t)(8 * n * n + n), sizeof *work);
    if (!work)
        return TFUSE_ENOMEM;
    double *root = work, *inverse = root + n * n, *other = inverse + n * n, *core = other + n * n, *u = core + n * n, *room = u + n * n;
    const int64_t keep = p->complex ? 1 : p->count;
    tfuse_status status = roots(env, n, gb, room, other, core);
    if (status == TFUSE_OK)
        status = roots(env, n, ga, room, root, inverse);
    if (status == TFUSE_OK) {
        tf_dgemm(env, 1, dense(root, n, n), dense(other, n, n), 0, dense(core, n, n));
        status = tf_svd(env, n, n, core, u, singular, other);
    }
    for (int64_t k = 0; k < keep && status == TFUSE_OK; k++) {
        const double s = singular[k], scale = s > (double)NOTHING * singular[0] ? sqrt(s) : 0;
        tf_dgemm(env, scale, (tf_dmat){u + k, 1, n, n, n}, dense(inverse, n, n), 0, dense(left + k * n, 1, n));
        tf_dgemm(env, scale > 0 ? 1 / s : 0, dense(left + k * n, 1, n), (tf_dmat){(double *)(uintptr_t)ga, n, n, 1, n}, 0, dense(right + k * n, 1, n));
    }
    tf_free(&env->mem, work);
    return status;
}

/* x + iy over complex rows u + iv, as two real units over the rows u and v. */
static void spread_complex(double *c, int64_t rows)
{
    const int64_t n = rows / 2;
    for (int64_t i = 0; i < n; i++) {
        c[rows + i] = c[n + i];
        c[rows + n + i] = c[i];
        c[n + i] = -c[n + i];
    }
}

static void put(const product *p, units *u, const int64_t *channel, int64_t shift, double *coefficients, double *x, double *work)
{
    const int64_t n = u->side->length;
    tf_dgemm(p->r->env, 1, dense(coefficients, p->count, p->rows), dense(x, p->rows, n), 0, dense(work, p->count, n));
    for (int64_t c = 0; c < p->count; c++)
        for (int64_t i = 0; i < n; i++)
            u->merged[(channel[c] + shift) * n + i] = (float)work[c * n + i];
}

/* dropped: adds what is left out, over the largest; rows of them, zeros first. Returns the share of the squares that is kept in *kept. */
static void account(const product *p, const double *singular, double *dropped, double *kept)
{
    const int64_t each = p->complex ? 2 : 1, from = p->complex ? 2 : p->count;
    double all = 0, held = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        all += singular[i] * singular[i];
        held += i < from ? singular[i] * singular[i] : 0;
    }
    for (int64_t i = from; i < p->rows && singular[0] > 0; i += each)
        dropped[(i - from) / each] += singular[i] / singular[0];
    *kept += all > 0 ? held / all : 1;
}

static tfuse_status merge(const product *p, double *dropped, double *kept)
{
    tf_env *env = p->r->env;
    const int64_t n = p->rows, longest = p->a->side->length > p->b->side->length ? p->a->side->length : p->b->side->length;
    double *ga = tf_calloc(env, (size_t)(4 * n * n + n + 2 * n * longest), sizeof *ga);
    if (!ga)
        return TFUSE_ENOMEM;
    double *gb = ga + n * n, *left = gb + n * n, *right = left + n * n, *singular = right + n * n, *x = singular + n, *work = x + n * longest;
    for (int64_t g = 0; g < p->group; g++) {
        gather(p, p->a, p->unit, g * p->a_stride, true, x);
        add_gram(p, p->a, x, work, ga);
    }
    gather(p, p->b, p->b_unit, 0, false, x);
    add_gram(p, p->b, x, work, gb);
    if (p->complex) {
        make_complex(ga, n);
        make_complex(gb, n);
    }
    tfuse_status status = split(p, ga, gb, left, right, singular);
    if (status == TFUSE_OK) {
        if (p->complex) {
            spread_complex(left, n);
            spread_complex(right, n);
        }
        put(p, p->b, p->b_unit, 0, right, x, work);
        for (int64_t g = 0; g < p->group; g++) {
            gather(p, p->a, p->unit, g * p->a_stride, true, x);
            put(p, p->a, p->unit, g * p->a_stride, left, x, work);
        }
        account(p, singular, dropped, kept);
    }
    tf_free(&env->mem, ga);
    return status;
}

/* ---- a circuit ------------------------------------------------------------------------------------------------------------ */

static tfuse_status merge_all(repair *r, const tf_circuit *c, units *a, units *b, int64_t *channel, double *dropped, double *kept)
{
    const int64_t sets = c->pairs ? c->pairs : 1, count = c->pairs ? 2 : c->count;
    for (int64_t block = 0; block < c->blocks; block++)
        for (int64_t s = 0; s < sets; s++) {
            for (int64_t i = 0; i < count; i++) {
                const int64_t unit = c->first + (c->pairs ? s * c->step + i * c->second : i);
                channel[i] = block * c->group * c->width + unit;
                channel[count + i] = block * c->width + unit;
            }
            const product p = {r, a, b, count, count * (int64_t)r->n, c->group, channel, channel + count, c->width, c->pairs > 0};
            TF_TRY(merge(&p, dropped, kept));
            TF_TRY(tf_check_cancel(r->env));
        }
    return TFUSE_OK;
}

/* The merged units in place of the parents' mean; other units of the tensor, of another circuit, stay. */
static tfuse_status keep_units(repair *r, const tf_circuit *c, const units *u)
{
    const tf_id params[] = {u->side->weight, u->side->bias};
    const int64_t n = u->side->length, width = r->g->params[u->side->weight].shape[1];
    for (int i = 0; i < 2; i++)
        if (params[i] >= 0 && !r->base[params[i]] &&
            !(r->base[params[i]] = tf_calloc(r->env, (size_t)tf_param_count(&r->g->params[params[i]]), sizeof(float))))
            return TFUSE_ENOMEM;
    float *w = r->base[u->side->weight], *bias = u->side->bias >= 0 ? r->base[u->side->bias] : NULL;
    for (int64_t ch = 0; ch < u->channels; ch++) {
        const int64_t unit = ch % c->width;
        if (unit < c->first || unit >= c->first + c->count)
            continue;
        for (int64_t i = 0; i < n - (bias != NULL); i++)
            w[u->side->is_read ? i * width + ch : ch * width + i] = u->merged[ch * n + i];
        if (bias)
            bias[ch] = u->merged[ch * n + n - 1];
    }
    return TFUSE_OK;
}

static tfuse_status report(repair *r, const rp_circuit *c, double *dropped, int64_t count, double kept)
{
    const double times = (double)(c->c.blocks * (c->c.pairs ? c->c.pairs : 1));
    json_t *list = json_array();
    for (int64_t i = 0; list && i < count; i++)
        json_array_append_new(list, json_real(dropped[i] / times));
    if (!list || json_array_append_new(r->merged, json_pack("{s:s, s:s, s:f, s:o}", "name", r->g->nodes[c->node].name, "circuit", c->c.name, "kept",
                                                            kept / times, "dropped", list)))
        return tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair");
    return TFUSE_OK;
}

static tfuse_status merge_circuit(repair *r, const rp_circuit *c)
{
    const int64_t count = c->c.pairs ? 2 : c->c.count, rows = count * (int64_t)r->n, left = c->c.pairs ? (int64_t)r->n - 1 : rows - count;
    units a = {0}, b = {0};
    double kept = 0, *dropped = tf_calloc(r->env, (size_t)(rows + 1), sizeof *dropped);
    int64_t *channel = tf_alloc_array(r->env, (size_t)(2 * count), sizeof *channel);
    tfuse_status status = dropped && channel ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t k = 0; k < r->n && status == TFUSE_OK && r->samples > 0; k++)
        status = rp_advance(r, k, step_of(r, c->node));
    if (status == TFUSE_OK)
        status = load_units(r, &c->a, false, &a);
    if (status == TFUSE_OK)
        status = load_units(r, &c->b, c->c.b_shift, &b);
    if (status == TFUSE_OK)
        status = merge_all(r, &c->c, &a, &b, channel, dropped, &kept);
    if (status == TFUSE_OK)
        status = keep_units(r, &c->c, &a);
    if (status == TFUSE_OK)
        status = keep_units(r, &c->c, &b);
    if (status == TFUSE_OK)
        status = report(r, c, dropped, left, kept);
    free_units(r, &a);
    free_units(r, &b);
    tf_free(&r->env->mem, dropped);
    tf_free(&r->env->mem, channel);
    return status == TFUSE_OK ? status : tf_fail_in(r->env, status, "merging circuit %s of %s", c->c.name, r->g->nodes[c->node].name);
}

tfuse_status rp_merge_circuits(repair *r, size_t step)
{
    for (size_t i = 0; i < r->n_circuits; i++)
        if (r->circuits[i].first == step)
            TF_TRY(merge_circuit(r, &r->circuits[i]));
    return TFUSE_OK;
}
