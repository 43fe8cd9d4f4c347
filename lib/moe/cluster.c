/* SPDX-License-Identifier: Apache-2.0
 *
 * cluster.c: k-means with clusters of equal size. Given the centres, the tightest clusters of n/E points each are an optimal transport from n points of
 * mass 1/n to E centres of mass 1/E under squared distances: the masses are integers after scaling, so a vertex sends each point to one centre
 * (Bradley, Bennett & Demiriz 2000 solve the same problem as a flow of minimal cost). Given the clusters, the tightest centres are their means. Neither step
 * loosens what the other found, so the two in turn end (Lloyd 1982); what they end at is improved by exchanges of two points, which neither step sees,
 * until those end too. Starts are k-means++ (Arthur & Vassilvitskii 2007).
 *
 * Distances that decide are inner products in float64, rounded to float32 for the solver; the spread is summed in float64.
 */
#include "moe/cluster.h"
#include "base/meter.h"
#include "base/rng.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TILE = 256, MOST_STEPS = 100, MOST_ROUNDS = 20 };
enum { MOST_EXCHANGED = 4096 }; /* points for which a Gram matrix is made: 128 MiB */
#define GAIN 1e-12              /* of the spread: less is rounding */

typedef struct cluster_work {
    tf_env *env;
    const tf_solver_registry *solvers;
    const tf_points *p;
    double *centres;  /* clusters × width */
    double *tile;     /* TILE × width */
    double *products; /* TILE × clusters */
    double *squares;  /* of points */
    double *gram;     /* NULL: too many points */
    double *prices;   /* of the centres, in the solution before; prices[0] NAN: there is none */
    float *cost;      /* count × clusters */
    int64_t *next;
    int64_t iterations, swaps;
} cluster_work;

/* ---- centres and spread ---- */

static void find_centres(const tf_points *p, const int64_t *of, double *centres)
{
    const double share = (double)p->clusters / (double)p->count;
    memset(centres, 0, (size_t)(p->clusters * p->width) * sizeof *centres);
    for (int64_t i = 0; i < p->count; i++)
        for (int64_t k = 0; k < p->width; k++)
            centres[of[i] * p->width + k] += share * (double)p->x[i * p->width + k];
}

static double spread_of(const tf_points *p, const int64_t *of, const double *centres)
{
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++)
        for (int64_t k = 0; k < p->width; k++) {
            const double gap = (double)p->x[i * p->width + k] - centres[of[i] * p->width + k];
            sum += gap * gap;
        }
    return sum / (double)p->count;
}

tfuse_status tf_cluster_spread(tf_env *env, const tf_points *p, const int64_t *of, double *out)
{
    double *centres = tf_alloc_array(env, (size_t)(p->clusters * p->width), sizeof *centres);
    if (!centres)
        return TFUSE_ENOMEM;
    find_centres(p, of, centres);
    *out = spread_of(p, of, centres);
    tf_free(&env->mem, centres);
    return TFUSE_OK;
}

/* ---- distances ---- */

/* Squared distances of all points to the first n centres, count × n. */
static void find_costs(cluster_work *w, int64_t n)
{
    const tf_points *p = w->p;
    double *sizes = w->products + TILE * p->clusters;
    for (int64_t e = 0; e < n; e++) {
        sizes[e] = 0;
        for (int64_t k = 0; k < p->width; k++)
            sizes[e] += w->centres[e * p->width + k] * w->centres[e * p->width + k];
    }
    for (int64_t first = 0; first < p->count; first += TILE) {
        const int64_t rows = p->count - first < TILE ? p->count - first : TILE;
        for (int64_t i = 0; i < rows * p->width; i++)
            w->tile[i] = (double)p->x[first * p->width + i];
        tf_dgemm(w->env, 1, (tf_dmat){w->tile, rows, p->width, p->width, 1}, (tf_dmat){w->centres, p->width, n, 1, p->width}, 0,
                 (tf_dmat){w->products, rows, n, n, 1});
        for (int64_t i = 0; i < rows * n; i++)
            w->cost[first * n + i] = (float)fmax(0, w->squares[first + i / n] + sizes[i % n] - 2 * w->products[i]);
    }
}

/* ---- starts ---- */

