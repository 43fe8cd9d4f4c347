/* SPDX-License-Identifier: Apache-2.0
 *
 * assignment.c: the linear assignment problem, square and dense. Jonker & Volgenant, Computing 38 (1987): column reduction
 * (read row by row), reduction transfer, augmenting row reduction, then shortest augmenting paths.
 *
 * Costs stay float32, column potentials v are float64. Throughout, a matched row i has its smallest C_ij - v_j
 * at its own column, so u_i = C_i,match - v_match completes a feasible dual of the same value.
 *
 * Augmenting row reduction may creep by rounding errors when costs tie, so it has a budget of bids; rows that are left over go
 * to the shortest paths, which need at most n settled columns each.
 */
#include "ot/internal.h"

#include <math.h>

enum { LANES = 8, BLOCK = 256, BIDS_PER_ROW = 40, CANCEL_EVERY = 1024 };

typedef struct jv {
    int64_t n;
    const float *cost;
    double *v;
    int64_t *col_of; /* of a row; -1: free */
    int64_t *row_of; /* of a column; -1: free */
    int64_t *rows;   /* free rows, row_count of them */
    int64_t row_count;
    int64_t *cols; /* free columns */
    int64_t col_count;
    double *key;      /* shortest distance of a column that is not settled, INFINITY when it is */
    double *open;     /* v where a column is not settled, -INFINITY where it is: closes it to relaxing */
    int64_t *pred;    /* row before a column on its path */
    int64_t *settled; /* columns in the order in which they were settled, */
    double *dist;     /* and their distances */
} jv;

static tfuse_status jv_init(tf_env *env, tf_arena *arena, int64_t n, const float *cost, int64_t *perm, double *v, jv *s)
{
    size_t count = (size_t)n;
    *s = (jv){.n = n, .cost = cost, .v = v, .col_of = perm};
    s->row_of = tf_arena_array(env, arena, count, sizeof *s->row_of);
    s->rows = tf_arena_array(env, arena, count, sizeof *s->rows);
    s->cols = tf_arena_array(env, arena, count, sizeof *s->cols);
    s->key = tf_arena_array(env, arena, count, sizeof *s->key);
    s->open = tf_arena_array(env, arena, count, sizeof *s->open);
    s->pred = tf_arena_array(env, arena, count, sizeof *s->pred);
    s->settled = tf_arena_array(env, arena, count, sizeof *s->settled);
    s->dist = tf_arena_array(env, arena, count, sizeof *s->dist);
    return s->row_of && s->rows && s->cols && s->key && s->open && s->pred && s->settled && s->dist ? TFUSE_OK
                                                                                                   : TFUSE_ENOMEM;
}

/* v_j = min_i C_ij; a column takes the row of its minimum if that is still free. */
static void reduce_columns(jv *s)
{
    int64_t n = s->n, *best = s->pred;
    for (int64_t j = 0; j < n; j++) {
        s->v[j] = INFINITY;
        s->row_of[j] = s->col_of[j] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        const float *row = s->cost + i * n;
        for (int64_t j = 0; j < n; j++) {
            double c = (double)row[j];
            best[j] = c < s->v[j] ? i : best[j];
            s->v[j] = c < s->v[j] ? c : s->v[j];
        }
    }
    for (int64_t j = 0; j < n; j++) {
        if (s->col_of[best[j]] >= 0)
            continue;
        s->col_of[best[j]] = j;
        s->row_of[j] = best[j];
    }
}

static void list_free_rows(jv *s)
{
    s->row_count = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (s->col_of[i] < 0)
            s->rows[s->row_count++] = i;
}

/* Lowers the price of each matched column until its row has a second column of the same reduced cost. */
static void transfer_reduction(jv *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        int64_t j = s->col_of[i], at;
        if (j < 0)
            continue;
        const float *row = s->cost + i * s->n;
        double price = s->v[j];
        s->v[j] = -INFINITY;
        double second = tf_row_min(row, s->v, s->n, &at);
        double slack = second - ((double)row[j] - price);
        s->v[j] = slack > 0 ? price - slack : price;
    }
}

