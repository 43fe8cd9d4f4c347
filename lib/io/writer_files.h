/* SPDX-License-Identifier: Apache-2.0
 *
 * writer_files.h: the small files of a checkpoint that is written.
 */
#ifndef TF_IO_WRITER_FILES_H
#define TF_IO_WRITER_FILES_H

#include "base/buf.h"
#include "base/env.h"

/* Creates dir/name with these bytes. */
tfuse_status tf_write_small(tf_env *env, const char *dir, const char *name, const void *data, size_t size);
/* Copies what a framework needs beside the weights: preprocessor, tokenizer, generation config, chat template. */
tfuse_status tf_copy_companions(tf_env *env, const char *from_dir, const char *to_dir);
/* What tf_copy_companions would copy. */
uint64_t tf_companions_bytes(const char *from_dir);

#endif
