/* SPDX-License-Identifier: Apache-2.0
 *
 * fold_norms.c: a norm's gain g and bias b move into the linears that read it:
 *     W (g * x + b) + c = (W diag(g)) x + (c + W b),
 * so the norm keeps gain one and bias zero and permits rotations. All readers must be linears with tensors of their own, seen through
 * the choice of a token at most, and have a bias where the norm's is not zero; otherwise the norm stays as it is. A norm
 * whose stored gain is offset by one stays too: its gain is not a tensor to scale by.
 */
#include "passes/passes.h"
#include "passes/walk.h"

enum { GAIN, BIAS };       /* of norms */
enum { WEIGHT, LINEAR_BIAS };

static tfuse_status can_take_bias(tf_env *env, const tf_view *base, const tf_node *norm, const tf_id *readers, size_t count,
                                  bool *can)
{
    *can = true;
    for (size_t i = 0; i < count; i++)
        *can = *can && tf_node_slot(&base->g->nodes[readers[i]], LINEAR_BIAS) >= 0;
    return *can ? TFUSE_OK : tf_walk_is_zero(env, base, tf_node_slot(norm, BIAS), can);
}

static tfuse_status fold_into(tf_env *env, tf_view *out, const tf_node *norm, const tf_node *linear)
{
    const tf_id bias = tf_node_slot(norm, BIAS), target = tf_node_slot(linear, LINEAR_BIAS);
    const tf_step scale = {.kind = TF_STEP_SCALE, .dim = 1, .operand = norm->params[GAIN]};
    TF_TRY(tf_view_add(env, out, linear->params[WEIGHT], &scale));
    if (bias < 0 || target < 0)
        return TFUSE_OK;
    const tf_step add = {.kind = TF_STEP_ADD_PRODUCT, .operand = bias, .matrix = linear->params[WEIGHT]};
    return tf_view_add(env, out, target, &add);
}

static tfuse_status clear(tf_env *env, tf_view *out, const tf_node *norm)
{
    const tf_step one = {.kind = TF_STEP_FILL, .value = 1.0}, zero = {.kind = TF_STEP_FILL, .value = 0.0};
    TF_TRY(tf_view_add(env, out, norm->params[GAIN], &one));
    return tf_node_slot(norm, BIAS) < 0 ? TFUSE_OK : tf_view_add(env, out, norm->params[BIAS], &zero);
}

static bool norm_is_own(const tf_graph *g, const tf_node *norm)
{
    return tf_param_is_private(g, norm->params[GAIN]) &&
           (tf_node_slot(norm, BIAS) < 0 || tf_param_is_private(g, norm->params[BIAS])) &&
           tf_node_int_at(norm, "offset", 0) == 0;
}

static tfuse_status fold(tf_env *env, tf_view *out, const tf_node *norm)
{
    const tf_graph *g = out->g;
    tf_id *readers = NULL;
    size_t count = 0;
    bool all = false, can = false;
    tfuse_status status = tf_walk_linears(env, g, norm->outputs[0], &all, &readers, &count);
    if (status != TFUSE_OK || !all || count == 0 || !norm_is_own(g, norm))
        goto out;
    TF_TRY_OUT(can_take_bias(env, out->base, norm, readers, count, &can));
    for (size_t i = 0; can && i < count; i++)
        TF_TRY_OUT(fold_into(env, out, norm, &g->nodes[readers[i]]));
    if (can)
        TF_TRY_OUT(clear(env, out, norm));
out:
    tf_free(&env->mem, readers);
    return status;
}

static tfuse_status rewrite(tf_env *env, tf_view *level)
{
    for (size_t i = 0; i < level->g->n_nodes; i++)
        if (level->g->nodes[i].op->normalises)
            TF_TRY(fold(env, level, &level->g->nodes[i]));
    return TFUSE_OK;
}

tfuse_status tf_pass_fold_norms(tf_env *env, const tf_view *base, tf_view **out)
{
    return tf_walk_level(env, base, "fold-norms.1", rewrite, out);
}
