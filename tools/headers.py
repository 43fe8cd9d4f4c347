#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the public headers declare, as data: what the ABI gate, the reference and the Rust declarations are made of.

The headers keep to a few forms, and this reads just these; anything else is an error, so that nothing is passed over:
    #define NAME NUMBER or "TEXT"        enum { NAME = VALUE, ... };          typedef TYPE NAME;
    typedef struct NAME NAME;            typedef struct NAME { fields } NAME;  struct NAME;
    typedef TYPE (*NAME)(parameters);    TFUSE_API TYPE NAME(parameters);
A comment /** ... */ before a declaration, or /**< ... */ behind a member, is its documentation. A declaration that stands right behind
another and has no comment of its own shares that one's.
"""
import dataclasses
import glob
import os
import re
import subprocess
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


@dataclasses.dataclass
class Member:
    """A parameter, a field or a constant: `text` is its declaration as written, `type` that without the name."""
    name: str
    type: str
    text: str
    doc: str = ""
    value: str = ""
    callback: "Decl" = None


@dataclasses.dataclass
class Decl:
    """kind: define, enum, typedef, opaque, struct, callback, function."""
    kind: str
    name: str
    header: str
    doc: str = ""
    type: str = ""
    members: list = dataclasses.field(default_factory=list)
    shared: bool = False  # has the documentation of the one before

    def prototype(self):
        inside = ", ".join(m.text for m in self.members) or "void"
        if self.kind == "callback":
            return f"{self.type} (*{self.name})({inside})"
        return f"{glue(self.type, self.name)}({inside})"


class HeaderError(Exception):
    pass


COMMENT = re.compile(r"/\*\*(?!<)(.*?)\*/", re.S)
BEHIND = re.compile(r"/\*\*<(.*?)\*/", re.S)
PLAIN = re.compile(r"/\*(?!\*).*?\*/", re.S)
CALLBACK = re.compile(r"^(.*?)\(\s*\*\s*(\w+)\s*\)\s*\((.*)\)$", re.S)


def squeeze(text):
    text = " ".join(text.split())
    return re.sub(r"\*\s+(?=[\w*])", "*", re.sub(r"\s*,\s*", ", ", text)).replace("*const", "*const ").replace("*const  ", "*const ")


def glue(type_, name):
    return type_ + name if type_.endswith("*") else f"{type_} {name}"


def doc_text(text):
    """A comment's lines without their stars."""
    lines = [re.sub(r"^\s*\*? ?", "", line).rstrip() for line in text.strip().split("\n")]
    return "\n".join(lines).strip()