/* The two smallest reduced costs of a block, into *low1 <= *low2. */
static void block_min2(const float *restrict cost, const double *restrict v, int64_t count, double *low1, double *low2)
{
    double first[LANES], second[LANES];
    for (int l = 0; l < LANES; l++)
        first[l] = second[l] = INFINITY;
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            double reduced = (double)cost[j + l] - v[j + l];
            double larger = reduced > first[l] ? reduced : first[l];
            first[l] = reduced < first[l] ? reduced : first[l];
            second[l] = larger < second[l] ? larger : second[l];
        }
    }
    double a = INFINITY, b = INFINITY;
    for (int l = 0; l < 2 * LANES; l++) {
        double x = l < LANES ? first[l] : second[l - LANES];
        b = x < a ? a : x < b ? x : b;
        a = x < a ? x : a;
    }
    for (; j < count; j++) {
        double x = (double)cost[j] - v[j];
        b = x < a ? a : x < b ? x : b;
        a = x < a ? x : a;
    }
    *low1 = a;
    *low2 = b;
}

/* First column from `from` on, other than `skip`, whose reduced cost is `value`. */
static int64_t find_reduced(const float *cost, const double *v, int64_t n, int64_t from, int64_t skip, double value)
{
    int64_t j = from;
    while (j + 1 < n && (j == skip || (double)cost[j] - v[j] > value))
        j++;
    return j;
}

static double row_min2(const float *cost, const double *v, int64_t n, int64_t *arg, double *second)
{
    double low1 = INFINITY, low2 = INFINITY;
    int64_t from = 0;
    for (int64_t j = 0; j < n; j += BLOCK) {
        double a, b;
        block_min2(cost + j, v + j, n - j < BLOCK ? n - j : BLOCK, &a, &b);
        if (a < low1) {
            low2 = low1 < b ? low1 : b;
            low1 = a;
            from = j;
        } else {
            low2 = a < low2 ? a : low2;
        }
    }
    *arg = find_reduced(cost, v, n, from, -1, low1);
    *second = low2;
    return low1;
}

/* Row i takes its best column and pays the difference to its second best. Returns the row that lost the column, or -1. */
static int64_t bid(jv *s, int64_t i, bool *paid)
{
    const float *row = s->cost + i * s->n;
    int64_t j;
    double second, first = row_min2(row, s->v, s->n, &j, &second);
    *paid = first < second;
    if (*paid)
        s->v[j] -= second - first;
    else if (s->row_of[j] >= 0)
        j = find_reduced(row, s->v, s->n, 0, j, second);
    int64_t loser = s->row_of[j];
    s->row_of[j] = i;
    s->col_of[i] = j;
    if (loser >= 0)
        s->col_of[loser] = -1;
    return loser;
}

static tfuse_status reduce_rows(tf_env *env, jv *s)
{
    int64_t budget = s->n > INT64_MAX / BIDS_PER_ROW ? INT64_MAX : s->n * BIDS_PER_ROW;
    for (int pass = 0; pass < 2; pass++) {
        int64_t k = 0, end = s->row_count, kept = 0;
        while (k < end && budget > 0) {
            if (budget-- % CANCEL_EVERY == 0)
                TF_TRY(tf_check_cancel(env));
            bool paid;
            int64_t loser = bid(s, s->rows[k++], &paid);
            if (loser < 0)
                continue;
            /* After a strict bid the loser bids at once; after a tie it waits, or two rows would swap for ever. */
            if (paid)
                s->rows[--k] = loser;
            else
                s->rows[kept++] = loser;
        }
        while (k < end)
            s->rows[kept++] = s->rows[k++];
        s->row_count = kept;
    }
    return TFUSE_OK;
}

