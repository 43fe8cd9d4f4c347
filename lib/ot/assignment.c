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
 *
 * Where rows are long (exact.c), bids and paths look at short lists of each row's best columns (lists.h), which give the same optimum from
 * a fraction of the memory traffic. Where ties make them read whole rows again and again, paths go back to whole rows. Costs that come
 * from one number a line (sorted.c), the worst case of paths, start from their own potentials.
 */
#include "ot/assignment.h"
#include "ot/internal.h"
#include "base/meter.h"

#include <math.h>

enum { BIDS_A_CHECK = 256, PASSES = 6 };
/* A bid over a whole row costs as much as a step of a path, one over a list a tenth of that. */
enum { BIDS_WHOLE = 10, BIDS_LISTS = 60 };

typedef tf_jv jv;

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
    s->base = tf_arena_array(env, arena, count, sizeof *s->base);
    return s->row_of && s->rows && s->cols && s->key && s->open && s->pred && s->settled && s->dist && s->base ? TFUSE_OK : TFUSE_ENOMEM;
}

/* v_j = min_i C_ij; a column takes the row of its minimum if that is still free. Where the largest cost is not known it is found on the way. */
static tfuse_status reduce_columns(tf_env *env, jv *s, double *largest)
{
    const bool unknown = isnan(*largest);
    uint32_t top = 0;
    int64_t n = s->n;
    float *low = (float *)(void *)s->key; /* scratch of the searches */
    int32_t *best = (int32_t *)(void *)s->pred;
    for (int64_t j = 0; j < n; j++) {
        low[j] = INFINITY;
        best[j] = 0;
        s->row_of[j] = s->col_of[j] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
        const uint32_t here = unknown ? tf_max_bits(s->cost + i * n, n) : 0;
        top = here > top ? here : top;
        tf_column_min(s->cost + i * n, n, (int32_t)i, low, best);
    }
    if (unknown) {
        *largest = tf_float_of(top);
        TF_TRY(tf_check_largest(env, n, n, s->cost, *largest));
    }
    for (int64_t j = 0; j < n; j++) {
        s->v[j] = (double)low[j];
        if (s->col_of[best[j]] >= 0)
            continue;
        s->col_of[best[j]] = j;
        s->row_of[j] = best[j];
    }
    return TFUSE_OK;
}

/* The same over C_ij - u_i, for potentials u of a neighbouring problem: v_j = min_i (C_ij - u_i) is feasible beside u, and where u is
 * nearly optimal most columns have their minima in different rows. */
static tfuse_status reduce_columns_from(tf_env *env, jv *s, const double *u)
{
    int64_t n = s->n;
    for (int64_t j = 0; j < n; j++) {
        s->v[j] = INFINITY;
        s->row_of[j] = s->col_of[j] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
        tf_column_min_from(s->cost + i * n, n, u[i], i, s->v, s->pred);
    }
    for (int64_t j = 0; j < n; j++) {
        int64_t i = s->pred[j];
        if (s->col_of[i] >= 0)
            continue;
        s->col_of[i] = j;
        s->row_of[j] = i;
    }
    return TFUSE_OK;
}

static void list_free_rows(jv *s)
{
    s->row_count = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (s->col_of[i] < 0)
            s->rows[s->row_count++] = i;
}

/* Lowers the price of each matched column until its row has a second column of the same reduced cost. */
static tfuse_status transfer_reduction(tf_env *env, jv *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (i % TF_POLL_ROWS == 0)
            TF_TRY(tf_check_cancel(env));
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
    return TFUSE_OK;
}

/* First column other than `skip` whose reduced cost is `value`. */
static int64_t find_reduced(const float *cost, const double *v, int64_t n, int64_t skip, double value)
{
    int64_t j = 0;
    while (j + 1 < n && (j == skip || (double)cost[j] - v[j] > value))
        j++;
    return j;
}

/* The smallest and second smallest reduced cost of row i; the second's column only where the two tie. */
static void row_min2(jv *s, int64_t i, int64_t at[2], double low[2])
{
    const float *row = s->cost + i * s->n;
    if (s->use_lists) {
        tf_lists_min2(&s->lists, i, s->v, at, low);
        return;
    }
    low[0] = tf_row_min2(row, s->v, s->n, &at[0], &low[1]);
    at[1] = low[0] < low[1] ? -1 : find_reduced(row, s->v, s->n, at[0], low[1]);
}

/* Row i takes its best column and pays the difference to its second best. Returns the row that lost the column, or -1. */
static int64_t bid(jv *s, int64_t i, bool *paid)
{
    int64_t at[2];
    double low[2];
    s->steps++;
    row_min2(s, i, at, low);
    int64_t j = at[0];
    *paid = low[0] < low[1];
    if (*paid)
        s->v[j] -= low[1] - low[0];
    else if (s->row_of[j] >= 0)
        j = at[1];
    int64_t loser = s->row_of[j];
    s->row_of[j] = i;
    s->col_of[i] = j;
    if (loser >= 0)
        s->col_of[loser] = -1;
    return loser;
}

/* `open` rows are not matched yet. */
static tfuse_status report(tf_env *env, const jv *s, int64_t open)
{
    return open > 0 && open < s->n ? tf_progress(env, "solving", (uint64_t)(s->n - open), (uint64_t)s->n) : tf_check_cancel(env);
}

