#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The ABI as text, and the gate over it (docs/ABI.md).

    abi.py print                     the record of these headers
    abi.py check [--released FILE]   the record in tests/abi/abi.txt is that of the headers, and begins with the released one
    abi.py update [--released FILE]  appends what is new, keeps what was released, refuses what would change it
    abi.py grown --released FILE     structs that have grown since
    abi.py compare OLD_INCLUDE OLD_LIBRARY NEW_INCLUDE NEW_LIBRARY [GROWN...]
                                     abidiff's verdict on two libraries: only additions pass, and growth of the structs that are named

--tree DIR: of this source tree. The record is a line for every constant, type, struct field (with offset and size), struct size, prototype and symbol
version. It grows at its end only, and so do structs: a field that is appended lies behind all that any released caller may have filled, padding
included. Prints "ok" and "not ok" lines.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import headers

# They are meant to change.
VERSIONS = ("TFUSE_VERSION", "TFUSE_VERSION_STRING")


def field_text(m):
    return m.text if m.callback else headers.glue(m.type.split("[")[0], m.name) + ("[" + m.type.partition("[")[2] if "[" in m.type else "")


def record(tree):
    """The lines of a tree's headers and version script."""
    include = os.path.join(tree, "include")
    decls = headers.everything(include)
    values, sizes, offsets = headers.layout(decls, include)
    lines = []
    for d in decls:
        if d.kind == "define" and d.name not in VERSIONS:
            lines.append(f"constant {d.name} {d.type}")
        elif d.kind == "enum":
            lines += [f"constant {m.name} {values[m.name]}" for m in d.members]
        elif d.kind == "typedef":
            lines.append(f"type {d.name} {d.type}")
        elif d.kind == "opaque":
            lines.append(f"opaque {d.name}")
        elif d.kind == "callback":
            lines.append(f"callback {d.name} {d.prototype()}")
        elif d.kind == "function":
            lines.append(f"function {d.name} {d.prototype()}")
        elif d.kind == "struct":
            for m in d.members:
                at, size = offsets[d.name, m.name]
                lines.append(f"field {d.name}.{m.name} at {at} of {size} {field_text(m)}")
            lines.append(f"size {d.name} {sizes[d.name]}")
    with open(os.path.join(tree, "lib", "libtfuse.map"), encoding="utf-8") as f:
        node = None
        for line in f:
            opened = re.match(r"^(\w[\w.]*)\s*\{", line)
            symbol = re.match(r"^\s*(tfuse_\w+);", line)
            node = opened.group(1) if opened else node
            if symbol:
                lines.append(f"symbol {symbol.group(1)} {node}")
    return lines


def read(path):
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f if line.strip() and not line.startswith("#")]


def key(line):
    return tuple(line.split()[:2])


def changes(old, new):
    """What of `old` the record `new` no longer says; sizes may have grown."""
    have, now = set(new), {key(line): line for line in new}
    for line in old:
        if line in have:
            continue
        other = now.get(key(line))
        if other is None:
            yield f"removed: {line}"
        elif key(line)[0] != "size":
            yield f"changed: {line}  ->  {other}"
        elif int(other.split()[2]) < int(line.split()[2]):
            yield f"shrunk: {line}  ->  {other}"


def into_padding(released, new):
    """Fields of a released struct that are new and lie where a released caller has padding or data."""
    sizes = {key(line)[1]: int(line.split()[2]) for line in released if line.startswith("size ")}
    known = {key(line) for line in released}
    for line in new:
        if line.startswith("field ") and key(line) not in known:
            struct = line.split()[1].split(".")[0]
            if int(line.split()[3]) < sizes.get(struct, 0):
                yield f"not at the end: {line} (released with {sizes[struct]} bytes)"


def into_old_nodes(released, new):
    """Symbols that are new under the node of a release: a program that needs them would load with a library that has them not, and fail late."""
    nodes = {line.split()[2] for line in released if line.startswith("symbol ")}
    known = {key(line) for line in released}
    for line in new:
        if line.startswith("symbol ") and key(line) not in known and line.split()[2] in nodes:
            yield f"in a node of a release: {line}: give lib/libtfuse.map a node for the release to come"


