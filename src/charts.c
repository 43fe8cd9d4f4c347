/* SPDX-License-Identifier: Apache-2.0
 *
 * charts.c: numbers of a plan's maps by layer, as SVG within the page: a chart for each number, a line for each role that a map has in
 * its layer. A map's name is read as LAYER/ROLE, at its last '/'; of a product of axes (LAYER/heads*LAYER/qk) its last factor.
 */
#include "page.h"
#include "svg.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 560, HEIGHT = 250, LEFT = 62, TOP = 16, BOTTOM = 208, COLOURS = 14, MOST_LABELS = 14 };

typedef struct chart {
    const char *title, *none; /* `none`: what to say when no map has the number */
    double factor;
    const char *unit;
    double (*value)(const page_map *map);
    int whole; /* 1: the axis runs from 0 to 1 */
} chart;

static double cost(const page_map *m) { return m->info.cost; }
static double gap(const page_map *m) { return m->info.gap; }
static double off_diagonal(const page_map *m) { return m->info.identity; }
static double correlation(const page_map *m) { return m->info.correlation; }
static double kept(const page_map *m) { return m->info.kept; }

static const chart charts[] = {
    {"Transport cost", "No problem was solved.", 1, "", cost, 0},
    {"Certified gap to the optimum", "None: no solver that certifies one ran (exact does).", 1, "", gap, 0},
    {"Distance from the identity (mass off the diagonal)", "The sizes differ.", 100, " %", off_diagonal, 1},
    {"Matched correlation", "Nothing was compared.", 1, "", correlation, 0},
    {"Variance kept (the rest is lost or averaged away)", "Not known.", 100, " %", kept, 1},
};

static double left(const page_map *m) { return m->info.cost > 0 ? m->info.gap / m->info.cost : NAN; }

static const chart linear_charts[] = {
    {"Before the fit", "Nothing was fitted.", 100, " %", cost, 0},
    {"After the fit", "Nothing was fitted.", 100, " %", gap, 0},
    {"What is left of the error", "Nothing was fitted.", 100, " %", left, 1},
};

/* The maps of one model, sorted into layers and roles, both in the order in which they are met. */
typedef struct grid {
    const page *p;
    size_t n, layers, roles; /* n: maps of this model */
    size_t *map, *layer, *role, *layer_first, *role_first;
} grid;

static const char *last_factor(const char *name)
{
    const char *star = strrchr(name, '*');
    return star ? star + 1 : name;
}

/* Of a last factor. */
static size_t layer_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) : strlen(name);
}

static const char *role_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : "(whole)";
}

static int same_layer(const char *a, const char *b)
{
    a = last_factor(a);
    b = last_factor(b);
    size_t n = layer_length(a);
    return n == layer_length(b) && memcmp(a, b, n) == 0;
}

static int same_role(const char *a, const char *b)
{
    return strcmp(role_of(a), role_of(b)) == 0;
}

/* Index of the first of `firsts` that is the same, after adding this one when there is none. */
static size_t place(const page *p, size_t map, size_t *firsts, size_t *count, int (*same)(const char *, const char *))
{
    size_t k = 0;
    while (k < *count && !same(p->maps[firsts[k]].info.name, p->maps[map].info.name))
        k++;
    if (k == *count)
        firsts[(*count)++] = map;
    return k;
}

static void sort_maps(grid *g, int64_t model)
{
    for (size_t i = 0; i < g->p->n; i++) {
        if (g->p->maps[i].info.model != model)
            continue;
        g->map[g->n] = i;
        g->layer[g->n] = place(g->p, i, g->layer_first, &g->layers, same_layer);
        g->role[g->n++] = place(g->p, i, g->role_first, &g->roles, same_role);
    }
}

static void print_layers(FILE *f, const grid *g, const svg_axis *x)
{
    const size_t every = (g->layers + MOST_LABELS - 1) / MOST_LABELS, last = g->layers - 1;
    for (size_t k = 0; k < g->layers; k += every) {
        const char *name = last_factor(g->p->maps[g->layer_first[k]].info.name);
        size_t n = layer_length(name);
        int cut = n > 10 && g->layers > 4 ? 10 : (int)n;
        int skip = n > 6 && !strncmp(name, "layer.", 6) ? 6 : 0;
        const int at_edge = k == last && k > 0 && n > 7; /* it ends where the curves do */
        svg_text(f, at_edge ? "tick end" : "tick mid", svg_at(x, (double)k) + (at_edge ? 16 : 0), BOTTOM + 17, "%.*s",
                 cut - (cut > skip ? skip : 0), name + skip);
    }
    svg_text(f, "soft mid", (x->from + x->to) / 2, BOTTOM + 36, "layer");
}

