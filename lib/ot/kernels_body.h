/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels_body.h: the loops of kernels.c, included there once for each vector width. The includer defines the vectors:
 *   NAME(f), TARGET           name and attribute of a version
 *   W, VD, VI, VM, VF, VJ     lanes; W doubles, W int64, a mask of them; W floats, W int32
 *   LOADC, LOADD, STORED, STOREI, SETD, SETI, ADDD, SUBD, MIND, MAXD, LESS, NOTABOVE (as bits), PICKI, PICKD (where m: b, else a), LEAST (of the lanes)
 * No header guard: it is meant to be included again.
 */

/* The place of a, the smallest value there is. A lane keeps the first block (of U * W) in which it met its smallest; where in the block is looked up
 * here: x_j = cost_j - v_j, or v_j where cost is NULL. Ties go to the smallest place. Whatever the numbers, the same instructions run:
 * branches that are guessed wrong would cost as much as a short row. */
TARGET INLINE int64_t NAME(place)(VD low, VI at, double a, const float *cost, const double *v)
{
    int64_t of_lane[W], block = INT64_MAX;
    if (!(a < INFINITY))
        return 0;
    STOREI(of_lane, at);
    for (uint32_t lanes = (uint32_t)NOTABOVE(low, SETD(a)); lanes; lanes &= lanes - 1) {
        int64_t here = of_lane[__builtin_ctz(lanes)];
        block = here < block ? here : block;
    }
    uint32_t found = 0;
    UNROLL for (int u = 0; u < U; u++) {
        VD r = LOADD(v + block + u * W);
        if (cost)
            r = SUBD(LOADC(cost + block + u * W), r);
        found |= (uint32_t)NOTABOVE(r, SETD(a)) << (u * W);
    }
    return block + __builtin_ctz(found);
}

/* The second smallest: of what lost within its lane, and of the smallest of all other lanes. */
TARGET INLINE double NAME(second)(VD low, VD next, double a)
{
    const uint32_t lanes = (uint32_t)NOTABOVE(low, SETD(a));
    return lanes & (lanes - 1) ? a : LEAST(MIND(next, PICKD(LESS(SETD(a), low), SETD(INFINITY), low)));
}

TARGET static double NAME(row_min)(const float *cost, const double *v, int64_t m, int64_t *arg)
{
    VD low = SETD(INFINITY);
    VI at = SETI(0);
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VD r[U];
        UNROLL for (int u = 0; u < U; u++)
            r[u] = SUBD(LOADC(cost + j + u * W), LOADD(v + j + u * W));
        VD least = MIND(MIND(r[0], r[1]), MIND(r[2], r[3]));
        at = PICKI(LESS(least, low), at, SETI(j));
        low = MIND(least, low);
    }
    double best = LEAST(low);
    *arg = NAME(place)(low, at, best, cost, v);
    for (; j < m; j++) {
        double r = (double)cost[j] - v[j];
        if (r < best) {
            best = r;
            *arg = j;
        }
    }
    return best;
}

/* A block's second smallest is the smallest of what loses against another on the way to its smallest. */
TARGET static double NAME(row_min2)(const float *cost, const double *v, int64_t m, int64_t *arg, double *second)
{
    VD low = SETD(INFINITY), next = low;
    VI at = SETI(0);
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VD r[U];
        UNROLL for (int u = 0; u < U; u++)
            r[u] = SUBD(LOADC(cost + j + u * W), LOADD(v + j + u * W));
        VD left = MIND(r[0], r[1]), right = MIND(r[2], r[3]), least = MIND(left, right);
        VD losers = MIND(MAXD(r[0], r[1]), MAXD(r[2], r[3])), last = MIND(MAXD(left, right), MAXD(least, low));
        next = MIND(MIND(losers, last), next);
        at = PICKI(LESS(least, low), at, SETI(j));
        low = MIND(least, low);
    }
    double a = LEAST(low), b = NAME(second)(low, next, a);
    *arg = NAME(place)(low, at, a, cost, v);
    for (; j < m; j++) {
        double r = (double)cost[j] - v[j];
        if (r < a) {
            b = a;
            a = r;
            *arg = j;
        } else {
            b = r < b ? r : b;
        }
    }
    *second = b;
    return a;
}

