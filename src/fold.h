/* SPDX-License-Identifier: Apache-2.0
 *
 * fold.h: names that differ in one number, written once: layer.0/ffn, layer.1/ffn, ... as layer.{0..3}/ffn.
 */
#ifndef FOLD_H
#define FOLD_H

#include <jansson.h>

/* Splits a name at its first number that stands alone after a '.': "layer.12/ffn" gives "layer.\1/ffn" and 12. A name without one is its own
 * pattern and gives -1. The pattern is cut to `size`. */
long fold_name(const char *name, char *pattern, size_t size);

/* The pattern with what its numbers were: an ascending list of integers, "{0..3}", "2", "{0,5}". */
void unfold_name(const char *pattern, const json_t *numbers, char *name, size_t size);

/* The axes of a description (tfuse_graph_describe), those of equal structure once: [{"name", "extent", "group", "parent", "tensors":
 * {use: [name[dim], ...]}, "count"}]. NULL when memory ran out. */
json_t *fold_axes(const json_t *axes);

#endif
