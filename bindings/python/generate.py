#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Python's declarations of the interface, from the headers: tfuse/_abi.py, which is checked in.

    generate.py          writes it
    generate.py --check  says whether it is that of the headers, whether ctypes lays structures out as C does, and whether the package calls every function
    generate.py --files  only the first of these
"""
import ctypes
import glob
import importlib.util
import os
import re
import sys
import textwrap

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
import headers  # noqa: E402

FILE = os.path.join(HERE, "tfuse", "_abi.py")
NUMBERS = {"size_t": "c_size_t", "double": "c_double", "float": "c_float", **{f"{u}int{b}_t": f"c_{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)}}
HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""Written by bindings/python/generate.py from the headers of libtfuse; `make generated` writes it."""
from __future__ import annotations

from ctypes import (CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64,
                    c_void_p, sizeof)
from typing import Any


class Sized(Structure):
    """A table whose first field says how long it is."""

    struct_size: int

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=sizeof(type(self)), **fields)
'''


def words_of(text):
    return [w for w in re.findall(r"\w+|\*", text) if w not in ("const", "struct")]


def ctypes_type(text, decls):
    """A C type without a name. Texts that are only read are c_char_p; texts that are handed over are addresses, to be released."""
    base, _, extent = text.partition("[")
    constant = base.split()[0] == "const"
    words = words_of(base)
    made, rest = words[0], words[1:]
    if made in ("void", "char") and rest:
        made, rest = ("c_char_p" if made == "char" and constant else "c_void_p"), rest[1:]
    elif made in NUMBERS:
        made = NUMBERS[made]
    elif decls[made].kind == "typedef":
        made = ctypes_type(decls[made].type, decls)
    if any(w != "*" for w in rest):
        raise headers.HeaderError(f"'{text}' is no type that bindings/python/generate.py knows")
    made = "POINTER(" * len(rest) + made + ")" * len(rest)
    return f"{made} * {extent.rstrip(']')}" if extent else made


def member_type(m, decls):
    return prototype(m.callback, decls) if m.callback else ctypes_type(m.type, decls)


def prototype(decl, decls):
    result = "None" if decl.type == "void" else ctypes_type(decl.type, decls)
    return f"CFUNCTYPE({', '.join([result] + [member_type(m, decls) for m in decl.members])})"


def hint(made):
    if made.startswith(("POINTER", "CFUNCTYPE")) or " * " in made:
        return "Any"
    return {"c_char_p": "bytes | None", "c_void_p": "int | None", "c_double": "float", "c_float": "float"}.get(made, "int" if made.startswith("c_") else "Any")


def structure(d, decls):
    sized = d.members[0].name == "struct_size"
    members = [(m.name, member_type(m, decls)) for m in d.members]
    hints = "".join(f"    {n}: {hint(t)}\n" for n, t in members if n != "struct_size")
    fields = "".join(f'        ("{n}", {t}),\n' for n, t in members)
    return f"\n\nclass {d.name}({'Sized' if sized else 'Structure'}):\n{hints}\n    _fields_ = [\n{fields}    ]\n"


def in_order(decls):
    """Structures and callbacks, each behind those that it uses."""
    left, done = [d for d in decls if d.kind in ("struct", "callback")], []
    while left:
        waiting = {d.name for d in left}
        ready = [d for d in left if not (set(re.findall(r"\w+", " ".join(m.type for m in d.members))) - {d.name}) & waiting]
        if not ready:
            raise headers.HeaderError(f"structures that use each other: {' '.join(sorted(waiting))}")
        done += ready[:1]
        left.remove(ready[0])
    return done


def text(decls):
    names = {d.name: d for d in decls if d.name}
    out = [HEAD, "\n"]
    for d in decls:
        if d.kind == "define":
            out.append(f"{d.name} = {d.type}\n")
        elif d.kind == "enum":
            out += [f"{m.name} = {m.value}\n" for m in d.members]
    out += [f"\n\nclass {d.name}(Structure):\n    pass\n" for d in decls if d.kind == "opaque"]
    last = ""
    for d in in_order(decls):
        if d.kind == "struct":
            out.append(structure(d, names))
        elif d.kind == "callback":
            out.append(("\n\n" if last == "struct" else "\n" if last != "callback" else "") + f"{d.name} = {prototype(d, names)}\n")
        last = d.kind
    out.append("\n\n# name: (result, parameters)\nFUNCTIONS: dict[str, tuple[Any, list[Any]]] = {\n")
    for d in decls:
        if d.kind == "function":
            result = "None" if d.type == "void" else ctypes_type(d.type, names)
            parameters = [m.type if m.type in names and names[m.type].kind == "callback" else member_type(m, names) for m in d.members]
            row = f'"{d.name}": ({result}, [{", ".join(parameters)}]),'
            out.append("\n".join(textwrap.wrap(row, 150, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False)) + "\n")
    return "".join(out) + "}\n"


def laid_out(decls):
    """What differs between the structures of ctypes and of C."""
    spec = importlib.util.spec_from_file_location("abi", FILE)
    abi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(abi)
    values, sizes, offsets = headers.layout(decls)
    wrong = [n for n, v in values.items() if getattr(abi, n) != v]
    wrong += [n for n, v in sizes.items() if ctypes.sizeof(getattr(abi, n)) != v]
    for (struct, field), where in offsets.items():
        at = getattr(getattr(abi, struct), field)
        if (at.offset, at.size) != where:
            wrong.append(f"{struct}.{field}")
    return wrong


def main():
    decls = headers.everything()
    made = text(decls)
    if sys.argv[1:] not in (["--check"], ["--files"]):
        with open(FILE, "w", encoding="utf-8") as f:
            f.write(made)
        return 0
    with open(FILE, encoding="utf-8") as f:
        same = f.read() == made
    print("ok python: tfuse/_abi.py" if same else "not ok python: tfuse/_abi.py is not that of the headers: make generated")
    if sys.argv[1] == "--files":
        return 0 if same else 1
    wrong = laid_out(decls)
    print(f"not ok python: not as in C: {' '.join(wrong)}" if wrong else "ok python: constants and structures are those of C")
    called = "".join(open(p, encoding="utf-8").read() for p in glob.glob(os.path.join(HERE, "tfuse", "*.py")))
    missing = [d.name for d in decls if d.kind == "function" and not re.search(rf"lib\.{d.name}\b|_free = \"{d.name}\"", called)]
    print(f"not ok python: not called by the package: {' '.join(missing)}" if missing else "ok python: the package calls every function")
    return 0 if same and not wrong and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
