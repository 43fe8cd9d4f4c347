/* SPDX-License-Identifier: Apache-2.0
 *
 * stages.c: what repair did, as a part of the page of a plan: how far the network was from the ensemble from stage to stage, and how well each linear
 * gave what it was fitted to, before and after.
 */
#include "page.h"
#include "svg.h"

#include <math.h>
#include <string.h>

static double number_of(const json_t *row, const char *key)
{
    const json_t *x = json_object_get(row, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static const char *model_name(const page *p, size_t k)
{
    const char *name = json_string_value(json_object_get(json_array_get(json_object_get(p->report, "models"), k), "name"));
    return name ? name : "?";
}

/* ---- the distance from the ensemble ---------------------------------------------------------------------------------- */

static void print_step(FILE *f, const char *what, double kl, double most, const char *cls)
{
    if (!isfinite(kl))
        return;
    fputs("<tr><td class=\"name\">", f);
    print_escaped(f, what);
    fprintf(f, "</td><td>%.5f</td><td class=\"name\"><span class=\"bar%s\" style=\"width:%.0fpx\"></span></td></tr>\n", shown(kl, 5), cls,
            most > 0 ? 320 * fmax(0, fmin(1, kl / most)) : 0);
}

static void print_mixes(FILE *f, const page *p, const json_t *mixes, double most)
{
    size_t i;
    json_t *row;
    json_array_foreach(mixes, i, row) {
        char what[320];
        const json_t *lead = json_object_get(row, "lead");
        if (json_is_integer(lead))
            snprintf(what, sizeof what, "mix: %.0f %% of %s, on held-out samples", 100 * number_of(row, "share"),
                     model_name(p, (size_t)json_integer_value(lead)));
        else
            snprintf(what, sizeof what, "mix: all by their weights, on held-out samples");
        print_step(f, what, number_of(row, "kl"), most, " pale");
    }
}

static double most_of(const json_t *repair, const json_t *mixes)
{
    const double refit = number_of(repair, "kl_refit"), fused = number_of(repair, "kl_fused"), anchor = number_of(repair, "kl_anchor");
    double most = fmax(fmax(isfinite(refit) ? refit : 0, isfinite(fused) ? fused : 0), isfinite(anchor) ? anchor : 0);
    size_t i;
    json_t *row;
    json_array_foreach(mixes, i, row)
        most = fmax(most, isfinite(number_of(row, "kl")) ? number_of(row, "kl") : 0);
    return most;
}

static void print_distance(FILE *f, const page *p, const json_t *repair)
{
    const json_t *mixes = json_object_get(repair, "mixes");
    const double most = most_of(repair, mixes);
    if (!isfinite(number_of(repair, "kl_fused")))
        return;
    fputs("<h3>Distance from the ensemble (Kullback-Leibler, nats)</h3>\n<table class=\"plain\"><tbody>\n", f);
    print_step(f, "the anchor alone", number_of(repair, "kl_anchor"), most, " pale");
    print_mixes(f, p, mixes, most);
    print_step(f, "before the last linear is fitted", number_of(repair, "kl_refit"), most, "");
    print_step(f, "the fused network", number_of(repair, "kl_fused"), most, "");
    fputs("</tbody></table>\n", f);
    if (json_is_true(json_object_get(repair, "worse")))
        fputs("<p class=\"warn\">The fused network is farther from the ensemble than the anchor alone.</p>\n", f);
}

/* ---- linears --------------------------------------------------------------------------------------------------------------- */

static void print_error(FILE *f, double x)
{
    if (isfinite(x))
        fprintf(f, "<td data-v=\"%.17g\">%.3g %%</td>", x, 100 * x);
    else
        fputs("<td data-v=\"\">\xe2\x80\x93</td>", f);
}

static void print_number_cell(FILE *f, double x)
{
    if (isfinite(x))
        fprintf(f, "<td data-v=\"%.17g\">%.3g</td>", x, x);
    else
        fputs("<td data-v=\"\">\xe2\x80\x93</td>", f);
}

static void print_linears(FILE *f, const json_t *linears)
{
    size_t i;
    json_t *row;
    fputs("<details><summary>Every linear</summary><div class=\"wide\"><table class=\"sortable\"><thead><tr><th class=\"name\">linear</th>"
          "<th>before</th><th>after</th><th>left of it</th><th>ridge</th><th>part of the way</th></tr></thead><tbody>\n", f);
    json_array_foreach(linears, i, row) {
        const double before = number_of(row, "before"), after = number_of(row, "after");
        const char *name = json_string_value(json_object_get(row, "name"));
        fputs("<tr><td class=\"name\">", f);
        print_escaped(f, name ? name : "?");
        fputs("</td>", f);
        print_error(f, before);
        print_error(f, after);
        print_error(f, before > 0 ? after / before : NAN);
        print_number_cell(f, number_of(row, "ridge"));
        print_number_cell(f, number_of(row, "step"));
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div></details>\n", f);
}

static void print_head(FILE *f, const page *p, const json_t *repair)
{
    const json_t *mix = json_object_get(repair, "mix");
    size_t i;
    json_t *x;
    fputs("<h2>Repair</h2>\n<p>Stages: ", f);
    json_array_foreach(json_object_get(repair, "stages"), i, x) {
        fputs(i ? ", " : "", f);
        print_escaped(f, json_string_value(x) ? json_string_value(x) : "?");
    }
    const double samples = number_of(repair, "samples");
    if (samples > 0)
        fprintf(f, "; %.0f calibration samples", samples);
    json_array_foreach(mix, i, x) {
        fputs(i ? ", " : ". Shares of what is fitted to: ", f);
        print_escaped(f, model_name(p, i));
        fprintf(f, " %.0f %%", 100 * json_number_value(x));
    }
    fputs(".</p>\n", f);
}

void print_stages(FILE *f, const page *p)
{
    const json_t *repair = json_object_get(p->report, "repair"), *linears = json_object_get(repair, "linears");
    if (!json_is_object(repair))
        return;
    print_head(f, p, repair);
    print_distance(f, p, repair);
    if (!json_array_size(linears) || !p->linears)
        return;
    fputs("<h3>Calibration error of each linear, by layer</h3>\n<p class=\"soft\">What the linear gives on the fused network\xe2\x80\x99s own inputs "
          "against what it is fitted to: squared error on held-out samples over the target\xe2\x80\x99s square. Before: with the combined weights, after "
          "all earlier layers were repaired.</p>\n", f);
    print_linear_charts(f, p->linears);
    print_linears(f, linears);
}
