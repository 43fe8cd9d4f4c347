#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs into an empty root, twice: as is, and with LIBDIR and INCLUDEDIR of their own. C and C++ clients build by pkg-config against the shared
# and the static library and run, seeing nothing but that root; what is in the README compiles as printed; uninstalling leaves nothing.
set -u
unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT INT TERM
tree=$(pwd)
prefix=/opt/tfuse
usr=$root$prefix
lib=$prefix/lib
include=$prefix/include
bad=0

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >"$root/log" 2>&1; then
        echo "ok $name"
    else
        echo "not ok $name: $(tail -n 3 "$root/log" | tr '\n' ' ')"
        bad=1
    fi
}

flags() { # flags PACKAGE OPTIONS...: of the installed library, wherever it lies
    package=$1
    shift
    PKG_CONFIG_PATH=$root$lib/pkgconfig pkg-config --define-variable=prefix="$usr" --define-variable=libdir="$root$lib" \
        --define-variable=includedir="$root$include" "$@" "$package"
}

cat >"$root/client.c" <<'C'
#include <stdio.h>
#include <tfuse/tfuse.h>
int main(int argc, char **argv)
{
    tfuse_ctx *ctx = NULL;
    tfuse_model *model = NULL;
    int failed = argc != 2 || tfuse_ctx_new(NULL, &ctx) || tfuse_version() != TFUSE_VERSION ||
                 tfuse_model_open(ctx, argv[1], 0, &model) || tfuse_model_count(model) == 0;
    if (failed && ctx)
        fprintf(stderr, "%s\n", tfuse_ctx_error(ctx));
    tfuse_model_free(model);
    tfuse_ctx_free(ctx);
    return failed;
}
C
cp "$root/client.c" "$root/client.cc"
sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d' >"$root/readme.c"

client() { # client PACKAGE COMPILER SOURCE PROGRAM
    # shellcheck disable=SC2046
    (cd "$root" && "$2" -Wall -Werror "$3" $(flags "$1" --cflags --libs) -Wl,-rpath,"$root$lib" -o "$4")
}
needs() { # needs PROGRAM: whether it loads the shared library
    objdump -p "$root/$1" | grep -q 'NEEDED *libtfuse\.so\.[0-9]*$'
}
needs_none() {
    ! needs "$1"
}
runs() {
    "$root/$1" "$tree/tests/data/vit-fmnist-a"
}
empty() {
    left=$(find "$root/opt" -mindepth 1 2>/dev/null)
    echo "$left"
    [ -z "$left" ]
}
complete() { # every header, both libraries with their links, the command, its page
    for f in "$include"/tfuse/tfuse.h "$lib"/libtfuse.a "$lib"/libtfuse.so "$lib"/pkgconfig/libtfuse.pc "$prefix"/bin/tfuse \
        "$prefix"/share/man/man1/tfuse.1; do
        [ -s "$root$f" ] || { echo "$f is missing" && return 1; }
    done
    for f in "$tree"/include/tfuse/*.h; do
        cmp "$f" "$root$include/tfuse/$(basename "$f")" || return 1
    done
}
# Paths as installed, nothing left to fill in, no path of the staging root or the tree.
clean_pc() {
    for f in "$root$lib"/pkgconfig/*.pc; do
        ! grep -nE '@|  |'"$root|$tree" "$f" && grep -qx "libdir=$lib" "$f" && grep -qx "includedir=$include" "$f" || return 1
    done
}
# Nothing is global in the archive but what the version script lists.
only_api() {
    sed -n 's/^ *\(tfuse_[a-z0-9_]*\);.*/\1/p' "$tree/lib/libtfuse.map" | sort >"$root/map"
    nm -g --defined-only "$root$lib/libtfuse.a" | awk 'NF == 3 {print $3}' | sort | diff "$root/map" -
}

matrix() { # matrix NAME VARIABLES...
    what=$1
    shift
    check "$what: install" make --no-print-directory install DESTDIR="$root" PREFIX=$prefix "$@"
    check "$what: all is there" complete
    check "$what: .pc files" clean_pc
    check "$what: pkg-config" flags libtfuse --exists
    check "$what: the archive's symbols" only_api
    for link in libtfuse libtfuse-static; do
        for compiler in cc c++; do
            source=client.c
            [ "$compiler" = cc ] || source=client.cc
            check "$what: $compiler, $link: builds" client "$link" "$compiler" "$source" program
            check "$what: $compiler, $link: runs" runs program
            if [ "$link" = libtfuse ]; then
                check "$what: $compiler, $link: loads the library" needs program
            else
                check "$what: $compiler, $link: carries the library" needs_none program
            fi
            rm -f "$root/program"
        done
    done
}

matrix plain
check "the README's example builds as printed" client libtfuse cc readme.c readme
check "it fuses" "$root/readme" tests/data/vit-fmnist-b tests/data/vit-fmnist-a "$root/fused"
check "its result is read" "$usr/bin/tfuse" inspect "$root/fused"
check "plain: uninstall" make --no-print-directory uninstall DESTDIR="$root" PREFIX=$prefix
check "plain: it leaves nothing" empty

lib=$prefix/lib/x86_64-linux-gnu
include=$prefix/include/more
matrix 'own libdir' LIBDIR=$lib includedir=$include
check "own libdir: uninstall" make --no-print-directory uninstall DESTDIR="$root" PREFIX=$prefix LIBDIR=$lib includedir=$include
check "own libdir: it leaves nothing" empty
exit $bad
