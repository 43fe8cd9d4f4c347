#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who includes whom.

A file of lib/ includes headers of its own folder and of folders below it; only api/ uses the library's public functions (the types of
<tfuse/...> may be used anywhere). blis.h and lapacke.h have one file each. No architecture is named outside lib/arch. The command sees
<tfuse/...>, its own headers and system headers. Prints one line for each violation.
"""
import glob
import os
import re
import sys

# Lowest first. graph lies below maps, since a map moves a part of a binding.
ORDER = "base policy num io graph maps ops passes arch run ot align fuse moe api".split()
OWNERS = {"blis.h": "lib/num/gemm.c", "lapacke.h": "lib/num/lapack.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
PUBLIC_CALL = re.compile(r"\btfuse_[a-z0-9_]+\s*\(")
FAMILIES = "vit deit bert roberta gpt llama mistral mixtral qwen gemma falcon bloom swin convnext resnet t5 bart dino".split()
FAMILY = re.compile(r"(?<![a-z])(%s)(?![a-z])" % "|".join(FAMILIES), re.I)


def sources(*patterns):
    return sorted(f for p in patterns for f in glob.glob(p))


def public_functions():
    names = set()
    for path in sources("include/tfuse/*.h"):
        with open(path, encoding="utf-8") as f:
            names |= set(re.findall(r"TFUSE_API\s[^(;]*?\b(tfuse_[a-z0-9_]+)\(", COMMENT.sub("", f.read())))
    return names


def check_lib(path, text, functions):
    layer = path.split("/")[1]
    if layer not in ORDER:
        yield f"{path}: lib/{layer} is no layer; add it to tools/check_layers.py"
        return
    rank = ORDER.index(layer)
    for bracket, name in INCLUDE.findall(text):
        owner = OWNERS.get(name)
        if owner and path != owner:
            yield f"{path}: includes {name}, which only {owner} may"
        if bracket == '"':
            folder = name.split("/")[0]
            if "/" not in name or folder not in ORDER:
                yield f'{path}: includes "{name}"; write "folder/file.h"'
            elif ORDER.index(folder) > rank:
                yield f'{path}: includes "{name}", which lies above lib/{layer}'
    code = COMMENT.sub("", text)
    if layer != "api":
        for call in sorted({c.rstrip("( \t\n") for c in PUBLIC_CALL.findall(code)} & functions):
            yield f"{path}: uses {call}, which only lib/api may"
    if layer != "arch":
        for word in sorted({w.lower() for w in FAMILY.findall(text)}):
            yield f"{path}: names the architecture '{word}', which only lib/arch may"


def check_tool(path, text):
    for bracket, name in INCLUDE.findall(text):
        if bracket == '"' and not os.path.exists(os.path.join("src", name)):
            yield f'{path}: includes "{name}"; the command sees <tfuse/...> and its own headers'
        if bracket == "<" and ("blis" in name or "lapack" in name):
            yield f"{path}: includes <{name}>"
    for name in sorted(set(re.findall(r"\btf_[a-z0-9_]+", COMMENT.sub("", text)))):
        yield f"{path}: uses {name}, which is internal to the library"


def check_public(path, text):
    for bracket, name in INCLUDE.findall(text):
        if bracket == '"' or not (name.startswith("tfuse/") or name in ("stddef.h", "stdint.h")):
            yield f"{path}: includes {name}; public headers see each other, stddef.h and stdint.h"


def main():
    functions = public_functions()
    problems, count = [], 0
    checks = [(sources("lib/*/*.[ch]"), lambda p, t: check_lib(p, t, functions)), (sources("src/*.[ch]"), check_tool),
              (sources("include/tfuse/*.h"), check_public)]
    for paths, check in checks:
        for path in paths:
            count += 1
            with open(path, encoding="utf-8") as f:
                problems += check(path, f.read())
    for line in problems:
        print(f"not ok layers: {line}")
    if not problems:
        print(f"ok layers: {count} files")
    return 1 if problems else 0


if __name__ == "__main__":
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    sys.exit(main())
