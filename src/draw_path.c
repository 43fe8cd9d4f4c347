/* SPDX-License-Identifier: Apache-2.0
 *
 * draw_path.c: scores along a line as JSON, and as a picture: the loss above, the accuracy below, one t. Colours follow the reader's light or
 * dark setting; nothing is fetched.
 */
#include "path.h"
#include "svg.h"
#include "tool.h"

#include <math.h>
#include <string.h>

/* ---- JSON ---------------------------------------------------------------------------------------------------- */

static json_t *scores_json(double loss, double accuracy)
{
    return json_pack("{s:o, s:o}", "loss", json_number(loss), "accuracy", json_number(accuracy));
}

static json_t *points_json(const path_scores *p)
{
    json_t *points = json_array();
    for (size_t i = 0; i < p->steps; i++) {
        json_t *point = json_pack("{s:f}", "t", p->t[i]);
        json_object_update_new(point, scores_json(p->aligned.loss[i], p->aligned.accuracy[i]));
        json_object_set_new(point, "plain", p->plain.loss ? scores_json(p->plain.loss[i], p->plain.accuracy[i]) : json_null());
        json_array_append_new(points, point);
    }
    return points;
}

static json_t *barrier_json(const path_curve *curve)
{
    return curve->loss ? json_pack("{s:f, s:f}", "loss", curve->barrier, "t", curve->at) : json_null();
}

json_t *path_json(const path_scores *p)
{
    json_t *models = json_array();
    for (int k = 0; k < 2; k++) {
        json_t *model = scores_json(p->loss[k], p->accuracy[k]);
        json_object_set_new(model, "name", json_string(p->names[k]));
        json_array_append_new(models, model);
    }
    return json_pack("{s:I, s:s, s:o, s:o, s:o, s:o}", "n", (json_int_t)p->samples, "strategy", p->strategy, "models", models,
                     "points", points_json(p), "barrier", barrier_json(&p->aligned), "plain_barrier", barrier_json(&p->plain));
}

/* ---- the picture --------------------------------------------------------------------------------------------- */

enum { WIDTH = 800, HEIGHT = 640, LEFT = 78, RIGHT = 630, LABELS = 644 };

/* Plain colours, since not every reader knows variables; those that know the media query take its own. */
static const char *const style[] = {
    "text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1c2430}.title{font-size:18px;font-weight:600}.name{font-weight:600}",
    ".soft,.tick{font-size:12px;fill:#5c6776}.end{text-anchor:end}.mid{text-anchor:middle}",
    ".paper{fill:#fff}.grid{stroke:#e4e8ed}.axis{stroke:#8b95a3}",
    ".aligned{fill:none;stroke:#0b62c4;stroke-width:2.6;stroke-linejoin:round}.a-dot,.a-ink{fill:#0b62c4}",
    ".plain{fill:none;stroke:#9a6b1f;stroke-width:1.3}.p-dot,.p-ink{fill:#9a6b1f}",
    ".chord{stroke:#8b95a3;stroke-width:1.2;stroke-dasharray:5 4}.parent{fill:#fff;stroke:#1c2430;stroke-width:2}",
    ".gap{stroke:#c2261f;stroke-width:1.6}.plain-gap{stroke:#9a6b1f;stroke-width:1}.g-ink{fill:#c2261f;font-weight:600}",
    ".halo{stroke:#fff;stroke-width:4;paint-order:stroke;stroke-linejoin:round}",
    "@media(prefers-color-scheme:dark){.paper,.parent{fill:#14181f}.halo{stroke:#14181f}text{fill:#e8ecf2}.soft,.tick{fill:#a3adba}",
    ".grid{stroke:#2a313b}.axis,.chord{stroke:#667182}.parent{stroke:#e8ecf2}.aligned{stroke:#6db1ff}.a-dot,.a-ink{fill:#6db1ff}",
    ".plain,.plain-gap{stroke:#d9a75a}.p-dot,.p-ink{fill:#d9a75a}.gap{stroke:#ff7a70}.g-ink{fill:#ff7a70}}",
};

/* What one panel shows. */
typedef struct panel {
    const char *title, *unit;
    const double *aligned, *plain, *parents;
    double factor; /* of the numbers on the axis */
    int digits;
    svg_axis x, y;
} panel;

