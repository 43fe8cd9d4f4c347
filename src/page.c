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

int save_plan_page(const tool *t, const tfuse_plan *plan, const json_t *report, const char *path)
{
    page p = {.report = report, .totals = total_maps(plan), .n = tfuse_plan_count(plan)};
    const json_t *rows = json_object_get(report, "maps");
    p.maps = calloc(p.n + 1, sizeof *p.maps);
    p.indices = calloc(5 * (p.n + 1), sizeof *p.indices);
    p.values = calloc(2 * (p.n + 1), sizeof *p.values);
    int code = p.maps && p.indices && p.values ? EXIT_DONE : fail("out of memory");
    for (size_t i = 0; code == EXIT_DONE && i < p.n; i++) {
        p.maps[i].solver = json_string_value(json_object_get(json_array_get(rows, i), "solver"));
        code = take_map(t, plan, i, picture_side(p.n), &p.maps[i]);
    }
    if (code == EXIT_DONE)
        code = save_file(t, path, print_page, &p);
    for (size_t i = 0; p.maps && i < p.n; i++)
        heat_free(&p.maps[i].picture);
    free(p.values);
    free(p.indices);
    free(p.maps);
    return code;
}
