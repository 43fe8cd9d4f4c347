/* SPDX-License-Identifier: Apache-2.0
 *
 * spill.h: large arrays that need not stay in memory: mapped from files without a name, which go away with their last use, whatever ends the
 * program.
 */
#ifndef TF_BASE_SPILL_H
#define TF_BASE_SPILL_H

#include "base/env.h"

/* `size` bytes, zeroed, in a file under /var/tmp (or /tmp) whose blocks are reserved: a full disk is TFUSE_EIO here and never a SIGBUS later.
 * They do not count as anonymous memory. */
tfuse_status tf_spill_new(tf_env *env, size_t size, void **out);
/* The size that it was made with. NULL allowed. */
void tf_spill_free(void *data, size_t size);

#endif