/* All points, and at least a fiftieth of the largest number, so that rounding does not look like a curve; accuracies end at 1. */
static svg_axis fit(const path_scores *p, const panel *s, double from, double to)
{
    double lo = fmin(s->parents[0], s->parents[1]), hi = fmax(s->parents[0], s->parents[1]);
    for (size_t i = 0; i < p->steps; i++) {
        lo = fmin(lo, fmin(s->aligned[i], s->plain ? s->plain[i] : lo));
        hi = fmax(hi, fmax(s->aligned[i], s->plain ? s->plain[i] : hi));
    }
    const double least = hi > 0 ? 0.02 * hi : 0.02, short_of = fmax(0, least - (hi - lo)) / 2;
    lo = fmax(0, lo - short_of);
    hi = s->factor > 1 ? fmin(1, hi + short_of) : hi + short_of;
    return svg_axis_round(lo, hi, 5, from, to);
}

static void draw_curve(FILE *f, const path_scores *p, const panel *s, const double *values, bool plain)
{
    svg_curve(f, plain ? "plain" : "aligned", &s->x, &s->y, p->t, values, p->steps);
    for (size_t i = 0; i < p->steps; i++)
        svg_dot(f, plain ? "p-dot" : "a-dot", svg_at(&s->x, p->t[i]), svg_at(&s->y, values[i]), p->steps > 41 ? 1.2 : plain ? 2.2 : 3.6,
                "t = %.4g%s: %.*f%s", p->t[i], plain ? ", without alignment" : "", s->digits + 1, values[i] * s->factor, s->unit);
}

static void draw_parents(FILE *f, const path_scores *p, const panel *s)
{
    svg_line(f, "chord", s->x.from, svg_at(&s->y, s->parents[0]), s->x.to, svg_at(&s->y, s->parents[1]));
    for (int k = 0; k < 2; k++)
        svg_dot(f, "parent", k ? s->x.to : s->x.from, svg_at(&s->y, s->parents[k]), 5, "%s: %.*f%s", p->names[k], s->digits + 1,
                s->parents[k] * s->factor, s->unit);
}

/* Labels to the right of the panel: the curves' last points and B, kept apart from each other in the order of their values. */
static void draw_ends(FILE *f, const path_scores *p, const panel *s)
{
    enum { APART = 17 };
    struct label {
        const char *cls, *text;
        double value, at;
    } labels[3] = {{"", "B", s->parents[1], 0}, {"a-ink", "B aligned", s->aligned[p->steps - 1], 0},
                   {"p-ink", "B, its weights", s->plain ? s->plain[p->steps - 1] : NAN, 0}};
    size_t n = s->plain && fabs(s->plain[p->steps - 1] - s->parents[1]) > 1e-6 * fabs(s->parents[1]) ? 3 : 2;
    for (size_t i = 0; i < n; i++)
        labels[i].at = svg_at(&s->y, labels[i].value);
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && labels[j].at < labels[j - 1].at; j--) {
            struct label swap = labels[j];
            labels[j] = labels[j - 1];
            labels[j - 1] = swap;
        }
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            labels[i].at = fmax(labels[i].at, labels[i - 1].at + APART);
        svg_text(f, labels[i].cls, LABELS, labels[i].at + 4, "%s  %.*f%s", labels[i].text, s->digits, labels[i].value * s->factor, s->unit);
    }
}

/* The height of a barrier: from the line between the parents to the curve. */
static void draw_barrier(FILE *f, const path_scores *p, const panel *s, const path_curve *curve, bool plain)
{
    const double flat = 1e-3;
    double low = (1 - curve->at) * p->loss[0] + curve->at * p->loss[1];
    double x = svg_at(&s->x, curve->at) - (plain && curve->at == p->aligned.at ? 8 : 0), top = svg_at(&s->y, low + curve->barrier), bottom = svg_at(&s->y, low);
    bool right = curve->at > 0.5;
    char text[64];
    if (!(curve->barrier > flat * (s->y.hi - s->y.lo)))
        return;
    const char *line = plain ? "plain-gap" : "gap";
    svg_line(f, line, x, top, x, bottom);
    svg_line(f, line, x - 5, top, x + 5, top);
    svg_line(f, line, x - 5, bottom, x + 5, bottom);
    snprintf(text, sizeof text, "halo %s%s", plain ? "p-ink" : "g-ink", right ? " end" : "");
    svg_text(f, text, x + (right ? -9 : 9), top + (bottom - top) * (plain ? 0.3 : 0.6) + 4, "barrier %.3f nats", curve->barrier);
}

