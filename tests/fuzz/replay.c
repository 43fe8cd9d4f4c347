/* SPDX-License-Identifier: Apache-2.0
 *
 * replay.c: runs a fuzz target on the files of its corpus: "ok-..." must be read, "bad-..." refused; of others it is enough that
 * nothing breaks. A program fuzz_NAME without arguments replays tests/fuzz/corpus/NAME; with arguments, those files.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/file.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int replay(const char *path)
{
    tf_env env;
    tf_buf text;
    tf_env_init(&env, &tf_mem_default);
    if (tf_read_file(&env, path, 1 << 20, &text) != TFUSE_OK) {
        printf("not ok %s: %s\n", path, env.error);
        return 1;
    }
    tfuse_status status = fuzz_run((const uint8_t *)text.data, text.len);
    tf_buf_free(&text);
    const char *base = tf_path_base(path);
    bool right = strncmp(base, "ok-", 3) == 0 ? status == TFUSE_OK : strncmp(base, "bad-", 4) == 0 ? status != TFUSE_OK : true;
    printf("%s %s%s\n", right ? "ok" : "not ok", path, right ? "" : status == TFUSE_OK ? ": was taken" : ": was refused");
    return !right;
}

int main(int argc, char **argv)
{
    int bad = 0;
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            bad |= replay(argv[i]);
        return bad;
    }
    char pattern[256];
    glob_t found;
    const char *name = strstr(tf_path_base(argv[0]), "fuzz_");
    snprintf(pattern, sizeof pattern, "tests/fuzz/corpus/%s/*", name ? name + strlen("fuzz_") : "");
    if (glob(pattern, 0, NULL, &found) != 0) {
        printf("not ok %s: no files\n", pattern);
        return 1;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        bad |= replay(found.gl_pathv[i]);
    globfree(&found);
    return bad;
}
