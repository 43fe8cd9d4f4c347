/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.c: policies: a text per key, checked against the key table when it is set, and read back typed.
 *
 * A value is the key's whole text: nothing is trimmed, clamped or guessed. Numbers are read in the C locale whatever
 * the host program's locale is. Since every stored text has been checked, the typed readers cannot fail.
 */
#include "policy/policy.h"
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 64 };

/* ---- words and numbers ------------------------------------------------------------------------ */


/* The next word of a list separated by any of " |,", or NULL; *cursor moves past it. */
static const char *next_word(const char **cursor, size_t *len)
{
    const char *word = *cursor + strspn(*cursor, " |,");
    *len = strcspn(word, " |,");
    *cursor = word + *len;
    return *len > 0 ? word : NULL;
}

/* Position of a word in a list, or -1. */
static int word_index(const char *list, const char *text, size_t text_len)
{
    size_t len;
    int index = 0;
    for (const char *word; (word = next_word(&list, &len)) != NULL; index++)
        if (len == text_len && memcmp(word, text, len) == 0)
            return index;
    return -1;
}

/* 1 for "", 2^10, 2^20, 2^30 for K, M, G; 0 for anything else. */
static int64_t unit_of(const char *text)
{
    static const char units[] = "KMG";
    const char *unit = *text ? strchr(units, *text) : NULL;
    if (*text && (!unit || text[1]))
        return 0;
    return unit ? (int64_t)1 << 10 * (unit - units + 1) : 1;
}

static bool parse_int(const char *text, int64_t *out)
{
    bool negative = text[0] == '-';
    const char *p = text + negative;
    int64_t value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value))
            return false;
    if (!unit_of(p) || __builtin_mul_overflow(value, unit_of(p), &value))
        return false;
    *out = negative ? -value : value;
    return true;
}

/* A finite decimal number that ends at a NUL or a comma; returns its end, NULL if there is none. glibc hands out its
 * built-in C locale without allocating. */
static const char *parse_real(const char *text, double *out)
{
    size_t len = strspn(text, "0123456789+-.eE");
    if (len == 0 || (text[len] != 0 && text[len] != ','))
        return NULL;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return NULL;
    char *end;
    *out = strtod_l(text, &end, c);
    freelocale(c);
    return end == text + len && isfinite(*out) ? end : NULL;
}

/* ---- the table -------------------------------------------------------------------------------- */

const tf_key *tf_key_find(const char *name)
{
    for (size_t i = 0; i < tf_key_count; i++)
        if (strcmp(tf_keys[i].name, name) == 0)
            return &tf_keys[i];
    return NULL;
}

/* Levenshtein distance; both at most LONGEST_NAME long. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[LONGEST_NAME + 1];
    size_t m = strlen(b);
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

static tfuse_status fail_unknown(tf_env *env, const char *name)
{
    char shown[LONGEST_NAME + 1];
    tf_printable(shown, sizeof shown, name);
    const char *nearest = tf_keys[0].name;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < tf_key_count; i++) {
        size_t distance = edit_distance(shown, tf_keys[i].name);
        if (distance < best) {
            best = distance;
            nearest = tf_keys[i].name;
        }
    }
    if (2 * best > strlen(shown)) /* nothing is near */
        return tf_fail(env, TFUSE_EKEY, "unknown key '%s'; run 'tfuse keys' for all of them", shown);
    return tf_fail(env, TFUSE_EKEY, "unknown key '%s'; did you mean '%s'? run 'tfuse keys' for all of them", shown, nearest);
}

static bool check_int(const tf_key *key, const char *value)
{
    int64_t number;
    return parse_int(value, &number) && number >= (int64_t)key->min && number <= (int64_t)key->max;
}

static bool in_bounds(const tf_key *key, double number)
{
    return number >= key->min && number <= key->max;
}

static bool check_real(const tf_key *key, const char *value)
{
    double number;
    const char *end = parse_real(value, &number);
    return end && *end == 0 && in_bounds(key, number);
}

static bool check_reals(const tf_key *key, const char *value)
{
    for (double number;; value++) {
        value = parse_real(value, &number);
        if (!value || !in_bounds(key, number))
            return false;
        if (*value == 0)
            return true;
    }
}

static bool check_name(const char *value)
{
    size_t len = strlen(value);
    return len > 0 && len <= LONGEST_NAME &&
           strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == len;
}

/* Words of the list with single commas between, none twice. */
static bool check_set(const tf_key *key, const char *value)
{
    uint64_t seen = 0;
    for (;; value++) {
        size_t len = strcspn(value, ",");
        int index = word_index(key->values, value, len);
        if (index < 0 || index > 63 || (seen >> index & 1))
            return false;
        seen |= (uint64_t)1 << index;
        value += len;
        if (*value == 0)
            return true;
    }
}

