#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs into an empty root; a C and a C++ client build by pkg-config against the shared and the static library, and run; what is in the
# README compiles as printed; uninstalling leaves nothing.
set -u
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT INT TERM
usr=$root/opt/tfuse
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

flags() { # flags OPTIONS...: of the installed library, wherever it lies
    PKG_CONFIG_PATH=$usr/lib/pkgconfig pkg-config --define-variable=prefix="$usr" --define-variable=libdir="$usr/lib" \
        --define-variable=includedir="$usr/include" "$@" libtfuse
}

cat >"$root/client.c" <<'C'
#include <stdio.h>
#include <tfuse/tfuse.h>
int main(void)
{
    tfuse_ctx *ctx = NULL;
    tfuse_policy *policy = NULL;
    int failed = tfuse_ctx_new(NULL, &ctx) || tfuse_policy_new(ctx, &policy) || tfuse_version() != TFUSE_VERSION;
    tfuse_policy_free(policy);
    tfuse_ctx_free(ctx);
    return failed;
}
C
cp "$root/client.c" "$root/client.cc"
sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d' >"$root/readme.c"

static_client() {
    # shellcheck disable=SC2046
    cc "$root/client.c" $(flags --cflags) "$usr/lib/libtfuse.a" $(flags --libs --static | sed 's/-ltfuse//') -o "$root/static"
}
shared_client() { # shared_client COMPILER SOURCE PROGRAM
    # shellcheck disable=SC2046
    "$1" "$2" $(flags --cflags --libs) -Wl,-rpath,"$usr/lib" -o "$3"
}
empty() {
    [ -z "$(find "$root/opt" -mindepth 1 2>/dev/null)" ]
}

check "install" make --no-print-directory install DESTDIR="$root" PREFIX=/opt/tfuse
check "pkg-config" flags --exists
check "a C client builds with the shared library" shared_client cc "$root/client.c" "$root/c"
check "it runs" "$root/c"
check "a C++ client builds with the shared library" shared_client c++ "$root/client.cc" "$root/cc"
check "it runs" "$root/cc"
check "a C client builds with the static library" static_client
check "it runs" "$root/static"
check "the README's example builds as printed" shared_client cc "$root/readme.c" "$root/readme"
check "it fuses" "$root/readme" tests/data/vit-fmnist-b tests/data/vit-fmnist-a "$root/fused"
check "its result is read" "$usr/bin/tfuse" inspect "$root/fused"
check "the manual page is there" test -s "$usr/share/man/man1/tfuse.1"
check "uninstall" make --no-print-directory uninstall DESTDIR="$root" PREFIX=/opt/tfuse
check "it leaves nothing" empty
exit $bad
