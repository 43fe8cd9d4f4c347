/* SPDX-License-Identifier: Apache-2.0
 *
 * svg.h: the few marks that pictures are made of, and text that is safe in XML and HTML. Everything goes to a stream in memory; units are
 * pixels. How a mark looks is its class, which the style sheet of the picture or page says.
 */
#ifndef SVG_H
#define SVG_H

#include <stddef.h>
#include <stdio.h>

/* Text with & < > " ' escaped; what no XML may hold (control characters, broken UTF-8) becomes U+FFFD. */
void print_escaped(FILE *f, const char *text);

/* Values lo to hi, a tick every `step`, drawn from pixel `from` to pixel `to`. */
typedef struct svg_axis {
    double lo, hi, step, from, to;
} svg_axis;

/* An axis that holds lo..hi and begins and ends on a tick; steps are 1, 2 or 5 times a power of ten, about `ticks` of them. */
svg_axis svg_axis_round(double lo, double hi, int ticks, double from, double to);
double svg_at(const svg_axis *axis, double value);

void svg_text(FILE *f, const char *cls, double x, double y, const char *format, ...) __attribute__((format(printf, 5, 6)));
void svg_line(FILE *f, const char *cls, double x1, double y1, double x2, double y2);
/* A dot that says something when pointed at. */
void svg_dot(FILE *f, const char *cls, double x, double y, double radius, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* A line through points; one that is not finite breaks it. */
void svg_curve(FILE *f, const char *cls, const svg_axis *x, const svg_axis *y, const double *xs, const double *ys, size_t n);
/* Grid lines across x with their numbers at the left, times `factor` and followed by `unit`. */
void svg_grid(FILE *f, const svg_axis *x, const svg_axis *y, double factor, const char *unit);

#endif