tfuse_status tf_key_check(tf_env *env, const tf_key *key, const char *value)
{
    char v[80];
    tf_printable(v, sizeof v, value);
    switch (key->type) {
    case TFUSE_KEY_CHOICE:
        if (word_index(key->values, value, strlen(value)) >= 0)
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not one of %s", key->name, v, key->values);
    case TFUSE_KEY_INT:
        if (check_int(key, value))
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not an integer from %.0f to %.0f, with K, M or G behind it where wanted", key->name, v, key->min,
                       key->max);
    case TFUSE_KEY_REAL:
        if (check_real(key, value))
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not a number from %g to %g", key->name, v, key->min, key->max);
    case TFUSE_KEY_FLAG:
        if (strcmp(value, "0") == 0 || strcmp(value, "1") == 0)
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not one of 0 | 1", key->name, v);
    case TFUSE_KEY_NAME:
        if (check_name(value))
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not a name of at most %d letters, digits, '-' and '_'", key->name, v,
                       (int)LONGEST_NAME);
    case TFUSE_KEY_REALS:
        if (strcmp(value, "equal") == 0 || check_reals(key, value))
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is neither 'equal' nor numbers from %g to %g with commas and no spaces between",
                       key->name, v, key->min, key->max);
    default:
        if (check_set(key, value))
            return TFUSE_OK;
        return tf_fail(env, TFUSE_EKEY, "%s: '%s' is not a list, with commas between, of different words out of %s", key->name, v,
                       key->values);
    }
}

/* ---- policies --------------------------------------------------------------------------------- */

tfuse_status tf_policy_new(tf_env *env, tfuse_policy **out)
{
    *out = NULL;
    tfuse_policy *policy = tf_calloc(env, 1, sizeof *policy);
    if (!policy)
        return TFUSE_ENOMEM;
    policy->kind = TF_KIND_POLICY;
    policy->mem = env->mem;
    policy->values = tf_calloc(env, tf_key_count, sizeof *policy->values);
    if (!policy->values) {
        tf_policy_free(policy);
        return TFUSE_ENOMEM;
    }
    *out = policy;
    return TFUSE_OK;
}

void tf_policy_free(tfuse_policy *policy)
{
    if (!policy)
        return;
    tf_mem mem = policy->mem;
    for (size_t i = 0; policy->values && i < tf_key_count; i++)
        tf_free(&mem, policy->values[i]);
    tf_free(&mem, policy->values);
    tf_free(&mem, policy);
}

tfuse_status tf_policy_copy(tf_env *env, const tfuse_policy *policy, tfuse_policy **out)
{
    TF_TRY(tf_policy_new(env, out));
    for (size_t i = 0; i < tf_key_count; i++)
        if (tf_policy_was_set(policy, tf_keys[i].name))
            TF_TRY(tf_policy_set(env, *out, tf_keys[i].name, tf_policy_text(policy, tf_keys[i].name)));
    return TFUSE_OK;
}

tfuse_status tf_policy_set(tf_env *env, tfuse_policy *policy, const char *key, const char *value)
{
    const tf_key *row = tf_key_find(key);
    if (!row)
        return fail_unknown(env, key);
    TF_TRY(tf_key_check(env, row, value));
    size_t size = strlen(value) + 1;
    char *copy = tf_mem_alloc(&policy->mem, size);
    if (!copy)
        return tf_fail(env, TFUSE_ENOMEM, "%s: out of memory", row->name);
    memcpy(copy, value, size);
    char **slot = &policy->values[row - tf_keys];
    tf_free(&policy->mem, *slot);
    *slot = copy;
    return TFUSE_OK;
}

const char *tf_policy_text(const tfuse_policy *policy, const char *key)
{
    const tf_key *row = tf_key_find(key);
    if (!row)
        return "";
    const char *set = policy ? policy->values[row - tf_keys] : NULL;
    return set ? set : row->fallback;
}

int64_t tf_policy_int(const tfuse_policy *policy, const char *key)
{
    int64_t number;
    return parse_int(tf_policy_text(policy, key), &number) ? number : 0;
}

double tf_policy_real(const tfuse_policy *policy, const char *key)
{
    double number;
    return parse_real(tf_policy_text(policy, key), &number) ? number : NAN;
}

bool tf_policy_flag(const tfuse_policy *policy, const char *key)
{
    return strcmp(tf_policy_text(policy, key), "1") == 0;
}

bool tf_policy_is(const tfuse_policy *policy, const char *key, const char *word)
{
    return strcmp(tf_policy_text(policy, key), word) == 0;
}

bool tf_policy_was_set(const tfuse_policy *policy, const char *key)
{
    const tf_key *row = tf_key_find(key);
    return row && policy && policy->values[row - tf_keys];
}

int tf_policy_choice(const tfuse_policy *policy, const char *key)
{
    const tf_key *row = tf_key_find(key);
    const char *text = tf_policy_text(policy, key);
    return row && row->values ? word_index(row->values, text, strlen(text)) : 0;
}

bool tf_policy_has(const tfuse_policy *policy, const char *key, const char *word)
{
    return word_index(tf_policy_text(policy, key), word, strlen(word)) >= 0;
}

size_t tf_policy_reals(const tfuse_policy *policy, const char *key, double *out, size_t cap)
{
    const char *text = tf_policy_text(policy, key);
    size_t count = 0;
    double number;
    while ((text = parse_real(text, &number)) != NULL) {
        if (count < cap)
            out[count] = number;
        count++;
        if (*text++ == 0)
            break;
    }
    return count;
}
