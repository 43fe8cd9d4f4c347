/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.h: what a fuzz target is. Each fuzz_NAME.c defines fuzz_one; fuzz.c makes libFuzzer's entry of it, replay.c a program that
 * replays the files of tests/fuzz/corpus/NAME.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "base/env.h"

/* Reads the bytes as a file of the target's kind, frees what came of it, and returns the reader's status. */
tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size);
/* fuzz_one on a copy of exactly its size; aborts when memory is not given back, or when a failure has no text or more than one line. */
tfuse_status fuzz_run(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The bytes as a file without a name, for readers that take a path; it lives until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);

#endif
