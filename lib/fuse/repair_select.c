/* SPDX-License-Identifier: Apache-2.0
 *
 * repair_select.c: heads and hidden units chosen from the union of all parents, in place of averages of aligned ones.
 *
 * Features are what all parents' units give on the calibration inputs, the target is what the write that reads them should add to the merged
 * stream. Units are taken one after the other, each time the one by which a ridge on the units taken explains most more: with G the features'
 * Gram and C their products with the target, both cleared of what is taken (block Gram-Schmidt), the gain of unit b is
 *     tr(C_b' (G_bb + rho)^-1 C_b).
 * Two parents' units of one place that give the same are one unit, the earlier parent's: which of them explains more would be decided by rounding,
 * and to take both would leave out another, that calibration inputs of few directions may not show. Axes of many units are taken some at a time: exact
 * steps among the best candidates, then one clearing of the whole by all of them. The linears that feed a chosen unit are then fitted to its owner's
 * outputs, and the write to the target, on the merged network's inputs.
 */
#include "fuse/repair.h"
#include "num/num.h"
#include "ops/common.h"
#include "ops/ops.h"
#include <math.h>
#include <string.h>

#define RHO 1e-3
#define SAME 1e-5 /* of the square: what float32 sums leave of a difference (repair_fit.c) */
enum { STEPS = 256, CANDIDATES = 4 };

/* ---- which axes -------------------------------------------------------------------------------------------------------- */

static size_t step_of(const repair *r, tf_id node)
{
    for (size_t s = 0; s < r->n_nodes; s++)
        if (r->nodes[s] == node)
            return s;
    return r->n_nodes;
}

/* The outermost class of a binding of one part; -1. *size: units of a block. */
static tfuse_status outermost(const repair *r, const tf_binding *b, tf_id *cls)
{
    tf_part *parts;
    int count;
    *cls = -1;
    TF_TRY(tf_binding_parts(r->env, r->g, b, &parts, &count));
    if (count == 1 && parts[0].port[0] >= 0)
        *cls = tf_class_of(r->g, parts[0].port[0]);
    tf_free(&r->env->mem, parts);
    return TFUSE_OK;
}

/* Whether a class stands anywhere in a binding. */
static tfuse_status holds(const repair *r, const tf_binding *b, tf_id cls, bool *yes)
{
    tf_part *parts;
    int count;
    *yes = false;
    TF_TRY(tf_binding_parts(r->env, r->g, b, &parts, &count));
    for (int i = 0; i < count; i++)
        for (int f = 0; f < parts[i].n_factors; f++)
            *yes = *yes || (parts[i].port[f] >= 0 && tf_class_of(r->g, parts[i].port[f]) == cls);
    tf_free(&r->env->mem, parts);
    return TFUSE_OK;
}

static bool is_written(const repair *r, tf_id value)
{
    for (size_t i = 0; i < r->g->n_nodes; i++)
        for (int k = 0; k < r->g->nodes[i].n_inputs; k++)
            if (r->g->nodes[i].inputs[k] == value && r->g->nodes[i].op == &tf_op_add)
                return true;
    return false;
}

static bool is_feed(const rp_block *b, tf_id node)
{
    for (int i = 0; i < b->n_feeds; i++)
        if (b->feeds[i] == node)
            return true;
    return false;
}

