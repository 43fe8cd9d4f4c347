/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.c: runs a target on one input and checks what holds of every reader: all memory is given back, no block is larger than
 * BLOCK_MAX (inputs are small: a larger one would be a lying header believed), and a failure says why in one line.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_MAX ((size_t)256 << 20)

static void *counting_alloc(void *user, size_t size, size_t align)
{
    if (size > BLOCK_MAX) {
        fprintf(stderr, "fuzz: a block of %zu bytes was asked for\n", size);
        abort();
    }
    void *p = tf_mem_default.alloc(NULL, size, align);
    *(long *)user += p != NULL;
    return p;
}

static void counting_free(void *user, void *ptr, size_t size, size_t align)
{
    *(long *)user -= ptr != NULL;
    tf_mem_default.free(NULL, ptr, size, align);
}

tfuse_status fuzz_run(const uint8_t *data, size_t size)
{
    long live = 0;
    tf_mem mem = {sizeof mem, &live, counting_alloc, counting_free};
    tf_env env;
    tf_env_init(&env, &mem);
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    tfuse_status status = fuzz_one(&env, copy, size);
    free(copy);
    if (live != 0 || (status != TFUSE_OK && (!env.error[0] || strchr(env.error, '\n')))) {
        fprintf(stderr, "fuzz: status %d, %ld blocks not given back, text '%s'\n", (int)status, live, env.error);
        abort();
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_run(data, size);
    return 0;
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[32];
    if (fd >= 0)
        close(fd);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        perror("fuzz: memfd");
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}
