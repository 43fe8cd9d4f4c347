#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the package that is installed: a line each, "ok python: NAME" or "not ok python: NAME: WHY". In the end every exported function of the
library must have been called."""
import collections
import faulthandler
import os
import signal
import sys
import unittest

from tfuse import _abi, _library

CALLS = collections.Counter()


def count_calls():
    """Puts a counter in front of every function. Callers look functions up at each call, so that all are counted."""
    for name in _abi.FUNCTIONS:
        def counted(*args, inner=getattr(_library.lib, name), name=name):
            CALLS[name] += 1
            return inner(*args)
        setattr(_library.lib, name, counted)


class Result(unittest.TestResult):
    where = "NumPy" if "torch" not in sys.argv else "PyTorch"

    def addSuccess(self, test):
        print(f"ok python, {self.where}: {test.id()}", flush=True)

    def tell(self, test, err):
        text = self._exc_info_to_string(err, test)
        print(f"not ok python, {self.where}: {test.id()}: {' | '.join(text.strip().splitlines()[-6:])}", flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tell(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.tell(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.tell(subtest, err)


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with Ctrl-C ignored, and there are tests of it
    faulthandler.enable()
    faulthandler.dump_traceback_later(240, exit=True)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    count_calls()
    pattern = "test_[!t]*.py" if "torch" not in sys.argv else "test_*.py"
    result = Result()
    unittest.TestLoader().discover(here, pattern=pattern).run(result)
    missing = [name for name in _abi.FUNCTIONS if not CALLS[name]]
    print(f"not ok python: never called: {' '.join(missing)}" if missing else f"ok python: all {len(_abi.FUNCTIONS)} functions of the library were called")
    return 0 if result.wasSuccessful() and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