static int range(const grid *g, const chart *c, double *lo, double *hi)
{
    int any = 0;
    *lo = 0;
    *hi = c->whole;
    for (size_t i = 0; i < g->n; i++) {
        double v = c->value(&g->p->maps[g->map[i]]);
        any |= isfinite(v);
        *lo = isfinite(v) ? fmin(*lo, v) : *lo;
        *hi = isfinite(v) ? fmax(*hi, v) : *hi;
    }
    return any;
}

/* xs and ys have room for a point a layer. */
static void print_role(FILE *f, const grid *g, const chart *c, size_t role, const svg_axis *x, const svg_axis *y, double *xs, double *ys)
{
    char cls[32];
    size_t n = 0;
    snprintf(cls, sizeof cls, "line c%zu", role % COLOURS);
    for (size_t i = 0; i < g->n; i++)
        if (g->role[i] == role && n < g->layers) {
            xs[n] = (double)g->layer[i];
            ys[n++] = c->value(&g->p->maps[g->map[i]]);
        }
    svg_curve(f, cls, x, y, xs, ys, n);
    snprintf(cls, sizeof cls, "dot c%zu", role % COLOURS);
    for (size_t i = 0; i < g->n; i++) {
        const page_map *map = &g->p->maps[g->map[i]];
        double v = c->value(map);
        if (g->role[i] == role && isfinite(v))
            svg_dot(f, cls, svg_at(x, (double)g->layer[i]), svg_at(y, v), 3.2, "%s: %.4g%s", map->info.name, v * c->factor, c->unit);
    }
}

static void print_chart(FILE *f, const grid *g, const chart *c, double *room)
{
    double lo, hi, last = g->layers > 1 ? (double)(g->layers - 1) : 1;
    fputs("<figure class=\"chart\"><figcaption>", f);
    print_escaped(f, c->title);
    fputs("</figcaption>", f);
    if (!range(g, c, &lo, &hi)) {
        fprintf(f, "<p class=\"none\">%s</p></figure>\n", c->none);
        return;
    }
    if (lo >= 0 && hi <= 0) {
        fputs("<p class=\"none\">Exactly zero for every map that was solved.</p></figure>\n", f);
        return;
    }
    svg_axis x = {0, last, 1, LEFT + 18, WIDTH - 22}, frame = {0, 1, 1, LEFT, WIDTH - 6};
    svg_axis y = svg_axis_round(lo, hi, 4, BOTTOM, TOP);
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, HEIGHT);
    svg_grid(f, &frame, &y, c->factor, c->unit);
    print_layers(f, g, &x);
    for (size_t role = 0; role < g->roles; role++)
        print_role(f, g, c, role, &x, &y, room, room + g->layers);
    fputs("</svg></figure>\n", f);
}

static void print_key(FILE *f, const grid *g)
{
    fputs("<p class=\"key\">", f);
    for (size_t k = 0; k < g->roles; k++) {
        fprintf(f, "<span><i class=\"b%zu\"></i>", k % COLOURS);
        print_escaped(f, role_of(g->p->maps[g->role_first[k]].info.name));
        fputs("</span> ", f);
    }
    fputs("</p>\n", f);
}

static void print_set(FILE *f, const page *p, int64_t model, const chart *set, size_t n)
{
    const size_t step = p->n + 1;
    size_t *room = p->indices;
    grid g = {p, 0, 0, 0, room, room + step, room + 2 * step, room + 3 * step, room + 4 * step};
    sort_maps(&g, model);
    fputs("<div class=\"charts\">\n", f);
    for (size_t i = 0; i < n; i++)
        print_chart(f, &g, &set[i], p->values);
    fputs("</div>\n", f);
    print_key(f, &g);
}

void print_charts(FILE *f, const page *p, int64_t model)
{
    print_set(f, p, model, charts, sizeof charts / sizeof *charts);
}

void print_linear_charts(FILE *f, const page *linears)
{
    print_set(f, linears, 0, linear_charts, sizeof linear_charts / sizeof *linear_charts);
}