/* Every tensor on the class must be rows of a linear that feeds it or columns of the write; *fits says so. */
static tfuse_status find_feeds(repair *r, rp_block *b, bool *fits)
{
    const tf_graph *g = r->g;
    *fits = true;
    for (size_t i = 0; i < g->n_params && *fits; i++) {
        const tf_param *p = &g->params[i];
        bool on[TF_MAX_PARAM_RANK] = {false}, any = false;
        for (int d = 0; d < p->rank; d++) {
            TF_TRY(holds(r, p->dims[d], b->cls, &on[d]));
            any = any || on[d];
        }
        const tf_node *n = &g->nodes[p->node];
        tf_id first = -1;
        if (!any)
            continue;
        if (n->op != &tf_op_linear || !tf_param_is_private(g, (tf_id)i)) {
            *fits = false;
            continue;
        }
        if (p->node == b->write) {
            *fits = !on[0];
            continue;
        }
        TF_TRY(outermost(r, p->dims[0], &first));
        *fits = on[0] && first == b->cls && !(p->rank > 1 && on[1]) && step_of(r, p->node) < step_of(r, b->write);
        if (*fits && !is_feed(b, p->node))
            b->feeds[b->n_feeds++] = p->node;
    }
    for (int i = 0; i < b->n_feeds; i++) {
        const size_t s = step_of(r, b->feeds[i]);
        b->first = i == 0 || s < b->first ? s : b->first;
    }
    *fits = *fits && b->n_feeds > 0;
    return TFUSE_OK;
}

static tfuse_status find_block(repair *r, tf_id write, rp_block *b, bool *fits)
{
    const tf_graph *g = r->g;
    const tf_node *n = &g->nodes[write];
    bool reads = false;
    *fits = false;
    if (n->op != &tf_op_linear || !is_written(r, n->outputs[0]) || !tf_param_is_private(g, n->params[0]))
        return TFUSE_OK;
    *b = (rp_block){.write = write};
    if (rp_in_circuit(r, write, &reads) && reads)
        return TFUSE_OK; /* its units are merged */
    TF_TRY(outermost(r, tf_value_channels(g, n->inputs[0]), &b->cls));
    if (b->cls < 0 || tf_class_pinned(g, b->cls) || tf_class_parent(g, b->cls) >= 0)
        return TFUSE_OK;
    b->units = tf_class_extent(g, b->cls);
    if (!(b->feeds = tf_calloc(r->env, g->n_params, sizeof *b->feeds)))
        return TFUSE_ENOMEM;
    const tfuse_status status = find_feeds(r, b, fits);
    if (status != TFUSE_OK || !*fits) {
        tf_free(&r->env->mem, b->feeds);
        b->feeds = NULL;
    }
    return status;
}

tfuse_status rp_blocks_make(repair *r)
{
    if (!(r->blocks = tf_calloc(r->env, r->n_nodes + 1, sizeof *r->blocks)))
        return TFUSE_ENOMEM;
    for (size_t s = 0; s < r->n_nodes; s++) {
        bool fits;
        TF_TRY(find_block(r, r->nodes[s], &r->blocks[r->n_blocks], &fits));
        r->n_blocks += fits;
    }
    return TFUSE_OK;
}

void rp_blocks_free(repair *r)
{
    for (size_t i = 0; i < r->n_blocks; i++) {
        tf_free(&r->env->mem, r->blocks[i].feeds);
        tf_free(&r->env->mem, r->blocks[i].owner);
        tf_free(&r->env->mem, r->blocks[i].from);
    }
    tf_free(&r->env->mem, r->blocks);
}

const rp_block *rp_block_of(const repair *r, tf_id node, bool *write)
{
    for (size_t i = 0; i < r->n_blocks; i++) {
        const rp_block *b = &r->blocks[i];
        *write = b->write == node;
        if (b->owner && (*write || is_feed(b, node)))
            return b;
    }
    return NULL;
}

/* ---- features ----------------------------------------------------------------------------------------------------------------- */

typedef struct features {
    tf_id value, out, residual;
    tf_part *part;   /* of the value's channels */
    int64_t channels;
} features;

/* Parent by parent, the units in the order of the part: blocks lie together. */
static void feature_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const features *f = arg;
    for (int64_t i = 0; i < count; i++)
        for (size_t k = 0; k < r->n; k++) {
            const float *x = rp_value(r, k, f->value)->data + row[i] * f->channels;
            for (int64_t u = 0; u < f->channels; u++)
                *out++ = x[tf_part_index(f->part, u)];
        }
}

