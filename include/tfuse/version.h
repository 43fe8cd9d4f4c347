/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/version.h: the version of the headers, and of the library that runs.
 */
#ifndef TFUSE_VERSION_H
#define TFUSE_VERSION_H

#include <stdint.h>
#include <tfuse/export.h>

/** Version of these headers: major * 10000 + minor * 100 + patch. */
#define TFUSE_VERSION 100
/** The same as text. */
#define TFUSE_VERSION_STRING "0.1.0"
/** The ABI number, which is the SONAME's: libtfuse.so.TFUSE_ABI. */
#define TFUSE_ABI 0

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Version of the library that runs, in the form of TFUSE_VERSION.
 * It may be newer than the headers that a program was compiled with.
 * Threads: any.
 */
TFUSE_API uint32_t tfuse_version(void);

/**
 * Whether this build has an optional part. What a build lacks is refused with TFUSE_EUNSUPPORTED; the functions are there all the same.
 * @param part  in: "lapack": factorisations, and so the maps of align.strategy=matching that rotate, repair, and tfuse_gauge.
 * Returns 1 or 0; 0 for a part that this version does not know.  Threads: any.
 */
TFUSE_API int32_t tfuse_has(const char *part);

#ifdef __cplusplus
}
#endif
#endif
