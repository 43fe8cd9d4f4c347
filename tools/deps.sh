#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/deps.sh MODE: sees to it that the Debian packages for MODE are there: build, demo, check, abi, rust, hf, bench, study, ci. Does nothing when they are.
# As root it installs what is missing; otherwise it prints the command to type and fails. A package that dpkg does not know counts as
# present when what it provides is found, so hand-made installations and other distributions work too.
set -eu

build='gcc libc6-dev binutils make pkg-config libblis-dev liblapacke-dev libjansson-dev zlib1g-dev'
case ${1:-} in
build) want=$build ;;
demo) want="$build dataset-fashion-mnist" ;;
check) want="$build g++ check python3 dataset-fashion-mnist" ;;
abi) want="$build python3 abigail-tools" ;;
rust) want="$build python3 cargo rustc rust-clippy" ;;
hf) want="$build python3 python3-venv" ;;
bench) want="$build python3 python3-numpy python3-scipy python3-pot" ;;
study) want="$build dataset-fashion-mnist bible-kjv python3 python3-numpy python3-torch" ;;
ci) want="$build g++ check python3 dataset-fashion-mnist clang libclang-rt-14-dev valgrind python3-venv abigail-tools cargo rustc rust-clippy" ;;
*)
    echo 'usage: tools/deps.sh build|demo|check|abi|rust|hf|bench|study|ci' >&2
    exit 2
    ;;
esac

# Whether a program includes a header; with the compiler that is there.
header() {
    printf '#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1
}

# Whether what a package is wanted for is there without it.
provided() {
    case $1 in
    gcc) command -v cc ;;
    g++) command -v c++ ;;
    libc6-dev) header stdio.h ;;
    binutils) command -v objcopy && command -v ld ;;
    make | pkg-config | python3 | clang | valgrind) command -v "$1" ;;
    libblis-dev) header blis.h ;;
    liblapacke-dev) header lapacke.h ;;
    libjansson-dev) pkg-config --exists jansson ;;
    zlib1g-dev) pkg-config --exists zlib ;;
    check) pkg-config --exists check ;;
    cargo | rustc) command -v "$1" ;;
    rust-clippy) command -v cargo-clippy ;;
    abigail-tools) command -v abidiff ;;
    python3-numpy) python3 -c 'import numpy' ;;
    python3-scipy) python3 -c 'import scipy.optimize' ;;
    python3-pot) python3 -c 'import ot' ;;
    python3-torch) python3 -c 'import torch' ;;
    bible-kjv) command -v bible ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    libclang-rt-14-dev) f=$(clang -print-file-name=libclang_rt.asan-x86_64.a) && [ -f "$f" ] ;;
    dataset-fashion-mnist) [ -f /usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz ] ;;
    *) false ;;
    esac >/dev/null 2>&1
}

installed=' '
if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    installed=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' $want 2>/dev/null || :)"
fi
missing=
for p in $want; do
    case $installed in
    *" installed:$p "*) ;;
    *) provided "$p" || missing="$missing $p" ;;
    esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "tools/deps.sh: missing (names of Debian's packages):$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "tools/deps.sh: packages are missing; type: sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# An index that cannot be refreshed may still do; the installation decides.
apt-get update -q >&2 || echo 'tools/deps.sh: apt-get update failed; trying with the index that is there' >&2
# shellcheck disable=SC2086
exec apt-get install -q -y --no-install-recommends $missing >&2