TARGET static double NAME(row_relax)(const float *cost, const double *open, int64_t m, double base, double *key, int64_t *arg)
{
    VD low = SETD(INFINITY), start = SETD(base);
    VI at = SETI(0);
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VD d[U];
        UNROLL for (int u = 0; u < U; u++) {
            int64_t k = j + u * W;
            d[u] = MIND(ADDD(SUBD(LOADC(cost + k), LOADD(open + k)), start), LOADD(key + k));
            STORED(key + k, d[u]);
        }
        VD least = MIND(MIND(d[0], d[1]), MIND(d[2], d[3]));
        at = PICKI(LESS(least, low), at, SETI(j));
        low = MIND(least, low);
    }
    double best = LEAST(low);
    *arg = NAME(place)(low, at, best, NULL, key);
    for (; j < m; j++) {
        double d = ((double)cost[j] - open[j]) + base;
        key[j] = d < key[j] ? d : key[j];
        if (key[j] < best) {
            best = key[j];
            *arg = j;
        }
    }
    return best;
}

TARGET static void NAME(block_minima)(const float *cost, const double *v, int64_t blocks, double *low)
{
    for (int64_t b = 0; b < blocks; b++, cost += TF_LIST_BLOCK, v += TF_LIST_BLOCK) {
        VD least = SUBD(LOADC(cost), LOADD(v));
        UNROLL for (int l = W; l < TF_LIST_BLOCK; l += W)
            least = MIND(SUBD(LOADC(cost + l), LOADD(v + l)), least);
        low[b] = LEAST(least);
    }
}

TARGET static void NAME(column_min)(const float *restrict cost, int64_t m, int32_t row, float *restrict low, int32_t *restrict at)
{
    for (int64_t j = 0; j < m; j++) {
        at[j] = cost[j] < low[j] ? row : at[j];
        low[j] = cost[j] < low[j] ? cost[j] : low[j];
    }
}

TARGET static void NAME(column_min_from)(const float *restrict cost, int64_t m, double u, int64_t row, double *restrict low, int64_t *restrict at)
{
    for (int64_t j = 0; j < m; j++) {
        double r = (double)cost[j] - u;
        at[j] = r < low[j] ? row : at[j];
        low[j] = r < low[j] ? r : low[j];
    }
}

TARGET static uint32_t NAME(max_bits)(const float *x, int64_t count)
{
    enum { LANES = 64 };
    uint32_t top[LANES] = {0}, most = 0, bits[LANES];
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        memcpy(bits, x + i, sizeof bits);
        for (int l = 0; l < LANES; l++) {
            uint32_t a = bits[l] & 0x7fffffffu;
            top[l] = a > top[l] ? a : top[l];
        }
    }
    for (int l = 0; l < LANES; l++)
        most = top[l] > most ? top[l] : most;
    for (; i < count; i++) {
        memcpy(bits, x + i, sizeof *bits);
        most = (bits[0] & 0x7fffffffu) > most ? bits[0] & 0x7fffffffu : most;
    }
    return most;
}

static const kernels NAME(table) = {NAME(row_min),    NAME(row_min2),        NAME(row_relax), NAME(block_minima),
                                    NAME(column_min), NAME(column_min_from), NAME(max_bits)};

#undef NAME
#undef TARGET
#undef W
#undef VD
#undef VI
#undef LOADC
#undef LOADD
#undef STORED
#undef STOREI
#undef SETD
#undef SETI
#undef ADDD
#undef SUBD
#undef MIND
#undef MAXD
#undef LESS
#undef NOTABOVE
#undef PICKI
#undef PICKD
#undef LEAST
