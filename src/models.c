/* SPDX-License-Identifier: Apache-2.0
 *
 * models.c: models and arrays that the command line names.
 */
#include "tool.h"

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
