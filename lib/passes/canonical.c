/* SPDX-License-Identifier: Apache-2.0
 *
 * canonical.c: the table of passes and the stack of views that they make.
 */
#include "passes/passes.h"
#include <string.h>

const tf_pass tf_passes[] = {
    {"fold-norms.1", tf_pass_fold_norms},
    {"drop-key-bias.1", tf_pass_drop_key_bias},
    {"move-value-bias.1", tf_pass_move_value_bias},
    {"centre-writes.1", tf_pass_centre_writes},
    {NULL, NULL},
};

const tf_pass *tf_pass_find(const char *name)
{
    for (const tf_pass *p = tf_passes; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

static tfuse_status push(tf_env *env, tf_canonical *c, const char *name)
{
    char shown[64];
    const tf_pass *pass = tf_pass_find(name);
    if (!pass)
        return tf_fail(env, TFUSE_ENOTFOUND, "no pass is called '%s'; it may be of a newer version of the library",
                       tf_printable(shown, sizeof shown, name));
    tf_view *above = NULL;
    TF_TRY(pass->run(env, c->levels[c->n - 1], &above));
    c->levels[c->n++] = above;
    return TFUSE_OK;
}

tfuse_status tf_canonical_make(tf_env *env, const tf_graph *g, const tfuse_model *m, const char *const *passes, int n_passes,
                               tf_canonical *out)
{
    memset(out, 0, sizeof *out);
    if (n_passes < 0 || n_passes >= (int)TF_LEN(out->levels))
        return tf_fail(env, TFUSE_ERANGE, "%d passes are more than a canonical form takes", n_passes);
    TF_TRY(tf_view_root(env, g, m, &out->levels[0]));
    out->n = 1;
    tfuse_status status = TFUSE_OK;
    for (int i = 0; status == TFUSE_OK && i < n_passes; i++)
        status = push(env, out, passes[i]);
    if (status != TFUSE_OK)
        tf_canonical_free(out);
    return status;
}

void tf_canonical_free(tf_canonical *c)
{
    while (c->n > 0)
        tf_view_free(c->levels[--c->n]);
    memset(c, 0, sizeof *c);
}
