/* SPDX-License-Identifier: Apache-2.0
 *
 * html.c: the page of a plan: one file, nothing fetched. Everything that comes from a plan is escaped, and goes into text alone: never
 * into an address, a script or a style.
 */
#include "page.h"
#include "svg.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is the same on every page -------------------------------------------------------------------------- */

static const char *const style[] = {
    ":root{color-scheme:light dark;--paper:#fff;--card:#f5f7fa;--ink:#1c2430;--soft:#5c6776;--grid:#e1e6ec;--axis:#8b95a3;--link:#0b62c4;--warn:#b3261e}",
    "@media(prefers-color-scheme:dark){:root{--paper:#14181f;--card:#1d232c;--ink:#e8ecf2;--soft:#a3adba;--grid:#2c343f;--axis:#667182;",
    "--link:#6db1ff;--warn:#ff7a70}}",
    "body{margin:0 auto;max-width:1240px;padding:24px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,'DejaVu Sans',sans-serif}",
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 10px}h3{font-size:15px;margin:22px 0 8px}p{max-width:860px}a{color:var(--link)}",
    ".soft,figcaption small,.none{color:var(--soft)}code{font:13px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}",
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0}",
    ".cards div{background:var(--card);border-radius:8px;padding:12px 16px}.cards b{display:block;font-size:22px;font-weight:600}",
    ".cards span{color:var(--soft);font-size:13px}.warn{color:var(--warn)}",
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:14px}figure{margin:0}",
    ".chart{background:var(--card);border-radius:8px;padding:12px 14px}.chart figcaption{font-weight:600;margin-bottom:6px}",
    "svg{width:100%;height:auto;display:block}text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:var(--soft)}",
    ".end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}.line{fill:none;stroke-width:1.6;opacity:.75}",
    ".key span{display:inline-block;margin-right:16px;font-size:13px}.key i{display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:6px}",
    "table{border-collapse:collapse;width:100%;font-size:13px}.wide{overflow-x:auto}th,td{padding:4px 6px;text-align:right;white-space:nowrap;",
    "border-bottom:1px solid var(--grid)}th{color:var(--soft);font-weight:600;cursor:pointer;user-select:none}th.up::after{content:' \\2191'}",
    "th.down::after{content:' \\2193'}.name{text-align:left}.heats{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:20px 18px}",
    ".heats img{width:100%;height:auto;image-rendering:pixelated;border:1px solid var(--axis);cursor:zoom-in;display:block;box-sizing:border-box}",
    ".heats figure.big{grid-column:1/-1}.heats figure.big img{width:min(860px,100%);cursor:zoom-out}.heats figcaption{font-size:13px;",
    "overflow-wrap:anywhere;margin-top:5px;line-height:1.4}.heats figcaption b{font-weight:600}.heats figure:target img{outline:3px solid var(--link)}",
    "#tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--paper);font-size:12px;padding:4px 8px;border-radius:4px;z-index:2}",
    ".ramp{display:inline-block;width:170px;height:11px;vertical-align:middle;margin:0 8px;border:1px solid var(--axis);background:linear-gradient(90deg,",
    "rgb(250,251,253),rgb(52,120,196),rgb(8,24,64))}.bar{display:inline-block;height:8px;background:var(--link);vertical-align:middle;margin-right:8px;",
    "border-radius:2px}.bar.pale{opacity:.4}.scale{white-space:nowrap}table.plain{width:auto}summary{cursor:pointer;margin:14px 0 6px;font-weight:600}",
};

/* A colour for each role: a line, a dot, a mark in the key. */
static const char *const colours[] = {"#2f7ed8", "#e0701a", "#2c9c5a", "#c9384a", "#8d62c9", "#8a6250", "#d060a8", "#7a8694", "#a8a020", "#18a5b8",
                                      "#1f4f9e", "#e0a81a", "#6fbf3a", "#5d4bb0"};

