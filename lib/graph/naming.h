/* SPDX-License-Identifier: Apache-2.0
 *
 * naming.h: logical tensors over stored ones, both ways.
 *
 * Expressions (names hold no comma or parenthesis):
 *     NAME                     the stored tensor, of the logical shape
 *     shape(NAME,1,1,64)       stored with another shape of as many elements
 *     part(NAME,dim,i,n)       the i-th of n equal parts of the stored tensor along dim
 *     within(NAME,outer,i,n)   dimension 0 of the stored tensor is outer * n * rest: the i-th of n in each (heads with q, k, v inside)
 *     item(NAME,i,n,shape...)  the i-th of n equal runs of the elements of a stored tensor of that shape (one expert of a stack)
 *     join(dim,E0,E1,...)      equal tensors side by side along dim (experts that are stored apart)
 *     slice(NAME,dim,first,count,extent)  a slice of a stored tensor whose dimension dim has that extent
 *     transpose(E)             of a matrix
 *     stack(E0,E1,...)         one more leading dimension
 *     sum(E0,E1,...)           elementwise (an embedding and its delta); writes the whole to E0 and zeros to the others
 *     copies(E0,E1,...)        stored several times: E0 is read, all are written (a tied head that is stored beside its embedding)
 *     alias(LOGICAL)           the same storage as another logical tensor (at the top only): the two are tied weights
 */
#ifndef TF_GRAPH_NAMING_H
#define TF_GRAPH_NAMING_H

#include "graph/graph.h"

typedef enum tf_source_kind {
    TF_SOURCE_STORED, TF_SOURCE_SLICE, TF_SOURCE_TRANSPOSE, TF_SOURCE_STACK, TF_SOURCE_SUM, TF_SOURCE_COPIES, TF_SOURCE_JOIN, TF_SOURCE_ALIAS
} tf_source_kind;

struct tf_source {
    tf_source_kind kind;
    int rank; /* of what this expression yields */
    int64_t shape[TF_MAX_PARAM_RANK];
    const char *stored;          /* STORED, SLICE: name in the checkpoint; ALIAS: logical name */
    int stored_rank;             /* STORED, SLICE: the shape that the checkpoint must have */
    int64_t stored_shape[TFUSE_MAX_RANK];
    int dim;                     /* SLICE, JOIN */
    int64_t blocks, extent;      /* SLICE: the dimension is so many blocks of that extent, each of which is cut alike */
    int64_t first, count;        /* SLICE */
    const tf_source **parts;
    int n_parts;
};

/* Parses an expression for a logical shape; everything in the graph's arena. */
tfuse_status tf_source_parse(tf_env *env, tf_graph *g, const char *expression, int rank, const int64_t *shape,
                             const tf_source **out);

/* Checks a model against the graph: every stored tensor that the graph needs is there with its shape and a float type, every tensor of the model
 * is needed, or a buffer, or `extra_copy`. The error names the tensor, the file, and both shapes (or what to do). */
tfuse_status tf_graph_check_model(tf_env *env, const tf_graph *g, const tfuse_model *m, bool extra_copy);
/* As the above, but appends every problem, one line each, to `out` and returns OK. */
tfuse_status tf_graph_list_problems(tf_env *env, const tf_graph *g, const tfuse_model *m, bool extra_copy, tf_buf *out);
bool tf_graph_is_buffer(const tf_graph *g, const char *stored);

/* Reads a logical tensor of a model as float32, row-major, of the logical shape. NaN and infinity are TFUSE_ENUMERIC. */
tfuse_status tf_param_read(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_id param, float *dst);

/* Whether rows (along the first dimension) can be read without the rest: the tensor is stored as it is. */
bool tf_param_has_rows(const tf_graph *g, tf_id param);
/* Rows rows[0..n-1] of such a tensor, one after the other. */
tfuse_status tf_param_read_rows(tf_env *env, const tf_graph *g, const tfuse_model *m, tf_id param, const int64_t *rows, int64_t n,
                                float *dst);

/* A place where a logical tensor meets a stored one: element (i_0, ...) of the leaf lies at offset + sum i_k * stride[k] of the
 * logical tensor, so stacks and transposes are strides. */
typedef struct tf_piece {
    tf_id param;
    const tf_source *source; /* STORED or SLICE leaf */
    bool zero;               /* a further term of a sum: written as zeros */
    bool copy;               /* a further copy: written, not read */
    int64_t offset, stride[TF_MAX_PARAM_RANK];
} tf_piece;

/* A stored tensor that the graph needs: its pieces tile it. */
typedef struct tf_stored {
    const char *name;
    int rank;
    int64_t shape[TFUSE_MAX_RANK];
    tf_piece *pieces;
    int n_pieces;
} tf_stored;

/* The pieces that make up a stored tensor, for the writer to assemble it; *count 0 when none (a buffer). Freed by tf_free. */
tfuse_status tf_stored_pieces(tf_env *env, const tf_graph *g, const char *stored, tf_piece **out, int *count);
/* Copies a logical tensor's piece into the stored tensor's buffer of float32. */
void tf_piece_scatter(const tf_graph *g, const tf_piece *piece, const float *logical, float *stored);

#endif
