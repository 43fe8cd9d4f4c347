/* SPDX-License-Identifier: Apache-2.0
 *
 * naming.c: what the architectures' files share: naming tables over layers, and formatted nodes.
 */
#include "arch/arch.h"
#include "base/buf.h"
#include <stdio.h>
#include <string.h>

/* ---- naming tables ---- */

const char *tf_with_layer(const char *pattern, int64_t layer, char *buffer, size_t size)
{
    const char *at = strstr(pattern, "%d");
    if (at)
        snprintf(buffer, size, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)layer, at + 2);
    else
        snprintf(buffer, size, "%s", pattern);
    return buffer;
}

/* Drops the first `prefix` in an expression, in place. */
static void drop(char *text, const char *prefix)
{
    char *at = *prefix ? strstr(text, prefix) : NULL;
    if (at)
        memmove(at, at + strlen(prefix), strlen(at + strlen(prefix)) + 1);
}

tfuse_status tf_apply_names_without(tf_env *env, tf_graph *g, const tf_name_rule *rules, size_t count, int64_t layers, const char *prefix)
{
    char logical[256], stored[256];
    for (size_t r = 0; r < count; r++) {
        const int64_t times = strstr(rules[r].logical, "%d") ? layers : 1;
        for (int64_t i = 0; i < times; i++) {
            tf_with_layer(rules[r].stored, i, stored, sizeof stored);
            drop(stored, prefix);
            TF_TRY(tf_graph_store(env, g, tf_with_layer(rules[r].logical, i, logical, sizeof logical), stored));
        }
    }
    return TFUSE_OK;
}

tfuse_status tf_apply_names(tf_env *env, tf_graph *g, const tf_name_rule *rules, size_t count, int64_t layers)
{
    return tf_apply_names_without(env, g, rules, count, layers, "");
}

/* ---- nodes ---- */

TF_PRINTF(6, 0)
static tfuse_status addv(tf_env *env, tf_graph *g, const char *op, const char *name, const char *inputs, const char *attrs,
                         va_list args)
{
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, attrs, again);
    va_end(again);
    char *text = length < 0 ? NULL : tf_alloc_array(env, (size_t)length + 1, 1);
    if (!text)
        return TFUSE_ENOMEM;
    vsnprintf(text, (size_t)length + 1, attrs, args);
    const tfuse_status status = tf_graph_add(env, g, op, name, inputs, text);
    tf_free(&env->mem, text);
    return status;
}

tfuse_status tf_addf(tf_env *env, tf_graph *g, const char *op, const char *name, const char *inputs, const char *attrs, ...)
{
    va_list args;
    va_start(args, attrs);
    const tfuse_status status = addv(env, g, op, name, inputs, attrs, args);
    va_end(args);
    return status;
}

static tfuse_status expand(const tf_block *b, const char *pattern, tf_buf *out)
{
    for (; *pattern; pattern++) {
        const char *word = *pattern == '~' ? b->scope : *pattern == '^' ? b->from : NULL;
        TF_TRY(tf_buf_add(b->env, out, word ? word : pattern, word ? strlen(word) : 1));
    }
    return tf_buf_add(b->env, out, "", 0);
}

tfuse_status tf_block_addf(const tf_block *b, const char *op, const char *name, const char *inputs, const char *attrs, ...)
{
    tf_buf full_name, full_inputs;
    tf_buf_init(&full_name, &b->env->mem);
    tf_buf_init(&full_inputs, &b->env->mem);
    va_list args;
    va_start(args, attrs);
    tfuse_status status;
    TF_TRY_OUT(expand(b, name, &full_name));
    TF_TRY_OUT(expand(b, inputs, &full_inputs));
    status = addv(b->env, b->g, op, full_name.data, full_inputs.data, attrs, args);
out:
    va_end(args);
    tf_buf_free(&full_name);
    tf_buf_free(&full_inputs);
    return status;
}

tf_real_text tf_real(double value)
{
    tf_real_text out;
    snprintf(out.text, sizeof out.text, "%.17g", value);
    char *comma = strchr(out.text, ',');
    if (comma)
        *comma = '.';
    return out;
}

/* ---- config ---- */

tfuse_status tf_read_activation(tf_env *env, const tfuse_model *m, const char *key, const char *fallback, const char **out)
{
    static const char *const kinds[][2] = {
        {"gelu", "gelu"},           {"gelu_python", "gelu"}, {"gelu_new", "gelu_new"}, {"gelu_fast", "gelu_tanh"},
        {"gelu_accurate", "gelu_tanh"}, {"gelu_pytorch_tanh", "gelu_pytorch_tanh"},    {"quick_gelu", "quick_gelu"},
        {"relu", "relu"},           {"silu", "silu"},        {"swish", "silu"},        {"tanh", "tanh"},
    };
    const char *name = NULL;
    char shown[64];
    TF_TRY(tf_config_text_or(env, m, key, fallback, &name));
    for (size_t i = 0; i < TF_LEN(kinds); i++)
        if (strcmp(kinds[i][0], name) == 0) {
            *out = kinds[i][1];
            return TFUSE_OK;
        }
    return tf_fail(env, TFUSE_EUNSUPPORTED, "%s: config.json: %s '%s' is not known; gelu, relu, silu, tanh and their kin are",
                   tf_model_label(m), key, tf_printable(shown, sizeof shown, name));
}

tfuse_status tf_read_classes(tf_env *env, const tfuse_model *m, int64_t *out)
{
    const json_t *labels = json_object_get(m->config, "id2label");
    *out = (int64_t)json_object_size(labels);
    return *out > 0 ? TFUSE_OK : tf_config_int_or(env, m, "num_labels", 1, 1 << 24, 2, out);
}

tfuse_status tf_store_tied(tf_env *env, tf_graph *g, const tfuse_model *m, const char *logical, const char *stored, const char *again)
{
    char text[256];
    if (tf_model_find(m, again))
        snprintf(text, sizeof text, "copies(%s,%s)", stored, again);
    else
        snprintf(text, sizeof text, "%s", stored);
    return tf_graph_store(env, g, logical, text);
}
