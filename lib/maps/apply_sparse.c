/* SPDX-License-Identifier: Apache-2.0
 *
 * apply_sparse.c: moving one dimension by an operator of few entries, such as a mean of permutations, which is what the residual stream carries
 * under exact transport.
 *
 * Each unit of the anchor is a weighted sum of a few of the model's. Where the dimension is followed by others the sum runs along them;
 * where it is the last, LANES rows at a time are turned, so that it runs along those. Entries are added in the order of the model's units,
 * work is cut by size alone. The operator is never written out: its entries are listed from the map.
 */
#include "base/pool.h"
#include "maps/apply.h"
#include "num/num.h"
#include <string.h>

enum { LANES = 16, UNITS = 64 };

typedef struct entry {
    int64_t u, v; /* of the model, of the anchor */
    float weight;
} entry;

typedef struct job {
    const tf_move *mv;
    size_t count;
    entry *entries;     /* row by row of the matrix */
    double *sum;        /* a coupling's: of its rows or columns */
    int64_t *from, *to; /* places of the units */
    int64_t *start;     /* m + 1: where the entries of each of the anchor's units begin in the next two */
    int64_t *at;        /* where the model's unit begins */
    float *weight;
    float *turned;      /* for each lane of the pool: n × LANES */
} job;

static const float *matrix_of(const tf_map *map, bool produced)
{
    return map->inverse && !produced ? map->inverse : map->dense;
}

size_t tf_map_entries(const tf_map *map, bool produced)
{
    return tf_count_nonzero(matrix_of(map, produced), (size_t)(map->n * map->m));
}

uint64_t tf_map_sparse_bytes(const tf_map *map, uint32_t threads)
{
    if (map->entries == 0 || map->entries > map->n * map->m / TF_MAP_FEW)
        return 0;
    return (uint64_t)map->entries * (sizeof(entry) + sizeof(int64_t) + sizeof(float)) + (uint64_t)(map->n + 2 * map->m) * sizeof(int64_t) +
           (uint64_t)map->n * (threads * LANES * sizeof(float) + sizeof(double));
}

static void list_entries(job *j, const float *matrix)
{
    size_t count = 0;
    for (int64_t u = 0; u < j->mv->n; u++, matrix += j->mv->m)
        for (int64_t first = 0, end; first < j->mv->m; first = end) {
            end = j->mv->m - first < UNITS ? j->mv->m : first + UNITS;
            if (!tf_count_nonzero(matrix + first, (size_t)(end - first)))
                continue;
            for (int64_t v = first; v < end; v++)
                if (matrix[v] != 0)
                    j->entries[count++] = (entry){u, v, matrix[v]};
        }
}

/* A coupling's masses become shares of their column or row, as in tf_map_matrix and tf_map_consumed. */
static void scale_entries(job *j, bool produced)
{
    memset(j->sum, 0, (size_t)(produced ? j->mv->m : j->mv->n) * sizeof *j->sum);
    for (size_t e = 0; e < j->count; e++)
        j->sum[produced ? j->entries[e].v : j->entries[e].u] += (double)j->entries[e].weight;
    for (size_t e = 0; e < j->count; e++) {
        const double sum = j->sum[produced ? j->entries[e].v : j->entries[e].u];
        j->entries[e].weight = sum > 0 ? (float)((double)j->entries[e].weight / sum) : 0;
    }
}

/* By the anchor's units, each one's in the order of the model's. */
static void sort_entries(job *j)
{
    const tf_move *mv = j->mv;
    memset(j->start, 0, (size_t)(mv->m + 1) * sizeof *j->start);
    for (size_t e = 0; e < j->count; e++)
        j->start[j->entries[e].v + 1]++;
    for (int64_t v = 0; v < mv->m; v++)
        j->start[v + 1] += j->start[v];
    for (size_t e = 0; e < j->count; e++) { /* each start moves on to the next one's */
        const int64_t u = j->entries[e].u, place = j->start[j->entries[e].v]++;
        j->at[place] = mv->inner == 1 ? u * LANES : j->from[u] * mv->inner;
        j->weight[place] = j->entries[e].weight;
    }
    memmove(j->start + 1, j->start, (size_t)mv->m * sizeof *j->start);
    j->start[0] = 0;
}

