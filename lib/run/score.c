/* SPDX-License-Identifier: Apache-2.0
 *
 * score.c: accuracy and cross-entropy of logits, and the labels that they are held against.
 */
#include "run/run.h"
#include "ops/ops.h"
#include <math.h>

enum { IGNORED = -100 }; /* the label that training frameworks leave out */

/* log(sum exp(x)) - x[label], the maximum subtracted first. */
static double cross_entropy(const float *x, int64_t classes, int64_t best, int64_t label)
{
    double sum = 0;
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)x[c] - (double)x[best]);
    return (double)x[best] + log(sum) - (double)x[label];
}

void tf_score_add(tf_score *s, const float *logits, int64_t rows, int64_t classes, const int64_t *labels)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * classes;
        if (labels[r] == IGNORED)
            continue;
        s->n++;
        if (tf_find_nonfinite(x, (size_t)classes) >= 0) {
            s->nonfinite++;
            continue;
        }
        int64_t best = 0;
        for (int64_t c = 1; c < classes; c++)
            if (x[c] > x[best])
                best = c;
        s->correct += best == labels[r];
        s->loss_sum += cross_entropy(x, classes, best, labels[r]);
    }
}

static const char *labels_label(const tfuse_array *array)
{
    return tf_array_label(array, "the label array");
}

static tfuse_status check_labels(tf_env *env, const tfuse_array *array, const int64_t *labels, int64_t n, int64_t classes)
{
    for (int64_t i = 0; i < n; i++)
        if (labels[i] != IGNORED && (labels[i] < 0 || labels[i] >= classes))
            return tf_fail(env, TFUSE_ERANGE, "%s: label %lld at index %lld is outside 0 to %lld (%d would leave the sample out)", labels_label(array),
                           (long long)labels[i], (long long)i, (long long)classes - 1, IGNORED);
    return TFUSE_OK;
}

tfuse_status tf_labels_make(tf_env *env, const tfuse_array *array, int64_t n, int64_t classes, int64_t **out)
{
    *out = NULL;
    if (array->count < (size_t)n)
        return tf_fail(env, TFUSE_ESHAPE, "%s holds %zu entries for %lld predictions", labels_label(array), array->count, (long long)n);
    int64_t *labels = tf_alloc_array(env, (size_t)n, sizeof *labels);
    if (!labels)
        return TFUSE_ENOMEM;
    tfuse_status status = TFUSE_OK;
    if (!tf_array_integers(array, 0, (size_t)n, labels))
        status = tf_fail(env, TFUSE_EDTYPE, "%s holds %s; labels are integers", labels_label(array), tf_dtype_name(array->dtype));
    else
        status = check_labels(env, array, labels, n, classes);
    if (status != TFUSE_OK) {
        tf_free(&env->mem, labels);
        return status;
    }
    *out = labels;
    return TFUSE_OK;
}

bool tf_graph_is_causal(const tf_graph *g)
{
    const tf_value *in = &g->values[g->inputs[0]], *out = &g->values[g->output];
    bool attends = false;
    if (!in->integer || out->rank != 2 || out->extent[1] != tf_inputs_vocabulary(g, g->inputs[0]))
        return false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const tf_node *n = &g->nodes[i];
        const bool causal = n->op == &tf_op_attention && tf_node_int_at(n, "causal", 0) != 0;
        attends = attends || causal;
        if (!n->op->tokenwise && !causal)
            return false;
    }
    return attends;
}

tfuse_status tf_labels_next(tf_env *env, const tf_inputs *in, int64_t **out)
{
    const size_t count = (size_t)(in->n * in->sample);
    int64_t *ids = tf_alloc_array(env, count + 1, sizeof *ids);
    *out = ids;
    if (!ids)
        return TFUSE_ENOMEM;
    tf_array_integers(in->array, 0, count, ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = (i + 1) % (size_t)in->sample ? ids[i + 1] : IGNORED;
    return TFUSE_OK;
}
