/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_align.c: tfuse align: computes a plan and saves it.
 */
#include "tool.h"

#include <stdio.h>

static int report(const tool *t, const tfuse_plan *plan, double seconds)
{
    json_t *object = NULL;
    int code = plan_object(t, plan, &object);
    if (code != EXIT_DONE)
        return code;
    if (t->json) {
        json_object_del(object, "table");
        json_object_set_new(object, "seconds", json_real(seconds));
        json_object_set_new(object, "out", json_string(t->out));
        return print_json(object);
    }
    map_totals totals = total_maps(plan);
    print_totals(&totals);
    print_heads(object, false);
    json_decref(object);
    printf("  time           %10.2f s\nplan written to ", seconds);
    print_text(t->out, 0);
    printf("; apply it with: tfuse fuse");
    for (int i = 0; i < t->n_args; i++) {
        putchar(' ');
        print_word(t->args[i]);
    }
    printf(" -o OUT --plan ");
    print_word(t->out);
    putchar('\n');
    return EXIT_DONE;
}

int cmd_align(tool *t)
{
    tfuse_model **models = NULL;
    tfuse_plan *plan = NULL;
    size_t n = 0;
    if (!t->out)
        return usage_error(t, "align needs -o PLAN");
    int code = check_output(t, t->out, false);
    if (code == EXIT_DONE)
        code = open_models(t, 0, &models, &n);
    double start = seconds_now();
    if (code == EXIT_DONE)
        code = make_plan(t, models, n, &plan);
    double seconds = seconds_now() - start;
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_plan_save(t->ctx, plan, t->out, t->force));
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, plan, seconds);
    tfuse_plan_free(plan);
    free_models(models, n);
    return code;
}
