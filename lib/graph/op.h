/* SPDX-License-Identifier: Apache-2.0
 *
 * op.h: the interface of an operation: everything that the library knows of one kind of node is in one file that fills in one
 * tf_op. The graph, the evaluator and the strategies call operations only through it; passes also ask which one a node is.
 */
#ifndef TF_GRAPH_OP_H
#define TF_GRAPH_OP_H

#include "graph/graph.h"
#include "num/num.h"

/* ---- what `shape` calls -------------------------------------------------------------------------
 * (shape.c of graph/) All report errors that name the node. */

/* Attributes, typed. NULL or fallback when absent. */
const char *tf_node_attr(const tf_node *n, const char *key);
tfuse_status tf_node_int(tf_env *env, const tf_node *n, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out);
/* Required form: fails when absent. */
tfuse_status tf_node_int_required(tf_env *env, const tf_node *n, const char *key, int64_t min, int64_t max, int64_t *out);
tfuse_status tf_node_real(tf_env *env, const tf_node *n, const char *key, double fallback, double *out);
/* After shape has checked them, forward reads them with these. */
int64_t tf_node_int_at(const tf_node *n, const char *key, int64_t fallback);
double tf_node_real_at(const tf_node *n, const char *key, double fallback);
/* One of comma-separated numbers; gives what comes after it and its comma, NULL when it is not a number. */
const char *tf_attr_next_real(const char *text, double *out);
/* Comma-separated integers, e.g. shape=1,28,28. */
tfuse_status tf_node_ints(tf_env *env, const tf_node *n, const char *key, int64_t *out, int cap, int *count);

/* Declares the ports of a spec such as the `out` attribute and makes its binding. */
tfuse_status tf_node_ports(tf_env *env, tf_graph *g, tf_id node, const char *spec, const tf_binding **out);
/* A binding of one fixed extent. */
tfuse_status tf_binding_fixed(tf_env *env, tf_graph *g, int64_t extent, const tf_binding **out);
/* Creates the logical tensor "<node>.<name>" as parameter `slot` of the node. When the node has an attribute "<name>=@tensor", that
 * existing tensor is used instead (tied weights): extents are checked and the ports of the two bindings are tied. */
tfuse_status tf_node_param(tf_env *env, tf_graph *g, tf_id node, int slot, const char *name, int rank,
                           const tf_binding *const *dims, const tf_use *uses);
/* Appends an output value named after the node (the first) or "node:suffix". */
tfuse_status tf_node_output(tf_env *env, tf_graph *g, tf_id node, const char *suffix, int rank, const int64_t *extent,
                            const tf_binding *const *dims, tf_id *out);

/* ---- what `tie` calls ------------------------------------------------------------------------------ */
/* Joins the classes of two ports; extents must be equal. dual: one moves by T^-T of the other. A port tied to a pinned one is pinned. */
tfuse_status tf_tie_ports(tf_env *env, tf_graph *g, tf_id node, tf_id a, tf_id b, bool dual);
/* Joins two bindings factor by factor; they must have the same structure (TFUSE_EGRAPH otherwise, naming the node and both). */
tfuse_status tf_tie_bindings(tf_env *env, tf_graph *g, tf_id node, const tf_binding *a, const tf_binding *b);

/* ---- what `permits` calls ---------------------------------------------------------------------------- */
/* Reads logical tensors of the model under study through its passes (view.h). NULL view: nothing is known of the
 * tensors, say the smaller group. */
struct tf_view;
typedef struct tf_permits {
    tf_env *env;
    const tf_graph *g;
    const struct tf_view *view;
    tf_group *classes;   /* meet so far, one a class */
    tfuse_status status; /* first failure */
} tf_permits;
/* Meets the class of every free port of the binding with `group`. */
void tf_permit_binding(tf_permits *p, const tf_binding *b, tf_group group);
void tf_permit_port(tf_permits *p, tf_id port, tf_group group);
/* Parameter `slot` of the node as float32, freed by tf_free; NULL when absent, unknown or failed. */
float *tf_permit_param(tf_permits *p, const tf_node *n, int slot);

/* ---- what `flow` calls: how the paper's transport maps pass ------------------------------------------- */
/* One map for each part of a value's channel binding. The strategy implements this. */
typedef struct tf_flow tf_flow;
typedef struct tf_flow_ops {
    /* Parameters `slot` of `node` move along: dimension `dim` by the maps that value `v` carries. */
    tfuse_status (*move)(tf_flow *f, const tf_node *n, int slot, int dim, tf_id v);
    /* Solves a transport problem for each part of the node's first output and leaves the maps on it. Called after `move` of
     * the consumed side; the produced side of the weight and bias is moved by it. */
    tfuse_status (*solve)(tf_flow *f, const tf_node *n);
    /* Output `out` carries the maps of value `in`. */
    tfuse_status (*pass)(tf_flow *f, tf_id in, tf_id out);
    /* As pass, where each unit of the value occurs once for every query of a group: heads*units becomes heads*group*units. */
    tfuse_status (*spread)(tf_flow *f, tf_id in, tf_id out);
    /* The produced side of the node's parameters moves by the maps of value `v`, whose units stand beside its own. */
    tfuse_status (*follow)(tf_flow *f, const tf_node *n, tf_id v);
    /* Output carries a combination of both, by the residual policy. */
    tfuse_status (*join)(tf_flow *f, const tf_node *n, tf_id residual, tf_id branch, tf_id out);
} tf_flow_ops;
struct tf_flow {
    const tf_flow_ops *ops;
};