/* A point for each centre, drawn with a chance that grows with its squared distance to the nearest one before. */
static void draw_centres(cluster_work *w, tf_rng *rng, double *nearest)
{
    const tf_points *p = w->p;
    for (int64_t e = 0; e < p->clusters; e++) {
        double total = 0, at = 0;
        int64_t pick = (int64_t)tf_rng_below(rng, (uint64_t)p->count);
        for (int64_t i = 0; e > 0 && i < p->count; i++)
            total += nearest[i];
        const double aim = tf_rng_uniform(rng) * total;
        for (int64_t i = 0; total > 0 && i < p->count && at <= aim; i++) {
            at += nearest[i];
            pick = nearest[i] > 0 ? i : pick;
        }
        for (int64_t k = 0; k < p->width; k++)
            w->centres[e * p->width + k] = (double)p->x[pick * p->width + k];
        for (int64_t i = 0; i < p->count; i++) {
            double gap = 0;
            for (int64_t k = 0; k < p->width; k++) {
                const double d = (double)p->x[i * p->width + k] - w->centres[e * p->width + k];
                gap += d * d;
            }
            nearest[i] = e == 0 || gap < nearest[i] ? gap : nearest[i];
        }
    }
    w->prices[0] = NAN;
}

/* ---- the two steps ---- */

static void take_assignment(const tf_solution *s, int64_t *of)
{
    if (s->kind == TF_COUPLING_PERMUTATION)
        memcpy(of, s->perm, (size_t)s->n * sizeof *of);
    for (int64_t k = 0; s->kind == TF_COUPLING_SPARSE && k < s->nnz; k++)
        if (s->mass[k] > 0.5 / (double)s->n)
            of[s->rows[k]] = s->cols[k];
}

static tfuse_status assign(cluster_work *w, int64_t *of)
{
    const tf_points *p = w->p;
    tf_solution s = {.n = 0};
    find_costs(w, p->clusters);
    const tf_ot_options options = {.v = isnan(w->prices[0]) ? NULL : w->prices};
    TF_TRY(tf_ot_solve(w->env, w->solvers, "exact", &options, p->count, p->clusters, w->cost, NULL, NULL, &s));
    take_assignment(&s, of);
    if (s.v)
        memcpy(w->prices, s.v, (size_t)p->clusters * sizeof *w->prices);
    tf_solution_free(&s);
    w->iterations++;
    return TFUSE_OK;
}

/* From the centres that are there, in turn until nothing is gained. *spread INFINITY: `of` holds nothing yet. */
static tfuse_status alternate(cluster_work *w, int64_t *of, double *spread)
{
    for (int step = 0; step < MOST_STEPS; step++) {
        TF_TRY(tf_check_cancel(w->env));
        TF_TRY(assign(w, w->next));
        find_centres(w->p, w->next, w->centres);
        const double found = spread_of(w->p, w->next, w->centres);
        if (!(found < *spread * (1 - GAIN)))
            break;
        memcpy(of, w->next, (size_t)w->p->count * sizeof *of);
        *spread = found;
    }
    return TFUSE_OK;
}

static tfuse_status descend(cluster_work *w, int64_t *of, double *spread)
{
    TF_TRY(alternate(w, of, spread));
    for (int round = 0; w->gram && round < MOST_ROUNDS; round++) {
        int64_t swaps = 0;
        TF_TRY(tf_exchange(w->env, w->p, w->gram, of, &swaps));
        if (swaps == 0)
            break;
        w->swaps += swaps;
        find_centres(w->p, of, w->centres);
        *spread = spread_of(w->p, of, w->centres);
        TF_TRY(alternate(w, of, spread));
    }
    return TFUSE_OK;
}

/* ---- all of it ---- */

static bool makes_gram(int64_t count, int64_t clusters)
{
    return clusters > 1 && clusters < count && count <= MOST_EXCHANGED;
}

static void release(cluster_work *w)
{
    void *const blocks[] = {w->centres, w->tile, w->products, w->squares, w->gram, w->prices, w->cost, w->next};
    for (size_t i = 0; i < TF_LEN(blocks); i++)
        tf_free(&w->env->mem, blocks[i]);
}