/* Pointing at a picture says which units and how much; a click makes it large; a click on a head sorts the table. */
static const char *const script[] = {
    "'use strict';const tip=document.getElementById('tip'),cache=new Map();",
    "function levels(signed){const p=document.body.dataset[signed?'signed':'plain'],m=new Map();",
    "for(let i=0;i<256;i++)m.set(p.slice(6*i,6*i+6),i);return m}",
    "function pixels(img){if(!cache.has(img)){const c=document.createElement('canvas');c.width=img.naturalWidth;c.height=img.naturalHeight;",
    "const x=c.getContext('2d');x.drawImage(img,0,0);cache.set(img,{data:x.getImageData(0,0,c.width,c.height).data,of:levels(+img.dataset.signed)})}",
    "return cache.get(img)}",
    "function value(img,r,c){const p=pixels(img),k=4*(r*img.naturalWidth+c),hex=[0,1,2].map(i=>p.data[k+i].toString(16).padStart(2,'0')).join('');",
    "const l=p.of.get(hex),max=+img.dataset.max;if(l===undefined)return null;",
    "if(+img.dataset.signed){const t=(l-128)/127;return Math.sign(t)*t*t*max}return l/255*l/255*max}",
    "function span(i,pixels,units){const a=Math.floor(i*units/pixels),b=Math.floor((i+1)*units/pixels)-1;return a===b?a:a+'\\u2013'+b}",
    "for(const img of document.querySelectorAll('.heats img')){",
    "img.addEventListener('mousemove',e=>{const b=img.getBoundingClientRect(),w=img.naturalWidth,h=img.naturalHeight;",
    "const c=Math.min(w-1,Math.max(0,Math.floor((e.clientX-b.left)/b.width*w))),r=Math.min(h-1,Math.max(0,Math.floor((e.clientY-b.top)/b.height*h)));",
    "const v=value(img,r,c);tip.hidden=false;tip.textContent='unit '+span(r,h,+img.dataset.n)+' of the model \\u2192 unit '+span(c,w,+img.dataset.m)+",
    "' of the anchor'+(v===null?'':': '+(v===0?'0':'about '+v.toPrecision(2)));",
    "const left=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8);tip.style.left=left+'px';tip.style.top=e.clientY+18+'px'});",
    "img.addEventListener('mouseleave',()=>{tip.hidden=true});",
    "img.addEventListener('click',()=>img.parentNode.classList.toggle('big'))}",
    "for(const table of document.querySelectorAll('table.sortable'))for(const th of table.tHead.rows[0].cells)th.addEventListener('click',()=>{",
    "const up=!th.classList.contains('up'),k=th.cellIndex,key=r=>{const s=r.cells[k].dataset.v;return s===undefined?r.cells[k].textContent:",
    "s===''?-Infinity:+s};for(const o of table.tHead.rows[0].cells)o.className=o.className.replace(/ ?(up|down)/,'');",
    "th.classList.add(up?'up':'down');",
    "const rows=[...table.tBodies[0].rows].sort((a,b)=>{const x=key(a),y=key(b);return (x<y?-1:x>y?1:0)*(up?1:-1)});",
    "table.tBodies[0].append(...rows)});",
};

static void print_lines(FILE *f, const char *const *lines, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s\n", lines[i]);
}

#define PRINT_LINES(f, lines) print_lines(f, lines, sizeof(lines) / sizeof *(lines))

static void print_style(FILE *f)
{
    fputs("<style>\n", f);
    PRINT_LINES(f, style);
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        fprintf(f, ".line.c%zu{stroke:%s}.dot.c%zu{fill:%s}.b%zu{background:%s}\n", i, colours[i], i, colours[i], i, colours[i]);
    fputs("</style>\n", f);
}

/* ---- pieces -------------------------------------------------------------------------------------------------- */

static void print_number_or_dash(FILE *f, double x, int digits, const char *unit)
{
    if (isfinite(x))
        fprintf(f, "%.*g%s", digits, x, unit);
    else
        fputs("\xe2\x80\x93", f);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_card(FILE *f, const char *label, double x, int digits, const char *unit, bool warn)
{
    fprintf(f, "<div><b%s>", warn ? " class=\"warn\"" : "");
    print_number_or_dash(f, x, digits, unit);
    fprintf(f, "</b><span>%s</span></div>\n", label);
}

static double least_kept(const page *p)
{
    double least = NAN;
    for (size_t i = 0; i < p->n; i++)
        least = p->maps[i].info.kept < least || isnan(least) ? p->maps[i].info.kept : least;
    return least;
}

static double off_diagonal(const page_map *m) { return m->info.identity; }
static double correlation(const page_map *m) { return m->info.correlation; }

static double mean_of(const page *p, double (*value)(const page_map *map))
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (isfinite(value(&p->maps[i]))) {
            sum += value(&p->maps[i]);
            n++;
        }
    return n > 0 ? sum / n : NAN;
}

