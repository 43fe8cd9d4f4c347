/* SPDX-License-Identifier: Apache-2.0
 *
 * svg.c: lines, dots, text and axes as SVG; see svg.h.
 */
#include "svg.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character at s that XML 1.0 allows; 0 when there is none. */
static size_t character(const unsigned char *s)
{
    static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 && s[0] < 0xf8 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
    if (n == 0 || s[0] >= 0xf8)
        return 0;
    if (n == 1)
        return s[0] >= 0x20 && s[0] != 0x7f;
    unsigned long code = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    int bad = code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) || (code & 0xfffe) == 0xfffe || code < 0xa0;
    return bad ? 0 : n;
}

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void print_escaped(FILE *f, const char *text)
{
    while (*text) {
        size_t n = character((const unsigned char *)text);
        const char *instead = entity(*text);
        if (n == 0)
            fputs("\xef\xbf\xbd", f);
        else if (instead)
            fputs(instead, f);
        else
            fwrite(text, 1, n, f);
        text += n ? n : 1;
    }
}

__attribute__((format(printf, 2, 0))) static void escape_formatted(FILE *f, const char *format, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) >= 0)
        print_escaped(f, text);
    free(text);
}

/* ---- marks --------------------------------------------------------------------------------------------------- */

void svg_text(FILE *f, const char *cls, double x, double y, const char *format, ...)
{
    va_list args;
    fprintf(f, "<text class=\"%s\" x=\"%.2f\" y=\"%.2f\">", cls, x, y);
    va_start(args, format);
    escape_formatted(f, format, args);
    va_end(args);
    fputs("</text>\n", f);
}

void svg_line(FILE *f, const char *cls, double x1, double y1, double x2, double y2)
{
    fprintf(f, "<line class=\"%s\" x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\"/>\n", cls, x1, y1, x2, y2);
}

void svg_dot(FILE *f, const char *cls, double x, double y, double radius, const char *format, ...)
{
    va_list args;
    fprintf(f, "<circle class=\"%s\" cx=\"%.2f\" cy=\"%.2f\" r=\"%.1f\"><title>", cls, x, y, radius);
    va_start(args, format);
    escape_formatted(f, format, args);
    va_end(args);
    fputs("</title></circle>\n", f);
}

void svg_curve(FILE *f, const char *cls, const svg_axis *x, const svg_axis *y, const double *xs, const double *ys, size_t n)
{
    char move = 'M';
    fprintf(f, "<path class=\"%s\" d=\"", cls);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(ys[i]))
            fprintf(f, "%c%.2f %.2f", move, svg_at(x, xs[i]), svg_at(y, ys[i]));
        move = isfinite(ys[i]) ? 'L' : 'M';
    }
    fputs("\"/>\n", f);
}

/* ---- axes ---------------------------------------------------------------------------------------------------- */

svg_axis svg_axis_round(double lo, double hi, int ticks, double from, double to)
{
    if (!(hi > lo))
        hi = lo + (lo != 0 ? fabs(lo) : 1);
    double rough = (hi - lo) / ticks, ten = pow(10, floor(log10(rough)));
    double step = rough / ten <= 1 ? ten : rough / ten <= 2 ? 2 * ten : rough / ten <= 5 ? 5 * ten : 10 * ten;
    return (svg_axis){floor(lo / step + 1e-9) * step, ceil(hi / step - 1e-9) * step, step, from, to};
}

double svg_at(const svg_axis *axis, double value)
{
    return axis->from + (value - axis->lo) / (axis->hi - axis->lo) * (axis->to - axis->from);
}

void svg_grid(FILE *f, const svg_axis *x, const svg_axis *y, double factor, const char *unit)
{
    double step = y->step * factor, largest = fmax(fabs(y->lo), fabs(y->hi)) * factor;
    int digits = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    for (int i = 0; i <= (int)lround((y->hi - y->lo) / y->step); i++) {
        double value = y->lo + i * y->step, at = svg_at(y, value);
        value = fabs(value) < y->step / 2 ? 0 : value * factor; /* rounding leaves no sign to a zero */
        svg_line(f, i == 0 ? "axis" : "grid", x->from, at, x->to, at);
        if (digits > 4 || largest >= 1e6)
            svg_text(f, "tick end", x->from - 7, at + 4, "%.3g%s", value, unit);
        else
            svg_text(f, "tick end", x->from - 7, at + 4, "%.*f%s", digits, value, unit);
    }
}
