#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A system that fails: full outputs, a full disk, a directory that cannot be written or vanishes, two writers, kill -9 during a write.
. "$(dirname "$0")/run.sh"

for what in "inspect $a" "keys"; do
    # shellcheck disable=SC2086
    "$tfuse" $what >/dev/full 2>"$work/err"
    code=$?
    check "full output: $what: status 1" "$code" = 1
    check "full output: $what: one line" "$(grep -c '^tfuse: ' "$work/err") $(wc -l <"$work/err")" = '1 1'
done

# A disk of 256 KiB, and checkpoints of 550 KB.
mkdir "$work/disk"
if mount -t tmpfs -o size=256k tmpfs "$work/disk" 2>/dev/null; then
    refuses 1 'No space left' 'full disk' fuse "$b" "$a" -o "$work/disk/out" --align none
    check 'full disk: nothing is left' -z "$(ls -A "$work/disk")"
    umount "$work/disk"
else
    echo 'skipped: full disk: no tmpfs can be mounted here'
fi

refuses 1 "$work/none" 'no parent' fuse "$b" "$a" -o "$work/none/out" --align none
# Root may write everywhere, so there somebody else tries; that needs a way to the files for everybody.
mkdir "$work/closed"
chmod 555 "$work/closed"
if [ "$(id -u)" -ne 0 ]; then
    as_other=''
else
    as_other='setpriv --reuid=65534 --regid=65534 --clear-groups'
    chmod a+x "$work"
fi
if $as_other "$tfuse" inspect "$a" >/dev/null 2>&1; then
    $as_other "$tfuse" fuse "$b" "$a" -o "$work/closed/out" --align none >/dev/null 2>"$work/err"
    code=$?
    check 'read-only directory: status 1' "$code" = 1
    check 'read-only directory: one line that names it' "$(grep -cF "$work/closed/" "$work/err") $(wc -l <"$work/err")" = '1 1'
    check 'read-only directory: nothing in it' -z "$(ls -A "$work/closed")"
else
    echo 'skipped: read-only directory: this is root, and nobody else can run tfuse here'
fi

# Two writers to one OUT: one wins whole, the other says so.
works 'the result alone' fuse "$b" "$a" -o "$work/alone" --align none
"$tfuse" fuse "$b" "$a" -o "$work/two" --align none --quiet 2>"$work/err1" &
first=$!
"$tfuse" fuse "$b" "$a" -o "$work/two" --align none --quiet 2>"$work/err2"
second_code=$?
wait "$first"
first_code=$?
check 'two writers: at least one is done' "$first_code" -eq 0 -o "$second_code" -eq 0
check 'two writers: OUT is whole' "$(make_file same "$work/alone" "$work/two")" = yes
check 'two writers: nothing else is left' -z "$(find "$work" -name '*tfuse-partial*')"

# The directory of OUT is moved or removed at moments of a run: OUT is whole in it, or one line says what happened, and nothing is left.
for how in move remove; do
    i=0
    wrong=''
    while [ "$i" -lt 10 ]; do
        rm -rf "$work/parent" "$work/moved"
        mkdir "$work/parent"
        "$tfuse" fuse "$b" "$a" -o "$work/parent/out" --align none --quiet >/dev/null 2>"$work/err" &
        pid=$!
        sleep "$(awk -v i="$i" 'BEGIN { print i * 0.004 }')"
        if [ "$how" = move ]; then mv "$work/parent" "$work/moved"; else rm -rf "$work/parent" 2>/dev/null; fi
        wait "$pid"
        code=$?
        lines="$(grep -c '^tfuse: ' "$work/err") $(wc -l <"$work/err")"
        case $code in
        0) [ ! -s "$work/err" ] || wrong="$wrong [$i: text with status 0]" ;;
        1) [ "$lines" = '1 1' ] || wrong="$wrong [$i: lines $lines]" ;;
        *) wrong="$wrong [$i: status $code]" ;;
        esac
        [ "$code" != 0 ] || [ "$how" = remove ] || [ "$(make_file same "$work/alone" "$work/moved/out")" = yes ] || wrong="$wrong [$i: OUT differs]"
        [ -z "$(find "$work" -name '*tfuse-partial*')" ] || wrong="$wrong [$i: a temporary is left]"
        i=$((i + 1))
    done
    if [ -z "$wrong" ]; then pass "parent: $how"; else fail "parent: $how" "$wrong"; fi
done

# kill -9 at moments of a run that replaces OUT: it is the old one or the new one, never none, and the next run cleans up.
make_file model copy "$a" "$work/old"
cp -r "$work/old" "$work/out-dir"
i=0
wrong=0
while [ "$i" -lt 20 ]; do
    "$tfuse" fuse "$b" "$a" -o "$work/out-dir" --align none --force --quiet >/dev/null 2>&1 &
    pid=$!
    sleep "$(awk -v i="$i" 'BEGIN { print i * 0.002 }')"
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    if [ "$(make_file same "$work/old" "$work/out-dir")" != yes ] && [ "$(make_file same "$work/alone" "$work/out-dir")" != yes ]; then
        wrong=$((wrong + 1))
    fi
    i=$((i + 1))
done
check 'killed: OUT is the old one or the new one' "$wrong" = 0
works 'killed: the next run' fuse "$b" "$a" -o "$work/out-dir" --align none --force
check 'killed: it cleans up' -z "$(find "$work" -name '*tfuse-partial*')"
check 'killed: it is right' "$(make_file same "$work/alone" "$work/out-dir")" = yes

# Standard output that takes nothing: status 1 and one line, whatever is printed.
"$tfuse" align "$a" "$b" --align none -o "$work/full.plan" >"$work/out" 2>&1
make_file npy "$work/full.npy" '<f4' 2,2 0,1,1,0
unwritten=''
for line in '--help' '--version' 'keys' 'keys --json' "inspect $a" "inspect $a --json" "plan $work/full.plan" "plan $work/full.plan --json" "solve $work/full.npy" \
    "solve $work/full.npy --json" "eval $a --inputs $images" "eval $a --inputs $images --json" "run $a --inputs $images -o $work/full-o.npy --force" \
    "gauge $a --seed 1 -o $work/full-g --force" "fuse $a $b -o $work/full-f --dry-run" "fuse $a $b -o $work/full-f --align none --force --json"; do
    # shellcheck disable=SC2086
    "$tfuse" $line >/dev/full 2>"$work/err"
    code=$?
    [ "$code" = 1 ] && [ "$(grep -c '^tfuse: cannot write to standard output' "$work/err") $(wc -l <"$work/err")" = '1 1' ] || unwritten="$unwritten [$line: $code]"
    # shellcheck disable=SC2086
    "$tfuse" $line >&- 2>"$work/err"
    [ $? = 1 ] || unwritten="$unwritten [$line: closed]"
done
if [ -z "$unwritten" ]; then pass 'full or closed standard output'; else fail 'full or closed standard output' "$unwritten"; fi
finish
