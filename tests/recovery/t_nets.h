/* SPDX-License-Identifier: Apache-2.0
 *
 * t_nets.h: one block of the shapes that models have: a language model's (RMSNorm, grouped queries, rotary positions, a gate), a vision
 * transformer's (norms before, biases), an encoder's (norms after), of any widths.
 */
#ifndef T_NETS_H
#define T_NETS_H

#include "t_graph.h"

enum { FEATURES = 6, TOKENS = 5, MOST_NODES = 32, MOST_ATTRS = 96 };

/* $S stream, $H heads or key/value heads, $G group, $Q units of queries, $V of values, $F of the FFN. */
static const t_node llama[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:$S bias=0"},
    {"rmsnorm", "l0/norm", "embed", ""},
    {"linear", "l0/q", "l0/norm", "out=kv:$H*group:$G*qk:$Q bias=0"},
    {"linear", "l0/k", "l0/norm", "out=kv:$H*qk:$Q bias=0"},
    {"linear", "l0/v", "l0/norm", "out=kv:$H*vo:$V bias=0"},
    {"attention", "l0/core", "l0/q l0/k l0/v", "rope=1 rope_theta=100 causal=1"},
    {"linear", "l0/o", "l0/core", "out=/stream:$S bias=0"},
    {"add", "l0/add", "embed l0/o", ""},
    {"rmsnorm", "l0/norm2", "l0/add", ""},
    {"linear", "l0/gate", "l0/norm2", "out=ffn:$F bias=0"},
    {"activation", "l0/act", "l0/gate", "kind=silu"},
    {"linear", "l0/up", "l0/norm2", "out=ffn:$F bias=0"},
    {"multiply", "l0/mul", "l0/act l0/up", ""},
    {"linear", "l0/down", "l0/mul", "out=/stream:$S bias=0"},
    {"add", "l0/add2", "l0/add l0/down", ""},
    {"rmsnorm", "last", "l0/add2", ""},
    {"linear", "head", "last", "out=!classes:9 bias=0"},
};

static const t_node vit[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:$S"},
    {"layernorm", "l0/norm", "embed", ""},
    {"linear", "l0/q", "l0/norm", "out=heads:$H*qk:$Q"},
    {"linear", "l0/k", "l0/norm", "out=heads:$H*qk:$Q"},
    {"linear", "l0/v", "l0/norm", "out=heads:$H*vo:$V"},
    {"attention", "l0/core", "l0/q l0/k l0/v", ""},
    {"linear", "l0/o", "l0/core", "out=/stream:$S"},
    {"add", "l0/add", "embed l0/o", ""},
    {"layernorm", "l0/norm2", "l0/add", ""},
    {"linear", "l0/up", "l0/norm2", "out=ffn:$F"},
    {"activation", "l0/act", "l0/up", "kind=gelu"},
    {"linear", "l0/down", "l0/act", "out=/stream:$S"},
    {"add", "l0/add2", "l0/add l0/down", ""},
    {"layernorm", "last", "l0/add2", ""},
    {"linear", "head", "last", "out=!classes:9"},
};

static const t_node bert[] = {
    {"input", "x", "", "kind=features shape=5,6"},
    {"linear", "embed", "x", "out=/stream:$S"},
    {"layernorm", "norm0", "embed", ""},
    {"linear", "l0/q", "norm0", "out=heads:$H*qk:$Q"},
    {"linear", "l0/k", "norm0", "out=heads:$H*qk:$Q"},
    {"linear", "l0/v", "norm0", "out=heads:$H*vo:$V"},
    {"attention", "l0/core", "l0/q l0/k l0/v", ""},
    {"linear", "l0/o", "l0/core", "out=/stream:$S"},
    {"add", "l0/add", "norm0 l0/o", ""},
    {"layernorm", "l0/norm", "l0/add", ""},
    {"linear", "l0/up", "l0/norm", "out=ffn:$F"},
    {"activation", "l0/act", "l0/up", "kind=gelu"},
    {"linear", "l0/down", "l0/act", "out=/stream:$S"},
    {"add", "l0/add2", "l0/norm l0/down", ""},
    {"layernorm", "l0/norm2", "l0/add2", ""},
    {"linear", "head", "l0/norm2", "out=!classes:9"},
};

typedef struct widths {
    int s, h, g, q, v, f;
} widths;

static inline int width_of(const widths *w, char letter)
{
    switch (letter) {
    case 'S': return w->s;
    case 'H': return w->h;
    case 'G': return w->g;
    case 'Q': return w->q;
    case 'V': return w->v;
    default: return w->f;
    }
}

static const widths small = {12, 3, 2, 4, 4, 10};

/* Attributes without $ stay as they are. */
static inline tf_graph *sized_graph(tf_env *env, const t_node *nodes, size_t count, const widths *w)
{
    static char text[MOST_NODES][MOST_ATTRS];
    t_node with[MOST_NODES];
    for (size_t i = 0; i < count; i++) {
        char *to = text[i], *end = text[i] + MOST_ATTRS;
        with[i] = nodes[i];
        for (const char *at = nodes[i].attrs; *at && to < end - 8; at++) {
            if (*at == '$')
                to += snprintf(to, (size_t)(end - to), "%d", width_of(w, *++at));
            else
                *to++ = *at;
        }
        *to = '\0';
        with[i].attrs = text[i];
    }
    return t_graph(env, with, count, "head");
}

#endif
