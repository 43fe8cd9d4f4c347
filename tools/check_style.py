#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what a reader of the code relies on: a licence line and a head comment in every file, files under 600 lines, functions under
80, no tabs, no trailing blanks, no calls that lib/ must not make. Prints one line for each violation."""
import glob
import os
import re
import sys

MAX_FILE, MAX_FUNCTION, MAX_LINE = 600, 80, 160
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
BANNED = re.compile(r"\b(malloc|calloc|realloc|strcpy|strcat|sprintf|strtok|gets|atoi|atof|printf|puts|putchar|abort|exit|getenv|"
                    r"setlocale|rand|srand|assert)\s*\(")
# alloc.c is the allocator; the test of a name before a parenthesis needs no more exceptions.
MAY = {"lib/base/alloc.c"}
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def functions(code):
    """(first line, lines) of every function: a brace in column 0 to the brace in column 0."""
    start = None
    for number, line in enumerate(code.split("\n"), 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            yield start - 1, number - start + 1
            start = None


def check(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    lines = text.split("\n")
    code = COMMENT_OR_STRING.sub(blank, text)
    if "SPDX-License-Identifier: Apache-2.0" not in lines[0] + (lines[1] if len(lines) > 1 else ""):
        yield f"{path}: the licence line is missing"
    if len(lines) - 1 > MAX_FILE:
        yield f"{path}: {len(lines) - 1} lines are more than {MAX_FILE}; divide it"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield f"{path}:{number}: a tab"
        if line != line.rstrip():
            yield f"{path}:{number}: blanks at the end"
        if len(line) > MAX_LINE:
            yield f"{path}:{number}: {len(line)} columns"
        if MARKS.search(line):
            yield f"{path}:{number}: an unfinished mark"
    for first, length in functions(code):
        if length > MAX_FUNCTION:
            yield f"{path}:{first}: a function of {length} lines; {MAX_FUNCTION} are the limit"
    if path.startswith("lib/") and path not in MAY:
        for match in BANNED.finditer(code):
            yield f"{path}:{code.count(chr(10), 0, match.start()) + 1}: calls {match.group(1)}"


def main():
    paths = sorted(p for g in ("lib/*/*.[ch]", "src/*.[ch]", "include/tfuse/*.h", "tests/*/*.[ch]", "examples/*.c", "examples/*.cc") for p in glob.glob(g))
    problems = [line for path in paths for line in check(path)]
    for line in problems:
        print(f"not ok style: {line}")
    if not problems:
        print(f"ok style: {len(paths)} files")
    return 1 if problems else 0


if __name__ == "__main__":
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    sys.exit(main())
