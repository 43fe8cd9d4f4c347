#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The crates of bindings/rust (`make check-rust`): their declarations are those of the headers and every function is called; tests and documentation tests
# against an installed library; no word from clippy; with TFUSE_STATIC=1 a program carries the library; the example fuses two checkpoints.
set -u
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root
target=$(pwd)/build/rust
bad=0

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok rust: $name"
    else
        echo "not ok rust: $name: $(grep -vE '^ *(Compiling|Finished|Running)' "$work/log" | tail -n 12 | tr '\n' ' ' | cut -c 1-1500)"
        bad=1
    fi
}
cargo_in() { # cargo_in TARGET COMMAND ARGUMENTS...: nothing is downloaded
    folder=$1 command=$2
    shift 2
    (cd bindings/rust && CARGO_TARGET_DIR=$folder cargo "$command" --offline --locked "$@")
}
loads() {
    objdump -p "$1" | grep -q 'NEEDED *libtfuse\.so'
}
carries() {
    ! loads "$1"
}

python3 bindings/rust/generate.py --check || bad=1
check 'installing the library' make --no-print-directory install DESTDIR="$root" PREFIX=/usr
export PKG_CONFIG_PATH="$root/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root" LD_LIBRARY_PATH="$root/usr/lib"
check 'tests and documentation tests' cargo_in "$target" test
grep '^test .* ok$' "$work/log" | sed 's/^test /ok rust: /; s/ \.\.\. ok$//'
check 'clippy has nothing to say' cargo_in "$target" clippy --all-targets -- -D warnings
check 'the example builds' cargo_in "$target" build --example fuse
check 'it loads the library' loads "$target/debug/examples/fuse"
check 'it fuses' "$target/debug/examples/fuse" tests/data/vit-fmnist-b tests/data/vit-fmnist-a "$work/fused" tests/data/parity/images_n40.npy
check 'its result is read' "$root/usr/bin/tfuse" inspect "$work/fused"
TFUSE_STATIC=1
export TFUSE_STATIC
check 'the example builds with TFUSE_STATIC=1' cargo_in "$target-static" build --example fuse
check 'it carries the library' carries "$target-static/debug/examples/fuse"
unset LD_LIBRARY_PATH
check 'it fuses' "$target-static/debug/examples/fuse" tests/data/vit-fmnist-b tests/data/vit-fmnist-a "$work/again"
exit $bad
