/* SPDX-License-Identifier: Apache-2.0
 *
 * heat.h: a matrix as a picture of one pixel an entry, or a pixel for several.
 */
#ifndef HEAT_H
#define HEAT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { HEAT_LEVELS = 256 };

typedef struct heat {
    size_t rows, cols; /* pixels */
    double largest;    /* absolute value of the largest entry, which is the last level */
    int is_signed;     /* some entry is negative: the levels run from minus the largest over zero */
    char *png;         /* in base64 */
} heat;

/* Makes the picture of a rows × cols matrix, at most `side` pixels long; a pixel shows the entry of largest absolute value among those that it
 * stands for, so that a permutation stays in sight. A level goes with the square root of the value. 0, or -1 when memory ran out. */
int heat_make(const float *values, size_t rows, size_t cols, size_t side, heat *out);
void heat_free(heat *h);
/* The colours of the levels as "rrggbb" after each other. */
void heat_palette(FILE *f, int is_signed);

#endif
