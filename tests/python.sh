#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The package of bindings/python (`make check-python`): its declarations are those of the headers and every function is called; the wheel carries the
# library; tests in an environment that has NumPy alone, and in one with PyTorch, transformers and matplotlib; the README's code; types.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
bad=0
plain=build/python hf=build/hf
unset PYTHONPATH TFUSE_LIBRARY
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 MPLCONFIGDIR="$work" PIP_DISABLE_PIP_VERSION_CHECK=1

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok python: $name"
    else
        echo "not ok python: $name: $(tail -n 12 "$work/log" | tr '\n' ' ' | cut -c 1-1500)"
        bad=1
    fi
}
tests() { # tests NAME COMMAND...: a program that prints its own lines
    name=$1
    shift
    "$@" >"$work/log" 2>"$work/err"
    code=$?
    grep -E '^(not )?ok ' "$work/log"
    if [ "$code" -ne 0 ]; then
        bad=1
        grep -q '^not ok ' "$work/log" || echo "not ok python: $name ends with $code: $(tail -n 5 "$work/err" | tr '\n' ' ' | cut -c 1-1000)"
    fi
}
carries() {
    unzip -l "$1" 2>/dev/null | grep -q 'tfuse/libtfuse\.so\.' || python3 -m zipfile -l "$1" | grep -q 'tfuse/libtfuse\.so\.'
}

python3 bindings/python/generate.py --check || bad=1
# A copy, so that nothing is left in the source tree; its library is the one that make has built.
cp -r bindings/python "$work/package"
rm -rf "$work/package/build" "$work/package/"*.egg-info
TFUSE_LIBRARY=$(pwd)/${BUILD:-build/release}/libtfuse.so
export TFUSE_LIBRARY
check 'a wheel is built' "$plain/bin/pip" wheel -q --no-deps -w "$work" "$work/package"
unset TFUSE_LIBRARY
wheel=$(ls "$work"/tfuse-*.whl 2>/dev/null)
check 'the wheel is for any Python 3' sh -c 'case $1 in *-py3-none-linux_*) ;; *) echo "$1"; exit 1 ;; esac' sh "$wheel"
check 'it carries the library' carries "$wheel"
check 'it is installed, NumPy its one requirement' "$plain/bin/pip" install -q --force-reinstall --no-deps "$wheel"
check 'and needs nothing else' "$plain/bin/pip" check
tests 'tests with NumPy alone' "$plain/bin/python" bindings/python/tests/run.py
check 'it is unpacked beside PyTorch' "$hf/bin/pip" install -q --no-deps --target "$work/beside" "$wheel"
export PYTHONPATH="$work/beside"
tests 'tests with PyTorch' "$hf/bin/python" bindings/python/tests/run.py torch
tests "the README's code" "$hf/bin/python" bindings/python/tests/readme.py
check 'types' "$plain/bin/python" -m mypy --config-file bindings/python/pyproject.toml --cache-dir "$work/mypy" bindings/python/tfuse
export TFUSE_LIBRARY=/no/such/libtfuse.so
check 'a missing library is named' sh -c '"$1" -c "import tfuse" 2>&1 | grep -q "ImportError: /no/such/libtfuse.so.*install libtfuse"' sh "$plain/bin/python"
exit $bad