static void print_cards(FILE *f, const page *p)
{
    const map_totals *t = &p->totals;
    fputs("<div class=\"cards\">\n", f);
    print_card(f, "maps", (double)t->maps, 9, "", false);
    print_card(f, "problems solved", (double)t->solved, 9, "", false);
    print_card(f, "not converged", (double)t->unconverged, 9, "", t->unconverged > 0);
    print_card(f, "sum of costs", t->solved ? t->cost : NAN, 4, "", false);
    print_card(f, "largest gap", t->gap, 3, "", false);
    print_card(f, "off the diagonal, mean", 100 * mean_of(p, off_diagonal), 3, " %", false);
    print_card(f, "matched correlation, mean", mean_of(p, correlation), 3, "", false);
    print_card(f, "least variance kept", 100 * least_kept(p), 3, " %", false);
    fputs("</div>\n", f);
}

/* ---- provenance ---------------------------------------------------------------------------------------------- */

static void print_row(FILE *f, size_t n, ...)
{
    va_list cells;
    va_start(cells, n);
    fputs("<tr>", f);
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "<td class=\"name\">%s", i ? "<code>" : "");
        print_escaped(f, va_arg(cells, const char *));
        fprintf(f, "%s</td>", i ? "</code>" : "");
    }
    fputs("</tr>\n", f);
    va_end(cells);
}

