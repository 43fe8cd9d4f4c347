#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tfuse plan --html: a page that is well-formed, fetches nothing, holds every map, and whose pictures are the maps.
. "$(dirname "$0")/run.sh"

hostile=$work/'<img src=x onerror=alert(1)>&"'"'"
cp -r "$a" "$hostile"
works 'align' align --align otfusion "$b" "$hostile" --calib "$calib" --solver sinkhorn --reg 0.1 -o "$work/soft.plan" --quiet
works 'page' plan "$work/soft.plan" --html "$work/soft.html"
says 'page: where it is' 'soft.html'
works 'align, exact' align --align otfusion "$b" "$a" -o "$work/hard.plan"
works 'page, exact' plan "$work/hard.plan" --html "$work/hard.html" --json
cp "$work/out" "$work/hard.json"
"$tfuse" plan "$work/soft.plan" --json >"$work/soft.json"

cat >"$work/read.py" <<'P'
"""Reads a page as a browser would, and holds it against the plan's report."""
import base64, html.parser, json, struct, sys, zlib

VOID = {"meta", "img", "br"}

class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.pictures, self.rows, self.text, self.named = [], [], [], 0, [], []
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "img":
            self.pictures.append(attrs)
        if tag == "tr" and "table" in self.stack:
            self.rows += 1
        if tag not in VOID:
            self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, (tag, self.stack)
        self.stack.pop()
    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text.append(data)

def levels(attrs):
    data = base64.b64decode(attrs["src"].split(",", 1)[1], validate=True)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0] == zlib.crc32(name + body)
        chunks[name], at = body, at + 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1) and len(chunks[b"PLTE"]) == 768
    return [raw[i * (width + 1) + 1:(i + 1) * (width + 1)] for i in range(height)]

page, report, kind = sys.argv[1:]
text = open(page, encoding="utf-8").read()
report = json.load(open(report, encoding="utf-8"))
r = Reader()
r.feed(text)
r.close()
assert not r.stack, r.stack
tags, maps, shown = {t for t, _ in r.tags}, report["maps"], "".join(r.text)
assert len(r.pictures) == len(maps)
assert {a.get("id") for t, a in r.tags if t == "figure"} >= {"map-%d" % i for i in range(len(maps))}
for m in report["maps"]:
    assert shown.count(m["name"]) >= 2, m["name"]  # a row and a picture
for m in report["models"]:
    assert m["name"] in shown and m["weights"] in shown
for key, value in report["policy"].items():
    assert key in shown and value in shown
assert "http:" not in text and "https:" not in text and "@import" not in text and "link" not in tags and "url(" not in text
assert len([t for t, _ in r.tags if t == "script"]) == 1
for t, a in r.tags:
    assert not any(k.startswith("on") for k in a), (t, a)
    assert all(not v.startswith(("http", "//")) for k, v in a.items() if k in ("src", "href") and v), (t, a)
assert len(text) < 4_000_000
for m, a in zip(maps, r.pictures):
    rows = levels(a)
    assert (len(rows), len(rows[0])) == (m["n"], m["m"]), m["name"]
    assert max(max(row) for row in rows) == 255, m["name"]
    if m["kind"] == "permutation":  # one full entry in each row and column, nothing else
        assert all(sorted(row) == [0] * (m["m"] - 1) + [255] for row in rows), m["name"]
        assert all(sorted(c) == [0] * (m["n"] - 1) + [255] for c in zip(*rows)), m["name"]
    if kind == "soft" and m["solver"]:
        assert sum(v > 0 for row in rows for v in row) > m["n"] * m["m"] / 2, m["name"]
P
python3 "$work/read.py" "$work/soft.html" "$work/soft.json" soft
check 'soft: well-formed, every map, nothing fetched, names escaped' $? = 0
python3 "$work/read.py" "$work/hard.html" "$work/hard.json" hard
check 'exact: pictures are the permutations' $? = 0
check 'exact: there are permutations' "$(grep -c '"permutation"' "$work/hard.json")" -gt 20

works 'align, matching' align "$b" "$a" -o "$work/one.plan"
works 'page, matching' plan "$work/one.plan" --html "$work/one.html"
check 'columns that say something' "$(grep -o '<th[^>]*>[a-z ]*</th>' "$work/one.html" | sed 's/<[^>]*>//g' | head -n 6 | tr '\n' ,)" = 'map,kind,solver,n,m,cost,'
check 'the axis where it is another' "$(grep -c '<th class="name">axis</th>' "$work/soft.html")" = 1
works 'align, none' align --align none "$b" "$a" -o "$work/none.plan"
works 'page, none' plan "$work/none.plan" --html "$work/none.html"
check 'no maps: which it says, and no more' "$(grep -c 'It has no maps' "$work/none.html") $(grep -c 'sizes differ' "$work/none.html")" = '1 0'
check 'no solver: a dash, and none that converged' "$(grep -o 'residual1</a>.*' "$work/soft.html" | grep -c 'name">–</td>.*<td>–</td></tr>$')" = 4
cp "$work/soft.html" "$work/again.html"
works '--force' plan "$work/soft.plan" --html "$work/again.html" --force
cmp -s "$work/soft.html" "$work/again.html"
check 'the same plan, the same bytes' $? = 0
refuses 1 'exists' 'an existing page' plan "$work/soft.plan" --html "$work/soft.html"
refuses 1 'no directory' 'no directory' plan "$work/soft.plan" --html "$work/none/p.html"
head -c 700 "$work/soft.plan" >"$work/cut.plan"
refuses 1 'cut.plan' 'a truncated plan' plan "$work/cut.plan" --html "$work/n.html"
check 'nothing under the refused name' ! -e "$work/n.html"
finish