static void target_rows(const repair *r, const void *arg, const int64_t *row, int64_t count, float *out)
{
    const features *f = arg;
    const int64_t m = tf_batch_channels(rp_value(r, 0, f->out));
    for (int64_t i = 0; i < count; i++)
        rp_target(r, f->out, f->residual, row[i], out + i * m);
}

/* ---- greedy choice -------------------------------------------------------------------------------------------------------------- */

typedef struct choice {
    repair *r;
    int64_t n, m, size;  /* features, columns of the target, features of a unit */
    double *g, *c;       /* n×n, n×m, cleared of what is taken */
    double rho;
    double *gain;        /* of each unit of each parent; -1: taken, or left out */
    double *work;
} choice;

static tf_dmat rows_of(double *x, int64_t cols, int64_t first, int64_t count)
{
    return (tf_dmat){x + first * cols, count, cols, cols, 1};
}

/* tr(C_b' (G_bb + rho)^-1 C_b) at features first.. of matrices with given strides. */
static tfuse_status gain_at(choice *ch, const double *g, const double *c, int64_t stride, int64_t first, double *gain)
{
    const int64_t s = ch->size, m = ch->m;
    double *a = ch->work, *b = a + s * s, *x = b + s * m;
    *gain = 0;
    if (s == 1) {
        const double d = g[first * stride + first] + ch->rho;
        for (int64_t j = 0; j < m; j++)
            *gain += c[first * m + j] * c[first * m + j] / d;
        return TFUSE_OK;
    }
    for (int64_t i = 0; i < s; i++)
        for (int64_t j = 0; j < s; j++)
            a[i * s + j] = g[(first + i) * stride + first + j] + (i == j ? ch->rho : 0);
    memcpy(b, c + first * m, (size_t)(s * m) * sizeof *b);
    const tfuse_status status = tf_chol_solve(ch->r->env, s, m, a, b, x);
    for (int64_t i = 0; i < s * m && status == TFUSE_OK; i++)
        *gain += b[i] * x[i];
    return status == TFUSE_ENUMERIC ? TFUSE_OK : status; /* nothing new is left in it */
}

/* G and C, n rows with the given stride, lose what `count` features listed in `at` explain: X <- X - G_:S (G_SS + rho)^-1 X_S. */
static tfuse_status clear(choice *ch, double *g, double *c, int64_t n, const int64_t *at, int64_t count)
{
    tf_env *env = ch->r->env;
    const int64_t m = ch->m, wide = n + m;
    double *a = tf_alloc_array(env, (size_t)(count * count + 2 * count * wide + n * count), sizeof *a);
    if (!a)
        return TFUSE_ENOMEM;
    double *b = a + count * count, *x = b + count * wide, *left = x + count * wide;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < count; j++)
            a[i * count + j] = g[at[i] * n + at[j]] + (i == j ? ch->rho : 0);
        memcpy(b + i * wide, g + at[i] * n, (size_t)n * sizeof *b);
        memcpy(b + i * wide + n, c + at[i] * m, (size_t)m * sizeof *b);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < count; j++)
            left[i * count + j] = g[i * n + at[j]];
    tfuse_status status = tf_chol_solve(env, count, wide, a, b, x);
    if (status == TFUSE_OK) {
        tf_dgemm(env, -1, rows_of(left, count, 0, n), (tf_dmat){x, count, n, wide, 1}, 1, rows_of(g, n, 0, n));
        tf_dgemm(env, -1, rows_of(left, count, 0, n), (tf_dmat){x + n, count, m, wide, 1}, 1, rows_of(c, m, 0, n));
    }
    tf_free(&env->mem, a);
    return status;
}

