#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Rust declarations of the interface, from the headers: tfuse-sys/src/ffi.rs and tfuse-sys/tests/layout.rs, which are checked in.

    generate.py          writes them
    generate.py --check  says whether they are those of the headers, and whether the safe crate calls every function
    generate.py --files  only the first of these
"""
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
import headers  # noqa: E402

NUMBERS = {"size_t": "usize", "double": "f64", "float": "f32", "char": "c_char", "void": "c_void",
           **{f"{u}int{b}_t": f"{'u' if u else 'i'}{b}" for u in ("", "u") for b in (8, 16, 32, 64)}}
KEYWORDS = {"type", "ref", "match", "move", "in", "box", "self", "fn", "mod", "use", "where", "impl", "loop"}
LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
WRITTEN = "//! Written by `bindings/rust/generate.py` from the headers of libtfuse; `make generated` writes them.\n"


def name(text):
    return f"r#{text}" if text in KEYWORDS else text


def rust_type(text):
    """A C type without a name: base, then pointers from the inside out."""
    base, _, extent = text.partition("[")
    words = re.findall(r"\w+|\*", base)
    constant = words[0] == "const"
    words = [w for w in words[constant:] if w != "struct"]
    made, rest = NUMBERS.get(words[0], words[0]), words[1:]
    while rest:
        if rest[0] != "*":
            raise headers.HeaderError(f"'{text}' is no type that bindings/rust/generate.py knows")
        made = f"*{'const' if constant else 'mut'} {made}"
        constant = rest[1:2] == ["const"]
        rest = rest[2:] if constant else rest[1:]
    return f"[{made}; {extent.rstrip(']')} as usize]" if extent else made


def result(text):
    return "" if text == "void" else f" -> {rust_type(text)}"


def parameters(decl):
    return ", ".join(f"{name(m.name)}: {parameter_type(m)}" for m in decl.members)


def parameter_type(m):
    return function_pointer(m.callback) if m.callback else rust_type(m.type)


def function_pointer(decl):
    return f"Option<unsafe extern \"C\" fn({parameters(decl)}){result(decl.type)}>"


def comment(doc, indent=""):
    return "".join(f"{indent}///{' ' + line if line else ''}\n" for line in doc.split("\n")) if doc else ""


def declaration(d):
    if d.kind == "define":
        text = d.type.startswith('"')
        return f"{comment(d.doc)}pub const {d.name}: {'&str' if text else 'u32'} = {d.type};\n"
    if d.kind == "enum":
        return "".join(f"{comment(m.doc)}pub const {m.name}: i32 = {m.value};\n" for m in d.members)
    if d.kind == "typedef":
        return f"{comment(d.doc)}pub type {d.name} = {rust_type(d.type)};\n"
    if d.kind == "callback":
        return f"{comment(d.doc)}pub type {d.name} = {function_pointer(d)};\n"
    if d.kind == "opaque":
        return (f"{comment(d.doc)}#[repr(C)]\npub struct {d.name} {{\n    _opaque: [u8; 0],\n"
                "    _neither: PhantomData<(*mut u8, PhantomPinned)>,\n}\n")
    if d.kind == "struct":
        fields = "".join(f"{comment(m.doc, '    ')}    pub {name(m.name)}: {parameter_type(m)},\n" for m in d.members)
        return f"{comment(d.doc)}#[repr(C)]\n#[derive(Clone, Copy)]\npub struct {d.name} {{\n{fields}}}\n"
    return ""


def ffi(decls):
    body = "\n".join(text for text in map(declaration, decls) if text)
    functions = "\n".join(f"{comment(d.doc, '    ')}    pub fn {d.name}({parameters(d)}){result(d.type)};" for d in decls if d.kind == "function")
    return (f"{LICENCE}{WRITTEN}\nuse std::marker::{{PhantomData, PhantomPinned}};\nuse std::os::raw::{{c_char, c_void}};\n\n"
            f"{body}\nextern \"C\" {{\n{functions}\n}}\n")


def layout(decls):
    values, sizes, offsets = headers.layout(decls)
    lines = [LICENCE + WRITTEN, "use std::mem::{size_of, MaybeUninit};", "use tfuse_sys::*;", "",
             "/// Where a field lies and how long it is.", "macro_rules! field {", "    ($struct:ty, $field:ident) => {{",
             "        let whole = MaybeUninit::<$struct>::uninit();", "        let base = whole.as_ptr();",
             "        // The address of a field, of memory that is never read.", "        let at = unsafe { std::ptr::addr_of!((*base).$field) };",
             "        fn size<T>(_: *const T) -> usize {", "            size_of::<T>()", "        }",
             "        (at as usize - base as usize, size(at))", "    }};", "}", "", "#[test]", "fn structs_lie_as_in_c() {"]
    for d in decls:
        if d.kind == "struct":
            lines.append(f"    assert_eq!(size_of::<{d.name}>(), {sizes[d.name]});")
            lines += [f"    assert_eq!(field!({d.name}, {name(m.name)}), ({offsets[d.name, m.name][0]}, {offsets[d.name, m.name][1]}));" for m in d.members]
    lines += ["}", "", "#[test]", "fn constants_are_those_of_c() {"]
    lines += [f"    assert_eq!({m.name}, {values[m.name]});" for d in decls if d.kind == "enum" for m in d.members]
    lines += ["}", "", "#[test]", "fn every_function_is_there() {", "    let addresses = ["]
    lines += [f"        {d.name} as *const ()," for d in decls if d.kind == "function"]
    lines += ["    ];", "    assert!(addresses.iter().all(|a| !a.is_null()));", "}", ""]
    return "\n".join(lines)


def main():
    decls = headers.everything()
    files = {"tfuse-sys/src/ffi.rs": ffi(decls), "tfuse-sys/tests/layout.rs": layout(decls)}
    if sys.argv[1:] not in (["--check"], ["--files"]):
        for path, text in files.items():
            with open(os.path.join(HERE, path), "w", encoding="utf-8") as f:
                f.write(text)
        return 0
    failed = False
    for path, text in files.items():
        with open(os.path.join(HERE, path), encoding="utf-8") as f:
            same = f.read() == text
        failed |= not same
        print(f"ok rust: {path}" if same else f"not ok rust: {path} is not that of the headers: make generated")
    if sys.argv[1] == "--files":
        return 1 if failed else 0
    called = "".join(open(p, encoding="utf-8").read() for p in glob.glob(os.path.join(HERE, "tfuse", "src", "*.rs")))
    missing = [d.name for d in decls if d.kind == "function" and not re.search(rf"\bsys::{d.name}\b", called)]
    failed |= bool(missing)
    print(f"not ok rust: not called by the crate tfuse: {' '.join(missing)}" if missing else "ok rust: the crate tfuse calls every function")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