/* The strategy's objective after each round, a row a model. */
static void print_objective(FILE *f, const json_t *objective)
{
    size_t k, i, most = 0;
    json_t *rounds, *value;
    json_array_foreach(objective, k, rounds)
        most = json_array_size(rounds) > most ? json_array_size(rounds) : most;
    if (!most)
        return;
    fputs("<h3>Mean correlation of what is matched, by round</h3>\n<div class=\"wide\"><table><tbody>\n", f);
    json_array_foreach(objective, k, rounds) {
        if (json_array_size(rounds))
            fprintf(f, "<tr><td class=\"name\">model %zu</td>", k);
        json_array_foreach(rounds, i, value)
            fprintf(f, "<td>%.4f</td>", shown(json_number_value(value), 4));
        if (json_array_size(rounds))
            fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static void print_provenance(FILE *f, const page *p)
{
    size_t i;
    const char *key;
    json_t *value;
    fputs("<h2>Where it comes from</h2>\n<div class=\"wide\"><table><thead><tr><th class=\"name\">model</th><th class=\"name\">name</th>"
          "<th class=\"name\">graph</th><th class=\"name\">header</th><th class=\"name\">weights</th></tr></thead><tbody>\n", f);
    json_array_foreach(json_object_get(p->report, "models"), i, value) {
        char which[32];
        snprintf(which, sizeof which, i ? "%zu" : "anchor", i);
        print_row(f, 5, which, text_of(value, "name"), text_of(value, "graph"), text_of(value, "header"), text_of(value, "weights"));
    }
    fputs("</tbody></table></div>\n<h3>Keys that were set</h3>\n", f);
    json_t *policy = json_object_get(p->report, "policy");
    fputs(json_object_size(policy) ? "<table><tbody>\n" : "<p class=\"soft\">None: every key had its default.</p>\n", f);
    json_object_foreach(policy, key, value)
        print_row(f, 2, key, json_string_value(value) ? json_string_value(value) : "");
    fputs(json_object_size(policy) ? "</tbody></table>\n<h3>Passes</h3>\n<p>" : "<h3>Passes</h3>\n<p>", f);
    json_t *passes = json_object_get(p->report, "passes");
    json_array_foreach(passes, i, value) {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        fputs(i ? ", <code>" : "<code>", f);
        print_escaped(f, text ? text : json_is_string(value) ? json_string_value(value) : "?");
        fputs("</code>", f);
        free(text);
    }
    fputs(json_array_size(passes) ? "</p>\n" : "<span class=\"soft\">None: weights were taken as they are.</span></p>\n", f);
    print_objective(f, json_object_get(p->report, "objective"));
}

/* ---- the table ----------------------------------------------------------------------------------------------- */

static void print_cell(FILE *f, double x, int digits, const char *unit)
{
    if (isfinite(x))
        fprintf(f, "<td data-v=\"%.17g\">%.*g%s</td>", x, digits, x, unit);
    else
        fputs("<td data-v=\"\">\xe2\x80\x93</td>", f);
}

static void print_name(FILE *f, const char *text)
{
    fputs("<td class=\"name\">", f);
    print_escaped(f, text);
    fputs("</td>", f);
}

static void cell_axis(FILE *f, const page_map *m) { print_name(f, m->info.axis); }
static void cell_model(FILE *f, const page_map *m) { print_cell(f, (double)m->info.model, 9, ""); }
static void cell_kind(FILE *f, const page_map *m) { print_name(f, m->info.kind); }
static void cell_solver(FILE *f, const page_map *m) { print_name(f, m->solver ? m->solver : "\xe2\x80\x93"); }
static void cell_n(FILE *f, const page_map *m) { print_cell(f, (double)m->info.n, 9, ""); }
static void cell_m(FILE *f, const page_map *m) { print_cell(f, (double)m->info.m, 9, ""); }
static void cell_cost(FILE *f, const page_map *m) { print_cell(f, m->info.cost, 5, ""); }
static void cell_gap(FILE *f, const page_map *m) { print_cell(f, m->info.gap, 3, ""); }
static void cell_error(FILE *f, const page_map *m) { print_cell(f, m->solver ? m->info.error : NAN, 2, ""); }
static void cell_identity(FILE *f, const page_map *m) { print_cell(f, 100 * m->info.identity, 4, " %"); }
static void cell_spread(FILE *f, const page_map *m) { print_cell(f, m->info.entropy, 4, ""); }
static void cell_correlation(FILE *f, const page_map *m) { print_cell(f, m->info.correlation, 3, ""); }
static void cell_iterations(FILE *f, const page_map *m) { print_cell(f, m->solver ? (double)m->info.iterations : NAN, 9, ""); }

static void cell_kept(FILE *f, const page_map *m)
{
    if (isfinite(m->info.kept))
        fprintf(f, "<td data-v=\"%.17g\"><span class=\"bar\" style=\"width:%.0fpx\"></span>%.1f %%</td>", m->info.kept,
                60 * fmin(1, fmax(0, m->info.kept)), 100 * m->info.kept);
    else
        print_cell(f, NAN, 1, "");
}

static void cell_converged(FILE *f, const page_map *m)
{
    fputs(!m->solver ? "<td>\xe2\x80\x93</td>" : m->info.converged ? "<td>yes</td>" : "<td class=\"warn\">no</td>", f);
}

static int says_axis(const page_map *m) { return strcmp(m->info.axis, m->info.name) != 0; }
static int says_model(const page_map *m) { return m->info.model > 1; }
static int says_gap(const page_map *m) { return isfinite(m->info.gap); }
static int says_error(const page_map *m) { return m->solver && isfinite(m->info.error); }
static int says_identity(const page_map *m) { return isfinite(m->info.identity); }

/* Behind the map's name. A column is there where a map says something in it; NULL: always. */
static const struct column {
    const char *head;
    int is_text;
    void (*cell)(FILE *f, const page_map *m);
    int (*says)(const page_map *m);
} columns[] = {
    {"axis", 1, cell_axis, says_axis}, {"model", 0, cell_model, says_model}, {"kind", 1, cell_kind, NULL}, {"solver", 1, cell_solver, NULL},
    {"n", 0, cell_n, NULL}, {"m", 0, cell_m, NULL}, {"cost", 0, cell_cost, NULL}, {"gap", 0, cell_gap, says_gap},
    {"marginal error", 0, cell_error, says_error}, {"off diagonal", 0, cell_identity, says_identity}, {"spread", 0, cell_spread, NULL},
    {"correlation", 0, cell_correlation, NULL}, {"variance kept", 0, cell_kept, NULL}, {"iterations", 0, cell_iterations, NULL},
    {"converged", 0, cell_converged, NULL},
};

static int is_shown(const page *p, const struct column *c)
{
    int any = !c->says;
    for (size_t i = 0; i < p->n && !any; i++)
        any = c->says(&p->maps[i]);
    return any;
}

static void print_table(FILE *f, const page *p)
{
    enum { COLUMNS = sizeof columns / sizeof *columns };
    int shows[COLUMNS];
    fputs("<h2>Every map</h2>\n<p class=\"soft\">A click on a head sorts. n units of the model go to m of the anchor. Spread is how many units share"
          " in one of the anchor\xe2\x80\x99s: 1 for a permutation. Maps without a solver join others, as a residual sum does.</p>\n"
          "<div class=\"wide\"><table class=\"sortable\"><thead><tr><th class=\"name\">map</th>", f);
    for (size_t c = 0; c < COLUMNS; c++) {
        shows[c] = is_shown(p, &columns[c]);
        if (shows[c])
            fprintf(f, "<th%s>%s</th>", columns[c].is_text ? " class=\"name\"" : "", columns[c].head);
    }
    fputs("</tr></thead><tbody>\n", f);
    for (size_t i = 0; i < p->n; i++) {
        fprintf(f, "<tr><td class=\"name\"><a href=\"#map-%zu\">", i);
        print_escaped(f, p->maps[i].info.name);
        fputs("</a></td>", f);
        for (size_t c = 0; c < COLUMNS; c++)
            if (shows[c])
                columns[c].cell(f, &p->maps[i]);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* ---- pictures ------------------------------------------------------------------------------------------------ */

static void print_picture(FILE *f, const page_map *m, size_t index)
{
    const heat *h = &m->picture;
    fprintf(f, "<figure id=\"map-%zu\"><img alt=\"\" data-n=\"%lld\" data-m=\"%lld\" data-max=\"%.6g\" data-signed=\"%d\"", index,
            (long long)m->info.n, (long long)m->info.m, h->largest, h->is_signed);
    fprintf(f, " src=\"data:image/png;base64,%s\"><figcaption><b>", h->png);
    print_escaped(f, m->info.name);
    fputs("</b><br><small>", f);
    print_escaped(f, m->info.kind);
    fprintf(f, ", %lld \xc3\x97 %lld, largest %.3g<br>", (long long)m->info.n, (long long)m->info.m, h->largest);
    fputs("cost ", f);
    print_number_or_dash(f, m->info.cost, 4, "");
    fputs(", correlation ", f);
    print_number_or_dash(f, m->info.correlation, 3, "");
    fputs(", keeps ", f);
    print_number_or_dash(f, 100 * m->info.kept, 3, " %");
    fputs("</small></figcaption></figure>\n", f);
}

static void print_model(FILE *f, const page *p, size_t k, const json_t *model, bool several)
{
    fputs("<h2>By layer", f);
    if (several) {
        fputs(": ", f);
        print_escaped(f, text_of(model, "name"));
    }
    fputs("</h2>\n", f);
    print_charts(f, p, (int64_t)k);
    fputs("<h2>The maps", f);
    if (several) {
        fputs(" of ", f);
        print_escaped(f, text_of(model, "name"));
    }
    fputs("</h2>\n<p class=\"soft\">A row is a unit of the model, a column a unit of the anchor; a column says what that unit receives. "
          "<span class=\"scale\">0<span class=\"ramp\"></span>"
          "largest</span>, by the square root; red is negative. A click makes a picture large; a pixel of a large map shows the "
          "strongest of the entries that it stands for.</p>\n<div class=\"heats\">\n", f);
    for (size_t i = 0; i < p->n; i++)
        if (p->maps[i].info.model == (int64_t)k)
            print_picture(f, &p->maps[i], i);
    fputs("</div>\n", f);
}

static void print_shrinking(FILE *f)
{
    fputs("<h2>What maps match, and what they lose</h2>\n<p><b>Matched correlation</b> is that of the anchor\xe2\x80\x99s units with those that they "
          "receive, by what the cost was made of: features of weights, activations, or both. Random units have about 0, copies 1.</p>\n<p><b>Variance "
          "kept</b> is what is left of the model\xe2\x80\x99s weights on an axis when the map carries them to the anchor and what reads them there takes them "
          "back: 1 \xe2\x88\x92 |B \xe2\x88\x92 B\xcc\x83|\xc2\xb2 / |B|\xc2\xb2. Permutations and rotations keep all. A soft map gives a unit of the anchor "
          "a weighted mean of several units; of n unlike units the plain mean keeps 1/n. A map onto fewer units drops or merges some. What is lost in one "
          "layer is missing in the next, so that a network fused by soft maps answers more weakly than its parents.</p>\n", f);
}

/* Units' owners as a strip of colour, the anchor's light: a piece for each run of units of one owner. */
static void print_strip(FILE *f, const json_t *owners, size_t models)
{
    const json_t *of = json_object_get(owners, "model");
    const size_t units = json_array_size(of);
    fprintf(f, "<svg width=\"360\" height=\"14\" viewBox=\"0 0 %zu 1\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">", units);
    for (size_t i = 0, end; i < units; i = end) {
        const json_int_t k = json_integer_value(json_array_get(of, i));
        for (end = i + 1; end < units && json_integer_value(json_array_get(of, end)) == k; end++)
            ;
        fprintf(f, "<rect x=\"%zu\" width=\"%zu\" height=\"1\" fill=\"hsl(%.0f 55%% %d%%)\"/>", i, end - i,
                210 + 360 * (double)k / (double)models, k ? 45 : 78);
    }
    fputs("</svg>", f);
}

static void print_owner_table(FILE *f, const page *p)
{
    const json_t *rows = json_object_get(p->report, "owners"), *models = json_object_get(p->report, "models");
    size_t i, k;
    json_t *row, *model;
    if (!json_array_size(rows))
        return;
    fputs("<h2>Whose units</h2>\n<p class=\"soft\">Where repair chose heads and hidden units instead of averaging them, each is one "
          "model\xe2\x80\x99s: how many, and which, in the anchor\xe2\x80\x99s order; the anchor\xe2\x80\x99s own are light.</p>\n"
          "<div class=\"wide\"><table><thead><tr><th class=\"name\">axis</th>", f);
    json_array_foreach(models, k, model) {
        fputs("<th>", f);
        print_escaped(f, text_of(model, "name"));
        fputs("</th>", f);
    }
    fputs("<th class=\"name\">units</th></tr></thead><tbody>\n", f);
    json_array_foreach(rows, i, row) {
        fputs("<tr>", f);
        print_name(f, text_of(row, "axis"));
        json_array_foreach(models, k, model)
            print_cell(f, (double)count_owned(row, k), 9, "");
        fputs("<td class=\"name\">", f);
        print_strip(f, row, json_array_size(models));
        fputs("</td></tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

void print_page(FILE *f, const void *subject)
{
    const page *p = subject;
    const json_t *models = json_object_get(p->report, "models");
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>", f);
    fputs("Plan: ", f);
    print_escaped(f, text_of(json_array_get(models, 0), "name"));
    fputs("</title>\n", f);
    print_style(f);
    fputs("</head>\n<body data-plain=\"", f);
    heat_palette(f, 0);
    fputs("\" data-signed=\"", f);
    heat_palette(f, 1);
    fputs("\">\n<h1>Plan: ", f);
    for (size_t k = 1; k < json_array_size(models); k++) {
        fputs(k > 1 ? ", " : "", f);
        print_escaped(f, text_of(json_array_get(models, k), "name"));
    }
    fputs(" onto ", f);
    print_escaped(f, text_of(json_array_get(models, 0), "name"));
    fputs("</h1>\n<p class=\"soft\">strategy ", f);
    print_escaped(f, text_of(p->report, "strategy"));
    fputs("; the last name is the anchor, whose coordinates a fused model has.</p>\n", f);
    if (p->n == 0)
        fputs("<p>It has no maps: every unit meets the one of the same place.</p>\n", f);
    else
        print_cards(f, p);
    for (size_t k = 1; p->n && k < json_array_size(models); k++)
        print_model(f, p, k, json_array_get(models, k), json_array_size(models) > 2);
    print_stages(f, p);
    print_owner_table(f, p);
    if (p->n) {
        print_shrinking(f);
        print_table(f, p);
    }
    print_provenance(f, p);
    fputs("<div id=\"tip\" hidden></div>\n<script>\n", f);
    PRINT_LINES(f, script);
    fputs("</script>\n</body></html>\n", f);
}