/* Distances through row i: base + C_ij - v_j. Returns the smallest key of all and where it is. */
static double relax(jv *s, int64_t i, double base, int64_t *arg)
{
    double best = INFINITY;
    int64_t from = 0;
    for (int64_t start = 0; start < s->n; start += BLOCK) {
        int64_t count = s->n - start < BLOCK ? s->n - start : BLOCK;
        const float *restrict cost = s->cost + i * s->n + start;
        const double *restrict open = s->open + start;
        double *restrict key = s->key + start;
        int64_t *restrict pred = s->pred + start;
        for (int64_t j = 0; j < count; j++) {
            double d = ((double)cost[j] - open[j]) + base;
            pred[j] = d < key[j] ? i : pred[j];
            key[j] = d < key[j] ? d : key[j];
        }
        double lane[LANES], low = INFINITY;
        for (int l = 0; l < LANES; l++)
            lane[l] = INFINITY;
        int64_t j = 0;
        for (; j + LANES <= count; j += LANES)
            for (int l = 0; l < LANES; l++)
                lane[l] = key[j + l] < lane[l] ? key[j + l] : lane[l];
        for (; j < count; j++)
            low = key[j] < low ? key[j] : low;
        for (int l = 0; l < LANES; l++)
            low = lane[l] < low ? lane[l] : low;
        if (low < best) {
            best = low;
            from = start;
        }
    }
    while (from + 1 < s->n && s->key[from] > best)
        from++;
    *arg = from;
    return best;
}

/* A free column at the distance of the nearest one ends the search: with ties this saves most of it. */
static int64_t free_column_at(const jv *s, double distance)
{
    for (int64_t f = 0; f < s->col_count; f++)
        if (s->key[s->cols[f]] <= distance)
            return f;
    return -1;
}

/* Dijkstra from a free row over reduced costs to the nearest free column; then matching and prices along the way. */
static void augment(jv *s, int64_t start)
{
    for (int64_t j = 0; j < s->n; j++) {
        s->key[j] = INFINITY;
        s->open[j] = s->v[j];
    }
    int64_t settled = 0, j, end;
    double distance = relax(s, start, 0, &j);
    while ((end = free_column_at(s, distance)) < 0) {
        s->settled[settled] = j;
        s->dist[settled++] = distance;
        s->key[j] = INFINITY;
        s->open[j] = -INFINITY;
        int64_t i = s->row_of[j];
        distance = relax(s, i, distance - ((double)s->cost[i * s->n + j] - s->v[j]), &j);
    }
    for (int64_t k = 0; k < settled; k++)
        s->v[s->settled[k]] += s->dist[k] - distance;
    j = s->cols[end];
    s->cols[end] = s->cols[--s->col_count];
    for (int64_t i = -1; i != start;) {
        i = s->pred[j];
        int64_t before = s->col_of[i];
        s->row_of[j] = i;
        s->col_of[i] = j;
        j = before;
    }
}

tfuse_status tf_assignment(tf_env *env, int64_t n, const float *cost, int64_t *perm, double *u, double *v)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    jv s;
    tfuse_status status;
    TF_TRY_OUT(jv_init(env, &arena, n, cost, perm, v, &s));
    reduce_columns(&s);
    list_free_rows(&s);
    if (s.row_count > 0) {
        transfer_reduction(&s);
        TF_TRY_OUT(reduce_rows(env, &s));
    }
    for (int64_t j = 0; j < n; j++)
        if (s.row_of[j] < 0)
            s.cols[s.col_count++] = j;
    for (int64_t k = 0; k < s.row_count; k++) {
        TF_TRY_OUT(tf_check_cancel(env));
        augment(&s, s.rows[k]);
    }
    for (int64_t i = 0; i < n; i++)
        u[i] = (double)cost[i * n + perm[i]] - v[perm[i]];
out:
    tf_arena_free(&arena);
    return status;
}
