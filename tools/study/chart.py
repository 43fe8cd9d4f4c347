# SPDX-License-Identifier: Apache-2.0
"""The study's pictures, as SVG that follows the reader's light or dark scheme: lines over a numeric axis, and dots in rows."""
from xml.sax.saxutils import escape

STYLE = """text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1c2430}.title{font-size:18px;font-weight:600}.soft,.tick{font-size:12px;fill:#5c6776}\
.end{text-anchor:end}.mid{text-anchor:middle}.paper{fill:#fff}.grid{stroke:#e4e8ed}.axis{stroke:#8b95a3}.line{fill:none;stroke-width:2.2;stroke-linejoin:round}\
.dash{stroke-dasharray:6 4;stroke-width:1.6}.bold{stroke-width:3.2}.head{font-weight:600}"""
LIGHT = ["#0b62c4", "#c2261f", "#1a8754", "#9a6b1f", "#7b3fb5", "#0f8a96", "#5c6776", "#c2417f", "#4f6b12"]
DARK = ["#6db1ff", "#ff7a70", "#5fd39b", "#d9a75a", "#c39bf0", "#5ccfda", "#a3adba", "#f08fbd", "#b4d067"]


def style():
    def inks(colours):
        return "".join(f".k{i}{{stroke:{c}}}.f{i}{{fill:{c};stroke:none}}" for i, c in enumerate(colours))

    return (f"<style>{STYLE}{inks(LIGHT)}@media(prefers-color-scheme:dark){{.paper{{fill:#14181f}}text{{fill:#e8ecf2}}.soft,.tick{{fill:#a3adba}}"
            f".grid{{stroke:#2a313b}}.axis{{stroke:#667182}}{inks(DARK)}}}</style>")


class Picture:
    def __init__(self, width, height, title, subtitle):
        self.width, self.height = width, height
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
                      f"<title>{escape(title)}</title>", style(), f'<rect class="paper" width="{width}" height="{height}"/>']
        self.text(24, 32, title, "title")
        self.text(24, 52, subtitle, "soft")

    def text(self, x, y, content, kind=""):
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>')

    def line(self, x0, y0, x1, y1, kind):
        self.parts.append(f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')

    def dot(self, x, y, ink, radius=4.0):
        self.parts.append(f'<circle class="f{ink}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')

    def curve(self, points, kind):
        self.parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')

    def save(self, path):
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join([*self.parts, "</svg>"]) + "\n")


def steps(low, high, most=8):
    """round numbers from low to high"""
    size = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= most)
    first = int(-(-low // size))
    return [round(k * size, 6) for k in range(first, int(high // size) + 1)]


def lines(path, title, subtitle, series, x_of, x_ticks, y_range, x_name, y_name):
    """series: (name, [(x, y)], extra class) in the order of the colours; a name whose class has "level" is one y for the whole width. Points outside of y_range
    are cut at its edge. x_of maps a value to 0..1; x_ticks: (value, label)."""
    series = [s for s in series if s[1]]
    left, top, right, bottom = 64, 92, 560, 434
    picture = Picture(930, 484, title, subtitle)

    def at(x, y):
        share = (min(max(y, y_range[0]), y_range[1]) - y_range[0]) / (y_range[1] - y_range[0])
        return left + (right - left) * x_of(x), bottom - (bottom - top) * share

    for y in steps(*y_range):
        picture.line(left, at(x_ticks[0][0], y)[1], right, at(x_ticks[0][0], y)[1], "grid")
        picture.text(left - 8, at(x_ticks[0][0], y)[1] + 4, f"{y:g}", "tick end")
    for x, label in x_ticks:
        picture.text(at(x, y_range[0])[0], bottom + 18, label, "tick mid")
    picture.line(left, bottom, right, bottom, "axis")
    picture.text((left + right) / 2, bottom + 38, x_name, "soft mid")
    picture.text(left, top - 6, y_name, "soft")
    for ink, (name, points, kind) in enumerate(series):
        ink %= len(LIGHT)
        places = [at(x, y) for x, y in points]
        picture.curve(places, f"line k{ink} {kind}")
        if "level" not in kind:
            for (x, y), (_, value) in zip(places, points):
                if y_range[0] <= value <= y_range[1]:
                    picture.dot(x, y, ink, 3.2)
    row = top + 4
    for ink, (name, points, kind) in enumerate(series):
        picture.line(right + 24, row - 4, right + 50, row - 4, f"line k{ink % len(LIGHT)} {kind}")
        picture.text(right + 58, row, name)
        row += 22
    picture.save(path)


def dots(path, title, subtitle, names, rows, x_range, x_name, marks=()):
    """rows: (label, [value or None by name]) or a heading (label, None). marks: (name's index, value): a line over the height, such as the better parent."""
    rows = [r for r in rows if r[1] is None or any(v is not None for v in r[1])]
    left, top, right, pitch = 360, 96, 860, 22
    bottom = top + pitch * len(rows)
    picture = Picture(900, bottom + 58, title, subtitle)
    for ink, name in enumerate(names):
        picture.dot(left + 170 * ink, 72, ink)
        picture.text(left + 170 * ink + 10, 76, name)

    def at(x):
        return left + (right - left) * (min(max(x, x_range[0]), x_range[1]) - x_range[0]) / (x_range[1] - x_range[0])

    for x in steps(*x_range, most=10):
        picture.line(at(x), top - 8, at(x), bottom, "grid")
        picture.text(at(x), bottom + 18, f"{x:g}", "tick mid")
    for ink, x in marks:
        picture.line(at(x), top - 8, at(x), bottom, f"line dash k{ink}")
    for i, (label, values) in enumerate(rows):
        y = top + pitch * i + pitch / 2
        picture.text(left - 14, y + 4, label, "end head" if values is None else "end")
        for ink, value in enumerate(values or []):
            if value is not None:
                picture.dot(at(value), y, ink)
    picture.text((left + right) / 2, bottom + 38, x_name, "soft mid")
    picture.save(path)
