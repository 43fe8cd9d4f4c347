/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_gauge.c: tfuse gauge: the same function in other coordinates. The library's plan carries the model onto itself, so the moved one alone counts.
 */
#include "tool.h"

#include <stdio.h>

static int report(const tool *t, const tfuse_plan *plan)
{
    json_t *object = NULL;
    int code = EXIT_DONE;
    if (t->json)
        code = plan_object(t, plan, &object);
    if (code != EXIT_DONE)
        return code;
    if (!t->json) {
        printf("moved by %zu maps; the same function is written to %s\n", tfuse_plan_count(plan), t->out);
        return EXIT_DONE;
    }
    json_t *out = json_pack("{s:O, s:O, s:s}", "maps", json_object_get(object, "maps"), "passes", json_object_get(object, "passes"),
                            "out", t->out);
    json_decref(object);
    return print_json(out);
}

static int set_weights(const tool *t)
{
    int code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "combine.weights", "0,1"));
    if (code == EXIT_DONE && t->force)
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, "io.force", "1"));
    return code;
}

int cmd_gauge(tool *t)
{
    tfuse_model *model = NULL;
    tfuse_plan *plan = NULL;
    if (!t->out)
        return usage_error(t, "gauge needs -o OUT");
    int code = check_output(t, t->out, true);
    if (code == EXIT_DONE)
        code = set_weights(t);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_model_open(t->ctx, t->args[0], 0, &model));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_gauge(t->ctx, t->policy, model, &plan));
    const tfuse_model *both[2] = {model, model};
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_fuse(t->ctx, t->policy, plan, both, 2, t->out));
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, plan);
    tfuse_plan_free(plan);
    tfuse_model_free(model);
    return code;
}
