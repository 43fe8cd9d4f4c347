#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Help, version, wrong command lines, keys; the man page and --help agree.
. "$(dirname "$0")/run.sh"

works '--help' --help
says '--help lists fuse' 'tfuse fuse'
works '--version' --version
says '--version names the version' "$(sed -n 's/^.define TFUSE_VERSION_STRING "\(.*\)"/tfuse \1/p' include/tfuse/version.h)"
run
check 'nothing: status 2' "$code" = 2
refuses 2 "no command 'fsue'; see tfuse --help" 'unknown command' fsue
refuses 2 'see tfuse fuse --help' 'unknown option' fuse --no-such-thing
refuses 2 '-z' 'unknown letter' fuse -z
refuses 2 '--limit' 'no value' eval "$a" --limit
refuses 2 'ANCHOR MODEL' 'too few operands' fuse --align otfusion "$a"
refuses 2 'too many' 'too many operands' inspect "$a" "$b"
refuses 2 '-o' 'fuse without -o' fuse --align otfusion "$a" "$b"
refuses 2 '--inputs' 'eval without --inputs' eval "$a"
refuses 2 'abc' 'a count that is none' eval "$a" --inputs "$images" --limit abc
refuses 2 '5000' 'too many threads' eval "$a" --inputs "$images" --threads 5000

for command in inspect eval run align plan fuse moe path solve keys; do
    works "$command --help" "$command" --help
    grep -E '^ +(-[a-z], )?--' "$work/out" | sed 's/^ *\(-[a-z], \)\{0,1\}//; s/ .*//' >"$work/options"
    missing=
    while read -r option; do
        grep -qF -- "$(printf '%s' "$option" | sed 's/-/\\-/g')" docs/tfuse.1 || missing="$missing $option"
    done <"$work/options"
    check "$command: options are in the man page" -z "$missing"
    check "$command: is in the man page" "$(grep -c "^\.SS $command\$" docs/tfuse.1)" = 1
done
# And the other way: every option of the man page is somebody's.
for command in inspect eval run align plan fuse moe path solve keys; do "$tfuse" "$command" --help; done >"$work/all"
echo ' --version ' >>"$work/all"
sed -n 's/^\.B[RI]* .*\(\\-\\-[a-z\\-]*\).*/\1/p' docs/tfuse.1 | sed 's/\\//g' | sort -u >"$work/man"
stray=
while read -r option; do
    grep -qE -- "(^| )$option( |\$)" "$work/all" || stray="$stray $option"
done <"$work/man"
check 'no stray option in the man page' -z "$stray"
check 'the man page has options' "$(wc -l <"$work/man")" -gt 15

works 'keys' keys
says 'keys: a default' 'solver.reg = 0.05'
works 'keys --json' keys --json
check 'keys --json: as many as keys' "$(json keys)" = "$("$tfuse" keys | grep -c '^[a-z]')"
check 'keys --json: a bound' "$(json keys 0 name)" = align.strategy
refuses 2 'solver.reg' 'unknown key, with the nearest' fuse --align otfusion "$a" "$b" -o "$work/x" --set solver.rge=1
refuses 2 'solver.reg' 'value out of bounds' fuse --align otfusion "$a" "$b" -o "$work/x" --reg -1
refuses 2 'align.strategy' 'unknown word' fuse "$a" "$b" -o "$work/x" --align magic
refuses 2 'KEY=VALUE' '--set without =' fuse --align otfusion "$a" "$b" -o "$work/x" --set solver.reg
refuses 2 'no-such-solver' 'unknown solver' fuse --align otfusion "$a" "$b" -o "$work/x" --solver no-such-solver
check 'nothing was written' ! -e "$work/x"
finish
