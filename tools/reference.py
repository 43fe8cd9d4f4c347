#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The reference of the interface, from the headers: reference.py OUT.html writes one page that needs nothing else; reference.py --check says what
the comments lack: every function and type is told of, every @param is a parameter, every error named is a status.

A page has a section for each header, in the order of tfuse.h, with the header's own introduction; in it every declaration with its comment. Names of
declarations become links wherever they occur.
"""
import html
import os
import re
import sys

import headers

STYLE = """
:root { --ink: #1d2433; --soft: #5b6577; --line: #dfe3ea; --paper: #ffffff; --code: #f5f7fa; --link: #1a56b0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8f0; --soft: #9aa5b8; --line: #333c4d; --paper: #161b24; --code: #1f2632; --link: #7db1ff; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
nav { position: fixed; inset: 0 auto 0 0; width: 19rem; overflow: auto; padding: 1.2rem; border-right: 1px solid var(--line); font-size: 13px; }
nav h2 { font-size: 13px; margin: 1rem 0 .2rem; } nav a { display: block; overflow-wrap: anywhere; }
main { margin-left: 19rem; padding: 1.5rem 2.5rem 6rem; max-width: 62rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 1.7rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { margin: 2.2rem 0 .4rem; font: 600 1.02rem/1.4 ui-monospace, monospace; }
pre { background: var(--code); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; font: 13px/1.5 ui-monospace, monospace; margin: .4rem 0; }
code { font: 13.5px ui-monospace, monospace; } p { margin: .5rem 0; } .intro { color: var(--soft); }
table { border-collapse: collapse; margin: .5rem 0; font-size: 14.5px; } td { padding: .2rem .9rem .2rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; font: 13.5px ui-monospace, monospace; } .label { font-weight: 600; }
@media (max-width: 60rem) { nav { position: static; width: auto; border: 0; } main { margin: 0; padding: 1rem; } }
"""


def order(include):
    """Headers as the reader meets them: contexts first."""
    first = ["base.h", "version.h", "model.h", "dlpack.h", "array.h", "graph.h", "policy.h", "run.h", "plan.h", "statistics.h", "fuse.h", "repair.h", "solver.h"]
    paths = {os.path.basename(p): p for p in headers.headers(include)}
    return [paths[n] for n in first if n in paths] + [p for n, p in paths.items() if n not in first]


class Page:
    def __init__(self, include):
        self.sections = [(os.path.basename(p), *headers.parse(p)) for p in order(include)]
        self.targets = {}
        for _, _, decls in self.sections:
            for d in decls:
                if d.name:
                    self.targets[d.name] = d.name
                for m in d.members if d.kind == "enum" else ():
                    self.targets[m.name] = m.name

    def link(self, text, own=""):
        """Escaped text with names of declarations as links."""
        def one(match):
            name = match.group(0)
            return f'<a href="#{self.targets[name]}">{name}</a>' if name in self.targets and name != own else name
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
        return re.sub(r"\b[A-Za-z_]\w+\b", one, text)

    def text(self, doc, own=""):
        """A comment: paragraphs; indented lines stay as they are."""
        out = []
        for block in re.split(r"\n\s*\n", doc):
            lines = block.split("\n")
            if all(line.startswith("  ") for line in lines if line):
                out.append(f"<pre>{self.link(block, own)}</pre>")
            elif len(lines) > 1 and all(re.match(r"\s*- |\s{2,}", line) for line in lines[1:]) and re.match(r"\s*- ", lines[1]):
                items = re.split(r"\n\s*- ", "\n" + "\n".join(lines[1:]))
                out.append(f"<p>{self.link(lines[0], own)}</p><ul>" + "".join(f"<li>{self.link(i, own)}</li>" for i in items if i.strip()) + "</ul>")
            else:
                out.append(f"<p>{self.link(block, own)}</p>")
        return "".join(out)

    def comment(self, d):
        """The description, a table of parameters, then errors and threads."""
        plain, parameters, rest = split_comment(d.doc)
        out = self.text(plain, d.name) if plain else ""
        if parameters:
            rows = "".join(f"<tr><td>{html.escape(n)}</td><td>{self.link(t, d.name)}</td></tr>" for n, t in parameters)
            out += f"<table>{rows}</table>"
        for label, text in rest:
            out += f'<p><span class="label">{label}</span> {self.link(text, d.name)}</p>'
        return out

    def declaration(self, d):
        if d.kind == "enum":
            rows = "".join(f'<tr id="{m.name}"><td>{m.name}</td><td>{m.value}</td><td>{self.link(m.doc)}</td></tr>' for m in d.members)
            return f"{self.text(d.doc) if d.doc else ''}<table>{rows}</table>"
        head = f'<h3 id="{d.name}">{d.name}</h3>' if d.name else ""
        if d.kind == "struct":
            rows = "".join(f"<tr><td>{self.link(m.text)}</td><td>{self.link(m.doc)}</td></tr>" for m in d.members)
            return f"{head}{self.comment(d)}<table>{rows}</table>"
        written = {"opaque": f"typedef struct {d.name} {d.name};" if not d.name.startswith("DL") else f"struct {d.name};",
                   "typedef": f"typedef {d.type} {d.name};", "callback": f"typedef {d.prototype()};", "define": f"#define {d.name} {d.type}",
                   "function": d.prototype() + ";"}[d.kind]
        note = '<p class="intro">As the one before.</p>' if d.shared and not d.doc else ""
        return f"{head}<pre>{self.link(fold(written), d.name)}</pre>{self.comment(d)}{note}"

    def render(self, version):
        nav, body = [], []
        for name, intro, decls in self.sections:
            nav.append(f'<h2><a href="#{name}">{name}</a></h2>' + "".join(f'<a href="#{d.name}">{d.name}</a>' for d in decls if d.name))
            intro = re.sub(rf"^tfuse/{re.escape(name)}: ", "", intro)
            body.append(f'<h2 id="{name}">tfuse/{name}</h2><div class="intro">{self.text(intro[:1].upper() + intro[1:])}</div>'
                        + "".join(self.declaration(d) for d in decls))
        return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
                f"<title>libtfuse {version}</title><style>{STYLE}</style><nav><strong>libtfuse {version}</strong>{''.join(nav)}</nav>"
                f"<main><h1>libtfuse {version}: the interface</h1>{''.join(body)}</main></html>\n")


def split_comment(doc):
    """(description, [(parameter, text)], [(label, text)])"""
    at = re.search(r"@param|(?<!\w)Errors:|(?<!\w)Threads:|(?<!\w)Thread-safety:", doc)
    plain = doc[:at.start()].strip() if at else doc
    parameters, rest = [], []
    for kind, text in re.findall(r"(@param|(?<!\w)Errors:|(?<!\w)Threads:|(?<!\w)Thread-safety:)(.*?)(?=@param|(?<!\w)Errors:|(?<!\w)Threads:|"
                                 r"(?<!\w)Thread-safety:|\Z)", doc[at.start():] if at else "", re.S):
        words = " ".join(text.split())
        if kind == "@param":
            names, _, words = words.partition(" ")
            parameters.append((names, words))
        else:
            rest.append((kind, words))
    return plain, parameters, rest


def fold(prototype):
    """A long prototype over lines, aligned behind its parenthesis."""
    if len(prototype) <= 100 or "(" not in prototype:
        return prototype
    head, _, tail = prototype.partition("(")
    lines, line = [], head + "("
    for i, part in enumerate(headers.split_outside(tail, ",")):
        piece = part.strip() if i == 0 else part.strip()
        if len(line) + len(piece) > 100 and line.strip():
            lines.append(line.rstrip())
            line = " " * (len(head) + 1)
        line += piece + ", "
    return "\n".join(lines + [line[:-2]])


def problems(include):
    """What the comments lack."""
    codes = set()
    for path in headers.headers(include):
        for d in headers.parse(path)[1]:
            codes |= {m.name for m in d.members} if d.kind == "enum" else set()
    for path in headers.headers(include):
        told = ""
        for d in headers.parse(path)[1]:
            told = told if d.shared and not d.doc else d.doc
            obvious = d.kind == "function" and (d.name.endswith("_free") or re.fullmatch(r"tfuse_\w+_(count|rank|dtype)", d.name))
            if not told and d.name and not obvious and d.kind not in ("opaque",):
                yield f"{d.header}: {d.name} has no comment"
            if d.kind != "function":
                continue
            names = {m.name for m in d.members}
            for listed, _ in split_comment(d.doc)[1]:
                for one in listed.split(","):
                    if one not in names:
                        yield f"{d.header}: {d.name} has no parameter '{one}'"
            for code in re.findall(r"TFUSE_E[A-Z]+", d.doc):
                if code not in codes:
                    yield f"{d.header}: {d.name}: {code} is no status"


def main():
    include = os.path.join(headers.ROOT, "include")
    if sys.argv[1:] == ["--check"] or len(sys.argv) == 1:
        found = list(problems(include))
        for line in found:
            print(f"not ok reference: {line}")
        page = Page(include).render("")
        count = 0
        for d in headers.everything(include):
            if d.name and f'id="{d.name}"' not in page:
                print(f"not ok reference: {d.name} is not on the page")
                found.append(d.name)
            count += bool(d.name)
        if not found:
            print(f"ok reference: {count} declarations")
        return 1 if found else 0
    with open(os.path.join(include, "tfuse", "version.h"), encoding="utf-8") as f:
        version = re.search(r'TFUSE_VERSION_STRING "(.*)"', f.read()).group(1)
    os.makedirs(os.path.dirname(sys.argv[1]) or ".", exist_ok=True)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(Page(include).render(version))
    return 0


if __name__ == "__main__":
    sys.exit(main())
