/* SPDX-License-Identifier: Apache-2.0
 *
 * ot_plain.h: the least cost of a transport problem in plain loops that share no code and no method with the solver for general masses: successive
 * shortest paths (Busacker & Gowen 1960) with Bellman & Ford's labels, in float64. Cubic and worse: for small problems.
 */
#ifndef OT_PLAIN_H
#define OT_PLAIN_H

#include "ot_cases.h"

typedef struct plain {
    const problem *p;
    double *flow, *left, *right; /* n×m; n; m: what is still to move */
    double *row, *col;           /* labels: least cost of reaching a line from a row with mass left */
    int64_t *from_col, *from_row; /* before it: the column before a row (-1: it has mass left itself), the row before a column */
} plain;

/* One round of all arcs, forward and, where there is flow, backward; whether a label fell. */
static inline bool plain_round(plain *s, double least)
{
    bool fell = false;
    for (int64_t i = 0; i < s->p->n; i++) {
        for (int64_t j = 0; j < s->p->m; j++) {
            double c = (double)s->p->cost[i * s->p->m + j];
            if (s->row[i] + c < s->col[j] - least) {
                s->col[j] = s->row[i] + c;
                s->from_row[j] = i;
                fell = true;
            }
            if (s->flow[i * s->p->m + j] > 0 && s->col[j] - c < s->row[i] - least) {
                s->row[i] = s->col[j] - c;
                s->from_col[i] = j;
                fell = true;
            }
        }
    }
    return fell;
}

/* Moves mass along the shortest path to a column with room; false when none is left to move. */
static inline bool plain_path(plain *s, double least)
{
    const int64_t n = s->p->n, m = s->p->m;
    for (int64_t i = 0; i < n; i++) {
        s->row[i] = s->left[i] > 0 ? 0 : INFINITY;
        s->from_col[i] = -1;
    }
    for (int64_t j = 0; j < m; j++)
        s->col[j] = INFINITY;
    for (int64_t k = 0; k < n + m + 1 && plain_round(s, least); k++)
        ;
    int64_t end = -1;
    for (int64_t j = 0; j < m; j++)
        if (s->right[j] > 0 && isfinite(s->col[j]) && (end < 0 || s->col[j] < s->col[end]))
            end = j;
    if (end < 0)
        return false;
    double amount = s->right[end];
    int64_t i = s->from_row[end];
    for (; s->from_col[i] >= 0; i = s->from_row[s->from_col[i]])
        amount = fmin(amount, s->flow[i * m + s->from_col[i]]);
    amount = fmin(amount, s->left[i]);
    s->left[i] -= amount;
    s->right[end] -= amount;
    for (int64_t j = end;;) {
        i = s->from_row[j];
        s->flow[i * m + j] += amount;
        if (s->from_col[i] < 0)
            return true;
        j = s->from_col[i];
        s->flow[i * m + j] -= amount;
    }
}

/* Labels that fall by less than 1e-14 of the largest cost are rounding; so the result is off by at most about 1e-13 of it. */
static inline double plain_cost(const problem *p)
{
    const size_t n = (size_t)p->n, m = (size_t)p->m;
    plain s = {p, calloc(n * m, sizeof(double)), malloc(n * sizeof(double)), malloc(m * sizeof(double)), malloc(n * sizeof(double)),
               malloc(m * sizeof(double)), malloc(n * sizeof(int64_t)), malloc(m * sizeof(int64_t))};
    memcpy(s.left, p->mu, n * sizeof(double));
    memcpy(s.right, p->nu, m * sizeof(double));
    while (plain_path(&s, 1e-14 * largest_cost(p)))
        ;
    double total = 0;
    for (size_t k = 0; k < n * m; k++)
        total += s.flow[k] * (double)p->cost[k];
    free(s.flow);
    free(s.left);
    free(s.right);
    free(s.row);
    free(s.col);
    free(s.from_col);
    free(s.from_row);
    return total;
}

#endif
