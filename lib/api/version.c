/* SPDX-License-Identifier: Apache-2.0
 *
 * version.c: the version that this library was built as.
 */
#include <tfuse/version.h>

uint32_t tfuse_version(void)
{
    return TFUSE_VERSION;
}
