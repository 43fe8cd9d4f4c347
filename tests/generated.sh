#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What is written from the headers and checked in is that of the headers: the ABI's record, Rust's and Python's declarations. `make generated` writes it.
set -u
cd "$(dirname "$0")/.."
bad=0
python3 tools/abi.py check || bad=1
python3 bindings/rust/generate.py --files || bad=1
python3 bindings/python/generate.py --files || bad=1
exit $bad
