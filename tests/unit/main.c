/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the one suite of a unit test program, a process per test (CK_FORK=no to debug).
 */
#include <check.h>
#include <stdlib.h>
#include "t.h"

int main(void)
{
    SRunner *runner = srunner_create(make_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
