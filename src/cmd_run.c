/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_run.c: tfuse run: a model's outputs as .npy.
 */
#include "tool.h"

#include <stdio.h>

static int report(const tool *t, const tfuse_array *out)
{
    const int64_t *shape = tfuse_array_shape(out);
    json_t *extents = json_array();
    for (size_t i = 0; i < tfuse_array_rank(out); i++)
        json_array_append_new(extents, json_integer(shape[i]));
    if (t->json)
        return print_json(json_pack("{s:s, s:o}", "out", t->out, "shape", extents));
    json_decref(extents);
    printf("outputs of %lld inputs written to %s\n", (long long)shape[0], t->out);
    return EXIT_DONE;
}

int cmd_run(tool *t)
{
    tfuse_model *model = NULL;
    tfuse_array *inputs = NULL, *out = NULL;
    if (!t->inputs || !t->out)
        return usage_error(t, "run needs --inputs F and -o OUT.npy");
    int code = check_output(t, t->out, false);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_model_open(t->ctx, t->args[0], 0, &model));
    if (code == EXIT_DONE)
        code = open_array(t, t->inputs, &inputs);
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_run(t->ctx, model, NULL, inputs, t->limit, &out));
    if (code == EXIT_DONE)
        code = library_status(t, tfuse_array_save(t->ctx, out, t->out));
    end_progress();
    if (code == EXIT_DONE)
        code = report(t, out);
    tfuse_array_free(out);
    tfuse_array_free(inputs);
    tfuse_model_free(model);
    return code;
}
