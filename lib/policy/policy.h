/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h: the key table and the policies that it types.
 */
#ifndef TF_POLICY_POLICY_H
#define TF_POLICY_POLICY_H

#include "base/env.h"
#include <tfuse/policy.h>

typedef struct tf_key {
    const char *name;
    int32_t type;           /* TFUSE_KEY_... */
    const char *values;     /* "a | b | c" */
    double min, max;
    const char *fallback;   /* default, as text */
    const char *help;
} tf_key;

extern const tf_key tf_keys[];
extern const size_t tf_key_count;

struct tfuse_policy {
    uint32_t kind; /* TF_KIND_POLICY */
    tf_mem mem;
    char **values; /* tf_key_count; NULL: default */
};

/* Row of a key, or NULL. */
const tf_key *tf_key_find(const char *name);
/* TFUSE_EKEY, naming key and value, when the key does not take the value. */
tfuse_status tf_key_check(tf_env *env, const tf_key *key, const char *value);

tfuse_status tf_policy_new(tf_env *env, tfuse_policy **out);
void tf_policy_free(tfuse_policy *policy);
/* Another that says the same; freed by tf_policy_free, also on failure. */
tfuse_status tf_policy_copy(tf_env *env, const tfuse_policy *policy, tfuse_policy **out);
tfuse_status tf_policy_set(tf_env *env, tfuse_policy *policy, const char *key, const char *value);
/* policy may be NULL: defaults. The key must exist (an unknown one is a defect of the library and yields "" / 0 / NaN). */
const char *tf_policy_text(const tfuse_policy *policy, const char *key);
int64_t tf_policy_int(const tfuse_policy *policy, const char *key);
double tf_policy_real(const tfuse_policy *policy, const char *key);
bool tf_policy_flag(const tfuse_policy *policy, const char *key);
bool tf_policy_is(const tfuse_policy *policy, const char *key, const char *word);
bool tf_policy_was_set(const tfuse_policy *policy, const char *key);
/* Position of a CHOICE's word in `values`, from 0. */
int tf_policy_choice(const tfuse_policy *policy, const char *key);
/* True when the SET-valued key contains the word. */
bool tf_policy_has(const tfuse_policy *policy, const char *key, const char *word);
/* REALS: up to cap numbers into out; returns how many there are (0 for an empty text or "equal"). */
size_t tf_policy_reals(const tfuse_policy *policy, const char *key, double *out, size_t cap);

#endif
