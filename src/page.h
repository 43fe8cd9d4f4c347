/* SPDX-License-Identifier: Apache-2.0
 *
 * page.h: the page that `tfuse plan --html` writes: gathered by page.c, which may fail, and printed by html.c, which cannot.
 */
#ifndef PAGE_H
#define PAGE_H

#include "heat.h"
#include "tool.h"

typedef struct page_map {
    tfuse_map_info info;
    const char *solver; /* NULL where none ran */
    heat picture;
} page_map;

typedef struct page {
    const json_t *report;
    map_totals totals;
    size_t n;
    page_map *maps;
    size_t *indices; /* room for charts: 5 (n + 1), and 2 (n + 1) values */
    double *values;
    const struct page *linears; /* repaired ones in place of maps: name, and cost and gap for the error before and after; NULL: none */
} page;

/* Makes the page of a plan. */
int save_plan_page(const tool *t, const tfuse_plan *plan, const json_t *report, const char *path);
void print_page(FILE *f, const void *subject); /* a const page * */

/* charts.c: what each map of one model cost, and so on, by layer. */
void print_charts(FILE *f, const page *p, int64_t model);
void print_linear_charts(FILE *f, const page *linears);
/* stages.c: what repair did; nothing where the plan does not tell. */
void print_stages(FILE *f, const page *p);

#endif
