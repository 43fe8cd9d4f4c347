/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_preprocess.c: preprocessor_config.json, beside a model in a directory of its own.
 */
#include "fuzz.h"

#include "io/io.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/tfuse-fuzz-XXXXXX", path[64];

static void remove_dir(void)
{
    unlink(path);
    rmdir(dir);
}

tfuse_status fuzz_one(tf_env *env, const uint8_t *data, size_t size)
{
    if (!path[0]) {
        if (!mkdtemp(dir))
            abort();
        snprintf(path, sizeof path, "%s/preprocessor_config.json", dir);
        atexit(remove_dir);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
    tfuse_model *m;
    tf_preprocess p;
    TF_TRY(tf_model_new(env, NULL, &m));
    m->dir = dir;
    tfuse_status status = tf_preprocess_read(env, m, &p);
    tf_model_free(m);
    return status;
}
