/* SPDX-License-Identifier: Apache-2.0
 *
 * measure.c: numbers that tell a person what a map does.
 */
#include "maps/map.h"
#include <math.h>

/* Calls visit for each entry of T (columns that sum to one) that is not zero. */
typedef struct visitor {
    double on_diagonal, total, entropy, sum;
    tf_map_pair_fn f; /* NULL, or of which `sum` is */
    const void *arg;
    double *shares; /* NULL, or of pairs of heads */
    int64_t heads_n, in, im;
} visitor;

static void visit(visitor *v, int64_t i, int64_t j, double share)
{
    if (!(share > 0))
        return;
    v->total += share;
    v->on_diagonal += i == j ? share : 0;
    v->entropy -= share * log(share);
    v->sum += v->f ? share * v->f(v->arg, i, j) : 0;
    if (v->shares)
        v->shares[j / v->im * v->heads_n + i / v->in] += share / (double)v->im;
}

static void visit_dense(const tf_map *map, visitor *v, int64_t row, int64_t col)
{
    for (int64_t j0 = 0; j0 < map->m; j0 += TF_MAP_COLUMNS) {
        double sum[TF_MAP_COLUMNS];
        const int64_t count = tf_map_column_sums(map, j0, sum);
        const float *in = map->dense + j0;
        for (int64_t i = 0; i < map->n; i++)
            for (int64_t j = 0; j < count; j++)
                if (in[i * map->m + j] > 0 && sum[j] > 0)
                    visit(v, row + i, col + j0 + j, (double)in[i * map->m + j] / sum[j]);
    }
}

/* Shares of a signed matrix are of its squares. */
static void visit_square(const tf_map *map, visitor *v, int64_t row, int64_t col)
{
    for (int64_t j = 0; j < map->m; j++) {
        double sum = 0;
        for (int64_t i = 0; i < map->n; i++)
            sum += (double)map->dense[i * map->m + j] * (double)map->dense[i * map->m + j];
        for (int64_t i = 0; i < map->n && sum > 0; i++)
            visit(v, row + i, col + j, (double)map->dense[i * map->m + j] * (double)map->dense[i * map->m + j] / sum);
    }
}

static void visit_map(const tf_map *map, visitor *v, int64_t row, int64_t col)
{
    switch (map->kind) {
    case TF_MAP_IDENTITY:
    case TF_MAP_PERMUTATION:
    case TF_MAP_SCALED:
    case TF_MAP_SELECTION:
        for (int64_t j = 0; j < map->m; j++)
            if (!map->source || map->source[j] >= 0)
                visit(v, row + (map->source ? map->source[j] : j), col + j, 1);
        break;
    case TF_MAP_COUPLING:
    case TF_MAP_RAW:
        visit_dense(map, v, row, col);
        break;
    case TF_MAP_ORTHOGONAL:
    case TF_MAP_LINEAR:
    case TF_MAP_RECTANGULAR:
        visit_square(map, v, row, col);
        break;
    case TF_MAP_BLOCK:
        for (int64_t b = 0; b < map->blocks_m; b++)
            if (map->inner[b])
                visit_map(map->inner[b], v, row + map->block_source[b] * map->inner[b]->n, col + b * map->inner[b]->m);
        break;
    }
}

double tf_map_off_identity(const tf_map *map)
{
    if (map->n != map->m)
        return NAN;
    visitor v = {0};
    visit_map(map, &v, 0, 0);
    return v.total > 0 ? 1 - v.on_diagonal / v.total : NAN;
}

double tf_map_spread(const tf_map *map)
{
    visitor v = {0};
    visit_map(map, &v, 0, 0);
    return v.total > 0 ? exp(v.entropy / v.total) : NAN;
}

double tf_map_mean(const tf_map *map, tf_map_pair_fn f, const void *arg)
{
    visitor v = {.f = f, .arg = arg};
    visit_map(map, &v, 0, 0);
    return v.total > 0 ? v.sum / v.total : NAN;
}

void tf_map_head_shares(const tf_map *map, int64_t heads_n, int64_t heads_m, double *shares)
{
    visitor v = {.shares = shares, .heads_n = heads_n, .in = map->n / heads_n, .im = map->m / heads_m};
    for (int64_t e = 0; e < heads_n * heads_m; e++)
        shares[e] = 0;
    visit_map(map, &v, 0, 0);
}

uint64_t tf_map_bytes(const tf_map *map)
{
    uint64_t bytes = map->source ? (uint64_t)map->m * sizeof *map->source : 0;
    bytes += map->dense ? (uint64_t)map->n * (uint64_t)map->m * sizeof *map->dense * (map->kind == TF_MAP_RECTANGULAR ? 2 : 1) : 0;
    for (int64_t b = 0; map->inner && b < map->blocks_m; b++)
        bytes += sizeof *map->block_source + (map->inner[b] ? tf_map_bytes(map->inner[b]) : 0);
    return bytes;
}
