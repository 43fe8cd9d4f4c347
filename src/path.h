/* SPDX-License-Identifier: Apache-2.0
 *
 * path.h: the straight line between a model and another one that was aligned to it: what cmd_path.c computes and draw_path.c draws.
 */
#ifndef PATH_H
#define PATH_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Scores along a line. The barrier is the most by which the loss exceeds the line between the losses of the parents as they are. */
typedef struct path_curve {
    double *loss, *accuracy; /* NULL: there is no such curve */
    double barrier, at;      /* nats, and the t of it */
} path_curve;

typedef struct path_scores {
    const char *names[2];
    const char *strategy;
    double loss[2], accuracy[2]; /* of the parents as they are */
    int64_t samples;
    size_t steps;
    double *t; /* weight of the second model */
    path_curve aligned, plain;
} path_scores;

json_t *path_json(const path_scores *p);
void draw_path(FILE *f, const void *scores); /* a const path_scores * */

#endif
