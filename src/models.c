/* SPDX-License-Identifier: Apache-2.0
 *
 * models.c: models and arrays that the command line names.
 */
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

int open_models(const tool *t, int first, tfuse_model ***out, size_t *n)
{
    *n = (size_t)(t->n_args - first);
    *out = calloc(*n + 1, sizeof **out);
    if (!*out)
        return fail("out of memory");
    int code = EXIT_DONE;
    for (size_t i = 0; code == EXIT_DONE && i < *n; i++)
        code = library_status(t, tfuse_model_open(t->ctx, t->args[first + (int)i], 0, &(*out)[i]));
    return code;
}

void free_models(tfuse_model **models, size_t n)
{
    for (size_t i = 0; models && i < n; i++)
        tfuse_model_free(models[i]);
    free(models);
}

int open_array(const tool *t, const char *path, tfuse_array **out)
{
    *out = NULL;
    return path ? library_status(t, tfuse_array_open(t->ctx, path, out)) : EXIT_DONE;
}

static int note_generated(tool *t)
{
    static const char *const keys[] = {"calib.generate", "calib.length", "calib.samples"};
    int64_t shape[2];
    int code = EXIT_DONE;
    for (size_t d = 0; d < 2; d++)
        shape[d] = tfuse_array_shape(t->calibration)[d];
    for (size_t i = 0; i < (t->samples_given ? 2 : 3) && code == EXIT_DONE; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)shape[i % 2]);
        code = library_status(t, tfuse_policy_set(t->ctx, t->policy, keys[i], text));
    }
    t->generated = true;
    return code;
}

int load_calibration(tool *t, const tfuse_plan *plan, tfuse_model **models, size_t n)
{
    if (t->calibration)
        return EXIT_DONE;
    if (t->calib)
        return open_array(t, t->calib, &t->calibration);
    const int code = library_status(t, tfuse_generate(t->ctx, t->policy, plan, (const tfuse_model *const *)models, n, &t->calibration));
    return code == EXIT_DONE && t->calibration ? note_generated(t) : code;
}