def same_abi(released, new):
    """A new ABI number begins a record of its own."""
    number = [line for line in released if line.startswith("constant TFUSE_ABI ")]
    return not number or number[0] in new


def check(tree, golden, released, say):
    now = record(tree)
    if not same_abi(released, now):
        released = []
    for problem in changes(released, now):
        say(False, f"since the last release, {problem}")
    for problem in [*into_padding(released, now), *into_old_nodes(released, now)]:
        say(False, problem)
    say(golden[:len(released)] == released, "the record begins with the released one")
    for problem in changes(golden, now):
        say(False, f"since tests/abi/abi.txt was written, {problem}: if no release has it, make generated")
    for line in now:
        if line not in golden:
            say(False, f"new, not recorded: {line}: make generated")
    say(True, f"{len(now)} lines of the headers are recorded")


def update(tree, golden_path, released, say):
    now = record(tree)
    if not same_abi(released, now):
        released = []
    bad = list(changes(released, now)) + list(into_padding(released, now)) + list(into_old_nodes(released, now))
    for problem in bad:
        say(False, f"released, and cannot be changed under this ABI number: {problem}")
    if bad:
        return
    with open(golden_path, "w", encoding="utf-8") as f:
        f.write("# SPDX-License-Identifier: Apache-2.0\n# The ABI, written by `make generated`. What is released stays; it grows at its end.\n")
        f.write("".join(f"{line}\n" for line in released + [line for line in now if line not in set(released)]))
    say(True, f"{golden_path}: {len(now)} lines")


def grown(released, now):
    """Structs that are larger than they were."""
    sizes = {key(line)[1]: int(line.split()[2]) for line in released if line.startswith("size ")}
    return [line.split()[1] for line in now if line.startswith("size ") and int(line.split()[2]) > sizes.get(line.split()[1], 1 << 62)]


def compare(old_include, old, new_include, new, larger, say):
    """abidiff's exit status is a set of bits: 1 and 2 errors, 4 a change, 8 an incompatible one. Additions alone give 0 here. Structs that grew are
    left to the record, which is the stricter: a suppression hides other changes of a struct too."""
    command = ["abidiff", "--no-added-syms", "--headers-dir1", old_include, "--headers-dir2", new_include]
    with tempfile.NamedTemporaryFile("w", suffix=".suppr") as rules:
        for name in larger:
            rules.write(f"[suppress_type]\nname = {name}\ntype_kind = struct\nhas_data_member_inserted_at = end\n\n")
        rules.flush()
        got = subprocess.run(command + (["--suppressions", rules.name] if larger else []) + [old, new], capture_output=True, text=True, check=False)
    text = " ".join((got.stdout + got.stderr).split())
    say(got.returncode == 0, f"abidiff {os.path.basename(old)} {os.path.basename(new)}" + ("" if got.returncode == 0 else f": {text[:1500]}"))


def main():
    root = os.path.normpath(headers.ROOT)
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("print", "check", "update", "grown", "compare"))
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--tree", default=root)
    parser.add_argument("--released")
    args = parser.parse_args()
    golden = os.path.join(args.tree, "tests", "abi", "abi.txt")
    failed = []

    def say(good, text):
        failed.extend([] if good else [text])
        print(("ok" if good else "not ok") + f" abi: {text}")

    if args.what == "print":
        print("\n".join(record(args.tree)))
    elif args.what == "check":
        check(args.tree, read(golden), read(args.released), say)
    elif args.what == "update":
        update(args.tree, golden, read(args.released), say)
    elif args.what == "grown":
        print(" ".join(grown(read(args.released), record(args.tree))))
    elif len(args.paths) >= 4:
        compare(*args.paths[:4], args.paths[4:], say)
    else:
        parser.error("compare takes four paths")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
