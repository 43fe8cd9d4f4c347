/* SPDX-License-Identifier: Apache-2.0
 *
 * page.c: gathers what the page of a plan shows: its maps and their pictures.
 */
#include "page.h"

#include <math.h>
#include <stdlib.h>

/* Pixels of all pictures together; with that a page stays within a few MB. */
#define PIXELS 3e6
enum { LEAST_SIDE = 32, MOST_SIDE = 384 };

static int take_map(const tool *t, const tfuse_plan *plan, size_t index, size_t side, page_map *map)
{
    tfuse_array *matrix = NULL;
    map->info.struct_size = sizeof map->info;
    int code = library_status(t, tfuse_plan_map(plan, index, &map->info));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_plan_matrix(t->ctx, plan, index, &matrix));
    if (code != EXIT_DONE)
        return code;
    const size_t n = (size_t)map->info.n, m = (size_t)map->info.m;
    if (heat_make(tfuse_array_data(matrix), n, m, side, &map->picture) != 0)
        code = fail("out of memory");
    tfuse_array_free(matrix);
    return code;
}

static size_t picture_side(size_t maps)
{
    double side = sqrt(PIXELS / (double)(maps ? maps : 1));
    return side < LEAST_SIDE ? LEAST_SIDE : side > MOST_SIDE ? MOST_SIDE : (size_t)side;
}

static int make_room(page *p, size_t n)
{
    p->n = n;
    p->maps = calloc(n + 1, sizeof *p->maps);
    p->indices = calloc(5 * (n + 1), sizeof *p->indices);
    p->values = calloc(2 * (n + 1), sizeof *p->values);
    return p->maps && p->indices && p->values ? EXIT_DONE : fail("out of memory");
}

static void free_room(page *p)
{
    for (size_t i = 0; p->maps && i < p->n; i++)
        heat_free(&p->maps[i].picture);
    free(p->values);
    free(p->indices);
    free(p->maps);
}

/* The linears that were repaired, as the charts take maps. Names are the report's. */
static int take_linears(const json_t *report, page *out)
{
    const json_t *rows = json_object_get(json_object_get(report, "repair"), "linears");
    size_t i;
    json_t *row;
    int code = make_room(out, json_array_size(rows));
    json_array_foreach(rows, i, row) {
        if (code != EXIT_DONE)
            break;
        out->maps[i].info.name = json_string_value(json_object_get(row, "name"));
        out->maps[i].info.cost = json_number_value(json_object_get(row, "before"));
        out->maps[i].info.gap = json_number_value(json_object_get(row, "after"));
    }
    return code;
}

int save_plan_page(const tool *t, const tfuse_plan *plan, const json_t *report, const char *path)
{
    page linears = {0}, p = {.report = report, .totals = total_maps(plan), .linears = &linears};
    const json_t *rows = json_object_get(report, "maps");
    int code = make_room(&p, tfuse_plan_count(plan));
    if (code == EXIT_DONE)
        code = take_linears(report, &linears);
    for (size_t i = 0; code == EXIT_DONE && i < p.n; i++) {
        const char *solver = json_string_value(json_object_get(json_array_get(rows, i), "solver"));
        p.maps[i].solver = solver && *solver ? solver : NULL;
        code = take_map(t, plan, i, picture_side(p.n), &p.maps[i]);
    }
    if (code == EXIT_DONE)
        code = save_file(t, path, print_page, &p);
    free_room(&linears);
    free_room(&p);
    return code;
}
