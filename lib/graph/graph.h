/* SPDX-License-Identifier: Apache-2.0
 *
 * graph.h: the architecture of one model: nodes, values, and the axes that every dimension of every tensor is bound to. Holds no
 * weights.
 *
 * Vocabulary
 *   port     a set of neurons as one operation produced it
 *   class    ports that must move together (joined by tie): an axis
 *   binding  what one dimension is made of: a concatenation of segments, a segment being an ordered product of
 *            factors, a factor being a port, a fixed extent, or a concatenation in parentheses
 *   part     one leaf of a binding: a product of factors at a strided set of indices; what one map acts on
 *   use      how a dimension moves when the map of its axis is T: see tf_use
 *   group    which maps leave the function as it is: see TF_GROUP_...
 */
#ifndef TF_GRAPH_GRAPH_H
#define TF_GRAPH_GRAPH_H

#include "base/buf.h"
#include "base/env.h"
#include "base/strmap.h"
#include "io/model.h"

typedef int32_t tf_id; /* index of a node, value, parameter, port; -1: none */

/* ---- groups (group.c) -----------------------------------------------------------------------
 * A group is the set of generator families that it contains, so the meet of two groups is the bitwise and. */
typedef uint32_t tf_group;
enum {
    TF_G_PERM = 1,        /* permutations */
    TF_G_POS = 2,         /* positive scale of each unit */
    TF_G_SIGN = 4,        /* sign of each unit */
    TF_G_ROT_ONES = 8,    /* rotations that fix the ones vector */
    TF_G_ROT = 16,        /* all rotations */
    TF_G_LINEAR = 32,     /* every invertible map */
    TF_G_PAIR_ROT = 64,   /* one rotation for each pair of units (RoPE) */
    TF_G_PAIR_SCALE = 128, /* one positive scale for each pair */
    TF_G_PAIR_SIGN = 256  /* one sign for each pair */
};
#define TF_GROUP_PINNED 0u
#define TF_GROUP_PERM ((tf_group)TF_G_PERM)
#define TF_GROUP_PERM_POS ((tf_group)(TF_G_PERM | TF_G_POS))
#define TF_GROUP_PERM_SIGN ((tf_group)(TF_G_PERM | TF_G_SIGN | TF_G_PAIR_SIGN))
#define TF_GROUP_PERM_SCALE ((tf_group)(TF_G_PERM | TF_G_POS | TF_G_SIGN | TF_G_PAIR_SIGN))
#define TF_GROUP_ORTHO_ONES ((tf_group)(TF_G_PERM | TF_G_ROT_ONES))
#define TF_GROUP_ORTHO ((tf_group)(TF_G_PERM | TF_G_SIGN | TF_G_ROT_ONES | TF_G_ROT | TF_G_PAIR_ROT | TF_G_PAIR_SIGN))
#define TF_GROUP_PAIRS ((tf_group)(TF_G_PAIR_ROT | TF_G_PAIR_SCALE | TF_G_PAIR_SIGN))
#define TF_GROUP_PAIR_SIGNS ((tf_group)TF_G_PAIR_SIGN)
#define TF_GROUP_LINEAR ((tf_group)0x1ff)
/* "pinned", "permutation", "permutation, positive scale", "signed permutation", "permutation, scale", "orthogonal fixing ones", "orthogonal",
 * "scaled rotation per pair", "rotation per pair", "sign per pair", "general linear"; static; any other set gets its families' names in `buffer`. */
const char *tf_group_name(tf_group g, char *buffer, size_t size);

/* ---- uses ------------------------------------------------------------------------------------ */
typedef enum tf_use {
    TF_USE_PRODUCED, /* T:    rows of a weight, its bias */
    TF_USE_CONSUMED, /* T^-1: columns of the next weight */
    TF_USE_DUAL,     /* T^-T: key rows against query rows */
    TF_USE_NEUTRAL   /* the permutation in T only: norm gains, a gate beside its scaled partner */
} tf_use;
const char *tf_use_name(tf_use use);

/* ---- bindings (binding.c) ---------------------------------------------------------------------- */
typedef struct tf_binding tf_binding;
typedef enum tf_factor_kind { TF_FACTOR_PORT, TF_FACTOR_FIXED, TF_FACTOR_CONCAT } tf_factor_kind;
typedef struct tf_factor {
    tf_factor_kind kind;
    tf_id port;            /* TF_FACTOR_PORT */
    int64_t extent;
    const tf_binding *concat; /* TF_FACTOR_CONCAT */
} tf_factor;
typedef struct tf_segment {
    const char *label; /* "" if none */
    const tf_factor *factors;
    int n_factors;
    int64_t extent;
} tf_segment;
struct tf_binding {
    const tf_segment *segments;
    int n_segments;
    int64_t extent;
};