/* The label of A stands on the side that the aligned curve leaves free, and between the panel's title and the numbers under it. */
static void draw_start(FILE *f, const panel *s)
{
    enum { ABOVE = -10, BELOW = 20 };
    const double at = svg_at(&s->y, s->parents[0]), next = svg_at(&s->y, s->aligned[1]);
    double by = next > at ? ABOVE : BELOW;
    by = at + by < s->y.to + 8 ? BELOW : at + by > s->y.from - 3 ? ABOVE : by;
    svg_text(f, "halo", LEFT + 12, at + by, "A  %.*f%s", s->digits, s->parents[0] * s->factor, s->unit);
}

static void draw_panel(FILE *f, const path_scores *p, const panel *s)
{
    svg_text(f, "name", LEFT, s->y.to - 16, "%s", s->title);
    svg_grid(f, &s->x, &s->y, s->factor, s->unit);
    draw_parents(f, p, s);
    if (s->plain)
        draw_curve(f, p, s, s->plain, true);
    draw_curve(f, p, s, s->aligned, false);
    draw_start(f, s);
    draw_ends(f, p, s);
}

static void draw_t(FILE *f, const svg_axis *x, double bottom)
{
    for (int i = 0; i <= 10; i++)
        svg_text(f, "tick mid", svg_at(x, i / 10.0), bottom + 18, "%.1f", i / 10.0);
    svg_text(f, "soft mid", (x->from + x->to) / 2, bottom + 38, "t, the weight of B: (1 \xe2\x88\x92 t) A + t B aligned");
}

static void draw_legend(FILE *f, const path_scores *p)
{
    const double y = 76;
    svg_line(f, "aligned", LEFT, y - 4, LEFT + 30, y - 4);
    svg_text(f, "", LEFT + 38, y, "B aligned (%s)", p->strategy);
    if (p->plain.loss) {
        svg_line(f, "plain", 268, y - 4, 298, y - 4);
        svg_text(f, "", 306, y, "without alignment");
    }
    svg_line(f, "chord", 458, y - 4, 488, y - 4);
    svg_dot(f, "parent", 473, y - 4, 5, "parents");
    svg_text(f, "", 496, y, "the parents");
}

static bool starts_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

/* Bytes of the first `count` characters of n bytes of text; all where there are fewer. */
static size_t first_characters(const char *text, size_t n, size_t count)
{
    size_t i = 0;
    for (size_t seen = 0; i < n; i++)
        if (starts_character(text[i]) && seen++ == count)
            break;
    return i;
}

/* The last part of a path, of which both ends stay where it is longer than a title holds; a '/' at the end does not count. */
static const char *short_name(const char *path, char *name, size_t size)
{
    enum { MOST = 26, HEAD = 12, TAIL = 13 };
    size_t n = strlen(path), count = 0;
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/')
        start--;
    path += start;
    n -= start;
    for (size_t i = 0; i < n; i++)
        count += starts_character(path[i]);
    if (count <= MOST) {
        snprintf(name, size, "%.*s", (int)n, path);
        return name;
    }
    const size_t tail = first_characters(path, n, count - TAIL);
    snprintf(name, size, "%.*s\xe2\x80\xa6%.*s", (int)first_characters(path, n, HEAD), path, (int)(n - tail), path + tail);
    return name;
}

void draw_path(FILE *f, const void *scores)
{
    const path_scores *p = scores;
    char a[128], b[128]; /* 26 characters of 4 bytes */
    svg_axis x = {0, 1, 0.1, LEFT, RIGHT};
    panel loss = {"loss (nats, mean)", "", p->aligned.loss, p->plain.loss, p->loss, 1, 3, x, x};
    panel accuracy = {"accuracy", " %", p->aligned.accuracy, p->plain.accuracy, p->accuracy, 100, 1, x, x};
    loss.y = fit(p, &loss, 338, 122);
    accuracy.y = fit(p, &accuracy, 584, 400);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n<style>", WIDTH,
            HEIGHT, WIDTH, HEIGHT);
    for (size_t i = 0; i < sizeof style / sizeof *style; i++)
        fputs(style[i], f);
    fprintf(f, "</style>\n<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", WIDTH, HEIGHT);
    svg_text(f, "title", LEFT, 34, "From A = %s to B = %s", short_name(p->names[0], a, sizeof a), short_name(p->names[1], b, sizeof b));
    svg_text(f, "soft", LEFT, 54, "fused models on the straight line, %lld inputs, %zu points", (long long)p->samples, p->steps);
    draw_legend(f, p);
    draw_panel(f, p, &loss);
    if (p->plain.loss)
        draw_barrier(f, p, &loss, &p->plain, true);
    draw_barrier(f, p, &loss, &p->aligned, false);
    draw_panel(f, p, &accuracy);
    draw_t(f, &x, 584);
    fputs("</svg>\n", f);
}