/* Indices of the largest gains first, the earlier parent's where equal. */
static int64_t best_units(const choice *ch, int64_t units, int64_t want, int64_t *out)
{
    int64_t count = 0;
    for (int64_t u = 0; u < units; u++) {
        if (ch->gain[u] < 0)
            continue;
        int64_t at = count < want ? count++ : want;
        while (at > 0 && ch->gain[u] > ch->gain[out[at - 1]]) {
            if (at < want)
                out[at] = out[at - 1];
            at--;
        }
        if (at < want)
            out[at] = u;
    }
    return count;
}

/* Exact greedy steps among candidates on a copy of their part of G and C; taken: indices of units. */
static tfuse_status take_among(choice *ch, const int64_t *candidates, int64_t count, int64_t want, int64_t *taken)
{
    tf_env *env = ch->r->env;
    const int64_t s = ch->size, n = count * s, m = ch->m;
    double *g = tf_alloc_array(env, (size_t)(n * n + n * m), sizeof *g), *c = g + n * n;
    int64_t *at = tf_alloc_array(env, (size_t)(s + count), sizeof *at), *used = at + s;
    tfuse_status status = g && at ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t i = 0; i < n && status == TFUSE_OK; i++) {
        const int64_t row = candidates[i / s] * s + i % s;
        for (int64_t j = 0; j < n; j++)
            g[i * n + j] = ch->g[row * ch->n + candidates[j / s] * s + j % s];
        memcpy(c + i * m, ch->c + row * m, (size_t)m * sizeof *c);
    }
    for (int64_t i = 0; i < count && status == TFUSE_OK; i++)
        used[i] = 0;
    for (int64_t k = 0; k < want && status == TFUSE_OK; k++) {
        int64_t best = -1;
        double most = -1, gain;
        for (int64_t i = 0; i < count && status == TFUSE_OK; i++) {
            status = used[i] ? TFUSE_OK : gain_at(ch, g, c, n, i * s, &gain);
            if (!used[i] && gain > most) {
                most = gain;
                best = i;
            }
        }
        if (status != TFUSE_OK)
            break;
        used[best] = 1;
        taken[k] = candidates[best];
        for (int64_t i = 0; i < s; i++)
            at[i] = best * s + i;
        if (k + 1 < want)
            status = clear(ch, g, c, n, at, s);
    }
    tf_free(&env->mem, g);
    tf_free(&env->mem, at);
    return status;
}

static tfuse_status choose(choice *ch, int64_t units, int64_t want, int64_t *chosen)
{
    tf_env *env = ch->r->env;
    const int64_t each = want > STEPS ? want / STEPS : 1;
    int64_t *candidates = tf_alloc_array(env, (size_t)(units + each * ch->size), sizeof *candidates), *at = candidates + units, taken = 0;
    tfuse_status status = candidates ? TFUSE_OK : TFUSE_ENOMEM;
    while (taken < want && status == TFUSE_OK) {
        const int64_t now = want - taken < each ? want - taken : each;
        for (int64_t u = 0; u < units && status == TFUSE_OK; u++)
            if (ch->gain[u] >= 0)
                status = gain_at(ch, ch->g, ch->c, ch->n, u * ch->size, &ch->gain[u]);
        const int64_t count = best_units(ch, units, now == 1 ? 1 : now * CANDIDATES, candidates);
        if (status == TFUSE_OK)
            status = now == 1 ? TFUSE_OK : take_among(ch, candidates, count, now, chosen + taken);
        if (now == 1)
            chosen[taken] = candidates[0];
        for (int64_t i = 0; i < now * ch->size && status == TFUSE_OK; i++)
            at[i] = chosen[taken + i / ch->size] * ch->size + i % ch->size;
        for (int64_t i = 0; i < now && status == TFUSE_OK; i++)
            ch->gain[chosen[taken + i]] = -1;
        if (status == TFUSE_OK)
            status = clear(ch, ch->g, ch->c, ch->n, at, now * ch->size);
        taken += now;
        if (status == TFUSE_OK)
            status = tf_check_cancel(env);
    }
    tf_free(&env->mem, candidates);
    return status;
}

