/* SPDX-License-Identifier: Apache-2.0
 *
 * maps.c: making a plan or reading one, and summing up its maps.
 */
#include "tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

map_totals total_maps(const tfuse_plan *plan)
{
    map_totals totals = {.maps = tfuse_plan_count(plan), .gap = NAN};
    for (size_t i = 0; i < totals.maps; i++) {
        tfuse_map_info map = {.struct_size = sizeof map};
        if (tfuse_plan_map(plan, i, &map) != TFUSE_OK || !isfinite(map.cost))
            continue;
        totals.solved++;
        totals.cost += map.cost;
        totals.unconverged += !map.converged;
        if (!(map.gap <= totals.gap) && isfinite(map.gap))
            totals.gap = map.gap;
    }
    return totals;
}

void print_totals(const map_totals *totals)
{
    printf("  maps           %10zu  (%zu solved)\n", totals->maps, totals->solved);
    if (!totals->solved)
        return;
    printf("  total cost     ");
    print_number(totals->cost);
    printf("\n  worst gap      ");
    print_number(totals->gap);
    printf("\n  not converged  %10zu\n", totals->unconverged);
}

/* "1 from 3 (50 %) 4 (50 %)": heads with at least a twentieth. */
static void print_head(size_t head, const json_t *shares)
{
    size_t i;
    json_t *share;
    printf("%s %zu from", head ? "," : "", head);
    json_array_foreach(shares, i, share) {
        const double part = json_number_value(share);
        if (part >= 0.05)
            printf(part > 0.995 ? " %zu" : " %zu (%.0f %%)", i, 100 * part);
    }
}

void print_heads(const json_t *report, bool all)
{
    size_t i, head;
    json_t *map, *shares;
    json_array_foreach(json_object_get(report, "maps"), i, map) {
        const json_t *heads = json_object_get(map, "heads");
        if (!json_is_array(heads) || (!all && json_array_size(heads) == json_array_size(json_array_get(heads, 0))))
            continue;
        printf("  heads of ");
        print_text(json_string_value(json_object_get(map, "name")), 0);
        printf(", model %lld:", (long long)json_integer_value(json_object_get(map, "model")));
        json_array_foreach(heads, head, shares)
            print_head(head, shares);
        putchar('\n');
    }
}

size_t count_owned(const json_t *owners, size_t model)
{
    size_t i, count = 0;
    json_t *of;
    json_array_foreach(json_object_get(owners, "model"), i, of)
        count += json_integer_value(of) == (json_int_t)model;
    return count;
}

void print_owners(const json_t *report)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(report, "owners"), i, row) {
        printf("  units of ");
        print_text(json_string_value(json_object_get(row, "axis")), 0);
        printf(": %zu of the anchor", count_owned(row, 0));
        for (size_t k = 1; k < json_array_size(json_object_get(report, "models")); k++)
            printf(", %zu of model %zu", count_owned(row, k), k);
        putchar('\n');
    }
}

int plan_object(const tool *t, const tfuse_plan *plan, json_t **out)
{
    char *text = NULL;
    *out = NULL;
    int code = library_status(t, tfuse_plan_report(t->ctx, plan, &text));
    if (code == EXIT_DONE && !(*out = json_loads(text, 0, NULL)))
        code = fail("out of memory");
    tfuse_string_free(text);
    return code;
}

int make_plan(tool *t, tfuse_model **models, size_t n, tfuse_plan **out)
{
    int code = load_calibration(t, NULL, models, n);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_align(t->ctx, t->policy, (const tfuse_model *const *)models, n, t->calibration, out));
    return code;
}

int check_plan_options(const tool *t)
{
    if (t->plan && t->calib && t->command->bit != CMD_FUSE)
        return usage_error(t, "--calib bears on aligning, which --plan replaces");
    if (t->plan && t->align_option)
        return usage_error(t, "%s bears on aligning, which --plan replaces", t->align_option);
    return EXIT_DONE;
}

int find_plan(tool *t, tfuse_model **models, size_t n, tfuse_plan **out)
{
    if (t->plan)
        return library_status(t, tfuse_plan_load(t->ctx, t->plan, out));
    int code = make_plan(t, models, n, out);
    if (code == EXIT_DONE && t->save_plan)
        code = library_status(t, tfuse_plan_save(t->ctx, *out, t->save_plan, t->force));
    return code;
}
