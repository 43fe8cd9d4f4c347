/* SPDX-License-Identifier: Apache-2.0
 *
 * signature.c: a fingerprint of what a plan relies on: nodes with their attributes and inputs, shapes and roles of tensors, axes with
 * their classes. How tensors are stored is left out. FNV-1a (Fowler, Noll, Vo) over the fields, each followed by its
 * length so that fields cannot run together, and the finaliser of MurmurHash3.
 */
#include "graph/graph.h"
#include "graph/op.h"

#include <stdio.h>
#include <string.h>

static void add_bytes(uint64_t *h, const void *data, size_t size)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++)
        *h = (*h ^ p[i]) * 0x100000001b3u;
}

static void add_int(uint64_t *h, int64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    add_bytes(h, bytes, sizeof bytes);
}

static void add_text(uint64_t *h, const char *text)
{
    const size_t len = strlen(text);
    add_bytes(h, text, len);
    add_int(h, (int64_t)len);
}

static void add_node(uint64_t *h, const tf_graph *g, const tf_node *n)
{
    add_text(h, n->op->name);
    add_text(h, n->name);
    for (int i = 0; i < n->n_inputs; i++)
        add_text(h, g->values[n->inputs[i]].name);
    add_int(h, n->n_inputs);
    for (int i = 0; i < n->n_attrs; i++) {
        add_text(h, n->attrs[i].key);
        add_text(h, n->attrs[i].value);
    }
    add_int(h, n->n_attrs);
    for (int i = 0; i < n->n_params; i++)
        add_int(h, n->params[i]);
    add_int(h, n->n_params);
}

static void add_param(uint64_t *h, const tf_param *p)
{
    add_text(h, p->name);
    add_int(h, p->rank);
    for (int i = 0; i < p->rank; i++) {
        add_int(h, p->shape[i]);
        add_int(h, (int64_t)p->use[i]);
    }
}

static void add_port(uint64_t *h, const tf_graph *g, size_t port)
{
    const tf_port *p = &g->ports[port];
    add_text(h, p->name);
    add_text(h, g->class_name[g->class_of[port]]);
    add_int(h, p->extent);
    add_int(h, p->pinned | p->self_dual << 1 | g->class_dual[port] << 2);
}

void tf_graph_signature(const tf_graph *g, char out[17])
{
    uint64_t h = 0xcbf29ce484222325u;
    add_text(&h, g->arch);
    for (size_t i = 0; i < g->n_nodes; i++)
        add_node(&h, g, &g->nodes[i]);
    for (size_t i = 0; i < g->n_params; i++)
        add_param(&h, &g->params[i]);
    for (size_t i = 0; i < g->n_ports; i++)
        add_port(&h, g, i);
    add_text(&h, g->values[g->output].name);
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    h ^= h >> 33;
    snprintf(out, 17, "%016llx", (unsigned long long)h);
}
