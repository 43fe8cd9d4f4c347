/* SPDX-License-Identifier: Apache-2.0
 *
 * cost.h: what the files of the cost stage share.
 */
#ifndef TF_OT_COST_H
#define TF_OT_COST_H

#include "ot/internal.h"

enum { TF_COST_SLICE = 512 }; /* features that are gone over at a time */

/* 1 - x.y / (|x| |y|) in [0, 2], from squared lengths; a zero vector is at 1 from others and at 0 from another. */
double tf_cosine_distance(double xx, double yy, double xy);

/* ---- cost_kernel.c: loops over rows of dense features; sums in float64, in an order that the length alone decides ---- */

/* sum_k += row_k; returns the larger of `top` and the bits of the largest |row_k|, at least 0x7f800000 where one is not finite. */
uint32_t tf_cost_add_row(const float *row, int64_t d, double *sum, uint32_t top);
/* to = from * scale - centre, in float32; its squared length. from may be to. */
double tf_cost_centre_row(const float *from, float scale, const float *centre, int64_t d, float *to);
/* to = from * factor; from may be to. */
void tf_cost_scale_row(const float *from, double factor, int64_t d, float *to);
double tf_cost_sq_length(const float *x, int64_t d);
double tf_cost_sq_distance(const float *x, const float *y, int64_t d);
double tf_cost_dot(const float *x, const float *y, int64_t d);

/* A row of products x.y becomes distances: with t = xx + yy_j, d^2 = t - 2 x.y, or its root, times `unscale` four times or twice. Entries with
 * d^2 < cancels * t or t < tiny become TF_COST_NEAR; returns whether there are any. */
#define TF_COST_NEAR (-1.0f)
bool tf_cost_finish_row(bool root, double xx, const double *yy, float unscale, double cancels, double tiny, int64_t m, float *row);
/* 1 - x.y within [0, 2]; below `cancels` it becomes TF_COST_NEAR. */
bool tf_cost_finish_cosine(float cancels, int64_t m, float *row);

#endif