#define TF_MAX_FACTORS 6
/* A leaf of a binding: unit (i_0, ..., i_{f-1}) lies at offset + sum i_k * stride_k. Fixed factors that stand alone make a part
 * without free ports (n_ports 0). */
typedef struct tf_part {
    const char *label;          /* labels on the way joined with '.', "" if none */
    int n_factors;
    tf_id port[TF_MAX_FACTORS]; /* -1 for a fixed factor */
    int64_t extent[TF_MAX_FACTORS], stride[TF_MAX_FACTORS];
    int64_t offset, size;       /* size: product of the extents */
    int n_ports;                /* factors that are ports and not pinned */
} tf_part;
/* Index in the dimension of unit u (0 <= u < size, row-major over the factors). */
int64_t tf_part_index(const tf_part *part, int64_t u);
/* Whether the parts of a dimension take all of it: then who writes each part leaves nothing unwritten. */
bool tf_parts_cover(const tf_part *parts, int n, int64_t extent);
/* Whether the part is the whole dimension in its own order. */
bool tf_part_is_whole(const tf_part *part, int64_t extent);

/* ---- the graph --------------------------------------------------------------------------------- */
typedef struct tf_graph tf_graph;
struct tf_op;

typedef struct tf_port {
    const char *name; /* unique: node.factor */
    const char *axis; /* what a person calls it: "stream", "layer.0/heads" */
    int64_t extent;
    tf_id parent;     /* the port of the factor just outside in its segment; -1 */
    bool pinned;      /* fixed by the outside: vocabulary, pixels, classes */
    tf_id up;         /* union-find; use tf_class_of */
    bool up_dual;     /* the relation to `up` is T^-T */
    tf_id node;       /* that declared it */
    bool self_dual;   /* its class is tied to its own dual, T = T^-T: orthogonal maps only */
} tf_port;

#define TF_MAX_DIMS 4 /* of a value, the batch not counted */
typedef struct tf_value {
    const char *name; /* the node's name, or node:output for further outputs */
    tf_id node;
    int rank;
    int64_t extent[TF_MAX_DIMS];           /* 0: known when it runs (length of a sequence) */
    const tf_binding *dims[TF_MAX_DIMS];   /* the last one is the channels */
    bool integer;                          /* token ids */
    int readers;                           /* inputs of nodes that are this value */
    int64_t class_tokens, grid_h, grid_w;  /* layout of a token dimension: leading class tokens, then a grid; 0 if none */
} tf_value;

typedef struct tf_source tf_source; /* naming.h */

#define TF_MAX_PARAM_RANK 4
typedef struct tf_param { /* a logical tensor */
    const char *name; /* "layer.0/query.weight" */
    tf_id node;       /* that created it */
    int rank;
    int64_t shape[TF_MAX_PARAM_RANK];
    const tf_binding *dims[TF_MAX_PARAM_RANK];
    tf_use use[TF_MAX_PARAM_RANK]; /* role of each dimension; tf_param_use adds duality */
    const tf_source *source;       /* NULL until named: then stored under its own name */
    int holders;                   /* slots of nodes that it stands in */
    bool aliased;                  /* it is an alias, or has one */
} tf_param;

typedef struct tf_attr {
    const char *key, *value; /* text, as given */
} tf_attr;

#define TF_MAX_NODE_IO 8
typedef struct tf_node {
    const char *name;  /* "layer.0/query" */
    const char *scope; /* "layer.0", or "" */
    const struct tf_op *op;
    tf_id inputs[TF_MAX_NODE_IO];
    int n_inputs;
    tf_id outputs[TF_MAX_NODE_IO];
    int n_outputs;
    tf_id params[TF_MAX_NODE_IO]; /* in the operation's order; -1: absent (no bias) */
    int n_params;
    const tf_attr *attrs;
    int n_attrs;
} tf_node;

typedef struct tf_alias { /* a naming rule given before or after its tensor */
    const char *logical;
    const char *expression;
} tf_alias;

