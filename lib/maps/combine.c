/* SPDX-License-Identifier: Apache-2.0
 *
 * combine.c: the combination of two maps at a residual join.
 *
 * T = T_a diag(w) + T_b diag(1 - w), with one weight for each unit of the anchor. As couplings (column sums 1/m) that is a mixture column by
 * column, so columns keep their mass; rows then sum to what they sum to, and the consumed operator divides by it.
 */
#include "maps/map.h"

static bool same_permutation(const tf_map *a, const tf_map *b)
{
    bool plain_a = a->kind == TF_MAP_IDENTITY || a->kind == TF_MAP_PERMUTATION;
    bool plain_b = b->kind == TF_MAP_IDENTITY || b->kind == TF_MAP_PERMUTATION;
    if (!plain_a || !plain_b)
        return false;
    for (int64_t j = 0; j < a->m; j++)
        if ((a->source ? a->source[j] : j) != (b->source ? b->source[j] : j))
            return false;
    return true;
}

tfuse_status tf_map_mix(tf_env *env, const tf_map *a, const tf_map *b, const double *wa, bool raw, tf_map **out)
{
    *out = NULL;
    if (a->n != b->n || a->m != b->m)
        return tf_fail(env, TFUSE_ESHAPE, "maps of %lld onto %lld and %lld onto %lld units cannot be combined",
                       (long long)a->n, (long long)a->m, (long long)b->n, (long long)b->m);
    if (same_permutation(a, b))
        return tf_map_clone(env, a, out);
    size_t count = (size_t)(a->n * a->m);
    float *ta = tf_alloc_array(env, count, sizeof *ta), *tb = tf_alloc_array(env, count, sizeof *tb);
    tfuse_status status = ta && tb ? TFUSE_OK : TFUSE_ENOMEM;
    if (status == TFUSE_OK) {
        tf_map_matrix(a, ta);
        tf_map_matrix(b, tb);
        double mass = raw ? 1 : 1.0 / (double)a->m;
        for (size_t e = 0; e < count; e++) {
            double w = wa[e % (size_t)a->m];
            ta[e] = (float)(mass * (w * (double)ta[e] + (1 - w) * (double)tb[e]));
        }
        status = tf_map_dense_own(env, raw ? TF_MAP_RAW : TF_MAP_COUPLING, a->n, a->m, ta, out);
        ta = NULL;
    }
    tf_free(&env->mem, ta);
    tf_free(&env->mem, tb);
    return status;
}