/* ---- a block ---------------------------------------------------------------------------------------------------------------------- */

/* The anchor's units stay in their places, others go to their own where it is free, and else where room is left. */
static tfuse_status place_units(repair *r, rp_block *b, const int64_t *chosen)
{
    int64_t spare = 0;
    b->from = tf_alloc_array(r->env, (size_t)b->units, sizeof *b->from);
    b->owner = tf_alloc_array(r->env, (size_t)b->units, sizeof *b->owner);
    if (!b->from || !b->owner)
        return TFUSE_ENOMEM;
    for (int64_t j = 0; j < b->units; j++)
        b->owner[j] = -1;
    for (int home = 1; home >= 0; home--)
        for (int64_t i = 0; i < b->units; i++) {
            const int64_t parent = chosen[i] / b->units, unit = chosen[i] % b->units;
            if (b->owner[unit] == (int32_t)parent && b->from[unit] == unit)
                continue;
            if (home && b->owner[unit] >= 0)
                continue;
            int64_t j = unit;
            if (!home)
                while (b->owner[j = spare] >= 0)
                    spare++;
            b->owner[j] = (int32_t)parent;
            b->from[j] = unit;
        }
    return TFUSE_OK;
}

/* The map of the units that a write reads; NULL: they stay. */
static const tf_map *map_of(const repair *r, const rp_block *b, int32_t parent)
{
    const tfuse_plan *plan = r->job->plan;
    const char *weight = r->g->params[r->g->nodes[b->write].params[0]].name;
    for (size_t i = 0; i < plan->n_entries; i++) {
        const tf_plan_entry *e = &plan->entries[i];
        if (e->model == parent && e->dim == 1 && e->part == 0 && !strcmp(e->param, weight))
            return plan->maps[e->map].map;
    }
    return NULL;
}

/* The parent's own unit that the map brings to `at`; -1: several, or none. */
static int64_t unit_before(const tf_map *map, int64_t units, int64_t at)
{
    if (!map || map->kind == TF_MAP_IDENTITY)
        return at;
    if (map->kind == TF_MAP_BLOCK)
        return map->blocks_m == units ? map->block_source[at] : -1;
    return map->source && map->m == units ? map->source[at] : -1;
}

static tfuse_status report_owners(repair *r, const rp_block *b)
{
    json_t *model = json_array(), *unit = json_array();
    for (int64_t j = 0; j < b->units && model && unit; j++) {
        model = tf_json_append(model, json_integer(b->owner[j]));
        unit = tf_json_append(unit, json_integer(unit_before(map_of(r, b, b->owner[j]), b->units, b->from[j])));
    }
    json_t *row = json_pack("{s:s, s:o, s:o}", "axis", r->g->class_name[b->cls], "model", model, "unit", unit);
    return json_array_append_new(r->owners, row) ? tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair") : TFUSE_OK;
}

static tfuse_status report_block(repair *r, const rp_block *b)
{
    json_t *counts = json_array();
    for (size_t k = 0; counts && k < r->n; k++) {
        int64_t count = 0;
        for (int64_t j = 0; j < b->units; j++)
            count += b->owner[j] == (int32_t)k;
        counts = tf_json_append(counts, json_integer(count));
    }
    if (!counts || json_array_append_new(r->selected, json_pack("{s:s, s:o}", "axis", r->g->class_name[b->cls], "units", counts)))
        return tf_fail(r->env, TFUSE_ENOMEM, "out of memory for the report of repair");
    return report_owners(r, b);
}