struct tf_graph {
    tf_arena arena;
    tf_mem mem;
    const char *arch; /* model_type that built it; "" if by hand */
    tf_node *nodes;
    tf_value *values;
    tf_param *params;
    tf_port *ports;
    size_t n_nodes, cap_nodes, n_values, cap_values, n_params, cap_params, n_ports, cap_ports;
    tf_strmap node_index, value_index, param_index, port_index;
    tf_id *inputs; /* values of input nodes */
    size_t n_inputs, cap_inputs;
    tf_id output;  /* the value that is the model's output: logits */
    const char **buffers; /* names of stored tensors copied from the anchor; may hold one '*' */
    size_t n_buffers, cap_buffers;
    tf_alias *rules; /* in the order given */
    size_t n_rules, cap_rules;
    tf_strmap rule_index;
    bool broken; /* a builder call failed: only tf_graph_free is left */
    /* made by tf_graph_finish */
    tf_id *class_of;   /* port → class */
    bool *class_dual;  /* port → in dual relation to its class */
    tf_id *class_port; /* class → its first port */
    const char **class_name; /* unique */
    tf_id *class_parent;
    size_t n_classes;
    struct tf_stored *stored; /* naming.h: the stored tensors that the graph needs, in order of first use */
    size_t n_stored;
    tf_strmap stored_index;
    bool finished;
};

/* The builder. Attributes are "key=value" with spaces between; a value holds no space. Inputs are names of values with spaces
 * between. A produced dimension is declared by the operation's `out` attribute:
 *     segment|segment..., segment = [label=]factor*factor..., factor = [!][/]name:extent | extent | (binding)
 * '!' pins the port; '/' makes the axis name global ("/stream:64"), else it is put under the node's scope
 * ("layer.0/query" with "heads:4*qk:16" gives axes layer.0/heads and layer.0/qk). */
tfuse_status tf_graph_new(tf_env *env, const char *arch, tf_graph **out);
void tf_graph_free(tf_graph *g);
tfuse_status tf_graph_add(tf_env *env, tf_graph *g, const char *op, const char *name, const char *inputs, const char *attrs);
/* Naming rule: logical tensor → expression over stored tensors; see naming.h. */
tfuse_status tf_graph_store(tf_env *env, tf_graph *g, const char *logical, const char *expression);
tfuse_status tf_graph_buffer(tf_env *env, tf_graph *g, const char *pattern);
tfuse_status tf_graph_output(tf_env *env, tf_graph *g, const char *value);
/* Ties, makes the classes, names what is left unnamed by its own name. No node can be added afterwards. The channels of
 * inputs and of the output are pinned: they belong to the outside. A node that uses an alias uses its target from here on. */
tfuse_status tf_graph_finish(tf_env *env, tf_graph *g);

tf_id tf_graph_find_node(const tf_graph *g, const char *name);
tf_id tf_graph_find_value(const tf_graph *g, const char *name);
tf_id tf_graph_find_param(const tf_graph *g, const char *name);
/* Elements of a parameter; fits a size_t of bytes by construction. */
static inline int64_t tf_param_count(const tf_param *p)
{
    int64_t count = 1;
    for (int i = 0; i < p->rank; i++)
        count *= p->shape[i];
    return count;
}

/* After finish. */
static inline tf_id tf_class_of(const tf_graph *g, tf_id port) { return port < 0 ? -1 : g->class_of[port]; }
int64_t tf_class_extent(const tf_graph *g, tf_id cls);
bool tf_class_pinned(const tf_graph *g, tf_id cls); /* any port of it */
/* The innermost class that every port of this one lies inside of; -1 when there is none. There may be one map for each unit of
 * the parent: under grouped queries the inner query units lie inside kv × group, the key units inside kv, so it is kv. */
tf_id tf_class_parent(const tf_graph *g, tf_id cls);
tf_id tf_class_find(const tf_graph *g, const char *name);
/* The use of dimension `dim` of a parameter with respect to the class of `port`. */
tf_use tf_param_use(const tf_graph *g, tf_id param, int dim, tf_id port);
/* The node whose weight rows (parameter 0, dimension 0) hold the port, i.e. that produced it; -1. */
tf_id tf_port_producer(const tf_graph *g, tf_id port);

/* Parts of a binding, in index order, into the env's memory (*out freed by tf_free). */
tfuse_status tf_binding_parts(tf_env *env, const tf_graph *g, const tf_binding *b, tf_part **out, int *count);
/* "q=layer.0/heads:4*layer.0/qk:16|..." with axis names. */
tfuse_status tf_binding_text(tf_env *env, const tf_graph *g, const tf_binding *b, tf_buf *out);

/* 16 hex digits over nodes, attributes, shapes and names of axes: two models of one architecture and size agree. */
void tf_graph_signature(const tf_graph *g, char out[17]);

/* ---- JSON (graph_json.c): flat: {"tfuse_graph": 1, "arch", "nodes": [{"op", "name", "inputs", "attrs"}], "output",
 * "tensors": {logical: expression}, "buffers": [...]}. Reading rebuilds through the builder, so it checks all that the builder checks. */
tfuse_status tf_graph_to_json(tf_env *env, const tf_graph *g, tf_buf *out);
tfuse_status tf_graph_from_json(tf_env *env, const char *label, const char *text, size_t size, tf_graph **out);

#endif