static tfuse_status prepare(cluster_work *w)
{
    const tf_points *p = w->p;
    const size_t count = (size_t)p->count, width = (size_t)p->width, clusters = (size_t)p->clusters;
    w->centres = tf_alloc_array(w->env, clusters * width, sizeof *w->centres);
    w->tile = tf_alloc_array(w->env, TILE * width, sizeof *w->tile);
    w->products = tf_alloc_array(w->env, (TILE + 1) * clusters, sizeof *w->products);
    w->squares = tf_alloc_array(w->env, 2 * count, sizeof *w->squares);
    w->prices = tf_alloc_array(w->env, clusters, sizeof *w->prices);
    w->cost = tf_alloc_array(w->env, count * clusters, sizeof *w->cost);
    w->next = tf_alloc_array(w->env, count, sizeof *w->next);
    if (!w->centres || !w->tile || !w->products || !w->squares || !w->prices || !w->cost || !w->next)
        return TFUSE_ENOMEM;
    for (size_t i = 0; i < count; i++)
        w->squares[i] = tf_sum_sq(p->x + i * width, width);
    if (!makes_gram(p->count, p->clusters))
        return TFUSE_OK;
    double *x = tf_alloc_array(w->env, count * width, sizeof *x);
    w->gram = tf_alloc_array(w->env, count * count, sizeof *w->gram);
    for (size_t i = 0; x && i < count * width; i++)
        x[i] = (double)p->x[i];
    if (x && w->gram)
        tf_dgemm(w->env, 1, (tf_dmat){x, p->count, p->width, p->width, 1}, (tf_dmat){x, p->width, p->count, 1, p->width}, 0,
                 (tf_dmat){w->gram, p->count, p->count, p->count, 1});
    const bool made = x && w->gram;
    tf_free(&w->env->mem, x);
    return made ? TFUSE_OK : TFUSE_ENOMEM;
}

uint64_t tf_cluster_bytes(int64_t count, int64_t width, int64_t clusters)
{
    const bool gram = makes_gram(count, clusters);
    const uint64_t held = tf_area(clusters, width, sizeof(double)) + tf_area(TILE, width, sizeof(double)) + tf_area(TILE + 1, clusters, sizeof(double)) +
                          tf_area(2, count, sizeof(double)) + tf_area(count, clusters, sizeof(float)) + tf_area(2, count, sizeof(int64_t)) +
                          (gram ? tf_area(count, count, sizeof(double)) : 0);
    const tf_ot_bytes solve = tf_ot_bytes_of("exact", count, clusters);
    const uint64_t spikes[] = {gram ? tf_area(count, width, sizeof(double)) : 0, gram ? tf_exchange_bytes(count, clusters) : 0, solve.work + solve.kept};
    uint64_t most = 0;
    for (size_t i = 0; i < TF_LEN(spikes); i++)
        most = spikes[i] > most ? spikes[i] : most;
    return held + most;
}

/* Clusters by their first points, so that their numbers depend on nothing else. */
static tfuse_status number(tf_env *env, const tf_points *p, int64_t *of)
{
    int64_t *names = tf_alloc_array(env, (size_t)p->clusters, sizeof *names), used = 0;
    if (!names)
        return TFUSE_ENOMEM;
    for (int64_t e = 0; e < p->clusters; e++)
        names[e] = -1;
    for (int64_t i = 0; i < p->count; i++) {
        if (names[of[i]] < 0)
            names[of[i]] = used++;
        of[i] = names[of[i]];
    }
    tf_free(&env->mem, names);
    return TFUSE_OK;
}

static tfuse_status search(cluster_work *w, uint64_t seed, const char *name, int64_t starts, int64_t *of, double *best)
{
    int64_t *found = tf_calloc(w->env, (size_t)w->p->count, sizeof *found);
    char stream[320];
    tfuse_status status = found ? TFUSE_OK : TFUSE_ENOMEM;
    for (int64_t s = 0; s < starts && status == TFUSE_OK; s++) {
        double spread = INFINITY;
        snprintf(stream, sizeof stream, "%.256s/start %lld", name, (long long)s);
        tf_rng rng = tf_rng_make(seed, stream);
        draw_centres(w, &rng, w->squares + w->p->count);
        status = descend(w, found, &spread);
        if (status != TFUSE_OK || !(spread < *best))
            continue;
        *best = spread;
        memcpy(of, found, (size_t)w->p->count * sizeof *of);
    }
    tf_free(&w->env->mem, found);
    return status;
}

tfuse_status tf_cluster(tf_env *env, const tf_solver_registry *solvers, const tf_points *p, uint64_t seed, const char *name, int64_t starts, int64_t *of,
                        tf_cluster_result *out)
{
    cluster_work w = {.env = env, .solvers = solvers, .p = p};
    out->spread = INFINITY;
    tfuse_status status = prepare(&w);
    if (status == TFUSE_OK)
        status = search(&w, seed, name, starts, of, &out->spread);
    if (status == TFUSE_OK)
        status = number(env, p, of);
    out->iterations = w.iterations;
    out->swaps = w.swaps;
    release(&w);
    return status;
}