/* ---- what `forward` gets --------------------------------------------------------------------------------- */
/* A batch of one value: n samples, each of `rank` extents, contiguous, float32 (or int32 when the value is integer). */
typedef struct tf_batch {
    int64_t n;
    int rank;
    int64_t extent[TF_MAX_DIMS];
    float *data;
} tf_batch;
static inline int64_t tf_batch_stride(const tf_batch *b) /* elements of one sample */
{
    int64_t s = 1;
    for (int i = 0; i < b->rank; i++)
        s *= b->extent[i];
    return s;
}
static inline int64_t tf_batch_channels(const tf_batch *b) { return b->extent[b->rank - 1]; }
static inline int64_t tf_batch_rows(const tf_batch *b) { return b->n * tf_batch_stride(b) / tf_batch_channels(b); }

typedef struct tf_forward {
    tf_env *env;
    const tf_graph *g;
    const tf_batch *in[TF_MAX_NODE_IO];
    tf_batch *out[TF_MAX_NODE_IO];       /* extents and memory are set */
    const float *param[TF_MAX_NODE_IO];  /* NULL: absent */
    float *scratch;                      /* as many floats as `scratch_size` asked for */
    int64_t past;                        /* tokens of the sequence that lie before the first of a token's inputs: 0 but where a sequence is made */
} tf_forward;

/* ---- what `circuits` says ------------------------------------------------------------------------------------ */
/* Two sides whose channels meet only in products: what the operation computes depends on sum_u a_u b_u alone, over the units of a block. So the maps
 * that make the two sides may be exchanged for any others of the same product. */
typedef struct tf_circuit {
    const char *name;       /* "qk" */
    int a, b;               /* inputs of the node; TF_CIRCUIT_OUTPUT: the first output, whose units meet the columns of the linear that reads it */
    int64_t blocks, group;  /* of side b; blocks of side a that meet one of them: channel (block*group + g)*width + unit, or block*width + unit */
    int64_t width;          /* channels of a block */
    int64_t first, count;   /* units of a block that this circuit sums over */
    int64_t pairs;          /* 0, or units are complex: so many pairs, each a product of its own, conjugate on side b */
    int64_t step, second;   /* of pair i: units first + i*step and that + second */
    bool b_shift;           /* what is equal for all tokens of b changes nothing */
} tf_circuit;
enum { TF_CIRCUIT_OUTPUT = -1, TF_MAX_CIRCUITS = 3 };

/* ---- the operation --------------------------------------------------------------------------------------------- */
typedef struct tf_op {
    const char *name;     /* "linear" */
    const char *help;     /* one line for documentation */
    const char *attrs;    /* accepted attributes, "out bias eps"; an unknown one is an error */
    int min_inputs, max_inputs;
    bool tokenwise;       /* each token's output depends on that token alone */
    bool elementwise;     /* each number of the output follows from those at its place in the inputs: it may be written over one of them */
    bool normalises;      /* its parameters are a norm's */
    int mask;             /* number of the input that says which tokens are seen; 0: none does */

    /* Outputs with their bindings, parameters with theirs. Inputs are known. */
    tfuse_status (*shape)(tf_env *env, tf_graph *g, tf_id node);
    /* Which ports must be one axis; NULL: none beyond what sharing bindings gives. */
    tfuse_status (*tie)(tf_env *env, tf_graph *g, tf_id node);
    /* The largest group that it commutes with, on each port. */
    void (*permits)(tf_permits *p, const tf_node *n);
    /* Its circuits, at most TF_MAX_CIRCUITS; how many. NULL: it has none. */
    int (*circuits)(const tf_graph *g, const tf_node *n, tf_circuit *out);
    /* How maps pass. */
    tfuse_status (*flow)(tf_flow *f, const tf_graph *g, const tf_node *n);
    /* Extents of outputs at run time from those of the inputs; NULL: those of the graph. */
    tfuse_status (*extents)(tf_env *env, const tf_graph *g, const tf_node *n, const tf_batch *const *in, tf_batch *const *out);
    /* Floats of scratch for these batches; NULL: none. */
    int64_t (*scratch_size)(const tf_graph *g, const tf_node *n, const tf_batch *const *in);
    /* Value of a batch; cannot fail. */
    void (*forward)(tf_forward *f, const tf_node *n);
} tf_op;

/* The table of operations is a constant in ops/registry.c: declared here because graph/ lies below ops/ and looks names up in it. */
const tf_op *tf_op_find(const char *name);
const tf_op *tf_op_at(size_t index); /* NULL past the end */

#endif
