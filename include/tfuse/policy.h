/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/policy.h: the choices: how to align, which solver, how to combine. A policy is a set of keyed options; every key has a
 * name, a type, bounds, a default and a line of explanation, which can be queried, so that a command line,
 * a recipe and a binding read the same table. `tfuse keys` prints it.
 */
#ifndef TFUSE_POLICY_H
#define TFUSE_POLICY_H

#include <tfuse/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tfuse_policy tfuse_policy;

enum {
    TFUSE_KEY_CHOICE = 1, /**< one of a list of words */
    TFUSE_KEY_INT = 2,    /**< an integer within bounds */
    TFUSE_KEY_REAL = 3,   /**< a finite number within bounds */
    TFUSE_KEY_FLAG = 4,   /**< 0 or 1 */
    TFUSE_KEY_NAME = 5,   /**< a word that is checked where it is used, e.g. a registered solver */
    TFUSE_KEY_REALS = 6,  /**< finite numbers with commas between */
    TFUSE_KEY_SET = 7     /**< words of a list, with commas between; or a single word such as auto */
};

/** A row of the key table. The strings are static. */
typedef struct tfuse_key_info {
    size_t struct_size;
    const char *name;
    int32_t type;
    const char *values;        /**< words of a CHOICE or SET, with " | " between; otherwise NULL */
    double min, max;           /**< bounds of an INT or REAL */
    const char *default_value; /**< as text */
    const char *help;          /**< one line */
} tfuse_key_info;

/** Number of keys.  Threads: any. */
TFUSE_API size_t tfuse_key_count(void);
/** Fills min(info->struct_size, ours) bytes with row `index`; set info->struct_size before. Errors: TFUSE_ERANGE.  Threads: any. */
TFUSE_API tfuse_status tfuse_key_get(size_t index, tfuse_key_info *info);

/** A policy of defaults. Release with tfuse_policy_free. Errors: TFUSE_ENOMEM. */
TFUSE_API tfuse_status tfuse_policy_new(tfuse_ctx *ctx, tfuse_policy **out);
/**
 * Sets a key; the last setting wins. Never clamps.
 * Errors: TFUSE_EKEY (an unknown key, with the nearest known one; a value of the wrong type or out of bounds), TFUSE_ENOMEM.
 */
TFUSE_API tfuse_status tfuse_policy_set(tfuse_ctx *ctx, tfuse_policy *policy, const char *key, const char *value);
/** The value of a key as text: as set, or its default; NULL for an unknown key. Borrowed until the key is set again. */
TFUSE_API const char *tfuse_policy_get(const tfuse_policy *policy, const char *key);
/** 1 when the key was set, 0 when it has its default or is unknown. */
TFUSE_API int32_t tfuse_policy_is_set(const tfuse_policy *policy, const char *key);
TFUSE_API void tfuse_policy_free(tfuse_policy *policy);

#ifdef __cplusplus
}
#endif
#endif
