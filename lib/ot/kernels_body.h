/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels_body.h: the loops of kernels.c, included there once for each vector width. The includer defines the vectors:
 *   NAME(f), TARGET           name and attribute of a version
 *   W, VD, VI, VM, VF, VJ     lanes; W doubles, W int64, a mask of them; W floats, W int32
 *   LOADC, LOADD, STORED, LOADI, STOREI, SETD, SETI, ADDD, SUBD, MIND, MAXD, LESS, PICKI (where m: b, else a)
 * No header guard: it is meant to be included again.
 */

/* First and second smallest of lanes with their places; ties to the smallest place. */
TARGET static double NAME(finish)(const VD *low, const VI *at, double *second, int64_t *arg)
{
    double x[U * W], a = INFINITY, b = *second;
    int64_t place[U * W], best = 0;
    for (int u = 0; u < U; u++) {
        STORED(x + u * W, low[u]);
        STOREI(place + u * W, at[u]);
    }
    for (int l = 0; l < U * W; l++) {
        int64_t p = place[l] + l;
        if (x[l] < a || (x[l] == a && p < best)) {
            b = a < b ? a : b;
            a = x[l];
            best = p;
        } else {
            b = x[l] < b ? x[l] : b;
        }
    }
    *arg = best;
    *second = b;
    return a;
}

TARGET static double NAME(row_min)(const float *cost, const double *v, int64_t m, int64_t *arg)
{
    VD low[U];
    VI at[U];
    for (int u = 0; u < U; u++) {
        low[u] = SETD(INFINITY);
        at[u] = SETI(0);
    }
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VI here = SETI(j);
        UNROLL for (int u = 0; u < U; u++) {
            VD r = SUBD(LOADC(cost + j + u * W), LOADD(v + j + u * W));
            at[u] = PICKI(LESS(r, low[u]), at[u], here);
            low[u] = MIND(r, low[u]);
        }
    }
    double none = INFINITY, best = NAME(finish)(low, at, &none, arg);
    for (; j < m; j++) {
        double r = (double)cost[j] - v[j];
        if (r < best) {
            best = r;
            *arg = j;
        }
    }
    return best;
}

TARGET static double NAME(row_min2)(const float *cost, const double *v, int64_t m, int64_t *arg, double *second)
{
    VD low[U], next = SETD(INFINITY), more = next;
    VI at[U];
    for (int u = 0; u < U; u++) {
        low[u] = SETD(INFINITY);
        at[u] = SETI(0);
    }
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VI here = SETI(j);
        UNROLL for (int u = 0; u < U; u++) {
            VD r = SUBD(LOADC(cost + j + u * W), LOADD(v + j + u * W)), larger = MAXD(r, low[u]);
            at[u] = PICKI(LESS(r, low[u]), at[u], here);
            low[u] = MIND(r, low[u]);
            if (u % 2)
                next = MIND(larger, next);
            else
                more = MIND(larger, more);
        }
    }
    double lane[W], b = INFINITY;
    STORED(lane, MIND(next, more));
    for (int l = 0; l < W; l++)
        b = lane[l] < b ? lane[l] : b;
    double a = NAME(finish)(low, at, &b, arg);
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

TARGET static double NAME(row_relax)(const float *cost, const double *open, int64_t m, double base, int64_t row, double *key,
                                     int64_t *pred, int64_t *arg)
{
    VD low[U], start = SETD(base);
    VI at[U], from = SETI(row);
    for (int u = 0; u < U; u++) {
        low[u] = SETD(INFINITY);
        at[u] = SETI(0);
    }
    int64_t j = 0;
    for (; j + U * W <= m; j += U * W) {
        VI here = SETI(j);
        UNROLL for (int u = 0; u < U; u++) {
            int64_t k = j + u * W;
            VD d = ADDD(SUBD(LOADC(cost + k), LOADD(open + k)), start), old = LOADD(key + k);
            STOREI(pred + k, PICKI(LESS(d, old), LOADI(pred + k), from));
            d = MIND(d, old);
            STORED(key + k, d);
            at[u] = PICKI(LESS(d, low[u]), at[u], here);
            low[u] = MIND(d, low[u]);
        }
    }
    double none = INFINITY, best = NAME(finish)(low, at, &none, arg);
    for (; j < m; j++) {
        double d = ((double)cost[j] - open[j]) + base;
        if (d < key[j]) {
            key[j] = d;
            pred[j] = row;
        }
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
        double lane[W], x = INFINITY;
        STORED(lane, least);
        for (int l = 0; l < W; l++)
            x = lane[l] < x ? lane[l] : x;
        low[b] = x;
    }
}

TARGET static void NAME(column_min)(const float *restrict cost, int64_t m, int32_t row, float *restrict low, int32_t *restrict at)
{
    for (int64_t j = 0; j < m; j++) {
        at[j] = cost[j] < low[j] ? row : at[j];
        low[j] = cost[j] < low[j] ? cost[j] : low[j];
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

static const kernels NAME(table) = {NAME(row_min),      NAME(row_min2),  NAME(row_relax), NAME(block_minima),
                                    NAME(column_min), NAME(max_bits)};

#undef NAME
#undef TARGET
#undef W
#undef VD
#undef VI
#undef LOADC
#undef LOADD
#undef STORED
#undef LOADI
#undef STOREI
#undef SETD
#undef SETI
#undef ADDD
#undef SUBD
#undef MIND
#undef MAXD
#undef LESS
#undef PICKI