static tfuse_status prepare_choice(repair *r, const rp_grams *grams, int64_t units, choice *ch)
{
    ch->r = r;
    ch->n = grams->n;
    ch->m = grams->m;
    ch->size = grams->n / units;
    ch->g = grams->xx[0];
    ch->c = grams->xy[0];
    double trace = 0;
    for (int64_t i = 0; i < ch->n * ch->n; i++)
        ch->g[i] += grams->xx[1][i];
    for (int64_t i = 0; i < ch->n * ch->m; i++)
        ch->c[i] += grams->xy[1][i];
    for (int64_t i = 0; i < ch->n; i++)
        trace += ch->g[i * ch->n + i];
    ch->rho = trace > 0 ? RHO * trace / (double)ch->n : 1;
    ch->gain = tf_calloc(r->env, (size_t)units, sizeof *ch->gain);
    ch->work = tf_alloc_array(r->env, (size_t)(ch->size * ch->size + 2 * ch->size * ch->m), sizeof *ch->work);
    return ch->gain && ch->work ? TFUSE_OK : TFUSE_ENOMEM;
}

/* |X_a - X_b|² of two units is within rounding. */
static bool is_same(const choice *ch, int64_t a, int64_t b)
{
    double apart = 0, size = 0;
    for (int64_t i = 0; i < ch->size; i++) {
        const int64_t p = a * ch->size + i, q = b * ch->size + i;
        apart += ch->g[p * ch->n + p] + ch->g[q * ch->n + q] - 2 * ch->g[p * ch->n + q];
        size += ch->g[p * ch->n + p];
    }
    return apart <= SAME * size;
}

static void leave_out_twins(choice *ch, int64_t units, size_t parents)
{
    for (int64_t b = units; b < units * (int64_t)parents; b++)
        for (int64_t a = b % units; a < b && ch->gain[b] >= 0; a += units)
            if (ch->gain[a] >= 0 && is_same(ch, a, b))
                ch->gain[b] = -1;
}

static tfuse_status select_block(repair *r, rp_block *b)
{
    const tf_node *write = &r->g->nodes[b->write];
    features f = {.value = write->inputs[0], .out = write->outputs[0]};
    const int64_t all = b->units * (int64_t)r->n;
    rp_rows rows = {0};
    rp_grams grams = {0};
    choice ch = {0};
    int count;
    for (size_t k = 0; k < r->n; k++)
        TF_TRY(rp_advance(r, k, step_of(r, b->write)));
    f.residual = rp_residual(r, f.out);
    f.channels = tf_value_channels(r->g, f.value)->extent;
    TF_TRY(tf_binding_parts(r->env, r->g, tf_value_channels(r->g, f.value), &f.part, &count));
    int64_t *chosen = tf_alloc_array(r->env, (size_t)b->units, sizeof *chosen);
    tfuse_status status = chosen ? rp_rows_make(r, f.value, f.out, &rows) : TFUSE_ENOMEM;
    if (status == TFUSE_OK)
        status = rp_grams_make(r, &rows, f.channels * (int64_t)r->n, feature_rows, &f, tf_value_channels(r->g, f.out)->extent, target_rows, &f, &grams);
    if (status == TFUSE_OK)
        status = prepare_choice(r, &grams, all, &ch);
    if (status == TFUSE_OK) {
        leave_out_twins(&ch, b->units, r->n);
        status = choose(&ch, all, b->units, chosen);
    }
    if (status == TFUSE_OK)
        status = place_units(r, b, chosen);
    if (status == TFUSE_OK)
        status = report_block(r, b);
    rp_grams_free(r, &grams);
    tf_free(&r->env->mem, ch.gain);
    tf_free(&r->env->mem, ch.work);
    tf_free(&r->env->mem, rows.root);
    tf_free(&r->env->mem, f.part);
    tf_free(&r->env->mem, chosen);
    return status == TFUSE_OK ? status : tf_fail_in(r->env, status, "selecting units of %s", r->g->class_name[b->cls]);
}

tfuse_status rp_select(repair *r, size_t step)
{
    for (size_t i = 0; i < r->n_blocks; i++)
        if (r->blocks[i].first == step)
            TF_TRY(select_block(r, &r->blocks[i]));
    return TFUSE_OK;
}
