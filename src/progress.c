/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.c: a progress bar and warnings on standard error. The bar is drawn over itself and wiped before anything else is printed.
 */
#include "tool.h"

#include <stdio.h>
#include <string.h>

enum { BAR = 32 };

static bool drawn;

void end_progress(void)
{
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}

int32_t show_progress(void *user, const tfuse_progress *p)
{
    (void)user;
    char bar[BAR + 1];
    double part = p->total ? (double)p->done / (double)p->total : 0;
    int full = part >= 1 ? BAR : (int)(part * BAR);
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(BAR - full));
    bar[BAR] = '\0';
    if (p->total)
        fprintf(stderr, "\r\033[K%-12s [%s] %3d %%", p->stage, bar, (int)(100 * part));
    else
        fprintf(stderr, "\r\033[K%-12s %llu", p->stage, (unsigned long long)p->done);
    fflush(stderr);
    drawn = true;
    return 0;
}

void show_log(void *user, int32_t level, const char *line)
{
    (void)user;
    end_progress();
    fprintf(stderr, "tfuse: %s%s\n", level <= TFUSE_LOG_WARN ? "warning: " : "", line);
}
