/* SPDX-License-Identifier: Apache-2.0
 *
 * move_value_bias.c: the weights of attention sum to one for each query, so a value bias comes out of every head as it went in, and
 * the next linear may hold it: b_O <- b_O + W_O b_V, b_V = 0. Exact where the values come from a linear that serves them alone, and all
 * readers of the attention are linears with a bias. Under grouped queries W_O has a block of columns for each query head, the bias one
 * for each head of values; there the biases stay.
 */
#include "passes/passes.h"
#include "passes/walk.h"

enum { VALUE = 2 };
enum { WEIGHT, BIAS };

static tfuse_status move_bias(tf_env *env, tf_view *out, tf_id bias, const tf_id *readers, size_t count)
{
    const tf_graph *g = out->g;
    for (size_t i = 0; i < count; i++) {
        const tf_node *linear = &g->nodes[readers[i]];
        const tf_step add = {.kind = TF_STEP_ADD_PRODUCT, .operand = bias, .matrix = linear->params[WEIGHT]};
        TF_TRY(tf_view_add(env, out, linear->params[BIAS], &add));
    }
    const tf_step zero = {.kind = TF_STEP_FILL, .value = 0.0};
    return tf_view_add(env, out, bias, &zero);
}

static tfuse_status move_of(tf_env *env, tf_view *out, const tf_node *n)
{
    const tf_graph *g = out->g;
    const tf_id linear = n->op == &tf_op_attention ? tf_walk_sole_linear(g, n->inputs[VALUE]) : -1;
    const tf_id bias = linear < 0 ? -1 : tf_node_slot(&g->nodes[linear], BIAS);
    if (bias < 0 || tf_value_channels(g, n->outputs[0])->extent != g->params[bias].shape[0])
        return TFUSE_OK;
    tf_id *readers = NULL;
    size_t count = 0;
    bool all = false;
    TF_TRY(tf_walk_linears(env, g, n->outputs[0], &all, &readers, &count));
    for (size_t i = 0; i < count; i++)
        all = all && tf_node_slot(&g->nodes[readers[i]], BIAS) >= 0;
    const tfuse_status status = all && count > 0 ? move_bias(env, out, bias, readers, count) : TFUSE_OK;
    tf_free(&env->mem, readers);
    return status;
}

static tfuse_status rewrite(tf_env *env, tf_view *level)
{
    for (size_t i = 0; i < level->g->n_nodes; i++)
        TF_TRY(move_of(env, level, &level->g->nodes[i]));
    return TFUSE_OK;
}

tfuse_status tf_pass_move_value_bias(tf_env *env, const tf_view *base, tf_view **out)
{
    return tf_walk_level(env, base, "move-value-bias.1", rewrite, out);
}
