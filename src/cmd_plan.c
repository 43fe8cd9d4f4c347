/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_plan.c: tfuse plan: a look into a plan.
 */
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int widest(const tfuse_plan *plan, int column)
{
    size_t width = 4;
    for (size_t i = 0; i < tfuse_plan_count(plan); i++) {
        tfuse_map_info map = {.struct_size = sizeof map};
        if (tfuse_plan_map(plan, i, &map) != TFUSE_OK)
            continue;
        size_t len = strlen(column == 0 ? map.name : map.axis);
        width = len > width ? len : width;
    }
    return width > 48 ? 48 : (int)width;
}

/* Eight wide; a dash where there is none. */
static void print_share(double x, int digits, const char *unit)
{
    if (isfinite(x))
        printf("%*.*f%s", 8 - (int)strlen(unit), digits, shown(x, digits), unit);
    else
        printf("%8s", "-");
}

static void print_maps(const tfuse_plan *plan)
{
    const int names = widest(plan, 0), axes = widest(plan, 1);
    print_text("map", names + 2);
    print_text("axis", axes + 2);
    printf("model  kind            n      m       cost        gap  off diagonal  spread  matched    kept\n");
    for (size_t i = 0; i < tfuse_plan_count(plan); i++) {
        tfuse_map_info map = {.struct_size = sizeof map};
        if (tfuse_plan_map(plan, i, &map) != TFUSE_OK)
            continue;
        print_text(map.name, names + 2);
        print_text(map.axis, axes + 2);
        printf("%5lld  %-11s %5lld  %5lld ", (long long)map.model, map.kind, (long long)map.n, (long long)map.m);
        print_number(map.cost);
        putchar(' ');
        print_number(map.gap);
        print_number(100 * map.identity);
        printf(" %%  %7.2f ", map.entropy);
        print_share(map.correlation, 4, "");
        print_share(100 * map.kept, 1, " %");
        printf("%s\n", map.converged ? "" : "  not converged");
    }
}

/* The strategy's objective after each round, a line a model. */
static void print_objective(const json_t *report)
{
    size_t k, i;
    json_t *rounds, *value;
    json_array_foreach(json_object_get(report, "objective"), k, rounds) {
        if (!json_array_size(rounds))
            continue;
        printf("  model %zu  mean correlation by round:", k);
        json_array_foreach(rounds, i, value)
            printf(" %.4f", shown(json_number_value(value), 4));
        putchar('\n');
    }
}

static void print_head(const json_t *report)
{
    size_t i;
    json_t *model;
    const char *key;
    json_t *value;
    printf("strategy ");
    print_text(json_string_value(json_object_get(report, "strategy")), 0);
    json_object_foreach(json_object_get(report, "policy"), key, value) {
        printf(", ");
        print_text(key, 0);
        putchar('=');
        print_text(json_string_value(value), 0);
    }
    putchar('\n');
    json_array_foreach(json_object_get(report, "models"), i, model) {
        printf(i == 0 ? "  anchor   " : "  model %zu  ", i);
        print_text(json_string_value(json_object_get(model, "name")), 24);
        printf("  graph %s  weights %s\n", json_string_value(json_object_get(model, "graph")),
               json_string_value(json_object_get(model, "weights")));
    }
}

int cmd_plan(tool *t)
{
    tfuse_plan *plan = NULL;
    json_t *report = NULL;
    int code = check_output(t, t->html, false);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_plan_load(t->ctx, t->args[0], &plan));
    if (code == EXIT_DONE)
        code = plan_object(t, plan, &report);
    if (code == EXIT_DONE && t->html)
        code = save_plan_page(t, plan, report, t->html);
    if (code == EXIT_DONE && t->json) {
        code = print_json(json_incref(report));
    } else if (code == EXIT_DONE) {
        map_totals totals = total_maps(plan);
        print_head(report);
        print_objective(report);
        print_maps(plan);
        print_heads(report, true);
        print_owners(report);
        print_totals(&totals);
        if (t->html)
            printf("page written to %s; open it in a browser\n", t->html);
    }
    json_decref(report);
    tfuse_plan_free(plan);
    return code;
}
