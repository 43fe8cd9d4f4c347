/* SPDX-License-Identifier: Apache-2.0
 *
 * solver.c: a solver of one's own in the library's table, and a fusion that uses it.
 *
 *     solver ANCHOR MODEL OUT        fuses, every map by the solver "hungarian" below
 *     solver --wrong ANCHOR MODEL OUT  the same with a solver that claims an optimum which it has not found: the library refuses
 *
 * The solver is the shortest augmenting path form of the Hungarian method (Kuhn 1955) for as many rows as columns and uniform masses. Its
 * potentials prove that the coupling is optimal, and the library checks that proof.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tfuse/tfuse.h>

/* Columns are 0..n-1, and n is the root of the search; row_of[n] is the row that looks for a column. */
typedef struct hungarian {
    int64_t n;
    const float *cost;
    double *u, *v, *distance;
    int64_t *row_of, *before;
    char *done;
} hungarian;

/* Extends the tree of tight edges by one column: the nearest one. */
static int64_t nearest(hungarian *h, int64_t from)
{
    int64_t row = h->row_of[from], best = -1;
    double least = INFINITY;
    h->done[from] = 1;
    for (int64_t j = 0; j < h->n; j++) {
        if (h->done[j])
            continue;
        double reduced = (double)h->cost[row * h->n + j] - h->u[row] - h->v[j];
        if (reduced < h->distance[j]) {
            h->distance[j] = reduced;
            h->before[j] = from;
        }
        if (h->distance[j] < least) {
            least = h->distance[j];
            best = j;
        }
    }
    for (int64_t j = 0; j <= h->n; j++) {
        if (h->done[j]) {
            h->u[h->row_of[j]] += least;
            h->v[j] -= least;
        } else {
            h->distance[j] -= least;
        }
    }
    return best;
}

static void match_row(hungarian *h, int64_t row)
{
    int64_t j = h->n;
    for (int64_t k = 0; k <= h->n; k++) {
        h->distance[k] = INFINITY;
        h->done[k] = 0;
    }
    h->row_of[j] = row;
    while (h->row_of[j] >= 0)
        j = nearest(h, j);
    for (; j != h->n; j = h->before[j])
        h->row_of[j] = h->row_of[h->before[j]];
}

static tfuse_status solve(void *user, const tfuse_problem *p, tfuse_result *result, int32_t (*cancelled)(const void *), const void *env)
{
    const int *wrong = user;
    size_t n = (size_t)p->n;
    for (int64_t i = 0; i < p->n; i++)
        if (p->n != p->m || fabs(p->mu[i] * (double)p->n - 1) > 1e-9 || fabs(p->nu[i] * (double)p->n - 1) > 1e-9)
            return TFUSE_EUNSUPPORTED;
    hungarian h = {p->n, p->cost, NULL, NULL, NULL, NULL, NULL, NULL};
    h.u = calloc(n, sizeof *h.u);
    h.v = calloc(n + 1, sizeof *h.v);
    h.distance = calloc(n + 1, sizeof *h.distance);
    h.row_of = malloc((n + 1) * sizeof *h.row_of);
    h.before = calloc(n + 1, sizeof *h.before);
    h.done = calloc(n + 1, 1);
    tfuse_status status = h.u && h.v && h.distance && h.row_of && h.before && h.done ? TFUSE_OK : TFUSE_ENOMEM;
    for (size_t j = 0; status == TFUSE_OK && j <= n; j++)
        h.row_of[j] = -1;
    for (int64_t i = 0; status == TFUSE_OK && i < p->n; i++) {
        match_row(&h, i);
        if (cancelled(env))
            status = TFUSE_ECANCELLED;
    }
    for (int64_t j = 0; status == TFUSE_OK && j < p->n; j++) {
        int64_t row = *wrong ? (h.row_of[j] + 1) % p->n : h.row_of[j];
        result->coupling[row * p->n + j] = (float)p->nu[j];
        result->u[j] = h.u[j];
        result->v[j] = h.v[j];
    }
    result->has_potentials = result->converged = result->optimal = 1;
    result->iterations = p->n;
    free(h.u);
    free(h.v);
    free(h.distance);
    free(h.row_of);
    free(h.before);
    free(h.done);
    return status;
}

/* The status of the first call that fails. */
static tfuse_status fuse(tfuse_ctx *ctx, int *wrong, char **paths)
{
    tfuse_solver_ops ops = {sizeof ops, "hungarian", solve};
    tfuse_policy *policy = NULL;
    tfuse_plan *plan = NULL;
    tfuse_model *a = NULL, *b = NULL;
    tfuse_status status = tfuse_ctx_add_solver(ctx, &ops, wrong);
    if (!status)
        status = tfuse_policy_new(ctx, &policy);
    if (!status)
        status = tfuse_policy_set(ctx, policy, "align.strategy", "otfusion");
    if (!status)
        status = tfuse_policy_set(ctx, policy, "solver.name", "hungarian");
    if (!status)
        status = tfuse_model_open(ctx, paths[0], 0, &a);
    if (!status)
        status = tfuse_model_open(ctx, paths[1], 0, &b);
    const tfuse_model *models[] = {a, b};
    if (!status)
        status = tfuse_align(ctx, policy, models, 2, NULL, &plan);
    if (!status)
        status = tfuse_fuse(ctx, policy, plan, models, 2, paths[2]);
    for (size_t i = 0; !status && i < tfuse_plan_count(plan); i++) {
        tfuse_map_info info;
        memset(&info, 0, sizeof info);
        info.struct_size = sizeof info;
        status = tfuse_plan_map(plan, i, &info);
        if (!status && info.cost == info.cost) /* some maps are not solved for */
            printf("%-40s cost %.6g  gap %.2g\n", info.name, info.cost, info.gap);
    }
    tfuse_plan_free(plan);
    tfuse_model_free(a);
    tfuse_model_free(b);
    tfuse_policy_free(policy);
    return status;
}

int main(int argc, char **argv)
{
    int wrong = argc > 1 && !strcmp(argv[1], "--wrong");
    tfuse_ctx *ctx = NULL;
    if (argc != 4 + wrong) {
        fprintf(stderr, "usage: solver [--wrong] ANCHOR MODEL OUT\n");
        return 2;
    }
    if (tfuse_ctx_new(NULL, &ctx))
        return 1;
    tfuse_status status = fuse(ctx, &wrong, argv + 1 + wrong);
    if (status)
        fprintf(stderr, "solver: %s\n", tfuse_ctx_error(ctx));
    tfuse_ctx_free(ctx);
    return status ? 1 : 0;
}