static void sum_unit(const job *j, const float *x, int64_t v, float *y, int64_t n)
{
    const int64_t first = j->start[v];
    tf_weighted_sum(x, j->at + first, j->weight + first, (size_t)(j->start[v + 1] - first), y, (size_t)n);
}

/* Task t: UNITS units of the anchor within one slice. */
static void along_inner(void *arg, uint32_t t, uint32_t lane)
{
    const job *j = arg;
    const tf_move *mv = j->mv;
    const int64_t tasks = (mv->m + UNITS - 1) / UNITS, o = t / tasks, first = t % tasks * UNITS;
    (void)lane;
    for (int64_t v = first; v < mv->m && v < first + UNITS; v++)
        sum_unit(j, mv->src + o * mv->src_extent * mv->inner, v, mv->dst + (o * mv->dst_extent + j->to[v]) * mv->inner, mv->inner);
}

/* Task t: LANES slices of single numbers; those beyond the end are zero. */
static void along_outer(void *arg, uint32_t t, uint32_t lane)
{
    const job *j = arg;
    const tf_move *mv = j->mv;
    const int64_t o = (int64_t)t * LANES, rows = mv->outer - o < LANES ? mv->outer - o : LANES;
    float *turned = j->turned + lane * (mv->n * LANES), sum[LANES];
    for (int64_t u = 0; u < mv->n; u++)
        for (int64_t r = 0; r < LANES; r++)
            turned[u * LANES + r] = r < rows ? mv->src[(o + r) * mv->src_extent + j->from[u]] : 0;
    for (int64_t v = 0; v < mv->m; v++) {
        sum_unit(j, turned, v, sum, LANES);
        for (int64_t r = 0; r < rows; r++)
            mv->dst[(o + r) * mv->dst_extent + j->to[v]] = sum[r];
    }
}

static tfuse_status make_job(tf_env *env, job *j, const tf_map *map, bool produced)
{
    const tf_move *mv = j->mv;
    const size_t turned = mv->inner == 1 ? tf_threads(env) * (size_t)mv->n * LANES : 0;
    TF_TRY(tf_part_places(env, mv->src_part, mv->first, mv->n, &j->from));
    TF_TRY(tf_part_places(env, mv->dst_part, mv->dst_first, mv->m, &j->to));
    j->entries = tf_alloc_array(env, j->count, sizeof *j->entries);
    j->start = tf_alloc_array(env, (size_t)mv->m + 1, sizeof *j->start);
    j->at = tf_alloc_array(env, j->count, sizeof *j->at);
    j->weight = tf_alloc_array(env, j->count, sizeof *j->weight);
    j->turned = tf_alloc_array(env, turned, sizeof *j->turned);
    j->sum = tf_alloc_array(env, (size_t)(produced ? mv->m : mv->n), sizeof *j->sum);
    if (!j->entries || !j->start || !j->at || !j->weight || !j->turned || !j->sum)
        return TFUSE_ENOMEM;
    list_entries(j, matrix_of(map, produced));
    if (map->kind == TF_MAP_COUPLING)
        scale_entries(j, produced);
    sort_entries(j);
    return TFUSE_OK;
}

tfuse_status tf_move_sparse(tf_env *env, const tf_move *mv, const tf_map *map, bool produced, size_t nonzero)
{
    const int64_t tasks = mv->inner == 1 ? (mv->outer + LANES - 1) / LANES : mv->outer * ((mv->m + UNITS - 1) / UNITS);
    job j = {.mv = mv, .count = nonzero};
    if (tasks > UINT32_MAX)
        return tf_fail(env, TFUSE_ERANGE, "a tensor is too large to be moved: %lld slices", (long long)mv->outer);
    const tfuse_status status = make_job(env, &j, map, produced);
    if (status == TFUSE_OK)
        tf_parallel_lanes(env, (uint32_t)tasks, mv->inner == 1 ? along_outer : along_inner, &j);
    tf_free(&env->mem, j.from);
    tf_free(&env->mem, j.to);
    tf_free(&env->mem, j.entries);
    tf_free(&env->mem, j.start);
    tf_free(&env->mem, j.at);
    tf_free(&env->mem, j.weight);
    tf_free(&env->mem, j.turned);
    tf_free(&env->mem, j.sum);
    return status;
}
