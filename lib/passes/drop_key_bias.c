/* SPDX-License-Identifier: Apache-2.0
 *
 * drop_key_bias.c: a key bias adds q . b_K to every score of a query, and softmax ignores what is equal for all keys: b_K = 0. Exact
 * where the keys come straight from a linear that serves them alone; not under rotary positions, which turn the bias
 * differently at each key, nor where scores are capped, which what is added changes.
 */
#include "passes/passes.h"
#include "passes/walk.h"

enum { KEY = 1, BIAS = 1 };

static tf_id droppable_bias(const tf_graph *g, const tf_node *n)
{
    if (n->op != &tf_op_attention || tf_node_int_at(n, "rope", 0) != 0 || tf_node_real_at(n, "softcap", 0) > 0)
        return -1;
    const tf_id linear = tf_walk_sole_linear(g, n->inputs[KEY]);
    return linear < 0 ? -1 : tf_node_slot(&g->nodes[linear], BIAS);
}

static tfuse_status rewrite(tf_env *env, tf_view *level)
{
    const tf_step zero = {.kind = TF_STEP_FILL, .value = 0.0};
    for (size_t i = 0; i < level->g->n_nodes; i++) {
        const tf_id bias = droppable_bias(level->g, &level->g->nodes[i]);
        if (bias >= 0)
            TF_TRY(tf_view_add(env, level, bias, &zero));
    }
    return TFUSE_OK;
}

tfuse_status tf_pass_drop_key_bias(tf_env *env, const tf_view *base, tf_view **out)
{
    return tf_walk_level(env, base, "drop-key-bias.1", rewrite, out);
}
