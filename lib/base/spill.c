/* SPDX-License-Identifier: Apache-2.0
 *
 * spill.c: see spill.h.
 */
#include "base/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_unnamed(void)
{
    static const char *const names[] = {"/var/tmp/tfuse-XXXXXX", "/tmp/tfuse-XXXXXX"};
    for (size_t i = 0; i < TF_LEN(names); i++) {
        char path[32];
        size_t n = 0;
        while ((path[n] = names[i][n]))
            n++;
        const int fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
            return fd;
        }
    }
    return -1;
}

tfuse_status tf_spill_new(tf_env *env, size_t size, void **out)
{
    *out = NULL;
    if (!size)
        return tf_fail(env, TFUSE_EINTERNAL, "a spilled array is empty");
    const int fd = open_unnamed();
    if (fd < 0)
        return tf_fail_errno(env, errno, "cannot make a file for %zu bytes under /var/tmp or /tmp", size);
    const int failed = posix_fallocate(fd, 0, (off_t)size);
    if (failed) {
        close(fd);
        return tf_fail_errno(env, failed, "no room for %zu bytes of activations under /var/tmp or /tmp", size);
    }
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const int error = errno;
    close(fd);
    if (data == MAP_FAILED)
        return tf_fail_errno(env, error, "cannot map %zu bytes of activations", size);
    *out = data;
    return TFUSE_OK;
}

void tf_spill_free(void *data, size_t size)
{
    if (data)
        munmap(data, size);
}
