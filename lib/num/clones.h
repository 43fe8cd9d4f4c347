/* SPDX-License-Identifier: Apache-2.0
 *
 * clones.h: one version of a function for each vector width, chosen when the library is loaded. Sanitizers are not ready yet when that
 * choice runs; clang has no such attribute for C in the version that Debian 12 carries.
 */
#ifndef TF_NUM_CLONES_H
#define TF_NUM_CLONES_H

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) &&           \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(TF_NO_CLONES)
#define TF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TF_CLONES
#endif
#define TF_INLINE static inline __attribute__((always_inline))

#endif
