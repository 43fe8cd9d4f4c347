/* SPDX-License-Identifier: Apache-2.0
 *
 * exchange.c: with S_A the sum over a cluster of m points and b - a what a swap of a in A for b in B adds to S_A and takes from S_B, the sum of
 * squared distances to the centres falls by 2/m times
 *     (S_A - S_B)'(b - a) + |b - a|^2,
 * which inner products of points with points and with cluster sums give at once (Späth 1980). Swaps keep sizes. Each point in turn takes its best partner;
 * sweeps go on until one finds nothing.
 */
#include "moe/cluster.h"
#include "base/meter.h"

enum { MOST_SWEEPS = 100 };
#define LEAST_GAIN 1e-10 /* of points of about unit length: less is rounding */

typedef struct exchange {
    const tf_points *p;
    const double *gram;
    double *onto; /* count × clusters: products with the clusters' sums */
    int64_t *of;
} exchange;

static void sum_onto(exchange *x)
{
    const int64_t n = x->p->count, clusters = x->p->clusters;
    for (int64_t i = 0; i < n * clusters; i++)
        x->onto[i] = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            x->onto[i * clusters + x->of[j]] += x->gram[i * n + j];
}

/* The partner that gains most for point a; -1: none gains. */
static int64_t best_partner(const exchange *x, int64_t a)
{
    const int64_t n = x->p->count, clusters = x->p->clusters, from = x->of[a];
    const double *mine = x->onto + a * clusters, *row = x->gram + a * n;
    double most = LEAST_GAIN;
    int64_t best = -1;
    for (int64_t b = 0; b < n; b++) {
        const int64_t to = x->of[b];
        const double *theirs = x->onto + b * clusters;
        const double gain = theirs[from] - mine[from] - theirs[to] + mine[to] + row[a] + x->gram[b * n + b] - 2 * row[b];
        if (to != from && gain > most) {
            most = gain;
            best = b;
        }
    }
    return best;
}

static void swap(exchange *x, int64_t a, int64_t b)
{
    const int64_t n = x->p->count, clusters = x->p->clusters, from = x->of[a], to = x->of[b];
    for (int64_t i = 0; i < n; i++) {
        const double moved = x->gram[b * n + i] - x->gram[a * n + i];
        x->onto[i * clusters + from] += moved;
        x->onto[i * clusters + to] -= moved;
    }
    x->of[a] = to;
    x->of[b] = from;
}

tfuse_status tf_exchange(tf_env *env, const tf_points *p, const double *gram, int64_t *of, int64_t *swaps)
{
    exchange x = {p, gram, tf_alloc_array(env, (size_t)(p->count * p->clusters), sizeof(double)), of};
    tfuse_status status = x.onto ? TFUSE_OK : TFUSE_ENOMEM;
    bool moved = status == TFUSE_OK;
    for (int sweep = 0; moved && sweep < MOST_SWEEPS && status == TFUSE_OK; sweep++) {
        sum_onto(&x); /* anew, so that rounding does not gather */
        moved = false;
        for (int64_t a = 0; a < p->count; a++) {
            const int64_t b = best_partner(&x, a);
            if (b < 0)
                continue;
            swap(&x, a, b);
            moved = true;
            ++*swaps;
        }
        status = tf_check_cancel(env);
    }
    tf_free(&env->mem, x.onto);
    return status;
}

uint64_t tf_exchange_bytes(int64_t count, int64_t clusters)
{
    return tf_area(count, clusters, sizeof(double));
}
