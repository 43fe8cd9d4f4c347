/* SPDX-License-Identifier: Apache-2.0
 *
 * matching_blocks.c: a class's evidence from weights, a block at a time: where there are many blocks of many units (experts), the products of all units with
 * all others are more than memory holds, those of one pair of blocks are not. The rows of all places are gathered once.
 * And a walk over the model's blocks alone.
 */
#include "align/matching.h"
#include "num/num.h"
#include <math.h>

static tfuse_status gather_rows(matching *mt, mt_block_place *p, const mt_place *at, int side)
{
    const tf_param *param = &mt->g->params[at->param];
    float *x = NULL;
    if (!(p->rows[side] = tf_alloc_array(mt->env, (size_t)(at->part[side]->size * p->width), sizeof *p->rows[side])))
        return TFUSE_ENOMEM;
    TF_TRY(side == MT_MODEL ? mt_moved(mt, at->param, at->dim, &x) : mt_take(mt, MT_ANCHOR, at->param, &x));
    tf_part_rows(param, mt_param(mt, side, at->param)->shape[at->dim], x, at->dim, at->part[side], 0, at->part[side]->size, p->rows[side]);
    if (side == MT_MODEL)
        tf_free(&mt->env->mem, x);
    else
        mt_give(mt, MT_ANCHOR, at->param, x);
    return TFUSE_OK;
}

static tfuse_status add_place(matching *mt, const mt_place *at, void *arg)
{
    mt_blocks *to = arg;
    const tf_param *param = &mt->g->params[at->param];
    if (at->factor + 1 != at->part[MT_ANCHOR]->n_factors || (to->nested && at->part[MT_ANCHOR]->n_factors < 2))
        return TFUSE_OK;
    TF_TRY(tf_check_cancel(mt->env));
    if (to->count == MT_MOST_PLACES)
        return tf_fail(mt->env, TFUSE_EUNSUPPORTED, "more tensors than matching takes");
    mt_block_place *p = &to->places[to->count++];
    *p = (mt_block_place){.part = {*at->part[0], *at->part[1]}, .factor = at->factor, .width = tf_param_count(param) / param->shape[at->dim],
                          .weight = mt->weight[param->node], .neutral = param->use[at->dim] == TF_USE_NEUTRAL};
    TF_TRY(gather_rows(mt, p, at, MT_MODEL));
    return gather_rows(mt, p, at, MT_ANCHOR);
}

tfuse_status mt_blocks_make(matching *mt, tf_id cls, bool nested, mt_blocks *out)
{
    *out = (mt_blocks){.n = mt_extent(mt, MT_MODEL, cls), .m = mt_extent(mt, MT_ANCHOR, cls), .nested = nested};
    return mt_each_place(mt, cls, add_place, out);
}

void mt_blocks_free(matching *mt, mt_blocks *blocks)
{
    for (int i = 0; i < blocks->count; i++)
        for (int s = 0; s < 2; s++)
            tf_free(&mt->env->mem, blocks->places[i].rows[s]);
}

void mt_blocks_add(matching *mt, const mt_blocks *blocks, const mt_block_place *p, int64_t b, int64_t a, float *x)
{
    const int64_t n = blocks->n, m = blocks->m, width = p->width;
    tf_gemm(mt->env, (float)p->weight, tf_mat_rows(p->rows[MT_MODEL] + b * n * width, n, width),
            tf_mat_t(tf_mat_rows(p->rows[MT_ANCHOR] + a * m * width, m, width)), 1, tf_mat_rows(x, n, m));
}

/* Root of the sum of squares of a block's rows. */
static double norm_of(const mt_block_place *p, int side, int64_t block, int64_t units)
{
    return sqrt(tf_sum_sq(p->rows[side] + block * units * p->width, (size_t)(units * p->width)));
}

void mt_blocks_gram(matching *mt, const mt_blocks *blocks, mt_gram *gram)
{
    for (int k = 0; k < blocks->count; k++) {
        const mt_block_place *p = &blocks->places[k];
        for (int64_t a = 0; a < p->part[MT_ANCHOR].size / blocks->m; a++) {
            int64_t units[TF_MAX_FACTORS];
            tf_part_units(&p->part[MT_ANCHOR], p->factor, a, units);
            const int64_t b = tf_class_block_source(mt->g, mt->maps, &p->part[MT_MODEL], &p->part[MT_ANCHOR], units);
            if (b < 0 || tf_class_instance(mt->g, &p->part[MT_ANCHOR], p->factor, units) != gram->first)
                continue;
            mt_blocks_add(mt, blocks, p, b, a, gram->neutral && p->neutral ? gram->neutral : gram->x);
            gram->most[0] += p->weight * norm_of(p, MT_MODEL, b, blocks->n) * norm_of(p, MT_ANCHOR, a, blocks->m);
        }
    }
}

/* ---- the model's rows alone ---- */

tf_use mt_place_use(const matching *mt, const mt_place *at)
{
    return tf_param_use(mt->g, at->param, at->dim, at->part[MT_ANCHOR]->port[at->factor]);
}

tfuse_status mt_each_block(matching *mt, tf_id cls, const mt_place *at, int spares, mt_rows_fn fn, void *arg)
{
    const tf_param *own = mt_param(mt, MT_MODEL, at->param);
    const tf_part *part = at->part[MT_ANCHOR], *from = at->part[MT_MODEL];
    const int64_t n = mt_extent(mt, MT_MODEL, cls), width = tf_param_count(own) / own->shape[at->dim];
    if (at->factor + 1 != part->n_factors)
        return TFUSE_OK;
    TF_TRY(tf_check_cancel(mt->env));
    float *x = NULL, *rows = tf_alloc_array(mt->env, (size_t)((1 + spares) * n * width), sizeof *rows);
    tfuse_status status = rows ? mt_take(mt, MT_MODEL, at->param, &x) : TFUSE_ENOMEM;
    for (int64_t block = 0; block < part->size / mt_extent(mt, MT_ANCHOR, cls) && status == TFUSE_OK; block++) {
        int64_t units[TF_MAX_FACTORS];
        tf_part_units(part, at->factor, block, units);
        const int64_t source = tf_class_block_source(mt->g, mt->maps, from, part, units);
        if (source < 0)
            continue;
        tf_part_rows(own, own->shape[at->dim], x, at->dim, from, source * n, n, rows);
        fn(mt, &(mt_rows){tf_class_instance(mt->g, part, at->factor, units), mt_place_use(mt, at), width, rows, rows + n * width}, arg);
    }
    if (x)
        mt_give(mt, MT_MODEL, at->param, x);
    tf_free(&mt->env->mem, rows);
    return status;
}
