/* SPDX-License-Identifier: Apache-2.0
 *
 * group.c: which maps each axis admits. Every operation says what it permits on its ports; a class starts with everything and is met
 * with each of these, so nobody declares a group and nobody can forget a reader.
 *
 * A group is kept as the set of families of generators that it contains, so a meet is a bitwise and. That is exact for the groups that
 * are named in graph.h and never too large for others.
 */
#include "graph/build.h"
#include "graph/view.h"

#include <stdio.h>
#include <string.h>

static const struct {
    tf_group group;
    const char *name;
} names[] = {
    {TF_GROUP_PINNED, "pinned"},
    {TF_GROUP_PERM, "permutation"},
    {TF_GROUP_PERM_POS, "permutation, positive scale"},
    {TF_GROUP_PERM_SIGN, "signed permutation"},
    {TF_GROUP_PERM_SCALE, "permutation, scale"},
    {TF_GROUP_ORTHO_ONES, "orthogonal fixing ones"},
    {TF_GROUP_ORTHO, "orthogonal"},
    {TF_GROUP_PAIRS, "scaled rotation per pair"},
    {TF_G_PAIR_ROT | TF_G_PAIR_SIGN, "rotation per pair"},
    {TF_GROUP_PAIR_SIGNS, "sign per pair"},
    {TF_GROUP_LINEAR, "general linear"},
};

static const char *const families[] = {
    "permutation",  "positive scale", "sign",          "rotation fixing ones",
    "rotation", "linear",         "rotation per pair", "scale per pair", "sign per pair",
};

const char *tf_group_name(tf_group g, char *buffer, size_t size)
{
    for (size_t i = 0; i < TF_LEN(names); i++)
        if (names[i].group == g)
            return names[i].name;
    size_t used = 0;
    for (size_t i = 0; i < TF_LEN(families) && used < size; i++)
        if (g >> i & 1)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? ", " : "", families[i]);
    return buffer;
}

void tf_permit_port(tf_permits *p, tf_id port, tf_group group)
{
    if (port >= 0)
        p->classes[p->g->class_of[port]] &= group;
}

typedef struct permission {
    tf_permits *p;
    tf_group group;
} permission;

static tfuse_status permit(void *arg, tf_id port)
{
    const permission *x = arg;
    tf_permit_port(x->p, port, x->group);
    return TFUSE_OK;
}

void tf_permit_binding(tf_permits *p, const tf_binding *b, tf_group group)
{
    permission x = {p, group};
    if (b)
        (void)tf_binding_each_port(b, permit, &x);
}

float *tf_permit_param(tf_permits *p, const tf_node *n, int slot)
{
    if (!p->view || p->status != TFUSE_OK || slot < 0 || slot >= n->n_params || n->params[slot] < 0)
        return NULL;
    float *x = NULL;
    p->status = tf_view_load(p->env, p->view, n->params[slot], &x);
    return x;
}

tfuse_status tf_groups(tf_env *env, const tf_graph *g, const tf_view *v, tf_group *out)
{
    for (size_t c = 0; c < g->n_classes; c++) {
        const tf_port *port = &g->ports[g->class_port[c]];
        out[c] = port->pinned ? TF_GROUP_PINNED : port->self_dual ? TF_GROUP_ORTHO : TF_GROUP_LINEAR;
    }
    tf_permits p = {env, g, v, out, TFUSE_OK};
    for (size_t i = 0; i < g->n_nodes && p.status == TFUSE_OK; i++)
        if (g->nodes[i].op->permits)
            g->nodes[i].op->permits(&p, &g->nodes[i]);
    return p.status;
}
