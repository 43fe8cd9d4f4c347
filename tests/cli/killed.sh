#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill -9 at every call that changes a file: OUT is absent or whole, what was there before stays until then, and the next run clears away and succeeds.
. "$(dirname "$0")/run.sh"
if ldd "$tfuse" 2>/dev/null | grep -q -e libasan -e libtsan; then # a sanitizer must come first, so nothing can be preloaded
    pass 'left to the build without sanitizers'
    finish
fi
${CC:-cc} -shared -fPIC -D_GNU_SOURCE -o "$work/kill_at.so" tests/cli/kill_at.c -ldl || fail 'the shim' 'does not compile'

# The same files with the same bytes.
same() {
    diff -r "$1" "$2" >/dev/null 2>&1
}

sweep() { # sweep WHAT STEP OPTIONS...: kills every STEP-th call of a fusion
    what=$1 step=$2
    shift 2
    mkdir "$work/dir"
    works "$what: the right one" fuse "$a" "$b" -o "$work/want" --align none "$@"
    KILL_COUNT="$work/count" LD_PRELOAD="$work/kill_at.so" "$tfuse" fuse "$a" "$b" -o "$work/dir/out" --align none --quiet "$@" >/dev/null
    calls=$(cat "$work/count")
    rm -rf "$work/dir/out"
    bad_at='' killed=0 left=0
    for k in $(seq 1 "$step" "$calls"); do
        KILL_AT=$k LD_PRELOAD="$work/kill_at.so" "$tfuse" fuse "$a" "$b" -o "$work/dir/out" --align none --force --quiet "$@" >/dev/null 2>&1
        [ $? -eq 137 ] && killed=$((killed + 1))
        if [ -e "$work/dir/out" ] && ! same "$work/dir/out" "$work/want"; then bad_at="$bad_at $k"; fi
        [ "$k" -gt $((calls / 2)) ] || rm -rf "$work/dir/out" # in the second half it replaces one that is there
    done
    if [ -z "$bad_at" ]; then pass "$what: absent or whole, $killed of $calls"; else fail "$what: absent or whole" "not at$bad_at"; fi
    check "$what: enough points" "$killed" -ge $((calls / step - 2))
    rm -rf "$work/dir/out"
    works "$what: the next run" fuse "$a" "$b" -o "$work/dir/out" --align none "$@"
    left=$(find "$work/dir" -mindepth 1 -maxdepth 1 | wc -l)
    check "$what: nothing is left beside OUT" "$left" -eq 1
    if same "$work/dir/out" "$work/want"; then pass "$what: whole"; else fail "$what: whole" 'differs'; fi
    rm -rf "$work/dir" "$work/want"
}

sweep 'one file' 1
sweep 'shards' 3 --shard-size 20000
finish
