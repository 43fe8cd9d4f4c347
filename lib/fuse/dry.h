/* SPDX-License-Identifier: Apache-2.0
 *
 * dry.h: what dry runs have in common: checks that go on after a failure, which becomes a line of `problems`.
 */
#ifndef TF_FUSE_DRY_H
#define TF_FUSE_DRY_H

#include "base/buf.h"
#include "graph/graph.h"
#include "num/array.h"
#include "policy/policy.h"

/* A failure becomes a line; only a lack of memory ends the dry run. */
tfuse_status tf_dry_note(tf_env *env, tf_buf *problems, tfuse_status status);
/* A config alone: the model becomes one with the tensors that its graph asks for, all zeros (some passes look at norms), which lie in `zeros`
 * (tf_unmap_file). Their bytes are added to *read. */
tfuse_status tf_dry_imagine(tf_env *env, const tf_graph *g, tfuse_model **model, tf_mapping *zeros, uint64_t *read);
/* Adds the size of a file, or of the one before ":key". */
void tf_dry_count_file(const char *path, uint64_t *bytes);
/* Whether an output can be written; path NULL: none. */
tfuse_status tf_dry_output(tf_env *env, const tfuse_policy *policy, const char *path, bool is_dir, tf_buf *problems);
/* The old and the new output are on the disk together until the rename, so a replaced one frees nothing before. */
tfuse_status tf_dry_space(tf_env *env, const char *path, uint64_t bytes, tf_buf *problems);
/* What is held before a run takes anything: all that is live now, and what a process holds beside blocks that are metered; products: it multiplies
 * matrices. */
uint64_t tf_held_bytes(const tf_env *env, bool products);
/* run.memory beside what a run takes; otherwise: what would do in place of more, "" if nothing. */
tfuse_status tf_memory_check(tf_env *env, const tfuse_policy *policy, uint64_t peak, const char *otherwise);
/* A failure is a line. */
tfuse_status tf_dry_memory(tf_env *env, const tfuse_policy *policy, uint64_t peak, const char *otherwise, tf_buf *problems);

typedef struct tf_dry_sizes {
    bool known; /* peak and write; and read */
    uint64_t peak, read, write;
} tf_dry_sizes;
/* {"problems", "peak_bytes", "read_bytes", "write_bytes"}, sizes null where they are not known. */
tfuse_status tf_dry_report(tf_env *env, const tf_dry_sizes *sizes, const tf_buf *problems, json_t **out);

#endif
