/* SPDX-License-Identifier: Apache-2.0
 *
 * assignment_paths.c: shortest augmenting paths over short lists. As Dijkstra's method with a heap, but a row that is reached relaxes only
 * its list and leaves an event at the distance of its bound tau: until then none of its other columns can be next. When the event
 * comes up, the row is read whole. Every row also looks at the free columns, which are few; the nearest one so far bounds
 * what is worth keeping.
 */
#include "ot/assignment.h"
#include "ot/internal.h"

#include <math.h>

enum { STEPS_A_CHECK = 64 }; /* each may read a row */

tfuse_status tf_jv_paths_init(tf_env *env, tf_arena *arena, tf_jv *s)
{
    size_t count = (size_t)s->n;
    s->heap = tf_arena_array(env, arena, 2 * count, sizeof *s->heap);
    s->at = tf_arena_array(env, arena, 2 * count, sizeof *s->at);
    s->slot = tf_arena_array(env, arena, 2 * count, sizeof *s->slot);
    return s->heap && s->at && s->slot ? TFUSE_OK : TFUSE_ENOMEM;
}

/* A heap of events: what < n is a column, n + i the bound of row i. Ties go to the smallest number. */
static bool before(const tf_jv *s, int32_t a, int32_t b)
{
    return s->at[a] < s->at[b] || (s->at[a] == s->at[b] && a < b);
}

static void put(tf_jv *s, int64_t k, int32_t what)
{
    s->heap[k] = what;
    s->slot[what] = (int32_t)k;
}

/* Adds an event, or moves the one that is there to an earlier place. */
static void push(tf_jv *s, double at, int32_t what)
{
    int64_t k = s->slot[what] >= 0 ? s->slot[what] : s->events++;
    s->at[what] = at;
    for (; k > 0 && before(s, what, s->heap[(k - 1) / 2]); k = (k - 1) / 2)
        put(s, k, s->heap[(k - 1) / 2]);
    put(s, k, what);
}

static int32_t pop(tf_jv *s)
{
    int32_t top = s->heap[0], last = s->heap[--s->events];
    int64_t k = 0;
    for (;;) {
        int64_t child = 2 * k + 1;
        if (child >= s->events)
            break;
        if (child + 1 < s->events && before(s, s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s, s->heap[child], last))
            break;
        put(s, k, s->heap[child]);
        k = child;
    }
    put(s, k, last);
    s->slot[top] = -1;
    return top;
}

typedef struct search {
    double bound; /* distance of the nearest free column so far, */
    int64_t end;  /* its index in s->cols, */
    int64_t from; /* and the row before it */
} search;

/* Distances of settled columns are final: nothing undercuts them. */
static void reach(tf_jv *s, const search *now, int64_t i, int64_t j, double d)
{
    if (d < s->key[j] && d < now->bound) {
        s->key[j] = d;
        s->pred[j] = i;
        push(s, d, (int32_t)j);
    }
}

static void reach_free(const tf_jv *s, search *now, int64_t i, double base)
{
    const float *cost = s->cost + i * s->n;
    for (int64_t f = 0; f < s->col_count; f++) {
        int64_t j = s->cols[f];
        double d = ((double)cost[j] - s->v[j]) + base;
        if (d < now->bound)
            *now = (search){d, f, i};
    }
}

static void reach_list(tf_jv *s, search *now, int64_t i, double base)
{
    tf_lists *l = &s->lists;
    if (l->tau[i] == -INFINITY)
        tf_lists_build(l, i, s->v);
    s->base[i] = base;
    reach_free(s, now, i, base);
    const int32_t *col = l->col + i * TF_LIST_ROOM;
    const float *c = l->c + i * TF_LIST_ROOM;
    for (int32_t k = 0; k < l->count[i]; k++)
        if (s->open[col[k]] != -INFINITY)
            reach(s, now, i, col[k], ((double)c[k] - s->v[col[k]]) + base);
    if (l->tau[i] + base < now->bound)
        push(s, l->tau[i] + base, (int32_t)(s->n + i));
}

static void reach_row(tf_jv *s, const search *now, int64_t i)
{
    const float *cost = s->cost + i * s->n;
    double base = s->base[i];
    s->scans++;
    for (int64_t j = 0; j < s->n; j++) {
        double d = ((double)cost[j] - s->open[j]) + base;
        if (d < s->key[j])
            reach(s, now, i, j, d);
    }
    tf_lists_build(&s->lists, i, s->v);
}

/* v where a column may be settled yet; free columns are looked at apart. */
static void open_columns(tf_jv *s)
{
    for (int64_t j = 0; j < s->n; j++) {
        s->key[j] = INFINITY;
        s->open[j] = s->v[j];
        s->slot[j] = s->slot[s->n + j] = -1;
    }
    for (int64_t f = 0; f < s->col_count; f++)
        s->open[s->cols[f]] = -INFINITY;
    s->events = 0;
}

tfuse_status tf_jv_augment(tf_env *env, tf_jv *s, int64_t start)
{
    search now = {INFINITY, -1, -1};
    int64_t settled = 0, steps = 0;
    open_columns(s);
    reach_list(s, &now, start, 0);
    while (s->events > 0 && s->at[s->heap[0]] < now.bound) {
        int32_t what = pop(s);
        if (++steps % STEPS_A_CHECK == 0)
            TF_TRY(tf_progress(env, "solving", (uint64_t)(s->n - s->col_count), (uint64_t)s->n));
        if (what >= s->n) {
            reach_row(s, &now, what - s->n);
            continue;
        }
        double distance = s->key[what];
        s->settled[settled] = what;
        s->dist[settled++] = distance;
        s->open[what] = -INFINITY;
        int64_t i = s->row_of[what];
        reach_list(s, &now, i, distance - ((double)s->cost[i * s->n + what] - s->v[what]));
    }
    for (int64_t k = 0; k < settled; k++)
        s->v[s->settled[k]] += s->dist[k] - now.bound;
    s->pred[s->cols[now.end]] = now.from;
    tf_jv_flip(s, start, now.end);
    return TFUSE_OK;
}
