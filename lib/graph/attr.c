/* SPDX-License-Identifier: Apache-2.0
 *
 * attr.c: attributes of a node as numbers. Numbers are plain decimal and are read alike in every locale of the host.
 */
#include "graph/build.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *tf_node_attr(const tf_node *n, const char *key)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].key, key) == 0)
            return n->attrs[i].value;
    return NULL;
}

/* Reads [-]digits; returns what follows, NULL when there are none or they do not fit. */
static const char *parse_int(const char *text, int64_t *out)
{
    const bool negative = *text == '-';
    const char *p = text + negative;
    int64_t value = 0;
    if (*p < '0' || *p > '9')
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value))
            return NULL;
    *out = negative ? -value : value;
    return p;
}

static bool parse_real(const char *text, double *out)
{
    const size_t len = strspn(text, "0123456789+-.eE");
    locale_t c = len > 0 && !text[len] ? newlocale(LC_ALL_MASK, "C", (locale_t)0) : (locale_t)0;
    if (c == (locale_t)0)
        return false;
    char *end;
    *out = strtod_l(text, &end, c);
    freelocale(c);
    return end == text + len && isfinite(*out);
}

const char *tf_attr_next_real(const char *text, double *out)
{
    char item[64];
    const size_t len = strcspn(text, ",");
    if (len == 0 || len >= sizeof item)
        return NULL;
    memcpy(item, text, len);
    item[len] = '\0';
    return parse_real(item, out) ? text + len + (text[len] == ',') : NULL;
}

tfuse_status tf_node_int(tf_env *env, const tf_node *n, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out)
{
    const char *text = tf_node_attr(n, key);
    *out = fallback;
    if (!text)
        return TFUSE_OK;
    const char *end = parse_int(text, out);
    if (!end || *end)
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=%s is not an integer", TF_NODE_ARGS(n), key, text);
    if (*out < min || *out > max)
        return tf_fail(env, TFUSE_ERANGE, TF_NODE_TEXT ": %s=%s is not in %lld..%lld", TF_NODE_ARGS(n), key, text,
                       (long long)min, (long long)max);
    return TFUSE_OK;
}

tfuse_status tf_node_int_required(tf_env *env, const tf_node *n, const char *key, int64_t min, int64_t max, int64_t *out)
{
    if (!tf_node_attr(n, key))
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=INTEGER is missing", TF_NODE_ARGS(n), key);
    return tf_node_int(env, n, key, min, max, 0, out);
}

tfuse_status tf_node_real(tf_env *env, const tf_node *n, const char *key, double fallback, double *out)
{
    const char *text = tf_node_attr(n, key);
    *out = fallback;
    if (text && !parse_real(text, out))
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=%s is not a number", TF_NODE_ARGS(n), key, text);
    return TFUSE_OK;
}

int64_t tf_node_int_at(const tf_node *n, const char *key, int64_t fallback)
{
    const char *text = tf_node_attr(n, key);
    int64_t value;
    return text && parse_int(text, &value) ? value : fallback;
}

double tf_node_real_at(const tf_node *n, const char *key, double fallback)
{
    const char *text = tf_node_attr(n, key);
    double value;
    return text && parse_real(text, &value) ? value : fallback;
}

tfuse_status tf_node_ints(tf_env *env, const tf_node *n, const char *key, int64_t *out, int cap, int *count)
{
    const char *text = tf_node_attr(n, key);
    *count = 0;
    if (!text)
        return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=INTEGER,... is missing", TF_NODE_ARGS(n), key);
    for (const char *p = text;; p++) {
        if (*count == cap)
            return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=%s: at most %d integers", TF_NODE_ARGS(n), key, text, cap);
        p = parse_int(p, &out[*count]);
        if (!p || (*p && *p != ','))
            return tf_fail(env, TFUSE_EINVAL, TF_NODE_TEXT ": %s=%s is not a list of integers", TF_NODE_ARGS(n), key, text);
        ++*count;
        if (!*p)
            return TFUSE_OK;
    }
}
