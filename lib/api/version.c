/* SPDX-License-Identifier: Apache-2.0
 *
 * version.c: the version that this library was built as, and what it was built with.
 */
#include "num/num.h"

#include <string.h>
#include <tfuse/version.h>

uint32_t tfuse_version(void)
{
    return TFUSE_VERSION;
}

int32_t tfuse_has(const char *part)
{
    return part && !strcmp(part, "lapack") && tf_lapack_check(NULL, part) == TFUSE_OK;
}
