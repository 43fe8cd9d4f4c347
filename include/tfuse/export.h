/* SPDX-License-Identifier: Apache-2.0
 *
 * tfuse/export.h: how a public function is marked. Included by every other header.
 */
#ifndef TFUSE_EXPORT_H
#define TFUSE_EXPORT_H

#if defined(__GNUC__)
#define TFUSE_API __attribute__((visibility("default")))
#else
#define TFUSE_API
#endif

#endif