def split_outside(text, separator):
    """Splits where no parenthesis is open."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "({") - (c in ")}")
        if c == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return parts + [text[start:]]


def member(text, header):
    """One parameter or field."""
    text = squeeze(text)
    found = CALLBACK.match(text)
    if found:
        inner = Decl("callback", found.group(2), header, type=found.group(1).strip(), members=parameters(found.group(3), header))
        return Member(inner.name, f"{inner.type} (*)({', '.join(m.text for m in inner.members)})", inner.prototype(), callback=inner)
    found = re.match(r"^(.*?)(\w+)((?:\[\w+\])*)$", text)
    if not found or not found.group(1).strip():
        raise HeaderError(f"{header}: '{text}' is no declaration that tools/headers.py knows")
    type_ = found.group(1).strip() + found.group(3)
    return Member(found.group(2), type_, text)


def parameters(text, header):
    text = text.strip()
    return [] if text == "void" else [member(p, header) for p in split_outside(text, ",")]


# What separates declarations, inside comments: put out of the way and back.
MASKS = str.maketrans(";(){},", "\0\1\2\3\4\5")
UNMASKS = str.maketrans("\0\1\2\3\4\5", ";(){},")


def masked(text):
    return re.sub(r"/\*\*.*?\*/", lambda m: m.group(0).translate(MASKS), text, flags=re.S)


def fields(body, header):
    """Fields with the comments before or behind them; `T a, b;` counts as two."""
    result, at = [], 0
    for part in split_outside(masked(body), ";"):
        part, before = part.strip(), ""
        behind = BEHIND.match(part)
        if behind:
            for m in result[at:]:
                m.doc = doc_text(behind.group(1).translate(UNMASKS))
            part = part[behind.end():].strip()
        leading = COMMENT.match(part)
        if leading:
            before = doc_text(leading.group(1).translate(UNMASKS))
            part = part[leading.end():].strip()
        at = len(result)
        if not part:
            continue
        names = split_outside(part, ",")
        first = member(names[0], header)
        result.append(first)
        for other in names[1:]:
            result.append(member(f"{re.sub(r'[*]+$', '', first.type).strip()} {other.strip()}", header))
        for m in result[at:]:
            m.doc = before
    return result


def constants(body, header):
    result = []
    for part in masked(body).split(","):
        leading = BEHIND.match(part.lstrip())
        if leading and result:
            result[-1].doc = doc_text(leading.group(1).translate(UNMASKS))
            part = part.lstrip()[leading.end():]
        behind = BEHIND.search(part)
        doc = doc_text(behind.group(1).translate(UNMASKS)) if behind else ""
        part = BEHIND.sub("", part).strip()
        if not part:
            continue
        found = re.match(r"^(\w+)\s*=\s*(-?\w+)$", part)
        if not found:
            raise HeaderError(f"{header}: the constant '{part}' has no value of its own")
        result.append(Member(found.group(1), "int32_t", part, doc, found.group(2)))
    return result


def declaration(text, header, doc):
    """One declaration without its semicolon."""
    found = re.match(r"^enum\s*\{(.*)\}$", text, re.S)
    if found:
        return Decl("enum", "", header, doc, members=constants(found.group(1), header))
    found = re.match(r"^typedef\s+struct\s+(\w+)\s*\{(.*)\}\s*(\w+)$", text, re.S)
    if found:
        if found.group(1) != found.group(3):
            raise HeaderError(f"{header}: struct {found.group(1)} is called {found.group(3)}")
        return Decl("struct", found.group(1), header, doc, members=fields(found.group(2), header))
    text = squeeze(BEHIND.sub("", text))
    found = re.match(r"^typedef struct (\w+) (\w+)$", text) or re.match(r"^(?=struct )struct (\w+)$", text)
    if found:
        return Decl("opaque", found.group(1), header, doc)
    found = re.match(r"^typedef (.*)$", text)
    if found and CALLBACK.match(found.group(1)):
        made = member(found.group(1), header).callback
        made.doc = doc
        return made
    if found:
        made = member(found.group(1), header)
        return Decl("typedef", made.name, header, doc, type=made.type)
    found = re.match(r"^TFUSE_API (.*?)(\w+)\((.*)\)$", text, re.S)
    if found:
        return Decl("function", found.group(2), header, doc, type=found.group(1).strip(), members=parameters(found.group(3), header))
    raise HeaderError(f"{header}: '{text[:80]}' is no declaration that tools/headers.py knows")


def defines(text, header):
    """(declarations, text without preprocessor lines, conditional C++ parts left out)."""
    found, kept, skip = [], [], False
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped.startswith("#"):
            kept.append("" if skip else line)
            continue
        kept.append("")
        if stripped == "#ifdef __cplusplus":
            skip = True
        elif stripped == "#endif":
            skip = False
        macro = re.match(r'^#\s*define\s+(TFUSE_\w+)\s+("[^"]*"|-?\d+)$', stripped)
        if macro:
            found.append((len(kept) - 1, macro.group(1), macro.group(2)))
            kept[-1] = f"\6{macro.group(1)} {macro.group(2)};"
        elif re.match(r"^#\s*define\s+\w+[ (]", stripped) and "TFUSE_API" not in stripped:
            raise HeaderError(f"{header}: '{stripped}' is more than a number or a text")
    return "\n".join(kept)


def parse(path):
    """The declarations of one header, in order, and the comment at its head."""
    header = os.path.basename(path)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    head = re.match(r"^/\*(.*?)\*/", text, re.S)
    lines = doc_text(head.group(1)).split("\n")
    intro = "\n".join(lines[1:]).strip() if lines[0].startswith("SPDX") else "\n".join(lines)
    text = defines(text[head.end():], header)
    result, at, blank = [], 0, True
    while True:
        text_left = text[at:]
        space = re.match(r"\s*", text_left).end()
        blank = blank or "\n\n" in text_left[:space]
        at += space
        if at >= len(text):
            break
        behind = BEHIND.match(text, at)
        if behind:
            at = behind.end()
            continue
        plain = PLAIN.match(text, at)
        if plain:
            at = plain.end()
            continue
        doc = ""
        comment = COMMENT.match(text, at)
        if comment:
            doc = doc_text(comment.group(1))
            at = comment.end()
            at += re.match(r"\s*", text[at:]).end()
        end = at + len(split_outside(BEHIND.sub(lambda m: " " * len(m.group(0)), text[at:]), ";")[0])
        piece = text[at:end].strip()
        at = end + 1
        if piece.startswith("\6"):
            name, value = piece[1:].split(" ", 1)
            made = Decl("define", name, header, doc, type=value)
        else:
            made = declaration(piece, header, doc)
        made.shared = not doc and not blank and bool(result)
        blank = False
        result.append(made)
    return intro, result


def headers(include):
    """Paths of the headers, by name; the umbrella declares nothing."""
    return [p for p in sorted(glob.glob(os.path.join(include, "tfuse", "*.h"))) if os.path.basename(p) not in ("tfuse.h", "export.h")]


def everything(include=os.path.join(ROOT, "include")):
    return [d for path in headers(include) for d in parse(path)[1]]


def layout(decls, include=os.path.join(ROOT, "include"), cc=None):
    """{constant: value}, {struct: size}, {(struct, field): (offset, size)}, from the compiler: every field's type is checked against it too."""
    lines = ["#include <stddef.h>", "#include <stdio.h>", "#include <tfuse/tfuse.h>"]
    for h in headers(include):
        lines.append(f"#include <tfuse/{os.path.basename(h)}>")
    lines += ["#define SAME(T, s, f) _Static_assert(_Generic(&((s *)0)->f, T: 1, default: 0), \"type of \" #s \".\" #f)", "int main(void) {"]
    for d in decls:
        if d.kind == "enum":
            lines += [f'printf("c {m.name} %lld\\n", (long long){m.name});' for m in d.members]
        elif d.kind == "define" and not d.type.startswith('"'):
            lines.append(f'printf("c {d.name} %lld\\n", (long long){d.name});')
        elif d.kind == "struct":
            lines.append(f'printf("s {d.name} %zu\\n", sizeof({d.name}));')
            for m in d.members:
                lines.append(f'printf("f {d.name} {m.name} %zu %zu\\n", offsetof({d.name}, {m.name}), sizeof((({d.name} *)0)->{m.name}));')
                if not m.callback:
                    base, _, extent = m.type.partition("[")
                    pointer = f"{base} (*)[{extent}" if extent else f"{base} *"
                    lines.append(f"SAME({pointer}, {d.name}, {m.name});")
    lines += ["return 0; }", ""]
    with tempfile.TemporaryDirectory() as work:
        source = os.path.join(work, "probe.c")
        with open(source, "w", encoding="utf-8") as f:
            f.write("\n".join(lines))
        program = os.path.join(work, "probe")
        subprocess.run([*(cc or os.environ.get("CC", "cc")).split(), "-std=c11", f"-I{include}", source, "-o", program], check=True)
        out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    values, sizes, offsets = {}, {}, {}
    for line in out.splitlines():
        what, name, *rest = line.split()
        if what == "c":
            values[name] = int(rest[0])
        elif what == "s":
            sizes[name] = int(rest[0])
        else:
            offsets[name, rest[0]] = (int(rest[1]), int(rest[2]))
    return values, sizes, offsets


if __name__ == "__main__":
    for one in everything():
        print(one.kind, one.prototype() if one.kind in ("function", "callback") else one.name,
              [(m.type, m.name) for m in one.members] if one.kind == "struct" else "")
