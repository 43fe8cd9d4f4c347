/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.h: parallel loops over the library's own threads or the caller's executor.
 *
 * Determinism: a body's work depends on its index alone, never on which thread ran it, and
 * sums are formed in index order afterwards. Cut work by its size, never by tf_threads().
 */
#ifndef TF_BASE_POOL_H
#define TF_BASE_POOL_H

#include "base/env.h"

typedef struct tf_pool tf_pool;

/* `threads` counts the one that starts a loop; 0 for one per core. */
tfuse_status tf_pool_new(tf_env *env, uint32_t threads, tf_pool **out);
tfuse_status tf_pool_new_executor(tf_env *env, const tfuse_executor *ex, tf_pool **out);
void tf_pool_free(tf_pool *pool); /* joins; NULL allowed */

uint32_t tf_threads(const tf_env *env); /* how many bodies may run at once; at least 1 */
uint32_t tf_cores(void);

/* Calls body(arg, i) for every i < n; returns when all are done. Bodies cannot fail and do not
 * touch env->error; they may poll tf_cancelled(env) and return early. A loop started
 * inside a body runs on that body's thread; a loop of one index is a plain call of its body. */
void tf_parallel_for(tf_env *env, uint32_t n, void (*body)(void *arg, uint32_t i), void *arg);

/* As tf_parallel_for with, in `lane`, a number below tf_threads() that no other running body has:
 * an index into scratch memory. */
void tf_parallel_lanes(tf_env *env, uint32_t n, void (*body)(void *arg, uint32_t i, uint32_t lane), void *arg);

#endif