static tfuse_status reduce_rows(tf_env *env, jv *s)
{
    int64_t budget = s->n * (s->use_lists ? BIDS_LISTS : BIDS_WHOLE);
    for (int pass = 0; pass < PASSES && s->row_count > 0; pass++) {
        int64_t k = 0, end = s->row_count, kept = 0;
        while (k < end && budget > 0) {
            if (budget-- % BIDS_A_CHECK == 0)
                TF_TRY(report(env, s, s->row_count));
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

/* A free column at the distance of the nearest one ends the search: with ties this saves most of it. */
static int64_t free_column_at(const jv *s, double distance)
{
    for (int64_t f = 0; f < s->col_count; f++)
        if (s->key[s->cols[f]] <= distance)
            return f;
    return -1;
}

void tf_jv_flip(jv *s, int64_t start, int64_t end)
{
    int64_t j = s->cols[end];
    s->cols[end] = s->cols[--s->col_count];
    for (int64_t i = -1; i != start;) {
        i = s->pred[j];
        int64_t before = s->col_of[i];
        s->row_of[j] = i;
        s->col_of[i] = j;
        j = before;
    }
}

/* The row before column j at its distance d on the shortest path: the first of those that were relaxed that gives it. Only the few columns of the
 * path are asked for, which is less than to note it for every column that a row relaxes. */
static int64_t row_before(const jv *s, int64_t start, int64_t j, double d)
{
    int64_t k = 0, i = start;
    while (((double)s->cost[i * s->n + j] - s->v[j]) + s->base[k] > d)
        i = s->row_of[s->settled[k++]];
    return i;
}

static void trace_path(jv *s, int64_t start, int64_t j, double distance)
{
    for (;;) {
        const int64_t i = s->pred[j] = row_before(s, start, j, distance);
        if (i == start)
            return;
        j = s->col_of[i];
        distance = s->key[j];
    }
}

/* Dijkstra from a free row over reduced costs to the nearest free column; then matching and prices along the way. A settled column keeps
 * its distance in `dist` while the search goes on. */
static tfuse_status augment(tf_env *env, jv *s, int64_t start)
{
    for (int64_t j = 0; j < s->n; j++) {
        s->key[j] = INFINITY;
        s->open[j] = s->v[j];
    }
    int64_t settled = 0, j, end;
    s->base[0] = 0;
    double distance = tf_row_relax(s->cost + start * s->n, s->open, s->n, 0, s->key, &j);
    while ((end = free_column_at(s, distance)) < 0) {
        s->settled[settled] = j;
        s->dist[settled++] = distance;
        s->key[j] = INFINITY;
        s->open[j] = -INFINITY;
        int64_t i = s->row_of[j];
        s->base[settled] = distance - ((double)s->cost[i * s->n + j] - s->v[j]);
        distance = tf_row_relax(s->cost + i * s->n, s->open, s->n, s->base[settled], s->key, &j);
        if (settled % TF_POLL_ROWS == 0)
            TF_TRY(report(env, s, s->col_count));
    }
    for (int64_t k = 0; k < settled; k++)
        s->key[s->settled[k]] = s->dist[k];
    trace_path(s, start, s->cols[end], distance);
    for (int64_t k = 0; k < settled; k++)
        s->v[s->settled[k]] += s->dist[k] - distance;
    tf_jv_flip(s, start, end);
    return TFUSE_OK;
}

uint64_t tf_assignment_lists_bytes(int64_t n)
{
    return !tf_assignment_lists(n) ? 0 : tf_area(n, TF_LIST_ROOM, sizeof(int32_t) + sizeof(float)) + tf_area(n, 8, sizeof(double));
}

/* Bids and paths for the rows that column reduction left over. */
static tfuse_status match_rest(tf_env *env, tf_arena *arena, jv *s)
{
    s->use_lists = tf_assignment_lists(s->n);
    if (s->use_lists)
        TF_TRY(tf_lists_init(env, arena, s->n, s->n, s->cost, &s->lists));
    TF_TRY(transfer_reduction(env, s));
    TF_TRY(reduce_rows(env, s));
    for (int64_t j = 0; j < s->n; j++)
        if (s->row_of[j] < 0)
            s->cols[s->col_count++] = j;
    if (s->use_lists)
        TF_TRY(tf_jv_paths_init(env, arena, s));
    for (int64_t k = 0; k < s->row_count; k++) {
        TF_TRY(report(env, s, s->row_count - k));
        s->steps++;
        TF_TRY(s->use_lists ? tf_jv_augment(env, s, s->rows[k]) : augment(env, s, s->rows[k]));
        if (s->use_lists && s->scans > s->n / 2)
            s->use_lists = false;
    }
    return TFUSE_OK;
}

/* Costs of one number a line would take a path of hundreds of columns for nearly every row. */
static tfuse_status try_sorted(tf_env *env, tf_arena *arena, jv *s)
{
    bool found;
    TF_TRY(tf_sorted_start(env, arena, s->n, s->cost, s->dist, &found));
    if (found) {
        TF_TRY(reduce_columns_from(env, s, s->dist));
        list_free_rows(s);
    }
    return TFUSE_OK;
}

tfuse_status tf_assignment(tf_env *env, int64_t n, const float *cost, const double *start, double *largest, int64_t *perm, double *u,
                           double *v, int64_t *steps)
{
    tf_arena arena;
    tf_arena_init(&arena, &env->mem);
    jv s = {.n = n};
    tfuse_status status;
    TF_TRY_OUT(jv_init(env, &arena, n, cost, perm, v, &s));
    TF_TRY_OUT(start ? reduce_columns_from(env, &s, start) : reduce_columns(env, &s, largest));
    list_free_rows(&s);
    if (s.row_count > 0 && !start)
        TF_TRY_OUT(try_sorted(env, &arena, &s));
    if (s.row_count > 0)
        TF_TRY_OUT(match_rest(env, &arena, &s));
    *steps = s.steps;
    for (int64_t i = 0; i < n; i++)
        u[i] = (double)cost[i * n + perm[i]] - v[perm[i]];
out:
    tf_lists_free(env, &s.lists);
    tf_arena_free(&arena);
    return status;
}
